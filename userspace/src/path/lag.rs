//! How far a connection is behind the venue's own clock.
//!
//! In come the times at which the venue says it sent its events, and those at which they arrived; out goes whether they are
//! later than they may be, and since when. It reads no clock: how ours stands to the calendar is told from outside.

use std::time::Duration;

use crate::floor::Time;

/// A number of milliseconds since 1970 that is none: the year 5138. Where a connection was asked for microseconds
/// (`timeUnit=MICROSECOND`), times are above it.
const MILLISECONDS_MAX: u64 = 100_000_000_000_000;

/// The lag of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Lag {
    max: Duration,
    /// Nanoseconds from `CLOCK_MONOTONIC` to the calendar; `None` until it has been told.
    offset_ns: Option<i64>,
    /// Since when every event has been too late.
    since: Option<Time>,
    /// Of the events since then.
    latest: Duration,
    late: u64,
}

impl Lag {
    /// Events may be `max` behind.
    pub(super) const fn new(max: Duration) -> Self {
        Self { max, offset_ns: None, since: None, latest: Duration::ZERO, late: 0 }
    }

    /// Our clock stands so many nanoseconds behind the calendar's (1970 in UTC).
    pub(super) const fn set_offset(&mut self, offset_ns: i64) {
        self.offset_ns = Some(offset_ns);
    }

    /// An event has arrived that was sent at `sent`, as the venue counts.
    #[inline]
    pub(super) fn note(&mut self, arrived: Time, sent: u64) {
        let Some(offset_ns) = self.offset_ns else { return };
        let sent_ns = if sent > MILLISECONDS_MAX { sent.saturating_mul(1_000) } else { sent.saturating_mul(1_000_000) };
        let arrived_ns = arrived.as_nanos().saturating_add_signed(offset_ns);
        let lag = Duration::from_nanos(arrived_ns.saturating_sub(sent_ns));
        if lag <= self.max {
            self.since = None;
            return;
        }
        self.late += 1;
        if self.since.is_none() {
            self.since = Some(arrived);
            self.latest = Duration::ZERO;
        }
        self.latest = self.latest.max(lag);
    }

    /// Since when every event has been too late, and how late the latest of them was. `None` while they are in time.
    #[must_use]
    pub fn behind(&self) -> Option<(Time, Duration)> {
        self.since.map(|since| (since, self.latest))
    }

    /// Events that were too late, ever.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01, in milliseconds.
    const NEW_YEAR: u64 = 1_767_225_600_000;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_lag_is_the_calendar_less_what_the_venue_says_in_either_unit() {
        let mut lag = Lag::new(Duration::from_millis(100));
        lag.note(at(50), NEW_YEAR - 1_000_000);
        assert_eq!(lag.behind(), None, "nothing is known of the calendar yet");
        lag.set_offset(i64::try_from(NEW_YEAR * 1_000_000).unwrap());
        lag.note(at(150), NEW_YEAR + 50);
        assert_eq!((lag.behind(), lag.late()), (None, 0), "exactly as late as it may be");
        lag.note(at(151), NEW_YEAR + 50);
        lag.note(at(400), (NEW_YEAR + 50) * 1_000);
        assert_eq!(lag.behind(), Some((at(151), Duration::from_millis(350))));
        lag.note(at(401), NEW_YEAR + 400);
        assert_eq!((lag.behind(), lag.late()), (None, 2));
        lag.note(at(402), NEW_YEAR);
        assert_eq!(
            lag.behind(),
            Some((at(402), Duration::from_millis(402))),
            "another time, with a measure of its own"
        );
    }

    #[test]
    fn a_venue_whose_clock_is_ahead_is_not_late() {
        let mut lag = Lag::new(Duration::ZERO);
        lag.set_offset(0);
        lag.note(at(1), NEW_YEAR);
        lag.note(at(1), u64::MAX);
        assert_eq!(lag.behind(), None);
    }
}
