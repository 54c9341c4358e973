//! A quiet core: what keeps the thread that reads the ring from being moved, paged out or preempted.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::thread::{CpuSet, sched_setaffinity};
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
};
use thread_priority::{ThreadPriority, ThreadPriorityValue};

use crate::exit::Failure;

/// The real-time priority: in the middle, above everything that has none and below the kernel's own threads (migration
/// and watchdogs run at 99).
const PRIORITY: u8 = 50;

/// Makes the core of the calling thread as quiet as was asked for: pins the thread to `core`, which `option` has named, and
/// makes it a real-time one where `rt` says so.
pub(crate) fn down(core: Option<usize>, option: &str, rt: bool) -> Result<(), Failure> {
    core.map_or(Ok(()), |core| pin(core, option))?;
    if rt { real_time() } else { Ok(()) }
}

/// Pins the calling thread to one core, which `option` has asked for.
fn pin(core: usize, option: &str) -> Result<(), Failure> {
    let mut cpus = CpuSet::new();
    if core < CpuSet::MAX_CPU {
        cpus.set(core);
    }
    sched_setaffinity(None, &cpus).map_err(|error| {
        Failure::Machine(format!("{option} {core}: {error}: see the CPUs of this machine with lscpu -e"))
    })
}

/// Makes the calling thread a real-time one and locks all memory, that of later allocations included.
///
/// Where every core is taken by such threads, the kernel leaves the others 5 % of the time
/// (`/proc/sys/kernel/sched_rt_runtime_us`): the machine stays reachable.
fn real_time() -> Result<(), Failure> {
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE).map_err(|error| {
        Failure::Machine(format!("--rt: memory cannot be locked: {error}: raise ulimit -l, or run as root"))
    })?;
    let priority = ThreadPriorityValue::try_from(PRIORITY).map(ThreadPriority::Crossplatform);
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    priority
        .map_err(|error| error.to_string())
        .and_then(|priority| {
            set_thread_priority_and_policy(thread_native_id(), priority, policy).map_err(|error| format!("{error:?}"))
        })
        .map_err(|error| Failure::Machine(format!("--rt: SCHED_FIFO was refused ({error}): needs CAP_SYS_NICE (root)")))
}
