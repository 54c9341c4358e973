//! The event stage: the bytes of one WebSocket message become one typed [`Event`].
//!
//! In comes a [`Span`](crate::floor::Span) of the message stage. A hot message (trade, aggregate trade, book ticker,
//! depth) in the form the venue sends is read directly; everything else simd-json reads, in place, into a tape that is
//! used again for every message. Out goes an event whose strings are borrowed from the payload and whose depth levels are
//! borrowed from the [`Decoder`]: the same event either way. Every input gives an event: what is not JSON, not known or
//! not as documented is passed on as [`Body::Raw`] with the reason, and counted under that reason. No I/O, no clock, and
//! in steady state no allocation.
//!
//! The way of a message through the files, top to bottom:
//!
//! 1. `direct/` compares it with the forms of the hot messages, without changing it. A message of such a form is an event
//!    now; at the first byte that is not as expected, everything begins anew with
//! 2. `by_tape.rs`, which lets simd-json fill the tape;
//! 3. `recognise.rs` says which of the venue's messages it is;
//! 4. the file of that type fills in its fields with the help of `tape.rs` and `decimal.rs`: numbers at once, strings
//!    as places in the payload, because simd-json holds the payload exclusively for as long as the tape is in use;
//! 5. `by_tape.rs` lets go of the tape and lends the payload, the strings and the levels to the event.
//!
//! The venue is Binance, spot and USD-M futures. Where the doc of a field says what the field means, the source is
//! Binance's documentation: "WebSocket Streams for Binance" (`web-socket-streams.md` of binance-spot-api-docs) for spot,
//! "Websocket Market Streams" of the USDⓈ-M futures documentation for USD-M. Letters in backquotes are the venue's keys.
//!
//! Limits: all times are milliseconds, as the venue sends them by default; on a spot connection opened with
//! `timeUnit=MICROSECOND` the fields named `_ms` hold microseconds. simd-json refuses integers beyond 64 bits, which
//! RFC 8259 allows: such a message counts as not JSON.

pub mod continuity;
pub mod decimal;

mod agg_trade;
mod answer;
mod book_ticker;
mod by_tape;
mod decoder;
mod depth;
mod direct;
mod identity;
mod kline;
mod raw;
mod recognise;
mod tape;
mod trade;

use serde::Serialize;

pub use agg_trade::AggTrade;
pub use answer::{Answer, Outcome, RequestId, ServerShutdown};
pub use book_ticker::BookTicker;
pub use continuity::Continuity;
pub use decimal::Decimal;
pub use decoder::{Decoded, Decoder, Options};
pub use depth::{Depth, Level, PartialDepth};
pub use direct::DirectCounters;
pub use identity::{Identifier, Identity};
pub use kline::Kline;
pub use raw::{Misfit, Problem, Raw, Why};
pub use trade::Trade;

/// One message of the venue, on loan until the decoder is asked for the next one.
///
/// Serialized it is one flat JSON object: `type`, the fields of that type under their names here, then `stream` and
/// `stamp_ns` where there are any. Decimals are strings with all their digits; what is `None` is left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Event<'a> {
    /// What happened.
    #[serde(flatten)]
    pub body: Body<'a>,
    /// The name of the stream, such as `btcusdt@trade`, where the message came in a combined stream's envelope
    /// (`{"stream":...,"data":...}`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<&'a str>,
    /// The sender's clock: nanoseconds, the value of the field that [`Options::stamp_field`] names, where the message
    /// has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamp_ns: Option<u64>,
}

impl<'a> Event<'a> {
    /// The instrument, as the message writes it: upper case, except where only the stream's name tells it
    /// ([`PartialDepth`]). `None` for what concerns no single instrument or was not understood.
    #[must_use]
    pub const fn symbol(&self) -> Option<&'a str> {
        match &self.body {
            Body::Trade(trade) => Some(trade.symbol),
            Body::AggTrade(trade) => Some(trade.symbol),
            Body::BookTicker(ticker) => Some(ticker.symbol),
            Body::Depth(depth) => Some(depth.symbol),
            Body::PartialDepth(depth) => depth.symbol,
            Body::Kline(kline) => Some(kline.symbol),
            Body::Answer(_) | Body::ServerShutdown(_) | Body::Raw(_) => None,
        }
    }

    /// When the venue says that it sent the event, in milliseconds since the Unix epoch (`E`). `None` where the message
    /// does not say.
    #[must_use]
    pub const fn event_time_ms(&self) -> Option<u64> {
        match &self.body {
            Body::Trade(trade) => Some(trade.event_time_ms),
            Body::AggTrade(trade) => Some(trade.event_time_ms),
            Body::BookTicker(ticker) => ticker.event_time_ms,
            Body::Depth(depth) => Some(depth.event_time_ms),
            Body::Kline(kline) => Some(kline.event_time_ms),
            Body::ServerShutdown(shutdown) => Some(shutdown.event_time_ms),
            Body::PartialDepth(_) | Body::Answer(_) | Body::Raw(_) => None,
        }
    }
}

/// What an [`Event`] says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body<'a> {
    /// A trade.
    Trade(Trade<'a>),
    /// Trades of one taker order at one price, summed up.
    AggTrade(AggTrade<'a>),
    /// The best bid and the best ask.
    BookTicker(BookTicker<'a>),
    /// Changes to the order book.
    Depth(Depth<'a>),
    /// The top of the order book.
    PartialDepth(PartialDepth<'a>),
    /// A candlestick.
    Kline(Kline<'a>),
    /// The venue's answer to a request of ours, such as SUBSCRIBE.
    Answer(Answer<'a>),
    /// The venue is about to close this connection.
    ServerShutdown(ServerShutdown),
    /// Anything else, as it came.
    Raw(Raw<'a>),
}

#[cfg(test)]
mod tests;
