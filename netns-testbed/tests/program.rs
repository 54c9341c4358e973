//! The program `exchange`: its command line, its signals, its exit codes, and the files it writes.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, connect, tls_client, trades};
use rustix::process::{Pid, Signal};
use rustls::{RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use tungstenite::Message;

/// The program while it runs; killed if a test fails.
struct Program {
    child: Child,
    addresses: Vec<(String, SocketAddr)>,
}

/// How the program ended.
struct Ended {
    code: Option<i32>,
    summary: String,
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exchange"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Program {
    /// Starts it and reads so many `listening on` lines.
    fn start(arguments: &[&str], listeners: usize) -> Self {
        let mut child = command(arguments).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addresses = (0..listeners)
            .map(|_| {
                let line = lines.next().unwrap().unwrap();
                let (scheme, address) = line.strip_prefix("listening on ").unwrap().split_once("://").unwrap();
                (scheme.to_owned(), address.parse().unwrap())
            })
            .collect();
        Self { child, addresses }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut summary = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut summary).unwrap();
        Ended { code: status.code(), summary }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn roots_from(file: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file).unwrap()).unwrap();
    roots
}

#[test]
fn a_replay_is_served_and_summed_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = |file: &str| folder.path().join(file).to_str().unwrap().to_owned();
    fs::write(path("x.jsonl"), trades(30).join("\n")).unwrap();
    fs::write(path("x.ts"), (0..30).map(|at| format!("{}\n", 1_000_000 * at)).collect::<String>()).unwrap();
    let (ca, replay, json) = (path("ca.pem"), path("x.jsonl"), path("summary.json"));
    let program = Program::start(
        &[
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--ca-out",
            &ca,
            "--replay",
            &replay,
            "--pace",
            "recorded",
            "--speed",
            "3",
            "--connections",
            "2",
            "--summary-json",
            &json,
            "--suite",
            "chacha20",
        ],
        2,
    );
    for (scheme, address) in program.addresses.clone() {
        assert_eq!(scheme, "wss");
        let stream = StreamOwned::new(tls_client(roots_from(Path::new(&ca))), connect(address));
        let (mut client, _) = tungstenite::client(format!("wss://{}/ws", common::NAME), stream).unwrap();
        let mut received = Vec::new();
        while let Message::Text(text) = client.read().unwrap() {
            received.push(text.to_string());
        }
        while client.read().is_ok() {}
        assert_eq!(received, trades(30));
    }
    let ended = program.end();
    assert_eq!(ended.code, Some(0), "{}", ended.summary);
    assert!(ended.summary.starts_with("60 messages in 60 batches"), "{}", ended.summary);
    let summary: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((summary["messages"].as_u64(), summary["lateness_ns"]["count"].as_u64()), (Some(60), Some(60)));
    assert!(!fs::read_to_string(ca).unwrap().contains("PRIVATE"), "the key stays in memory");
}

#[test]
fn signals_end_it_in_order() {
    for signal in [Signal::INT, Signal::TERM] {
        let program = Program::start(&["--listen", "127.0.0.1:0", "--plain", "--synthetic", "1"], 1);
        let (scheme, address) = program.addresses[0].clone();
        assert_eq!(scheme, "ws");
        let mut client = common::plain_client(address, "/ws");
        client.read().unwrap();
        program.signal(signal);
        let code = loop {
            if let Message::Close(frame) = client.read().unwrap() {
                break frame.unwrap().code;
            }
        };
        assert_eq!(u16::from(code), 1001);
        while client.read().is_ok() {}
        let ended = program.end();
        assert_eq!(ended.code, Some(0));
        assert!(ended.summary.contains("the exchange was stopped"), "{}", ended.summary);
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let program = Program::start(&["--listen", "127.0.0.1:0", "--plain", "--synthetic", "1"], 1);
    // A client that will not answer the close frame.
    let client = common::plain_client(program.addresses[0].1, "/ws");
    program.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(50));
    program.signal(Signal::INT);
    let begin = Instant::now();
    assert_eq!(program.end().code, Some(130));
    assert!(begin.elapsed() < Duration::from_secs(4), "less than it waits for a close");
    drop(client);
}

#[test]
fn a_client_that_does_wrong_shows_in_the_exit_code() {
    let program = Program::start(&["--listen", "127.0.0.1:0", "--plain", "--connections", "1"], 1);
    let mut client = common::plain_client(program.addresses[0].1, "/ws");
    client.send(Message::Pong("nobody asked".into())).unwrap();
    client.close(None).unwrap();
    while client.read().is_ok() {}
    let ended = program.end();
    assert_eq!(ended.code, Some(3), "{}", ended.summary);
    assert!(ended.summary.contains("error: 1 pongs carry no payload of ours"));
}

#[test]
fn what_cannot_start_says_why() {
    let run = |arguments: &[&str]| {
        let output = command(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = run(&["--listen", "127.0.0.1:0", "--replay", "/no/such/file"]);
    assert_eq!(
        (code, told.as_str()),
        (Some(1), "exchange: cannot read /no/such/file: No such file or directory (os error 2)\n")
    );
    let (code, told) = run(&["--listen", "127.0.0.1:0", "--synthetic", "1", "--pace", "recorded"]);
    assert!(code == Some(1) && told.contains("needs a recording with arrival times"), "{told}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, told) = run(&["--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(code == Some(1) && told.contains("cannot listen on"), "{told}");
    assert_eq!(run(&["--listen", "nowhere"]).0, Some(2));
    assert_eq!(run(&[]).0, Some(2));
}

#[test]
fn the_faults_are_listed_with_what_they_do() {
    let output = command(&["--list-faults"]).output().unwrap();
    let list = String::from_utf8(output.stdout).unwrap();
    assert!(list.lines().any(|line| line.starts_with("flipped-bit ") && line.contains("one bit")), "{list}");
    assert_eq!(list.lines().count(), 32);
}
