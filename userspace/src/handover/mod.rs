//! The handover: a live TCP connection leaves the kernel in mid-stream, and returns to it, and nobody notices.
//!
//! `promote` moves the connection of a kernel socket to the ring in two phases, so that at every moment exactly one
//! side may continue it:
//!
//! 1. **Prove.** The flow is put into the program's flow map, so that the peer's segments land in the ring, while the
//!    kernel's socket is still alive. A keep-alive probe leaves through the ring, and the peer's answer has to arrive
//!    through the ring. Where it does not, the flow is taken out of the map again: the kernel goes on as if nothing had
//!    been, and the peer sends the few segments that went astray once more.
//! 2. **Commit.** The socket is frozen (`TCP_REPAIR`), its state is lifted into a [`Lease`](crate::floor::Lease), and
//!    what its receive queue still holds is taken along.
//!
//! After that the frozen socket is kept, as a [`Seam`]: a segment that was already past the XDP program when the flow
//! was put into the map still ends in it, is noticed there and taken over. It also holds on to the port, and to the
//! kernel's place for the connection: a stray segment meets a socket that ignores it instead of none, which would be
//! answered with an RST.
//!
//! `demote` is the way back, at any moment of the connection's life on the ring.
//!
//! System calls with `unsafe` stand in `repair` alone.

mod demote;
mod pass;
mod promote;
mod repair;
mod seam;

pub use demote::{DemoteError, Demotion, Place};
pub(crate) use demote::{demote, permitted};
pub(crate) use pass::pass;
pub use promote::{Diverted, FlowMap, PromoteError, Promoted, Promotion, Step};
pub use repair::supported;
pub(crate) use repair::{provoke, round_trip_us};
pub use seam::{Late, Seam};
