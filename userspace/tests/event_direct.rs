//! The short way of the event stage against the long way, over hundreds of thousands of spoilt messages: bits turned,
//! bytes put in, left out, swapped, doubled, messages cut short. Both ways have to give the same event, or refuse it for
//! the same reason.
//!
//! The messages are written by hand in the venue's forms; where there are captured ones (see `event_captures.rs`), those
//! are spoilt as well. The order of the changes is the same in every run.

#[path = "event_oracle/both.rs"]
mod both;
mod spoilt;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use both::Both;
use flate2::read::GzDecoder;
use spoilt::{Numbers, spoil};
use wiretick::event::Options;

const CASES: usize = 240_000;

/// What is put into messages.
const LETTERS: &[u8] = b"\"\\{}[]:,.0123456789-+eE tfn\n\x7f\xc3\xff\0";

/// One message of each form, as it is, in an envelope, and with a stamp in every place there is for one.
fn written() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for message in [
        r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#,
        r#"{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","X":"MARKET","m":false}"#,
        r#"{"e":"aggTrade","E":1633998523963,"s":"NKNUSDT","a":15683430,"p":"0.35280000","q":"58.00000000","f":19862790,"l":19862790,"T":1633998523963,"m":false,"M":true}"#,
        r#"{"e":"aggTrade","E":1626992741575,"a":16599292,"s":"CTKUSDT","p":"1.01100","q":"10","f":23961322,"l":23961322,"T":1626992741421,"m":false}"#,
        r#"{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#,
        r#"{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}"#,
        r#"{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[["61737.63000000","0.00000000"],["56854.58","1"]],"a":[]}"#,
        r#"{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"]],"a":[["61496.50","0.010"],["1234567890123","0"]]}"#,
    ] {
        let stamped = |message: &str| format!(r#"{},"n":8123456789012      }}"#, &message[..message.len() - 1]);
        let enveloped = |message: &str| format!(r#"{{"stream":"btcusdt@stream","data":{message}}}"#);
        for message in [message.to_owned(), stamped(message)] {
            messages.extend([enveloped(&message), stamped(&enveloped(&message)), message].map(String::into_bytes));
        }
    }
    messages
}

/// Some of the captured messages, where there are any.
fn captured() -> Vec<Vec<u8>> {
    let folder = std::env::var_os("WIRETICK_FEEDS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/feeds"), PathBuf::from);
    let mut messages = Vec::new();
    for name in ["spot-btcusdt", "usdm-btcusdt", "spot-alts2021", "usdm-alts2021"] {
        let Ok(file) = File::open(folder.join(format!("BINANCE-{name}-mixed.jsonl.gz"))) else { continue };
        let mut text = Vec::new();
        GzDecoder::new(file).take(200_000).read_to_end(&mut text).unwrap();
        let lines = text.split(|byte| *byte == b'\n').filter(|line| (1..1_000).contains(&line.len()));
        messages.extend(lines.take(500).map(<[u8]>::to_vec));
    }
    messages
}

/// Cuts two messages and puts the start of the one before the end of the other.
fn cross(one: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let cuts = |message: &[u8]| -> Vec<usize> { (0..message.len()).filter(|at| message[*at] == b',').collect() };
    let (one_at, other_at) = (*numbers.of(&cuts(one)), *numbers.of(&cuts(other)));
    [&one[..one_at], &other[other_at..]].concat()
}

fn both_ways_agree(messages: &[Vec<u8>], cases: usize, seed: u64) {
    let mut numbers = Numbers(seed);
    // The stamp field of the last one is not there, the one of the third is a key of the venue's own.
    let mut decoders = [Some("n"), None, Some("pu"), Some("stamp")]
        .map(|name| Both::new(Options { stamp_field: name.map(str::to_owned) }));
    for case in 0..cases {
        let mut payload = numbers.of(messages).clone();
        if numbers.below(16) == 0 {
            let other: &Vec<u8> = numbers.of(messages);
            payload = cross(&payload, other, &mut numbers);
        }
        for _ in 0..numbers.below(3) {
            spoil(&mut payload, LETTERS, &mut numbers);
        }
        let both = if case % 8 == 0 { 1 + case / 8 % 3 } else { 0 };
        if let Err(difference) = decoders[both].decode(&payload) {
            panic!("case {case} of seed {seed}: {difference}");
        }
    }
    // Where hardly anything is accepted, or hardly anything refused, agreement says little.
    let enough = cases as u64 / 1_000;
    let seen = *decoders[0].direct.direct_counters();
    assert!(seen.direct > 100 * enough, "{seen:?}");
    for stepped_back in
        [seen.stepped_back_kind, seen.stepped_back_key, seen.stepped_back_number, seen.stepped_back_text]
    {
        assert!(stepped_back > 3 * enough, "{seen:?}");
    }
    assert!(seen.stepped_back_end > enough / 2, "{seen:?}");
    assert_eq!(decoders[2].direct.direct_counters().direct, 0);
    assert!(decoders[1].direct.direct_counters().direct > enough);
}

#[test]
fn both_ways_agree_on_spoilt_messages_of_every_form() {
    both_ways_agree(&written(), CASES, 1);
}

#[test]
fn both_ways_agree_on_spoilt_captured_messages() {
    let messages = captured();
    if messages.is_empty() {
        eprintln!("no captured feeds here: set WIRETICK_FEEDS");
        return;
    }
    both_ways_agree(&messages, CASES / 2, 2);
}

#[test]
fn both_ways_agree_on_every_form_as_it_is() {
    for stamp_field in [None, Some("n"), Some("E"), Some("no such field")] {
        let mut both = Both::new(Options { stamp_field: stamp_field.map(str::to_owned) });
        for payload in written() {
            let stamped = payload.windows(4).any(|window| window == b"\"n\":");
            let expected = stamp_field != Some("E") && (!stamped || stamp_field == Some("n"));
            assert_eq!(both.decode(&payload), Ok(expected), "{}", String::from_utf8_lossy(&payload));
        }
    }
}
