//! What can happen to a ring while messages flow: the connection goes home, and comes back, and nothing is lost.

use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::time::{Duration, Instant};

use wiretick::control::link;
use wiretick::feed::{Feed, Mode};
use wiretick::floor::{Clock, Monotonic, Time};
use wiretick_testbed::exchange::{Config, Pace, Start};
use wiretick_testbed::topology::{Namespace, Plan};

use crate::Test;
use crate::rig::{PATIENCE, Rig, Seen, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("survival::on_request_it_goes_home_and_back", on_request),
    ("survival::signals_send_the_program_home_and_back", signals),
    ("survival::a_program_that_is_detached_costs_no_message", detached),
    ("survival::an_interface_that_goes_down_and_up_costs_no_message", down_and_up),
    ("survival::a_link_without_carrier_costs_no_message", carrier),
    ("survival::an_mtu_that_is_lowered_costs_no_message", mtu),
    ("survival::a_next_hop_with_another_mac_address_costs_no_message", next_hop),
    ("survival::the_kernel_keeps_the_next_hop_reachable_meanwhile", kept),
    ("survival::a_route_that_moves_to_another_interface_takes_the_ring_with_it", other_interface),
    ("survival::a_ring_without_its_socket_costs_no_message", silent),
    ("survival::a_handler_that_stalls_for_a_second_loses_nothing", stalled),
    ("survival::a_burst_ten_times_that_of_a_capture_loses_nothing", burst),
    ("survival::an_interface_that_is_deleted_is_the_end_with_the_reason", deleted),
];

/// A feed, and what it has brought.
struct Watched<'a> {
    feed: Feed,
    seen: Seen,
    rig: &'a Rig,
    until: Time,
}

impl Watched<'_> {
    /// Takes turns until `done`.
    fn turns(&mut self, what: &str, done: impl Fn(&Feed, &Seen) -> bool) {
        while !done(&self.feed, &self.seen) {
            let now = Monotonic.now();
            assert!(now < self.until, "{what}: {} messages, {:?}", self.seen.messages, self.feed.report());
            self.feed.turn(now, &mut self.seen).unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    fn messages(&mut self, n: u64) {
        let goal = self.seen.messages + n;
        self.turns("messages", |_, seen| seen.messages >= goal);
    }

    fn until_in(&mut self, mode: Mode) -> Time {
        self.turns(&format!("until {mode}"), |feed, _| feed.mode() == mode && feed.is_settled());
        Monotonic.now()
    }

    /// Closes, and checks that every message the exchange sent has come, once and in order.
    fn finish(mut self) -> wiretick::feed::Report {
        self.feed.close(Monotonic.now());
        self.turns("closing", |feed, _| feed.outcome().is_some());
        assert_eq!(self.seen.gaps, 0, "the exchange's numbering has gaps");
        let report = self.feed.report();
        println!("{} messages; {:?}", self.seen.messages, report.moves);
        report
    }
}

fn endless(rate: u64) -> Config {
    Config { count: None, ..synthetic(rate, 1) }
}

/// Has a feed in driver mode stream on the client's machine, and does `deed` with it there.
fn with_feed(rig: &Rig, deed: impl FnOnce(&mut Watched<'_>) + Send) -> wiretick::feed::Report {
    rig.topology
        .client
        .ns
        .enter(|| {
            let feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let until = Monotonic.now() + PATIENCE;
            let mut watched = Watched { feed, seen: Seen::default(), rig, until };
            watched.until_in(Mode::Driver);
            watched.messages(2_000);
            deed(&mut watched);
            watched.finish()
        })
        .unwrap()
}

/// Runs a command; answers what it has printed.
fn run(mut command: Command, words: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{words}: {error}"));
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command on the machine that the thread is on.
fn here(words: &str) -> String {
    let mut split = words.split_whitespace();
    let mut command = Command::new(split.next().unwrap());
    command.args(split);
    run(command, words)
}

/// Runs a command on another machine of the testbed.
fn there(machine: &Namespace, words: &str) -> String {
    let mut split = words.split_whitespace();
    let mut command = machine.command(split.next().unwrap());
    command.args(split);
    run(command, words)
}

/// What `bpftool` knows, as JSON.
fn bpftool(question: &str) -> serde_json::Value {
    serde_json::from_str(&here(&format!("bpftool --json {question}"))).unwrap()
}

/// The id of the XDP program on the client's interface, asked on the client's machine.
fn program(rig: &Rig) -> u32 {
    link::by_name(rig.topology.client.interface.name).unwrap().xdp_program.unwrap()
}

fn on_request() {
    let rig = Rig::new(endless(20_000));
    let report = with_feed(&rig, |watched| {
        for _ in 0..10 {
            watched.feed.demote(Monotonic.now());
            watched.until_in(Mode::Kernel);
            watched.messages(2_000);
            watched.feed.promote(Monotonic.now());
            watched.until_in(Mode::Driver);
            watched.messages(2_000);
        }
    });
    assert_eq!(report.moves.len(), 21);
    assert_eq!(report.connection.demotions.len(), 10);
}

fn signals() {
    use rustix::process::{Pid, Signal, kill_process};
    let rig = Rig::new(endless(5_000));
    let file = std::env::temp_dir().join(format!("wiretick-test-{}-moves.json", std::process::id()));
    let arguments = ["--mode", "driver", "--format", "none", "--summary", file.to_str().unwrap()];
    let mut program = rig.program(&arguments).spawn().unwrap();
    let pid = Pid::from_child(&program);
    let began = Instant::now();
    let sleep = || {
        assert!(began.elapsed() < PATIENCE, "the program does not stream");
        std::thread::sleep(Duration::from_millis(10));
    };
    let flows = |n: u64| {
        let goal = rig.exchange.report().messages + n;
        while rig.exchange.report().messages < goal {
            sleep();
        }
    };
    while rig.xdp_program().is_none() {
        sleep();
    }
    flows(3_000);
    for signal in [Signal::USR1, Signal::USR2] {
        kill_process(pid, signal).unwrap();
        flows(3_000);
    }
    kill_process(pid, Signal::TERM).unwrap();
    let status = program.wait().unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    std::fs::remove_file(file).unwrap();
    assert!(status.success(), "{summary:#}");
    let moves: Vec<_> = summary["moves"].as_array().unwrap().iter().map(|change| &change["to"]).collect();
    assert_eq!(moves, ["driver", "kernel", "driver"]);
    assert_eq!(summary["gaps"], 0);
}

fn detached() {
    let rig = Rig::new(endless(20_000));
    let report = with_feed(&rig, |watched| {
        let program = program(watched.rig);
        let links = bpftool("link show");
        let link = links.as_array().unwrap().iter().find(|link| link["prog_id"] == program).unwrap();
        here(&format!("bpftool link detach id {}", link["id"]));
        let at = Monotonic.now();
        let home = watched.until_in(Mode::Kernel);
        println!("home after {:?}", home.since(at));
        watched.until_in(Mode::Driver);
        watched.messages(2_000);
    });
    assert!(report.moves[1].reason.contains("detached"), "{:?}", report.moves);
    assert_eq!(report.moves.len(), 3);
}

/// The interface is down for a while: nobody gets anything then, and the exchange sends it again later.
fn down_and_up() {
    let rig = Rig::new(endless(5_000));
    let report = with_feed(&rig, |watched| {
        let client = &watched.rig.topology.client;
        here(&format!("ip link set {} down", client.interface.name));
        let until = Monotonic.now() + Duration::from_millis(300);
        watched.turns("while down", |_, _| Monotonic.now() >= until);
        here(&format!("ip link set {} up", client.interface.name));
        watched.messages(2_000);
        watched.until_in(Mode::Driver);
        watched.messages(2_000);
    });
    // While the interface is down there is no route, and no kernel socket to go to: it may as well stay where it is.
    assert!(report.moves.iter().all(|change| change.reason != "requested"), "{:?}", report.moves);
}

/// The far end of the cable goes dark for a while.
fn carrier() {
    let rig = Rig::new(endless(5_000));
    let report = with_feed(&rig, |watched| {
        let exchange = &watched.rig.topology.exchange;
        there(&exchange.ns, &format!("ip link set {} down", exchange.interface.name));
        watched.until_in(Mode::Kernel);
        there(&exchange.ns, &format!("ip link set {} up", exchange.interface.name));
        watched.messages(2_000);
        watched.until_in(Mode::Driver);
        watched.messages(2_000);
    });
    assert!(report.moves[1].reason.contains("link is down"), "{:?}", report.moves);
}

fn mtu() {
    let rig = Rig::new(endless(5_000));
    let report = with_feed(&rig, |watched| {
        let client = &watched.rig.topology.client;
        here(&format!("ip link set {} mtu 1400", client.interface.name));
        // A veth takes no frame that is too long for its other end.
        let exchange = &watched.rig.topology.exchange;
        there(&exchange.ns, &format!("ip link set {} mtu 1400", exchange.interface.name));
        watched.until_in(Mode::Kernel);
        watched.messages(1_000);
        watched.until_in(Mode::Driver);
        watched.messages(2_000);
    });
    assert!(report.moves[1].reason.contains("lowered to 1400"), "{:?}", report.moves);
}

/// A gateway is replaced by another machine with the same address.
fn next_hop() {
    let rig = Rig::with(&Plan { router: true, ..Plan::default() }, endless(5_000), false);
    let report = with_feed(&rig, |watched| {
        let topology = &watched.rig.topology;
        let router = topology.router.as_ref().unwrap();
        let (gateway, name) = (router.to_client.ipv4, router.to_client.name);
        there(&router.ns, &format!("ip link set {name} address 02:77:74:00:00:99"));
        // What a new gateway announces of itself, as the kernel takes it in.
        let client = &topology.client;
        let device = client.interface.name;
        here(&format!("ip neigh replace {gateway} lladdr 02:77:74:00:00:99 dev {device} nud reachable"));
        watched.turns("packets for the new address", |feed, _| feed.report().readdressed == 1);
        watched.messages(5_000);
    });
    assert_eq!((report.moves.len(), report.mode), (1, Mode::Driver), "{:?}", report.moves);
}

/// A second link to the router; the route moves there, both ways, and the connection after it.
fn other_interface() {
    let rig = Rig::with(&Plan { router: true, ..Plan::default() }, endless(5_000), false);
    let (router, exchange) = (rig.topology.router.as_ref().unwrap(), rig.topology.exchange.interface.ipv4);
    let local = rig.topology.client.interface.ipv4;
    let report = with_feed(&rig, |watched| {
        let ns = format!("/proc/{}/fd/{}", std::process::id(), router.ns.as_fd().as_raw_fd());
        here(&format!("ip link add client1 type veth peer name router2 netns {ns}"));
        here("ip address add 10.77.9.1/24 dev client1");
        here("ip link set client1 up");
        there(&router.ns, "ip address add 10.77.9.254/24 dev router2");
        there(&router.ns, "ip link set router2 up");
        there(&router.ns, &format!("ip route add {local}/32 via 10.77.9.1 dev router2"));
        here(&format!("ip route add {exchange}/32 via 10.77.9.254 dev client1"));
        watched.until_in(Mode::Kernel);
        watched.messages(2_000);
        watched.until_in(Mode::Driver);
        watched.messages(5_000);
        assert_eq!(watched.feed.report().interface, "client1");
        assert_eq!(link::by_name(watched.rig.topology.client.interface.name).unwrap().xdp_program, None);
        assert!(link::by_name("client1").unwrap().xdp_program.is_some());
    });
    assert_eq!(report.mode, Mode::Driver, "{:?}", report.moves);
    let home = report.moves.iter().find(|change| change.to == Mode::Kernel).expect("it went home");
    assert!(home.reason.contains("the route has moved: over client1"), "{home:?}");
}

/// The kernel sees nothing of the bypass, and would forget who the next hop is.
fn kept() {
    let rig = Rig::with(&Plan { router: true, ..Plan::default() }, endless(1_000), false);
    let client = &rig.topology.client;
    let gateway = rig.topology.router.as_ref().unwrap().to_client.ipv4;
    let question = format!("ip neigh show {gateway} dev {}", client.interface.name);
    with_feed(&rig, |watched| {
        assert!(here(&question).contains("managed"), "{}", here(&question));
        watched.messages(100);
    });
    let left = there(&client.ns, &question);
    assert!(left.contains("lladdr") && !left.contains("managed"), "{left}");
}

/// Somebody takes the socket out of the program's map: frames of the connection reach the kernel, which has no use for them.
fn silent() {
    let rig = Rig::new(endless(20_000));
    let report = with_feed(&rig, |watched| {
        let program = program(watched.rig);
        let maps = bpftool(&format!("prog show id {program}"))["map_ids"].clone();
        let sockets = maps
            .as_array()
            .unwrap()
            .iter()
            .find(|id| bpftool(&format!("map show id {id}"))["type"] == "xskmap")
            .unwrap();
        here(&format!("bpftool map delete id {sockets} key 0 0 0 0"));
        watched.until_in(Mode::Kernel);
        watched.until_in(Mode::Driver);
        watched.messages(2_000);
    });
    assert!(report.moves[1].reason.contains("no socket"), "{:?}", report.moves);
}

/// At 50,000 messages a second; memory stays where it was.
fn stalled() {
    let rig = Rig::new(synthetic(50_000, 200_000));
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
    };
    let report = rig
        .topology
        .client
        .ns
        .enter(|| {
            let feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let until = Monotonic.now() + PATIENCE;
            let mut watched = Watched { feed, seen: Seen::default(), rig: &rig, until };
            watched.until_in(Mode::Driver);
            watched.messages(20_000);
            let before = resident();
            std::thread::sleep(Duration::from_secs(1));
            watched.turns("the end", |feed, _| feed.outcome().is_some());
            let grown = resident().saturating_sub(before);
            assert!(grown < 8 << 20, "{grown} bytes of memory more");
            assert_eq!((watched.seen.messages, watched.seen.gaps), (200_000, 0));
            watched.feed.report()
        })
        .unwrap();
    println!("{:?}", report.ring);
}

/// The busiest 10 ms of the captures have 612 messages.
fn burst() {
    let config = Config { start: Start::OnSubscribe, pace: Pace::Saturate, ..synthetic(1, 6_120) };
    let rig = Rig::new(config);
    rig.topology
        .client
        .ns
        .enter(|| {
            let feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let until = Monotonic.now() + PATIENCE;
            let mut watched = Watched { feed, seen: Seen::default(), rig: &rig, until };
            watched.until_in(Mode::Driver);
            watched.feed.sender().text(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#).unwrap();
            watched.turns("the end", |feed, _| feed.outcome().is_some());
            // The answer to the request is a message, too.
            assert_eq!((watched.seen.messages, watched.seen.gaps), (6_121, 0));
        })
        .unwrap();
}

fn deleted() {
    let rig = Rig::new(endless(5_000));
    let client = &rig.topology.client;
    let error = client
        .ns
        .enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let mut seen = Seen::default();
            let until = Monotonic.now() + PATIENCE;
            let mut deleted = false;
            loop {
                let now = Monotonic.now();
                assert!(now < until, "{:?}", feed.report());
                if let Err(error) = feed.turn(now, &mut seen) {
                    return error;
                }
                if seen.messages > 1_000 && feed.is_settled() && !deleted {
                    deleted = true;
                    here(&format!("ip link delete {}", client.interface.name));
                }
            }
        })
        .unwrap();
    let text = error.to_string();
    assert!(text.contains("gone") || text.contains("No such device"), "{text}");
}
