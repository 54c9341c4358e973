//! Which way, and how it is known that it is really that way.

use std::num::NonZeroU64;
use std::time::Duration;

use wiretick::event::Event;
use wiretick::feed::{Mode, Setup, Wait};
use wiretick::floor::{Clock, Monotonic};
use wiretick::path::Context;
use wiretick_testbed::exchange::{Config, Fault, Pace, Security, Start, Suite, Tls, TlsVersion};
use wiretick_testbed::pki::Validity;
use wiretick_testbed::topology::Plan;
use wiretick_xdp::Verdict;

use crate::Test;
use crate::rig::{Rig, Run, identity, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("modes::what_is_not_copied_lies_in_umem_when_the_handler_gets_it", in_umem),
    ("modes::auto_takes_driver_on_a_veth_and_says_why_not_zerocopy", auto),
    ("modes::zerocopy_on_a_veth_is_refused_and_nothing_is_left_behind", zerocopy),
    ("modes::the_kernel_path_needs_no_interface", kernel),
    ("modes::a_connection_can_be_opened_over_the_ring", over_the_ring),
    ("modes::ipv6_works_in_every_mode", ipv6),
    ("modes::without_tls_it_works_in_every_mode", plain),
    ("modes::tls_1_2_and_every_suite_work_on_the_ring", suites),
    ("modes::behind_a_router_packets_go_to_the_gateway", router),
    ("modes::rules_that_choose_the_route_are_obeyed", policy),
    ("modes::a_router_with_a_smaller_mtu_is_obeyed", narrow),
    ("modes::waiting_in_poll_works_in_every_mode", poll),
    ("modes::what_peers_may_do_is_understood_on_the_ring", allowed),
    ("modes::forty_packets_sent_at_once_leave_at_once", sends_at_once),
    ("modes::pings_are_answered_with_their_payload_on_the_ring", pings),
];

const BYPASSES: [Mode; 2] = [Mode::Driver, Mode::Skb];

/// A run of this many messages in a mode that must really have been in effect.
fn whole(run: &Run, mode: Mode, count: u64) {
    run.result.as_ref().unwrap_or_else(|error| panic!("{mode}: {error}"));
    let report = run.report();
    assert_eq!(report.mode, mode, "{:?}", report.refusals);
    assert_eq!((run.seen.messages, run.seen.gaps), (count, 0));
    // Not the absence of an error, but the program's and the ring's own counts.
    let redirected: u64 = report.verdicts.iter().map(|(_, tally)| tally[Verdict::Redirected]).sum();
    let received = report.ring.map_or(0, |ring| ring.frames_received);
    if mode == Mode::Kernel {
        assert_eq!((redirected, received), (0, 0));
    } else {
        assert!(received > 100, "only {received} frames came over the ring");
        assert_eq!(redirected, received, "every redirected frame arrived");
        assert_eq!(report.lane.frames_malformed + report.lane.frames_foreign, 0);
    }
}

fn in_umem() {
    for mode in BYPASSES {
        let rig = Rig::new(synthetic(5_000, 5_000));
        let run = rig.run_in(mode);
        whole(&run, mode, 5_000);
        assert_eq!(
            run.seen.in_place, run.seen.in_umem,
            "what is called in place lies in the ring's memory, and vice versa"
        );
        // Nearly all of the synthetic feed's messages fit a segment; what does not is some large depth updates.
        assert!(run.seen.in_umem > 4_500, "{} of 5000 in UMEM", run.seen.in_umem);
        let messages = run.report().connection.path.messages;
        assert_eq!(messages.messages_in_place + messages.messages_joined, 5_000);
    }
}

fn auto() {
    let rig = Rig::new(synthetic(20_000, 4_000));
    let run = rig.run(rig.builder());
    whole(&run, Mode::Driver, 4_000);
    let refusals = &run.report().refusals;
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0].0, "zerocopy");
    assert!(refusals[0].1.contains("the driver offers no zero-copy"), "{refusals:?}");
    rig.await_clean();
}

fn zerocopy() {
    let rig = Rig::new(synthetic(1_000, 1_000));
    let run = rig.run(rig.builder().mode(Mode::ZeroCopy));
    let error = run.error();
    assert!(error.contains("mode zerocopy cannot be had") && error.contains("--mode driver"), "{error}");
    rig.await_clean();
}

fn kernel() {
    let rig = Rig::new(synthetic(20_000, 4_000));
    whole(&rig.run_in(Mode::Kernel), Mode::Kernel, 4_000);
}

fn over_the_ring() {
    for mode in BYPASSES {
        for ipv6 in [false, true] {
            let rig = Rig::with(&Plan::default(), synthetic(20_000, 4_000), ipv6);
            let run = rig.run(rig.builder().mode(mode).setup(Setup::Ring));
            whole(&run, mode, 4_000);
            assert_eq!(run.report().setup, Setup::Ring);
            assert!(run.report().connection.handovers.is_empty(), "it has never been in the kernel");
            rig.await_clean();
        }
    }
}

fn ipv6() {
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let rig = Rig::with(&Plan::default(), synthetic(20_000, 4_000), true);
        whole(&rig.run_in(mode), mode, 4_000);
    }
}

fn plain() {
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let rig = Rig::new(Config { security: Security::Plain, ..synthetic(20_000, 4_000) });
        whole(&rig.run_in(mode), mode, 4_000);
    }
}

fn suites() {
    for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
        for suite in [Suite::Aes128, Suite::Aes256, Suite::ChaCha20] {
            let tls = Tls { identity: identity(Validity::Now), version, suite: Some(suite) };
            let rig = Rig::new(Config { security: Security::Tls(tls), ..synthetic(20_000, 4_000) });
            whole(&rig.run_in(Mode::Driver), Mode::Driver, 4_000);
        }
    }
}

fn router() {
    for ipv6 in [false, true] {
        let rig = Rig::with(&Plan { router: true, ..Plan::default() }, synthetic(20_000, 4_000), ipv6);
        for setup in [Setup::Kernel, Setup::Ring] {
            let run = rig.run(rig.builder().mode(Mode::Driver).setup(setup));
            whole(&run, Mode::Driver, 4_000);
            rig.await_clean();
        }
    }
}

/// The way stands in a table of its own, which a rule leads to, by destination or by source; the main table knows a wrong one.
fn policy() {
    for rule in ["to 10.77.1.2", "from 10.77.0.1"] {
        let rig = Rig::with(&Plan { router: true, ..Plan::default() }, synthetic(20_000, 4_000), false);
        let gateway = rig.topology.router.as_ref().unwrap().to_client.ipv4;
        for words in [
            "route replace default via 10.77.0.77 dev client0",
            &format!("route add default via {gateway} dev client0 table 100"),
            &format!("rule add {rule} lookup 100"),
        ] {
            let status = rig.topology.client.ns.command("ip").args(words.split(' ')).status().unwrap();
            assert!(status.success(), "ip {words}");
        }
        for setup in [Setup::Kernel, Setup::Ring] {
            let run = rig.run(rig.builder().mode(Mode::Driver).setup(setup));
            whole(&run, Mode::Driver, 4_000);
            rig.await_clean();
        }
    }
}

/// Full segments, which a router behind the first hop does not take.
fn narrow() {
    const MESSAGES: u64 = 20;
    for (ipv6, setup) in [(false, Setup::Kernel), (true, Setup::Kernel), (false, Setup::Ring)] {
        let plan = Plan { router: true, router_mtu: Some(1300), ..Plan::default() };
        let rig = Rig::with(&plan, Config { start: Start::OnSubscribe, ..synthetic(100, 1) }, ipv6);
        let exchange = &rig.exchange;
        let report = rig.topology.client.ns.enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).setup(setup).connect().unwrap();
            let clock = Monotonic;
            let mut ignore = |_: &Event<'_>, _: &mut Context<'_, '_>| ();
            let until = clock.now() + Duration::from_secs(20);
            while !feed.is_settled() {
                assert!(clock.now() < until);
                feed.turn(clock.now(), &mut ignore).unwrap();
            }
            let began = clock.now();
            for _ in 0..MESSAGES {
                feed.sender().text(&"x".repeat(1_390)).unwrap();
            }
            while exchange.report().received.text < MESSAGES {
                let now = clock.now();
                feed.turn(now, &mut ignore).unwrap();
                assert!(now.since(began) < Duration::from_secs(10), "{:?}", feed.report());
            }
            feed.report()
        });
        let tcp = report.unwrap().connection.tcp;
        assert_eq!(tcp.mtu_lowered, 1, "{tcp:?}");
        assert!(tcp.segments_resent > 0);
    }
}

fn poll() {
    for mode in [Mode::Driver, Mode::Skb, Mode::Kernel] {
        let rig = Rig::new(synthetic(2_000, 2_000));
        let run = rig.run(rig.builder().mode(mode).wait(Wait::Poll));
        whole(&run, mode, 2_000);
    }
}

/// Everything a peer may do and few peers do.
fn allowed() {
    let ways = [
        Fault::EarlyFrame,
        Fault::KeyUpdate,
        Fault::Fragments,
        Fault::TinyRecords,
        Fault::SplitRecords,
        Fault::Scattered,
    ];
    for way in ways {
        let config = Config { fault: Some(way), fault_after: 500, ..synthetic(4_000, 1_500) };
        let rig = Rig::new(config);
        let run = rig.run_in(Mode::Driver);
        assert_eq!((run.seen.messages, run.seen.gaps), (1_500, 0), "{way:?}");
        assert_eq!(rig.exchange.stop().errors(), Vec::<String>::new(), "{way:?}");
    }
    let drip = Config { fault: Some(Fault::Drip), pace: Pace::Rate(NonZeroU64::MIN), ..synthetic(10, 3) };
    let rig = Rig::new(drip);
    assert_eq!(rig.run_in(Mode::Driver).seen.messages, 3);
}

fn pings() {
    let config = Config { ping_interval: Some(Duration::from_millis(20)), ..synthetic(2_000, 2_000) };
    let rig = Rig::new(config);
    let run = rig.run(rig.builder().mode(Mode::Driver).messages_per_second(None));
    whole(&run, Mode::Driver, 2_000);
    let report = rig.exchange.stop();
    assert!(report.pings.answered > 30, "{:?}", report.pings);
    assert_eq!(report.errors(), Vec::<String>::new());
}

/// More packets than the kernel sends in one wake-up. What it leaves on the ring must not wait for a retransmission: nothing
/// else is sent or received meanwhile that would wake it up again.
fn sends_at_once() {
    const MESSAGES: u64 = 44;
    for mode in BYPASSES {
        let rig = Rig::new(Config { start: Start::OnSubscribe, ..synthetic(100, 1) });
        let exchange = &rig.exchange;
        let took = rig.topology.client.ns.enter(|| {
            let mut feed = rig.builder().mode(mode).connect().unwrap();
            let clock = Monotonic;
            let mut ignore = |_: &Event<'_>, _: &mut Context<'_, '_>| ();
            let until = clock.now() + Duration::from_secs(20);
            while !feed.is_settled() {
                assert!(clock.now() < until);
                feed.turn(clock.now(), &mut ignore).unwrap();
            }
            let began = clock.now();
            for _ in 0..MESSAGES {
                // With its frame and its record, a full segment.
                feed.sender().text(&"x".repeat(1_418)).unwrap();
            }
            while exchange.report().received.text < MESSAGES {
                let now = clock.now();
                feed.turn(now, &mut ignore).unwrap();
                assert!(now.since(began) < Duration::from_secs(10), "{:?}", feed.report());
            }
            clock.now().since(began)
        });
        let took = took.unwrap();
        assert!(took < Duration::from_millis(500), "{mode}: {MESSAGES} messages took {took:?} to the exchange");
    }
}
