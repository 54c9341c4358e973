//! `testbed demo`: the same feed over the kernel, in skb mode and in driver mode, side by side.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use wiretick_testbed::client::{self, Summary, beside_us};
use wiretick_testbed::machine::Machine;

use crate::stage::{FeedOptions, STAMP_FIELD, Stage};

/// Longest piece of an event that is shown: a line of a wide terminal.
const SHOWN: usize = 150;
/// Messages in which an event of each kind is looked for.
const TASTE: u64 = 500;

#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    feed: FeedOptions,
    /// Messages for each mode
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
}

pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<ExitCode, Box<dyn Error>> {
    let wiretick = beside_us("wiretick")?;
    let root = rustix::process::geteuid().is_root();
    let stage = Stage::new(&options.feed, None, root)?;
    introduce(&stage, options);
    let modes: &[&str] = if root { &["kernel", "skb", "driver"] } else { &["kernel"] };
    let show = || -> Result<(), client::Error> {
        taste(&stage, &wiretick, modes[modes.len() - 1], stop)?;
        let mut runs = Vec::new();
        for &mode in modes {
            eprintln!("streaming {} messages, --mode {mode} ...", options.count);
            runs.push((mode, measure(&stage, &wiretick, mode, options, stop)?));
        }
        println!("\n{}", table(&runs));
        Ok(())
    };
    let result = show();
    let report = stage.exchange.stop();
    drop(stage.topology);
    match result {
        Ok(()) => {}
        Err(client::Error::Interrupted) => {
            eprintln!("interrupted; nothing is left behind");
            return Ok(ExitCode::from(130));
        }
        Err(error) => return Err(error.into()),
    }
    let complaints = report.errors();
    println!("The exchange's view: {} messages sent; wrong: {}.", report.messages, or_nothing(&complaints));
    if !root {
        println!(
            "\nThis was the kernel path over loopback. Network namespaces, XDP and AF_XDP need root: \
             sudo {} demo",
            std::env::current_exe()?.display()
        );
    }
    Ok(if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn introduce(stage: &Stage, options: &Options) {
    let place = match &stage.topology {
        Some(topology) => format!(
            "two network namespaces, {} --- veth --- {}",
            topology.client.interface.name, topology.exchange.interface.name
        ),
        None => "loopback".to_owned(),
    };
    let cores = stage.cores();
    println!("machine   {}", Machine::here());
    println!("exchange  {} on core {}, client on core {}, {place}", stage.url(), cores.exchange, cores.client);
    println!(
        "feed      TLS 1.3, made-up Binance BTCUSDT trade, bookTicker, depth; seed {}, {} messages a second\n",
        options.feed.seed, options.feed.rate
    );
}

/// Shows one event of each kind.
fn taste(stage: &Stage, wiretick: &Path, mode: &str, stop: &AtomicBool) -> Result<(), client::Error> {
    let (reader, writer) = std::io::pipe().map_err(|source| client::Error::System { what: "a pipe", source })?;
    let mut command = stream(stage, wiretick, mode, TASTE)?;
    command.args(["--format", "json"]).stdout(Stdio::from(writer));
    let shower = std::thread::spawn(move || {
        let mut kinds = BTreeSet::new();
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            let kind = serde_json::from_str::<serde_json::Value>(&line)
                .ok()
                .and_then(|event| event.get("type").and_then(|kind| kind.as_str()).map(str::to_owned));
            if kinds.insert(kind) {
                println!("  {}", shortened(&line));
            }
        }
    });
    println!("A few of the events, as `wiretick stream --format json --mode {mode}` prints them:");
    let result = stage.desk.run(command, stop, Duration::from_secs(30));
    let _ = shower.join();
    println!();
    result.map(drop)
}

fn shortened(line: &str) -> String {
    if line.chars().count() <= SHOWN {
        line.to_owned()
    } else {
        line.chars().take(SHOWN).chain(" ...".chars()).collect()
    }
}

fn measure(
    stage: &Stage,
    wiretick: &Path,
    mode: &str,
    options: &Options,
    stop: &AtomicBool,
) -> Result<Summary, client::Error> {
    let mut command = stream(stage, wiretick, mode, options.count)?;
    command.args(["--format", "none", "--warmup", &(options.count / 10).to_string()]).stdout(Stdio::null());
    let seconds = options.count / options.feed.rate;
    stage.desk.run(command, stop, Duration::from_secs(30 + 2 * seconds))
}

fn stream(stage: &Stage, wiretick: &Path, mode: &str, count: u64) -> Result<std::process::Command, client::Error> {
    let mut command =
        stage.command(wiretick).map_err(|source| client::Error::System { what: "the client's core", source })?;
    command.args(["stream", &stage.url(), "--mode", mode, "--log", "warn", "--stamp-field", STAMP_FIELD]);
    command.args(["--count", &count.to_string()]).arg("--ca-file").arg(stage.desk.ca_file());
    Ok(command)
}

/// One column for each mode.
fn table(runs: &[(&str, Summary)]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let mut row = |name: &str, value: &dyn Fn(&Summary) -> String| {
        table.add_row([name.to_owned()].into_iter().chain(runs.iter().map(|(_, summary)| value(summary))));
    };
    row("mode in effect", &|summary| summary.mode.clone());
    row("messages", &|summary| summary.messages.to_string());
    let kinds: BTreeSet<_> = runs.iter().flat_map(|(_, summary)| summary.events.keys()).collect();
    for kind in kinds {
        row(&format!("  {kind}"), &|summary| summary.events.get(kind).unwrap_or(&0).to_string());
    }
    row("gaps", &|summary| summary.gaps.to_string());
    row("records opened in place", &|summary| summary.records.in_place.to_string());
    row("records joined", &|summary| summary.records.joined.to_string());
    let latency = |of: fn(&client::Latency) -> u64| {
        move |summary: &Summary| {
            summary.latency_ns.as_ref().map_or_else(|| "-".to_owned(), |it| format!("{:.2}", of(it) as f64 / 1e3))
        }
    };
    row("exchange send to event, us: p50", &latency(|it| it.p50));
    row("  p99", &latency(|it| it.p99));
    row("  p99.9", &latency(|it| it.p999));
    row("handover, us", &|summary| {
        let times: Vec<_> = summary.handover_us.iter().map(|us| format!("{us:.0}")).collect();
        if times.is_empty() { "-".to_owned() } else { times.join(", ") }
    });
    row("drops by reason", &|summary| {
        let drops: Vec<_> = summary.drops.iter().map(|(name, n)| format!("{name} {n}")).collect();
        or_nothing(&drops)
    });
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn or_nothing(list: &[String]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.join(", ") }
}
