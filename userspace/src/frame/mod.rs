//! The frame stage: one walk over the headers of an Ethernet frame, and the way back.
//!
//! What comes in is a packet as the ring delivered it; what goes out is a [`Segment`]: where the TCP header and the
//! payload lie in those bytes, and the header's fields. Nothing is copied. The TCP checksum is verified here, once, for
//! every stage that follows. On the way out, an [`Envelope`] writes the Ethernet header in front of an IP packet.
//!
//! In this folder a *frame* is an Ethernet frame. It may not touch the ring, TCP state or a clock.

pub mod checksum;
mod envelope;
mod segment;
mod split;
#[cfg(test)]
mod tests;

pub use envelope::{Envelope, as_linux_writes, bare_segment, no_checksums, seal, write_headers, write_segment};
pub use segment::{Flags, Malformed, Segment, parse};
pub use split::split;
