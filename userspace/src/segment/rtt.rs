//! How long the peer takes to answer (RFC 6298), and what follows for when to send again.
//!
//! Samples are taken from segments that left once (Karn's algorithm), by our own clock, in nanoseconds: the peer's
//! timestamps tick in milliseconds, which is ten round trips of a short path. A sample holds the peer's delay of its
//! acknowledgement too, so two things are kept: the least of late, which is the path, and the smoothed one with its
//! variation, which is the path and the peer's habits.

use std::time::Duration;

use crate::floor::Time;
use crate::floor::lease::RoundTrip;

/// What a peer and both schedulers may take, beyond the round trip, to send an acknowledgement at once.
///
/// 1 ms: an interrupt that is held back, a softirq that waits for its turn. Lower, and on a path of 100 us a hiccup of the
/// peer's makes a segment leave twice; higher, and a path of 1 ms is recovered in more than two round trips.
const MARGIN: Duration = Duration::from_millis(1);

/// How long the peer may hold an acknowledgement back, hoping for something to send it with.
///
/// 50 ms: Linux' 40 (`TCP_DELACK_MIN`; it waits longer only where the round trip is longer, which doubling the round trip
/// covers), and a tick of a kernel with 100 of them a second. RFC 8985 section 7.2 would wait 200 ms for peers that nothing
/// is known of. For one that does take longer, [`RoundTrips::needless`] finds it out with the first segment that was sent
/// twice for nothing.
const ACK_DELAY: Duration = Duration::from_millis(50);

/// When nothing is known (RFC 6298 section 2.1).
const UNKNOWN: Duration = Duration::from_secs(1);

/// How long the least round trip stays the least: paths change.
const LEAST_FOR: Duration = Duration::from_secs(60);

/// How often waiting may have been doubled because of segments sent twice for nothing.
const PATIENCE_MAX: u32 = 3;
/// Round trips without such a segment until that is forgotten by one.
const CALM: u32 = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrips {
    smoothed: Option<RoundTrip>,
    /// Of this stretch of time and of the one before it.
    least: [Duration; 2],
    since: Time,
    patience: u32,
    calm: u32,
}

impl Default for RoundTrips {
    fn default() -> Self {
        Self { smoothed: None, least: [UNKNOWN; 2], since: Time::ZERO, patience: 0, calm: 0 }
    }
}

impl RoundTrips {
    /// Starts from what the kernel has measured.
    pub(super) fn from_lease(known: Option<RoundTrip>, now: Time) -> Self {
        let least = known.map_or(UNKNOWN, |known| known.smoothed);
        Self { smoothed: known, least: [least; 2], since: now, ..Self::default() }
    }

    /// A segment that left once was acknowledged after `took`.
    pub(super) fn sample(&mut self, took: Duration, now: Time) {
        // RFC 6298 sections 2.2 and 2.3.
        self.smoothed = Some(match self.smoothed {
            None => RoundTrip { smoothed: took, variation: took / 2 },
            Some(RoundTrip { smoothed, variation }) => RoundTrip {
                smoothed: (7 * smoothed + took) / 8,
                variation: (3 * variation + smoothed.abs_diff(took)) / 4,
            },
        });
        if now.since(self.since) > LEAST_FOR {
            self.least = [took, self.least[0]];
            self.since = now;
        }
        self.least[0] = self.least[0].min(took);
        self.calm += 1;
        if self.calm >= CALM {
            self.calm = 0;
            self.patience = self.patience.saturating_sub(1);
        }
    }

    /// The peer says that it had what was sent again.
    pub(super) fn needless(&mut self) {
        self.calm = 0;
        self.patience = (self.patience + 1).min(PATIENCE_MAX);
    }

    fn least(&self) -> Duration {
        self.least[0].min(self.least[1])
    }

    /// When a segment has been on its way this long and the peer sends something that does not acknowledge it, it is lost:
    /// whatever the peer sends acknowledges what it has, so no delay of acknowledgements comes in. Twice the path, or twice
    /// what it has just taken, `at_least`.
    pub(super) fn heard_nothing_of_it(&self, at_least: Duration) -> Duration {
        doubled(2 * self.least().max(at_least) + MARGIN, self.patience)
    }

    /// When a later segment has arrived, how long this one may have been overtaken (RFC 8985 section 6.2: a quarter of
    /// the round trip).
    pub(super) fn overtaken(&self) -> Duration {
        doubled(self.least() + self.least() / 4 + MARGIN, self.patience)
    }

    /// When nothing at all comes from the peer, how long to wait (RFC 8985 section 7.2).
    pub(super) fn silence(&self) -> Duration {
        let Some(RoundTrip { smoothed, variation }) = self.smoothed else { return UNKNOWN };
        doubled(smoothed + smoothed.max(4 * variation) + ACK_DELAY, self.patience)
    }
}

/// A wait that has been doubled so many times.
pub(super) fn doubled(wait: Duration, times: u32) -> Duration {
    wait.saturating_mul(1 << times.min(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waiting_follows_the_path_and_the_peers_habits() {
        let mut round_trips = RoundTrips::default();
        assert_eq!(
            (round_trips.silence(), round_trips.heard_nothing_of_it(Duration::ZERO)),
            (UNKNOWN, 2 * UNKNOWN + MARGIN)
        );
        let mut now = Time::ZERO;
        for i in 0..200u32 {
            now = now + 100 * MS;
            // Every fourth acknowledgement is delayed by 40 ms.
            round_trips.sample(if i % 4 == 0 { 50 * MS } else { 10 * MS }, now);
        }
        assert_eq!(round_trips.heard_nothing_of_it(Duration::ZERO), 21 * MS);
        assert!(round_trips.silence() > 50 * MS + 2 * 10 * MS, "{:?}", round_trips.silence());
        assert!(round_trips.silence() < 250 * MS, "{:?}", round_trips.silence());
    }

    #[test]
    fn a_path_that_has_become_longer_is_believed_after_a_while() {
        let mut round_trips = RoundTrips::default();
        let mut now = Time::ZERO;
        for i in 0..2000u32 {
            now = now + 100 * MS;
            round_trips.sample(if i < 10 { MS } else { 30 * MS }, now);
        }
        assert_eq!(round_trips.least(), 30 * MS);
    }

    #[test]
    fn what_was_sent_for_nothing_makes_patient_for_a_while() {
        let known = RoundTrip { smoothed: 10 * MS, variation: MS };
        let mut round_trips = RoundTrips::from_lease(Some(known), Time::ZERO);
        assert_eq!(round_trips.silence(), 70 * MS);
        for _ in 0..10 {
            round_trips.needless();
        }
        assert_eq!(round_trips.silence(), 560 * MS);
        assert_eq!(round_trips.overtaken(), Duration::from_micros(13_500) * 8);
        for _ in 0..3 * CALM {
            round_trips.sample(10 * MS, Time::ZERO);
        }
        assert!(round_trips.silence() <= 70 * MS);
    }
}
