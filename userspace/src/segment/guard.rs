//! The guard: which segments smoltcp may see, and in what shape.
//!
//! It judges by the connection's own numbers, before anything is translated. It sends nothing and changes nothing but
//! its own state; every answer other than "go on" is counted under its own name.

use std::ops::Range;
use std::time::Duration;

use super::TcpCounters;
use crate::floor::{Seq, Time};
use crate::frame::Segment;

/// The shortest time between two challenge ACKs.
///
/// RFC 5961 section 7 asks for a limit and names 10 in 5 seconds; Linux allows one per half second and connection. At 10
/// ms an attacker who guesses the 4-tuple makes us send 100 small packets a second at most, and a peer that really lost
/// its state is answered within one of its retransmission timeouts.
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(10);

/// What is known of the peer's and our own numbers.
#[derive(Debug, Default)]
pub(super) struct Guard {
    established: bool,
    /// The next byte the stream expects.
    pub(super) rcv_nxt: Seq,
    /// The byte behind the furthest one that lies behind a hole. Looked after by [`Guard::forget_filled`]: numbers that are
    /// 2^31 apart cannot be compared.
    furthest: Option<Seq>,
    /// The newest acknowledgement from the peer.
    snd_una: Seq,
    /// The largest window the peer has announced, in bytes: acknowledgements older than that are not plausible.
    max_window: u32,
    /// The window field of the peer's last segment, as it stood on the wire.
    last_window: u16,
    next_challenge: Time,
}

/// What is to be done with a segment. The acknowledgement is the one smoltcp is to see.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    InOrder(Seq),
    Settle(Seq),
    Reset,
    Challenge,
    Drop,
}

impl Guard {
    /// `window` is the peer's in bytes, `scale` the shift it was announced with.
    pub(super) fn establish(&mut self, rcv_nxt: Seq, snd_una: Seq, window: u32, scale: u8) {
        let last_window = u16::try_from(window >> scale).unwrap_or(u16::MAX);
        let max_window = window.max(1 << 16);
        *self = Self { established: true, rcv_nxt, snd_una, max_window, last_window, ..Self::default() };
    }

    pub(super) fn established(&self) -> bool {
        self.established
    }

    pub(super) fn snd_una(&self) -> Seq {
        self.snd_una
    }

    /// Whether something has arrived that something before it is missing for.
    pub(super) fn has_hole(&self) -> bool {
        self.furthest.is_some_and(|furthest| furthest.is_after(self.rcv_nxt))
    }

    /// Forgets the hole if it has been filled. To be called at least once in 2^31 bytes.
    pub(super) fn forget_filled(&mut self) {
        if !self.has_hole() {
            self.furthest = None;
        }
    }

    pub(super) fn last_window(&self) -> u16 {
        self.last_window
    }

    /// Judges a segment of an established connection. `edge` is the first byte the peer may not send.
    #[inline]
    pub(super) fn judge(
        &mut self,
        segment: &Segment,
        snd_nxt: Seq,
        edge: Seq,
        counters: &mut TcpCounters,
    ) -> Judgement {
        let window = Window { start: self.rcv_nxt, end: edge };
        if segment.flags.rst {
            return self.judge_reset(segment, window, counters);
        }
        if segment.flags.syn {
            // RFC 5961 section 4.2: whatever its sequence number.
            counters.syns_challenged += 1;
            return Judgement::Challenge;
        }
        if !segment.flags.ack {
            counters.without_ack += 1;
            return Judgement::Drop;
        }
        // RFC 5961 section 5.2: what acknowledges the unsent, or the long gone, is not from our peer.
        let newer = segment.ack.distance(self.snd_una);
        let long_gone = newer < 0 && newer.unsigned_abs() > self.max_window;
        if segment.ack.is_after(snd_nxt) || long_gone {
            counters.acks_refused += 1;
            return Judgement::Challenge;
        }
        if newer > 0 {
            self.snd_una = segment.ack;
        } else if newer < 0 {
            // Overtaken by a later segment. smoltcp would drop its data, too.
            counters.acks_raised += 1;
        }
        let ack = self.snd_una;
        self.last_window = segment.window;
        if segment.payload.is_empty() {
            counters.segments_empty += 1;
            return Judgement::Settle(ack);
        }
        if (segment.seq + segment.payload.len()).is_after(edge) {
            counters.beyond_window += 1;
            return Judgement::Challenge;
        }
        if segment.seq == self.rcv_nxt && segment.flags.plain() {
            counters.segments_in_order += 1;
            return Judgement::InOrder(ack);
        }
        counters.segments_reassembled += 1;
        if segment.seq.is_after(self.rcv_nxt) {
            let end = segment.seq + segment.payload.len();
            self.furthest = Some(self.furthest.map_or(end, |furthest| furthest.max(end)));
        }
        Judgement::Settle(ack)
    }

    /// RFC 5961 section 3.2.
    fn judge_reset(&self, segment: &Segment, window: Window, counters: &mut TcpCounters) -> Judgement {
        if segment.seq == self.rcv_nxt {
            return Judgement::Reset;
        }
        if window.contains(segment.seq) {
            counters.resets_challenged += 1;
            return Judgement::Challenge;
        }
        counters.resets_outside_window += 1;
        Judgement::Drop
    }

    /// Whether a challenge ACK may be sent now; if so, the next one has to wait.
    pub(super) fn may_challenge(&mut self, now: Time) -> bool {
        let may = now >= self.next_challenge;
        if may {
            self.next_challenge = now + CHALLENGE_INTERVAL;
        }
        may
    }
}

/// The sequence numbers the peer may use.
#[derive(Clone, Copy)]
struct Window {
    start: Seq,
    end: Seq,
}

impl Window {
    fn contains(self, seq: Seq) -> bool {
        let window: Range<i32> = 0..self.end.distance(self.start);
        window.contains(&seq.distance(self.start))
    }
}
