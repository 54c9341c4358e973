//! What the event stage asks of the allocator: nothing at all once it has seen each kind of message, and after a very
//! large message no more than it says it keeps.

mod counting;

use std::hint::black_box;

use wiretick::event::{Body, Continuity, Decoder, Options};
use wiretick::floor::Span;

fn padded(payload: &str) -> Vec<u8> {
    let mut buffer = payload.as_bytes().to_vec();
    buffer.extend([b'"'; Span::PAD]);
    buffer
}

fn depth(levels: usize) -> String {
    let levels: Vec<String> = (0..levels).map(|i| format!(r#"["{}.{:08}","0.{i:08}"]"#, 61_000 + i % 900, i)).collect();
    let levels = levels.join(",");
    format!(
        r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1700000000001,"s":"BTCUSDT","U":1,"u":2,"b":[{levels}],"a":[{levels}]}}}}"#
    )
}

#[test]
fn ten_thousand_mixed_messages_allocate_nothing() {
    let stamp = Options { stamp_field: Some("mono".into()) };
    let mut decoder = Decoder::new(stamp.clone());
    mixed_messages_allocate_nothing(&mut decoder);
    // Seven of the thirteen have the form of a hot message.
    assert_eq!(decoder.direct_counters().direct, 771 * 7);
    mixed_messages_allocate_nothing(&mut Decoder::by_tape(stamp));
}

fn mixed_messages_allocate_nothing(decoder: &mut Decoder) {
    let escaped = r#"{"e":"24hr\u0054icker","s":"\u0042TCUSDT","mono":"123"}"#;
    let mut messages: Vec<Vec<u8>> = [
        r#"{"stream":"btcusdt@trade","data":{"e":"trade","E":1700000000001,"s":"BTCUSDT","t":1,"p":"61837.63000000","q":"0.02000000","T":1700000000000,"m":true,"M":true}}"#,
        r#"{"stream":"btcusdt@bookTicker","data":{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}"#,
        r#"{"e":"trade","E":1700000000001,"T":1700000000000,"s":"BTCUSDT","t":1,"p":"61800.30","q":"0.006","X":"MARKET","m":false,"mono":123}"#,
        r#"{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}"#,
        r#"{"e":"aggTrade","E":1700000000001,"a":5,"s":"BTCUSDT","p":"1.01100","q":"10","f":1,"l":2,"T":1700000000000,"m":false}"#,
        r#"{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":1,"T":2,"s":"BTCUSDT","i":"1m","f":1,"L":2,"o":"1.0","c":"1.1","h":"1.2","l":"0.9","v":"5","n":2,"x":false,"q":"5.1","V":"2","Q":"2.0","B":"0"}}"#,
        r#"{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}"#,
        r#"{"result":null,"id":1}"#,
        r#"{"e":"trade","E":"not a number"}"#,
        "this is not JSON",
        &depth(25),
        &depth(200),
    ]
    .iter()
    .map(|payload| padded(payload))
    .collect();
    let mut detector = Continuity::default();
    let mut out = Vec::with_capacity(1 << 20);
    let mut escaped_now = padded(escaped);

    let mut round = || {
        for message in &mut messages {
            let len = message.len() - Span::PAD;
            let event = decoder.decode(Span::new(message, len));
            black_box(detector.observe(&event));
            out.clear();
            serde_json::to_writer(&mut out, &event).unwrap();
        }
        // Decoding resolves the escapes in place, so each round needs them anew.
        escaped_now[..escaped.len()].copy_from_slice(escaped.as_bytes());
        let event = decoder.decode(Span::new(&mut escaped_now, escaped.len()));
        assert!(matches!(event.body, Body::Raw(raw) if raw.payload == escaped.as_bytes()));
        black_box(detector.observe(&event));
        out.clear();
        serde_json::to_writer(&mut out, &event).unwrap();
    };
    round();
    let before = counting::calls();
    assert!(before > 0, "the allocator does not count");
    for _ in 0..770 {
        round();
    }
    assert_eq!(counting::calls() - before, 0, "allocations in 770 rounds of 13 messages");
    let seen = decoder.counters();
    assert_eq!((seen.trade, seen.depth, seen.raw_misfit, seen.raw_not_json), (771 * 2, 771 * 2, 771, 771));
}

#[test]
fn after_a_very_large_message_no_more_is_kept_than_promised() {
    let small = padded(r#"{"e":"serverShutdown","E":5}"#);
    let decode = |decoder: &mut Decoder, message: &mut Vec<u8>| {
        let len = message.len() - Span::PAD;
        let event = decoder.decode(Span::new(message, len));
        match event.body {
            Body::Depth(depth) => depth.bids.len() + depth.asks.len(),
            Body::Raw(_) => 1,
            _ => 0,
        }
    };
    let kept_per_byte = |new: fn(Options) -> Decoder, mut large: Vec<u8>, levels: usize| {
        let before = counting::bytes();
        let mut decoder = new(Options::default());
        for _ in 0..3 {
            assert_eq!(decode(&mut decoder, &mut large), levels);
            assert_eq!(decode(&mut decoder, &mut small.clone()), 0);
        }
        let kept = counting::bytes() - before;
        drop(decoder);
        assert_eq!(counting::bytes(), before, "all of it is given back with the decoder");
        kept as f64 / large.len() as f64
    };
    let large = padded(&depth(100_000));
    assert!(large.len() > 5_000_000);
    let ordinary = kept_per_byte(Decoder::by_tape, large.clone(), 200_000);
    assert!(ordinary < 8.0, "{ordinary} bytes are kept for each of an order book");
    let direct = kept_per_byte(Decoder::new, large, 200_000);
    assert!(direct < 3.0, "{direct} bytes are kept for each of an order book that needed no tape");
    let brackets = kept_per_byte(Decoder::new, padded(&"[".repeat(5_000_000)), 1);
    assert!(brackets < 40.0, "{brackets} bytes are kept for each of nothing but brackets");
}
