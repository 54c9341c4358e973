//! The report of `bench full`: goals, tables, drawings, and what is needed to make it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::RUNS;
use super::plots::Plot;
use super::stages;
use super::table::{Table, figure, range};
use crate::field::{CLIENT_CORE, EXCHANGE_CORE};
use crate::goals::{self, Goal, Outcome};
use crate::load::Kind;
use crate::plan::{self, Plan};
use crate::results::{ContenderResults, LoadResults, Results, Run};

pub(super) fn markdown(results: &Results, plots: &[Plot]) -> String {
    let mut text = String::from("# wiretick, measured\n\n");
    text.push_str(&preface(results));
    text.push_str("## Goals\n\n");
    text.push_str(&goal_table(results, |_| true));
    text.push_str(
        "\nEach ratio is one of medians over the rounds, of runs that were made in turns. \"On the kernel's path\" is every client that \
         does not bypass the kernel: wiretick's stages over a kernel socket in each way to wait, and all peers. The best is chosen \
         anew for each figure.\n\n",
    );
    for at in &results.loads {
        let _ = writeln!(text, "## {}\n", upper(&at.load.name()));
        if let Some(explanation) = plan::explanation(at.load.kind) {
            let _ = writeln!(text, "{explanation}\n");
        }
        text.push_str(&load_table(at));
        text.push_str(&failures(at));
        for plot in plots.iter().filter(|plot| plot.load == at.load.id()) {
            let _ = writeln!(text, "\n![{}]({})", plot.title, plot.file);
        }
        text.push('\n');
    }
    if let Some(snapshot) = results.skipped.iter().find(|it| it.what == plan::SNAPSHOT_LOAD) {
        let _ = writeln!(text, "## {}\n\n**Not measured**: {}.\n", upper(&snapshot.what), snapshot.why);
    }
    text.push_str(&appendix(results));
    text
}

/// The tables of all loads, and the goals that can be judged by them.
pub(super) fn summary(results: &Results) -> String {
    let mut text = preface(results);
    for at in &results.loads {
        let _ = writeln!(text, "{}\n\n{}{}", upper(&at.load.name()), load_table(at), failures(at));
    }
    text.push_str(&goal_table(results, |goal| goal.is_met().is_some()));
    text.push_str(&skipped(results));
    text
}

/// The share of late messages above which figures are worth little. On a machine that does nothing else it stays below a
/// thousandth.
const DISTURBED: f64 = 0.01;

fn preface(results: &Results) -> String {
    let mut text = preface_of_any(results);
    text.push_str(&stolen(results));
    if let Some(share) = results.disturbance().filter(|share| *share > DISTURBED) {
        let _ = writeln!(
            text,
            "**The machine was busy elsewhere**: {:.1} % of the paced messages were sent more than 50 us late. These figures are worth \
             little; measure again when it is quiet.\n",
            100.0 * share
        );
    }
    text
}

/// What nobody who measures inside of a virtual machine sees otherwise.
fn stolen(results: &Results) -> String {
    results.stolen.map_or(String::new(), |share| {
        format!("The hypervisor took {:.1} % of the cores' time for others; what it interrupts is late by milliseconds.\n\n", 100.0 * share)
    })
}

fn preface_of_any(results: &Results) -> String {
    format!(
        "Machine: {}. Two network namespaces joined by a veth pair (copy mode: zero-copy does not exist there), the exchange on core \
         {EXCHANGE_CORE}, the client on core {CLIENT_CORE}, TLS 1.3 unless a load says otherwise. {} rounds, interleaved, in rotating \
         order; the figures are medians of the rounds. Latency is in microseconds, from before the exchange's TLS write to the decoded \
         event; about 2 us of each figure are the sender's own. Finished {}, after {} minutes and {} seconds.\n\n```\n{}\n```\n\n",
        results.machine,
        results.rounds,
        results.finished,
        results.took_s / 60,
        results.took_s % 60,
        results.command
    )
}

fn goal_table(results: &Results, is_shown: impl Fn(&Goal) -> bool) -> String {
    let mut table = Table::new(2, &["goal", "ratio of", "wanted", "measured", "from", "verdict"]);
    for goal in goals::evaluate(results).into_iter().filter(is_shown) {
        let verdict = match goal.is_met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "not measured",
        };
        let (measured, from) = match goal.outcome {
            Outcome::Ratio { ratio, from } => (format!("{ratio:.3}"), from),
            Outcome::NotMeasured(why) => ("-".to_owned(), why),
        };
        table.row(vec![goal.number.to_string(), goal.what, goal.bound.to_string(), measured, from, verdict.to_owned()]);
    }
    table.markdown()
}

fn load_table(at: &LoadResults) -> String {
    match at.load.kind {
        Kind::Saturated(_) => throughput_table(at),
        Kind::Snapshot(bytes) => snapshot_table(at, bytes),
        Kind::Stages(_) => stages::table(at),
        _ => latency_table(at),
    }
}

fn latency_table(at: &LoadResults) -> String {
    let mut table = Table::new(
        1,
        &[
            "client",
            "p50",
            "p50, all rounds",
            "p90",
            "p99",
            "p99.9",
            "max",
            "CPU s / million",
            "sender late p99",
            "sent late",
        ],
    );
    let p50 = at.latency_us(|latency| latency.p50);
    for contender in sorted(at, |it| it.median(&p50).unwrap_or(f64::INFINITY)) {
        table.row(vec![
            contender.name.clone(),
            figure(contender.median(&p50)),
            range(contender.spread(&p50)),
            figure(contender.median(at.latency_us(|latency| latency.p90))),
            figure(contender.median(at.latency_us(|latency| latency.p99))),
            figure(contender.median(at.latency_us(|latency| latency.p999))),
            figure(contender.median(at.latency_us(|latency| latency.max))),
            figure(contender.median(Run::cpu_s_per_million)),
            figure(contender.median(|run| Some(run.sender.lateness_ns_p99 as f64 / 1e3))),
            whole(contender.median(|run| Some(run.sender.late as f64))),
        ]);
    }
    table.markdown()
}

fn throughput_table(at: &LoadResults) -> String {
    let mut table =
        Table::new(1, &["client", "million messages a second", "all rounds", "CPU s / million", "socket full"]);
    let millions = |run: &Run| run.throughput().map(|rate| rate / 1e6);
    for contender in sorted(at, |it| -it.median(millions).unwrap_or(0.0)) {
        table.row(vec![
            contender.name.clone(),
            figure(contender.median(millions)),
            range(contender.spread(millions)),
            figure(contender.median(Run::cpu_s_per_million)),
            whole(contender.median(|run| Some(run.sender.blocked as f64))),
        ]);
    }
    table.markdown()
}

fn snapshot_table(at: &LoadResults, bytes: u64) -> String {
    let columns = ["client", "p50, ms", "p50, all rounds", "max, ms", "MB/s"];
    let mut table = Table::new(1, &columns);
    let p50 = at.latency_us(|latency| latency.p50);
    let p50_ms = |run: &Run| p50(run).map(|us| us / 1e3);
    let max = at.latency_us(|latency| latency.max);
    for contender in sorted(at, |it| it.median(p50_ms).unwrap_or(f64::INFINITY)) {
        let median = contender.median(p50_ms);
        table.row(vec![
            contender.name.clone(),
            figure(median),
            range(contender.spread(p50_ms)),
            figure(contender.median(|run| max(run).map(|us| us / 1e3))),
            figure(median.map(|ms| bytes as f64 / 1e3 / ms)),
        ]);
    }
    table.markdown()
}

pub(super) fn whole(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.0}"))
}

/// The contenders that have figures, best first.
fn sorted(at: &LoadResults, key: impl Fn(&ContenderResults) -> f64) -> Vec<&ContenderResults> {
    let mut contenders: Vec<_> = at.contenders.iter().filter(|it| !it.runs.is_empty()).collect();
    contenders.sort_by(|one, other| key(one).total_cmp(&key(other)));
    contenders
}

/// Rounds without a figure, by name.
fn failures(at: &LoadResults) -> String {
    let mut text = String::new();
    for contender in &at.contenders {
        for failure in &contender.failures {
            let _ =
                writeln!(text, "\nFailed twice in round {}: **{}**: {}.", failure.round, contender.name, failure.why);
        }
    }
    text
}

fn skipped(results: &Results) -> String {
    let mut text = String::new();
    for skipped in &results.skipped {
        let _ = writeln!(text, "* not measured: {}: {}", skipped.what, skipped.why);
    }
    text
}

/// How it was measured, what was left out, and of what everything is made.
fn appendix(results: &Results) -> String {
    let mut text = format!(
        "## How it was measured\n\n\
         Each run is a fresh process and a fresh connection; the first tenth of its messages does not count. A run with a message \
         missing, a gap in the numbering that the feed does not have, or another mode than was asked for is made once more, and is then \
         named as failed. \"CPU s / million\" counts the whole process with its start, so for Python it says most at high rates; \
         \"sender late\" is how long after they were due the exchange began to send messages, and \"sent late\" how many began more than \
         50 us late: where these are large, the machine was busy elsewhere. A name with \"kernel\" in front is wiretick's record, \
         message and event stages over a kernel socket, read in that way. Peers that sleep are measured a second time \"spinning\".\n\n\
         {}\n\n",
        Plan::selection()
    );
    text.push_str(&skipped(results));
    text.push_str("\n## Versions\n\n");
    // Variants of one program are made of the same.
    let mut same: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, versions) in &results.versions {
        let listed: Vec<_> = versions.iter().map(|(library, version)| format!("{library} {version}")).collect();
        same.entry(listed.join(", ")).or_default().push(name);
    }
    let mut table = Table::new(2, &["client", "made of"]);
    for (versions, names) in same {
        table.row(vec![names.join("; "), versions]);
    }
    text.push_str(&table.markdown());
    let _ = writeln!(text, "\nAll runs: [{RUNS}]({RUNS}).");
    text
}

fn upper(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Family;
    use crate::results::canned::{at, contender, fast, results, run};
    use crate::results::{Failure, Skipped};

    fn canned() -> Results {
        let mut broken = contender("boomnet", Family::Peer, Vec::new());
        broken.failures.push(Failure { round: 1, why: "3 of 5 messages arrived".into() });
        let paced = vec![
            contender("kernel spin", Family::Kernel, vec![run(6.0), run(7.0), run(5.0)]),
            contender("wiretick driver", Family::Bypass, vec![run(3.0)]),
            broken,
        ];
        let saturated = vec![
            contender("wiretick driver", Family::Bypass, vec![fast(3e6)]),
            contender("beast", Family::Peer, vec![fast(1.4e6)]),
        ];
        let mut results = results(vec![at(Kind::Paced(10_000), paced), at(Kind::Saturated(16), saturated)]);
        results.skipped.push(Skipped { what: "kernel ktls".into(), why: "no CONFIG_TLS".into() });
        let versions = BTreeMap::from([("rustls".to_owned(), "0.23".to_owned())]);
        results.versions = ["kernel spin", "wiretick driver"].map(|it| (it.to_owned(), versions.clone())).into();
        results
    }

    #[test]
    fn the_best_stands_first_and_the_failed_are_named_without_a_figure() {
        let text = markdown(&canned(), &[]);
        let (driver, spin) =
            (text.find("| wiretick driver | 3.00 |"), text.find("| kernel spin | 6.00 | 5.00 to 7.00 |"));
        assert!(driver.unwrap() < spin.unwrap(), "{text}");
        assert!(text.contains("Failed twice in round 1: **boomnet**: 3 of 5 messages arrived."), "{text}");
        assert!(!text.contains("| boomnet |"), "{text}");
    }

    #[test]
    fn goals_skipped_things_and_versions_are_told() {
        let text = markdown(&canned(), &[]);
        assert!(text.contains("| 0.500 | 3.00 us / 6.00 us (kernel spin) | met |"), "{text}");
        assert!(text.contains("| 2.143 | 3.00 M/s / 1.40 M/s (beast) | met |"), "{text}");
        assert!(text.contains("* not measured: kernel ktls: no CONFIG_TLS"), "{text}");
        assert!(text.contains("| kernel spin; wiretick driver | rustls 0.23 |"), "{text}");
    }

    #[test]
    fn a_disturbed_measurement_says_so() {
        let mut results = canned();
        assert!(!markdown(&results, &[]).contains("busy elsewhere**"));
        results.loads[0].contenders[0].runs[0].sender.late = 500;
        assert!(markdown(&results, &[]).contains("**The machine was busy elsewhere**: 12.7 % of the paced"));
    }

    #[test]
    fn the_summary_shows_what_can_be_judged() {
        let text = summary(&canned());
        assert!(
            text.contains("| 3.00 | 3.00 to 3.00 |") && text.contains("| met |") && !text.contains("not a matter of")
        );
    }
}
