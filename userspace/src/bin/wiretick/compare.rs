//! `wiretick stream --compare`: the same feed on a kernel connection and on a bypassed one at once.
//!
//! Each connection has a thread of its own, which does what `wiretick stream` does and puts a note of each message into a
//! ring. This thread pairs the notes and decides when both connections are over. The connections know nothing of each other;
//! stdout is the bypassed one's.
//!
//! Limits: what the two share (the interface, its queue, the caches, and on a small machine the cores) each does to the
//! other. The closing figures name it.

mod comparison;
mod figures;
mod pairing;
mod tap;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use wiretick::feed::{Error, Feed, FeedBuilder, Mode, Report, Setup, Steer};
use wiretick::floor::{Clock, Monotonic, Time};
use wiretick::lane::Outcome;
use wiretick::privilege::Confined;
use wiretick::timing::Quantiles;

pub(crate) use self::comparison::Comparison;
use self::comparison::{Connection, Difference};
use self::figures::{Basis, Figures, TIE_BELOW_NS};
use self::pairing::{Pairing, Sample, Side};
use self::tap::Tap;
use crate::args::StreamArgs;
use crate::confine;
use crate::exit::Failure;
use crate::output::Output;
use crate::quiet;
use crate::stream::{self, SummaryFile};
use crate::summary::{self, Summary};
use wiretick::event::Identifier;

/// Messages of one connection that may wait to be paired: at 500,000 a second, more than two looks' worth.
const WAITING: usize = 1 << 16;
/// How often the thread that pairs looks. Where it has no core of its own, it interrupts a connection each time: more often
/// disturbs more messages, more rarely needs a larger ring.
const LOOK: Duration = Duration::from_millis(50);
/// How long a connection may go on when the other one is over: what is on its way arrives, and a closing handshake that
/// the peer has begun on both is not cut off.
const GRACE: Duration = Duration::from_secs(1);

// One ring may be emptied before the other is looked at.
const _: () = assert!(pairing::REMEMBERED >= 2 * WAITING);

/// Runs both connections to their end and tells the figures.
pub(crate) fn run(
    args: &StreamArgs,
    builder: FeedBuilder,
    file: Option<SummaryFile>,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    if args.core.is_some() && args.core == args.compare_core {
        let text = "--core and --compare-core name the same CPU: each connection would wait for the other one's turn";
        return Err(Failure::Feed(Error::Config(text.to_owned())));
    }
    let beside = stream::build(args)?.mode(Mode::Kernel).setup(Setup::Kernel).steer(Steer::None);
    // The bypassed one first: attaching a program can take the link down, and the other connection with it.
    let bypassed = connect(builder, args.core, Side::Bypassed)?;
    let kernel = connect(beside, args.compare_core, Side::Kernel)?;
    let confined = confine::confine(args)?;

    let (to_kernel, from_kernel) = rtrb::RingBuffer::new(WAITING);
    let (to_bypassed, from_bypassed) = rtrb::RingBuffer::new(WAITING);
    let basis = if args.stamp_field.is_some() { Basis::Latency } else { Basis::Arrival };
    let mut desk =
        Desk { kernel: from_kernel, bypassed: from_bypassed, pairing: Pairing::new(), figures: Figures::new(basis) };
    // Both make the text of each event, or one would have less to do; only the bypassed one's is seen.
    let tap = |ring, out: Box<dyn io::Write + Send>| {
        Tap::new(Output::new(args, out), Identifier::new(args.stamp_field.as_deref()), ring)
    };
    let closing = Closing { stop, kernel_ready: AtomicBool::new(false), at: AtomicU64::new(u64::MAX) };
    let tap_kernel = tap(to_kernel, Box::new(io::sink()));
    let kernel = Lane { side: Side::Kernel, core: args.compare_core, feed: kernel, tap: tap_kernel, confined: None };
    let tap_bypassed = tap(to_bypassed, Box::new(io::stdout()));
    let bypassed = Lane { side: Side::Bypassed, core: args.core, feed: bypassed, tap: tap_bypassed, confined };
    let began = Monotonic.now();
    let (kernel, mut bypassed) = run_lanes(kernel, bypassed, args, &closing, &mut desk)?;
    desk.pair();

    let duration = Monotonic.now().since(began);
    let mut summary =
        Summary::new(&bypassed.feed.report(), &bypassed.tap.output, None, bypassed.result.as_ref(), duration);
    summary.compare = Some(compare(desk, &kernel, &bypassed, &closing));
    stream::tell(file, &summary, &mut bypassed.tap.output)?;
    bypassed.result.and(kernel.result).map(drop)
}

/// Connects on a thread that is pinned, so that the memory of a connection is near its core and this thread stays free.
fn connect(builder: FeedBuilder, core: Option<usize>, side: Side) -> Result<Feed, Failure> {
    thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            quiet::down(core, side.core_option(), false)?;
            builder.connect().map_err(Failure::Feed)
        });
        connecting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One connection before its thread runs.
struct Lane {
    side: Side,
    core: Option<usize>,
    feed: Feed,
    tap: Tap,
    /// To be sealed once the feed needs nothing more.
    confined: Option<Confined>,
}

/// One connection that is over.
struct Ran {
    side: Side,
    core: Option<usize>,
    feed: Feed,
    tap: Tap,
    result: Result<Outcome, Failure>,
    ended: Time,
    /// Nobody here has asked it to end.
    by_itself: bool,
}

/// When the connections are to be closed, beside what the command line says.
struct Closing<'a> {
    /// A signal has come.
    stop: &'a AtomicBool,
    /// The kernel connection's thread has had from the kernel what it needs.
    kernel_ready: AtomicBool,
    /// Nanoseconds of the clock: the other connection is over, and this one shall not go on alone.
    at: AtomicU64,
}

impl Closing<'_> {
    fn at(&self) -> Time {
        Time::from_nanos(self.at.load(Ordering::Relaxed))
    }

    fn set(&self, at: Time) {
        self.at.fetch_min(at.as_nanos(), Ordering::Relaxed);
    }
}

impl Lane {
    fn run(mut self, args: &StreamArgs, closing: &Closing<'_>) -> Ran {
        let confined = self.confined.take();
        let began = Monotonic.now();
        let until = || stream::closing_time(closing.stop, args, began).min(closing.at());
        let quiet = quiet::down(self.core, self.side.core_option(), args.rt);
        let parted = self.part(args, closing);
        let result =
            quiet.and(parted).and_then(|()| stream::drive(&mut self.feed, &mut self.tap, confined, |_, _| until()));
        let ended = Monotonic.now();
        let by_itself = ended < until() && self.tap.output.wants_more();
        self.tap.output.flush();
        let Self { side, core, feed, tap, .. } = self;
        Ran { side, core, feed, tap, result, ended, by_itself }
    }

    /// The kernel connection needs no privileges; the bypassed one takes those of all threads, and waits until the other one
    /// has had its core and its priority.
    fn part(&self, args: &StreamArgs, closing: &Closing<'_>) -> Result<(), Failure> {
        if self.side == Side::Bypassed {
            while !closing.kernel_ready.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            return Ok(());
        }
        let renounced = confine::renounce_if_asked(args);
        closing.kernel_ready.store(true, Ordering::Release);
        renounced
    }
}

/// Runs both to their end, and pairs what they have meanwhile.
fn run_lanes(
    kernel: Lane,
    bypassed: Lane,
    args: &StreamArgs,
    closing: &Closing<'_>,
    desk: &mut Desk,
) -> Result<(Ran, Ran), Failure> {
    thread::scope(|scope| {
        let start = |lane: Lane| {
            let thread = thread::Builder::new().name(lane.side.name().to_owned());
            thread.spawn_scoped(scope, move || lane.run(args, closing)).map_err(|error| {
                // The other one must not run on.
                closing.set(Time::ZERO);
                Failure::Machine(format!("no thread for a connection: {error}"))
            })
        };
        let (mut kernel, mut bypassed) = (Running::On(start(kernel)?), Running::On(start(bypassed)?));
        if let Err(error) = confine::renounce_if_asked(args) {
            closing.set(Time::ZERO);
            return Err(error);
        }
        loop {
            kernel = kernel.look(closing);
            bypassed = bypassed.look(closing);
            desk.pair();
            match (kernel, bypassed) {
                (Running::Over(kernel), Running::Over(bypassed)) => return Ok((*kernel, *bypassed)),
                both => (kernel, bypassed) = both,
            }
            thread::sleep(LOOK);
        }
    })
}

/// A connection's thread.
enum Running<'scope> {
    On(ScopedJoinHandle<'scope, Ran>),
    Over(Box<Ran>),
}

impl Running<'_> {
    /// Looks whether it is over; if so, the other one will not go on for long.
    fn look(self, closing: &Closing<'_>) -> Self {
        let thread = match self {
            Self::On(thread) if thread.is_finished() => thread,
            _ => return self,
        };
        let ran = thread.join().unwrap_or_else(|panic| {
            closing.set(Time::ZERO);
            std::panic::resume_unwind(panic)
        });
        // A kernel connection that has all that was asked for stops nobody: stdout is to have as much.
        if ran.by_itself || ran.side == Side::Bypassed {
            closing.set(Monotonic.now() + GRACE);
        }
        Self::Over(Box::new(ran))
    }
}

/// Where the notes of both connections come together.
struct Desk {
    kernel: rtrb::Consumer<Sample>,
    bypassed: rtrb::Consumer<Sample>,
    pairing: Pairing,
    figures: Figures,
}

impl Desk {
    /// Pairs whatever has been noted so far, oldest first.
    fn pair(&mut self) {
        loop {
            let kernel_first = match (self.kernel.peek(), self.bypassed.peek()) {
                (Ok(kernel), Ok(bypassed)) => kernel.at <= bypassed.at,
                (Ok(_), Err(_)) => true,
                (Err(_), Ok(_)) => false,
                (Err(_), Err(_)) => return,
            };
            let (side, ring) = match kernel_first {
                true => (Side::Kernel, &mut self.kernel),
                false => (Side::Bypassed, &mut self.bypassed),
            };
            let Ok(sample) = ring.pop() else { return };
            if let Some(pair) = self.pairing.push(side, sample) {
                self.figures.record(&pair);
            }
        }
    }
}

/// The closing figures.
fn compare(desk: Desk, kernel: &Ran, bypassed: &Ran, closing: &Closing<'_>) -> Comparison {
    let Desk { pairing, figures, .. } = desk;
    let paired = pairing.finish();
    let report = bypassed.feed.report();
    let share = |n: u64| (figures.measured != 0).then(|| n as f64 / figures.measured as f64);
    let connection = |ran: &Ran, alone, latency| Connection {
        mode: ran.feed.mode().to_string(),
        core: ran.core,
        messages: ran.tap.output.messages,
        alone,
        not_noted: ran.tap.dropped,
        latency_ns: Quantiles::of(latency),
        end: summary::end(ran.result.as_ref()),
    };
    let quantile = |q| figures.difference_ns.quantile(q);
    let difference = || {
        let (min, p1, p50) = (quantile(0.0)?, quantile(0.01)?, quantile(0.5)?);
        Some(Difference { min, p1, p50, p99: quantile(0.99)?, max: quantile(1.0)? })
    };
    Comparison {
        null_comparison: report.mode == Mode::Kernel,
        basis: figures.basis.name(),
        pairs: paired.pairs,
        measured: figures.measured,
        left_out_early: figures.early,
        left_out_without_stamp: figures.without_stamp,
        repeats: paired.repeats,
        bypassed_wins: figures.wins,
        ties: figures.ties,
        kernel_wins: figures.losses,
        bypassed_wins_share: share(figures.wins),
        ties_share: share(figures.ties),
        tie_below_ns: TIE_BELOW_NS,
        difference_ns: difference(),
        bypassed: connection(bypassed, paired.bypassed, &figures.bypassed_ns),
        kernel: connection(kernel, paired.kernel, &figures.kernel_ns),
        ended_early: ended_early(kernel, bypassed, closing.at()),
        notes: notes(&report, figures.basis, [kernel.core, bypassed.core]),
    }
}

/// Says which connection ended while the other one could have gone on.
fn ended_early(kernel: &Ran, bypassed: &Ran, closing_at: Time) -> Option<String> {
    let (first, second) = if kernel.ended <= bypassed.ended { (kernel, bypassed) } else { (bypassed, kernel) };
    let cut_off = !second.by_itself && second.ended >= closing_at;
    (first.by_itself && (cut_off || first.result.is_err())).then(|| {
        let seconds = second.ended.since(first.ended).as_secs_f64();
        let end = summary::end(first.result.as_ref());
        format!("the {} connection, {seconds:.1} s before the other one: {end}", first.side.name())
    })
}

/// What the two share, and what else stands between them and a fair comparison.
fn notes(report: &Report, basis: Basis, cores: [Option<usize>; 2]) -> Vec<String> {
    let mut notes = Vec::new();
    if report.mode == Mode::Kernel {
        notes.push("both on the kernel path: what is left of a difference is the error of the measurement".to_owned());
    } else {
        notes.push(format!(
            "frames of the kernel connection on {} pass the XDP program too, which costs them time that they would not \
             lose without it",
            report.interface
        ));
    }
    if cores.contains(&None) {
        notes.push("not each connection has a core of its own: --core N and --compare-core M give it one".to_owned());
    }
    // Two for the connections and one for the thread that pairs.
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    if cpus < 3 {
        notes.push(format!(
            "this program may use {cpus} CPU(s): its thread that pairs, interrupts, and the sender, if it runs here, take \
             time from the connections"
        ));
    }
    if basis == Basis::Arrival {
        notes.push("by arrival: it counts as a win too where the sender sends that copy first".to_owned());
    }
    notes
}
