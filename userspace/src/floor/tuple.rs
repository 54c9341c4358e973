//! The 4-tuple that names one TCP connection.

use std::fmt;
use std::net::SocketAddr;

/// Both ends of one TCP connection, seen from ours. Both addresses are of the same family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FourTuple {
    /// Our end.
    pub local: SocketAddr,
    /// The peer's end.
    pub remote: SocketAddr,
}

impl FourTuple {
    /// The same connection, seen from the peer's end.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self { local: self.remote, remote: self.local }
    }
}

impl fmt::Display for FourTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}", self.local, self.remote)
    }
}
