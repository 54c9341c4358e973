//! Frames in several buffers: only the first is looked into, and it must hold the headers.
//!
//! `BPF_PROG_TEST_RUN` puts what does not fit a page in further ones, and makes the first as short as `data_end` of the
//! context says (`bpf_prog_test_run_xdp` in `net/bpf/test_run.c`; kernels from before that refuse such a context, and
//! those tests show as ignored).

use libtest_mimic::Trial;
use wiretick_xdp::Verdict;

use crate::subject::{Subject, Variant, ours, ours_v6};

/// More than two pages and less than three.
const PAYLOAD: usize = 8_948;

pub(crate) fn trials() -> Vec<Trial> {
    let whole: [(&str, fn()); 2] = [
        ("a_frame_in_several_buffers_goes_to_the_ring_whole", whole),
        ("a_large_frame_of_another_flow_stays_with_the_kernel", other),
    ];
    let cut: [(&str, fn()); 2] = [
        ("headers_in_the_first_buffer_are_enough", headers_only),
        ("headers_that_reach_into_the_second_buffer_are_truncated", headers_cut),
    ];
    let trial = |(name, test)| crate::sentence(Variant::Frags, name, test);
    let trials = whole.map(trial).into_iter();
    trials.chain(cut.map(|test| trial(test).with_ignored_flag(!cuts_first_buffer()))).collect()
}

/// Whether this kernel makes the first buffer as short as it is told.
fn cuts_first_buffer() -> bool {
    let run = || {
        Variant::Frags.choose();
        Subject::can_load() && Subject::without_socket().run_cut(&ours().build(), 60).is_ok()
    };
    std::thread::spawn(run).join().unwrap_or(false)
}

fn large(mut packet: crate::wire::Packet) -> Vec<u8> {
    packet.payload = (0..PAYLOAD).map(|at| at as u8).collect();
    packet.build()
}

fn whole() {
    let subject = Subject::with_our_flows();
    subject.expect(&large(ours()), Verdict::Redirected);
    subject.expect(&large(ours_v6()), Verdict::Redirected);
}

fn other() {
    let subject = Subject::with_our_flows();
    let mut packet = ours();
    packet.local.set_port(40001);
    subject.expect(&large(packet), Verdict::OtherFlow);
}

fn headers_only() {
    let subject = Subject::with_our_flows();
    for packet in [ours(), ours_v6()] {
        let headers = packet.tcp() + crate::wire::TCP;
        subject.expect_cut(&large(packet), headers, Verdict::Redirected);
    }
}

fn headers_cut() {
    let subject = Subject::with_our_flows();
    for packet in [ours(), ours_v6()] {
        let headers = packet.tcp() + crate::wire::TCP;
        let frame = large(packet);
        for len in crate::wire::ETHERNET..headers {
            subject.expect_cut(&frame, len, Verdict::Truncated);
        }
    }
}
