//! The short way: a hot message in the very form the venue sends becomes an event without a tape.
//!
//! In comes the payload as plain bytes, out goes the [`Event`] that simd-json's tape would have led to; or, at the first
//! byte that is not as expected, nothing at all: the payload is untouched and goes the long way (`by_tape.rs`). What was
//! unexpected is counted in [`DirectCounters`]. Nothing is guessed: every byte of the payload is compared with the shape
//! or read as one of its fields, so a message that is accepted has exactly those keys, once each, in that order, with no
//! blanks and no escapes, and there is only one thing it can mean.
//!
//! `shapes.rs` has the forms as a table and the readers made from it, `cursor.rs` reads a field, `digits.rs` eight digits
//! at once. This file puts around a shape what any message can have around it: the envelope of a combined stream, and
//! the stamp.
//!
//! A connection speaks to one venue, and the spot and the USD-M form of one message differ early. So the forms of the
//! venue that sent the last message are tried first; the first literal of a form that is not meant fails after a few
//! instructions.
//!
//! Instructions for each message, counted by callgrind in a release build (Rust 1.95, simd-json 0.19 with AVX2) with
//! `make instructions`, which has the messages and prints more of them:
//!
//! | message, in an envelope | directly | by the tape | simd-json's tape alone |
//! |---|---|---|---|
//! | spot trade | 1125 (0.22) | 5200 | 3131 |
//! | USD-M trade | 1223 (0.23) | 5349 | 3216 |
//! | spot aggTrade | 1325 (0.21) | 6234 | 3922 |
//! | spot bookTicker | 1211 (0.27) | 4505 | 2410 |
//! | USD-M bookTicker | 1356 (0.24) | 5563 | 3231 |
//! | spot depth, 2 x 15 levels | 8661 (0.32) | 27006 | 15053 |
//! | USD-M depth, 2 x 15 levels | 8116 (0.30) | 26762 | 14970 |
//!
//! Of a spot trade, reading five numbers takes 430, the two strings 170 and all the rest 525; making a `Decimal` of
//! digits is a handful of these. Instructions are not time: what the difference means on a core is for the benchmarks to say.

use super::tape::{Lent, Place, Strings};
use super::{Body, Decoder, Event};
use crate::floor::Span;
use crate::floor::counters::counters;
use cursor::{Cursor, Surprise};
use shapes::Attempt;

mod cursor;
mod digits;
mod shapes;

counters! {
    /// How many messages a [`Decoder`] has decoded directly, and why it did not do so with the others.
    ///
    /// Together they are all messages, unless the decoder was made to read every message by the tape.
    pub struct DirectCounters {
        /// Decoded directly.
        direct,
        /// Stepped back: does not begin as a hot message does. Normal for all other kinds.
        stepped_back_kind,
        /// Stepped back: something else than the next key of the shape, such as an unknown key, another order, a blank,
        /// or a value of another type.
        stepped_back_key,
        /// Stepped back: a string with an escape, a control character, or no end.
        stepped_back_text,
        /// Stepped back: a number with a leading zero or a sign, of more digits than 64 bits are sure to hold, or none.
        stepped_back_number,
        /// Stepped back: something after the end of the message.
        stepped_back_end,
    }
}

const ENVELOPE_STREAM: &[u8; 11] = br#"{"stream":""#;
const ENVELOPE_DATA: &[u8; 9] = br#"","data":"#;

/// The first eight bytes of the messages that say what they are, and of those that begin with their number.
const TRADE: u64 = u64::from_le_bytes(*br#"{"e":"tr"#);
const DEPTH: u64 = u64::from_le_bytes(*br#"{"e":"de"#);
const AGG_TRADE: u64 = u64::from_le_bytes(*br#"{"e":"ag"#);
const BOOK_TICKER: u64 = u64::from_le_bytes(*br#"{"e":"bo"#);
const UPDATE: u64 = u64::from_le_bytes(*b"{\"u\":\0\0\0");
const UPDATE_BYTES: u64 = (1 << 40) - 1;

/// What the short way knows between messages.
#[derive(Debug, Default)]
pub(super) struct Direct {
    is_on: bool,
    /// `,"n":` where the stamp field is named `n`; empty where there is none that could be told by its bytes.
    stamp: Vec<u8>,
    /// Whether the last message had a form of USD-M.
    usdm: bool,
    counters: DirectCounters,
}

impl Direct {
    /// For messages with this stamp field. It is off where the stamp field is one of the venue's own keys: then a field
    /// has two meanings, which is left to the tape.
    pub(super) fn new(stamp_field: Option<&str>) -> Self {
        let Some(name) = stamp_field else { return Self { is_on: true, ..Self::default() } };
        let quoted = format!("\"{name}\"");
        let has_name = |literal: &[u8]| literal.windows(quoted.len()).any(|window| window == quoted.as_bytes());
        let is_on = !shapes::literals().chain([&ENVELOPE_STREAM[..], ENVELOPE_DATA]).any(has_name);
        // A name that JSON writes with escapes is not to be told by its bytes; a message that has it is left to the tape.
        let plain = !name.bytes().any(|byte| matches!(byte, b'"' | b'\\' | ..b' '));
        let stamp = if plain { format!(",{quoted}:").into_bytes() } else { Vec::new() };
        Self { is_on, stamp, ..Self::default() }
    }

    pub(super) const fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) const fn counters(&self) -> &DirectCounters {
        &self.counters
    }

    pub(super) const fn set_counters(&mut self, counters: DirectCounters) {
        self.counters = counters;
    }

    /// What follows the fields: the end of the message and of its envelope, each with a stamp before it or not.
    #[inline(always)]
    fn tail(&self, cursor: &mut Cursor<'_>, enveloped: bool) -> Result<Option<u64>, Surprise> {
        let mut stamp_ns = self.end_of_object(cursor)?;
        if enveloped {
            // As by the tape: the stamp beside the fields before the one beside the envelope.
            stamp_ns = stamp_ns.or(self.end_of_object(cursor)?);
        }
        if cursor.left() == Span::PAD { Ok(stamp_ns) } else { Err(Surprise::End) }
    }

    /// `}`, or the stamp field, blanks and `}`: the testbed writes the number to the left of a field of fixed width.
    #[inline(always)]
    fn end_of_object(&self, cursor: &mut Cursor<'_>) -> Result<Option<u64>, Surprise> {
        if cursor.literal(b"}").is_ok() {
            return Ok(None);
        }
        if self.stamp.is_empty() {
            return Err(Surprise::Key);
        }
        cursor.prefix(&self.stamp)?;
        let stamp_ns = cursor.integer()?;
        cursor.blanks();
        cursor.literal(b"}")?;
        Ok(Some(stamp_ns))
    }
}

/// A message on its way through the forms it may have.
struct Message<'a> {
    /// The payload and what is behind it.
    bytes: &'a mut [u8],
    len: usize,
    /// Where the message itself begins: behind the opening of the envelope, where there is one.
    at: usize,
    stream: Option<Place>,
    /// Whether the form that is tried now is one of USD-M.
    usdm: bool,
    /// The form to try if this one does not fit.
    other: Option<Attempt>,
    /// Of the form that was tried first: how much it left unread, and what was unexpected there.
    before: Option<(usize, Surprise)>,
}

/// The event of the message in the first `len` of `bytes`, directly or by the tape.
///
/// Every function from here on ends in the call of the next one and hands on what it was lent, so that the event is
/// written once, to where the caller of the first one wants it.
#[inline]
pub(super) fn decode<'a>(decoder: &'a mut Decoder, bytes: &'a mut [u8], len: usize) -> Event<'a> {
    // The bytes behind the message are there so that eight can be read wherever one is; a reader that ends among them is
    // refused by `tail`.
    let mut cursor = Cursor::new(&bytes[..len + Span::PAD]);
    let stream = match envelope(&mut cursor) {
        Ok(stream) => stream,
        Err(surprise) => return step_back(decoder, bytes, len, Some(surprise)),
    };
    let start = cursor.peek().map_or(0, |eight| u64::from_le_bytes(*eight));
    // The fewest bytes that tell the kinds apart; the readers compare them all.
    let (spot, usdm): (Option<Attempt>, Option<Attempt>) = match start {
        TRADE => (Some(shapes::spot_trade), Some(shapes::usdm_trade)),
        DEPTH => (Some(shapes::spot_depth), Some(shapes::usdm_depth)),
        AGG_TRADE => (Some(shapes::spot_agg_trade), Some(shapes::usdm_agg_trade)),
        BOOK_TICKER => (None, Some(shapes::usdm_book_ticker)),
        _ if start & UPDATE_BYTES == UPDATE => (Some(shapes::spot_book_ticker), None),
        _ => (None, None),
    };
    let prefer_usdm = spot.is_none() || (decoder.direct.usdm && usdm.is_some());
    let (first, other) = if prefer_usdm { (usdm, spot) } else { (spot, usdm) };
    let at = len + Span::PAD - cursor.left();
    match first {
        Some(first) => first(decoder, Message { bytes, len, at, stream, usdm: prefer_usdm, other, before: None }),
        None => step_back(decoder, bytes, len, None),
    }
}

/// Tries one form. `read` is its reader: what it makes of the fields is called when the message has been read to its end.
#[inline(always)]
fn attempt<'a, M: FnOnce(Lent<'a>) -> Body<'a>>(
    decoder: &'a mut Decoder,
    message: Message<'a>,
    read: impl FnOnce(&mut Cursor<'_>, &mut super::depth::Levels) -> Result<M, Surprise>,
) -> Event<'a> {
    let mut cursor = Cursor::within(&message.bytes[..message.len + Span::PAD], message.at);
    let read = read(&mut cursor, &mut decoder.levels);
    let direct = &mut decoder.direct;
    match read.and_then(|make| Ok((make, direct.tail(&mut cursor, message.stream.is_some())?))) {
        Ok((make, stamp_ns)) => {
            direct.usdm = message.usdm;
            direct.counters.direct += 1;
            let text_end = cursor.text_end();
            let text = &message.bytes[..message.len];
            let lent = Lent {
                text,
                strings: Strings::of(text, text_end),
                payload: text,
                stream: message.stream,
                event_type: None,
                bids: &decoder.levels.bids,
                asks: &decoder.levels.asks,
            };
            let body = make(lent);
            decoder.counters.count(&body);
            Event { body, stream: message.stream.map(|place| lent.str(place)), stamp_ns }
        }
        Err(surprise) => {
            let left = cursor.left();
            misfit(decoder, message, left, surprise)
        }
    }
}

/// A form did not fit: the other one, or the tape.
#[cold]
#[inline(never)]
fn misfit<'a>(decoder: &'a mut Decoder, mut message: Message<'a>, left: usize, surprise: Surprise) -> Event<'a> {
    // The form that fitted longer says what was unexpected.
    let longer = message.before.filter(|before| before.0 <= left).unwrap_or((left, surprise));
    match message.other.take() {
        Some(other) => other(decoder, Message { usdm: !message.usdm, before: Some(longer), ..message }),
        None => step_back(decoder, message.bytes, message.len, Some(longer.1)),
    }
}

/// Takes the long way, and counts why.
#[inline(never)]
fn step_back<'a>(decoder: &'a mut Decoder, bytes: &'a mut [u8], len: usize, surprise: Option<Surprise>) -> Event<'a> {
    let counters = &mut decoder.direct.counters;
    let counter = match surprise {
        None => &mut counters.stepped_back_kind,
        Some(Surprise::Key) => &mut counters.stepped_back_key,
        Some(Surprise::Text) => &mut counters.stepped_back_text,
        Some(Surprise::Number) => &mut counters.stepped_back_number,
        Some(Surprise::End) => &mut counters.stepped_back_end,
    };
    *counter += 1;
    decoder.decode_by_tape(bytes, len)
}

/// The name of the stream, where the message has an envelope: then the cursor is at the value of `data`.
#[inline(always)]
fn envelope(cursor: &mut Cursor<'_>) -> Result<Option<Place>, Surprise> {
    if cursor.literal(ENVELOPE_STREAM).is_err() {
        return Ok(None);
    }
    let stream = cursor.text()?;
    cursor.literal(ENVELOPE_DATA)?;
    Ok(Some(stream))
}

#[cfg(test)]
mod tests;
