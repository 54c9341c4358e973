//! From an IP packet to an Ethernet frame: the header in front, and the checksums inside.

use std::net::IpAddr;

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{IpProtocol, IpRepr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber};

use super::checksum::Sum;
use crate::floor::{FourTuple, Seq};

/// The Ethernet header, with an 802.1Q tag where the path needs one, that goes in front of every packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    bytes: [u8; 18],
    len: usize,
}

impl Envelope {
    /// The header for packets from `source` to `next_hop`; `vlan` is the id of the tag, or `None` for no tag.
    #[must_use]
    pub fn new(source: [u8; 6], next_hop: [u8; 6], vlan: Option<u16>, ipv6: bool) -> Self {
        let ethertype: u16 = if ipv6 { 0x86dd } else { 0x0800 };
        let mut bytes = [0; 18];
        bytes[..6].copy_from_slice(&next_hop);
        bytes[6..12].copy_from_slice(&source);
        let len = if let Some(vlan) = vlan {
            bytes[12..14].copy_from_slice(&0x8100u16.to_be_bytes());
            bytes[14..16].copy_from_slice(&vlan.to_be_bytes());
            16
        } else {
            12
        };
        bytes[len..len + 2].copy_from_slice(&ethertype.to_be_bytes());
        Self { bytes, len: len + 2 }
    }

    /// Addresses packets to `next_hop` from now on.
    pub fn readdress(&mut self, next_hop: [u8; 6]) {
        self.bytes[..6].copy_from_slice(&next_hop);
    }

    /// Bytes the header takes: 14, or 18 with a tag.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a header is never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the packets are IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.bytes[self.len - 2] == 0x86
    }

    /// Writes the header to the front of `frame`.
    pub fn write(&self, frame: &mut [u8]) {
        frame[..self.len].copy_from_slice(&self.bytes[..self.len]);
    }
}

/// Checksums are not smoltcp's business: [`seal`] writes them once the headers are final.
#[must_use]
pub fn no_checksums() -> ChecksumCapabilities {
    let mut capabilities = ChecksumCapabilities::ignored();
    capabilities.ipv4 = Checksum::None;
    capabilities.tcp = Checksum::None;
    capabilities
}

/// A segment with neither options nor payload, and without ports: [`write_segment`] knows them from the tuple.
#[inline]
#[must_use]
pub fn bare_segment(control: TcpControl, seq: Seq, ack: Seq, window: u16) -> TcpRepr<'static> {
    let number = |seq: Seq| TcpSeqNumber(seq.0.cast_signed());
    TcpRepr {
        src_port: 0,
        dst_port: 0,
        control,
        seq_number: number(seq),
        ack_number: Some(number(ack)),
        window_len: window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    }
}

/// Writes an IP packet with one TCP segment of ours into `out` and answers its length. The ports are those of `tuple`,
/// whatever `segment` says.
///
/// # Panics
///
/// Where `out` has no room for it.
pub fn write_segment(tuple: &FourTuple, segment: &TcpRepr<'_>, out: &mut [u8]) -> usize {
    emit(tuple, segment, segment.payload.len(), out)
}

/// Writes the headers of `segment` in front of `payload_len` bytes of payload that stand in `out` already, right behind
/// where the headers end, and answers the length of the whole IP packet. The ports are those of `tuple`.
///
/// # Panics
///
/// Where `out` has no room for it, or `segment` has a payload of its own.
pub fn write_headers(tuple: &FourTuple, segment: &TcpRepr<'_>, payload_len: usize, out: &mut [u8]) -> usize {
    assert!(segment.payload.is_empty(), "the payload stands in the packet already");
    emit(tuple, segment, payload_len, out)
}

/// Writes the headers, whatever payload `segment` itself has, and the checksums over `payload_len` bytes behind the headers.
fn emit(tuple: &FourTuple, segment: &TcpRepr<'_>, payload_len: usize, out: &mut [u8]) -> usize {
    let segment = TcpRepr { src_port: tuple.local.port(), dst_port: tuple.remote.port(), ..*segment };
    let (source, destination) = (tuple.local.ip().into(), tuple.remote.ip().into());
    let ip = IpRepr::new(source, destination, IpProtocol::Tcp, segment.header_len() + payload_len, 64);
    let len = ip.buffer_len();
    let out = &mut out[..len];
    ip.emit(&mut *out, &no_checksums());
    let tcp = ip.header_len();
    let mut packet = TcpPacket::new_unchecked(&mut out[tcp..]);
    segment.emit(&mut packet, &source, &destination, &no_checksums());
    seal(out, tcp);
    len
}

/// Gives the TCP options of an IP packet that [`write_segment`] has written the form that Linux gives them: the padding stands in front of
/// the timestamps (RFC 7323 appendix A), not behind them.
pub fn as_linux_writes(packet: &mut [u8]) {
    let tcp = if packet[0] >> 4 == 4 { 20 } else { 40 };
    if let Some(options) = packet.get_mut(tcp + 20..tcp + 32)
        && options[..2] == [8, 10]
    {
        options.rotate_right(2);
        options[..2].fill(1);
        seal(packet, tcp);
    }
}

/// Writes the checksums of an IP packet whose headers are final; its TCP header starts at `tcp`.
///
/// # Panics
///
/// Where the packet is shorter than its headers.
pub fn seal(packet: &mut [u8], tcp: usize) {
    let (source, destination) = if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
        let sum = Sum::default().and(&packet[..tcp]).finish();
        packet[10..12].copy_from_slice(&sum);
        (IpAddr::from(array::<4>(&packet[12..16])), IpAddr::from(array::<4>(&packet[16..20])))
    } else {
        (IpAddr::from(array::<16>(&packet[8..24])), IpAddr::from(array::<16>(&packet[24..40])))
    };
    let segment = &mut packet[tcp..];
    segment[16..18].fill(0);
    let sum = Sum::pseudo_header(source, destination, segment.len()).and(segment).finish();
    segment[16..18].copy_from_slice(&sum);
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
