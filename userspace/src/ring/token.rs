//! Frames as owned tokens.
//!
//! A token is the exclusive right to the bytes of one chunk (or of a buffer in which several were put together). It is made by a ring, moved around by its holder, and
//! consumed by the ring it came from. See the invariants in [`super`].
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::floor::Time;

/// The bytes of one chunk, or of one buffer of ours, from `start` to its end.
#[derive(Debug)]
pub(super) struct Chunk {
    start: NonNull<u8>,
    /// Bytes from `start` to the end of the chunk.
    room: usize,
    /// The kernel's name for `start`: the offset in the UMEM. For a buffer of ours, [`JOINED`] and more.
    address: usize,
    ring: u32,
}

/// Where the addresses of buffers begin in which packets were put together: no UMEM is so large. A bit of the address, and
/// not a field, because tokens are moved around for every packet.
pub(super) const JOINED: usize = 1 << (usize::BITS - 1);

// SAFETY: a chunk is the only way to its bytes (invariant 1), and those bytes belong to no thread in particular.
unsafe impl Send for Chunk {}

impl Chunk {
    /// # Safety
    ///
    /// `room` bytes from `start` are readable and writable, initialised, stay mapped while the chunk lives (invariant
    /// 2), and nobody else reads or writes them while it lives (invariant 1).
    pub(super) unsafe fn new(start: NonNull<u8>, room: usize, address: usize, ring: u32) -> Self {
        Self { start, room, address, ring }
    }

    pub(super) fn address(&self) -> usize {
        self.address
    }

    pub(super) fn ring(&self) -> u32 {
        self.ring
    }

    /// Takes the `u64` that stands right in front of `start`, and leaves 0 there, so that nobody takes it twice.
    ///
    /// # Safety
    ///
    /// The 8 bytes in front of `start` belong to the same chunk and were mapped together with it.
    pub(super) unsafe fn take_u64_in_front(&mut self) -> u64 {
        // SAFETY: the caller's promise; as part of the chunk the bytes are ours alone (invariant 1).
        unsafe {
            let place = self.start.as_ptr().sub(size_of::<u64>()).cast::<u64>();
            let value = place.read_unaligned();
            place.write_unaligned(0);
            value
        }
    }

    /// A copy of the `N` bytes that stand `distance` in front of `start`.
    ///
    /// # Safety
    ///
    /// The `distance` bytes in front of `start` belong to the same chunk or buffer, were mapped together with it, and are
    /// initialised; `N` is no more than that.
    #[inline]
    pub(super) unsafe fn copy_in_front<const N: usize>(&self, distance: usize) -> [u8; N] {
        debug_assert!(N <= distance);
        // SAFETY: the caller's promise; as part of the chunk the bytes are ours alone (invariant 1), and arrays of bytes have
        // no alignment.
        unsafe { self.start.as_ptr().sub(distance).cast::<[u8; N]>().read() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: `new`'s contract, for as long as `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.room) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `new`'s contract, for as long as `self` is borrowed, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.room) }
    }
}

/// A received packet, in the chunk the kernel put it into; or, where it took several, in a buffer of the ring's.
///
/// Give it back with [`Ring::recycle`](super::Ring::recycle): a token that is merely dropped takes its chunk out of
/// circulation for as long as the ring lives.
#[derive(Debug)]
#[must_use = "a received frame has to be recycled, or the ring runs dry"]
pub struct RxFrame {
    pub(super) chunk: Chunk,
    len: usize,
    arrived: Time,
}

impl RxFrame {
    pub(super) fn new(chunk: Chunk, len: usize) -> Self {
        debug_assert!(len <= chunk.room);
        Self { chunk, len, arrived: Time::ZERO }
    }

    /// Notes when the packet arrived; [`Time::ZERO`] stands for a time that is not known.
    pub(super) fn arrived_at(self, arrived: Time) -> Self {
        Self { arrived, ..self }
    }

    /// When the XDP program had the packet, where it was asked to say so and could.
    #[must_use]
    #[inline]
    pub fn arrived(&self) -> Option<Time> {
        (self.arrived != Time::ZERO).then_some(self.arrived)
    }

    /// Whether the packet came in several chunks and was put together: then it does not lie where the kernel put it.
    #[must_use]
    #[inline]
    pub fn is_joined(&self) -> bool {
        self.chunk.address >= JOINED
    }

    /// Bytes in the packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the packet holds no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The packet.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.chunk.bytes()[..self.len]
    }

    /// The packet and whatever room follows it in its chunk, to change in place.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.chunk.bytes_mut()
    }
}

/// A free frame to write a packet into. Sending it ([`Ring::transmit`](super::Ring::transmit)) consumes it.
#[derive(Debug)]
#[must_use = "a frame to transmit has to be transmitted, or the ring runs dry"]
pub struct TxFrame {
    pub(super) chunk: Chunk,
}

impl TxFrame {
    pub(super) fn new(chunk: Chunk) -> Self {
        Self { chunk }
    }

    /// The room there is for a packet.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.chunk.bytes_mut()
    }
}

/// A number no other ring of this process has.
pub(super) fn next_ring_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
