//! How fast and how evenly the exchange sends: the numbers behind the claims in its documentation.
//!
//! What comes in on the command line are seconds per case (default 2) and part of a case's name (default: all of them);
//! what goes out is a line per case: over loopback,
//! and, with root, over a veth pair. The reader is as dumb as can be: after the handshakes it throws bytes away unread, in
//! the kernel (`MSG_TRUNC`). Messages per second of the exchange's own CPU time are told beside those per second, because
//! on a busy machine only the former can be compared. A veth is not a network card; see what its numbers are good for in the documentation of
//! `topology`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::net::RecvFlags;
use rustix::time::ClockId;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use wiretick_testbed::exchange::{Config, Exchange, Feed, Pace, Report, Security, SyntheticPlan, Tls};
use wiretick_testbed::feeds::{Feeds, Lines, Recording};
use wiretick_testbed::pki::{Authority, Validity};
use wiretick_testbed::topology::{Plan, Topology, pin};

/// The exchange's core and the reader's.
const CORES: [usize; 2] = [0, 1];

fn main() -> Result<(), Box<dyn Error>> {
    let seconds: f64 = std::env::args().nth(1).map_or(Ok(2.0), |text| text.parse())?;
    let run_time = Duration::from_secs_f64(seconds);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let topology = Topology::new(&Plan::default());
    if let Err(error) = &topology {
        println!("no veth: {error}");
    }
    let replay = Feed::Replay(Arc::new(match Feeds::find() {
        Ok(feeds) => feeds.recording("BINANCE-spot-btcusdt-mixed")?,
        Err(missing) => {
            println!("{missing}; replaying bookTickers of one size");
            let line = r#"{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#;
            Recording { messages: Lines::new(format!("{line}\n").repeat(10_000).into_bytes()), arrivals: None }
        }
    }));
    let synthetic = Feed::Synthetic(SyntheticPlan::default());
    let rate = |rate| Pace::Rate(NonZeroU64::new(rate).expect("not 0"));
    let cases = [
        ("replay, saturate", &replay, Pace::Saturate, 1, None),
        ("replay, saturate", &replay, Pace::Saturate, 16, None),
        ("replay, saturate, stamps", &replay, Pace::Saturate, 16, Some("n")),
        ("synthetic, saturate", &synthetic, Pace::Saturate, 1, None),
        ("synthetic, saturate", &synthetic, Pace::Saturate, 16, None),
        ("replay, 50,000/s", &replay, rate(50_000), 1, None),
        ("replay, 50,000/s, stamps", &replay, rate(50_000), 1, Some("n")),
        ("synthetic, 50,000/s, stamps", &synthetic, rate(50_000), 1, Some("n")),
        ("replay, 200,000/s", &replay, rate(200_000), 8, None),
    ];
    for (name, feed, pace, batch, stamp) in cases.into_iter().filter(|case| case.0.contains(&wanted)) {
        let config = Config {
            feed: feed.clone(),
            pace,
            batch,
            stamp_field: stamp.map(str::to_owned),
            core: Some(CORES[0]),
            count: Some(u64::MAX),
            ..Config::default()
        };
        let report = over_loopback(config.clone(), run_time)?;
        tell("loopback", name, batch, &report, run_time);
        if let Ok(topology) = &topology {
            let report = over_veth(config, topology, run_time)?;
            tell("veth", name, batch, &report, run_time);
        }
    }
    Ok(())
}

fn over_loopback(config: Config, run_time: Duration) -> Result<(Report, Duration), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    run(config, listener, TcpStream::connect(address), run_time)
}

fn over_veth(config: Config, topology: &Topology, run_time: Duration) -> Result<(Report, Duration), Box<dyn Error>> {
    let listener = topology.exchange.ns.listen(topology.exchange.v4(0))?;
    let client = topology.client.ns.connect(listener.local_addr()?);
    run(config, listener, client, run_time)
}

fn run(
    mut config: Config,
    listener: TcpListener,
    client: std::io::Result<TcpStream>,
    run_time: Duration,
) -> Result<(Report, Duration), Box<dyn Error>> {
    let authority = Authority::new("throughput")?;
    config.security = Security::Tls(Tls::new(authority.issue(&["exchange.test"], Validity::Now)?));
    let running = Exchange::start(config, listener)?;
    let client_config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let tls = ClientConnection::new(Arc::new(client_config), "exchange.test".try_into()?)?;
    let mut stream = StreamOwned::new(tls, client?);
    stream.write_all(
        b"GET /ws HTTP/1.1\r\nHost: exchange.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let _ = stream.read(&mut [0; 1024])?;
    let cpu_before = cpu_time(ClockId::ProcessCPUTime);
    let reader = thread::spawn(move || drain(&stream.sock));
    thread::sleep(run_time);
    let report = running.report();
    drop(running);
    let reader_cpu = reader.join().map_err(|_| "the reader panicked")?;
    // Everything else in this process sleeps.
    Ok((report, cpu_time(ClockId::ProcessCPUTime).saturating_sub(cpu_before + reader_cpu)))
}

fn cpu_time(clock: ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Throws away what comes until it ends. Answers the CPU time that took.
fn drain(socket: &TcpStream) -> Duration {
    let _ = pin(CORES[1]);
    let mut nothing = vec![0; 1 << 20];
    while matches!(rustix::net::recv(socket, &mut nothing[..], RecvFlags::TRUNC), Ok((_, 1..))) {}
    cpu_time(ClockId::ThreadCPUTime)
}

fn tell(link: &str, name: &str, batch: usize, (report, cpu): &(Report, Duration), run_time: Duration) {
    let per_second = report.messages as f64 / run_time.as_secs_f64();
    let per_cpu_second = report.messages as f64 / cpu.as_secs_f64();
    let bits = report.wire_bytes as f64 * 8e-9 / run_time.as_secs_f64();
    print!(
        "{link:8}  {name:28} batch {batch:2}  {per_second:8.0} msg/s {per_cpu_second:8.0} msg/CPU-s {bits:5.2} Gbit/s"
    );
    let lateness = &report.lateness_ns;
    if !lateness.is_empty() {
        let us = |percentile| lateness.value_at_percentile(percentile) as f64 / 1000.0;
        print!(
            "  begun after due: p50 {:.2} us, p90 {:.2} us, p99 {:.2} us, p99.9 {:.1} us, max {:.0} us, late {} of {}",
            us(50.0),
            us(90.0),
            us(99.0),
            us(99.9),
            lateness.max() as f64 / 1000.0,
            report.late,
            report.batches
        );
    }
    println!();
}
