//! Protection against wrapped sequence numbers (RFC 7323 section 5), which smoltcp has not: what is older than the
//! peer's last timestamp is from an earlier turn of the sequence numbers, or was on its way for long.

use std::time::Duration;

use crate::floor::{Seq, TcpTimestamps, Time};

/// When the peer's last timestamp is too old to say anything (RFC 7323 section 5.5): a clock of one tick per millisecond
/// takes 24.8 days to half its range.
const OUTDATED: Duration = Duration::from_secs(24 * 24 * 3600);

/// Both timestamp clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub(super) ours: TcpTimestamps,
    /// When the peer's was last heard, once it was. Before that the last timestamp is one to echo and no more.
    heard: Option<Time>,
}

impl Clocks {
    /// The peer's last timestamp in `ours` is from another place in the stream than where it goes on: that of a lease comes
    /// with the answer to a probe, and data that was sent before the answer is still to be read.
    pub(super) fn unheard(ours: TcpTimestamps) -> Self {
        Self { ours, heard: None }
    }

    /// The peer's last timestamp in `ours` was heard at `now`.
    pub(super) fn heard(ours: TcpTimestamps, now: Time) -> Self {
        Self { ours, heard: Some(now) }
    }

    /// Whether a segment with this timestamp is to be refused.
    #[inline]
    pub(super) fn refuses(&self, tsval: u32, now: Time) -> bool {
        tsval.wrapping_sub(self.ours.recent).cast_signed() < 0 && self.is_sure(now)
    }

    #[cold]
    fn is_sure(&self, now: Time) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < OUTDATED)
    }

    /// A segment that was not refused begins at `seq`; `acknowledged` is the last acknowledgement that left.
    #[inline]
    pub(super) fn hear(&mut self, tsval: u32, seq: Seq, acknowledged: Seq, now: Time) {
        // RFC 7323 section 4.3: only from segments that do not lie beyond what we acknowledged, and never backwards.
        if !seq.is_after(acknowledged) && !self.refuses(tsval, now) {
            self.ours.recent = tsval;
            self.heard = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(recent: u32) -> Clocks {
        let ours = TcpTimestamps { tsval: 0, read_at: Time::ZERO, tick_ns: 1_000_000, recent };
        Clocks::heard(ours, Time::ZERO)
    }

    #[test]
    fn older_is_refused_also_across_the_wrap() {
        assert!(clocks(300).refuses(299, Time::ZERO));
        assert!(!clocks(300).refuses(300, Time::ZERO));
        assert!(clocks(5).refuses(u32::MAX - 5, Time::ZERO));
        assert!(!clocks(u32::MAX - 5).refuses(5, Time::ZERO));
    }

    #[test]
    fn after_24_days_of_silence_any_timestamp_will_do_and_counts_from_then_on() {
        let mut clocks = clocks(300);
        let day = Duration::from_secs(24 * 3600);
        assert!(clocks.refuses(299, Time::ZERO + 23 * day));
        let late = Time::ZERO + 24 * day;
        assert!(!clocks.refuses(299, late));
        clocks.hear(7, Seq(1), Seq(1), late);
        assert_eq!(clocks.ours.recent, 7);
        assert!(clocks.refuses(6, late));
    }

    #[test]
    fn a_timestamp_that_was_not_heard_in_its_place_refuses_nothing() {
        let mut clocks = Clocks::unheard(clocks(0xf000_0000).ours);
        assert!(!clocks.refuses(0xefff_ffff, Time::ZERO));
        clocks.hear(0xefff_fffe, Seq(1), Seq(1), Time::ZERO);
        assert!(clocks.refuses(0xefff_fffd, Time::ZERO));
    }

    #[test]
    fn a_segment_beyond_what_was_acknowledged_sets_no_timestamp() {
        let mut clocks = clocks(300);
        clocks.hear(400, Seq(11), Seq(10), Time::ZERO);
        assert_eq!(clocks.ours.recent, 300);
    }
}
