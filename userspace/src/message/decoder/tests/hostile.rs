//! Streams made to break something: judged like the model judges them, however they are cut, in bounded memory (which
//! the harness checks after every piece).

use proptest::prelude::*;

use super::*;

/// Small, so that the limit is met often.
const MAX: usize = 1024;

const LIMITS: Limits =
    Limits { message_bytes_max: MAX, handshake_bytes_max: 0, http_head_bytes_max: 0, outgoing_bytes_max: 0 };

/// Bytes that are almost frames: heads with any bits, lengths in any form, payloads of any truth, and then noise.
fn almost_frames() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        12 => prop::sample::select(&[TEXT, BINARY, PING, PONG, TEXT_BEGIN, BINARY_BEGIN, MORE, LAST, MORE, LAST][..]),
        2 => Just(CLOSE),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        4 => "[a-z\u{e4}\u{20ac}\u{10ffff}]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(Just(b'x'), 100..400),
        1 => (prop::sample::select(&[999u16, 1000, 1001, 1004, 1005, 1014, 1015, 2999, 3000, 4999, 5000][..]), "[a-z\u{e4}\u{20ac}\u{10ffff}]{0,9}")
            .prop_map(|(code, reason)| close_body(code, &reason)),
        1 => prop_oneof![Just(b"\x03\xE8spoiled \xFF".to_vec()), Just(b"\x03".to_vec())],
    ];
    let form = prop::sample::select(&[0u8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5][..]);
    let one = (first, payload, form).prop_map(|(first, payload, form)| match form {
        0 => frame(first, payload),
        // Not minimal, unless by chance.
        1 => [&[first, 126][..], &u16::try_from(payload.len()).unwrap().to_be_bytes(), &payload].concat(),
        2 => [&[first, 127][..], &(payload.len() as u64).to_be_bytes(), &payload].concat(),
        // A giant.
        3 => [&[first, 127, 0x40, 0, 0, 0, 0, 0, 0, 0][..], &payload].concat(),
        4 => [&[first, 127, 0xC0, 0, 0, 0, 0, 0, 0, 0][..], &payload].concat(),
        // Whatever the payload says.
        _ => [&[first][..], &payload].concat(),
    });
    // A message in fragments that is in order, so that what follows is reached at all.
    let fragmented = ("[a-z\u{e4}\u{20ac}\u{10ffff}]{0,40}", any::<bool>(), any::<usize>(), any::<bool>()).prop_map(
        |(text, is_text, cut, ping)| {
            let (begin, last) = text.as_bytes().split_at(cut % (text.len() + 1));
            let between = if ping { frame(PING, "between") } else { frame(MORE, "") };
            [frame(if is_text { TEXT_BEGIN } else { BINARY_BEGIN }, begin), between, frame(LAST, last)].concat()
        },
    );
    let whole = ("[a-z\u{e4}\u{20ac}\u{10ffff}]{0,40}", prop::sample::select(&[TEXT, BINARY, PING, PONG][..]))
        .prop_map(|(text, first)| frame(first, &text.as_bytes()[..text.len().min(125)]))
        .prop_filter("a text cut inside a character", |frame| model::judge(frame, MAX).1.is_ok());
    let part = prop_oneof![3 => whole, 2 => fragmented, 1 => one];
    (prop::collection::vec(part, 0..12), prop::collection::vec(any::<u8>(), 0..8))
        .prop_map(|(parts, noise)| [parts.concat(), noise].concat())
}

fn agrees_with_the_model(stream: &[u8], cuts: &[usize]) {
    let (seen, verdict) = model::judge(stream, MAX);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(stream.len());
    let mut from = 0;
    let pieces: Vec<&[u8]> = cuts.iter().map(|cut| &stream[std::mem::replace(&mut from, *cut)..*cut]).collect();
    for outcome in [feed_with(&LIMITS, [stream]), feed_with(&LIMITS, octets(stream)), feed_with(&LIMITS, pieces)] {
        assert_eq!(outcome.seen, seen);
        assert_eq!(outcome.verdict, verdict);
        assert!(outcome.decoder.join.capacity() <= MAX + Span::PAD);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn almost_frames_are_judged_as_the_model_does(
        stream in almost_frames(),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        agrees_with_the_model(&stream, &cuts);
    }

    #[test]
    fn noise_is_judged_as_the_model_does(
        stream in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        agrees_with_the_model(&stream, &cuts);
    }
}

#[test]
fn every_pair_of_first_bytes_is_judged_as_the_model_does() {
    for first in 0..=255 {
        for second in 0..=255 {
            let alone = [&[first, second, 0, 200][..], &[b'x'; 250]].concat();
            let inside = [&[TEXT_BEGIN, 1, b'a'][..], &alone].concat();
            for stream in [alone, inside] {
                let (seen, verdict) = model::judge(&stream, MAX);
                let outcome = feed_with(&LIMITS, [&stream[..]]);
                assert_eq!((outcome.seen, outcome.verdict), (seen, verdict), "{first:#x} {second:#x}");
            }
        }
    }
}

#[test]
fn the_strategy_reaches_what_it_is_made_for() {
    // A generator that only ever makes refused streams would prove little: look at what it makes.
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = almost_frames();
    let (mut delivered, mut joined, mut faults) = (0, 0, std::collections::BTreeSet::new());
    for _ in 0..4000 {
        let stream = strategy.new_tree(&mut runner).unwrap().current();
        let outcome = feed_with(&LIMITS, [&stream[..]]);
        delivered += outcome.seen.len();
        joined += outcome.in_place.iter().filter(|yes| !**yes).count();
        if let Err(error) = outcome.verdict {
            faults.insert(format!("{error:?}").split(['(', ' ']).next().unwrap().to_owned());
        }
    }
    assert!(delivered > 2000, "{delivered}");
    assert!(joined > 100, "{joined}");
    assert_eq!(faults.len(), 14, "{faults:?}");
}
