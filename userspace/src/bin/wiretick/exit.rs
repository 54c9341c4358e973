//! Exit codes: one for each kind of culprit, so that a script knows whom to call. They are part of the interface.

use std::process::ExitCode;

use wiretick::feed::{Culprit, Error};

/// What `--help` says about them.
pub(crate) const HELP: &str = "\
Signals:
  INT, TERM  close in good order; a second one ends the program at once
  USR1       bring the connection home to a kernel socket, in mid-stream
  USR2       bring it back to the ring

Exit codes:
  0  the feed ended in good order: --count or --duration reached, Ctrl-C, or the peer closed
  1  an output file or stream could not be written
  2  the command line or the URL is wrong
  3  the machine: the mode that was asked for cannot be had, privileges, kernel, driver
  4  the network: the name, the route, a connection refused, reset, silent or lost
  5  TLS: the peer cannot be trusted, or broke the protocol
  6  the peer's HTTP or WebSocket, or the venue refused";

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The feed.
    #[error(transparent)]
    Feed(#[from] Error),
    /// What could not be written, or read from disk.
    #[error("{what}: {source}")]
    File {
        /// The file or stream.
        what: String,
        /// What the system answered.
        source: std::io::Error,
    },
    /// A setting that only the machine can judge.
    #[error("{0}")]
    Machine(String),
}

pub(crate) fn code(failure: &Failure) -> ExitCode {
    ExitCode::from(match failure {
        Failure::File { .. } => 1,
        Failure::Machine(_) => 3,
        Failure::Feed(error) => match error.culprit() {
            Culprit::Caller => 2,
            Culprit::Machine => 3,
            Culprit::Network => 4,
            Culprit::Trust => 5,
            Culprit::Peer => 6,
        },
    })
}
