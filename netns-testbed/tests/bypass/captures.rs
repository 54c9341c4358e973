//! Captured feeds through every way: as many messages, in the same order, byte for byte.

use std::collections::BTreeMap;
use std::sync::Arc;

use wiretick::feed::Mode;
use wiretick::floor::Limits;
use wiretick::floor::counters::Counters as _;
use wiretick_testbed::exchange::{Config, Feed as Source, Pace};
use wiretick_testbed::feeds::{Feeds, Recording};

use crate::Test;
use crate::rig::{Rig, Run, sha256_of, tls};

pub(crate) const TESTS: &[Test] = &[
    ("captures::spot_btcusdt_is_the_same_through_driver_skb_and_kernel", spot),
    ("captures::usdm_btcusdt_is_the_same_through_driver_skb_and_kernel", usdm),
    ("captures::a_coinbase_snapshot_of_5_mb_passes_raw", coinbase),
    ("captures::recorded_bursts_pass_in_driver_mode", bursts),
];

pub(crate) fn recording(name: &str) -> Arc<Recording> {
    Arc::new(Feeds::find().unwrap().recording(name).unwrap())
}

/// Replays a recording, with the promotion in mid-stream.
pub(crate) fn replay(recording: &Arc<Recording>, mode: Mode, pace: Pace) -> Run {
    let config = Config {
        security: tls(),
        feed: Source::Replay(Arc::clone(recording)),
        pace,
        core: Some(0),
        ..Config::default()
    };
    let rig = Rig::new(config);
    let limits = Limits { message_bytes_max: 8 << 20, ..Limits::default() };
    let run = rig.run(rig.builder().mode(mode).limits(limits));
    run.result.as_ref().unwrap_or_else(|error| panic!("{mode}: {error}"));
    let exchange = rig.exchange.stop();
    assert_eq!(exchange.errors(), Vec::<String>::new());
    assert_eq!(run.report().mode, mode, "the mode in effect");
    assert_eq!(run.seen.messages, recording.messages.len() as u64, "{mode}: messages");
    assert_eq!(run.seen.sha256(), sha256_of(recording.messages.iter()), "{mode}: bytes");
    if mode != Mode::Kernel {
        assert_eq!(run.report().connection.handovers.len(), 1, "promoted in mid-stream");
        assert_eq!(run.seen.in_umem, run.seen.in_place);
    }
    run
}

fn by_type(run: &Run) -> BTreeMap<&'static str, u64> {
    run.report().connection.path.events.nonzero().into_iter().collect()
}

fn spot() {
    let recording = recording("BINANCE-spot-btcusdt-mixed");
    assert_eq!(recording.messages.len(), 99_573);
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let run = replay(&recording, mode, Pace::Saturate);
        let expected = [("trade", 19_904), ("book_ticker", 73_174), ("depth", 6_495)];
        assert_eq!(by_type(&run), expected.into());
        assert_eq!(run.seen.gaps, 0);
    }
}

fn usdm() {
    let recording = recording("BINANCE-usdm-btcusdt-mixed");
    assert_eq!(recording.messages.len(), 93_953);
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let run = replay(&recording, mode, Pace::Saturate);
        let expected = [("trade", 21_313), ("book_ticker", 66_089), ("depth", 6_551)];
        assert_eq!(by_type(&run), expected.into());
        assert_eq!(run.seen.gaps, 0);
    }
}

fn coinbase() {
    let recording = recording("COINBASE-advanced-mixed");
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let run = replay(&recording, mode, Pace::Saturate);
        assert_eq!(run.seen.largest, 5_079_379);
        assert_eq!(run.report().connection.path.messages.text, 1030);
    }
}

/// A piece of the capture at its own arrival times, ten times as fast: 600 messages within a millisecond.
fn bursts() {
    let whole = recording("BINANCE-spot-btcusdt-mixed");
    let n = 20_000;
    let lines: Vec<&[u8]> = whole.messages.iter().take(n).collect();
    let part = Arc::new(Recording {
        messages: wiretick_testbed::feeds::Lines::new(lines.join(&b'\n')),
        arrivals: whole.arrivals.as_ref().map(|arrivals| arrivals[..n].to_vec()),
    });
    replay(&part, Mode::Driver, Pace::Recorded { speed: 50.0 });
}
