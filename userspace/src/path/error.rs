//! What ends a connection, above TCP and at its end.

use std::time::Duration;

use super::SendError;
use crate::{message, record};

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// TLS.
    #[error(transparent)]
    Record(#[from] record::Error),
    /// WebSocket, or the upgrade to it.
    #[error(transparent)]
    Message(#[from] message::Error),
    /// An answer we owed could not be sent.
    #[error("sending: {0}")]
    Send(SendError),
    /// There is no memory for what the limits allow to wait.
    #[error("no memory for {bytes} bytes of outgoing messages: lower the limit (outgoing_bytes_max)")]
    Memory {
        /// The limit, and a little for our last words.
        bytes: usize,
    },
    /// What another process has left of a connection is not of one as it is wanted here.
    #[error("the connection that was handed over {0}")]
    Estate(&'static str),
    /// The connection is gone.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl From<SendError> for Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Record(error) => Self::Record(error),
            SendError::Message(error) => Self::Message(error),
            other => Self::Send(other),
        }
    }
}

/// How a connection was lost.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// An RST in answer to our SYN.
    #[error("peer: it refuses the connection")]
    Refused,
    /// An RST.
    #[error("peer: it has reset the connection")]
    Reset,
    /// A FIN without a close frame.
    #[error("peer: it has closed the connection without a WebSocket close frame")]
    Ended,
    /// A FIN before there was a WebSocket.
    #[error("peer: it has closed the connection before answering the WebSocket upgrade")]
    EndedInUpgrade,
    /// Nothing came in time.
    #[error("peer: silent for {waited:?} {doing}")]
    Silent {
        /// How long.
        waited: Duration,
        /// What was waited for.
        doing: &'static str,
    },
    /// The ring has failed, and the way home is barred too.
    #[error("{alarm}, and the connection cannot go on over a kernel socket: {why}")]
    Stranded {
        /// What is wrong with the ring.
        alarm: String,
        /// What is wrong with the way home.
        why: String,
    },
    /// The kernel reports another failure of the socket.
    #[error("kernel: {0}")]
    Socket(#[from] std::io::Error),
}

impl Error {
    /// The close code the peer is to be told, where one can be.
    pub(super) fn close_code(&self) -> Option<u16> {
        match self {
            Self::Message(error) => Some(error.close_code()),
            Self::Record(_) | Self::Send(_) | Self::Memory { .. } | Self::Estate(_) | Self::Lost(_) => None,
        }
    }

    /// The alert the peer is to be told.
    pub(super) fn alert(&self) -> Option<record::Alert> {
        match self {
            Self::Record(error) => error.alert(),
            Self::Message(_) | Self::Send(_) | Self::Memory { .. } | Self::Estate(_) | Self::Lost(_) => None,
        }
    }
}
