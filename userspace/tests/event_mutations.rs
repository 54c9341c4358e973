//! The event stage over messages of the venue's forms, spoilt in every way that a sender could: keys in another order,
//! blanks, escapes, unknown keys, keys missing, keys twice, values of another type, documents cut short.
//!
//! Whatever comes out has to be what the independent decode says: the same event, or raw where it says so. Nothing may
//! panic, and the bytes behind the payload have to stay as they were.

mod event_oracle;
#[path = "event_oracle/verdict.rs"]
mod verdict;

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::Union;
use wiretick::event::{Continuity, Decoded, Decoder, Options};
use wiretick::floor::Span;

/// A JSON document, with its object keys in order and as often as they are there.
#[derive(Clone, Debug)]
enum Json {
    /// Anything that needs no quotes, as it is written.
    Bare(String),
    Text(String),
    Array(Vec<Json>),
    Object(Entries),
}

type Entries = Vec<(String, Json)>;

fn bare(value: impl std::fmt::Display) -> Json {
    Json::Bare(format!("{value}"))
}

fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

fn object(entries: Vec<(&str, Json)>) -> Json {
    Json::Object(entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect())
}

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![Just(0), 0..100u64, 1_600_000_000_000..1_800_000_000_000u64, any::<u64>()].prop_map(bare)
}

fn decimal() -> impl Strategy<Value = Json> {
    prop_oneof![
        32 => r"(0|[1-9][0-9]{0,7})\.[0-9]{8}",
        16 => r"(0|[1-9][0-9]{0,9})(\.[0-9]{1,20})?",
        1 => r"[0-9.eE+-]{0,12}",
        1 => r"[0-9]{15,30}\.[0-9]{1,15}",
    ]
    .prop_map(text)
}

fn symbol() -> impl Strategy<Value = Json> {
    prop_oneof![Just("BTCUSDT".to_string()), "[A-Z0-9_]{1,12}", r#"[a-z"/\\\né币😀\x7f]{0,40}"#].prop_map(text)
}

fn boolean() -> impl Strategy<Value = Json> {
    any::<bool>().prop_map(bare)
}

fn levels() -> impl Strategy<Value = Json> {
    vec((decimal(), decimal()).prop_map(|(price, quantity)| Json::Array(vec![price, quantity])), 0..6)
        .prop_map(Json::Array)
}

/// Any value: to be put where it does not belong.
fn anything() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        select(vec!["null", "true", "false", "0", "-0", "-1", "7", "1.0", "0.10", "1e3", "-2.5E-2"]).prop_map(bare),
        select(vec!["", "1", "1.50", "-0.5", "1.", ".5", "1e5", "trade", "e"]).prop_map(text),
        number(),
        decimal(),
        symbol(),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![vec(inner.clone(), 0..3).prop_map(Json::Array), vec((key(), inner), 0..3).prop_map(Json::Object),]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z]",
        select(vec![
            "pu",
            "ps",
            "stream",
            "data",
            "id",
            "lastUpdateId",
            "bids",
            "asks",
            "result",
            "jsonrpc",
            "code",
            "msg",
            "error",
            ""
        ])
        .prop_map(str::to_string),
        "[a-zA-Z@0é]{0,9}",
    ]
}

/// A message of the venue, as its documentation has it, with fields of any value of their kind.
fn message() -> impl Strategy<Value = Json> {
    let numbers = || (number(), number(), number(), number(), number());
    let decimals = || (decimal(), decimal(), decimal(), decimal());
    let trade = (numbers(), decimals(), symbol(), boolean(), any::<bool>());
    let trade = trade.prop_map(|((event, time, id, ..), (price, quantity, ..), symbol, maker, spot)| {
        let (key, value) = if spot { ("M", bare(true)) } else { ("X", text("MARKET")) };
        let (p, q) = (("p", price), ("q", quantity));
        object(vec![
            ("e", text("trade")),
            ("E", event),
            ("s", symbol),
            ("t", id),
            p,
            q,
            ("T", time),
            ("m", maker),
            (key, value),
        ])
    });
    let agg_trade = (numbers(), decimals(), symbol(), boolean());
    let agg_trade = agg_trade.prop_map(|((event, time, id, first, last), (price, quantity, ..), symbol, maker)| {
        let (p, q, f, l) = (("p", price), ("q", quantity), ("f", first), ("l", last));
        object(vec![
            ("e", text("aggTrade")),
            ("E", event),
            ("s", symbol),
            ("a", id),
            p,
            q,
            f,
            l,
            ("T", time),
            ("m", maker),
        ])
    });
    let ticker = (numbers(), decimals(), symbol(), any::<bool>());
    let ticker = ticker.prop_map(|((event, time, id, ..), (bid, bids, ask, asks), symbol, spot)| {
        let mut entries = vec![("u", id), ("s", symbol), ("b", bid), ("B", bids), ("a", ask), ("A", asks)];
        if !spot {
            entries.insert(0, ("e", text("bookTicker")));
            entries.extend([("T", time), ("E", event)]);
        }
        object(entries)
    });
    let depth = (numbers(), symbol(), levels(), levels(), any::<bool>());
    let depth = depth.prop_map(|((event, time, first, last, previous), symbol, bids, asks, spot)| {
        let mut entries = vec![("e", text("depthUpdate")), ("E", event), ("s", symbol), ("U", first), ("u", last)];
        if !spot {
            entries.extend([("T", time), ("pu", previous)]);
        }
        entries.extend([("b", bids), ("a", asks)]);
        object(entries)
    });
    let partial = (number(), levels(), levels())
        .prop_map(|(id, bids, asks)| object(vec![("lastUpdateId", id), ("bids", bids), ("asks", asks)]));
    let kline = (numbers(), decimals(), decimals(), symbol(), boolean(), number(), any::<bool>());
    let kline = kline.prop_map(
        |((event, open_time, close_time, first, last), prices, volumes, symbol, closed, trades, empty)| {
            let (first, last) = if empty { (bare(-1), bare(-1)) } else { (first, last) };
            let mut inside = vec![
                ("t", open_time),
                ("T", close_time),
                ("s", symbol.clone()),
                ("i", text("1m")),
                ("f", first),
                ("L", last),
            ];
            inside.extend([("o", prices.0), ("c", prices.1), ("h", prices.2), ("l", prices.3), ("v", volumes.0)]);
            inside.extend([
                ("n", trades),
                ("x", closed),
                ("q", volumes.1),
                ("V", volumes.2),
                ("Q", volumes.3),
                ("B", text("0")),
            ]);
            object(vec![("e", text("kline")), ("E", event), ("s", symbol), ("k", object(inside))])
        },
    );
    let answer = (number(), symbol(), any::<bool>(), any::<bool>(), -5..5i64);
    let answer = answer.prop_map(|(id, message, refused, inside, code)| {
        let error = vec![("code", bare(code)), ("msg", message)];
        match (refused, inside) {
            (false, _) => object(vec![("result", bare("null")), ("id", id)]),
            (true, true) => object(vec![("error", object(error)), ("id", id)]),
            (true, false) => object(error),
        }
    });
    let other = (select(vec!["serverShutdown", "24hrTicker", ""]), number())
        .prop_map(|(kind, event)| object(vec![("e", text(kind)), ("E", event)]));
    Union::new_weighted(vec![
        (3, trade.boxed()),
        (2, agg_trade.boxed()),
        (3, ticker.boxed()),
        (3, depth.boxed()),
        (1, partial.boxed()),
        (2, kline.boxed()),
        (1, answer.boxed()),
        (1, other.boxed()),
    ])
}

/// A way to spoil a message.
#[derive(Clone, Debug)]
enum Spoil {
    Shuffle(Vec<Index>),
    Add(Index, String, Json),
    Remove(Index),
    Replace(Index, Json),
    Twice(Index, Index, Json),
    Rename(Index, String),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        4 => vec(any::<Index>(), 12).prop_map(Spoil::Shuffle),
        2 => (any::<Index>(), key(), anything()).prop_map(|(at, key, value)| Spoil::Add(at, key, value)),
        1 => any::<Index>().prop_map(Spoil::Remove),
        2 => (any::<Index>(), anything()).prop_map(|(at, value)| Spoil::Replace(at, value)),
        1 => (any::<Index>(), any::<Index>(), anything()).prop_map(|(of, at, value)| Spoil::Twice(of, at, value)),
        1 => (any::<Index>(), key()).prop_map(|(at, key)| Spoil::Rename(at, key)),
    ]
}

/// Spoils one of the objects of the document, the envelope included.
fn apply(spoil: &Spoil, which: Index, document: &mut Json) {
    let objects = count_objects(document);
    if objects > 0 {
        change_object(document, &mut which.index(objects), &mut |entries| change(spoil, entries));
    }
}

fn change(spoil: &Spoil, entries: &mut Entries) {
    match spoil {
        Spoil::Shuffle(order) => {
            for at in 1..entries.len() {
                entries.swap(at, order[at % order.len()].index(at + 1));
            }
        }
        Spoil::Add(at, key, value) => entries.insert(at.index(entries.len() + 1), (key.clone(), value.clone())),
        _ if entries.is_empty() => (),
        Spoil::Remove(at) => drop(entries.remove(at.index(entries.len()))),
        Spoil::Replace(at, value) => at.get_mut(entries).1 = value.clone(),
        Spoil::Twice(of, at, value) => {
            let key = of.get(entries).0.clone();
            entries.insert(at.index(entries.len() + 1), (key, value.clone()));
        }
        Spoil::Rename(at, key) => at.get_mut(entries).0.clone_from(key),
    }
}

fn count_objects(json: &Json) -> usize {
    match json {
        Json::Bare(_) | Json::Text(_) => 0,
        Json::Array(values) => values.iter().map(count_objects).sum(),
        Json::Object(entries) => 1 + entries.iter().map(|(_, value)| count_objects(value)).sum::<usize>(),
    }
}

/// Calls `change` with the object before which there are `before` others.
fn change_object(json: &mut Json, before: &mut usize, change: &mut dyn FnMut(&mut Entries)) {
    match json {
        Json::Bare(_) | Json::Text(_) => (),
        Json::Array(values) => values.iter_mut().for_each(|value| change_object(value, before, change)),
        Json::Object(entries) => {
            let here = *before == 0;
            *before = before.wrapping_sub(1);
            if here {
                change(entries);
            } else {
                entries.iter_mut().for_each(|(_, value)| change_object(value, before, change));
            }
        }
    }
}

/// Writes documents, with as many blanks and escapes as a run of bytes asks for.
struct Writer<'n> {
    out: String,
    noise: std::iter::Cycle<std::slice::Iter<'n, u8>>,
}

impl Writer<'_> {
    fn write(document: &Json, noise: &[u8]) -> String {
        let mut writer = Writer { out: String::new(), noise: noise.iter().cycle() };
        writer.value(document);
        writer.out
    }

    fn noise(&mut self) -> u8 {
        self.noise.next().copied().unwrap_or(u8::MAX)
    }

    fn blank(&mut self) {
        let blank = match self.noise() {
            0..12 => " ",
            12..24 => "\n",
            24..36 => "\t\r \n                                                                   ",
            _ => "",
        };
        self.out.push_str(blank);
    }

    fn value(&mut self, value: &Json) {
        self.blank();
        match value {
            Json::Bare(text) => self.out.push_str(text),
            Json::Text(text) => self.string(text),
            Json::Array(values) => self.inside('[', ']', values, Self::value),
            Json::Object(entries) => self.inside('{', '}', entries, |writer, (key, value)| {
                writer.blank();
                writer.string(key);
                writer.blank();
                writer.out.push(':');
                writer.value(value);
            }),
        }
        self.blank();
    }

    fn inside<T>(&mut self, open: char, close: char, items: &[T], mut item: impl FnMut(&mut Self, &T)) {
        self.out.push(open);
        for (index, each) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            item(self, each);
        }
        if items.is_empty() {
            self.blank();
        }
        self.out.push(close);
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match (character, self.noise()) {
                (_, 0..10) => {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(self.out, "\\u{unit:04x}").unwrap();
                    }
                }
                ('"' | '\\', _) | ('/', 0..128) => self.out.extend(['\\', character]),
                ('\n', _) => self.out.push_str("\\n"),
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }
}

/// The decoders of one run, one that decodes directly what it can and one that does not, and a gap detector. They are the
/// same for all messages of the run, so that what one message leaves behind would be seen in the next one.
struct Run {
    decoders: [Decoder; 2],
    detector: Continuity,
}

impl Run {
    fn new(options: Options) -> Self {
        Self { decoders: [Decoder::new(options.clone()), Decoder::by_tape(options)], detector: Continuity::default() }
    }

    /// Decodes the payload and compares with the independent decode.
    fn check(&mut self, payload: &[u8]) -> Result<(), TestCaseError> {
        let behind: Vec<u8> = b"\"}\\]0,{".iter().copied().cycle().take(Span::PAD).collect();
        let expected = event_oracle::expected(payload);
        for decoder in &mut self.decoders {
            let mut buffer = [payload, &behind].concat();
            let event = decoder.decode(Span::new(&mut buffer, payload.len()));
            self.detector.observe(&event);
            verdict::judge(&event, payload, expected.as_ref()).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&buffer[payload.len()..], &behind[..]);
        }
        Ok(())
    }
}

fn envelope() -> impl Strategy<Value = Option<String>> {
    proptest::option::of(prop_oneof!["[a-z]{3,8}@(trade|depth5|depth@100ms|kline_1m)", "[!a-zé@]{0,30}"])
}

fn document() -> impl Strategy<Value = Json> {
    (message(), envelope(), vec((any::<Index>(), spoil()), 0..3)).prop_map(|(message, envelope, spoils)| {
        let mut document = match envelope {
            Some(stream) => object(vec![("stream", text(stream)), ("data", message)]),
            None => message,
        };
        for (which, spoil) in &spoils {
            apply(spoil, *which, &mut document);
        }
        document
    })
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![Just(vec![]), vec(any::<u8>(), 1..200)]
}

/// Checks the payloads of many values, and answers what they were.
fn run<S: Strategy>(cases: u32, strategy: S, payload: impl Fn(S::Value) -> Vec<u8>) -> Decoded {
    let run = std::cell::RefCell::new(Run::new(Options::default()));
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let result =
        proptest::test_runner::TestRunner::new(config).run(&strategy, |value| run.borrow_mut().check(&payload(value)));
    if let Err(error) = result {
        panic!("{error}");
    }
    let [direct, by_tape] = run.into_inner().decoders;
    // A run in which hardly any message was decoded would prove nothing.
    let counters = *direct.counters();
    assert_eq!(counters, *by_tape.counters());
    let typed =
        counters.trade.min(counters.agg_trade).min(counters.book_ticker).min(counters.depth).min(counters.kline);
    assert!(typed > u64::from(cases) / 200, "hardly any of some type: {counters:?}");
    assert!(counters.raw_misfit > 0 && counters.raw_unknown > 0, "hardly anything was spoilt: {counters:?}");
    let ways = direct.direct_counters();
    assert!(ways.direct > u64::from(cases) / 200, "hardly any went the short way: {ways:?}");
    counters
}

#[test]
fn a_spoilt_message_is_what_the_independent_decode_says() {
    let seen = run(4000, (document(), noise()), |(document, noise)| Writer::write(&document, &noise).into_bytes());
    assert_eq!(seen.raw_not_json, 0, "however spoilt, they are all JSON");
}

#[test]
fn a_message_cut_short_does_not_disturb_the_next_one() {
    let cut = |(document, noise, at): (Json, Vec<u8>, Index)| {
        let mut payload = Writer::write(&document, &noise).into_bytes();
        // Half of them whole, so that both happen after one another.
        if at.index(2) == 0 {
            payload.truncate(at.index(payload.len() + 1));
        }
        payload
    };
    let seen = run(2000, (document(), noise(), any::<Index>()), cut);
    assert!(seen.raw_not_json > 500, "{seen:?}");
}

#[test]
fn a_message_with_wrong_bytes_is_what_the_independent_decode_says() {
    let wrong = vec((any::<Index>(), prop_oneof![any::<u8>(), select(b"\"\\{}[]:,0123456789.eE-u \n".to_vec())]), 0..2);
    let seen = run(4000, (document(), noise(), wrong), |(document, noise, wrong)| {
        let mut payload = Writer::write(&document, &noise).into_bytes();
        for (at, byte) in wrong {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        payload
    });
    assert!(seen.raw_not_json > 500, "{seen:?}");
}

#[test]
fn any_bytes_become_an_event() {
    let alphabet = select(b"{}[]\",:\\ue0123456789.-+truefalsn \n\xf0\x9f\x98\x80\xff".to_vec());
    let run = std::cell::RefCell::new(Run::new(Options { stamp_field: Some("e".into()) }));
    let config = ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = prop_oneof![vec(alphabet, 0..200), vec(any::<u8>(), 0..200)];
    let result =
        proptest::test_runner::TestRunner::new(config).run(&strategy, |payload| run.borrow_mut().check(&payload));
    if let Err(error) = result {
        panic!("{error}");
    }
}
