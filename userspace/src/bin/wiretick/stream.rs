//! `wiretick stream`: one feed, from its URL to the closing table.

use std::fs::File;
use std::io::{self, Write as _};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use wiretick::event;
use wiretick::feed::{Error, Feed};
use wiretick::floor::{Clock, Limits, Monotonic, Time};
use wiretick::lane::Outcome;
use wiretick::path::Handler;
use wiretick::privilege::Confined;
use wiretick::record::Trust;
use wiretick::timing::Timed;

use crate::args::{OnExit, StreamArgs, WaitArg};
use crate::compare;
use crate::confine;
use crate::exit::Failure;
use crate::output::Output;
use crate::quiet;
use crate::slow;
use crate::summary::Summary;
use crate::tune::{self, Keeper};

/// The longest sleep between two looks at signals and the clock.
const NAP: Duration = Duration::from_millis(100);
/// How long a successor may take to come (`--on-exit demote`): the start of a process, and of whatever starts it.
const SUCCESSOR: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &StreamArgs) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    // What is read from files, and written to them, is opened while that is still allowed.
    let builder = build(args)?;
    let file = SummaryFile::create(args)?;
    // Dropped last: the program must be off the interface before that is put back.
    let _keeper = Keeper::start(args)?;
    if args.compare {
        return compare::run(args, builder, file, &signals.stop);
    }
    quiet::down(args.core, "--core", args.rt)?;
    let mut feed = builder.connect().map_err(Failure::Feed)?;
    if let Some(core) = args.core {
        tune::warn_if_far(core, &feed.report().interface);
    }
    let confined = confine::confine(args)?;
    let mut output = Output::new(args, Box::new(io::stdout()));
    let began = Monotonic.now();
    let mut given_up = None;
    let mut steer = |feed: &mut Feed, now| {
        signals.steer(feed, now);
        let until = closing_time(&signals.stop, args, began);
        if until > now || args.on_exit == OnExit::Close {
            return until;
        }
        *given_up.get_or_insert_with(|| {
            log::info!("the connection waits for a successor for {SUCCESSOR:?}");
            feed.demote(now);
            now + SUCCESSOR
        })
    };
    let (mut output, stages, result) = if args.stages || args.slow_log.is_some() {
        let mut timed = Timed::new(output).warmup(args.warmup).spinning(args.wait == WaitArg::Spin);
        let mut log = None;
        if let Some(threshold) = args.slow_log {
            let (thread, tell) = slow::start().map_err(|error| Failure::Machine(format!("--slow-log: {error}")))?;
            log = Some(thread);
            timed = timed.tell_late(threshold, tell);
        }
        let result = drive(&mut feed, &mut timed, confined, &mut steer);
        drop(log);
        let stages = timed.stages().clone();
        (timed.into_inner(), Some(stages), result)
    } else {
        let result = drive(&mut feed, &mut output, confined, &mut steer);
        (output, None, result)
    };
    output.flush();

    // Whatever happened, the figures are told first.
    let ended = Monotonic.now();
    let summary = Summary::new(&feed.report(), &output, stages.as_ref(), result.as_ref(), ended.since(began));
    tell(file, &summary, &mut output)?;
    result.map(drop)
}

/// Shows the closing figures, and says what could not be written.
pub(crate) fn tell(file: Option<SummaryFile>, summary: &Summary, output: &mut Output) -> Result<(), Failure> {
    eprintln!("{}", crate::table::render(summary));
    file.map_or(Ok(()), |file| file.write(summary))?;
    match output.failure() {
        Some(source) => Err(Failure::File { what: "stdout".to_owned(), source }),
        None => Ok(()),
    }
}

/// The file for the closing figures. It is opened at the start: at the end, the program may not open any.
pub(crate) struct SummaryFile {
    name: String,
    file: File,
}

impl SummaryFile {
    pub(crate) fn create(args: &StreamArgs) -> Result<Option<Self>, Failure> {
        let Some(path) = &args.summary else { return Ok(None) };
        let name = path.display().to_string();
        match File::create(path) {
            Ok(file) => Ok(Some(Self { name, file })),
            Err(source) => Err(Failure::File { what: name, source }),
        }
    }

    fn write(mut self, summary: &Summary) -> Result<(), Failure> {
        let mut write = || self.file.write_all(&serde_json::to_vec_pretty(summary)?);
        write().map_err(|source| Failure::File { what: self.name.clone(), source })
    }
}

/// The feed that the command line describes.
pub(crate) fn build(args: &StreamArgs) -> Result<wiretick::feed::FeedBuilder, Failure> {
    let mut builder = Feed::builder(&args.url)
        .mode(args.mode.into())
        .setup(args.setup.into())
        .wait(args.wait.into())
        .queues(args.queue.clone())
        .steer(args.steer.into())
        .connect_timeout(args.connect_timeout)
        .log_keys(args.key_log)
        .messages_per_second(NonZeroU32::new(args.message_budget))
        .limits(Limits { message_bytes_max: args.max_message_bytes, ..Limits::default() })
        .events(event::Options { stamp_field: stamp_field(args)? })
        .stamp_arrivals(args.stages || args.slow_log.is_some())
        .busy_poll(args.busy_poll)
        .keep_warm(args.keep_warm)
        .reconnect(args.reconnect)
        .connections(args.connections);
    if let Some(age) = args.max_age {
        builder = builder.age_max(age);
    }
    if let Some(idle) = args.idle_timeout {
        builder = builder.idle_max(idle);
    }
    if let Some(lag) = args.max_lag {
        builder = builder.lag_max(lag);
    }
    if let Some(path) = &args.succession {
        builder = builder.succession(path);
    }
    if let Some(path) = &args.take_over {
        builder = builder.take_over(path);
    }
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
pub(crate) trait Sink: Handler {
    fn output(&mut self) -> &mut Output;

    /// The connection has come to the mode in which it stays.
    fn settled(&mut self) {}
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

/// When a feed is to be closed: at once where a signal has asked for it, otherwise when its time is over.
pub(crate) fn closing_time(stop: &AtomicBool, args: &StreamArgs, began: Time) -> Time {
    if stop.load(Ordering::Relaxed) {
        return Time::ZERO;
    }
    args.duration.map_or(Time::NEVER, |duration| began + duration)
}

/// Takes turns until the feed is over; what is `confined` is sealed as soon as it needs nothing more. `steer` is asked each turn when it is to be closed; nobody wanting more closes it too.
pub(crate) fn drive(
    feed: &mut Feed,
    sink: &mut impl Sink,
    mut confined: Option<Confined>,
    mut steer: impl FnMut(&mut Feed, Time) -> Time,
) -> Result<Outcome, Failure> {
    let clock = Monotonic;
    let mut settled = false;
    loop {
        let now = clock.now();
        let activity = feed.turn(now, sink)?;
        if !settled && feed.is_settled() {
            settled = true;
            sink.settled();
        }
        if settled && confined.is_some() && !feed.needs_privilege() {
            confined.take().map_or(Ok(()), confine::seal)?;
        }
        if let Some(outcome) = feed.outcome() {
            return Ok(outcome.clone());
        }
        let until = steer(feed, now);
        let mut nap = NAP.min(until.since(now));
        if now >= until || !sink.output().wants_more() {
            feed.close(now);
            // What is waited for now is the peer.
            nap = NAP;
        }
        if activity == 0 {
            sink.output().flush();
            feed.wait(now, nap)?;
        }
    }
}

/// What signals have asked for.
struct Signals {
    stop: Arc<AtomicBool>,
    demote: Arc<AtomicBool>,
    promote: Arc<AtomicBool>,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let signals = Self { stop: Arc::default(), demote: Arc::default(), promote: Arc::default() };
        let unhandled = |signal| move |error| Failure::Machine(format!("signal {signal} cannot be handled: {error}"));
        for signal in [SIGINT, SIGTERM] {
            // A second one ends the process at once: whoever asks twice does not want to wait for the peer.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&signals.stop))
                .map_err(unhandled(signal))?;
        }
        let wishes = [
            (SIGINT, &signals.stop),
            (SIGTERM, &signals.stop),
            (SIGUSR1, &signals.demote),
            (SIGUSR2, &signals.promote),
        ];
        for (signal, wish) in wishes {
            signal_hook::flag::register(signal, Arc::clone(wish)).map_err(unhandled(signal))?;
        }
        Ok(signals)
    }

    /// Moves the connection as was asked for.
    fn steer(&self, feed: &mut Feed, now: Time) {
        if self.demote.load(Ordering::Relaxed) && self.demote.swap(false, Ordering::Relaxed) {
            feed.demote(now);
        }
        if self.promote.load(Ordering::Relaxed) && self.promote.swap(false, Ordering::Relaxed) {
            feed.promote(now);
        }
    }
}
