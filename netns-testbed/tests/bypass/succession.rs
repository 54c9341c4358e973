//! A running connection is left to another process, or to another feed of the same one: no message is lost or comes twice.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use wiretick::feed::{Feed, FeedBuilder, Mode};
use wiretick::floor::{Clock, Monotonic};
use wiretick_testbed::exchange::{Config, Security, Start, Tls, TlsVersion};
use wiretick_testbed::pki::Validity;

use crate::Test;
use crate::rig::{PATIENCE, Rig, Seen, identity, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("succession::each_successor_goes_on_with_the_next_message", chain),
    ("succession::a_successor_that_goes_away_leaves_the_connection_where_it_was", gone),
    ("succession::who_wants_another_feed_or_talks_nonsense_gets_nothing", refused),
    ("succession::a_sealed_program_is_succeeded_by_another", programs),
    ("succession::a_program_that_is_told_to_end_waits_for_its_successor", on_exit),
];

const SUCCESSORS: usize = 8;

/// Turns until `done`; answers whether the feed has been handed over.
fn turns(feed: &mut Feed, seen: &mut Seen, mut done: impl FnMut(&Feed, &Seen) -> bool) -> bool {
    let until = Monotonic.now() + PATIENCE;
    while !done(feed, seen) {
        let now = Monotonic.now();
        assert!(now < until, "{} messages: {:?}", seen.messages, feed.report().moves);
        feed.turn(now, seen).unwrap();
        if feed.successor().is_some() {
            return true;
        }
    }
    false
}

/// From feed to feed while messages flow, with a key of each TLS version and without any.
fn chain() {
    for (security, mode) in [
        (Security::Tls(Tls::new(identity(Validity::Now))), Mode::Driver),
        (Security::Tls(Tls { version: TlsVersion::Tls12, ..Tls::new(identity(Validity::Now)) }), Mode::Driver),
        (Security::Plain, Mode::Skb),
        (Security::Tls(Tls::new(identity(Validity::Now))), Mode::Kernel),
    ] {
        let rig = Rig::new(Config { security, ..synthetic(20_000, 150_000) });
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("succession");
        let builder = |mode| rig.builder().mode(mode).succession(&socket);
        let (seen, moves) = rig.topology.client.ns.enter(|| relay(&builder, &socket, mode)).unwrap();
        // The exchange numbers its messages, and its count is the measure.
        assert_eq!((seen.messages, seen.gaps), (150_000, 0), "{mode}");
        assert_eq!(
            moves,
            if mode == Mode::Kernel { 0 } else { SUCCESSORS },
            "{mode}: successors that came to the ring"
        );
        assert_eq!(rig.exchange.report().connections, 1, "{mode}");
    }
}

/// One feed after another takes the connection over; answers what all of them have seen, and how many came to the ring.
fn relay(builder: &(impl Fn(Mode) -> FeedBuilder + Sync), socket: &Path, mode: Mode) -> (Seen, usize) {
    let mut feed = builder(mode).connect().unwrap();
    let mut seen = Seen::default();
    let mut came = 0;
    turns(&mut feed, &mut seen, |feed, seen| feed.is_settled() && feed.mode() == mode && seen.messages > 2_000);
    for _ in 0..SUCCESSORS {
        let next = std::thread::scope(|scope| {
            let heir = scope.spawn(|| builder(mode).take_over(socket).connect().unwrap());
            assert!(turns(&mut feed, &mut seen, |_, _| false), "handed over");
            heir.join().unwrap()
        });
        let outcome = feed.outcome().unwrap();
        assert_eq!(outcome.reason, format!("handed over to process {}", std::process::id()));
        feed = next;
        let before = seen.messages;
        turns(&mut feed, &mut seen, |feed, seen| {
            feed.is_settled() && feed.mode() == mode && seen.messages > before + 2_000
        });
        came += usize::from(!feed.report().moves.is_empty());
    }
    turns(&mut feed, &mut seen, |feed, _| feed.outcome().is_some());
    (seen, came)
}

/// It has been sent everything, keys and socket, and hangs up.
fn gone() {
    let rig = Rig::new(synthetic(20_000, 60_000));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("succession");
    let url = rig.url();
    let seen = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).succession(&socket).connect().unwrap();
            let mut seen = Seen::default();
            turns(&mut feed, &mut seen, |feed, _| feed.mode() == Mode::Driver && feed.is_settled());
            std::thread::scope(|scope| {
                let caller = scope.spawn(|| say_and_hear(&socket, &hello(&url)));
                turns(&mut feed, &mut seen, |_, _| caller.is_finished());
                let heard = caller.join().unwrap();
                assert!(heard.contains("Estate"), "{heard:.100}");
            });
            // Back on the ring, and on to the end.
            turns(&mut feed, &mut seen, |feed, _| feed.mode() == Mode::Driver && feed.is_settled());
            turns(&mut feed, &mut seen, |feed, _| feed.outcome().is_some());
            seen
        })
        .unwrap();
    assert_eq!((seen.messages, seen.gaps), (60_000, 0));
}

fn hello(url: &str) -> String {
    format!(r#"{{"Hello":{{"form":1,"version":"test","feed":"{url}"}}}}"#)
}

/// Says one note, and answers with the next; hangs up.
fn say_and_hear(socket: &Path, note: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&u32::try_from(note.len()).unwrap().to_le_bytes()).unwrap();
    stream.write_all(note.as_bytes()).unwrap();
    let mut len = [0; 4];
    if stream.read_exact(&mut len).is_err() {
        return String::new();
    }
    let mut heard = vec![0; u32::from_le_bytes(len) as usize];
    stream.read_exact(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

fn refused() {
    let rig = Rig::new(synthetic(20_000, 60_000));
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("succession");
    let seen = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).succession(&socket).connect().unwrap();
            let mut seen = Seen::default();
            turns(&mut feed, &mut seen, |feed, _| feed.mode() == Mode::Driver && feed.is_settled());
            std::thread::scope(|scope| {
                let callers = scope.spawn(|| {
                    let other = Feed::builder("wss://10.77.0.2:1/other").take_over(&socket).connect().unwrap_err();
                    assert!(other.to_string().contains("and not wss://10.77.0.2:1/other"), "{other}");
                    let form = say_and_hear(&socket, &hello("").replace("\"form\":1", "\"form\":2"));
                    assert!(form.contains("in form 2"), "{form}");
                    assert_eq!(say_and_hear(&socket, "nonsense"), "");
                    assert!(say_and_hear(&socket, "\"Ready\"").contains("Refused"));
                    // Two cannot offer at one place.
                    let twice = rig.builder().succession(&socket).connect().unwrap_err();
                    assert!(twice.to_string().contains("another process listens there"), "{twice}");
                });
                turns(&mut feed, &mut seen, |_, _| callers.is_finished());
                callers.join().unwrap();
            });
            assert_eq!(feed.report().moves.len(), 1, "it has not even left the ring");
            turns(&mut feed, &mut seen, |feed, _| feed.outcome().is_some());
            seen
        })
        .unwrap();
    assert_eq!((seen.messages, seen.gaps), (60_000, 0));
    let nobody = Feed::builder(&rig.url()).take_over(folder.path().join("none")).connect().unwrap_err();
    assert!(nobody.to_string().contains("no process offers a connection there"), "{nobody}");
}

/// A program with its closing figures.
struct Program {
    child: Child,
    summary: std::path::PathBuf,
}

impl Program {
    fn start(rig: &Rig, folder: &Path, name: &str, arguments: &[&str]) -> Self {
        let summary = folder.join(name);
        let mut command: Command = rig.program(&["--format", "none", "--log", "debug", "--wait", "poll"]);
        command.args(arguments).arg("--summary").arg(&summary);
        Self { child: command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap(), summary }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its figures, once it has ended well.
    fn figures(self) -> serde_json::Value {
        let output = self.child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?}: {said}", output.status);
        serde_json::from_slice(&fs::read(self.summary).unwrap()).unwrap()
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until so many messages more have been sent.
fn messages(rig: &Rig, n: u64) {
    let goal = rig.exchange.report().messages + n;
    until("messages", || rig.exchange.report().messages >= goal);
}

fn sealed(program: &Program) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap_or_default();
    status.lines().any(|line| line == "Seccomp:\t2")
}

fn venue() -> Config {
    Config { count: None, start: Start::Underway, ..synthetic(5_000, 1) }
}

/// Each message the exchange has sent has come to one of the two.
fn nothing_missed(rig: &Rig, first: &serde_json::Value, second: &serde_json::Value) {
    assert_eq!((&first["gaps"], &second["gaps"]), (&0.into(), &0.into()));
    let all = first["messages"].as_u64().unwrap() + second["messages"].as_u64().unwrap();
    let sent = rig.exchange.report().messages;
    // What was on its way when the second one closed.
    assert!(all <= sent && sent - all < 500, "{all} of {sent}");
    assert_eq!(rig.exchange.report().connections, 1);
}

fn programs() {
    for privileges in ["demote", "keep"] {
        let rig = Rig::new(venue());
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("succession");
        let at = socket.to_str().unwrap();
        let common = ["--mode", "driver", "--privileges", privileges, "--succession", at];
        let first = Program::start(&rig, folder.path(), "first", &common);
        until("sealed", || privileges == "keep" || sealed(&first));
        messages(&rig, 3_000);
        let second = Program::start(&rig, folder.path(), "second", &[&common[..], &["--take-over", at]].concat());
        let successor = second.child.id();
        let first = first.figures();
        assert_eq!(first["successor"], successor);
        assert_eq!(first["end"], format!("handed over to process {successor}"));
        messages(&rig, 3_000);
        until("sealed", || privileges == "keep" || sealed(&second));
        messages(&rig, 3_000);
        second.signal(Signal::TERM);
        let second = second.figures();
        assert_eq!(second["mode"], "driver");
        nothing_missed(&rig, &first, &second);
        rig.await_clean();
    }
}

fn on_exit() {
    let rig = Rig::new(venue());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("succession");
    let at = socket.to_str().unwrap();
    let common = ["--mode", "driver", "--succession", at, "--on-exit", "demote"];
    let first = Program::start(&rig, folder.path(), "first", &common);
    until("a program on the interface", || rig.xdp_program().is_some());
    messages(&rig, 3_000);
    first.signal(Signal::TERM);
    std::thread::sleep(Duration::from_millis(200));
    let second = Program::start(&rig, folder.path(), "second", &[&common[..], &["--take-over", at]].concat());
    let first = first.figures();
    assert_eq!(first["mode"], "kernel", "it was waiting there");
    messages(&rig, 3_000);
    // Nobody succeeds the second one.
    second.signal(Signal::TERM);
    let began = Instant::now();
    let second = second.figures();
    assert!(began.elapsed() > Duration::from_secs(9), "it has waited for a successor");
    assert_eq!(second["end"], "closed, code 1000");
    nothing_missed(&rig, &first, &second);
}
