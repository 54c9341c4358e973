//! The wire that impairs, with a kernel at either end: what it carries, what it does to it, and what it knows.
//!
//! All of it needs root. Without, every test is shown as ignored, with the reason.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use rustix::thread::{CapabilitySet, capabilities};
use sha2::{Digest, Sha256};
use wiretick_testbed::capture::{Capture, EthernetFrame};
use wiretick_testbed::impair::{
    Aim, Burst, Chance, Counters, Direction, Fate, Forgery, Impairer, Impairments, Injection, Plan as Weather, Rate,
    Reorder, Rule, Scope,
};
use wiretick_testbed::topology::{Plan, Topology, Wire};

/// How long anything may take before its test fails.
const PATIENCE: Duration = Duration::from_secs(20);
const TO_CLIENT: Direction = Direction::ToClient;

type Problem = Box<dyn Error + Send + Sync>;
type Outcome = Result<(), Problem>;

fn main() -> ExitCode {
    let tests = vec![
        test("a_stream_passes_byte_for_byte_and_the_wire_loses_nothing", whole),
        test("a_stream_survives_each_impairment_and_the_counters_tell_of_it", each),
        test("a_seed_says_which_datagrams_are_lost", seeded),
        test("a_script_loses_one_byte_of_a_stream_and_it_is_sent_again", scripted),
        test("a_cut_in_one_direction_stalls_the_stream_and_no_longer", cut),
        test("blind_forgeries_do_no_harm_and_exact_ones_do_theirs", forged),
        test("a_forged_too_big_makes_segments_smaller", too_big),
    ];
    let mut arguments = Arguments::from_args();
    // They are about time: not in each other's way.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn test(name: &str, run: fn() -> Outcome) -> Trial {
    Trial::ignorable_test(name, move || {
        let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
        if !capabilities(None)?.effective.contains(needed) {
            return Ok(Completion::ignored_with("needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root"));
        }
        run().map(|()| Completion::Completed).map_err(Failed::from)
    })
}

fn topology(weather: Weather) -> Result<Topology, Problem> {
    Ok(Topology::new(&Plan { wire: Some(weather), ..Plan::default() })?)
}

fn wire(topology: &Topology) -> &Wire {
    topology.wire.as_ref().expect("the plan asks for one")
}

fn only(impairments: Impairments) -> Weather {
    Weather { to_client: impairments, ..Weather::default() }
}

/// A connection over IPv4 or IPv6: the client's socket and the exchange's.
fn connection(topology: &Topology, ipv6: bool) -> Result<[TcpStream; 2], Problem> {
    let host = &topology.exchange;
    let listener = host.ns.listen(if ipv6 { host.v6(0) } else { host.v4(0) })?;
    let client = topology.client.ns.connect(listener.local_addr()?)?;
    let exchange = listener.accept()?.0;
    for socket in [&client, &exchange] {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
    }
    Ok([client, exchange])
}

/// Bytes that are nowhere the same.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..bytes)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

/// Sends `bytes` from one socket to the other, and then its end. Answers how long it took; what arrives must be the same.
fn transfer(mut from: &TcpStream, mut to: &TcpStream, bytes: &[u8]) -> Result<Duration, Problem> {
    let expected = Sha256::digest(bytes);
    let began = Instant::now();
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut arrived = Vec::new();
            to.read_to_end(&mut arrived).map(|_| (Sha256::digest(&arrived), Instant::now()))
        });
        from.write_all(bytes)?;
        from.shutdown(std::net::Shutdown::Write)?;
        let (digest, ended) = reader.join().map_err(|_| "the reader panicked")??;
        assert_eq!(digest, expected, "what arrived is not what was sent");
        Ok(ended - began)
    })
}

fn whole() -> Outcome {
    const BYTES: usize = 64 << 20;
    let bytes = noise(BYTES);
    for ipv6 in [false, true] {
        let topology = topology(Weather::default())?;
        let [client, exchange] = connection(&topology, ipv6)?;
        let took = transfer(&exchange, &client, &bytes)?;
        let counters = wire(&topology).counters(TO_CLIENT);
        let rate = counters.delivered as f64 / took.as_secs_f64();
        println!(
            "{} frames to the client in {took:.2?}: {rate:.0} a second; {:?}",
            counters.delivered,
            wire(&topology).port(TO_CLIENT)
        );
        // A busy machine takes its time; an idle one carries well over 50,000.
        assert!(rate > 5_000.0, "{rate:.0} frames a second");
        transfer(&client, &exchange, &bytes[..BYTES / 8])?;
        assert_eq!(wire(&topology).own_losses(), 0);
        for direction in Direction::BOTH {
            let Counters { frames, others, retransmitted, delivered, .. } = wire(&topology).counters(direction);
            assert_eq!(delivered, frames + others, "nothing was lost or added");
            assert!(retransmitted <= frames / 100, "{retransmitted} of {frames} segments were sent again");
        }
    }
    Ok(())
}

fn each() -> Outcome {
    const BYTES: usize = 4 << 20;
    let none = Impairments::default;
    let few = Chance::percent(2);
    let burst = Burst { begin: Chance::one_in(500), end: Chance::percent(20), loss: Chance::ALWAYS };
    let rate = Rate { bytes_per_second: 10 << 20, queue_bytes: 32 << 10 };
    let forgeries = vec![
        (few, Forgery::Rst(Aim::Blind)),
        (few, Forgery::Syn(Aim::Exact)),
        (few, Forgery::Data(Aim::Blind, 500)),
        (few, Forgery::Unreachable(Aim::Exact)),
    ];
    type Count = fn(&Counters) -> u64;
    let cases: Vec<(Impairments, Count)> = vec![
        (Impairments { loss: few, ..none() }, |it| it.lost),
        (Impairments { burst: Some(burst), ..none() }, |it| it.lost_in_burst),
        (Impairments { reorder: Some(Reorder::some(few)), ..none() }, |it| it.held_back),
        (Impairments { duplicate: few, ..none() }, |it| it.duplicated),
        (Impairments { corrupt: few, ..none() }, |it| it.corrupted),
        (Impairments { truncate: few, ..none() }, |it| it.truncated),
        (Impairments { split: few, ..none() }, |it| it.split),
        // Only what was split before can be joined: all others are full.
        (Impairments { split: Chance::percent(50), join: Chance::percent(50), ..none() }, |it| it.joined),
        (Impairments { jitter: Duration::from_millis(2), ..none() }, |it| it.delayed),
        (Impairments { jitter: Duration::from_millis(2), overtaking: true, ..none() }, |it| it.delayed),
        (Impairments { rate: Some(rate), ..none() }, |it| it.over_rate),
        (Impairments { forgeries, ..none() }, |it| it.forged),
    ];
    let bytes = noise(BYTES);
    for (impairments, count) in cases {
        let topology = topology(only(impairments.clone()))?;
        let [client, exchange] = connection(&topology, false)?;
        let took = transfer(&exchange, &client, &bytes).map_err(|error| format!("{impairments:?}: {error}"))?;
        let counters = wire(&topology).counters(TO_CLIENT);
        println!("{took:.2?}: {:?}", counters.nonzero());
        assert!(count(&counters) > 5, "{impairments:?}: {counters:?}");
        assert_eq!(wire(&topology).own_losses(), 0);
        let expected_us = impairments.rate.map_or(0, |rate| BYTES as u64 * 1_000_000 / rate.bytes_per_second);
        assert!(took >= Duration::from_micros(expected_us), "{took:?} is more than the bandwidth allows");
    }
    Ok(())
}

fn seeded() -> Outcome {
    const COUNT: usize = 2_000;
    let weather = |seed| Weather {
        scope: Scope::Everything,
        seed,
        ..only(Impairments { loss: Chance::percent(5), ..Impairments::default() })
    };
    let run = |seed| -> Result<BTreeSet<usize>, Problem> {
        let topology = topology(Weather::default())?;
        // Its neighbour and router discovery would be numbered, too.
        for host in [&topology.client, &topology.exchange] {
            host.ns.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1"))??;
        }
        let client = topology.client.ns.enter(|| UdpSocket::bind(topology.client.v4(0)))??;
        client.set_read_timeout(Some(PATIENCE))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&client, 16 << 20)?;
        let exchange = topology.exchange.ns.enter(|| UdpSocket::bind(topology.exchange.v4(0)))??;
        exchange.connect(client.local_addr()?)?;
        // Both sides know the way before the weather begins: asking for it would count.
        exchange.send(&usize::MAX.to_be_bytes())?;
        client.recv(&mut [0; 8])?;
        wire(&topology).set_plan(weather(seed));
        for number in 0..COUNT {
            exchange.send(&number.to_be_bytes())?;
        }
        let began = Instant::now();
        while wire(&topology).counters(TO_CLIENT).frames < COUNT as u64 {
            assert!(began.elapsed() < PATIENCE, "the frames do not come");
            thread::sleep(Duration::from_millis(1));
        }
        wire(&topology).set_plan(Weather::default());
        exchange.send(&usize::MAX.to_be_bytes())?;
        let mut lost: BTreeSet<usize> = (0..COUNT).collect();
        loop {
            let mut number = [0; 8];
            client.recv(&mut number)?;
            match usize::from_be_bytes(number) {
                usize::MAX => return Ok(lost),
                number => assert!(lost.remove(&number), "{number} came twice"),
            }
        }
    };
    let expected = |seed| -> BTreeSet<usize> {
        let mut pure = Impairer::new(weather(seed));
        let survives = |number: &usize| {
            pure.push(Duration::ZERO, TO_CLIENT, &number.to_be_bytes());
            pure.pop(Duration::ZERO, TO_CLIENT).is_none()
        };
        (0..COUNT).filter(survives).collect()
    };
    for seed in [1, 1, 2] {
        let lost = run(seed)?;
        assert!((60..150).contains(&lost.len()), "{} of {COUNT}", lost.len());
        assert_eq!(lost, expected(seed), "over a link as in virtual time");
    }
    Ok(())
}

fn scripted() -> Outcome {
    let lose = Rule::new(TO_CLIENT, Fate::Lose).offsets(100_000..100_001).times(2);
    let topology = topology(Weather { script: vec![lose], ..Weather::default() })?;
    let [client, exchange] = connection(&topology, false)?;
    transfer(&exchange, &client, &noise(1 << 20))?;
    let counters = wire(&topology).counters(TO_CLIENT);
    assert_eq!(counters.lost, 2);
    assert!((2..10).contains(&counters.retransmitted), "{counters:?}");
    Ok(())
}

fn cut() -> Outcome {
    const CUT: Duration = Duration::from_secs(1);
    for direction in Direction::BOTH {
        let topology = topology(Weather::default())?;
        let [mut client, mut exchange] = connection(&topology, false)?;
        exchange.write_all(b"before")?;
        client.read_exact(&mut [0; 6])?;
        wire(&topology).blackhole(direction, CUT);
        let began = Instant::now();
        exchange.write_all(b"behind")?;
        client.read_exact(&mut [0; 6])?;
        match direction {
            Direction::ToClient => assert!(began.elapsed() >= CUT, "{:?}", began.elapsed()),
            // What is lost is the acknowledgement only.
            Direction::ToExchange => assert!(began.elapsed() < CUT, "{:?}", began.elapsed()),
        }
        let [lost, other] = [direction, direction.reverse()].map(|it| wire(&topology).counters(it).blackholed);
        assert!(lost > 0 && other == 0, "{lost}, {other}");
    }
    Ok(())
}

fn forged() -> Outcome {
    let inject = |topology: &Topology, forgery, count| {
        let injection = Injection { direction: TO_CLIENT, forgery, count, per_second: 50_000 };
        wire(topology).inject(injection);
        let began = Instant::now();
        while wire(topology).pending() > 0 {
            assert!(began.elapsed() < PATIENCE, "{} forgeries are left", wire(topology).pending());
            thread::sleep(Duration::from_millis(1));
        }
    };
    let open = || -> Result<(Topology, [TcpStream; 2]), Problem> {
        let topology = topology(Weather::default())?;
        let mut both = connection(&topology, false)?;
        both[1].write_all(b"hello")?;
        both[0].read_exact(&mut [0; 5])?;
        Ok((topology, both))
    };
    let (topology, [mut client, mut exchange]) = open()?;
    for forgery in [Forgery::Rst(Aim::Blind), Forgery::Data(Aim::Blind, 100), Forgery::Fin(Aim::Blind)] {
        inject(&topology, forgery, 2_000);
    }
    for forgery in [Forgery::Rst(Aim::InWindow), Forgery::Syn(Aim::Exact), Forgery::Unreachable(Aim::Exact)] {
        inject(&topology, forgery, 10);
    }
    assert_eq!(wire(&topology).counters(TO_CLIENT).forged, 6_030);
    exchange.write_all(b"still there")?;
    client.read_exact(&mut [0; 11])?;
    inject(&topology, Forgery::Rst(Aim::Exact), 1);
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);

    let (topology, [mut client, _exchange]) = open()?;
    inject(&topology, Forgery::Data(Aim::Exact, 7), 1);
    client.read_exact(&mut [0; 7])?;
    inject(&topology, Forgery::Fin(Aim::Exact), 1);
    // What the forged bytes took of the sequence space, the wire has not seen pass: the FIN does not fit any more.
    client.set_read_timeout(Some(Duration::from_millis(100)))?;
    assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);

    let (topology, [mut client, _exchange]) = open()?;
    inject(&topology, Forgery::Fin(Aim::Exact), 1);
    assert_eq!(client.read(&mut [0; 1])?, 0, "the end of the stream");
    Ok(())
}

fn too_big() -> Outcome {
    for (ipv6, mtu) in [(false, 1000), (true, 1300)] {
        let topology = topology(Weather::default())?;
        let [client, mut exchange] = connection(&topology, ipv6)?;
        exchange.write_all(b"hello")?;
        (&client).read_exact(&mut [0; 5])?;
        let forgery = Forgery::TooBig(Aim::Exact, mtu);
        // To the exchange, in the client's name, about what the exchange has sent last.
        wire(&topology).inject(Injection { direction: Direction::ToExchange, forgery, count: 1, per_second: 1 });
        let began = Instant::now();
        while wire(&topology).pending() > 0 {
            assert!(began.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(1));
        }
        let capture = Capture::start(&topology.client)?;
        transfer(&exchange, &client, &noise(100_000))?;
        let frames = capture.finish()?;
        let segments = frames.iter().filter(|frame| frame.is_from(topology.exchange.interface.mac));
        let longest =
            segments.filter(|frame| frame.tcp().is_some()).map(|frame: &EthernetFrame| frame.wire_bytes).max();
        assert_eq!(longest, Some(usize::from(mtu) + 14));
    }
    Ok(())
}
