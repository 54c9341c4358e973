//! The internet checksum (RFC 1071), and the pseudo header TCP puts in front of its own (RFC 9293 section 3.1).
//!
//! Sums are kept in a `u64` of 64-bit words, each carry added at the lower end (2^64 leaves 1 when it is divided by 2^16 - 1,
//! so words of any width add up to the same), and folded once at the end. The loop is a chain of additions with carry: 8
//! bytes each. Vector additions of 32-bit words, which the compiler makes of the obvious loop, take twice the
//! instructions and, for the short segments of a feed, more time.

use std::net::IpAddr;

/// A one's-complement sum that has not been folded yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of the pseudo header of a TCP segment of `len` bytes, header included.
    #[must_use]
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, len: usize) -> Self {
        const TCP: u16 = 6;
        let addresses = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Self::default().and(&source.octets()).and(&destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Self::default().and(&source.octets()).and(&destination.octets())
            }
            _ => Self::default(),
        };
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        addresses.and(&len.to_be_bytes()).and(&TCP.to_be_bytes())
    }

    /// The sum with `bytes` added. Only the last run of bytes that is added may have an odd length.
    #[must_use]
    #[inline]
    pub fn and(self, bytes: &[u8]) -> Self {
        let mut sum = self.0;
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            let (words, _) = block.as_chunks::<8>();
            let mut carry = false;
            for word in words {
                (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
            }
            // Cannot carry again: a sum that has just carried is not all ones.
            sum += u64::from(carry);
        }
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            sum = add(sum, u64::from_ne_bytes(*word));
        }
        let (words, rest) = rest.as_chunks::<4>();
        for word in words {
            sum = add(sum, u64::from(u32::from_ne_bytes(*word)));
        }
        if !rest.is_empty() {
            let mut last = [0; 4];
            last[..rest.len()].copy_from_slice(rest);
            sum = add(sum, u64::from(u32::from_ne_bytes(last)));
        }
        Self(sum)
    }

    /// The checksum to write into a header whose checksum field was zero while it was summed.
    ///
    /// The one's-complement sum does not depend on byte order (RFC 1071 section 2(B)), so words were added as they lie
    /// in memory, and the result is to be stored as it lies: as native-endian bytes.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the folded sum fits 16 bits")]
    pub fn finish(self) -> [u8; 2] {
        let sum = self.0;
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        (!(sum as u16)).to_ne_bytes()
    }

    /// Whether the bytes that were summed, their checksum included, are intact.
    #[must_use]
    #[inline]
    pub fn verifies(self) -> bool {
        self.finish() == [0, 0]
    }
}

/// The one's-complement sum of two.
#[inline]
fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, word by word.
    fn naive(bytes: &[u8]) -> [u8; 2] {
        let mut sum: u32 = 0;
        for word in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (!(sum as u16)).to_be_bytes()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().and(&bytes).finish(), (!0xddf2u16).to_be_bytes());
    }

    proptest! {
        #[test]
        fn it_is_the_naive_sum(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(Sum::default().and(&bytes).finish(), naive(&bytes));
        }

        #[test]
        fn parts_of_even_length_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
            let cut = (cut * 2).min(bytes.len() / 2 * 2);
            let (front, back) = bytes.split_at(cut);
            prop_assert_eq!(Sum::default().and(front).and(back).finish(), naive(&bytes));
        }

        #[test]
        fn what_carries_its_checksum_verifies_and_no_flipped_bit_does(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..200),
            bit in any::<proptest::sample::Index>(),
        ) {
            bytes[16] = 0;
            bytes[17] = 0;
            let sum = Sum::default().and(&bytes).finish();
            bytes[16..18].copy_from_slice(&sum);
            prop_assert!(Sum::default().and(&bytes).verifies());
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!Sum::default().and(&bytes).verifies());
        }
    }
}
