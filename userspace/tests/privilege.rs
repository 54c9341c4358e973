//! What a sealed process can do, and what ends it. Each deed is done by a process of its own: this program, started again.
//!
//! Needs no privilege: whoever has none to give up is sealed all the same.

// The deeds are system calls that nothing safe makes.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Trial};
use rustix::net::{AddressFamily, SocketType, netlink, socket};
use wiretick::control::link;
use wiretick::control::steering::lease::{Leases, Site};
use wiretick::control::steering::rule::{DriverRules, FlowRule, RuleStore};
use wiretick::floor::FourTuple;
use wiretick::privilege::{Capabilities, Confined, Keep, Privileges, missing, renounce};

/// Names the deed that this process is to do, and what it keeps.
const DEED: &str = "WIRETICK_TEST_DEED";
const KEEP: &str = "WIRETICK_TEST_KEEP";

/// What becomes of a process that does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It can, and goes on.
    Can,
    /// It is told no (by the filter, that there is no such call; or by the kernel), and goes on.
    Cannot,
    /// The kernel ends it.
    Dies,
}
use Fate::{Can, Cannot, Dies};

type Deed = fn() -> io::Result<()>;

/// What is done; what becomes of it with [`Keep::Demote`]; and with [`Keep::Nothing`].
const DEEDS: &[(&str, Deed, Fate, Fate)] = &[
    ("nothing", || Ok(()), Can, Can),
    ("writing_to_stderr", || io::Write::write_all(&mut io::stderr(), b"alive\n"), Can, Can),
    ("much_memory", much_memory, Can, Can),
    ("sleeping", sleeping, Can, Can),
    ("asking_for_an_interface", || link::by_name("lo").map(drop).map_err(io::Error::other), Can, Can),
    ("a_netlink_socket_of_another_kind", || family(AddressFamily::NETLINK, Some(netlink::NETFILTER)), Dies, Dies),
    ("a_tcp_connection", || TcpListener::bind("127.0.0.1:0")?.local_addr().map(drop), Dies, Dies),
    ("a_tcp_socket", || family(AddressFamily::INET, None), Can, Dies),
    ("connecting", connecting, Can, Dies),
    ("a_udp_socket", || UdpSocket::bind("127.0.0.1:0").map(drop), Can, Dies),
    ("resolving_a_name", || "localhost:1".to_socket_addrs().map(drop), Can, Cannot),
    ("a_packet_socket", || family(AddressFamily::PACKET, None), Dies, Dies),
    ("a_unix_stream_socket", || family(AddressFamily::UNIX, None), Cannot, Cannot),
    ("reading_a_file", || File::open("/proc/meminfo").map(drop), Can, Cannot),
    ("writing_a_file", || File::create("/dev/null").map(drop), Dies, Cannot),
    ("a_thread", || std::thread::Builder::new().spawn(|| ()).map(|thread| drop(thread.join())), Can, Dies),
    ("executing", || Err(Command::new("/bin/true").exec()), Dies, Dies),
    ("a_child", || Command::new("/bin/true").status().map(drop), Dies, Dies),
    ("executable_memory", executable, Dies, Dies),
    ("making_memory_executable", make_executable, Dies, Dies),
    ("signalling_another_process", || parent_gets_nothing(libc::SYS_kill), Dies, Dies),
    ("signalling_a_thread_of_another_process", || parent_gets_nothing(libc::SYS_tgkill), Dies, Dies),
    ("changing_the_user", || call(libc::SYS_setuid, [0; 4]), Dies, Dies),
    ("tracing", || call(libc::SYS_ptrace, [libc::PTRACE_TRACEME.into(), 0, 0, 0]), Dies, Dies),
    ("typing_into_a_terminal", || call(libc::SYS_ioctl, [0, libc::TIOCSTI as i64, 0, 0]), Dies, Dies),
    ("another_program_for_the_kernel", || call(libc::SYS_bpf, [5, 0, 0, 0]), Cannot, Dies),
    ("pinning_a_map", || call(libc::SYS_bpf, [6, 0, 0, 0]), Dies, Dies),
    ("core_dumps_again", || call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0]), Dies, Dies),
    ("a_namespace", || call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]), Dies, Dies),
    ("asking_for_flow_rules", || DriverRules::of("lo").locations().map(drop), Cannot, Dies),
    ("aborting", || std::process::abort(), Can, Can),
];

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(DEED) {
        return child(&name);
    }
    let mut trials: Vec<Trial> = Vec::new();
    for &(name, _, demote, nothing) in DEEDS {
        for (keep, fate) in [("demote", demote), ("nothing", nothing)] {
            let test = move || {
                assert_eq!(fate_of(name, keep), fate);
                Ok(())
            };
            trials.push(Trial::test(format!("keeping_{keep}::{name}"), test));
        }
    }
    trials.push(Trial::test("a_second_thread_is_noticed", || {
        assert_eq!(fate_of("second_thread", "demote"), Can);
        Ok(())
    }));
    trials.push(Trial::test("a_thread_that_has_just_ended_is_none", || {
        assert_eq!(fate_of("ended_thread", "demote"), Can);
        Ok(())
    }));
    trials.push(Trial::test("a_thread_that_keeps_what_it_has_is_noticed", || {
        assert_eq!(fate_of("keeping_thread", "nothing"), Can);
        Ok(())
    }));
    trials.push(Trial::test("nothing_is_held_and_nothing_can_be_had", || {
        assert_eq!(fate_of("sets", "nothing"), Can);
        Ok(())
    }));
    for keep in ["demote", "nothing"] {
        trials.push(Trial::test(format!("keeping_{keep}::flow_rules_are_kept_account_of"), move || {
            assert_eq!(fate_of("flow_rules", keep), Can);
            Ok(())
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Has another process do it.
fn fate_of(name: &str, keep: &str) -> Fate {
    // A sealed process deletes no files.
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.env(DEED, name).env(KEEP, keep).env("TMPDIR", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    match (output.status.code(), output.status.signal()) {
        (Some(0), _) => Can,
        (Some(code), _) if code == i32::from(REFUSED) => Cannot,
        (None, Some(libc::SIGSYS)) => Dies,
        (None, Some(libc::SIGABRT)) if name == "aborting" => Can,
        other => panic!("{name}: {other:?}: {said}"),
    }
}

/// The exit code of a process that was told no.
const REFUSED: u8 = 38;

fn confined() -> Confined {
    let keep = if std::env::var(KEEP).as_deref() == Ok("demote") { Keep::Demote } else { Keep::Nothing };
    Privileges::new(keep).confine().unwrap()
}

fn child(name: &str) -> ExitCode {
    // What these do comes before the seal, or in its place.
    match name {
        "second_thread" => {
            let (_hold, held) = std::sync::mpsc::channel::<()>();
            std::thread::spawn(move || held.recv());
            let error = Privileges::new(Keep::Demote).confine().unwrap_err().to_string();
            assert!(error.contains("2 threads"), "{error}");
            return ExitCode::SUCCESS;
        }
        "ended_thread" => return ended_thread(),
        "keeping_thread" => return keeping_thread(),
        "sets" => return sets(),
        "flow_rules" => return flow_rules(),
        "cost" => return cost(),
        _ => {}
    }
    let (_, deed, ..) = DEEDS.iter().find(|(other, ..)| *other == name).expect("a deed");
    confined().seal().unwrap();
    match deed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(REFUSED)
        }
    }
}

/// Joined, and yet there for a while: files of its own, which the kernel closes after it has woken whoever waits.
fn ended_thread() -> ExitCode {
    for _ in 0..20 {
        let ending = std::thread::spawn(|| {
            call(libc::SYS_unshare, [libc::CLONE_FILES.into(), 0, 0, 0]).unwrap();
            (0..500).for_each(|_| std::mem::forget(UdpSocket::bind("127.0.0.1:0").unwrap()));
        });
        ending.join().unwrap();
        drop(confined());
    }
    ExitCode::SUCCESS
}

/// As root, a thread that has not given up its own is named; without privilege there is nothing to notice.
fn keeping_thread() -> ExitCode {
    let privileged = missing(Capabilities::NET_ADMIN).is_empty();
    let confined = confined();
    let (hold, held) = std::sync::mpsc::channel::<()>();
    let keeping = std::thread::Builder::new().name("keeping".to_owned()).spawn(move || held.recv()).unwrap();
    let began = Instant::now();
    match confined.seal() {
        Err(error) if privileged => {
            let error = error.to_string();
            assert!(error.contains("keeping") && error.contains("CAP_NET_ADMIN"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(5));
        }
        result => assert!(!privileged && result.is_ok(), "{result:?}"),
    }
    drop(hold);
    let _ = keeping.join().unwrap();
    ExitCode::SUCCESS
}

/// The rules of a NIC that is not there.
#[derive(Clone, Debug, Default)]
struct Rules(Arc<Mutex<Vec<FlowRule>>>);

impl RuleStore for Rules {
    fn chooses_locations(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn locations(&self) -> io::Result<(Vec<u32>, u32)> {
        Ok(((0..self.0.lock().unwrap().len() as u32).collect(), 0))
    }

    fn rule(&self, location: u32) -> io::Result<Option<FlowRule>> {
        let found = self.0.lock().unwrap().get(location as usize).copied();
        found.map(Some).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    fn insert(&self, rule: &FlowRule, _: Option<u32>) -> io::Result<u32> {
        let mut rules = self.0.lock().unwrap();
        rules.push(*rule);
        Ok(rules.len() as u32 - 1)
    }

    fn delete(&self, location: u32) -> io::Result<()> {
        self.0.lock().unwrap().remove(location as usize);
        Ok(())
    }
}

/// Inserted before and after the seal, and withdrawn in a sealed process, as far as it may; what is withdrawn is struck out.
fn flow_rules() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leases");
    let (rules, leases) = (Rules::default(), Leases::new(&path));
    let insert = |port| {
        let tuple = FourTuple { local: ([192, 0, 2, 1], port).into(), remote: ([198, 51, 100, 7], 443).into() };
        let rule = FlowRule { tuple, vlan: None, queue: 3 };
        leases.insert(Box::new(rules.clone()), Site::here(1, "lo").unwrap(), &rule).unwrap()
    };
    let first = insert(1);
    // Opened now: it may not be possible later.
    let file = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let file = file.filter(|path| path.extension().is_some()).map(|path| File::open(path).unwrap()).next().unwrap();
    let confined = confined();
    let demote = confined.keep() == Keep::Demote;
    confined.seal().unwrap();
    if demote {
        // What another interface, or a device that was reset, makes necessary.
        drop(insert(2));
    }
    drop((first, leases));
    let (written, left) = (io::read_to_string(file).unwrap(), rules.0.lock().unwrap().len());
    if missing(Capabilities::NET_ADMIN).is_empty() {
        assert!(demote && left == 0 && written.contains("gone 0\n") && written.contains("gone 1\n"), "{written}");
    } else {
        assert!(left > 0 && !written.contains("gone"), "{written}");
    }
    // The folder cannot be deleted any more: the test does it.
    std::mem::forget(folder);
    ExitCode::SUCCESS
}

fn sets() -> ExitCode {
    let confined = confined();
    // A thread that renounces in good time does not stand in the way.
    let renouncing = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(20));
        renounce().unwrap();
        std::thread::sleep(Duration::from_millis(200));
    });
    // Opened now: it cannot be once the process is sealed.
    let status = File::open("/proc/self/status").unwrap();
    confined.seal().unwrap();
    let status = io::read_to_string(status).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "a filter");
    renouncing.join().unwrap();
    ExitCode::SUCCESS
}

/// What the filter costs: `WIRETICK_TEST_DEED=cost WIRETICK_TEST_KEEP=demote` with this program.
fn cost() -> ExitCode {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let confined = confined();
    // The least of ten rounds: others use this machine too.
    let measure = |what: &str, call: &dyn Fn()| {
        let round = || {
            let began = Instant::now();
            (0..200_000).for_each(|_| call());
            began.elapsed() / 200
        };
        let least = (0..10).map(|_| round()).min().unwrap();
        println!("{what}: {} ns", least.as_nanos() as f64 / 1e3);
    };
    let receive = || drop(socket.recv(&mut [0; 8]));
    let look = || assert!(rustix::net::sockopt::socket_error(&socket).is_ok());
    let command = || assert!(rustix::io::fcntl_getfd(&socket).is_ok());
    measure("recvfrom, no filter", &receive);
    measure("getsockopt, no filter", &look);
    measure("fcntl, no filter", &command);
    confined.seal().unwrap();
    measure("recvfrom, sealed", &receive);
    measure("getsockopt, sealed", &look);
    measure("fcntl (its arguments are looked at), sealed", &command);
    ExitCode::SUCCESS
}

fn sleeping() -> io::Result<()> {
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}

fn much_memory() -> io::Result<()> {
    let mut bytes = Vec::new();
    while bytes.len() < 64 << 20 {
        bytes.resize(bytes.len() * 2 + 1, 1_u8);
    }
    drop(std::hint::black_box(bytes));
    Ok(())
}

fn family(family: AddressFamily, protocol: Option<rustix::net::Protocol>) -> io::Result<()> {
    let kind = if family == AddressFamily::PACKET { SocketType::RAW } else { SocketType::STREAM };
    Ok(socket(family, kind, protocol).map(drop)?)
}

fn connecting() -> io::Result<()> {
    match TcpStream::connect_timeout(&([127, 0, 0, 1], 1).into(), Duration::from_secs(1)) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => other.map(drop),
    }
}

fn executable() -> io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
    // SAFETY: a mapping of its own, at a place of the kernel's choice.
    unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE)? };
    Ok(())
}

fn make_executable() -> io::Result<()> {
    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
    // SAFETY: a mapping of its own, at a place of the kernel's choice, that nothing else knows.
    unsafe {
        let page = mmap_anonymous(std::ptr::null_mut(), 4096, ProtFlags::READ, MapFlags::PRIVATE)?;
        Ok(mprotect(page, 4096, MprotectFlags::READ | MprotectFlags::EXEC)?)
    }
}

/// Signal 0: nothing is sent, but whether it could be is found out.
fn parent_gets_nothing(number: libc::c_long) -> io::Result<()> {
    let parent = i64::from(std::os::unix::process::parent_id().cast_signed());
    let arguments = if number == libc::SYS_kill { [parent, 0, 0, 0] } else { [parent, parent, 0, 0] };
    call(number, arguments)
}

fn call(number: libc::c_long, [a, b, c, d]: [i64; 4]) -> io::Result<()> {
    // SAFETY: none of the calls made here is given an address; what they do ends with this process.
    let result = unsafe { libc::syscall(number, a, b, c, d) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
