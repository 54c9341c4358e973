//! A socket on every queue: a flow is received wherever it arrives, and may move in mid-stream.
//!
//! A veth's receive queue is the sender's transmit queue (`veth_xmit` in drivers/net/veth.c), and that is chosen by the
//! masks of transmit packet steering (XPS) on the exchange's interface. Generic XDP takes one less for the number of the
//! receive queue than what the sender has left in the packet (`skb_get_rx_queue`, include/linux/skbuff.h).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wiretick::feed::{Feed, FeedBuilder, Mode, Queues, Report, Setup, Wait};
use wiretick::floor::{Clock, Monotonic};
use wiretick_testbed::exchange::{Config, Pace};
use wiretick_testbed::topology::{Namespace, Plan};
use wiretick_xdp::Verdict;

use crate::Test;
use crate::jumbo::{digest, lines, replay};
use crate::rig::{PATIENCE, Rig, Seen};

pub(crate) const TESTS: &[Test] = &[
    ("queues::a_flow_is_received_from_whichever_queue_it_arrives_on", either),
    ("queues::a_flow_that_moves_between_queues_in_mid_stream_loses_nothing", moving),
    ("queues::a_flow_that_moves_to_a_queue_without_a_socket_goes_home", astray),
    ("queues::packets_of_several_chunks_come_from_several_queues_at_once", large),
    ("queues::a_queue_that_is_not_there_is_named", missing),
    ("queues::the_program_takes_all_queues_and_says_so", program),
];

const MESSAGES: usize = 40_000;

/// The receive queues a test is about, in a mode: the plan of the link, and the transmit queues that lead to 0 and 1.
fn two_queues(mode: Mode, mtu: u32) -> (Plan, [u32; 2]) {
    let (queues, transmit) = if mode == Mode::Skb { (3, [1, 2]) } else { (2, [0, 1]) };
    (Plan { queues, mtu, ..Plan::default() }, transmit)
}

/// Has all that the exchange sends leave over this transmit queue. To be called in its namespace.
fn send_over(queue: u32, queues: u32) {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let last: u32 = online.trim().rsplit(['-', ',']).next().unwrap().parse().unwrap();
    let everybody = format!("{:x}", u32::MAX >> (31 - last.min(31)));
    for each in 0..queues {
        let path = format!("/sys/class/net/exchange0/queues/tx-{each}/xps_cpus");
        let mask = if each == queue { &everybody } else { "0" };
        std::fs::write(&path, mask).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
}

fn send_over_in(ns: &Namespace, queue: u32, queues: u32) {
    ns.enter(|| send_over(queue, queues)).unwrap();
}

/// Frames of the flow by receive queue, as far as there are any.
fn redirected(report: &Report) -> BTreeMap<u32, u64> {
    let count = |verdict| {
        let by_queue = report.verdicts.iter().map(move |(queue, tally)| (*queue, tally[verdict]));
        by_queue.filter(|(_, frames)| *frames != 0).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(count(Verdict::NoSocket), BTreeMap::new(), "each queue has a socket");
    let redirected = count(Verdict::Redirected);
    let ring = report.ring.expect("a ring");
    assert_eq!(redirected.values().sum::<u64>(), ring.frames_received, "every redirected frame arrived");
    let lost = [ring.receive_ring_full, ring.receive_dropped, ring.fill_ring_empty, ring.descriptors_refused];
    assert_eq!(lost, [0; 4], "{ring:?}");
    assert_eq!((ring.joins_exhausted, ring.joins_too_long, report.lane.frames_malformed), (0, 0, 0));
    redirected
}

fn paced(lines: &[u8]) -> Config {
    Config { batch: 1, ..replay(lines.to_vec(), Pace::Rate(20_000.try_into().unwrap())) }
}

fn either() {
    let lines = lines(5_000);
    for mode in [Mode::Driver, Mode::Skb] {
        for setup in [Setup::Kernel, Setup::Ring] {
            for queue in [0, 1] {
                let (plan, transmit) = two_queues(mode, 1500);
                let rig = Rig::with(&plan, paced(&lines), false);
                send_over_in(&rig.topology.exchange.ns, transmit[queue as usize], plan.queues);
                let run = rig.run(rig.builder().mode(mode).setup(setup).queues(Queues::All));
                run.result.as_ref().unwrap_or_else(|error| panic!("{mode}, queue {queue}: {error}"));
                let report = run.report();
                assert_eq!((report.mode, report.queues.len()), (mode, plan.queues as usize), "{:?}", report.refusals);
                assert_eq!(run.seen.sha256(), digest(&lines));
                let frames = redirected(report);
                let (there, all) = (frames.get(&queue).copied().unwrap_or(0), frames.values().sum::<u64>());
                assert!(there > 100 && there * 100 > all * 95, "{mode}, queue {queue}: {frames:?}");
                assert_eq!(run.seen.in_place, run.seen.in_umem);
                rig.await_clean();
            }
        }
    }
}

/// A feed while the exchange's frames change their queue every 15 ms; and how often that was seen.
fn run_moving(mode: Mode, plan: &Plan, transmit: [u32; 2], rig: &Rig, builder: FeedBuilder) -> (Seen, Report, u32) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rig.topology.exchange.ns.enter(|| {
                for transmit in transmit.into_iter().cycle() {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    send_over(transmit, plan.queues);
                    std::thread::sleep(Duration::from_millis(15));
                }
            })
        });
        let run = || {
            let mut feed: Feed = builder.connect().unwrap();
            let mut seen = Seen::default();
            seen.region = feed.region();
            let until = Monotonic.now() + PATIENCE;
            let (mut moves, mut last, mut before) = (0, None, BTreeMap::new());
            let mut next = 0;
            while feed.outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until, "{mode}: {:?}", feed.report());
                if feed.turn(now, &mut seen).unwrap() == 0 {
                    feed.wait(now, Duration::from_millis(50)).unwrap();
                }
                if seen.messages >= next {
                    next = seen.messages + 200;
                    let report = feed.report();
                    let frames: BTreeMap<_, _> =
                        report.verdicts.iter().map(|(queue, tally)| (*queue, tally[Verdict::Redirected])).collect();
                    let grown = |queue: &u32| frames[queue] - before.get(queue).copied().unwrap_or(0);
                    let busiest = frames.keys().copied().max_by_key(grown).filter(|queue| grown(queue) != 0);
                    if let Some(queue) = busiest {
                        moves += u32::from(last.is_some_and(|last| last != queue));
                        last = Some(queue);
                    }
                    before = frames;
                }
            }
            let report = feed.report();
            (seen, report, moves)
        };
        let result = rig.topology.client.ns.enter(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
            over.store(true, Ordering::Relaxed);
            result
        });
        result.unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn moving() {
    let lines = lines(MESSAGES);
    for (mode, setup, wait) in [
        (Mode::Driver, Setup::Kernel, Wait::Spin),
        (Mode::Driver, Setup::Ring, Wait::Poll),
        (Mode::Skb, Setup::Kernel, Wait::Spin),
    ] {
        let (plan, transmit) = two_queues(mode, 1500);
        let rig = Rig::with(&plan, paced(&lines), false);
        let builder = rig.builder().mode(mode).setup(setup).wait(wait).queues(Queues::All);
        let (seen, report, moves) = run_moving(mode, &plan, transmit, &rig, builder);
        assert_eq!(report.mode, mode, "it stays on the ring: {:?} {:?}", report.refusals, report.moves);
        assert_eq!((seen.messages, seen.sha256()), (MESSAGES as u64, digest(&lines)), "{mode}");
        assert_eq!(report.moves.len(), 1, "nothing drove it home: {:?}", report.moves);
        let frames = redirected(&report);
        let all: u64 = frames.values().sum();
        assert_eq!(frames.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert!(frames.values().all(|frames| frames * 10 > all), "{frames:?}");
        assert!(moves >= 10, "it moved {moves} times");
        println!("{mode}, {setup:?}, {wait:?}: {frames:?}, {moves} moves, {:?}", report.connection.tcp);
        rig.await_clean();
    }
}

/// The counterpart: on one queue alone, the same is an alarm, and costs the mode but no message.
fn astray() {
    let lines = lines(MESSAGES);
    let (plan, transmit) = two_queues(Mode::Driver, 1500);
    let rig = Rig::with(&plan, paced(&lines), false);
    let ns = &rig.topology.exchange.ns;
    send_over_in(ns, transmit[0], plan.queues);
    let (seen, report) = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).queue(0).connect().unwrap();
            let mut seen = Seen::default();
            let until = Monotonic.now() + PATIENCE;
            let mut moved = false;
            while feed.outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until, "{:?}", feed.report());
                feed.turn(now, &mut seen).unwrap();
                if !moved && feed.mode() == Mode::Driver && seen.messages > 5_000 {
                    moved = true;
                    send_over_in(ns, transmit[1], plan.queues);
                }
            }
            (seen, feed.report())
        })
        .unwrap();
    assert_eq!((seen.messages, seen.sha256()), (MESSAGES as u64, digest(&lines)));
    let home = report.moves.iter().find(|change| change.to == Mode::Kernel).expect("it went home");
    assert!(home.reason.contains("arrive on queue 1, where no socket is"), "{home:?}");
}

fn large() {
    let lines = lines(MESSAGES);
    let (plan, transmit) = two_queues(Mode::Driver, 9_000);
    let rig = Rig::with(&plan, replay(lines.clone(), Pace::Rate(20_000.try_into().unwrap())), false);
    let builder = rig.builder().mode(Mode::Driver).queues(Queues::These(vec![1, 0]));
    let (seen, report, moves) = run_moving(Mode::Driver, &plan, transmit, &rig, builder);
    assert_eq!((seen.messages, seen.sha256()), (MESSAGES as u64, digest(&lines)));
    assert_eq!((report.queue, report.queues.clone(), report.mode), (1, vec![1, 0], Mode::Driver));
    let frames = redirected(&report);
    assert!(report.ring.unwrap().frames_joined > 300 && frames.len() == 2 && moves >= 5, "{moves} {frames:?}");
}

fn missing() {
    let (plan, _) = two_queues(Mode::Driver, 1500);
    let rig = Rig::with(&plan, paced(&lines(100)), false);
    let builder = || rig.builder().mode(Mode::Driver);
    let error = rig.run(builder().queues(Queues::These(vec![0, 2]))).error();
    assert!(error.contains("client0: queue 2 refused") && error.contains("no such queue?"), "{error}");
    for wrong in [vec![], vec![1, 1]] {
        let error = rig.run(builder().queues(Queues::These(wrong))).error();
        assert!(error.contains("at least one, and each once"), "{error}");
    }
    rig.await_clean();
}

fn program() {
    let (plan, _) = two_queues(Mode::Driver, 1500);
    let rig = Rig::with(&plan, paced(&lines(1_000)), false);
    let file = std::env::temp_dir().join(format!("wiretick-test-{}-queues.json", std::process::id()));
    let output = rig
        .program(&["--mode", "driver", "--queue", "all", "--format", "none", "--summary", file.to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    assert!(told.contains("client0 queues 0, 1, proven") && told.contains("received from 2 queues"), "{told}");
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let _ = std::fs::remove_file(&file);
    assert_eq!((summary["queue"].as_u64(), summary["queues"].to_string().as_str()), (Some(0), "[0,1]"));
    assert!(summary["counters"]["xdp"]["redirected"].as_u64().unwrap() > 0);
    assert!(summary["counters"]["xdp"].as_object().unwrap().keys().any(|key| key.starts_with("redirected_queue_")));
}
