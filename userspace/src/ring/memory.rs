//! The in-memory twin of an AF_XDP ring: the same tokens, the same rules, no privilege, no kernel, no time.
//!
//! Its [`FarEnd`] is the wire: a test puts packets onto it and takes off what was transmitted. Frames come from one heap
//! allocation divided into chunks, and circulate between a fill list, the receive queue and tokens exactly as they do
//! between the kernel's rings: with no frame in the fill list an arriving packet is dropped and counted. One that is larger
//! than a chunk takes several, if the ring was made for that, and is put together when it is taken.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use super::heap::Heap;
use super::join::Joiner;
use super::token::{Chunk, RxFrame, TxFrame, next_ring_number};
use super::{Ring, RingCounters};

/// Bytes in a chunk, as in [`super::XskRing`].
const CHUNK: usize = 4096;
/// Where a packet starts in its chunk: the room AF_XDP leaves for an XDP program (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;

/// A ring whose wire is a [`FarEnd`] in the same process.
#[derive(Debug)]
pub struct MemoryRing {
    wire: Rc<RefCell<Wire>>,
    recycled: Vec<usize>,
    free: Vec<usize>,
    number: u32,
}

/// The other end of a [`MemoryRing`]'s wire.
#[derive(Debug, Clone)]
pub struct FarEnd {
    wire: Rc<RefCell<Wire>>,
}

#[derive(Debug)]
struct Wire {
    memory: Heap,
    /// Offsets of the chunks the "kernel" may write into.
    fill: VecDeque<usize>,
    /// Packets that have arrived: the offset of the first chunk, and the length of all.
    arrived: VecDeque<(usize, usize)>,
    /// The further chunks of those that take several, in the same order.
    further: VecDeque<usize>,
    /// Packets that were transmitted.
    sent: VecDeque<Vec<u8>>,
    /// Whether packets may take several chunks.
    several: bool,
    joiner: Joiner,
    counters: RingCounters,
}

impl MemoryRing {
    /// A ring with `receive` chunks to receive into and `transmit` chunks to send from, and the far end of its wire.
    #[must_use]
    pub fn new(receive: usize, transmit: usize) -> (Self, FarEnd) {
        let number = next_ring_number();
        Self::with_joiner(receive, transmit, number, false, Joiner::none(number))
    }

    /// The same, for IP packets of up to `packet_bytes_max` bytes, which take as many chunks as they need.
    #[must_use]
    pub fn for_large_packets(receive: usize, transmit: usize, packet_bytes_max: usize) -> (Self, FarEnd) {
        let number = next_ring_number();
        let joiner = Joiner::new(packet_bytes_max, number);
        Self::with_joiner(receive, transmit, number, true, joiner)
    }

    fn with_joiner(receive: usize, transmit: usize, number: u32, several: bool, joiner: Joiner) -> (Self, FarEnd) {
        let wire = Rc::new(RefCell::new(Wire {
            memory: Heap::new((receive + transmit) * CHUNK),
            fill: (0..receive).map(|i| i * CHUNK).collect(),
            arrived: VecDeque::new(),
            further: VecDeque::new(),
            sent: VecDeque::new(),
            several,
            joiner,
            counters: RingCounters::default(),
        }));
        let free = (receive..receive + transmit).map(|i| i * CHUNK).collect();
        (Self { wire: Rc::clone(&wire), recycled: Vec::new(), free, number }, FarEnd { wire })
    }

    fn take_back(&self, wire: &mut Wire, chunk: &Chunk) -> usize {
        assert_eq!(chunk.ring(), self.number, "a frame must return to the ring it came from");
        wire.take_back(chunk)
    }

    #[cold]
    fn recycle_joined(&mut self, frame: &RxFrame) {
        assert_eq!(frame.chunk.ring(), self.number, "a frame must return to the ring it came from");
        self.wire.borrow_mut().joiner.take_back(&frame.chunk);
    }
}

impl Wire {
    /// The token for the chunk at `offset`, which must just have left a list.
    #[inline]
    fn chunk(&mut self, offset: usize, ring: u32) -> Chunk {
        let start = offset + HEADROOM;
        // SAFETY: the offset came from a list of this ring, so the chunk lies in its memory; leaving the list makes the token
        // its only owner (invariant 1).
        unsafe { self.memory.lend(start, CHUNK - HEADROOM, start, ring) }
    }

    #[inline]
    fn take_back(&mut self, chunk: &Chunk) -> usize {
        self.memory.take_back();
        chunk.address() - HEADROOM
    }

    /// Puts the packet of `len` bytes together that begins in the chunk at `offset`.
    #[cold]
    #[inline(never)]
    fn join(
        &mut self,
        (mut offset, mut len): (usize, usize),
        ring: u32,
        recycled: &mut Vec<usize>,
        into: &mut Vec<RxFrame>,
    ) {
        let mut partial = self.joiner.begin(&[], &mut self.counters);
        loop {
            let here = len.min(CHUNK - HEADROOM);
            let chunk = self.chunk(offset, ring);
            self.joiner.add(&mut partial, &chunk.bytes()[..here], &mut self.counters);
            recycled.push(self.take_back(&chunk));
            len -= here;
            if len == 0 {
                break;
            }
            offset = self.further.pop_front().expect("the far end puts in all the chunks of a packet at once");
        }
        into.extend(partial.finish(&mut self.joiner, &mut self.counters));
    }
}

impl Ring for MemoryRing {
    fn receive(&mut self, into: &mut Vec<RxFrame>, max: usize) -> usize {
        let Self { wire, recycled, number, .. } = self;
        let mut wire = wire.borrow_mut();
        let mut taken = 0;
        while taken < max {
            let Some((offset, len)) = wire.arrived.pop_front() else { break };
            if len > CHUNK - HEADROOM {
                wire.join((offset, len), *number, recycled, into);
            } else {
                into.push(RxFrame::new(wire.chunk(offset, *number), len));
            }
            taken += 1;
        }
        wire.counters.frames_received += taken as u64;
        taken
    }

    #[inline]
    fn recycle(&mut self, frame: RxFrame) {
        if frame.is_joined() {
            self.recycle_joined(&frame);
            return;
        }
        let offset = self.take_back(&mut self.wire.borrow_mut(), &frame.chunk);
        self.recycled.push(offset);
    }

    fn lend(&mut self) -> Option<TxFrame> {
        let mut wire = self.wire.borrow_mut();
        let Some(offset) = self.free.pop() else {
            wire.counters.transmit_exhausted += 1;
            return None;
        };
        Some(TxFrame::new(wire.chunk(offset, self.number)))
    }

    fn transmit(&mut self, mut frame: TxFrame, len: usize) {
        let mut wire = self.wire.borrow_mut();
        let packet = frame.bytes_mut()[..len].to_vec();
        wire.sent.push_back(packet);
        wire.counters.frames_transmitted += 1;
        let offset = self.take_back(&mut wire, &frame.chunk);
        self.free.push(offset);
    }

    fn cancel(&mut self, frame: TxFrame) {
        let offset = self.take_back(&mut self.wire.borrow_mut(), &frame.chunk);
        self.free.push(offset);
    }

    fn kick(&mut self) {}

    fn flush(&mut self) -> io::Result<()> {
        self.wire.borrow_mut().fill.extend(self.recycled.drain(..));
        Ok(())
    }

    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::empty()
    }

    fn region(&self) -> Range<usize> {
        let wire = self.wire.borrow();
        let start = wire.memory.start();
        start..start + wire.memory.len()
    }

    fn counters(&self) -> RingCounters {
        self.wire.borrow().counters
    }
}

impl FarEnd {
    /// Lets `packet` arrive. Answers whether there was a frame to put it into, or as many as it takes; where not, it is
    /// dropped and counted, as the kernel does.
    pub fn deliver(&self, packet: &[u8]) -> bool {
        let mut guard = self.wire.borrow_mut();
        let wire = &mut *guard;
        if packet.len() > CHUNK - HEADROOM && !wire.several {
            wire.counters.receive_dropped += 1;
            return false;
        }
        let chunks = packet.len().div_ceil(CHUNK - HEADROOM).max(1);
        if wire.fill.len() < chunks {
            wire.counters.fill_ring_empty += 1;
            return false;
        }
        let (offset, mut at) = (wire.fill[0], 0);
        for (number, offset) in wire.fill.drain(..chunks).enumerate() {
            let here = (packet.len() - at).min(CHUNK - HEADROOM);
            // SAFETY: the chunk was in the fill list, so no token for it exists (invariant 1).
            unsafe { wire.memory.write(offset + HEADROOM, &packet[at..at + here]) };
            at += here;
            if number != 0 {
                wire.further.push_back(offset);
            }
        }
        wire.arrived.push_back((offset, packet.len()));
        true
    }

    /// Frames that somebody holds.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        let wire = self.wire.borrow();
        wire.memory.outstanding() + wire.joiner.outstanding()
    }

    /// The oldest packet that was transmitted and not yet taken.
    #[must_use]
    pub fn take(&self) -> Option<Vec<u8>> {
        self.wire.borrow_mut().sent.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_received_where_the_wire_put_it() {
        let (mut ring, far) = MemoryRing::new(2, 1);
        assert!(far.deliver(b"hello"));
        let mut batch = Vec::new();
        assert_eq!(ring.receive(&mut batch, 8), 1);
        let frame = &mut batch[0];
        assert_eq!(frame.packet(), b"hello");
        assert!(ring.region().contains(&(frame.packet().as_ptr() as usize)));
        frame.bytes_mut()[0] = b'j';
        assert_eq!(frame.packet(), b"jello");
    }

    #[test]
    fn without_a_frame_in_the_fill_list_a_packet_is_dropped_and_counted() {
        let (mut ring, far) = MemoryRing::new(1, 1);
        assert!(far.deliver(b"one"));
        assert!(!far.deliver(b"two"));
        let mut batch = Vec::new();
        ring.receive(&mut batch, 8);
        ring.recycle(batch.pop().unwrap());
        assert!(!far.deliver(b"still not: recycled, but not flushed"));
        ring.flush().unwrap();
        assert!(far.deliver(b"three"));
        assert_eq!(ring.counters().fill_ring_empty, 2);
        assert_eq!(ring.counters().frames_received, 1);
    }

    #[test]
    fn what_is_transmitted_comes_out_at_the_far_end_in_order() {
        let (mut ring, far) = MemoryRing::new(1, 2);
        for text in [b"first", b"later"] {
            let mut frame = ring.lend().unwrap();
            frame.bytes_mut()[..5].copy_from_slice(text);
            ring.transmit(frame, 5);
        }
        assert_eq!(far.take().unwrap(), b"first");
        assert_eq!(far.take().unwrap(), b"later");
        assert_eq!(far.take(), None);
    }

    #[test]
    fn frames_to_transmit_run_out_and_that_is_counted() {
        let (mut ring, _far) = MemoryRing::new(1, 1);
        let first = ring.lend().unwrap();
        assert!(ring.lend().is_none());
        assert_eq!(ring.counters().transmit_exhausted, 1);
        ring.transmit(first, 0);
        assert!(ring.lend().is_some());
    }

    #[test]
    fn a_token_outlives_its_ring() {
        let (mut ring, far) = MemoryRing::new(1, 0);
        far.deliver(b"kept");
        let mut batch = Vec::new();
        ring.receive(&mut batch, 1);
        drop(ring);
        drop(far);
        assert_eq!(batch[0].packet(), b"kept");
    }

    #[test]
    #[should_panic(expected = "must return to the ring it came from")]
    fn a_frame_of_another_ring_is_refused() {
        let (mut ring, far) = MemoryRing::new(1, 0);
        let (mut other, _) = MemoryRing::new(1, 0);
        far.deliver(b"mine");
        let mut batch = Vec::new();
        ring.receive(&mut batch, 1);
        other.recycle(batch.pop().unwrap());
    }

    #[test]
    fn a_packet_larger_than_a_chunk_is_dropped() {
        let (ring, far) = MemoryRing::new(1, 0);
        assert!(!far.deliver(&[0; CHUNK]));
        assert_eq!(ring.counters().receive_dropped, 1);
    }

    /// Bytes that tell where they belong.
    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at / 7) as u8 ^ at as u8).collect()
    }

    #[test]
    fn a_packet_in_several_chunks_is_put_together_once() {
        const LARGEST: usize = 9_000 + 14;
        let (mut ring, far) = MemoryRing::for_large_packets(3, 0, 9_000);
        for len in [1, CHUNK - HEADROOM, CHUNK - HEADROOM + 1, 2 * (CHUNK - HEADROOM), LARGEST] {
            let joined = ring.counters().frames_joined;
            assert!(far.deliver(&pattern(len)));
            let mut batch = Vec::new();
            assert_eq!(ring.receive(&mut batch, 1), 1);
            let mut frame = batch.pop().unwrap();
            assert_eq!(frame.packet(), pattern(len), "{len}");
            let several = len > CHUNK - HEADROOM;
            assert_eq!((frame.is_joined(), ring.counters().frames_joined - joined), (several, u64::from(several)));
            assert_eq!(ring.region().contains(&(frame.packet().as_ptr() as usize)), !several);
            // The padding of a span is behind it, and may be written.
            if several {
                frame.bytes_mut()[len + crate::floor::Span::PAD - 1] = 1;
            }
            ring.recycle(frame);
            ring.flush().unwrap();
            assert_eq!(far.outstanding(), 0);
        }
        assert_eq!(ring.counters().frames_received, 5);
    }

    #[test]
    fn the_chunks_of_a_packet_in_several_go_back_at_once() {
        let (mut ring, far) = MemoryRing::for_large_packets(2, 0, 6_000);
        assert!(far.deliver(&pattern(6_000)));
        let mut batch = Vec::new();
        ring.receive(&mut batch, 1);
        ring.flush().unwrap();
        assert!(far.deliver(&pattern(5_000)), "both chunks are free again while the first packet is held");
        ring.receive(&mut batch, 1);
        assert_eq!((batch[0].packet(), batch[1].packet()), (&pattern(6_000)[..], &pattern(5_000)[..]));
        batch.drain(..).for_each(|frame| ring.recycle(frame));
    }

    #[test]
    fn packets_that_cannot_be_put_together_are_dropped_each_under_its_name() {
        let (mut ring, far) = MemoryRing::for_large_packets(3, 0, 4_000);
        assert!(far.deliver(&pattern(9_000)));
        let mut batch = Vec::new();
        assert_eq!(ring.receive(&mut batch, 8), 1, "it was there");
        assert!(batch.is_empty());
        assert_eq!(ring.counters().joins_too_long, 1);
        ring.flush().unwrap();
        // Tokens that nobody gives back. (Under Miri, a pattern takes a second.)
        let mut held = Vec::new();
        let packet = pattern(4_000);
        while ring.counters().joins_exhausted == 0 {
            assert!(far.deliver(&packet), "its chunks are always free");
            ring.receive(&mut held, 1);
            ring.flush().unwrap();
        }
        assert_eq!(held.len() as u64, ring.counters().frames_joined);
        assert_eq!(ring.counters().joins_exhausted, 1);
        ring.recycle(held.pop().unwrap());
        assert!(far.deliver(&packet));
        assert_eq!(ring.receive(&mut batch, 1), 1);
        assert_eq!(batch[0].packet(), packet);
        held.append(&mut batch);
        held.drain(..).for_each(|frame| ring.recycle(frame));
    }

    #[test]
    fn a_joined_token_outlives_its_ring() {
        let (mut ring, far) = MemoryRing::for_large_packets(2, 0, 5_000);
        far.deliver(&pattern(5_000));
        let mut batch = Vec::new();
        ring.receive(&mut batch, 1);
        drop(ring);
        drop(far);
        assert_eq!(batch[0].packet(), pattern(5_000));
    }

    mod model {
        use proptest::prelude::*;

        use super::*;

        #[derive(Clone, Copy, Debug)]
        enum Step {
            /// Three bytes, or so many that it takes two chunks.
            Deliver(u8, bool),
            Receive(usize),
            Recycle(usize),
            Lend,
            Transmit(usize, u8),
            Cancel(usize),
            Flush,
            Take,
        }

        fn step() -> impl Strategy<Value = Step> {
            let which = 0usize..8;
            prop_oneof![
                4 => (any::<u8>(), prop::bool::weighted(0.3)).prop_map(|(text, large)| Step::Deliver(text, large)),
                3 => (0usize..5).prop_map(Step::Receive),
                3 => which.clone().prop_map(Step::Recycle),
                3 => Just(Step::Lend),
                2 => (which.clone(), any::<u8>()).prop_map(|(which, text)| Step::Transmit(which, text)),
                1 => which.prop_map(Step::Cancel),
                2 => Just(Step::Flush),
                2 => Just(Step::Take),
            ]
        }

        /// Bytes of a packet that takes two chunks.
        const LARGE: usize = CHUNK;

        /// Under Miri a case takes a second.
        const CASES: u32 = if cfg!(miri) { 4 } else { 500 };

        proptest! {
            #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(CASES) })]

            /// Each chunk is in one place, and each packet is the one that was put there: by counting what is where, and by
            /// what stands in every frame for as long as somebody holds it.
            #[test]
            fn whatever_the_order_each_chunk_is_in_one_place(
                (receive, transmit) in (1usize..4, 1usize..4),
                steps in proptest::collection::vec(step(), 1..60),
            ) {
                let (mut ring, far) = MemoryRing::for_large_packets(receive, transmit, LARGE);
                let packet = |text: u8, large: bool| vec![text; if large { LARGE } else { 3 }];
                // Chunks in the fill list and recycled ones; packets that have arrived; tokens with what they hold.
                let (mut fill, mut recycled, mut free, mut in_wire) = (receive, 0, transmit, 0);
                let mut arrived = VecDeque::new();
                let mut sent = VecDeque::new();
                let mut received: Vec<(RxFrame, (u8, bool))> = Vec::new();
                let mut lent: Vec<TxFrame> = Vec::new();
                let mut expected = RingCounters::default();
                for step in steps {
                    match step {
                        Step::Deliver(text, large) => {
                            let chunks = 1 + usize::from(large);
                            prop_assert_eq!(far.deliver(&packet(text, large)), fill >= chunks);
                            if fill >= chunks {
                                fill -= chunks;
                                in_wire += chunks;
                                arrived.push_back((text, large));
                            } else {
                                expected.fill_ring_empty += 1;
                            }
                        }
                        Step::Receive(max) => {
                            let mut batch = Vec::new();
                            let taken = ring.receive(&mut batch, max);
                            prop_assert_eq!(taken, max.min(arrived.len()));
                            expected.frames_received += taken as u64;
                            for (frame, (text, large)) in batch.into_iter().zip(arrived.drain(..taken)) {
                                // What was put together has given its chunks back already.
                                in_wire -= 1 + usize::from(large);
                                recycled += 2 * usize::from(large);
                                expected.frames_joined += u64::from(large);
                                received.push((frame, (text, large)));
                            }
                        }
                        Step::Recycle(which) if !received.is_empty() => {
                            let (frame, (_, large)) = received.swap_remove(which % received.len());
                            ring.recycle(frame);
                            recycled += usize::from(!large);
                        }
                        Step::Lend => {
                            let frame = ring.lend();
                            prop_assert_eq!(frame.is_some(), free > 0);
                            expected.transmit_exhausted += u64::from(free == 0);
                            free -= usize::from(free > 0);
                            lent.extend(frame);
                        }
                        Step::Transmit(which, text) if !lent.is_empty() => {
                            let mut frame = lent.swap_remove(which % lent.len());
                            frame.bytes_mut()[..5].fill(text);
                            ring.transmit(frame, 5);
                            expected.frames_transmitted += 1;
                            sent.push_back(vec![text; 5]);
                            free += 1;
                        }
                        Step::Cancel(which) if !lent.is_empty() => {
                            let which = which % lent.len();
                            ring.cancel(lent.swap_remove(which));
                            free += 1;
                        }
                        Step::Flush => {
                            ring.flush().unwrap();
                            fill += std::mem::take(&mut recycled);
                        }
                        Step::Take => prop_assert_eq!(far.take(), sent.pop_front()),
                        Step::Recycle(_) | Step::Transmit(..) | Step::Cancel(_) => {}
                    }
                    prop_assert_eq!(far.outstanding(), received.len() + lent.len());
                    let in_chunks = received.iter().filter(|(_, (_, large))| !large).count();
                    prop_assert_eq!(fill + recycled + in_wire + in_chunks, receive);
                    prop_assert_eq!(free + lent.len(), transmit);
                    for (frame, (text, large)) in &received {
                        prop_assert_eq!(frame.packet(), &packet(*text, *large)[..]);
                    }
                    prop_assert_eq!(ring.counters(), expected);
                }
                for (frame, _) in received {
                    ring.recycle(frame);
                }
                for frame in lent {
                    ring.cancel(frame);
                }
                prop_assert_eq!(far.outstanding(), 0);
            }
        }
    }
}
