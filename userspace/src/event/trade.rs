//! One trade: what the `@trade` streams of spot and of USD-M futures send.
//!
//! In come the fields of the message, out goes a [`Trade`].

use serde::Serialize;

use super::Body;
use super::decimal::{self, Decimal};
use super::raw::Misfit;
use super::tape::{Fields, Key, Lent};

/// One trade between one buyer and one seller (`trade`).
///
/// Source: "Trade Streams" of the spot documentation. USD-M futures have the same stream without documenting it; what
/// is said of it here is what captures show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Trade<'a> {
    /// `E`: when the venue sent the event, in milliseconds since the Unix epoch.
    pub event_time_ms: u64,
    /// `T`: when the trade happened, in milliseconds since the Unix epoch.
    pub trade_time_ms: u64,
    /// `s`: the symbol, upper case.
    pub symbol: &'a str,
    /// `t`: the number of this trade among the trades of the symbol.
    pub trade_id: u64,
    /// `p`: the price, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub price: Decimal,
    /// `q`: the quantity, in the base asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub quantity: Decimal,
    /// `m`: whether the buyer's order was the one in the book, so that the seller was the taker.
    pub buyer_is_maker: bool,
    /// `X`, only on USD-M: how the trade came about. `MARKET` for an ordinary one; `INSURANCE_FUND`, `ADL` and `NA`
    /// have been reported by others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order_type: Option<&'a str>,
    /// `M`, only on spot: once "best price match", today documented as "Ignore". `None` where it is not a boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_price_match: Option<bool>,
}

const EVENT_TIME: Key = Key::letter("E");
const TRADE_TIME: Key = Key::letter("T");
const SYMBOL: Key = Key::letter("s");
const TRADE_ID: Key = Key::letter("t");
const PRICE: Key = Key::letter("p");
const QUANTITY: Key = Key::letter("q");
const BUYER_IS_MAKER: Key = Key::letter("m");
const ORDER_TYPE: Key = Key::letter("X");
const BEST_PRICE_MATCH: Key = Key::letter("M");

pub(super) fn read<'a>(fields: &Fields<'_, '_>) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let event_time_ms = fields.integer(EVENT_TIME)?;
    let trade_time_ms = fields.integer(TRADE_TIME)?;
    let symbol = fields.text(SYMBOL)?;
    let trade_id = fields.integer(TRADE_ID)?;
    let price = fields.decimal(PRICE)?;
    let quantity = fields.decimal(QUANTITY)?;
    let buyer_is_maker = fields.boolean(BUYER_IS_MAKER)?;
    let order_type = fields.optional(ORDER_TYPE, Fields::text)?;
    let best_price_match = fields.boolean(BEST_PRICE_MATCH).ok();
    Ok(move |lent: Lent<'a>| {
        Body::Trade(Trade {
            event_time_ms,
            trade_time_ms,
            symbol: lent.str(symbol),
            trade_id,
            price,
            quantity,
            buyer_is_maker,
            order_type: order_type.map(|order_type| lent.str(order_type)),
            best_price_match,
        })
    })
}
