//! wiretick's record, message and event stages over a kernel TCP socket, read in one of several ways.
//!
//! It is what the bypass is measured against: the same TLS, WebSocket and JSON code over the same path, so that what
//! differs is how the bytes come out of the kernel. Its command line and its summary are those of the benchmark's peers.
//!
//! What comes in are the options; what goes out is the summary, and nothing on standard output. Exit codes: 0 if all
//! messages came, 1 if not, 2 for wrong options.

mod connection;
mod options;
mod receive;
mod tally;

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use clap::Parser;
use wiretick_testbed::topology;

use crate::connection::Connection;
use crate::options::Options;
use crate::tally::Tally;

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kernel-client: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    if let Some(core) = options.core {
        topology::pin(core).map_err(|error| format!("--core {core}: {error}"))?;
    }
    let mut tally = Tally::new(options);
    let mut connection = Connection::open(options)?;
    let ended = connection.run(options.wait(), &mut tally).and_then(|()| tally.check_complete());
    let summary = tally.summary(&connection, options, ended.as_ref().err().map(ToString::to_string));
    let name = options.summary.display();
    fs::write(&options.summary, format!("{:#}\n", serde_json::to_value(summary)?))
        .map_err(|error| format!("{name}: {error}"))?;
    ended
}
