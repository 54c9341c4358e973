//! The in-memory twin of an AF_XDP ring: the same tokens, the same rules, no privilege, no kernel, no time.
//!
//! Its [`FarEnd`] is the wire: a test puts packets onto it and takes off what was transmitted. Frames come from one heap
//! allocation divided into chunks, and circulate between a fill list, the receive queue and tokens exactly as they do
//! between the kernel's rings: with no frame in the fill list an arriving packet is dropped and counted.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::rc::Rc;

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
    memory: Memory,
    /// Offsets of the chunks the "kernel" may write into.
    fill: VecDeque<usize>,
    /// Packets that have arrived: chunk offset and length.
    arrived: VecDeque<(usize, usize)>,
    /// Packets that were transmitted.
    sent: VecDeque<Vec<u8>>,
    /// Tokens that are out: while there are any, the memory must stay.
    outstanding: usize,
    counters: RingCounters,
}

/// One allocation, freed by hand because it has to be leaked where tokens outlive it.
#[derive(Debug)]
struct Memory {
    base: NonNull<u8>,
    len: usize,
}

impl MemoryRing {
    /// A ring with `receive` chunks to receive into and `transmit` chunks to send from, and the far end of its wire.
    #[must_use]
    pub fn new(receive: usize, transmit: usize) -> (Self, FarEnd) {
        let bytes = vec![0u8; (receive + transmit) * CHUNK].into_boxed_slice();
        let len = bytes.len();
        let base = NonNull::new(Box::into_raw(bytes).cast::<u8>()).expect("a box is not null");
        let wire = Rc::new(RefCell::new(Wire {
            memory: Memory { base, len },
            fill: (0..receive).map(|i| i * CHUNK).collect(),
            arrived: VecDeque::new(),
            sent: VecDeque::new(),
            outstanding: 0,
            counters: RingCounters::default(),
        }));
        let free = (receive..receive + transmit).map(|i| i * CHUNK).collect();
        (Self { wire: Rc::clone(&wire), recycled: Vec::new(), free, number: next_ring_number() }, FarEnd { wire })
    }

    /// The token for the chunk at `offset`, which must just have left a list.
    fn chunk(&self, wire: &mut Wire, offset: usize) -> Chunk {
        wire.outstanding += 1;
        let start = offset + HEADROOM;
        debug_assert!(offset + CHUNK <= wire.memory.len);
        // SAFETY: the offset came from a list of this ring, so it lies inside the allocation, and leaving the list
        // makes the token its only owner (invariant 1). `Wire`'s drop leaks the memory while tokens are out (2).
        unsafe { Chunk::new(wire.memory.base.add(start), CHUNK - HEADROOM, start, self.number) }
    }

    fn take_back(&self, wire: &mut Wire, chunk: &Chunk) -> usize {
        assert_eq!(chunk.ring(), self.number, "a frame must return to the ring it came from");
        wire.outstanding -= 1;
        chunk.address() - HEADROOM
    }
}

impl Ring for MemoryRing {
    fn receive(&mut self, into: &mut Vec<RxFrame>, max: usize) -> usize {
        let mut wire = self.wire.borrow_mut();
        let mut taken = 0;
        while taken < max {
            let Some((offset, len)) = wire.arrived.pop_front() else { break };
            into.push(RxFrame::new(self.chunk(&mut wire, offset), len));
            taken += 1;
        }
        wire.counters.frames_received += taken as u64;
        taken
    }

    fn recycle(&mut self, frame: RxFrame) {
        let offset = self.take_back(&mut self.wire.borrow_mut(), &frame.chunk);
        self.recycled.push(offset);
    }

    fn lend(&mut self) -> Option<TxFrame> {
        let mut wire = self.wire.borrow_mut();
        let Some(offset) = self.free.pop() else {
            wire.counters.transmit_exhausted += 1;
            return None;
        };
        Some(TxFrame::new(self.chunk(&mut wire, offset)))
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

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn region(&self) -> Range<usize> {
        let wire = self.wire.borrow();
        let start = wire.memory.base.as_ptr() as usize;
        start..start + wire.memory.len
    }

    fn counters(&self) -> RingCounters {
        self.wire.borrow().counters
    }
}

impl FarEnd {
    /// Lets `packet` arrive. Answers whether there was a frame to put it into; where not, it is dropped and counted,
    /// as the kernel does.
    pub fn deliver(&self, packet: &[u8]) -> bool {
        let mut wire = self.wire.borrow_mut();
        if packet.len() > CHUNK - HEADROOM {
            wire.counters.receive_dropped += 1;
            return false;
        }
        let Some(offset) = wire.fill.pop_front() else {
            wire.counters.fill_ring_empty += 1;
            return false;
        };
        let memory = &wire.memory;
        // SAFETY: the chunk was in the fill list, so no token for it exists (invariant 1) and nobody else looks at
        // its bytes; the length was checked against the chunk's room above.
        unsafe {
            let to = memory.base.add(offset + HEADROOM);
            std::ptr::copy_nonoverlapping(packet.as_ptr(), to.as_ptr(), packet.len());
        }
        wire.arrived.push_back((offset, packet.len()));
        true
    }

    /// Frames that somebody holds.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.wire.borrow().outstanding
    }

    /// The oldest packet that was transmitted and not yet taken.
    #[must_use]
    pub fn take(&self) -> Option<Vec<u8>> {
        self.wire.borrow_mut().sent.pop_front()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.outstanding != 0 {
            log::warn!("{} frames outlive their ring: its memory is leaked", self.outstanding);
            return;
        }
        // SAFETY: base and length are those of the box `new` took apart, no token is out (checked), and this is the
        // only place that frees it.
        unsafe {
            drop(Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.memory.base.as_ptr(), self.memory.len)));
        }
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

    mod model {
        use proptest::prelude::*;

        use super::*;

        #[derive(Clone, Copy, Debug)]
        enum Step {
            Deliver(u8),
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
                4 => any::<u8>().prop_map(Step::Deliver),
                3 => (0usize..5).prop_map(Step::Receive),
                3 => which.clone().prop_map(Step::Recycle),
                3 => Just(Step::Lend),
                2 => (which.clone(), any::<u8>()).prop_map(|(which, text)| Step::Transmit(which, text)),
                1 => which.prop_map(Step::Cancel),
                2 => Just(Step::Flush),
                2 => Just(Step::Take),
            ]
        }

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
                let (mut ring, far) = MemoryRing::new(receive, transmit);
                // Chunks in the fill list and recycled ones; packets that have arrived; tokens with what they hold.
                let (mut fill, mut recycled, mut free) = (receive, 0, transmit);
                let mut arrived = VecDeque::new();
                let mut sent = VecDeque::new();
                let mut received: Vec<(RxFrame, u8)> = Vec::new();
                let mut lent: Vec<TxFrame> = Vec::new();
                let mut expected = RingCounters::default();
                for step in steps {
                    match step {
                        Step::Deliver(text) => {
                            prop_assert_eq!(far.deliver(&[text; 3]), fill > 0);
                            if fill > 0 {
                                fill -= 1;
                                arrived.push_back(text);
                            } else {
                                expected.fill_ring_empty += 1;
                            }
                        }
                        Step::Receive(max) => {
                            let mut batch = Vec::new();
                            let taken = ring.receive(&mut batch, max);
                            prop_assert_eq!(taken, max.min(arrived.len()));
                            expected.frames_received += taken as u64;
                            received.extend(batch.into_iter().zip(arrived.drain(..taken)));
                        }
                        Step::Recycle(which) if !received.is_empty() => {
                            let which = which % received.len();
                            ring.recycle(received.swap_remove(which).0);
                            recycled += 1;
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
                    prop_assert_eq!(fill + recycled + arrived.len() + received.len(), receive);
                    prop_assert_eq!(free + lent.len(), transmit);
                    for (frame, text) in &received {
                        prop_assert_eq!(frame.packet(), &[*text; 3][..]);
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
