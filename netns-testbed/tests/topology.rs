//! The topology against the kernel: what it connects, what stands on its wires, and that nothing of it is ever seen or left
//! behind on the machine.
//!
//! All of it needs root. Without, every test is shown as ignored, with the reason.

mod common;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, recording, secure, trades};
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use rustls::StreamOwned;
use tungstenite::Message;
use wiretick_testbed::capture::{Capture, EthernetFrame};
use wiretick_testbed::exchange::{Config, Exchange, Feed, Pace};
use wiretick_testbed::impair;
use wiretick_testbed::topology::{Host, Namespace, Plan, Topology};

/// Makes this program build a topology, say so, and wait to be killed.
const BUILDER: &str = "--build-a-topology-and-wait";

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == BUILDER) {
        return match build_and_wait() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let tests: Vec<Trial> = vec![
        test("tcp_connects_both_ways_over_ipv4_and_ipv6", || connects(&Plan::default())),
        test("tcp_connects_through_a_router", || connects(&Plan { router: true, ..Plan::default() })),
        test("tcp_connects_over_several_queues", || connects(&Plan { queues: 4, ..Plan::default() })),
        test("tcp_connects_through_a_wire_that_impairs", || {
            let wire = Some(impair::Plan::default());
            connects(&Plan { wire: wire.clone(), ..Plan::default() })?;
            connects(&Plan { wire, router: true, queues: 2, ..Plan::default() })
        }),
        test("interfaces_are_as_the_plan_says", interfaces),
        test("the_machine_sees_nothing_of_a_topology", invisible),
        test("nothing_is_left_when_the_guard_is_dropped", dropped),
        test("nothing_is_left_when_its_process_is_killed", killed),
        test("children_live_inside_and_see_their_own_sysfs", children),
        test("closures_run_inside_and_the_caller_stays_outside", closures),
        test("frames_on_the_wire_are_whole", || wire(false)),
        test("with_offloads_left_on_they_are_not", || wire(true)),
        test("frames_keep_to_another_mtu", other_mtu),
        test("a_burst_waits_in_the_queue", burst),
        test("a_feed_arrives_through_a_router", feed),
        test("plans_out_of_range_are_refused", refused),
        test("without_capabilities_the_error_says_what_is_needed", unprivileged),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

type Problem = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), Problem>;

/// A test that needs root.
fn test(name: &str, run: fn() -> Outcome) -> Trial {
    Trial::ignorable_test(name, move || {
        let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        if !capabilities(None)?.effective.contains(needed) {
            return Ok(Completion::ignored_with("needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root"));
        }
        run().map(|()| Completion::Completed).map_err(Failed::from)
    })
}

fn connects(plan: &Plan) -> Outcome {
    let topology = Topology::new(plan)?;
    let (client, exchange) = (&topology.client, &topology.exchange);
    for (from, to) in [(client, exchange), (exchange, client)] {
        for address in [to.v4(0), to.v6(0)] {
            let listener = to.ns.listen(address)?;
            let mut near = from.ns.connect(listener.local_addr()?)?;
            let (mut far, peer) = listener.accept()?;
            assert!([IpAddr::V4(from.interface.ipv4), IpAddr::V6(from.interface.ipv6)].contains(&peer.ip()));
            near.write_all(b"ping")?;
            let mut word = [0; 4];
            far.read_exact(&mut word)?;
            far.write_all(b"pong")?;
            near.read_exact(&mut word)?;
            assert_eq!(&word, b"pong");
        }
    }
    // The first hop is what the host says it is: the exchange itself, or the router's nearer side.
    let neighbours = client.ns.enter(|| fs::read_to_string("/proc/thread-self/net/arp"))??;
    let mac = client.next_hop.mac.map(|byte| format!("{byte:02x}")).join(":");
    let line = neighbours.lines().find(|line| line.contains(&mac)).ok_or("no such neighbour")?;
    assert!(line.starts_with(&client.next_hop.ipv4.to_string()), "{neighbours}");
    assert_eq!(topology.router.is_some(), plan.router);
    Ok(())
}

fn interfaces() -> Outcome {
    let topology = Topology::new(&Plan { mtu: 3000, queues: 2, ..Plan::default() })?;
    for host in [&topology.client, &topology.exchange] {
        let folder = format!("/sys/class/net/{}", host.interface.name);
        host.ns.enter(|| -> Outcome {
            let read = |file: &str| fs::read_to_string(format!("{folder}/{file}")).map(|text| text.trim().to_owned());
            assert_eq!(read("mtu")?, "3000");
            assert_eq!(read("operstate")?, "up");
            assert_eq!(read("ifindex")?, host.interface.index.to_string());
            assert_eq!(read("address")?, host.interface.mac.map(|byte| format!("{byte:02x}")).join(":"));
            let queues: BTreeSet<_> = fs::read_dir(format!("{folder}/queues"))?
                .map(|entry| entry.map(|entry| entry.file_name().into_string().unwrap_or_default()))
                .collect::<Result<_, _>>()?;
            assert_eq!(queues, ["rx-0", "rx-1", "tx-0", "tx-1"].map(str::to_owned).into());
            Ok(())
        })??;
    }
    Ok(())
}

/// What the machine shows of its own network: devices, addresses, routes, named namespaces.
fn machine() -> Result<Vec<String>, Problem> {
    let mut seen = Vec::new();
    for entry in fs::read_dir("/sys/class/net")? {
        seen.push(format!("{:?}", entry?.file_name()));
    }
    seen.sort();
    // Names only: the counters behind them move.
    seen.extend(
        fs::read_to_string("/proc/net/dev")?.lines().filter_map(|line| line.split(':').next().map(str::to_owned)),
    );
    seen.extend(fs::read_to_string("/proc/net/route")?.lines().map(str::to_owned));
    seen.extend(fs::read_to_string("/proc/net/if_inet6").unwrap_or_default().lines().map(str::to_owned));
    for folder in ["/run/netns", "/var/run/netns"] {
        seen.push(format!("{:?}", fs::read_dir(folder).map(Iterator::count).ok()));
    }
    Ok(seen)
}

/// Whether any process stands in the namespace or holds a descriptor of it.
fn is_held(inode: u64) -> Result<bool, Problem> {
    let link = format!("net:[{inode}]");
    for process in fs::read_dir("/proc")? {
        let path = process?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit())) {
            continue;
        }
        // Processes come and go while this looks at them.
        let tasks =
            fs::read_dir(path.join("task")).into_iter().flatten().flatten().map(|task| task.path().join("ns/net"));
        let descriptors = fs::read_dir(path.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        for candidate in tasks.chain(descriptors) {
            if fs::read_link(&candidate).is_ok_and(|target| target.to_string_lossy() == link) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn inodes(topology: &Topology) -> Vec<u64> {
    let router = topology.router.as_ref().map(|router| router.ns.inode());
    [topology.client.ns.inode(), topology.exchange.ns.inode()].into_iter().chain(router).collect()
}

fn invisible() -> Outcome {
    let before = machine()?;
    let topology = Topology::new(&Plan { router: true, ..Plan::default() })?;
    assert_eq!(machine()?, before);
    drop(topology);
    assert_eq!(machine()?, before);
    Ok(())
}

fn dropped() -> Outcome {
    let topology = Topology::new(&Plan { router: true, ..Plan::default() })?;
    let inodes = inodes(&topology);
    for &inode in &inodes {
        assert!(is_held(inode)?, "or the search finds nothing");
    }
    drop(topology);
    for inode in inodes {
        assert!(!is_held(inode)?);
    }
    Ok(())
}

/// The other side of [`killed`]: builds a topology with a child process inside, writes down what there is, and waits.
fn build_and_wait() -> Outcome {
    let topology = Topology::new(&Plan { router: true, ..Plan::default() })?;
    let child = topology.exchange.ns.command("sleep").arg("1000").spawn()?;
    let inodes: Vec<String> = inodes(&topology).iter().map(ToString::to_string).collect();
    println!("{} {}", child.id(), inodes.join(" "));
    thread::sleep(Duration::from_secs(60));
    Ok(())
}

fn killed() -> Outcome {
    let before = machine()?;
    let mut builder = Command::new(std::env::current_exe()?).arg(BUILDER).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(builder.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    let numbers: Vec<u64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let (child, inodes) = numbers.split_first().ok_or("the builder said nothing")?;
    assert_eq!(inodes.len(), 3);
    for &inode in inodes {
        assert!(is_held(inode)?, "or the search finds nothing");
    }
    assert!(is_alive(*child));
    // SIGKILL: nothing of the builder's runs any more.
    builder.kill()?;
    builder.wait()?;
    let deadline = Instant::now() + PATIENCE;
    let is_gone = || Ok::<bool, Problem>(!is_alive(*child) && !any(inodes, is_held)?);
    while !is_gone()? {
        assert!(Instant::now() < deadline, "something is left");
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(machine()?, before);
    Ok(())
}

/// Whether a process runs. One that is dead but has not been collected does not.
fn is_alive(process: u64) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

fn any(inodes: &[u64], test: fn(u64) -> Result<bool, Problem>) -> Result<bool, Problem> {
    for &inode in inodes {
        if test(inode)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn children() -> Outcome {
    let topology = Topology::new(&Plan::default())?;
    let shell = "ls /sys/class/net; readlink /proc/self/ns/net; grep Cpus_allowed_list /proc/self/status";
    let run = |mut command: Command| -> Result<Vec<String>, Problem> {
        let output = command.args(["-c", shell]).output()?;
        assert!(output.status.success());
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    };
    let seen = run(topology.client.ns.command("sh"))?;
    assert_eq!(seen[..2], ["client0", "lo"]);
    assert_eq!(seen[2], format!("net:[{}]", topology.client.ns.inode()));
    let pinned = run(topology.exchange.ns.command_on_core("sh", 0)?)?;
    assert_eq!(pinned[0], "exchange0");
    assert_eq!(pinned[3], "Cpus_allowed_list:\t0");
    assert!(topology.client.ns.command_on_core("sh", 1_000_000).is_err());
    // The machine's own /sys is what it was: the mount of the child stayed with the child.
    assert!(!fs::exists("/sys/class/net/client0")? && fs::exists("/sys/class/net/lo")?);
    let missing = topology.client.ns.command("no-such-program").spawn();
    assert_eq!(missing.map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    Ok(())
}

fn closures() -> Outcome {
    let own = || fs::metadata("/proc/thread-self/ns/net").map(|it| it.ino());
    let outside = own()?;
    let ns = Namespace::new()?;
    let inside = ns.enter(|| {
        // Threads of the closure are inside, too.
        thread::spawn(own).join().map_err(|_| "the thread panicked")
    })??;
    assert_eq!(inside?, ns.inode());
    assert_ne!(ns.inode(), outside);
    let devices = ns.enter(|| fs::read_dir("/sys/class/net").map(Iterator::count))??;
    assert_eq!(devices, 1, "lo");
    assert_eq!(own()?, outside);
    let caught = std::panic::catch_unwind(|| ns.enter(|| panic!("as asked")));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"as asked"));
    Ok(())
}

/// Bytes of a bulk transfer: enough for segments to be joined, if anything joins them.
const BULK_BYTES: usize = 2 << 20;

/// Sends bulk data over IPv4 and over IPv6 from `from` to `to` and answers the frames that `to` saw of it.
fn bulk(from: &Host, to: &Host) -> Result<Vec<EthernetFrame>, Problem> {
    let capture = Capture::start(to)?;
    for address in [to.v4(0), to.v6(0)] {
        let listener = to.ns.listen(address)?;
        let mut near = from.ns.connect(listener.local_addr()?)?;
        let (mut far, _) = listener.accept()?;
        far.set_read_timeout(Some(PATIENCE))?;
        let reader = thread::spawn(move || std::io::copy(&mut far, &mut std::io::sink()));
        near.write_all(&vec![0x5a; BULK_BYTES])?;
        drop(near);
        assert_eq!(reader.join().map_err(|_| "the reader panicked")??, BULK_BYTES as u64);
    }
    let mac = to.next_hop.mac;
    Ok(capture.finish()?.into_iter().filter(|frame| frame.is_from(mac)).collect())
}

/// How many of the frames are longer than the MTU allows, how many TCP segments there are with payload, and how many of
/// those have a wrong checksum.
fn count(frames: &[EthernetFrame], mtu: u32) -> (usize, usize, usize) {
    let long = frames.iter().filter(|frame| frame.wire_bytes > mtu as usize + 14).count();
    let segments: Vec<_> =
        frames.iter().filter_map(EthernetFrame::tcp).filter(|segment| !segment.payload().is_empty()).collect();
    let wrong = segments.iter().filter(|segment| !segment.checksum_is_right()).count();
    (long, segments.len(), wrong)
}

fn wire(offloads: bool) -> Outcome {
    for router in [false, true] {
        let topology = Topology::new(&Plan { router, offloads, ..Plan::default() })?;
        for (from, to) in [(&topology.exchange, &topology.client), (&topology.client, &topology.exchange)] {
            let (long, segments, wrong) = count(&bulk(from, to)?, 1500);
            if offloads {
                // What the other case shows the absence of.
                assert!(long > 20, "{long} of {segments} segments are longer than the MTU");
                assert!(wrong > segments / 2, "{wrong} of {segments} checksums are wrong");
            } else {
                // 4 MiB in segments of 1428 or 1448 bytes; some may have been seen twice.
                assert!(segments >= 2 * BULK_BYTES / 1448, "{segments} segments");
                assert_eq!((long, wrong), (0, 0), "of {segments} segments");
            }
        }
    }
    Ok(())
}

fn other_mtu() -> Outcome {
    for mtu in [1280, 9000] {
        let topology = Topology::new(&Plan { mtu, ..Plan::default() })?;
        let frames = bulk(&topology.exchange, &topology.client)?;
        let longest = frames.iter().map(|frame| frame.wire_bytes).max();
        assert_eq!(longest, Some(mtu as usize + 14));
        assert_eq!(count(&frames, mtu).2, 0);
    }
    Ok(())
}

fn burst() -> Outcome {
    const BURST: usize = 900;
    let topology = Topology::new(&Plan::default())?;
    let client = topology.client.ns.enter(|| std::net::UdpSocket::bind(topology.client.v4(0)))??;
    client.set_read_timeout(Some(PATIENCE))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&client, 16 << 20)?;
    let exchange = topology.exchange.ns.enter(|| std::net::UdpSocket::bind(topology.exchange.v4(0)))??;
    exchange.connect(client.local_addr()?)?;
    // The neighbour must be known: only three frames wait for that.
    exchange.send(b"first")?;
    client.recv(&mut [0; 100])?;
    for number in 0..BURST {
        exchange.send(&number.to_be_bytes())?;
    }
    for number in 0..BURST {
        let mut payload = [0; 8];
        client.recv(&mut payload)?;
        assert_eq!(usize::from_be_bytes(payload), number);
    }
    Ok(())
}

fn feed() -> Outcome {
    let topology = Topology::new(&Plan { router: true, ..Plan::default() })?;
    let config = Config { feed: Feed::Replay(recording(&trades(2000))), pace: Pace::Saturate, batch: 16, ..secure() };
    let listener = topology.exchange.ns.listen(SocketAddr::new([0_u16; 8].into(), 0))?;
    let port = listener.local_addr()?.port();
    let exchange = Exchange::start(config, listener)?;
    for address in [topology.exchange.v4(port), topology.exchange.v6(port)] {
        let socket: TcpStream = topology.client.ns.connect(address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let stream = StreamOwned::new(common::tls_client(common::roots()), socket);
        let (mut client, _) = tungstenite::client(format!("wss://{}/ws", common::NAME), stream)?;
        let mut received = Vec::new();
        while let Message::Text(text) = client.read()? {
            received.push(text.to_string());
        }
        while client.read().is_ok() {}
        assert_eq!(received, trades(2000));
    }
    assert!(exchange.wait_ended(2, PATIENCE));
    assert!(exchange.stop().errors().is_empty());
    Ok(())
}

fn unprivileged() -> Outcome {
    let told = thread::spawn(|| {
        // Of this thread and those it starts; the process keeps its own.
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none)?;
        let error = Topology::new(&Plan::default()).map(|_| "it was built").unwrap_err();
        Ok::<String, std::io::Error>(error.to_string())
    });
    let told = told.join().map_err(|_| "the thread panicked")??;
    assert_eq!(told, "creating a network namespace needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root");
    Ok(())
}

fn refused() -> Outcome {
    for plan in [
        Plan { mtu: 1279, ..Plan::default() },
        Plan { mtu: 65_536, ..Plan::default() },
        Plan { queues: 0, ..Plan::default() },
        Plan { queues: 1025, ..Plan::default() },
        Plan { offloads: true, wire: Some(impair::Plan::default()), ..Plan::default() },
    ] {
        let told = Topology::new(&plan).map(|_| ()).unwrap_err().to_string();
        assert!(told.starts_with("this plan cannot be built"), "{told}");
    }
    Ok(())
}
