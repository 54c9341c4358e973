//! Everybody else on the interface: other connections, other programs, whatever happens to ours.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use wiretick::feed::Mode;
use wiretick::floor::{Clock, Monotonic};
use wiretick_testbed::exchange::{Config, Pace, Security};
use wiretick_xdp::Verdict;

use crate::Test;
use crate::rig::{FOREIGN, Rig, Seen, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("neighbours::other_connections_to_the_same_exchange_are_never_touched", others),
    ("neighbours::after_kill_9_no_program_is_left_and_other_traffic_flows", killed),
    ("neighbours::a_hundred_kill_9_at_any_moment_leave_nothing_behind", killed_at_any_moment),
    ("neighbours::somebody_elses_program_is_not_displaced_and_named", occupied),
    ("neighbours::a_second_feed_on_the_same_queue_is_refused_with_the_reason", same_queue),
    ("neighbours::ten_thousand_other_connections_are_never_touched", ten_thousand),
];

/// A plain connection that reads whatever the exchange sends, and counts it.
struct Bystander {
    stream: TcpStream,
    bytes: usize,
}

impl Bystander {
    fn new(rig: &Rig) -> Self {
        let stream = rig.topology.client.ns.connect(rig.address()).unwrap();
        (&stream)
            .write_all(
                b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { stream, bytes: 0 }
    }

    /// Reads at least `bytes` more, or fails.
    fn read(&mut self, bytes: usize) {
        let goal = self.bytes + bytes;
        let mut buffer = [0; 64 << 10];
        while self.bytes < goal {
            let n = self.stream.read(&mut buffer).expect("the bystander's connection lives");
            assert_ne!(n, 0, "the bystander's connection was closed");
            self.bytes += n;
        }
    }
}

fn endless() -> Config {
    Config { security: Security::Plain, count: None, pace: Pace::Rate(5_000.try_into().unwrap()), ..synthetic(1, 1) }
}

fn others() {
    let rig = Rig::new(endless());
    let readers: Vec<_> = (0..5)
        .map(|_| {
            let mut bystander = Bystander::new(&rig);
            std::thread::spawn(move || {
                bystander.read(500_000);
                bystander
            })
        })
        .collect();
    let tallies = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let mut seen = Seen::default();
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1000) {
                feed.turn(Monotonic.now(), &mut seen).unwrap();
            }
            assert_eq!(feed.mode(), Mode::Driver);
            assert!(seen.messages > 1_000 && seen.gaps == 0);
            feed.report().verdicts
        })
        .unwrap();
    for reader in readers {
        // What it got while the program was there, and what it gets when it is gone.
        reader.join().unwrap().read(200_000);
    }
    let sum = |verdict| tallies.iter().map(|(_, tally)| tally[verdict]).sum::<u64>();
    assert!(sum(Verdict::OtherFlow) > 1_000, "the others' frames were seen, and passed: {tallies:?}");
    assert!(sum(Verdict::Redirected) > 1_000);
    rig.await_clean();
}

fn killed() {
    // The signals hit any moment from the attachment on, the promotion included.
    for (mode, signal) in [("driver", true), ("skb", true), ("driver", false)] {
        let rig = Rig::new(endless());
        let mut bystander = Bystander::new(&rig);
        let mut program = rig.program(&["--mode", mode, "--format", "none"]);
        let mut program = program.stderr(Stdio::piped()).spawn().unwrap();
        let began = Instant::now();
        while rig.xdp_program().is_none() {
            assert!(began.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        bystander.read(200_000);
        if signal {
            program.kill().unwrap();
        } else {
            let pid = rustix::process::Pid::from_child(&program);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        }
        let ended = program.wait_with_output().unwrap();
        assert_eq!(ended.status.success(), !signal, "{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
        rig.await_clean();
        bystander.read(200_000);
        // And the way is free for the next one.
        let next = rig
            .topology
            .client
            .ns
            .enter(|| rig.builder().mode(Mode::Driver).connect().map(|feed| feed.is_settled()))
            .unwrap();
        next.unwrap();
    }
}

/// Killed while it connects, is promoted, streams or is demoted: it is sent to and fro all the time.
fn killed_at_any_moment() {
    use rustix::process::{Pid, Signal, kill_process};
    let rig = Rig::new(endless());
    let mut bystander = Bystander::new(&rig);
    let mut attached = 0;
    for moment in 0..100 {
        let mut program = rig.program(&["--mode", "driver", "--format", "none", "--log", "off"]);
        let mut program = program.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&program);
        let began = Instant::now();
        // The first half of them while it starts, the others once it streams.
        // Spread over 40 ms; 7,919 is prime.
        let until = Duration::from_micros(moment * 7_919 % 40_000);
        if moment >= 50 {
            while rig.xdp_program().is_none() {
                assert!(began.elapsed() < Duration::from_secs(10));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let streaming = Instant::now();
        let mut home = true;
        while streaming.elapsed() < until {
            // Before it listens, that would end it: a moment of its own.
            if moment >= 50 {
                kill_process(pid, if home { Signal::USR1 } else { Signal::USR2 }).unwrap();
                home = !home;
            }
            std::thread::sleep(Duration::from_micros(700));
        }
        attached += u32::from(rig.xdp_program().is_some());
        program.kill().unwrap();
        program.wait().unwrap();
        rig.await_clean();
        bystander.read(20_000);
    }
    println!("a program was attached at {attached} of 100 moments");
    assert!(attached >= 40, "{attached}");
    // The bystander's is the only connection left.
    let began = Instant::now();
    let established = || {
        let output = rig.topology.client.ns.command("ss").args(["-Htn", "state", "established"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    while established().lines().count() != 1 {
        assert!(began.elapsed() < Duration::from_secs(5), "{}", established());
        std::thread::sleep(Duration::from_millis(20));
    }
    let port = bystander.stream.local_addr().unwrap().port().to_string();
    let exchange = &rig.topology.exchange.ns;
    // A veth forgets the frames in its ring when a program comes or goes: that, and nothing more, is sent again.
    let facts = exchange.command("ss").args(["-Htin", "dport", "=", &port]).output().unwrap();
    let facts = String::from_utf8(facts.stdout).unwrap();
    let again = facts.split(" retrans:0/").nth(1).map_or(0, |rest| {
        rest.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
    });
    println!("{again} segments were sent to the bystander again, of {} bytes", bystander.bytes);
    assert!(facts.contains("bytes_acked") && again <= 200, "{facts}");
}

fn occupied() {
    let rig = Rig::new(synthetic(5_000, 1_000));
    let other = rig.attach_foreign();
    let before = rig.xdp_program().unwrap();
    for mode in [Mode::Driver, Mode::Skb] {
        let error = rig.run(rig.builder().mode(mode)).error();
        assert!(error.contains("an XDP program is attached already"), "{error}");
        assert!(error.contains(&format!("program {before} \"{FOREIGN}\"")), "{error}");
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
    }
    assert_eq!(rig.xdp_program(), Some(before), "still the other's");
    // Left to itself, wiretick takes the kernel path and says why.
    let run = rig.run(rig.builder());
    run.result.as_ref().unwrap();
    assert_eq!((run.report().mode, run.seen.messages), (Mode::Kernel, 1_000));
    assert!(run.report().refusals.iter().any(|(_, reason)| reason.contains("attached already")));
    drop(other);
    rig.await_clean();
}

fn same_queue() {
    let rig = Rig::new(endless());
    let error = rig
        .topology
        .client
        .ns
        .enter(|| {
            let first = rig.builder().mode(Mode::Driver).connect().unwrap();
            let error = rig.builder().mode(Mode::Driver).connect().map(drop).unwrap_err().to_string();
            drop(first);
            error
        })
        .unwrap();
    assert!(error.contains("queue 0") && error.contains("another AF_XDP socket owns this queue"), "{error}");
}

/// Set for a process that is the far end of [`ten_thousand`]: two ends of each connection are more than one process may hold.
pub(crate) const ECHO: &str = "WIRETICK_TEST_ECHO";

/// Takes connections from the listener that is its standard input, and sends back what comes over them.
pub(crate) fn echo() -> ! {
    use rustix::event::epoll::{CreateFlags, Event, EventData, EventFlags, add, create, wait};
    allow_descriptors();
    let listener = TcpListener::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let ready = create(CreateFlags::CLOEXEC).unwrap();
    let mut streams: Vec<TcpStream> = Vec::new();
    add(&ready, &listener, EventData::new_u64(u64::MAX), EventFlags::IN).unwrap();
    let mut events: Vec<Event> = Vec::with_capacity(256);
    loop {
        events.clear();
        wait(&ready, rustix::buffer::spare_capacity(&mut events), None).unwrap();
        for event in &events {
            let at = event.data.u64();
            if at == u64::MAX {
                let (stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                add(&ready, &stream, EventData::new_u64(streams.len() as u64), EventFlags::IN).unwrap();
                streams.push(stream);
                continue;
            }
            let mut stream = &streams[at as usize];
            let mut bytes = [0; 64];
            match stream.read(&mut bytes) {
                Ok(n) if n != 0 => stream.write_all(&bytes[..n]).unwrap(),
                _ => std::process::exit(0),
            }
        }
    }
}

/// As many as this process can be allowed.
fn allow_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A byte there and back over each of very many connections: before, while a feed comes and streams, goes and comes, and after.
fn ten_thousand() {
    const CONNECTIONS: usize = 10_000;
    const AT_ONCE: usize = 16;
    allow_descriptors();
    let rig = Rig::new(endless());
    let host = &rig.topology.exchange;
    let listener = host.ns.listen(host.v4(0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut far = host.ns.command(std::env::current_exe().unwrap());
    let mut far = far.env(ECHO, "1").stdin(OwnedFd::from(listener)).spawn().unwrap();
    let connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let stream = rig.topology.client.ns.connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.set_nodelay(true).unwrap();
            stream
        })
        .collect();
    let mut round = 0_u8;
    let mut ping = |turn: &mut dyn FnMut()| {
        round += 1;
        for (at, few) in connections.chunks(AT_ONCE).enumerate() {
            few.iter().for_each(|mut stream| stream.write_all(&[round]).unwrap());
            turn();
            for mut stream in few {
                let mut got = [0];
                stream.read_exact(&mut got).unwrap_or_else(|error| panic!("one of {AT_ONCE} from {at}: {error}"));
                assert_eq!(got, [round]);
            }
        }
    };
    ping(&mut || {});
    let tallies = rig
        .topology
        .client
        .ns
        .enter(|| {
            let mut feed = rig.builder().mode(Mode::Driver).connect().unwrap();
            let mut seen = Seen::default();
            for mode in [Mode::Driver, Mode::Kernel, Mode::Driver] {
                if mode == Mode::Kernel {
                    feed.demote(Monotonic.now());
                } else if seen.messages != 0 {
                    feed.promote(Monotonic.now());
                }
                ping(&mut || _ = feed.turn(Monotonic.now(), &mut seen).unwrap());
                assert_eq!(feed.mode(), mode);
            }
            assert_eq!(seen.gaps, 0);
            assert!(seen.messages > 1_000, "{}", seen.messages);
            feed.report().verdicts
        })
        .unwrap();
    rig.await_clean();
    ping(&mut || {});
    let others: u64 = tallies.iter().map(|(_, tally)| tally[Verdict::OtherFlow]).sum();
    assert!(others >= 2 * CONNECTIONS as u64, "each was looked at, and passed: {tallies:?}");
    far.kill().unwrap();
    far.wait().unwrap();
}
