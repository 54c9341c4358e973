//! A run of stream bytes, on loan from the buffer in which they arrived.
//!
//! Stages hand each other spans: the segment stage lends the payload of a frame where it lies in UMEM, the record stage
//! opens it there and lends the plaintext, the message stage lends the WebSocket payload inside that. No stage copies
//! to make the next one's life easier, with one exception that a span makes unnecessary: simd-json reads up to
//! [`Span::PAD`] bytes past the end of a document, so a span promises that those bytes exist and may be read.

use std::ops::Range;

/// Bytes that may be read and changed in place, followed by at least [`Span::PAD`] readable bytes that belong to
/// somebody else: what stands in them must be the same when the span is given back.
#[derive(Debug)]
pub struct Span<'a> {
    /// `len` bytes of the span, then the padding.
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Span<'a> {
    /// Readable bytes behind every span. It is simd-json's `INPUT_PADDING`: with less, simd-json copies the document
    /// first; with more, frames waste room.
    pub const PAD: usize = simd_json::INPUT_PADDING;

    /// A span over the first `len` of `bytes`.
    ///
    /// # Panics
    ///
    /// Where fewer than [`Span::PAD`] bytes follow the first `len`: the lender has sized its buffer wrongly.
    #[must_use]
    pub fn new(bytes: &'a mut [u8], len: usize) -> Self {
        assert!(
            bytes.len() >= len + Self::PAD,
            "a span of {len} bytes needs {} behind it, has {}",
            Self::PAD,
            bytes.len() - len
        );
        Self { bytes, len }
    }

    /// Bytes in the span, without the padding.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the span holds no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes, to read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The bytes, to change in place.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    /// The bytes together with what follows them: only for a reader that looks past the end, such as simd-json.
    #[must_use]
    pub fn with_padding_mut(&mut self) -> &mut [u8] {
        self.bytes
    }

    /// The bytes together with what follows them, for as long as the loan itself lasts.
    #[must_use]
    pub fn into_padded(self) -> (&'a mut [u8], usize) {
        (self.bytes, self.len)
    }

    /// A span inside this one, lent for as long as `self` is borrowed. What follows `range` serves as its padding.
    ///
    /// # Panics
    ///
    /// Where `range` reaches past this span.
    #[must_use]
    pub fn lend(&mut self, range: Range<usize>) -> Span<'_> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} lies outside a span of {}", self.len);
        Span { len: range.len(), bytes: &mut self.bytes[range.start..] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_lies_where_the_whole_lies() {
        let mut buffer = vec![0u8; 10 + Span::PAD];
        for (i, byte) in buffer.iter_mut().enumerate() {
            *byte = u8::try_from(i).unwrap();
        }
        let address = buffer.as_ptr() as usize;
        let mut whole = Span::new(&mut buffer, 10);
        let mut part = whole.lend(2..6);
        assert_eq!(part.bytes(), [2, 3, 4, 5]);
        assert_eq!(part.bytes().as_ptr() as usize, address + 2);
        assert!(part.with_padding_mut().len() >= 4 + Span::PAD);
        assert_eq!(part.lend(3..4).bytes(), [5]);
    }

    #[test]
    #[should_panic(expected = "needs 64 behind it, has 63")]
    fn a_buffer_without_room_behind_the_bytes_is_refused() {
        let mut buffer = [0u8; 10 + Span::PAD - 1];
        let _ = Span::new(&mut buffer, 10);
    }

    #[test]
    #[should_panic(expected = "lies outside a span of 10")]
    fn a_part_that_reaches_into_the_padding_is_refused() {
        let mut buffer = [0u8; 10 + Span::PAD];
        let _ = Span::new(&mut buffer, 10).lend(8..11);
    }
}
