//! The event stage: directly, by the tape, and by `serde_json` and the venue's documentation.
//!
//! The first byte of the input chooses the name of the stamp field; the rest is the payload. It is decoded twice, because
//! the first time may change the order in which the forms are tried.

use wiretick::event::Options;

#[path = "../../tests/event_oracle/both.rs"]
mod both;
#[path = "../../tests/event_oracle/mod.rs"]
mod oracle;
#[path = "../../tests/event_oracle/verdict.rs"]
mod verdict;

/// Decodes the payload in each way.
pub fn check(input: &[u8]) {
    let Some((choice, payload)) = input.split_first() else { return };
    let stamp_field = match choice % 4 {
        0 => None,
        1 => Some("n"),
        2 => Some("pu"),
        _ => Some("a name\" of two words"),
    };
    let mut both = both::Both::new(Options { stamp_field: stamp_field.map(str::to_owned) });
    for _ in 0..2 {
        if let Err(difference) = both.decode(payload) {
            panic!("{difference}");
        }
    }
    // The independent decode knows no stamps.
    if stamp_field.is_none() {
        let expected = oracle::expected(payload);
        let mut decoder = wiretick::event::Decoder::by_tape(Options::default());
        super::pieces::lent(payload, |span| {
            if let Err(difference) = verdict::judge(&decoder.decode(span), payload, expected.as_ref()) {
                panic!("{difference}");
            }
        });
    }
}
