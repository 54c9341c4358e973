//! `testbed soak`: one feed in driver mode for a long time, and whether memory and counters stay what they must be.

use std::error::Error;
use std::fs;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Pid;
use serde_json::Value;
use wiretick_testbed::client::beside_us;
use wiretick_testbed::machine::Machine;

use crate::stage::{FeedOptions, STAMP_FIELD, Stage};

/// How often the client's memory is looked at.
const SAMPLE: Duration = Duration::from_secs(1);
/// Samples that do not count: buffers grow to the size of the feed, histograms to its latencies.
const WARM_UP: usize = 10;
/// What resident memory may grow between the first and the last quarter of the time, in KiB: more than what histograms take for a new
/// order of magnitude.
const GROWTH_MAX_KIB: u64 = 256;
/// Frames with which a connection ends, when the ring is no longer looked at.
const LAST_WORDS: u64 = 4;

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    feed: FeedOptions,
    /// How long
    #[arg(long, value_name = "N", default_value_t = 1200)]
    seconds: u64,
}

pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<ExitCode, Box<dyn Error>> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root: run it with sudo".into());
    }
    let wiretick = beside_us("wiretick")?;
    let count = options.feed.rate.get() * options.seconds;
    let stage = Stage::new(&options.feed, Some(count), true)?;
    println!("machine   {}", Machine::here());
    println!(
        "feed      {} messages a second for {} s, over TLS 1.3, one to a record",
        options.feed.rate, options.seconds
    );

    let mut command = stage.command(&wiretick)?;
    command.args(["stream", &stage.url(), "--mode", "driver", "--format", "none", "--log", "warn"]);
    command.args(["--stamp-field", STAMP_FIELD]).arg("--ca-file").arg(stage.desk.ca_file()).stdout(Stdio::null());
    let patience = Duration::from_secs(options.seconds + options.seconds / 10 + 30);
    let (mut resident, mut sampled) = (Vec::new(), Instant::now());
    let figures: Value = stage.desk.watch(command, stop, patience, |client| {
        if sampled.elapsed() >= SAMPLE {
            sampled += SAMPLE;
            resident.extend(resident_kib(client));
        }
    })?;
    let mut complaints = Vec::from_iter(grown(&resident));
    let exchange = stage.exchange.stop();
    complaints.extend(exchange.errors().into_iter().map(|error| format!("the exchange: {error}")));
    complaints.extend(unexplained(&figures, exchange.messages));
    for complaint in &complaints {
        println!("WRONG     {complaint}");
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Resident memory, in KiB.
fn resident_kib(pid: Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// Whether memory has grown from the first quarter to the last one, by their medians.
fn grown(resident: &[u64]) -> Option<String> {
    let counted = resident.get(WARM_UP..).unwrap_or_default();
    if counted.len() < 8 {
        return Some(format!("{} samples of memory are too few to say anything", resident.len()));
    }
    let quarter = counted.len() / 4;
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2]
    };
    let (first, last) = (median(&counted[..quarter]), median(&counted[counted.len() - quarter..]));
    let (least, most) = (counted.iter().min()?, counted.iter().max()?);
    println!(
        "resident  {first} KiB in the first quarter, {last} KiB in the last; {least} to {most} KiB in {} samples",
        counted.len()
    );
    let growth = last.saturating_sub(first);
    (growth > GROWTH_MAX_KIB).then(|| format!("resident memory has grown by {growth} KiB"))
}

/// What does not add up, from what was sent to what the handler got.
fn unexplained(figures: &Value, sent: u64) -> Vec<String> {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let counter = |stage: &str, name: &str| number(&figures["counters"][stage][name]);
    let group = |name: &str| figures[name].as_object().map_or(0, |all| all.values().map(number).sum::<u64>());
    let (redirected, received) = (counter("xdp", "redirected"), counter("ring", "frames_received"));
    let lost: u64 = ["receive_ring_full", "receive_dropped", "fill_ring_empty", "descriptors_refused"]
        .map(|name| counter("ring", name))
        .iter()
        .sum();
    let messages = number(&figures["messages"]);
    println!(
        "messages  {sent} sent, {messages} handled, {} in place, {} gaps",
        figures["messages_in_place"], figures["gaps"]
    );
    println!("frames    {redirected} redirected, {received} received, {lost} lost by the ring");
    println!("drops     {}", figures["drops"]);
    println!("latency   {} ns", figures["latency_ns"]);
    println!("moves     {}", figures["moves"]);
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    must(messages == sent, format!("{sent} messages were sent, and {messages} handled"));
    must(number(&figures["gaps"]) == 0, format!("{} gaps", figures["gaps"]));
    must(group("events") == messages, format!("{} events of {messages} messages", group("events")));
    must(figures["mode"] == "driver", format!("it ended in {} mode", figures["mode"]));
    let moves = figures["moves"].as_array().map_or(0, Vec::len);
    must(moves == 1, format!("{moves} changes of the mode"));
    must((received + lost..=received + lost + LAST_WORDS).contains(&redirected), {
        format!("{redirected} frames were redirected, {received} received and {lost} lost by the ring")
    });
    wrong
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn memory_that_grows_is_seen_and_other_memory_is_not() {
        let steady: Vec<u64> = (0..100).map(|n| 30_000 + n % 7).collect();
        assert_eq!(grown(&steady), None);
        let leaking: Vec<u64> = (0..100).map(|n| 30_000 + 10 * n).collect();
        assert!(grown(&leaking).unwrap().contains("grown by"));
        assert!(grown(&steady[..12]).unwrap().contains("too few"));
    }

    #[test]
    fn what_does_not_add_up_is_named() {
        let right = json!({
            "mode": "driver", "messages": 10, "gaps": 0, "events": {"trade": 7, "ticker": 3}, "moves": [{}],
            "counters": {"xdp": {"redirected": 12}, "ring": {"frames_received": 8, "receive_ring_full": 2}},
        });
        assert_eq!(unexplained(&right, 10), Vec::<String>::new());
        let change = |pointer: &str, value: Value| {
            let mut wrong = right.clone();
            *wrong.pointer_mut(pointer).unwrap() = value;
            unexplained(&wrong, 10).len()
        };
        assert_eq!(unexplained(&right, 11).len(), 1);
        for (pointer, value) in [
            ("/gaps", json!(1)),
            ("/mode", json!("kernel")),
            ("/moves", json!([{}, {}])),
            ("/events/trade", json!(6)),
            ("/counters/xdp/redirected", json!(15)),
            ("/counters/ring/receive_ring_full", json!(5)),
        ] {
            assert_eq!(change(pointer, value), 1, "{pointer}");
        }
    }
}
