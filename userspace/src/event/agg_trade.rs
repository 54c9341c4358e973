//! Trades of one taker order, summed up: what the `@aggTrade` streams send.
//!
//! In come the fields of the message, out goes an [`AggTrade`].

use serde::Serialize;

use super::Body;
use super::decimal::{self, Decimal};
use super::raw::Misfit;
use super::tape::{Fields, Key, Lent};

/// Trades of one taker order at one price, as one (`aggTrade`).
///
/// Source: "Aggregate Trade Streams" of the spot and of the USD-M documentation. On USD-M, trades of the insurance fund
/// and of ADL are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AggTrade<'a> {
    /// `E`: when the venue sent the event, in milliseconds since the Unix epoch.
    pub event_time_ms: u64,
    /// `T`: when the trades happened, in milliseconds since the Unix epoch.
    pub trade_time_ms: u64,
    /// `s`: the symbol, upper case.
    pub symbol: &'a str,
    /// `a`: the number of this sum among the sums of the symbol.
    pub agg_trade_id: u64,
    /// `p`: the price, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub price: Decimal,
    /// `q`: the quantity of all its trades, in the base asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub quantity: Decimal,
    /// `f`: the number of its first trade.
    pub first_trade_id: u64,
    /// `l`: the number of its last trade.
    pub last_trade_id: u64,
    /// `m`: whether the buyer's orders were the ones in the book, so that the seller was the taker.
    pub buyer_is_maker: bool,
    /// `M`, only on spot: once "best price match", today documented as "Ignore". `None` where it is not a boolean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_price_match: Option<bool>,
}

const EVENT_TIME: Key = Key::letter("E");
const TRADE_TIME: Key = Key::letter("T");
const SYMBOL: Key = Key::letter("s");
const AGG_TRADE_ID: Key = Key::letter("a");
const PRICE: Key = Key::letter("p");
const QUANTITY: Key = Key::letter("q");
const FIRST_TRADE_ID: Key = Key::letter("f");
const LAST_TRADE_ID: Key = Key::letter("l");
const BUYER_IS_MAKER: Key = Key::letter("m");
const BEST_PRICE_MATCH: Key = Key::letter("M");

pub(super) fn read<'a>(fields: &Fields<'_, '_>) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let event_time_ms = fields.integer(EVENT_TIME)?;
    let trade_time_ms = fields.integer(TRADE_TIME)?;
    let symbol = fields.text(SYMBOL)?;
    let agg_trade_id = fields.integer(AGG_TRADE_ID)?;
    let price = fields.decimal(PRICE)?;
    let quantity = fields.decimal(QUANTITY)?;
    let first_trade_id = fields.integer(FIRST_TRADE_ID)?;
    let last_trade_id = fields.integer(LAST_TRADE_ID)?;
    let buyer_is_maker = fields.boolean(BUYER_IS_MAKER)?;
    let best_price_match = fields.boolean(BEST_PRICE_MATCH).ok();
    Ok(move |lent: Lent<'a>| {
        Body::AggTrade(AggTrade {
            event_time_ms,
            trade_time_ms,
            symbol: lent.str(symbol),
            agg_trade_id,
            price,
            quantity,
            first_trade_id,
            last_trade_id,
            buyer_is_maker,
            best_price_match,
        })
    })
}
