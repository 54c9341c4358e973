//! What an IPv4 header can say, and whether the ports are still found behind it.

use libtest_mimic::Trial;
use wiretick_xdp::Verdict;

use crate::sentences;
use crate::subject::{Subject, ours};
use crate::wire::{ETHERNET, IPV4, PROTOCOL_TCP, PROTOCOL_UDP, TCP, patched};

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        of_all_protocols_only_tcp_goes_to_the_ring,
        udp_on_our_ports_is_not_ours,
        any_number_of_options_may_stand_before_tcp,
        the_ports_are_read_behind_the_options_and_not_in_them,
        a_header_of_another_version_or_under_five_words_is_malformed,
        options_that_reach_past_the_frame_are_truncation,
        no_fragment_of_our_flow_goes_to_the_ring,
        of_all_flags_and_offsets_only_whole_datagrams_go_to_the_ring,
        a_fragment_of_another_protocol_counts_as_that,
        a_datagram_that_says_it_has_no_room_for_tcp_is_malformed,
        a_length_beyond_the_frame_is_for_userspace_to_judge,
        ethernet_padding_behind_the_datagram_does_not_matter,
        a_frame_cut_off_at_any_byte_is_not_redirected_before_its_headers_are_whole,
    ]
}

fn of_all_protocols_only_tcp_goes_to_the_ring() {
    let subject = Subject::with_our_flows();
    for protocol in 0..=u8::MAX {
        let mut packet = ours();
        packet.protocol = protocol;
        let verdict = if protocol == PROTOCOL_TCP { Verdict::Redirected } else { Verdict::NotTcp };
        subject.expect(&packet.build(), verdict);
    }
}

fn udp_on_our_ports_is_not_ours() {
    let subject = Subject::with_our_flows();
    let mut packet = ours();
    packet.protocol = PROTOCOL_UDP;
    for tagged in [packet.clone(), packet.tagged(7)] {
        subject.expect(&tagged.build(), Verdict::NotTcp);
    }
}

fn any_number_of_options_may_stand_before_tcp() {
    let subject = Subject::with_our_flows();
    for words in 0..=10 {
        let mut packet = ours();
        packet.options = vec![1; 4 * words];
        let frame = packet.build();
        assert_eq!(frame[ETHERNET] as usize, 0x45 + words);
        subject.expect(&frame, Verdict::Redirected);
        packet.local.set_port(packet.local.port() + 1);
        subject.expect(&packet.build(), Verdict::OtherFlow);
    }
}

fn the_ports_are_read_behind_the_options_and_not_in_them() {
    let subject = Subject::with_our_flows();
    for words in 1..=10 {
        // The options are our ports over and over; the real ones are another flow's.
        let mut packet = ours();
        packet.options = [443_u16.to_be_bytes(), 40000_u16.to_be_bytes()].concat().repeat(words);
        packet.local.set_port(40001);
        subject.expect(&packet.build(), Verdict::OtherFlow);
    }
}

/// All 256 first bytes. The frame is long enough for the longest header, so a verdict is about the byte alone.
fn a_header_of_another_version_or_under_five_words_is_malformed() {
    let subject = Subject::with_our_flows();
    let mut packet = ours();
    packet.payload = vec![0; 200];
    let frame = packet.build();
    for version_ihl in 0..=u8::MAX {
        let verdict = match version_ihl {
            0x45 => Verdict::Redirected,
            // The ports would be looked for further on, where there are others.
            0x46..=0x4f => Verdict::OtherFlow,
            _ => Verdict::Malformed,
        };
        subject.expect(&patched(&frame, packet.ip(), &[version_ihl]), verdict);
    }
}

fn options_that_reach_past_the_frame_are_truncation() {
    let subject = Subject::with_our_flows();
    let mut packet = ours();
    packet.payload.clear();
    let mut frame = patched(&packet.build(), packet.ip(), &[0x46]);
    // The datagram says it is long enough; the frame is not.
    frame = patched(&frame, packet.ip() + 2, &44_u16.to_be_bytes());
    subject.expect(&frame, Verdict::Truncated);
    frame.extend([0; 4]);
    subject.expect(&frame, Verdict::OtherFlow);
}

fn no_fragment_of_our_flow_goes_to_the_ring() {
    let subject = Subject::with_our_flows();
    // First, middle, last, and the first with "don't fragment" set as well, which no honest host sends.
    for fragment in [0x2000, 0x2005, 0x0005, 0x6000] {
        let mut packet = ours();
        packet.fragment = fragment;
        subject.expect(&packet.build(), Verdict::Fragment);
        subject.expect(&packet.tagged(0).build(), Verdict::Fragment);
    }
}

/// The reserved bit and "don't fragment" do not make a fragment; everything else in the field does.
fn of_all_flags_and_offsets_only_whole_datagrams_go_to_the_ring() {
    let subject = Subject::with_our_flows();
    let packet = ours();
    let frame = packet.build();
    for field in 0..=u16::MAX {
        let verdict = if field & 0x3fff == 0 { Verdict::Redirected } else { Verdict::Fragment };
        subject.expect(&patched(&frame, packet.ip() + 6, &field.to_be_bytes()), verdict);
    }
    assert_eq!(subject.tally()[Verdict::Redirected], 4);
}

fn a_fragment_of_another_protocol_counts_as_that() {
    let subject = Subject::with_our_flows();
    let mut packet = ours();
    packet.fragment = 0x2000;
    packet.protocol = PROTOCOL_UDP;
    subject.expect(&packet.build(), Verdict::NotTcp);
}

/// What stands where the ports would be is Ethernet padding then, even if it looks like ours.
fn a_datagram_that_says_it_has_no_room_for_tcp_is_malformed() {
    let subject = Subject::with_our_flows();
    for words in [0, 1, 10] {
        let mut packet = ours();
        packet.options = vec![1; 4 * words];
        let frame = packet.build();
        let least = u16::try_from(IPV4 + 4 * words + TCP).unwrap();
        for total in 0..least + 10 {
            let verdict = if total < least { Verdict::Malformed } else { Verdict::Redirected };
            subject.expect(&patched(&frame, packet.ip() + 2, &total.to_be_bytes()), verdict);
        }
    }
}

fn a_length_beyond_the_frame_is_for_userspace_to_judge() {
    let subject = Subject::with_our_flows();
    let packet = ours();
    for total in [u16::MAX, 0x8000, 1500] {
        subject.expect(&patched(&packet.build(), packet.ip() + 2, &total.to_be_bytes()), Verdict::Redirected);
    }
}

fn ethernet_padding_behind_the_datagram_does_not_matter() {
    let subject = Subject::with_our_flows();
    let mut packet = ours();
    packet.payload.clear();
    let mut frame = packet.build();
    frame.resize(60, 0);
    subject.expect(&frame, Verdict::Redirected);
    frame.resize(1514, 0xff);
    subject.expect(&frame, Verdict::Redirected);
}

/// From 14 bytes up: `BPF_PROG_TEST_RUN` takes no less (`ETH_HLEN`, `net/bpf/test_run.c`), so the check before the
/// Ethernet header is the one that no test here can reach.
fn a_frame_cut_off_at_any_byte_is_not_redirected_before_its_headers_are_whole() {
    let subject = Subject::with_our_flows();
    for tags in 0..=1 {
        for words in 0..=10 {
            let mut packet = if tags == 0 { ours() } else { ours().tagged(0) };
            packet.options = vec![1; 4 * words];
            let frame = packet.build();
            for len in ETHERNET..=frame.len() {
                let verdict = if len < packet.tcp() + TCP { Verdict::Truncated } else { Verdict::Redirected };
                subject.expect(&frame[..len], verdict);
            }
        }
    }
}
