//! Promotion: at any moment, with anything negotiated, and nothing lost, doubled or out of order.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use wiretick::control::attach::{AttachMode, Attachment, Request};
use wiretick::control::link;
use wiretick::event::{self, Body, Event};
use wiretick::floor::{Clock, Hop, Limits, Monotonic};
use wiretick::handover::FlowMap as _;
use wiretick::lane::{Bypass, Connection, ConnectionId, Lane, Way};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler, Path, PathConfig};
use wiretick::record::{Client, ServerName, Trust};
use wiretick::ring::{BindMode, PACKET_BYTES_MAX, XskConfig, XskRing};
use wiretick_testbed::exchange::{Config, Exchange, Pace, Start};
use wiretick_testbed::topology::{Plan, Topology};

use crate::Test;
use crate::rig::{AUTHORITY, Rig, set_tcp_option, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("handover::at_a_hundred_moments_nothing_is_lost_doubled_or_out_of_order", a_hundred_moments),
    ("handover::it_works_without_timestamps_sack_or_window_scaling", negotiated),
    ("handover::it_works_where_sequence_numbers_wrap", wrap),
    ("handover::with_data_in_the_kernels_receive_queue", queued),
    ("handover::of_an_idle_connection", idle),
    ("handover::of_a_connection_that_is_closed_meanwhile_ends_in_good_order", closed_meanwhile),
    ("handover::under_load_with_packets_held_back_nothing_is_lost", stragglers),
    ("handover::what_comes_through_the_kernel_afterwards_is_fetched", seam),
];

pub(crate) type TestLane = Lane<XskRing, Attachment>;

/// A lane with a ring on the client's interface, and one connection on the kernel path over `stream`. To be called in
/// the client's namespace.
pub(crate) fn lane(topology: &Topology, stream: TcpStream, tls: bool) -> (TestLane, ConnectionId) {
    let interface = link::by_name(topology.client.interface.name).unwrap();
    let mtu = interface.mtu as usize;
    let config = XskConfig { packet_bytes_max: mtu, ..XskConfig::new(&interface.name, 0, BindMode::Copy) };
    let ring = XskRing::open(&config).unwrap();
    let flows = Attachment::attach(&interface, &Request::new(AttachMode::Native, ring.sockets())).unwrap();
    let hop = Hop {
        source: interface.mac.unwrap(),
        next: topology.client.next_hop.mac,
        vlan: None,
        mtu: u16::try_from(mtu.min(PACKET_BYTES_MAX)).unwrap(),
    };
    let client = Client::new(Trust::from_pem(AUTHORITY.pem().as_bytes()).unwrap(), false).unwrap();
    let peer = stream.peer_addr().unwrap();
    let path = Path::new(PathConfig {
        tls: tls.then(|| (&client, ServerName::try_from(peer.ip().to_string()).unwrap())),
        authority: &peer.to_string(),
        path_and_query: "/ws",
        headers: &[],
        subscriptions: &[],
        messages_per_second: None,
        limits: Limits::default(),
        events: event::Options::default(),
    })
    .unwrap();
    stream.set_nonblocking(true).unwrap();
    stream.set_nodelay(true).unwrap();
    let now = Monotonic.now();
    let connection = Connection::over_kernel(stream, path, now, now + Duration::from_secs(5)).unwrap();
    let mut lane = Lane::default();
    lane.set_bypass(Bypass { flows, ring, hop });
    let id = lane.add(connection);
    (lane, id)
}

/// Follows the ids of the synthetic feed: each event is one the exchange numbered.
#[derive(Default)]
pub(crate) struct Numbers {
    pub(crate) messages: u64,
    last_trade: Option<u64>,
    last_update: Option<u64>,
    pub(crate) wrong: Vec<String>,
}

impl Handler for Numbers {
    fn payload(&mut self, _: Kind, _: &[u8], _: &mut Context<'_, '_>) {
        self.messages += 1;
    }

    fn event(&mut self, event: &Event<'_>, _: &mut Context<'_, '_>) {
        match &event.body {
            Body::Trade(trade) => {
                if self.last_trade.is_some_and(|last| trade.trade_id != last + 1) {
                    self.wrong.push(format!("trade {} after {:?}", trade.trade_id, self.last_trade));
                }
                self.last_trade = Some(trade.trade_id);
            }
            Body::Depth(depth) => {
                if self.last_update.is_some_and(|last| depth.first_update_id != last + 1) {
                    self.wrong.push(format!("update {} after {:?}", depth.first_update_id, self.last_update));
                }
                self.last_update = Some(depth.final_update_id);
            }
            _ => {}
        }
    }
}

/// Streams until the exchange closes; promotes the connection once `at` messages have come.
fn stream_and_promote(topology: &Topology, address: SocketAddr, at: u64, tls: bool) -> Numbers {
    let stream = TcpStream::connect(address).unwrap();
    drive(topology, stream, at, tls)
}

fn drive(topology: &Topology, stream: TcpStream, at: u64, tls: bool) -> Numbers {
    let (mut lane, id) = lane(topology, stream, tls);
    let mut numbers = Numbers::default();
    let until = Monotonic.now() + Duration::from_secs(30);
    let mut promoted = false;
    while lane.connection(id).outcome().is_none() {
        let now = Monotonic.now();
        assert!(
            now < until,
            "the stream did not end: {} messages, {:?}",
            numbers.messages,
            lane.connection(id).report()
        );
        lane.turn(now, &mut numbers).unwrap_or_else(|error| panic!("promoted after {at}: {error}"));
        if !promoted && numbers.messages >= at && lane.connection(id).path().is_open() {
            lane.promote(id, now);
            promoted = true;
        }
        if let Some(result) = lane.connection_mut(id).take_handover() {
            result.unwrap_or_else(|error| panic!("promotion after {at} messages: {error}"));
            assert_eq!(lane.connection(id).way(), Way::Bypass);
        }
    }
    assert!(promoted);
    assert_eq!(numbers.wrong, Vec::<String>::new(), "promoted after {at}");
    numbers
}

fn a_hundred_moments() {
    // Those behind the last moment are 60 ms: a machine that stands still for less does not deliver them in one turn.
    const COUNT: u64 = 3_500;
    let rig = Rig::new(synthetic(20_000, COUNT));
    let topology = &rig.topology;
    let address = rig.address();
    for moment in 0..100u64 {
        // From the first message to shortly before the last.
        let at = moment * moment * 2_300 / 10_000;
        let numbers = topology.client.ns.enter(|| stream_and_promote(topology, address, at, true)).unwrap();
        assert_eq!(numbers.messages, COUNT, "promoted after {at} messages");
    }
    let report = rig.exchange.stop();
    assert_eq!(report.errors(), Vec::<String>::new());
    assert_eq!(report.messages, 100 * COUNT);
}

fn negotiated() {
    for (timestamps, sack, scaling) in [("0", "1", "1"), ("1", "0", "1"), ("1", "1", "0"), ("0", "0", "0")] {
        let rig = Rig::new(synthetic(20_000, 2_000));
        let topology = &rig.topology;
        let address = rig.address();
        let numbers = topology
            .client
            .ns
            .enter(|| {
                for (name, value) in [("timestamps", timestamps), ("sack", sack), ("window_scaling", scaling)] {
                    std::fs::write(format!("/proc/sys/net/ipv4/tcp_{name}"), value).unwrap();
                }
                stream_and_promote(topology, address, 500, true)
            })
            .unwrap();
        assert_eq!(numbers.messages, 2_000, "timestamps {timestamps} sack {sack} scaling {scaling}");
    }
}

/// Both ends are made by hand (`TCP_REPAIR`), so that their sequence numbers wrap soon after the promotion.
fn wrap() {
    for (client_seq, server_seq) in [(0xffff_ff00u32, 0xffff_0000u32), (0xffff_fff0, 5), (77, 0xffff_ffff - 200_000)] {
        let topology = Topology::new(&Plan::default()).unwrap();
        let config = Config { security: wiretick_testbed::exchange::Security::Plain, ..synthetic(20_000, 4_000) };
        let exchange = Exchange::new(config).unwrap();
        let (near, far) = (topology.client.v4(40_000), topology.exchange.v4(9_443));
        let server = topology.exchange.ns.enter(|| by_hand(far, near, server_seq, client_seq)).unwrap();
        let numbers = std::thread::scope(|scope| {
            let serving = scope.spawn(|| exchange.serve(server));
            let client = topology.client.ns.enter(|| by_hand(near, far, client_seq, server_seq)).unwrap();
            let topology = &topology;
            let numbers = topology.client.ns.enter(|| drive(topology, client, 100, false)).unwrap();
            assert_eq!(serving.join().unwrap().errors(), Vec::<String>::new());
            numbers
        });
        assert_eq!(numbers.messages, 4_000, "from {client_seq:#x} and {server_seq:#x}");
    }
}

/// One end of an established connection that was never opened: what its SYNs would have said is set by hand.
fn by_hand(local: SocketAddr, remote: SocketAddr, send: u32, receive: u32) -> TcpStream {
    const TCP_REPAIR: i32 = 19;
    const TCP_REPAIR_QUEUE: i32 = 20;
    const TCP_QUEUE_SEQ: i32 = 21;
    const TCP_REPAIR_OPTIONS: i32 = 22;
    const TCP_REPAIR_WINDOW: i32 = 29;
    /// Kinds of TCP options, RFC 9293 and RFC 7323; window scaling by 7 bits, both ways.
    const MSS: [u32; 2] = [2, 1460];
    const WINDOW_SCALE: [u32; 2] = [3, 7 << 16 | 7];
    const WINDOW: u32 = 1 << 20;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    let set = |option, value: u32| set_tcp_option(&socket, option, [value]).unwrap();
    set(TCP_REPAIR, 1);
    socket.bind(&local.into()).unwrap();
    for (queue, seq) in [(2, send), (1, receive)] {
        set(TCP_REPAIR_QUEUE, queue);
        set(TCP_QUEUE_SEQ, seq);
    }
    socket.connect(&remote.into()).unwrap();
    set_tcp_option(&socket, TCP_REPAIR_OPTIONS, MSS).unwrap();
    set_tcp_option(&socket, TCP_REPAIR_OPTIONS, WINDOW_SCALE).unwrap();
    // snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup
    set_tcp_option(&socket, TCP_REPAIR_WINDOW, [receive, WINDOW, WINDOW, WINDOW, receive]).unwrap();
    set(TCP_REPAIR, u32::MAX);
    socket.into()
}

/// The kernel's receive queue holds megabytes when the connection leaves it: nobody has read for a while.
fn queued() {
    let rig = Rig::new(Config { pace: Pace::Saturate, ..synthetic(1, 20_000) });
    let topology = &rig.topology;
    let address = rig.address();
    let numbers = topology
        .client
        .ns
        .enter(|| {
            let stream = TcpStream::connect(address).unwrap();
            let (mut lane, id) = lane(topology, stream, true);
            let mut numbers = Numbers::default();
            while !lane.connection(id).path().is_open() {
                lane.turn(Monotonic.now(), &mut numbers).unwrap();
            }
            std::thread::sleep(Duration::from_millis(300));
            lane.promote(id, Monotonic.now());
            let until = Monotonic.now() + Duration::from_secs(30);
            while lane.connection(id).outcome().is_none() {
                let now = Monotonic.now();
                assert!(now < until);
                lane.turn(now, &mut numbers).unwrap();
            }
            let report = lane.connection(id).report();
            assert_eq!(report.handovers.len(), 1);
            numbers
        })
        .unwrap();
    assert_eq!((numbers.messages, numbers.wrong), (20_000, Vec::new()));
}

/// Nothing arrives while the connection moves, and nothing for a while after.
fn idle() {
    let rig = Rig::new(Config { start: Start::OnSubscribe, ..synthetic(5_000, 1_000) });
    let run = rig.topology.client.ns.enter(|| {
        let mut feed = rig.builder().mode(wiretick::feed::Mode::Driver).connect().unwrap();
        let mut numbers = Numbers::default();
        let until = Monotonic.now() + Duration::from_secs(20);
        let mut asked = None;
        while feed.outcome().is_none() {
            let now = Monotonic.now();
            assert!(now < until);
            feed.turn(now, &mut numbers).unwrap();
            if feed.is_settled() && asked.is_none() {
                asked = Some(now + Duration::from_millis(1500));
            }
            if asked.is_some_and(|at| now >= at) {
                asked = Some(wiretick::floor::Time::NEVER);
                feed.sender().text(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}"#).unwrap();
            }
        }
        assert_eq!(feed.mode(), wiretick::feed::Mode::Driver);
        numbers
    });
    let numbers = run.unwrap();
    assert_eq!(numbers.wrong, Vec::<String>::new());
    // The answer to the request is a message, too.
    assert_eq!(numbers.messages, 1_001);
}

/// Whoever asks for the end does not want to hear that the mode could not be had.
fn closed_meanwhile() {
    let rig = Rig::new(Config { count: None, ..synthetic(5_000, 1) });
    let mut unsettled = 0;
    for turns in (0..400).step_by(20) {
        let outcome = rig.topology.client.ns.enter(|| {
            let mut feed = rig.builder().mode(wiretick::feed::Mode::Driver).connect().unwrap();
            let mut numbers = Numbers::default();
            let until = Monotonic.now() + Duration::from_secs(20);
            let mut since_open = 0;
            loop {
                let now = Monotonic.now();
                assert!(now < until);
                feed.turn(now, &mut numbers).unwrap_or_else(|error| panic!("closed after {turns} turns: {error}"));
                if let Some(outcome) = feed.outcome() {
                    return outcome.clone();
                }
                since_open += u32::from(feed.is_open());
                if since_open == turns + 1 {
                    unsettled += u32::from(!feed.is_settled());
                    feed.close(now);
                }
            }
        });
        assert_eq!(outcome.unwrap().code, Some(1000));
        rig.await_clean();
    }
    assert!(unsettled > 0, "no connection was closed before its promotion was over");
}

/// A GRO layer that holds packets back for a while, as `gro_flush_timeout` does on NICs: segments that have passed the
/// program before the flow was entered reach the kernel's socket when it is already frozen.
fn stragglers() {
    let rig = Rig::new(Config { batch: 4, ..synthetic(40_000, 8_000) });
    let topology = &rig.topology;
    let address = rig.address();
    let device = format!("/sys/class/net/{}", topology.client.interface.name);
    for moment in 0..20 {
        let numbers = topology
            .client
            .ns
            .enter(|| {
                // Where this kernel's veth has no such knobs, the test is one of promotion under load.
                let _ = std::fs::write(format!("{device}/gro_flush_timeout"), "2000000");
                let _ = std::fs::write(format!("{device}/napi_defer_hard_irqs"), "2");
                stream_and_promote(topology, address, 1_000 + moment * 300, true)
            })
            .unwrap();
        assert_eq!(numbers.messages, 8_000);
    }
}

/// The flow leaves the map again for a moment, after the connection has left the kernel: what the exchange sends then
/// ends in the frozen socket, is acknowledged there, and will never be sent again.
fn seam() {
    const COUNT: u64 = 40;
    // Slow enough for the flow to be out of the map before the ring has brought a message.
    let rig = Rig::new(synthetic(20, COUNT));
    let topology = &rig.topology;
    let address = rig.address();
    let numbers = topology.client.ns.enter(|| {
        let (mut lane, id) = lane(topology, TcpStream::connect(address).unwrap(), true);
        let mut numbers = Numbers::default();
        let until = Monotonic.now() + Duration::from_secs(20);
        let turns = |lane: &mut TestLane, numbers: &mut Numbers, done: &dyn Fn(&mut TestLane, &Numbers) -> bool| {
            while !done(lane, numbers) {
                let now = Monotonic.now();
                assert!(now < until, "{} messages, {:?}", numbers.messages, lane.connection(id).report().tcp);
                lane.turn(now, numbers).unwrap();
            }
        };
        turns(&mut lane, &mut numbers, &|_, numbers| numbers.messages == 3);
        lane.promote(id, Monotonic.now());
        turns(&mut lane, &mut numbers, &|lane, _| match lane.connection_mut(id).take_handover() {
            Some(result) => result.map(|_| true).unwrap(),
            None => false,
        });
        let tuple = lane.connection(id).tuple();
        lane.bypass_mut().unwrap().flows.remove(&tuple).unwrap();
        turns(&mut lane, &mut numbers, &|_, numbers| numbers.messages == 10);
        lane.bypass_mut().unwrap().flows.insert(&tuple, None).unwrap();
        turns(&mut lane, &mut numbers, &|lane, _| lane.connection(id).outcome().is_some());
        let tcp = lane.connection(id).report().tcp;
        assert!(tcp.segments_injected > 0 && tcp.segments_in_order > 0, "both ways were taken: {tcp:?}");
        numbers
    });
    let numbers = numbers.unwrap();
    assert_eq!(numbers.wrong, Vec::<String>::new());
    assert_eq!(numbers.messages, COUNT);
}
