//! Promotion and demotion in turn, as often as it goes, while messages come and orders leave.

use std::net::TcpStream;
use std::time::Duration;

use wiretick::event::Event;
use wiretick::floor::{Clock, Monotonic};
use wiretick::handover::Demotion;
use wiretick::lane::{Handover, Way};
use wiretick::message::{CloseCode, Kind};
use wiretick::path::{Context, Handler};
use wiretick_testbed::exchange::Config;
use wiretick_testbed::impair::{Chance, Impairments, Plan as Weather};
use wiretick_testbed::topology::Plan;

use crate::Test;
use crate::handover::{Numbers, lane};
use crate::rig::{Rig, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("to_and_fro::a_thousand_times_nothing_is_lost_doubled_or_out_of_order", in_fair_weather),
    ("to_and_fro::under_a_loss_of_one_percent_neither", under_loss),
];

/// Follows the numbers of what comes, and answers one message in ten with an order.
#[derive(Default)]
struct Trader {
    numbers: Numbers,
    orders: u64,
}

impl Handler for Trader {
    fn payload(&mut self, kind: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.numbers.payload(kind, payload, context);
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self.numbers.event(event, context);
        if self.numbers.messages.is_multiple_of(10) && context.sender.text("1234567890123456789 buy").is_ok() {
            self.orders += 1;
        }
    }
}

fn in_fair_weather() {
    run(&Plan::default(), 1_000);
}

fn under_loss() {
    let loss = Impairments { loss: Chance::percent(1), ..Impairments::default() };
    // Each waits for what was lost to be sent again: `WIRETICK_ROUNDS=1000` takes a minute or two.
    let rounds = std::env::var("WIRETICK_ROUNDS").map_or(100, |rounds| rounds.parse().expect("a number of rounds"));
    run(&Plan { wire: Some(Weather::both(11, &loss)), ..Plan::default() }, rounds);
}

fn run(plan: &Plan, rounds: usize) {
    let config = Config { count: None, measure_echo: true, stamp_field: Some("n".to_owned()), ..synthetic(20_000, 1) };
    let rig = Rig::with(plan, config, false);
    let (topology, address) = (&rig.topology, rig.address());
    let (trader, report) = topology
        .client
        .ns
        .enter(|| {
            let (mut lane, id) = lane(topology, TcpStream::connect(address).unwrap(), true);
            let mut trader = Trader::default();
            let until = Monotonic.now() + Duration::from_secs(180);
            let (mut done, mut next) = (0, 50);
            while lane.connection(id).outcome().is_none() {
                let now = Monotonic.now();
                let messages = trader.numbers.messages;
                assert!(now < until, "{done} rounds, {messages} messages, {:?}", lane.connection(id).report());
                lane.turn(now, &mut trader).unwrap_or_else(|error| panic!("after {done} rounds: {error}"));
                if let Some(result) = lane.connection_mut(id).take_handover() {
                    // Under loss, a probe may be lost as often as it is sent.
                    if let Err(error) = result {
                        assert!(plan.wire.is_some(), "promotion {done}: {error}");
                    }
                    next = messages + 10 + done as u64 % 17;
                }
                if let Some(result) = lane.connection_mut(id).take_demotion() {
                    result.unwrap_or_else(|error| panic!("demotion {done}: {error}"));
                    done += 1;
                    next = messages + 10 + done as u64 % 23;
                    if done == rounds {
                        lane.connection_mut(id).close(now, CloseCode::NORMAL, "");
                    }
                }
                if messages >= next && lane.connection(id).path().is_open() {
                    next = u64::MAX;
                    match lane.connection(id).way() {
                        Way::Kernel => lane.promote(id, now),
                        Way::Bypass => lane.demote(id, now),
                        way => panic!("{way:?}"),
                    }
                }
            }
            (trader, lane.connection(id).report())
        })
        .unwrap();
    assert_eq!(trader.numbers.wrong, Vec::<String>::new());
    assert_eq!((report.handovers.len(), report.demotions.len()), (rounds, rounds));
    let quantile = |mut times: Vec<Duration>, q: f64| {
        times.sort();
        times[((times.len() - 1) as f64 * q) as usize]
    };
    let home: Vec<_> = report.demotions.iter().map(|Demotion { took, .. }| *took).collect();
    let out: Vec<_> = report.handovers.iter().map(|Handover { took, .. }| *took).collect();
    println!(
        "{} messages, {} orders, {} frames passed on; p50 and p99: promotion {:?} {:?}, demotion {:?} {:?}; {} demotions \
         with bytes unacknowledged",
        trader.numbers.messages,
        trader.orders,
        report.frames_passed,
        quantile(out.clone(), 0.5),
        quantile(out, 0.99),
        quantile(home.clone(), 0.5),
        quantile(home, 0.99),
        report.demotions.iter().filter(|demotion| demotion.unacknowledged_bytes > 0).count(),
    );
    let exchange = rig.exchange.stop();
    assert_eq!(exchange.echo_ns.len(), trader.orders, "orders that arrived");
}
