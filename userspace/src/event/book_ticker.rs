//! The best bid and the best ask: what the `@bookTicker` streams send.
//!
//! In come the fields of the message, out goes a [`BookTicker`].

use serde::Serialize;

use super::Body;
use super::decimal::{self, Decimal};
use super::raw::Misfit;
use super::tape::{Fields, Key, Lent};

/// The best bid and the best ask after an update of the book (`bookTicker`).
///
/// Source: "Individual Symbol Book Ticker Streams" of the spot and of the USD-M documentation. The venue leaves out
/// updates inside a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct BookTicker<'a> {
    /// `E`, only on USD-M: when the venue sent the event, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_time_ms: Option<u64>,
    /// `T`, only on USD-M: when the book changed, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_time_ms: Option<u64>,
    /// `s`: the symbol, upper case.
    pub symbol: &'a str,
    /// `u`: the number of the update after which the book was so.
    pub update_id: u64,
    /// `b`: the price of the best bid, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub bid_price: Decimal,
    /// `B`: the quantity bid at that price, in the base asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub bid_quantity: Decimal,
    /// `a`: the price of the best ask, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub ask_price: Decimal,
    /// `A`: the quantity asked at that price, in the base asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub ask_quantity: Decimal,
}

const EVENT_TIME: Key = Key::letter("E");
const TRANSACTION_TIME: Key = Key::letter("T");
const SYMBOL: Key = Key::letter("s");
const UPDATE_ID: Key = Key::letter("u");
const BID_PRICE: Key = Key::letter("b");
const BID_QUANTITY: Key = Key::letter("B");
const ASK_PRICE: Key = Key::letter("a");
const ASK_QUANTITY: Key = Key::letter("A");

/// Whether the fields that every book ticker has are there: all that spot gives to recognise it by.
pub(super) fn looks_like_one(fields: &Fields<'_, '_>) -> bool {
    [SYMBOL, UPDATE_ID, BID_PRICE, BID_QUANTITY, ASK_PRICE, ASK_QUANTITY].into_iter().all(|key| fields.has(key))
}

pub(super) fn read<'a>(fields: &Fields<'_, '_>) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let event_time_ms = fields.optional(EVENT_TIME, Fields::integer)?;
    let transaction_time_ms = fields.optional(TRANSACTION_TIME, Fields::integer)?;
    let symbol = fields.text(SYMBOL)?;
    let update_id = fields.integer(UPDATE_ID)?;
    let bid_price = fields.decimal(BID_PRICE)?;
    let bid_quantity = fields.decimal(BID_QUANTITY)?;
    let ask_price = fields.decimal(ASK_PRICE)?;
    let ask_quantity = fields.decimal(ASK_QUANTITY)?;
    Ok(move |lent: Lent<'a>| {
        Body::BookTicker(BookTicker {
            event_time_ms,
            transaction_time_ms,
            symbol: lent.str(symbol),
            update_id,
            bid_price,
            bid_quantity,
            ask_price,
            ask_quantity,
        })
    })
}
