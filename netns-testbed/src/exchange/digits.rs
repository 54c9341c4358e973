//! Decimal digits, written two at a time: the generator of synthetic messages writes some twenty numbers into each.

/// The most digits a 64-bit number has.
const DIGITS_MAX: usize = 20;

/// A number's digits.
pub(super) struct Digits {
    /// The digits at its beginning, whatever else behind.
    buffer: [u8; DIGITS_MAX],
    length: usize,
}

impl Digits {
    /// The digits of `number`, without leading zeros; those of 0 are `0`.
    #[inline]
    pub(super) fn new(mut number: u64) -> Self {
        let mut buffer = [0; DIGITS_MAX];
        let length = number.checked_ilog10().map_or(1, |log| log as usize + 1);
        let mut end = length;
        while end >= 2 {
            end -= 2;
            buffer[end..end + 2].copy_from_slice(&pair(number % 100));
            number /= 100;
        }
        if end == 1 {
            buffer[0] = b'0' + number as u8;
        }
        Self { buffer, length }
    }

    /// The digits, as ASCII.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// Writes `number`.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, number: u64) {
    let digits = Digits::new(number);
    // Twenty bytes, always: a copy of known length is two instructions, one of unknown length a call.
    out.extend_from_slice(&digits.buffer);
    out.truncate(out.len() - (DIGITS_MAX - digits.length));
}

/// The two digits of a number below 100.
#[inline]
pub(super) fn pair(number: u64) -> [u8; 2] {
    PAIRS[number as usize]
}

/// `00` to `99`.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + (number / 10) as u8, b'0' + (number % 10) as u8];
        number += 1;
    }
    pairs
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_the_standard_library_writes() {
        let mut number = 1_u64;
        for _ in 0..64 {
            for near in [number - 1, number, number.wrapping_add(9)] {
                assert_eq!(Digits::new(near).bytes(), near.to_string().as_bytes());
            }
            number = number.wrapping_mul(2).max(1);
        }
        for number in [0, 9, 10, 99, 100, 101, 1000, u64::MAX] {
            assert_eq!(Digits::new(number).bytes(), number.to_string().as_bytes());
        }
        let mut out = b"before ".to_vec();
        push(&mut out, 1234);
        push(&mut out, 0);
        assert_eq!(out, b"before 12340");
    }
}
