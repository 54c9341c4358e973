//! `io_uring`: one multishot receive, buffers that the kernel picks from a ring.
//!
//! This is the only file of this crate's clients with `unsafe` in it: memory is shared with the kernel. A buffer is the
//! kernel's from the moment at which its entry is published until a completion names it, and ours until it is published
//! again. The memory is never freed: the kernel lets go of it some time after the ring was closed, and the process
//! ends then anyway.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::{BufRingEntry, Fd};
use io_uring::{IoUring, cqueue, opcode};
use wiretick::floor::Span;
use wiretick::path;

use super::{Receive, Received};
use crate::connection::lost;

/// Buffers, a power of two. With fewer, a burst finds none and the receive has to be armed anew; with more, they leave the
/// processor's cache before they come round again.
const BUFFERS: u16 = 64;
/// Bytes of a buffer: two of the largest TLS records.
const BUFFER_BYTES: usize = 32 << 10;
/// From one buffer to the next: what a reader looks at past the end of a message is its own buffer's padding.
const STRIDE: usize = BUFFER_BYTES + Span::PAD;
/// The buffers' group, of which there is one.
const GROUP: u16 = 0;
/// The ring of entries has to begin at a page.
const PAGE: usize = 4096;

const _: () = assert!(BUFFERS.is_power_of_two() && BUFFERS <= 1 << 15);

/// A socket that is read through a ring of its own.
pub(crate) struct Uring {
    ring: IoUring,
    buffers: Buffers,
    stream: TcpStream,
    armed: bool,
    sleeps: bool,
}

impl Uring {
    /// `sleeps`: whether to wait in the kernel while nothing is there.
    pub(crate) fn new(stream: TcpStream, sleeps: bool) -> io::Result<Self> {
        // One thread, and completions are worked off when it asks: no interrupt of its own work. The flag in shared memory
        // tells a spinning reader when asking is worth a system call.
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            // As many as the kernel can have filled before we look, and the one that says that no buffer is left.
            .setup_cqsize(2 * u32::from(BUFFERS))
            .build(8)
            .map_err(|error| io::Error::new(error.kind(), format!("io_uring (Linux 6.1 or newer): {error}")))?;
        let buffers = Buffers::new();
        // SAFETY: the entries are page-aligned, BUFFERS of them, and never freed.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(buffers.entries.as_ptr() as u64, BUFFERS, GROUP, 0)?;
        }
        Ok(Self { ring, buffers, stream, armed: false, sleeps })
    }

    fn arm(&mut self) {
        let receive = opcode::RecvMulti::new(Fd(self.descriptor()), GROUP).build();
        // SAFETY: the socket lives as long as the ring (both are fields of this struct, and the process ends with them),
        // and the request names no memory but the group of buffers, which is never freed.
        let pushed = unsafe { self.ring.submission().push(&receive) };
        pushed.expect("the queue holds eight, and there is never more than one request");
        self.armed = true;
    }

    fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Lets the kernel post completions; sleeps for one, if that is wanted.
    fn enter(&mut self) -> Result<(), path::Error> {
        match self.ring.submit_and_wait(usize::from(self.sleeps)) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(lost(error)),
        }
    }
}

impl Receive for Uring {
    /// In the sleeping form a call does not return with nothing; in the spinning one it does so at once.
    const SLEEPS: bool = false;

    fn receive(&mut self, take: &mut impl FnMut(Span<'_>) -> Result<(), path::Error>) -> Result<Received, path::Error> {
        let must_submit = !self.armed;
        if must_submit {
            self.arm();
        }
        if self.ring.completion().is_empty() {
            let submission = self.ring.submission();
            let has_work = submission.taskrun() || submission.cq_overflow();
            drop(submission);
            if must_submit || self.sleeps || has_work {
                self.enter()?;
            }
        }
        let mut received = Received::Nothing;
        while let Some(completion) = self.ring.completion().next() {
            self.armed = cqueue::more(completion.flags());
            let bytes = match completion.result() {
                // No buffer was free: they are again, once what has come is worked off.
                n if n == -libc::ENOBUFS => continue,
                n if n < 0 => return Err(lost(io::Error::from_raw_os_error(-n))),
                0 => return Ok(Received::End),
                n => n.unsigned_abs() as usize,
            };
            let Some(id) = cqueue::buffer_select(completion.flags()) else {
                return Err(lost(io::Error::other("io_uring: bytes without a buffer")));
            };
            // SAFETY: a completion has just named the buffer, so it is ours until it is published.
            let taken = take(Span::new(unsafe { self.buffers.slice(id) }, bytes));
            self.buffers.publish(id);
            taken?;
            received = Received::Bytes;
        }
        Ok(received)
    }
}

/// The buffers, and the ring of entries through which they are handed to the kernel.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    bytes: NonNull<u8>,
    /// Entries published so far; wraps, as the kernel's own.
    tail: u16,
}

impl Buffers {
    fn new() -> Self {
        let entries = leak(usize::from(BUFFERS) * size_of::<BufRingEntry>());
        let bytes = leak(usize::from(BUFFERS) * STRIDE);
        let mut buffers = Self { entries: entries.cast(), bytes, tail: 0 };
        for id in 0..BUFFERS {
            buffers.publish(id);
        }
        buffers
    }

    /// The bytes of a buffer with its padding.
    ///
    /// # Safety
    ///
    /// The buffer is not the kernel's.
    unsafe fn slice(&mut self, id: u16) -> &mut [u8] {
        assert!(id < BUFFERS, "the kernel names buffer {id}, and there are {BUFFERS}");
        // SAFETY: inside the allocation, which was zeroed and is never freed; not the kernel's, as the caller promises;
        // `&mut self` keeps a second slice away.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr().add(usize::from(id) * STRIDE), STRIDE) }
    }

    /// Hands a buffer to the kernel. It must be ours, and nobody may look at it from now on.
    fn publish(&mut self, id: u16) {
        let at = usize::from(self.tail & (BUFFERS - 1));
        // SAFETY: inside the allocation; the kernel reads the entry only behind the tail, which is stored below. The tail
        // lies in the first entry, in a field that none of the setters touches, and is aligned for 16 bits.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(at);
            entry.set_addr(self.bytes.as_ptr().add(usize::from(id) * STRIDE) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut())
                .store(self.tail, Ordering::Release);
        }
    }
}

/// Zeroed bytes at the beginning of a page, for ever.
fn leak(bytes: usize) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, PAGE).expect("a page is a power of two, and the sizes are small");
    // SAFETY: the size is not zero.
    NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout))
}
