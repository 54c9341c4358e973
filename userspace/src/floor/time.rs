//! Moments on `CLOCK_MONOTONIC`, and the clock that reads them.
//!
//! Stages take the present as an argument and never read a clock: the same code runs in real time over a NIC and in
//! virtual time over an in-memory ring.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment: nanoseconds of `CLOCK_MONOTONIC` since boot (or since the start of a virtual run).
///
/// 64 bits of nanoseconds last 584 years, so no arithmetic on moments wraps in practice; it saturates where it could.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The origin of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than every moment a clock can show: the deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment that lies this many nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this moment is; zero where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

/// Something that tells the present moment.
pub trait Clock {
    /// The present. Never earlier than an answer already given.
    fn now(&self) -> Time;
}

/// `CLOCK_MONOTONIC`, read through the vDSO: about 25 ns a reading on an x86-64 machine with a stable TSC.
///
/// It is the clock of `bpf_ktime_get_ns` too, so a moment taken inside the XDP program compares with one taken here.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now(&self) -> Time {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        Time(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }
}

/// A clock of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemClock {
    /// Since the machine was started, time asleep not counted: the clock of [`Monotonic`].
    Monotonic,
    /// Since the machine was started.
    Boottime,
    /// UTC, since 1970.
    Realtime,
    /// International atomic time, since 1970: UTC without leap seconds, 37 s ahead of it since 2017, or not at all where
    /// nobody has told the kernel.
    Tai,
}

impl SystemClock {
    /// All of them, and by how many nanoseconds each is ahead of `CLOCK_MONOTONIC` now.
    #[must_use]
    pub fn all() -> [(Self, i64); 4] {
        use rustix::time::{ClockId, DynamicClockId, clock_gettime, clock_gettime_dynamic};
        let ns = |time: rustix::time::Timespec| time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
        let monotonic = || ns(clock_gettime(ClockId::Monotonic));
        let realtime = ns(clock_gettime(ClockId::Realtime)) - monotonic();
        // Each kernel that has XDP has all of them; one that does not know TAI has been told of no leap seconds either.
        let tai = clock_gettime_dynamic(DynamicClockId::Tai).map_or(realtime, |tai| ns(tai) - monotonic());
        [
            (Self::Monotonic, 0),
            (Self::Boottime, ns(clock_gettime(ClockId::Boottime)) - monotonic()),
            (Self::Realtime, realtime),
            (Self::Tai, tai),
        ]
    }
}

impl fmt::Display for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Monotonic => "CLOCK_MONOTONIC",
            Self::Boottime => "CLOCK_BOOTTIME",
            Self::Realtime => "CLOCK_REALTIME",
            Self::Tai => "CLOCK_TAI",
        })
    }
}

/// Processor time of all threads of this process since its start.
#[must_use]
pub fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_moves_by_a_duration_and_back() {
        let t = Time::from_nanos(1_500_000_000);
        let later = t + Duration::from_micros(3);
        assert_eq!(later.since(t), Duration::from_micros(3));
        assert_eq!(t.since(later), Duration::ZERO, "the past is not a negative duration");
        assert_eq!(later - Duration::from_micros(3), t);
        assert_eq!(Time::NEVER + Duration::from_secs(1), Time::NEVER);
        assert_eq!(t.to_string(), "1.500000000s");
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no CLOCK_TAI")]
    fn no_clock_of_the_machines_is_behind_the_monotonic_one() {
        let clocks = SystemClock::all();
        // Two readings, one after the other, of clocks that may be the same.
        assert!(clocks.iter().all(|(_, ahead)| *ahead > -1_000_000), "{clocks:?}");
        assert!(clocks[2].1 > 1_000_000_000_000_000_000, "{clocks:?}: a machine that lives after 2001");
    }

    #[test]
    fn the_monotonic_clock_does_not_run_backwards() {
        let clock = Monotonic;
        let mut last = clock.now();
        for _ in 0..1000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
