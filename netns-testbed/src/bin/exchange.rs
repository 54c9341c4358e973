//! The exchange as a program: reads its options, listens, serves until it is told to stop, and sums up.
//!
//! What comes in are the command line and signals; what goes out are the lines `listening on ...` on standard output, one
//! per address and only then connections, and the summary on standard error.

use std::error::Error;
use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM};
use wiretick_testbed::exchange::{
    Config, Exchange, Fault, Feed, Pace, Report, Running, Security, Start, Suite, SyntheticPlan, Tls, TlsVersion,
};
use wiretick_testbed::feeds::{Recording, arrivals_beside};
use wiretick_testbed::pki::{Authority, Validity};

/// A WebSocket exchange for tests: replays captured feeds or makes up its own, on a schedule.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(group(ArgGroup::new("feed").args(["replay", "synthetic"])))]
#[command(group(ArgGroup::new("how_fast").args(["rate", "pace", "saturate"])))]
struct Options {
    /// Address to listen on; port 0 takes a free one. May be repeated
    #[arg(long, value_name = "ADDR:PORT", required = true)]
    listen: Vec<SocketAddr>,
    /// Writes the certificate of the exchange's own authority to this file, for clients to trust
    #[arg(long, value_name = "FILE.pem")]
    ca_out: Option<PathBuf>,
    /// A name or address in the certificate, beside localhost, exchange.test and the addresses listened on. May be repeated
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// What is right or wrong about the certificate
    #[arg(long, value_enum, default_value_t = Certificate::Valid)]
    certificate: Certificate,
    /// TLS 1.2 instead of 1.3
    #[arg(long, conflicts_with = "plain")]
    tls12: bool,
    /// The only cipher suite offered; all, unless given
    #[arg(long, value_enum, conflicts_with = "plain")]
    suite: Option<Suite>,
    /// No TLS at all: ws:// instead of wss://
    #[arg(long)]
    plain: bool,

    /// Sends each line of a file as one message, byte for byte; gzip or plain
    #[arg(long, value_name = "FILE[.gz]")]
    replay: Option<PathBuf>,
    /// When each line arrived, in ns; unless given, FILE.ts or FILE.ts.gz beside FILE.jsonl is taken
    #[arg(long, value_name = "FILE[.gz]", requires = "replay")]
    timestamps: Option<PathBuf>,
    /// Sends a made-up Binance spot feed; the seed determines every byte
    #[arg(long, value_name = "SEED")]
    synthetic: Option<u64>,
    /// What the made-up exchange trades
    #[arg(long, value_name = "SYMBOL,...", value_delimiter = ',', default_value = "BTCUSDT", requires = "synthetic")]
    symbols: Vec<String>,
    /// Adds a last field to each message that tells when it was sent, in ns of the monotonic clock
    #[arg(long, value_name = "NAME")]
    stamp_field: Option<String>,

    /// Messages a second, evenly [default: 1000]
    #[arg(long, value_name = "N")]
    rate: Option<NonZeroU64>,
    /// The pace of the recording
    #[arg(long, value_enum)]
    pace: Option<PaceName>,
    /// Times as fast as recorded
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "pace")]
    speed: f64,
    /// As fast as the socket takes them
    #[arg(long)]
    saturate: bool,
    /// WebSocket frames in one TLS record and one write
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Messages before a clean close; unless given, a recording is sent once and a made-up feed does not end
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// When the stream begins
    #[arg(long, value_enum, default_value_t = Start::AtOnce)]
    start: Start,
    /// A batch sent so many microseconds after it was due counts as late
    #[arg(long, value_name = "US", default_value_t = 50)]
    late_after: u64,

    /// Seconds between pings; unless given, none are sent
    #[arg(long, value_name = "S", value_parser = seconds)]
    ping_interval: Option<Duration>,
    /// Sends every message of the client back
    #[arg(long)]
    echo: bool,
    /// Times text messages of the client that begin with the digits of a stamp
    #[arg(long)]
    measure_echo: bool,

    /// Does one thing wrong
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true)]
    fault: Option<Fault>,
    /// Messages before a fault in mid-stream
    #[arg(long, value_name = "N", default_value_t = 3)]
    fault_after: u64,
    /// Determines what is random about faults and pings
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    fault_seed: u64,
    /// Lists the faults and exits
    #[arg(long, exclusive = true)]
    list_faults: bool,

    /// Pins the connections' threads to this core
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Stops by itself when so many connections have ended
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Writes the summary to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    summary_json: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
SIGINT or SIGTERM closes all connections (code 1001), prints the summary on standard error and ends the program; a second \
one ends it at once. SSLKEYLOGFILE names a file for TLS secrets, as elsewhere.

Exit codes: 0 ended as asked, nothing wrong; 1 could not start; 2 wrong options; 3 ended as asked, but clients did \
something wrong, and the summary says what: missing or strange pongs, broken protocol rules, TLS alerts, handshakes that \
took too long.";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Certificate {
    /// Good for every name
    Valid,
    /// Its time is over
    Expired,
    /// Its time has not come
    NotYetValid,
    /// For a name nobody asked for
    WrongHost,
    /// Signed by another authority than the one written with --ca-out
    WrongCa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PaceName {
    /// Each message at the time at which it was recorded
    Recorded,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    if std::env::args_os().skip(1).eq(["--list-faults"]) {
        for fault in Fault::value_variants() {
            if let Some(value) = fault.to_possible_value() {
                println!("{:30} {}", value.get_name(), value.get_help().map(ToString::to_string).unwrap_or_default());
            }
        }
        return ExitCode::SUCCESS;
    }
    match run(&Options::parse()) {
        Ok(report) if report.errors().is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            eprintln!("exchange: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Report, Box<dyn Error>> {
    // Before anything can be interrupted. The order matters: the first signal raises the flag, the second finds it raised.
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let exchange = Exchange::new(config(options)?)?;
    let running = options
        .listen
        .iter()
        .map(|address| {
            let listener =
                TcpListener::bind(address).map_err(|error| format!("cannot listen on {address}: {error}"))?;
            Ok(exchange.listen(listener)?)
        })
        .collect::<Result<Vec<Running>, Box<dyn Error>>>()?;
    let scheme = if options.plain { "ws" } else { "wss" };
    let mut stdout = io::stdout().lock();
    for one in &running {
        writeln!(stdout, "listening on {scheme}://{}", one.address())?;
    }
    stdout.flush()?;
    drop(stdout);

    let enough = options.connections.unwrap_or(usize::MAX);
    while !stop.load(Ordering::Relaxed) && running.iter().map(Running::ended).sum::<usize>() < enough {
        thread::sleep(Duration::from_millis(10));
    }
    let mut report = Report::default();
    for one in running {
        report += &one.stop();
    }
    eprint!("{report}");
    if let Some(path) = &options.summary_json {
        fs::write(path, format!("{:#}\n", report.to_json()))
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(report)
}

fn config(options: &Options) -> Result<Config, Box<dyn Error>> {
    let feed = match (&options.replay, options.synthetic) {
        (Some(messages), _) => {
            let arrivals = options.timestamps.clone().or_else(|| arrivals_beside(messages));
            Feed::Replay(Arc::new(Recording::read(messages, arrivals.as_deref())?))
        }
        (None, Some(seed)) => Feed::Synthetic(SyntheticPlan { seed, symbols: options.symbols.clone() }),
        (None, None) => Feed::Nothing,
    };
    let pace = match (options.saturate, options.pace, options.rate) {
        (true, ..) => Pace::Saturate,
        (_, Some(PaceName::Recorded), _) => Pace::Recorded { speed: options.speed },
        (_, _, Some(rate)) => Pace::Rate(rate),
        _ => Config::default().pace,
    };
    Ok(Config {
        security: security(options)?,
        feed,
        pace,
        batch: options.batch,
        count: options.count,
        start: options.start,
        stamp_field: options.stamp_field.clone(),
        ping_interval: options.ping_interval,
        echo: options.echo,
        measure_echo: options.measure_echo,
        fault: options.fault,
        fault_after: options.fault_after,
        fault_seed: options.fault_seed,
        core: options.core,
        late_after: Duration::from_micros(options.late_after),
        ..Config::default()
    })
}

fn security(options: &Options) -> Result<Security, Box<dyn Error>> {
    let authority = Authority::new("wiretick testbed")?;
    if let Some(path) = &options.ca_out {
        authority.write_pem(path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    if options.plain {
        return Ok(Security::Plain);
    }
    let mut names = vec!["localhost".to_owned(), "exchange.test".to_owned()];
    names.extend(options.listen.iter().map(|address| address.ip().to_string()));
    names.extend_from_slice(&options.name);
    let identity = match options.certificate {
        Certificate::Valid => authority.issue(&names, Validity::Now),
        Certificate::Expired => authority.issue(&names, Validity::Past),
        Certificate::NotYetValid => authority.issue(&names, Validity::Future),
        Certificate::WrongHost => authority.issue(&["elsewhere.test"], Validity::Now),
        Certificate::WrongCa => Authority::new("wiretick testbed")?.issue(&names, Validity::Now),
    }?;
    let version = if options.tls12 { TlsVersion::Tls12 } else { TlsVersion::Tls13 };
    Ok(Security::Tls(Tls { identity, version, suite: options.suite }))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(interval) if !interval.is_zero() => Ok(interval),
        _ => Err("not a positive number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_options_do_not_contradict_themselves() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_become_a_configuration() {
        let options = Options::parse_from(
            "exchange --listen 127.0.0.1:0 --synthetic 7 --symbols BTCUSDT,ETHUSDT --rate 50000 --batch 16 --count 9 \
             --ping-interval 0.5 --stamp-field n --fault key-update --late-after 20"
                .split(' ')
                .filter(|word| !word.is_empty()),
        );
        let config = config(&options).unwrap();
        assert!(matches!(config.feed, Feed::Synthetic(plan) if plan.seed == 7 && plan.symbols.len() == 2));
        assert_eq!(config.pace, Pace::Rate(NonZeroU64::new(50_000).unwrap()));
        assert_eq!((config.batch, config.count, config.fault), (16, Some(9), Some(Fault::KeyUpdate)));
        assert_eq!(config.ping_interval, Some(Duration::from_millis(500)));
        assert_eq!(config.late_after, Duration::from_micros(20));
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for line in [
            "exchange",
            "exchange --listen 127.0.0.1:0 --rate 1 --saturate",
            "exchange --listen 127.0.0.1:0 --replay x --synthetic 1",
            "exchange --listen 127.0.0.1:0 --plain --tls12",
            "exchange --listen 127.0.0.1:0 --ping-interval 0",
            "exchange --listen 127.0.0.1:0 --fault no-such-fault",
        ] {
            assert!(Options::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
