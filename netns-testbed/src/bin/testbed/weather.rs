//! `testbed weather`: a capture over a wire that impairs, once for each weather and mode, and whether it came through unchanged.

use std::error::Error;
use std::io::{BufRead as _, BufReader, PipeReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use wiretick_testbed::client::{self, Desk, beside_us};
use wiretick_testbed::exchange::{Config, Exchange, Feed, Pace, Security, Tls};
use wiretick_testbed::feeds::{Feeds, Lines, Recording, arrivals_beside};
use wiretick_testbed::impair::{Counters, Direction, Impairments, Plan as Weather, mixtures};
use wiretick_testbed::machine::Machine;
use wiretick_testbed::pki::{Authority, Validity};
use wiretick_testbed::topology::{Plan, Topology};

use crate::stage::Cores;

/// The capture that is replayed unless another is named.
const CAPTURE: &str = "BINANCE-spot-btcusdt-mixed";
/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Determines what happens to the n-th segment of either direction
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Messages, one in a line, plain or gzipped; default: BINANCE-spot-btcusdt-mixed of the captured feeds
    #[arg(long, value_name = "FILE")]
    feed: Option<PathBuf>,
    /// Only the first so many messages
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Only the weathers with this in their name
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// The modes to compare
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Mode::Driver, Mode::Kernel])]
    modes: Vec<Mode>,
}

/// A mode of wiretick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Driver,
    Skb,
    Kernel,
}

impl Mode {
    const fn name(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Skb => "skb",
            Self::Kernel => "kernel",
        }
    }
}

/// How one run went.
struct Run {
    weather: &'static str,
    mode: Mode,
    messages: usize,
    /// What is wrong with it.
    complaint: Option<String>,
    seconds: f64,
    stall: Duration,
    to_client: Counters,
    to_exchange: Counters,
}

pub(crate) fn run(options: &Options, stop: &AtomicBool) -> Result<ExitCode, Box<dyn Error>> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces need root: run it with sudo".into());
    }
    let recording = Arc::new(recorded(options)?);
    let bytes: usize = recording.messages.iter().map(<[u8]>::len).sum();
    let weathers: Vec<_> = mixtures().into_iter().filter(|(name, _)| name.contains(&options.only)).collect();
    if weathers.is_empty() {
        let names: Vec<_> = mixtures().into_iter().map(|(name, _)| name).collect();
        return Err(format!("no weather has {:?} in its name: {}", options.only, names.join("; ")).into());
    }
    println!("machine   {}", Machine::here());
    println!(
        "feed      {} messages, {:.1} MB, over TLS 1.3, one to a record, as fast as they are taken",
        recording.messages.len(),
        bytes as f64 / 1e6
    );
    println!("wire      the same both ways, seed {}; a veth pair on either side\n", options.seed);
    let mut runs = Vec::new();
    for (name, impairments) in weathers {
        for &mode in &options.modes {
            eprintln!("{name}, {} ...", mode.name());
            match once(options.seed, &recording, name, &impairments, mode, stop) {
                Ok(run) => runs.push(run),
                Err(error) => match error.downcast_ref() {
                    Some(client::Error::Interrupted) => {
                        eprintln!("interrupted; nothing is left behind");
                        return Ok(ExitCode::from(130));
                    }
                    _ => return Err(error),
                },
            }
        }
    }
    println!("{}", table(&runs, bytes));
    let bad: Vec<_> = runs.iter().filter_map(|run| Some((run, run.complaint.as_ref()?))).collect();
    for (run, complaint) in &bad {
        println!("{}, {}: {complaint}", run.weather, run.mode.name());
    }
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn recorded(options: &Options) -> Result<Recording, Box<dyn Error>> {
    let mut recording = match &options.feed {
        Some(file) => Recording::read(file, arrivals_beside(file).as_deref())?,
        None => Feeds::find()?.recording(CAPTURE)?,
    };
    if let Some(count) = options.count {
        let lines: Vec<&[u8]> = recording.messages.iter().take(count).collect();
        recording.messages = Lines::new(lines.join(&b'\n'));
    }
    recording.arrivals = None;
    Ok(recording)
}

fn once(
    seed: u64,
    recording: &Arc<Recording>,
    weather: &'static str,
    impairments: &Impairments,
    mode: Mode,
    stop: &AtomicBool,
) -> Result<Run, Box<dyn Error>> {
    let cores = Cores::choose()?;
    let wiretick = beside_us("wiretick")?;
    let authority = Authority::new("wiretick testbed")?;
    let desk = Desk::new(&authority)?;
    let plan = Plan { wire: Some(Weather::both(seed, impairments)), ..Plan::default() };
    let topology = Topology::new(&plan)?;
    let listener = topology.exchange.ns.listen(topology.exchange.v4(9443))?;
    let identity = authority.issue(&[listener.local_addr()?.ip().to_string()], Validity::Now)?;
    let config = Config {
        security: Security::Tls(Tls::new(identity)),
        feed: Feed::Replay(Arc::clone(recording)),
        pace: Pace::Saturate,
        core: Some(cores.exchange),
        patience: PATIENCE,
        ..Config::default()
    };
    let exchange = Exchange::start(config, listener)?;
    let (reader, writer) = std::io::pipe()?;
    let mut command = topology.client.ns.command_on_core(&wiretick, cores.client)?;
    let url = format!("wss://{}/ws", exchange.address());
    // Sleeping where there is nothing to do: the wire runs on one of these cores, too.
    command.args(["stream", &url, "--mode", mode.name(), "--wait", "poll", "--format", "raw", "--log", "warn"]);
    command.args(["--connect-timeout", "60s"]).arg("--ca-file").arg(desk.ca_file()).stdout(writer);
    let (result, read) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| compare(reader, recording));
        // Our end of the pipe goes with the command.
        let result = desk.run(command, stop, PATIENCE);
        (result, reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    if matches!(result, Err(client::Error::Interrupted)) {
        return Err(client::Error::Interrupted.into());
    }
    let wire = topology.wire.as_ref().ok_or("a topology without the wire that was asked for")?;
    let complaint = match (&result, read.differs, wire.own_losses()) {
        (Err(error), ..) => Some(error.to_string()),
        (_, Some(at), _) => Some(format!("message {at} is not what was sent")),
        (Ok(summary), None, _) if summary.mode != mode.name() => Some(format!("it ran in {} mode", summary.mode)),
        (.., lost @ 1..) => Some(format!("the wire itself has lost {lost} frames: that says nothing")),
        _ if read.messages != recording.messages.len() => {
            Some(format!("{} of {} messages came", read.messages, recording.messages.len()))
        }
        _ => None,
    };
    let seconds = result.ok().and_then(|summary| summary.first_to_last_s).unwrap_or(f64::NAN);
    Ok(Run {
        weather,
        mode,
        messages: read.messages,
        complaint,
        seconds,
        stall: read.stall,
        to_client: wire.counters(Direction::ToClient),
        to_exchange: wire.counters(Direction::ToExchange),
    })
}

/// What came out of the client.
#[derive(Default)]
struct Read {
    messages: usize,
    /// The first message that differs.
    differs: Option<usize>,
    /// The longest time in which nothing came, behind the first message.
    stall: Duration,
}

fn compare(reader: PipeReader, recording: &Recording) -> Read {
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let mut expected = recording.messages.iter();
    let mut read = Read::default();
    let mut line = Vec::new();
    let mut last: Option<Instant> = None;
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return read,
            Ok(_) => {}
        }
        let now = Instant::now();
        read.stall = read.stall.max(now - *last.get_or_insert(now));
        last = Some(now);
        if line.pop() != Some(b'\n') || expected.next() != Some(&line[..]) {
            read.differs.get_or_insert(read.messages);
        }
        read.messages += 1;
    }
}

fn table(runs: &[Run], bytes: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header([
        "weather",
        "mode",
        "messages",
        "same",
        "seconds",
        "goodput, Mbit/s",
        "longest stall, ms",
        "segments to the client",
        "lost or spoilt",
        "sent again",
        "by the client",
    ]);
    for run in runs {
        let Counters { frames, lost, lost_in_burst, corrupted, retransmitted, .. } = run.to_client;
        table.add_row([
            run.weather.to_owned(),
            run.mode.name().to_owned(),
            run.messages.to_string(),
            if run.complaint.is_none() { "yes" } else { "NO" }.to_owned(),
            format!("{:.2}", run.seconds),
            format!("{:.0}", bytes as f64 * 8e-6 / run.seconds),
            format!("{:.1}", run.stall.as_secs_f64() * 1e3),
            frames.to_string(),
            (lost + lost_in_burst + corrupted).to_string(),
            retransmitted.to_string(),
            run.to_exchange.retransmitted.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_differs_is_seen() {
        let recording = Recording { messages: Lines::new(b"one\ntwo\nthree".to_vec()), arrivals: None };
        let read = |said: &str| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(said.as_bytes()).unwrap();
            drop(writer);
            let read = compare(reader, &recording);
            (read.messages, read.differs)
        };
        assert_eq!(read("one\ntwo\nthree\n"), (3, None));
        assert_eq!(read("one\ntwo\n"), (2, None), "too few, which is for the caller to see");
        assert_eq!(read("one\nthree\ntwo\n"), (3, Some(1)));
        assert_eq!(read("one\ntwo\nthree\nthree\n"), (4, Some(3)));
        assert_eq!(read("one\ntw"), (2, Some(1)), "cut off");
    }
}
