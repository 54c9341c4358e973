//! The short way against the long way: messages made from the table of forms, and what differs from them.

use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::shapes::{SHAPES, Shape, Value};
use super::*;
use crate::event::Options;
use crate::floor::counters::Counters as _;

/// A decoder of each way, and the same options.
struct Both {
    direct: Decoder,
    by_tape: Decoder,
}

impl Both {
    fn new(stamp_field: Option<&str>) -> Self {
        let options = Options { stamp_field: stamp_field.map(str::to_owned) };
        Self { direct: Decoder::new(options.clone()), by_tape: Decoder::by_tape(options) }
    }

    /// Decodes the payload both ways, which has to give the same, and answers which counter says how that went.
    #[track_caller]
    fn decode(&mut self, payload: &str) -> &'static str {
        let behind: Vec<u8> = b"}0\",]x".iter().copied().cycle().take(Span::PAD).collect();
        self.decode_before(payload, &behind)
    }

    /// The same, with this behind the payload.
    #[track_caller]
    fn decode_before(&mut self, payload: &str, behind: &[u8]) -> &'static str {
        let padded = [payload.as_bytes(), behind].concat();
        let (mut here, mut there) = (padded.clone(), padded.clone());
        let before = *self.direct.direct_counters();
        let found = self.direct.decode(Span::new(&mut here, payload.len()));
        let expected = self.by_tape.decode(Span::new(&mut there, payload.len()));
        assert_eq!(found, expected, "{payload}");
        let json = |event| serde_json::to_string(&event).unwrap();
        assert_eq!(json(found), json(expected), "digits that do not count for equality: {payload}");
        assert_eq!(self.direct.counters(), self.by_tape.counters());
        assert_eq!(self.by_tape.direct_counters().nonzero(), []);
        let counted = difference(&before, self.direct.direct_counters());
        assert!(counted != "direct" || here == padded, "the payload has changed: {payload}");
        assert_eq!(here, there, "{payload}");
        counted
    }
}

/// The one counter that has gone up, by one.
fn difference(before: &DirectCounters, after: &DirectCounters) -> &'static str {
    let all = |counters: &DirectCounters| {
        let mut all = Vec::new();
        counters.visit(&mut |name, value| all.push((name, value)));
        all
    };
    let changed: Vec<_> = all(before).into_iter().zip(all(after)).filter(|(before, after)| before != after).collect();
    match changed[..] {
        [((name, before), (_, after))] if after == before + 1 => name,
        [] => "nothing",
        _ => panic!("{changed:?}"),
    }
}

/// A message of the form with its values as they come from `value`.
fn message(shape: &Shape, mut value: impl FnMut(Value) -> String) -> String {
    let mut message = String::new();
    for (literal, kind) in shape.parts {
        message += std::str::from_utf8(literal).unwrap();
        message += &value(*kind);
    }
    message + std::str::from_utf8(shape.end).unwrap() + "}"
}

fn sample(kind: Value) -> String {
    match kind {
        Value::integer => "1723161255343",
        Value::decimal => "61837.63000000",
        Value::text => "BTCUSDT",
        Value::boolean => "true",
        Value::bids => r#"[["61837.63","0.50"],["61837.00","0"]]"#,
        Value::asks => "[]",
    }
    .to_owned()
}

fn samples() -> impl Iterator<Item = String> {
    SHAPES.iter().map(|shape| message(shape, sample))
}

/// The sample of the form of that name.
fn sample_of(name: &str) -> String {
    message(SHAPES.iter().find(|shape| shape.name == name).unwrap(), sample)
}

fn enveloped(message: &str) -> String {
    format!(r#"{{"stream":"btcusdt@whatever","data":{message}}}"#)
}

#[test]
fn each_form_is_decoded_directly_with_an_envelope_and_without() {
    let mut both = Both::new(None);
    for message in samples() {
        assert_eq!(both.decode(&message), "direct", "{message}");
        assert_eq!(both.decode(&enveloped(&message)), "direct", "{message}");
    }
    assert_eq!(both.direct.direct_counters().nonzero(), [("direct", 2 * SHAPES.len() as u64)]);
    assert_eq!(both.direct.counters().nonzero(), [("trade", 4), ("agg_trade", 4), ("book_ticker", 4), ("depth", 4)]);
}

#[test]
fn the_venue_of_the_last_message_is_tried_first() {
    let mut both = Both::new(None);
    for (name, usdm) in [
        ("spot_trade", false),
        ("usdm_trade", true),
        ("usdm_depth", true),
        ("spot_book_ticker", false),
        ("usdm_book_ticker", true),
        ("spot_agg_trade", false),
    ] {
        both.decode(&sample_of(name));
        assert_eq!(both.direct.direct.usdm, usdm, "{name}");
        // What no form fits changes nothing.
        assert_eq!(both.decode(&sample_of("usdm_trade").replace(r#""X""#, r#""x""#)), "stepped_back_key");
        assert_eq!(both.direct.direct.usdm, usdm, "{name}");
    }
}

#[test]
fn a_stamp_is_read_where_the_testbed_and_the_tape_have_it() {
    let mut both = Both::new(Some("n"));
    for message in samples() {
        let stamped = |number: &str| format!(r#"{},"n":{number}}}"#, &message[..message.len() - 1]);
        for number in ["0", "8123456789012      ", "9223372036854775807", "7                  "] {
            assert_eq!(both.decode(&stamped(number)), "direct");
            assert_eq!(both.decode(&enveloped(&stamped(number))), "direct", "beside the fields");
            let beside = enveloped(&message).strip_suffix('}').unwrap().to_owned() + &format!(r#","n":{number}}}"#);
            assert_eq!(both.decode(&beside), "direct", "beside the envelope");
        }
        assert_eq!(both.decode(&stamped("18446744073709551615")), "stepped_back_number");
        assert_eq!(both.decode(&stamped("007")), "stepped_back_number");
        assert_eq!(both.decode(&stamped("\"7\"")), "stepped_back_number");
        assert_eq!(both.decode(&stamped("7\t")), "stepped_back_key");
        assert_eq!(both.decode(&stamped("7,\"n\":8")), "stepped_back_key");
        assert_eq!(both.decode(&stamped("7").replace("\"n\"", "\"m\"")), "stepped_back_key");
        assert_eq!(both.decode(&message), "direct", "there need not be one");
    }
    let both_places = r#"{"stream":"s","data":MESSAGE,"n":2}"#.replace("MESSAGE", &sample_of("spot_trade"));
    let inside_first =
        both_places.replace("}", r#","n":1}"#).replacen(r#","n":1},"n":2,"n":1}"#, r#","n":1},"n":2}"#, 1);
    assert_eq!(both.decode(&inside_first), "direct");
    let mut buffer = [inside_first.as_bytes(), &[0; Span::PAD]].concat();
    assert_eq!(both.direct.decode(Span::new(&mut buffer, inside_first.len())).stamp_ns, Some(1));
}

#[test]
fn without_a_stamp_field_a_stamp_is_an_unknown_key() {
    let mut both = Both::new(None);
    for message in samples() {
        let stamped = message.replace('}', r#","n":8123456789012      }"#);
        assert_eq!(both.decode(&stamped), "stepped_back_key");
        assert_eq!(both.decode(&message.replace('}', ",}")), "stepped_back_key");
    }
}

#[test]
fn a_stamp_field_that_is_a_key_of_the_venue_leaves_everything_to_the_tape() {
    let keys = ('a'..='z').chain('A'..='Z').map(String::from);
    for name in keys.chain(["pu", "stream", "data", "lastUpdateId", "bids", "asks", "id", ""].map(String::from)) {
        let mut both = Both::new(Some(&name));
        let quoted = format!("\"{name}\":");
        let is_key = samples().any(|message| enveloped(&message).contains(&quoted));
        for message in samples() {
            let expected = if is_key { "nothing" } else { "direct" };
            assert_eq!(both.decode(&message), expected, "{name}");
            assert_eq!(both.decode(&message.replace('}', &format!(",{quoted}5}}"))), expected, "{name}");
            assert_eq!(both.decode(&enveloped(&message).replace("}}", &format!("}},{quoted}5}}"))), expected, "{name}");
        }
    }
}

#[test]
fn a_stamp_field_that_json_writes_with_escapes_is_left_to_the_tape() {
    for (name, written) in [
        ("a\"b", r#""a\"b""#),
        ("a\\b", r#""a\\b""#),
        ("a\\b", r#""a\b""#),
        ("a\tb", r#""a\tb""#),
        ("a\":1,\"b", r#""a":1,"b""#),
    ] {
        let mut both = Both::new(Some(name));
        for message in samples() {
            assert_eq!(both.decode(&message), "direct", "where it is not there it does not matter");
            assert_eq!(both.decode(&message.replace('}', &format!(",{written}:5}}"))), "stepped_back_key");
        }
    }
    let mut both = Both::new(Some("two words é"));
    assert_eq!(both.decode(&sample_of("spot_trade").replace('}', r#","two words é":5}"#)), "direct");
}

#[test]
fn a_surprise_is_counted_by_what_it_is() {
    let mut both = Both::new(None);
    let trade = sample_of("spot_trade");
    let mut with = |from: &str, to: &str| {
        assert!(trade.contains(from), "{from}");
        let spoilt = trade.replacen(from, to, 1);
        let counted = both.decode(&spoilt);
        assert_eq!(both.decode(&enveloped(&spoilt)), counted, "{spoilt}");
        counted
    };
    assert_eq!(with("{", " {"), "stepped_back_kind");
    assert_eq!(with(r#""e":"trade""#, r#""e":"kline""#), "stepped_back_kind");
    assert_eq!(with(r#""e":"trade""#, r#""e":"trades""#), "stepped_back_key");
    assert_eq!(with(r#""E":1723161255343,"#, ""), "stepped_back_key");
    assert_eq!(with(r#","s""#, r#", "s""#), "stepped_back_key");
    assert_eq!(with(r#""s":"BTCUSDT""#, r#""s":null"#), "stepped_back_key");
    assert_eq!(with(r#""m":true"#, r#""m":null"#), "stepped_back_key");
    assert_eq!(with(r#""m":true"#, r#""m":true,"x":1"#), "stepped_back_key");
    assert_eq!(with(r#""p":"61837.63000000""#, r#""p":61837"#), "stepped_back_key");
    assert_eq!(with("61837.63000000", "61837.63000000e1"), "stepped_back_key");
    assert_eq!(with("61837.63000000", "61837.63000000.1"), "stepped_back_key");
    assert_eq!(with("61837.63000000", "061837.63000000"), "stepped_back_number");
    assert_eq!(with("61837.63000000", "-61837.63000000"), "stepped_back_number");
    assert_eq!(with("61837.63000000", "61837."), "stepped_back_number");
    assert_eq!(with("61837.63000000", ""), "stepped_back_number");
    assert_eq!(with("61837.63000000", "61837.630000000000000"), "stepped_back_number");
    assert_eq!(with("1723161255343", "-1"), "stepped_back_number");
    assert_eq!(with("1723161255343", "\"1\""), "stepped_back_number");
    assert_eq!(with("1723161255343", "01"), "stepped_back_number");
    assert_eq!(with("1723161255343", "1.0"), "stepped_back_key");
    assert_eq!(with("1723161255343", "10000000000000000000"), "stepped_back_number");
    assert_eq!(with("BTCUSDT", r"BTC\u0055SDT"), "stepped_back_text");
    assert_eq!(with("BTCUSDT", "BTC\u{1f}USDT"), "stepped_back_text");
    assert_eq!(with("BTCUSDT", "币安人生USDT"), "stepped_back_text");
    assert_eq!(with("BTCUSDT", r#"BTC"USDT"#), "stepped_back_key");
    assert_eq!(with("BTCUSDT", "BTC USDT!#~\u{7f}"), "direct");
    assert_eq!(with("BTCUSDT", ""), "direct");
    assert_eq!(with("BTCUSDT", "AN_INSTRUMENT_WITH_A_NAME_OF_MANY_WORDS_260327"), "direct");
    assert_eq!(with("true", "false"), "direct");
    let trade = sample_of("spot_trade");
    for behind in [" ", "\n", "}", "x", ",\"n\":1}"] {
        assert_eq!(both.decode(&format!("{trade}{behind}")), "stepped_back_end");
        assert_eq!(both.decode(&format!("{}{behind}", enveloped(&trade))), "stepped_back_end");
    }
    let mut stream = |stream: &str| both.decode(&enveloped(&trade).replace("btcusdt@whatever", stream));
    assert_eq!(stream(r"btcusdt\u0040trade"), "stepped_back_text");
    assert_eq!(stream("币安人生usdt@trade"), "stepped_back_text");
    assert_eq!(stream("!bookTicker"), "direct");
    assert_eq!(stream(""), "direct");
    assert_eq!(stream(r#"x","x":""#), "stepped_back_key");
}

#[test]
fn what_a_form_that_fitted_longer_says_is_what_counts() {
    // The forms of spot and of USD-M part after `E`. Whichever is tried first, the one with the key has got further.
    let mut both = Both::new(None);
    for venue in ["spot_trade", "usdm_trade"] {
        for name in ["spot_trade", "usdm_trade"] {
            both.decode(&sample_of(venue));
            assert_eq!(both.decode(&sample_of(name).replace("61837.63000000", "1e5")), "stepped_back_key");
            both.decode(&sample_of(venue));
            assert_eq!(both.decode(&sample_of(name).replace("61837.63000000", "e5")), "stepped_back_number");
        }
    }
}

#[test]
fn levels_are_arrays_of_two_strings() {
    let mut both = Both::new(None);
    for name in ["spot_depth", "usdm_depth"] {
        let mut with = |levels: &str| both.decode(&sample_of(name).replace("[]", levels));
        assert_eq!(with(r#"[["1","2"]]"#), "direct");
        assert_eq!(with(r#"[["0.10","2.00000000"],["3","4"],["5.5","6"]]"#), "direct");
        for other in ["[[]]", r#"[["1"]]"#, r#"[["1","2",[]]]"#, r#"[["1","2"],]"#, r#"[ ["1","2"]]"#, "null", "[1]"] {
            assert_eq!(with(other), "stepped_back_key", "{other}");
        }
        for other in [r#"[["","2"]]"#, r#"[["1","2"],["1","x"]]"#] {
            assert_eq!(with(other), "stepped_back_number", "{other}");
        }
        // What is left of the levels of a message that was given up must not be seen in the next one.
        assert_eq!(with("[]"), "direct");
    }
}

#[test]
fn a_message_cut_short_is_not_completed_by_what_is_behind_it() {
    let mut both = Both::new(Some("n"));
    let stamped = |message: String| message.replace('}', r#","n":8123456789012      }"#);
    for message in samples().chain(samples().map(|message| enveloped(&message))).chain(samples().map(stamped)) {
        for len in 0..message.len() {
            // The rest of the message, and more, stands behind it.
            let behind = [&message.as_bytes()[len..], &[b'}'; Span::PAD]].concat();
            assert_ne!(both.decode_before(&message[..len], &behind), "direct", "{}", &message[..len]);
        }
    }
}

#[test]
fn strings_are_lent_wherever_the_payload_lies() {
    let message = enveloped(&sample_of("usdm_trade"));
    let mut buffer = vec![0; message.len() + 2 * Span::PAD];
    for offset in 0..32 {
        buffer[offset..][..message.len()].copy_from_slice(message.as_bytes());
        let here = buffer[offset..].as_ptr().addr();
        let mut decoder = Decoder::new(Options::default());
        let event = decoder.decode(Span::new(&mut buffer[offset..], message.len()));
        let Body::Trade(trade) = event.body else { panic!("{event:?}") };
        let place = |text: &str| (text.as_ptr().addr() - here, text.len());
        assert_eq!(place(event.stream.unwrap()), (message.find("btcusdt").unwrap(), 16));
        assert_eq!(place(trade.symbol), (message.find("BTCUSDT").unwrap(), 7));
        assert_eq!(place(trade.order_type.unwrap()), (message.rfind("BTCUSDT").unwrap(), 7));
        assert_eq!(decoder.direct_counters().direct, 1);
    }
}

#[test]
fn values_of_any_kind_are_those_of_the_tape() {
    let decimal = || prop_oneof![4 => r"(0|[1-9][0-9]{0,9})\.[0-9]{1,8}", 2 => r"[0-9]{1,12}(\.[0-9]{0,12})?", 1 => "[0-9.e-]{0,8}"];
    let levels = || {
        proptest::collection::vec((decimal(), decimal()), 0..4).prop_map(|levels| {
            let levels: Vec<String> =
                levels.iter().map(|(price, quantity)| format!(r#"["{price}","{quantity}"]"#)).collect();
            format!("[{}]", levels.join(","))
        })
    };
    let values = (
        proptest::collection::vec(
            prop_oneof![any::<u64>().prop_map(|n| n.to_string()), "[0-9]{1,21}", r"[0-9.e-]{1,5}"],
            8,
        ),
        proptest::collection::vec(decimal(), 8),
        proptest::collection::vec(prop_oneof![8 => "[A-Z0-9_]{0,20}", 1 => r#"[ -~é]{0,12}"#], 2),
        proptest::collection::vec(any::<bool>(), 2),
        levels(),
        levels(),
    );
    let strategy = (0..SHAPES.len(), any::<bool>(), values);
    let both = std::cell::RefCell::new(Both::new(None));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) };
    let result = TestRunner::new(config).run(&strategy, |(shape, envelope, values)| {
        let (mut integers, mut decimals, mut texts, mut booleans, bids, asks) = values;
        let message = message(&SHAPES[shape], |kind| match kind {
            Value::integer => integers.pop().unwrap(),
            Value::decimal => decimals.pop().unwrap(),
            Value::text => texts.pop().unwrap(),
            Value::boolean => booleans.pop().unwrap().to_string(),
            Value::bids => bids.clone(),
            Value::asks => asks.clone(),
        });
        both.borrow_mut().decode(&if envelope { enveloped(&message) } else { message });
        Ok::<(), TestCaseError>(())
    });
    result.unwrap();
    let counters = *both.borrow().direct.direct_counters();
    assert!(counters.direct > 100 && counters.stepped_back_number > 100, "{counters:?}");
    assert!(counters.stepped_back_text > 10 && counters.stepped_back_key > 10, "{counters:?}");
}
