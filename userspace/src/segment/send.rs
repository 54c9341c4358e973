//! What a [`Tcp`] sends, sends again, and hears about what it sent.

use smoltcp::socket::tcp::State;

use super::rtt::RoundTrips;
use super::{Tcp, interface, sack};
use crate::floor::{Seq, Time};
use crate::frame::Segment;
use crate::ring::{Ring, TxFrame};

/// The smallest packets that a router may ask for: over IPv4 what every host takes (RFC 791; Linux stops at 552), over IPv6
/// what every link carries (RFC 8201 section 4). Less is asked for by nobody who means well.
const MTU_MIN: [u16; 2] = [576, 1280];

/// Segments sent again in one turn.
///
/// 10: the initial window of RFC 6928. More at once is a burst that may be lost like the first; the next turn goes on.
const RESEND_MAX: usize = 10;

impl Tcp {
    /// Takes bytes to send; answers how many it took. They leave at once, as far as the peer's window goes.
    pub fn send<R: Ring>(&mut self, now: Time, bytes: &[u8], ring: &mut R) -> usize {
        if self.outbound.is_ahead() {
            self.egress(now, ring);
        }
        let taken = self.smoltcp_mut().send_slice(bytes).unwrap_or(0);
        self.queued = self.queued + taken;
        self.outbound.kept.push(&bytes[..taken]);
        self.egress(now, ring);
        taken
    }

    /// Where the payload of the next segment begins in its frame, and how many bytes it may have; `None` while the
    /// connection is not open.
    #[must_use]
    pub fn payload_place(&self) -> Option<(usize, usize)> {
        let is_open = self.guard.established() && self.outbound.payload_max > 0;
        is_open.then(|| (self.outbound.payload_start(), self.outbound.payload_max))
    }

    /// Whether `len` bytes may leave at once, as a segment of their own: nothing waits to be sent before them, and the
    /// peer's window has room.
    #[must_use]
    pub fn may_send_direct(&self, len: usize) -> bool {
        let smoltcp = self.smoltcp();
        let unacknowledged = i64::from(self.outbound.snd_nxt.distance(self.guard.snd_una()));
        let window = i64::from(self.guard.last_window()) << self.outbound.shift_peer;
        smoltcp.state() == State::Established
            && self.queued == self.outbound.snd_nxt
            && len <= self.outbound.payload_max
            && smoltcp.send_capacity() - smoltcp.send_queue() >= len
            && unacknowledged + len as i64 <= window
    }

    /// Sends `len` bytes that stand in `frame` at [`Tcp::payload_place`] as one segment, ahead of smoltcp: the descriptor
    /// is written first, and smoltcp is told at the next [`Tcp::turn`]. From then on the bytes are smoltcp's to send again.
    ///
    /// Ask [`Tcp::may_send_direct`] first.
    pub fn send_direct<R: Ring>(&mut self, now: Time, mut frame: TxFrame, len: usize, ring: &mut R) {
        debug_assert!(self.may_send_direct(len));
        let start = self.outbound.payload_start();
        // What may have to be sent again, for smoltcp and for us: smoltcp does not show what it has.
        let bytes = &frame.bytes_mut()[start..start + len];
        let kept = self.smoltcp_mut().send_slice(bytes);
        debug_assert_eq!(kept, Ok(len));
        self.outbound.kept.push(bytes);
        self.queued = self.queued + len;
        // What has been lent upwards is acknowledged with it. smoltcp gets it next, and has no reason to refuse it: the
        // guard has found it in order and inside the window.
        self.outbound.send_direct(&self.tuple, now, self.guard.rcv_nxt, (frame, len), ring);
        self.acknowledgement.sent(now);
        self.counters.segments_direct += 1;
        self.timer = now;
    }

    /// A router says that the packet with the segment at `seq` was larger than the `mtu` bytes of its next link. Answers
    /// whether that is believed: only of a segment that is on its way (RFC 5927 section 7.1), and only where it makes
    /// packets smaller. What was too large is sent again at once, in pieces.
    pub fn too_big(&mut self, now: Time, seq: Seq, mtu: u16) -> bool {
        let ipv6 = self.tuple.local.is_ipv6();
        let least = MTU_MIN[usize::from(ipv6)];
        // RFC 8201 has smaller ones ignored. IPv4's old routers say 0 (RFC 1191 section 5).
        let mtu = if ipv6 { mtu } else { mtu.max(least) };
        let believed = self.outbound.flights.has(seq) && (least..self.outbound.mtu()).contains(&mtu);
        if !believed {
            self.counters.too_big_refused += 1;
            return false;
        }
        self.counters.mtu_lowered += 1;
        self.outbound.set_mtu(mtu);
        // smoltcp's interface keeps the size it was made with; its sockets live outside of it.
        self.interface = interface(self.tuple, &mut self.outbound, 0, now);
        self.outbound.flights.lose_longer_than(self.outbound.payload_max, now);
        true
    }

    /// Whether something was sent again since this was last asked: the path may have changed.
    pub fn doubts_path(&mut self) -> bool {
        let resent = self.outbound.sent_again;
        std::mem::replace(&mut self.doubted, resent) != resent
    }

    /// What a segment says about what we have sent: called while something of it is not acknowledged.
    #[inline(never)]
    pub(super) fn hear(&mut self, now: Time, frame: &[u8], segment: &Segment) {
        let flights = &mut self.outbound.flights;
        let una = self.guard.snd_una();
        let (window, last_window) = (segment.window, self.last_heard_window);
        self.last_heard_window = segment.window;
        let is_news = flights.acknowledged(una, now);
        // RFC 5681 section 2. A segment with data is not a duplicate.
        if !is_news && segment.payload.is_empty() && segment.ack == una && window == last_window {
            flights.duplicate();
        }
        // There is room for blocks where there is more than timestamps.
        if segment.payload.start - segment.tcp > 20 + if segment.timestamps.is_some() { 12 } else { 0 } {
            let mut blocks = [(Seq(0), Seq(0)); sack::BLOCKS_MAX];
            let mut len = 0;
            for (slot, block) in blocks.iter_mut().zip(segment.sack_blocks(frame)) {
                *slot = block;
                len += 1;
            }
            if flights.sacked(&blocks[..len], una) {
                self.counters.resends_needless += 1;
            }
        }
        flights.heard(now);
    }

    /// Sends again what is lost.
    #[cold]
    pub(super) fn resend<R: Ring>(&mut self, now: Time, ring: &mut R) {
        if self.reset || matches!(self.smoltcp().state(), State::Closed | State::TimeWait | State::FinWait2) {
            self.outbound.flights.restart(self.outbound.snd_nxt, RoundTrips::default());
            return;
        }
        let edge = self.guard.snd_una() + (usize::from(self.guard.last_window()) << self.outbound.shift_peer);
        for _ in 0..RESEND_MAX {
            let Some(lost) = self.outbound.flights.next_lost(now) else { return };
            let window = usize::try_from(edge.distance(lost.range.start)).unwrap_or(0);
            let held = (self.rcv_held(), self.receive_room());
            if !self.outbound.resend(&self.tuple, now, held, (&lost, window), ring) {
                return;
            }
            self.counters.probes_sent += u64::from(lost.probe);
        }
    }
}
