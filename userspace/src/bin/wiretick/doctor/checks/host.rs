//! The machine: kernel, privileges, memory, cores, clocks.

use wiretick::control::nic::{Cpus, Host, kernel};

use super::RING_BYTES;
use crate::doctor::facts::Facts;
use crate::doctor::finding::Finding;

/// Sleep states from which a core takes longer to wake than this cost a message that much, in microseconds.
const WAKE_US_MAX: u64 = 10;
/// Shares of stolen time that are noticed: of the moment, and of the time since the start.
const STEAL_NOW_MAX: f64 = 0.01;
const STEAL_EVER_MAX: f64 = 0.005;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let Facts { host, core, .. } = facts;
    vec![
        kernel_version(host),
        kernel_config(host),
        bpf_jit(host),
        privileges(host),
        locked_memory(host),
        huge_pages(host),
        virtual_machine(host),
        clocksource(host),
        isolated_cores(host, *core),
        c_states(host),
        governor(host),
        irqbalance(host),
    ]
}

fn kernel_version(host: &Host) -> Finding {
    const CHECK: &str = "kernel";
    let found = format!("Linux {}", host.release);
    let Some(version) = kernel::Version::parse(&host.release) else {
        return Finding::warn(CHECK, found).means("a release that is no version: nothing is known about it");
    };
    if let Some(reason) = kernel::too_old(&host.release) {
        return Finding::fail(CHECK, found).means(reason);
    }
    if version < kernel::LIVE_FRAMES {
        return Finding::warn(CHECK, found).means(format!(
            "before {} frames that wait in the ring when a connection goes home are lost and sent again: a round trip and more",
            kernel::LIVE_FRAMES
        ));
    }
    let finding = Finding::ok(CHECK, found);
    if version < kernel::XDP_FEATURES {
        return finding.means(format!(
            "before {} drivers do not tell their XDP features: only a proof shows them",
            kernel::XDP_FEATURES
        ));
    }
    finding
}

fn kernel_config(host: &Host) -> Finding {
    const CHECK: &str = "kernel_config";
    if host.af_xdp == Some(false) {
        return Finding::fail(CHECK, "this kernel has no AF_XDP sockets")
            .means("CONFIG_XDP_SOCKETS is not set: only the kernel path is left");
    }
    let Some(config) = &host.config else {
        let finding = Finding::warn(CHECK, "neither /proc/config.gz nor /boot/config-* can be read");
        return match host.af_xdp {
            Some(true) => {
                Finding::ok(CHECK, "AF_XDP sockets can be made; the rest of the configuration cannot be read")
            }
            _ => finding.means("whether the kernel has AF_XDP is not known"),
        };
    };
    let missing = |options: &[&str]| -> Vec<String> {
        options.iter().filter(|option| !config.has(option)).map(|option| format!("CONFIG_{option}")).collect()
    };
    let needed = missing(&["XDP_SOCKETS", "BPF_SYSCALL", "BPF_JIT"]);
    if !needed.is_empty() {
        return Finding::fail(CHECK, format!("{} not set", needed.join(", ")))
            .means("the bypass needs a kernel with it");
    }
    let useful = missing(&["NET_RX_BUSY_POLL", "HIGH_RES_TIMERS"]);
    if !useful.is_empty() {
        return Finding::warn(CHECK, format!("{} not set", useful.join(", ")))
            .means("--busy-poll and precise timers are not to be had");
    }
    Finding::ok(CHECK, format!("XDP_SOCKETS, BPF_SYSCALL, BPF_JIT, NET_RX_BUSY_POLL ({})", config.source.display()))
}

fn bpf_jit(host: &Host) -> Finding {
    const CHECK: &str = "bpf_jit";
    match host.bpf_jit {
        Some(true) => Finding::ok(CHECK, "programs are compiled"),
        Some(false) => Finding::warn(CHECK, "programs are interpreted")
            .means("the XDP program takes several times as long for each frame of the machine")
            .command("sysctl -w net.core.bpf_jit_enable=1"),
        // CONFIG_BPF_JIT_ALWAYS_ON hides the switch.
        None => Finding::ok(CHECK, "not told: compiled, unless the kernel is built without"),
    }
}

fn privileges(host: &Host) -> Finding {
    const CHECK: &str = "privileges";
    let give =
        "sudo setcap cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon,cap_ipc_lock,cap_sys_nice+ep $(command -v wiretick)";
    if let Some(missing) = &host.missing_capabilities {
        return Finding::fail(CHECK, format!("missing: {missing}"))
            .means("no mode but kernel is to be had: run as root, or give the program what it needs")
            .command(give);
    }
    if let Some(reason) = &host.repair {
        return Finding::fail(CHECK, format!("TCP_REPAIR is refused: {reason}"))
            .means("a live connection cannot be promoted; --setup ring does without")
            .command(give);
    }
    Finding::ok(CHECK, "all that the bypass needs")
}

fn locked_memory(host: &Host) -> Finding {
    const CHECK: &str = "locked_memory";
    match host.locked_memory_bytes {
        None => Finding::ok(CHECK, "not limited"),
        Some(_) if host.may_lock => Finding::ok(CHECK, "limited, but CAP_IPC_LOCK ignores the limit"),
        Some(bytes) if bytes >= RING_BYTES => Finding::ok(CHECK, format!("{bytes} bytes; a ring takes {RING_BYTES}"))
            .means("--rt locks all memory and needs more"),
        Some(bytes) => Finding::fail(CHECK, format!("limited to {bytes} bytes"))
            .means(format!("the memory of a ring is {RING_BYTES} bytes: it is refused"))
            .command("ulimit -l unlimited   # as a service: LimitMEMLOCK=infinity"),
    }
}

fn huge_pages(host: &Host) -> Finding {
    const CHECK: &str = "huge_pages";
    let pages = host.huge_pages;
    if pages.bytes == 0 || !RING_BYTES.is_multiple_of(pages.bytes) {
        return Finding::ok(
            CHECK,
            format!("pages of {} bytes, which a ring of {RING_BYTES} does not fill", pages.bytes),
        );
    }
    let wanted = RING_BYTES / pages.bytes;
    let found = format!("{} of {} free, {} KiB each", pages.free, pages.total, pages.bytes >> 10);
    if pages.free >= wanted {
        return Finding::ok(CHECK, found);
    }
    Finding::warn(CHECK, found)
        .means(format!(
            "a ring wants {wanted}: without them its {} pages take as many entries of the TLB",
            RING_BYTES / 4_096
        ))
        .command(format!("sysctl -w vm.nr_hugepages={}", pages.total + wanted - pages.free))
}

fn virtual_machine(host: &Host) -> Finding {
    const CHECK: &str = "virtual_machine";
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let steal = host.steal;
    if !host.is_virtual && steal.ever == 0.0 {
        return Finding::ok(CHECK, "none: bare metal");
    }
    let found = format!(
        "a hypervisor; it took {} of the time that was wanted in the last 0.2 s, {} since the start",
        percent(steal.now),
        percent(steal.ever)
    );
    if steal.now > STEAL_NOW_MAX || steal.ever > STEAL_EVER_MAX {
        return Finding::warn(CHECK, found)
            .means("a message waits for as long as the core is taken away: take an instance with cores of its own");
    }
    Finding::ok(CHECK, found)
}

fn clocksource(host: &Host) -> Finding {
    const CHECK: &str = "clocksource";
    // Those that the C library reads without the kernel (vDSO): arch/x86/entry/vdso, arm64's arch_timer.
    const QUICK: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"];
    if QUICK.contains(&host.clocksource.as_str()) {
        return Finding::ok(CHECK, &host.clocksource);
    }
    Finding::warn(CHECK, if host.clocksource.is_empty() { "not told" } else { &host.clocksource })
        .means("each look at the clock is a system call, and a lane looks at it every turn")
        .command("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource")
}

fn isolated_cores(host: &Host, core: Option<usize>) -> Finding {
    const CHECK: &str = "isolated_cores";
    let parameters = |core: &str| {
        format!("isolcpus=managed_irq,domain,{core} nohz_full={core} rcu_nocbs={core}   # kernel command line")
    };
    if let Some(core) = core {
        let of = |cpus: &Cpus| cpus.contains(core);
        if !of(&host.online) {
            return Finding::fail(CHECK, format!("there is no core {core}; there are {}", host.online))
                .command("lscpu -e");
        }
        let found = match (of(&host.isolated), of(&host.nohz_full)) {
            (true, true) => return Finding::ok(CHECK, format!("core {core} is isolated and without a clock tick")),
            (true, false) => format!("core {core} is isolated, but has its clock tick"),
            (false, _) => format!("core {core} is shared with other threads"),
        };
        return Finding::warn(CHECK, found)
            .means("what runs there instead of the lane makes a message late: some us for each tick, much more for another thread")
            .command(parameters(&core.to_string()));
    }
    if !host.isolated.is_empty() {
        return Finding::ok(CHECK, format!("{}: name one with --core", host.isolated));
    }
    let last = host.online.iter().last().unwrap_or(0);
    let finding =
        Finding::warn(CHECK, "none").means("the lane shares its core with other threads: messages wait for them");
    if host.online.len() < 2 {
        return finding
            .means("with a single core, the lane and everything else take turns: there is nothing to isolate");
    }
    finding.command(parameters(&last.to_string()))
}

fn c_states(host: &Host) -> Finding {
    const CHECK: &str = "c_states";
    let deepest = host.idle_states.iter().filter(|(_, _, off)| !off).max_by_key(|(_, latency, _)| *latency);
    let (Some(driver), Some((name, latency, _))) = (&host.idle_driver, deepest) else {
        return Finding::ok(CHECK, "the kernel puts no core to sleep by itself");
    };
    let found = format!("{driver}: down to {name}, {latency} us to wake from");
    if *latency <= WAKE_US_MAX {
        return Finding::ok(CHECK, found);
    }
    Finding::warn(CHECK, found)
        .means("the core that takes the NIC's interrupt wakes that late; one that spins does not sleep")
        .command(format!("cpupower idle-set -D {WAKE_US_MAX}"))
}

fn governor(host: &Host) -> Finding {
    const CHECK: &str = "governor";
    match host.governor.as_deref() {
        None => Finding::ok(CHECK, "the kernel does not scale the frequency"),
        Some("performance") => Finding::ok(CHECK, "performance"),
        Some(other) => Finding::warn(CHECK, other)
            .means("the first messages after a pause run at a low frequency")
            .command("cpupower frequency-set -g performance"),
    }
}

fn irqbalance(host: &Host) -> Finding {
    const CHECK: &str = "irqbalance";
    match host.irqbalance {
        None => Finding::ok(CHECK, "does not run"),
        Some(pid) => Finding::warn(CHECK, format!("runs (pid {pid})"))
            .means("it moves interrupts about every 10 s, also to the lane's core")
            .command("systemctl stop irqbalance   # or leave the lane's core out: IRQBALANCE_BANNED_CPULIST"),
    }
}
