//! From an Ethernet frame to a TCP segment: where its parts lie, and what its header says.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, TcpOption, TcpPacket};

use super::checksum::Sum;
use crate::floor::{FourTuple, Seq};

/// Destination, source, type.
const ETHERNET_HEADER: usize = 14;
/// An 802.1Q tag: control information and the type of what follows.
const VLAN_TAG: usize = 4;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const IPV6_HEADER: usize = 40;

/// A TCP segment inside an Ethernet frame: offsets into the frame's bytes, and the header's fields.
///
/// The checksums of IP (where it has one) and TCP have been verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose it is: `local` is the destination, `remote` the source.
    pub tuple: FourTuple,
    /// The id of the frame's one 802.1Q tag; 0 without a tag.
    pub vlan: u16,
    /// The IP packet, without Ethernet padding.
    pub ip: Range<usize>,
    /// Where the TCP header starts.
    pub tcp: usize,
    /// The payload; may be empty.
    pub payload: Range<usize>,
    /// The sequence number of the first byte (or of SYN).
    pub seq: Seq,
    /// The next byte the peer expects of us. Means nothing without [`Flags::ack`].
    pub ack: Seq,
    /// The control bits.
    pub flags: Flags,
    /// The window field as it stands on the wire, not scaled.
    pub window: u16,
    /// `TSval` and `TSecr` (RFC 7323).
    pub timestamps: Option<(u32, u32)>,
}

/// The control bits of a TCP header that mean something to us.
#[expect(clippy::struct_excessive_bools, reason = "they are bits on the wire, each with its own meaning")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// No more data from the peer.
    pub fin: bool,
    /// Synchronize sequence numbers.
    pub syn: bool,
    /// Reset the connection.
    pub rst: bool,
    /// Push.
    pub psh: bool,
    /// The acknowledgement field is significant.
    pub ack: bool,
    /// The urgent pointer is significant.
    pub urg: bool,
}

impl Flags {
    /// Whether the segment only carries data and an acknowledgement: nothing that changes a connection's state.
    #[must_use]
    pub const fn plain(self) -> bool {
        self.ack && !self.fin && !self.syn && !self.rst && !self.urg
    }
}

/// A frame that claims to be TCP and is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its headers say.
    #[error("truncated")]
    Truncated,
    /// The IP version is not the one the Ethernet type announced.
    #[error("IP version")]
    Version,
    /// The IPv4 header's checksum is wrong.
    #[error("IPv4 header checksum")]
    IpChecksum,
    /// The TCP checksum is wrong.
    #[error("TCP checksum")]
    TcpChecksum,
    /// The TCP options cannot be read.
    #[error("TCP options")]
    Options,
}

impl Segment {
    /// Bytes of sequence space the segment takes: its payload, and one for SYN and FIN each.
    #[must_use]
    pub fn sequence_len(&self) -> usize {
        self.payload.len() + usize::from(self.flags.syn) + usize::from(self.flags.fin)
    }

    /// The blocks of a SACK option (RFC 2018) among the header's options, in their order there.
    pub fn sack_blocks<'a>(&self, frame: &'a [u8]) -> impl Iterator<Item = (Seq, Seq)> + use<'a> {
        let mut ranges = [None; 3];
        let mut options = &frame[self.tcp + 20..self.payload.start];
        while let Ok((rest, option)) = TcpOption::parse(options) {
            if let TcpOption::SackRange(found) = option {
                ranges = found;
            }
            if rest.is_empty() || option == TcpOption::EndOfList {
                break;
            }
            options = rest;
        }
        ranges.into_iter().flatten().map(|(left, right)| (Seq(left), Seq(right)))
    }
}

/// Walks over the headers of an Ethernet frame.
///
/// Answers `None` for what is not TCP, is a fragment, has IPv6 extension headers or more than one VLAN tag: the XDP
/// program sends none of these here.
///
/// # Errors
///
/// [`Malformed`], where the frame is TCP and broken.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Option<Segment>, Malformed> {
    let Some(ethertype) = frame.get(12..ETHERNET_HEADER) else { return Ok(None) };
    let mut ethertype = u16::from_be_bytes([ethertype[0], ethertype[1]]);
    let mut ip = ETHERNET_HEADER;
    let mut vlan = 0;
    if ethertype == TYPE_VLAN {
        let Some(tag) = frame.get(ETHERNET_HEADER..ETHERNET_HEADER + VLAN_TAG) else { return Ok(None) };
        vlan = u16::from_be_bytes([tag[0], tag[1]]) & 0x0fff;
        ethertype = u16::from_be_bytes([tag[2], tag[3]]);
        ip += VLAN_TAG;
    }
    let (source, destination, tcp, end) = match ethertype {
        TYPE_IPV4 => {
            let packet = Ipv4Packet::new_checked(&frame[ip..]).map_err(|_| Malformed::Truncated)?;
            if packet.next_header() != IpProtocol::Tcp || packet.more_frags() || packet.frag_offset() != 0 {
                return Ok(None);
            }
            let header = usize::from(packet.header_len());
            if !Sum::default().and(&frame[ip..ip + header]).verifies() {
                return Err(Malformed::IpChecksum);
            }
            let end = ip + usize::from(packet.total_len());
            (IpAddr::V4(packet.src_addr()), IpAddr::V4(packet.dst_addr()), ip + header, end)
        }
        TYPE_IPV6 => {
            let packet = Ipv6Packet::new_checked(&frame[ip..]).map_err(|_| Malformed::Truncated)?;
            // IPv4 has a checksum to notice this; IPv6 has none.
            if packet.version() != 6 {
                return Err(Malformed::Version);
            }
            if packet.next_header() != IpProtocol::Tcp {
                return Ok(None);
            }
            let end = ip + packet.total_len();
            (IpAddr::V6(packet.src_addr()), IpAddr::V6(packet.dst_addr()), ip + IPV6_HEADER, end)
        }
        _ => return Ok(None),
    };
    let segment = &frame[tcp..end];
    let header = TcpPacket::new_checked(segment).map_err(|_| Malformed::Truncated)?;
    if !Sum::pseudo_header(source, destination, segment.len()).and(segment).verifies() {
        return Err(Malformed::TcpChecksum);
    }
    let payload = tcp + usize::from(header.header_len())..end;
    Ok(Some(Segment {
        tuple: FourTuple {
            local: SocketAddr::new(destination, header.dst_port()),
            remote: SocketAddr::new(source, header.src_port()),
        },
        vlan,
        ip: ip..end,
        tcp,
        payload,
        seq: Seq(header.seq_number().0.cast_unsigned()),
        ack: Seq(header.ack_number().0.cast_unsigned()),
        flags: Flags {
            fin: header.fin(),
            syn: header.syn(),
            rst: header.rst(),
            psh: header.psh(),
            ack: header.ack(),
            urg: header.urg(),
        },
        window: header.window_len(),
        timestamps: timestamps(header.options())?,
    }))
}

/// The timestamps among a header's options.
#[inline]
fn timestamps(mut options: &[u8]) -> Result<Option<(u32, u32)>, Malformed> {
    // Nearly every segment of an established connection: two no-operations, then the timestamps (RFC 7323 appendix A).
    if let [1, 1, 8, 10, a, b, c, d, e, f, g, h] = *options {
        return Ok(Some((u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))));
    }
    while !options.is_empty() {
        let (rest, option) = TcpOption::parse(options).map_err(|_| Malformed::Options)?;
        match option {
            TcpOption::TimeStamp { tsval, tsecr } => return Ok(Some((tsval, tsecr))),
            TcpOption::EndOfList => break,
            _ => options = rest,
        }
    }
    Ok(None)
}
