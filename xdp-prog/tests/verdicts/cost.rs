//! What the program costs a frame, by `BPF_PROG_TEST_RUN` with repetition: run it with `-- --bench`.
//!
//! The caches are warm, the branch predictor knows the frame, and the kernel's own loop is in the number (an empty
//! program takes about 6 ns of it): good for comparing one version of the program with another on one machine, not for
//! saying what a frame costs in the field.

use libtest_mimic::{Measurement, Trial};

use crate::subject::{Subject, ours, ours_v6};
use crate::wire::{ETHERNET, PROTOCOL_UDP, patched};

pub(crate) fn trials() -> Vec<Trial> {
    let hit = ours().build();
    let hit_v6 = ours_v6().build();
    let mut other = ours();
    other.local.set_port(40001);
    let mut udp = ours();
    udp.protocol = PROTOCOL_UDP;
    let arp = patched(&hit, ETHERNET - 2, &[0x08, 0x06]);
    [
        ("cost_of_a_frame_of_ours", hit),
        ("cost_of_a_frame_of_ours_over_ipv6", hit_v6),
        ("cost_of_a_frame_of_another_flow", other.build()),
        ("cost_of_a_udp_frame", udp.build()),
        ("cost_of_an_arp_frame", arp),
    ]
    .map(|(name, frame)| {
        Trial::bench(name, move |test_mode| Ok(measure(&Subject::with_our_flows(), &frame, test_mode)))
    })
    .into_iter()
    .chain([Trial::bench("cost_of_a_stamped_frame_of_ours", move |test_mode| {
        Ok(measure(&Subject::with_stamps(), &ours().build(), test_mode))
    })])
    .collect()
}

/// The least of many short runs: on a machine that does other things too, the others measure those things. What the
/// report gives as the deviation is how far the median lies above it. As a test, a single run that measures nothing.
fn measure(subject: &Subject, frame: &[u8], as_test: bool) -> Option<Measurement> {
    const RUNS: usize = 200;
    const REPEAT: u32 = 20_000;
    if as_test {
        subject.run_with_room(frame);
        return None;
    }
    let mut runs: Vec<u64> = (0..RUNS).map(|_| subject.average_ns(frame, REPEAT)).collect();
    runs.sort_unstable();
    Some(Measurement { avg: runs[0], variance: runs[RUNS / 2] - runs[0] })
}
