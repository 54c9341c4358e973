//! `wiretick stream --compare`: two connections at once, and what it says of them.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tungstenite::{Message, WebSocket};
use wiretick_testbed::exchange::{Config, Ending, Feed, Pace};
use wiretick_testbed::feeds::{Lines, Recording};
use wiretick_testbed::topology::{Plan, Topology};

use crate::Test;
use crate::rig::{Rig, synthetic, wiretick_program};

pub(crate) const TESTS: &[Test] = &[
    ("compare::every_message_is_paired_with_its_twin", pairs),
    ("compare::two_kernel_connections_are_about_even", null),
    ("compare::streams_that_are_not_in_step_and_one_that_ends_early", ends_early),
    ("compare::ctrl_c_and_count_end_both_connections", both_end),
    ("compare::what_cannot_be_compared_is_refused", refusals),
];

/// Messages that the figures leave out.
const WARMUP: u64 = 500;

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lines(output: &Output) -> usize {
    output.stdout.iter().filter(|byte| **byte == b'\n').count()
}

/// Compares until the exchange has sent everything. Sleeping, because two connections that spin would take all the time of
/// a machine with two cores from the exchange.
fn compare(mode: &str, count: u64, config: Config) -> (Value, Output) {
    let rig = Rig::new(Config { stamp_field: Some("n".to_owned()), ..config });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("summary");
    let warmup = WARMUP.to_string();
    let arguments = ["--mode", mode, "--compare", "--stamp-field", "n", "--warmup", &warmup, "--wait", "poll"];
    let output = rig.program(&arguments).args(["--summary", file.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    rig.await_clean();
    let exchange = rig.exchange.stop();
    assert_eq!(exchange.endings, [Ending::Completed, Ending::Completed]);
    assert_eq!(exchange.messages, 2 * count);
    (serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap(), output)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What must hold of every comparison in which all `count` messages came on both connections.
fn check(compared: &Value, count: u64) {
    assert_eq!(compared["basis"], "latency");
    assert_eq!(compared["pairs"], count, "{compared}");
    assert_eq!(compared["repeats"], 0);
    assert_eq!(compared["left_out_without_stamp"], 0);
    assert_eq!(compared["ended_early"], Value::Null);
    for side in ["kernel", "bypassed"] {
        let side = &compared[side];
        assert_eq!(side["messages"], count);
        assert_eq!(side["alone"], serde_json::json!({ "at_start": 0, "between": 0, "at_end": 0 }), "{compared}");
        assert_eq!(side["not_noted"], 0);
        assert_eq!(side["latency_ns"]["count"], compared["measured"]);
    }
    let measured = number(&compared["measured"]);
    assert_eq!(measured + number(&compared["left_out_early"]), count);
    assert!((1..=count - WARMUP).contains(&measured), "{compared}");
    let outcomes = ["bypassed_wins", "ties", "kernel_wins"].map(|name| number(&compared[name]));
    assert_eq!(outcomes.iter().sum::<u64>(), measured);
    let share = compared["bypassed_wins_share"].as_f64().unwrap();
    assert!((share - outcomes[0] as f64 / measured as f64).abs() < 1e-9);
    let quantiles = ["min", "p1", "p50", "p99", "max"].map(|name| compared["difference_ns"][name].as_i64().unwrap());
    assert!(quantiles.is_sorted(), "{quantiles:?}");
}

fn pairs() {
    const COUNT: u64 = 3_000;
    let (summary, output) = compare("driver", COUNT, synthetic(1_000, COUNT));
    let compared = &summary["compare"];
    check(compared, COUNT);
    assert_eq!(compared["null_comparison"], false);
    assert_eq!((&compared["kernel"]["mode"], &compared["bypassed"]["mode"]), (&"kernel".into(), &"driver".into()));
    assert!(!compared["notes"].as_array().unwrap().is_empty(), "what is shared is said");
    // All other figures, and stdout, are the bypassed connection's.
    assert_eq!((&summary["mode"], &summary["messages"]), (&"driver".into(), &COUNT.into()));
    assert_eq!(lines(&output) as u64, COUNT);
    let table = text(&output);
    for words in ["comparison", "kernel - bypassed, us", "who was first", "here only", "note"] {
        assert!(table.contains(words), "{words:?} is not in the table: {table}");
    }
}

/// Trades at random moments, a thousand a second on average. At an even rate, two connections stay in step: on a core that
/// both share, each message of the second waits for one of the first, and that is all the difference would say.
fn at_random(count: u64) -> Config {
    let trade =
        |n| format!(r#"{{"e":"trade","E":1,"s":"BTCUSDT","t":{n},"p":"1.0","q":"1.0","T":1,"m":true,"M":true}}"#);
    let lines: Vec<String> = (0..count).map(trade).collect();
    let mut random = 1_u64;
    let mut at_ns = 0.0;
    let arrivals = (0..count).map(|_| {
        // Knuth's MMIX generator; its upper bits are the random ones.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = ((random >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        at_ns -= uniform.ln() * 1e6;
        at_ns as u64
    });
    let arrivals = Some(arrivals.collect());
    let recording = Recording { messages: Lines::new(lines.join("\n").into_bytes()), arrivals };
    let feed = Feed::Replay(Arc::new(recording));
    Config { feed, pace: Pace::Recorded { speed: 1.0 }, ..synthetic(1, count) }
}

/// Three attempts, for a machine that has other things to do: a bias of the measurement would be in all of them.
fn null() {
    const COUNT: u64 = 2_000;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let (summary, _) = compare("kernel", COUNT, at_random(COUNT));
        let compared = &summary["compare"];
        check(compared, COUNT);
        assert_eq!(compared["null_comparison"], true);
        let difference = compared["difference_ns"]["p50"].as_i64().unwrap().unsigned_abs();
        let latency = ["kernel", "bypassed"].map(|side| number(&compared[side]["latency_ns"]["p50"]));
        if 2 * difference < *latency.iter().max().unwrap() {
            return;
        }
        seen.push((difference, latency));
    }
    panic!("the difference of two kernel connections is as large as their latency: {seen:?}");
}

/// A server for two clients, and the program in front of it. What `serve` gets are both connections in the order in which
/// they were made, which is the bypassed one first.
fn with_server(serve: fn([WebSocket<TcpStream>; 2]), arguments: &[&str]) -> (Value, Output) {
    fn accept(listener: &TcpListener) -> TcpStream {
        let (stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }
    let topology = Topology::new(&Plan::default()).unwrap();
    let listener = topology.exchange.ns.listen(topology.exchange.v4(0)).unwrap();
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        // Both are there before either is answered.
        let streams = [accept(&listener), accept(&listener)];
        serve(streams.map(|stream| tungstenite::accept(stream).unwrap()));
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("summary");
    let mut program = topology.client.ns.command(wiretick_program());
    program.args(["stream", &url, "--compare", "--wait", "poll", "--summary", file.to_str().unwrap()]);
    let output = program.args(arguments).output().unwrap();
    server.join().unwrap();
    (serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap(), output)
}

/// A message without an id.
fn raw(n: usize) -> Message {
    Message::text(format!(r#"{{"type":"match","sequence":{n}}}"#))
}

fn ends_early() {
    const FIRST: usize = 20;
    const LAST: usize = 300;
    const KERNELS_LAST: usize = 200;
    fn serve([mut bypassed, mut kernel]: [WebSocket<TcpStream>; 2]) {
        // Its stream begins earlier; so do twenty of its messages. Every pair of messages comes in another order.
        (0..FIRST).for_each(|n| bypassed.send(raw(n)).unwrap());
        for n in (FIRST..LAST).step_by(2) {
            for n in [n, n + 1] {
                bypassed.send(raw(n)).unwrap();
            }
            if n < KERNELS_LAST {
                for n in [n + 1, n] {
                    kernel.send(raw(n)).unwrap();
                }
            }
        }
        kernel.close(None).unwrap();
        while kernel.read().is_ok() {}
        // The other one goes on until the program has had enough.
        while bypassed.read().is_ok() {}
    }
    let began = Instant::now();
    let (summary, output) = with_server(serve, &["--mode", "kernel", "--format", "raw"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
    assert_eq!(lines(&output), LAST);
    let compared = &summary["compare"];
    assert_eq!(compared["basis"], "arrival");
    assert_eq!(compared["pairs"], KERNELS_LAST - FIRST, "{compared}");
    assert_eq!(compared["kernel"]["alone"], serde_json::json!({ "at_start": 0, "between": 0, "at_end": 0 }));
    let alone = serde_json::json!({ "at_start": FIRST, "between": 0, "at_end": LAST - KERNELS_LAST });
    assert_eq!(compared["bypassed"]["alone"], alone);
    let told = compared["ended_early"].as_str().expect("one of them ended early");
    assert!(told.starts_with("the kernel connection"), "{told}");
    assert!(text(&output).contains("ended early"), "{}", text(&output));
}

fn both_end() {
    let rig = Rig::new(Config { count: None, ..synthetic(1_000, 1) });
    let arguments = ["--mode", "driver", "--compare", "--wait", "poll", "--log", "warn"];
    for signal in [Signal::INT, Signal::TERM] {
        let ended = rig.exchange.ended();
        let mut program = rig.program(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let reader = std::thread::spawn(move || lines.count());
        std::thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        kill_process(Pid::from_child(&program), signal).unwrap();
        let output = program.wait_with_output().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(text(&output).matches("closed, code 1000").count(), 3, "{}", text(&output));
        assert!(reader.join().unwrap() > 10);
        assert!(rig.exchange.wait_ended(ended + 2, Duration::from_secs(5)));
        rig.await_clean();
    }
    let output = rig.program(&arguments).args(["--count", "123"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(lines(&output), 123);
    assert!(rig.exchange.wait_ended(6, Duration::from_secs(5)));
    assert_eq!(rig.exchange.report().endings, vec![Ending::ClosedByClient(Some(1000)); 6]);
    rig.await_clean();
}

fn refusals() {
    let rig = Rig::new(synthetic(1_000, 100));
    let code = |arguments: &[&str]| rig.program(arguments).arg("--compare").output().unwrap().status.code();
    assert_eq!(code(&["--stages"]), Some(2));
    assert_eq!(code(&["--core", "1", "--compare-core", "1"]), Some(2), "one core for both");
    assert_eq!(code(&["--compare-core", "100000"]), Some(3));
    assert_eq!(code(&["--mode", "zerocopy"]), Some(3));
    let output = rig.program(&["--compare-core", "0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "a core for a connection that was not asked for");
    rig.await_clean();
}
