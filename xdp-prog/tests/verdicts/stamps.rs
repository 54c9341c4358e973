//! The time of arrival in front of a frame.

use libtest_mimic::Trial;
use rustix::time::{ClockId, clock_gettime};
use wiretick_xdp::ARRIVAL_BYTES;

use crate::sentences;
use crate::subject::{Subject, XDP_PASS, XDP_REDIRECT, ours, ours_v6};
use crate::wire::{PROTOCOL_UDP, patched};

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        a_frame_of_ours_carries_the_time_at_which_it_came,
        a_frame_that_is_not_ours_is_left_as_it_was,
        without_being_asked_the_program_stamps_nothing,
    ]
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

fn a_frame_of_ours_carries_the_time_at_which_it_came() {
    let subject = Subject::with_stamps();
    for frame in [ours().build(), ours_v6().build()] {
        let before = now_ns();
        let (action, after) = subject.run_with_room(&frame);
        assert_eq!(action, XDP_REDIRECT);
        let (stamp, packet) = after.split_at(ARRIVAL_BYTES);
        assert_eq!(packet, frame, "the frame itself is untouched");
        let stamp = u64::from_ne_bytes(stamp.try_into().unwrap());
        assert!((before..=now_ns()).contains(&stamp), "{stamp} is not between {before} and now");
    }
}

fn a_frame_that_is_not_ours_is_left_as_it_was() {
    let subject = Subject::with_stamps();
    let mut other = ours();
    other.local.set_port(40001);
    let mut udp = ours();
    udp.protocol = PROTOCOL_UDP;
    let arp = patched(&ours().build(), crate::wire::ETHERNET - 2, &[0x08, 0x06]);
    for frame in [other.build(), udp.build(), arp] {
        assert_eq!(subject.run_with_room(&frame), (XDP_PASS, frame));
    }
}

fn without_being_asked_the_program_stamps_nothing() {
    let subject = Subject::with_our_flows();
    let frame = ours().build();
    assert_eq!(subject.run_with_room(&frame), (XDP_REDIRECT, frame));
}
