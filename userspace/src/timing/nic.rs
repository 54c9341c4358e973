//! What the NIC says of frames, where its driver is asked: how often it knows something, and what clock its time is of.
//!
//! A NIC's time is shown and not mixed with any other: its clock has an origin and a rate of its own, and nothing here
//! measures them (`PTP_SYS_OFFSET_EXTENDED` would). What can be said without that is which of the machine's clocks it is near,
//! and how fast it goes by the times at which the XDP program had the same frames.

use wiretick_xdp::{Answer, Hints, NicTime};

use crate::floor::counters::counters;
use crate::floor::{SystemClock, Time};

/// A clock that is further from all of the machine's is near none of them.
///
/// A second: whoever has set a NIC's clock by one of them comes within milliseconds; `CLOCK_TAI` and `CLOCK_REALTIME` are 37 s
/// apart where the kernel was told the leap seconds, and the same where not.
const NEAR_NS: u64 = 1_000_000_000;

/// Over less time, the two rates cannot be told from the noise of single frames: some 10 us of them are 10 ppm of a second.
const RATE_OVER_NS: u64 = 1_000_000_000;

counters! {
    /// What became of the questions.
    pub struct NicCounters {
        /// Frames in front of which the program has put the answers.
        frames,
        /// The NIC's time was there.
        time_known,
        /// There was one, and it was zero: the driver had not taken it.
        time_zero,
        /// The driver knows times, and none of this frame.
        time_absent,
        /// The driver knows none, or the kernel has no such question.
        time_unsupported,
        /// The question failed in another way.
        time_failed,
        /// A time was before that of the frame before it.
        time_went_back,
        /// The hash of RSS was there.
        hash_known,
        /// The NIC had taken a VLAN tag off.
        vlan_stripped,
    }
}

/// What the NIC said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nic {
    /// How often what was said.
    pub counters: NicCounters,
    /// The first and the last time that was known, each with the time at which the XDP program had the frame.
    span: Option<((NicTime, Time), (NicTime, Time))>,
}

impl Nic {
    /// A frame, and what the program has put in front of it.
    pub(super) fn note(&mut self, arrived: Time, hints: &Hints) {
        let counters = &mut self.counters;
        counters.frames += 1;
        counters.hash_known += u64::from(hints.hash.known().is_some());
        counters.vlan_stripped += u64::from(hints.vlan.known().is_some());
        let time = match hints.time {
            Answer::Known(time) if !time.is_zero() => time,
            Answer::Known(_) => return counters.time_zero += 1,
            Answer::Absent => return counters.time_absent += 1,
            Answer::Unsupported => return counters.time_unsupported += 1,
            Answer::Failed | Answer::None => return counters.time_failed += 1,
        };
        counters.time_known += 1;
        let now = (time, arrived);
        match &mut self.span {
            None => self.span = Some((now, now)),
            Some((_, last)) => {
                counters.time_went_back += u64::from(time < last.0);
                *last = now;
            }
        }
    }

    /// How far the NIC's clock was ahead of `CLOCK_MONOTONIC` at the last frame, in nanoseconds, the frame's way to the XDP
    /// program not counted.
    #[must_use]
    pub fn ahead_ns(&self) -> Option<i64> {
        let (_, (time, arrived)) = self.span?;
        i64::try_from(i128::from(time.as_nanos()) - i128::from(arrived.as_nanos())).ok()
    }

    /// The machine's clock that the NIC's is near, and how far it is ahead of that one, in nanoseconds; `clocks` says how far
    /// each is ahead of `CLOCK_MONOTONIC` ([`SystemClock::all`]). `None` where the NIC's time is not known, or near none.
    #[must_use]
    pub fn near(&self, clocks: &[(SystemClock, i64)]) -> Option<(SystemClock, i64)> {
        let ahead = self.ahead_ns()?;
        let (clock, offset) = *clocks.iter().min_by_key(|(_, offset)| ahead.abs_diff(*offset))?;
        (ahead.abs_diff(offset) < NEAR_NS).then(|| (clock, ahead - offset))
    }

    /// How much faster than `CLOCK_MONOTONIC` the NIC's clock goes, in millionths; `None` before it was watched for a second.
    #[must_use]
    pub fn fast_ppm(&self) -> Option<f64> {
        let ((first, first_arrived), (last, last_arrived)) = self.span?;
        let passed = last_arrived.as_nanos().saturating_sub(first_arrived.as_nanos());
        let on_nic = i128::from(last.as_nanos()) - i128::from(first.as_nanos());
        (passed >= RATE_OVER_NS).then(|| (on_nic - i128::from(passed)) as f64 / passed as f64 * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use wiretick_xdp::{RssHash, VlanTag};

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// A clock of TAI when the machine has been up for 1,000 s.
    const AHEAD: u64 = 1_790_000_000 * SECOND;

    fn hints(time: Answer<NicTime>) -> Hints {
        Hints { time, ..Hints::default() }
    }

    fn known(ns: u64) -> Hints {
        hints(Answer::Known(NicTime::from_nanos(ns)))
    }

    #[test]
    fn each_answer_is_counted_under_its_own_name() {
        let mut nic = Nic::default();
        let at = Time::from_nanos(1_000 * SECOND);
        for answer in [Answer::Absent, Answer::Unsupported, Answer::Failed, Answer::None] {
            nic.note(at, &hints(answer));
        }
        nic.note(at, &known(0));
        assert_eq!((nic.ahead_ns(), nic.fast_ppm()), (None, None), "no time was known yet");
        nic.note(at, &known(AHEAD));
        nic.note(at, &known(AHEAD - 1));
        let tag = VlanTag { protocol: 0x8100, tci: 7 };
        let rest = Hints {
            time: Answer::Absent,
            hash: Answer::Known(RssHash { value: 1, kind: 0 }),
            vlan: Answer::Known(tag),
        };
        nic.note(at, &rest);
        let expected = NicCounters {
            frames: 8,
            time_known: 2,
            time_zero: 1,
            time_absent: 2,
            time_unsupported: 1,
            time_failed: 2,
            time_went_back: 1,
            hash_known: 1,
            vlan_stripped: 1,
        };
        assert_eq!(nic.counters, expected);
    }

    #[test]
    fn a_clock_is_told_by_the_one_it_is_near() {
        let offset = |ns: u64| i64::try_from(ns).unwrap();
        let tai = offset(AHEAD);
        let clocks = [
            (SystemClock::Monotonic, 0),
            (SystemClock::Boottime, offset(3_600 * SECOND)),
            (SystemClock::Realtime, tai - offset(37 * SECOND)),
            (SystemClock::Tai, tai),
        ];
        let seen_at = |nic_ns: u64| {
            let mut nic = Nic::default();
            nic.note(Time::from_nanos(1_000 * SECOND), &known(nic_ns));
            nic.near(&clocks)
        };
        assert_eq!(seen_at(1_000 * SECOND + AHEAD + 250), Some((SystemClock::Tai, 250)));
        assert_eq!(seen_at(1_000 * SECOND + AHEAD - 37 * SECOND - 9), Some((SystemClock::Realtime, -9)));
        assert_eq!(seen_at(1_000 * SECOND - 700), Some((SystemClock::Monotonic, -700)));
        // A clock that was started when the driver was loaded.
        assert_eq!(seen_at(12 * SECOND), None);
        assert_eq!(Nic::default().near(&clocks), None);
    }

    #[test]
    fn its_rate_shows_after_a_second() {
        let mut nic = Nic::default();
        nic.note(Time::from_nanos(0), &known(AHEAD));
        nic.note(Time::from_nanos(SECOND / 2), &known(AHEAD + SECOND / 2 + 10_000));
        assert_eq!(nic.fast_ppm(), None);
        nic.note(Time::from_nanos(2 * SECOND), &known(AHEAD + 2 * SECOND + 40_000));
        assert!((nic.fast_ppm().unwrap() - 20.0).abs() < 1e-6);
        nic.note(Time::from_nanos(4 * SECOND), &known(AHEAD + 4 * SECOND - 40_000));
        assert!((nic.fast_ppm().unwrap() + 10.0).abs() < 1e-6);
    }
}
