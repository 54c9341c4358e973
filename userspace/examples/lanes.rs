//! Several feeds on one interface, each a lane of its own: a thread on its own core, a ring on its own queue. They share the XDP program.
//!
//! ```text
//! cargo build --release --example lanes
//! sudo target/release/examples/lanes \
//!     0 2 wss://stream.binance.com:9443/ws/btcusdt@trade \
//!     1 3 wss://stream.binance.com:9443/ws/ethusdt@trade      # queue, core, URL; and the next
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};
use wiretick::event::Event;
use wiretick::feed::{Feed, Mode};
use wiretick::path::Context;

/// How often to say how far they are.
const EVERY: Duration = Duration::from_secs(1);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() || !arguments.len().is_multiple_of(3) {
        return Err("usage: lanes QUEUE CORE URL [QUEUE CORE URL]...".into());
    }
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&stop))?;
    let mut lanes = Vec::new();
    for lane in arguments.chunks_exact(3) {
        let (queue, core, url) = (lane[0].parse()?, lane[1].parse()?, lane[2].clone());
        let (stop, messages) = (Arc::clone(&stop), Arc::new(AtomicU64::new(0)));
        let count = Arc::clone(&messages);
        let thread = thread::spawn(move || {
            let ended = run(&url, queue, core, &count, &stop).unwrap_or_else(|error| error.to_string());
            eprintln!("{url}: {ended}");
        });
        lanes.push((lane[2].clone(), messages, thread));
    }
    while lanes.iter().any(|(_, _, thread)| !thread.is_finished()) {
        thread::sleep(EVERY);
        for (url, messages, _) in &lanes {
            println!("{} {url}", messages.load(Ordering::Relaxed));
        }
    }
    Ok(())
}

/// One lane, from its first to its last message. A feed stays on the thread that has made it.
fn run(
    url: &str,
    queue: u32,
    core: usize,
    messages: &AtomicU64,
    stop: &AtomicBool,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut own = CpuSet::new();
    own.set(core);
    sched_setaffinity(None, &own)?;
    let mut feed = Feed::builder(url).mode(Mode::Auto).queue(queue).connect()?;
    let mut count = |_: &Event<'_>, _: &mut Context<'_, '_>| {
        // The only one that writes.
        messages.store(messages.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    };
    let outcome = feed.run(&mut count, || !stop.load(Ordering::Relaxed))?;
    Ok(format!("{} on queue {queue}: {outcome:?}", feed.mode()))
}
