//! The system calls that a sealed process may make, each with its reason; every other one ends it (`SIGSYS`, and a line in the
//! kernel's log).
//!
//! The table is the filter: `Filters` compiles it, and docs/SECURITY.md shows it. A few calls are not made by us, but by the
//! C library or the memory allocator in passing, with another way where the kernel does not know them: those are answered with
//! `ENOSYS` ([`Answer::Absent`]).
//!
//! The calls of the hot path have no conditions on their arguments. For such a call the kernel works out once that the answer is
//! always yes, and afterwards looks at one bit instead of running the filter (`seccomp_cache_prepare`, kernel/seccomp.c, since
//! Linux 5.11): the length of the table and its order do not matter there.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::fmt;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use super::Keep;

/// What an argument must be. Arguments are compared as the kernel takes them here, with 32 bits.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    /// The argument with this index has this value.
    Is(u8, i64),
    /// Of the argument with this index, the bits of the mask have this value.
    Masked(u8, i64, i64),
    /// The argument with this index is the id of this process.
    OwnProcess(u8),
}

/// Arguments that are allowed together; all tests must hold.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// In words.
    pub what: &'static str,
    /// In figures.
    pub tests: &'static [Test],
    /// With which privileges.
    pub when: When,
}

/// With which privileges something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Whatever is kept.
    Always,
    /// Where connections are made anew ([`Privileges::reconnect`](super::Privileges::reconnect)), and with
    /// [`When::Demote`].
    Dial,
    /// Where the connection is offered to a successor ([`Privileges::succession`](super::Privileges::succession)).
    Succession,
    /// Where a connection can still go home and come back ([`Keep::Demote`]).
    Demote,
}

/// What a feed will do beside streaming, whatever is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Needs {
    /// It makes connections anew.
    pub(super) dials: bool,
    /// It hands its connection to a successor.
    pub(super) succession: bool,
}

impl Needs {
    /// To stream, and nothing else.
    pub(super) const NONE: Self = Self { dials: false, succession: false };
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is made.
    Allowed,
    /// As if the kernel did not know it: `ENOSYS`.
    Absent,
}

/// A system call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its name in the manual.
    pub name: &'static str,
    /// Its number on this architecture.
    pub number: i64,
    /// With which privileges.
    pub when: When,
    /// The arguments it may have; any, where there is no case.
    pub cases: &'static [Case],
    /// Who makes it, and what for.
    pub reason: &'static str,
}

const AF_UNIX: Test = Test::Is(0, libc::AF_UNIX as i64);
const AF_XDP: Test = Test::Is(0, libc::AF_XDP as i64);
const AF_INET: Test = Test::Is(0, libc::AF_INET as i64);
const AF_INET6: Test = Test::Is(0, libc::AF_INET6 as i64);
const AF_NETLINK: Test = Test::Is(0, libc::AF_NETLINK as i64);
/// `SOCK_TYPE_MASK` (include/linux/net.h): the rest are flags.
const fn sock_type(kind: libc::c_int) -> Test {
    Test::Masked(1, 0xf, kind as i64)
}

const fn call(name: &'static str, number: libc::c_long, reason: &'static str) -> Call {
    Call { name, number, when: When::Always, cases: &[], reason }
}

const fn only(name: &'static str, number: libc::c_long, cases: &'static [Case], reason: &'static str) -> Call {
    Call { name, number, when: When::Always, cases, reason }
}

const fn to_demote(name: &'static str, number: libc::c_long, cases: &'static [Case], reason: &'static str) -> Call {
    Call { name, number, when: When::Demote, cases, reason }
}

const fn to_dial(name: &'static str, number: libc::c_long, cases: &'static [Case], reason: &'static str) -> Call {
    Call { name, number, when: When::Dial, cases, reason }
}

const fn dial(what: &'static str, tests: &'static [Test]) -> Case {
    Case { what, tests, when: When::Dial }
}

const fn always(what: &'static str, tests: &'static [Test]) -> Case {
    Case { what, tests, when: When::Always }
}

const fn demote(what: &'static str, tests: &'static [Test]) -> Case {
    Case { what, tests, when: When::Demote }
}

/// A command of `bpf(2)`.
const fn command(what: &'static str, tests: &'static [Test], when: When) -> Case {
    Case { what, tests, when }
}

/// What is allowed.
pub const ALLOWED: &[Call] = &[
    // Messages.
    call("sendto", libc::SYS_sendto, "wakes the driver up to send, and sends on a kernel socket"),
    call("recvfrom", libc::SYS_recvfrom, "wakes the driver up to receive, and receives on a kernel socket"),
    #[cfg(target_arch = "x86_64")]
    call("poll", libc::SYS_poll, "sleeps until something arrives (`--wait poll`)"),
    call("ppoll", libc::SYS_ppoll, "the same, where there is no `poll`"),
    call("read", libc::SYS_read, "receives on a kernel socket"),
    call("write", libc::SYS_write, "events, the log, the closing figures; sends on a kernel socket"),
    call("writev", libc::SYS_writev, "the same, in pieces"),
    call("close", libc::SYS_close, "sockets, the ring, the program"),
    call("shutdown", libc::SYS_shutdown, "ends a kernel socket's sending half"),
    // Time and threads.
    call("futex", libc::SYS_futex, "threads wait for each other: the watchdog, `--slow-log`, `--compare`"),
    call(
        "clock_gettime",
        libc::SYS_clock_gettime,
        "the time, where the machine has no clock that is read without the kernel",
    ),
    call("clock_nanosleep", libc::SYS_clock_nanosleep, "threads that look at something now and then"),
    call("restart_syscall", libc::SYS_restart_syscall, "the kernel goes on with a sleep after a signal"),
    call("sched_yield", libc::SYS_sched_yield, "a thread waits for a lock in the memory allocator"),
    call("sched_getaffinity", libc::SYS_sched_getaffinity, "how many arenas the memory allocator makes"),
    to_dial(
        "sched_setaffinity",
        libc::SYS_sched_setaffinity,
        &[],
        "a new thread (watchdog, names) leaves the lane's core",
    ),
    to_dial("sched_setscheduler", libc::SYS_sched_setscheduler, &[], "a new thread leaves the real-time class"),
    to_dial("setpriority", libc::SYS_setpriority, &[], "the same"),
    call("gettid", libc::SYS_gettid, "a thread begins; a panic names it"),
    call("getpid", libc::SYS_getpid, "an abort addresses it"),
    only(
        "tgkill",
        libc::SYS_tgkill,
        &[always("its own process", &[Test::OwnProcess(0)])],
        "an abort; no other process can be signalled",
    ),
    call("exit", libc::SYS_exit, "a thread ends"),
    call("exit_group", libc::SYS_exit_group, "the process ends"),
    call("rt_sigaction", libc::SYS_rt_sigaction, "a second Ctrl-C ends the program; threads begin"),
    call("rt_sigprocmask", libc::SYS_rt_sigprocmask, "threads begin and end"),
    call("rt_sigreturn", libc::SYS_rt_sigreturn, "a signal has been handled"),
    call("sigaltstack", libc::SYS_sigaltstack, "threads begin and end"),
    call("set_robust_list", libc::SYS_set_robust_list, "a thread begins"),
    call("rseq", libc::SYS_rseq, "a thread begins"),
    // Memory.
    call("brk", libc::SYS_brk, "memory"),
    call("munmap", libc::SYS_munmap, "memory, the ring's among it"),
    call("mremap", libc::SYS_mremap, "memory: a large buffer grows"),
    call("madvise", libc::SYS_madvise, "memory that is given back"),
    only(
        "mmap",
        libc::SYS_mmap,
        &[always("not executable", &[Test::Masked(2, libc::PROT_EXEC as i64, 0)])],
        "memory; code cannot be brought in",
    ),
    only(
        "mprotect",
        libc::SYS_mprotect,
        &[always("not executable", &[Test::Masked(2, libc::PROT_EXEC as i64, 0)])],
        "memory; data cannot become code",
    ),
    call("getrandom", libc::SYS_getrandom, "masking keys, TLS, hash tables"),
    // What is looked at, and does no harm.
    call("capget", libc::SYS_capget, "what this thread may still do"),
    call("getsockopt", libc::SYS_getsockopt, "the ring's drops (`XDP_STATISTICS`), a socket's state"),
    call("getsockname", libc::SYS_getsockname, "a socket's own address"),
    call("getpeername", libc::SYS_getpeername, "a socket's peer"),
    #[cfg(target_arch = "x86_64")]
    call("fstat", libc::SYS_fstat, "how large a file is that was opened"),
    call("newfstatat", libc::SYS_newfstatat, "the same"),
    call("statx", libc::SYS_statx, "the same"),
    call("lseek", libc::SYS_lseek, "the same"),
    call("uname", libc::SYS_uname, "which kernel this is, before a program is loaded"),
    only(
        "fcntl",
        libc::SYS_fcntl,
        &[
            always("F_GETFD", &[Test::Is(1, libc::F_GETFD as i64)]),
            always("F_GETFL", &[Test::Is(1, libc::F_GETFL as i64)]),
            dial("F_SETFL", &[Test::Is(1, libc::F_SETFL as i64)]),
            demote("F_DUPFD_CLOEXEC", &[Test::Is(1, libc::F_DUPFD_CLOEXEC as i64)]),
        ],
        "descriptors are checked before they are closed; a map's is doubled for the watchdog",
    ),
    only(
        "prlimit64",
        libc::SYS_prlimit64,
        &[always("its own process", &[Test::Is(0, 0)])],
        "the size of a thread's stack",
    ),
    only(
        "ioctl",
        libc::SYS_ioctl,
        &[
            always("FIONBIO", &[Test::Is(1, libc::FIONBIO as i64)]),
            always("TIOCOUTQ", &[Test::Is(1, libc::TIOCOUTQ as i64)]),
            always("TCGETS", &[Test::Is(1, libc::TCGETS as i64)]),
            dial("FIONREAD", &[Test::Is(1, libc::FIONREAD as i64)]),
            demote("SIOCGIFINDEX", &[Test::Is(1, libc::SIOCGIFINDEX as i64)]),
            demote("SIOCETHTOOL", &[Test::Is(1, libc::SIOCETHTOOL as i64)]),
        ],
        "a socket that does not wait; what is not acknowledged; whether stderr is a terminal; how long the answer about a name \
         is; the interface, its GRO and its flow rules. In particular not `TIOCSTI`, which types into a terminal",
    ),
    only(
        "prctl",
        libc::SYS_prctl,
        &[
            always("PR_SET_NAME", &[Test::Is(0, libc::PR_SET_NAME as i64)]),
            demote("PR_GET_AUXV", &[Test::Is(0, 0x4155_5856)]),
        ],
        "a thread's name; what the processor can do",
    ),
    // What the watchdog asks.
    only(
        "socket",
        libc::SYS_socket,
        &[
            always("AF_NETLINK, NETLINK_ROUTE", &[AF_NETLINK, Test::Is(2, libc::NETLINK_ROUTE as i64)]),
            dial("AF_INET, SOCK_STREAM", &[AF_INET, sock_type(libc::SOCK_STREAM)]),
            dial("AF_INET, SOCK_DGRAM", &[AF_INET, sock_type(libc::SOCK_DGRAM)]),
            dial("AF_INET6, SOCK_STREAM", &[AF_INET6, sock_type(libc::SOCK_STREAM)]),
            dial("AF_INET6, SOCK_DGRAM", &[AF_INET6, sock_type(libc::SOCK_DGRAM)]),
            demote(
                "AF_INET, SOCK_RAW, IPPROTO_ICMP",
                &[AF_INET, sock_type(libc::SOCK_RAW), Test::Is(2, libc::IPPROTO_ICMP as i64)],
            ),
            demote(
                "AF_INET6, SOCK_RAW, IPPROTO_ICMPV6",
                &[AF_INET6, sock_type(libc::SOCK_RAW), Test::Is(2, libc::IPPROTO_ICMPV6 as i64)],
            ),
            demote("AF_UNIX, SOCK_DGRAM", &[AF_UNIX, sock_type(libc::SOCK_DGRAM)]),
            demote("AF_XDP", &[AF_XDP]),
        ],
        "the watchdog asks for link, route and neighbour; a connection that comes home, or is made anew, gets a socket; a ring \
         is opened; routers that ask for smaller packets are heard; handles to ask for an interface with. No packet sockets, \
         and no other family",
    ),
    call("connect", libc::SYS_connect, "the watchdog's netlink socket; a connection that comes home, or is made anew"),
    only(
        "bpf",
        libc::SYS_bpf,
        &[
            command("BPF_MAP_LOOKUP_ELEM", &[Test::Is(0, 1)], When::Always),
            command("BPF_MAP_DELETE_ELEM", &[Test::Is(0, 3)], When::Always),
            command("BPF_MAP_CREATE", &[Test::Is(0, 0)], When::Demote),
            command("BPF_MAP_UPDATE_ELEM", &[Test::Is(0, 2)], When::Demote),
            command("BPF_PROG_LOAD", &[Test::Is(0, 5)], When::Demote),
            command("BPF_PROG_TEST_RUN", &[Test::Is(0, 10)], When::Demote),
            command("BPF_OBJ_GET_INFO_BY_FD", &[Test::Is(0, 15)], When::Demote),
            command("BPF_BTF_LOAD", &[Test::Is(0, 18)], When::Demote),
            command("BPF_BTF_GET_NEXT_ID", &[Test::Is(0, 23)], When::Demote),
            command("BPF_MAP_FREEZE", &[Test::Is(0, 22)], When::Demote),
            command("BPF_LINK_CREATE", &[Test::Is(0, 28)], When::Demote),
            command("BPF_PROG_BIND_MAP", &[Test::Is(0, 35)], When::Demote),
        ],
        "the program's counters; a flow leaves the map. To come back: maps, program and link anew, a flow enters, frames are \
         handed to the kernel",
    ),
    // Home to the kernel, and back.
    to_dial(
        "setsockopt",
        libc::SYS_setsockopt,
        &[
            dial("IPPROTO_TCP", &[Test::Is(1, libc::IPPROTO_TCP as i64)]),
            demote(
                "SOL_SOCKET, SO_ATTACH_FILTER",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_ATTACH_FILTER as i64)],
            ),
            demote(
                "SOL_SOCKET, SO_RCVBUFFORCE",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_RCVBUFFORCE as i64)],
            ),
            dial("SOL_SOCKET, SO_RCVBUF", &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_RCVBUF as i64)]),
            dial(
                "SOL_SOCKET, SO_BINDTODEVICE",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_BINDTODEVICE as i64)],
            ),
            demote(
                "SOL_SOCKET, SO_BINDTOIFINDEX",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_BINDTOIFINDEX as i64)],
            ),
            demote(
                "SOL_SOCKET, SO_PREFER_BUSY_POLL",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_PREFER_BUSY_POLL as i64)],
            ),
            demote(
                "SOL_SOCKET, SO_BUSY_POLL",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_BUSY_POLL as i64)],
            ),
            demote(
                "SOL_SOCKET, SO_BUSY_POLL_BUDGET",
                &[Test::Is(1, libc::SOL_SOCKET as i64), Test::Is(2, libc::SO_BUSY_POLL_BUDGET as i64)],
            ),
            dial("IPPROTO_IP", &[Test::Is(1, libc::IPPROTO_IP as i64)]),
            dial("IPPROTO_IPV6", &[Test::Is(1, libc::IPPROTO_IPV6 as i64)]),
            demote("SOL_XDP", &[Test::Is(1, libc::SOL_XDP as i64)]),
            demote("SOL_NETLINK", &[Test::Is(1, libc::SOL_NETLINK as i64)]),
        ],
        "a frozen socket is looked at, a connection's state is given to a new one, a ring is set up",
    ),
    to_demote(
        "getdents64",
        libc::SYS_getdents64,
        &[],
        "/proc, for the owner of a program that has taken the place of ours",
    ),
    to_demote(
        "flock",
        libc::SYS_flock,
        &[],
        "a flow rule that was lost with the device is inserted again: no other process chooses its place meanwhile",
    ),
    to_dial("sendmmsg", libc::SYS_sendmmsg, &[], "the C library resolves a name"),
    call("recvmsg", libc::SYS_recvmsg, "the C library resolves a name; a successor says what it wants"),
    Call {
        name: "sendmsg",
        number: libc::SYS_sendmsg,
        when: When::Succession,
        cases: &[],
        reason: "the connection is handed to a successor",
    },
    Call {
        name: "accept4",
        number: libc::SYS_accept4,
        when: When::Succession,
        cases: &[],
        reason: "a successor calls; nothing else listens",
    },
    to_dial(
        "bind",
        libc::SYS_bind,
        &[],
        "the new socket takes its port, the ring its queue, a netlink socket its number",
    ),
    to_dial(
        "openat",
        libc::SYS_openat,
        &[dial(
            "for reading",
            &[Test::Masked(2, (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as i64, libc::O_RDONLY as i64)],
        )],
        "what resolving a name, loading a program and opening a ring look up: /etc/hosts, /etc/resolv.conf, /sys/kernel/btf/vmlinux, /sys/devices/system/cpu/possible, \
         /proc/meminfo. No file can be written or made",
    ),
    to_demote(
        "memfd_create",
        libc::SYS_memfd_create,
        &[],
        "what libbpf holds the places of maps with until they are made",
    ),
    to_demote("dup3", libc::SYS_dup3, &[], "a map takes such a place"),
    to_demote("faccessat2", libc::SYS_faccessat2, &[], "whether /sys/kernel/btf/vmlinux can be read"),
    to_dial(
        "clone",
        libc::SYS_clone,
        &[dial("a thread", &[Test::Masked(0, libc::CLONE_THREAD as i64, libc::CLONE_THREAD as i64)])],
        "a new watchdog, a thread that connects; there can be no other process",
    ),
    to_dial("capset", libc::SYS_capset, &[], "a thread gives up what it was born with; more than it has, nobody gets"),
];

/// What is answered with `ENOSYS`.
pub const ABSENT: &[Call] = &[
    Call {
        name: "clone3",
        number: libc::SYS_clone3,
        when: When::Always,
        cases: &[],
        reason: "its arguments lie in memory, where no filter can see them: the C library then takes `clone`",
    },
    Call {
        name: "openat",
        number: libc::SYS_openat,
        when: When::Always,
        cases: &[],
        reason: "the memory allocator looks at /proc/sys/vm/overcommit_memory where it gives memory back, and does without",
    },
    only(
        "socket",
        libc::SYS_socket,
        &[always("AF_UNIX, SOCK_STREAM", &[AF_UNIX, sock_type(libc::SOCK_STREAM)])],
        "the C library looks for a cache of names (nscd), and does without",
    ),
    only(
        "bpf",
        libc::SYS_bpf,
        &[
            command("BPF_PROG_GET_NEXT_ID", &[Test::Is(0, 11)], When::Always),
            command("BPF_TOKEN_CREATE", &[Test::Is(0, 36)], When::Always),
        ],
        "the name of a program that has taken the place of ours, which is told without, and which takes CAP_SYS_ADMIN anyway; \
         a token for loading programs, which libbpf does without",
    ),
];

/// The table as a program for the kernel.
pub(super) struct Filters {
    /// The strictest answer counts: where one ends the process, none allows it.
    programs: [BpfProgram; 2],
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filters").field("instructions", &self.programs.each_ref().map(Vec::len)).finish()
    }
}

impl Filters {
    /// The filters for a process that keeps `keep`, and whose feed needs more than to stream.
    pub(super) fn compile(keep: Keep, needs: Needs) -> Result<Self, Error> {
        let counts = |when| match when {
            When::Always => true,
            When::Dial => needs.dials || keep == Keep::Demote,
            When::Succession => needs.succession,
            When::Demote => keep == Keep::Demote,
        };
        let mut allowed = BTreeMap::new();
        for call in ALLOWED.iter().filter(|call| counts(call.when)) {
            allowed.insert(call.number, rules(call, counts)?);
        }
        let mut absent = BTreeMap::new();
        for call in ABSENT {
            // What is allowed after all is not answered otherwise.
            let by_case = ALLOWED.iter().find(|other| other.number == call.number && counts(other.when));
            if by_case.is_none_or(|_| !call.cases.is_empty()) {
                absent.insert(call.number, rules(call, counts)?);
                let tolerated: &mut Vec<_> = allowed.entry(call.number).or_default();
                if call.cases.is_empty() {
                    tolerated.clear();
                } else {
                    tolerated.extend(rules(call, counts)?);
                }
            }
        }
        let compile = |rules, otherwise, answer| {
            let arch = TargetArch::try_from(ARCH)?;
            Ok::<_, Error>(BpfProgram::try_from(SeccompFilter::new(rules, otherwise, answer, arch)?)?)
        };
        let absent_answer = SeccompAction::Errno(libc::ENOSYS as u32);
        Ok(Self {
            programs: [
                compile(absent, SeccompAction::Allow, absent_answer)?,
                compile(allowed, SeccompAction::KillProcess, SeccompAction::Allow)?,
            ],
        })
    }

    /// Puts the filters before every system call of every thread of this process, for good.
    pub(super) fn apply(&self) -> Result<(), Error> {
        // The first one has to let the second one in.
        self.programs.iter().try_for_each(|program| apply_filter_all_threads(program))
    }
}

/// One rule for each case; none for any arguments.
fn rules(call: &Call, counts: impl Fn(When) -> bool) -> Result<Vec<SeccompRule>, Error> {
    let mut rules = Vec::new();
    for case in call.cases.iter().filter(|case| counts(case.when)) {
        let conditions: Result<Vec<_>, _> = case.tests.iter().map(condition).collect();
        rules.push(SeccompRule::new(conditions?)?);
    }
    Ok(rules)
}

fn condition(test: &Test) -> Result<SeccompCondition, seccompiler::BackendError> {
    let low = |value: i64| value as u64 & u64::from(u32::MAX);
    let (index, operator, value) = match *test {
        Test::Is(index, value) => (index, SeccompCmpOp::Eq, low(value)),
        Test::Masked(index, mask, value) => (index, SeccompCmpOp::MaskedEq(low(mask)), low(value)),
        Test::OwnProcess(index) => (index, SeccompCmpOp::Eq, u64::from(std::process::id())),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value)
}

/// The table as Markdown: what docs/SECURITY.md shows.
#[must_use]
pub fn table() -> String {
    let mut text = String::from("| call | only with | needed with | why |\n|---|---|---|---|\n");
    for (calls, answer) in [(ALLOWED, Answer::Allowed), (ABSENT, Answer::Absent)] {
        for call in calls {
            let cases: Vec<_> = call
                .cases
                .iter()
                .map(|case| match case.when {
                    When::Demote if call.when != When::Demote => format!("{} (demote)", case.what),
                    When::Dial if call.when == When::Always => format!("{} (reconnect)", case.what),
                    _ => case.what.to_owned(),
                })
                .collect();
            let cases = if cases.is_empty() { "".to_owned() } else { cases.join("; ") };
            let when = match (answer, call.when) {
                (Answer::Absent, _) => "`ENOSYS`",
                (_, When::Always) => "always",
                (_, When::Dial) => "reconnect, demote",
                (_, When::Succession) => "succession",
                (_, When::Demote) => "demote",
            };
            text.push_str(&format!("| `{}` | {cases} | {when} | {} |\n", call.name, call.reason));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ACCEPT=1` writes what it should be.
    #[test]
    fn the_documents_show_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SECURITY.md");
        let text = std::fs::read_to_string(path).unwrap();
        let (before, rest) = text.split_once("<!-- calls: begin -->\n").expect("the mark where the table begins");
        let (shown, after) = rest.split_once("<!-- calls: end -->").expect("the mark where the table ends");
        if std::env::var_os("ACCEPT").is_some() {
            let whole = format!("{before}<!-- calls: begin -->\n{}<!-- calls: end -->{after}", table());
            std::fs::write(path, whole).unwrap();
            return;
        }
        assert!(shown == table(), "docs/SECURITY.md shows another table: ACCEPT=1 writes this one:\n{}", table());
    }

    #[test]
    fn every_call_stands_there_once_with_a_reason() {
        for calls in [ALLOWED, ABSENT] {
            let mut seen = std::collections::BTreeSet::new();
            for call in calls {
                assert!(seen.insert(call.number), "{} stands there twice", call.name);
                assert!(!call.reason.is_empty(), "{}: no reason", call.name);
                assert!(
                    call.cases.iter().all(|case| !case.tests.is_empty()),
                    "{}: a case that tests nothing",
                    call.name
                );
            }
        }
    }

    /// A call whose cases are all for more than the call itself would be open to everything without them.
    #[test]
    fn no_call_is_left_without_its_conditions() {
        for call in ALLOWED.iter().filter(|call| !call.cases.is_empty()) {
            assert!(call.cases.iter().any(|case| case.when == call.when), "{}", call.name);
        }
    }

    #[test]
    fn the_filters_fit_what_the_kernel_takes() {
        // BPF_MAXINSNS (linux/bpf_common.h).
        let all = Needs { dials: true, succession: true };
        for (keep, needs) in [(Keep::Demote, all), (Keep::Nothing, all), (Keep::Nothing, Needs::NONE)] {
            let filters = Filters::compile(keep, needs).unwrap();
            println!("{keep:?}, {needs:?}: {filters:?}");
            assert!(filters.programs.iter().all(|program| program.len() < 4096), "{filters:?}");
        }
    }

    #[test]
    fn what_is_hot_has_no_conditions() {
        for name in ["sendto", "recvfrom", "ppoll", "read", "write", "futex"] {
            let call = ALLOWED.iter().find(|call| call.name == name).unwrap();
            assert!(call.cases.is_empty() && call.when == When::Always, "{name}");
        }
    }
}
