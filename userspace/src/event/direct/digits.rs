//! Digits to numbers, eight at a time.
//!
//! In come bytes, out go the number that the digits at their start write, and how many these are. Eight bytes are taken
//! as one word; which of them are digits, and the number that they write, are each found with a handful of operations on
//! the word, whatever the digits are. Nothing here knows JSON.
//!
//! [`integer`] and [`decimal`] are not inlined: a message has up to a dozen numbers, and the constants of one copy for each
//! of them would not leave registers for anything else. [`decimal_inlined`] is for loops, which load them once.

use super::super::decimal::joined_eight;

/// As many digits fit in 64 bits whatever they are.
const DIGITS_MAX: u32 = 19;

/// Powers of ten: all that a `u64` holds.
const TEN_TO: [u64; DIGITS_MAX as usize + 1] = {
    let mut powers = [1; DIGITS_MAX as usize + 1];
    let mut at = 1;
    while at < powers.len() {
        powers[at] = powers[at - 1] * 10;
        at += 1;
    }
    powers
};

/// A number as it is written. Two words, so that it is returned in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    /// All its digits, without the point.
    pub(super) mantissa: u64,
    /// How many bytes it takes, and above 16 bits how many digits are behind the point.
    len_and_scale: u32,
}

impl Fixed {
    #[inline(always)]
    const fn new(mantissa: u64, len: u32, scale: u32) -> Self {
        Self { mantissa, len_and_scale: len | (scale << 16) }
    }

    /// How many bytes it takes; 0 where there is no number.
    #[inline(always)]
    pub(super) const fn len(self) -> usize {
        (self.len_and_scale & 0xFFFF) as usize
    }

    /// How many digits are behind the point.
    #[inline(always)]
    pub(super) const fn scale(self) -> u32 {
        self.len_and_scale >> 16
    }
}

/// No number.
const NONE: Fixed = Fixed::new(0, 0, 0);

/// The integer at the start of `text`: 1 to 19 digits, no leading zeros. What follows it is not looked at.
///
/// At least 24 bytes have to be there.
#[inline(never)]
pub(super) fn integer(text: &[u8]) -> Fixed {
    let (mantissa, len) = digits(text);
    if text.first() == Some(&b'0') && len > 1 { NONE } else { Fixed::new(mantissa, len, 0) }
}

/// The decimal at the start of `text`: an integer, and if there is a point, digits behind it, all in all at most 19. What
/// follows it is not looked at.
///
/// At least 24 bytes have to be there, and 24 more behind the point.
#[inline(never)]
pub(super) fn decimal(text: &[u8]) -> Fixed {
    decimal_inlined(text)
}

/// [`decimal`], in place.
#[inline(always)]
pub(super) fn decimal_inlined(text: &[u8]) -> Fixed {
    let (whole, whole_len) = digits(text);
    if whole_len == 0 || (text[0] == b'0' && whole_len > 1) {
        return NONE;
    }
    let [b'.', fraction @ ..] = &text[whole_len as usize..] else { return Fixed::new(whole, whole_len, 0) };
    let (value, scale) = digits(fraction);
    if scale == 0 || whole_len + scale > DIGITS_MAX {
        return NONE;
    }
    Fixed::new(whole * TEN_TO[scale as usize] + value, whole_len + 1 + scale, scale)
}

/// The number that the digits at the start of `text` write, and how many they are: 0 where there is none, where they are
/// more than 19, or where fewer than 24 bytes are left to look at.
#[inline(always)]
fn digits(text: &[u8]) -> (u64, u32) {
    let Some(words) = text.first_chunk::<24>() else { return (0, 0) };
    let (words, _) = words.as_chunks::<8>();
    let (first, first_len) = leading(words[0]);
    if first_len < 8 {
        return (first, first_len);
    }
    let (second, second_len) = leading(words[1]);
    // Most fractions on spot have exactly eight digits.
    if second_len == 0 {
        return (first, 8);
    }
    let value = first * TEN_TO[second_len as usize] + second;
    if second_len == 8 { sixteen_and_more(value, words[2]) } else { (value, 8 + second_len) }
}

/// [`digits`] where the first sixteen, which write `value`, are digits.
#[cold]
#[inline(never)]
fn sixteen_and_more(value: u64, rest: [u8; 8]) -> (u64, u32) {
    let (third, third_len) = leading(rest);
    if 16 + third_len > DIGITS_MAX {
        return (0, 0);
    }
    (value * TEN_TO[third_len as usize] + third, 16 + third_len)
}

/// The number that the digits at the start of eight bytes write, and how many they are. Without any, the number is 0.
#[inline(always)]
fn leading(text: [u8; 8]) -> (u64, u32) {
    let text = u64::from_le_bytes(text);
    let values = text.wrapping_sub(0x3030_3030_3030_3030);
    // The high bit of each byte that is no digit: below '0' it was borrowed for, above '9' 0x46 more reach it, and from
    // 0x80 on one of the two has it. Carries and borrows only go to higher bytes, so the lowest one is right.
    let others = (text.wrapping_add(0x4646_4646_4646_4646) | values) & 0x8080_8080_8080_8080;
    if others == 0 {
        return (joined_eight(values), 8);
    }
    // The first byte is the lowest of the word. What is not a digit is shifted out at the top, and zeros come in below:
    // leading zeros.
    let bits = others.trailing_zeros() & !7;
    (joined_eight((values << 8) << (56 - bits)), bits / 8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn padded(text: &[u8]) -> Vec<u8> {
        [text, &[b'x'; 64]].concat()
    }

    /// What [`decimal`] should say of a whole text, by looking at it as a text: the digits, and how many of them are
    /// behind the point.
    fn oracle(text: &str) -> Option<(u64, u32)> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let good = is_number(whole) && (!text.contains('.') || is_number(fraction));
        let good = good && (whole == "0" || !whole.starts_with('0')) && whole.len() + fraction.len() <= 19;
        good.then(|| (format!("{whole}{fraction}").parse().unwrap(), fraction.len() as u32))
    }

    fn check(text: &str) -> Result<(), TestCaseError> {
        let found = decimal(&padded(text.as_bytes()));
        match oracle(text) {
            Some((mantissa, scale)) => {
                prop_assert_eq!(found, Fixed::new(mantissa, text.len() as u32, scale), "{}", text);
            }
            // What it has read, if anything, is not the whole text.
            None => prop_assert_ne!(found.len(), text.len(), "{}", text),
        }
        if !text.contains('.') {
            prop_assert_eq!(integer(&padded(text.as_bytes())), found, "{}", text);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

        #[test]
        fn a_number_is_read_to_its_last_digit(text in r"(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?") {
            check(&text)?;
        }

        #[test]
        fn nearly_numbers_are_told_apart(text in r"-?[0-9]{0,9}[0-9.+eE_/: ]{0,2}[0-9]{0,9}\.?[0-9]{0,10}") {
            prop_assume!(!text.is_empty());
            check(&text)?;
        }

        #[test]
        fn digits_end_at_the_first_byte_that_is_none(
            digits in "[0-9]{0,8}",
            rest in proptest::collection::vec(any::<u8>(), 8),
        ) {
            let text = [digits.as_bytes(), &rest].concat();
            let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count().min(8);
            let value = std::str::from_utf8(&text[..len]).unwrap().parse().unwrap_or(0);
            prop_assert_eq!(leading(*text.first_chunk().unwrap()), (value, len as u32));
        }
    }

    #[test]
    fn every_byte_ends_the_digits_unless_it_is_one() {
        for at in 0..8 {
            for byte in 0..=u8::MAX {
                let mut text = *b"98765432";
                text[at] = byte;
                let (value, len) = leading(text);
                if byte.is_ascii_digit() {
                    assert_eq!((format!("{value:08}").as_bytes(), len), (text.as_slice(), 8));
                } else {
                    assert_eq!((value, len as usize), (98_765_432 / 10u64.pow(8 - at as u32), at), "{byte:#x} at {at}");
                }
            }
        }
    }

    #[test]
    fn nineteen_digits_are_the_limit() {
        let of = |text: &str| decimal(&padded(text.as_bytes()));
        for (text, mantissa, scale) in [
            ("9999999999999999999", 9_999_999_999_999_999_999, 0),
            ("9.999999999999999999", 9_999_999_999_999_999_999, 18),
            ("999999999999999999.9", 9_999_999_999_999_999_999, 1),
            ("0.000000000000000001", 1, 18),
            ("1234567890.123456789", 1_234_567_890_123_456_789, 9),
            ("0", 0, 0),
            ("0.0", 0, 1),
        ] {
            assert_eq!(of(text), Fixed::new(mantissa, text.len() as u32, scale), "{text}");
        }
        for text in [
            "99999999999999999999",
            "18446744073709551615",
            "9.9999999999999999999",
            "0.0000000000000000000",
            "1234567890.1234567890",
            "12345678901234567890123456789",
            "00",
            "01.5",
            "",
            ".5",
            "1.",
            "1.x",
            "-1",
        ] {
            assert_eq!(of(text), NONE, "{text}");
        }
        assert_eq!(integer(&padded(b"18446744073709551615")), NONE, "it would fit, but not all of 20 digits do");
        assert_eq!(integer(&padded(b"007")), NONE);
        assert_eq!(integer(b"1,"), NONE, "too close to the end to be looked at");
    }

    #[test]
    fn a_number_close_to_the_end_of_the_bytes_is_left_alone() {
        assert_eq!(decimal(b"1.5"), NONE);
        assert_eq!(decimal(&[b"1.5".as_slice(), &[b'x'; 22]].concat()), NONE, "23 bytes behind the point");
        assert_eq!(decimal(&[b"1.5".as_slice(), &[b'x'; 23]].concat()), Fixed::new(15, 3, 1));
    }
}
