//! From a payload to the fields a trader uses.
//!
//! `serde_json` with typed, borrowing structures: what most Rust clients use. For these messages it was also the fastest
//! of three: simd-json and sonic-rs, built for the same machine, took as long or longer over a trade and a ticker. Prices
//! become `f64`.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

#[expect(dead_code, reason = "decoded for the reader, who is a benchmark")]
#[derive(Debug, Deserialize)]
pub(crate) struct Trade<'a> {
    #[serde(rename = "s")]
    symbol: &'a str,
    #[serde(rename = "t")]
    id: u64,
    #[serde(rename = "p")]
    price: Number,
    #[serde(rename = "q")]
    quantity: Number,
    #[serde(rename = "T")]
    time_ms: u64,
    #[serde(rename = "m")]
    buyer_is_maker: bool,
}

#[expect(dead_code, reason = "decoded for the reader, who is a benchmark")]
#[derive(Debug, Deserialize)]
pub(crate) struct BookTicker<'a> {
    #[serde(rename = "s")]
    symbol: &'a str,
    #[serde(rename = "u")]
    update: u64,
    #[serde(rename = "b")]
    bid_price: Number,
    #[serde(rename = "B")]
    bid_quantity: Number,
    #[serde(rename = "a")]
    ask_price: Number,
    #[serde(rename = "A")]
    ask_quantity: Number,
}

#[expect(dead_code, reason = "decoded for the reader, who is a benchmark")]
#[derive(Debug, Deserialize)]
pub(crate) struct Depth<'a> {
    #[serde(rename = "s")]
    symbol: &'a str,
    #[serde(rename = "U")]
    first_update: u64,
    #[serde(rename = "u")]
    last_update: u64,
    #[serde(rename = "b")]
    bids: Vec<(Number, Number)>,
    #[serde(rename = "a")]
    asks: Vec<(Number, Number)>,
}

#[expect(dead_code, reason = "decoded for the reader, who is a benchmark")]
#[derive(Debug)]
pub(crate) enum Event<'a> {
    Trade(Trade<'a>),
    BookTicker(BookTicker<'a>),
    Depth(Depth<'a>),
    /// Answers to requests, and streams that are not compared: not decoded.
    Other,
}

/// What a combined stream wraps around each event.
#[derive(Deserialize)]
struct Combined<T> {
    data: T,
}

/// Decodes a message of Binance's spot streams, combined or single.
pub(crate) fn decode(payload: &[u8]) -> serde_json::Result<Event<'_>> {
    if let Some(rest) = payload.strip_prefix(br#"{"stream":""#) {
        let kind = memchr::memchr(b'@', rest).map_or(rest, |at| &rest[at..]);
        return Ok(if kind.starts_with(b"@trade\"") {
            Event::Trade(serde_json::from_slice::<Combined<_>>(payload)?.data)
        } else if kind.starts_with(b"@bookTicker\"") {
            Event::BookTicker(serde_json::from_slice::<Combined<_>>(payload)?.data)
        } else if kind.starts_with(b"@depth@") || kind.starts_with(b"@depth\"") {
            Event::Depth(serde_json::from_slice::<Combined<_>>(payload)?.data)
        } else {
            Event::Other
        });
    }
    // The venue puts the type first; a ticker has none, and its update number is first.
    Ok(if payload.starts_with(br#"{"e":"trade""#) {
        Event::Trade(serde_json::from_slice(payload)?)
    } else if payload.starts_with(br#"{"u":"#) {
        Event::BookTicker(serde_json::from_slice(payload)?)
    } else if payload.starts_with(br#"{"e":"depthUpdate""#) {
        Event::Depth(serde_json::from_slice(payload)?)
    } else {
        Event::Other
    })
}

/// A number that is written as a string.
#[derive(Debug)]
struct Number(#[expect(dead_code, reason = "decoded for the reader, who is a benchmark")] f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in quotes")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                text.parse().map(Number).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}
