//! What the path does for each message in steady state: nothing that costs more than reading it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use wiretick::event::{self, Event};
use wiretick::feed::Mode;
use wiretick::floor::{Clock, Monotonic};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler, Prepared};
use wiretick_testbed::exchange::{Config, Pace};

use crate::captures::{recording, replay};
use crate::rig::{Rig, Seen, synthetic};
use crate::{Test, counting};

pub(crate) const TESTS: &[Test] = &[
    ("hot_path::a_hundred_thousand_messages_take_no_memory", no_allocations),
    ("hot_path::twenty_thousand_orders_take_no_memory_and_leave_from_the_frame_they_are_sealed_in", orders),
    ("hot_path::a_hundred_thousand_messages_take_no_system_calls_but_wake_ups", no_system_calls),
];

/// Tests that need captured feeds.
pub(crate) const CAPTURED: &[Test] = &[("hot_path::captured_messages_in_one_segment_are_never_copied", never_copied)];

#[derive(Default)]
struct Count {
    messages: u64,
}

impl Handler for Count {
    fn payload(&mut self, _: Kind, _: &[u8], _: &mut Context<'_, '_>) {
        self.messages += 1;
    }

    fn event(&mut self, _: &Event<'_>, _: &mut Context<'_, '_>) {}
}

fn no_allocations() {
    const WARM: u64 = 20_000;
    const COUNTED: u64 = 100_000;
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let rig = Rig::new(synthetic(40_000, WARM + COUNTED));
        rig.topology
            .client
            .ns
            .enter(|| {
                let mut feed = rig.builder().mode(mode).connect().unwrap();
                let mut count = Count::default();
                let until = Monotonic.now() + Duration::from_secs(60);
                let turn = |feed: &mut wiretick::feed::Feed, count: &mut Count| {
                    let now = Monotonic.now();
                    assert!(now < until, "{} messages", count.messages);
                    feed.turn(now, count).unwrap();
                };
                while count.messages < WARM {
                    turn(&mut feed, &mut count);
                }
                assert_eq!(feed.mode(), mode);
                let before = counting::calls();
                while count.messages < WARM + COUNTED - 1_000 {
                    turn(&mut feed, &mut count);
                }
                assert_eq!(counting::calls() - before, 0, "{mode}: allocations in {COUNTED} messages");
            })
            .unwrap();
    }
}

/// Answers each message with a prepared order that starts with the number of its stamp.
struct Orders {
    order: Prepared,
    sent: u64,
}

impl Handler for Orders {
    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        let mut digits = itoa::Buffer::new();
        self.order.set(0, digits.format(event.stamp_ns.unwrap())).unwrap();
        context.sender.prepared(&self.order).unwrap();
        self.sent += 1;
    }

    /// An order that would be one too many, if it left.
    fn rehearse(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self.event(event, context);
        self.sent -= 1;
    }
}

fn orders() {
    const WARM: u64 = 5_000;
    const COUNTED: u64 = 20_000;
    let cold = [Mode::Driver, Mode::Skb, Mode::Kernel].map(|mode| (mode, None));
    // Between two messages there is time for two rehearsals.
    let warm = [Mode::Driver, Mode::Kernel].map(|mode| (mode, Some(Duration::from_micros(20))));
    for (mode, keep_warm) in cold.into_iter().chain(warm) {
        let feed = synthetic(20_000, WARM + COUNTED);
        let rig = Rig::new(Config { stamp_field: Some("n".to_owned()), measure_echo: true, ..feed });
        let direct = rig
            .topology
            .client
            .ns
            .enter(|| {
                let events = event::Options { stamp_field: Some("n".to_owned()) };
                let mut feed = rig.builder().mode(mode).events(events).keep_warm(keep_warm).connect().unwrap();
                let order = Prepared::new(r#"<stamp> {"side":"BUY"}"#, &["<stamp>"], 64).unwrap();
                let mut orders = Orders { order, sent: 0 };
                let until = Monotonic.now() + Duration::from_secs(60);
                let mut before = 0;
                let (mut counted, all) = (false, WARM + COUNTED);
                while feed.outcome().is_none() {
                    let now = Monotonic.now();
                    assert!(now < until, "{mode}: {} orders", orders.sent);
                    feed.turn(now, &mut orders).unwrap();
                    if before == 0 && orders.sent >= WARM {
                        assert_eq!(feed.mode(), mode);
                        before = counting::calls();
                    }
                    if !counted && orders.sent >= all - 1_000 {
                        counted = true;
                        assert_eq!(counting::calls() - before, 0, "{mode}: allocations in {COUNTED} orders");
                    }
                }
                assert_eq!(orders.sent, all);
                let report = feed.report();
                let rehearsals = report.lane.rehearsals;
                assert_eq!(rehearsals > COUNTED / 10, keep_warm.is_some(), "{mode}: {rehearsals} rehearsals");
                report.connection.tcp.segments_direct
            })
            .unwrap();
        let report = rig.exchange.stop();
        assert_eq!(report.echo_ns.len(), WARM + COUNTED, "{mode}: orders that arrived");
        match mode {
            Mode::Kernel => assert_eq!(direct, 0),
            // The first few went through the kernel.
            _ => assert!(direct > COUNTED * 95 / 100, "{mode}: {direct} orders were sealed in the frame they left in"),
        }
    }
}

fn no_system_calls() {
    watched_by_strace(&[]);
    watched_by_strace(&["--keep-warm"]);
}

/// Watches the program with `strace -c` while the exchange sends a hundred thousand messages.
fn watched_by_strace(options: &[&str]) {
    const RATE: u64 = 25_000;
    let rig = Rig::new(Config { count: None, ..synthetic(RATE, 1) });
    let mut program = rig.program(&["--mode", "driver", "--format", "none", "--log", "off"]);
    program.args(options);
    let mut program = program.stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    while rig.xdp_program().is_none() || rig.exchange.report().messages < 2 * RATE {
        assert!(began.elapsed() < Duration::from_secs(20), "no stream");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Only the lane's thread, which is the first one: the watchdog asks the kernel all the time.
    // By now it is promoted, and the frozen socket is looked at no more (a second after the promotion).
    let before = rig.exchange.report().messages;
    let pid = program.id().to_string();
    let mut strace = Command::new("strace")
        .args(["-c", "-U", "name,calls", "-p", &pid])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace: scripts/setup installs it");
    let began = Instant::now();
    while rig.exchange.report().messages - before < 110_000 {
        assert!(began.elapsed() < Duration::from_secs(30), "the stream has stopped");
        std::thread::sleep(Duration::from_millis(20));
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&strace), rustix::process::Signal::INT).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(strace.stderr.as_mut().unwrap(), &mut text).unwrap();
    strace.wait().unwrap();
    program.kill().unwrap();
    program.wait().unwrap();

    let calls: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?.parse().ok()?))
        })
        .filter(|(name, _)| *name != "total")
        .collect();
    // `sendto` wakes the driver up for what we transmit (acknowledgements: one for up to eight segments), `recvfrom` for the
    // fill ring. Both only where the driver asks for it.
    let others: Vec<_> = calls.iter().filter(|(name, _)| !["sendto", "recvfrom"].contains(name)).collect();
    assert!(others.is_empty(), "{others:?} in {text}");
    let wake_ups: u64 = calls.values().sum();
    assert!(wake_ups > 1_000, "strace has seen the program at work: {text}");
    assert!(wake_ups < 110_000 / 3, "{wake_ups} wake-ups for 110,000 messages: {text}");
}

/// One message a record. A sender that is held up puts several records in a segment and cuts one in two: a record that
/// had to be joined did not arrive in one segment, all others did.
fn never_copied() {
    let recording = recording("BINANCE-spot-btcusdt-mixed");
    let run = replay(&recording, Mode::Driver, Pace::Rate(20_000.try_into().unwrap()));
    let Seen { messages, in_umem, .. } = run.seen;
    let joined = run.report().connection.path.opener.records_joined;
    let whole = messages - joined;
    println!("{in_umem} of {whole} messages that came in one segment were read in UMEM, of {messages} in all");
    assert!(in_umem * 100 >= whole * 99, "{in_umem} of {whole} messages that came in one segment were read in UMEM");
    // Only 1,815 of the captured messages are too large for a segment: a busy machine cuts some more, but not many.
    assert!(whole * 100 >= messages * 90, "{joined} of {messages} records came in pieces");
}
