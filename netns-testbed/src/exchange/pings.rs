//! Pings the exchange sends, and whether the right pongs come back.
//!
//! What comes in are moments and the payloads of pongs; what goes out are payloads to send, no two alike, and counts.
//! RFC 6455 section 5.5.3 lets a client answer only the latest of several pings, so a pong also settles the pings before
//! its own: those count as overtaken, not as missing.

use std::collections::VecDeque;
use std::time::Duration;

use wiretick_impair::random::Random;

/// What became of the pings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingCounts {
    /// Sent.
    pub sent: u64,
    /// Answered with their own payload.
    pub answered: u64,
    /// Not answered, but a later one was.
    pub overtaken: u64,
    /// Pongs whose payload is that of no ping that was waiting. An unsolicited pong is allowed; one that pretends to be an
    /// answer is a fault, and the two look the same.
    pub strange: u64,
    /// Neither answered nor overtaken when the connection ended.
    pub missing: u64,
}

/// One connection's pings.
#[derive(Debug)]
pub(super) struct Pings {
    interval: Option<Duration>,
    next_ns: u64,
    waiting: VecDeque<Vec<u8>>,
    random: Random,
    pub(super) counts: PingCounts,
}

impl Pings {
    /// Pings every `interval`, the first one interval from now; none, if there is no interval.
    pub(super) fn new(interval: Option<Duration>, seed: u64, now_ns: u64) -> Self {
        let mut pings = Self {
            interval,
            next_ns: u64::MAX,
            waiting: VecDeque::new(),
            random: Random::new(seed),
            counts: PingCounts::default(),
        };
        pings.restart(now_ns);
        pings
    }

    /// The payload of a ping that is due now.
    pub(super) fn due(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        if now_ns < self.next_ns {
            return None;
        }
        self.restart(now_ns);
        Some(self.next_payload())
    }

    /// The payload of a ping that is sent out of turn.
    pub(super) fn next_payload(&mut self) -> Vec<u8> {
        self.counts.sent += 1;
        let mut payload = format!("{}-{:016x}", self.counts.sent, self.random.next()).into_bytes();
        // Lengths vary, up to the 125 bytes a control frame may carry.
        let length = self.random.between(payload.len() as u64, 125) as usize;
        payload.resize_with(length, || b'a' + self.random.below(26) as u8);
        self.waiting.push_back(payload.clone());
        payload
    }

    /// Takes in a pong.
    pub(super) fn answered(&mut self, payload: &[u8]) {
        match self.waiting.iter().position(|waiting| waiting == payload) {
            Some(at) => {
                self.counts.answered += 1;
                self.counts.overtaken += at as u64;
                self.waiting.drain(..=at);
            }
            None => self.counts.strange += 1,
        }
    }

    /// Whether an answer is still awaited.
    pub(super) fn are_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Gives up on what has not been answered.
    pub(super) fn give_up(&mut self) {
        self.counts.missing += self.waiting.len() as u64;
        self.waiting.clear();
    }

    fn restart(&mut self, now_ns: u64) {
        if let Some(interval) = self.interval {
            self.next_ns = now_ns.saturating_add(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ping_has_a_payload_of_its_own_that_fits_a_control_frame() {
        let mut pings = Pings::new(None, 1, 0);
        let payloads: std::collections::BTreeSet<Vec<u8>> = (0..500).map(|_| pings.next_payload()).collect();
        assert_eq!(payloads.len(), 500);
        assert!(payloads.iter().all(|payload| (18..=125).contains(&payload.len())));
        assert!(payloads.iter().any(|payload| payload.len() == 125));
    }

    #[test]
    fn pings_are_due_once_an_interval() {
        let mut pings = Pings::new(Some(Duration::from_nanos(100)), 1, 1000);
        let due: Vec<u64> = (1000..1350).filter(|now| pings.due(*now).is_some()).collect();
        assert_eq!(due, [1100, 1200, 1300]);
        assert!(Pings::new(None, 1, 0).due(u64::MAX - 1).is_none());
    }

    #[test]
    fn each_pong_is_told_from_the_others() {
        let mut pings = Pings::new(None, 1, 0);
        let sent: Vec<Vec<u8>> = (0..5).map(|_| pings.next_payload()).collect();
        pings.answered(&sent[0]);
        pings.answered(&sent[0]);
        pings.answered(b"");
        pings.answered(&sent[3]);
        assert!(pings.are_waiting());
        pings.give_up();
        assert!(!pings.are_waiting());
        assert_eq!(pings.counts, PingCounts { sent: 5, answered: 2, overtaken: 2, strange: 2, missing: 1 });
    }
}
