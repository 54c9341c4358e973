//! What the project wants to reach, held against what was measured. Nothing here is typed in but the bounds: every verdict
//! is computed from the medians of one set of runs, or, where it is about instructions, from the committed counts, which
//! the continuous integration keeps true (`make instructions`).

use std::fmt;

use wiretick_testbed::client::Latency;

use crate::contender::Family;
use crate::load::Kind;
use crate::peers::{BEAST_AWAKE, PYTHON};
use crate::results::{ContenderResults, LoadResults, Results, Run};

/// The contender that the goals are about.
const SUBJECT: &str = "wiretick driver";

/// The rates at which the first goal is to be reached, and those of the third.
const PACED: [u64; 2] = [10_000, 50_000];
const TICK_TO_TRADE: [u64; 2] = [1_000, 10_000];

/// Bytes the exchange gathers for one write when it is saturated, and the share of writes that may find the socket full
/// while we still say that the sender is the limit.
const WRITE_BYTES: f64 = 65536.0;
const BLOCKED_SHARE: f64 = 0.1;

/// What a ratio has to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// One line of the list of goals.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Goal {
    /// As the goals are numbered.
    pub(crate) number: u8,
    /// What is compared, and where.
    pub(crate) what: String,
    pub(crate) bound: Bound,
    pub(crate) outcome: Outcome,
}

/// How a goal stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Ratio {
        ratio: f64,
        /// What the ratio is made of.
        from: String,
    },
    /// Why there is none.
    NotMeasured(String),
}

impl Goal {
    /// Whether it is met; `None` where it was not measured.
    pub(crate) fn is_met(&self) -> Option<bool> {
        match (&self.outcome, self.bound) {
            (Outcome::Ratio { ratio, .. }, Bound::AtMost(bound)) => Some(*ratio <= bound),
            (Outcome::Ratio { ratio, .. }, Bound::AtLeast(bound)) => Some(*ratio >= bound),
            (Outcome::NotMeasured(_), _) => None,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {bound:.2}"),
            Self::AtLeast(bound) => write!(f, "at least {bound:.2}"),
        }
    }
}

/// All goals, in their order.
pub(crate) fn evaluate(results: &Results) -> Vec<Goal> {
    let mut goals = Vec::new();
    for rate in PACED {
        let kind = Kind::Paced(rate);
        let p50 = |latency: &Latency| latency.p50;
        let mut latency = |what: &str, bound, of, rivals: &dyn Fn(&ContenderResults) -> bool| {
            goals.push(Goal {
                number: 1,
                what: format!("{what}, {rate} a second"),
                bound: Bound::AtMost(bound),
                outcome: latency_ratio(results, kind, of, rivals),
            });
        };
        latency("p50 / best client on the kernel's path", 0.50, p50, &is_on_kernel_path);
        latency("p99 / best client on the kernel's path", 0.60, |latency| latency.p99, &is_on_kernel_path);
        latency("p50 / Boost.Beast on a core kept awake", 0.12, p50, &|it| it.name == BEAST_AWAKE);
        latency("p50 / Python websockets", 0.05, p50, &|it| it.name == PYTHON);
    }
    goals.push(Goal {
        number: 2,
        what: "instructions from the frame taken from the ring to the handler / AEAD and decoding alone".to_owned(),
        bound: Bound::AtMost(1.3),
        outcome: counted(
            "path / from frame to handler, 1 in a record",
            "path / AEAD and decoding alone, 1 in a record",
        ),
    });
    for rate in TICK_TO_TRADE {
        goals.push(Goal {
            number: 3,
            what: format!("tick-to-trade p50 / best client on the kernel's path, {rate} a second"),
            bound: Bound::AtMost(0.50),
            outcome: latency_ratio(results, Kind::TickToTrade(rate), |latency| latency.p50, &is_on_kernel_path),
        });
    }
    goals.push(Goal {
        number: 4,
        what: "throughput / best peer, 16 frames a record, nothing lost".to_owned(),
        bound: Bound::AtLeast(1.5),
        outcome: throughput_ratio(results, Kind::Saturated(16)),
    });
    goals.push(Goal {
        number: 4,
        what: "1 frame a record: the sender is the limit (share of its writes that found the socket full)".to_owned(),
        bound: Bound::AtMost(BLOCKED_SHARE),
        outcome: blocked_share(results, Kind::Saturated(1)),
    });
    for (what, other) in
        [("the same event by simd-json", "by tape"), ("simd-json's tape, without an event", "tape alone")]
    {
        goals.push(Goal {
            number: 5,
            what: format!("instructions of the direct trade decoder / {what}"),
            bound: Bound::AtMost(0.25),
            outcome: counted("event / spot trade: direct", &format!("event / spot trade: {other}")),
        });
    }
    let burst = results.loads.iter().map(|at| at.load.kind).find(|kind| matches!(kind, Kind::LastOfBurst(_)));
    goals.push(Goal {
        number: 6,
        what: "last message of a captured burst, p50 / the same stages on the kernel's path".to_owned(),
        bound: Bound::AtMost(0.50),
        outcome: match burst {
            Some(kind) => latency_ratio(results, kind, |latency| latency.p50, &|it| it.family == Family::Kernel),
            None => Outcome::NotMeasured("no captured feeds".to_owned()),
        },
    });
    goals
}

/// A ratio of committed counts.
fn counted(count: &str, floor: &str) -> Outcome {
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/bench/INSTRUCTIONS.json")).unwrap_or_default();
    let figure = |name: &str| file["figures"][name].as_f64().filter(|figure| *figure > 0.0);
    match (figure(count), figure(floor)) {
        (Some(count), Some(floor)) => {
            Outcome::Ratio { ratio: count / floor, from: format!("{count:.0} / {floor:.0} instructions, as committed") }
        }
        _ => Outcome::NotMeasured("not among the committed counts".to_owned()),
    }
}

fn is_on_kernel_path(contender: &ContenderResults) -> bool {
    contender.family != Family::Bypass
}

/// The runs at a load with TLS, and the subject's among them. A subject that has failed in any round has reached nothing.
fn subject(results: &Results, kind: Kind) -> Result<(&LoadResults, &ContenderResults), String> {
    let at = results.loads.iter().find(|at| at.load.kind == kind && at.load.tls).ok_or("this load was not run")?;
    let subject = at.contender(SUBJECT).ok_or_else(|| format!("{SUBJECT} was not run"))?;
    match subject.failures.first() {
        Some(failure) => Err(format!("{SUBJECT} failed in round {}: {}", failure.round, failure.why)),
        None => Ok((at, subject)),
    }
}

/// The subject's figure, and the rivals' with the names, best first.
fn compared<'a>(
    at: &'a LoadResults,
    subject: &ContenderResults,
    figure: &dyn Fn(&Run) -> Option<f64>,
    is_rival: &dyn Fn(&ContenderResults) -> bool,
    is_better: fn(f64, f64) -> bool,
) -> Result<(f64, f64, &'a str), String> {
    let own = subject.median(figure).ok_or_else(|| format!("{SUBJECT} has no such figure"))?;
    let rivals = at.contenders.iter().filter(|it| is_rival(it));
    let figures = rivals.filter_map(|it| Some((it.median(figure)?, it.name.as_str())));
    let best = figures.reduce(|best, other| if is_better(other.0, best.0) { other } else { best });
    best.map(|(rival, name)| (own, rival, name)).ok_or_else(|| "nobody to compare with was measured".to_owned())
}

fn latency_ratio(
    results: &Results,
    kind: Kind,
    of: fn(&Latency) -> u64,
    is_rival: &dyn Fn(&ContenderResults) -> bool,
) -> Outcome {
    let ratio = subject(results, kind).and_then(|(at, subject)| {
        let (own, rival, name) = compared(at, subject, &at.latency_us(of), is_rival, |one, other| one < other)?;
        Ok(Outcome::Ratio { ratio: own / rival, from: format!("{own:.2} us / {rival:.2} us ({name})") })
    });
    ratio.unwrap_or_else(Outcome::NotMeasured)
}

fn throughput_ratio(results: &Results, kind: Kind) -> Outcome {
    let ratio = subject(results, kind).and_then(|(at, subject)| {
        let is_peer = |it: &ContenderResults| it.family == Family::Peer;
        let (own, rival, name) = compared(at, subject, &Run::throughput, &is_peer, |one, other| one > other)?;
        let from = format!("{:.2} M/s / {:.2} M/s ({name})", own / 1e6, rival / 1e6);
        Ok(Outcome::Ratio { ratio: own / rival, from })
    });
    ratio.unwrap_or_else(Outcome::NotMeasured)
}

fn blocked_share(results: &Results, kind: Kind) -> Outcome {
    let share = subject(results, kind).and_then(|(_, subject)| {
        let share = |run: &Run| {
            let writes = run.sender.wire_bytes as f64 / WRITE_BYTES;
            (writes > 0.0).then(|| run.sender.blocked as f64 / writes)
        };
        let ratio = subject.median(share).ok_or("nothing was sent")?;
        let rate = subject.median(Run::throughput).unwrap_or(f64::NAN) / 1e6;
        Ok(Outcome::Ratio { ratio, from: format!("at {rate:.2} M/s") })
    });
    share.unwrap_or_else(Outcome::NotMeasured)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::canned::{at, contender, fast, results, run};

    fn paced(driver_us: f64) -> Results {
        let runs = |us: f64| vec![run(us), run(us * 1.1), run(us * 0.9)];
        results(vec![at(
            Kind::Paced(10_000),
            vec![
                contender(SUBJECT, Family::Bypass, runs(driver_us)),
                contender("wiretick skb", Family::Bypass, runs(0.1)),
                contender("kernel spin", Family::Kernel, runs(5.7)),
                contender("boomnet", Family::Peer, runs(5.6)),
                contender(BEAST_AWAKE, Family::Peer, runs(22.0)),
                contender(PYTHON, Family::Peer, runs(70.0)),
            ],
        )])
    }

    #[test]
    fn the_best_on_the_kernels_path_is_the_measure_whoever_it_is() {
        let goals = evaluate(&paced(2.8));
        let Outcome::Ratio { ratio, from } = &goals[0].outcome else { panic!("{goals:?}") };
        assert!((ratio - 0.5).abs() < 1e-9);
        assert_eq!(from, "2.80 us / 5.60 us (boomnet)");
        assert_eq!(
            goals[..4].iter().map(Goal::is_met).collect::<Vec<_>>(),
            [Some(true), Some(true), Some(false), Some(true)]
        );
        assert_eq!(evaluate(&paced(2.9))[0].is_met(), Some(false));
    }

    #[test]
    fn what_was_not_run_is_neither_met_nor_missed() {
        let goals = evaluate(&paced(2.8));
        let by_runs = |goal: &&Goal| ![2, 5].contains(&goal.number);
        assert!(goals.iter().filter(by_runs).all(|goal| goal.number == 1 || goal.is_met().is_none()), "{goals:?}");
        assert_eq!(evaluate(&results(Vec::new())).iter().filter(by_runs).filter_map(Goal::is_met).count(), 0);
        assert_eq!(goals.iter().map(|goal| goal.number).collect::<std::collections::BTreeSet<_>>(), (1..=6).collect());
    }

    #[test]
    fn the_committed_counts_have_what_the_goals_are_about() {
        let goals = evaluate(&results(Vec::new()));
        let counted: Vec<_> = goals.iter().filter(|goal| [2, 5].contains(&goal.number)).collect();
        assert!(counted.len() == 3 && counted.iter().all(|goal| goal.is_met().is_some()), "{counted:?}");
        let floor = "path / AEAD and decoding alone, 1 in a record";
        assert!(matches!(super::counted("no such figure", floor), Outcome::NotMeasured(_)));
    }

    #[test]
    fn a_failed_round_is_no_success() {
        let mut results = paced(2.8);
        let why = "3 of 5 messages arrived".to_owned();
        results.loads[0].contenders[0].failures.push(crate::results::Failure { round: 2, why });
        let Outcome::NotMeasured(why) = &evaluate(&results)[0].outcome else { panic!() };
        assert_eq!(why, "wiretick driver failed in round 2: 3 of 5 messages arrived");
    }

    #[test]
    fn throughput_is_held_against_the_best_peer() {
        let mut driver = fast(3e6);
        (driver.sender.blocked, driver.sender.wire_bytes) = (5, 65536 * 100);
        let contenders = || {
            vec![
                contender(SUBJECT, Family::Bypass, vec![driver.clone()]),
                contender("kernel spin", Family::Kernel, vec![fast(9e6)]),
                contender("beast", Family::Peer, vec![fast(1.5e6)]),
                contender("boomnet", Family::Peer, vec![fast(2e6)]),
            ]
        };
        let goals =
            evaluate(&results(vec![at(Kind::Saturated(16), contenders()), at(Kind::Saturated(1), contenders())]));
        let fourth: Vec<_> = goals.iter().filter(|goal| goal.number == 4).collect();
        assert_eq!(fourth[0].is_met(), Some(true));
        assert_eq!(fourth[0].outcome, Outcome::Ratio { ratio: 1.5, from: "3.00 M/s / 2.00 M/s (boomnet)".into() });
        assert_eq!(fourth[1].outcome, Outcome::Ratio { ratio: 0.05, from: "at 3.00 M/s".into() });
    }
}
