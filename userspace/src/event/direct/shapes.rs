//! The forms of the hot messages, to the last byte, and the readers made from them.
//!
//! A form is written down once, as what stands between the values and what the values are. The macro makes of each form
//! a function that reads a message of it, and of all of them the table [`SHAPES`], for whoever has to know the keys or
//! wants a message of each form. The forms are those of the captures; a venue that adds a key makes its messages go the
//! long way until the form here has it.

use super::super::tape::Lent;
use super::super::{AggTrade, Body, BookTicker, Decoder, Depth, Event, Trade};
use super::{Message, attempt};

/// Decodes the message if it has one form, and goes on to the next form or to the tape if it has not.
pub(super) type Attempt = for<'a> fn(&'a mut Decoder, Message<'a>) -> Event<'a>;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "these are the words of the table below")]
pub(super) enum Value {
    /// A number without a sign and a point.
    integer,
    /// The inside of a string of digits with or without a point.
    decimal,
    /// The inside of a string.
    text,
    /// `true` or `false`.
    boolean,
    /// An array of price levels, of the bids.
    bids,
    /// The same, of the asks.
    asks,
}

/// A form as a table.
pub(super) struct Shape {
    #[cfg(test)]
    pub(super) name: &'static str,
    /// What stands before each value, and what the value is.
    pub(super) parts: &'static [(&'static [u8], Value)],
    /// What stands behind the last value. The brace that ends the message is not in it: a stamp may come first.
    pub(super) end: &'static [u8],
}

/// Everything that is not a value, of all forms.
pub(super) fn literals() -> impl Iterator<Item = &'static [u8]> {
    SHAPES.iter().flat_map(|shape| shape.parts.iter().map(|(literal, _)| *literal).chain([shape.end]))
}

/// Reads a value.
macro_rules! read {
    (bids, $cursor:ident, $levels:ident) => {
        $cursor.levels(&mut $levels.bids)?
    };
    (asks, $cursor:ident, $levels:ident) => {
        $cursor.levels(&mut $levels.asks)?
    };
    ($value:ident, $cursor:ident, $levels:ident) => {
        $cursor.$value()?
    };
}

/// What becomes of a value in the event. A field that not all forms have is an `Option`.
macro_rules! lend {
    (text, $lent:ident, $read:ident) => {
        $lent.str($read).into()
    };
    (bids, $lent:ident, $read:ident) => {{
        let () = $read;
        $lent.bids
    }};
    (asks, $lent:ident, $read:ident) => {{
        let () = $read;
        $lent.asks
    }};
    ($value:ident, $lent:ident, $read:ident) => {
        $read.into()
    };
}

/// Makes a reader of each form, and the table of all.
///
/// A form is a type of event and, for each of its values in their order, what stands before it, the field it belongs in
/// and what it is; then what stands behind the last value, and the fields that this form does not have.
macro_rules! shapes {
    ($(
        $(#[$doc:meta])*
        $name:ident: $body:ident {
            $($literal:literal $field:ident: $value:ident,)+
            then $end:literal $(, without $($absent:ident)+)?
        }
    )+) => {
        $(
            $(#[$doc])*
            // Apart from the others: one function for all of them has too many values for the registers.
            #[inline(never)]
            pub(super) fn $name<'a>(decoder: &'a mut Decoder, message: Message<'a>) -> Event<'a> {
                attempt(decoder, message, #[inline(always)] |cursor, _levels| {
                    $(
                        cursor.literal($literal)?;
                        let $field = read!($value, cursor, _levels);
                    )+
                    cursor.literal($end)?;
                    Ok(#[inline(always)] move |lent: Lent<'a>| {
                        Body::$body($body { $($field: lend!($value, lent, $field),)+ $($($absent: None,)+)? })
                    })
                })
            }
        )+

        /// All forms.
        pub(super) const SHAPES: &[Shape] = &[$(
            Shape {
                #[cfg(test)]
                name: stringify!($name),
                parts: &[$(($literal, Value::$value),)+],
                end: $end,
            },
        )+];
    };
}

shapes! {
    spot_trade: Trade {
        br#"{"e":"trade","E":"# event_time_ms: integer,
        br#","s":""# symbol: text,
        br#"","t":"# trade_id: integer,
        br#","p":""# price: decimal,
        br#"","q":""# quantity: decimal,
        br#"","T":"# trade_time_ms: integer,
        br#","m":"# buyer_is_maker: boolean,
        br#","M":"# best_price_match: boolean,
        then b"", without order_type
    }

    usdm_trade: Trade {
        br#"{"e":"trade","E":"# event_time_ms: integer,
        br#","T":"# trade_time_ms: integer,
        br#","s":""# symbol: text,
        br#"","t":"# trade_id: integer,
        br#","p":""# price: decimal,
        br#"","q":""# quantity: decimal,
        br#"","X":""# order_type: text,
        br#"","m":"# buyer_is_maker: boolean,
        then b"", without best_price_match
    }

    spot_agg_trade: AggTrade {
        br#"{"e":"aggTrade","E":"# event_time_ms: integer,
        br#","s":""# symbol: text,
        br#"","a":"# agg_trade_id: integer,
        br#","p":""# price: decimal,
        br#"","q":""# quantity: decimal,
        br#"","f":"# first_trade_id: integer,
        br#","l":"# last_trade_id: integer,
        br#","T":"# trade_time_ms: integer,
        br#","m":"# buyer_is_maker: boolean,
        br#","M":"# best_price_match: boolean,
        then b""
    }

    usdm_agg_trade: AggTrade {
        br#"{"e":"aggTrade","E":"# event_time_ms: integer,
        br#","a":"# agg_trade_id: integer,
        br#","s":""# symbol: text,
        br#"","p":""# price: decimal,
        br#"","q":""# quantity: decimal,
        br#"","f":"# first_trade_id: integer,
        br#","l":"# last_trade_id: integer,
        br#","T":"# trade_time_ms: integer,
        br#","m":"# buyer_is_maker: boolean,
        then b"", without best_price_match
    }

    spot_book_ticker: BookTicker {
        br#"{"u":"# update_id: integer,
        br#","s":""# symbol: text,
        br#"","b":""# bid_price: decimal,
        br#"","B":""# bid_quantity: decimal,
        br#"","a":""# ask_price: decimal,
        br#"","A":""# ask_quantity: decimal,
        then br#"""#, without event_time_ms transaction_time_ms
    }

    usdm_book_ticker: BookTicker {
        br#"{"e":"bookTicker","u":"# update_id: integer,
        br#","s":""# symbol: text,
        br#"","b":""# bid_price: decimal,
        br#"","B":""# bid_quantity: decimal,
        br#"","a":""# ask_price: decimal,
        br#"","A":""# ask_quantity: decimal,
        br#"","T":"# transaction_time_ms: integer,
        br#","E":"# event_time_ms: integer,
        then b""
    }

    spot_depth: Depth {
        br#"{"e":"depthUpdate","E":"# event_time_ms: integer,
        br#","s":""# symbol: text,
        br#"","U":"# first_update_id: integer,
        br#","u":"# final_update_id: integer,
        br#","b":"# bids: bids,
        br#","a":"# asks: asks,
        then b"", without transaction_time_ms previous_final_update_id
    }

    usdm_depth: Depth {
        br#"{"e":"depthUpdate","E":"# event_time_ms: integer,
        br#","T":"# transaction_time_ms: integer,
        br#","s":""# symbol: text,
        br#"","U":"# first_update_id: integer,
        br#","u":"# final_update_id: integer,
        br#","pu":"# previous_final_update_id: integer,
        br#","b":"# bids: bids,
        br#","a":"# asks: asks,
        then b""
    }
}
