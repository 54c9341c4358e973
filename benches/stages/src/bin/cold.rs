//! What a pause costs: one message, handled after its core has spun for so long and has done nothing else.
//!
//! `cargo run --release -p wiretick-stages --bin cold`, best under `taskset -c N` on a core with nothing else to do. It needs no
//! network and no privilege: what is slower after a pause here is slower because the processor has lost what it knew of code and
//! data (caches, translations, branches), to whoever shares its core or its caches: the kernel's ticks, and on a rented machine
//! its other tenants. "Kept warm" does the same work on another connection every 20 us of the pause, which a client could do as
//! well: what is then still slower is the connection's own data.

use std::time::{Duration, Instant};

use wiretick_stages::{Bench, Work, alone};

const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_micros(10),
    Duration::from_micros(100),
    Duration::from_millis(1),
    Duration::from_millis(4),
];
/// Messages for each cell of the table. Cells take turns, so that a bad moment of the machine is in all of them.
const ROUNDS: usize = 1_000;
/// Messages before counting begins: buffers grow, code is linked on its first call.
const WARM_UP: usize = 100;
/// How often the other connection has a message.
const WARMING: Duration = Duration::from_micros(20);

fn main() {
    println!("{}", processor());
    println!("| one message, ns (p10 / p50 / p90) | after | left alone | kept warm |");
    println!("|---|---:|---:|---:|");
    for bench in &alone() {
        measure(bench);
    }
}

fn measure(bench: &Bench) {
    let (mut work, mut other) = (bench.make(), bench.make());
    for _ in 0..WARM_UP {
        after(Duration::ZERO, &mut *work, None);
        after(Duration::ZERO, &mut *other, None);
    }
    let mut taken = vec![[Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS)]; PAUSES.len()];
    for _ in 0..ROUNDS {
        for (pause, [left_alone, kept_warm]) in PAUSES.iter().zip(&mut taken) {
            left_alone.push(after(*pause, &mut *work, None));
            kept_warm.push(after(*pause, &mut *work, Some(&mut *other)));
        }
    }
    for (pause, [left_alone, kept_warm]) in PAUSES.iter().zip(taken) {
        println!("| {} | {pause:?} | {} | {} |", bench.name, quantiles(left_alone), quantiles(kept_warm));
    }
}

/// How long a message takes after such a pause, during which `other` has messages, or nobody has.
fn after(pause: Duration, work: &mut dyn Work, mut other: Option<&mut dyn Work>) -> Duration {
    work.prepare();
    let end = Instant::now() + pause;
    let mut next = Instant::now();
    while Instant::now() < end {
        match &mut other {
            Some(other) if Instant::now() >= next => {
                other.prepare();
                other.run();
                next = Instant::now() + WARMING;
            }
            _ => std::hint::spin_loop(),
        }
    }
    let start = Instant::now();
    work.run();
    let took = start.elapsed();
    work.took().unwrap_or(took)
}

fn quantiles(mut taken: Vec<Duration>) -> String {
    taken.sort_unstable();
    let at = |tenths: usize| taken[taken.len() * tenths / 10].as_nanos();
    format!("{} / {} / {}", at(1), at(5), at(9))
}

/// What the figures are of.
fn processor() -> String {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, name)| name);
    format!("{model}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
