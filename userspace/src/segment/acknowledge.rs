//! When to acknowledge.
//!
//! An acknowledgement costs a packet, and in copy mode a system call, during which the next message waits; a missing
//! one stops a sender whose congestion window is small. So: at once where the peer is missing something; otherwise with
//! a segment, right after its messages have been handled and not at some moment between two of them, once a short while
//! has passed since the last one or a few segments have come; and by the clock only for what nothing follows. RFC 9293
//! section 3.8.6.3 asks for at least every second full-sized segment and for less than half a second.

use std::time::Duration;

use crate::floor::Time;

/// Unacknowledged segments of any size that are enough for an acknowledgement.
///
/// Eight: a sender that was idle starts with a window of 10 segments (RFC 6928) and counts segments, not bytes: exchanges
/// send one small segment a message, so with 10 or more here it would stop and wait for `DELAY` in every burst. Fewer
/// would send more packets than the stream is worth: in copy mode over a veth, a wake-up to transmit takes 20 us, because
/// the kernel runs the peer's half of TCP in it.
const SEGMENTS: u32 = 8;

/// How long an acknowledgement may wait for company, and how soon after the last one the next may follow.
///
/// 500 us: far below any retransmission timeout (200 ms at least on Linux), and long enough that a feed of thousands of
/// messages a second is acknowledged by count, not by time.
const DELAY: Duration = Duration::from_micros(500);

#[derive(Debug)]
pub(super) struct Acknowledgement {
    segments: u32,
    bytes: usize,
    due: Time,
    /// When the last one left.
    last: Time,
}

impl Default for Acknowledgement {
    fn default() -> Self {
        Self { segments: 0, bytes: 0, due: Time::NEVER, last: Time::ZERO }
    }
}

impl Acknowledgement {
    /// `bytes` of data have arrived in order.
    #[inline]
    pub(super) fn note(&mut self, now: Time, bytes: usize, mss: usize) {
        self.segments += 1;
        self.bytes += bytes;
        if self.segments >= SEGMENTS || self.bytes >= 2 * mss || now.since(self.last) >= DELAY {
            self.due = now;
        } else if self.due == Time::NEVER {
            self.due = now + DELAY;
        }
    }

    /// Something happened that the peer should know without delay.
    pub(super) fn at_once(&mut self, now: Time) {
        self.due = now;
    }

    /// When the next acknowledgement has to leave.
    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// An acknowledgement has left.
    pub(super) fn sent(&mut self, now: Time) {
        *self = Self { last: now, ..Self::default() };
    }
}
