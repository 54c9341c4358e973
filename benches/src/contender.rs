//! Who is measured: a program that connects, receives, and writes its figures to a file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wiretick_testbed::client::{Error, beside_us};

use crate::load::{Load, STAMP_FIELD};

/// A client program and how it is told what to do.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// As it stands in tables.
    pub(crate) name: String,
    program: PathBuf,
    first: Vec<OsString>,
    last: Vec<OsString>,
    /// The mode that must be in effect, for those that have modes.
    pub(crate) mode: Option<String>,
}

impl Contender {
    /// `wiretick stream` in one of its modes.
    pub(crate) fn wiretick(mode: &str) -> Result<Self, Error> {
        let words = |text: &str| text.split_whitespace().map(OsString::from).collect();
        Ok(Self {
            name: format!("wiretick {mode}"),
            program: beside_us("wiretick")?,
            first: words("stream"),
            last: words(&format!("--mode {mode} --format none --log warn")),
            mode: Some(mode.to_owned()),
        })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Adds the arguments for this load at this address.
    pub(crate) fn arguments(&self, command: &mut Command, url: &str, ca: &Path, load: &Load) {
        command
            .args(&self.first)
            .arg(url)
            .arg("--ca-file")
            .arg(ca)
            .args(["--stamp-field", STAMP_FIELD])
            .args(["--count", &load.count.to_string(), "--warmup", &load.warmup.to_string()])
            .args(&self.last)
            .stdout(Stdio::null());
    }
}
