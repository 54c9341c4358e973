//! What stands before the IP header: ethertypes and VLAN tags.

use libtest_mimic::Trial;
use wiretick_xdp::Verdict;

use crate::sentences;
use crate::subject::{LOCAL, LOCAL_V6, REMOTE, REMOTE_V6, Subject, ours, ours_v6};
use crate::wire::{DOT1AD, DOT1Q, ETHERNET, patched};

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        a_flow_on_a_vlan_goes_to_the_ring,
        of_all_vlans_exactly_one_is_the_flows,
        a_flow_on_a_vlan_does_not_take_the_untagged_one_nor_the_reverse,
        the_same_addresses_on_two_vlans_are_two_flows,
        a_tag_without_a_vlan_counts_as_no_tag,
        priority_and_drop_eligibility_do_not_matter,
        two_tags_stay_with_the_kernel,
        a_service_tag_stays_with_the_kernel,
        of_all_ethertypes_only_ip_is_looked_into,
        behind_a_tag_the_same_ethertypes_are_looked_into,
        the_addresses_of_the_ethernet_header_do_not_matter,
        a_tag_that_is_cut_off_is_truncation,
    ]
}

fn a_flow_on_a_vlan_goes_to_the_ring() {
    let subject = Subject::without_flows();
    subject.enter(LOCAL, REMOTE, Some(7));
    subject.enter(LOCAL_V6, REMOTE_V6, Some(4094));
    subject.expect(&ours().tagged(7).build(), Verdict::Redirected);
    subject.expect(&ours_v6().tagged(4094).build(), Verdict::Redirected);
    subject.expect(&ours().tagged(4094).build(), Verdict::OtherFlow);
    subject.expect(&ours_v6().tagged(7).build(), Verdict::OtherFlow);
}

fn of_all_vlans_exactly_one_is_the_flows() {
    let subject = Subject::without_flows();
    subject.enter(LOCAL, REMOTE, Some(0x7a5));
    for vlan in 0..=0xfff {
        let verdict = if vlan == 0x7a5 { Verdict::Redirected } else { Verdict::OtherFlow };
        subject.expect(&ours().tagged(vlan).build(), verdict);
    }
}

fn a_flow_on_a_vlan_does_not_take_the_untagged_one_nor_the_reverse() {
    let subject = Subject::without_flows();
    subject.enter(LOCAL, REMOTE, Some(7));
    subject.enter(LOCAL_V6, REMOTE_V6, None);
    subject.expect(&ours().build(), Verdict::OtherFlow);
    subject.expect(&ours().tagged(0).build(), Verdict::OtherFlow);
    subject.expect(&ours_v6().tagged(7).build(), Verdict::OtherFlow);
    subject.expect(&ours_v6().build(), Verdict::Redirected);
}

fn the_same_addresses_on_two_vlans_are_two_flows() {
    let subject = Subject::without_flows();
    let seven = subject.enter(LOCAL, REMOTE, Some(7));
    subject.enter(LOCAL, REMOTE, Some(8));
    subject.expect(&ours().tagged(7).build(), Verdict::Redirected);
    subject.expect(&ours().tagged(8).build(), Verdict::Redirected);
    subject.remove(&seven);
    subject.expect(&ours().tagged(7).build(), Verdict::OtherFlow);
    subject.expect(&ours().tagged(8).build(), Verdict::Redirected);
}

fn a_tag_without_a_vlan_counts_as_no_tag() {
    let subject = Subject::with_our_flows();
    subject.expect(&ours().tagged(0).build(), Verdict::Redirected);
    subject.expect(&ours_v6().tagged(0).build(), Verdict::Redirected);
}

/// The upper four bits of the tag, for a flow on a VLAN and for one on none.
fn priority_and_drop_eligibility_do_not_matter() {
    let subject = Subject::without_flows();
    subject.enter(LOCAL, REMOTE, Some(7));
    subject.enter(LOCAL_V6, REMOTE_V6, None);
    for upper in 0..16 {
        subject.expect(&ours().tagged(upper << 12 | 7).build(), Verdict::Redirected);
        subject.expect(&ours().tagged(upper << 12 | 8).build(), Verdict::OtherFlow);
        subject.expect(&ours_v6().tagged(upper << 12).build(), Verdict::Redirected);
    }
}

fn two_tags_stay_with_the_kernel() {
    let subject = Subject::with_our_flows();
    subject.enter(LOCAL, REMOTE, Some(7));
    for outer in [DOT1Q, DOT1AD] {
        for inner in [DOT1Q, DOT1AD] {
            for (outer_vlan, inner_vlan) in [(7, 7), (0, 7), (7, 0), (0, 0)] {
                let mut packet = ours();
                packet.tags = vec![(outer, outer_vlan), (inner, inner_vlan)];
                subject.expect(&packet.build(), Verdict::StackedVlan);
            }
        }
    }
}

fn a_service_tag_stays_with_the_kernel() {
    let subject = Subject::with_our_flows();
    subject.enter(LOCAL, REMOTE, Some(7));
    for vlan in [0, 7] {
        let mut packet = ours();
        packet.tags = vec![(DOT1AD, vlan)];
        subject.expect(&packet.build(), Verdict::StackedVlan);
    }
}

/// ARP, LLDP, MPLS, 802.3 with a length: whatever is announced, bytes that would pass for our flow are not enough.
fn of_all_ethertypes_only_ip_is_looked_into() {
    let subject = Subject::with_our_flows();
    let frame = ours().build();
    for ethertype in 0..=u16::MAX {
        let verdict = match ethertype {
            0x0800 => Verdict::Redirected,
            // Its version says IPv4, but where IPv6 has its next header there is no TCP.
            0x86dd => Verdict::NotTcp,
            // A tag, then: the first bytes of the IPv4 header are taken for it and for another ethertype.
            DOT1Q => Verdict::OtherEthertype,
            DOT1AD => Verdict::StackedVlan,
            _ => Verdict::OtherEthertype,
        };
        subject.expect(&patched(&frame, ETHERNET - 2, &ethertype.to_be_bytes()), verdict);
    }
}

fn behind_a_tag_the_same_ethertypes_are_looked_into() {
    let subject = Subject::without_flows();
    subject.enter(LOCAL, REMOTE, Some(7));
    let packet = ours().tagged(7);
    let frame = packet.build();
    for ethertype in 0..=u16::MAX {
        let verdict = match ethertype {
            0x0800 => Verdict::Redirected,
            0x86dd => Verdict::NotTcp,
            DOT1Q | DOT1AD => Verdict::StackedVlan,
            _ => Verdict::OtherEthertype,
        };
        subject.expect(&patched(&frame, packet.ip() - 2, &ethertype.to_be_bytes()), verdict);
    }
}

/// The NIC has filtered by them; a frame that came in by promiscuous mode is judged like any other.
fn the_addresses_of_the_ethernet_header_do_not_matter() {
    let subject = Subject::with_our_flows();
    let frame = ours().build();
    for at in 0..12 {
        subject.expect(&patched(&frame, at, &[!frame[at]]), Verdict::Redirected);
    }
}

fn a_tag_that_is_cut_off_is_truncation() {
    let subject = Subject::with_our_flows();
    let frame = ours().tagged(0).build();
    for len in ETHERNET..ETHERNET + 4 {
        subject.expect(&frame[..len], Verdict::Truncated);
    }
    // Whole, but with nothing behind it: what it announces decides.
    subject.expect(&frame[..ETHERNET + 4], Verdict::Truncated);
    subject.expect(&patched(&frame, ETHERNET + 2, &[0x08, 0x06])[..ETHERNET + 4], Verdict::OtherEthertype);
}
