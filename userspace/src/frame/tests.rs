//! What is written is what is read, and what is broken is told from what is not ours.

use std::net::SocketAddr;

use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::checksum::Sum;
use super::*;
use crate::floor::{FourTuple, Seq};

fn tuple(v6: bool) -> FourTuple {
    let at = |s: &str| s.parse::<SocketAddr>().unwrap();
    if v6 {
        FourTuple { local: at("[fd77::1]:40000"), remote: at("[fd77::2]:443") }
    } else {
        FourTuple { local: at("10.77.0.1:40000"), remote: at("10.77.0.2:443") }
    }
}

/// The template: a data segment from us to the peer. Tests change what they are about.
fn data(payload: &[u8]) -> TcpRepr<'_> {
    TcpRepr {
        src_port: 0,
        dst_port: 0,
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(-5),
        ack_number: Some(TcpSeqNumber(77)),
        window_len: 512,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None, None, None],
        timestamp: Some(TcpTimestampRepr::new(1000, 2000)),
        payload,
    }
}

fn frame(v6: bool, vlan: Option<u16>, repr: &TcpRepr<'_>) -> Vec<u8> {
    let envelope = Envelope::new([2; 6], [4; 6], vlan, v6);
    let mut bytes = vec![0; 2000];
    let len = write_segment(&tuple(v6), repr, &mut bytes[envelope.len()..]);
    envelope.write(&mut bytes);
    bytes.truncate(envelope.len() + len);
    bytes
}

#[test]
fn what_is_written_is_read_back_from_either_family_with_and_without_a_tag() {
    for v6 in [false, true] {
        for vlan in [None, Some(7)] {
            let bytes = frame(v6, vlan, &data(b"payload"));
            let segment = parse(&bytes).unwrap().unwrap();
            assert_eq!(&bytes[segment.payload.clone()], b"payload");
            assert_eq!(segment.tuple.local, tuple(v6).remote, "the reader is the peer");
            assert_eq!(segment.tuple.remote, tuple(v6).local);
            assert_eq!(segment.vlan, vlan.unwrap_or(0));
            assert_eq!(segment.seq, Seq(5) - 10);
            assert_eq!(segment.ack, Seq(77));
            assert_eq!(segment.timestamps, Some((1000, 2000)));
            assert_eq!(segment.window, 512);
            assert!(segment.flags.plain() && segment.flags.psh);
            assert_eq!(segment.ip.end, bytes.len());
        }
    }
}

#[test]
fn ethernet_padding_is_not_payload() {
    let mut bytes = frame(false, None, &data(b""));
    bytes.resize(80, 0xaa);
    let segment = parse(&bytes).unwrap().unwrap();
    assert!(segment.payload.is_empty());
}

#[test]
fn every_flipped_bit_behind_the_ethernet_header_is_noticed() {
    for v6 in [false, true] {
        let good = frame(v6, None, &data(b"0123456789"));
        let ours = parse(&good).unwrap().unwrap();
        for bit in 14 * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // Traffic class, flow label and hop limit of IPv6 are under no checksum (the version is bits 4 to 7).
            let header_bit = bit - 14 * 8;
            let unprotected = v6 && (header_bit < 4 || (8..32).contains(&header_bit) || header_bit / 8 == 7);
            if let Ok(Some(segment)) = parse(&bad) {
                assert!(unprotected && segment == ours, "bit {bit} went unnoticed");
            }
        }
    }
}

#[test]
fn a_frame_cut_short_anywhere_is_never_a_segment() {
    for v6 in [false, true] {
        let bytes = frame(v6, Some(5), &data(b"0123456789"));
        for len in 0..bytes.len() {
            assert!(!matches!(parse(&bytes[..len]), Ok(Some(_))), "cut at {len}");
        }
    }
}

#[test]
fn what_is_not_tcp_is_not_ours() {
    let mut udp = frame(false, None, &data(b""));
    udp[14 + 9] = 17;
    assert_eq!(parse(&udp), Ok(None));
    let mut arp = frame(false, None, &data(b""));
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(parse(&arp), Ok(None));
    for fragment in [[0x20, 0], [0, 1]] {
        let mut bytes = frame(false, None, &data(b""));
        bytes[14 + 6..14 + 8].copy_from_slice(&fragment);
        assert_eq!(parse(&bytes), Ok(None));
    }
}

#[test]
fn sack_blocks_are_found_behind_timestamps() {
    let repr = TcpRepr { sack_ranges: [Some((9, 10)), Some((20, 30)), None], ..data(b"") };
    let bytes = frame(false, None, &repr);
    let segment = parse(&bytes).unwrap().unwrap();
    assert_eq!(segment.timestamps, Some((1000, 2000)));
    assert_eq!(segment.sack_blocks(&bytes).collect::<Vec<_>>(), [(Seq(9), Seq(10)), (Seq(20), Seq(30))]);
}

#[test]
fn options_that_lie_about_their_length_are_malformed() {
    let mut bytes = frame(false, None, &data(b""));
    let options = 14 + 20 + 20;
    bytes[options..options + 4].copy_from_slice(&[8, 200, 0, 0]);
    seal(&mut bytes[14..], 20);
    assert_eq!(parse(&bytes), Err(Malformed::Options));
}

/// Found by fuzzing: such a segment was used where it lay, and smoltcp, which reads all options, refused it afterwards. Its
/// bytes were never acknowledged.
#[test]
fn options_that_lie_are_malformed_behind_the_timestamps_too() {
    let repr = TcpRepr { sack_ranges: [Some((9, 10)), None, None], ..data(b"tick") };
    let mut bytes = frame(false, None, &repr);
    let behind = 14 + 20 + 20 + 10;
    for lie in [[3, 200], [3, 0], [2, 3]] {
        bytes[behind..behind + 2].copy_from_slice(&lie);
        seal(&mut bytes[14..], 20);
        assert_eq!(parse(&bytes), Err(Malformed::Options), "{lie:?}");
    }
}

/// Found by fuzzing: smoltcp's view of an IPv4 packet does not look at it, its interface does.
#[test]
fn an_ip_version_that_is_not_the_announced_one_is_malformed_whatever_the_checksum() {
    for v6 in [false, true] {
        for version in (0..16).filter(|version| *version != if v6 { 6 } else { 4 }) {
            let mut bytes = frame(v6, None, &data(b"tick"));
            bytes[14] = bytes[14] & 0x0f | version << 4;
            if !v6 {
                bytes[14 + 10..14 + 12].fill(0);
                let sum = Sum::default().and(&bytes[14..34]).finish();
                bytes[14 + 10..14 + 12].copy_from_slice(&sum);
            }
            assert_eq!(parse(&bytes), Err(Malformed::Version), "{version}");
        }
    }
}

#[test]
fn a_segment_in_pieces_says_the_same() {
    let payload: Vec<u8> = (0..8_900u32).map(|n| n as u8).collect();
    for v6 in [false, true] {
        for (vlan, control) in [(None, TcpControl::Psh), (Some(7), TcpControl::Fin)] {
            let repr = TcpRepr { control, ..data(&payload) };
            let envelope = Envelope::new([2; 6], [4; 6], vlan, v6);
            let mut whole = vec![0; 9_100];
            let len = write_segment(&tuple(v6), &repr, &mut whole[envelope.len()..]);
            envelope.write(&mut whole);
            whole.truncate(envelope.len() + len);
            let segment = parse(&whole).unwrap().unwrap();
            let pieces = split(&whole, &segment, 3_000);
            assert_eq!(pieces.len(), 4);
            let mut next = segment.seq;
            let mut joined = Vec::new();
            for (number, piece) in pieces.iter().enumerate() {
                assert!(piece.len() <= 3_000);
                let part = parse(piece).unwrap().unwrap_or_else(|| panic!("piece {number} is not TCP"));
                assert_eq!((part.tuple, part.vlan, part.ack), (segment.tuple, segment.vlan, segment.ack));
                assert_eq!((part.timestamps, part.window), (segment.timestamps, segment.window));
                assert_eq!((part.seq, part.ip.end), (next, piece.len()));
                let is_last = number == 3;
                assert_eq!(
                    (part.flags.psh, part.flags.fin),
                    (segment.flags.psh && is_last, segment.flags.fin && is_last)
                );
                joined.extend_from_slice(&piece[part.payload.clone()]);
                next = next + part.payload.len();
            }
            assert_eq!(joined, payload);
        }
    }
}

#[test]
fn a_segment_that_is_small_enough_stays_whole_and_loses_its_padding() {
    let mut bytes = frame(false, None, &data(b"tick"));
    let len = bytes.len();
    bytes.resize(100, 0);
    let segment = parse(&bytes).unwrap().unwrap();
    assert_eq!(split(&bytes, &segment, 200), [bytes[..len].to_vec()]);
}
