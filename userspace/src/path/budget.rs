//! How many messages a venue takes from a client in a second, and what of ours can wait: answers to pings, and
//! subscriptions.
//!
//! Binance, for one, ends a connection that sends more than 5 messages in a second, pings and pongs among them. What the
//! caller sends is counted and never held up: whether an order goes out now is not for us to decide.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::floor::Time;

/// A second, and a tenth for what the network makes of it: messages that left a second apart can arrive closer together.
const WINDOW: Duration = Duration::from_millis(1100);

/// The longest payload of a ping (RFC 6455 section 5.5).
const PING_MAX: usize = 125;

/// When the last messages were sent.
#[derive(Debug)]
pub(super) struct Budget {
    /// Most messages in [`WINDOW`]; `None`: any number.
    max: Option<usize>,
    /// The last `max` times, oldest first. Has room for one more from the start.
    sent: VecDeque<Time>,
}

impl Budget {
    pub(super) fn new(per_second: Option<NonZeroU32>) -> Self {
        let max = per_second.map(|max| max.get() as usize);
        Self { max, sent: VecDeque::with_capacity(max.map_or(0, |max| max + 1)) }
    }

    /// A message was sent.
    #[inline]
    pub(super) fn note(&mut self, now: Time) {
        let Some(max) = self.max else { return };
        self.sent.push_back(now);
        if self.sent.len() > max {
            self.sent.pop_front();
        }
    }

    /// Whether one more message may be sent.
    pub(super) fn allows(&self, now: Time) -> bool {
        now >= self.ready_at()
    }

    /// When one more message may be sent.
    pub(super) fn ready_at(&self) -> Time {
        match (self.max, self.sent.front()) {
            (Some(max), Some(oldest)) if self.sent.len() == max => *oldest + WINDOW,
            _ => Time::ZERO,
        }
    }
}

/// What waits for the budget.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The answer to the last ping. One answer does for all pings before it (RFC 6455 section 5.5.3).
    pong: Option<([u8; PING_MAX], usize)>,
    /// Text messages for the beginning. They can hold a key to an account: what has been sent is wiped.
    pub(super) subscriptions: VecDeque<Zeroizing<String>>,
}

impl Waiting {
    /// These subscriptions wait, and nothing else.
    pub(super) fn of(subscriptions: &[String]) -> Self {
        Self { pong: None, subscriptions: subscriptions.iter().cloned().map(Zeroizing::new).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pong.is_none() && self.subscriptions.is_empty()
    }

    /// Puts the answer to a ping off; answers whether it takes the place of another.
    pub(super) fn put_off(&mut self, payload: &[u8]) -> bool {
        let mut kept = [0; PING_MAX];
        let len = payload.len().min(PING_MAX);
        kept[..len].copy_from_slice(&payload[..len]);
        self.pong.replace((kept, len)).is_some()
    }

    /// The payload of the pong that is due, taken out.
    pub(super) fn take_pong(&mut self) -> Option<([u8; PING_MAX], usize)> {
        self.pong.take()
    }

    /// Nothing can be sent any more.
    pub(super) fn clear(&mut self) {
        self.pong = None;
        self.subscriptions.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn no_window_ever_holds_more_than_the_budget() {
        let mut budget = Budget::new(NonZeroU32::new(5));
        let mut sent = Vec::new();
        for ms in (0..10_000).step_by(7) {
            if budget.allows(at(ms)) {
                budget.note(at(ms));
                sent.push(ms);
            }
        }
        for (i, &first) in sent.iter().enumerate() {
            assert!(sent[i..].iter().filter(|ms| **ms < first + 1100).count() <= 5);
        }
        assert!(sent.len() >= 5 * 9, "and no less than it allows: {}", sent.len());
    }

    #[test]
    fn what_the_caller_sends_counts_even_beyond_the_budget() {
        let mut budget = Budget::new(NonZeroU32::new(2));
        for ms in [0, 1, 2, 3] {
            budget.note(at(ms));
        }
        assert!(!budget.allows(at(1101)), "of the last two, one was sent at 2 ms");
        assert_eq!(budget.ready_at(), at(1102));
        assert!(budget.allows(at(1102)));
    }

    #[test]
    fn without_a_budget_nothing_waits_and_nothing_is_remembered() {
        let mut budget = Budget::new(None);
        (0..100).for_each(|_| budget.note(at(0)));
        assert!(budget.allows(at(0)) && budget.sent.is_empty());
    }

    #[test]
    fn the_last_ping_is_the_one_that_is_answered() {
        let mut waiting = Waiting::default();
        assert!(!waiting.put_off(b"one"));
        assert!(waiting.put_off(b"three"));
        let (payload, len) = waiting.take_pong().unwrap();
        assert_eq!(&payload[..len], b"three");
        assert!(waiting.is_empty());
    }
}
