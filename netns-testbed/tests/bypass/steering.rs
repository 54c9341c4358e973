//! Steering to a receive queue, as far as a veth goes: it has several queues, and neither flow rules nor RSS. What comes to the
//! client's queues is chosen at the other end, by the queue it is sent on (XPS).

use std::process::Output;

use serde_json::Value;
use wiretick::feed::{Means, Mode, Setup, Steer};
use wiretick_testbed::topology::Plan;
use wiretick_xdp::Verdict;

use crate::Test;
use crate::rig::{Rig, Run, ca_file, synthetic, wiretick_program};

pub(crate) const TESTS: &[Test] = &[
    ("steering::with_one_queue_nothing_is_done", one_queue),
    ("steering::a_veth_offers_nothing_and_that_is_said", nothing_offered),
    ("steering::frames_on_another_queue_are_found_and_named", elsewhere),
    ("steering::what_is_named_and_cannot_be_had_is_an_error", named),
    ("steering::the_command_says_what_there_is_without_privilege", look),
    ("steering::the_command_counts_where_connections_arrive", prove),
    ("steering::leases_of_the_dead_are_swept_by_the_next_start", swept),
];

const TWO: Plan = Plan {
    queues: 2,
    mtu: 1500,
    queue_frames: 10_000,
    router: false,
    router_mtu: None,
    offloads: false,
    exchange_core: None,
    wire: None,
};

/// Everything from the exchange arrives on this queue of the client: whatever CPU sends, it sends on that one.
fn arrive_on(rig: &Rig, queue: usize) {
    let every = every_cpu();
    // The namespace has a /sys of its own, to be mounted elsewhere. An empty mask is set last: with none at all, the kernel hashes.
    let script = format!(
        "mount -t sysfs exchange /mnt && cd /mnt/class/net/exchange0/queues && \
         echo {every} > tx-{queue}/xps_cpus && echo 0 > tx-{}/xps_cpus",
        1 - queue
    );
    let output = rig.topology.exchange.ns.command("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// The mask of all CPUs that there can be, as the kernel reads it: words of 32 bits, the highest first.
fn every_cpu() -> String {
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last: u32 = possible.trim().rsplit(['-', ',']).next().unwrap().parse().unwrap();
    let word = |n: u32| if n == last / 32 { u32::MAX >> (31 - last % 32) } else { u32::MAX };
    (0..=last / 32).rev().map(|n| format!("{:x}", word(n))).collect::<Vec<_>>().join(",")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(output)))
}

/// All of it came, in driver mode, over this queue and no other.
fn whole(run: &Run, queue: u32, count: u64) {
    run.result.as_ref().unwrap_or_else(|error| panic!("{error}"));
    let report = run.report();
    assert_eq!(report.mode, Mode::Driver, "{:?}", report.refusals);
    assert_eq!((run.seen.messages, run.seen.gaps), (count, 0));
    let redirected = report.verdicts.iter().map(|(queue, tally)| (*queue, tally[Verdict::Redirected]));
    let redirected: Vec<_> = redirected.filter(|(_, frames)| *frames != 0).collect();
    assert_eq!(redirected.len(), 1, "{redirected:?}");
    assert_eq!(redirected[0].0, queue);
    assert!(redirected[0].1 > 100, "{redirected:?}");
}

fn one_queue() {
    for steer in [Steer::Auto, Steer::Ntuple, Steer::Port, Steer::None] {
        let rig = Rig::new(synthetic(20_000, 2_000));
        let run = rig.run(rig.builder().steer(steer));
        whole(&run, 0, 2_000);
        let report = run.report();
        assert_eq!((report.steering.wanted, &report.steering.refusals[..]), (steer, &[][..]));
        let leg = &report.legs[0];
        let said = if steer == Steer::None { "" } else { "client0 has one receive queue" };
        assert_eq!((leg.steered_by, leg.steering.as_str()), (None, said));
    }
}

fn nothing_offered() {
    for queue in [0, 1] {
        for setup in [Setup::Kernel, Setup::Ring] {
            let rig = Rig::with(&TWO, synthetic(20_000, 2_000), false);
            arrive_on(&rig, queue as usize);
            let run = rig.run(rig.builder().queue(queue).setup(setup));
            whole(&run, queue, 2_000);
            let report = run.report();
            let [(Means::Ntuple, ntuple), (Means::Port, port)] = &report.steering.refusals[..] else {
                panic!("{:?}", report.steering)
            };
            assert!(ntuple.contains("client0: the driver has no flow rules"), "{ntuple}");
            assert!(port.contains("client0: the driver shows no RSS table"), "{port}");
            assert_eq!(report.legs[0].steered_by, None);
            assert_eq!(report.legs[0].steering, "not steered: nothing brings it there");
        }
    }
}

fn elsewhere() {
    for (queue, other) in [(0, 1), (1, 0)] {
        let rig = Rig::with(&TWO, synthetic(5_000, 5_000), false);
        arrive_on(&rig, other as usize);
        let reason = format!("arrive on queue {other}: use --queue {other}");
        let run = rig.run(rig.builder().queue(queue));
        assert_eq!((run.seen.messages, run.seen.gaps), (5_000, 0), "nothing is lost");
        let report = run.report();
        // In generic mode a veth forgets the queue: there, everything arrives on queue 0.
        assert_eq!(report.mode, if queue == 0 { Mode::Skb } else { Mode::Kernel });
        let driver = report.refusals.iter().find(|(mode, _)| mode == "driver");
        let (_, driver) = driver.unwrap_or_else(|| panic!("{:?}", report.refusals));
        assert!(driver.contains(&reason), "{driver}");
        rig.await_clean();
        let error = rig.run(rig.builder().queue(queue).mode(Mode::Driver)).error();
        assert!(error.contains("mode driver cannot be had") && error.contains(&reason), "{error}");
        rig.await_clean();
    }
}

fn named() {
    let rig = Rig::with(&TWO, synthetic(20_000, 2_000), false);
    for (steer, words) in [
        (Steer::Ntuple, ["steering by ntuple cannot be had", "client0: the driver has no flow rules"]),
        (Steer::Port, ["steering by port cannot be had", "client0: the driver shows no RSS table"]),
    ] {
        for setup in [Setup::Kernel, Setup::Ring] {
            let error = rig.run(rig.builder().steer(steer).setup(setup)).error();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
        let error = rig.run(rig.builder().steer(steer).mode(Mode::Kernel)).error();
        assert!(error.contains("with mode kernel there is none"), "{error}");
    }
    let output = rig.program(&["--steer", "port"]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    rig.await_clean();
}

/// `wiretick steer` on the client's machine, against the exchange.
fn steer(rig: &Rig, as_nobody: bool, arguments: &[&str]) -> Output {
    let ns = &rig.topology.client.ns;
    let mut command = if as_nobody {
        let mut command = ns.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).arg(wiretick_program());
        command
    } else {
        ns.command(wiretick_program())
    };
    command.args(["steer", &rig.address().to_string()]).args(arguments).output().unwrap()
}

fn look() {
    let rig = Rig::with(&TWO, synthetic(1, 1), false);
    let output = steer(&rig, true, &["--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let offer = &json(&output)[0];
    assert_eq!((offer["interface"].as_str(), offer["driver"].as_str()), (Some("client0"), Some("veth")));
    assert_eq!((offer["source"].as_str(), offer["queues"].as_u64()), (Some("10.77.0.1"), Some(2)));
    assert!(offer["no_ntuple"].as_str().unwrap().contains("no flow rules"), "{offer}");
    assert!(offer["no_port"].as_str().unwrap().contains("no RSS table"), "{offer}");
    let output = steer(&rig, true, &[]);
    for line in
        ["10.77.0.1 <- 10.77.0.2:", "receive queues  2", "ports           none: client0: the driver shows no RSS table"]
    {
        assert!(text(&output).contains(line), "{line:?}: {}", text(&output));
    }
    // To prove something takes privileges, and says which.
    let output = steer(&rig, true, &["--prove"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("CAP_NET_ADMIN"), "{}", text(&output));
    let output = steer(&rig, true, &["nonsense"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}

fn prove() {
    for ipv6 in [false, true] {
        let rig = Rig::with(&TWO, synthetic(1, 1), ipv6);
        // In generic mode a veth forgets the queue: what it receives has come on queue 0.
        for (mode, cases) in [("driver", &[(0, 0), (0, 1), (1, 0), (1, 1)][..]), ("skb", &[(0, 0), (1, 0)])] {
            for &(wanted, queue) in cases {
                arrive_on(&rig, queue);
                let wanted = wanted.to_string();
                let options = ["--prove", "--queue", &wanted, "--flows", "20", "--mode", mode, "--json"];
                let output = steer(&rig, false, &options);
                let lands = wanted == queue.to_string();
                assert_eq!(output.status.code(), Some(if lands { 0 } else { 3 }), "{}", text(&output));
                let proof = json(&output);
                assert_eq!((proof["flows"].as_u64(), proof["mode"].as_str()), (Some(20), Some(mode)), "{proof:#}");
                let found = ["landed", "elsewhere", "unanswered"].map(|name| proof[name].as_u64().unwrap());
                assert_eq!(found, if lands { [20, 0, 0] } else { [0, 20, 0] }, "{proof:#}");
                assert_eq!(proof["by_queue"][queue.to_string()], 20);
                assert_eq!(proof["by_means"]["none"], 20);
                assert!(proof["refused"]["port"].as_str().unwrap().contains("no RSS table"), "{proof:#}");
                rig.await_clean();
            }
        }
    }
}

/// In a /run of its own: a lease of a dead process here, one of a dead process in another namespace, one of a living one, and
/// something else.
fn swept() {
    let rig = Rig::new(synthetic(20_000, 500));
    let netns = rig.topology.client.ns.enter(|| {
        use std::os::unix::fs::MetadataExt as _;
        std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
    });
    let (netns, index) = (netns.unwrap(), rig.topology.client.interface.index);
    let lease = |pid: u32, began: u64, netns: u64| {
        format!(
            "wiretick leases 1\nowner {pid} {began}\nrule 0 netns {netns} index {index} name client0 queue 3 vlan - \
             local 10.77.0.1:40000 remote 10.77.0.2:443\nat 0 5\n"
        )
    };
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let began: u64 = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("1-0.lease", lease(u32::MAX, 1, netns)),
        ("2-0.lease", lease(u32::MAX, 1, netns + 1)),
        ("3-0.lease", lease(std::process::id(), began, netns)),
        ("4-0.lease", "something else\n".to_owned()),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let script = "mount -t tmpfs none /run && mkdir /run/wiretick && cp \"$0\"/* /run/wiretick && \"$@\" && ls /run/wiretick >&2";
    let mut command = rig.topology.client.ns.command("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(folder.path()).arg(wiretick_program());
    command.args(["stream", &rig.url(), "--ca-file", ca_file().to_str().unwrap(), "--format", "none"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    let left: Vec<_> = said.lines().filter(|line| line.ends_with(".lease")).collect();
    assert_eq!(left, ["2-0.lease", "3-0.lease", "4-0.lease"], "{said}");
    assert!(said.contains("4-0.lease: not understood"), "{said}");
}
