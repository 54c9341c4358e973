//! A TCP segment inside an Ethernet frame: where its parts lie, and what can be done to it.
//!
//! What comes in are the bytes of a frame; what goes out are offsets into them, or new frames that say the same in another
//! way. Reading is etherparse's; frames are changed where they lie, and their checksums made right again.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use etherparse::{Ipv4HeaderSlice, NetSlice, SlicedPacket, TcpSlice, TransportSlice};

/// Flags, as in RFC 9293 section 3.1.
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const PSH: u8 = 8;
pub(super) const ACK: u8 = 16;

/// Destination, source, type.
pub(super) const ETHERNET_HEADER: usize = 14;

/// Where fields lie in a TCP header.
const SEQ: usize = 4;
const FLAGS: usize = 13;
const CHECKSUM: usize = 16;

/// A segment, as offsets into its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    /// Where the IP header begins.
    pub(super) ip: usize,
    /// Where the TCP header begins.
    pub(super) tcp: usize,
    pub(super) payload: Range<usize>,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) flags: u8,
}

impl Segment {
    /// The segment in a frame; `None` where there is none, or not a whole one.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
        let (ip, source, destination) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header();
                (at(frame, header.slice()), header.source_addr().into(), header.destination_addr().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                (at(frame, header.slice()), header.source_addr().into(), header.destination_addr().into())
            }
            _ => return None,
        };
        let start = at(frame, tcp.slice());
        let payload = start + tcp.header_slice().len()..start + tcp.slice().len();
        Some(Self {
            source: SocketAddr::new(source, tcp.source_port()),
            destination: SocketAddr::new(destination, tcp.destination_port()),
            ip,
            tcp: start,
            payload,
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            window: tcp.window_size(),
            flags: tcp.header_slice()[FLAGS],
        })
    }

    /// The number behind the last byte it takes of the sequence space.
    pub(super) fn end(&self) -> u32 {
        let marks = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        self.seq.wrapping_add(self.payload.len() as u32).wrapping_add(marks)
    }

    /// Whether it does nothing but carry data and an acknowledgement.
    fn is_plain(&self) -> bool {
        self.flags & !PSH == ACK && !self.payload.is_empty()
    }

    /// Cuts it in two before byte `cut` of its payload, which lies inside of it.
    pub(super) fn split(&self, frame: &[u8], cut: usize) -> [Vec<u8>; 2] {
        let cut = self.payload.start + cut;
        let mut first = frame[..cut].to_vec();
        first[self.tcp + FLAGS] &= !(FIN | PSH);
        let mut second = frame[..self.payload.start].to_vec();
        second.extend_from_slice(&frame[cut..self.payload.end]);
        let seq = self.seq.wrapping_add((cut - self.payload.start) as u32);
        second[self.tcp + SEQ..self.tcp + SEQ + 4].copy_from_slice(&seq.to_be_bytes());
        for half in [&mut first, &mut second] {
            self.seal(half);
        }
        [first, second]
    }

    /// Joins it with the one that follows, under that one's header. `None` where they do not follow each other, where more
    /// than data is in them, or where the packet would be larger than `mtu`.
    pub(super) fn join(&self, frame: &[u8], next: &Self, next_frame: &[u8], mtu: usize) -> Option<Vec<u8>> {
        let follows = (self.source, self.destination, self.end()) == (next.source, next.destination, next.seq);
        let bytes = next.payload.end - next.ip + self.payload.len();
        if !follows || !self.is_plain() || !next.is_plain() || bytes > mtu {
            return None;
        }
        let mut joined = next_frame[..next.payload.start].to_vec();
        joined.extend_from_slice(&frame[self.payload.clone()]);
        joined.extend_from_slice(&next_frame[next.payload.clone()]);
        joined[next.tcp + SEQ..next.tcp + SEQ + 4].copy_from_slice(&self.seq.to_be_bytes());
        next.seal(&mut joined);
        Some(joined)
    }

    /// Makes lengths and checksums right for a frame that has the headers of this segment and ends with its payload.
    pub(super) fn seal(&self, frame: &mut [u8]) {
        let bytes = (frame.len() - self.ip) as u16;
        let tcp = &frame[self.tcp..];
        let tcp = TcpSlice::from_slice(tcp).expect("the header of a segment that was read before");
        let sum = match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                tcp.calc_checksum_ipv4(source.octets(), destination.octets()).ok()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                tcp.calc_checksum_ipv6(source.octets(), destination.octets()).ok()
            }
            _ => None,
        };
        let sum = sum.expect("a packet of one family, below 64 KiB");
        frame[self.tcp + CHECKSUM..self.tcp + CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        let ip = self.ip;
        if self.source.is_ipv6() {
            frame[ip + 4..ip + 6].copy_from_slice(&(bytes - 40).to_be_bytes());
            return;
        }
        frame[ip + 2..ip + 4].copy_from_slice(&bytes.to_be_bytes());
        let header = Ipv4HeaderSlice::from_slice(&frame[ip..]).expect("the header of a packet that was read before");
        let sum = header.to_header().calc_header_checksum();
        frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Where a part of `frame` begins in it.
fn at(frame: &[u8], part: &[u8]) -> usize {
    part.as_ptr() as usize - frame.as_ptr() as usize
}

/// Whether one sequence number comes behind another (RFC 9293 section 3.4).
pub(super) const fn is_after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}
