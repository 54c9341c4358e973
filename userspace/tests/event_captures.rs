//! The event stage over captured traffic: every message of the captures is decoded, directly or by the tape as it would
//! be in use, and compared with an independent decode; the gap detector runs along. The tape alone has to give the same.
//!
//! The captures are not part of the project (exchange data terms may restrict redistribution). They are looked for in
//! the folder that `WIRETICK_FEEDS` names, or in `shared/feeds` beside the workspace; where there is no such folder every
//! test here is shown as ignored, with the reason.

#[path = "event_oracle/both.rs"]
mod both;
mod event_oracle;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use both::Both;
use flate2::read::GzDecoder;
use libtest_mimic::{Arguments, Failed, Trial};
use wiretick::event::continuity::Observed;
use wiretick::event::{Body, Continuity, Decoded, Decoder, DirectCounters, Options, Why};
use wiretick::floor::Span;
use wiretick::floor::counters::Counters as _;

fn main() -> ExitCode {
    let folder = std::env::var_os("WIRETICK_FEEDS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/feeds"), PathBuf::from);
    let missing = !folder.is_dir();
    let test = |name: &str, run: fn(&Path) -> Result<(), Failed>| {
        let folder = folder.clone();
        let trial = Trial::test(name, move || run(&folder)).with_ignored_flag(missing);
        if missing { trial.with_kind("no captured feeds here: set WIRETICK_FEEDS") } else { trial }
    };
    let tests = vec![
        test("spot_btcusdt_is_equal_to_the_independent_decode", spot_btcusdt),
        test("usdm_btcusdt_is_equal_to_the_independent_decode", usdm_btcusdt),
        test("spot_alts_are_equal_to_the_independent_decode", spot_alts),
        test("usdm_alts_are_equal_to_the_independent_decode", usdm_alts),
        test("binance_us_is_equal_to_the_independent_decode", binance_us),
        test("order_books_asked_for_are_partial_depths", snapshots),
        test("other_venues_are_passed_on_as_they_came", other_venues),
        test("a_message_left_out_of_a_capture_is_a_gap", left_out),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn spot_btcusdt(feeds: &Path) -> Result<(), Failed> {
    let decoded = Decoded { trade: 19_904, book_ticker: 73_174, depth: 6_495, ..Decoded::default() };
    let observed = Observed { begun: 3, continued: 19_903 + 73_173 + 6_494, ..Observed::default() };
    compare(&lines(feeds, "BINANCE-spot-btcusdt-mixed.jsonl.gz")?, decoded, observed)
}

fn usdm_btcusdt(feeds: &Path) -> Result<(), Failed> {
    let decoded = Decoded { trade: 21_313, book_ticker: 66_089, depth: 6_551, ..Decoded::default() };
    let observed = Observed { begun: 3, continued: 21_312 + 66_088 + 6_550, ..Observed::default() };
    compare(&lines(feeds, "BINANCE-usdm-btcusdt-mixed.jsonl.gz")?, decoded, observed)
}

fn spot_alts(feeds: &Path) -> Result<(), Failed> {
    let decoded = Decoded { book_ticker: 84, depth: 177, agg_trade: 2, kline: 2, ..Decoded::default() };
    // Four depth and three book ticker streams; of two symbols one aggTrade each, which confirms no rule.
    let observed = Observed { begun: 7, continued: 173 + 81, not_enforced: 2, ..Observed::default() };
    compare(&lines(feeds, "BINANCE-spot-alts2021-mixed.jsonl.gz")?, decoded, observed)
}

fn usdm_alts(feeds: &Path) -> Result<(), Failed> {
    let decoded = Decoded { book_ticker: 613, depth: 764, agg_trade: 91, kline: 67, ..Decoded::default() };
    let observed = Observed { begun: 12, continued: 609 + 760 + 87, ..Observed::default() };
    compare(&lines(feeds, "BINANCE-usdm-alts2021-mixed.jsonl.gz")?, decoded, observed)
}

/// A raw stream of another exchange with the same messages.
fn binance_us(feeds: &Path) -> Result<(), Failed> {
    let decoded = Decoded { depth: 25, ..Decoded::default() };
    let observed = Observed { begun: 1, continued: 24, ..Observed::default() };
    compare(&lines(feeds, "tickvault-2026-08-24/binance_us_depth.jsonl")?, decoded, observed)
}

/// The REST answers have the form of the partial depth, which no capture has, with 1,000 levels a side.
fn snapshots(feeds: &Path) -> Result<(), Failed> {
    let decoded = Decoded { partial_depth: 1, ..Decoded::default() };
    for name in [
        "BINANCE-spot-btcusdt-rest-snapshot.json",
        "BINANCE-usdm-btcusdt-rest-snapshot.json",
        "tickvault-2026-08-24/binance_us_snapshot.json",
    ] {
        compare(&lines(feeds, name)?, decoded, Observed::default())?;
    }
    Ok(())
}

fn other_venues(feeds: &Path) -> Result<(), Failed> {
    for name in [
        "COINBASE-advanced-mixed.jsonl.gz",
        "KRAKEN-v1-mixed.jsonl.gz",
        "KRAKEN-v2-derived-from-v1.jsonl.gz",
        "OKX-v5-mixed.jsonl.gz",
        "BYBIT-v5-mixed.jsonl.gz",
        "DERIBIT-v2-mixed.jsonl.gz",
        "tickvault-2026-08-24/kraken_book.jsonl",
        "tickvault-2026-08-24/okx_books.jsonl",
        "tickvault-2026-08-24/bybit_orderbook.jsonl",
        "tickvault-2026-08-24/coinbase_l2.jsonl",
        "tickvault-2026-08-24/bitstamp_diff.jsonl",
    ] {
        let mut decoder = Decoder::new(Options::default());
        let mut both = Both::new(Options::default());
        let lines = lines(feeds, name)?;
        for line in &lines {
            both.decode(line)?;
            let mut buffer = padded(line);
            let event = decoder.decode(Span::new(&mut buffer, line.len()));
            let Body::Raw(raw) = event.body else { return fail(name, line, "is not raw") };
            if raw.why != Why::UnknownType || raw.payload != line {
                return fail(name, line, &format!("{:?}, or not as it came", raw.why));
            }
        }
        if decoder.counters().raw_unknown != lines.len() as u64 || lines.is_empty() {
            return Err(format!("{name}: {} lines, {:?}", lines.len(), decoder.counters().nonzero()).into());
        }
    }
    Ok(())
}

/// That there are no gaps in the captures means something only if there would be one.
fn left_out(feeds: &Path) -> Result<(), Failed> {
    for name in ["BINANCE-spot-btcusdt-mixed.jsonl.gz", "BINANCE-usdm-btcusdt-mixed.jsonl.gz"] {
        let lines = lines(feeds, name)?;
        for kind in ["@trade\"", "@depth@"] {
            let of_kind = |line: &&Vec<u8>| line.windows(kind.len()).any(|window| window == kind.as_bytes());
            let (mut decoder, mut detector) = (Decoder::new(Options::default()), Continuity::default());
            let mut gaps = 0;
            for (index, line) in lines.iter().filter(of_kind).take(500).enumerate() {
                let mut buffer = padded(line);
                let event = decoder.decode(Span::new(&mut buffer, line.len()));
                if index % 10 != 5 {
                    gaps += usize::from(detector.observe(&event).is_some());
                }
            }
            if gaps != 50 || detector.counters().gaps != 50 {
                return Err(format!("{name}: {gaps} gaps in {kind} where 50 messages were left out").into());
            }
        }
    }
    Ok(())
}

/// Every hot message of a capture is decoded directly, and everything else steps back at its first bytes.
fn compare(lines: &[Vec<u8>], decoded: Decoded, observed: Observed) -> Result<(), Failed> {
    let (mut decoder, mut detector) = (Decoder::new(Options::default()), Continuity::default());
    let mut both = Both::new(Options::default());
    for line in lines {
        let mut buffer = padded(line);
        let event = decoder.decode(Span::new(&mut buffer, line.len()));
        if let Some(gap) = detector.observe(&event) {
            return fail("gap", line, &format!("{gap:?}"));
        }
        let found = serde_json::to_value(event)?;
        if Some(&found) != event_oracle::expected(line).as_ref() {
            return fail("decoded", line, &found.to_string());
        }
        if buffer != padded(line) {
            return fail("decoded", line, "the payload or what lies behind it has changed");
        }
        both.decode(line)?;
    }
    let hot = decoded.trade + decoded.agg_trade + decoded.book_ticker + decoded.depth;
    let others = lines.len() as u64 - hot;
    let ways = DirectCounters { direct: hot, stepped_back_kind: others, ..DirectCounters::default() };
    if *decoder.direct_counters() != ways || *both.direct.direct_counters() != ways {
        return Err(
            format!("{hot} of {} should be direct: {:?}", lines.len(), decoder.direct_counters().nonzero()).into()
        );
    }
    if *decoder.counters() != decoded || *detector.counters() != observed {
        let (decoded, observed) = (decoder.counters().nonzero(), detector.counters().nonzero());
        return Err(format!("counted {decoded:?} and {observed:?}").into());
    }
    Ok(())
}

fn fail(what: &str, line: &[u8], why: &str) -> Result<(), Failed> {
    let start = &line[..line.len().min(500)];
    Err(format!("{what}: {}: {why}", String::from_utf8_lossy(start)).into())
}

/// The payload with something behind it that is neither blank nor equal from one byte to the next.
fn padded(line: &[u8]) -> Vec<u8> {
    let behind = b"\"{[\\,:0".iter().copied().cycle().take(Span::PAD);
    line.iter().copied().chain(behind).collect()
}

fn lines(feeds: &Path, name: &str) -> Result<Vec<Vec<u8>>, Failed> {
    let path = feeds.join(name);
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut text = Vec::new();
    if name.ends_with(".gz") {
        GzDecoder::new(file).read_to_end(&mut text)?;
    } else {
        (&file).read_to_end(&mut text)?;
    }
    Ok(text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect())
}
