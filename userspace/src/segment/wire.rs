//! Between smoltcp and the ring: smoltcp's packets get the connection's own numbers and an Ethernet header.
//!
//! smoltcp believes in a sequence number, a window scale and a timestamp clock of its own choice. On the wire the
//! connection goes on with those the kernel negotiated. Out: the sequence number by a constant, the window field by the
//! difference of the scales, the timestamps as a whole. In: the acknowledgement by the same constant. The peer's
//! sequence numbers are the same in both worlds, and smoltcp does not look at SACK blocks that arrive.

use std::ops::Range;
use std::time::Duration;

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{TcpControl, TcpOption, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use crate::floor::{FourTuple, Lease, Seq, TcpTimestamps, Time};
use crate::frame::{Envelope, no_checksums, seal, write_headers, write_segment};
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
    /// Our timestamp clock, where timestamps are in use.
    pub(super) timestamps: Option<TcpTimestamps>,
    /// The present, for the timestamp clock: smoltcp's tokens carry none.
    pub(super) now: Time,
    /// Packets go nowhere: smoltcp's SYN of an adopted connection.
    pub(super) withhold: bool,
    /// The next byte we send (the highest that ever left).
    pub(super) snd_nxt: Seq,
    /// The first byte the peer may not send: the furthest we ever promised.
    pub(super) rcv_edge: Seq,
    /// The last acknowledgement that left, once there was one.
    last_ack: Option<Seq>,
    /// The window field of the last segment that left.
    last_window: u16,
    /// Something has left: `snd_nxt` means something.
    started: bool,
    /// Stream bytes that left without smoltcp and that it has yet to send in its own mind.
    direct: Option<Range<Seq>>,
    /// An acknowledgement that smoltcp takes for sent, because it stood in a packet that was not.
    pub(super) owed: Option<Seq>,
    /// The longest payload that a segment of ours may carry, whatever options it has.
    pub(super) payload_max: usize,
    /// The peer's window field has to be shifted by this.
    pub(super) shift_peer: u8,
    pub(super) sent: u64,
    pub(super) no_frame: u64,
    /// Where packets are written that go nowhere. Room for the longest there is, so that a ring which has run dry costs no
    /// memory.
    nowhere: Vec<u8>,
}

impl Outbound {
    pub(super) fn new(envelope: Envelope, mtu: u16, window: usize) -> Self {
        Self {
            envelope,
            mtu,
            delta: 0,
            shift_smoltcp: shift_for(window),
            shift_wire: shift_for(window),
            timestamps: None,
            now: Time::ZERO,
            withhold: false,
            snd_nxt: Seq::default(),
            rcv_edge: Seq::default(),
            last_ack: None,
            last_window: 0,
            started: false,
            direct: None,
            owed: None,
            payload_max: 0,
            shift_peer: 0,
            sent: 0,
            no_frame: 0,
            nowhere: Vec::with_capacity(usize::from(mtu)),
        }
    }

    /// The connection goes on from `lease`, while smoltcp's next byte is `snd_nxt_smoltcp`.
    pub(super) fn continue_from(&mut self, lease: &Lease, snd_nxt_smoltcp: Seq) {
        self.delta = lease.snd_nxt.0.wrapping_sub(snd_nxt_smoltcp.0);
        self.snd_nxt = lease.snd_nxt;
        self.rcv_edge = lease.rcv_edge;
        self.last_ack = Some(lease.rcv_nxt);
        self.negotiated(lease.scales.is_some(), lease.timestamps.map(|clock| clock.recent));
        self.shift_wire = lease.scales.map_or(0, |scales| scales.receive);
        let promised = lease.rcv_edge.distance(lease.rcv_nxt).max(0) >> self.shift_wire;
        self.last_window = u16::try_from(promised).unwrap_or(u16::MAX);
        self.sent = 0;
    }

    /// What the handshake has left of our offers; `recent` is the peer's first timestamp.
    pub(super) fn negotiated(&mut self, scaling: bool, recent: Option<u32>) {
        if !scaling {
            // Without the peer's option neither side scales (RFC 7323 section 2.2), and smoltcp does not either.
            self.shift_smoltcp = 0;
            self.shift_wire = 0;
        }
        self.timestamps = match (self.timestamps, recent) {
            (Some(clock), Some(recent)) => Some(TcpTimestamps { recent, ..clock }),
            _ => None,
        };
    }

    /// Payload bytes of a full segment, roughly: what an acknowledgement policy needs.
    pub(super) fn mss(&self) -> usize {
        usize::from(self.mtu) - 60
    }

    /// A segment with this timestamp has arrived.
    #[inline]
    pub(super) fn echo(&mut self, recent: u32, seq: Seq) {
        // RFC 7323 section 4.3: only from segments that do not lie beyond what we acknowledged, and never backwards.
        if let Some(clock) = &mut self.timestamps
            && self.last_ack.is_some_and(|last_ack| !seq.is_after(last_ack))
            && recent.wrapping_sub(clock.recent).cast_signed() >= 0
        {
            clock.recent = recent;
        }
    }

    /// Writes the acknowledgement `ack` of the wire into a frame's TCP header as smoltcp's number.
    #[inline]
    pub(super) fn translate_ack(&self, frame: &mut [u8], tcp: usize, ack: Seq) {
        frame[tcp + at::ACK..tcp + at::ACK + 4].copy_from_slice(&self.to_smoltcp(ack).0.to_be_bytes());
    }

    /// smoltcp's number for one of our own on the wire.
    pub(super) fn to_smoltcp(&self, ours: Seq) -> Seq {
        Seq(ours.0.wrapping_sub(self.delta))
    }

    /// Notes what the handshake has told about the peer: its segment size, without options, and the shift of its window.
    pub(super) fn peer(&mut self, mss: u16, shift: u8) {
        let headers = self.ip_header_len() + at::OPTIONS;
        let segment = usize::from(mss).min(usize::from(self.mtu) - headers);
        self.payload_max = segment.saturating_sub(TIMESTAMP_BYTES);
        self.shift_peer = shift;
    }

    /// Where the payload of a segment of ours begins in its frame.
    pub(super) fn payload_start(&self) -> usize {
        let options = if self.timestamps.is_some() { TIMESTAMP_BYTES } else { 0 };
        self.envelope.len() + self.ip_header_len() + at::OPTIONS + options
    }

    fn ip_header_len(&self) -> usize {
        if self.envelope.is_ipv6() { 40 } else { 20 }
    }

    /// A segment of ours that goes on where the stream stands and acknowledges `ack`; its payload is not in it.
    fn segment(&self, now: Time, control: TcpControl, ack: Seq) -> TcpRepr<'static> {
        TcpRepr {
            src_port: 0,
            dst_port: 0,
            control,
            seq_number: TcpSeqNumber(self.snd_nxt.0.cast_signed()),
            ack_number: Some(TcpSeqNumber(ack.0.cast_signed())),
            window_len: self.last_window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: self.timestamps.map(|clock| TcpTimestampRepr::new(clock.at(now), clock.recent)),
            payload: &[],
        }
    }

    /// Sends the `len` bytes of payload that stand in `frame` at [`Outbound::payload_start`], without asking smoltcp,
    /// which has to be given the same bytes and then told to send ([`Outbound::recall`] keeps that to ourselves).
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
        ring.transmit(frame, end);
        self.sent += 1;
        let (from, to) = (self.snd_nxt, self.snd_nxt + len);
        self.direct = Some(self.direct.take().map_or(from, |direct| direct.start)..to);
        self.snd_nxt = to;
        self.acknowledged(ack);
    }

    /// `ack` leaves, with the window field as it was.
    fn acknowledged(&mut self, ack: Seq) {
        self.rcv_edge = self.rcv_edge.max(ack + (usize::from(self.last_window) << self.shift_wire));
        self.last_ack = Some(ack);
    }

    /// Whether bytes have left that smoltcp does not know of.
    pub(super) fn is_ahead(&self) -> bool {
        self.direct.is_some()
    }

    /// smoltcp has been asked to send all it has: what it sends from now on is meant.
    pub(super) fn caught_up(&mut self) {
        self.direct = None;
    }

    /// Whether a packet of smoltcp's has left already, without it. If so, the acknowledgement in it, where that is news.
    fn recall(&self, packet: &[u8]) -> Option<Option<Seq>> {
        let direct = self.direct.as_ref()?;
        let segment = &packet[tcp_start(packet)..];
        let payload = payload_len(segment);
        let seq = Seq(read_u32(segment, at::SEQ).wrapping_add(self.delta));
        let is_inside = payload > 0 && !direct.start.is_after(seq) && !(seq + payload).is_after(direct.end);
        let ack = Seq(read_u32(segment, at::ACK));
        is_inside.then(|| self.last_ack.is_none_or(|last_ack| ack.is_after(last_ack)).then_some(ack))
    }

    /// Sends an acknowledgement that smoltcp does not know of.
    pub(super) fn send_ack<R: Ring>(&mut self, tuple: &FourTuple, now: Time, ack: Seq, ring: &mut R) {
        let repr = self.segment(now, TcpControl::None, ack);
        let Some(mut frame) = ring.lend() else {
            self.no_frame += 1;
            return;
        };
        let bytes = frame.bytes_mut();
        self.envelope.write(bytes);
        let len = self.envelope.len() + write_segment(tuple, &repr, &mut bytes[self.envelope.len()..]);
        ring.transmit(frame, len);
        self.sent += 1;
        self.acknowledged(ack);
    }

    /// Turns a packet of smoltcp's into one of the connection's.
    fn finish(&mut self, packet: &mut [u8]) {
        let tcp = tcp_start(packet);
        let segment = &mut packet[tcp..];
        let syn = segment[at::FLAGS] & 2 != 0;

        let seq = Seq(read_u32(segment, at::SEQ).wrapping_add(self.delta));
        segment[at::SEQ..at::SEQ + 4].copy_from_slice(&seq.0.to_be_bytes());
        let end = seq + payload_len(segment) + usize::from(syn) + usize::from(segment[at::FLAGS] & 1);
        self.snd_nxt = if self.started { self.snd_nxt.max(end) } else { end };
        self.started = true;

        // A SYN's window is never scaled (RFC 7323 section 2.2).
        let (from, to) = if syn { (0, 0) } else { (self.shift_smoltcp, self.shift_wire) };
        let window_bytes = usize::from(u16::from_be_bytes([segment[at::WINDOW], segment[at::WINDOW + 1]])) << from;
        let window = u16::try_from(window_bytes >> to).unwrap_or(u16::MAX);
        segment[at::WINDOW..at::WINDOW + 2].copy_from_slice(&window.to_be_bytes());
        let ack = Seq(read_u32(segment, at::ACK));
        if segment[at::FLAGS] & 0x10 != 0 {
            let edge = ack + (usize::from(window) << to);
            self.rcv_edge = if self.last_ack.is_some() { self.rcv_edge.max(edge) } else { edge };
            self.last_ack = Some(ack);
            self.last_window = window;
        }

        if let Some(clock) = &self.timestamps {
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
            // like any packet, and its timers bring it back.
            let mut lost = std::mem::take(&mut outbound.nowhere);
            lost.resize(len, 0);
            let result = write(&mut lost);
            if outbound.withhold {
                outbound.finish(&mut lost);
            } else {
                outbound.no_frame += 1;
            }
            outbound.nowhere = lost;
            return result;
        };
        let bytes = frame.bytes_mut();
        let start = outbound.envelope.len();
        outbound.envelope.write(bytes);
        let packet = &mut bytes[start..start + len];
        let result = write(packet);
        if let Some(news) = outbound.recall(packet) {
            ring.cancel(frame);
            if let Some(ack) = news {
                outbound.owed = Some(ack);
            }
            return result;
        }
        outbound.finish(packet);
        ring.transmit(frame, start + len);
        outbound.sent += 1;
        result
    }
}
