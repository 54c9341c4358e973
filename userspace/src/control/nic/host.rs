//! What the machine is, apart from its interfaces: everything that makes a message late although the network was quick.
//!
//! Read from /proc and /sys, below roots that a test can choose.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Socket, Type};

use super::Cpus;
use super::kernel::{self, KernelConfig};
use crate::handover;
use crate::privilege::{self, Capabilities};

/// How long the steal time of a virtual machine is looked at.
const STEAL_WINDOW: Duration = Duration::from_millis(200);

/// The machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Host {
    /// The kernel's release.
    pub release: String,
    /// What the kernel was built with, where it can be read.
    pub config: Option<KernelConfig>,
    /// AF_XDP sockets exist. `None`: this process may not ask (`CAP_NET_RAW`).
    pub af_xdp: Option<bool>,
    /// Why sockets cannot be frozen; `None` where they can.
    pub repair: Option<String>,
    /// The capabilities of the bypass that this process does not have.
    pub missing_capabilities: Option<String>,
    /// Memory may be locked whatever the limit (`CAP_IPC_LOCK`).
    pub may_lock: bool,
    /// Programs are compiled, and not interpreted. `None`: not told.
    pub bpf_jit: Option<bool>,
    /// Bytes that may be locked; `None` where there is no limit.
    pub locked_memory_bytes: Option<u64>,
    /// CPUs that are in use.
    pub online: Cpus,
    /// CPUs that the scheduler leaves alone (`isolcpus=`).
    pub isolated: Cpus,
    /// CPUs whose clock tick stops while one thread runs (`nohz_full=`).
    pub nohz_full: Cpus,
    /// CPUs on which this process may run.
    pub allowed: Cpus,
    /// The driver of sleep states; `None` where the kernel puts no CPU to sleep by itself.
    pub idle_driver: Option<String>,
    /// The sleep states of the core that is looked at: name, microseconds to wake from it, and whether it is switched off.
    pub idle_states: Vec<(String, u64, bool)>,
    /// The scaling governor of that core; `None` where the kernel does not scale it.
    pub governor: Option<String>,
    /// The clock behind `CLOCK_MONOTONIC`.
    pub clocksource: String,
    /// Free huge pages and all of them, and the bytes of one.
    pub huge_pages: HugePages,
    /// The process id of irqbalance, where it runs.
    pub irqbalance: Option<u32>,
    /// A hypervisor runs the machine.
    pub is_virtual: bool,
    /// How much of the time that was wanted the hypervisor gave to others.
    pub steal: Steal,
    /// NUMA nodes of the CPUs: for each node, its CPUs.
    pub nodes: Vec<Cpus>,
}

/// Huge pages of the size that is the machine's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// That nobody uses.
    pub free: u64,
    /// That are set aside.
    pub total: u64,
    /// Bytes of one.
    pub bytes: u64,
}

/// Time that a hypervisor did not give: shares of the time that was wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steal {
    /// While it was looked at.
    pub now: f64,
    /// Since the machine was started.
    pub ever: f64,
}

impl Host {
    /// Looks at the machine. It takes 0.2 s, for the steal time. `core` is the one whose sleep states and governor count; without it, the first
    /// one on which this process may run.
    #[must_use]
    pub fn read(core: Option<usize>) -> Self {
        let mut host = Self::below(Path::new("/sys"), Path::new("/proc"), core, || std::thread::sleep(STEAL_WINDOW));
        host.config = KernelConfig::read(&host.release);
        host.af_xdp = match Socket::new(Domain::from(libc::AF_XDP), Type::RAW, None) {
            Ok(_) => Some(true),
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Some(false),
            Err(_) => None,
        };
        host.repair = handover::supported().err().map(|error| error.to_string());
        let missing = privilege::missing(Capabilities::BYPASS);
        host.missing_capabilities = (!missing.is_empty()).then(|| missing.to_string());
        host.may_lock = privilege::missing(Capabilities::IPC_LOCK).is_empty();
        host.locked_memory_bytes = getrlimit(Resource::Memlock).current;
        host
    }

    /// What the two file systems tell. `pause` passes the time between two looks at the steal time.
    fn below(sys: &Path, proc: &Path, core: Option<usize>, pause: impl FnOnce()) -> Self {
        let read = |path: &Path| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
        let cpus = |file: &str| {
            let text = read(&sys.join("devices/system/cpu").join(file)).unwrap_or_default();
            Cpus::parse(&text).unwrap_or_default()
        };
        let allowed = status_cpus(&read(&proc.join("self/status")).unwrap_or_default());
        let core = core.or_else(|| allowed.iter().next()).unwrap_or(0);
        let cpu = sys.join(format!("devices/system/cpu/cpu{core}"));
        let meminfo = read(&proc.join("meminfo")).unwrap_or_default();
        let flags = read(&proc.join("cpuinfo")).unwrap_or_default();
        let before = stat(&read(&proc.join("stat")).unwrap_or_default());
        pause();
        let after = stat(&read(&proc.join("stat")).unwrap_or_default());
        Self {
            release: read(&proc.join("sys/kernel/osrelease")).unwrap_or_else(kernel::release),
            bpf_jit: read(&proc.join("sys/net/core/bpf_jit_enable")).map(|value| value != "0"),
            online: cpus("online"),
            isolated: cpus("isolated"),
            nohz_full: cpus("nohz_full"),
            allowed,
            idle_driver: read(&sys.join("devices/system/cpu/cpuidle/current_driver")).filter(|name| name != "none"),
            idle_states: idle_states(&cpu),
            governor: read(&cpu.join("cpufreq/scaling_governor")),
            clocksource: read(&sys.join("devices/system/clocksource/clocksource0/current_clocksource"))
                .unwrap_or_default(),
            huge_pages: huge_pages(&meminfo),
            irqbalance: process(proc, "irqbalance"),
            is_virtual: flags
                .lines()
                .any(|line| line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor"))
                || sys.join("hypervisor/type").exists(),
            steal: Steal {
                now: share(after.0.saturating_sub(before.0), after.1.saturating_sub(before.1)),
                ever: share(after.0, after.1),
            },
            nodes: nodes_below(sys),
            ..Self::default()
        }
    }

    /// The node of a CPU, on a machine that has several.
    #[must_use]
    pub fn node_of(&self, cpu: usize) -> Option<usize> {
        self.nodes.iter().position(|cpus| cpus.contains(cpu))
    }
}

/// `Cpus_allowed_list` of a process' status.
fn status_cpus(status: &str) -> Cpus {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    Cpus::parse(list).unwrap_or_default()
}

/// The sleep states of a CPU, lightest first. State 0 of x86 is a loop that polls.
fn idle_states(cpu: &Path) -> Vec<(String, u64, bool)> {
    let state = |number: usize| {
        let folder = cpu.join(format!("cpuidle/state{number}"));
        let read = |file: &str| fs::read_to_string(folder.join(file)).map(|text| text.trim().to_owned()).ok();
        let off = read("disable").is_some_and(|value| value != "0");
        Some((read("name")?, read("latency")?.parse().ok()?, off))
    };
    (0..).map_while(state).collect()
}

fn huge_pages(meminfo: &str) -> HugePages {
    let number = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    HugePages {
        free: number("HugePages_Free").unwrap_or(0),
        total: number("HugePages_Total").unwrap_or(0),
        bytes: number("Hugepagesize").unwrap_or(0) << 10,
    }
}

/// Steal time and all time that was not idle, in clock ticks of all CPUs: `user nice system idle iowait irq softirq steal`.
fn stat(stat: &str) -> (u64, u64) {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
    let tick = |n: usize| ticks.get(n).copied().unwrap_or(0);
    (tick(7), [0, 1, 2, 5, 6, 7].into_iter().map(tick).sum())
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The process of that name.
fn process(proc: &Path, name: &str) -> Option<u32> {
    fs::read_dir(proc).ok()?.filter_map(Result::ok).find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
        (comm.trim() == name).then_some(pid)
    })
}

/// The NUMA nodes of the machine: for each, its CPUs.
#[must_use]
pub fn nodes() -> Vec<Cpus> {
    nodes_below(Path::new("/sys"))
}

fn nodes_below(sys: &Path) -> Vec<Cpus> {
    let node = |number: usize| {
        let list = fs::read_to_string(sys.join(format!("devices/system/node/node{number}/cpulist"))).ok()?;
        Cpus::parse(&list)
    };
    (0..).map_while(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn bare_metal() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
                ("proc/sys/net/core/bpf_jit_enable", "1\n"),
                ("proc/self/status", "Name:\tx\nCpus_allowed_list:\t2-3\n"),
                ("proc/meminfo", "HugePages_Total:      64\nHugePages_Free:       40\nHugepagesize:       2048 kB\n"),
                ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu vme constant_tsc\n"),
                ("proc/stat", "cpu  100 0 100 5000 0 0 0 0 0 0\n"),
                ("proc/612/comm", "irqbalance\n"),
                ("sys/devices/system/cpu/online", "0-3\n"),
                ("sys/devices/system/cpu/isolated", "2-3\n"),
                ("sys/devices/system/cpu/nohz_full", "(null)\n"),
                ("sys/devices/system/cpu/cpuidle/current_driver", "intel_idle\n"),
                ("sys/devices/system/cpu/cpu2/cpuidle/state0/name", "POLL\n"),
                ("sys/devices/system/cpu/cpu2/cpuidle/state0/latency", "0\n"),
                ("sys/devices/system/cpu/cpu2/cpuidle/state0/disable", "0\n"),
                ("sys/devices/system/cpu/cpu2/cpuidle/state1/name", "C6\n"),
                ("sys/devices/system/cpu/cpu2/cpuidle/state1/latency", "133\n"),
                ("sys/devices/system/cpu/cpu2/cpuidle/state1/disable", "1\n"),
                ("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n"),
                ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n"),
                ("sys/devices/system/node/node0/cpulist", "0-1\n"),
                ("sys/devices/system/node/node1/cpulist", "2-3\n"),
            ],
        );
        root
    }

    #[test]
    fn a_machine_is_read_whole() {
        let root = bare_metal();
        let host = Host::below(&root.path().join("sys"), &root.path().join("proc"), None, || ());
        assert_eq!((host.release.as_str(), host.bpf_jit), ("6.1.0-18-amd64", Some(true)));
        assert_eq!((host.isolated.to_string(), host.nohz_full.len()), ("2-3".to_owned(), 0));
        assert_eq!(host.idle_driver.as_deref(), Some("intel_idle"));
        // Those of core 2, the first on which the process may run.
        assert_eq!(host.idle_states, [("POLL".to_owned(), 0, false), ("C6".to_owned(), 133, true)]);
        assert_eq!(host.governor.as_deref(), Some("powersave"));
        assert_eq!(host.huge_pages, HugePages { free: 40, total: 64, bytes: 2 << 20 });
        assert_eq!((host.irqbalance, host.is_virtual), (Some(612), false));
        assert_eq!((host.node_of(3), host.node_of(0), host.node_of(9)), (Some(1), Some(0), None));
    }

    #[test]
    fn steal_is_a_share_of_the_time_that_was_wanted() {
        let root = bare_metal();
        let proc = root.path().join("proc");
        write(&proc, &[("stat", "cpu  100 0 100 5000 0 0 0 0 0 0\n"), ("cpuinfo", "flags\t: fpu hypervisor\n")]);
        // Meanwhile: 60 ticks for us, 20 stolen.
        let later = || write(&proc, &[("stat", "cpu  130 0 130 5000 0 0 0 20 0 0\n")]);
        let host = Host::below(&root.path().join("sys"), &proc, None, later);
        assert!(host.is_virtual);
        assert!((host.steal.now - 0.25).abs() < 1e-9, "{:?}", host.steal);
        assert!((host.steal.ever - 20.0 / 280.0).abs() < 1e-9, "{:?}", host.steal);
    }

    #[test]
    fn what_is_not_told_is_not_made_up() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path(), root.path(), None, || ());
        assert_eq!((host.bpf_jit, &host.governor, &host.idle_driver), (None, &None, &None));
        assert!(host.online.is_empty() && host.nodes.is_empty() && host.idle_states.is_empty());
        assert_eq!(host.steal, Steal::default());
    }

    #[test]
    fn this_machine_can_be_read() {
        let host = Host::read(None);
        assert!(!host.release.is_empty() && !host.online.is_empty() && !host.allowed.is_empty(), "{host:?}");
    }
}
