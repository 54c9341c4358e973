//! The ring: frames in, frames out, each an owned token over memory the NIC shares with us.
//!
//! What comes in is a queue of one interface (or, in tests, a wire in memory); what goes out are [`RxFrame`]s and
//! [`TxFrame`]s. A frame is a token: whoever holds it may touch its bytes, and giving it back (to the fill ring, to the
//! transmit ring) consumes it, so a frame that is in the kernel's hands cannot be touched by mistake: it does not
//! compile.
//!
//! This folder knows nothing of Ethernet or TCP. It is the only stage with `unsafe` code; the invariants it rests on:
//!
//! 1. **One owner.** A chunk of UMEM is at any moment in exactly one place: one of the kernel's rings, our own list of
//!    free transmit frames, or one token; a buffer for packets of several chunks: the list of free ones, one packet that is
//!    being put together, or one token. Tokens are neither `Clone` nor `Copy`, and are only made for a chunk that has
//!    just come from the kernel or from a free list (guarded by the model of the in-memory twin's frames, in
//!    `memory.rs`; the indices of the kernel's rings are libxdp's, `tests/ring_indices.rs`). With several sockets, a chunk
//!    goes back to the queue it came from.
//! 2. **Memory outlives tokens.** A ring that is dropped while tokens are out leaks its UMEM instead of unmapping it
//!    (guarded by `a_token_outlives_its_ring`).
//! 3. **A token returns to its own ring.** Each ring has a number, tokens carry it, and giving back checks it.
//! 4. **Descriptors are checked.** Address and length from the kernel must lie inside the UMEM and inside one chunk.

mod busy_poll;
mod heap;
mod join;
mod memory;
mod token;
mod xsk;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

pub use join::JOINED_BYTES_MAX;
pub use memory::{FarEnd, MemoryRing};
pub use token::{RxFrame, TxFrame};
pub use xsk::{BindMode, OpenError, PACKET_BYTES_MAX, XskConfig, XskRing};

use wiretick_xdp::Hints;

use crate::floor::Span;
use crate::floor::counters::counters;

/// Bytes that a frame takes whose IP packet has so many: an Ethernet header with a tag in front of it, the padding of a span
/// behind.
const fn frame_bytes(packet_bytes: usize) -> usize {
    18 + packet_bytes + Span::PAD
}

/// A queue pair that trades in frames.
pub trait Ring {
    /// Takes up to `max` received frames and appends them to `into`, oldest first. Never waits.
    fn receive(&mut self, into: &mut Vec<RxFrame>, max: usize) -> usize;

    /// What the NIC knows of a frame of this ring, where the XDP program has put it there.
    #[inline]
    fn hints(&self, frame: &RxFrame) -> Option<Hints> {
        let _ = frame;
        None
    }

    /// Gives a received frame back; the kernel may write the next packet into it after the next [`Ring::flush`].
    fn recycle(&mut self, frame: RxFrame);

    /// A free frame to write a packet into, or `None` while all of them are on their way out.
    fn lend(&mut self) -> Option<TxFrame>;

    /// Queues the first `len` bytes of `frame` as one packet. It leaves at the next [`Ring::flush`] at the latest.
    ///
    /// # Panics
    ///
    /// Where `len` is larger than the frame's room.
    fn transmit(&mut self, frame: TxFrame, len: usize);

    /// Takes back a frame that is not to be sent after all.
    fn cancel(&mut self, frame: TxFrame);

    /// Wakes the driver up, where it asks for it, for what is queued: for a packet that should not wait for the next
    /// [`Ring::flush`], which also tells of errors.
    fn kick(&mut self);

    /// Hands recycled frames to the kernel, takes back transmitted ones, and wakes the driver up where it asks for it.
    ///
    /// # Errors
    ///
    /// What the wake-up call answered, where that means that the ring is dead (the interface is gone).
    fn flush(&mut self) -> io::Result<()>;

    /// What becomes readable when a frame has arrived, to wait for; nothing where there is nothing to wait for.
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>>;

    /// The addresses of the shared memory: where a payload lies that was not copied. Buffers for packets of several chunks
    /// are not in it.
    fn region(&self) -> Range<usize>;

    /// What happened so far.
    fn counters(&self) -> RingCounters;
}

/// What shows from a distance that a ring is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Frames taken from the receive ring, ever.
    pub received: u64,
    /// Frames the driver has sent and given back, ever, as far as that was looked at.
    pub completed: u64,
    /// Frames that are on their way out.
    pub in_flight: u64,
}

counters! {
    /// What a ring did and what it lost. The `*_dropped` and `*_full` figures come from the kernel's `XDP_STATISTICS`.
    pub struct RingCounters {
        /// Packets taken from the receive ring, in one chunk or in several.
        frames_received,
        /// Those that came in several chunks and were put together: each was copied once more.
        frames_joined,
        /// Packets in several chunks that were dropped because no buffer was free to put them together in.
        joins_exhausted,
        /// Packets in several chunks that were dropped because they were longer than the interface's packets.
        joins_too_long,
        /// Frames put on the transmit ring.
        frames_transmitted,
        /// Frames the driver has sent and given back, as far as that was looked at.
        frames_completed,
        /// System calls made because the driver asked to be woken up for transmission.
        wakeups_transmit,
        /// System calls made because the driver asked to be woken up for reception.
        wakeups_fill,
        /// A frame to transmit was asked for and none was free.
        transmit_exhausted,
        /// Descriptors from the kernel that pointed outside the UMEM or across chunks: dropped, and their packets with them.
        descriptors_refused,
        /// Packets the kernel dropped because we had not emptied the receive ring.
        receive_ring_full,
        /// Times the kernel found no frame in the fill ring.
        fill_ring_empty,
        /// Packets the kernel dropped for another reason (larger than a chunk, for one).
        receive_dropped,
        /// Descriptors the kernel refused to transmit.
        transmit_refused,
    }
}
