//! What an IPv6 header can say: TCP directly behind it, or nothing of ours.

use libtest_mimic::Trial;
use wiretick_xdp::Verdict;

use crate::sentences;
use crate::subject::{Subject, ours_v6};
use crate::wire::{ETHERNET, PROTOCOL_TCP, PROTOCOL_UDP, TCP, patched};

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        of_all_next_headers_only_tcp_goes_to_the_ring,
        udp_over_ipv6_on_our_ports_is_not_ours,
        tcp_behind_an_extension_header_stays_with_the_kernel,
        no_ipv6_fragment_of_our_flow_goes_to_the_ring,
        a_header_of_another_version_is_malformed,
        traffic_class_and_flow_label_do_not_matter,
        a_payload_that_says_it_has_no_room_for_tcp_is_malformed,
        a_payload_length_beyond_the_frame_is_for_userspace_to_judge,
        an_ipv6_frame_cut_off_at_any_byte_is_not_redirected_before_its_headers_are_whole,
    ]
}

fn of_all_next_headers_only_tcp_goes_to_the_ring() {
    let subject = Subject::with_our_flows();
    for next_header in 0..=u8::MAX {
        let mut packet = ours_v6();
        packet.protocol = next_header;
        let verdict = match next_header {
            PROTOCOL_TCP => Verdict::Redirected,
            44 => Verdict::Fragment,
            // Hop-by-hop options, routing, authentication, destination options.
            0 | 43 | 51 | 60 => Verdict::Ipv6Extension,
            _ => Verdict::NotTcp,
        };
        subject.expect(&packet.build(), verdict);
    }
}

fn udp_over_ipv6_on_our_ports_is_not_ours() {
    let subject = Subject::with_our_flows();
    let mut packet = ours_v6();
    packet.protocol = PROTOCOL_UDP;
    subject.expect(&packet.build(), Verdict::NotTcp);
    subject.expect(&packet.tagged(0).build(), Verdict::NotTcp);
}

fn tcp_behind_an_extension_header_stays_with_the_kernel() {
    let subject = Subject::with_our_flows();
    for header in [0, 43, 51, 60] {
        for words in 1..=8 {
            let mut packet = ours_v6();
            packet.protocol = header;
            // Next header TCP, length in units of eight bytes after the first eight, then PadN.
            packet.extension = vec![0; 8 * words];
            packet.extension[..4].copy_from_slice(&[PROTOCOL_TCP, u8::try_from(words - 1).unwrap(), 1, 4]);
            subject.expect(&packet.build(), Verdict::Ipv6Extension);
        }
    }
}

fn no_ipv6_fragment_of_our_flow_goes_to_the_ring() {
    let subject = Subject::with_our_flows();
    // Offset in the upper 13 bits, more fragments in the lowest: first, middle, last, and the atomic one (RFC 6946).
    for field in [0x0001_u16, 0x0029, 0x0028, 0x0000] {
        let mut packet = ours_v6();
        packet.protocol = 44;
        let [high, low] = field.to_be_bytes();
        packet.extension = vec![PROTOCOL_TCP, 0, high, low, 0, 0, 0, 1];
        subject.expect(&packet.build(), Verdict::Fragment);
    }
}

fn a_header_of_another_version_is_malformed() {
    let subject = Subject::with_our_flows();
    let packet = ours_v6();
    let frame = packet.build();
    for first in 0..=u8::MAX {
        let verdict = if first >> 4 == 6 { Verdict::Redirected } else { Verdict::Malformed };
        subject.expect(&patched(&frame, packet.ip(), &[first]), verdict);
    }
}

fn traffic_class_and_flow_label_do_not_matter() {
    let subject = Subject::with_our_flows();
    let packet = ours_v6();
    let frame = packet.build();
    for at in 1..4 {
        for value in 0..=u8::MAX {
            subject.expect(&patched(&frame, packet.ip() + at, &[value]), Verdict::Redirected);
        }
    }
}

fn a_payload_that_says_it_has_no_room_for_tcp_is_malformed() {
    let subject = Subject::with_our_flows();
    let packet = ours_v6();
    let frame = packet.build();
    let least = u16::try_from(TCP).unwrap();
    for payload in 0..least + 10 {
        let verdict = if payload < least { Verdict::Malformed } else { Verdict::Redirected };
        subject.expect(&patched(&frame, packet.ip() + 4, &payload.to_be_bytes()), verdict);
    }
}

fn a_payload_length_beyond_the_frame_is_for_userspace_to_judge() {
    let subject = Subject::with_our_flows();
    let packet = ours_v6();
    subject.expect(&patched(&packet.build(), packet.ip() + 4, &u16::MAX.to_be_bytes()), Verdict::Redirected);
}

/// From 14 bytes up, as for IPv4.
fn an_ipv6_frame_cut_off_at_any_byte_is_not_redirected_before_its_headers_are_whole() {
    let subject = Subject::with_our_flows();
    for packet in [ours_v6(), ours_v6().tagged(0)] {
        let frame = packet.build();
        for len in ETHERNET..=frame.len() {
            let verdict = if len < packet.tcp() + TCP { Verdict::Truncated } else { Verdict::Redirected };
            subject.expect(&frame[..len], verdict);
        }
    }
}
