//! What the NIC knows of a frame, as the device-bound program puts it in front of it.
//!
//! The C twin is `struct hints` in `src/bpf/layout.h`. What the driver answered is part of the layout: that it has no time
//! for a frame, that it never has one, and that the time is zero are three different things.

use std::fmt;

/// Bytes in front of a frame from [`BOUND_OBJECT`](crate::BOUND_OBJECT)'s programs; the last
/// [`ARRIVAL_BYTES`](crate::ARRIVAL_BYTES) of them are those that the plain program writes, too.
pub const HINTS_BYTES: usize = 32;

/// The layout that [`Hints::read`] understands.
pub const HINTS_VERSION: u8 = 1;

const TIME: usize = 0;
const HASH: usize = 8;
const HASH_TYPE: usize = 12;
const VLAN_TCI: usize = 16;
const VLAN_PROTOCOL: usize = 18;
const TIME_ANSWER: usize = 20;
const HASH_ANSWER: usize = 21;
const VLAN_ANSWER: usize = 22;
const VERSION: usize = 23;

const _: () = assert!(VERSION + 1 + crate::ARRIVAL_BYTES == HINTS_BYTES);

/// What a driver said when it was asked for something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Answer<T> {
    /// It was not asked.
    #[default]
    None,
    /// This.
    Known(T),
    /// It knows it of some frames, but not of this one (`ENODATA`).
    Absent,
    /// It never knows it (`EOPNOTSUPP`), or the kernel has no such question.
    Unsupported,
    /// It gave another error.
    Failed,
}

impl<T> Answer<T> {
    const fn of(answer: u8, value: T) -> Self
    where
        T: Copy,
    {
        match answer {
            0 => Self::None,
            1 => Self::Known(value),
            2 => Self::Absent,
            3 => Self::Unsupported,
            _ => Self::Failed,
        }
    }

    /// What it knows, where it does.
    pub fn known(self) -> Option<T> {
        match self {
            Self::Known(value) => Some(value),
            Self::None | Self::Absent | Self::Unsupported | Self::Failed => None,
        }
    }
}

/// A moment on the NIC's own clock: nanoseconds since an origin that only whoever has set that clock knows.
///
/// It is no moment of `CLOCK_MONOTONIC`, and there is no way from one to the other here: the two run at rates of their own.
/// Zero is what drivers give that have not taken the time; [`NicTime::is_zero`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicTime(u64);

impl NicTime {
    /// The moment that lies this many nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whether it stands for no moment at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// What RSS has made of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RssHash {
    /// The hash.
    pub value: u32,
    /// Of which headers: the bits of `enum xdp_rss_hash_type` (include/net/xdp.h). 0 where the driver does not say.
    pub kind: u32,
}

/// A VLAN tag that the NIC has taken off a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VlanTag {
    /// The ethertype of the tag: 0x8100, or 0x88a8 for a service tag.
    pub protocol: u16,
    /// Priority (3 bits), drop eligibility (1), identifier (12).
    pub tci: u16,
}

impl VlanTag {
    /// The VLAN's identifier; 0 for a tag that only carries a priority.
    #[must_use]
    pub const fn id(self) -> u16 {
        self.tci & 0x0fff
    }
}

/// What the NIC knows of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hints {
    /// When it received it.
    pub time: Answer<NicTime>,
    /// What its RSS has made of it.
    pub hash: Answer<RssHash>,
    /// The VLAN tag that it has taken off.
    pub vlan: Answer<VlanTag>,
}

impl Hints {
    /// Reads what stands in front of a frame, without the time of arrival that comes last; `None` where it is of another
    /// version, or not of the device-bound program at all.
    #[must_use]
    #[inline]
    pub fn read(bytes: &[u8; HINTS_BYTES - crate::ARRIVAL_BYTES]) -> Option<Self> {
        if bytes[VERSION] != HINTS_VERSION {
            return None;
        }
        let u32_at = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let time = bytes[TIME..].first_chunk::<8>()?;
        let tci = u16::from_ne_bytes([bytes[VLAN_TCI], bytes[VLAN_TCI + 1]]);
        let protocol = u16::from_be_bytes([bytes[VLAN_PROTOCOL], bytes[VLAN_PROTOCOL + 1]]);
        Some(Self {
            time: Answer::of(bytes[TIME_ANSWER], NicTime(u64::from_ne_bytes(*time))),
            hash: Answer::of(bytes[HASH_ANSWER], RssHash { value: u32_at(HASH), kind: u32_at(HASH_TYPE) }),
            vlan: Answer::of(bytes[VLAN_ANSWER], VlanTag { protocol, tci }),
        })
    }
}

impl fmt::Display for NicTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s on the NIC's clock", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(time: u8, hash: u8, vlan: u8) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&1_700_000_000_123_456_789_u64.to_ne_bytes());
        bytes[8..12].copy_from_slice(&0xdead_beef_u32.to_ne_bytes());
        bytes[12..16].copy_from_slice(&0x25_u32.to_ne_bytes());
        bytes[16..18].copy_from_slice(&0xa00c_u16.to_ne_bytes());
        bytes[18..20].copy_from_slice(&0x8100_u16.to_be_bytes());
        bytes[20..].copy_from_slice(&[time, hash, vlan, HINTS_VERSION]);
        bytes
    }

    #[test]
    fn what_is_known_is_told() {
        let hints = Hints::read(&bytes(1, 1, 1)).unwrap();
        assert_eq!(hints.time, Answer::Known(NicTime::from_nanos(1_700_000_000_123_456_789)));
        assert_eq!(hints.hash.known(), Some(RssHash { value: 0xdead_beef, kind: 0x25 }));
        let tag = hints.vlan.known().unwrap();
        assert_eq!((tag.protocol, tag.id(), tag.tci >> 13), (0x8100, 12, 5));
    }

    #[test]
    fn zero_absent_unsupported_failed_and_not_asked_are_told_apart() {
        let mut zero = bytes(1, 2, 3);
        zero[..8].fill(0);
        let hints = Hints::read(&zero).unwrap();
        assert!(hints.time.known().unwrap().is_zero());
        assert_eq!((hints.hash, hints.vlan), (Answer::Absent, Answer::Unsupported));
        let hints = Hints::read(&bytes(4, 0, 200)).unwrap();
        assert_eq!((hints.time, hints.hash, hints.vlan), (Answer::Failed, Answer::None, Answer::Failed));
    }

    #[test]
    fn another_version_is_not_read() {
        for version in (0..=u8::MAX).filter(|version| *version != HINTS_VERSION) {
            let mut other = bytes(1, 1, 1);
            other[VERSION] = version;
            assert_eq!(Hints::read(&other), None);
        }
    }
}
