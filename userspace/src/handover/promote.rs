//! Promotion, step by step.
//!
//! A [`Promotion`] is driven by the lane: it is shown the frames that arrive for its flow, and asked to take a
//! [`Step`] each turn, while the kernel's side of the stream goes on being read as before. It never waits.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use smoltcp::wire::{TcpControl, TcpRepr, TcpTimestampRepr};

use super::repair::{Frozen, round_trip_us, unacknowledged};
use super::{Seam, pass};
use crate::floor::{FourTuple, Hop, Lease, Seq, TcpTimestamps, Time};
use crate::frame::{Envelope, Segment, bare_segment, write_segment};
use crate::ring::{Ring, RxFrame};

/// How long the peer may take to acknowledge what we had sent before. A second is several retransmissions on any path
/// an exchange feed is worth taking.
const DRAIN: Duration = Duration::from_secs(1);
/// How long to wait for the answer to the probe, beyond two round trips.
///
/// 100 ms. Frames that reach the ring meanwhile are not acknowledged, so it must stay below the peer's retransmission
/// timeout (Linux: 200 ms at least), after which it would take the path for congested. Lower, and a peer or a veth that
/// is slow for once fails the proof.
const PROOF: Duration = Duration::from_millis(100);
/// How often the probe is sent within that time.
const PROBE_EVERY: Duration = Duration::from_millis(25);
/// How long to wait for the kernel to deliver what was under way to it when the flow was diverted.
///
/// 2 ms: several NAPI polls. What comes later still is the business of the [`Seam`]; what was lost is sent again.
const MEET: Duration = Duration::from_millis(2);

/// The program's map of flows that go to the ring.
pub trait FlowMap {
    /// Sends the flow to the ring from now on. `vlan` is the tag its frames arrive with.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    fn insert(&mut self, tuple: &FourTuple, vlan: Option<u16>) -> io::Result<()>;

    /// Leaves the flow to the kernel again.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    fn remove(&mut self, tuple: &FourTuple) -> io::Result<()>;

    /// Gives the kernel a frame as if it had just arrived on the interface: one that reached the ring although its flow is
    /// the kernel's.
    ///
    /// # Errors
    ///
    /// What the kernel answered. The frame is lost then, as a frame can be on any wire.
    fn pass(&mut self, frame: &[u8]) -> io::Result<()>;
}

/// A frame of the flow that arrived while it was being promoted.
#[derive(Debug)]
pub struct Diverted {
    /// The frame.
    pub frame: RxFrame,
    /// What it holds.
    pub segment: Segment,
}

/// What a step has led to.
#[derive(Debug)]
pub enum Step {
    /// Ask again next turn.
    Waiting,
    /// The connection has left the kernel.
    Done(Box<Promoted>),
    /// It stays where it is, unharmed.
    Failed(PromoteError),
}

/// A connection that has left the kernel. The parts are to be used in this order: first what the kernel still held,
/// then the diverted frames, then the ring.
#[derive(Debug)]
pub struct Promoted {
    /// The state to continue from.
    pub lease: Lease,
    /// Bytes from the kernel's receive queue: they come before everything else.
    pub received: Vec<u8>,
    /// Frames that arrived meanwhile.
    pub diverted: Vec<Diverted>,
    /// The frozen socket.
    pub seam: Seam,
    /// From the first step to now.
    pub took: Duration,
}

/// Why a connection stays in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The process may not freeze sockets.
    #[error("TCP_REPAIR was refused: {0}: promotion needs CAP_NET_ADMIN (run as root)")]
    Privilege(io::Error),
    /// The peer leaves something of ours unacknowledged.
    #[error("the peer has not acknowledged {bytes} bytes for {DRAIN:?}")]
    Unacknowledged {
        /// How much.
        bytes: usize,
    },
    /// The stream has ended.
    #[error("the connection is already closing")]
    Closing,
    /// The flow map could not be changed.
    #[error("the flow map could not be changed: {0}")]
    Map(io::Error),
    /// The peer's answer to the probe did not arrive over the ring.
    #[error(
        "no frame of the flow reached the ring within {waited:?} ({frames} frames of it did, {probes} probes sent)"
    )]
    NoProof {
        /// How long the answer was waited for.
        waited: Duration,
        /// Frames of the flow that did arrive, none of which was an answer.
        frames: usize,
        /// Probes that were sent.
        probes: u32,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// A promotion under way.
#[derive(Debug)]
pub struct Promotion {
    tuple: FourTuple,
    hop: Hop,
    began: Time,
    phase: Phase,
    diverted: Vec<Diverted>,
}

#[derive(Debug)]
enum Phase {
    /// Until everything we sent is acknowledged.
    Draining,
    /// Until the probe is answered over the ring.
    Proving { probe: Probe, sent: u32, next: Time, began: Time, until: Time },
    /// Until the kernel has delivered what was under way to it.
    Meeting { recent: u32, until: Time },
    /// Done or failed.
    Over,
}

/// A keep-alive probe (RFC 1122 section 4.2.3.6): one byte that the peer has had already.
#[derive(Clone, Copy, Debug)]
struct Probe {
    lease: Lease,
    tsval: Option<u32>,
}

impl Promotion {
    /// Prepares the promotion of the connection `tuple`, whose packets travel over `hop`.
    #[must_use]
    pub fn new(tuple: FourTuple, hop: Hop, now: Time) -> Self {
        Self { tuple, hop, began: now, phase: Phase::Draining, diverted: Vec::new() }
    }

    /// The connection.
    #[must_use]
    pub fn tuple(&self) -> &FourTuple {
        &self.tuple
    }

    /// Whether the peer's answer has arrived over the ring. The connection is in the kernel still, and stays there where this is
    /// [abandoned](Self::abandon).
    #[must_use]
    pub fn is_proven(&self) -> bool {
        matches!(self.phase, Phase::Meeting { .. })
    }

    /// A frame of the flow has arrived in the ring.
    pub fn divert(&mut self, frame: RxFrame, segment: Segment) {
        self.diverted.push(Diverted { frame, segment });
    }

    /// Goes on, as far as it goes without waiting. The stream's kernel side must be read before each step. When the
    /// answer is [`Step::Done`], the socket has moved into the promoted connection.
    pub fn step<R: Ring>(
        &mut self,
        now: Time,
        stream: &mut Option<TcpStream>,
        ring: &mut R,
        flows: &mut dyn FlowMap,
    ) -> Step {
        let Some(socket) = stream.as_ref() else { return self.fail(PromoteError::Closing, ring, flows) };
        let result = match self.phase {
            Phase::Draining => self.drain(now, socket, flows),
            Phase::Proving { .. } => self.prove(now, ring),
            Phase::Meeting { .. } => self.meet(now, socket),
            Phase::Over => return Step::Waiting,
        };
        match result {
            Ok(None) => Step::Waiting,
            Ok(Some(Lifted { lease, received, start })) => {
                self.phase = Phase::Over;
                let Some(socket) = stream.take() else { return Step::Waiting };
                Step::Done(Box::new(Promoted {
                    lease,
                    received,
                    diverted: std::mem::take(&mut self.diverted),
                    seam: Seam::new(socket, start, lease.rcv_nxt, now),
                    took: now.since(self.began),
                }))
            }
            Err(error) => self.fail(error, ring, flows),
        }
    }

    /// Gives up: the flow goes back to the kernel, and with it what arrived meanwhile.
    pub fn abandon<R: Ring>(&mut self, ring: &mut R, flows: &mut dyn FlowMap) {
        if !matches!(self.phase, Phase::Draining | Phase::Over)
            && let Err(error) = flows.remove(&self.tuple)
        {
            log::error!("{}: cannot be taken out of the flow map: {error}", self.tuple);
        }
        for Diverted { frame, .. } in self.diverted.drain(..) {
            if let Err(error) = pass(flows, frame.packet()) {
                // Nobody has acknowledged it: the peer sends it again.
                log::debug!("{}: a frame is lost: {error}", self.tuple);
            }
            ring.recycle(frame);
        }
        self.phase = Phase::Over;
    }

    fn fail<R: Ring>(&mut self, error: PromoteError, ring: &mut R, flows: &mut dyn FlowMap) -> Step {
        self.abandon(ring, flows);
        Step::Failed(error)
    }

    fn drain(
        &mut self,
        now: Time,
        socket: &TcpStream,
        flows: &mut dyn FlowMap,
    ) -> Result<Option<Lifted>, PromoteError> {
        let bytes = unacknowledged(socket).map_err(system("SIOCOUTQ"))?;
        if bytes != 0 {
            if now.since(self.began) > DRAIN {
                return Err(PromoteError::Unacknowledged { bytes });
            }
            return Ok(None);
        }
        // What the probe has to say is only known to a frozen socket. Nothing is lost meanwhile: it goes on receiving.
        let frozen = Frozen::freeze(socket).map_err(PromoteError::Privilege)?;
        let ended = frozen.ended().map_err(system("TCP_INFO"))?;
        let lease = frozen.lift(self.tuple, now).map_err(system("TCP_REPAIR"))?;
        frozen.thaw().map_err(system("leaving TCP_REPAIR"))?;
        if ended {
            return Err(PromoteError::Closing);
        }
        let round_trip = Duration::from_micros(round_trip_us(socket).map_err(system("TCP_INFO"))?.into());
        flows.insert(&self.tuple, self.hop.vlan).map_err(PromoteError::Map)?;
        let probe = Probe { lease, tsval: lease.timestamps.map(|clock| clock.at(now)) };
        self.phase = Phase::Proving { probe, sent: 0, next: now, began: now, until: now + 2 * round_trip + PROOF };
        Ok(None)
    }

    fn prove<R: Ring>(&mut self, now: Time, ring: &mut R) -> Result<Option<Lifted>, PromoteError> {
        let Phase::Proving { probe, sent, next, began, until } = &mut self.phase else { return Ok(None) };
        if let Some(answer) = self.diverted.iter().find(|diverted| probe.is_answered_by(diverted)) {
            let recent = answer.segment.timestamps.map_or(0, |(tsval, _)| tsval);
            self.phase = Phase::Meeting { recent, until: now + MEET };
            return Ok(None);
        }
        if now >= *until {
            let waited = now.since(*began);
            return Err(PromoteError::NoProof { waited, frames: self.diverted.len(), probes: *sent });
        }
        if now >= *next {
            *next = now + PROBE_EVERY;
            *sent += 1;
            probe.send(&self.hop, ring);
        }
        Ok(None)
    }

    fn meet(&mut self, now: Time, socket: &TcpStream) -> Result<Option<Lifted>, PromoteError> {
        let Phase::Meeting { recent, until } = self.phase else { return Ok(None) };
        let frozen = Frozen::freeze(socket).map_err(PromoteError::Privilege)?;
        let rcv_nxt = frozen.rcv_nxt().map_err(system("TCP_QUEUE_SEQ"))?;
        // The kernel is done where the next byte it waits for is one the ring has, or has had.
        let met = self.diverted.iter().any(|Diverted { segment, .. }| {
            !segment.payload.is_empty()
                && !segment.seq.is_after(rcv_nxt)
                && (segment.seq + segment.payload.len()).is_after(rcv_nxt)
        });
        if !met && now < until {
            frozen.thaw().map_err(system("leaving TCP_REPAIR"))?;
            return Ok(None);
        }
        let lift = || {
            let (start, received) = frozen.queue()?;
            let lease = frozen.lift(self.tuple, now)?;
            Ok((start, received, lease, frozen.ended()?))
        };
        let (start, received, lease, ended) = lift().map_err(system("lifting the connection out of the kernel"))?;
        if ended || unacknowledged(socket).map_err(system("SIOCOUTQ"))? != 0 {
            frozen.thaw().map_err(system("leaving TCP_REPAIR"))?;
            return Err(PromoteError::Closing);
        }
        let end = start + received.len();
        let timestamps = lease.timestamps.map(|clock| TcpTimestamps { recent, ..clock });
        Ok(Some(Lifted { lease: Lease { rcv_nxt: end, timestamps, ..lease }, received, start }))
    }
}

struct Lifted {
    lease: Lease,
    received: Vec<u8>,
    /// The first byte of the kernel's receive queue.
    start: Seq,
}

impl Probe {
    fn send<R: Ring>(&self, hop: &Hop, ring: &mut R) {
        let lease = &self.lease;
        let window = u32::try_from(lease.rcv_edge.distance(lease.rcv_nxt)).unwrap_or(0);
        let scale = lease.scales.map_or(0, |scales| scales.receive);
        let window = u16::try_from(window >> scale).unwrap_or(u16::MAX);
        let repr = TcpRepr {
            // The peer's last timestamp is not known: the kernel does not tell it. The peer takes no measurement from
            // an acknowledgement that acknowledges nothing new (RFC 7323 section 4.1).
            timestamp: self.tsval.map(|tsval| TcpTimestampRepr::new(tsval, 0)),
            // With a byte it is no mere acknowledgement, and not subject to the limit that Linux puts on answers to
            // those (tcp_oow_rate_limited in net/ipv4/tcp_input.c).
            payload: &[0],
            ..bare_segment(TcpControl::None, lease.snd_nxt - 1, lease.rcv_nxt, window)
        };
        let Some(mut frame) = ring.lend() else { return };
        let envelope = Envelope::new(hop.source, hop.next, hop.vlan, lease.tuple.local.is_ipv6());
        let bytes = frame.bytes_mut();
        envelope.write(bytes);
        let len = envelope.len() + write_segment(&lease.tuple, &repr, &mut bytes[envelope.len()..]);
        ring.transmit(frame, len);
    }

    /// Whether a segment shows that the probe has reached the peer: an acknowledgement without data, one that reports
    /// the probe's byte as a duplicate (RFC 2883), or one that echoes the probe's timestamp.
    fn is_answered_by(&self, diverted: &Diverted) -> bool {
        let Diverted { frame, segment } = diverted;
        if !segment.flags.ack || segment.flags.rst || segment.flags.syn {
            return false;
        }
        let probed = self.lease.snd_nxt - 1;
        let duplicate = segment.sack_blocks(frame.packet()).any(|(left, right)| (left, right) == (probed, probed + 1));
        let echo = segment.timestamps.is_some_and(|(_, tsecr)| Some(tsecr) == self.tsval);
        duplicate || echo || segment.payload.is_empty()
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> PromoteError {
    move |source| PromoteError::System { what, source }
}
