//! A connection that there is not, for keeping the way of one that there is warm: frames as its peer would send them, and the
//! TCP that takes them.
//!
//! What comes in are bytes of a stream; what goes out is a frame with the next segment of it. The rest is the real thing, with
//! numbers of its own and between addresses that nobody has, up to the ring: what this TCP sends is written into a frame of
//! the ring, and the frame is given back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::wire::{TcpControl, TcpRepr, TcpTimestampRepr};

use super::Tcp;
use crate::floor::{FourTuple, Hop, Lease, Span, Time};
use crate::frame::{Envelope, as_linux_writes, bare_segment, write_segment};
use crate::ring::Ring;

/// For payload that is thrown away at once. Small, so that it stays in the nearest cache.
const WINDOW_BYTES: usize = 16 << 10;
/// The Ethernet header with a tag, an IPv6 and the longest TCP header.
const HEADERS_MAX: usize = 18 + 40 + 60;
/// Ours, and the peer's: for documentation (RFC 5737, RFC 3849). Should a frame leave after all, nobody gets it.
const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)];

/// Both ends of such a connection.
pub struct Rehearsal {
    /// Ours.
    pub tcp: Tcp,
    /// The last frame of the peer's.
    pub frame: Vec<u8>,
    /// The header of its frames.
    envelope: Envelope,
    payload_max: usize,
}

impl Rehearsal {
    /// A connection like that of `tcp`: the same options, the same header lengths. `None` where that one has begun to end, or is not open
    /// yet.
    #[must_use]
    pub fn like(tcp: &Tcp, hop: &Hop, seed: u64, now: Time) -> Option<Self> {
        if !tcp.guard.established() || tcp.guard.ended {
            return None;
        }
        let ipv6 = tcp.tuple.local.is_ipv6();
        let [local, remote] =
            [0, 1].map(|end| SocketAddr::new(if ipv6 { IpAddr::V6(V6[end]) } else { IpAddr::V4(V4[end]) }, 9));
        let lease = Lease {
            tuple: FourTuple { local, remote },
            snd_nxt: tcp.outbound.snd_nxt,
            rcv_nxt: tcp.guard.rcv_nxt,
            snd_wnd: 1 << 16,
            rcv_edge: tcp.guard.rcv_nxt + WINDOW_BYTES,
            mss: tcp.negotiated.mss,
            scales: tcp.negotiated.scales,
            sack: tcp.selective,
            timestamps: tcp.outbound.clocks.map(|clocks| clocks.ours),
            round_trip: None,
        };
        let mut rehearsed = Tcp::continue_with(&lease, hop, seed, WINDOW_BYTES, now);
        rehearsed.outbound.withhold = true;
        let payload_max = usize::from(hop.mtu) - HEADERS_MAX;
        let frame = Vec::with_capacity(HEADERS_MAX + payload_max + Span::PAD);
        let envelope = Envelope::new(hop.next, hop.source, hop.vlan, ipv6);
        Some(Self { tcp: rehearsed, frame, envelope, payload_max })
    }

    /// Makes the frame in which the peer would send `stream` next, with room for the padding of a span behind it. `false`, where no
    /// segment takes so much.
    pub fn next<R: Ring>(&mut self, stream: &[u8], now: Time, ring: &mut R) -> bool {
        let Self { tcp, frame, envelope, payload_max } = self;
        // What the last one has made it want to say.
        tcp.turn(now, ring);
        if stream.len() > *payload_max {
            return false;
        }
        // It has all that we have sent.
        let (seq, ack) = (tcp.guard.rcv_nxt, tcp.outbound.snd_nxt);
        let segment = TcpRepr {
            timestamp: tcp.outbound.clocks.map(|clocks| TcpTimestampRepr::new(clocks.ours.recent, 0)),
            payload: stream,
            ..bare_segment(TcpControl::Psh, seq, ack, u16::MAX >> 1)
        };
        frame.clear();
        frame.resize(HEADERS_MAX + stream.len() + Span::PAD, 0);
        envelope.write(frame);
        let packet = &mut frame[envelope.len()..];
        let len = write_segment(&tcp.tuple.reversed(), &segment, packet);
        as_linux_writes(&mut packet[..len]);
        let end = envelope.len() + len;
        frame.truncate(end + Span::PAD);
        true
    }

    /// The last frame, without what stands behind it.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.frame[..self.frame.len() - Span::PAD]
    }
}
