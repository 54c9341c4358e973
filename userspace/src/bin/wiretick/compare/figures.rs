//! What pairs say: by how much the bypassed connection had each event earlier, and how often.
//!
//! In come [`Pair`]s, out go [`Figures`]. A difference is positive where the bypassed connection was first.

use hdrhistogram::Histogram;

use super::pairing::Pair;
use crate::output::latency_histogram;

/// A smaller difference, in nanoseconds, is a tie. Each side reads the clock, which takes about 25 ns and can fall before or
/// after other work of the core by as much again. Lower, and noise of the clock counts as wins; higher, and what a better
/// memory access gains is called nothing. Quantiles are of the differences as they are, ties included.
pub(super) const TIE_BELOW_NS: u64 = 100;

/// What is subtracted from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// Arrivals: the sender is taken to send both copies at once.
    Arrival,
    /// Latencies, each from its own copy's stamp to its arrival: right whenever the copies were sent.
    Latency,
}

impl Basis {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Latency => "latency",
        }
    }
}

/// Figures of pairs.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) basis: Basis,
    /// Pairs that the figures are of.
    pub(super) measured: u64,
    /// Pairs with a copy that came before its connection was in its mode, or during the warm-up.
    pub(super) early: u64,
    /// Pairs with a copy that has no stamp, or one from the future, where latencies are compared.
    pub(super) without_stamp: u64,
    pub(super) wins: u64,
    pub(super) ties: u64,
    pub(super) losses: u64,
    /// Kernel minus bypassed.
    pub(super) difference_ns: Signed,
    /// Send to event, of the very pairs that are compared.
    pub(super) kernel_ns: Histogram<u64>,
    pub(super) bypassed_ns: Histogram<u64>,
}

impl Figures {
    pub(super) fn new(basis: Basis) -> Self {
        Self {
            basis,
            measured: 0,
            early: 0,
            without_stamp: 0,
            wins: 0,
            ties: 0,
            losses: 0,
            difference_ns: Signed::new(),
            kernel_ns: latency_histogram(),
            bypassed_ns: latency_histogram(),
        }
    }

    pub(super) fn record(&mut self, pair: &Pair) {
        let Pair { kernel, bypassed } = pair;
        if !(kernel.measured && bypassed.measured) {
            self.early += 1;
            return;
        }
        let (kernel_ns, bypassed_ns) = match self.basis {
            Basis::Arrival => (kernel.at.as_nanos(), bypassed.at.as_nanos()),
            Basis::Latency => {
                let (Some(kernel_ns), Some(bypassed_ns)) = (kernel.latency_ns(), bypassed.latency_ns()) else {
                    self.without_stamp += 1;
                    return;
                };
                self.kernel_ns.saturating_record(kernel_ns.max(1));
                self.bypassed_ns.saturating_record(bypassed_ns.max(1));
                (kernel_ns, bypassed_ns)
            }
        };
        self.measured += 1;
        let earlier = bypassed_ns < kernel_ns;
        let apart = kernel_ns.abs_diff(bypassed_ns);
        match (apart < TIE_BELOW_NS, earlier) {
            (true, _) => self.ties += 1,
            (false, true) => self.wins += 1,
            (false, false) => self.losses += 1,
        }
        self.difference_ns.record(apart, earlier);
    }
}

/// A histogram of nanoseconds of either sign, to three significant digits.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    /// Magnitudes of what is below zero.
    negative: Histogram<u64>,
    zeros: u64,
    positive: Histogram<u64>,
}

impl Signed {
    fn new() -> Self {
        Self { negative: latency_histogram(), zeros: 0, positive: latency_histogram() }
    }

    fn record(&mut self, magnitude: u64, is_positive: bool) {
        match (magnitude, is_positive) {
            (0, _) => self.zeros += 1,
            (_, true) => self.positive.saturating_record(magnitude),
            (_, false) => self.negative.saturating_record(magnitude),
        }
    }

    fn len(&self) -> u64 {
        self.negative.len() + self.zeros + self.positive.len()
    }

    /// The smallest recorded value that is not below a share `q` of all, from 0 (the smallest) to 1 (the largest). `None`
    /// where nothing was recorded.
    pub(super) fn quantile(&self, q: f64) -> Option<i64> {
        if self.len() == 0 {
            return None;
        }
        let rank = ((q * self.len() as f64).ceil() as u64).clamp(1, self.len());
        let (below, level) = (self.negative.len(), self.negative.len() + self.zeros);
        Some(if rank <= below {
            // The smallest value has the largest magnitude.
            -at_rank(&self.negative, below - rank + 1)
        } else if rank <= level {
            0
        } else {
            at_rank(&self.positive, rank - level)
        })
    }
}

/// The value of the `rank`th smallest that was recorded, counted from 1.
fn at_rank(histogram: &Histogram<u64>, rank: u64) -> i64 {
    let mut seen = 0;
    for step in histogram.iter_recorded() {
        seen += step.count_since_last_iteration();
        if seen >= rank {
            return i64::try_from(step.value_iterated_to()).unwrap_or(i64::MAX);
        }
    }
    i64::try_from(histogram.max()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wiretick::floor::Time;

    use super::super::pairing::Sample;
    use super::*;
    use wiretick::event::Identity;

    fn sample(at_ns: u64, stamp_ns: Option<u64>) -> Sample {
        let (at, stamp) = (Time::from_nanos(at_ns), stamp_ns.map(Time::from_nanos));
        Sample { identity: Identity(1), at, stamp, measured: true }
    }

    #[test]
    fn who_had_it_earlier_wins_and_what_the_clock_cannot_tell_is_a_tie() {
        let mut figures = Figures::new(Basis::Arrival);
        for (kernel, bypassed) in [(5_000, 1_000), (1_000, 5_000), (1_000, 1_099), (1_000, 1_000), (1_100, 1_000)] {
            figures.record(&Pair { kernel: sample(kernel, None), bypassed: sample(bypassed, None) });
        }
        assert_eq!((figures.wins, figures.ties, figures.losses), (2, 2, 1));
        assert_eq!(figures.measured, 5);
        assert!(figures.kernel_ns.is_empty(), "arrivals say nothing of latency");
        let close = |q: f64, expected: i64| {
            let found = figures.difference_ns.quantile(q).unwrap();
            assert!((found - expected).abs() <= 4, "{found} is not {expected}");
        };
        close(0.0, -4_000);
        close(0.4, -99);
        close(0.5, 0);
        close(1.0, 4_000);
    }

    #[test]
    fn with_stamps_it_does_not_matter_when_the_copies_were_sent() {
        let mut figures = Figures::new(Basis::Latency);
        // The bypassed copy was sent, and so arrived, 5 ms later.
        let late = 5_000_000;
        figures.record(&Pair { kernel: sample(30_000, Some(0)), bypassed: sample(late + 10_000, Some(late)) });
        assert_eq!((figures.wins, figures.losses), (1, 0));
        assert_eq!((figures.kernel_ns.len(), figures.bypassed_ns.len()), (1, 1));
        let difference = figures.difference_ns.quantile(0.5).unwrap();
        assert!((difference - 20_000).abs() <= 20, "{difference}");
        figures.record(&Pair { kernel: sample(30_000, None), bypassed: sample(30_000, Some(0)) });
        figures.record(&Pair { kernel: sample(30_000, Some(30_001)), bypassed: sample(30_000, Some(0)) });
        let early = Sample { measured: false, ..sample(30_000, Some(0)) };
        figures.record(&Pair { kernel: sample(30_000, Some(0)), bypassed: early });
        assert_eq!((figures.measured, figures.without_stamp, figures.early), (1, 2, 1));
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(Figures::new(Basis::Arrival).difference_ns.quantile(0.5), None);
    }

    proptest! {
        #[test]
        fn quantiles_are_those_of_the_sorted_values(
            mut values in prop::collection::vec(prop_oneof![-300_i64..300, -50_000_000_i64..50_000_000], 1..300),
            q in 0.0_f64..=1.0,
        ) {
            let mut signed = Signed::new();
            values.iter().for_each(|value| signed.record(value.unsigned_abs(), *value > 0));
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let expected = values[rank - 1];
            let found = signed.quantile(q).unwrap();
            prop_assert!((found - expected).abs() <= expected.abs() / 1000 + 1, "{} is not {}", found, expected);
        }
    }
}
