//! `--slow-log`: late messages, told by a thread of its own. The lane only writes a few words into a ring; where that is
//! full, it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wiretick::floor::{Time, background};
use wiretick::timing::Late;

/// Late messages that may wait to be told. A thousand: as many as a second's stall makes of a busy feed.
const WAITING: usize = 1024;
/// How often the thread looks.
const LOOK: Duration = Duration::from_millis(20);

/// The thread that tells.
pub(crate) struct SlowLog {
    stop: Arc<AtomicBool>,
    untold: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the thread; the second half is for the lane, and does not wait.
pub(crate) fn start() -> std::io::Result<(SlowLog, impl FnMut(Late) + Send + 'static)> {
    let (mut producer, mut consumer) = rtrb::RingBuffer::<Late>::new(WAITING);
    let stop = Arc::new(AtomicBool::new(false));
    let untold = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&stop);
    let thread = background("slow-log", move || {
        if let Err(error) = wiretick::privilege::renounce() {
            log::warn!("{error}");
        }
        loop {
            // Asked before looking, so that what came before is told.
            let last = asked.load(Ordering::Acquire);
            while let Ok(late) = consumer.pop() {
                log::warn!("{}", line(&late));
            }
            if last {
                return;
            }
            std::thread::sleep(LOOK);
        }
    })?;
    let log = SlowLog { stop, untold: Arc::clone(&untold), thread: Some(thread) };
    let tell = move |late| {
        if producer.push(late).is_err() {
            untold.fetch_add(1, Ordering::Relaxed);
        }
    };
    Ok((log, tell))
}

impl Drop for SlowLog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let untold = self.untold.load(Ordering::Relaxed);
        if untold != 0 {
            log::warn!("{untold} more late messages could not be told in time");
        }
    }
}

fn line(late: &Late) -> String {
    let Late { took, cause, line } = late;
    let us = |to: Time, from: Time| format!("{:.1}", to.since(from).as_nanos() as f64 / 1e3);
    let mut text = format!("late, {took:.1?}: {cause} [us:");
    if let Some(sent) = line.sent {
        text += &format!(" before {}", us(line.arrived.unwrap_or(line.taken), sent));
    }
    if let Some(arrived) = line.arrived {
        text += &format!(", ring {}", us(line.taken, arrived));
    }
    text + &format!(
        ", order {}, open {}, find {}, decode {}]",
        us(line.ordered, line.taken),
        us(line.opened, line.ordered),
        us(line.found, line.opened),
        us(line.decoded, line.found)
    )
}
