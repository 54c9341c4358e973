//! How many instructions each stage takes per message, with its floor beside it; and the gate that keeps them.
//!
//! `cargo run --profile bench -p wiretick-stages --bin instructions` prints the figures. With `-- --check` it compares them with the
//! committed ones (`docs/bench/INSTRUCTIONS.json`) and fails where one is more than 5 % worse; `-- --accept` writes those
//! of this run in their place. It runs itself under valgrind (callgrind), which plays a processor of its own; what it plays depends
//! on the one below, so the file says what it was. The figures are the same on every run of one build. They are not time:
//! that is measured by the benchmark `stages`, on the same works.

mod callgrind;
mod gate;
mod toolchain;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use wiretick_stages::{Bench, GOAL, GOAL_RATIO, PATH, all, between};

use gate::{Counted, Figures, compare, differences};

/// Batches before counting begins: buffers grow, code is linked on its first call, forms of messages are learnt.
const WARM_UP: u64 = 8;
/// Batches counted.
const BATCHES: u64 = 16;
/// Batches of which each message is counted by itself: a dump is written for each.
const BATCHES_BETWEEN: u64 = 1;

const ACCEPT: &str = "make instructions ACCEPT=1";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["run", index] => {
            run(&all()[index.parse::<usize>().expect("this program calls itself")]);
            Ok(true)
        }
        ["between"] => {
            between(BATCHES_BETWEEN, callgrind::from_here, callgrind::to_here);
            Ok(true)
        }
        ["features"] => {
            println!("{}", toolchain::features());
            Ok(true)
        }
        [] => count().map(|counted| {
            table(&counted.figures);
            true
        }),
        ["--check"] => check(),
        ["--accept"] => accept().map(|()| true),
        _ => Err("usage: instructions [--check | --accept]".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("instructions: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What callgrind counts, in a process of its own.
fn run(bench: &Bench) {
    let mut work = bench.make();
    for _ in 0..WARM_UP {
        work.prepare();
        work.run();
    }
    for _ in 0..BATCHES {
        work.prepare();
        callgrind::counted(&mut || work.run());
    }
}

/// Counts everything, on as many cores as there are: what runs beside it does not change a count.
fn count() -> Result<Counted, String> {
    let benches = all();
    let counted: Vec<_> = benches.iter().enumerate().filter(|(_, bench)| bench.counted).collect();
    let (next, figures, problem) = (AtomicUsize::new(0), Mutex::new(Figures::new()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // The one that is not a batch comes behind the last.
                while let at @ 0.. = next.fetch_add(1, Ordering::Relaxed)
                    && at <= counted.len()
                {
                    let figure = match counted.get(at) {
                        Some((index, bench)) => instructions(*index, bench),
                        None => to_handler(),
                    };
                    match figure {
                        Ok((name, count)) => {
                            figures.lock().expect("no panic").insert(name, (count * 10.0).round() / 10.0);
                        }
                        Err(error) => *problem.lock().expect("no panic") = Some(error),
                    }
                }
            });
        }
    });
    if let Some(problem) = problem.into_inner().expect("no panic") {
        return Err(problem);
    }
    Ok(Counted { made_with: toolchain::made_with()?, figures: figures.into_inner().expect("no panic") })
}

fn instructions(index: usize, bench: &Bench) -> Result<(String, f64), String> {
    let count = callgrind::inside(&["run", &index.to_string()])?;
    Ok((name(bench.group, &bench.name), count as f64 / (BATCHES * bench.make().messages()) as f64))
}

/// The mean over some messages, each from its frame to the handler.
fn to_handler() -> Result<(String, f64), String> {
    let counts = callgrind::between(&["between"])?;
    let mean = counts.iter().sum::<u64>() as f64 / counts.len() as f64;
    Ok((name(PATH, GOAL[0]), mean))
}

fn name(group: &str, name: &str) -> String {
    format!("{group} / {name}")
}

fn table(figures: &Figures) {
    println!("| stage | what | instructions per message | x floor |\n|---|---|---:|---:|");
    let mut floors = BTreeMap::new();
    for bench in all() {
        let Some(own) = figures.get(&name(bench.group, &bench.name)) else { continue };
        let floor = bench.floor.and_then(|floor| figures.get(&name(bench.group, &floor)));
        let ratio = floor.map_or(String::new(), |floor| format!("{:.2}", own / floor));
        println!("| {} | {} | {own} | {ratio} |", bench.group, bench.name);
        floors.insert(bench.name, floor);
    }
    println!();
    for goal in GOAL {
        if let (Some(own), Some(Some(floor))) = (figures.get(&name(PATH, goal)), floors.get(goal)) {
            println!(
                "Goal 2, in instructions: {goal}: {:.2} x AEAD and decoding alone (at most {GOAL_RATIO})",
                own / *floor
            );
        }
    }
}

fn file() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bench/INSTRUCTIONS.json"))
}

/// Counts and compares; whether the figures are kept.
fn check() -> Result<bool, String> {
    let problem =
        |error: &dyn std::fmt::Display| format!("docs/bench/INSTRUCTIONS.json: {error}; write it with\n    {ACCEPT}");
    let text = std::fs::read(file()).map_err(|error| problem(&error))?;
    let committed: Counted = serde_json::from_slice(&text).map_err(|error| problem(&error))?;
    let counted = count()?;
    table(&counted.figures);
    println!();
    let differences = differences(&committed.made_with, &counted.made_with);
    if !differences.is_empty() {
        println!(
            "The committed figures were made otherwise, which may be why some differ:\n    {}",
            differences.join("\n    ")
        );
    }
    let comparison = compare(&committed.figures, &counted.figures);
    print!("{}", comparison.report(ACCEPT));
    println!("{} figures: {}", counted.figures.len(), if comparison.fails() { "FAILED" } else { "kept" });
    Ok(!comparison.fails())
}

fn accept() -> Result<(), String> {
    let counted = count()?;
    table(&counted.figures);
    let text = serde_json::to_string_pretty(&counted).map_err(|error| error.to_string())?;
    std::fs::write(file(), text + "\n").map_err(|error| format!("{}: {error}", file().display()))?;
    println!("\ndocs/bench/INSTRUCTIONS.json: {} figures", counted.figures.len());
    Ok(())
}
