//! Packets that came in several chunks, put together.
//!
//! What does not fit one chunk arrives as several descriptors, all but the last of which say that more follows
//! (`XDP_PKT_CONTD`, Linux 6.6). Everything behind the ring wants a packet in one piece: its checksum spans it, and
//! smoltcp takes it whole. So it is copied, once, into a buffer that is used again, and counted; the buffer is handed up as
//! the same kind of token, and the chunks go back at once. A packet in one chunk never comes here.
//!
//! Handing up the pieces instead would save that copy and cost every other frame: the walk over the headers, the checksum
//! and smoltcp's copy would all have to expect a second piece. And a feed gains little by large packets: whoever wants its
//! messages in place on such a link lets the peer send what fits a chunk (docs/ARCHITECTURE.md).
#![allow(unsafe_code)]

use wiretick_xdp::HINTS_BYTES;

use super::heap::Heap;
use super::token::{Chunk, JOINED, RxFrame};
use super::{RingCounters, frame_bytes};

/// The largest IP packet that is put together, in bytes.
///
/// 16,000: more than any Ethernet NIC sends (9,000 to 9,978; virtual ones take any MTU). Lower, and an MTU of somebody's is
/// refused without need; higher costs 256 times as much memory where somebody has set such an MTU.
pub const JOINED_BYTES_MAX: usize = 16_000;

/// Packets that can be out at a time.
///
/// 256: a receive window of 512 KiB holds 137 packets that are just too large for a chunk, and the lane takes 64 before it
/// gives the first back. With fewer, packets are lost while the handler stalls during a promotion; more is only memory,
/// 2.3 MiB of it at an MTU of 9,000.
const BUFFERS: usize = 256;

/// Room in front of a packet for what the XDP program puts there. A cache line, so that packets begin at one.
const IN_FRONT: usize = 64;

const _: () = assert!(HINTS_BYTES <= IN_FRONT);

/// The buffers of one ring.
#[derive(Debug)]
pub(super) struct Joiner {
    heap: Heap,
    /// The offsets of those that nobody has.
    free: Vec<usize>,
    /// Bytes in one.
    size: usize,
    ring: u32,
}

/// A packet of which more is to come.
#[derive(Debug)]
pub(super) struct Partial {
    /// The offset of its buffer; `None` where the packet is to be dropped.
    buffer: Option<usize>,
    len: usize,
}

impl Partial {
    /// A packet that is dropped already.
    pub(super) const fn given_up() -> Self {
        Self { buffer: None, len: 0 }
    }

    /// The packet is complete; `None` where it was to be dropped.
    pub(super) fn finish(self, joiner: &mut Joiner, counters: &mut RingCounters) -> Option<RxFrame> {
        let start = self.buffer?;
        let (place, room) = (start + IN_FRONT, joiner.size - IN_FRONT);
        counters.frames_joined += 1;
        // SAFETY: buffers lie in the heap; this one was the partial packet's alone, which ends here, and it returns to the
        // free list when the token does (`take_back`).
        let chunk = unsafe { joiner.heap.lend(place, room, JOINED + place, joiner.ring) };
        Some(RxFrame::new(chunk, self.len))
    }
}

impl Joiner {
    /// Buffers for IP packets of up to `packet_bytes_max` bytes.
    pub(super) fn new(packet_bytes_max: usize, ring: u32) -> Self {
        let size = (IN_FRONT + frame_bytes(packet_bytes_max)).next_multiple_of(64);
        let free = (0..BUFFERS).rev().map(|number| number * size).collect();
        Self { heap: Heap::new(BUFFERS * size).touched(), free, size, ring }
    }

    /// None at all: for a ring whose packets come in one piece.
    pub(super) fn none(ring: u32) -> Self {
        Self { heap: Heap::new(0), free: Vec::new(), size: 0, ring }
    }

    /// Begins a packet. `in_front` stands in front of it.
    pub(super) fn begin(&mut self, in_front: &[u8], counters: &mut RingCounters) -> Partial {
        let buffer = self.free.pop();
        match buffer {
            // SAFETY: the buffer has just left the free list, so no token has it (invariant 1).
            Some(start) => unsafe { self.heap.write(start + IN_FRONT - in_front.len(), in_front) },
            None => counters.joins_exhausted += 1,
        }
        Partial { buffer, len: 0 }
    }

    /// Adds a piece.
    pub(super) fn add(&mut self, partial: &mut Partial, piece: &[u8], counters: &mut RingCounters) {
        let Some(start) = partial.buffer else { return };
        let at = IN_FRONT + partial.len;
        if at + piece.len() > self.size {
            counters.joins_too_long += 1;
            self.give_up(partial);
            return;
        }
        // SAFETY: the buffer is this partial packet's: it is in neither the free list nor a token (invariant 1).
        unsafe { self.heap.write(start + at, piece) };
        partial.len += piece.len();
    }

    /// Lets the packet be dropped; its further pieces go nowhere.
    pub(super) fn give_up(&mut self, partial: &mut Partial) {
        self.free.extend(partial.buffer.take());
    }

    /// A token comes back.
    pub(super) fn take_back(&mut self, chunk: &Chunk) {
        self.heap.take_back();
        self.free.push(chunk.address() - JOINED - IN_FRONT);
    }

    /// Tokens that are out.
    pub(super) fn outstanding(&self) -> usize {
        self.heap.outstanding()
    }
}
