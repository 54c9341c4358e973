//! Sending allocates nothing, not even while a backlog grows to its limit or the ring has no frame left.

mod counting;
mod memory;

use std::time::Duration;

use counting::calls_of;
use memory::{Manners, Setup, World};
use wiretick::event::Event;
use wiretick::floor::Limits;
use wiretick::message::frame_len;
use wiretick::path::{Context, Handler, SendError};
use wiretick::ring::Ring as _;

const SECOND: Duration = Duration::from_secs(1);
/// Lower than the default, so that a test is quick, and more than a connection took at first before it took all.
const LIMIT: usize = 200_000;

/// Looks at nothing.
struct Idle;

impl Handler for Idle {
    fn event(&mut self, _: &Event<'_>, _: &mut Context<'_, '_>) {}
}

fn opened(tls: bool) -> World {
    let limits = Limits { outgoing_bytes_max: LIMIT, ..Limits::default() };
    let mut world = World::new(Setup { manners: Manners { tls, ..Manners::default() }, limits, ..Setup::default() });
    world.until(&mut Idle, 5 * SECOND, |world| world.connection().path().is_open()).unwrap();
    // All that was said so far is on its way: no frame is waited for.
    for _ in 0..100 {
        world.step(&mut Idle).unwrap();
    }
    world
}

/// Sends until there is no room for another one; answers how many there was room for.
fn fill(world: &mut World, order: &str) -> usize {
    let mut sender = world.lane.connection_mut(world.client).sender();
    let mut sent = 0;
    loop {
        match sender.text(order) {
            Ok(()) => sent += 1,
            Err(SendError::Full { waiting, bytes_max }) => {
                assert!(waiting <= bytes_max && bytes_max == LIMIT, "{waiting}");
                return sent;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_backlog_up_to_the_limit_allocates_nothing_and_arrives() {
    // A short one, one that no segment has room for, one that takes four records: each as often as it fits.
    let orders = [100, 5_000, 60_000].map(|len| "o".repeat(len));
    for tls in [true, false] {
        for order in &orders {
            let mut world = opened(tls);
            for _ in 0..2 {
                let heard = world.exchange.heard.len();
                let mut sent = 0;
                assert_eq!(calls_of(|| sent = fill(&mut world, order)), 0, "tls {tls}, {} bytes", order.len());
                let bytes = sent * frame_len(order.len());
                assert!(bytes > LIMIT * 3 / 5, "{sent} of {} bytes", order.len());
                let all = heard + bytes;
                world.until(&mut Idle, 5 * SECOND, |world| world.exchange.heard.len() >= all).unwrap();
                assert_eq!(world.exchange.heard.len(), all);
            }
        }
    }
}

#[test]
fn a_ring_without_a_free_frame_costs_no_memory() {
    let mut world = opened(true);
    let order = "o".repeat(100);
    // Once with frames, so that the far end of the wire has its room.
    let all = fill(&mut world, &order) * frame_len(order.len());
    let heard = |world: &mut World| world.exchange.heard.len();
    world.until(&mut Idle, 5 * SECOND, |world| heard(world) >= all).unwrap();

    let mut taken = Vec::new();
    while let Some(frame) = world.lane.bypass_mut().unwrap().ring.lend() {
        taken.push(frame);
    }
    let more = fill(&mut world, &order) * frame_len(order.len());
    let before = world.connection().report().tcp;
    let calls = calls_of(|| {
        for _ in 0..100 {
            world.now = world.now + Duration::from_micros(10);
            world.turn(&mut Idle).unwrap();
        }
    });
    let after = world.connection().report().tcp;
    assert!(after.send_no_frame - before.send_no_frame > 20, "there were frames");
    // The one frame that was held for the first orders leaves, and the wire in memory makes a copy of it.
    assert_eq!((calls, after.segments_direct - before.segments_direct), (1, 1));
    for frame in taken {
        world.lane.bypass_mut().unwrap().ring.cancel(frame);
    }
    world.until(&mut Idle, 30 * SECOND, |world| heard(world) >= all + more).unwrap();
    assert_eq!(heard(&mut world), all + more);
}
