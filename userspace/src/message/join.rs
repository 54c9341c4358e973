//! The buffer in which a message is put together that did not arrive in one run of bytes.
//!
//! In come the parts of one message, in order, from fragments or from pieces of one frame; out goes the whole, with
//! room behind it for a reader that looks past the end. Text is validated as it grows, so that a message which can no
//! longer become UTF-8 is refused at the byte that spoils it. This file knows neither frames nor sinks.

use simdutf8::compat;

use super::error::Error;
use super::frame::Kind;
use crate::floor::Span;

/// Capacity in bytes that outlives a message.
///
/// Lower, and a feed whose snapshots come in several records allocates for each of them; higher, and one giant message
/// at the start of a session (Coinbase's level2 snapshot: 5 MB) is paid for by every connection until its end.
pub(super) const KEEP_BYTES: usize = 1 << 20;

/// A message under way.
#[derive(Debug, Default)]
pub(super) struct Join {
    /// The payload so far; while the whole is on loan, [`Span::PAD`] bytes more.
    bytes: Vec<u8>,
    /// How many of `bytes` are known to be whole UTF-8 characters. At most 3 behind while a text is under way.
    valid: usize,
    /// What the message is; `None` while there is no message.
    kind: Option<Kind>,
}

impl Join {
    /// What the message under way is.
    #[inline]
    pub(super) const fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Bytes of payload so far.
    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory held.
    #[cfg(test)]
    pub(super) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Begins a message. The caller has seen to it that none is under way.
    pub(super) fn begin(&mut self, kind: Kind) {
        debug_assert!(self.kind.is_none() && self.bytes.is_empty());
        self.kind = Some(kind);
    }

    /// Appends `part`. `max` is the limit on the whole, which the caller has checked at the frame's head; here it only
    /// bounds how far ahead memory is taken.
    ///
    /// # Errors
    ///
    /// [`Error::TextNotUtf8`] where nothing that could follow would make this text UTF-8.
    pub(super) fn append(&mut self, part: &[u8], max: usize) -> Result<(), Error> {
        self.make_room(part.len(), max);
        self.bytes.extend_from_slice(part);
        if self.kind == Some(Kind::Text) {
            self.valid += match compat::from_utf8(&self.bytes[self.valid..]) {
                Ok(text) => text.len(),
                // A character that is not whole yet: what is there of it may still become one.
                Err(fault) if fault.error_len().is_none() => fault.valid_up_to(),
                Err(fault) => return Err(Error::TextNotUtf8 { at: self.valid + fault.valid_up_to() }),
            };
        }
        Ok(())
    }

    /// Doubles the memory when it is used up: in proportion to what has arrived, whatever length was declared.
    fn make_room(&mut self, more: usize, max: usize) {
        let needed = self.bytes.len() + more + Span::PAD;
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let target = (2 * capacity).min(max.saturating_add(Span::PAD)).max(needed);
            self.bytes.reserve_exact(target - self.bytes.len());
        }
    }

    /// Lends the whole message. To be followed by [`Join::clear`].
    ///
    /// # Errors
    ///
    /// [`Error::TextNotUtf8`] where the text ends inside a character.
    pub(super) fn whole(&mut self) -> Result<Span<'_>, Error> {
        let len = self.bytes.len();
        if self.kind == Some(Kind::Text) && self.valid != len {
            return Err(Error::TextNotUtf8 { at: self.valid });
        }
        self.bytes.resize(len + Span::PAD, 0);
        Ok(Span::new(&mut self.bytes, len))
    }

    /// Forgets the message and gives back memory beyond [`KEEP_BYTES`].
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
        self.valid = 0;
        self.kind = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 16 << 20;

    #[test]
    fn parts_become_a_whole_with_room_behind_it() {
        let mut join = Join::default();
        join.begin(Kind::Binary);
        join.append(b"ab", MAX).unwrap();
        join.append(b"", MAX).unwrap();
        join.append(b"\xFFc", MAX).unwrap();
        let mut whole = join.whole().unwrap();
        assert_eq!(whole.bytes(), b"ab\xFFc");
        assert!(whole.with_padding_mut().len() >= 4 + Span::PAD);
        join.clear();
        assert_eq!((join.len(), join.kind()), (0, None));
    }

    #[test]
    fn memory_follows_what_arrived_and_never_passes_the_limit() {
        let max = 10_000;
        let mut join = Join::default();
        join.begin(Kind::Binary);
        for len in 1..=max {
            join.append(b"x", max).unwrap();
            let bound = (2 * (len + Span::PAD)).min(max + Span::PAD);
            assert!(join.capacity() <= bound, "{} bytes held for {len}", join.capacity());
        }
        let held = join.capacity();
        join.whole().unwrap();
        assert_eq!(join.capacity(), held, "room for the padding had been taken before");
    }

    #[test]
    fn memory_of_a_giant_is_given_back_and_that_of_a_usual_message_kept() {
        let mut join = Join::default();
        join.begin(Kind::Binary);
        join.append(&vec![0; 5 << 20], MAX).unwrap();
        join.whole().unwrap();
        join.clear();
        assert_eq!(join.capacity(), KEEP_BYTES);

        let mut join = Join::default();
        join.begin(Kind::Binary);
        join.append(&[0; 3000], MAX).unwrap();
        join.clear();
        assert!(join.capacity() >= 3000);
    }

    #[test]
    fn a_text_is_refused_at_the_byte_that_spoils_it() {
        // What is valid up to the last byte, and that byte; taken one byte at a time.
        let spoiled: [&[u8]; 9] = [
            b"\xFF",              // never a byte of UTF-8
            b"ok\x80",            // a continuation of nothing
            b"\xC0",              // an overlong form begins
            b"\xE0\x9F",          // overlong in three
            b"\xED\xA0",          // a surrogate
            b"\xF0\x8F",          // overlong in four
            b"\xF4\x90",          // above U+10FFFF
            b"\xF5",              // far above
            b"\xCE\xBA\xE1\xBDx", // a character cut short by another
        ];
        for bytes in spoiled {
            let mut join = Join::default();
            join.begin(Kind::Text);
            for (i, byte) in bytes.iter().enumerate() {
                let verdict = join.append(&[*byte], MAX);
                assert_eq!(verdict.is_err(), i == bytes.len() - 1, "{bytes:x?} at {i}: {verdict:?}");
            }
        }
    }

    #[test]
    fn a_text_may_stop_inside_a_character_between_parts_but_not_at_its_end() {
        let mut join = Join::default();
        join.begin(Kind::Text);
        join.append("a\u{20AC}".as_bytes().split_at(2).0, MAX).unwrap();
        assert_eq!(join.whole().unwrap_err(), Error::TextNotUtf8 { at: 1 });
        join.append("a\u{20AC}".as_bytes().split_at(2).1, MAX).unwrap();
        assert_eq!(join.whole().unwrap().bytes(), "a\u{20AC}".as_bytes());
    }
}
