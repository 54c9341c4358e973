//! An endless Binance spot feed that its seed determines byte for byte.
//!
//! What comes in are a [`SyntheticPlan`] and the streams a client wants; what goes out are messages in the shape, size and
//! proportion of the captured ones: trades numbered without a gap, depth whose first update follows the last one told.
//! Time in the messages is the market's own, so the bytes do not depend on when or how fast they are sent.

use wiretick_impair::random::Random;

use super::book::{Changes, Event, Level, Market, Trade};
use super::digits;
use super::streams::{Kind, Streams};
use crate::feeds::Lines;

/// What a synthetic exchange trades.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticPlan {
    /// Determines every byte.
    pub seed: u64,
    /// The symbols, in upper case. Default BTCUSDT alone.
    pub symbols: Vec<String>,
}

impl Default for SyntheticPlan {
    fn default() -> Self {
        Self { seed: 1, symbols: vec!["BTCUSDT".into()] }
    }
}

impl SyntheticPlan {
    /// The first messages that a client gets who asks for nothing in particular.
    #[must_use]
    pub fn messages(&self, count: usize) -> Lines {
        let (mut market, streams) = (Synthetic::new(self), Streams::new(&self.symbols, "/ws"));
        let mut bytes = Vec::new();
        for _ in 0..count {
            market.next(&streams, &mut bytes);
            bytes.push(b'\n');
        }
        Lines::new(bytes)
    }
}

/// The market's clock when it opens, in microseconds: 2023-11-14 22:13:20 UTC.
const OPENING_US: u64 = 1_700_000_000_000_000;

/// Microseconds between two messages of the market, on average: the captured BTCUSDT shows 153 messages a second.
const STEP_US: u64 = 6_500;

/// The generator of one client's messages. Every client of one seed sees the same market.
#[derive(Clone, Debug)]
pub(super) struct Synthetic {
    markets: Vec<Market>,
    /// As the messages show them: `BTCUSDT`.
    symbols: Vec<String>,
    random: Random,
    clock_us: u64,
    changes: Changes,
}

impl Synthetic {
    /// The market that belongs to `plan`, at its opening.
    pub(super) fn new(plan: &SyntheticPlan) -> Self {
        let mut random = Random::new(plan.seed);
        let markets = plan.symbols.iter().map(|symbol| Market::new(opening_tick(symbol), &mut random)).collect();
        let symbols = plan.symbols.iter().map(|symbol| symbol.to_uppercase()).collect();
        Self { markets, symbols, random, clock_us: OPENING_US, changes: Changes::default() }
    }

    /// Writes the next message that `streams` lets through. Answers whether there is one: a client that wants nothing gets
    /// nothing, and its market stands still.
    pub(super) fn next(&mut self, streams: &Streams, out: &mut Vec<u8>) -> bool {
        if !streams.any() {
            return false;
        }
        loop {
            let symbol = self.random.below(self.markets.len() as u64) as usize;
            self.clock_us += self.random.between(1, 2 * STEP_US - 1);
            let event = self.markets[symbol].step(&mut self.random);
            let kind = match event {
                Event::Trade(_) => Kind::Trade,
                Event::Ticker => Kind::Ticker,
                Event::Depth => {
                    self.markets[symbol].take_changes(&mut self.changes);
                    Kind::Depth
                }
            };
            let Some(name) = streams.name_of(symbol, kind) else { continue };
            if streams.are_combined() {
                push_all(out, &[b"{\"stream\":\"", name.as_bytes(), b"\",\"data\":"]);
            }
            match event {
                Event::Trade(trade) => self.push_trade(out, symbol, &trade),
                Event::Ticker => self.push_ticker(out, symbol),
                Event::Depth => self.push_depth(out, symbol),
            }
            if streams.are_combined() {
                out.push(b'}');
            }
            return true;
        }
    }

    fn push_trade(&self, out: &mut Vec<u8>, symbol: usize, trade: &Trade) {
        let now_ms = self.clock_us / 1000;
        out.extend_from_slice(b"{\"e\":\"trade\",\"E\":");
        digits::push(out, now_ms);
        push_all(out, &[b",\"s\":\"", self.symbols[symbol].as_bytes(), b"\",\"t\":"]);
        digits::push(out, trade.id);
        out.extend_from_slice(b",\"p\":\"");
        push_price(out, trade.tick);
        out.extend_from_slice(b"\",\"q\":\"");
        push_quantity(out, trade.lots);
        out.extend_from_slice(b"\",\"T\":");
        digits::push(out, now_ms - 1);
        out.extend_from_slice(b",\"m\":");
        out.extend_from_slice(if trade.buyer_is_maker { b"true" } else { b"false" });
        out.extend_from_slice(b",\"M\":true}");
    }

    fn push_ticker(&self, out: &mut Vec<u8>, symbol: usize) {
        let market = &self.markets[symbol];
        let (bid, ask) = (market.best_bid(), market.best_ask());
        out.extend_from_slice(b"{\"u\":");
        digits::push(out, market.update());
        push_all(out, &[b",\"s\":\"", self.symbols[symbol].as_bytes(), b"\",\"b\":\""]);
        push_price(out, bid.tick);
        out.extend_from_slice(b"\",\"B\":\"");
        push_quantity(out, bid.lots);
        out.extend_from_slice(b"\",\"a\":\"");
        push_price(out, ask.tick);
        out.extend_from_slice(b"\",\"A\":\"");
        push_quantity(out, ask.lots);
        out.extend_from_slice(b"\"}");
    }

    fn push_depth(&self, out: &mut Vec<u8>, symbol: usize) {
        out.extend_from_slice(b"{\"e\":\"depthUpdate\",\"E\":");
        digits::push(out, self.clock_us / 1000);
        push_all(out, &[b",\"s\":\"", self.symbols[symbol].as_bytes(), b"\",\"U\":"]);
        digits::push(out, self.changes.first_update);
        out.extend_from_slice(b",\"u\":");
        digits::push(out, self.changes.last_update);
        out.extend_from_slice(b",\"b\":[");
        push_levels(out, &self.changes.bids);
        out.extend_from_slice(b"],\"a\":[");
        push_levels(out, &self.changes.asks);
        out.extend_from_slice(b"]}");
    }
}

/// What a symbol costs when the market opens: known ones about what they did in 2024, others something of their own.
fn opening_tick(symbol: &str) -> u64 {
    match symbol.to_uppercase().as_str() {
        "BTCUSDT" => 6_183_763,
        "ETHUSDT" => 268_412,
        // FNV-1a: the same for the same letters, everywhere.
        other => {
            other
                .bytes()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
                % 900_000
                + 100_000
        }
    }
}

fn push_all(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// `61837.63000000`: eight decimals, of which a tick uses two.
#[inline]
fn push_price(out: &mut Vec<u8>, tick: u64) {
    let [tenths, hundredths] = digits::pair(tick % 100);
    digits::push(out, tick / 100);
    out.extend_from_slice(&[b'.', tenths, hundredths, b'0', b'0', b'0', b'0', b'0', b'0']);
}

/// `3.78826000`: eight decimals, of which a lot uses five.
#[inline]
fn push_quantity(out: &mut Vec<u8>, lots: u64) {
    let decimals = lots % 100_000;
    let [[_, first], [second, third], [fourth, fifth]] =
        [decimals / 10_000, decimals / 100 % 100, decimals % 100].map(digits::pair);
    digits::push(out, lots / 100_000);
    out.extend_from_slice(&[b'.', first, second, third, fourth, fifth, b'0', b'0', b'0']);
}

fn push_levels(out: &mut Vec<u8>, levels: &[Level]) {
    for (at, level) in levels.iter().enumerate() {
        out.extend_from_slice(if at == 0 { b"[\"" } else { b",[\"" });
        push_price(out, level.tick);
        out.extend_from_slice(b"\",\"");
        push_quantity(out, level.lots);
        out.extend_from_slice(b"\"]");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn messages(plan: &SyntheticPlan, path: &str, count: usize) -> Vec<String> {
        let mut synthetic = Synthetic::new(plan);
        let streams = Streams::new(&plan.symbols, path);
        (0..count)
            .map(|_| {
                let mut out = Vec::new();
                assert!(synthetic.next(&streams, &mut out));
                String::from_utf8(out).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_seed_gives_the_same_bytes_in_every_version() {
        let digest = |seed| {
            let mut hash = Sha256::new();
            for message in messages(&SyntheticPlan { seed, ..SyntheticPlan::default() }, "/stream", 2000) {
                hash.update(message.as_bytes());
            }
            hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(digest(1), "faf83bfe682f1485");
        assert_ne!(digest(1), digest(2));
    }

    #[test]
    fn messages_look_like_captured_ones() {
        let price = |text: &Value| {
            let text = text.as_str().unwrap();
            let (whole, decimals) = text.split_once('.').unwrap();
            assert!(decimals.len() == 8 && (whole == "0" || !whole.starts_with('0')), "{text}");
            text.parse::<f64>().unwrap()
        };
        let mut sizes = Vec::new();
        for message in messages(&SyntheticPlan::default(), "/stream", 20_000) {
            sizes.push(message.len());
            let value: Value = serde_json::from_str(&message).unwrap();
            let data = &value["data"];
            assert_eq!(data["s"], "BTCUSDT");
            match value["stream"].as_str().unwrap() {
                "btcusdt@trade" => {
                    assert_eq!(data["e"], "trade");
                    assert!(price(&data["p"]) > 1000.0 && price(&data["q"]) > 0.0);
                    assert!(data["m"].is_boolean() && data["T"].as_u64() < data["E"].as_u64());
                }
                "btcusdt@bookTicker" => {
                    assert!(price(&data["b"]) < price(&data["a"]));
                    assert!(price(&data["B"]) > 0.0 && price(&data["A"]) > 0.0);
                }
                "btcusdt@depth@100ms" => {
                    assert_eq!(data["e"], "depthUpdate");
                    assert!(data["U"].as_u64() <= data["u"].as_u64());
                }
                other => panic!("{other}"),
            }
        }
        sizes.sort_unstable();
        // The capture: 146 at the median, 2,407 at the 99th percentile, 34,571 at most.
        let at = |share: usize| sizes[sizes.len() * share / 1000];
        assert!((140..160).contains(&at(500)), "{}", at(500));
        assert!((1200..5000).contains(&at(990)), "{}", at(990));
        assert!((5000..40_000).contains(sizes.last().unwrap()), "{:?}", sizes.last());
    }

    #[test]
    fn a_stream_is_complete_whatever_else_the_client_gets() {
        let plan = SyntheticPlan { seed: 5, symbols: vec!["BTCUSDT".into(), "SOLUSDT".into()] };
        let picked = |stream: &str| -> Vec<String> {
            let all = messages(&plan, "/stream", 30_000).into_iter();
            all.filter(|message| message.contains(&format!("\"{stream}\""))).take(500).collect()
        };
        for stream in ["btcusdt@trade", "solusdt@depth@100ms"] {
            assert_eq!(messages(&plan, &format!("/stream?streams={stream}"), 500), picked(stream));
        }
        let number = |message: &String, field: &str| {
            serde_json::from_str::<Value>(message).unwrap()["data"][field].as_u64().unwrap()
        };
        let trades = picked("solusdt@trade");
        assert!(trades.windows(2).all(|pair| number(&pair[1], "t") == number(&pair[0], "t") + 1));
        let depth = picked("btcusdt@depth@100ms");
        assert!(depth.windows(2).all(|pair| number(&pair[1], "U") == number(&pair[0], "u") + 1));
    }
}
