//! The decoder: one message in, one event out.
//!
//! In comes a [`Span`] of the message stage. It may be changed in place where the message goes by simd-json's tape, which
//! resolves the escapes of strings where they stand; the bytes behind it come back as they were. Out goes an [`Event`] that borrows from the
//! span and from the decoder. The buffers are kept and used again: after the first messages nothing is allocated.

use super::by_tape::ByTape;
use super::depth::Levels;
use super::direct::{self, Direct, DirectCounters};
use super::raw::{Raw, Why};
use super::{Body, Event};
use crate::floor::Span;
use crate::floor::counters::counters;

/// What a [`Decoder`] is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The name of a field in which the sender has put a reading of its `CLOCK_MONOTONIC` in nanoseconds, as a number
    /// or as a string of digits, beside the fields of the message (in a combined stream, inside `data` or beside it).
    /// What is found there becomes [`Event::stamp_ns`], whatever else the message is, as long as it is a JSON object.
    pub stamp_field: Option<String>,
}

counters! {
    /// How many messages a [`Decoder`] has seen, by what they were, and what was special about them.
    pub struct Decoded {
        /// Trades.
        trade,
        /// Trades of one taker order, summed up.
        agg_trade,
        /// Best bids and asks.
        book_ticker,
        /// Changes to the order book.
        depth,
        /// Tops of the order book.
        partial_depth,
        /// Candlesticks.
        kline,
        /// Answers to requests.
        answer,
        /// Announcements that the server goes down.
        server_shutdown,
        /// Passed on as they came: not JSON.
        raw_not_json,
        /// Passed on as they came: JSON of no known type.
        raw_unknown,
        /// Passed on as they came: of a known type, with a field that does not fit.
        raw_misfit,
        /// Messages with a backslash in them, and therefore copied once: the escapes are resolved in place, and the
        /// payload of a raw event must be as it arrived.
        escaped_copied,
        /// Messages whose stamp field was there but held no unsigned 64-bit integer.
        stamp_unreadable,
    }
}

/// Decodes messages, one at a time.
///
/// Its buffers grow to the size of the largest message so far and stay so. Measured: an order book of 6.4 MB that goes by
/// the tape leaves 48 MB behind (7.5 bytes for each; decoded directly, less than 3), 5 MB of nothing but brackets leave
/// 145 MB behind (29 bytes for each: simd-json reserves a node of 24 bytes and an index of 4 for each before it refuses
/// the depth). What bounds it is
/// [`Limits::message_bytes_max`](crate::floor::Limits::message_bytes_max); to give the memory back, make a new decoder.
pub struct Decoder {
    options: Options,
    pub(super) direct: Direct,
    by_tape: ByTape,
    /// The levels of the last depth, whichever way it went.
    pub(super) levels: Levels,
    pub(super) counters: Decoded,
}

impl Decoder {
    /// A decoder with nothing allocated for messages yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let direct = Direct::new(options.stamp_field.as_deref());
        Self { direct, ..Self::by_tape(options) }
    }

    /// A decoder that reads every message by simd-json's tape, also those that [`Decoder::new`] decodes directly. The
    /// events are the same: this is what the direct way is compared with.
    #[must_use]
    pub fn by_tape(options: Options) -> Self {
        Self {
            options,
            direct: Direct::default(),
            by_tape: ByTape::new(),
            levels: Levels::default(),
            counters: Decoded::default(),
        }
    }

    /// Which messages were decoded directly, and why the others were not. All zero where that is not even tried:
    /// [`Decoder::by_tape`], or a stamp field with the name of one of the venue's own.
    #[must_use]
    pub const fn direct_counters(&self) -> &DirectCounters {
        self.direct.counters()
    }

    /// Lets `work` decode with this decoder, so that its memory stays near the core, and counts nothing of it.
    pub(crate) fn uncounted<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (decoded, direct) = (self.counters, *self.direct.counters());
        let done = work(self);
        self.counters = decoded;
        self.direct.set_counters(direct);
        done
    }

    /// What was asked for.
    pub(crate) const fn options(&self) -> &Options {
        &self.options
    }

    /// What was decoded so far.
    #[must_use]
    pub const fn counters(&self) -> &Decoded {
        &self.counters
    }

    /// Decodes one message. Every input gives an event; see [`Body::Raw`].
    pub fn decode<'a>(&'a mut self, payload: Span<'a>) -> Event<'a> {
        let (bytes, len) = payload.into_padded();
        // simd-json refuses what is longer than it can number.
        if self.direct.is_on() && len <= u32::MAX as usize {
            direct::decode(self, bytes, len)
        } else {
            self.decode_by_tape(bytes, len)
        }
    }

    /// Decodes the message in the first `len` of `bytes` by simd-json's tape.
    pub(super) fn decode_by_tape<'a>(&'a mut self, bytes: &'a mut [u8], len: usize) -> Event<'a> {
        let stamp_field = self.options.stamp_field.as_deref();
        let event = self.by_tape.decode(bytes, len, &mut self.levels, stamp_field, &mut self.counters);
        self.counters.count(&event.body);
        event
    }
}

impl Decoded {
    pub(super) fn count(&mut self, body: &Body<'_>) {
        let counter = match body {
            Body::Trade(_) => &mut self.trade,
            Body::AggTrade(_) => &mut self.agg_trade,
            Body::BookTicker(_) => &mut self.book_ticker,
            Body::Depth(_) => &mut self.depth,
            Body::PartialDepth(_) => &mut self.partial_depth,
            Body::Kline(_) => &mut self.kline,
            Body::Answer(_) => &mut self.answer,
            Body::ServerShutdown(_) => &mut self.server_shutdown,
            Body::Raw(Raw { why: Why::NotJson, .. }) => &mut self.raw_not_json,
            Body::Raw(Raw { why: Why::UnknownType, .. }) => &mut self.raw_unknown,
            Body::Raw(Raw { why: Why::Misfit(_), .. }) => &mut self.raw_misfit,
        };
        *counter += 1;
    }
}
