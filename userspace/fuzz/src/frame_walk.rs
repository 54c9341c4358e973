//! The walk over an Ethernet frame's headers, beside etherparse's.
//!
//! The first byte of the input says whether checksums are made right, so that what lies behind them is reached; the rest
//! is the frame.

use std::net::{IpAddr, SocketAddr};

use etherparse::{LinkExtSlice, NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};
use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};
use wiretick::floor::FourTuple;
use wiretick::frame::{self, Envelope, Flags, Malformed, Segment};

/// Walks over the frame and compares.
pub fn check(input: &[u8]) {
    let Some((choice, frame)) = input.split_first() else { return };
    let mut frame = frame.to_vec();
    if choice & 1 != 0 {
        let _ = mend(&mut frame);
    }
    let opinion = Opinion::of(&frame);
    match frame::parse(&frame) {
        Ok(Some(segment)) => {
            lies_inside(&segment, &frame);
            let opinion = opinion.unwrap_or_else(|| panic!("etherparse sees no segment: {segment:?}"));
            opinion.compare(&segment, &frame);
            comes_back(&segment, &frame);
        }
        Ok(None) => assert!(opinion.is_none(), "etherparse sees a segment of one's own kind"),
        // smoltcp is stricter about options than etherparse about some, and the other way round.
        Err(Malformed::Options) => {}
        Err(fault) => assert!(opinion.is_none(), "etherparse finds nothing wrong: {fault}"),
    }
}

fn lies_inside(segment: &Segment, frame: &[u8]) {
    assert!(segment.ip.end <= frame.len(), "{segment:?}");
    assert!(segment.ip.start + 20 <= segment.tcp, "{segment:?}");
    assert!(segment.tcp + 20 <= segment.payload.start, "{segment:?}");
    assert!(segment.payload.start <= segment.payload.end, "{segment:?}");
    assert_eq!(segment.payload.end, segment.ip.end);
    assert!(segment.sack_blocks(frame).count() <= 4);
}

/// What etherparse makes of a frame that is a TCP segment the walk should know.
struct Opinion<'a> {
    vlan: u16,
    source: IpAddr,
    destination: IpAddr,
    tcp: TcpSlice<'a>,
}

impl<'a> Opinion<'a> {
    fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let vlan = match packet.link_exts.as_slice() {
            [] => 0,
            [LinkExtSlice::Vlan(tag)] if frame[12..14] == [0x81, 0] => tag.vlan_identifier().value(),
            _ => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { return None };
        let (source, destination): (IpAddr, IpAddr) = match &packet.net {
            Some(NetSlice::Ipv4(ip)) if !ip.is_payload_fragmented() && ip.extensions().is_empty() => {
                let header = ip.header();
                if sum(header.slice(), 0) != 0xffff {
                    return None;
                }
                (header.source_addr().into(), header.destination_addr().into())
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header();
                // A length of 0 is for jumbograms, which etherparse takes to the end of the frame.
                if header.next_header().0 != 6 || header.payload_length() == 0 {
                    return None;
                }
                (header.source_addr().into(), header.destination_addr().into())
            }
            _ => return None,
        };
        let segment = tcp.slice();
        let len = u32::try_from(segment.len()).unwrap();
        (sum(segment, pseudo_header(source, destination, len)) == 0xffff).then_some(Self {
            vlan,
            source,
            destination,
            tcp,
        })
    }

    fn compare(&self, segment: &Segment, frame: &[u8]) {
        let tcp = &self.tcp;
        assert_eq!(segment.vlan, self.vlan);
        assert_eq!(segment.tuple.remote, SocketAddr::new(self.source, tcp.source_port()));
        assert_eq!(segment.tuple.local, SocketAddr::new(self.destination, tcp.destination_port()));
        assert_eq!(frame[segment.payload.clone()].as_ptr(), tcp.payload().as_ptr());
        assert_eq!(segment.payload.len(), tcp.payload().len());
        assert_eq!((segment.seq.0, segment.ack.0), (tcp.sequence_number(), tcp.acknowledgment_number()));
        assert_eq!(segment.window, tcp.window_size());
        let flags =
            Flags { fin: tcp.fin(), syn: tcp.syn(), rst: tcp.rst(), psh: tcp.psh(), ack: tcp.ack(), urg: tcp.urg() };
        assert_eq!(segment.flags, flags);
        let mut timestamps = None;
        for option in tcp.options_iterator() {
            match option {
                Ok(TcpOptionElement::Timestamp(value, echo)) => timestamps = timestamps.or(Some((value, echo))),
                Ok(_) => {}
                // An option that etherparse has no name for, or that is broken: it reads no further.
                Err(_) => return,
            }
        }
        assert_eq!(segment.timestamps, timestamps);
    }
}

/// A segment that is written from what was read is read as the same.
fn comes_back(segment: &Segment, frame: &[u8]) {
    let Flags { fin, syn, rst, psh, ack, urg } = segment.flags;
    let control = match (fin, syn, rst, psh, urg) {
        (false, false, false, false, false) => TcpControl::None,
        (false, false, false, true, false) => TcpControl::Psh,
        (true, false, false, false, false) => TcpControl::Fin,
        (false, true, false, false, false) => TcpControl::Syn,
        (false, false, true, false, false) => TcpControl::Rst,
        // smoltcp has no word for it.
        _ => return,
    };
    let repr = TcpRepr {
        src_port: 0,
        dst_port: 0,
        control,
        seq_number: TcpSeqNumber(segment.seq.0.cast_signed()),
        ack_number: ack.then_some(TcpSeqNumber(segment.ack.0.cast_signed())),
        window_len: segment.window,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: segment.timestamps.map(|(value, echo)| TcpTimestampRepr::new(value, echo)),
        payload: &frame[segment.payload.clone()],
    };
    let sender = FourTuple { local: segment.tuple.remote, remote: segment.tuple.local };
    let vlan = (segment.vlan != 0).then_some(segment.vlan);
    let envelope = Envelope::new([1; 6], [2; 6], vlan, sender.local.is_ipv6());
    let mut written = vec![0; envelope.len() + 100 + segment.payload.len()];
    // What is longer than a packet can be with options was without.
    if segment.payload.len() > 60_000 {
        return;
    }
    envelope.write(&mut written);
    let len = envelope.len() + frame::write_segment(&sender, &repr, &mut written[envelope.len()..]);
    let read = frame::parse(&written[..len]).unwrap().unwrap();
    assert_eq!(
        (read.tuple, read.vlan, read.seq, read.window),
        (segment.tuple, segment.vlan, segment.seq, segment.window)
    );
    assert_eq!((read.flags, read.timestamps), (segment.flags, segment.timestamps));
    assert!(!ack || read.ack == segment.ack);
    assert_eq!(written[read.payload], frame[segment.payload.clone()]);
}

/// Makes the checksums right, where there is a packet long enough to have them. `None` where there is not.
fn mend(frame: &mut [u8]) -> Option<()> {
    let ip = if frame.get(12..14)? == [0x81, 0] { 18 } else { 14 };
    let packet = frame.get_mut(ip..)?;
    let is_ipv6 = packet.first()? >> 4 == 6;
    let (tcp, end) = if is_ipv6 {
        (40, 40 + usize::from(u16::from_be_bytes(*packet.get(4..)?.first_chunk()?)))
    } else {
        (usize::from(packet[0] & 15) * 4, usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?)))
    };
    if tcp < 20 || end < tcp + 18 || end > packet.len() {
        return None;
    }
    let (source, destination): (IpAddr, IpAddr) = if is_ipv6 {
        let address = |at: usize| packet[at..].first_chunk::<16>().copied();
        (address(8)?.into(), address(24)?.into())
    } else {
        packet[10..12].fill(0);
        let checksum = !sum(&packet[..tcp], 0);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        let address = |at: usize| packet[at..].first_chunk::<4>().copied();
        (address(12)?.into(), address(16)?.into())
    };
    let segment = &mut packet[tcp..end];
    segment[16..18].fill(0);
    let checksum = !sum(segment, pseudo_header(source, destination, u32::try_from(end - tcp).ok()?));
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

/// RFC 1071, word by word.
fn sum(bytes: &[u8], begin: u32) -> u16 {
    let mut sum = begin;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum).unwrap()
}

/// The sum of what stands before a segment in its checksum only (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo_header(source: IpAddr, destination: IpAddr, len: u32) -> u32 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    u32::from(sum(&[octets(source), octets(destination), len.to_be_bytes().to_vec()].concat(), 6))
}
