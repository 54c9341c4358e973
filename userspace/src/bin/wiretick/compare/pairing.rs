//! Finds the two copies of each event, in whatever order they come.
//!
//! In come [`Sample`]s of both connections, those of one connection in their order; out go [`Pair`]s, and the number of
//! samples that stayed alone. No clock, no thread: time is what the samples say.
//!
//! A copy waits for its twin under its identity. Where an identity comes again while a copy of it waits, the copies pair
//! in their order. A copy is given up when the other connection has gone past it by more than [`PATIENCE`], or when too
//! many have come behind it; memory is bounded by that.
//!
//! Limits: where a payload without ids repeats within [`PATIENCE`] and the two streams began at different messages, it pairs
//! with a copy from another time. [`Paired::repeats`] tells when that can be.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use wiretick::floor::Time;

use wiretick::event::Identity;

/// How far the other connection may get past a copy that still waits. Lower, and a stall of one connection takes messages
/// apart; higher, and heartbeats with the same payload pair with another one's twin.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Samples of one connection that are remembered, from the oldest that waits to the newest; 24 bytes each, and some 100 for
/// each that waits. Lower, and one copy that stays alone costs others their place at a high rate (65,000 a second for
/// [`PATIENCE`]); higher, and a feed whose copies never match takes more than the 35 MB that two times this much make.
pub(super) const REMEMBERED: usize = 1 << 17;

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Kernel,
    Bypassed,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Kernel, Self::Bypassed];

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Kernel => Self::Bypassed,
            Self::Bypassed => Self::Kernel,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Bypassed => "bypassed",
        }
    }

    /// The option that names its core.
    pub(super) const fn core_option(self) -> &'static str {
        match self {
            Self::Kernel => "--compare-core",
            Self::Bypassed => "--core",
        }
    }
}

/// A message as one connection had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) identity: Identity,
    /// When its event reached the handler.
    pub(super) at: Time,
    /// When it was sent, by its own account.
    pub(super) stamp: Option<Time>,
    /// The connection was where it is to stay, and warm.
    pub(super) measured: bool,
}

impl Sample {
    /// From the stamp to the event. `None` where there is no stamp, or one from the future.
    pub(super) fn latency_ns(&self) -> Option<u64> {
        self.at.as_nanos().checked_sub(self.stamp?.as_nanos())
    }
}

/// Both copies of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) kernel: Sample,
    pub(super) bypassed: Sample,
}

/// Samples of one connection that found no twin, by where in the stream they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Alone {
    /// Before the first that found one: this connection's stream began earlier.
    pub(crate) at_start: u64,
    /// Between two that did: a message that the other connection has not got, not in time, or that could not be noted.
    pub(crate) between: u64,
    /// Behind the last that did: this connection's stream ended later.
    pub(crate) at_end: u64,
}

/// What became of all samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Paired {
    pub(super) pairs: u64,
    /// Samples that came while an earlier one of the same identity and side still waited.
    pub(super) repeats: u64,
    pub(super) kernel: Alone,
    pub(super) bypassed: Alone,
}

/// Finds pairs.
#[derive(Debug)]
pub(super) struct Pairing {
    /// Copies that wait, oldest first. Those of one identity are all of one side: they would have paired otherwise.
    waiting: HashMap<Identity, (Side, VecDeque<(u64, Sample)>)>,
    kernel: Column,
    bypassed: Column,
    pairs: u64,
    repeats: u64,
    remembered: usize,
}

/// One connection's part.
#[derive(Debug, Default)]
struct Column {
    /// The number of the next sample.
    next: u64,
    /// Samples from the oldest that waits on, whether they wait themselves or not.
    order: VecDeque<(u64, Identity, Time)>,
    /// The numbers of the first and the last that found a twin.
    paired: Option<(u64, u64)>,
    /// Given up since the last that found a twin.
    behind_last: u64,
    alone: Alone,
}

impl Column {
    fn pair(&mut self, number: u64) {
        let (first, last) = self.paired.get_or_insert((number, number));
        *first = (*first).min(number);
        if number > *last {
            *last = number;
            // Whatever was given up so far was older than anything that still waited, so it lies before this one.
            self.alone.between += std::mem::take(&mut self.behind_last);
        }
    }

    fn give_up(&mut self, number: u64) {
        match self.paired {
            None => self.alone.at_start += 1,
            Some((first, _)) if number < first => self.alone.at_start += 1,
            Some((_, last)) if number < last => self.alone.between += 1,
            Some(_) => self.behind_last += 1,
        }
    }
}

impl Pairing {
    pub(super) fn new() -> Self {
        Self::remembering(REMEMBERED)
    }

    fn remembering(remembered: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            kernel: Column::default(),
            bypassed: Column::default(),
            pairs: 0,
            repeats: 0,
            remembered,
        }
    }

    fn column(&mut self, side: Side) -> &mut Column {
        match side {
            Side::Kernel => &mut self.kernel,
            Side::Bypassed => &mut self.bypassed,
        }
    }

    /// Takes the next sample of one connection. Answers the pair that it completes.
    pub(super) fn push(&mut self, side: Side, sample: Sample) -> Option<Pair> {
        self.tidy(side.other(), Some(sample.at));
        let number = self.column(side).next;
        self.column(side).next += 1;
        if let Some((waits, queue)) = self.waiting.get_mut(&sample.identity) {
            if *waits == side {
                self.repeats += 1;
            } else if let Some((twins_number, twin)) = queue.pop_front() {
                if queue.is_empty() {
                    self.waiting.remove(&sample.identity);
                }
                self.pairs += 1;
                self.column(side).pair(number);
                self.column(side.other()).pair(twins_number);
                return Some(match side {
                    Side::Kernel => Pair { kernel: sample, bypassed: twin },
                    Side::Bypassed => Pair { kernel: twin, bypassed: sample },
                });
            }
        }
        self.tidy(side, None);
        let remembered = self.remembered;
        while self.column(side).order.len() >= remembered {
            self.give_up_oldest(side);
        }
        self.column(side).order.push_back((number, sample.identity, sample.at));
        let (_, queue) = self.waiting.entry(sample.identity).or_insert_with(|| (side, VecDeque::with_capacity(1)));
        queue.push_back((number, sample));
        None
    }

    /// Forgets the oldest of one side as long as they wait no more; and, where the other side is told to have got to
    /// `other_at`, those that are overdue.
    fn tidy(&mut self, side: Side, other_at: Option<Time>) {
        while let Some((number, identity, at)) = self.column(side).order.front().copied() {
            let overdue = other_at.is_some_and(|other_at| at + PATIENCE < other_at);
            if self.waits(side, number, identity) && !overdue {
                return;
            }
            self.give_up_oldest(side);
        }
    }

    /// Forgets the oldest of one side, and counts it where it still waited.
    fn give_up_oldest(&mut self, side: Side) {
        let Some((number, identity, _)) = self.column(side).order.pop_front() else { return };
        if !self.waits(side, number, identity) {
            return;
        }
        if let Some((_, queue)) = self.waiting.get_mut(&identity) {
            queue.pop_front();
            if queue.is_empty() {
                self.waiting.remove(&identity);
            }
        }
        self.column(side).give_up(number);
    }

    /// Whether the oldest of one side waits: then it is the first of those that wait under its identity.
    fn waits(&self, side: Side, number: u64, identity: Identity) -> bool {
        let Some((waits, queue)) = self.waiting.get(&identity) else { return false };
        *waits == side && queue.front().is_some_and(|(first, _)| *first == number)
    }

    /// Nothing more comes: whatever still waits stays alone.
    pub(super) fn finish(mut self) -> Paired {
        for side in Side::BOTH {
            while !self.column(side).order.is_empty() {
                self.give_up_oldest(side);
            }
            let column = self.column(side);
            column.alone.at_end += column.behind_last;
        }
        Paired { pairs: self.pairs, repeats: self.repeats, kernel: self.kernel.alone, bypassed: self.bypassed.alone }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(identity: u64, at_ns: u64) -> Sample {
        Sample { identity: Identity(identity), at: Time::from_nanos(at_ns), stamp: None, measured: true }
    }

    /// Plays one connection's identities against the other's: true in `turns` takes the next of the kernel's.
    fn play(
        pairing: &mut Pairing,
        kernel: &[u64],
        bypassed: &[u64],
        turns: impl IntoIterator<Item = bool>,
    ) -> Vec<Pair> {
        let (mut kernel, mut bypassed) = (kernel.iter(), bypassed.iter());
        let mut pairs = Vec::new();
        let mut at_ns = 0;
        let mut push = |side, identity: Option<&u64>| {
            at_ns += 1;
            pairs.extend(identity.and_then(|identity| pairing.push(side, sample(*identity, at_ns))));
        };
        for turn in turns {
            if turn { push(Side::Kernel, kernel.next()) } else { push(Side::Bypassed, bypassed.next()) }
        }
        kernel.for_each(|identity| push(Side::Kernel, Some(identity)));
        bypassed.for_each(|identity| push(Side::Bypassed, Some(identity)));
        pairs
    }

    fn alone(at_start: u64, between: u64, at_end: u64) -> Alone {
        Alone { at_start, between, at_end }
    }

    #[test]
    fn streams_that_begin_and_end_at_different_messages() {
        let mut pairing = Pairing::new();
        let kernel: Vec<u64> = (0..100).collect();
        let bypassed: Vec<u64> = (10..120).filter(|identity| *identity != 50).collect();
        let pairs = play(&mut pairing, &kernel, &bypassed, []);
        assert_eq!(pairs.len(), 89);
        let paired = pairing.finish();
        assert_eq!(paired.kernel, alone(10, 1, 0));
        assert_eq!(paired.bypassed, alone(0, 0, 20));
        assert_eq!((paired.pairs, paired.repeats), (89, 0));
    }

    #[test]
    fn a_copy_is_given_up_when_the_other_connection_is_past_it_and_not_before() {
        let mut pairing = Pairing::new();
        let patience_ns = u64::try_from(PATIENCE.as_nanos()).unwrap();
        assert_eq!(pairing.push(Side::Kernel, sample(1, 0)), None);
        // Its own connection may go on as long as it likes: the twin may be on its way.
        assert_eq!(pairing.push(Side::Kernel, sample(2, 10 * patience_ns)), None);
        assert_eq!(pairing.push(Side::Bypassed, sample(3, patience_ns)), None);
        assert!(pairing.push(Side::Bypassed, sample(1, patience_ns)).is_some());
        assert_eq!(pairing.push(Side::Bypassed, sample(4, 11 * patience_ns + 1)), None);
        assert_eq!(pairing.push(Side::Bypassed, sample(2, 11 * patience_ns + 2)), None, "it has been given up");
        let paired = pairing.finish();
        assert_eq!(paired.kernel, alone(0, 0, 1));
        assert_eq!(paired.bypassed, alone(1, 0, 2));
    }

    #[test]
    fn a_heartbeat_pairs_with_its_own_twin_once_the_first_is_overdue() {
        let mut pairing = Pairing::new();
        let beat = |n: u64| n * 3_000_000_000;
        // The kernel connection was there for one beat more.
        assert_eq!(pairing.push(Side::Kernel, sample(7, beat(0))), None);
        for n in 1..5 {
            assert_eq!(pairing.push(Side::Bypassed, sample(7, beat(n))), None);
            let pair = pairing.push(Side::Kernel, sample(7, beat(n) + 20)).unwrap();
            assert_eq!(pair.kernel.at.since(pair.bypassed.at), Duration::from_nanos(20));
        }
        assert_eq!(pairing.finish().kernel, alone(1, 0, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let mut pairing = Pairing::remembering(4);
        let identities: Vec<u64> = (0..10).collect();
        assert!(play(&mut pairing, &identities, &[], []).is_empty());
        assert_eq!((pairing.waiting.len(), pairing.kernel.order.len()), (4, 4));
        assert_eq!(play(&mut pairing, &[], &identities, []).len(), 4);
        assert!(pairing.waiting.len() <= 4 && pairing.bypassed.order.len() <= 4);
        let paired = pairing.finish();
        assert_eq!((paired.kernel, paired.bypassed), (alone(6, 0, 0), alone(6, 0, 0)));
    }

    #[test]
    fn one_that_stays_alone_does_not_let_the_others_pile_up() {
        let mut pairing = Pairing::remembering(100);
        for n in 0..10_000 {
            // Every hundredth is the kernel's alone.
            assert_eq!(pairing.push(Side::Kernel, sample(n, n)), None);
            if n % 100 != 0 {
                assert!(pairing.push(Side::Bypassed, sample(n, n)).is_some());
            }
            assert!(pairing.kernel.order.len() <= 100 && pairing.waiting.len() <= 2);
        }
        assert_eq!(pairing.finish().kernel, alone(1, 99, 0));
    }

    proptest! {
        /// Any two streams of few identities, in any order: nothing is counted twice or not at all, copies of one identity
        /// pair in their order, and as many pair as can.
        #[test]
        fn every_sample_is_in_one_pair_or_alone(
            kernel in prop::collection::vec(0_u64..20, 0..200),
            bypassed in prop::collection::vec(0_u64..20, 0..200),
            turns in prop::collection::vec(any::<bool>(), 0..400),
        ) {
            let mut pairing = Pairing::new();
            let pairs = play(&mut pairing, &kernel, &bypassed, turns);
            let paired = pairing.finish();
            let count = |all: &[u64], identity| all.iter().filter(|it| **it == identity).count();
            let expected: usize = (0..20).map(|id| count(&kernel, id).min(count(&bypassed, id))).sum();
            prop_assert_eq!(pairs.len(), expected);
            prop_assert_eq!(paired.pairs, pairs.len() as u64);
            let sum = |alone: Alone| (alone.at_start + alone.between + alone.at_end) as usize;
            prop_assert_eq!(sum(paired.kernel), kernel.len() - expected);
            prop_assert_eq!(sum(paired.bypassed), bypassed.len() - expected);
            for identity in 0..20 {
                let of_one: Vec<_> = pairs.iter().filter(|pair| pair.kernel.identity == Identity(identity)).collect();
                prop_assert!(of_one.iter().all(|pair| pair.bypassed.identity == Identity(identity)));
                prop_assert!(of_one.is_sorted_by(|a, b| a.kernel.at < b.kernel.at && a.bypassed.at < b.bypassed.at));
            }
        }

        /// A window of one stream against another window of it, in any order: exactly what they share is paired, and what
        /// each has more is at its start and its end.
        #[test]
        fn two_windows_of_one_stream(
            first in 0_u64..50, len in 0_u64..100, other_first in 0_u64..50, other_len in 0_u64..100,
            turns in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let (last, other_last) = (first + len, other_first + other_len);
            let (begin, end) = (first.max(other_first), last.min(other_last));
            prop_assume!(begin < end);
            let mut pairing = Pairing::new();
            let streams = [first..last, other_first..other_last].map(Vec::from_iter);
            let pairs = play(&mut pairing, &streams[0], &streams[1], turns);
            prop_assert_eq!(pairs.len() as u64, end - begin);
            let paired = pairing.finish();
            prop_assert_eq!(paired.kernel, alone(begin - first, 0, last - end));
            prop_assert_eq!(paired.bypassed, alone(begin - other_first, 0, other_last - end));
        }

        /// However little is remembered, nothing disappears and the bound holds.
        #[test]
        fn eviction_is_counted(
            kernel in prop::collection::vec(0_u64..50, 0..200),
            bypassed in prop::collection::vec(0_u64..50, 0..200),
            turns in prop::collection::vec(any::<bool>(), 0..400),
            remembered in 1_usize..20,
        ) {
            let mut pairing = Pairing::remembering(remembered);
            let pairs = play(&mut pairing, &kernel, &bypassed, turns).len();
            prop_assert!(pairing.kernel.order.len() <= remembered && pairing.bypassed.order.len() <= remembered);
            prop_assert!(pairing.waiting.len() <= 2 * remembered);
            let paired = pairing.finish();
            let sum = |alone: Alone| (alone.at_start + alone.between + alone.at_end) as usize;
            prop_assert_eq!(sum(paired.kernel), kernel.len() - pairs);
            prop_assert_eq!(sum(paired.bypassed), bypassed.len() - pairs);
        }
    }
}
