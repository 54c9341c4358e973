//! What each of the venue's messages becomes: one sample of each, written by hand after the documentation, and what
//! differs from it.

use super::*;
use crate::floor::Span;

/// Runs `check` on the event that `payload` becomes, and makes sure that the bytes behind it stay as they were.
#[track_caller]
fn decode_with<T>(decoder: &mut Decoder, payload: &[u8], check: impl FnOnce(Event<'_>) -> T) -> T {
    let mut buffer = payload.to_vec();
    let behind: Vec<u8> = b"{\"\\, []:0tfn".iter().copied().cycle().take(Span::PAD).collect();
    buffer.extend_from_slice(&behind);
    let checked = check(decoder.decode(Span::new(&mut buffer, payload.len())));
    assert_eq!(buffer[payload.len()..], behind, "the bytes behind the payload have changed");
    checked
}

#[track_caller]
fn decode<T>(payload: &str, check: impl FnOnce(Event<'_>) -> T) -> T {
    decode_with(&mut Decoder::new(Options::default()), payload.as_bytes(), check)
}

#[track_caller]
fn raw(payload: &str) -> Why {
    decode(payload, |event| match event.body {
        Body::Raw(raw) => {
            assert_eq!(raw.payload, payload.as_bytes());
            raw.why
        }
        body => panic!("{body:?} is not raw"),
    })
}

#[track_caller]
fn misfit(payload: &str) -> (&'static str, Problem) {
    match raw(payload) {
        Why::Misfit(misfit) => (misfit.field, misfit.problem),
        why => panic!("{why:?} is no misfit"),
    }
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn level(price: &str, quantity: &str) -> Level {
    Level { price: decimal(price), quantity: decimal(quantity) }
}

const SPOT_TRADE: &str = r#"{"e":"trade","E":1700000000123,"s":"BNBBTC","t":12345,"p":"0.00100000","q":"100.00","T":1700000000120,"m":true,"M":true}"#;
const USDM_TRADE: &str = r#"{"e":"trade","E":1700000000123,"T":1700000000120,"s":"BTCUSDT","t":77,"p":"61800.30","q":"0.006","X":"MARKET","m":false}"#;
const SPOT_TICKER: &str =
    r#"{"u":400900217,"s":"BNBUSDT","b":"25.35190000","B":"31.21000000","a":"25.36520000","A":"40.66000000"}"#;
const USDM_DEPTH: &str = r#"{"e":"depthUpdate","E":123456789,"T":123456788,"s":"BTCUSDT","U":157,"u":160,"pu":149,"b":[["0.0024","10"],["0.0023","0"]],"a":[["0.0026","100"]]}"#;
const KLINE: &str = r#"{"e":"kline","E":1672515782136,"s":"BNBBTC","k":{"t":1672515780000,"T":1672515839999,"s":"BNBBTC","i":"1m","f":100,"L":200,"o":"0.0010","c":"0.0020","h":"0.0025","l":"0.0015","v":"1000","n":100,"x":false,"q":"1.0000","V":"500","Q":"0.500","B":"123456"}}"#;

#[test]
fn a_spot_trade_has_all_its_fields() {
    decode(SPOT_TRADE, |event| {
        let expected = Trade {
            event_time_ms: 1_700_000_000_123,
            trade_time_ms: 1_700_000_000_120,
            symbol: "BNBBTC",
            trade_id: 12345,
            price: decimal("0.00100000"),
            quantity: decimal("100.00"),
            buyer_is_maker: true,
            order_type: None,
            best_price_match: Some(true),
        };
        assert_eq!(event, Event { body: Body::Trade(expected), stream: None, stamp_ns: None });
        assert_eq!(expected.price.to_string(), "0.00100000", "trailing zeros survive");
        assert_eq!((event.symbol(), event.event_time_ms()), (Some("BNBBTC"), Some(1_700_000_000_123)));
    });
}

#[test]
fn a_usdm_trade_says_how_it_came_about() {
    decode(USDM_TRADE, |event| match event.body {
        Body::Trade(trade) => assert_eq!((trade.order_type, trade.best_price_match), (Some("MARKET"), None)),
        body => panic!("{body:?}"),
    });
}

#[test]
fn an_aggregate_trade_has_all_its_fields() {
    let payload = r#"{"e":"aggTrade","E":1672515782136,"s":"BNBBTC","a":26129,"p":"0.001","q":"100","f":100,"l":105,"T":1672515782130,"m":true,"M":false}"#;
    decode(payload, |event| {
        let expected = AggTrade {
            event_time_ms: 1_672_515_782_136,
            trade_time_ms: 1_672_515_782_130,
            symbol: "BNBBTC",
            agg_trade_id: 26129,
            price: decimal("0.001"),
            quantity: decimal("100"),
            first_trade_id: 100,
            last_trade_id: 105,
            buyer_is_maker: true,
            best_price_match: Some(false),
        };
        assert_eq!(event.body, Body::AggTrade(expected));
    });
}

#[test]
fn a_spot_book_ticker_is_known_by_its_keys() {
    decode(SPOT_TICKER, |event| {
        let expected = BookTicker {
            event_time_ms: None,
            transaction_time_ms: None,
            symbol: "BNBUSDT",
            update_id: 400_900_217,
            bid_price: decimal("25.35190000"),
            bid_quantity: decimal("31.21000000"),
            ask_price: decimal("25.36520000"),
            ask_quantity: decimal("40.66000000"),
        };
        assert_eq!(event.body, Body::BookTicker(expected));
    });
    assert_eq!(raw(r#"{"u":1,"s":"BNBUSDT","b":"1","B":"1","a":"1"}"#), Why::UnknownType, "one key is missing");
}

#[test]
fn a_usdm_book_ticker_has_times() {
    let payload = r#"{"e":"bookTicker","u":5,"s":"BTCUSDT","b":"1.0","B":"2","a":"1.1","A":"3","T":1568014460891,"E":1568014460893}"#;
    decode(payload, |event| match event.body {
        Body::BookTicker(ticker) => {
            assert_eq!(ticker.transaction_time_ms, Some(1_568_014_460_891));
            assert_eq!(event.event_time_ms(), Some(1_568_014_460_893));
        }
        body => panic!("{body:?}"),
    });
}

#[test]
fn a_depth_diff_lends_its_levels_in_their_order() {
    decode(USDM_DEPTH, |event| {
        let expected = Depth {
            event_time_ms: 123_456_789,
            transaction_time_ms: Some(123_456_788),
            symbol: "BTCUSDT",
            first_update_id: 157,
            final_update_id: 160,
            previous_final_update_id: Some(149),
            bids: &[level("0.0024", "10"), level("0.0023", "0")],
            asks: &[level("0.0026", "100")],
        };
        assert_eq!(event.body, Body::Depth(expected));
    });
}

#[test]
fn a_spot_depth_diff_has_no_previous_number_and_may_have_no_levels() {
    let payload = r#"{"e":"depthUpdate","E":1,"s":"BNBBTC","U":157,"u":160,"b":[],"a":[["1","2",[]]]}"#;
    decode(payload, |event| match event.body {
        Body::Depth(depth) => {
            assert_eq!((depth.previous_final_update_id, depth.transaction_time_ms), (None, None));
            assert_eq!((depth.bids, depth.asks), (&[][..], &[level("1", "2")][..]));
        }
        body => panic!("{body:?}"),
    });
}

#[test]
fn a_partial_depth_gets_its_symbol_from_the_name_of_the_stream() {
    let data = r#"{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}"#;
    let expected = PartialDepth {
        symbol: None,
        last_update_id: 160,
        bids: &[level("0.0024", "10")],
        asks: &[level("0.0026", "100")],
    };
    decode(data, |event| assert_eq!(event.body, Body::PartialDepth(expected)));
    decode(&format!(r#"{{"stream":"bnbbtc@depth5@100ms","data":{data}}}"#), |event| {
        assert_eq!(event.body, Body::PartialDepth(PartialDepth { symbol: Some("bnbbtc"), ..expected }));
        assert_eq!((event.stream, event.symbol()), (Some("bnbbtc@depth5@100ms"), Some("bnbbtc")));
    });
}

#[test]
fn a_kline_has_all_its_fields() {
    decode(KLINE, |event| {
        let expected = Kline {
            event_time_ms: 1_672_515_782_136,
            symbol: "BNBBTC",
            open_time_ms: 1_672_515_780_000,
            close_time_ms: 1_672_515_839_999,
            interval: "1m",
            first_trade_id: Some(100),
            last_trade_id: Some(200),
            open: decimal("0.0010"),
            close: decimal("0.0020"),
            high: decimal("0.0025"),
            low: decimal("0.0015"),
            base_volume: decimal("1000"),
            quote_volume: decimal("1.0000"),
            taker_buy_base_volume: decimal("500"),
            taker_buy_quote_volume: decimal("0.500"),
            trades: 100,
            closed: false,
        };
        assert_eq!(event.body, Body::Kline(expected));
    });
    decode(&KLINE.replace(r#""f":100,"L":200"#, r#""f":-1,"L":-1"#), |event| match event.body {
        Body::Kline(kline) => assert_eq!((kline.first_trade_id, kline.last_trade_id), (None, None)),
        body => panic!("{body:?}"),
    });
}

#[test]
fn an_answer_says_to_what_and_how_it_went() {
    let answer = |payload: &str| {
        decode(payload, |event| match event.body {
            Body::Answer(answer) => {
                assert_eq!(answer.payload, payload.as_bytes());
                format!("{:?} {:?}", answer.id, answer.outcome)
            }
            body => panic!("{body:?}"),
        })
    };
    assert_eq!(answer(r#"{"result":null,"id":1}"#), "Some(Number(1)) Done { result_is_null: true }");
    assert_eq!(answer(r#"{"result":["a@trade"],"id":"x-1"}"#), "Some(Text(\"x-1\")) Done { result_is_null: false }");
    assert_eq!(
        answer(r#"{"error":{"code":2,"msg":"Invalid request"},"id":-7}"#),
        "Some(Number(-7)) Refused { code: 2, message: \"Invalid request\" }"
    );
    assert_eq!(
        answer(r#"{"code":3,"msg":"Invalid \"JSON\""}"#),
        r#"None Refused { code: 3, message: "Invalid \"JSON\"" }"#
    );
    assert_eq!(misfit(r#"{"result":null,"id":1.5}"#), ("id", Problem::WrongType));
    assert_eq!(raw(r#"{"jsonrpc":"2.0","result":"ok","id":5}"#), Why::UnknownType, "another venue's");
    assert_eq!(raw(r#"{"event":"error","code":"60012","msg":"Invalid request"}"#), Why::UnknownType, "another venue's");
}

#[test]
fn the_venue_announces_that_it_shuts_down() {
    let expected = Body::ServerShutdown(ServerShutdown { event_time_ms: 1_770_123_456_789 });
    let data = r#"{"e":"serverShutdown","E":1770123456789}"#;
    decode(data, |event| assert_eq!(event.body, expected));
    decode(&format!(r#"{{"stream":"!serverShutdown","data":{data}}}"#), |event| {
        assert_eq!((event.body, event.stream), (expected, Some("!serverShutdown")));
    });
}

#[test]
fn escapes_are_resolved_in_keys_and_in_values() {
    let payload = r#"{"str\u0065am":"\u0062nbbtc@trade","data":{"\u0065":"tr\u0061de","E":1,"s":"\u0042NB\/\"B\ud83d\ude00","t":2,"p":"\u0031.5","q":"1","T":3,"m":false}}"#;
    decode(payload, |event| match event.body {
        Body::Trade(trade) => {
            assert_eq!((trade.symbol, trade.price), ("BNB/\"B😀", decimal("1.5")));
            assert_eq!(event.stream, Some("bnbbtc@trade"));
        }
        body => panic!("{body:?}"),
    });
}

#[test]
fn a_raw_event_has_the_payload_as_it_arrived_even_if_it_has_escapes() {
    let mut decoder = Decoder::new(Options::default());
    for payload in [
        r#"{"e":"24hr\u0054icker","text":"a\n\"b\"\\"}"#,
        r#"{"e":"24hr\u0054icker","text":"a\n\"b\"\\""#,
        r#"{"e":"24hrTicker","one more, with no escapes but longer than thirty-two bytes":true}"#,
    ] {
        decode_with(&mut decoder, payload.as_bytes(), |event| match event.body {
            Body::Raw(raw) => {
                assert_eq!(raw.payload, payload.as_bytes());
                let json = payload.ends_with('}');
                assert_eq!(raw.event_type, json.then_some("24hrTicker"));
                assert_eq!(raw.why, if json { Why::UnknownType } else { Why::NotJson });
            }
            body => panic!("{body:?}"),
        });
    }
    assert_eq!(decoder.counters().escaped_copied, 2);
}

#[test]
fn what_is_not_json_is_passed_on() {
    for payload in ["", " ", "{", "}", "{\"e\":\"trade\"", "[1,]", "{} {}", "nul", "\u{0}", "\"\\ud800\"", "\\"] {
        assert_eq!(raw(payload), Why::NotJson, "{payload:?}");
    }
    let mut decoder = Decoder::new(Options::default());
    decode_with(&mut decoder, b"{\"e\":\"\xff\"}", |event| {
        let Body::Raw(raw) = event.body else { panic!("{event:?}") };
        assert_eq!((raw.why, raw.payload), (Why::NotJson, &b"{\"e\":\"\xff\"}"[..]));
        let json = serde_json::to_string(&event).unwrap();
        assert_eq!(json, r#"{"type":"raw","why":"not_json","payload":"{\"e\":\"�\"}"}"#);
    });
    assert_eq!(raw(r#"{"u":1e999}"#), Why::NotJson, "beyond what floating point holds");
    assert_eq!(raw(r#"{"u":18446744073709551616}"#), Why::NotJson, "simd-json knows no integers beyond 64 bits");
}

#[test]
fn json_that_is_not_known_is_passed_on_with_its_type() {
    for payload in
        ["null", "true", "-1", "1.5", "\"e\"", "[]", "{}", "[{\"e\":\"trade\"}]", "{\"e\":1}", "{\"e\":null}"]
    {
        assert_eq!(raw(payload), Why::UnknownType, "{payload}");
    }
    assert_eq!(raw(r#"{"stream":"btcusdt@trade"}"#), Why::UnknownType);
    assert_eq!(raw(r#"{"stream":1,"data":{"e":"trade"}}"#), Why::UnknownType);
    decode(r#"{"stream":"!ticker@arr","data":[{"e":"24hrTicker"}]}"#, |event| {
        assert_eq!(event.stream, Some("!ticker@arr"));
        assert!(matches!(event.body, Body::Raw(Raw { why: Why::UnknownType, event_type: None, .. })));
    });
}

#[test]
fn a_field_that_does_not_fit_is_named() {
    let trade = |from: &str, to: &str| {
        assert!(SPOT_TRADE.contains(from), "{from}");
        misfit(&SPOT_TRADE.replace(from, to))
    };
    assert_eq!(trade(r#""t":12345,"#, ""), ("t", Problem::Missing));
    assert_eq!(trade(r#""t":12345"#, r#""t":"12345""#), ("t", Problem::WrongType));
    assert_eq!(trade(r#""t":12345"#, r#""t":-1"#), ("t", Problem::WrongType));
    assert_eq!(trade(r#""t":12345"#, r#""t":1.0"#), ("t", Problem::WrongType));
    assert_eq!(trade(r#""m":true"#, r#""m":1"#), ("m", Problem::WrongType));
    assert_eq!(trade(r#""s":"BNBBTC""#, r#""s":null"#), ("s", Problem::WrongType));
    assert_eq!(trade("0.00100000", "1e5"), ("p", Problem::NotADecimal));
    assert_eq!(trade("0.00100000", "-0.5"), ("p", Problem::Negative));
    assert_eq!(trade("0.00100000", "0.12345678901234567890123456789"), ("p", Problem::TooManyDigits));
    assert_eq!(trade(r#""0.00100000""#, "0.001"), ("p", Problem::BareFloat));
    assert_eq!(trade(r#""0.00100000""#, "-1"), ("p", Problem::Negative));
    assert_eq!(trade(r#""0.00100000""#, "null"), ("p", Problem::WrongType));
    assert_eq!(misfit(&KLINE.replace(r#""o":"0.0010""#, r#""o":[]"#)), ("k.o", Problem::WrongType));
    assert_eq!(misfit(r#"{"e":"kline","E":1,"s":"A","k":[]}"#), ("k", Problem::WrongType));
    assert_eq!(misfit(r#"{"e":"kline","E":1,"s":"A"}"#), ("k", Problem::Missing));
    assert_eq!(misfit(&USDM_DEPTH.replace(r#"["0.0024","10"]"#, r#"["0.0024"]"#)), ("b", Problem::WrongType));
    assert_eq!(misfit(&USDM_DEPTH.replace(r#"["0.0026","100"]"#, r#"["0.0026","1.0."]"#)), ("a", Problem::NotADecimal));
    assert_eq!(misfit(&USDM_DEPTH.replace(r#""pu":149"#, r#""pu":null"#)), ("pu", Problem::WrongType));
    assert_eq!(misfit(r#"{"e":"serverShutdown"}"#), ("E", Problem::Missing));
    decode(&SPOT_TRADE.replace("12345", "-1"), |event| {
        assert!(matches!(event.body, Body::Raw(Raw { event_type: Some("trade"), .. })), "{event:?}");
    });
}

#[test]
fn a_bare_integer_is_an_exact_decimal() {
    decode(&SPOT_TRADE.replace(r#""0.00100000""#, "18446744073709551615"), |event| match event.body {
        Body::Trade(trade) => assert_eq!(trade.price.to_string(), "18446744073709551615"),
        body => panic!("{body:?}"),
    });
}

#[test]
fn of_a_repeated_key_the_last_value_counts() {
    let payload = SPOT_TRADE.replace(r#""t":12345"#, r#""t":null,"t":1,"t":2"#);
    decode(&payload, |event| match event.body {
        Body::Trade(trade) => assert_eq!(trade.trade_id, 2),
        body => panic!("{body:?}"),
    });
}

#[test]
fn the_stamp_is_found_beside_the_fields_whatever_the_message_is() {
    let mut decoder = Decoder::new(Options { stamp_field: Some("mono".into()) });
    let mut stamp = |payload: &str| decode_with(&mut decoder, payload.as_bytes(), |event| event.stamp_ns);
    assert_eq!(stamp(&SPOT_TRADE.replace(r#""m":true"#, r#""m":true,"mono":18446744073709551615"#)), Some(u64::MAX));
    assert_eq!(stamp(&SPOT_TICKER.replace('}', r#","mono":"00042"}"#)), Some(42));
    assert_eq!(stamp(r#"{"stream":"x","data":{"mono":1},"mono":2}"#), Some(1), "inside `data` first");
    assert_eq!(stamp(r#"{"stream":"x","data":[1],"mono":2}"#), Some(2));
    assert_eq!(stamp(r#"{"mono":1,"mono":3}"#), Some(3));
    assert_eq!(stamp(r#"{"e":"trade","mono":9}"#), Some(9), "also where a field does not fit");
    assert_eq!(stamp(SPOT_TRADE), None);
    assert_eq!(stamp(r#"[{"mono":1}]"#), None);
    for unreadable in ["-1", "1.5", "\"\"", "\"+1\"", "\"18446744073709551616\"", "null", "[1]"] {
        assert_eq!(stamp(&format!(r#"{{"mono":{unreadable}}}"#)), None);
    }
    assert_eq!(decoder.counters().stamp_unreadable, 7);
}

#[test]
fn the_stamp_may_be_a_field_of_the_message_itself() {
    let mut decoder = Decoder::new(Options { stamp_field: Some("E".into()) });
    decode_with(&mut decoder, SPOT_TRADE.as_bytes(), |event| {
        assert_eq!((event.stamp_ns, event.event_time_ms()), (Some(1_700_000_000_123), Some(1_700_000_000_123)));
    });
}

#[test]
fn every_message_is_counted_once_under_its_own_name() {
    use crate::floor::counters::Counters as _;
    let mut decoder = Decoder::new(Options::default());
    for payload in [
        SPOT_TRADE,
        USDM_TRADE,
        r#"{"e":"aggTrade","E":1,"s":"A","a":1,"p":"1","q":"1","f":1,"l":1,"T":1,"m":true}"#,
        SPOT_TICKER,
        USDM_DEPTH,
        r#"{"lastUpdateId":160,"bids":[],"asks":[]}"#,
        KLINE,
        r#"{"result":null,"id":1}"#,
        r#"{"e":"serverShutdown","E":1}"#,
        "{",
        "{}",
        r#"{"e":"trade"}"#,
    ] {
        decode_with(&mut decoder, payload.as_bytes(), |_| ());
    }
    assert_eq!(
        decoder.counters().nonzero(),
        [
            ("trade", 2),
            ("agg_trade", 1),
            ("book_ticker", 1),
            ("depth", 1),
            ("partial_depth", 1),
            ("kline", 1),
            ("answer", 1),
            ("server_shutdown", 1),
            ("raw_not_json", 1),
            ("raw_unknown", 1),
            ("raw_misfit", 1),
        ]
    );
}

#[test]
fn an_event_is_one_flat_json_object() {
    let json = |payload: &str| decode(payload, |event| serde_json::to_string(&event).unwrap());
    assert_eq!(
        json(&format!(r#"{{"stream":"bnbbtc@trade","data":{SPOT_TRADE}}}"#)),
        r#"{"type":"trade","event_time_ms":1700000000123,"trade_time_ms":1700000000120,"symbol":"BNBBTC","trade_id":12345,"price":"0.00100000","quantity":"100.00","buyer_is_maker":true,"best_price_match":true,"stream":"bnbbtc@trade"}"#
    );
    assert_eq!(
        json(USDM_DEPTH),
        r#"{"type":"depth","event_time_ms":123456789,"transaction_time_ms":123456788,"symbol":"BTCUSDT","first_update_id":157,"final_update_id":160,"previous_final_update_id":149,"bids":[{"price":"0.0024","quantity":"10"},{"price":"0.0023","quantity":"0"}],"asks":[{"price":"0.0026","quantity":"100"}]}"#
    );
    assert_eq!(
        json(r#"{"error":{"code":2,"msg":"no"},"id":7}"#),
        r#"{"type":"answer","id":7,"outcome":"refused","code":2,"message":"no","payload":"{\"error\":{\"code\":2,\"msg\":\"no\"},\"id\":7}"}"#
    );
    assert_eq!(
        json(r#"{"e":"trade","E":"x"}"#),
        r#"{"type":"raw","why":"misfit","field":"E","problem":"wrong_type","event_type":"trade","payload":"{\"e\":\"trade\",\"E\":\"x\"}"}"#
    );
    assert_eq!(json(r#"{"e":"serverShutdown","E":5}"#), r#"{"type":"server_shutdown","event_time_ms":5}"#);
}

#[test]
fn strings_are_borrowed_from_the_payload() {
    let mut buffer = SPOT_TRADE.as_bytes().to_vec();
    buffer.extend([0; Span::PAD]);
    let range = buffer.as_ptr_range();
    let mut decoder = Decoder::new(Options::default());
    let event = decoder.decode(Span::new(&mut buffer, SPOT_TRADE.len()));
    assert!(range.contains(&event.symbol().unwrap().as_ptr()));
}

/// Nesting costs no stack, and beyond simd-json's 1,024 levels it is an error like any other.
#[test]
fn deep_nesting_comes_out_raw() {
    for levels in [1_000, 1_023, 1_024, 1_025, 100_000] {
        for (open, close) in [("[", "]"), (r#"{"e":"#, "}")] {
            let payload = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let why = raw(&payload);
            assert_eq!(levels > 1_024, why == Why::NotJson, "{levels} of {open}: {why:?}");
        }
    }
}
