//! Which of the venue's messages a document is.
//!
//! In comes the tape, out goes a [`Recognised`]: where the fields are, and what they are the fields of. A message is
//! told by its `e`; three kinds have none and are told by the keys they have. Nothing here looks at a value other than
//! those of `e`, `stream` and `data`.

use simd_json::Node;

use super::tape::{Fields, Key, Place, Tape};
use super::{answer, book_ticker, depth};

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Trade,
    AggTrade,
    BookTicker,
    Depth,
    PartialDepth,
    Kline,
    Answer,
    ServerShutdown,
    Unknown,
}

/// What is known of a document before its fields are read.
pub(super) struct Recognised<'t, 'x> {
    pub(super) kind: Kind,
    /// The object that the message is: the document itself, or the `data` of a combined stream's envelope.
    pub(super) message_at: usize,
    /// Its fields.
    pub(super) fields: Fields<'t, 'x>,
    /// The stream's name, where there is an envelope.
    pub(super) stream: Option<Place>,
    /// `e`, where it is a string.
    pub(super) event_type: Option<Place>,
}

const EVENT_TYPE: Key = Key::letter("e");

pub(super) fn recognise<'t, 'x>(tape: Tape<'t, 'x>) -> Recognised<'t, 'x> {
    let (message_at, stream) = match envelope(tape) {
        Some((data_at, stream)) => (data_at, Some(tape.place(stream))),
        None => (Tape::ROOT, None),
    };
    let fields = Fields::of(tape, message_at);
    let event_type = fields.str(EVENT_TYPE);
    let kind = match event_type {
        Some("trade") => Kind::Trade,
        Some("aggTrade") => Kind::AggTrade,
        Some("bookTicker") => Kind::BookTicker,
        Some("depthUpdate") => Kind::Depth,
        Some("kline") => Kind::Kline,
        Some("serverShutdown") => Kind::ServerShutdown,
        None if !fields.has(EVENT_TYPE) => without_type(&fields, message_at),
        Some(_) | None => Kind::Unknown,
    };
    Recognised { kind, message_at, fields, stream, event_type: event_type.map(|text| tape.place(text)) }
}

/// The envelope of a combined stream: where its `data` is, and its `stream`.
fn envelope<'x>(tape: Tape<'_, 'x>) -> Option<(usize, &'x str)> {
    let (mut data, mut stream) = (None, None);
    for (key, value_at) in tape.entries(Tape::ROOT) {
        match key {
            "data" => data = Some(value_at),
            "stream" => stream = Some(value_at),
            _ => (),
        }
    }
    match tape.node(stream?) {
        Node::String(stream) => Some((data?, stream)),
        _ => None,
    }
}

fn without_type(fields: &Fields<'_, '_>, message_at: usize) -> Kind {
    if book_ticker::looks_like_one(fields) {
        Kind::BookTicker
    } else if depth::looks_partial(fields) {
        Kind::PartialDepth
    } else if answer::looks_like_one(fields.tape, message_at) {
        Kind::Answer
    } else {
        Kind::Unknown
    }
}
