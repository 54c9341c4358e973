//! One queue's socket: frames off its receive ring, and onto its fill ring.
//!
//! Its chunks are its own: those that went onto its fill ring come back to it, so that traffic on one queue never takes
//! the frames of another. What all sockets of a ring share is the [`Store`].
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use wiretick_xdp::{ARRIVAL_BYTES, HINTS_BYTES, Hints};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue, Umem};

use super::super::RingCounters;
use super::super::join::{Joiner, Partial};
use super::super::token::{Chunk, RxFrame};
use super::{BATCH, CHUNK};
use crate::floor::Time;

/// The memory, and what is known of it.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) umem: Umem,
    /// The descriptor xsk-rs made for each chunk, by chunk number.
    pub(super) chunks: Vec<FrameDesc>,
    pub(super) scratch: [FrameDesc; BATCH],
    /// Tokens that are out.
    pub(super) outstanding: usize,
    pub(super) number: u32,
    pub(super) region: Range<usize>,
    pub(super) stamped: bool,
    /// Whether there is more in front of a stamped packet than the time of its arrival.
    pub(super) hinted: bool,
    /// For packets that come in several chunks.
    pub(super) joiner: Joiner,
    pub(super) counters: RingCounters,
}

impl Store {
    /// The token for the chunk `desc` names, which has just come off a ring or off the free list.
    #[inline]
    pub(super) fn token(&mut self, mut desc: FrameDesc) -> Chunk {
        let address = desc.addr();
        // SAFETY: the descriptor names a chunk of this UMEM (checked by the callers) that nobody else holds
        // (invariant 1). The exclusive borrow ends here; the pointer keeps its right to the chunk's bytes.
        let (start, room) = unsafe {
            let mut data = self.umem.data_mut(&mut desc);
            let room = data.cursor().buf_len();
            data.cursor().set_pos(room);
            (NonNull::from(data.contents_mut()).cast::<u8>(), room)
        };
        self.outstanding += 1;
        // SAFETY: as above; the ring's `drop` leaks the UMEM while tokens are out (invariant 2).
        unsafe { Chunk::new(start, room, address, self.number) }
    }

    /// The chunk number behind a token that comes back.
    #[inline]
    pub(super) fn take_back(&mut self, chunk: &Chunk) -> usize {
        assert_eq!(chunk.ring(), self.number, "a frame must return to the ring it came from");
        self.outstanding -= 1;
        chunk.address() / CHUNK
    }

    /// Whether a descriptor names bytes of one chunk (invariant 4).
    #[inline]
    fn is_sound(&self, desc: &FrameDesc) -> bool {
        let (address, len) = (desc.addr(), desc.lengths().data());
        address / CHUNK < self.chunks.len() && address % CHUNK + len <= CHUNK
    }

    /// When the packet in `chunk` arrived, as the XDP program has noted it.
    #[inline]
    fn arrival(&self, chunk: &mut Chunk) -> Time {
        if self.stamped && chunk.address() % CHUNK >= ARRIVAL_BYTES {
            // SAFETY: the packet begins that far inside its chunk.
            Time::from_nanos(unsafe { chunk.take_u64_in_front() })
        } else {
            Time::ZERO
        }
    }
}

impl Store {
    /// What the NIC knows of a packet that is stamped.
    #[inline]
    pub(super) fn hints(&self, frame: &RxFrame) -> Option<Hints> {
        // Without a time of arrival, what stands there is of another packet.
        frame.arrived().filter(|_| self.hinted)?;
        if !frame.is_joined() && frame.chunk.address() % CHUNK < HINTS_BYTES {
            return None;
        }
        // SAFETY: the packet begins that far inside its chunk (checked), or inside its buffer (`Joiner`).
        Hints::read(&unsafe { frame.chunk.copy_in_front(HINTS_BYTES) })
    }

    /// The same bytes, to stand in front of a packet that is put together: the time of its arrival is not among them any
    /// more.
    fn in_front(&self, chunk: &Chunk) -> [u8; HINTS_BYTES] {
        if !self.hinted || chunk.address() % CHUNK < HINTS_BYTES {
            return [0; HINTS_BYTES];
        }
        // SAFETY: the packet begins that far inside its chunk.
        unsafe { chunk.copy_in_front(HINTS_BYTES) }
    }
}

/// The socket of one queue.
#[derive(Debug)]
pub(super) struct QueueSocket {
    // All four rings must go before the UMEM: a ring has the store behind its sockets.
    pub(super) receive: RxQueue,
    pub(super) transmit: TxQueue,
    pub(super) fill: FillQueue,
    pub(super) completion: CompQueue,
    /// The queue of the interface.
    pub(super) queue: u32,
    /// Received chunks that were given back and not yet put on the fill ring.
    pub(super) recycled: Vec<FrameDesc>,
    /// A packet in several chunks of which more is to come.
    partial: Option<(Partial, Time)>,
}

impl QueueSocket {
    /// A bound socket whose fill ring is to get `chunks`.
    pub(super) fn new(
        queue: u32,
        (transmit, receive): (TxQueue, RxQueue),
        (fill, completion): (FillQueue, CompQueue),
        chunks: &[FrameDesc],
    ) -> Self {
        let mut socket = Self { receive, transmit, fill, completion, queue, recycled: chunks.to_vec(), partial: None };
        socket.refill();
        socket
    }

    /// Takes up to `max` descriptors off the receive ring; answers how many packets that were.
    #[inline]
    pub(super) fn receive(&mut self, store: &mut Store, into: &mut Vec<RxFrame>, max: usize) -> usize {
        let max = max.min(BATCH);
        // SAFETY: the descriptors are overwritten by the call; the packets they then name lie in this UMEM, and the
        // kernel does not touch their chunks until they are back on the fill ring.
        let taken = unsafe { self.receive.consume(&mut store.scratch[..max]) };
        let (mut at, mut further) = (0, 0);
        if self.partial.is_some() && taken != 0 {
            (at, further) = self.join(store, into, 0..taken);
        }
        while at < taken {
            let desc = store.scratch[at];
            if !store.is_sound(&desc) || desc.has_more_frames() {
                let (next, pieces) = self.join(store, into, at..taken);
                further += pieces;
                at = next;
                continue;
            }
            let len = desc.lengths().data();
            let mut chunk = store.token(desc);
            let arrived = store.arrival(&mut chunk);
            into.push(RxFrame::new(chunk, len).arrived_at(arrived));
            at += 1;
        }
        let packets = taken - further;
        store.counters.frames_received += packets as u64;
        packets
    }

    /// Puts a packet together from the descriptors in `pieces`, as far as it goes; also sorts out what the kernel should
    /// not have said. Answers where the next packet begins, and how many of these descriptors have another one of the
    /// same packet behind them.
    #[cold]
    fn join(&mut self, store: &mut Store, into: &mut Vec<RxFrame>, pieces: Range<usize>) -> (usize, usize) {
        let mut further = 0;
        for at in pieces.clone() {
            let desc = store.scratch[at];
            let more = desc.has_more_frames();
            if !store.is_sound(&desc) {
                store.counters.descriptors_refused += 1;
                if let Some(chunk) = store.chunks.get(desc.addr() / CHUNK) {
                    self.recycled.push(*chunk);
                }
                if let Some((partial, _)) = &mut self.partial {
                    store.joiner.give_up(partial);
                } else if more {
                    self.partial = Some((Partial::given_up(), Time::ZERO));
                }
            } else {
                let mut chunk = store.token(desc);
                if self.partial.is_none() {
                    let arrived = store.arrival(&mut chunk);
                    let in_front = store.in_front(&chunk);
                    self.partial = Some((store.joiner.begin(&in_front, &mut store.counters), arrived));
                }
                if let Some((partial, _)) = &mut self.partial {
                    store.joiner.add(partial, &chunk.bytes()[..desc.lengths().data()], &mut store.counters);
                }
                let number = store.take_back(&chunk);
                self.recycled.push(store.chunks[number]);
            }
            if !more {
                if let Some((partial, arrived)) = self.partial.take() {
                    let frame = partial.finish(&mut store.joiner, &mut store.counters);
                    into.extend(frame.map(|frame| frame.arrived_at(arrived)));
                }
                return (at + 1, further);
            }
            further += 1;
        }
        (pieces.end, further)
    }

    /// Puts recycled chunks on the fill ring: all, or none while the ring has no room for all of them.
    #[inline]
    pub(super) fn refill(&mut self) {
        if self.recycled.is_empty() {
            return;
        }
        // SAFETY: each descriptor in `recycled` is a chunk of this UMEM that left its token in `recycle` (or has never
        // been in one), so nobody else holds it (invariant 1).
        let put = unsafe { self.fill.produce(&self.recycled) };
        if put != 0 {
            self.recycled.clear();
        }
    }

    /// Wakes the driver up to receive, where it asks for it; with `polls`, has the call run the driver's poll in any case.
    #[inline]
    pub(super) fn wake_fill(&mut self, polls: bool, counters: &mut RingCounters) -> io::Result<()> {
        if !polls && !self.fill.needs_wakeup() {
            return Ok(());
        }
        counters.wakeups_fill += 1;
        match self.fill.wakeup(self.receive.fd_mut(), 0) {
            // A signal has done no harm: the next turn wakes the driver again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            other => other,
        }
    }

    /// Adds what the kernel counts for this socket.
    pub(super) fn count(&self, counters: &mut RingCounters) {
        if let Ok(kernel) = self.receive.fd().xdp_statistics() {
            counters.receive_ring_full += kernel.rx_ring_full();
            counters.fill_ring_empty += kernel.rx_fill_ring_empty_descs();
            counters.receive_dropped += kernel.rx_dropped();
            counters.transmit_refused += kernel.tx_invalid_descs();
        }
    }
}
