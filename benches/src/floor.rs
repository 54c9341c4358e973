//! The floor of the whole measurement: AF_XDP by itself, over the same veth, with frames of the same length, in UDP.
//!
//! A thread on the exchange's core puts `CLOCK_MONOTONIC` into each datagram right before it hands it to the kernel; one
//! on the client's core spins on wiretick's own ring and takes the same clock as soon as a frame is there. What lies
//! between is the system call, the kernel's way out, the veth, XDP and the ring: what no client on AF_XDP can be faster
//! than. There is no TCP, no TLS, no WebSocket and no JSON at either end, and XDP looks no flow up.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aya::EbpfLoader;
use aya::maps::XskMap;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use hdrhistogram::Histogram;
use wiretick::floor::{Clock as _, Monotonic, Time};
use wiretick::ring::{BindMode, Ring as _, XskConfig, XskRing};
use wiretick_testbed::machine::Machine;
use wiretick_testbed::topology::{Host, Plan, Topology, pin};
use wiretick_xdp::{FLOOR_OBJECT, FLOOR_PORT, FLOOR_PROGRAM, XSKS};

use crate::field::{CLIENT_CORE, EXCHANGE_CORE, able};

/// Ethernet, IPv4 and TCP with timestamps, then a TLS 1.3 record (header, content type, tag) with one WebSocket frame of a
/// trade of 150 bytes: what a trade's frame takes.
pub(crate) const FRAME_BYTES: usize = 14 + 20 + 32 + (5 + 1 + 16) + 4 + 150;
/// Ethernet, IPv4 and UDP: where the datagram's payload begins.
const PAYLOAD_AT: usize = 14 + 20 + 8;
/// Any; nobody else sends here.
const PORT: u16 = 7777;
/// Frames taken in one go, as a lane does.
const BATCH: usize = 64;
/// How long after the last datagram was due the receiver still waits for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// More is counted as so much: ten seconds.
const LATENCY_NS_MAX: u64 = 10_000_000_000;
/// Later than this, and a datagram counts as sent late: as in the other measurements.
const LATE: Duration = Duration::from_micros(50);

/// The runs.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) machine: String,
    pub(crate) command: String,
    pub(crate) rate: u64,
    /// By mode: its name, and its runs.
    pub(crate) modes: Vec<(&'static str, Vec<FloorRun>)>,
}

/// One run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct FloorRun {
    /// From send to taken, in microseconds. The first tenth does not count.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// Datagrams that were sent and did not come.
    pub(crate) lost: u64,
    /// Datagrams sent more than 50 us after they were due.
    pub(crate) late: u64,
}

/// Measures native XDP and generic XDP in turn.
pub(crate) fn measure(rate: u64, time: Duration, rounds: u32, stop: &AtomicBool) -> Result<Floor, Box<dyn Error>> {
    able()?;
    let topology = Topology::new(&Plan::default())?;
    let count = rate.saturating_mul(time.as_secs());
    let modes = [("driver", XdpMode::Driver), ("skb", XdpMode::Skb)];
    let mut results = modes.map(|(name, _)| (name, Vec::new()));
    for round in 1..=rounds {
        for ((name, mode), (_, runs)) in modes.iter().zip(&mut results) {
            let run = run(&topology, *mode, rate, count, stop)?;
            if stop.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            eprintln!("round {round}, {name}: p50 {:.2} us", run.p50_us);
            runs.push(run);
        }
    }
    Ok(Floor {
        machine: Machine::here().to_string(),
        command: format!("bench floor --rate {rate} --seconds {} --rounds {rounds}", time.as_secs()),
        rate,
        modes: results.into(),
    })
}

fn run(
    topology: &Topology,
    mode: XdpMode,
    rate: u64,
    count: u64,
    stop: &AtomicBool,
) -> Result<FloorRun, Box<dyn Error>> {
    // The receiver comes here whether or not it is able to receive: the sender must not wait for ever.
    let (ready, able) = (Barrier::new(2), AtomicBool::new(false));
    let (received, sent) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            topology.client.ns.enter(|| {
                let receiver = Receiver::new(&topology.client, mode).map_err(|error| error.to_string());
                able.store(receiver.is_ok(), Ordering::Release);
                ready.wait();
                receiver?.receive(rate, count, stop).map_err(|error| error.to_string())
            })
        });
        let sender = scope.spawn(|| {
            topology.exchange.ns.enter(|| {
                ready.wait();
                if able.load(Ordering::Acquire) { send(topology, rate, count, stop) } else { Ok(0) }
            })
        });
        (receiver.join().expect("no panic"), sender.join().expect("no panic"))
    });
    let latency = received??;
    let late = sent??;
    let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let counted = count - count / 10;
    Ok(FloorRun {
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        lost: counted.saturating_sub(latency.len()),
        late,
    })
}

/// Sends so many datagrams, evenly, each due at a time of its own; answers how many went out late.
fn send(topology: &Topology, rate: u64, count: u64, stop: &AtomicBool) -> io::Result<u64> {
    pin(EXCHANGE_CORE)?;
    let socket = UdpSocket::bind(topology.exchange.v4(0))?;
    let to: SocketAddr = topology.client.v4(PORT);
    socket.connect(to)?;
    let mut payload = [0; FRAME_BYTES - PAYLOAD_AT];
    let begin = Monotonic.now();
    let mut late = 0;
    for number in 0..count {
        let due = begin + after(number, rate);
        let mut now = Monotonic.now();
        while now < due {
            std::hint::spin_loop();
            now = Monotonic.now();
        }
        if number % 1024 == 0 && stop.load(Ordering::Relaxed) {
            break;
        }
        late += u64::from(now.since(due) > LATE);
        payload[..8].copy_from_slice(&number.to_le_bytes());
        payload[8..16].copy_from_slice(&Monotonic.now().as_nanos().to_le_bytes());
        socket.send(&payload)?;
    }
    Ok(late)
}

/// How long after the first a datagram is due.
fn after(number: u64, rate: u64) -> Duration {
    Duration::from_nanos(u64::try_from(u128::from(number) * 1_000_000_000 / u128::from(rate)).unwrap_or(u64::MAX))
}

/// A ring with the program in front of it.
struct Receiver {
    ring: XskRing,
    _sockets: XskMap<aya::maps::MapData>,
    /// Detaches when it is dropped.
    _program: aya::Ebpf,
}

impl Receiver {
    fn new(host: &Host, mode: XdpMode) -> Result<Self, Box<dyn Error>> {
        pin(CLIENT_CORE)?;
        // The ring first: see `XskRing::open`.
        let ring = XskRing::open(&XskConfig::new(host.interface.name, 0, BindMode::Copy))?;
        let mut program = EbpfLoader::new().override_global(FLOOR_PORT, &u32::from(PORT), true).load(FLOOR_OBJECT)?;
        let mut sockets: XskMap<_> = program.take_map(XSKS).ok_or("the object has no map of sockets")?.try_into()?;
        sockets.set(0, ring.as_raw_fd(), 0)?;
        let xdp: &mut Xdp = program.program_mut(FLOOR_PROGRAM).ok_or("the object has no program")?.try_into()?;
        xdp.load()?;
        xdp.attach_to_if_index(host.interface.index, mode)?;
        Ok(Self { ring, _sockets: sockets, _program: program })
    }

    /// Spins until the last datagram has come, and answers how long each took, in nanoseconds, but for the first tenth.
    fn receive(mut self, rate: u64, count: u64, stop: &AtomicBool) -> Result<Histogram<u64>, Box<dyn Error>> {
        let mut latency = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?;
        let mut frames = Vec::with_capacity(BATCH);
        let mut end = Monotonic.now() + after(count, rate) + PATIENCE;
        while Monotonic.now() < end {
            let taken = self.ring.receive(&mut frames, BATCH);
            let now = Monotonic.now();
            for frame in frames.drain(..) {
                if let Some((number, stamp)) = stamp(frame.packet()) {
                    if number >= count / 10 {
                        latency.saturating_record(u64::try_from(now.since(stamp).as_nanos())?);
                    }
                    if number + 1 == count {
                        end = Time::ZERO;
                    }
                }
                self.ring.recycle(frame);
            }
            if taken != 0 {
                self.ring.flush()?;
            } else if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(latency)
    }
}

/// The number of a datagram, and when it was sent; `None` for a frame of another length, which is not ours.
fn stamp(packet: &[u8]) -> Option<(u64, Time)> {
    let payload = packet.get(PAYLOAD_AT..).filter(|_| packet.len() == FRAME_BYTES)?;
    let number = |at| payload.get(at..at + 8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    Some((number(0)?, Time::from_nanos(number(8)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_says_its_number_and_when_it_was_sent() {
        let mut packet = vec![0; FRAME_BYTES];
        packet[PAYLOAD_AT..PAYLOAD_AT + 8].copy_from_slice(&7u64.to_le_bytes());
        packet[PAYLOAD_AT + 8..PAYLOAD_AT + 16].copy_from_slice(&8_000u64.to_le_bytes());
        assert_eq!(stamp(&packet), Some((7, Time::from_nanos(8_000))));
        assert_eq!(stamp(&packet[1..]), None);
        assert_eq!(stamp(&[]), None);
    }

    #[test]
    fn a_rate_does_not_drift() {
        assert_eq!(after(3, 3), Duration::from_secs(1));
        assert_eq!(after(1, 3), Duration::from_nanos(333_333_333));
        assert_eq!(after(36_000_000_000, 10_000), Duration::from_secs(3_600_000));
    }
}
