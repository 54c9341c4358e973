//! The program as people run it: streams, exit codes, signals.

use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use wiretick_testbed::exchange::{Config, Ending, Fault, Pace};

use crate::Test;
use crate::rig::{Rig, hex, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("program::events_on_stdout_figures_on_stderr_and_in_the_summary", streams),
    ("program::raw_output_is_byte_for_byte_what_was_sent", raw),
    ("program::ctrl_c_closes_in_good_order", ctrl_c),
    ("program::duration_and_count_end_a_feed", duration_and_count),
    ("program::exit_codes_name_the_culprit", exit_codes),
    ("program::a_reader_that_goes_away_ends_the_feed", head),
    ("program::without_privilege_the_remedy_is_named", unprivileged),
];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn streams() {
    let folder = tempfile::tempdir().unwrap();
    for mode in ["driver", "skb", "kernel"] {
        let rig = Rig::new(Config { stamp_field: Some("n".to_owned()), ..synthetic(5_000, 5_000) });
        let file = folder.path().join(mode);
        let arguments = [
            "--mode",
            mode,
            "--stamp-field",
            "n",
            "--warmup",
            "1000",
            "--summary",
            file.to_str().unwrap(),
            "--wait",
            "poll",
        ];
        let output = rig.program(&arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let lines: Vec<Value> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 5_000);
        assert!(lines.iter().all(|line| line["type"].is_string() && line["stamp_ns"].is_u64()));
        let summary: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(summary["mode"], mode);
        assert_eq!(summary["messages"], 5_000);
        assert_eq!(summary["gaps"], 0);
        assert_eq!(summary["latency_ns"]["count"], 4_000);
        assert!(summary["latency_ns"]["p50"].as_u64().unwrap() > 100, "{summary}");
        assert_eq!(summary["stamps_ahead"], 0);
        assert!(summary["cpu_seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(summary["handover_us"].as_array().unwrap().len(), usize::from(mode != "kernel"));
        let events: u64 = summary["events"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(events, 5_000);
        let table = text(&output);
        for word in ["mode in effect", mode, "p50", "gaps", "opened in place"] {
            assert!(table.contains(word), "{word:?} is not in the table: {table}");
        }
        rig.await_clean();
    }
}

fn raw() {
    let lines: Vec<String> = (0..2_000).map(|n| format!(r#"{{"e":"x","text":"é \" {n}","n":[1,2,{{}}]}}"#)).collect();
    let recording = wiretick_testbed::feeds::Recording {
        messages: wiretick_testbed::feeds::Lines::new(lines.join("\n").into_bytes()),
        arrivals: None,
    };
    let config = Config {
        feed: wiretick_testbed::exchange::Feed::Replay(std::sync::Arc::new(recording)),
        pace: Pace::Saturate,
        count: None,
        ..synthetic(1, 1)
    };
    let rig = Rig::new(config);
    let output = rig.program(&["--mode", "driver", "--format", "raw", "--log", "warn"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let expected = lines.iter().flat_map(|line| [line.as_bytes(), b"\n"]).collect::<Vec<_>>().concat();
    assert_eq!(hex(&Sha256::digest(&output.stdout)), hex(&Sha256::digest(&expected)));
}

fn ctrl_c() {
    use rustix::process::{Pid, Signal, kill_process};
    for mode in ["driver", "kernel"] {
        for signal in [Signal::INT, Signal::TERM] {
            let rig = Rig::new(Config { count: None, ..synthetic(2_000, 1) });
            let mut program = rig
                .program(&["--mode", mode, "--log", "warn"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
            lines.next().unwrap().unwrap();
            let reader = std::thread::spawn(move || lines.count());
            std::thread::sleep(Duration::from_millis(200));
            let asked = Instant::now();
            kill_process(Pid::from_child(&program), signal).unwrap();
            let output = program.wait_with_output().unwrap();
            assert!(asked.elapsed() < Duration::from_secs(4), "it took {:?}", asked.elapsed());
            assert!(output.status.success(), "{}", text(&output));
            assert!(text(&output).contains("closed, code 1000"), "{}", text(&output));
            assert!(reader.join().unwrap() > 10);
            assert!(rig.exchange.wait_ended(1, Duration::from_secs(5)));
            assert_eq!(rig.exchange.report().endings, [Ending::ClosedByClient(Some(1000))]);
            rig.await_clean();
        }
    }
}

fn duration_and_count() {
    let rig = Rig::new(Config { count: None, ..synthetic(2_000, 1) });
    let began = Instant::now();
    let output = rig.program(&["--mode", "driver", "--format", "none", "--duration", "700ms"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!((Duration::from_millis(650)..Duration::from_secs(4)).contains(&began.elapsed()));
    let output = rig.program(&["--mode", "driver", "--count", "123"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 123);
}

fn exit_codes() {
    let rig = Rig::new(synthetic(1_000, 100));
    let code = |arguments: &[&str]| rig.program(arguments).output().unwrap().status.code();
    assert_eq!(code(&["--mode", "kernel", "--format", "none"]), Some(0));
    assert_eq!(code(&["--mode", "nonsense"]), Some(2));
    assert_eq!(code(&["--header", "Host: x"]), Some(2));
    assert_eq!(code(&["--mode", "zerocopy"]), Some(3));
    assert_eq!(code(&["--core", "100000"]), Some(3));
    assert_eq!(code(&["--ca-file", "/dev/null"]), Some(2), "given twice");
    for (fault, expected) in [(Fault::Rst, 4), (Fault::FlippedBit, 5), (Fault::Status200, 6), (Fault::BadUtf8, 6)] {
        let rig = Rig::new(Config { fault: Some(fault), ..synthetic(1_000, 100) });
        let output = rig.program(&["--mode", "driver", "--format", "none"]).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{fault:?}: {}", text(&output));
    }
    let summary =
        rig.program(&["--mode", "kernel", "--format", "none", "--summary", "/nonexistent/file"]).output().unwrap();
    assert_eq!(summary.status.code(), Some(1), "{}", text(&summary));
}

fn head() {
    let rig = Rig::new(Config { count: None, ..synthetic(5_000, 1) });
    let mut program = rig
        .program(&["--mode", "driver", "--log", "off"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    for _ in 0..10 {
        lines.next().unwrap().unwrap();
    }
    drop(lines);
    assert!(program.wait().unwrap().success(), "whoever has read enough is not a failure");
    rig.await_clean();
}

fn unprivileged() {
    use std::os::unix::process::CommandExt as _;
    let rig = Rig::new(synthetic(1_000, 300));
    let run = |mode: &str| {
        // `nobody`, without any capability, but inside the namespace already.
        let mut command = std::process::Command::new("setpriv");
        let program = rig.program(&["--mode", mode, "--format", "none"]);
        command
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
            .arg(program.get_program())
            .args(program.get_args());
        let mut inside = rig.topology.client.ns.command("setpriv");
        inside.args(command.get_args());
        inside.process_group(0);
        inside.output().unwrap()
    };
    let driver = run("driver");
    assert_eq!(driver.status.code(), Some(3), "{}", text(&driver));
    assert!(text(&driver).contains("run as root"), "{}", text(&driver));
    let auto = run("auto");
    assert!(auto.status.success(), "{}", text(&auto));
    assert!(text(&auto).contains("kernel") && text(&auto).contains("run as root"), "{}", text(&auto));
}
