//! Segments in somebody else's name, and what a wire has to know for them.
//!
//! A wire is on the path: it has seen both directions, and knows which byte comes next. What is forged *blind* does not use
//! that: the 4-tuple is right, as an attacker can guess it (RFC 5961 section 1.1), and everything else is random.

use std::net::{IpAddr, SocketAddr};

use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::icmpv6::DestUnreachableCode;
use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, TcpHeader};

use super::plan::Direction;
use super::segment::{ACK, FIN, PSH, RST, SYN, Segment, is_after};
use crate::random::Random;

/// Connections that are remembered: the latest.
const FLOWS: usize = 16;
/// How far into the receiver's window [`Aim::InWindow`] goes: less than any window that is worth the name.
const WINDOW: u64 = 16 << 10;
/// Of a segment's TCP header, what an ICMP error quotes (RFC 792).
const QUOTED: usize = 8;

/// How well a forger knows the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Only its 4-tuple: sequence and acknowledgement numbers are random.
    Blind,
    /// The sequence number is inside the receiver's window, but not the next; the acknowledgement is right.
    InWindow,
    /// The sequence number follows what has left the wire last, which is what the receiver expects unless something was
    /// lost or held back; the acknowledgement is right.
    Exact,
}

/// A segment, or an ICMP error, that nobody sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// RST.
    Rst(Aim),
    /// SYN.
    Syn(Aim),
    /// FIN and ACK.
    Fin(Aim),
    /// So many random bytes, with ACK.
    Data(Aim, u16),
    /// ICMP: the port the receiver sends to is unreachable. Blind, it quotes a random sequence number; otherwise the one that
    /// the receiver uses next, which is plausible whatever has been acknowledged.
    Unreachable(Aim),
    /// ICMP: what the receiver sends is too big, packets may have so many bytes. Quotes as above.
    TooBig(Aim, u16),
}

/// What is known of one direction of a connection.
#[derive(Clone, Debug, Default)]
struct Half {
    /// Everything before the IP header.
    link: Vec<u8>,
    /// IP and TCP header of the last segment.
    head: Vec<u8>,
    /// Where the TCP header begins in it.
    tcp: usize,
    /// The number of the SYN.
    isn: Option<u32>,
    /// Behind the last byte that came, and behind the last that left.
    came: Option<u32>,
    left: Option<u32>,
    ack: u32,
    window: u16,
}

#[derive(Clone, Debug)]
struct Flow {
    client: SocketAddr,
    exchange: SocketAddr,
    /// To the client, to the exchange.
    halves: [Half; 2],
}

/// The connections on a wire, the one that was heard of last in front.
#[derive(Clone, Debug, Default)]
pub(super) struct Flows(Vec<Flow>);

/// What a segment was to its connection when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    /// Whether all its bytes had come before.
    pub(super) retransmitted: bool,
    /// The place of its first byte in the stream, where the SYN was seen. Of what lies 2 GiB and more behind, that is
    /// the remainder.
    pub(super) offset: Option<u64>,
}

impl Flows {
    fn of(&mut self, direction: Direction, segment: &Segment) -> &mut Half {
        let (client, exchange) = match direction {
            Direction::ToClient => (segment.destination, segment.source),
            Direction::ToExchange => (segment.source, segment.destination),
        };
        match self.0.iter().position(|flow| (flow.client, flow.exchange) == (client, exchange)) {
            Some(0) => {}
            Some(found) => self.0[..=found].rotate_right(1),
            None => {
                self.0.truncate(FLOWS - 1);
                self.0.insert(0, Flow { client, exchange, halves: Default::default() });
            }
        }
        &mut self.0[0].halves[direction as usize]
    }

    /// A segment has come to the wire.
    pub(super) fn came(&mut self, direction: Direction, segment: &Segment) -> Standing {
        let half = self.of(direction, segment);
        let is_syn = segment.flags & SYN != 0;
        let again = half.came.is_some_and(|came| !is_after(segment.end(), came));
        if is_syn && !(again && half.isn == Some(segment.seq)) {
            *half = Half { isn: Some(segment.seq), came: Some(segment.end()), ..Half::default() };
            return Standing::default();
        }
        if !again && segment.flags & RST == 0 {
            half.came = Some(segment.end());
        }
        let offset = half.isn.map(|isn| u64::from(segment.seq.wrapping_sub(isn).wrapping_sub(1)));
        Standing { retransmitted: again && segment.end() != segment.seq, offset }
    }

    /// A segment leaves the wire as it is.
    pub(super) fn left(&mut self, direction: Direction, segment: &Segment, frame: &[u8]) {
        let half = self.of(direction, segment);
        let copy = |into: &mut Vec<u8>, from: &[u8]| {
            into.clear();
            into.extend_from_slice(from);
        };
        copy(&mut half.link, &frame[..segment.ip]);
        copy(&mut half.head, &frame[segment.ip..segment.payload.start]);
        half.tcp = segment.tcp - segment.ip;
        if half.left.is_none_or(|left| is_after(segment.end(), left)) || segment.flags & SYN != 0 {
            half.left = Some(segment.end());
        }
        if segment.flags & ACK != 0 {
            half.ack = segment.ack;
        }
        half.window = segment.window;
    }

    /// Makes a frame for the connection that was heard of last. `None` where nothing is known of it yet.
    pub(super) fn forge(&self, direction: Direction, forgery: Forgery, random: &mut Random) -> Option<Vec<u8>> {
        let flow = self.0.first()?;
        let half = &flow.halves[direction as usize];
        let next = half.left?;
        let (source, destination) = match direction {
            Direction::ToClient => (flow.exchange, flow.client),
            Direction::ToExchange => (flow.client, flow.exchange),
        };
        let (aim, flags, bytes) = match forgery {
            Forgery::Rst(aim) => (aim, RST | ACK, 0),
            Forgery::Syn(aim) => (aim, SYN, 0),
            Forgery::Fin(aim) => (aim, FIN | ACK, 0),
            Forgery::Data(aim, bytes) => (aim, PSH | ACK, bytes),
            Forgery::Unreachable(aim) | Forgery::TooBig(aim, _) => {
                let quoted = &flow.halves[direction.reverse() as usize];
                return quoted.icmp(half, (source.ip(), destination.ip()), forgery, aim, random);
            }
        };
        let (seq, ack) = match aim {
            Aim::Blind => (random.next() as u32, random.next() as u32),
            Aim::InWindow => (next.wrapping_add(random.between(1, WINDOW) as u32), half.ack),
            Aim::Exact => (next, half.ack),
        };
        let mut header = TcpHeader::new(source.port(), destination.port(), seq, half.window);
        header.rst = flags & RST != 0;
        header.syn = flags & SYN != 0;
        header.fin = flags & FIN != 0;
        header.psh = flags & PSH != 0;
        header.ack = flags & ACK != 0;
        header.acknowledgment_number = if header.ack { ack } else { 0 };
        let payload: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
        let mut frame = half.link.clone();
        let written = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let packet = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
                packet.tcp_header(header).write(&mut frame, &payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let packet = PacketBuilder::ipv6(source.octets(), destination.octets(), 64);
                packet.tcp_header(header).write(&mut frame, &payload)
            }
            _ => return None,
        };
        written.ok().map(|()| frame)
    }
}

impl Half {
    /// An ICMP error about this half's last segment, in a frame that goes the way of `back`.
    fn icmp(
        &self,
        back: &Self,
        (source, destination): (IpAddr, IpAddr),
        forgery: Forgery,
        aim: Aim,
        random: &mut Random,
    ) -> Option<Vec<u8>> {
        let mut quote = self.head.get(..self.tcp + QUOTED)?.to_vec();
        let seq = if aim == Aim::Blind { random.next() as u32 } else { self.left? };
        quote[self.tcp + 4..].copy_from_slice(&seq.to_be_bytes());
        let mut frame = back.link.clone();
        let written = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let what = match forgery {
                    Forgery::TooBig(_, mtu) => DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
                    _ => DestUnreachableHeader::Port,
                };
                let packet = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
                packet.icmpv4(Icmpv4Type::DestinationUnreachable(what)).write(&mut frame, &quote)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let what = match forgery {
                    Forgery::TooBig(_, mtu) => Icmpv6Type::PacketTooBig { mtu: mtu.into() },
                    _ => Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port),
                };
                let packet = PacketBuilder::ipv6(source.octets(), destination.octets(), 64);
                packet.icmpv6(what).write(&mut frame, &quote)
            }
            _ => return None,
        };
        written.ok().map(|()| frame)
    }
}
