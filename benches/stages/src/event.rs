//! The event stage: directly and by the tape, beside simd-json's tape alone.

use std::hint::black_box;

use wiretick::event::{Decoder, Options};

use crate::messages::kinds;
use crate::{Bench, Padded, Repeat};

pub(crate) const GROUP: &str = "event";
/// Messages in a batch: the same one, as often. None has an escape, so that no way changes it.
const COPIES: usize = 32;

pub(crate) fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    for (kind, payload) in kinds() {
        let inputs = vec![Padded::new(payload.as_bytes()); COPIES];
        let floor = format!("{kind}: tape alone");
        let copies = inputs.clone();
        benches.push(Bench::new(GROUP, floor.clone(), move || {
            let mut tape = Tape::default();
            Repeat::new(copies.clone(), 1, move |message| tape.fill(message))
        }));
        for (way, new) in [("by tape", Decoder::by_tape as fn(Options) -> Decoder), ("direct", Decoder::new)] {
            let inputs = inputs.clone();
            let work = move || {
                let mut decoder = new(Options { stamp_field: Some("n".to_owned()) });
                if way == "direct" {
                    decoder.decode(inputs[0].clone().span());
                    assert_eq!(decoder.direct_counters().direct, 1, "{kind} is not decoded directly");
                }
                Repeat::new(inputs.clone(), 1, move |message| {
                    black_box(&decoder.decode(message.span()));
                })
            };
            benches.push(Bench::new(GROUP, format!("{kind}: {way}"), work).beside(floor.clone()));
        }
    }
    benches
}

/// simd-json's tape, with its buffers used again.
pub(crate) struct Tape {
    buffers: simd_json::Buffers,
    kept: simd_json::Tape<'static>,
}

impl Default for Tape {
    fn default() -> Self {
        Self { buffers: simd_json::Buffers::new(0), kept: simd_json::Tape(Vec::new()) }
    }
}

impl Tape {
    pub(crate) fn fill(&mut self, message: &mut Padded) {
        let len = message.len;
        self.fill_padded(&mut message.bytes, len);
    }

    /// Fills it from the document in the first `len` of `bytes`, which has a span's padding behind it.
    pub(crate) fn fill_padded(&mut self, bytes: &mut [u8], len: usize) {
        let mut tape = std::mem::replace(&mut self.kept, simd_json::Tape(Vec::new())).reset();
        simd_json::fill_tape_padded(bytes, len, &mut self.buffers, &mut tape).expect("it is JSON");
        black_box(&tape);
        self.kept = tape.reset();
    }
}
