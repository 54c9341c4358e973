//! Threads that must not stand in the way of the lane.

use std::io;
use std::thread::{self, JoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use thread_priority::unix::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy};
use thread_priority::{ThreadPriority, unix::thread_native_id};

/// Starts a thread beside the lane. A thread is born on the core and with the priority of the one that starts it: pinned like
/// a lane it would run on the lane's core and take its time, or, below a spinning real-time lane, never run. So it first
/// leaves that core, if the machine has another, and the real-time class.
///
/// # Errors
///
/// Where the machine has no room for a thread.
pub fn background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        step_aside();
        work()
    })
}

/// What cannot be had is done without: then the thread shares the core, as any thread would.
fn step_aside() {
    // For ordinary threads there is one level.
    let ordinary = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, ordinary) {
        log::debug!("a background thread keeps its priority: {error:?}");
    }
    let Ok(mine) = sched_getaffinity(None) else { return };
    if mine.count() != 1 {
        return;
    }
    let mut others = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| !mine.is_set(*cpu)) {
        others.set(cpu);
    }
    // The kernel takes those that exist and are allowed; with none of them it refuses.
    if let Err(error) = sched_setaffinity(None, &others) {
        log::debug!("a background thread stays on the lane's core: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri sets no thread's scheduling class")]
    fn it_leaves_the_core_of_a_pinned_thread() {
        let cores = sched_getaffinity(None).unwrap();
        let Some(core) = (0..CpuSet::MAX_CPU).find(|cpu| cores.is_set(*cpu)) else { panic!("no core") };
        let found = thread::spawn(move || {
            let mut one = CpuSet::new();
            one.set(core);
            sched_setaffinity(None, &one).unwrap();
            background("test", || sched_getaffinity(None).unwrap()).unwrap().join().unwrap()
        });
        let found = found.join().unwrap();
        // On a machine with one core there is nowhere to go.
        assert_eq!(found.is_set(core), cores.count() == 1, "{found:?}");
    }
}
