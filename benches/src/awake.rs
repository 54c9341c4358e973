//! A core that does not sleep: something on it always wants to run, and gives way to everybody.
//!
//! An idle core is left to the hypervisor or to a sleep state, and comes back from there in 5 to 50 us. That is paid by every
//! client that sleeps, and is no fault of its library; with the core kept awake it is left out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use wiretick_testbed::topology::pin;

/// While it lives, the core does not sleep.
pub(crate) struct Awake {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Awake {
    pub(crate) fn on_core(core: usize) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::Builder::new().name("awake".into()).spawn({
            let over = Arc::clone(&over);
            move || {
                // First, or for a moment it would be in somebody's way.
                give_way_to_everybody()?;
                pin(core)?;
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                Ok(())
            }
        })?;
        Ok(Self { over, thread: Some(thread) })
    }

    /// Lets the core sleep again; answers whether it was awake all the time.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that keeps a core awake has panicked")))
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Moves the calling thread to `SCHED_IDLE` (sched(7)): it runs where nobody else wants to, and whoever wakes up runs at once.
#[allow(unsafe_code)]
fn give_way_to_everybody() -> io::Result<()> {
    // SAFETY: a structure of one or more integers, for which zero is a value.
    let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call, which reads it and changes the calling thread's policy only.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_when_it_is_told_to() {
        Awake::on_core(0).unwrap().end().unwrap();
        assert!(Awake::on_core(usize::MAX).unwrap().end().is_err(), "no machine has that core");
    }
}
