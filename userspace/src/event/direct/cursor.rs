//! A place in a message, and how a field is read there.
//!
//! Every reader moves the cursor behind what it has read, or says what it found instead and leaves the cursor where the
//! field begins. It accepts less than JSON does: only what a value of the venue looks like.

use super::super::decimal::Decimal;
use super::super::depth::Level;
use super::super::tape::Place;
use super::digits::{self, Fixed};

/// What was found where the next part of a shape should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surprise {
    /// Another key, or anything else that stands between the values.
    Key,
    /// A string that is not simply the bytes between two quotes.
    Text,
    /// A number that is not simply digits.
    Number,
    /// Something where nothing should be.
    End,
}

/// A place in a message. There are readable bytes behind the message, at least as many as a reader looks at in one go.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'p> {
    rest: &'p [u8],
    /// How long `rest` was at the start of the payload.
    whole: usize,
    /// Where the last string ends.
    text_end: usize,
}

impl<'p> Cursor<'p> {
    /// The start of a payload, which is `padded` without its padding.
    pub(super) const fn new(padded: &'p [u8]) -> Self {
        Self { rest: padded, whole: padded.len(), text_end: 0 }
    }

    /// The place `at` in a payload.
    pub(super) fn within(padded: &'p [u8], at: usize) -> Self {
        Self { rest: &padded[at..], ..Self::new(padded) }
    }

    /// Where the last string that was read ends in the payload.
    pub(super) const fn text_end(&self) -> usize {
        self.text_end
    }

    /// The next eight bytes.
    pub(super) fn peek(&self) -> Option<&'p [u8; 8]> {
        self.rest.first_chunk()
    }

    /// How many bytes there are from here on, those behind the message included.
    #[inline(always)]
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// Exactly these bytes. The length is known to the compiler, which makes of it a few comparisons of words.
    #[inline(always)]
    pub(super) fn literal<const N: usize>(&mut self, literal: &[u8; N]) -> Result<(), Surprise> {
        match self.rest.split_first_chunk() {
            Some((head, rest)) if head == literal => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(Surprise::Key),
        }
    }

    /// Exactly these bytes, whose length is not known to the compiler.
    #[inline(always)]
    pub(super) fn prefix(&mut self, prefix: &[u8]) -> Result<(), Surprise> {
        self.rest = self.rest.strip_prefix(prefix).ok_or(Surprise::Key)?;
        Ok(())
    }

    /// Any number of blanks.
    #[inline(always)]
    pub(super) fn blanks(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// An unsigned integer of at most 19 digits.
    #[inline(always)]
    pub(super) fn integer(&mut self) -> Result<u64, Surprise> {
        self.fixed(digits::integer(self.rest)).map(|fixed| fixed.mantissa)
    }

    /// `true` or `false`.
    #[inline(always)]
    pub(super) fn boolean(&mut self) -> Result<bool, Surprise> {
        if self.literal(b"true").is_ok() {
            return Ok(true);
        }
        self.literal(b"false").map(|()| false)
    }

    /// The inside of a string that is a decimal number of at most 19 digits; the quote that ends it is left to the literal
    /// after it.
    #[inline(always)]
    pub(super) fn decimal(&mut self) -> Result<Decimal, Surprise> {
        self.fixed(digits::decimal(self.rest)).map(of_fixed)
    }

    #[inline(always)]
    fn fixed(&mut self, fixed: Fixed) -> Result<Fixed, Surprise> {
        if fixed.len() == 0 {
            return Err(Surprise::Number);
        }
        self.rest = &self.rest[fixed.len()..];
        Ok(fixed)
    }

    /// The inside of a string of ASCII without escapes and control characters; the quote that ends it is left to the literal
    /// after it.
    #[inline(always)]
    pub(super) fn text(&mut self) -> Result<Place, Surprise> {
        let len = plain_text(self.rest).ok_or(Surprise::Text)?;
        let start = self.whole - self.rest.len();
        self.rest = &self.rest[len..];
        self.text_end = start + len;
        Ok(Place { start, len })
    }

    /// The levels of one side of a book: an array of arrays of two strings.
    #[inline(always)]
    pub(super) fn levels(&mut self, levels: &mut Vec<Level>) -> Result<(), Surprise> {
        // A cursor whose address is given away lives in memory: this one here does, not the one of the caller.
        let mut cursor = *self;
        let read = cursor.levels_apart(levels);
        *self = cursor;
        read
    }

    #[inline(never)]
    fn levels_apart(&mut self, levels: &mut Vec<Level>) -> Result<(), Surprise> {
        levels.clear();
        if self.literal(b"[]").is_ok() {
            return Ok(());
        }
        self.literal(br#"[[""#)?;
        loop {
            let price = self.fixed(digits::decimal_inlined(self.rest)).map(of_fixed)?;
            self.literal(br#"",""#)?;
            let quantity = self.fixed(digits::decimal_inlined(self.rest)).map(of_fixed)?;
            levels.push(Level { price, quantity });
            if self.literal(br#""],[""#).is_err() {
                return self.literal(br#""]]"#);
            }
        }
    }
}

#[inline(always)]
fn of_fixed(fixed: Fixed) -> Decimal {
    let mantissa = fixed.mantissa;
    #[expect(clippy::cast_possible_truncation, reason = "the mantissa is taken apart")]
    Decimal::from_parts(mantissa as u32, (mantissa >> 32) as u32, 0, false, fixed.scale())
}

/// How long the text at the start of `rest` is, up to the quote behind it. `None` where anything comes before that quote
/// that is not plain ASCII.
#[inline(never)]
fn plain_text(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    for (index, eight) in rest.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        // The high bit of each byte at which the text stops. Quotes and control characters: the bit that is flipped swaps
        // the quote 0x22 and the blank 0x20, and then they are all below 0x21. Backslashes: they become 0. And all that
        // has the high bit. A borrow may set bits above the first stop, but none below.
        let below_0x21 = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
        let zero = (word ^ (ONES * 0x5C)).wrapping_sub(ONES);
        let stops = (below_0x21 | zero | word) & (ONES << 7);
        if stops != 0 {
            let at = stops.trailing_zeros() / 8;
            let is_quote = (word >> (8 * at)) & 0xFF == 0x22;
            return is_quote.then_some(8 * index + at as usize);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stops_at_the_first_byte_that_is_not_plain() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                let mut text = *b"BTCUSDT_260327_P\"xxxxxxx";
                text[at] = byte;
                let expected = match byte {
                    b'"' => Some(at),
                    b'\\' | ..b' ' | 0x80.. => None,
                    _ => Some(16),
                };
                assert_eq!(plain_text(&text), expected, "{byte:#x} at {at}");
            }
        }
        assert_eq!(plain_text(b"no quote within whole words\""), None);
    }
}
