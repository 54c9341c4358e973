//! `wiretick stream`: one feed, from its URL to the closing table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use wiretick::event;
use wiretick::feed::{Error, Feed};
use wiretick::floor::{Clock, Limits, Monotonic, Time};
use wiretick::lane::Outcome;
use wiretick::path::Handler;
use wiretick::record::Trust;
use wiretick::timing::Timed;

use crate::args::{StreamArgs, WaitArg};
use crate::exit::Failure;
use crate::output::Output;
use crate::quiet;
use crate::slow;
use crate::summary::Summary;

/// The longest sleep between two looks at signals and the clock.
const NAP: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &StreamArgs) -> Result<(), Failure> {
    let stop = stop_on_signals()?;
    if let Some(core) = args.core {
        quiet::pin(core)?;
    }
    if args.rt {
        quiet::real_time()?;
    }
    let mut feed = build(args)?.connect().map_err(Failure::Feed)?;
    let output =
        Output::new(args.format, args.count, args.warmup, args.stamp_field.is_some(), args.echo_field.is_some());
    let began = Monotonic.now();
    let (output, stages, result) = if args.stages || args.slow_log.is_some() {
        let mut timed = Timed::new(output).warmup(args.warmup).spinning(args.wait == WaitArg::Spin);
        let mut log = None;
        if let Some(threshold) = args.slow_log {
            let (thread, tell) = slow::start().map_err(|error| Failure::Machine(format!("--slow-log: {error}")))?;
            log = Some(thread);
            timed = timed.tell_late(threshold, tell);
        }
        let result = drive(&mut feed, &mut timed, args, &stop, began);
        drop(log);
        let stages = timed.stages().clone();
        (timed.into_inner(), Some(stages), result)
    } else {
        let mut output = output;
        let result = drive(&mut feed, &mut output, args, &stop, began);
        (output, None, result)
    };
    let mut output = output;
    output.flush();

    // Whatever happened, the figures are told first.
    let ended = Monotonic.now();
    let summary = Summary::new(&feed.report(), &output, stages.as_ref(), result.as_ref(), ended.since(began));
    eprintln!("{}", crate::table::render(&summary));
    if let Some(file) = &args.summary {
        let write = || std::fs::write(file, serde_json::to_vec_pretty(&summary)?);
        write().map_err(|source| Failure::File { what: file.display().to_string(), source })?;
    }
    if let Some(source) = output.failure() {
        return Err(Failure::File { what: "stdout".to_owned(), source });
    }
    result.map(drop).map_err(Failure::Feed)
}

fn build(args: &StreamArgs) -> Result<wiretick::feed::FeedBuilder, Failure> {
    let mut builder = Feed::builder(&args.url)
        .mode(args.mode.into())
        .setup(args.setup.into())
        .wait(args.wait.into())
        .queue(args.queue)
        .connect_timeout(args.connect_timeout)
        .log_keys(args.key_log)
        .limits(Limits { message_bytes_max: args.max_message_bytes, ..Limits::default() })
        .events(event::Options { stamp_field: stamp_field(args)? })
        .stamp_arrivals(args.stages || args.slow_log.is_some());
    if let Some(interface) = &args.interface {
        builder = builder.interface(interface);
    }
    for message in &args.subscribe {
        builder = builder.subscribe(message);
    }
    for (name, value) in &args.header {
        builder = builder.header(name, value);
    }
    if let Some(file) = &args.ca_file {
        let named = |source| Failure::File { what: file.display().to_string(), source };
        let pem = std::fs::read(file).map_err(named)?;
        builder = builder.trust(Trust::from_pem(&pem).map_err(Error::Record)?);
    }
    Ok(builder)
}

/// The one field whose number is read from each message.
fn stamp_field(args: &StreamArgs) -> Result<Option<String>, Failure> {
    match (&args.stamp_field, &args.echo_field) {
        (Some(stamp), Some(echo)) if stamp != echo => Err(Failure::Feed(Error::Config(format!(
            "--echo-field {echo} and --stamp-field {stamp}: only one field's number is read: name the same field twice"
        )))),
        (stamp, echo) => Ok(stamp.clone().or_else(|| echo.clone())),
    }
}

/// A handler with the program's output at its heart.
trait Sink: Handler {
    fn output(&mut self) -> &mut Output;
}

impl Sink for Output {
    fn output(&mut self) -> &mut Output {
        self
    }
}

impl Sink for Timed<Output> {
    fn output(&mut self) -> &mut Output {
        self.inner_mut()
    }
}

/// Takes turns until the feed is over. A signal, the clock, or nobody reading stdout closes it.
fn drive(
    feed: &mut Feed,
    sink: &mut impl Sink,
    args: &StreamArgs,
    stop: &AtomicBool,
    began: Time,
) -> Result<Outcome, Error> {
    let clock = Monotonic;
    let until = args.duration.map_or(Time::NEVER, |duration| began + duration);
    loop {
        let now = clock.now();
        let activity = feed.turn(now, sink)?;
        if let Some(outcome) = feed.outcome() {
            return Ok(outcome.clone());
        }
        if stop.load(Ordering::Relaxed) || now >= until || !sink.output().wants_more() {
            feed.close(now);
        }
        if activity == 0 {
            sink.output().flush();
            feed.wait(now, NAP.min(until.since(now)))?;
        }
    }
}

fn stop_on_signals() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second one ends the process at once: whoever asks twice does not want to wait for the peer.
        let register = || {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
            signal_hook::flag::register(signal, Arc::clone(&stop))
        };
        register().map_err(|error| Failure::Machine(format!("signal {signal} cannot be handled: {error}")))?;
    }
    Ok(stop)
}
