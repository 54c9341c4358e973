//! `testbed shell`: a shell on the client's machine.

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::stage::{FeedOptions, STAMP_FIELD, Stage};

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    feed: FeedOptions,
    /// The command to run instead of a shell
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs it, and ends with its exit code. Signals from the terminal reach it directly.
pub(crate) fn run(options: &Options) -> Result<ExitCode, Box<dyn Error>> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root: run it with sudo".into());
    }
    let stage = Stage::new(&options.feed, None, true)?;
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let mut words = options.command.iter().cloned();
    let program = PathBuf::from(words.next().unwrap_or_else(shell));
    let topology = stage.topology.as_ref().expect("asked for");
    let mut command = topology.client.ns.command(&program);
    command.args(words).env("WIRETICK_URL", stage.url()).env("WIRETICK_CA", stage.desk.ca_file());
    // `wiretick` is found by its name: it lies beside us.
    let own = std::env::current_exe()?;
    let before = std::env::var_os("PATH").unwrap_or_default();
    let folders = own.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(&before));
    command.env("PATH", std::env::join_paths(folders)?);
    if options.command.is_empty() {
        eprintln!("On the client's machine; the exchange sends {} messages a second. For example:", options.feed.rate);
        eprintln!("    wiretick stream $WIRETICK_URL --ca-file $WIRETICK_CA --stamp-field {STAMP_FIELD} --count 5");
    }
    let status = command.status().map_err(|error| format!("{}: {error}", program.display()))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}
