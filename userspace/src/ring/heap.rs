//! Memory of our own that tokens are made of.
//!
//! Where the kernel's UMEM is not meant: the chunks of the in-memory twin, and the buffers in which packets are put
//! together. It knows how many tokens are out, and outlives them.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use super::token::Chunk;

/// One allocation, freed by hand because it has to be leaked where tokens outlive it.
#[derive(Debug)]
pub(super) struct Heap {
    base: NonNull<u8>,
    len: usize,
    /// Tokens that are out: while there are any, the memory must stay.
    outstanding: usize,
}

// SAFETY: nobody else has a pointer to the memory but the tokens, which may be sent too.
unsafe impl Send for Heap {}

impl Heap {
    /// `len` bytes. The kernel finds a page for them when they are first used, unless they are touched before.
    pub(super) fn new(len: usize) -> Self {
        let bytes = vec![0u8; len].into_boxed_slice();
        let base = NonNull::new(Box::into_raw(bytes).cast::<u8>()).expect("a box is not null");
        Self { base, len, outstanding: 0 }
    }

    /// Has all of it there from now on: the first use of a page costs nothing later.
    pub(super) fn touched(mut self) -> Self {
        for page in (0..self.len).step_by(4096) {
            // SAFETY: no token is out yet.
            unsafe { self.write(page, &[0]) };
        }
        self
    }

    /// Bytes there are.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Where they begin.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.base.as_ptr() as usize
    }

    /// Tokens that are out.
    #[inline]
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// A token for the `room` bytes from `start` on.
    ///
    /// # Safety
    ///
    /// They lie in here; no other token has any of them, and none gets one until [`Heap::take_back`] was called for this
    /// one.
    #[inline]
    pub(super) unsafe fn lend(&mut self, start: usize, room: usize, address: usize, ring: u32) -> Chunk {
        debug_assert!(start + room <= self.len, "{room} bytes from {start} do not lie inside {}", self.len);
        self.outstanding += 1;
        // SAFETY: the bytes lie inside the allocation and nobody else has them (the caller's promise, invariant 1), and they
        // stay: `drop` leaks them while tokens are out (invariant 2).
        unsafe { Chunk::new(self.base.add(start), room, address, ring) }
    }

    /// A token has been given back.
    #[inline]
    pub(super) fn take_back(&mut self) {
        self.outstanding -= 1;
    }

    /// Writes `bytes` at `start`.
    ///
    /// # Panics
    ///
    /// Where they do not fit in here.
    ///
    /// # Safety
    ///
    /// No token has any of the bytes that are written.
    #[inline]
    pub(super) unsafe fn write(&mut self, start: usize, bytes: &[u8]) {
        assert!(start + bytes.len() <= self.len, "{} bytes at {start} do not fit in {}", bytes.len(), self.len);
        // SAFETY: the place lies inside the allocation (checked), and nobody else looks at it (the caller's promise,
        // invariant 1). `bytes` cannot overlap it: that would take a token.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(start).as_ptr(), bytes.len()) };
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        if self.outstanding != 0 {
            log::warn!("{} frames outlive their ring: its memory is leaked", self.outstanding);
            return;
        }
        // SAFETY: base and length are those of the box `new` took apart, no token is out (checked), and this is the
        // only place that frees it.
        unsafe { drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.len))) };
    }
}
