//! What a user of a feed may have to deal with.

use std::io;

use super::Mode;
use crate::{control, message, path, record};

/// Why a feed could not be had, or is over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller asked for something that does not exist.
    #[error("{0}")]
    Config(String),
    /// Name, route, socket, interface, program.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// TLS could not be prepared.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// The mode that was asked for cannot be had. There is no silent fallback.
    #[error("mode {mode} cannot be had: {reason}")]
    Mode {
        /// The mode.
        mode: Mode,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The connection of another process could not be taken over, or nobody could be offered ours.
    #[error("succession at {path}: {reason}")]
    Succession {
        /// The socket.
        path: String,
        /// Why not, and what to do about it.
        reason: String,
    },
    /// The connection is over.
    #[error(transparent)]
    Path(#[from] path::Error),
    /// A system call that does not fail on a healthy machine.
    #[error("kernel: {0}")]
    System(io::Error),
}

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The caller: options, URL, headers.
    Caller,
    /// This machine: privileges, kernel, driver, interface.
    Machine,
    /// The way to the peer: names, routes, refused or lost connections.
    Network,
    /// The peer's TLS, or what we trust.
    Trust,
    /// The peer's HTTP or WebSocket, and venues that refuse us.
    Peer,
}

impl Error {
    /// Who has to do something about it.
    #[must_use]
    pub fn culprit(&self) -> Culprit {
        match self {
            Self::Config(_) | Self::Control(control::Error::Url { .. }) | Self::Path(path::Error::Memory { .. }) => {
                Culprit::Caller
            }
            Self::Control(
                control::Error::Resolve { .. } | control::Error::Connect { .. } | control::Error::Route { .. },
            ) => Culprit::Network,
            Self::Control(_) | Self::Mode { .. } | Self::Succession { .. } | Self::System(_) => Culprit::Machine,
            Self::Record(_) | Self::Path(path::Error::Record(_)) => Culprit::Trust,
            Self::Path(path::Error::Message(error)) => match error.culprit() {
                message::Culprit::Caller => Culprit::Caller,
                _ => Culprit::Peer,
            },
            Self::Path(path::Error::Estate(_)) => Culprit::Machine,
            Self::Path(path::Error::Send(_)) => Culprit::Peer,
            Self::Path(path::Error::Lost(_)) => Culprit::Network,
        }
    }
}
