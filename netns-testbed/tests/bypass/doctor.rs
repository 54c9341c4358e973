//! `wiretick doctor` against what then happens, and `--tune` against what is left afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use wiretick::control::link;
use wiretick::control::nic::Nic;
use wiretick::feed::Mode;
use wiretick_testbed::exchange::{Config, Ending};
use wiretick_testbed::topology::Plan;

use crate::Test;
use crate::rig::{Rig, synthetic, wiretick_program};

pub(crate) const TESTS: &[Test] = &[
    ("doctor::what_it_says_of_a_veth_is_what_then_happens", veth),
    ("doctor::it_leaves_the_interface_as_it_was", unchanged),
    ("doctor::it_disturbs_no_feed_that_runs", beside_a_feed),
    ("doctor::a_flow_on_another_queue_is_proven_there", other_queue),
    ("doctor::without_a_peer_nothing_is_proven_and_that_is_said", no_peer),
    ("doctor::an_interface_that_is_taken_is_a_failure_with_its_owner", occupied),
    ("doctor::blank_checksums_are_found", blank_checksums),
    ("doctor::what_it_cannot_look_at_is_a_failure", nothing_to_look_at),
    ("doctor::without_privilege_it_says_what_is_missing", unprivileged),
    ("tune::what_is_changed_is_put_back_when_the_feed_ends", tuned),
    ("tune::it_is_put_back_after_kill_9", killed),
    ("tune::it_is_put_back_by_the_next_start_after_kill_9_of_both", both_killed),
    ("tune::what_somebody_else_has_set_is_left_alone", left_alone),
    ("tune::commands_are_printed_and_nothing_is_changed", printed),
    ("tune::busy_polling_on_a_veth_works_and_is_said_to_have_no_effect", busy_poll),
];

/// A doctor's report.
struct Report {
    code: Option<i32>,
    json: Value,
    checks: BTreeMap<String, (String, String)>,
}

impl Report {
    fn of(rig: &Rig, arguments: &[&str]) -> Self {
        let mut command = rig.topology.client.ns.command_on_core(wiretick_program(), 1).unwrap();
        command.args(["doctor", "--json"]).args(arguments);
        Self::read(&command.output().unwrap())
    }

    fn read(output: &Output) -> Self {
        let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
        let checks = json["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|check| {
                let line = format!("{}; {} => {}", text(check, "found"), text(check, "means"), text(check, "command"));
                (text(check, "check"), (text(check, "verdict"), line))
            })
            .collect();
        Self { code: output.status.code(), json, checks }
    }

    #[track_caller]
    fn is(&self, check: &str, verdict: &str, words: &str) {
        let (found, line) = self.checks.get(check).unwrap_or_else(|| panic!("no {check}: {}", self.json));
        assert_eq!(found, verdict, "{check}: {line}");
        assert!(line.contains(words), "{check}: {words} is not in: {line}");
    }

    /// The exit code that belongs to the worst finding.
    fn expected_code(&self) -> i32 {
        self.checks
            .values()
            .map(|(verdict, _)| match verdict.as_str() {
                "ok" => 0,
                "warn" => 1,
                _ => 2,
            })
            .max()
            .unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn host(rig: &Rig) -> String {
    rig.address().to_string()
}

fn veth() {
    let rig = Rig::new(synthetic(5_000, 2_000));
    let report = Report::of(&rig, &["--host", &host(&rig)]);
    assert_eq!(report.code, Some(report.expected_code()), "{}", report.json);
    assert_eq!(report.json["interface"], "client0");
    report.is("driver", "ok", "veth");
    report.is("xdp_native", "ok", "");
    report.is("zero_copy", "warn", "copies each frame once");
    report.is("rss", "ok", "one queue");
    report.is("connection", "ok", "");
    report.is("neighbour", "ok", "02:77:74:00:00:02");
    report.is("proof_driver", "ok", "answered over the ring");
    report.is("proof_skb", "ok", "answered over the ring");
    report.is("proof_zerocopy", "warn", "as the driver has told");
    report.is("unchanged", "ok", "no program");
    rig.await_clean();
    // And so it is.
    for mode in [Mode::Driver, Mode::Skb] {
        assert_eq!(rig.run_in(mode).report().mode, mode);
        rig.await_clean();
    }
    assert!(rig.run(rig.builder().mode(Mode::ZeroCopy)).error().contains("no zero-copy"));
}

fn unchanged() {
    let rig = Rig::new(synthetic(1_000, 10));
    let look = || {
        let name = rig.topology.client.interface.name;
        let nic = rig.topology.client.ns.enter(|| Nic::read(&link::by_name(name).unwrap()).unwrap()).unwrap();
        format!("{nic:#?}").lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = look();
    let report = Report::of(&rig, &["--interface", "client0", "--host", &host(&rig)]);
    report.is("proof_driver", "ok", "");
    rig.await_clean();
    let differences: Vec<_> = before.iter().zip(look()).filter(|(before, after)| *before != after).collect();
    assert!(differences.is_empty(), "{differences:?}");
    // One connection to look at, and one for each mode that came as far as that; nothing was sent over any of them.
    assert!(rig.exchange.wait_ended(4, Duration::from_secs(5)));
    let endings = rig.exchange.report().endings;
    assert_eq!(endings.len(), 4, "{endings:?}");
    assert!(endings.iter().all(|ending| !matches!(ending, Ending::ClosedByClient(_))), "{endings:?}");
    assert_eq!(rig.exchange.report().messages, 0);
}

/// The feed has its program on the interface: the doctor sees whose it is, and leaves it alone.
fn beside_a_feed() {
    let rig = Rig::new(synthetic(4_000, 8_000));
    let mut stream =
        rig.program(&["--mode", "driver", "--summary", "/dev/stdout", "--format", "none", "--wait", "poll"]);
    let feed = stream.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while rig.xdp_program().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "the feed does not come to its ring");
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = Report::of(&rig, &["--host", &host(&rig)]);
    report.is("xdp_owner", "ok", &format!("wiretick (pid {})", feed.id()));
    for check in ["proof_zerocopy", "proof_driver", "proof_skb"] {
        report.is(check, "warn", "not proven");
    }
    let output = feed.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["messages"], &summary["gaps"]), (&8_000.into(), &0.into()), "{summary}");
    assert_eq!(summary["moves"].as_array().unwrap().len(), 1, "it never left the ring: {summary}");
}

/// With two queues, a veth's other end chooses one by the flow's hash. Each flow is another one, so some arrive on queue 1.
fn other_queue() {
    let rig = Rig::with(&Plan { queues: 2, ..Plan::default() }, synthetic(1_000, 10), false);
    let mut seen = BTreeMap::new();
    for _ in 0..20 {
        let report = Report::of(&rig, &["--host", &host(&rig)]);
        let (verdict, line) = report.checks["proof_driver"].clone();
        let queue = if line.contains("queue 1:") { 1 } else { 0 };
        assert_eq!(verdict, ["ok", "warn"][queue], "{line}");
        assert_eq!(line.contains("wiretick stream --queue 1"), queue == 1, "{line}");
        *seen.entry(queue).or_insert(0) += 1;
        report.is("rss", "warn", "only a proof");
        rig.await_clean();
        if seen.len() == 2 {
            return;
        }
    }
    panic!("all flows arrived on one queue: {seen:?}");
}

fn no_peer() {
    let rig = Rig::new(synthetic(1_000, 10));
    let report = Report::of(&rig, &["--interface", "client0"]);
    assert_eq!(report.code, Some(report.expected_code()));
    report.is("proof_driver", "warn", "--host HOST[:PORT]");
    assert!(!report.checks.contains_key("unchanged"), "nothing was tried");
    assert_eq!(rig.exchange.report().endings.len(), 0);
}

fn occupied() {
    let rig = Rig::new(synthetic(1_000, 10));
    let _held = rig.attach_foreign();
    let report = Report::of(&rig, &["--host", &host(&rig)]);
    assert_eq!(report.code, Some(2));
    report.is("xdp_owner", "fail", "ip link set dev client0 xdp off");
    report.is("proof_driver", "warn", "has a program already");
}

/// As a veth comes: its other end leaves checksums to hardware that is not there.
fn blank_checksums() {
    let rig = Rig::with(&Plan { offloads: true, ..Plan::default() }, synthetic(1_000, 10), false);
    let report = Report::of(&rig, &["--host", &host(&rig)]);
    report.is("proof_driver", "fail", "tx off");
    assert_eq!(report.code, Some(2));
    rig.await_clean();
}

fn nothing_to_look_at() {
    let rig = Rig::new(synthetic(1_000, 10));
    let report = Report::of(&rig, &["--interface", "wt-none0"]);
    assert_eq!(report.code, Some(2));
    report.is("interface", "fail", "wt-none0");
    assert_eq!(report.json["interface"], Value::Null);
    let report = Report::of(&rig, &["--host", "10.77.0.2:1"]);
    assert_eq!(report.code, Some(2));
    report.is("connection", "fail", "10.77.0.2:1");
    report.is("proof_driver", "warn", "no connection");
    let mut command = rig.topology.client.ns.command(wiretick_program());
    let output = command.args(["doctor", "--host", "https://example.com"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("ws or wss"), "{}", text(&output));
    // And one line for each check, for people.
    let output = rig.topology.client.ns.command(wiretick_program()).arg("doctor").output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.lines().any(|line| line.starts_with("ok    kernel ")), "{lines}");
    assert!(lines.lines().last().unwrap().contains(" fail, "), "{lines}");
}

fn unprivileged() {
    let rig = Rig::new(synthetic(1_000, 10));
    let mut command = rig.topology.client.ns.command("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    command.arg(wiretick_program()).args(["doctor", "--json", "--host", &host(&rig)]);
    let report = Report::read(&command.output().unwrap());
    assert_eq!(report.code, Some(2));
    report.is("privileges", "fail", "CAP_NET_ADMIN");
    report.is("xdp_native", "ok", "");
    report.is("proof_driver", "fail", "root");
}

/// A number that the kernel keeps for the client's interface.
fn setting(rig: &Rig, name: &str) -> u64 {
    let path = format!("/sys/class/net/{}/{name}", rig.topology.client.interface.name);
    rig.topology.client.ns.enter(|| fs::read_to_string(path).unwrap()).unwrap().trim().parse().unwrap()
}

const SETTINGS: [(&str, u64); 2] = [("napi_defer_hard_irqs", 2), ("gro_flush_timeout", 200_000)];

#[track_caller]
fn is_tuned(rig: &Rig) {
    for (name, value) in SETTINGS {
        assert_eq!(setting(rig, name), value, "{name}");
    }
}

fn await_put_back(rig: &Rig) {
    let began = Instant::now();
    while SETTINGS.iter().any(|(name, _)| setting(rig, name) != 0) {
        assert!(began.elapsed() < Duration::from_secs(10), "{SETTINGS:?} are not put back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A feed that never ends, tuned; when this returns it streams from its ring.
fn tuned_feed(rig: &Rig) -> (Child, BufReader<ChildStdout>) {
    let mut command = rig.program(&["--mode", "driver", "--tune", "--busy-poll", "--log", "warn"]);
    let mut program = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    is_tuned(rig);
    (program, lines)
}

fn endless() -> Config {
    Config { count: None, ..synthetic(2_000, 1) }
}

/// The processes that keep interfaces tuned for `parent`.
fn keeper_of(parent: u32) -> Pid {
    let processes = fs::read_dir("/proc").unwrap();
    let child = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok()).find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which is in parentheses: the state, and the parent.
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(&parent.to_string()))
    });
    Pid::from_raw(child.expect("a process keeps the interface tuned")).unwrap()
}

fn tuned() {
    let rig = Rig::new(endless());
    for privileges in ["demote", "none", "keep"] {
        let arguments = ["--mode", "driver", "--tune", "--busy-poll", "--count", "500", "--privileges", privileges];
        let output = rig.program(&arguments).output().unwrap();
        assert!(output.status.success(), "{privileges}: {}", text(&output));
        assert!(
            text(&output).contains("undone: echo 0 > /sys/class/net/client0/gro_flush_timeout"),
            "{}",
            text(&output)
        );
        // It was there before the program ended.
        for (name, _) in SETTINGS {
            assert_eq!(setting(&rig, name), 0, "{privileges}: {name}");
        }
    }
    let (program, lines) = tuned_feed(&rig);
    kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
    drop(lines);
    assert!(program.wait_with_output().unwrap().status.success());
    assert_eq!(setting(&rig, "gro_flush_timeout"), 0);
    rig.await_clean();
}

fn killed() {
    let rig = Rig::new(endless());
    let (mut program, lines) = tuned_feed(&rig);
    program.kill().unwrap();
    drop(lines);
    program.wait().unwrap();
    await_put_back(&rig);
    rig.await_clean();
}

fn both_killed() {
    let rig = Rig::new(endless());
    let (mut program, lines) = tuned_feed(&rig);
    kill_process(keeper_of(program.id()), Signal::KILL).unwrap();
    program.kill().unwrap();
    drop(lines);
    program.wait().unwrap();
    rig.await_clean();
    is_tuned(&rig);
    // Whoever starts next, tuned or not.
    let output = rig.program(&["--mode", "kernel", "--count", "10", "--format", "none"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("undone: echo 0"), "{}", text(&output));
    for (name, _) in SETTINGS {
        assert_eq!(setting(&rig, name), 0, "{name}");
    }
    // Or by hand.
    let (mut program, lines) = tuned_feed(&rig);
    kill_process(keeper_of(program.id()), Signal::KILL).unwrap();
    program.kill().unwrap();
    drop(lines);
    program.wait().unwrap();
    let undo = || rig.topology.client.ns.command(wiretick_program()).args(["tune", "--undo"]).output().unwrap();
    let output = undo();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 2, "{output:?}");
    await_put_back(&rig);
    assert!(String::from_utf8_lossy(&undo().stdout).contains("nothing was left behind"));
}

fn left_alone() {
    let rig = Rig::new(endless());
    let (program, lines) = tuned_feed(&rig);
    rig.topology.client.ns.enter(|| fs::write("/sys/class/net/client0/gro_flush_timeout", "77777").unwrap()).unwrap();
    kill_process(Pid::from_child(&program), Signal::TERM).unwrap();
    drop(lines);
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success());
    assert!(text(&output).contains("gro_flush_timeout is left alone"), "{}", text(&output));
    assert_eq!((setting(&rig, "gro_flush_timeout"), setting(&rig, "napi_defer_hard_irqs")), (77_777, 0));
}

fn printed() {
    let rig = Rig::new(endless());
    let run = |arguments: &[&str]| {
        let output = rig.topology.client.ns.command(wiretick_program()).arg("tune").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(run(&["--interface", "client0"]), "# client0: nothing to change\n");
    let lines = run(&["--interface", "client0", "--busy-poll"]);
    assert!(lines.starts_with("echo 2 > /sys/class/net/client0/napi_defer_hard_irqs   # quicker: "), "{lines}");
    assert_eq!((lines.lines().count(), setting(&rig, "napi_defer_hard_irqs")), (2, 0));
    // What is printed does what it says.
    for line in lines.lines() {
        let done = rig.topology.client.ns.command("sh").args(["-c", line]).status().unwrap();
        assert!(done.success(), "{line}");
    }
    is_tuned(&rig);
    assert_eq!(run(&["--interface", "client0", "--busy-poll"]), "# client0: nothing to change\n");
}

fn busy_poll() {
    let rig = Rig::new(synthetic(5_000, 5_000));
    let output = rig.program(&["--mode", "driver", "--busy-poll", "--format", "none"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("busy polling has no effect"), "{}", text(&output));
    let sleeping = rig.program(&["--mode", "driver", "--busy-poll", "--wait", "poll"]).output().unwrap();
    assert_eq!(sleeping.status.code(), Some(2), "{}", text(&sleeping));
    assert!(text(&sleeping).contains("let it spin"), "{}", text(&sleeping));
}
