//! AF_XDP sockets on one queue of an interface, or on several, through xsk-rs.
//!
//! What comes in is the name of an interface and its queues; what goes out is a [`Ring`]. Loading and attaching the XDP
//! program that redirects packets here is somebody else's job (`control::attach`): sockets are created with
//! libxdp's own program inhibited.
//!
//! A ring over several queues has a socket on each, with four rings of its own, and one UMEM below all of them
//! (`XDP_SHARED_UMEM`). Packets come from whichever queue the NIC has chosen, and leave over the first. Nothing says in which
//! order packets of two queues had arrived: that is TCP's business, as it is on any path with more than one way.
#![allow(unsafe_code)]

mod config;
mod open;
mod queue;

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use wiretick_xdp::Hints;
use xsk_rs::FrameDesc;

pub use self::config::{BindMode, OpenError, XskConfig};
use self::queue::{QueueSocket, Store};
use super::token::{RxFrame, TxFrame};
use super::{Pulse, Ring, RingCounters, busy_poll, frame_bytes};

/// Bytes in a chunk of UMEM.
///
/// 4096, a page: zero-copy drivers want it (igb, for one, splits packets in chunks of 2048), and it holds packets up to
/// [`PACKET_BYTES_MAX`]. Smaller would save TLB entries and put more packets into several chunks; larger does not exist in
/// aligned mode without huge pages.
const CHUNK: usize = 4096;

/// Descriptors moved between the rings and us in one go.
///
/// 64 is a NAPI poll's budget: the kernel does not deliver more at once. Higher only costs stack; lower splits a
/// burst's bookkeeping.
const BATCH: usize = 64;

/// Packets that the kernel sends in one wake-up in copy mode (`TX_BATCH_SIZE` in net/xdp/xsk.c). What is beyond stays on the
/// ring until the next one, and the call says so with an error that means nothing else (`EAGAIN`).
const TRANSMIT_BUDGET: usize = 32;

/// Flushes after which a packet that is still out is taken for stuck: the driver was busy when it was told. Some 100 us
/// for a lane that spins. Lower, and a NIC that reports late what it has sent is told in vain; higher, and an order waits.
const TRANSMIT_AGAIN: u32 = 512;

/// The largest IP packet that fits one chunk, in bytes: what is left behind the headroom for XDP programs. Larger ones
/// come in several ([`XskConfig::packet_bytes_max`]); none is sent.
pub const PACKET_BYTES_MAX: usize = CHUNK - XDP_HEADROOM - frame_bytes(0);

/// `XDP_PACKET_HEADROOM` (linux/bpf.h): the kernel keeps it free in front of every packet.
const XDP_HEADROOM: usize = 256;

/// How long a queue may still be taken after its last owner has closed its socket.
///
/// The kernel lets go of it in deferred work, after an RCU grace period (`xp_put_pool`, `net/xdp/xsk_buff_pool.c`): tens
/// of milliseconds. Less, and a restarted program is told that its own past owns the queue; more, and the true reason is
/// told late.
const RELEASE: Duration = Duration::from_millis(500);
const RELEASE_POLL: Duration = Duration::from_millis(5);

/// A [`Ring`] over AF_XDP sockets. Dropping it closes them and releases the queues.
#[derive(Debug)]
pub struct XskRing {
    // Field order is drop order: the sockets before the UMEM in the store.
    /// What everything is sent over, and nearly always all there is.
    first: QueueSocket,
    others: Vec<QueueSocket>,
    store: Store,
    /// Chunks that each socket has to receive into: those of the first have the lowest numbers.
    receive_chunks: usize,
    /// Which socket is looked at first the next time.
    next: usize,
    /// Chunks free to transmit from.
    free: Vec<FrameDesc>,
    /// Chunks on the transmit ring or in the driver's hands.
    in_flight: usize,
    /// Descriptors put on the transmit ring that no wake-up has paid for yet.
    unsent: usize,
    /// Flushes since the last wake-up to transmit during which frames were out.
    flushes_in_flight: u32,
    zero_copy: bool,
    huge_pages: bool,
    /// The lane polls the driver; and whether it has been told if that works.
    busy_poll: bool,
    busy_poll_told: bool,
    interface: String,
}

impl XskRing {
    /// Whether the kernel says that packets are not copied (`XDP_OPTIONS_ZEROCOPY`).
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether the memory is made of huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// From now on, stamped packets have in front of them what the NIC knows ([`Hints`]): the program is attached after the
    /// ring is open, and only then is it known which one it is.
    pub fn expect_hints(&mut self) {
        self.store.hinted = true;
    }

    /// The NAPI that busy polling polls on the first queue; `None` where the driver has linked none to it, or has not yet
    /// received a frame (Linux 6.12 and before).
    #[must_use]
    pub fn napi(&self) -> Option<u32> {
        busy_poll::napi(self.as_fd())
    }

    /// Says once, as soon as it can be known, whether busy polling polls anything.
    #[cold]
    fn tell_busy_poll(&mut self) {
        self.busy_poll_told = true;
        match self.napi() {
            Some(napi) => log::info!("{}: busy polling NAPI {napi}", self.interface),
            None => log::warn!(
                "{}: busy polling has no effect here: the driver has not linked its NAPI to the queue (a veth never does)",
                self.interface
            ),
        }
    }

    /// The queues, each with its socket.
    pub fn sockets(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        self.all().map(|socket| {
            // SAFETY: the receive queue keeps the socket open for as long as `self` lives.
            (socket.queue, unsafe { BorrowedFd::borrow_raw(socket.receive.fd().as_raw_fd()) })
        })
    }

    fn all(&self) -> impl Iterator<Item = &QueueSocket> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// What shows that frames move, without asking the kernel.
    #[must_use]
    #[inline]
    pub fn pulse(&self) -> Pulse {
        Pulse {
            received: self.store.counters.frames_received,
            completed: self.store.counters.frames_completed,
            in_flight: self.in_flight as u64,
        }
    }

    /// Takes frames from all queues. None comes first every time, or a busy one would keep the others waiting.
    fn receive_from_all(&mut self, into: &mut Vec<RxFrame>, max: usize) -> usize {
        let Self { first, others, store, next, .. } = self;
        let sockets = others.len() + 1;
        let begin = std::mem::replace(next, (*next + 1) % sockets);
        let mut taken = 0;
        for at in (begin..sockets).chain(0..begin) {
            let socket = if at == 0 { &mut *first } else { &mut others[at - 1] };
            taken += socket.receive(store, into, max - taken);
            if taken >= max {
                break;
            }
        }
        taken
    }

    #[cold]
    fn recycle_joined(&mut self, frame: &RxFrame) {
        assert_eq!(frame.chunk.ring(), self.store.number, "a frame must return to the ring it came from");
        self.store.joiner.take_back(&frame.chunk);
    }

    /// Gives a chunk back that is not one of the first queue's.
    #[cold]
    fn recycle_elsewhere(&mut self, number: usize) {
        let at = number / self.receive_chunks - 1;
        // What is beyond the last queue's is to transmit from, and was never put on a fill ring.
        let socket = self.others.get_mut(at).unwrap_or(&mut self.first);
        socket.recycled.push(self.store.chunks[number]);
    }

    /// Takes transmitted chunks back from the completion ring.
    fn reap(&mut self) {
        let Self { first, store, .. } = self;
        while self.in_flight != 0 {
            // SAFETY: the descriptors are overwritten by the call; the chunks they then name come from this UMEM.
            let done = unsafe { first.completion.consume(&mut store.scratch) };
            if done == 0 {
                break;
            }
            for desc in &store.scratch[..done] {
                match store.chunks.get(desc.addr() / CHUNK) {
                    Some(chunk) => self.free.push(*chunk),
                    None => store.counters.descriptors_refused += 1,
                }
            }
            self.in_flight = self.in_flight.saturating_sub(done);
            store.counters.frames_completed += done as u64;
        }
    }

    /// Wakes the driver up, if it asks for it, as often as it takes to send what is queued.
    fn wake_transmit(&mut self) -> io::Result<()> {
        loop {
            if self.first.transmit.needs_wakeup() {
                self.store.counters.wakeups_transmit += 1;
                self.first.transmit.wakeup()?;
            }
            self.unsent = self.unsent.saturating_sub(TRANSMIT_BUDGET);
            if self.unsent == 0 {
                return Ok(());
            }
        }
    }
}

impl Ring for XskRing {
    #[inline]
    fn receive(&mut self, into: &mut Vec<RxFrame>, max: usize) -> usize {
        if self.others.is_empty() {
            return self.first.receive(&mut self.store, into, max);
        }
        self.receive_from_all(into, max)
    }

    #[inline]
    fn hints(&self, frame: &RxFrame) -> Option<Hints> {
        self.store.hints(frame)
    }

    #[inline]
    fn recycle(&mut self, frame: RxFrame) {
        if frame.is_joined() {
            self.recycle_joined(&frame);
            return;
        }
        let number = self.store.take_back(&frame.chunk);
        if number < self.receive_chunks {
            self.first.recycled.push(self.store.chunks[number]);
        } else {
            self.recycle_elsewhere(number);
        }
    }

    fn lend(&mut self) -> Option<TxFrame> {
        if self.free.is_empty() {
            self.reap();
        }
        let Some(desc) = self.free.pop() else {
            self.store.counters.transmit_exhausted += 1;
            return None;
        };
        Some(TxFrame::new(self.store.token(desc)))
    }

    fn transmit(&mut self, frame: TxFrame, len: usize) {
        let number = self.store.take_back(&frame.chunk);
        let mut desc = self.store.chunks[number];
        // SAFETY: the token has just been consumed, so nobody else holds the chunk (invariant 1).
        let room = unsafe {
            let mut data = self.store.umem.data_mut(&mut desc);
            let mut cursor = data.cursor();
            cursor.set_pos(len);
            cursor.buf_len()
        };
        assert!(len <= room, "a packet of {len} bytes does not fit a frame of {room}");
        // SAFETY: as above; from here on the chunk is the kernel's until it comes back over the completion ring.
        let put = unsafe { self.first.transmit.produce_one(&desc) };
        // The transmit ring has as many slots as there are chunks to transmit from.
        debug_assert_eq!(put, 1);
        self.in_flight += 1;
        self.unsent += 1;
        self.store.counters.frames_transmitted += 1;
    }

    fn cancel(&mut self, frame: TxFrame) {
        let number = self.store.take_back(&frame.chunk);
        self.free.push(self.store.chunks[number]);
    }

    fn kick(&mut self) {
        if self.unsent > 0
            && let Err(error) = self.wake_transmit()
        {
            // If that means more than that the driver is busy, the next flush is told the same: `unsent` has not become 0.
            log::debug!("waking the driver up to transmit: {error}");
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let polls = self.busy_poll;
        self.first.refill();
        self.first.wake_fill(polls, &mut self.store.counters)?;
        for socket in &mut self.others {
            socket.refill();
            socket.wake_fill(polls, &mut self.store.counters)?;
        }
        if polls && !self.busy_poll_told && self.store.counters.frames_received != 0 {
            self.tell_busy_poll();
        }
        if self.in_flight == 0 {
            return Ok(());
        }
        if self.unsent == 0 {
            self.flushes_in_flight += 1;
            if self.flushes_in_flight < TRANSMIT_AGAIN {
                return Ok(());
            }
            self.reap();
        }
        self.flushes_in_flight = 0;
        if self.in_flight == 0 {
            return Ok(());
        }
        self.wake_transmit()?;
        self.reap();
        Ok(())
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets().map(|(_, socket)| socket)
    }

    fn region(&self) -> Range<usize> {
        self.store.region.clone()
    }

    fn counters(&self) -> RingCounters {
        let mut counters = self.store.counters;
        for socket in self.all() {
            socket.count(&mut counters);
        }
        counters
    }
}

impl AsRawFd for XskRing {
    /// The socket of the first queue.
    fn as_raw_fd(&self) -> RawFd {
        self.first.receive.fd().as_raw_fd()
    }
}

impl AsFd for XskRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the receive queue keeps the socket open for as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}

impl Drop for XskRing {
    fn drop(&mut self) {
        if self.store.outstanding != 0 {
            log::warn!("{} frames outlive their AF_XDP socket: its memory is leaked", self.store.outstanding);
            std::mem::forget(self.store.umem.clone());
        }
    }
}
