//! The long way: a message of any kind becomes an event by simd-json's tape.
//!
//! In comes the payload with its padding. It may be changed in place, because simd-json resolves the escapes of strings
//! where they stand; the bytes behind it come back as they were. Out goes an [`Event`] that borrows from the payload and
//! from the decoder's buffers, which are kept and used again.

use simd_json::{Buffers, Tape as Nodes, fill_tape_padded};

use super::decoder::Decoded;
use super::depth::Levels;
use super::raw::{Misfit, Raw, Why};
use super::recognise::{Kind, recognise};
use super::tape::{Lent, Strings, Tape};
use super::{Body, Event, agg_trade, answer, book_ticker, depth, kline, trade};

/// What the long way keeps between messages.
pub(super) struct ByTape {
    buffers: Buffers,
    /// Empty between messages: only its allocation is kept.
    nodes: Nodes<'static>,
    /// The payload as it arrived, while the one that was lent has its escapes resolved.
    original: Vec<u8>,
}

impl ByTape {
    /// With nothing allocated for messages yet.
    pub(super) fn new() -> Self {
        Self { buffers: Buffers::new(0), nodes: Nodes(Vec::new()), original: Vec::new() }
    }

    /// The event of the message in the first `len` of `bytes`. What it was is not counted here, only what was special
    /// about it.
    pub(super) fn decode<'a>(
        &'a mut self,
        bytes: &'a mut [u8],
        len: usize,
        levels: &'a mut Levels,
        stamp_field: Option<&str>,
        counters: &mut Decoded,
    ) -> Event<'a> {
        let escaped = has_backslash(&bytes[..len]);
        if escaped {
            counters.escaped_copied += 1;
            self.original.clear();
            self.original.extend_from_slice(&bytes[..len]);
        }
        let address = bytes.as_ptr().addr();
        let mut nodes = std::mem::replace(&mut self.nodes, Nodes(Vec::new())).reset();
        if fill_tape_padded(bytes, len, &mut self.buffers, &mut nodes).is_err() {
            self.nodes = nodes.reset();
            let payload = if escaped { &self.original[..] } else { &bytes[..len] };
            let body = Body::Raw(Raw { why: Why::NotJson, event_type: None, payload });
            return Event { body, stream: None, stamp_ns: None };
        }

        let tape = Tape::new(&nodes.0, address);
        let found = recognise(tape);
        let stamp_ns = match stamp_field {
            None => None,
            Some(name) => read_stamp(tape, found.message_at, name, counters),
        };
        let (stream, event_type) = (found.stream, found.event_type);
        let fields = &found.fields;

        /// Reads the fields with the expression, then lets go of the tape and lends what the body borrows.
        macro_rules! body {
            ($read:expr) => {{
                let read: Result<_, Misfit> = $read;
                self.nodes = nodes.reset();
                let text = &bytes[..len];
                let payload = if escaped { &self.original } else { text };
                let (bids, asks) = (&levels.bids, &levels.asks);
                let lent = Lent { text, strings: Strings::default(), payload, stream, event_type, bids, asks };
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
        Event { body, stream: stream.map(|place| place.of(&bytes[..len])), stamp_ns }
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
