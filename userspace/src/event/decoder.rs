//! The decoder: one message in, one event out.
//!
//! In comes a [`Span`] of the message stage. It may be changed in place, because simd-json resolves the escapes of
//! strings where they stand; the bytes behind it come back as they were. Out goes an [`Event`] that borrows from the
//! span and from the decoder. The buffers are kept and used again: after the first messages nothing is allocated.

use simd_json::{Buffers, Tape as Nodes, fill_tape_padded};

use super::raw::{Misfit, Raw, Why};
use super::recognise::{Kind, recognise};
use super::tape::{Lent, Tape};
use super::{Body, Event, agg_trade, answer, book_ticker, depth, kline, trade};
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
/// Its buffers grow to the size of the largest message so far and stay so. Measured: an order book of 6.4 MB leaves
/// 48 MB behind (7.5 bytes for each), 5 MB of nothing but brackets leave 145 MB behind (29 bytes for each: simd-json
/// reserves a node of 24 bytes and an index of 4 for each before it refuses the depth). What bounds it is
/// [`Limits::message_bytes_max`](crate::floor::Limits::message_bytes_max); to give the memory back, make a new decoder.
pub struct Decoder {
    options: Options,
    buffers: Buffers,
    /// Empty between messages: only its allocation is kept.
    nodes: Nodes<'static>,
    levels: depth::Levels,
    /// The payload as it arrived, while the one in the span has its escapes resolved.
    original: Vec<u8>,
    counters: Decoded,
}

impl Decoder {
    /// A decoder with nothing allocated for messages yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            buffers: Buffers::new(0),
            nodes: Nodes(Vec::new()),
            levels: depth::Levels::default(),
            original: Vec::new(),
            counters: Decoded::default(),
        }
    }

    /// What was decoded so far.
    #[must_use]
    pub const fn counters(&self) -> &Decoded {
        &self.counters
    }

    /// Decodes one message. Every input gives an event; see [`Body::Raw`].
    pub fn decode<'a>(&'a mut self, payload: Span<'a>) -> Event<'a> {
        let (bytes, len) = payload.into_padded();
        let escaped = has_backslash(&bytes[..len]);
        if escaped {
            self.counters.escaped_copied += 1;
            self.original.clear();
            self.original.extend_from_slice(&bytes[..len]);
        }
        let address = bytes.as_ptr().addr();
        let mut nodes = std::mem::replace(&mut self.nodes, Nodes(Vec::new())).reset();
        if fill_tape_padded(bytes, len, &mut self.buffers, &mut nodes).is_err() {
            self.nodes = nodes.reset();
            let payload = if escaped { &self.original[..] } else { &bytes[..len] };
            let body = Body::Raw(Raw { why: Why::NotJson, event_type: None, payload });
            self.counters.count(&body);
            return Event { body, stream: None, stamp_ns: None };
        }

        let tape = Tape::new(&nodes.0, address);
        let found = recognise(tape);
        let stamp_ns = match &self.options.stamp_field {
            None => None,
            Some(name) => read_stamp(tape, found.message_at, name, &mut self.counters),
        };
        let (stream, event_type) = (found.stream, found.event_type);
        let (fields, levels) = (&found.fields, &mut self.levels);

        /// Reads the fields with the expression, then lets go of the tape and lends what the body borrows.
        macro_rules! body {
            ($read:expr) => {{
                let read: Result<_, Misfit> = $read;
                self.nodes = nodes.reset();
                let text = &bytes[..len];
                let payload = if escaped { &self.original } else { text };
                let (bids, asks) = (&self.levels.bids, &self.levels.asks);
                let lent = Lent { text, payload, stream, event_type, bids, asks };
                match read {
                    Ok(make) => make(lent),
                    Err(misfit) => lent.raw(Why::Misfit(misfit)),
                }
            }};
        }
        let body = match found.kind {
            Kind::Trade => body!(trade::read(fields)),
            Kind::AggTrade => body!(agg_trade::read(fields)),
            Kind::BookTicker => body!(book_ticker::read(fields)),
            Kind::Depth => body!(depth::read(fields, levels)),
            Kind::PartialDepth => body!(depth::read_partial(fields, levels)),
            Kind::Kline => body!(kline::read(fields)),
            Kind::Answer => body!(answer::read(tape, found.message_at)),
            Kind::ServerShutdown => body!(answer::read_shutdown(fields)),
            Kind::Unknown => body!(Ok(|lent: Lent<'a>| lent.raw(Why::UnknownType))),
        };
        self.counters.count(&body);
        Event { body, stream: stream.map(|place| place.of(&bytes[..len])), stamp_ns }
    }
}

impl Decoded {
    fn count(&mut self, body: &Body<'_>) {
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

/// The stamp: beside the fields of the message, or else beside its envelope.
fn read_stamp(tape: Tape<'_, '_>, message_at: usize, name: &str, counters: &mut Decoded) -> Option<u64> {
    let at = tape.find(message_at, name).or_else(|| tape.find(Tape::ROOT, name))?;
    let stamp = tape.loose_integer(at);
    if stamp.is_none() {
        counters.stamp_unreadable += 1;
    }
    stamp
}

/// Whether there is a backslash in `bytes`: without a branch for each byte, so that it becomes vector instructions.
fn has_backslash(bytes: &[u8]) -> bool {
    let in_chunk = |chunk: &[u8; 32]| chunk.iter().fold(false, |found, byte| found | (*byte == b'\\'));
    match bytes.last_chunk() {
        // The last chunk overlaps the one before it, so that no rest is left.
        Some(last) => in_chunk(last) || bytes.as_chunks().0.iter().any(in_chunk),
        None => bytes.contains(&b'\\'),
    }
}
