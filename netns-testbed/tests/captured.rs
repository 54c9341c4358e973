//! Captured feeds through the exchange and back: what arrives is what was captured, byte for byte.
//!
//! Without the captures every test here is shown as ignored, together with where they were looked for.

mod common;

use std::sync::Arc;

use common::{PATIENCE, client, secure, start};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use sha2::{Digest as _, Sha256};
use tungstenite::Message;
use wiretick_testbed::exchange::{Config, Feed, Pace};
use wiretick_testbed::feeds::{Error, Feeds, Recording};

/// The captures that are replayed: one of each venue, the largest message (5 MB) among them.
const NAMES: [&str; 7] = [
    "BINANCE-spot-btcusdt-mixed",
    "BINANCE-usdm-alts2021-mixed",
    "BYBIT-v5-mixed",
    "COINBASE-advanced-mixed",
    "DERIBIT-v2-mixed",
    "KRAKEN-v1-mixed",
    "OKX-v5-mixed",
];

fn main() {
    let mut tests: Vec<Trial> = NAMES
        .into_iter()
        .map(|name| {
            test(format!("{name}_arrives_byte_for_byte"), move |feeds| replay(feeds.recording(name)?, Pace::Saturate))
        })
        .collect();
    tests.push(test("a_recorded_pace_can_be_sped_up".into(), |feeds| {
        // 30 s and 31 s; in Kraken's the collector's clock was set back twice.
        replay(feeds.recording("DERIBIT-v2-mixed")?, Pace::Recorded { speed: 60.0 })?;
        replay(feeds.recording("KRAKEN-v1-mixed")?, Pace::Recorded { speed: 60.0 })
    }));
    tests.push(test("every_capture_with_times_has_as_many_as_messages".into(), |feeds| {
        for name in feeds.names()? {
            let recording = feeds.recording(&name)?;
            assert!(!recording.messages.is_empty(), "{name}");
            assert_eq!(recording.arrivals.is_some(), name.ends_with("-mixed"), "{name}");
        }
        Ok(())
    }));
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

/// A test that needs the captures.
fn test(name: String, run: impl FnOnce(Feeds) -> Result<(), Failed> + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match Feeds::find() {
        Ok(feeds) => run(feeds).map(|()| Completion::Completed),
        Err(missing @ Error::Missing { .. }) => Ok(Completion::ignored_with(missing)),
        Err(other) => Err(other.into()),
    })
}

fn replay(recording: Recording, pace: Pace) -> Result<(), Failed> {
    let recording = Arc::new(recording);
    let config = Config { feed: Feed::Replay(Arc::clone(&recording)), pace, batch: 4, ..secure() };
    let exchange = start(config);
    let mut client = client(exchange.address(), "/ws");
    let (mut sent, mut received) = (Sha256::new(), Sha256::new());
    let mut messages = 0;
    while let Message::Text(text) = client.read()? {
        received.update(text.as_bytes());
        received.update(b"\n");
        messages += 1;
    }
    while client.read().is_ok() {}
    for line in recording.messages.iter() {
        sent.update(line);
        sent.update(b"\n");
    }
    assert_eq!(messages, recording.messages.len());
    assert_eq!(received.finalize(), sent.finalize());
    assert!(exchange.wait_ended(1, PATIENCE));
    assert!(exchange.stop().errors().is_empty());
    Ok(())
}
