//! The handover's translation: a connection is taken over, lives, is lifted out, is taken over again; and on the wire it is
//! the same connection all the time.
//!
//! The input is read as a script: a lease, then step by step what an honest peer sends, in whatever order it arrives, what we
//! send, how time passes, and when the connection moves. The model has one number space and never moves.

use std::time::Duration;

use arbitrary::Unstructured;
use wiretick::floor::{Lease, Seq};
use wiretick::segment::Lifted;

use super::bench::{Bench, Theirs, lease, ours};

/// A script longer than this says nothing new.
const STEPS_MAX: usize = 200;

/// What the model knows beside the bench.
struct Model {
    bench: Bench,
    /// The peer's window as it was last heard, in bytes.
    window: u32,
    /// The peer's clock, and what of it has to be echoed.
    clock: u32,
    seed: u64,
}

/// Runs the script.
pub fn check(input: &[u8]) {
    let mut script = Unstructured::new(input);
    let Ok((lease, hop)) = lease(&mut script) else { return };
    let bench = Bench::adopted(&lease, &hop);
    let clock = lease.timestamps.map_or(0, |clock| clock.recent);
    let shift = lease.scales.map_or(0, |scales| scales.send);
    let window = (lease.snd_wnd >> shift) << shift;
    let mut model = Model { bench, window, clock, seed: 1 };
    for _ in 0..STEPS_MAX {
        if script.is_empty() || step(&mut model, &mut script).is_err() {
            break;
        }
    }
    move_on(&mut model);
}

fn step(model: &mut Model, script: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    match script.arbitrary::<u8>()? % 8 {
        0..3 => {
            let (len, back): (u8, u8) = script.arbitrary()?;
            let at = model.bench.frontier();
            send_theirs(model, at, usize::from(len) * 4, back, script.arbitrary()?);
        }
        3 => {
            // Out of order, or again.
            let (by, len): (i16, u8) = script.arbitrary()?;
            let at = (model.bench.frontier() + i64::from(by % 4000)).max(0);
            send_theirs(model, at, usize::from(len) * 4, 0, script.arbitrary()?);
        }
        4 => model.bench.send(usize::from(script.arbitrary::<u16>()?) % 6000),
        5 => model.bench.send_direct(usize::from(script.arbitrary::<u8>()?).max(1)),
        6 => model.bench.later(Duration::from_micros(u64::from(script.arbitrary::<u16>()?) * 16)),
        _ => move_on(model),
    }
    // All that has come is acknowledged, at the latest, when the acknowledgement is due.
    assert_eq!(model.bench.tcp.rcv_nxt(), model.bench.at(model.bench.frontier()), "what has come came up");
    Ok(())
}

/// The peer sends what it has at `at`, and acknowledges all but the last `back` bytes of ours that it can have.
fn send_theirs(model: &mut Model, at: i64, len: usize, back: u8, window: u16) {
    let bench = &mut model.bench;
    let allowed = usize::try_from(bench.edge.distance(bench.at(at))).unwrap_or(0);
    let base = bench.honest(at, len.min(allowed).min(1400));
    model.clock = model.clock.wrapping_add(1);
    let acknowledged = bench.sent.saturating_sub(back.into()).max(bench.acknowledged);
    let segment =
        Theirs { ack: bench.our_start + acknowledged, window, timestamp: base.timestamp.map(|_| model.clock), ..base };
    // What has come before altogether is answered, and nothing in it is believed; nor in what has no bytes and begins before
    // our last acknowledgement, as a keep-alive does.
    let is_old = if segment.payload.is_empty() {
        bench.last_ack.unwrap_or(bench.lease.rcv_nxt).is_after(segment.seq)
    } else {
        at + segment.payload.len() as i64 <= bench.frontier()
    };
    bench.arrive(&segment);
    if !is_old {
        bench.acknowledged = acknowledged;
        let shift = bench.lease.scales.map_or(0, |scales| scales.send);
        model.window = u32::from(window) << shift;
    }
}

/// The connection is lifted, what comes of it is what the model says, and it is taken over again.
fn move_on(model: &mut Model) {
    let bench = &mut model.bench;
    bench.turn();
    let Ok(Lifted { lease, unacknowledged, unsent }) = bench.tcp.lift() else {
        panic!("an open connection that has been read empty can move: {:?}", bench.tcp.state());
    };
    let (acknowledged, sent, queued) = (bench.acknowledged, bench.sent.max(bench.acknowledged), bench.queued);
    assert_eq!(lease.snd_nxt, bench.our_start + acknowledged);
    assert_eq!(unacknowledged, (acknowledged..sent).map(ours).collect::<Vec<_>>());
    assert_eq!(unsent, (sent..queued).map(ours).collect::<Vec<_>>());
    assert_eq!(lease.rcv_nxt, bench.at(bench.frontier()));
    assert_eq!(lease.rcv_edge, bench.edge, "what was promised");
    assert_eq!(lease.snd_wnd, model.window);
    let Lease { tuple, mss, scales, sack, .. } = bench.lease;
    assert_eq!((lease.tuple, lease.mss, lease.scales, lease.sack), (tuple, mss, scales, sack));
    match (lease.timestamps, bench.lease.timestamps) {
        (Some(now), Some(then)) => {
            assert_eq!(now.at(bench.now), then.at(bench.now), "our clock goes on");
            assert_eq!(now.tick_ns, then.tick_ns);
        }
        (now, then) => assert_eq!(now, then),
    }
    assert_eq!(bench.tcp.has_hole(), bench.put_end() > bench.frontier());

    model.seed = model.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    bench.adopt_again(&lease, model.seed);
    bench.forget_what_is_behind_holes();
    let again = [unacknowledged, unsent].concat();
    bench.queued = acknowledged;
    bench.turn();
    bench.send(again.len());
    assert_eq!(bench.queued, queued, "there was room for it before");
    assert_eq!(bench.last_ack.map(|ack| Seq(ack.0)), Some(lease.rcv_nxt), "the peer hears from us");
}
