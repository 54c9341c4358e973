//! Whatever the bytes: what is decoded directly is what the tape would have led to, to the last digit, and the payload is
//! left as it came.
//!
//! The first byte of the input chooses the name of the stamp field; the rest is the payload. It is decoded twice, because
//! the first time may change the order in which the forms are tried.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wiretick::event::{Decoder, Options};
use wiretick::floor::Span;

fuzz_target!(|input: &[u8]| {
    let Some((choice, payload)) = input.split_first() else { return };
    let stamp_field = match choice % 4 {
        0 => None,
        1 => Some("n"),
        2 => Some("pu"),
        _ => Some("a name\" of two words"),
    };
    let options = Options { stamp_field: stamp_field.map(str::to_owned) };
    let (mut direct, mut by_tape) = (Decoder::new(options.clone()), Decoder::by_tape(options));
    for round in 0..2 {
        let (mut here, mut there) = (padded(payload), padded(payload));
        let before = direct.direct_counters().direct;
        let expected = by_tape.decode(Span::new(&mut there, payload.len()));
        let found = direct.decode(Span::new(&mut here, payload.len()));
        assert_eq!(found, expected);
        // Decimals of different scales are equal, but they are not written the same.
        assert_eq!(serde_json::to_string(&found).unwrap(), serde_json::to_string(&expected).unwrap());
        if direct.direct_counters().direct > before {
            assert!(here == padded(payload), "the payload has changed in round {round}");
        }
        assert!(here == there, "what the tape leaves is not what it would have left");
    }
    assert_eq!(direct.counters(), by_tape.counters());
});

fn padded(payload: &[u8]) -> Vec<u8> {
    let behind = b"0\"}],:t".iter().copied().cycle().take(Span::PAD);
    payload.iter().copied().chain(behind).collect()
}
