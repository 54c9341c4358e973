//! A feed that outlives its connections: made anew, replaced before they are left, several at once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use wiretick::event::{Body, Event};
use wiretick::feed::{Feed, FeedBuilder, Mode, Report};
use wiretick::floor::{Clock, Monotonic, Time};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler};
use wiretick_testbed::exchange::{Config, Exchange, Running, Start};

use crate::Test;
use crate::rig::{PATIENCE, Rig, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("lifecycle::an_exchange_that_restarts_is_found_again", restart),
    ("lifecycle::a_connection_of_some_age_is_replaced_and_no_message_missed", replaced),
    ("lifecycle::of_two_connections_the_first_copy_counts_and_one_may_die", two),
    ("lifecycle::a_connection_that_goes_silent_is_made_anew", silent),
    ("lifecycle::pings_and_subscriptions_keep_to_the_venues_budget", budget),
    ("lifecycle::events_behind_the_venues_clock_are_told", lagging),
    ("lifecycle::without_reconnect_silence_is_an_error", idle_is_an_error),
];

/// Follows every chain of the synthetic feed: each number has to be the one after the last.
#[derive(Default)]
struct Chains {
    messages: u64,
    last: HashMap<(String, &'static str), u64>,
    wrong: Vec<String>,
    gaps: u64,
    interrupted: Vec<String>,
    by_connection: [u64; 8],
    behind: Vec<Option<Duration>>,
}

impl Handler for Chains {
    fn payload(&mut self, _: Kind, _: &[u8], context: &mut Context<'_, '_>) {
        self.messages += 1;
        self.by_connection[context.connection] += 1;
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self.gaps += u64::from(context.gap.is_some());
        let (symbol, kind, first, last) = match &event.body {
            Body::Trade(trade) => (trade.symbol, "trade", trade.trade_id, trade.trade_id),
            Body::Depth(depth) => (depth.symbol, "depth", depth.first_update_id, depth.final_update_id),
            _ => return,
        };
        if let Some(before) = self.last.insert((symbol.to_owned(), kind), last)
            && first != before + 1
        {
            self.wrong.push(format!("{kind} {first} of {symbol} after {before}"));
        }
    }

    fn interrupted(&mut self, reason: &str) {
        self.interrupted.push(reason.to_owned());
    }

    fn lagging(&mut self, _: usize, behind: Option<Duration>) {
        self.behind.push(behind);
    }
}

/// A venue: its streams go on whether anybody listens or not.
fn venue(rate: u64) -> Config {
    Config { count: None, start: Start::Underway, ..synthetic(rate, 1) }
}

struct Run {
    feed: Feed,
    chains: Chains,
    until: Time,
}

impl Run {
    fn turns(&mut self, what: &str, mut done: impl FnMut(&mut Feed, &Chains) -> bool) {
        while !done(&mut self.feed, &self.chains) {
            let now = Monotonic.now();
            assert!(now < self.until, "{what}: {} messages, {:?}", self.chains.messages, self.feed.report().legs);
            self.feed.turn(now, &mut self.chains).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    fn messages(&mut self, n: u64) {
        let goal = self.chains.messages + n;
        self.turns("messages", |_, chains| chains.messages >= goal);
    }

    fn in_driver_mode(&mut self) {
        self.turns("driver mode", |feed, _| {
            feed.is_settled() && feed.report().legs.iter().all(|leg| leg.mode == Mode::Driver)
        });
    }

    fn finish(mut self) -> (Chains, Report) {
        let report = self.feed.report();
        self.feed.close(Monotonic.now());
        self.turns("closing", |feed, _| feed.outcome().is_some());
        (self.chains, report)
    }
}

/// Has a feed in driver mode stream on the client's machine, and does `deed` with it there.
fn with(rig: &Rig, builder: FeedBuilder, deed: impl FnOnce(&mut Run) + Send) -> (Chains, Report) {
    rig.topology
        .client
        .ns
        .enter(|| {
            let feed = builder.mode(Mode::Driver).connect().unwrap();
            let mut run = Run { feed, chains: Chains::default(), until: Monotonic.now() + PATIENCE };
            run.in_driver_mode();
            run.messages(1_000);
            deed(&mut run);
            run.finish()
        })
        .unwrap()
}

fn restart() {
    let rig = Rig::new(venue(5_000));
    let address = rig.address();
    let builder = rig.builder().reconnect(true);
    let Rig { topology, exchange, .. } = rig;
    let (first, second) = (Mutex::new(Some(exchange)), Mutex::new(None));
    let (chains, report) = topology
        .client
        .ns
        .enter(|| {
            let feed = builder.mode(Mode::Driver).connect().unwrap();
            let mut run = Run { feed, chains: Chains::default(), until: Monotonic.now() + PATIENCE };
            run.in_driver_mode();
            run.messages(1_000);
            std::thread::scope(|scope| {
                // The exchange goes away while the feed runs.
                scope.spawn(|| first.lock().unwrap().take().map(Running::stop));
                run.turns("until interrupted", |_, chains| !chains.interrupted.is_empty());
            });
            let began = Monotonic.now();
            run.turns("for a while", |_, _| Monotonic.now().since(began) > Duration::from_millis(500));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let listener = topology.exchange.ns.listen(address).unwrap();
                    *second.lock().unwrap() = Some(Exchange::start(venue(5_000), listener).unwrap());
                });
            });
            run.messages(1_000);
            run.in_driver_mode();
            run.messages(1_000);
            run.finish()
        })
        .unwrap();
    assert_eq!(chains.interrupted.len(), 1, "{:?}", chains.interrupted);
    assert_eq!(report.reconnects, 1);
    assert!(chains.gaps > 0 || !chains.wrong.is_empty(), "the new exchange counts anew, and that is told");
}

fn replaced() {
    let rig = Rig::new(venue(10_000));
    let (chains, report) = with(&rig, rig.builder().age_max(Duration::from_secs(2)), |run| {
        run.turns("three replacements", |feed, _| feed.report().replaced >= 3);
        run.in_driver_mode();
        run.messages(1_000);
    });
    println!("{} messages, {} replaced, {:?}", chains.messages, report.replaced, chains.by_connection);
    assert_eq!(chains.wrong, Vec::<String>::new());
    assert_eq!((chains.gaps, chains.interrupted.len()), (0, 0));
}

fn two() {
    let rig = Rig::new(venue(10_000));
    let (chains, report) = with(&rig, rig.builder().connections(2), |run| {
        run.turns("two connections", |feed, _| feed.report().legs.len() == 2 && feed.is_settled());
        run.messages(10_000);
        println!("{:?}", run.feed.report().legs);
        // The exchange's machine drops the older one.
        let victim = run.feed.report().legs[0].tuple.local.port();
        let kill = rig.topology.exchange.ns.command("ss").args(["-K", "dport", "=", &victim.to_string()]).output();
        assert!(kill.unwrap().status.success());
        run.turns("a third connection", |feed, _| feed.report().reconnects == 2 && feed.report().legs.len() == 2);
        run.in_driver_mode();
        run.messages(10_000);
    });
    assert_eq!(chains.wrong, Vec::<String>::new());
    assert_eq!((chains.gaps, chains.interrupted.len()), (0, 0));
    let shares: Vec<_> = report.legs.iter().map(|leg| leg.share.unwrap()).collect();
    assert!(shares.len() == 2 && shares.iter().all(|share| share.first > 0), "{shares:?}");
}

fn silent() {
    // Nothing comes until somebody asks, and nobody asks.
    let rig = Rig::new(Config { start: Start::OnSubscribe, ..venue(1_000) });
    let (reconnects, messages) = rig
        .topology
        .client
        .ns
        .enter(|| {
            let idle = Duration::from_millis(300);
            let feed = rig.builder().mode(Mode::Driver).reconnect(true).idle_max(idle).connect().unwrap();
            let mut run = Run { feed, chains: Chains::default(), until: Monotonic.now() + PATIENCE };
            run.turns("three times", |feed, _| feed.report().reconnects >= 3);
            let (chains, report) = run.finish();
            (report.reconnects, chains.messages)
        })
        .unwrap();
    assert!(reconnects >= 3 && messages == 0, "{reconnects} {messages}");
}

/// A ping every 20 ms and 12 subscriptions, and 5 messages a second may be sent.
fn budget() {
    let rig = Rig::new(Config { ping_interval: Some(Duration::from_millis(20)), ..venue(2_000) });
    let mut builder = rig.builder();
    for n in 0..12 {
        builder = builder.subscribe(&format!("not what this exchange understands: {n}"));
    }
    let began = Monotonic.now();
    let (chains, report) = with(&rig, builder, |run| {
        run.turns("twelve subscriptions", |_, _| rig.exchange.report().received.text == 12);
        let seconds = Monotonic.now().since(began).as_secs_f64();
        let received = rig.exchange.report().received;
        let all = received.text + received.pong + received.ping;
        assert!(all as f64 <= 5.0 * (seconds + 1.0), "{all} messages in {seconds:.1} s");
        run.turns("four seconds", |_, _| Monotonic.now().since(began) > Duration::from_secs(4));
    });
    let (pings, path) = (rig.exchange.report().pings, report.connection.path.path);
    println!("{pings:?} {path:?}");
    assert!(path.pings_superseded > 50 && path.pings_answered <= 5 * 5, "{path:?}");
    assert_eq!((pings.strange, chains.gaps), (0, 0));
    assert!(pings.answered > 3 && pings.overtaken > 50, "{pings:?}");
}

/// The synthetic venue's clock stands in the past.
fn lagging() {
    let rig = Rig::new(venue(2_000));
    let (chains, report) = with(&rig, rig.builder().lag_max(Duration::from_secs(1)), |run| {
        run.turns("behind", |_, chains| !chains.behind.is_empty());
    });
    assert!(chains.behind[0].is_some_and(|lag| lag > Duration::from_secs(3600)), "{:?}", chains.behind);
    assert_eq!(chains.behind.len(), 1, "told once");
    assert!(report.legs[0].late.unwrap() > 100, "{:?}", report.legs);
}

fn idle_is_an_error() {
    let rig = Rig::new(Config { start: Start::OnSubscribe, ..venue(1_000) });
    let run = rig.run(rig.builder().mode(Mode::Driver).idle_max(Duration::from_millis(300)));
    let error = run.error();
    assert!(error.contains("silent") && error.contains("in mid-stream"), "{error}");
}
