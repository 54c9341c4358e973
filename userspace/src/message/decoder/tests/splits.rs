//! However a stream is cut into pieces, the same messages come out; and they lie in place if and only if their payload
//! lies whole in one piece.

use proptest::prelude::*;

use super::*;

/// A stream with everything in it, what it says, and where the payloads of its text and binary messages lie (`None` for
/// fragmented ones).
struct Sample {
    stream: Vec<u8>,
    seen: Vec<Seen>,
    payloads: Vec<Option<std::ops::Range<usize>>>,
}

fn sample() -> Sample {
    let mut sample = Sample { stream: Vec::new(), seen: Vec::new(), payloads: Vec::new() };
    let add = |sample: &mut Sample, first: u8, payload: &[u8], seen: Option<Seen>| {
        sample.stream.extend(frame(first, payload));
        let end = sample.stream.len();
        match first {
            TEXT | BINARY => sample.payloads.push(Some(end - payload.len()..end)),
            LAST => sample.payloads.push(None),
            _ => {}
        }
        sample.seen.extend(seen);
    };
    let long = "\u{10FFFF}x\u{20AC}y".repeat(20);
    add(&mut sample, TEXT, b"", Some(text("")));
    add(&mut sample, TEXT, "gr\u{fc}\u{df} dich".as_bytes(), Some(text("gr\u{fc}\u{df} dich")));
    add(&mut sample, PING, b"ping", Some(Seen::Ping(b"ping".to_vec())));
    add(&mut sample, BINARY, &[0xFF; 130], Some(Seen::Binary(vec![0xFF; 130])));
    add(&mut sample, TEXT_BEGIN, "\u{20AC}".as_bytes().split_at(1).0, None);
    add(&mut sample, PONG, &[0x80; 125], Some(Seen::Pong(vec![0x80; 125])));
    add(&mut sample, MORE, "\u{20AC}".as_bytes().split_at(1).1, None);
    add(&mut sample, PING, b"", Some(Seen::Ping(Vec::new())));
    add(&mut sample, MORE, b"", None);
    add(&mut sample, LAST, b"!", Some(text("\u{20AC}!")));
    add(&mut sample, TEXT, long.as_bytes(), Some(text(&long)));
    add(&mut sample, BINARY_BEGIN, b"", None);
    add(&mut sample, LAST, b"", Some(Seen::Binary(Vec::new())));
    add(&mut sample, CLOSE, &close_body(4000, "ende"), Some(Seen::Close(Some(4000), "ende".into())));
    add(&mut sample, TEXT_BEGIN, b"never", None);
    sample
}

/// Feeds `stream` cut at `cuts` (sorted) and compares.
fn check(sample: &Sample, cuts: &[usize]) {
    let mut pieces = Vec::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&sample.stream.len()]) {
        pieces.push(&sample.stream[from..cut]);
        from = cut;
    }
    let outcome = feed(pieces);
    assert_eq!(outcome.verdict, Ok(()), "cut at {cuts:?}");
    assert_eq!(outcome.seen, sample.seen, "cut at {cuts:?}");
    let expected: Vec<bool> = sample
        .payloads
        .iter()
        .map(|range| range.clone().is_some_and(|range| !cuts.iter().any(|cut| range.start < *cut && *cut < range.end)))
        .collect();
    assert_eq!(outcome.in_place, expected, "cut at {cuts:?}");
    assert_eq!(outcome.decoder.counters().frames_after_close, 1);
}

#[test]
fn a_cut_at_any_place_changes_nothing() {
    let sample = sample();
    assert_eq!(sample.stream.len(), 499);
    for cut in 0..=sample.stream.len() {
        check(&sample, &[cut]);
    }
}

#[test]
fn two_cuts_at_any_places_change_nothing() {
    let sample = sample();
    for first in 0..=sample.stream.len() {
        // All pairs that lie close together (two cuts in one head, in one character), and some that do not.
        for second in (first..sample.stream.len()).take(16).chain((first..sample.stream.len()).step_by(61)) {
            check(&sample, &[first, second]);
        }
    }
}

#[test]
fn pieces_of_one_size_change_nothing() {
    let sample = sample();
    for size in 1..=sample.stream.len() {
        let cuts: Vec<usize> = (size..sample.stream.len()).step_by(size).collect();
        check(&sample, &cuts);
    }
}

proptest! {
    #[test]
    fn any_cuts_change_nothing(mut cuts in prop::collection::vec(0..=499usize, 0..60)) {
        let sample = sample();
        cuts.retain(|cut| *cut <= sample.stream.len());
        cuts.sort_unstable();
        check(&sample, &cuts);
    }
}
