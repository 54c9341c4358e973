//! The whole path over a ring in memory: frames lie in UMEM's twin as the kernel would have put them there, and one turn
//! of the lane takes them up to the handler. Beside it the floor of goal 2: AEAD and decoding of the same bytes, alone.
//!
//! Two figures. *To the handler* is what a message waits for: from its frame, taken from the ring, to the handler. *The
//! whole turn* is that and everything after it: smoltcp's share of the segment, acknowledgements (into the ring in memory,
//! which allocates where the real one does not), frames given back, timers.

#[path = "../../../userspace/tests/memory/mod.rs"]
mod memory;

use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) use memory::World;
use memory::{Manners, Setup};
use wiretick::event::Event;
use wiretick::path::{Context, Handler, Mark};

use crate::record::{SUITE, aead_and_direct, aead_and_tape};
use crate::{Bench, Shape, Work};

pub(crate) const GROUP: &str = "path";
pub(crate) const TO_HANDLER: &str = "from frame to handler, 1 in a record";
pub(crate) const TURN: &str = "whole turn, 1 in a record";
/// The name of a benchmark that all readings of the clock in the first of [`GOAL`](crate::GOAL) cost.
pub const CLOCK: &str = "the clock, one reading";

pub(crate) fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    for (name, shape) in Shape::ALL {
        let floor = format!("AEAD and decoding alone, {name}");
        benches.push(Bench::new(GROUP, floor.clone(), move || aead_and_direct(shape)));
        benches
            .push(Bench::new(GROUP, format!("AEAD and simd-json's tape alone, {name}"), move || aead_and_tape(shape)));
        if shape == Shape::ONE {
            // One message at a time: its frames are counted by marks (`instructions`), not as a batch.
            let to_handler = move || Turns::new(shape, true);
            benches.push(Bench::new(GROUP, TO_HANDLER, to_handler).beside(floor.clone()).only_timed());
            benches.push(Bench::new(GROUP, CLOCK, || Clock).only_timed());
        }
        benches.push(Bench::new(GROUP, format!("whole turn, {name}"), move || Turns::new(shape, false)).beside(floor));
    }
    benches
}

pub(crate) fn alone() -> [Bench; 2] {
    let floor = "AEAD and decoding alone";
    [
        Bench::new(GROUP, "from frame to handler", || Turns::new(Shape::ALONE, true)).beside(floor).only_timed(),
        Bench::new(GROUP, floor, || aead_and_direct(Shape::ALONE)),
    ]
}

/// An open connection to an exchange in memory.
pub(crate) fn opened(tls: bool, handler: &mut impl Handler) -> World {
    let mut world = World::new(Setup { manners: Manners { tls, ..Manners::default() }, ..Setup::default() });
    world
        .until(handler, Duration::from_secs(5), |world| world.connection().path().is_open())
        .expect("a connection that opens");
    if tls {
        assert_eq!(world.connection().path().tls().map(|facts| facts.suite), Some(SUITE));
    }
    world
}

/// Batches of trades, each batch one turn.
pub(crate) struct Turns {
    world: World,
    shape: Shape,
    sent: u64,
    counter: Counter,
    stopwatch: Option<Stopwatch>,
}

impl Turns {
    fn new(shape: Shape, stopwatch: bool) -> Self {
        let world = opened(true, &mut Counter::default());
        let stopwatch = stopwatch.then(Stopwatch::default);
        Self { world, shape, sent: 0, counter: Counter::default(), stopwatch }
    }

    /// Sends the next batch and lets it arrive.
    fn send(&mut self) {
        let Shape { frames, records } = self.shape;
        let first = self.sent;
        let records: Vec<Vec<String>> = (0..records)
            .map(|record| (0..frames).map(|frame| crate::trade(first + record * frames + frame)).collect())
            .collect();
        self.world.burst(&records);
        self.sent += self.shape.messages();
    }
}

impl Work for Turns {
    fn prepare(&mut self) {
        let seen = self.stopwatch.as_ref().map_or(self.counter.events, |stopwatch| stopwatch.events);
        assert_eq!(seen, self.sent, "a message did not come within its turn");
        if self.shape == Shape::ONE {
            let report = self.world.connection().report();
            assert_eq!(report.path.opener.records_joined, 0, "one message, one record, one segment");
        }
        self.send();
    }

    fn run(&mut self) {
        let turned = match &mut self.stopwatch {
            Some(stopwatch) => {
                stopwatch.total = Duration::ZERO;
                self.world.turn(stopwatch)
            }
            None => self.world.turn(&mut self.counter),
        };
        turned.expect("the lane goes on");
    }

    fn messages(&self) -> u64 {
        self.shape.messages()
    }

    fn took(&self) -> Option<Duration> {
        self.stopwatch.as_ref().map(|stopwatch| stopwatch.total)
    }
}

/// Counts events.
#[derive(Default)]
struct Counter {
    events: u64,
}

impl Handler for Counter {
    fn event(&mut self, event: &Event<'_>, _: &mut Context<'_, '_>) {
        black_box(event);
        self.events += 1;
    }
}

/// Adds up the times from frame to handler. Each has one reading of the clock in it.
struct Stopwatch {
    taken: Instant,
    total: Duration,
    events: u64,
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self { taken: Instant::now(), total: Duration::ZERO, events: 0 }
    }
}

impl Handler for Stopwatch {
    fn event(&mut self, event: &Event<'_>, _: &mut Context<'_, '_>) {
        self.total += self.taken.elapsed();
        black_box(event);
        self.events += 1;
    }

    fn mark(&mut self, mark: Mark) {
        if matches!(mark, Mark::Frame { .. }) {
            self.taken = Instant::now();
        }
    }
}

struct Clock;

impl Work for Clock {
    fn run(&mut self) {
        for _ in 0..self.messages() {
            black_box(Instant::now());
        }
    }

    fn messages(&self) -> u64 {
        32
    }
}

/// Lets so many batches of trades through, and calls `taken` whenever a frame is taken up and `called` whenever the handler
/// is called: for who counts what happens between the two.
pub fn between(batches: u64, taken: fn(), called: fn()) {
    struct Calls(fn(), fn());
    impl Handler for Calls {
        fn event(&mut self, event: &Event<'_>, _: &mut Context<'_, '_>) {
            self.1();
            black_box(event);
        }

        fn mark(&mut self, mark: Mark) {
            if matches!(mark, Mark::Frame { .. }) {
                self.0();
            }
        }
    }
    let mut turns = Turns::new(Shape::ONE, false);
    // Buffers grow, code is linked on its first call.
    for _ in 0..8 {
        turns.prepare();
        turns.run();
    }
    for _ in 0..batches {
        turns.send();
        turns.world.turn(&mut Calls(taken, called)).expect("the lane goes on");
    }
}
