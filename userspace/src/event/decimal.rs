//! Exact decimals: the digits of a price become a [`Decimal`] with nothing in between.
//!
//! In come the bytes of a JSON string, out goes a decimal of 96 bits of digits and a scale, or the [`Problem`]. The
//! scale is the number of digits behind the point as they were sent, so trailing zeros survive: for every text that is
//! accepted, [`parse`] followed by `to_string` gives that text again. No binary floating point on the way; [`to_f64`]
//! is for whoever asks for it.

use std::io::Write as _;

use serde::Serializer;

pub use rust_decimal::Decimal;

use super::raw::Problem;

/// More digits than these may not fit in the 96 bits of a [`Decimal`].
const DIGITS_MAX: u32 = 28;
/// The length up to which a text is read in a `u64`: 19 digits always fit, whether or not there is a point among them.
const TEXT_QUICK: usize = 19;

/// Reads a decimal number that is not negative: digits, and if there is a point, digits on both sides of it.
///
/// # Errors
///
/// [`Problem::NotADecimal`] for anything else (an exponent, a `+`, a leading zero before another digit, a point without
/// digits on both sides, nothing at all), [`Problem::Negative`] for a decimal with a minus sign, and
/// [`Problem::TooManyDigits`] for more than 28 digits, leading zeros not counted, or more than 28 behind the point.
#[inline]
pub fn parse(text: &[u8]) -> Result<Decimal, Problem> {
    if text.len() > TEXT_QUICK {
        return parse_slowly(text);
    }
    let mut mantissa = 0;
    let mut whole_len = 0;
    let fraction = loop {
        match text.get(whole_len) {
            Some(digit @ b'0'..=b'9') => mantissa = mantissa * 10 + u64::from(digit - b'0'),
            Some(b'.') => break &text[whole_len + 1..],
            None => break &[],
            Some(_) => return parse_slowly(text),
        }
        whole_len += 1;
    };
    let points = text.len() - whole_len - fraction.len();
    if whole_len == 0 || points > fraction.len() || (whole_len > 1 && text[0] == b'0') {
        return parse_slowly(text);
    }
    match append(mantissa, fraction) {
        #[expect(clippy::cast_possible_truncation, reason = "the mantissa is taken apart; the length is at most 19")]
        Some(mantissa) => {
            Ok(Decimal::from_parts(mantissa as u32, (mantissa >> 32) as u32, 0, false, fraction.len() as u32))
        }
        None => parse_slowly(text),
    }
}

/// The decimal number of an integer that was not written as a string.
#[must_use]
pub fn from_integer(value: u64) -> Decimal {
    Decimal::from(value)
}

/// The binary floating point number nearest to `value` (half to even), for arithmetic that does not have to be exact.
#[must_use]
pub fn to_f64(value: Decimal) -> f64 {
    /// Powers of ten that are exact in binary floating point.
    const TEN_TO: [f64; 23] = [
        1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
        1e20, 1e21, 1e22,
    ];
    let mantissa = value.mantissa();
    let scale = value.scale() as usize;
    // Both exact: IEEE 754 rounds their quotient once, correctly.
    if mantissa.unsigned_abs() <= 1 << 53 && scale < TEN_TO.len() {
        #[expect(clippy::cast_precision_loss, reason = "not beyond 2^53, so none is lost")]
        return mantissa as f64 / TEN_TO[scale];
    }
    // Sign, 29 digits, the point and a zero before it: 32 bytes are enough for any decimal.
    let mut text = [0u8; 32];
    let mut free = &mut text[..];
    let written = write!(free, "{value}").map(|()| 32 - free.len());
    written.ok().and_then(|len| std::str::from_utf8(&text[..len]).ok()?.parse().ok()).unwrap_or(f64::NAN)
}

/// Writes a decimal as a string with all its digits, without allocating. For `serialize_with`.
///
/// # Errors
///
/// Those of the serializer.
pub fn as_text<S: Serializer>(value: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// `value` with `digits` written behind it; `None` where one of them is not a digit. At most 19 digits in all.
#[inline]
fn append(mut value: u64, digits: &[u8]) -> Option<u64> {
    let (eights, rest) = digits.as_chunks::<8>();
    for eight in eights {
        value = value * 100_000_000 + eight_digits(*eight)?;
    }
    for byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

/// The number that eight digits write, with three multiplications; `None` where one of them is not a digit.
///
/// Spot prices and quantities have exactly eight digits behind the point. The method is that of simdjson's
/// `parse_eight_digits_unrolled`: neighbours are joined to pairs, pairs to fours, fours to the eight.
#[inline]
fn eight_digits(text: [u8; 8]) -> Option<u64> {
    const HIGH: u64 = 0xF0F0_F0F0_F0F0_F0F0;
    let text = u64::from_le_bytes(text);
    // A digit is 0x30 to 0x39: its high half is 3, and still 3 when 6 is added.
    if (text & HIGH) | ((text.wrapping_add(0x0606_0606_0606_0606) & HIGH) >> 4) != 0x3333_3333_3333_3333 {
        return None;
    }
    Some(joined_eight(text & !HIGH))
}

/// The number that eight digits write, each of them given as its value; the first one in the lowest byte.
#[inline(always)]
pub(super) const fn joined_eight(ones: u64) -> u64 {
    let pairs = ones.wrapping_mul(1 + (10 << 8)) >> 8 & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(1 + (100 << 16)) >> 16 & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(1 + (10_000 << 32)) >> 32
}

/// Reads what [`parse`] cannot read quickly: up to 28 digits, or a text that is refused, with the reason.
#[cold]
fn parse_slowly(text: &[u8]) -> Result<Decimal, Problem> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    let point = unsigned.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&unsigned[..point], Some(&unsigned[point + 1..])),
        None => (unsigned, None),
    };
    let written_well = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    if !written_well(whole) || !fraction.is_none_or(written_well) || (whole.len() > 1 && whole[0] == b'0') {
        return Err(Problem::NotADecimal);
    }
    if unsigned.len() != text.len() {
        return Err(Problem::Negative);
    }
    let fraction = fraction.unwrap_or_default();
    let scale = u32::try_from(fraction.len()).ok().filter(|scale| *scale <= Decimal::MAX_SCALE);
    let mut mantissa: u128 = 0;
    for byte in whole.iter().chain(fraction) {
        mantissa = mantissa * 10 + u128::from(byte - b'0');
        if mantissa >= 10u128.pow(DIGITS_MAX) {
            return Err(Problem::TooManyDigits);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "the mantissa is taken apart")]
    let [low, middle, high] = [mantissa as u32, (mantissa >> 32) as u32, (mantissa >> 64) as u32];
    scale.map_or(Err(Problem::TooManyDigits), |scale| Ok(Decimal::from_parts(low, middle, high, false, scale)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`parse`] should say, by looking at the text as a text.
    fn oracle(text: &str) -> Result<(), Problem> {
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        let mut parts = unsigned.split('.');
        let (whole, fraction) = (parts.next().unwrap(), parts.next());
        let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        let written_well = digits(whole) && fraction.is_none_or(digits) && parts.next().is_none();
        if !written_well || (whole.starts_with('0') && whole != "0") {
            return Err(Problem::NotADecimal);
        }
        if text.starts_with('-') {
            return Err(Problem::Negative);
        }
        let fraction = fraction.unwrap_or_default();
        let significant = format!("{whole}{fraction}").trim_start_matches('0').len();
        if significant > 28 || fraction.len() > 28 { Err(Problem::TooManyDigits) } else { Ok(()) }
    }

    fn check(text: &str) -> Result<(), TestCaseError> {
        let parsed = parse(text.as_bytes());
        prop_assert_eq!(parsed.map(|_| ()), oracle(text), "{}", text);
        if let Ok(value) = parsed {
            prop_assert_eq!(value.to_string(), text);
            prop_assert_eq!(value, text.parse::<Decimal>().unwrap());
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn a_decimal_prints_as_it_was_written(text in r"(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?") {
            check(&text)?;
        }

        #[test]
        fn nearly_decimals_are_told_apart(text in r"-?[0-9]{0,3}[0-9.+eE_x ]{0,3}[0-9]{0,9}\.?[0-9.]{0,12}") {
            check(&text)?;
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            match std::str::from_utf8(&bytes) {
                Ok(text) => check(text)?,
                Err(_) => prop_assert_eq!(parse(&bytes), Err(Problem::NotADecimal)),
            }
        }

        #[test]
        fn one_wrong_byte_among_eight_digits_is_seen(digits in "[0-9]{8}", at in 0usize..8, wrong in any::<u8>()) {
            let mut text = digits.into_bytes();
            text[at] = wrong;
            let expected = std::str::from_utf8(&text).ok().filter(|_| wrong.is_ascii_digit());
            prop_assert_eq!(eight_digits(text.clone().try_into().unwrap()), expected.map(|text| text.parse().unwrap()));
        }

        #[test]
        fn floating_point_is_the_nearest(text in r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,13})?") {
            let value = parse(text.as_bytes()).unwrap();
            prop_assert_eq!(to_f64(value).to_bits(), text.parse::<f64>().unwrap().to_bits());
        }
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for text in
            ["", ".", "-", "-.", "1.", ".5", "1e5", "1.2.3", "+1", " 1", "1 ", "1,5", "0x1", "00", "00.5", "1_0"]
        {
            assert_eq!(parse(text.as_bytes()), Err(Problem::NotADecimal), "{text:?}");
        }
        for text in ["-0.5", "-1", "-0", "-12345678901234567890123456789012345"] {
            assert_eq!(parse(text.as_bytes()), Err(Problem::Negative), "{text:?}");
        }
    }

    #[test]
    fn twenty_eight_digits_are_the_limit() {
        let nines = "9".repeat(28);
        for text in [&nines, &format!("0.{nines}"), &format!("{}.{}", &nines[..14], &nines[14..])] {
            assert_eq!(parse(text.as_bytes()).unwrap().to_string(), *text);
        }
        let zeros = "0".repeat(28);
        assert_eq!(parse(format!("0.{zeros}").as_bytes()).unwrap().to_string(), format!("0.{zeros}"));
        for text in [
            format!("9{nines}"),
            format!("1{zeros}"),
            format!("0.{nines}1"),
            format!("1.{nines}"),
            format!("0.{zeros}0"),
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Problem::TooManyDigits), "{text}");
        }
        assert_eq!(parse(&vec![b'7'; 100_000]), Err(Problem::TooManyDigits));
        assert_eq!(parse(&[b"0.".to_vec(), vec![b'0'; 100_000]].concat()), Err(Problem::TooManyDigits));
        assert_eq!(parse(&[vec![b'7'; 100_000], b"x".to_vec()].concat()), Err(Problem::NotADecimal));
    }

    #[test]
    fn the_extremes_have_a_floating_point_value() {
        assert_eq!(to_f64(Decimal::ZERO), 0.0);
        assert_eq!(to_f64(Decimal::MAX), 79_228_162_514_264_337_593_543_950_335.0);
        assert_eq!(to_f64(Decimal::MIN), -79_228_162_514_264_337_593_543_950_335.0);
        assert_eq!(to_f64(parse(b"0.0000000000000000000000000001").unwrap()), 1e-28);
        assert_eq!(to_f64(-parse(b"7.9228162514264337593543950").unwrap()), -7.922_816_251_426_433_6);
    }
}
