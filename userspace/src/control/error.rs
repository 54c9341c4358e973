//! What can go wrong before the first byte of a feed. Each text names the culprit and what to do.

use std::io;
use std::net::{IpAddr, SocketAddr};

use super::attach::AttachMode;
use super::steering::Means;

/// Why control could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's URL cannot be used.
    #[error("{url}: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name has no address.
    #[error("{host}: cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What `getaddrinfo` answered.
        source: io::Error,
    },
    /// No address of the peer accepted a connection.
    #[error("{peer}: cannot connect: {source}")]
    Connect {
        /// The address tried last.
        peer: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// There is no way to the peer.
    #[error("no route to {peer}: {source}; see: ip route get {peer}")]
    Route {
        /// The peer.
        peer: IpAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel could not be asked.
    #[error("asking the kernel for {what} failed: {source}")]
    Netlink {
        /// What was asked for.
        what: &'static str,
        /// What went wrong.
        source: io::Error,
    },
    /// There is no such interface.
    #[error("{name}: no such interface in this network namespace; see: ip link")]
    NoInterface {
        /// Its name or index.
        name: String,
    },
    /// The next hop does not answer.
    #[error("{interface}: the next hop {address} has no MAC address; see: ip neigh show dev {interface}")]
    NoNeighbour {
        /// The interface.
        interface: String,
        /// The next hop.
        address: IpAddr,
    },
    /// The interface cannot carry the bypass at all.
    #[error("{interface}: {reason}")]
    Interface {
        /// The interface.
        interface: String,
        /// Why, and what to do about it.
        reason: String,
    },
    /// Somebody else's program is attached.
    #[error(
        "{interface}: an XDP program is attached already: {owner}; it is not displaced. Detach it (ip link set dev {interface} xdp off, or stop its owner), or use --mode kernel"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The program, and who holds it.
        owner: String,
    },
    /// The program of another feed is attached, and does not do what is asked for.
    #[error("{interface}: the XDP program of another feed ({owner}) cannot be shared: {reason}")]
    Unfit {
        /// The interface.
        interface: String,
        /// The program, and who holds it.
        owner: String,
        /// Why not, and what to do about it.
        reason: String,
    },
    /// The driver or the kernel refused the program.
    #[error("{interface}: {mode} XDP was refused: {reason}")]
    Attach {
        /// The interface.
        interface: String,
        /// Native or generic.
        mode: AttachMode,
        /// Why, and what to do about it.
        reason: String,
    },
    /// The flow cannot be brought to the wanted queue by what was asked for. There is no silent fallback.
    #[error("steering by {means} cannot be had: {reason}")]
    Steering {
        /// The means.
        means: Means,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A map of the program could not be changed.
    #[error("{what}: {reason}")]
    Map {
        /// What was to be changed.
        what: &'static str,
        /// Why it could not.
        reason: String,
    },
}
