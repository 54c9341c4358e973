//! What tells that two messages, one on each connection, are the same event.
//!
//! In comes an event as one connection has it, out goes a number that the other connection's copy gives too. The venue's
//! own ids where an event has them, with its kind, stream and symbol; the content where it has none. The sender's stamp is
//! never part of it: it may differ between the copies.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

use super::{Body, Event};

/// The same for both copies of an event, and for no other event but by accident: 64 bits of hash, of which two among a
/// million are equal less than once in thirty million times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity(pub u64);

/// Tells the identity of events.
#[derive(Clone, Debug, Default)]
pub struct Identifier {
    /// `"n":` where the stamp field is named `n`.
    stamp: Option<Vec<u8>>,
}

impl Identifier {
    /// For messages that may have a stamp in this field.
    #[must_use]
    pub fn new(stamp_field: Option<&str>) -> Self {
        Self { stamp: stamp_field.map(|name| format!("\"{name}\":").into_bytes()) }
    }

    /// The identity of an event.
    #[must_use]
    pub fn of_event(&self, event: &Event<'_>) -> Identity {
        // Its keys are the same in every hasher made by `new`: both lanes come to the same number.
        let mut hasher = DefaultHasher::new();
        discriminant(&event.body).hash(&mut hasher);
        // Two streams of one symbol may send the same ids: `@depth` and `@depth@100ms`.
        event.stream.hash(&mut hasher);
        event.symbol().hash(&mut hasher);
        match &event.body {
            Body::Trade(trade) => trade.trade_id.hash(&mut hasher),
            Body::AggTrade(trade) => trade.agg_trade_id.hash(&mut hasher),
            Body::BookTicker(ticker) => ticker.update_id.hash(&mut hasher),
            Body::Depth(depth) => (depth.first_update_id, depth.final_update_id).hash(&mut hasher),
            // Without the name of its stream, only the number of levels tells `@depth5` from `@depth20`.
            Body::PartialDepth(depth) => {
                (depth.last_update_id, depth.bids.len(), depth.asks.len()).hash(&mut hasher);
            }
            // Sent over and over while it grows, and without a number: what it says is all there is.
            Body::Kline(kline) => {
                (kline.event_time_ms, kline.interval, kline.open_time_ms, kline.closed).hash(&mut hasher);
                (kline.trades, kline.last_trade_id, kline.base_volume, kline.quote_volume).hash(&mut hasher);
                (kline.open, kline.close, kline.high, kline.low).hash(&mut hasher);
            }
            Body::ServerShutdown(shutdown) => shutdown.event_time_ms.hash(&mut hasher),
            Body::Answer(answer) => self.without_stamp(answer.payload, event.stamp_ns).hash(&mut hasher),
            Body::Raw(raw) => self.without_stamp(raw.payload, event.stamp_ns).hash(&mut hasher),
        }
        Identity(hasher.finish())
    }

    /// The identity of a message that never becomes an event, because it is binary.
    #[must_use]
    pub fn of_binary(payload: &[u8]) -> Identity {
        let mut hasher = DefaultHasher::new();
        payload.hash(&mut hasher);
        Identity(hasher.finish())
    }

    /// What stands before the number in the stamp field and what stands behind it. The whole payload comes first and
    /// nothing behind it where the field is not found.
    fn without_stamp<'a>(&self, payload: &'a [u8], stamp_ns: Option<u64>) -> (&'a [u8], &'a [u8]) {
        let whole = (payload, &payload[payload.len()..]);
        let (Some(name), Some(_)) = (&self.stamp, stamp_ns) else { return whole };
        // From behind: a sender that adds a field puts it last.
        let Some(at) = payload.windows(name.len()).rposition(|window| window == name) else { return whole };
        let (before, number) = payload.split_at(at + name.len());
        // With the blanks around it: a field of fixed width has as many of them as it lacks digits.
        let len = number.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b' ').count();
        (before, &number[len..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decoder, Options};
    use crate::floor::Span;

    fn identity(payload: &str) -> Identity {
        let options = Options { stamp_field: Some("n".to_owned()) };
        let mut buffer = payload.as_bytes().to_vec();
        buffer.extend([0; Span::PAD]);
        let mut decoder = Decoder::new(options);
        let event = decoder.decode(Span::new(&mut buffer, payload.len()));
        Identifier::new(Some("n")).of_event(&event)
    }

    fn trade(id: u64, symbol: &str, stamp: &str) -> String {
        format!(r#"{{"e":"trade","E":1,"s":"{symbol}","t":{id},"p":"1","q":"1","T":1,"m":true,"M":true{stamp}}}"#)
    }

    fn ticker(id: u64) -> String {
        format!(r#"{{"u":{id},"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}}"#)
    }

    fn depth(first: u64, last: u64) -> String {
        format!(r#"{{"e":"depthUpdate","E":1,"s":"BTCUSDT","U":{first},"u":{last},"b":[],"a":[]}}"#)
    }

    fn kline(close: &str, stamp: &str) -> String {
        format!(
            r#"{{"e":"kline","E":9,"s":"BTCUSDT","k":{{"t":1,"T":2,"s":"BTCUSDT","i":"1m","f":1,"L":2,"o":"1","c":"{close}","h":"3","l":"1","v":"5","n":2,"x":false,"q":"5","V":"1","Q":"1","B":"0"}}{stamp}}}"#
        )
    }

    fn enveloped(stream: &str, data: &str) -> String {
        format!(r#"{{"stream":"{stream}","data":{data}}}"#)
    }

    #[test]
    fn different_events_are_told_apart() {
        let payloads = [
            trade(1, "BTCUSDT", ""),
            trade(2, "BTCUSDT", ""),
            trade(1, "ETHUSDT", ""),
            ticker(1),
            ticker(2),
            depth(1, 1),
            depth(1, 2),
            depth(2, 2),
            enveloped("btcusdt@depth", &depth(1, 2)),
            enveloped("btcusdt@depth@100ms", &depth(1, 2)),
            kline("1", ""),
            kline("2", ""),
            r#"{"type":"heartbeat","sequence":1}"#.to_owned(),
            r#"{"type":"heartbeat","sequence":2}"#.to_owned(),
            "pong".to_owned(),
            r#"{"result":null,"id":1}"#.to_owned(),
            r#"{"result":null,"id":2}"#.to_owned(),
        ];
        for (at, one) in payloads.iter().enumerate() {
            for (other_at, other) in payloads.iter().enumerate() {
                assert_eq!(identity(one) == identity(other), at == other_at, "{one} {other}");
            }
        }
    }

    #[test]
    fn a_stamp_makes_no_other_event() {
        let stamps = ["", r#","n":1                  "#, r#","n":123456789012345678 "#, r#","n":7"#];
        let raw = |stamp: &str| format!(r#"{{"type":"match","x":"\"n\":3"{stamp}}}"#);
        for stamp in &stamps[1..] {
            assert_eq!(identity(&trade(1, "BTCUSDT", stamp)), identity(&trade(1, "BTCUSDT", "")));
            assert_eq!(identity(&kline("1", stamp)), identity(&kline("1", "")));
            assert_eq!(identity(&raw(stamp)), identity(&raw(stamps[1])));
        }
        // What only looks like a stamp is content.
        assert_ne!(identity(r#"{"x":"\"n\":3"}"#), identity(r#"{"x":"\"n\":4"}"#));
        assert_ne!(identity(r#"{"n":"3"}"#), identity(r#"{"n":"4"}"#));
    }
}
