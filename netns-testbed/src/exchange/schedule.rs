//! When each message is due.
//!
//! What comes in is a [`Pace`] and a message's number or recorded time; what goes out is a moment. The moments are
//! computed from the start of the stream, never from the message before, so a message sent late makes no other late.

use std::num::NonZeroU64;

/// How fast messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many messages a second, evenly: message `i` is due `i / rate` after the first.
    Rate(NonZeroU64),
    /// At the times at which they were recorded, this many times as fast. Only a recording with arrival times has them.
    Recorded {
        /// 1 is as recorded, 2 is twice as fast.
        speed: f64,
    },
    /// As fast as the socket takes them. Records are gathered until 64 KiB of messages go down in one system call; a stamp
    /// is taken when its record is sealed.
    Saturate,
}

/// The schedule of one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pace: Pace,
    start_ns: u64,
    sent: u64,
}

impl Schedule {
    /// A stream whose first message is due now.
    pub(super) const fn new(pace: Pace, now_ns: u64) -> Self {
        Self { pace, start_ns: now_ns, sent: 0 }
    }

    /// When the next message is due; `recorded_ns` is how long after the recording's first message it arrived. `None`: at
    /// once.
    pub(super) fn due_ns(&self, recorded_ns: u64) -> Option<u64> {
        let after_start = match self.pace {
            Pace::Saturate => return None,
            // 128 bits: at 64, message 18,446,744,074 would overflow.
            Pace::Rate(rate) => (u128::from(self.sent) * 1_000_000_000 / u128::from(rate.get())) as u64,
            Pace::Recorded { speed } => (recorded_ns as f64 / speed) as u64,
        };
        Some(self.start_ns.saturating_add(after_start))
    }

    /// Counts messages as sent.
    pub(super) const fn advance(&mut self, messages: u64) {
        self.sent += messages;
    }
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_does_not_drift() {
        // A third of a second has no exact number of nanoseconds.
        let mut schedule = Schedule::new(Pace::Rate(NonZeroU64::new(3).unwrap()), 1000);
        let mut due = Vec::new();
        for _ in 0..4 {
            due.push(schedule.due_ns(0).unwrap());
            schedule.advance(1);
        }
        assert_eq!(due, [1000, 333_334_333, 666_667_666, 1_000_001_000]);
        // Ten years later, at the same three a second.
        schedule.advance(3 * 315_360_000 - 4);
        assert_eq!(schedule.due_ns(0), Some(315_360_000_000_001_000));
    }

    #[test]
    fn a_recording_keeps_its_gaps_or_shrinks_them() {
        let at = |speed, recorded| Schedule::new(Pace::Recorded { speed }, 500).due_ns(recorded);
        assert_eq!(at(1.0, 0), Some(500));
        assert_eq!(at(1.0, 650_598_006_465), Some(650_598_006_965));
        assert_eq!(at(4.0, 1000), Some(750));
        assert_eq!(Schedule::new(Pace::Saturate, 500).due_ns(0), None);
    }
}
