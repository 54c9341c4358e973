//! The two ways of the event stage, side by side: directly, and by the tape.

use wiretick::event::{Decoder, Options};
use wiretick::floor::Span;

/// A decoder of each way, and the bytes they work on.
pub(crate) struct Both {
    pub(crate) direct: Decoder,
    pub(crate) by_tape: Decoder,
    here: Vec<u8>,
    there: Vec<u8>,
    json_here: Vec<u8>,
    json_there: Vec<u8>,
}

impl Both {
    /// A decoder of each way with the same options.
    pub(crate) fn new(options: Options) -> Self {
        let (direct, by_tape) = (Decoder::new(options.clone()), Decoder::by_tape(options));
        let [here, there, json_here, json_there] = [const { Vec::new() }; 4];
        Self { direct, by_tape, here, there, json_here, json_there }
    }

    /// Decodes the payload both ways, which has to give the same to the last digit. Answers whether it came directly.
    ///
    /// # Errors
    ///
    /// What is not the same.
    pub(crate) fn decode(&mut self, payload: &[u8]) -> Result<bool, String> {
        for buffer in [&mut self.here, &mut self.there] {
            buffer.clear();
            buffer.extend_from_slice(payload);
            // Something that is neither blank nor equal from one byte to the next.
            buffer.extend(b"\"}\\]0,{".iter().copied().cycle().take(Span::PAD));
        }
        let before = self.direct.direct_counters().direct;
        let expected = self.by_tape.decode(Span::new(&mut self.there, payload.len()));
        self.json_there.clear();
        serde_json::to_writer(&mut self.json_there, &expected).map_err(|error| error.to_string())?;
        let found = self.direct.decode(Span::new(&mut self.here, payload.len()));
        self.json_here.clear();
        serde_json::to_writer(&mut self.json_here, &found).map_err(|error| error.to_string())?;
        // Decimals of different scales are equal, but they are not written the same.
        if found != expected || self.json_here != self.json_there {
            return Err(format!("directly {found:?}, by the tape {expected:?}: {}", String::from_utf8_lossy(payload)));
        }
        if self.direct.counters() != self.by_tape.counters() {
            let (direct, by_tape) = (self.direct.counters(), self.by_tape.counters());
            return Err(format!("counted {direct:?}, {by_tape:?}: {}", String::from_utf8_lossy(payload)));
        }
        let is_direct = self.direct.direct_counters().direct > before;
        if self.here != self.there || (is_direct && self.here[..payload.len()] != *payload) {
            return Err(format!("the payload has changed: {}", String::from_utf8_lossy(payload)));
        }
        Ok(is_direct)
    }
}
