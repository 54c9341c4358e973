//! What the benchmarks measure: each stage and, beside it, its floor (the least that could do it) on the same bytes.
//!
//! `stages` takes the time of these works, `instructions` counts them. Both treat a work alike: [`Work::prepare`] makes a
//! batch of input, which does not count, and [`Work::run`] handles the batch, which does. That is how records can be
//! measured that opening destroys: each batch is sealed anew under the next sequence numbers.
//!
//! A batch was written a moment before it is handled, so its bytes lie in the caches, as they do behind a NIC that writes
//! into the last-level cache (DDIO) or closer. What memory that is further away would add is not in any figure.

mod checksum;
mod event;
mod message;
mod messages;
mod path;
mod record;
mod relay;

use std::time::Duration;

use wiretick::floor::Span;

pub use messages::{Shape, trade};
pub use path::{CLOCK, between};
pub use record::SUITE;

/// One thing to measure.
pub trait Work {
    /// Makes the next batch of input.
    fn prepare(&mut self) {}

    /// Handles the batch.
    fn run(&mut self);

    /// Messages in a batch: figures are per message.
    fn messages(&self) -> u64;

    /// What the last run says it took, for a work that looks at the clock itself.
    fn took(&self) -> Option<Duration> {
        None
    }
}

/// A work with its name.
pub struct Bench {
    /// The stage.
    pub group: &'static str,
    /// What is done to which bytes.
    pub name: String,
    /// The name of the floor, in the same group.
    pub floor: Option<String>,
    /// Whether its instructions can be counted: one thread, and the same number every time.
    pub counted: bool,
    make: Box<dyn Fn() -> Box<dyn Work> + Send + Sync>,
}

impl Bench {
    fn new<W, F>(group: &'static str, name: impl Into<String>, make: F) -> Self
    where
        W: Work + 'static,
        F: Fn() -> W + Send + Sync + 'static,
    {
        Self { group, name: name.into(), floor: None, counted: true, make: Box::new(move || Box::new(make())) }
    }

    fn beside(self, floor: impl Into<String>) -> Self {
        Self { floor: Some(floor.into()), ..self }
    }

    fn only_timed(self) -> Self {
        Self { counted: false, ..self }
    }

    /// Sets the work up.
    pub fn make(&self) -> Box<dyn Work> {
        (self.make)()
    }
}

/// Everything there is to measure, in the order of the stages.
pub fn all() -> Vec<Bench> {
    [checksum::benches(), record::benches(), message::benches(), event::benches(), relay::benches(), path::benches()]
        .into_iter()
        .flatten()
        .collect()
}

/// One message by itself, for who asks what it takes after a pause: the whole way to the handler, and its floor.
pub fn alone() -> [Bench; 2] {
    path::alone()
}

/// The group of the works that goal 2 is about.
pub const PATH: &str = path::GROUP;
/// What goal 2 is measured by: the way to the handler, and the whole turn of the lane.
pub const GOAL: [&str; 2] = [path::TO_HANDLER, path::TURN];
/// Goal 2: so many times the floor.
pub const GOAL_RATIO: f64 = 1.3;

/// Bytes with a span's padding behind them.
#[derive(Clone, Debug, Default)]
pub struct Padded {
    bytes: Vec<u8>,
    len: usize,
}

impl Padded {
    fn new(bytes: &[u8]) -> Self {
        let mut padded = Self::default();
        padded.set(bytes);
        padded
    }

    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        self.len = bytes.len();
        self.bytes.resize(self.len + Span::PAD, 0);
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn span(&mut self) -> Span<'_> {
        Span::new(&mut self.bytes, self.len)
    }
}

/// A work that leaves its input as it was: the same batch again and again.
struct Repeat<F> {
    inputs: Vec<Padded>,
    messages_each: u64,
    each: F,
}

impl<F: FnMut(&mut Padded)> Repeat<F> {
    fn new(inputs: Vec<Padded>, messages_each: u64, each: F) -> Self {
        Self { inputs, messages_each, each }
    }
}

impl<F: FnMut(&mut Padded)> Work for Repeat<F> {
    fn run(&mut self) {
        for input in &mut self.inputs {
            (self.each)(std::hint::black_box(input));
        }
    }

    fn messages(&self) -> u64 {
        self.inputs.len() as u64 * self.messages_each
    }
}
