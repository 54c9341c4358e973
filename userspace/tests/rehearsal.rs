//! Keeping the path warm changes nothing: not what the handler gets, not what the exchange gets, not what is counted.

mod counting;
mod memory;

use std::time::Duration;

use counting::calls_of;
use memory::{Manners, Setup, World, client_frames};
use wiretick::event::{Body, Event};
use wiretick::floor::Time;
use wiretick::path::{Context, Handler, Mark};
use wiretick::ring::Ring as _;
use wiretick_impair::{Chance, Impairments, Plan};

const SECOND: Duration = Duration::from_secs(1);
const EVERY: Duration = Duration::from_micros(20);
const TRADES: usize = 400;

/// Answers each trade with its id, for real or not.
#[derive(Default)]
struct Trader {
    /// Ids, each with the gap before it.
    trades: Vec<(u64, bool)>,
    rehearsed: u64,
    last_rehearsed: u64,
    marks: Vec<Mark>,
    /// Whether to look at marks.
    marking: bool,
}

impl Handler for Trader {
    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        let Body::Trade(trade) = &event.body else { panic!("{event:?}") };
        self.trades.push((trade.trade_id, context.gap.is_some()));
        context.sender.text(itoa::Buffer::new().format(trade.trade_id)).unwrap();
    }

    fn rehearse(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        let Body::Trade(trade) = &event.body else { panic!("{event:?}") };
        self.rehearsed += 1;
        self.last_rehearsed = trade.trade_id;
        assert!(context.gap.is_none());
        context.sender.text("an order that is none").unwrap();
        // Does nothing either.
        context.stop();
    }

    fn mark(&mut self, mark: Mark) {
        if self.marking && !matches!(mark, Mark::Turn(_)) {
            self.marks.push(mark);
        }
    }
}

fn trade(id: usize) -> String {
    // A gap now and then.
    let id = id + id / 100;
    format!(
        r#"{{"e":"trade","E":1723161600123,"s":"BTCUSDT","t":{id},"p":"61234.56000000","q":"0.001","T":1723161600122,"m":true,"M":true}}"#
    )
}

fn opened(setup: Setup) -> (World, Trader) {
    let mut world = World::new(setup);
    let mut trader = Trader::default();
    world.until(&mut trader, 5 * SECOND, |world| world.connection().path().is_open()).unwrap();
    (world, trader)
}

/// Trades with pauses between them, until all have come and all answers have arrived.
fn stream(world: &mut World, trader: &mut Trader) {
    for id in 0..TRADES {
        world.exchange.send_texts(&[&trade(id)]);
        let until = world.now + Duration::from_micros(200);
        while world.now < until {
            world.step(trader).unwrap();
        }
    }
    let end = world.now + 20 * SECOND;
    while trader.trades.len() < TRADES || client_frames(&world.exchange.heard).len() < TRADES {
        world.step(trader).unwrap();
        assert!(world.now < end, "{} trades, {} bytes of answers", trader.trades.len(), world.exchange.heard.len());
    }
}

#[test]
fn nobody_notices() {
    let loss = Impairments { loss: Chance::percent(3), ..Impairments::default() };
    let lossy = Plan { to_client: loss.clone(), to_exchange: loss, ..Plan::default() };
    for (tls, ipv6, weather) in [
        (true, false, Plan::default()),
        (false, true, Plan::default()),
        (true, true, lossy.clone()),
        (false, false, lossy),
    ] {
        let run = |keep_warm| {
            let manners = Manners { tls, ..Manners::default() };
            let vlan = ipv6.then_some(42);
            let weather = weather.clone();
            let (mut world, mut trader) = opened(Setup { manners, weather, ipv6, vlan, keep_warm, ..Setup::default() });
            stream(&mut world, &mut trader);
            let lane = world.lane.counters();
            assert_eq!(lane.rehearsals, trader.rehearsed);
            let mut report = world.connection().report();
            // The signature in the handshake is a byte longer now and then.
            report.path.path.stream_bytes = 0;
            let report = format!("{report:?} {:?}", world.lane.bypass().unwrap().ring.counters());
            (trader, client_frames(&world.exchange.heard), world.now, report, lane.turns)
        };
        let (cold, warm) = (run(None), run(Some(EVERY)));
        assert_eq!(cold.0.rehearsed, 0);
        assert!(warm.0.rehearsed > TRADES as u64, "{} rehearsals", warm.0.rehearsed);
        assert_eq!(warm.0.trades.len(), TRADES);
        assert_eq!(warm.0.trades, cold.0.trades);
        assert_eq!(warm.1, cold.1, "the answers, and nothing else");
        // The same seed, the same virtual time: every counter is the same, whatever it counts.
        assert_eq!((warm.2, &warm.3, warm.4), (cold.2, &cold.3, cold.4));
        // Other messages are taken as time goes by.
        assert!(warm.0.last_rehearsed > TRADES as u64 / 2, "still {}", warm.0.last_rehearsed);
    }
}

#[test]
fn it_waits_for_a_pause_and_for_a_message_and_takes_no_memory() {
    let (mut world, mut trader) = opened(Setup { keep_warm: Some(EVERY), ..Setup::default() });
    let idle = |world: &mut World, trader: &mut Trader, turns: u32| {
        let calls = calls_of(|| {
            for _ in 0..turns {
                world.now = world.now + EVERY / 2;
                world.turn(trader).unwrap();
            }
        });
        (calls, std::mem::take(&mut trader.rehearsed))
    };
    assert_eq!(idle(&mut world, &mut trader, 100).1, 0, "there was nothing to rehearse");
    world.burst(&[vec![trade(1)]]);
    world.turn(&mut trader).unwrap();
    // The first one makes what the others use.
    assert_eq!(idle(&mut world, &mut trader, 4).1, 2);
    let calls = idle(&mut world, &mut trader, 1_000);
    assert_eq!(calls, (0, 500), "allocations, and a rehearsal every other turn");
    // As long as there is something to do, nothing else is done.
    for id in 2..100 {
        world.burst(&[vec![trade(id)]]);
        world.turn(&mut trader).unwrap();
        world.now = world.now + EVERY / 2;
        world.turn(&mut trader).unwrap();
    }
    assert_eq!(trader.rehearsed, 0);
}

#[test]
fn it_leaves_one_mark_of_its_own() {
    let (mut world, mut trader) = opened(Setup { keep_warm: Some(EVERY), ..Setup::default() });
    world.burst(&[vec![trade(1)]]);
    world.turn(&mut trader).unwrap();
    trader.marking = true;
    for _ in 0..10 {
        world.now = world.now + EVERY;
        world.turn(&mut trader).unwrap();
    }
    assert_eq!(trader.marks, [Mark::Rehearsed; 10]);
}

#[test]
fn a_connection_that_closes_is_not_kept_warm() {
    let (mut world, mut trader) = opened(Setup { keep_warm: Some(EVERY), ..Setup::default() });
    world.burst(&[vec![trade(1)]]);
    world.turn(&mut trader).unwrap();
    world.lane.connection_mut(world.client).close(world.now, wiretick::message::CloseCode::NORMAL, "");
    for _ in 0..10 {
        world.now = world.now + EVERY;
        world.turn(&mut trader).unwrap();
    }
    assert_eq!(trader.rehearsed, 0);
    assert_ne!(world.now, Time::ZERO);
}
