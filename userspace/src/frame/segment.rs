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
    match usual(frame) {
        Some(segment) => Ok(Some(segment)),
        None => walk(frame),
    }
}

/// The segment of a frame as nearly all of an IPv4 feed are: untagged, no IP options, no fragment, the timestamps and
/// nothing else among the TCP options, intact. The same as [`walk`] would answer, in half the instructions: one array of
/// known length takes the place of a check for each field. `None` for all other frames.
#[inline]
fn usual(frame: &[u8]) -> Option<Segment> {
    const TCP: usize = ETHERNET_HEADER + 20;
    const PAYLOAD: usize = TCP + 32;
    let head = frame.first_chunk::<PAYLOAD>()?;
    let u16_at = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let u32_at = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let address = |at: usize| IpAddr::V4([head[at], head[at + 1], head[at + 2], head[at + 3]].into());
    // Type and version; fragment bits (all but "don't fragment"); protocol; data offset; the options' form.
    let is_usual = head[12..15] == [0x08, 0x00, 0x45]
        && u16_at(20) & 0xbfff == 0
        && head[23] == 6
        && head[TCP + 12] == 0x80
        && head[TCP + 20..TCP + 24] == [1, 1, 8, 10];
    let end = ETHERNET_HEADER + usize::from(u16_at(16));
    if !is_usual || end < PAYLOAD || end > frame.len() || !Sum::default().and(&head[ETHERNET_HEADER..TCP]).verifies() {
        return None;
    }
    let (source, destination) = (address(26), address(30));
    if !Sum::pseudo_header(source, destination, end - TCP).and(&frame[TCP..end]).verifies() {
        return None;
    }
    let bits = head[TCP + 13];
    Some(Segment {
        tuple: FourTuple {
            local: SocketAddr::new(destination, u16_at(TCP + 2)),
            remote: SocketAddr::new(source, u16_at(TCP)),
        },
        vlan: 0,
        ip: ETHERNET_HEADER..end,
        tcp: TCP,
        payload: PAYLOAD..end,
        seq: Seq(u32_at(TCP + 4)),
        ack: Seq(u32_at(TCP + 8)),
        flags: Flags {
            fin: bits & 0x01 != 0,
            syn: bits & 0x02 != 0,
            rst: bits & 0x04 != 0,
            psh: bits & 0x08 != 0,
            ack: bits & 0x10 != 0,
            urg: bits & 0x20 != 0,
        },
        window: u16_at(TCP + 14),
        timestamps: Some((u32_at(TCP + 24), u32_at(TCP + 28))),
    })
}

/// Reads any frame, field by field.
fn walk(frame: &[u8]) -> Result<Option<Segment>, Malformed> {
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
            // A wrong version with a right checksum is nothing that happens on a wire; smoltcp refuses it too.
            if packet.version() != 4 {
                return Err(Malformed::Version);
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

/// The timestamps among a header's options. All options are read to their end, as smoltcp does: were a segment taken for good
/// here and refused there, its bytes would be used and never acknowledged.
fn timestamps(mut options: &[u8]) -> Result<Option<(u32, u32)>, Malformed> {
    let mut found = None;
    while !options.is_empty() {
        let (rest, option) = TcpOption::parse(options).map_err(|_| Malformed::Options)?;
        match option {
            TcpOption::TimeStamp { tsval, tsecr } => found = found.or(Some((tsval, tsecr))),
            TcpOption::EndOfList => break,
            _ => {}
        }
        options = rest;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

    use super::*;
    use crate::frame::{Envelope, write_segment};

    fn usual_frame(payload: &[u8]) -> Vec<u8> {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let tuple = FourTuple { local: at("10.77.0.2:443"), remote: at("10.77.0.1:40000") };
        let segment = TcpRepr {
            src_port: 0,
            dst_port: 0,
            control: TcpControl::Psh,
            seq_number: TcpSeqNumber(1),
            ack_number: Some(TcpSeqNumber(2)),
            window_len: 3,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: Some(TcpTimestampRepr::new(5, 6)),
            payload,
        };
        let envelope = Envelope::new([1; 6], [2; 6], None, false);
        let mut frame = vec![0; 200 + payload.len()];
        envelope.write(&mut frame);
        let len = envelope.len() + write_segment(&tuple, &segment, &mut frame[envelope.len()..]);
        frame.truncate(len);
        // smoltcp puts the padding behind the timestamps; kernels put it in front (RFC 7323 appendix A).
        frame[54..66].rotate_right(2);
        frame[54..56].fill(1);
        crate::frame::seal(&mut frame[14..], 20);
        frame
    }

    #[test]
    fn the_usual_frame_is_read_at_once() {
        let frame = usual_frame(b"tick");
        let segment = usual(&frame).unwrap();
        assert_eq!(&frame[segment.payload.clone()], b"tick");
        assert_eq!((segment.seq, segment.ack, segment.window), (Seq(1), Seq(2), 3));
        assert_eq!((segment.timestamps, segment.flags.plain()), (Some((5, 6)), true));
        assert_eq!(Ok(Some(segment)), walk(&frame));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever was changed, with the checksums made right again or not: what is read at once is what the walk reads.
        #[test]
        fn what_is_read_at_once_is_what_the_walk_reads(
            payload in proptest::collection::vec(any::<u8>(), 0..80),
            changes in proptest::collection::vec((0usize..70, any::<u8>()), 0..4),
            mended in any::<bool>(),
            cut in 0usize..20,
            behind in 0usize..4,
        ) {
            let mut frame = usual_frame(&payload);
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            if mended {
                crate::frame::seal(&mut frame[14..], 20);
            }
            frame.resize(frame.len() + behind, 0);
            frame.truncate(frame.len() - if behind == 0 { cut } else { 0 });
            if let Some(segment) = usual(&frame) {
                prop_assert_eq!(Ok(Some(segment)), walk(&frame));
            }
        }
    }
}
