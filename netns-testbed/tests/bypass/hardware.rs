//! What the NIC knows of frames: asked through the program that is bound to the interface, or not asked, with the reason.
//!
//! A veth answers (drivers/net/veth.c): it has no clock, so its time is zero, or absent where the frame never was a packet of
//! the kernel's; its hash is the kernel's; a VLAN tag is "taken off" where the sender has left it beside the packet. A tap has
//! no answers at all. So everything is there but a NIC's time, which no device has that can be had without hardware.
#![allow(unsafe_code, reason = "programs of a few instructions, handed to the kernel; a tap")]

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use libbpf_rs::libbpf_sys;
use wiretick::control::attach::{AsksNic, AttachMode, Attachment, Pieces, Request};
use wiretick::control::link;
use wiretick::feed::{Feed, Mode, Report};
use wiretick::floor::{Clock, FourTuple, Monotonic};
use wiretick::handover::FlowMap as _;
use wiretick::lane::Way;
use wiretick::ring::{BindMode, Ring, RxFrame, XskConfig, XskRing};
use wiretick::timing::{Stage, Stages, Timed};
use wiretick_testbed::exchange::Pace;
use wiretick_testbed::topology::{Plan, Topology};
use wiretick_xdp::{Answer, Hints, Verdict, VlanTag};

use crate::Test;
use crate::jumbo::{digest, lines, replay};
use crate::rig::{PATIENCE, Rig, Seen, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("hardware::a_veth_is_asked_and_each_frame_carries_its_answers", asked),
    ("hardware::frames_in_several_chunks_carry_them_too", large),
    ("hardware::in_skb_mode_nobody_can_be_asked_and_the_reason_is_told", not_in_skb_mode),
    ("hardware::a_frame_that_was_never_a_packet_of_the_kernels_has_no_time", absent),
    ("hardware::a_tag_that_was_taken_off_is_part_of_the_flow_all_the_same", stripped),
    ("hardware::a_driver_that_knows_nothing_says_so", unsupported),
    ("hardware::a_device_that_cannot_be_bound_to_is_named", refused),
    ("hardware::behind_the_bound_program_a_feed_goes_out_and_home", out_and_home),
    ("hardware::the_program_tells_which_it_was", program),
];

/// Runs a feed whose arrivals are stamped, on the client's machine.
fn run(rig: &Rig, mode: Mode) -> (Seen, Stages, Report) {
    rig.topology
        .client
        .ns
        .enter(|| {
            let mut feed: Feed = rig.builder().mode(mode).stamp_arrivals(true).connect().unwrap();
            let mut timed = Timed::new(Seen::default());
            let until = Monotonic.now() + PATIENCE;
            while feed.outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until, "{:?}", feed.report());
                feed.turn(now, &mut timed).unwrap();
            }
            let (stages, report) = (timed.stages().clone(), feed.report());
            (timed.into_inner(), stages, report)
        })
        .unwrap()
}

fn asked() {
    for ipv6 in [false, true] {
        let rig = Rig::with(&Plan::default(), synthetic(10_000, 5_000), ipv6);
        let (seen, stages, report) = run(&rig, Mode::Driver);
        assert_eq!((seen.messages, seen.gaps, report.mode), (5_000, 0, Mode::Driver));
        assert_eq!((&report.asks_nic, report.ptp_clock), (&AsksNic::Yes, None), "a veth has no clock");
        let (nic, received) = (stages.nic.counters, report.ring.unwrap().frames_received);
        // Frames that came during the promotion were not shown to the handler one by one.
        assert!(nic.frames > 1_000 && nic.frames <= received, "{nic:?} of {received}");
        assert_eq!((nic.time_zero, nic.hash_known), (nic.frames, nic.frames), "{nic:?}");
        assert_eq!((nic.time_known, nic.time_absent, nic.time_failed, nic.vlan_stripped), (0, 0, 0, 0), "{nic:?}");
        assert_eq!(stages.nic.near(&wiretick::floor::SystemClock::all()), None, "zero is no time");
        assert!(stages.of(Stage::Ring).len() > 1_000, "and the program's own time is there as ever");
        rig.await_clean();
    }
}

fn large() {
    let lines = lines(20_000);
    let plan = Plan { mtu: 9_000, ..Plan::default() };
    let rig = Rig::with(&plan, replay(lines.clone(), Pace::Saturate), false);
    let (seen, stages, report) = run(&rig, Mode::Driver);
    assert_eq!((seen.sha256(), &report.asks_nic), (digest(&lines), &AsksNic::Yes));
    let (nic, ring) = (stages.nic.counters, report.ring.unwrap());
    assert!(ring.frames_joined > 300 && nic.frames + 100 > ring.frames_received, "{nic:?} {ring:?}");
    assert_eq!((nic.time_zero, nic.hash_known), (nic.frames, nic.frames), "{nic:?}");
}

fn not_in_skb_mode() {
    let rig = Rig::new(synthetic(10_000, 5_000));
    let (seen, stages, report) = run(&rig, Mode::Skb);
    assert_eq!((seen.messages, report.mode), (5_000, Mode::Skb));
    let AsksNic::No(reason) = &report.asks_nic else { panic!("{:?}", report.asks_nic) };
    assert!(reason.contains("generic XDP"), "{reason}");
    assert_eq!(stages.nic.counters.frames, 0);
    assert!(stages.of(Stage::Ring).len() > 1_000, "the times of arrival do not need it");
}

/// A ring on `interface` behind the bound program, which knows one flow. To be called in the interface's namespace.
struct Bench {
    ring: XskRing,
    attachment: Attachment,
    batch: Vec<RxFrame>,
}

impl Bench {
    fn new(interface: &str, tuple: &FourTuple, vlan: Option<u16>, asks_nic: bool) -> Self {
        let link = link::by_name(interface).unwrap();
        let config = XskConfig { stamped: true, ..XskConfig::new(interface, 0, BindMode::Copy) };
        let mut ring = XskRing::open(&config).unwrap();
        let request = Request { stamped: true, asks_nic, ..Request::new(AttachMode::Native, ring.sockets()) };
        let mut attachment = Attachment::attach(&link, &request).unwrap();
        assert_eq!(attachment.asks_nic(), if asks_nic { &AsksNic::Yes } else { &AsksNic::NotWanted });
        if asks_nic {
            ring.expect_hints();
        }
        attachment.insert(tuple, vlan).unwrap();
        Self { ring, attachment, batch: Vec::new() }
    }

    /// The answers that came with the next `count` frames, and the frames' first bytes.
    fn receive(&mut self, count: usize) -> Vec<(Option<Hints>, Vec<u8>)> {
        let until = Monotonic.now() + Duration::from_secs(5);
        let mut found = Vec::new();
        while found.len() < count {
            assert!(Monotonic.now() < until, "{} of {count} frames: {:?}", found.len(), self.tally());
            self.ring.receive(&mut self.batch, 64);
            for frame in self.batch.drain(..) {
                found.push((self.ring.hints(&frame), frame.packet()[..20].to_vec()));
                self.ring.recycle(frame);
            }
            self.ring.flush().unwrap();
        }
        assert_eq!(found.len(), count);
        found
    }

    fn tally(&self) -> Vec<(Verdict, u64)> {
        let tallies = self.attachment.tallies().unwrap();
        let counts = tallies.iter().flat_map(|(_, tally)| tally.iter()).filter(|(_, count)| *count != 0);
        counts.collect()
    }

    fn count(&self, verdict: Verdict) -> u64 {
        self.tally().iter().filter(|(other, _)| *other == verdict).map(|(_, count)| count).sum()
    }
}

/// A TCP segment over IPv4 without any content, whose checksums are left zero: the XDP program looks at none.
fn segment(to: [u8; 6], tuple: &FourTuple) -> Vec<u8> {
    let (SocketAddr::V4(local), SocketAddr::V4(remote)) = (tuple.local, tuple.remote) else { panic!("IPv4 only") };
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 9], &[8, 0], &[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
    frame.extend(remote.ip().octets());
    frame.extend(local.ip().octets());
    frame.extend(remote.port().to_be_bytes());
    frame.extend(local.port().to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    // The least that Ethernet carries.
    frame.resize(60, 0);
    frame
}

fn tuple(topology: &Topology) -> FourTuple {
    FourTuple { local: topology.client.v4(40_000), remote: topology.exchange.v4(443) }
}

/// A program of these instructions (`struct bpf_insn`, linux/bpf.h).
fn load(kind: u32, instructions: &[u64]) -> OwnedFd {
    // SAFETY: the name and the licence are C strings, the instructions are as many as is said, and nothing is kept.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            kind,
            c"few".as_ptr(),
            c"Dual MIT/GPL".as_ptr(),
            instructions.as_ptr().cast(),
            instructions.len() as u64,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "a program of {} instructions: {}", instructions.len(), std::io::Error::from_raw_os_error(-fd));
    // SAFETY: the kernel has just made it, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// `rD = value` and `call helper` and `exit`.
const fn set(register: u64, value: u32) -> u64 {
    0xb7 | register << 8 | (value as u64) << 32
}
const fn call(helper: u32) -> u64 {
    0x85 | (helper as u64) << 32
}
const EXIT: u64 = 0x95;

/// Has `frame` leave over the interface as if a driver had redirected it there: it is no packet of the kernel's anywhere on its
/// way to the other end of a veth.
fn send_without_kernel(interface: u32, frame: &[u8]) {
    const BPF_FUNC_REDIRECT: u32 = 23;
    let program = load(libbpf_sys::BPF_PROG_TYPE_XDP, &[set(1, interface), set(2, 0), call(BPF_FUNC_REDIRECT), EXIT]);
    // SAFETY: zero is a value of every field.
    let mut options = unsafe { std::mem::zeroed::<libbpf_sys::bpf_test_run_opts>() };
    options.sz = size_of_val(&options) as u64;
    options.data_in = frame.as_ptr().cast();
    options.data_size_in = u32::try_from(frame.len()).unwrap();
    options.repeat = 1;
    options.flags = libbpf_sys::BPF_F_TEST_XDP_LIVE_FRAMES;
    // SAFETY: the frame is as long as is said, and lives through the call.
    let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &raw mut options) };
    assert_eq!(result, 0, "{}", std::io::Error::from_raw_os_error(-result));
}

fn absent() {
    const FRAMES: usize = 5;
    let topology = Topology::new(&Plan::default()).unwrap();
    let (client, exchange) = (&topology.client, &topology.exchange);
    let tuple = tuple(&topology);
    let frame = segment(client.interface.mac, &tuple);
    let seen = client.ns.enter(|| {
        let mut bench = Bench::new(client.interface.name, &tuple, None, true);
        exchange.ns.enter(|| (0..FRAMES).for_each(|_| send_without_kernel(exchange.interface.index, &frame))).unwrap();
        bench.receive(FRAMES)
    });
    for (hints, _) in seen.unwrap() {
        let hints = hints.expect("the answers are there");
        assert_eq!((hints.time, hints.hash, hints.vlan), (Answer::Absent, Answer::Absent, Answer::Absent));
    }
}

/// Has everything that leaves over the interface carry this tag, beside the packet as the kernel keeps tags: it is what a NIC
/// makes of a tagged frame. For as long as the answer is held.
fn tag_what_leaves(interface: u32, tci: u16) -> OwnedFd {
    const BPF_FUNC_SKB_VLAN_PUSH: u32 = 18;
    let protocol = u32::from(0x8100_u16.to_be());
    let instructions = [set(2, protocol), set(3, tci.into()), call(BPF_FUNC_SKB_VLAN_PUSH), set(0, 0), EXIT];
    let program = load(libbpf_sys::BPF_PROG_TYPE_SCHED_CLS, &instructions);
    // SAFETY: there are no options, and descriptor and interface are plain numbers.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            i32::try_from(interface).unwrap(),
            libbpf_sys::BPF_TCX_EGRESS,
            std::ptr::null(),
        )
    };
    assert!(fd >= 0, "tcx (Linux 6.6): {}", std::io::Error::from_raw_os_error(-fd));
    // SAFETY: the kernel has just made it, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sends frames as they are, through the kernel.
fn send(interface: u32, frame: &[u8], count: usize) {
    let protocol = socket2::Protocol::from(0);
    let socket = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, Some(protocol)).unwrap();
    // SAFETY: `sockaddr_ll` is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_ifindex = i32::try_from(interface).unwrap();
    for _ in 0..count {
        // SAFETY: frame and address are as long as is said, and live through the call.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const address).cast(),
                size_of_val(&address) as libc::socklen_t,
            )
        };
        assert_eq!(usize::try_from(sent).ok(), Some(frame.len()), "{}", std::io::Error::last_os_error());
    }
}

fn stripped() {
    const FRAMES: usize = 20;
    // Priority 5, VLAN 7.
    const TCI: u16 = 5 << 13 | 7;
    let topology = Topology::new(&Plan::default()).unwrap();
    let (client, exchange) = (&topology.client, &topology.exchange);
    let tuple = tuple(&topology);
    let frame = segment(client.interface.mac, &tuple);
    let run = |vlan, asks_nic, tagged: bool, redirected: bool| {
        client
            .ns
            .enter(|| {
                let mut bench = Bench::new(client.interface.name, &tuple, vlan, asks_nic);
                exchange
                    .ns
                    .enter(|| {
                        let index = exchange.interface.index;
                        let _tags = tagged.then(|| tag_what_leaves(index, TCI));
                        send(index, &frame, FRAMES);
                    })
                    .unwrap();
                if redirected {
                    return bench.receive(FRAMES);
                }
                let until = Monotonic.now() + Duration::from_secs(5);
                while bench.count(Verdict::OtherFlow) < FRAMES as u64 {
                    assert!(Monotonic.now() < until, "{:?}", bench.tally());
                }
                assert_eq!(bench.count(Verdict::Redirected), 0, "{:?}", bench.tally());
                Vec::new()
            })
            .unwrap()
    };
    // The tag is not in the frame, and the flow is found by it.
    for (hints, bytes) in run(Some(7), true, true, true) {
        assert_eq!(bytes[12..14], [8, 0], "the frame itself has no tag");
        let tag = hints.expect("the answers are there").vlan;
        assert_eq!(tag, Answer::Known(VlanTag { protocol: 0x8100, tci: TCI }));
    }
    // Neither another VLAN's flow nor one without takes it.
    run(Some(8), true, true, false);
    run(None, true, true, false);
    // And without a tag, a flow on a VLAN is not met.
    run(Some(7), true, false, false);
    for (hints, _) in run(None, true, false, true) {
        assert_eq!(hints.unwrap().vlan, Answer::Absent);
    }
    // The plain program cannot know: it is what the bound one is for.
    run(Some(7), false, true, false);
    run(None, false, true, true);
}

/// A tap, and the descriptor that is its wire.
fn tap(name: &str) -> File {
    let wire = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: `ifreq` holds integers, byte arrays and a pointer, for all of which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as i16;
    // SAFETY: the request is of the kernel's form and lives through the call.
    let result = unsafe { libc::ioctl(wire.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // Only what is written without waiting goes past XDP in the driver (`tun_can_build_skb` in drivers/net/tun.c).
    rustix::fs::fcntl_setfl(&wire, rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::RDWR).unwrap();
    wire
}

fn unsupported() {
    const FRAMES: usize = 3;
    let topology = Topology::new(&Plan::default()).unwrap();
    let tuple = tuple(&topology);
    let seen = topology.client.ns.enter(|| {
        let mut wire = tap("tap0");
        let status = std::process::Command::new("ip").args(["link", "set", "tap0", "up"]).status().unwrap();
        assert!(status.success());
        let mut bench = Bench::new("tap0", &tuple, None, true);
        for _ in 0..FRAMES {
            wire.write_all(&segment(link::by_name("tap0").unwrap().mac.unwrap(), &tuple)).unwrap();
        }
        bench.receive(FRAMES)
    });
    for (hints, _) in seen.unwrap() {
        let hints = hints.expect("the answers are there");
        assert_eq!(
            (hints.time, hints.hash, hints.vlan),
            (Answer::Unsupported, Answer::Unsupported, Answer::Unsupported)
        );
    }
}

/// Loopback has no native XDP, so neither program runs in its driver; the plain one's refusal is the one that counts.
fn refused() {
    let topology = Topology::new(&Plan::default()).unwrap();
    let error = topology.client.ns.enter(|| {
        let ring = XskRing::open(&XskConfig::new("lo", 0, BindMode::Copy)).unwrap();
        let link = link::by_name("lo").unwrap();
        let native = Request { asks_nic: true, ..Request::new(AttachMode::Native, ring.sockets()) };
        let error = Attachment::attach(&link, &native).unwrap_err().to_string();
        // In the generic path the plain one does run, and says why it is not the other.
        let generic = Request { asks_nic: true, ..Request::new(AttachMode::Generic, ring.sockets()) };
        let attachment = Attachment::attach(&link, &generic).unwrap();
        assert!(matches!(attachment.asks_nic(), AsksNic::No(reason) if reason.contains("generic XDP")));
        assert_eq!(attachment.pieces(), Pieces::One);
        error
    });
    let error = error.unwrap();
    assert!(error.contains("lo: native XDP was refused"), "{error}");
}

fn out_and_home() {
    const ROUNDS: usize = 20;
    let lines = lines(40_000);
    let rig = Rig::with(&Plan::default(), replay(lines.clone(), Pace::Rate(20_000.try_into().unwrap())), false);
    let (seen, report) = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed: Feed = rig.builder().mode(Mode::Driver).stamp_arrivals(true).connect().unwrap();
            let mut seen = Seen::default();
            let until = Monotonic.now() + PATIENCE;
            let (mut demotions, mut next) = (0, 500);
            while feed.outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until, "{:?}", feed.report());
                feed.turn(now, &mut seen).unwrap();
                if seen.messages >= next && feed.is_settled() && demotions < ROUNDS {
                    next = seen.messages + 300;
                    match feed.way() {
                        Way::Bypass => {
                            feed.demote(now);
                            demotions += 1;
                        }
                        Way::Kernel => feed.promote(now),
                        way => panic!("{way:?}"),
                    }
                }
            }
            (seen, feed.report())
        })
        .unwrap();
    assert_eq!((seen.messages, seen.sha256()), (40_000, digest(&lines)));
    assert_eq!((&report.asks_nic, report.connection.demotions.len()), (&AsksNic::Yes, ROUNDS));
    println!("{} frames passed on beside the bound program", report.connection.frames_passed);
}

fn program() {
    let file = std::env::temp_dir().join(format!("wiretick-test-{}-hardware.json", std::process::id()));
    for (mode, told, asked) in [
        ("driver", "hardware timestamps none of", Some(true)),
        ("skb", "hardware timestamps none: generic XDP", Some(false)),
        ("kernel", "own stalls", None),
    ] {
        let rig = Rig::new(synthetic(5_000, 2_000));
        let output = rig
            .program(&["--mode", mode, "--format", "none", "--stages", "--summary", file.to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        // The table is as wide as it likes.
        let flat = said.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(told), "{mode}: {told:?}: {said}");
        let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let _ = std::fs::remove_file(&file);
        assert_eq!(summary["hardware"]["asked"].as_bool(), asked, "{summary:#}");
        if asked == Some(true) {
            let zero = summary["counters"]["nic"]["time_zero"].as_u64().unwrap();
            assert!(zero > 100 && summary["hardware"]["frames"].as_u64() == Some(zero), "{summary:#}");
            assert!(flat.contains(&format!("zero in {zero}")), "{said}");
            assert!(said.contains("the XDP program asks the NIC"), "{said}");
        }
        if asked == Some(false) {
            assert!(said.contains("the NIC is not asked"), "{said}");
        }
    }
}
