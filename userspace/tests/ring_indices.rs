//! The indices of the kernel's four rings where they pass 2^32.
//!
//! The rings' arithmetic is libxdp's: four functions on a `struct xsk_ring_prod` or `xsk_ring_cons`, which xsk-rs calls and
//! does not look behind (`reserve` and `submit`, `peek` and `release`, xdp/xsk.h). They work on any memory, so here they work
//! on ordinary memory and begin wherever a test likes, against a queue that has no indices at all. The other end, in the
//! kernel's place, follows `net/xdp/xsk_queue.h`.
//!
//! A ring of the kernel's own cannot be begun there: it comes zeroed, and beside the two indices that are shared, the kernel
//! has private copies (`cached_prod`, `cached_cons`) which nothing outside of it can set. Only 2^32 descriptors would do it.
#![allow(unsafe_code, reason = "the functions that are tested are C")]

use std::collections::VecDeque;
use std::ptr;

use libxdp_sys::{xsk_ring_cons, xsk_ring_prod};
use proptest::prelude::*;

/// A ring whose memory is ours. The indices count how many entries ever passed, modulo 2^32.
struct Memory {
    producer: Box<u32>,
    consumer: Box<u32>,
    entries: Box<[u64]>,
}

impl Memory {
    fn new(size: u32, start: u32) -> Self {
        let entries = vec![0; size as usize].into_boxed_slice();
        Self { producer: Box::new(start), consumer: Box::new(start), entries }
    }

    fn mask(&self) -> u32 {
        self.entries.len() as u32 - 1
    }
}

/// What happens to a ring: its two ends take turns in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many entries are put in, if all of them have room.
    Produce(u32),
    /// At most so many are taken out.
    Consume(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let count = 0..20u32;
    proptest::collection::vec(prop_oneof![count.clone().prop_map(Step::Produce), count.prop_map(Step::Consume)], 1..200)
}

/// Anywhere, but mostly so that the indices wrap within the test.
fn start() -> impl Strategy<Value = u32> {
    prop_oneof![4 => u32::MAX - 300..=u32::MAX, 1 => 0..300u32, 1 => i32::MAX as u32 - 300..i32::MAX as u32, 1 => any::<u32>()]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// We produce: the fill ring and the transmit ring.
    #[test]
    fn what_we_put_in_comes_out_in_order_also_across_the_wrap(bits in 0..6u32, start in start(), steps in steps()) {
        let size = 1 << bits;
        let mut memory = Memory::new(size, start);
        let mut ring = xsk_ring_prod {
            cached_prod: start,
            // As libxdp sets it up: a ring's size ahead of the true one.
            cached_cons: start.wrapping_add(size),
            mask: memory.mask(),
            size,
            producer: &raw mut *memory.producer,
            consumer: &raw mut *memory.consumer,
            ring: memory.entries.as_mut_ptr().cast(),
            flags: ptr::null_mut(),
        };
        let mut model = VecDeque::new();
        let mut next = 0u64;
        for step in steps {
            match step {
                Step::Produce(count) => {
                    let mut index = 0;
                    // SAFETY: the ring's pointers are to `memory`, which lives longer and which nobody else uses.
                    let reserved = unsafe { libxdp_sys::xsk_ring_prod__reserve(&raw mut ring, count, &raw mut index) };
                    // All or none.
                    let expected = if model.len() + count as usize <= size as usize { count } else { 0 };
                    prop_assert_eq!(reserved, expected);
                    for _ in 0..reserved {
                        // SAFETY: the index was reserved; the function masks it.
                        unsafe { *libxdp_sys::xsk_ring_prod__fill_addr(&raw mut ring, index) = next };
                        index = index.wrapping_add(1);
                        model.push_back(next);
                        next += 1;
                    }
                    // SAFETY: as above.
                    unsafe { libxdp_sys::xsk_ring_prod__submit(&raw mut ring, reserved) };
                }
                Step::Consume(count) => {
                    // SAFETY: the words are `memory`'s, and nobody holds a reference to them.
                    let (producer, consumer) = unsafe { (ring.producer.read_volatile(), ring.consumer.read_volatile()) };
                    prop_assert_eq!(producer.wrapping_sub(consumer) as usize, model.len());
                    let count = count.min(producer.wrapping_sub(consumer));
                    for i in 0..count {
                        let place = consumer.wrapping_add(i) & (size - 1);
                        // SAFETY: the place is masked to the ring's size.
                        let entry = unsafe { ring.ring.cast::<u64>().add(place as usize).read_volatile() };
                        prop_assert_eq!(Some(entry), model.pop_front());
                    }
                    // SAFETY: as above.
                    unsafe { ring.consumer.write_volatile(consumer.wrapping_add(count)) };
                }
            }
        }
    }

    /// We consume: the receive ring and the completion ring.
    #[test]
    fn what_the_kernel_puts_in_comes_out_in_order_also_across_the_wrap(bits in 0..6u32, start in start(), steps in steps()) {
        let size = 1 << bits;
        let mut memory = Memory::new(size, start);
        let mut ring = xsk_ring_cons {
            cached_prod: start,
            cached_cons: start,
            mask: memory.mask(),
            size,
            producer: &raw mut *memory.producer,
            consumer: &raw mut *memory.consumer,
            ring: memory.entries.as_mut_ptr().cast(),
            flags: ptr::null_mut(),
        };
        let mut model = VecDeque::new();
        // Entries that libxdp has seen: it looks for more only when it has none left.
        let mut seen = 0;
        let mut next = 0u64;
        for step in steps {
            match step {
                Step::Produce(count) => {
                    // SAFETY: the words are `memory`'s, and nobody holds a reference to them.
                    let (producer, consumer) = unsafe { (ring.producer.read_volatile(), ring.consumer.read_volatile()) };
                    let count = count.min(size - producer.wrapping_sub(consumer));
                    for i in 0..count {
                        let place = producer.wrapping_add(i) & (size - 1);
                        // SAFETY: the place is masked to the ring's size.
                        unsafe { ring.ring.cast::<u64>().add(place as usize).write_volatile(next) };
                        model.push_back(next);
                        next += 1;
                    }
                    // SAFETY: as above.
                    unsafe { ring.producer.write_volatile(producer.wrapping_add(count)) };
                }
                Step::Consume(count) => {
                    let mut index = 0;
                    if seen == 0 {
                        seen = model.len();
                    }
                    // SAFETY: the ring's pointers are to `memory`, which lives longer and which nobody else uses.
                    let found = unsafe { libxdp_sys::xsk_ring_cons__peek(&raw mut ring, count, &raw mut index) };
                    prop_assert_eq!(found as usize, (count as usize).min(seen));
                    seen -= found as usize;
                    for _ in 0..found {
                        // SAFETY: the index was peeked at; the function masks it.
                        let entry = unsafe { *libxdp_sys::xsk_ring_cons__comp_addr(&raw const ring, index) };
                        index = index.wrapping_add(1);
                        prop_assert_eq!(Some(entry), model.pop_front());
                    }
                    // SAFETY: as above.
                    unsafe { libxdp_sys::xsk_ring_cons__release(&raw mut ring, found) };
                }
            }
        }
    }
}
