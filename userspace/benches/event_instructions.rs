//! How many instructions it takes to make an event of one message: directly, by the tape, and for simd-json's tape alone.
//!
//! `cargo bench -p wiretick --bench event_instructions` prints a table. It runs itself under valgrind (callgrind), twice
//! for each figure with a different number of rounds: the difference is free of everything but the rounds. The figures
//! are the same on every run of one build, and hardly differ between machines; time is measured elsewhere.
//!
//! The messages have the forms and the typical lengths of the captured ones, in the envelope of a combined stream.

use std::hint::black_box;
use std::process::{Command, ExitCode, Stdio};

use wiretick::event::{Decoder, Options};
use wiretick::floor::Span;

const WAYS: [&str; 3] = ["direct", "by tape", "tape alone"];
const ROUNDS_FEW: u64 = 100;
const ROUNDS_MANY: u64 = 1_100;

/// The levels of one side of a depth.
const LEVELS: usize = 15;

fn messages() -> Vec<(&'static str, String)> {
    let enveloped = |stream: &str, data: &str| format!(r#"{{"stream":"btcusdt@{stream}","data":{data}}}"#);
    let levels = |price: &str, quantity: &str| vec![format!(r#"["{price}","{quantity}"]"#); LEVELS].join(",");
    let (spot, usdm) = (levels("61837.63000000", "1.54698000"), levels("61800.30", "12.510"));
    let trade = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
    vec![
        ("spot trade", enveloped("trade", trade)),
        ("spot trade, no envelope", trade.to_owned()),
        ("spot trade, no envelope, stamped", trade.replace(r#""M":true}"#, r#""M":true,"n":8123456789012      }"#)),
        (
            "usdm trade",
            enveloped(
                "trade",
                r#"{"e":"trade","E":1723161256322,"T":1723161256322,"s":"BTCUSDT","t":5266583935,"p":"61800.30","q":"0.006","X":"MARKET","m":false}"#,
            ),
        ),
        (
            "spot aggTrade",
            enveloped(
                "aggTrade",
                r#"{"e":"aggTrade","E":1723161255343,"s":"BTCUSDT","a":15683430,"p":"61837.63000000","q":"0.02000000","f":3735683259,"l":3735683260,"T":1723161255342,"m":true,"M":true}"#,
            ),
        ),
        (
            "usdm aggTrade",
            enveloped(
                "aggTrade",
                r#"{"e":"aggTrade","E":1723161256322,"a":15683430,"s":"BTCUSDT","p":"61800.30","q":"0.006","f":5266583935,"l":5266583936,"T":1723161256322,"m":true}"#,
            ),
        ),
        (
            "spot bookTicker",
            enveloped(
                "bookTicker",
                r#"{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#,
            ),
        ),
        (
            "usdm bookTicker",
            enveloped(
                "bookTicker",
                r#"{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}"#,
            ),
        ),
        (
            "spot depth, 2 x 15 levels",
            enveloped(
                "depth@100ms",
                &format!(
                    r#"{{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,"u":50093239202,"b":[{spot}],"a":[{spot}]}}"#
                ),
            ),
        ),
        (
            "usdm depth, 2 x 15 levels",
            enveloped(
                "depth@0ms",
                &format!(
                    r#"{{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT","U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[{usdm}],"a":[{usdm}]}}"#
                ),
            ),
        ),
    ]
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", message, way, rounds] => run(&messages()[number(message)].1, WAYS[number(way)], number(rounds)),
        // cargo adds `--bench`.
        _ => {
            if let Err(problem) = table() {
                eprintln!("{problem}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn number(argument: &str) -> usize {
    argument.parse().expect("a number: this program calls itself")
}

fn table() -> Result<(), String> {
    println!("| instructions per message | bytes | {} | direct / by tape | direct / tape alone |", WAYS.join(" | "));
    println!("|---|---|---|---|---|---|---|");
    for (index, (name, payload)) in messages().iter().enumerate() {
        let mut counts = [0; WAYS.len()];
        for (way, count) in counts.iter_mut().enumerate() {
            let (few, many) = (instructions(index, way, ROUNDS_FEW)?, instructions(index, way, ROUNDS_MANY)?);
            *count = (many - few) / (ROUNDS_MANY - ROUNDS_FEW);
        }
        let [direct, by_tape, alone] = counts;
        let share = |of: u64| direct as f64 / of as f64;
        println!(
            "| {name} | {} | {direct} | {by_tape} | {alone} | {:.2} | {:.2} |",
            payload.len(),
            share(by_tape),
            share(alone)
        );
    }
    Ok(())
}

/// How many instructions this program takes for that many rounds.
fn instructions(message: usize, way: usize, rounds: u64) -> Result<u64, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(this)
        .args(["run", &message.to_string(), &way.to_string(), &rounds.to_string()])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind, which counts the instructions: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .filter(|_| output.status.success())
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .ok_or_else(|| format!("valgrind has counted nothing: {said}"))
}

fn run(payload: &str, way: &str, rounds: usize) {
    let options = Options { stamp_field: Some("n".to_owned()) };
    let mut decoder = if way == "direct" { Decoder::new(options) } else { Decoder::by_tape(options) };
    let (mut buffers, mut kept) = (simd_json::Buffers::new(0), simd_json::Tape(Vec::new()));
    let mut buffer = payload.as_bytes().to_vec();
    buffer.extend([0; Span::PAD]);
    for _ in 0..rounds {
        let buffer = black_box(&mut buffer[..]);
        if way == "tape alone" {
            let mut tape = std::mem::replace(&mut kept, simd_json::Tape(Vec::new())).reset();
            simd_json::fill_tape_padded(buffer, payload.len(), &mut buffers, &mut tape).expect("it is JSON");
            black_box(&tape);
            kept = tape.reset();
        } else {
            black_box(&decoder.decode(Span::new(buffer, payload.len())));
        }
    }
    let expected = if way == "direct" { rounds as u64 } else { 0 };
    assert_eq!(decoder.direct_counters().direct, expected, "messages decoded directly");
}
