//! The program with what it keeps of its privileges: looked at from outside, while it streams, goes home, comes back and ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wiretick_testbed::exchange::{Config, Start, SyntheticPlan};

use crate::Test;
use crate::rig::{NAME, PATIENCE, Rig, ca_file, synthetic, wiretick_program};

pub(crate) const TESTS: &[Test] = &[
    ("privilege::what_is_kept_is_what_was_said", kept),
    ("privilege::a_sealed_program_goes_home_and_comes_back", home_and_back),
    ("privilege::without_any_a_request_to_go_home_is_refused", not_on_request),
    ("privilege::without_any_a_ring_that_fails_is_the_end", the_end),
    ("privilege::a_sealed_program_makes_its_connections_anew", made_anew),
    ("privilege::a_sealed_program_resolves_names", resolved_anew),
    ("privilege::every_option_works_in_a_sealed_program", options),
    ("privilege::with_file_capabilities_nobody_streams", file_capabilities),
    ("privilege::secrets_are_logged_only_when_asked_for", key_log),
];

/// `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_BPF` and `CAP_PERFMON`, as /proc shows them; and with `CAP_IPC_LOCK`.
const BYPASS: &str = "000000c000003000";
const BYPASS_AND_LOCK: &str = "000000c000007000";
const NONE: &str = "0000000000000000";
const NOBODY: &str = "65534";

/// Whether memory that is locked is limited, and a process as privileged as this one cannot change that.
fn memory_is_limited() -> bool {
    use rustix::process::{Resource, getrlimit};
    use rustix::thread::{CapabilitySet, capabilities};
    let may_lift = capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE);
    !may_lift && getrlimit(Resource::Memlock).current.is_some()
}

fn endless() -> Config {
    Config { count: None, ..synthetic(5_000, 1) }
}

/// What `/proc` says of each thread, by the thread's name.
fn threads(pid: Pid) -> BTreeMap<String, BTreeMap<String, String>> {
    let tasks = fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(|status| {
            let fields = status.lines().filter_map(|line| line.split_once(':'));
            let fields: BTreeMap<_, _> =
                fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
            (fields["Name"].clone(), fields)
        })
        .collect()
}

/// A program that streams, sealed.
struct Sealed<'a> {
    rig: &'a Rig,
    program: Child,
    pid: Pid,
    began: Instant,
}

impl<'a> Sealed<'a> {
    fn new(rig: &'a Rig, arguments: &[&str]) -> Self {
        let arguments = [arguments, &["--format", "none", "--log", "debug"]].concat();
        Self::of(rig, rig.program(&arguments))
    }

    fn of(rig: &'a Rig, mut command: Command) -> Self {
        let program = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&program);
        let mut sealed = Self { rig, program, pid, began: Instant::now() };
        sealed.until("the program is sealed", |pid, _| threads(pid).values().all(|thread| thread["Seccomp"] == "2"));
        sealed.messages(2_000);
        sealed
    }

    /// Waits until `done`; the program must live on meanwhile.
    fn until(&mut self, what: &str, done: impl Fn(Pid, &Rig) -> bool) {
        while !done(self.pid, self.rig) {
            let over = self.program.try_wait().unwrap();
            assert!(self.began.elapsed() < PATIENCE && over.is_none(), "{what}: {over:?}: {}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn messages(&mut self, n: u64) {
        let goal = self.rig.exchange.report().messages + n;
        self.until("messages", |_, rig| rig.exchange.report().messages >= goal);
    }

    fn signal(&mut self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// What it has written to stderr so far; ends it.
    fn said(&mut self) -> String {
        let _ = self.program.kill();
        let mut said = String::new();
        let _ = self.program.stderr.take().unwrap().read_to_string(&mut said);
        said
    }

    /// Ends it in good order.
    fn finish(mut self) -> String {
        self.signal(Signal::TERM);
        let output = self.program.wait_with_output().unwrap();
        let said = text(&output);
        assert!(output.status.success(), "{:?}: {said}", output.status);
        assert!(said.contains("gaps") && said.contains("closed, code 1000"), "{said}");
        self.rig.await_clean();
        said
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn kept() {
    for (arguments, expected, uid) in [
        (&["--mode", "driver"][..], BYPASS, "0"),
        (&["--mode", "skb", "--wait", "poll"], BYPASS, "0"),
        (&["--mode", "driver", "--user", "nobody"], BYPASS, NOBODY),
        (&["--mode", "driver", "--privileges", "none", "--user", "nobody"], NONE, NOBODY),
        (&["--mode", "driver", "--privileges", "none", "--setup", "ring"], NONE, "0"),
        (&["--mode", "kernel"], NONE, "0"),
    ] {
        let rig = Rig::new(endless());
        let mut sealed = Sealed::new(&rig, arguments);
        let threads = threads(sealed.pid);
        for (name, thread) in &threads {
            // With a limit on locked memory, the capability that ignores it stays: a ring may have to be opened again.
            let expected = match name.as_str() {
                "wiretick" if expected == BYPASS && memory_is_limited() => BYPASS_AND_LOCK,
                "wiretick" => expected,
                _ => NONE,
            };
            for set in ["CapPrm", "CapEff"] {
                assert_eq!(thread[set], expected, "{arguments:?}: {name}: {set}");
            }
            for set in ["CapInh", "CapBnd", "CapAmb"] {
                assert_eq!(thread[set], NONE, "{arguments:?}: {name}: {set}");
            }
            assert_eq!(thread["NoNewPrivs"], "1", "{arguments:?}: {name}");
            for ids in ["Uid", "Gid"] {
                assert_eq!(thread[ids], [uid; 4].join("\t"), "{arguments:?}: {name}: {ids}");
            }
        }
        let watched = arguments[1] != "kernel";
        assert_eq!(threads.contains_key("watchdog"), watched, "{arguments:?}: {:?}", threads.keys());
        // Nobody else of the same user may look into its memory: the folder is root's.
        assert_eq!(
            fs::metadata(format!("/proc/{}/mem", sealed.pid.as_raw_nonzero())).unwrap().permissions().mode() & 0o77,
            0
        );
        sealed.messages(2_000);
        sealed.finish();
    }
}

/// The program in front of the ring, on the client's machine.
fn detach(rig: &Rig, program: u32) {
    let bpftool = |words: &[&str]| {
        let output = rig.topology.client.ns.command("bpftool").args(words).output().unwrap();
        assert!(output.status.success(), "bpftool {words:?}: {}", text(&output));
        output.stdout
    };
    let links: serde_json::Value = serde_json::from_slice(&bpftool(&["--json", "link", "show"])).unwrap();
    let link = links.as_array().unwrap().iter().find(|link| link["prog_id"] == program).unwrap();
    bpftool(&["link", "detach", "id", &link["id"].to_string()]);
}

fn home_and_back() {
    // With --stages it is the other loader's program, which asks the NIC.
    for options in [&[][..], &["--user", "nobody"], &["--user", "nobody", "--stages"], &["--busy-poll", "--tune"]] {
        let rig = Rig::new(endless());
        let mut sealed = Sealed::new(&rig, &[&["--mode", "driver"], options].concat());
        let first = rig.xdp_program().expect("a program on the interface");
        for signal in [Signal::USR1, Signal::USR2] {
            sealed.signal(signal);
            sealed.messages(2_000);
        }
        // A ring that has to be made anew: socket, memory, maps, program and link.
        detach(&rig, first);
        sealed.until("another program", |_, rig| rig.xdp_program().is_some_and(|program| program != first));
        sealed.messages(3_000);
        // A new watchdog has been made meanwhile: it has given up its own.
        sealed.until("the watchdog holds nothing", |pid, _| {
            threads(pid)
                .get("watchdog")
                .is_some_and(|watchdog| watchdog["CapPrm"] == NONE && watchdog["Seccomp"] == "2")
        });
        let said = sealed.finish();
        for word in ["kernel to driver", "driver to kernel", "somebody has detached"] {
            assert!(said.contains(word), "{word:?}: {said}");
        }
    }
}

fn not_on_request() {
    let rig = Rig::new(endless());
    let mut sealed = Sealed::new(&rig, &["--mode", "driver", "--privileges", "none"]);
    for signal in [Signal::USR1, Signal::USR2, Signal::USR1] {
        sealed.signal(signal);
        sealed.messages(2_000);
    }
    let said = sealed.finish();
    assert!(said.contains("stay on the ring") && said.contains("CAP_NET_ADMIN"), "{said}");
}

fn the_end() {
    let rig = Rig::new(endless());
    let sealed = Sealed::new(&rig, &["--mode", "driver", "--privileges", "none"]);
    detach(&rig, rig.xdp_program().unwrap());
    let output = sealed.program.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    for word in ["somebody has detached", "CAP_NET_ADMIN", "--privileges demote"] {
        assert!(said.contains(word), "{word:?}: {said}");
    }
}

/// A connection that takes over from an old one needs a name, a thread, a socket, and a way to the ring.
fn made_anew() {
    for (arguments, in_kernel) in [
        (&["--mode", "driver", "--privileges", "demote"][..], false),
        (&["--mode", "driver", "--privileges", "demote", "--user", "nobody"], false),
        (&["--mode", "driver", "--privileges", "none"], true),
        (&["--mode", "kernel", "--privileges", "none"], false),
    ] {
        let rig = Rig::new(Config { start: Start::Underway, ..endless() });
        let mut sealed = Sealed::new(&rig, &[arguments, &["--max-age", "500ms"]].concat());
        sealed.until("a third connection", |_, rig| rig.exchange.report().connections >= 3);
        sealed.messages(2_000);
        let said = sealed.finish();
        assert!(said.contains("connections made anew"), "{arguments:?}: {said}");
        assert_eq!(said.contains("stays in the kernel: a ring needs"), in_kernel, "{arguments:?}: {said}");
    }
}

/// The C library asks a server for the name of the exchange, from within the sealed program.
fn resolved_anew() {
    let rig = Rig::new(Config { start: Start::Underway, ..endless() });
    let server = rig.topology.exchange.ns.enter(|| UdpSocket::bind("10.77.0.2:53")).unwrap().unwrap();
    server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let folder = tempfile::tempdir().unwrap();
    let resolver = folder.path().join("resolv.conf");
    fs::write(&resolver, "nameserver 10.77.0.2\n").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| answer_names(&server, &over, &asked));
        // Also where something is not as it should be: the scope waits for its threads.
        let _over = Over(&over);
        for privileges in ["demote", "none"] {
            let before = asked.load(Ordering::Relaxed);
            let mut command = rig.topology.client.ns.command("unshare");
            command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
            command.arg(&resolver).arg(wiretick_program());
            command
                .arg("stream")
                .arg(format!("wss://{NAME}:{}/ws", rig.address().port()))
                .arg("--ca-file")
                .arg(ca_file());
            command.args(["--max-age", "500ms", "--privileges", privileges, "--format", "none", "--log", "debug"]);
            let mut sealed = Sealed::of(&rig, command);
            sealed.until("names asked for anew", |_, _| asked.load(Ordering::Relaxed) >= before + 3);
            sealed.messages(2_000);
            assert!(sealed.finish().contains("connections made anew"));
        }
    });
}

/// Ends the thread that looks at this, whatever way the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Answers what is asked for an IPv4 address, and counts it; of other kinds the name has none (RFC 1035 section 4).
fn answer_names(server: &UdpSocket, over: &AtomicBool, asked: &AtomicU64) {
    let mut query = [0; 512];
    while !over.load(Ordering::Relaxed) {
        let Ok((len, from)) = server.recv_from(&mut query) else { continue };
        // One question: a name of several labels, then its kind and class.
        let end = 12 + query[12..len].iter().position(|byte| *byte == 0).unwrap() + 5;
        let is_a = query[end - 4..end - 2] == [0, 1];
        let mut answer = query[..end].to_vec();
        answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
        if is_a {
            asked.fetch_add(1, Ordering::Relaxed);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 77, 0, 2]);
        }
        server.send_to(&answer, from).unwrap();
    }
}

/// What other options do after the seal is among what is allowed.
fn options() {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary");
    let summary = summary.to_str().unwrap();
    for keep in ["demote", "none"] {
        for options in [
            &["--mode", "driver", "--slow-log", "1us", "--stages", "--core", "1"][..],
            &["--mode", "driver", "--wait", "poll", "--compare"],
            &["--mode", "kernel", "--compare", "--wait", "poll"],
            &["--mode", "skb", "--rt", "--duration", "500ms", "--wait", "poll"],
            &["--mode", "auto", "--setup", "ring", "--wait", "poll"],
            &["--mode", "driver", "--echo-field", "n", "--wait", "poll"],
        ] {
            if keep == "none" && options.contains(&"--rt") && memory_is_limited() {
                continue;
            }
            let feed = wiretick_testbed::exchange::Feed::Synthetic(SyntheticPlan::default());
            let config = Config { stamp_field: Some("n".to_owned()), feed, ..synthetic(5_000, 10_000) };
            let rig = Rig::new(config);
            let arguments = [options, &["--privileges", keep, "--summary", summary]].concat();
            let output = rig.program(&arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {:?}: {}", output.status, text(&output));
            let figures: serde_json::Value = serde_json::from_slice(&fs::read(summary).unwrap()).unwrap();
            assert_eq!(figures["gaps"], 0, "{arguments:?}");
            assert!(figures["messages"].as_u64().unwrap() > 1_000, "{arguments:?}: {figures:#}");
        }
    }
}

/// The recipe of docs/SECURITY.md: a copy of the program with capabilities of its own, run by a user without any.
fn file_capabilities() {
    const RECIPE: &str = "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock,cap_sys_nice+ep";
    let documented = include_str!("../../../docs/SECURITY.md");
    assert!(documented.contains(&format!("sudo setcap {RECIPE}")), "the recipe in docs/SECURITY.md is another one");
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = folder.path().join("wiretick");
    fs::copy(wiretick_program(), &copy).unwrap();
    let set = |capabilities: &str| {
        let output = Command::new("setcap").arg(capabilities).arg(&copy).output().unwrap();
        assert!(output.status.success(), "setcap {capabilities}: {}", text(&output));
    };
    set(RECIPE);
    for privileges in ["demote", "none"] {
        let rig = Rig::new(endless());
        let arguments = ["--mode", "driver", "--rt", "--wait", "poll", "--privileges", privileges];
        let mut command = as_nobody(&rig, &copy, &arguments);
        if privileges == "none" {
            // Locked memory is limited here, and nothing is kept that ignores it.
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(3), "{}", text(&output));
            assert!(text(&output).contains("LimitMEMLOCK=infinity"), "{}", text(&output));
            command = as_nobody(&rig, &copy, &["--mode", "driver", "--privileges", "none", "--wait", "poll"]);
        }
        let mut sealed = Sealed::of(&rig, command);
        let lane = &threads(sealed.pid)["wiretick"];
        let expected = if privileges == "demote" { BYPASS_AND_LOCK } else { NONE };
        assert_eq!(lane["CapPrm"], expected);
        assert!(lane["Uid"].starts_with(NOBODY), "{}", lane["Uid"]);
        if privileges == "demote" {
            let first = rig.xdp_program().unwrap();
            detach(&rig, first);
            sealed.until("another program", |_, rig| rig.xdp_program().is_some_and(|program| program != first));
            sealed.messages(2_000);
        }
        sealed.finish();
    }
    // Each of the four is needed, and named where it is not there.
    for (without, rest) in [
        ("CAP_NET_ADMIN", "cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock+ep"),
        ("CAP_NET_RAW", "cap_net_admin,cap_bpf,cap_perfmon,cap_ipc_lock+ep"),
        ("CAP_BPF", "cap_net_admin,cap_net_raw,cap_perfmon,cap_ipc_lock+ep"),
        ("CAP_PERFMON", "cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep"),
    ] {
        set(rest);
        let rig = Rig::new(endless());
        let output = as_nobody(&rig, &copy, &["--mode", "driver"]).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert!(text(&output).contains(&format!("needs {without} (")), "{}", text(&output));
    }
}

/// The program at `path`, run by nobody on the client's machine, where 8 MiB of memory may be locked.
fn as_nobody(rig: &Rig, path: &Path, arguments: &[&str]) -> Command {
    let mut command = rig.topology.client.ns.command("prlimit");
    command.args([
        "--memlock=8388608:8388608",
        "setpriv",
        "--reuid",
        NOBODY,
        "--regid",
        NOBODY,
        "--clear-groups",
        "--",
    ]);
    command.arg(path).args(["stream", &rig.url(), "--ca-file"]).arg(ca_file()).args(arguments);
    command.args(["--format", "none", "--log", "debug"]).process_group(0);
    command
}

fn key_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys");
    for (asked, lines) in [(false, false), (true, true)] {
        let rig = Rig::new(synthetic(1_000, 300));
        let mut command = rig.program(&["--mode", "driver", "--format", "none"]);
        command.env("SSLKEYLOGFILE", &file);
        if asked {
            command.arg("--key-log");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let logged = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(logged.contains("CLIENT_TRAFFIC_SECRET_0 "), lines, "asked: {asked}: {logged:?}");
    }
}
