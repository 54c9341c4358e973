//! Sequence numbers, which wrap.

use std::fmt;
use std::ops::{Add, Sub};

/// A TCP sequence number. Comparisons hold for numbers less than 2^31 apart (RFC 9293 section 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seq(pub u32);

impl Seq {
    /// How far this number lies after `other`; negative where it lies before it.
    #[must_use]
    pub const fn distance(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0).cast_signed()
    }

    /// Whether this number lies after `other`.
    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    /// The later of the two.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.is_after(other) { self } else { other }
    }
}

impl Add<usize> for Seq {
    type Output = Self;

    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers count modulo 2^32")]
    fn add(self, n: usize) -> Self {
        Self(self.0.wrapping_add(n as u32))
    }
}

impl Sub<usize> for Seq {
    type Output = Self;

    #[expect(clippy::cast_possible_truncation, reason = "sequence numbers count modulo 2^32")]
    fn sub(self, n: usize) -> Self {
        Self(self.0.wrapping_sub(n as u32))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::Seq;

    #[test]
    fn order_survives_the_wrap() {
        let last = Seq(u32::MAX);
        assert_eq!(last + 1, Seq(0));
        assert!((last + 5).is_after(last));
        assert!(!last.is_after(last + 5));
        assert_eq!((last + 5).distance(last), 5);
        assert_eq!(last.distance(last + 5), -5);
        assert_eq!(last.max(Seq(3)), Seq(3));
        assert_eq!(Seq(2) - 3, last);
    }
}
