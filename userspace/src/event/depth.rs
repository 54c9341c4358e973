//! The order book: its changes, and its top.
//!
//! In come the fields of the message; the levels are decoded at once into the decoder's vectors, and out goes a
//! [`Depth`] or a [`PartialDepth`] that borrows them.

use serde::Serialize;

use super::Body;
use super::decimal::{self, Decimal};
use super::raw::Misfit;
use super::tape::{Fields, Key, Lent};

/// A price level of the order book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Level {
    /// The price, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub price: Decimal,
    /// The quantity that now stands at that price, in the base asset. Zero: the level is gone.
    #[serde(serialize_with = "decimal::as_text")]
    pub quantity: Decimal,
}

/// Changes to the order book (`depthUpdate`).
///
/// Source: "Diff. Depth Stream" of the spot and "Diff. Book Depth Streams" of the USD-M documentation. The *partial*
/// depth streams of USD-M (`@depth5` and so on) send the same message with the top of the book in it; only the stream's
/// name tells one from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Depth<'a> {
    /// `E`: when the venue sent the event, in milliseconds since the Unix epoch.
    pub event_time_ms: u64,
    /// `T`, only on USD-M: when the book changed, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_time_ms: Option<u64>,
    /// `s`: the symbol, upper case.
    pub symbol: &'a str,
    /// `U`: the number of the first update in this message.
    pub first_update_id: u64,
    /// `u`: the number of the last update in this message.
    pub final_update_id: u64,
    /// `pu`, only on USD-M: `u` of the message before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_final_update_id: Option<u64>,
    /// `b`: the bids that changed, in the venue's order.
    pub bids: &'a [Level],
    /// `a`: the asks that changed, in the venue's order.
    pub asks: &'a [Level],
}

/// The top of the order book, on spot.
///
/// Source: "Partial Book Depth Streams" of the spot documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PartialDepth<'a> {
    /// The symbol in lower case, as the name of the stream begins with it: the message itself does not say. `None`
    /// outside a combined stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub symbol: Option<&'a str>,
    /// `lastUpdateId`: the number of the update after which the book was so.
    pub last_update_id: u64,
    /// `bids`: the best bids, the best one first.
    pub bids: &'a [Level],
    /// `asks`: the best asks, the best one first.
    pub asks: &'a [Level],
}

const EVENT_TIME: Key = Key::letter("E");
const TRANSACTION_TIME: Key = Key::letter("T");
const SYMBOL: Key = Key::letter("s");
const FIRST_UPDATE_ID: Key = Key::letter("U");
const FINAL_UPDATE_ID: Key = Key::letter("u");
const BIDS: Key = Key::letter("b");
const ASKS: Key = Key::letter("a");

/// The vectors that hold the levels of one message.
#[derive(Debug, Default)]
pub(super) struct Levels {
    pub(super) bids: Vec<Level>,
    pub(super) asks: Vec<Level>,
}

pub(super) fn read<'a>(
    fields: &Fields<'_, '_>,
    levels: &mut Levels,
) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let event_time_ms = fields.integer(EVENT_TIME)?;
    let transaction_time_ms = fields.optional(TRANSACTION_TIME, Fields::integer)?;
    let symbol = fields.text(SYMBOL)?;
    let first_update_id = fields.integer(FIRST_UPDATE_ID)?;
    let final_update_id = fields.integer(FINAL_UPDATE_ID)?;
    let previous_final_update_id = fields.optional(Key::PREVIOUS_UPDATE_ID, Fields::integer)?;
    fields.levels(BIDS, &mut levels.bids)?;
    fields.levels(ASKS, &mut levels.asks)?;
    Ok(move |lent: Lent<'a>| {
        Body::Depth(Depth {
            event_time_ms,
            transaction_time_ms,
            symbol: lent.str(symbol),
            first_update_id,
            final_update_id,
            previous_final_update_id,
            bids: lent.bids,
            asks: lent.asks,
        })
    })
}

/// Whether the fields of a partial depth are there: all that spot gives to recognise it by.
pub(super) fn looks_partial(fields: &Fields<'_, '_>) -> bool {
    fields.has(Key::LAST_UPDATE_ID) && fields.has(Key::BIDS) && fields.has(Key::ASKS)
}

pub(super) fn read_partial<'a>(
    fields: &Fields<'_, '_>,
    levels: &mut Levels,
) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let last_update_id = fields.integer(Key::LAST_UPDATE_ID)?;
    fields.levels(Key::BIDS, &mut levels.bids)?;
    fields.levels(Key::ASKS, &mut levels.asks)?;
    Ok(move |lent: Lent<'a>| {
        let symbol = lent.stream.and_then(|stream| Some(lent.str(stream).split_once('@')?.0));
        Body::PartialDepth(PartialDepth { symbol, last_update_id, bids: lent.bids, asks: lent.asks })
    })
}
