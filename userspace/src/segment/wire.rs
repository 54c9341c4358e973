//! Between smoltcp and the ring: smoltcp's packets get the connection's own numbers and an Ethernet header.
//!
//! smoltcp believes in a sequence number, a window scale and a timestamp clock of its own choice. On the wire the
//! connection goes on with those the kernel negotiated. Out: the sequence number by a constant, the window field by the
//! difference of the scales, the timestamps as a whole. In: the acknowledgement by the same constant. The peer's
//! sequence numbers are the same in both worlds, and smoltcp does not look at SACK blocks that arrive.
//!
//! Some of smoltcp's packets stay here: the copy of what has left already ([`Outbound::send_direct`]), acknowledgements that
//! are written here because there is more to report than smoltcp would, and what was sent again a moment ago.

use std::ops::Range;
use std::time::Duration;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::paws::Clocks;
use super::resend::{Flights, Kept, Lost};
use super::rtt::RoundTrips;
use super::sack::{BLOCKS_MAX, Block, Blocks};
use crate::floor::{FourTuple, Lease, Seq, Time};
use crate::frame::{Envelope, bare_segment, no_checksums, seal, write_headers, write_segment};
use crate::ring::{Ring, TxFrame};

/// How soon to try again after no frame was free to send.
pub(super) const RETRY: Duration = Duration::from_micros(50);

/// Bytes of the timestamp option, with the padding that aligns it.
const TIMESTAMP_BYTES: usize = 12;

/// Offsets in a TCP header (RFC 9293 section 3.1).
mod at {
    pub(super) const SEQ: usize = 4;
    pub(super) const ACK: usize = 8;
    pub(super) const OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: usize = 14;
    pub(super) const OPTIONS: usize = 20;
}

/// Bits of the flags (RFC 9293 section 3.1).
mod flag {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const SYN_RST: u8 = 0x06;
    pub(super) const ACK: u8 = 0x10;
}

/// Bytes that a TCP header has for options.
const OPTIONS_MAX: usize = 40;

/// A packet of smoltcp's, as far as it matters whether it leaves.
struct Sketch {
    seq: Seq,
    /// Behind the payload and FIN.
    end: Seq,
    payload: usize,
    ack: Seq,
    flags: u8,
    /// In bytes.
    window: usize,
}

/// The way out, and what is known of what went out.
#[derive(Debug)]
pub(super) struct Outbound {
    envelope: Envelope,
    mtu: u16,
    /// What to add to smoltcp's sequence numbers.
    delta: u32,
    /// The shift smoltcp applies to its window field, and the one the peer expects.
    shift_smoltcp: u8,
    pub(super) shift_wire: u8,
    /// The timestamp clocks, where timestamps are in use.
    pub(super) clocks: Option<Clocks>,
    /// The present, for the timestamp clock: smoltcp's tokens carry none.
    pub(super) now: Time,
    /// Packets go nowhere: smoltcp's SYN of an adopted connection, and all that is only rehearsed.
    pub(super) withhold: bool,
    /// The next byte we send (the highest that ever left).
    pub(super) snd_nxt: Seq,
    /// The first byte the peer may not send: the furthest we ever promised.
    pub(super) rcv_edge: Seq,
    /// The last acknowledgement that left, once there was one.
    pub(super) last_ack: Option<Seq>,
    /// The window field of the last segment that left.
    last_window: u16,
    /// Something has left: `snd_nxt` means something.
    started: bool,
    /// Stream bytes that left without smoltcp and that it has yet to send in its own mind.
    direct: Option<Range<Seq>>,
    /// smoltcp takes something for acknowledged, because it stood in a packet that was not sent.
    pub(super) owed: bool,
    /// smoltcp's acknowledgements stay here: the one to this segment is written by us.
    pub(super) silent: bool,
    /// smoltcp is being given a segment.
    pub(super) replying: bool,
    /// Something is held behind a hole: acknowledgements have to report it.
    pub(super) holes: bool,
    /// The first byte that smoltcp would not take.
    pub(super) smoltcp_edge: Seq,
    /// What is on its way, and a copy of it.
    pub(super) flights: Flights,
    pub(super) kept: Kept,
    /// The longest payload that a segment of ours may carry, whatever options it has.
    pub(super) payload_max: usize,
    /// When our SYN left, while it has left once.
    pub(super) syn_sent: Option<Time>,
    /// The longest segment the peer takes, without options.
    peer_mss: u16,
    /// The peer's window field has to be shifted by this.
    pub(super) shift_peer: u8,
    pub(super) sent: u64,
    pub(super) sent_again: u64,
    pub(super) held_back: u64,
    pub(super) no_frame: u64,
    /// Where packets are written that go nowhere. Room for the longest there is, so that a ring which has run dry costs no
    /// memory.
    nowhere: Vec<u8>,
}

impl Outbound {
    /// Addresses packets to another next hop.
    pub(super) fn readdress(&mut self, next_hop: [u8; 6]) {
        self.envelope.readdress(next_hop);
    }

    /// `keep` bytes may have to be sent again.
    pub(super) fn new(envelope: Envelope, mtu: u16, window: usize, keep: usize) -> Self {
        Self {
            envelope,
            mtu,
            delta: 0,
            shift_smoltcp: shift_for(window),
            shift_wire: shift_for(window),
            clocks: None,
            now: Time::ZERO,
            withhold: false,
            snd_nxt: Seq::default(),
            rcv_edge: Seq::default(),
            last_ack: None,
            last_window: 0,
            started: false,
            direct: None,
            owed: false,
            silent: false,
            replying: false,
            holes: false,
            smoltcp_edge: Seq::default(),
            flights: Flights::new(),
            kept: Kept::new(keep),
            payload_max: 0,
            syn_sent: None,
            peer_mss: 0,
            shift_peer: 0,
            sent: 0,
            sent_again: 0,
            held_back: 0,
            no_frame: 0,
            nowhere: Vec::with_capacity(usize::from(mtu)),
        }
    }

    /// The connection goes on from `lease`, while smoltcp's next byte is `snd_nxt_smoltcp`.
    pub(super) fn continue_from(&mut self, lease: &Lease, snd_nxt_smoltcp: Seq) {
        self.delta = lease.snd_nxt.0.wrapping_sub(snd_nxt_smoltcp.0);
        self.snd_nxt = lease.snd_nxt;
        self.rcv_edge = lease.rcv_edge;
        self.smoltcp_edge = lease.rcv_edge;
        self.flights.restart(lease.snd_nxt, RoundTrips::from_lease(lease.round_trip, self.now));
        self.kept.restart(lease.snd_nxt);
        self.last_ack = Some(lease.rcv_nxt);
        // The peer is to hear from us, whether the window has changed or not.
        self.owed = true;
        self.clocks = lease.timestamps.map(Clocks::unheard);
        self.scaling(lease.scales.is_some());
        self.shift_wire = lease.scales.map_or(0, |scales| scales.receive);
        let promised = lease.rcv_edge.distance(lease.rcv_nxt).max(0) >> self.shift_wire;
        self.last_window = u16::try_from(promised).unwrap_or(u16::MAX);
        self.sent = 0;
    }

    /// What the handshake has left of our offers; `recent` is the peer's first timestamp.
    pub(super) fn negotiated(&mut self, scaling: bool, recent: Option<u32>) {
        self.scaling(scaling);
        self.clocks = match (self.clocks, recent) {
            (Some(mut clocks), Some(recent)) => {
                clocks.ours.recent = recent;
                Some(Clocks::heard(clocks.ours, self.now))
            }
            _ => None,
        };
    }

    fn scaling(&mut self, scaling: bool) {
        if !scaling {
            // Without the peer's option neither side scales (RFC 7323 section 2.2), and smoltcp does not either.
            self.shift_smoltcp = 0;
            self.shift_wire = 0;
        }
    }

    /// Payload bytes of a full segment, roughly: what an acknowledgement policy needs.
    pub(super) fn mss(&self) -> usize {
        usize::from(self.mtu) - 60
    }

    /// A segment with this timestamp has arrived.
    #[inline]
    pub(super) fn echo(&mut self, tsval: u32, seq: Seq, now: Time) {
        if let (Some(clocks), Some(acknowledged)) = (&mut self.clocks, self.last_ack) {
            clocks.hear(tsval, seq, acknowledged, now);
        }
    }

    /// Writes an acknowledgement into a frame's TCP header as smoltcp's number, and the window it came with.
    #[inline]
    pub(super) fn translate_ack(&self, frame: &mut [u8], tcp: usize, ack: Seq, window: u16) {
        frame[tcp + at::ACK..tcp + at::ACK + 4].copy_from_slice(&self.to_smoltcp(ack).0.to_be_bytes());
        frame[tcp + at::WINDOW..tcp + at::WINDOW + 2].copy_from_slice(&window.to_be_bytes());
    }

    /// smoltcp's number for one of our own on the wire.
    pub(super) fn to_smoltcp(&self, ours: Seq) -> Seq {
        Seq(ours.0.wrapping_sub(self.delta))
    }

    /// Notes what the handshake has told about the peer: its segment size, without options, and the shift of its window.
    pub(super) fn peer(&mut self, mss: u16, shift: u8) {
        self.peer_mss = mss;
        self.shift_peer = shift;
        self.set_mtu(self.mtu);
    }

    /// The largest IP packet that gets through to the peer.
    pub(super) fn mtu(&self) -> u16 {
        self.mtu
    }

    pub(super) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        let headers = self.ip_header_len() + at::OPTIONS;
        let segment = usize::from(self.peer_mss).min(usize::from(mtu) - headers);
        self.payload_max = segment.saturating_sub(TIMESTAMP_BYTES);
    }

    /// Where the payload of a segment of ours begins in its frame.
    pub(super) fn payload_start(&self) -> usize {
        let options = if self.clocks.is_some() { TIMESTAMP_BYTES } else { 0 };
        self.envelope.len() + self.ip_header_len() + at::OPTIONS + options
    }

    fn ip_header_len(&self) -> usize {
        if self.envelope.is_ipv6() { 40 } else { 20 }
    }

    /// A segment of ours that goes on where the stream stands and acknowledges `ack`; its payload is not in it.
    fn segment(&self, now: Time, control: TcpControl, ack: Seq) -> TcpRepr<'static> {
        TcpRepr {
            timestamp: self.clocks.map(|clocks| TcpTimestampRepr::new(clocks.ours.at(now), clocks.ours.recent)),
            ..bare_segment(control, self.snd_nxt, ack, self.last_window)
        }
    }

    /// Sends the `len` bytes of payload that stand in `frame` at [`Outbound::payload_start`], without asking smoltcp,
    /// which has to be given the same bytes and then told to send ([`Outbound::holds_back`] keeps that to ourselves).
    pub(super) fn send_direct<R: Ring>(
        &mut self,
        tuple: &FourTuple,
        now: Time,
        ack: Seq,
        (mut frame, len): (TxFrame, usize),
        ring: &mut R,
    ) {
        let segment = self.segment(now, TcpControl::Psh, ack);
        let bytes = frame.bytes_mut();
        self.envelope.write(bytes);
        let start = self.envelope.len();
        let end = start + write_headers(tuple, &segment, len, &mut bytes[start..]);
        self.leave(frame, end, ring);
        self.sent += 1;
        let (from, to) = (self.snd_nxt, self.snd_nxt + len);
        self.direct = Some(self.direct.take().map_or(from, |direct| direct.start)..to);
        self.snd_nxt = to;
        self.flights.sent(to, now);
        self.acknowledged(ack);
    }

    /// The first `len` bytes of `frame` leave, unless nothing is to.
    #[inline]
    fn leave<R: Ring>(&self, frame: TxFrame, len: usize, ring: &mut R) {
        if self.withhold { ring.cancel(frame) } else { ring.transmit(frame, len) }
    }

    /// `ack` leaves, with the window field as it was.
    fn acknowledged(&mut self, ack: Seq) {
        self.rcv_edge = self.rcv_edge.max(ack + (usize::from(self.last_window) << self.shift_wire));
        self.last_ack = Some(ack);
        self.owed &= self.holes;
    }

    /// What stands in the window field for as many bytes, rounded down.
    fn window_field(&self, bytes: usize) -> u16 {
        u16::try_from(bytes >> self.shift_wire).unwrap_or(u16::MAX)
    }

    /// Whether the peer was last told of a smaller window than `bytes`.
    pub(super) fn announces_less_than(&self, bytes: usize) -> bool {
        usize::from(self.last_window) << self.shift_wire < bytes.min(usize::from(u16::MAX) << self.shift_wire)
    }

    /// Whether bytes have left that smoltcp does not know of.
    pub(super) fn is_ahead(&self) -> bool {
        self.direct.is_some()
    }

    /// smoltcp has been asked to send all it has: what it sends from now on is meant.
    pub(super) fn caught_up(&mut self) {
        self.direct = None;
    }

    /// Whether a packet of smoltcp's is to stay here. If it does, smoltcp takes it for sent all the same.
    fn holds_back(&mut self, packet: &[u8]) -> bool {
        let Sketch { seq, end, payload, ack, flags, window } = self.sketch(packet);
        if flags & flag::SYN_RST != 0 {
            return false;
        }
        if flags & flag::ACK != 0 {
            self.smoltcp_edge = ack + window;
        }
        let news = self.last_ack.is_none_or(|last_ack| ack.is_after(last_ack));
        if seq == end {
            // A mere acknowledgement. What it acknowledges may have left in one of ours; then it is of use only where the
            // window has opened by as much as smoltcp would tell for its own sake.
            let opens = window >> self.shift_wire >= (2 * usize::from(self.last_window)).max(1);
            let repeats = !self.replying && !news && !opens;
            self.owed |= self.holes && !self.silent && !repeats;
            return self.silent || self.holes || repeats;
        }
        // What has left already, without smoltcp.
        if let Some(direct) = &self.direct
            && payload > 0
            && !direct.start.is_after(seq)
            && !(seq + payload).is_after(direct.end)
        {
            self.owed |= news;
            return true;
        }
        // What was sent again from here a moment ago.
        if self.started && !end.is_after(self.snd_nxt) && self.flights.were_just_sent_again(&(seq..end), self.now) {
            self.held_back += 1;
            self.owed |= news;
            return true;
        }
        false
    }

    /// A packet of smoltcp's had no frame to leave in.
    fn ground(&mut self, packet: &[u8]) {
        let Sketch { seq, end, flags, .. } = self.sketch(packet);
        if flags & flag::SYN_RST != 0 {
            return;
        }
        self.owed = true;
        if self.started && end.is_after(self.snd_nxt) {
            self.flights.sent(end, self.now);
            self.snd_nxt = end;
        }
        if seq != end {
            self.flights.grounded(self.now + RETRY);
        }
    }

    /// What a packet of smoltcp's says, its sequence number as it will be on the wire.
    fn sketch(&self, packet: &[u8]) -> Sketch {
        let segment = &packet[tcp_start(packet)..];
        let payload = payload_len(segment);
        let seq = Seq(read_u32(segment, at::SEQ).wrapping_add(self.delta));
        let flags = segment[at::FLAGS];
        Sketch {
            seq,
            end: seq + payload + usize::from(flags & flag::FIN != 0),
            payload,
            ack: Seq(read_u32(segment, at::ACK)),
            flags,
            window: usize::from(u16::from_be_bytes([segment[at::WINDOW], segment[at::WINDOW + 1]]))
                << self.shift_smoltcp,
        }
    }

    /// Sends an acknowledgement that smoltcp does not know of, with what is held behind holes; `window` bytes may come.
    /// Answers whether there was a frame for it.
    pub(super) fn send_ack<R: Ring>(
        &mut self,
        tuple: &FourTuple,
        now: Time,
        (ack, window): (Seq, usize),
        blocks: &Blocks,
        ring: &mut R,
    ) -> bool {
        let Some(mut frame) = ring.lend() else {
            self.no_frame += 1;
            return false;
        };
        self.last_window = self.window_field(window);
        let mut options = [0; OPTIONS_MAX];
        let options = self.write_options(now, blocks.as_slice(), &mut options);
        // The options are laid out as smoltcp never would, so for smoltcp they are payload, at first.
        let repr = TcpRepr { timestamp: None, payload: options, ..self.segment(now, TcpControl::None, ack) };
        let bytes = frame.bytes_mut();
        self.envelope.write(bytes);
        let start = self.envelope.len();
        let len = write_segment(tuple, &repr, &mut bytes[start..]);
        let packet = &mut bytes[start..start + len];
        let tcp = len - at::OPTIONS - options.len();
        TcpPacket::new_unchecked(&mut packet[tcp..])
            .set_header_len(u8::try_from(at::OPTIONS + options.len()).expect("a header has 60 bytes at most"));
        seal(packet, tcp);
        self.leave(frame, start + len, ring);
        self.sent += 1;
        self.acknowledged(ack);
        true
    }

    /// The timestamps and the SACK blocks of an acknowledgement, aligned as kernels align them (RFC 7323 appendix A,
    /// RFC 2018 section 3).
    fn write_options<'a>(&self, now: Time, blocks: &[Block], out: &'a mut [u8; OPTIONS_MAX]) -> &'a [u8] {
        const NOP: u8 = 1;
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            out[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        if let Some(clocks) = &self.clocks {
            put(&[NOP, NOP, 8, 10]);
            put(&clocks.ours.at(now).to_be_bytes());
            put(&clocks.ours.recent.to_be_bytes());
        }
        if !blocks.is_empty() {
            put(&[NOP, NOP, 5, 2 + 8 * u8::try_from(blocks.len()).expect("four blocks at most")]);
            for (left, right) in blocks {
                put(&left.0.to_be_bytes());
                put(&right.0.to_be_bytes());
            }
        }
        &out[..len]
    }

    /// How many SACK blocks an acknowledgement has room for.
    pub(super) fn blocks_max(&self) -> usize {
        if self.clocks.is_some() { BLOCKS_MAX - 1 } else { BLOCKS_MAX }
    }

    /// Sends the bytes of `lost` again, as far as `window` bytes and the segment size go; beyond `ack` as many as `room` may come. Answers
    /// whether there was a frame to do it in, and bytes.
    pub(super) fn resend<R: Ring>(
        &mut self,
        tuple: &FourTuple,
        now: Time,
        (ack, room): (Seq, usize),
        (lost, window): (&Lost, usize),
        ring: &mut R,
    ) -> bool {
        self.last_window = self.window_field(room);
        let mut seq = lost.range.start;
        // A closed window is asked for with one byte (RFC 9293 section 3.8.6.1).
        let edge = seq + window.max(1);
        let end = if lost.range.end.is_after(edge) { edge } else { lost.range.end };
        while end.is_after(seq) {
            let Some(mut frame) = ring.lend() else {
                self.no_frame += 1;
                return false;
            };
            let start = self.payload_start();
            let room = usize::try_from(end.distance(seq)).unwrap_or(0).min(self.payload_max);
            let bytes = frame.bytes_mut();
            let len = self.kept.copy(seq, &mut bytes[start..start + room]);
            let fin = (seq + len) == self.kept.end() && end.is_after(self.kept.end());
            if len == 0 && !fin {
                ring.cancel(frame);
                return false;
            }
            let control = if fin { TcpControl::Fin } else { TcpControl::Psh };
            let repr = TcpRepr { seq_number: TcpSeqNumber(seq.0.cast_signed()), ..self.segment(now, control, ack) };
            self.envelope.write(bytes);
            let start = self.envelope.len();
            let packet = start + write_headers(tuple, &repr, len, &mut bytes[start..]);
            self.leave(frame, packet, ring);
            self.sent += 1;
            self.sent_again += 1;
            seq = seq + len + usize::from(fin);
        }
        self.acknowledged(ack);
        self.flights.sent_again(&(lost.range.start..end), now);
        true
    }

    /// Turns a packet of smoltcp's into one of the connection's.
    fn finish(&mut self, packet: &mut [u8]) {
        let tcp = tcp_start(packet);
        let segment = &mut packet[tcp..];
        let syn = segment[at::FLAGS] & flag::SYN != 0;

        let seq = Seq(read_u32(segment, at::SEQ).wrapping_add(self.delta));
        segment[at::SEQ..at::SEQ + 4].copy_from_slice(&seq.0.to_be_bytes());
        let end = seq + payload_len(segment) + usize::from(syn) + usize::from(segment[at::FLAGS] & flag::FIN);
        if seq != end && !syn {
            if end.is_after(self.snd_nxt) {
                self.flights.sent(end, self.now);
            } else {
                self.flights.sent_again(&(seq..end), self.now);
                self.sent_again += 1;
            }
        }
        if syn {
            self.syn_sent = (!self.started).then_some(self.now);
        }
        self.snd_nxt = if self.started { self.snd_nxt.max(end) } else { end };
        self.started = true;

        // A SYN's window is never scaled (RFC 7323 section 2.2).
        let (from, to) = if syn { (0, 0) } else { (self.shift_smoltcp, self.shift_wire) };
        let window_bytes = usize::from(u16::from_be_bytes([segment[at::WINDOW], segment[at::WINDOW + 1]])) << from;
        let window = u16::try_from(window_bytes >> to).unwrap_or(u16::MAX);
        segment[at::WINDOW..at::WINDOW + 2].copy_from_slice(&window.to_be_bytes());
        let ack = Seq(read_u32(segment, at::ACK));
        if segment[at::FLAGS] & flag::ACK != 0 {
            let edge = ack + (usize::from(window) << to);
            self.rcv_edge = if self.last_ack.is_some() { self.rcv_edge.max(edge) } else { edge };
            self.last_ack = Some(ack);
            self.last_window = window;
            self.owed &= self.holes;
        }

        if let Some(Clocks { ours: clock, .. }) = &self.clocks {
            let options = &mut segment[at::OPTIONS..];
            if let Some(offset) = timestamp_option(options) {
                options[offset + 2..offset + 6].copy_from_slice(&clock.at(self.now).to_be_bytes());
                options[offset + 6..offset + 10].copy_from_slice(&clock.recent.to_be_bytes());
            }
        }
        seal(packet, tcp);
    }
}

/// Where the TCP header begins in an IP packet of smoltcp's, which writes no IP options and no extension headers.
fn tcp_start(packet: &[u8]) -> usize {
    if packet[0] >> 4 == 4 { 20 } else { 40 }
}

/// Bytes of payload in a segment, by its data offset.
fn payload_len(segment: &[u8]) -> usize {
    segment.len() - usize::from(segment[at::OFFSET] >> 4) * 4
}

/// The scale smoltcp derives from the size of a receive buffer: its own formula (`Socket::new`), which must agree.
fn shift_for(window: usize) -> u8 {
    let bits = usize::BITS - window.leading_zeros();
    u8::try_from(bits.saturating_sub(16)).unwrap_or(14)
}

/// Where the timestamp option starts among `options` (the options, and whatever follows them).
fn timestamp_option(options: &[u8]) -> Option<usize> {
    let mut rest = options;
    loop {
        let (after, option) = TcpOption::parse(rest).ok()?;
        match option {
            TcpOption::TimeStamp { .. } => return Some(options.len() - rest.len()),
            TcpOption::EndOfList => return None,
            _ => rest = after,
        }
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// smoltcp's view of the ring: one packet to take, and frames to send.
pub(super) struct Port<'a, R: Ring> {
    pub(super) arrived: Option<&'a [u8]>,
    pub(super) ring: &'a mut R,
    pub(super) outbound: &'a mut Outbound,
}

pub(super) struct Arrived<'a>(&'a [u8]);

pub(super) struct Leaving<'a, R: Ring> {
    ring: &'a mut R,
    outbound: &'a mut Outbound,
}

impl<R: Ring> Device for Port<'_, R> {
    type RxToken<'t>
        = Arrived<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Leaving<'t, R>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let packet = self.arrived.take()?;
        Some((Arrived(packet), Leaving { ring: self.ring, outbound: self.outbound }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Self::TxToken<'_>> {
        Some(Leaving { ring: self.ring, outbound: self.outbound })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.outbound.mtu);
        capabilities.checksum = no_checksums();
        capabilities
    }
}

impl RxToken for Arrived<'_> {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, take: F) -> T {
        take(self.0)
    }
}

impl<R: Ring> TxToken for Leaving<'_, R> {
    fn consume<T, F: FnOnce(&mut [u8]) -> T>(self, len: usize, write: F) -> T {
        let Self { ring, outbound } = self;
        let frame = if outbound.withhold { None } else { ring.lend() };
        let Some(mut frame) = frame else {
            // smoltcp takes the packet for sent. Withheld on purpose it is wanted so; for want of a frame it is lost
            // like any packet, and sent again as soon as there is one.
            let mut lost = std::mem::take(&mut outbound.nowhere);
            lost.resize(len, 0);
            let result = write(&mut lost);
            if outbound.holds_back(&lost) {
                // As if it had a frame.
            } else if outbound.withhold {
                outbound.finish(&mut lost);
            } else {
                outbound.no_frame += 1;
                outbound.ground(&lost);
            }
            outbound.nowhere = lost;
            return result;
        };
        let bytes = frame.bytes_mut();
        let start = outbound.envelope.len();
        outbound.envelope.write(bytes);
        let packet = &mut bytes[start..start + len];
        let result = write(packet);
        if outbound.holds_back(packet) {
            ring.cancel(frame);
            return result;
        }
        outbound.finish(packet);
        outbound.leave(frame, start + len, ring);
        outbound.sent += 1;
        result
    }
}
