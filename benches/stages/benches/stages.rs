//! How long each stage takes, with its floor beside it: nanoseconds per message.
//!
//! `cargo bench -p wiretick-stages`, or with a part of a name behind `--`. What is measured, and what a batch is,
//! stands in the library. criterion calls for so many messages; here as many batches are made and handled, and only the
//! handling is timed. At the end stands a table, and what it says of goal 2. The figures hold for a machine with nothing
//! else to do, and are to be compared within one run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use criterion::Criterion;
use wiretick_stages::{Bench, CLOCK, GOAL, GOAL_RATIO, PATH, SUITE, Work, all, trade};

fn main() {
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .output_directory(&out)
        .configure_from_args();
    let benches = all();
    let mut measured = Vec::new();
    for bench in &benches {
        let mut work = None;
        let mut group = criterion.benchmark_group(bench.group);
        group.bench_function(&bench.name, |bencher| {
            let work = work.get_or_insert_with(|| bench.make());
            bencher.iter_custom(|messages| timed(&mut **work, messages));
        });
        group.finish();
        if work.is_some() {
            measured.push(bench);
        }
    }
    criterion.final_summary();
    table(&out, &measured);
}

/// How long so many messages take, in whole batches, scaled.
fn timed(work: &mut dyn Work, messages: u64) -> Duration {
    let batches = messages.div_ceil(work.messages());
    let mut total = Duration::ZERO;
    for _ in 0..batches {
        work.prepare();
        let start = Instant::now();
        work.run();
        let took = start.elapsed();
        total += work.took().unwrap_or(took);
    }
    total.mul_f64(messages as f64 / (batches * work.messages()) as f64)
}

/// Nanoseconds per message: the median of criterion's samples, and the least of them, which is closest to what it takes
/// when nothing else is in the way.
#[derive(Clone, Copy)]
struct Figure {
    median: f64,
    least: f64,
}

fn table(out: &Path, measured: &[&Bench]) {
    let figure = |group: &str, name: &str| {
        let bench = measured.iter().find(|bench| bench.group == group && bench.name == name)?;
        read(out, bench)
    };
    println!("\n| stage | what | ns per message, median | least | least x floor's |\n|---|---|---:|---:|---:|");
    for bench in measured {
        let Some(own) = read(out, bench) else { continue };
        let floor = bench.floor.as_deref().and_then(|floor| figure(bench.group, floor));
        let ratio = floor.map_or(String::new(), |floor| format!("{:.2}", own.least / floor.least));
        println!("| {} | {} | {:.1} | {:.1} | {ratio} |", bench.group, bench.name, own.median, own.least);
    }
    println!("\nA trade has {} bytes. TLS 1.3, {}.", trade(0).len(), SUITE);
    for name in GOAL {
        let Some(bench) = measured.iter().find(|bench| bench.name == name) else { continue };
        let floor = bench.floor.as_deref().and_then(|floor| figure(PATH, floor));
        let (Some(own), Some(floor)) = (read(out, bench), floor) else { continue };
        // Who takes the time of each message pays for one reading of the clock in it.
        let clock = figure(PATH, CLOCK).filter(|_| name == GOAL[0]).map_or(0.0, |clock| clock.least);
        println!(
            "Goal 2, in time: {name}: {:.2} x AEAD and decoding alone, by the least of each (at most {GOAL_RATIO})",
            (own.least - clock) / floor.least
        );
    }
}

/// What criterion has written about a benchmark.
fn read(out: &Path, bench: &Bench) -> Option<Figure> {
    // As criterion makes a folder of a name.
    let name = bench.name.replace(['/', ':', '"', '*', '?', '<', '>', '|', '\\', '^'], "_");
    let folder = out.join(bench.group).join(name).join("new");
    let json = |file: &str| serde_json::from_slice::<serde_json::Value>(&std::fs::read(folder.join(file)).ok()?).ok();
    let median = json("estimates.json")?["median"]["point_estimate"].as_f64()?;
    let samples = json("sample.json")?;
    let numbers = |key: &str| samples[key].as_array().map(|all| all.iter().filter_map(serde_json::Value::as_f64));
    let least = numbers("times")?.zip(numbers("iters")?).map(|(ns, n)| ns / n).min_by(f64::total_cmp)?;
    Some(Figure { median, least })
}
