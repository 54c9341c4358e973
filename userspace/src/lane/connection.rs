//! One connection: its path, and whatever carries its bytes at the moment.

mod ending;
mod homecoming;
mod rehearsal;

use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aws_lc_rs::rand;
use rustix::event::PollFlags;

use super::Bypass;
use super::too_big::TooBig;
use super::transport::{BypassOutlet, Bypassed, KernelOutlet, KernelRead, Transport, Way, read_kernel};
use crate::floor::{FourTuple, Hop, Span, Time};
use crate::frame::Segment;
use crate::handover::{DemoteError, Demotion, Diverted, FlowMap, Place, PromoteError, Promoted, Promotion, Step};
use crate::path::{self, Error, Handler, Lost, Path, PathReport, Sender, Source};
use crate::ring::{Ring, RxFrame};
use crate::segment::{Arrival, Tcp, TcpCounters, TcpState};
use ending::Ending;
use homecoming::Homecoming;

/// Bytes read from a kernel socket in one go: four of the largest TLS records.
const STAGING: usize = 64 << 10;
/// Reads from one kernel socket in one turn. With more, a busy socket would keep the ring waiting for milliseconds.
const READS: usize = 16;

/// A connection of a lane.
pub struct Connection {
    path: Path,
    transport: Transport,
    tuple: FourTuple,
    staging: Vec<u8>,
    /// Where the connection lives on the ring, or soon will: what routers say about its packets.
    too_big: Option<TooBig>,
    ending: Ending,
    /// Until when the connection must be open, and when it began.
    open_by: Time,
    began: Time,
    handover: Option<Result<Handover, PromoteError>>,
    handovers: Vec<Handover>,
    homecoming: Homecoming,
    outcome: Option<Outcome>,
    /// Of earlier stays on the ring.
    past_tcp: TcpCounters,
    was_open: bool,
    without_padding: u64,
    /// On the kernel path, nothing is read beyond the message that was begun.
    halting: bool,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("tuple", &self.tuple).field("way", &self.way()).finish_non_exhaustive()
    }
}

/// How a move from the kernel to the ring went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// From the first step to the first frame read from the ring: mostly the time the peer took to answer the probe. The
    /// stream was read all the while.
    pub took: Duration,
    /// Bytes that were taken out of the kernel's receive queue.
    pub received_bytes: usize,
    /// Frames that had arrived in the ring by then.
    pub diverted_frames: usize,
}

/// How a connection ended in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The peer's close code, if it sent one.
    pub code: Option<u16>,
    /// The peer's reason; empty where it gave none.
    pub reason: String,
}

impl Outcome {
    /// The peer has said nothing.
    pub(crate) const NONE: Self = Self { code: None, reason: String::new() };
}

/// The counters of a connection and of its stages.
#[derive(Clone, Debug, Default)]
pub struct ConnectionReport {
    /// From records to events.
    pub path: PathReport,
    /// Of TCP on the ring, all stays together; zero on the kernel path.
    pub tcp: TcpCounters,
    /// Segments whose payload had to be copied because no padding fits behind it in its frame.
    pub segments_without_padding: u64,
    /// The moves from the kernel to the ring.
    pub handovers: Vec<Handover>,
    /// The moves from the ring to the kernel.
    pub demotions: Vec<Demotion>,
    /// Frames that arrived in the ring when their flow was the kernel's already: passed on.
    pub frames_passed: u64,
}

impl Connection {
    /// A connection over a connected, non-blocking kernel socket. It must be open by `open_by`.
    ///
    /// # Errors
    ///
    /// Where the socket is not connected.
    pub fn over_kernel(stream: TcpStream, path: Path, now: Time, open_by: Time) -> Result<Self, Error> {
        let local = stream.local_addr().map_err(Lost::Socket)?;
        let remote = stream.peer_addr().map_err(Lost::Socket)?;
        Ok(Self::new(path, Transport::Kernel(stream), FourTuple { local, remote }, now, open_by))
    }

    /// A connection whose TCP handshake is made over the ring. `port` is a socket that is bound to the local port and
    /// does nothing else. The flow must be in the flow map already.
    #[must_use]
    pub fn over_ring(
        tcp: Tcp,
        port: Option<socket2::Socket>,
        vlan: Option<u16>,
        path: Path,
        now: Time,
        open_by: Time,
    ) -> Self {
        let tuple = tcp.tuple();
        let place = port.map(Place::Port);
        let transport = Transport::Bypass(Box::new(Bypassed::new(tcp, place, vlan)));
        Self { too_big: too_big(tuple), ..Self::new(path, transport, tuple, now, open_by) }
    }

    fn new(path: Path, transport: Transport, tuple: FourTuple, began: Time, open_by: Time) -> Self {
        Self {
            path,
            transport,
            tuple,
            staging: vec![0; STAGING + Span::PAD],
            too_big: None,
            ending: Ending::Not,
            open_by,
            began,
            handover: None,
            handovers: Vec::new(),
            homecoming: Homecoming::default(),
            outcome: None,
            past_tcp: TcpCounters::default(),
            was_open: false,
            without_padding: 0,
            halting: false,
        }
    }

    /// Both ends of the connection.
    #[must_use]
    pub fn tuple(&self) -> FourTuple {
        self.tuple
    }

    /// Where the connection lives.
    #[must_use]
    pub fn way(&self) -> Way {
        self.transport.way()
    }

    /// Everything above TCP.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Everything above TCP.
    #[must_use]
    pub fn path_mut(&mut self) -> &mut Path {
        &mut self.path
    }

    /// A sender of messages, outside of the handler. What it sends leaves with the next turn.
    #[must_use]
    pub fn sender(&mut self) -> Sender<'_> {
        self.path.sender()
    }

    /// Whether the TCP handshake is complete.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        match &self.transport {
            Transport::Bypass(bypassed) => bypassed.tcp.state() != TcpState::Connecting,
            Transport::Kernel(_) | Transport::Leaving { .. } => true,
            Transport::Gone => false,
        }
    }

    /// How the connection ended, once it has, in good order.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// How the last attempt to promote the connection ended, once.
    #[must_use]
    pub fn take_handover(&mut self) -> Option<Result<Handover, PromoteError>> {
        self.handover.take()
    }

    /// Whether the socket it came from is still looked at, which takes `CAP_NET_ADMIN`.
    #[must_use]
    pub fn has_open_seam(&self) -> bool {
        matches!(&self.transport, Transport::Bypass(bypassed) if bypassed.has_open_seam())
    }

    /// How the last request to bring the connection home ended, once.
    #[must_use]
    pub fn take_demotion(&mut self) -> Option<Result<Demotion, DemoteError>> {
        self.homecoming.take_result()
    }

    /// What happened so far.
    #[must_use]
    pub fn report(&self) -> ConnectionReport {
        let mut tcp = self.past_tcp;
        if let Transport::Bypass(bypassed) = &self.transport {
            tcp += bypassed.tcp.counters();
        }
        ConnectionReport {
            path: self.path.counters(),
            tcp,
            segments_without_padding: self.without_padding,
            handovers: self.handovers.clone(),
            demotions: self.homecoming.demotions.clone(),
            frames_passed: self.homecoming.frames_passed,
        }
    }

    /// Stops reading at the end of the message that has begun, as long as the connection is on the kernel path: what follows
    /// stays in the socket.
    pub(crate) fn halt(&mut self) {
        self.halting = true;
    }

    /// Reads on.
    pub(crate) fn go_on(&mut self) {
        self.halting = false;
    }

    /// Everything that another process needs to go on with the connection, once it has halted, and the socket. Nothing may be
    /// done with either before it is known whether the other one has it.
    #[must_use]
    pub(crate) fn estate(&self) -> Option<(path::Estate, BorrowedFd<'_>)> {
        match &self.transport {
            Transport::Kernel(stream) if self.halting => Some((self.path.estate()?, stream.as_fd())),
            _ => None,
        }
    }

    /// Another process has the connection: it is over here, without a word to the peer.
    pub(crate) fn hand_over(&mut self, to: &str) {
        self.transport = Transport::Gone;
        self.outcome = Some(Outcome { code: None, reason: format!("handed over to {to}") });
    }

    /// Whether a segment is of this connection.
    #[inline]
    pub(super) fn owns(&self, segment: &Segment) -> bool {
        segment.tuple == self.tuple
    }

    /// Begins to move the connection to the ring.
    pub(super) fn promote(&mut self, hop: Hop, now: Time) {
        let Transport::Kernel(stream) = std::mem::replace(&mut self.transport, Transport::Gone) else {
            panic!("only a connection on the kernel path can be promoted");
        };
        // Once is enough, and later it may not be allowed any more.
        if self.too_big.is_none() {
            self.too_big = too_big(self.tuple);
        }
        let promotion = Box::new(Promotion::new(self.tuple, hop, now));
        self.transport = Transport::Leaving { stream: Some(stream), promotion };
    }

    /// Addresses what leaves over the ring to another next hop from now on.
    pub(super) fn readdress(&mut self, next_hop: [u8; 6]) {
        if let Transport::Bypass(bypassed) = &mut self.transport {
            bypassed.tcp.readdress(next_hop);
        }
    }

    /// A frame of this connection has arrived.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    #[inline]
    pub(super) fn frame<R: Ring, F: FlowMap, H: Handler>(
        &mut self,
        now: Time,
        frame: RxFrame,
        segment: Segment,
        bypass: &mut Option<Bypass<R, F>>,
        handler: &mut H,
    ) -> Result<(), Error> {
        match (&mut self.transport, &mut *bypass) {
            (Transport::Bypass(_), Some(Bypass { ring, .. })) => {
                let result = self.bypassed_frame(now, frame, &segment, ring, handler);
                self.judge(now, result, bypass)
            }
            (Transport::Leaving { promotion, .. }, _) => {
                promotion.divert(frame, segment);
                Ok(())
            }
            (Transport::Kernel(_), Some(Bypass { ring, flows, .. })) => {
                // The flow has just been taken out of the map.
                self.homecoming.pass(&self.tuple, frame.packet(), flows);
                ring.recycle(frame);
                Ok(())
            }
            (Transport::Gone, Some(Bypass { ring, .. })) => {
                ring.recycle(frame);
                Ok(())
            }
            (_, None) => Ok(()),
        }
    }

    #[inline]
    fn bypassed_frame<R: Ring, H: Handler>(
        &mut self,
        now: Time,
        mut frame: RxFrame,
        segment: &Segment,
        ring: &mut R,
        handler: &mut H,
    ) -> Result<(), Error> {
        let Self { path, transport: Transport::Bypass(bypassed), staging, without_padding, homecoming, .. } = self
        else {
            ring.recycle(frame);
            return Ok(());
        };
        let held = homecoming.is_wanted();
        let Bypassed { tcp, place, .. } = &mut **bypassed;
        let mut result = Ok(());
        match tcp.arrive(now, frame.bytes_mut(), segment, ring) {
            Arrival::InOrder(payload) => {
                let len = payload.len();
                let lies_in = if frame.is_joined() { Source::Joined } else { Source::Frame };
                let bytes = &mut frame.bytes_mut()[payload.start..];
                let (span, source) = if bytes.len() >= len + Span::PAD {
                    (Span::new(bytes, len), lies_in)
                } else {
                    *without_padding += 1;
                    staging[..len].copy_from_slice(&bytes[..len]);
                    (Span::new(staging, len), Source::Staged)
                };
                result = path.arrive(span, source, now, handler, &mut BypassOutlet { tcp, ring, now, held });
                tcp.settle(now, frame.packet(), segment, ring);
                if let Some(Place::Seam(seam)) = place {
                    seam.delivered(tcp.rcv_nxt());
                }
            }
            Arrival::Settle => tcp.settle(now, frame.packet(), segment, ring),
            Arrival::Done => {}
        }
        ring.recycle(frame);
        result?;
        self.read_reassembled(now, ring, handler)
    }

    /// Reads what came through reassembly.
    #[inline]
    fn read_reassembled<R: Ring, H: Handler>(&mut self, now: Time, ring: &mut R, handler: &mut H) -> Result<(), Error> {
        let Self { path, transport: Transport::Bypass(bypassed), staging, homecoming, .. } = self else {
            return Ok(());
        };
        let held = homecoming.is_wanted();
        let tcp = &mut bypassed.tcp;
        while tcp.is_readable() {
            let n = tcp.read(&mut staging[..STAGING]);
            if n == 0 {
                break;
            }
            path.arrive(
                Span::new(staging, n),
                Source::Reassembled,
                now,
                handler,
                &mut BypassOutlet { tcp, ring, now, held },
            )?;
        }
        Ok(())
    }

    /// Does what can be done without waiting; answers how many reads from the kernel there were.
    ///
    /// # Errors
    ///
    /// What ended the connection.
    #[inline]
    pub(super) fn turn<R: Ring, F: FlowMap, H: Handler>(
        &mut self,
        now: Time,
        bypass: &mut Option<Bypass<R, F>>,
        handler: &mut H,
    ) -> Result<usize, Error> {
        let result = self.advance(now, bypass, handler);
        self.judge(now, result, bypass)
    }

    fn advance<R: Ring, F: FlowMap, H: Handler>(
        &mut self,
        now: Time,
        bypass: &mut Option<Bypass<R, F>>,
        handler: &mut H,
    ) -> Result<usize, Error> {
        let mut turn = Turn::default();
        match (&self.transport, &mut *bypass) {
            (Transport::Gone, _) => return Ok(0),
            (Transport::Kernel(_), _) => {
                self.homecoming.arrived(now);
                turn = self.turn_kernel(now, handler)?;
            }
            (Transport::Leaving { .. }, Some(bypass)) => {
                turn = self.turn_kernel(now, handler)?;
                self.step(now, bypass, handler)?;
            }
            (Transport::Bypass(_), Some(bypass)) => {
                turn.ended = self.turn_bypass(now, &mut bypass.ring, handler)?;
                if self.homecoming.is_wanted() && !turn.ended {
                    self.come_home(now, bypass, handler)?;
                }
            }
            (Transport::Leaving { .. } | Transport::Bypass(_), None) => {}
        }
        self.end(now, turn.ended, bypass)?;
        Ok(turn.reads)
    }

    /// Reads the kernel's side.
    fn turn_kernel<H: Handler>(&mut self, now: Time, handler: &mut H) -> Result<Turn, Error> {
        let Self { path, transport, staging, halting, .. } = self;
        let (stream, leaving) = match transport {
            Transport::Kernel(stream) => (&*stream, false),
            Transport::Leaving { stream: Some(stream), .. } => (&*stream, true),
            _ => return Ok(Turn::default()),
        };
        let mut outlet = KernelOutlet { stream, held: leaving };
        path.turn(now)?;
        path.flush(&mut outlet);
        for reads in 0..READS {
            let room = if *halting { path.wanted().unwrap_or(0).min(STAGING) } else { STAGING };
            if room == 0 {
                return Ok(Turn { reads, ended: false });
            }
            match read_kernel(stream, &mut staging[..room])? {
                KernelRead::Bytes(n) => {
                    path.arrive(Span::new(staging, n), Source::Kernel, now, handler, &mut outlet)?;
                }
                KernelRead::Nothing => return Ok(Turn { reads, ended: false }),
                KernelRead::End => return Ok(Turn { reads, ended: true }),
            }
        }
        Ok(Turn { reads: READS, ended: false })
    }

    /// Goes on with the move to the ring.
    fn step<R: Ring, F: FlowMap, H: Handler>(
        &mut self,
        now: Time,
        bypass: &mut Bypass<R, F>,
        handler: &mut H,
    ) -> Result<(), Error> {
        let Transport::Leaving { stream, promotion } = &mut self.transport else { return Ok(()) };
        match promotion.step(now, stream, &mut bypass.ring, &mut bypass.flows) {
            Step::Waiting => Ok(()),
            Step::Failed(error) => {
                self.transport = stream.take().map_or(Transport::Gone, Transport::Kernel);
                self.handover = Some(Err(error));
                Ok(())
            }
            Step::Done(promoted) => {
                let Promoted { lease, received, diverted, seam, took } = *promoted;
                let tcp = Tcp::adopt(&lease, &bypass.hop, seed(), now);
                let vlan = bypass.hop.vlan;
                let place = Some(Place::Seam(seam));
                self.transport = Transport::Bypass(Box::new(Bypassed::new(tcp, place, vlan)));
                let handover = Handover { took, received_bytes: received.len(), diverted_frames: diverted.len() };
                self.handover = Some(Ok(handover));
                self.handovers.push(handover);
                self.take_over(now, received, diverted, &mut bypass.ring, handler)
            }
        }
    }

    /// The first moments on the ring: what the kernel still held, then what has arrived meanwhile.
    fn take_over<R: Ring, H: Handler>(
        &mut self,
        now: Time,
        mut received: Vec<u8>,
        diverted: Vec<Diverted>,
        ring: &mut R,
        handler: &mut H,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        if let Transport::Bypass(bypassed) = &mut self.transport {
            let len = received.len();
            received.resize(len + Span::PAD, 0);
            let mut outlet = BypassOutlet { tcp: &mut bypassed.tcp, ring, now, held: false };
            result = self.path.arrive(Span::new(&mut received, len), Source::Kernel, now, handler, &mut outlet);
        }
        for Diverted { frame, segment } in diverted {
            if result.is_ok() {
                result = self.bypassed_frame(now, frame, &segment, ring, handler);
            } else {
                ring.recycle(frame);
            }
        }
        result
    }

    /// Timers and the seam; answers whether the peer's stream has ended.
    fn turn_bypass<R: Ring, H: Handler>(&mut self, now: Time, ring: &mut R, handler: &mut H) -> Result<bool, Error> {
        let Self { path, transport: Transport::Bypass(bypassed), homecoming, too_big, .. } = self else {
            return Ok(false);
        };
        let ended = bypassed.look_at_seam(now, false, ring).map_err(Lost::Socket)?;
        let tcp = &mut bypassed.tcp;
        if tcp.doubts_path() {
            while let Some((seq, mtu)) = too_big.as_mut().and_then(TooBig::next) {
                if tcp.too_big(now, seq, mtu) {
                    log::info!("{}: a router on the way takes packets of {mtu} bytes at most", tcp.tuple());
                }
            }
        }
        path.turn(now)?;
        path.flush(&mut BypassOutlet { tcp, ring, now, held: homecoming.is_wanted() });
        tcp.turn(now, ring);
        let state = tcp.state();
        self.read_reassembled(now, ring, handler)?;
        match state {
            TcpState::Connecting | TcpState::Open => Ok(ended),
            TcpState::PeerClosed | TcpState::Closed => Ok(true),
            TcpState::Refused => Err(Lost::Refused.into()),
            TcpState::Reset => Err(Lost::Reset.into()),
        }
    }

    /// When a turn has something to do, at the latest, even if nothing arrives.
    pub(super) fn next_turn(&self) -> Time {
        let mut due = if self.was_open { self.path.next_turn() } else { self.open_by };
        match self.ending {
            Ending::Not => {}
            Ending::Closing { until } | Ending::Shutting { until } => due = due.min(until),
        }
        match &self.transport {
            Transport::Kernel(_) | Transport::Gone => due,
            // A step looks for what no descriptor announces.
            Transport::Leaving { .. } => Time::ZERO,
            Transport::Bypass(bypassed) => {
                let seam = match &bypassed.place {
                    Some(Place::Seam(seam)) => seam.next_look(),
                    Some(Place::Port(_)) | None => Time::NEVER,
                };
                due.min(bypassed.tcp.next_turn()).min(seam).min(self.homecoming.next_try())
            }
        }
    }

    /// What becomes ready when there is something to do, and for what.
    pub(super) fn descriptor(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.transport {
            Transport::Kernel(stream) => {
                let writing = if self.path.has_outgoing() { PollFlags::OUT } else { PollFlags::empty() };
                Some((stream.as_fd(), PollFlags::IN | writing))
            }
            Transport::Leaving { .. } | Transport::Bypass(_) | Transport::Gone => None,
        }
    }
}

/// Without it, a path that has become narrower than the link stops what is larger. That is a reason to say so, not to
/// stay in the kernel.
fn too_big(tuple: FourTuple) -> Option<TooBig> {
    TooBig::new(tuple)
        .inspect_err(|error| log::warn!("{tuple}: routers that ask for smaller packets will not be heard: {error}"))
        .ok()
}

/// What a turn on the kernel's side has brought.
#[derive(Default)]
struct Turn {
    reads: usize,
    /// The peer's stream has ended.
    ended: bool,
}

/// What nobody can guess, for a sequence number of smoltcp's.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    // The generator of a process that already speaks TLS does not fail; should it, the number stays on this machine:
    // an adopted connection goes on with the kernel's own.
    if rand::fill(&mut bytes).is_err() {
        log::error!("the system has no random numbers");
    }
    u64::from_ne_bytes(bytes)
}
