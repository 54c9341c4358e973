//! Candlesticks: what the `@kline_` streams send.
//!
//! In come the fields of the message and of the object `k` inside it, out goes a [`Kline`].

use serde::Serialize;
use simd_json::{Node, StaticNode};

use super::Body;
use super::decimal::{self, Decimal};
use super::raw::{Misfit, Problem};
use super::tape::{Fields, Key, Lent};

/// A candlestick (`kline`), sent over and over while it grows.
///
/// Source: "Kline/Candlestick Streams" of the spot and of the USD-M documentation. Not read: `k.s`, the symbol once more,
/// and `k.B`, documented as "Ignore".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kline<'a> {
    /// `E`: when the venue sent the event, in milliseconds since the Unix epoch.
    pub event_time_ms: u64,
    /// `s`: the symbol, upper case.
    pub symbol: &'a str,
    /// `k.t`: when the candlestick begins, in milliseconds since the Unix epoch.
    pub open_time_ms: u64,
    /// `k.T`: its last millisecond, since the Unix epoch.
    pub close_time_ms: u64,
    /// `k.i`: its length as the venue writes it: `1s`, `1m`, `1h`, `1d`, `1w`, `1M` (a month), ...
    pub interval: &'a str,
    /// `k.f`: the number of its first trade; `None` where the venue sends -1: no trade so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_trade_id: Option<u64>,
    /// `k.L`: the number of its last trade; `None` where the venue sends -1: no trade so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_trade_id: Option<u64>,
    /// `k.o`: the price of the first trade, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub open: Decimal,
    /// `k.c`: the price of the last trade so far, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub close: Decimal,
    /// `k.h`: the highest price, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub high: Decimal,
    /// `k.l`: the lowest price, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub low: Decimal,
    /// `k.v`: what was traded, in the base asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub base_volume: Decimal,
    /// `k.q`: what was traded, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub quote_volume: Decimal,
    /// `k.V`: what takers bought, in the base asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub taker_buy_base_volume: Decimal,
    /// `k.Q`: what takers bought, in the quote asset.
    #[serde(serialize_with = "decimal::as_text")]
    pub taker_buy_quote_volume: Decimal,
    /// `k.n`: how many trades it has.
    pub trades: u64,
    /// `k.x`: whether it is complete.
    pub closed: bool,
}

const EVENT_TIME: Key = Key::letter("E");
const SYMBOL: Key = Key::letter("s");
const KLINE: Key = Key::letter("k");
const OPEN_TIME: Key = Key::inside(b't', "k.t");
const CLOSE_TIME: Key = Key::inside(b'T', "k.T");
const INTERVAL: Key = Key::inside(b'i', "k.i");
const FIRST_TRADE_ID: Key = Key::inside(b'f', "k.f");
const LAST_TRADE_ID: Key = Key::inside(b'L', "k.L");
const OPEN: Key = Key::inside(b'o', "k.o");
const CLOSE: Key = Key::inside(b'c', "k.c");
const HIGH: Key = Key::inside(b'h', "k.h");
const LOW: Key = Key::inside(b'l', "k.l");
const BASE_VOLUME: Key = Key::inside(b'v', "k.v");
const QUOTE_VOLUME: Key = Key::inside(b'q', "k.q");
const TAKER_BUY_BASE_VOLUME: Key = Key::inside(b'V', "k.V");
const TAKER_BUY_QUOTE_VOLUME: Key = Key::inside(b'Q', "k.Q");
const TRADES: Key = Key::inside(b'n', "k.n");
const CLOSED: Key = Key::inside(b'x', "k.x");

pub(super) fn read<'a>(message: &Fields<'_, '_>) -> Result<impl FnOnce(Lent<'a>) -> Body<'a> + use<'a>, Misfit> {
    let event_time_ms = message.integer(EVENT_TIME)?;
    let symbol = message.text(SYMBOL)?;
    let inside = message.at(KLINE).ok_or(KLINE.misfit(Problem::Missing))?;
    if !message.tape.is_object(inside) {
        return Err(KLINE.misfit(Problem::WrongType));
    }
    let kline = Fields::of(message.tape, inside);
    let open_time_ms = kline.integer(OPEN_TIME)?;
    let close_time_ms = kline.integer(CLOSE_TIME)?;
    let interval = kline.text(INTERVAL)?;
    let first_trade_id = trade_id(&kline, FIRST_TRADE_ID)?;
    let last_trade_id = trade_id(&kline, LAST_TRADE_ID)?;
    let open = kline.decimal(OPEN)?;
    let close = kline.decimal(CLOSE)?;
    let high = kline.decimal(HIGH)?;
    let low = kline.decimal(LOW)?;
    let base_volume = kline.decimal(BASE_VOLUME)?;
    let quote_volume = kline.decimal(QUOTE_VOLUME)?;
    let taker_buy_base_volume = kline.decimal(TAKER_BUY_BASE_VOLUME)?;
    let taker_buy_quote_volume = kline.decimal(TAKER_BUY_QUOTE_VOLUME)?;
    let trades = kline.integer(TRADES)?;
    let closed = kline.boolean(CLOSED)?;
    Ok(move |lent: Lent<'a>| {
        Body::Kline(Kline {
            event_time_ms,
            symbol: lent.str(symbol),
            open_time_ms,
            close_time_ms,
            interval: lent.str(interval),
            first_trade_id,
            last_trade_id,
            open,
            close,
            high,
            low,
            base_volume,
            quote_volume,
            taker_buy_base_volume,
            taker_buy_quote_volume,
            trades,
            closed,
        })
    })
}

/// The number of a trade, or the -1 that says there is none.
fn trade_id(kline: &Fields<'_, '_>, key: Key) -> Result<Option<u64>, Misfit> {
    match kline.node(key)? {
        Node::Static(StaticNode::I64(-1)) => Ok(None),
        _ => kline.integer(key).map(Some),
    }
}
