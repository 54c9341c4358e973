//! What the runs have brought: as they are kept in JSON, and the figures that are read off them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wiretick::timing::Stage;
use wiretick_testbed::client::{Latency, Summary};
use wiretick_testbed::exchange::Report;
use wiretick_testbed::machine::Machine;

use crate::contender::Family;
use crate::load::{Kind, Load};

/// All runs, and what is needed to make them again.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The command that makes them.
    pub(crate) command: String,
    pub(crate) rounds: u32,
    /// When the last run ended, RFC 3339, and how long all of them took.
    pub(crate) finished: String,
    pub(crate) took_s: u64,
    /// The share of the processors' time, from 0 to 1, that the hypervisor took for others meanwhile.
    #[serde(default)]
    pub(crate) stolen: Option<f64>,
    /// What each contender is made of.
    pub(crate) versions: BTreeMap<String, BTreeMap<String, String>>,
    /// What was not measured, by name, and why.
    pub(crate) skipped: Vec<Skipped>,
    pub(crate) loads: Vec<LoadResults>,
}

/// Something that was not measured.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// The runs at one load.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LoadResults {
    pub(crate) load: Load,
    pub(crate) contenders: Vec<ContenderResults>,
}

/// The runs of one contender at one load, by round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ContenderResults {
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) runs: Vec<Run>,
    /// Rounds in which two attempts brought no figure.
    pub(crate) failures: Vec<Failure>,
}

/// A round without a figure.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Failure {
    /// From 1.
    pub(crate) round: u32,
    pub(crate) why: String,
}

/// What one run has brought.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Run {
    /// The client's figures.
    pub(crate) client: Summary,
    /// The exchange's.
    pub(crate) sender: Sender,
}

/// What the exchange has to say about a run.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Sender {
    /// Writes that began more than 50 us after they were due: the machine was busy elsewhere.
    pub(crate) late: u64,
    /// How long after they were due writes began, in nanoseconds.
    pub(crate) lateness_ns_p50: u64,
    pub(crate) lateness_ns_p99: u64,
    pub(crate) lateness_ns_max: u64,
    /// Times at which the socket was full: the client or its window was the limit.
    pub(crate) blocked: u64,
    /// Bytes the socket took.
    pub(crate) wire_bytes: u64,
    /// From the send of a message to the receipt of its answer.
    pub(crate) echo_ns: Option<Latency>,
}

impl Sender {
    pub(crate) fn new(report: &Report) -> Self {
        let (late, echo) = (&report.lateness_ns, &report.echo_ns);
        let latency = || Latency {
            count: echo.len(),
            min: echo.min(),
            mean: echo.mean(),
            p50: echo.value_at_quantile(0.5),
            p90: echo.value_at_quantile(0.9),
            p99: echo.value_at_quantile(0.99),
            p999: echo.value_at_quantile(0.999),
            max: echo.max(),
        };
        Self {
            late: report.late,
            lateness_ns_p50: late.value_at_quantile(0.5),
            lateness_ns_p99: late.value_at_quantile(0.99),
            lateness_ns_max: late.max(),
            blocked: report.blocked,
            wire_bytes: report.wire_bytes,
            echo_ns: (!echo.is_empty()).then(latency),
        }
    }
}

/// A figure over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// Of an even number of rounds the lower of the two in the middle: a figure that was measured.
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of these; `None` where there are none.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (least, greatest) = (*figures.first()?, *figures.last()?);
        Some(Self { median: figures[(figures.len() - 1) / 2], least, greatest })
    }
}

impl LoadResults {
    /// A figure of the latency that this load is about, in microseconds.
    pub(crate) fn latency_us(&self, of: fn(&Latency) -> u64) -> impl Fn(&Run) -> Option<f64> + use<> {
        let is_echo = matches!(self.load.kind, Kind::TickToTrade(_));
        move |run| {
            let latency = if is_echo { run.sender.echo_ns } else { run.client.latency_ns };
            latency.map(|latency| of(&latency) as f64 / 1e3)
        }
    }

    /// A contender's runs at this load.
    pub(crate) fn contender(&self, name: &str) -> Option<&ContenderResults> {
        self.contenders.iter().find(|contender| contender.name == name)
    }
}

impl Results {
    /// The share of messages that the exchange began to send more than 50 us late, where it had a schedule it can keep: what
    /// the machine did beside the measurement. `None` where there was no such load.
    pub(crate) fn disturbance(&self) -> Option<f64> {
        let has_schedule =
            |at: &&LoadResults| matches!(at.load.kind, Kind::Paced(_) | Kind::Stages(_) | Kind::TickToTrade(_));
        let runs = self.loads.iter().filter(has_schedule).flat_map(|at| &at.contenders).flat_map(|it| &it.runs);
        let (late, sent) = runs.fold((0, 0), |(late, sent), run| (late + run.sender.late, sent + run.client.messages));
        (sent > 0).then(|| late as f64 / sent as f64)
    }
}

impl Run {
    /// A figure of one stage, in nanoseconds.
    pub(crate) fn stage_ns(&self, stage: Stage, of: fn(&Latency) -> u64) -> Option<f64> {
        let stages = self.client.stages_ns.as_ref()?;
        stages.get(stage.name()).map(|latency| of(latency) as f64)
    }

    /// Messages a second, from the first to the last.
    pub(crate) fn throughput(&self) -> Option<f64> {
        let seconds = self.client.first_to_last_s.filter(|seconds| *seconds > 0.0)?;
        Some(self.client.messages.saturating_sub(1) as f64 / seconds)
    }

    /// Seconds of processor time for a million messages, the whole process counted.
    pub(crate) fn cpu_s_per_million(&self) -> Option<f64> {
        (self.client.messages > 0).then(|| self.client.cpu_seconds * 1e6 / self.client.messages as f64)
    }
}

impl ContenderResults {
    /// A figure over the rounds; `None` where no run has it.
    pub(crate) fn spread(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure).collect())
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        self.spread(figure).map(|spread| spread.median)
    }
}

#[cfg(test)]
pub(crate) mod canned {
    //! Results that nobody has measured, for the tests of those who read them.

    use super::*;

    /// A run with this latency: p50 as given, the others multiples of it.
    pub(crate) fn run(p50_us: f64) -> Run {
        let ns = |times: f64| (p50_us * times * 1e3) as u64;
        let latency = Some(Latency {
            count: 1000,
            min: ns(0.5),
            mean: p50_us * 1e3,
            p50: ns(1.0),
            p90: ns(1.5),
            p99: ns(2.0),
            p999: ns(4.0),
            max: ns(10.0),
        });
        Run {
            client: Summary { messages: 1000, latency_ns: latency, cpu_seconds: 0.002, ..Summary::default() },
            sender: Sender { echo_ns: latency, late: 3, ..Sender::default() },
        }
    }

    /// A run with these times at the 50th percentile, in nanoseconds; those at the 99th are three times as long.
    pub(crate) fn staged(times: &[(Stage, u64)]) -> Run {
        let latency = |p50| Latency { count: 1000, p50, p99: 3 * p50, ..Latency::default() };
        let stages = times.iter().map(|(stage, p50)| (stage.name().to_owned(), latency(*p50))).collect();
        let mut run = run(1.0);
        run.client.stages_ns = Some(stages);
        run
    }

    /// A run with this throughput.
    pub(crate) fn fast(messages_per_s: f64) -> Run {
        let client = Summary {
            messages: 1_000_001,
            first_to_last_s: Some(1e6 / messages_per_s),
            cpu_seconds: 1.0,
            ..Summary::default()
        };
        Run { client, sender: Sender::default() }
    }

    pub(crate) fn contender(name: &str, family: Family, runs: Vec<Run>) -> ContenderResults {
        ContenderResults { name: name.to_owned(), family, runs, failures: Vec::new() }
    }

    pub(crate) fn at(kind: Kind, contenders: Vec<ContenderResults>) -> LoadResults {
        LoadResults { load: Load { kind, tls: true, count: 1000, warmup: 100 }, contenders }
    }

    pub(crate) fn results(loads: Vec<LoadResults>) -> Results {
        Results {
            machine: Machine {
                processor: "a machine".to_owned(),
                cores: 2,
                kernel: "6".to_owned(),
                virtual_machine: false,
                governor: None,
            },
            command: "bench full".to_owned(),
            rounds: 3,
            finished: "2026-01-01T00:00:00Z".to_owned(),
            took_s: 900,
            stolen: Some(0.021),
            versions: BTreeMap::new(),
            skipped: Vec::new(),
            loads,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_figure_that_was_measured() {
        let p50 = canned::at(Kind::Paced(1), Vec::new()).latency_us(|latency| latency.p50);
        let spread = |figures: &[f64]| {
            canned::contender("x", Family::Peer, figures.iter().map(|us| canned::run(*us)).collect()).spread(&p50)
        };
        assert_eq!(spread(&[9.0, 1.0, 5.0]), Some(Spread { median: 5.0, least: 1.0, greatest: 9.0 }));
        assert_eq!(spread(&[9.0, 1.0]).unwrap().median, 1.0);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn figures_are_read_off_a_run() {
        assert_eq!(canned::fast(2e6).throughput(), Some(2e6));
        assert_eq!(canned::run(1.0).throughput(), None, "a client that does not tell");
        assert_eq!(canned::run(1.0).cpu_s_per_million(), Some(2.0));
    }

    #[test]
    fn a_disturbed_machine_is_seen_by_the_senders_lateness() {
        let at = |kind| canned::at(kind, vec![canned::contender("x", Family::Peer, vec![canned::run(1.0); 2])]);
        assert_eq!(canned::results(vec![at(Kind::Paced(1)), at(Kind::Captured)]).disturbance(), Some(0.003));
        assert_eq!(
            canned::results(vec![at(Kind::Captured)]).disturbance(),
            None,
            "a capture is denser than can be sent"
        );
    }

    #[test]
    fn results_outlive_the_file() {
        let load =
            canned::at(Kind::LastOfBurst(612), vec![canned::contender("x", Family::Kernel, vec![canned::run(3.0)])]);
        let text = serde_json::to_string(&canned::results(vec![load])).unwrap();
        let again: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert_eq!(again.loads[0].load.kind, Kind::LastOfBurst(612));
    }
}
