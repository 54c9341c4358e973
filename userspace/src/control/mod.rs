//! Control: what the kernel is good at, done once and off the hot path.
//!
//! From a URL to a connected kernel socket ([`target`], [`resolve`], [`dial`]); from a peer's address to the interface,
//! the next hop and its MAC address ([`route`], [`link`], [`neighbour`]), and that any of it has changed ([`changes`]); the XDP
//! program on that interface ([`attach`]) and the flows that it redirects ([`flows`]); and what brings a flow to the queue where its ring is ([`steering`]). What leaves here
//! is plain data (addresses, a [`Hop`](crate::floor::Hop)) and handles to what the kernel holds for us. What interface and
//! machine can do, and what is in the way, is asked in [`nic`] and mended in [`tune`]. It never looks at a segment or at anything
//! above it.

pub mod attach;
pub mod changes;
pub mod dial;
mod error;
pub mod flows;
mod genetlink;
pub mod link;
pub mod neighbour;
mod netlink;
pub mod nic;
pub mod offloads;
pub mod owner;
pub mod resolve;
pub mod route;
pub mod steering;
pub mod target;
pub mod tune;
pub mod verdicts;

pub use error::Error;
pub use target::Target;
