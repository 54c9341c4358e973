//! Interfaces whose packets do not fit one chunk of the ring's memory.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use wiretick::feed::{Feed, Mode, Setup};
use wiretick::floor::{Clock, Monotonic};
use wiretick::handover::FlowMap as _;
use wiretick::lane::Way;
use wiretick::ring::{PACKET_BYTES_MAX, Ring as _, RingCounters};
use wiretick_testbed::exchange::{Config, Feed as Source, Pace};
use wiretick_testbed::feeds::{Lines, Recording};
use wiretick_testbed::topology::Plan;
use wiretick_xdp::Verdict;

use crate::Test;
use crate::handover::lane;
use crate::rig::{Rig, Run, Seen, sha256_of, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("jumbo::a_feed_over_an_mtu_of_9000_is_whole_in_driver_and_in_skb_mode", whole),
    ("jumbo::a_connection_opened_over_the_ring_asks_for_packets_of_one_chunk", one_chunk),
    ("jumbo::out_and_home_in_mid_stream_no_byte_is_lost", out_and_home),
    ("jumbo::large_frames_that_strayed_into_the_ring_reach_the_kernel_in_pieces", strayed),
    ("jumbo::an_mtu_between_the_drivers_buffer_and_a_chunk_takes_the_program_for_several", between),
    ("jumbo::an_mtu_beyond_what_is_put_together_is_refused_with_the_remedy", beyond),
];

const MTU: u32 = 9_000;

fn jumbo() -> Plan {
    Plan { mtu: MTU, ..Plan::default() }
}

/// Lines of 60 bytes to 30 KiB, most of them short: many to a segment, and some that span several.
pub(crate) fn lines(count: usize) -> Vec<u8> {
    let line = |n: usize| {
        let filling = match n % 97 {
            0 => 30_000,
            7 | 50 => 6_000,
            other => other,
        };
        format!(r#"{{"e":"x","n":{n},"text":"{}"}}"#, "abcdefghij".repeat(filling / 10 + 1))
    };
    (0..count).map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

/// A recording as fast as it goes, or at a rate; several messages to a record.
pub(crate) fn replay(lines: Vec<u8>, pace: Pace) -> Config {
    let recording = Recording { messages: Lines::new(lines), arrivals: None };
    Config { feed: Source::Replay(Arc::new(recording)), pace, count: None, batch: 32, ..synthetic(1, 1) }
}

pub(crate) fn digest(lines: &[u8]) -> String {
    sha256_of(lines.split(|byte| *byte == b'\n'))
}

/// What the ring has counted, nothing of which is a loss.
fn without_loss(run: &Run, mode: Mode) -> RingCounters {
    run.result.as_ref().unwrap_or_else(|error| panic!("{mode}: {error}"));
    let report = run.report();
    assert_eq!(report.mode, mode, "{:?}", report.refusals);
    let ring = report.ring.expect("a ring");
    let redirected: u64 = report.verdicts.iter().map(|(_, tally)| tally[Verdict::Redirected]).sum();
    assert_eq!(redirected, ring.frames_received, "every redirected frame arrived, in one chunk or several");
    let lost = [
        ring.receive_ring_full,
        ring.receive_dropped,
        ring.fill_ring_empty,
        ring.joins_exhausted,
        ring.joins_too_long,
        ring.descriptors_refused,
        report.lane.frames_malformed,
        report.lane.frames_foreign,
        report.lane.frames_unknown,
    ];
    assert_eq!(lost, [0; 9], "{ring:?} {:?}", report.lane);
    ring
}

fn whole() {
    let lines = lines(20_000);
    for (mode, ipv6) in [(Mode::Driver, false), (Mode::Driver, true), (Mode::Skb, false), (Mode::Skb, true)] {
        let rig = Rig::with(&jumbo(), replay(lines.clone(), Pace::Saturate), ipv6);
        let run = rig.run(rig.builder().mode(mode));
        let ring = without_loss(&run, mode);
        assert_eq!((run.seen.messages, run.seen.sha256()), (20_000, digest(&lines)), "{mode}");
        assert!(ring.frames_joined > 300, "{mode}: only {ring:?}");
        assert_eq!(run.seen.in_place, run.seen.in_umem, "what was put together is not called in place");
        println!(
            "{mode}, IPv6 {ipv6}: {} packets, {} of them in several chunks",
            ring.frames_received, ring.frames_joined
        );
        rig.await_clean();
    }
}

fn one_chunk() {
    let lines = lines(5_000);
    let rig = Rig::with(&jumbo(), replay(lines.clone(), Pace::Saturate), false);
    let run = rig.run(rig.builder().mode(Mode::Driver).setup(Setup::Ring));
    let ring = without_loss(&run, Mode::Driver);
    assert_eq!(run.seen.sha256(), digest(&lines));
    assert_eq!(ring.frames_joined, 0, "the peer was told what fits");
    assert!(run.report().connection.tcp.segments_in_order > 0);
}

fn out_and_home() {
    const ROUNDS: usize = 30;
    let lines = lines(60_000);
    let rig = Rig::with(&jumbo(), replay(lines.clone(), Pace::Rate(20_000.try_into().unwrap())), false);
    let (seen, report, rounds) = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed: Feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let mut seen = Seen::default();
            let until = Monotonic.now() + Duration::from_secs(60);
            let (mut rounds, mut next) = (0, 500);
            while feed.outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until, "{:?}", feed.report());
                feed.turn(now, &mut seen).unwrap();
                if seen.messages >= next && feed.is_settled() && rounds < ROUNDS {
                    next = seen.messages + 300 + 7 * rounds as u64;
                    match feed.way() {
                        Way::Bypass => feed.demote(now),
                        Way::Kernel => {
                            feed.promote(now);
                            rounds += 1;
                        }
                        way => panic!("{way:?}"),
                    }
                }
            }
            let report = feed.report();
            (seen, report, rounds)
        })
        .unwrap();
    assert_eq!(rounds, ROUNDS);
    assert_eq!((seen.messages, seen.sha256()), (60_000, digest(&lines)));
    assert!(report.connection.demotions.len() >= ROUNDS, "{:?}", report.moves);
    println!(
        "{} demotions, {} frames passed on, {:?}",
        report.connection.demotions.len(),
        report.connection.frames_passed,
        report.ring
    );
}

/// The flow is in the map for a moment, although the connection is the kernel's: as it is at the end of a demotion.
fn strayed() {
    const MESSAGES: u64 = 4_000;
    let lines = lines(MESSAGES as usize);
    let rig = Rig::with(&jumbo(), replay(lines.clone(), Pace::Rate(2_000.try_into().unwrap())), false);
    let (topology, address) = (&rig.topology, rig.address());
    let (seen, report, redirected) = topology
        .client
        .ns
        .enter(|| {
            let (mut lane, id) = lane(topology, TcpStream::connect(address).unwrap(), true);
            let mut seen = Seen::default();
            let until = Monotonic.now() + Duration::from_secs(30);
            let mut redirected = 0;
            while lane.connection(id).outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until, "{:?}", lane.connection(id).report());
                lane.turn(now, &mut seen).unwrap();
                if seen.messages > 500 && redirected == 0 {
                    let tuple = lane.connection(id).tuple();
                    let flows = &mut lane.bypass_mut().unwrap().flows;
                    flows.insert(&tuple, None).unwrap();
                    while redirected < 4 {
                        assert!(Monotonic.now() < until, "nothing was redirected");
                        redirected = flows.tallies().unwrap().iter().map(|(_, tally)| tally[Verdict::Redirected]).sum();
                    }
                    flows.remove(&tuple).unwrap();
                }
            }
            let ring = lane.bypass().unwrap().ring.counters();
            assert!(ring.frames_joined > 0, "{ring:?}");
            (seen, lane.connection(id).report(), redirected)
        })
        .unwrap();
    assert_eq!((seen.messages, seen.sha256()), (MESSAGES, digest(&lines)));
    assert!(report.frames_passed >= redirected, "{} of {redirected} passed on", report.frames_passed);
}

/// 3,600: more than a veth takes in one buffer, less than a chunk holds.
fn between() {
    // More than the kernel's buffer holds: the exchange must not be done, and have closed, before the promotion.
    let lines = lines(20_000);
    let rig = Rig::with(&Plan { mtu: 3_600, ..Plan::default() }, replay(lines.clone(), Pace::Saturate), false);
    let run = rig.run(rig.builder().mode(Mode::Driver));
    let ring = without_loss(&run, Mode::Driver);
    assert_eq!((run.seen.sha256(), ring.frames_joined), (digest(&lines), 0));
}

fn beyond() {
    let rig = Rig::with(&Plan { mtu: 20_000, ..Plan::default() }, synthetic(1_000, 100), false);
    let error = rig.run(rig.builder().mode(Mode::Driver)).error();
    assert!(error.contains("client0: packets of MTU 20000") && error.contains("ip link set client0 mtu"), "{error}");
    let auto = rig.run(rig.builder());
    auto.result.as_ref().unwrap();
    assert_eq!(auto.report().mode, Mode::Kernel);
    // The figures that the texts name are those of the ring.
    assert_eq!(PACKET_BYTES_MAX, 3_758);
    rig.await_clean();
}
