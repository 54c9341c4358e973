//! Which flow a frame belongs to: addresses and ports, all exact, over both IP versions.

use libtest_mimic::Trial;
use wiretick_xdp::{FLOWS_MAX, FlowKey, Verdict};

use crate::sentences;
use crate::subject::{LOCAL, LOCAL_V6, REMOTE, REMOTE_V6, Subject, end, ours, ours_v6};
use crate::wire::{Packet, patched};

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        our_flow_goes_to_the_ring,
        with_no_flow_in_the_map_nothing_goes_to_the_ring,
        what_we_send_ourselves_is_not_what_we_receive,
        a_single_bit_off_in_any_address_or_port_is_another_flow,
        of_all_local_ports_exactly_one_is_ours,
        of_all_remote_ports_exactly_one_is_ours,
        two_flows_are_each_recognised_and_their_mixtures_are_not,
        a_flow_that_was_removed_goes_back_to_the_kernel_and_the_other_stays,
        a_flow_that_was_entered_again_goes_to_the_ring_again,
        the_map_holds_as_many_flows_as_it_says_and_finds_each,
        every_combination_of_tcp_flags_goes_to_the_ring,
        what_stands_behind_the_ports_does_not_matter,
        an_ipv6_packet_with_mapped_addresses_is_not_the_ipv4_flow,
        an_ipv6_packet_cannot_pass_for_an_ipv4_flow_by_its_bytes,
        an_ipv4_packet_cannot_pass_for_an_ipv6_flow_by_its_bytes,
    ]
}

fn our_flow_goes_to_the_ring() {
    let subject = Subject::with_our_flows();
    subject.expect(&ours().build(), Verdict::Redirected);
    subject.expect(&ours_v6().build(), Verdict::Redirected);
}

fn with_no_flow_in_the_map_nothing_goes_to_the_ring() {
    let subject = Subject::without_flows();
    subject.expect(&ours().build(), Verdict::OtherFlow);
    subject.expect(&ours_v6().build(), Verdict::OtherFlow);
}

fn what_we_send_ourselves_is_not_what_we_receive() {
    let subject = Subject::with_our_flows();
    subject.expect(&Packet::new(end(LOCAL), end(REMOTE)).build(), Verdict::OtherFlow);
    subject.expect(&Packet::new(end(LOCAL_V6), end(REMOTE_V6)).build(), Verdict::OtherFlow);
}

/// Every bit of both addresses and both ports, which covers each byte one off in both directions and more.
fn a_single_bit_off_in_any_address_or_port_is_another_flow() {
    let subject = Subject::with_our_flows();
    for (packet, address_bytes) in [(ours(), 4), (ours_v6(), 16)] {
        let frame = packet.build();
        let addresses = packet.tcp() - 2 * address_bytes;
        for at in addresses..packet.tcp() + 4 {
            for bit in 0..8 {
                subject.expect(&patched(&frame, at, &[frame[at] ^ (1 << bit)]), Verdict::OtherFlow);
            }
            for value in [frame[at].wrapping_add(1), frame[at].wrapping_sub(1)] {
                subject.expect(&patched(&frame, at, &[value]), Verdict::OtherFlow);
            }
        }
        subject.expect(&frame, Verdict::Redirected);
    }
}

/// Many other connections of the machine go to the same address and port of the same exchange.
fn of_all_local_ports_exactly_one_is_ours() {
    let subject = Subject::with_our_flows();
    let packet = ours();
    let frame = packet.build();
    for port in 0..=u16::MAX {
        let verdict = if port == 40000 { Verdict::Redirected } else { Verdict::OtherFlow };
        subject.expect(&patched(&frame, packet.tcp() + 2, &port.to_be_bytes()), verdict);
    }
    assert_eq!(subject.tally()[Verdict::Redirected], 1);
    assert_eq!(subject.tally()[Verdict::OtherFlow], 65535);
}

fn of_all_remote_ports_exactly_one_is_ours() {
    let subject = Subject::with_our_flows();
    let packet = ours_v6();
    let frame = packet.build();
    for port in 0..=u16::MAX {
        let verdict = if port == 443 { Verdict::Redirected } else { Verdict::OtherFlow };
        subject.expect(&patched(&frame, packet.tcp(), &port.to_be_bytes()), verdict);
    }
    assert_eq!(subject.tally().total(), 65536);
}

fn two_flows_are_each_recognised_and_their_mixtures_are_not() {
    let ends = [("192.0.2.1:40000", "198.51.100.7:443"), ("192.0.2.2:40001", "198.51.100.8:8443")];
    let subject = Subject::without_flows();
    for (local, remote) in ends {
        subject.enter(local, remote, None);
    }
    // Bit by bit, take the local address, local port, remote address and remote port from the one flow or the other.
    for mixture in 0..16 {
        let from = |bit: usize| ends[mixture >> bit & 1];
        let mut local = end(from(0).0);
        local.set_port(end(from(1).0).port());
        let mut remote = end(from(2).1);
        remote.set_port(end(from(3).1).port());
        let verdict = if mixture == 0 || mixture == 15 { Verdict::Redirected } else { Verdict::OtherFlow };
        subject.expect(&Packet::new(remote, local).build(), verdict);
    }
}

fn a_flow_that_was_removed_goes_back_to_the_kernel_and_the_other_stays() {
    let subject = Subject::without_flows();
    let key = subject.enter(LOCAL, REMOTE, None);
    subject.enter(LOCAL_V6, REMOTE_V6, None);
    subject.expect(&ours().build(), Verdict::Redirected);
    subject.remove(&key);
    subject.expect(&ours().build(), Verdict::OtherFlow);
    subject.expect(&ours_v6().build(), Verdict::Redirected);
}

fn a_flow_that_was_entered_again_goes_to_the_ring_again() {
    let subject = Subject::without_flows();
    for _ in 0..100 {
        let key = subject.enter(LOCAL, REMOTE, None);
        subject.expect(&ours().build(), Verdict::Redirected);
        subject.remove(&key);
        subject.expect(&ours().build(), Verdict::OtherFlow);
    }
}

fn the_map_holds_as_many_flows_as_it_says_and_finds_each() {
    let subject = Subject::without_flows();
    let local = |number: u32| {
        let mut local = end(LOCAL);
        local.set_port(10_000 + 2 * u16::try_from(number).unwrap());
        local
    };
    for number in 0..FLOWS_MAX {
        subject.enter_key(&FlowKey::new(local(number), end(REMOTE), None).unwrap()).unwrap();
    }
    let one_more = FlowKey::new(local(FLOWS_MAX), end(REMOTE), None).unwrap();
    let refused = subject.enter_key(&one_more).unwrap_err();
    assert!(refused.to_string().contains("os error 7"), "E2BIG expected: {refused}");

    for number in 0..FLOWS_MAX {
        let mut packet = Packet::new(end(REMOTE), local(number));
        subject.expect(&packet.build(), Verdict::Redirected);
        packet.local.set_port(packet.local.port() + 1);
        subject.expect(&packet.build(), Verdict::OtherFlow);
    }
}

/// The userspace TCP must see every segment of its flow: SYN, FIN and RST above all.
fn every_combination_of_tcp_flags_goes_to_the_ring() {
    let subject = Subject::with_our_flows();
    for flags in 0..=u8::MAX {
        for mut packet in [ours(), ours_v6()] {
            packet.flags = flags;
            packet.payload.clear();
            subject.expect(&packet.build(), Verdict::Redirected);
        }
    }
}

/// Sequence numbers, data offset, window, checksum: for userspace to judge.
fn what_stands_behind_the_ports_does_not_matter() {
    let subject = Subject::with_our_flows();
    for packet in [ours(), ours_v6()] {
        let frame = packet.build();
        for at in packet.tcp() + 4..frame.len() {
            for value in [0x00, 0xff, frame[at].wrapping_add(1)] {
                subject.expect(&patched(&frame, at, &[value]), Verdict::Redirected);
            }
        }
    }
}

fn an_ipv6_packet_with_mapped_addresses_is_not_the_ipv4_flow() {
    let subject = Subject::without_flows();
    subject.enter("[::ffff:192.0.2.1]:40000", "[::ffff:198.51.100.7]:443", None);
    let mapped = Packet::new(end("[::ffff:198.51.100.7]:443"), end("[::ffff:192.0.2.1]:40000"));
    subject.expect(&mapped.build(), Verdict::OtherFlow);
    subject.expect(&ours().build(), Verdict::Redirected);
}

/// 192.0.2.1 fills the first word of its field, and so does `c000:201::`.
fn an_ipv6_packet_cannot_pass_for_an_ipv4_flow_by_its_bytes() {
    let subject = Subject::without_flows();
    subject.enter(LOCAL, REMOTE, None);
    let lookalike = Packet::new(end("[c633:6407::]:443"), end("[c000:201::]:40000"));
    subject.expect(&lookalike.build(), Verdict::OtherFlow);
}

fn an_ipv4_packet_cannot_pass_for_an_ipv6_flow_by_its_bytes() {
    let subject = Subject::without_flows();
    subject.enter("[c000:201::]:40000", "[c633:6407::]:443", None);
    subject.expect(&ours().build(), Verdict::OtherFlow);
}
