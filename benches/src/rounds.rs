//! The order of the runs, and the median of a figure over the rounds.

use std::error::Error;
use std::sync::atomic::AtomicBool;

use serde::Serialize;
use wiretick_testbed::client::Latency;
use wiretick_testbed::machine::Machine;

use crate::contender::Contender;
use crate::field::{Field, Run};
use crate::load::Load;

/// All runs, and what is needed to make them again.
#[derive(Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    /// The command that makes them.
    pub(crate) command: String,
    pub(crate) rounds: u32,
    /// When the last run ended, RFC 3339.
    pub(crate) finished: String,
    pub(crate) loads: Vec<LoadResults>,
}

/// The runs at one load.
#[derive(Debug, Serialize)]
pub(crate) struct LoadResults {
    pub(crate) load: Load,
    pub(crate) contenders: Vec<ContenderResults>,
}

/// The runs of one contender at one load, by round.
#[derive(Debug, Serialize)]
pub(crate) struct ContenderResults {
    pub(crate) name: String,
    pub(crate) runs: Vec<Run>,
}

impl ContenderResults {
    /// The median over the rounds; of an even number of rounds the lower of the two in the middle.
    pub(crate) fn median(&self, figure: impl Fn(&Run) -> f64) -> f64 {
        let sorted = self.sorted(figure);
        sorted[(sorted.len() - 1) / 2]
    }

    /// The least and the greatest over the rounds.
    pub(crate) fn range(&self, figure: impl Fn(&Run) -> f64) -> (f64, f64) {
        let sorted = self.sorted(figure);
        (sorted[0], sorted[sorted.len() - 1])
    }

    fn sorted(&self, figure: impl Fn(&Run) -> f64) -> Vec<f64> {
        let mut figures: Vec<_> = self.runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    }
}

/// A figure of the latency in microseconds; not a number where there is none.
pub(crate) fn latency_us(of: impl Fn(&Latency) -> u64) -> impl Fn(&Run) -> f64 {
    move |run| run.client.latency_ns.as_ref().map_or(f64::NAN, |latency| of(latency) as f64 / 1e3)
}

/// Runs everything. In each round, at each load, everyone has a turn; who begins changes from round to round, so that
/// nobody always runs in the wake of the same other.
pub(crate) fn run(
    field: &Field,
    contenders: &[Contender],
    loads: &[Load],
    rounds: u32,
    stop: &AtomicBool,
) -> Result<Results, Box<dyn Error>> {
    let mut results: Vec<_> = loads
        .iter()
        .map(|load| LoadResults {
            load: load.clone(),
            contenders: contenders
                .iter()
                .map(|contender| ContenderResults { name: contender.name.clone(), runs: Vec::new() })
                .collect(),
        })
        .collect();
    for round in 0..rounds {
        for at_load in &mut results {
            for turn in 0..contenders.len() {
                let who = (turn + round as usize) % contenders.len();
                let run = field.run(&contenders[who], &at_load.load, stop)?;
                let p50 = latency_us(|latency| latency.p50)(&run);
                eprintln!(
                    "round {} of {rounds}, {}, {}: p50 {p50:.2} us",
                    round + 1,
                    at_load.load.name,
                    contenders[who].name
                );
                at_load.contenders[who].runs.push(run);
            }
        }
    }
    Ok(Results {
        machine: Machine::here(),
        command: std::env::args().collect::<Vec<_>>().join(" "),
        rounds,
        finished: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        loads: results,
    })
}

#[cfg(test)]
mod tests {
    use wiretick_testbed::client::Summary;

    use super::*;

    fn results(durations: &[f64]) -> ContenderResults {
        let run =
            |duration_s: &f64| Run { client: Summary { duration_s: *duration_s, ..Summary::default() }, sent_late: 0 };
        ContenderResults { name: "x".to_owned(), runs: durations.iter().map(run).collect() }
    }

    #[test]
    fn the_median_is_a_figure_that_was_measured() {
        let figure = |run: &Run| run.client.duration_s;
        assert_eq!(results(&[9.0, 1.0, 5.0]).median(figure), 5.0);
        assert_eq!(results(&[9.0, 1.0]).median(figure), 1.0);
        assert_eq!(results(&[9.0, 1.0, 5.0]).range(figure), (1.0, 9.0));
    }
}
