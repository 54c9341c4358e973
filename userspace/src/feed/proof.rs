//! Proof that a mode works on this machine, with frames of a connection of one's own, and nothing that stays.
//!
//! It is the first half of a promotion: the program is attached, the flow is entered, a keep-alive probe leaves over the ring, and
//! the peer's answer has to arrive over the ring. There it ends: the flow leaves the map again, frames that came meanwhile are handed to the
//! kernel, the program goes off the interface, and the connection lives on in the kernel as if nothing had been. That is all that
//! `wiretick doctor` does to an interface.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::bypass::{BypassPlan, KernelBypass, Mode};
use super::{Error, Setup};
use crate::control::link;
use crate::control::nic::Nic;
use crate::floor::{Clock, FourTuple, Monotonic};
use crate::frame;
use crate::handover::{FlowMap as _, Promotion, Step};
use crate::lane::Bypass;
use crate::ring::{Ring as _, RingCounters, RxFrame};

/// How long a proof may take: the promotion's own limits (a second until all is acknowledged, two round trips and 100 ms until
/// the probe is answered), and as much again.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to look for frames that were on their way to the ring when the flow was taken out of the map. What comes later is sent again by the
/// peer.
const DRAIN: Duration = Duration::from_millis(5);
/// How long the kernel may take to have the program off the interface and the queue free: it does both in deferred work.
const DETACH: Duration = Duration::from_secs(5);
const DETACH_POLL: Duration = Duration::from_millis(5);
/// Frames looked at in one go.
const BATCH: usize = 64;

/// That a mode works, and how that is known.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The mode.
    pub mode: Mode,
    /// The interface to which the program was attached, and the queue.
    pub interface: String,
    /// The queue of the interface on which the answer arrived.
    pub queue: u32,
    /// From the probe to its answer, both over the ring.
    pub round_trip: Duration,
    /// From the first step to the moment at which the interface could receive with the program on it.
    pub attaching: Duration,
    /// Frames of the flow that the program sent to the ring.
    pub redirected: u64,
    /// What the ring has counted.
    pub ring: RingCounters,
    /// The kernel confirms that no frame was copied (`XDP_OPTIONS`).
    pub zero_copy: bool,
    /// The frames lie in huge pages.
    pub huge_pages: bool,
    /// The NAPI that busy polling would poll: the driver has linked it to the queue.
    pub napi: Option<u32>,
}

/// Why a mode has not been proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// Why, and what to do about it.
    pub reason: String,
    /// The flow arrives on this queue, and not on the one that was asked for.
    pub arrives_on: Option<u32>,
    /// Frames that reached the ring with a checksum that is wrong: on a veth, their sender has left it blank.
    pub malformed: u64,
}

/// Tries `mode`, which must be one of the bypass, with the connection of `stream`, on this queue of the interface its route
/// leads over. The connection must be idle. When this returns, the program is off the interface.
///
/// # Errors
///
/// [`Unproven`].
pub fn prove(stream: TcpStream, mode: Mode, queue: u32) -> Result<Proof, Unproven> {
    let unproven = |reason: String| Unproven { reason, arrives_on: None, malformed: 0 };
    let ends = || Ok::<_, std::io::Error>(FourTuple { local: stream.local_addr()?, remote: stream.peer_addr()? });
    let tuple = ends().map_err(|error| unproven(format!("the connection is gone: {error}")))?;
    let mut plan = BypassPlan::new(mode, Setup::Kernel, queue, false);
    let began = Instant::now();
    let opened = plan.open(tuple).map_err(|error| {
        unproven(match error {
            Error::Mode { reason, .. } => reason,
            other => other.to_string(),
        })
    })?;
    let Some((_, mut bypass)) = opened else { return Err(unproven(format!("{mode} is no mode of the bypass"))) };
    let attaching = began.elapsed();
    let interface = bypass.flows.interface().to_owned();
    // One that is another feed's too stays.
    let program = (!bypass.flows.is_shared()).then(|| bypass.flows.program());
    let outcome = run(stream, tuple, &mut bypass);
    let seen = bypass.flows.seen(&tuple).unwrap_or_default();
    let result = match outcome {
        Ok(round_trip) => Ok(Proof {
            mode,
            interface: interface.clone(),
            queue,
            round_trip,
            attaching,
            redirected: seen.redirected(),
            ring: bypass.ring.counters(),
            zero_copy: bypass.ring.zero_copy(),
            huge_pages: bypass.ring.huge_pages(),
            napi: bypass.ring.napi(),
        }),
        Err((reason, malformed)) => Err(Unproven {
            reason: format!("{reason}{}", plan.diagnosis(Some(&bypass), &tuple)),
            arrives_on: plan.elsewhere(Some(&bypass), &tuple),
            malformed,
        }),
    };
    drop(bypass);
    await_detached(&interface, program, queue)
        .map_err(|reason| Unproven { reason, arrives_on: None, malformed: 0 })
        .and(result)
}

/// Takes the steps of a promotion until its proof, and then none. Answers how long the peer's answer took, or why there was none and how
/// many frames were malformed.
fn run(stream: TcpStream, tuple: FourTuple, bypass: &mut KernelBypass) -> Result<Duration, (String, u64)> {
    let clock = Monotonic;
    let Bypass { ring, flows, hop } = bypass;
    let mut socket = Some(stream);
    let mut promotion = Promotion::new(tuple, *hop, clock.now());
    let mut frames: Vec<RxFrame> = Vec::with_capacity(BATCH);
    let mut malformed = 0;
    let began = Instant::now();
    let mut sent = None;
    let result = loop {
        ring.receive(&mut frames, BATCH);
        for frame in frames.drain(..) {
            match frame::parse(frame.packet()) {
                Ok(Some(segment)) if segment.tuple == tuple => {
                    promotion.divert(frame, segment);
                    continue;
                }
                Ok(_) => {}
                Err(_) => malformed += 1,
            }
            ring.recycle(frame);
        }
        match promotion.step(clock.now(), &mut socket, ring, flows) {
            Step::Waiting if promotion.is_proven() => {
                break Ok(sent.map_or(Duration::ZERO, |sent: Instant| sent.elapsed()));
            }
            Step::Waiting => {}
            Step::Failed(error) => break Err(error.to_string()),
            // It is left before its last step.
            Step::Done(_) => break Err("the connection has left the kernel".to_owned()),
        }
        if sent.is_none() && ring.counters().frames_transmitted != 0 {
            sent = Some(Instant::now());
        }
        if let Err(error) = ring.flush() {
            break Err(format!("the ring has failed: {error}"));
        }
        if began.elapsed() > PATIENCE {
            break Err(format!("no proof within {PATIENCE:?}"));
        }
        std::hint::spin_loop();
    };
    promotion.abandon(ring, flows);
    let drained = Instant::now();
    while drained.elapsed() < DRAIN {
        ring.receive(&mut frames, BATCH);
        for frame in frames.drain(..) {
            // Nobody has acknowledged it: where it cannot be handed on, the peer sends it again.
            let _ = flows.pass(frame.packet());
            ring.recycle(frame);
        }
        let _ = ring.flush();
    }
    result.map_err(|reason| (reason, malformed))
}

/// Waits until the interface is without our program and our socket, and has its carrier back.
fn await_detached(interface: &str, program: Option<u32>, queue: u32) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let link = link::by_name(interface).map_err(|error| error.to_string())?;
        let attached = program.filter(|program| link.xdp_program == Some(*program));
        // Where the kernel tells it. Another's socket it cannot be: ours was bound.
        let queues = Nic::read(&link).map_err(|error| error.to_string())?.queues;
        let bound = queues.iter().any(|found| found.number == queue && found.has_xsk);
        if attached.is_none() && !bound && link.carrier {
            return Ok(());
        }
        if began.elapsed() > DETACH {
            return Err(if let Some(program) = attached {
                format!("{interface}: program {program} is still attached: ip link set dev {interface} xdp off")
            } else if bound {
                format!("{interface}: queue {queue} still has an AF_XDP socket: see ss --xdp -p")
            } else {
                format!("{interface}: no carrier {} s after the program was detached: see ip link", DETACH.as_secs())
            });
        }
        std::thread::sleep(DETACH_POLL);
    }
}
