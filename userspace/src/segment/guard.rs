//! The guard: which segments smoltcp may see, and in what shape.
//!
//! It judges by the connection's own numbers, before anything is translated. It sends nothing and changes nothing but
//! its own state; every answer other than "go on" is counted under its own name.

use std::ops::Range;
use std::time::Duration;

use super::TcpCounters;
use super::paws::Clocks;
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
    /// The peer's FIN, which takes a sequence number, has been received.
    pub(super) ended: bool,
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
    /// To be answered with an acknowledgement, as often as the limit allows.
    Challenge,
    /// To be answered with an acknowledgement, at once and always: the peer goes on sending it until it has one.
    Answer,
    Drop,
}

/// What the guard has to know of what we have sent, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ours<'a> {
    pub(super) now: Time,
    pub(super) snd_nxt: Seq,
    /// The first byte the peer may not send.
    pub(super) edge: Seq,
    /// The last acknowledgement that left.
    pub(super) acknowledged: Option<Seq>,
    pub(super) clocks: Option<&'a Clocks>,
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

    pub(super) fn last_window(&self) -> u16 {
        self.last_window
    }

    /// Judges a segment of an established connection.
    #[inline]
    pub(super) fn judge(&mut self, segment: &Segment, ours: Ours<'_>, counters: &mut TcpCounters) -> Judgement {
        if segment.flags.rst {
            return self.judge_reset(segment, ours.edge, counters);
        }
        if let (Some(clocks), Some((tsval, _))) = (ours.clocks, segment.timestamps)
            && clocks.refuses(tsval, ours.now)
        {
            return self.judge_outdated(segment, counters);
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
        if (segment.seq != self.rcv_nxt || self.ended)
            && let Some(judgement) = self.judge_place(segment, ours, counters)
        {
            return judgement;
        }
        // RFC 5961 section 5.2: what acknowledges the unsent, or the long gone, is not from our peer.
        let newer = segment.ack.distance(self.snd_una);
        let long_gone = newer < 0 && newer.unsigned_abs() > self.max_window;
        if segment.ack.is_after(ours.snd_nxt) || long_gone {
            counters.acks_refused += 1;
            return Judgement::Challenge;
        }
        if !segment.payload.is_empty() && (segment.seq + segment.payload.len()).is_after(ours.edge) {
            counters.beyond_window += 1;
            return Judgement::Challenge;
        }
        if newer < 0 {
            // Overtaken by a later segment, whose window counts. smoltcp would drop its data, too.
            counters.acks_raised += 1;
        } else {
            self.snd_una = segment.ack;
            self.last_window = segment.window;
        }
        let ack = self.snd_una;
        if segment.payload.is_empty() {
            counters.segments_empty += 1;
            return Judgement::Settle(ack);
        }
        if segment.seq == self.rcv_nxt && segment.flags.plain() {
            counters.segments_in_order += 1;
            return Judgement::InOrder(ack);
        }
        counters.segments_reassembled += 1;
        Judgement::Settle(ack)
    }

    /// A segment from before the peer's last timestamp (RFC 7323 section 5.3).
    #[cold]
    fn judge_outdated(&self, segment: &Segment, counters: &mut TcpCounters) -> Judgement {
        counters.outdated += 1;
        if segment.sequence_len() > 0 {
            Judgement::Answer
        } else if segment.ack.is_after(self.snd_una) {
            Judgement::Challenge
        } else {
            // An acknowledgement that was overtaken: nobody waits for an answer (Linux: `tcp_disordered_ack`).
            Judgement::Drop
        }
    }

    /// A segment that is not where the stream goes on: `Some` where it is not acceptable (RFC 9293 section 3.10.7.4), and
    /// then its acknowledgement is not believed either.
    fn judge_place(&self, segment: &Segment, ours: Ours<'_>, counters: &mut TcpCounters) -> Option<Judgement> {
        let next = self.rcv_nxt + usize::from(self.ended);
        let len = segment.sequence_len();
        if len > 0 {
            if !(segment.seq + len).is_after(next) {
                // Ours was lost, or the peer was in a hurry.
                counters.segments_duplicate += 1;
                return Some(Judgement::Answer);
            }
            if self.ended {
                counters.after_end += 1;
                return Some(Judgement::Drop);
            }
            return None;
        }
        if segment.seq.is_after(ours.edge) {
            counters.beyond_window += 1;
            return Some(Judgement::Challenge);
        }
        // Overtaken by the data behind it, which we have not acknowledged yet, it is good. What begins before that is a
        // keep-alive or a window probe (RFC 9293 sections 3.8.4 and 3.8.6.1).
        if ours.acknowledged.unwrap_or(next).is_after(segment.seq) {
            counters.probes_answered += 1;
            return Some(Judgement::Challenge);
        }
        None
    }

    /// RFC 5961 section 3.2.
    #[cold]
    fn judge_reset(&self, segment: &Segment, edge: Seq, counters: &mut TcpCounters) -> Judgement {
        let window = Window { start: self.rcv_nxt + usize::from(self.ended), end: edge };
        if segment.seq == window.start {
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
