//! Who is measured: a program that connects, receives, and writes its figures to a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use wiretick_testbed::client::{Error, beside_us};

use crate::field::CLIENT_CORE;
use crate::load::{Kind, Scene};

/// Libraries that wiretick's figures depend on.
const LIBRARIES: [&str; 6] = ["aws-lc-rs", "io-uring", "rustls", "simd-json", "smoltcp", "xsk-rs"];

/// Whose a program is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Family {
    /// wiretick past the kernel.
    Bypass,
    /// wiretick's stages over a kernel socket: its own kernel mode, and the ways of `kernel-client`.
    Kernel,
    /// What people use today.
    Peer,
}

/// A client program and how it is told what to do.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    /// As it stands in tables.
    pub(crate) name: String,
    pub(crate) family: Family,
    program: PathBuf,
    first: Vec<OsString>,
    last: Vec<OsString>,
    /// The mode that must be in effect, for those that have modes.
    pub(crate) mode: Option<String>,
    /// Whether the client's core is kept from sleeping while this one runs.
    pub(crate) core_awake: bool,
    /// What it is made of.
    pub(crate) versions: BTreeMap<String, String>,
}

impl Contender {
    /// `wiretick stream` in one of its modes.
    pub(crate) fn wiretick(mode: &str) -> Result<Self, Error> {
        Ok(Self {
            name: format!("wiretick {mode}"),
            family: if mode == "kernel" { Family::Kernel } else { Family::Bypass },
            program: beside_us("wiretick")?,
            first: words("stream"),
            last: words(&format!("--mode {mode} --format none --log warn")),
            mode: Some(mode.to_owned()),
            core_awake: false,
            versions: our_versions(),
        })
    }

    /// `kernel-client` in one of its ways to wait.
    pub(crate) fn kernel(wait: &str) -> Result<Self, Error> {
        Ok(Self {
            name: format!("kernel {wait}"),
            family: Family::Kernel,
            program: beside_us("kernel-client")?,
            first: words(&format!("--wait {wait} --core {CLIENT_CORE} --url")),
            last: Vec::new(),
            mode: None,
            core_awake: false,
            versions: our_versions(),
        })
    }

    /// A client of other people's.
    pub(crate) fn peer(name: &str, argv: &[String], versions: BTreeMap<String, String>) -> Option<Self> {
        let (program, rest) = argv.split_first()?;
        let mut first: Vec<_> = rest.iter().map(OsString::from).collect();
        first.extend(words(&format!("--core {CLIENT_CORE} --url")));
        Some(Self {
            name: name.to_owned(),
            family: Family::Peer,
            program: program.into(),
            first,
            last: Vec::new(),
            mode: None,
            core_awake: false,
            versions,
        })
    }

    /// The same with one more argument, under another name.
    pub(crate) fn with(mut self, argument: &str, name: &str) -> Self {
        self.last.push(argument.into());
        name.clone_into(&mut self.name);
        self
    }

    /// The same on a core that does not sleep, under another name.
    pub(crate) fn on_awake_core(mut self, name: &str) -> Self {
        self.core_awake = true;
        name.clone_into(&mut self.name);
        self
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Whether it tells how many gaps there are in the venue's numbering.
    pub(crate) fn counts_gaps(&self) -> bool {
        self.family != Family::Peer
    }

    /// Messages of a load for this contender. Where nothing sets a pace, the slow get fewer, so that a run takes seconds
    /// for everybody: Python takes about a twentieth of what a spinning native client takes, a sleeping one about half.
    pub(crate) fn count(&self, scene: &Scene) -> u64 {
        let share = match (scene.load.kind, self.name.as_str()) {
            (Kind::Saturated(_), name) if name.starts_with("python") => 20,
            (Kind::Saturated(_), name) if name.starts_with("picows") => 10,
            (Kind::Saturated(_), _) if self.family == Family::Peer => 2,
            _ => 1,
        };
        scene.load.count / share
    }

    /// Adds the arguments for this load at this address.
    pub(crate) fn arguments(&self, command: &mut Command, url: &str, ca: Option<&Path>, scene: &Scene) {
        command.args(&self.first).arg(url);
        if let Some(ca) = ca {
            command.arg("--ca-file").arg(ca);
        }
        command.args(["--count", &self.count(scene).to_string(), "--warmup", &scene.load.warmup.to_string()]);
        if let Some(field) = scene.stamp_field() {
            command.args(["--stamp-field", field]);
        }
        if let Some(field) = scene.echo_field() {
            command.args(["--echo-field", field]);
        }
        if scene.has_stages() {
            command.arg("--stages");
        }
        command.args(&self.last).stdout(Stdio::null());
    }
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

/// The versions of wiretick and of its libraries, from the lock file it was built with.
fn our_versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::from([("wiretick".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let mut name = "";
    for line in include_str!("../../Cargo.lock").lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(version) = line.strip_prefix("version = ")
            && LIBRARIES.contains(&name)
        {
            versions.insert(name.to_owned(), version.trim_matches('"').to_owned());
        }
    }
    versions
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(name: &str) -> Contender {
        Contender::peer(name, &["python".to_owned(), "peer.py".to_owned()], BTreeMap::new()).unwrap()
    }

    #[test]
    fn a_peer_is_told_everything_on_its_command_line() {
        let scene = Scene::tick_to_trade(1000, Duration::from_secs(2)).unwrap();
        let mut command = Command::new("x");
        peer("p").with("--busy-poll", "p spinning").arguments(&mut command, "wss://h/", Some(Path::new("ca")), &scene);
        let told: Vec<_> = command.get_args().map(|it| it.to_string_lossy().into_owned()).collect();
        let expected = "peer.py --core 1 --url wss://h/ --ca-file ca --count 2000 --warmup 200 --stamp-field n \
                        --echo-field n --busy-poll";
        assert_eq!(told.join(" "), expected);
    }

    #[test]
    fn slow_clients_get_fewer_messages_where_nothing_sets_a_pace() {
        let saturated = Scene::saturated(16, 4000, true);
        assert_eq!(["python-websockets", "beast"].map(|name| peer(name).count(&saturated)), [200, 2000]);
        assert_eq!(peer("picows").count(&Scene::paced(1000, true, Duration::from_secs(1)).unwrap()), 1000);
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let versions = our_versions();
        assert!(LIBRARIES.iter().all(|library| versions.contains_key(*library)), "{versions:?}");
    }
}
