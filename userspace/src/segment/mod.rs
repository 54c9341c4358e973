//! The segment stage: TCP of one flow.
//!
//! What comes in are verified segments in the frames they arrived in; what goes out are stream bytes, in order, each
//! exactly once. smoltcp is the TCP; this stage is the shortcut past it and the guard in front of it:
//!
//! - **The shortcut.** smoltcp copies every payload into its receive buffer. A segment that is the next expected one is
//!   therefore lent upwards where it lies in UMEM *first* ([`Arrival::InOrder`]); smoltcp gets the frame *after*
//!   ([`Tcp::settle`]), and what it then has to say about those bytes is thrown away. Everything else (holes, overlaps,
//!   FIN) goes through smoltcp's reassembly and comes up through [`Tcp::read`].
//! - **The guard.** Some segments would do harm in smoltcp: it drops data that carries an old acknowledgement number
//!   (`process` in its `socket/tcp.rs`), and closes on any RST inside the window. `guard` judges segments before smoltcp sees
//!   them, `paws` by their timestamps.
//! - **What is missing.** smoltcp reports one hole (`sack`: all of them) and sends again after a second at the earliest
//!   (`resend`, `rtt`: in about two round trips).
//! - **Number spaces.** A connection that was promoted from the kernel keeps its own sequence numbers, window scale and
//!   timestamp clock on the wire, while smoltcp lives in numbers it chose itself. `wire` translates.
//!
//! It reads no clock, does no I/O but through the ring it is lent, and knows nothing of what the bytes mean.

mod acknowledge;
mod counters;
mod guard;
mod lift;
mod paws;
mod rehearsal;
mod resend;
mod rtt;
mod sack;
mod send;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::Range;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, TcpControl, TcpPacket, TcpRepr, TcpTimestampRepr};

use self::acknowledge::Acknowledgement;
pub use self::counters::TcpCounters;
use self::guard::{Guard, Judgement, Ours};
pub use self::lift::Lifted;
use self::lift::Negotiated;
use self::paws::Clocks;
pub use self::rehearsal::Rehearsal;
use self::rtt::RoundTrips;
use self::sack::Held;
use self::wire::{Outbound, Port};
use crate::floor::lease::WindowScales;
use crate::floor::{FourTuple, Hop, Lease, Seq, TcpTimestamps, Time};
use crate::frame::{Envelope, Segment, bare_segment, write_segment};
use crate::ring::Ring;

/// The receive window, in bytes, unless a lease already promised more.
///
/// 512 KiB. It bounds what a peer can have in flight: with segments of one 150-byte message each, 3,500 of them, which
/// the ring's 4096 frames hold while the handler stalls. Larger windows overflow the ring before they fill; smaller
/// ones throttle a snapshot of megabytes on a path of tens of milliseconds (512 KiB per round trip).
pub const WINDOW_BYTES: usize = 512 << 10;

/// What may wait for the peer's acknowledgement. Orders and pongs are small: 64 KiB is hundreds of them.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// The largest payload of a segment made up from bytes that came another way: what any IP packet can hold.
const INJECTED_BYTES_MAX: usize = 32 << 10;

/// One TCP connection on the bypass.
pub struct Tcp {
    tuple: FourTuple,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    outbound: Outbound,
    guard: Guard,
    held: Held,
    /// The sequence number of a FIN that has come before what it follows.
    early_fin: Option<Seq>,
    /// The segment that is being settled leaves or finds something behind a hole: it is acknowledged at once.
    disordered: bool,
    acknowledgement: Acknowledgement,
    /// What the handshake has agreed on, once it has.
    negotiated: Negotiated,
    /// Bytes that were lent upwards in place and that smoltcp has not yet delivered: the next it delivers are to be
    /// thrown away.
    ahead: usize,
    /// The sequence number behind the last byte that smoltcp was given to send.
    queued: Seq,
    /// When to look at smoltcp's timers.
    timer: Time,
    reset: bool,
    /// Segments sent again when that was last asked for.
    doubted: u64,
    /// Both sides use SACK.
    selective: bool,
    /// The window field of the last segment that was heard while something was on its way.
    last_heard_window: u16,
    counters: TcpCounters,
}

/// What a segment means to the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The payload at this range of the frame is the next of the stream. Use it, then call [`Tcp::settle`].
    InOrder(Range<usize>),
    /// Nothing to use where it lies: call [`Tcp::settle`], then [`Tcp::read`].
    Settle,
    /// Answered or dropped: nothing more to do with this frame.
    Done,
}

/// The state of a connection, as far as its user cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    /// The handshake is under way.
    Connecting,
    /// Data may flow both ways.
    Open,
    /// The peer has sent FIN, and everything before it has been read.
    PeerClosed,
    /// Over in good order.
    Closed,
    /// The peer has refused the connection.
    Refused,
    /// The peer has reset the connection.
    Reset,
}

impl Tcp {
    /// Begins a connection of our own over the ring: the SYN leaves at the next [`Tcp::turn`].
    ///
    /// `seed` makes the initial sequence number and must be unpredictable (RFC 6528).
    #[must_use]
    pub fn open(tuple: FourTuple, hop: &Hop, seed: u64, now: Time) -> Self {
        let mut tcp = Self::new(tuple, hop, seed, WINDOW_BYTES, now);
        let clock = TcpTimestamps { tsval: (seed >> 32) as u32, read_at: now, tick_ns: 1_000_000, recent: 0 };
        tcp.outbound.clocks = Some(Clocks::unheard(clock));
        tcp.connect();
        tcp
    }

    /// Continues the connection of `lease`. smoltcp tells the peer the new window in an acknowledgement at the next
    /// [`Tcp::turn`].
    #[must_use]
    pub fn adopt(lease: &Lease, hop: &Hop, seed: u64, now: Time) -> Self {
        // The window that the kernel promised must fit.
        let promised = usize::try_from(lease.rcv_edge.distance(lease.rcv_nxt)).unwrap_or(0);
        Self::continue_with(lease, hop, seed, WINDOW_BYTES.max(promised), now)
    }

    /// Continues the connection of `lease` with so large a receive buffer.
    fn continue_with(lease: &Lease, hop: &Hop, seed: u64, window: usize, now: Time) -> Self {
        let mut tcp = Self::new(lease.tuple, hop, seed, window, now);
        tcp.outbound.clocks = lease.timestamps.map(Clocks::unheard);
        tcp.connect();

        // smoltcp's SYN stays here. It is answered in the peer's name with what the kernel once negotiated.
        let mut nowhere = crate::ring::MemoryRing::new(1, 1).0;
        tcp.outbound.withhold = true;
        tcp.egress(now, &mut nowhere);
        tcp.outbound.withhold = false;
        let isn = tcp.outbound.snd_nxt - 1;
        let window = u16::try_from(lease.snd_wnd).unwrap_or(u16::MAX);
        let synack = TcpRepr {
            window_scale: lease.scales.map(|scales| scales.send),
            max_seg_size: Some(lease.mss),
            sack_permitted: lease.sack,
            timestamp: lease.timestamps.map(|clock| TcpTimestampRepr::new(clock.recent, 0)),
            ..bare_segment(TcpControl::Syn, lease.rcv_nxt - 1, isn + 1, window)
        };
        let mut packet = [0; 128];
        let len = write_segment(&lease.tuple.reversed(), &synack, &mut packet);
        tcp.hand_over(now, &packet[..len], &mut nowhere);
        debug_assert_eq!(tcp.smoltcp().state(), State::Established);

        tcp.outbound.continue_from(lease, isn + 1);
        tcp.queued = lease.snd_nxt;
        tcp.negotiated = Negotiated { mss: lease.mss, scales: lease.scales };
        tcp.selective = lease.sack;
        tcp.outbound.peer(lease.mss, lease.scales.map_or(0, |scales| scales.send));
        let scale = lease.scales.map_or(0, |scales| scales.send);
        tcp.guard.establish(lease.rcv_nxt, lease.snd_nxt, lease.snd_wnd, scale);
        tcp.timer = now;
        tcp
    }

    fn new(tuple: FourTuple, hop: &Hop, seed: u64, window: usize, now: Time) -> Self {
        let envelope = Envelope::new(hop.source, hop.next, hop.vlan, tuple.local.is_ipv6());
        let mut outbound = Outbound::new(envelope, hop.mtu, window, SEND_BUFFER_BYTES);
        let interface = interface(tuple, &mut outbound, seed, now);
        let mut socket = Socket::new(SocketBuffer::new(vec![0; window]), SocketBuffer::new(vec![0; SEND_BUFFER_BYTES]));
        socket.set_nagle_enabled(false);
        // When to acknowledge is decided here (`acknowledge`), so smoltcp has to do it whenever it is asked.
        socket.set_ack_delay(None);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let socket = sockets.add(socket);
        Self {
            tuple,
            interface,
            sockets,
            socket,
            outbound,
            guard: Guard::default(),
            held: Held::default(),
            early_fin: None,
            disordered: false,
            acknowledgement: Acknowledgement::default(),
            negotiated: Negotiated::default(),
            ahead: 0,
            queued: Seq::default(),
            timer: now,
            reset: false,
            doubted: 0,
            selective: false,
            last_heard_window: 0,
            counters: TcpCounters::default(),
        }
    }

    fn connect(&mut self) {
        if self.outbound.clocks.is_some() {
            // The value is written over in `wire`: a plain function cannot know the connection's clock.
            self.smoltcp_mut().set_tsval_generator(Some(|| 0));
        }
        let (local, remote) = (self.tuple.local, self.tuple.remote);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        socket
            .connect(self.interface.context(), remote, local)
            .expect("a fresh socket with specified addresses and ports of one family connects");
    }

    /// Addresses what leaves from now on to another next hop.
    pub fn readdress(&mut self, next_hop: [u8; 6]) {
        self.outbound.readdress(next_hop);
    }

    /// Both ends of the connection.
    #[must_use]
    pub fn tuple(&self) -> FourTuple {
        self.tuple
    }

    /// What a segment of this connection means. `frame` is the frame it was parsed from; its acknowledgement field may
    /// be changed.
    pub fn arrive<R: Ring>(&mut self, now: Time, frame: &mut [u8], segment: &Segment, ring: &mut R) -> Arrival {
        if !self.guard.established() {
            return Arrival::Settle;
        }
        let outbound = &self.outbound;
        let ours = Ours {
            now,
            snd_nxt: outbound.snd_nxt,
            edge: outbound.rcv_edge,
            acknowledged: outbound.last_ack,
            clocks: outbound.clocks.as_ref(),
        };
        let judgement = self.guard.judge(segment, ours, &mut self.counters);
        if let Judgement::InOrder(ack) | Judgement::Settle(ack) = judgement {
            outbound.translate_ack(frame, segment.tcp, ack, self.guard.last_window());
            self.disordered = !self.held.is_empty();
            if !outbound.flights.is_empty() {
                self.hear(now, frame, segment);
            }
        }
        match judgement {
            Judgement::InOrder(_) => {
                self.ahead += segment.payload.len();
                self.guard.rcv_nxt = self.guard.rcv_nxt + segment.payload.len();
                self.acknowledgement.note(now, segment.payload.len(), self.outbound.mss());
                Arrival::InOrder(segment.payload.clone())
            }
            Judgement::Settle(_) => {
                // Whether it leaves a hole, smoltcp knows better, which may hold more than has been read.
                self.disordered |= segment.sequence_len() > 0 && segment.seq.is_after(self.rcv_held());
                Arrival::Settle
            }
            Judgement::Reset => {
                self.reset = true;
                Arrival::Done
            }
            Judgement::Challenge => {
                if self.guard.may_challenge(now) {
                    self.send_ack(now, ring);
                } else {
                    self.counters.challenges_limited += 1;
                }
                Arrival::Done
            }
            Judgement::Answer => {
                if !segment.seq.is_after(self.guard.rcv_nxt) {
                    self.held.note_duplicate(segment.seq, segment.payload.len());
                }
                self.send_ack(now, ring);
                Arrival::Done
            }
            Judgement::Drop => Arrival::Done,
        }
    }

    /// Gives smoltcp the IP packet of a segment, after its payload has been used. The payload may have been changed in
    /// the meantime: its checksum is not looked at again.
    pub fn settle<R: Ring>(&mut self, now: Time, frame: &[u8], segment: &Segment, ring: &mut R) {
        let connecting = self.smoltcp().state() == State::SynSent;
        if let Some((tsval, _)) = segment.timestamps {
            self.outbound.echo(tsval, segment.seq, now);
        }
        let disordered = std::mem::take(&mut self.disordered);
        if disordered {
            self.hold(segment.seq, segment.payload.len());
            self.outbound.silent = true;
        }
        self.hand_over(now, &frame[segment.ip.clone()], ring);
        if segment.flags.fin || self.early_fin.is_some() {
            self.end_of_stream(now, segment.flags.fin.then(|| segment.seq + segment.payload.len()), ring);
        }
        if disordered {
            // RFC 5681 section 4.2: at once, with each segment behind a hole and each that fills one.
            self.outbound.silent = false;
            self.outbound.holes = !self.held.is_empty();
            self.discard();
            self.send_ack(now, ring);
            self.acknowledgement.sent(now);
        }
        if connecting && self.smoltcp().state() == State::Established {
            self.established(now, &frame[segment.tcp..segment.payload.start], segment);
        }
        self.discard();
        if self.smoltcp().recv_queue() > 0 || segment.flags.fin {
            // Something waited for this segment, or it ends the stream: the peer should know at once.
            self.acknowledgement.at_once(now);
        }
        let waiting = self.smoltcp().send_queue() > 0 || self.smoltcp().state() != State::Established;
        if connecting || waiting {
            // What has just arrived may let smoltcp go on: an opened window, an answered SYN, an acknowledged FIN.
            self.timer = now;
        }
        self.timer = self.timer.min(self.acknowledgement.due());
    }

    /// The peer has answered our SYN with `header`.
    fn established(&mut self, now: Time, header: &[u8], segment: &Segment) {
        let options = TcpPacket::new_checked(header).ok().and_then(|packet| packet.options_summary().ok());
        let scale = options.as_ref().and_then(|options| options.window_scale);
        // RFC 9293 section 3.7.1: without the option, 536 over IPv4. IPv6 would grant 1220.
        let mss = options.and_then(|options| options.max_segment_size).unwrap_or(536);
        self.selective = options.as_ref().is_some_and(|options| options.sack_permitted);
        self.outbound.negotiated(scale.is_some(), segment.timestamps.map(|(recent, _)| recent));
        self.outbound.peer(mss, scale.unwrap_or(0));
        self.queued = self.outbound.snd_nxt;
        let scales = scale.map(|send| WindowScales { send, receive: self.outbound.shift_wire });
        self.negotiated = Negotiated { mss, scales };
        let mut round_trips = RoundTrips::default();
        if let Some(sent) = self.outbound.syn_sent {
            round_trips.sample(now.since(sent), now);
        }
        self.outbound.flights.restart(self.queued, round_trips);
        self.outbound.kept.restart(self.queued);
        self.guard.establish(segment.seq + 1, segment.ack, u32::from(segment.window), 0);
    }

    /// smoltcp is about to get `len` bytes from `seq` on: notes what of it it will hold.
    fn hold(&mut self, seq: Seq, len: usize) {
        let next = self.rcv_held();
        if len > 0 && !self.held.take(next, self.outbound.smoltcp_edge, seq, len) && seq.is_after(next) {
            self.counters.holes_exhausted += 1;
        }
    }

    /// The next byte that smoltcp has not.
    fn rcv_held(&self) -> Seq {
        self.guard.rcv_nxt - self.ahead + self.smoltcp().recv_queue() + usize::from(self.guard.ended)
    }

    /// A segment with FIN, which stands at `fin`, has been given to smoltcp, or one came early: smoltcp forgets a FIN
    /// behind a hole.
    #[cold]
    fn end_of_stream<R: Ring>(&mut self, now: Time, fin: Option<Seq>, ring: &mut R) {
        if let Some(fin) = fin.filter(|fin| !fin.is_after(self.outbound.rcv_edge))
            && !self.has_ended()
            && self.early_fin.is_none()
        {
            self.early_fin = Some(fin);
            self.counters.fins_early += 1;
        }
        if let Some(fin) = self.early_fin
            && !self.guard.ended
            && self.rcv_held() == fin
        {
            self.make_up(now, TcpControl::Fin, fin, &[], ring);
        }
        if self.has_ended() && !self.guard.ended {
            self.guard.ended = true;
            self.early_fin = None;
            self.acknowledgement.at_once(now);
        }
    }

    /// Whether smoltcp has got the peer's FIN.
    fn has_ended(&self) -> bool {
        matches!(self.smoltcp().state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait)
    }

    /// Throws away what smoltcp delivers of bytes that were already used in place.
    fn discard(&mut self) {
        while self.ahead > 0 {
            let ahead = self.ahead;
            let taken = self.smoltcp_mut().recv(|bytes| {
                let n = bytes.len().min(ahead);
                (n, n)
            });
            match taken {
                Ok(n) if n > 0 => self.ahead -= n,
                _ => break,
            }
        }
    }

    /// Copies the next bytes of the stream that came through reassembly to the front of `into`; answers how many.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        self.discard();
        if self.ahead > 0 {
            return 0;
        }
        let n = self.smoltcp_mut().recv_slice(into).unwrap_or(0);
        self.guard.rcv_nxt = self.guard.rcv_nxt + n;
        if n > 0 && self.outbound.announces_less_than(self.smoltcp().recv_capacity() / 2) {
            // The peer may be waiting for the window to open: it is told at the next turn, without being asked for it.
            self.timer = Time::ZERO;
        }
        n
    }

    /// Whether [`Tcp::read`] has anything to read.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.smoltcp().recv_queue() > self.ahead
    }

    /// Takes in bytes of the peer's that did not come over the ring; `seq` is the sequence number of the first. They
    /// come up through [`Tcp::read`] like those of any segment.
    pub fn inject<R: Ring>(&mut self, now: Time, seq: Seq, bytes: &[u8], ring: &mut R) {
        for (i, piece) in bytes.chunks(INJECTED_BYTES_MAX).enumerate() {
            let seq = seq + i * INJECTED_BYTES_MAX;
            if !self.held.is_empty() || seq.is_after(self.rcv_held()) {
                self.hold(seq, piece.len());
            }
            self.make_up(now, TcpControl::None, seq, piece, ring);
            if self.early_fin.is_some() {
                self.end_of_stream(now, None, ring);
            }
            self.outbound.holes = !self.held.is_empty();
            self.counters.segments_injected += 1;
        }
        self.timer = now;
    }

    /// Gives smoltcp a segment in the peer's name.
    fn make_up<R: Ring>(&mut self, now: Time, control: TcpControl, seq: Seq, bytes: &[u8], ring: &mut R) {
        let mut packet = vec![0; bytes.len() + 128];
        let ack = self.outbound.to_smoltcp(self.guard.snd_una());
        let segment = TcpRepr {
            // smoltcp leaves the timestamps out of its answer to a segment that has none (RFC 7323 section 3.2 forbids that);
            // what it echoes is written over in `wire`.
            timestamp: self.outbound.clocks.map(|clocks| TcpTimestampRepr::new(clocks.ours.recent, 0)),
            payload: bytes,
            ..bare_segment(control, seq, ack, self.guard.last_window())
        };
        let len = write_segment(&self.tuple.reversed(), &segment, &mut packet);
        self.hand_over(now, &packet[..len], ring);
    }

    /// Whether everything sent has been acknowledged.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.smoltcp().send_queue() == 0
    }

    /// Does what is due: acknowledgements, retransmissions, window updates.
    pub fn turn<R: Ring>(&mut self, now: Time, ring: &mut R) {
        if now >= self.outbound.flights.due() {
            self.resend(now, ring);
        }
        if now >= self.timer {
            self.egress(now, ring);
        }
    }

    /// When [`Tcp::turn`] has something to do, at the latest.
    #[must_use]
    pub fn next_turn(&self) -> Time {
        self.timer.min(self.outbound.flights.due())
    }

    /// Sends FIN once everything before it has been sent.
    pub fn close<R: Ring>(&mut self, now: Time, ring: &mut R) {
        self.smoltcp_mut().close();
        self.egress(now, ring);
    }

    /// Ends the connection with an RST.
    pub fn abort<R: Ring>(&mut self, now: Time, ring: &mut R) {
        self.smoltcp_mut().abort();
        self.egress(now, ring);
    }

    /// The connection's state.
    #[must_use]
    pub fn state(&self) -> TcpState {
        if self.reset {
            return TcpState::Reset;
        }
        match self.smoltcp().state() {
            State::SynSent | State::SynReceived | State::Listen => TcpState::Connecting,
            State::Established | State::FinWait1 | State::FinWait2 => TcpState::Open,
            State::CloseWait if self.smoltcp().recv_queue() == 0 => TcpState::PeerClosed,
            State::CloseWait => TcpState::Open,
            State::Closing | State::LastAck | State::TimeWait => TcpState::Closed,
            // What was never open can only have been refused.
            State::Closed if !self.guard.established() => TcpState::Refused,
            State::Closed => TcpState::Closed,
        }
    }

    /// The next byte the stream expects from the peer.
    #[must_use]
    pub fn rcv_nxt(&self) -> Seq {
        self.guard.rcv_nxt
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> TcpCounters {
        let mut counters = self.counters;
        counters.segments_sent = self.outbound.sent;
        counters.segments_resent = self.outbound.sent_again;
        counters.resends_held_back = self.outbound.held_back;
        counters.send_no_frame = self.outbound.no_frame;
        counters
    }

    /// Sends an acknowledgement of what smoltcp holds, without asking smoltcp.
    fn send_ack<R: Ring>(&mut self, now: Time, ring: &mut R) {
        // Bytes used in place that smoltcp has not seen must not be acknowledged: it could never get them again.
        let ack = self.rcv_held();
        let window = self.receive_room();
        let blocks =
            if self.selective { self.held.blocks(ack, self.outbound.blocks_max()) } else { sack::Blocks::default() };
        self.counters.acks_selective += u64::from(!blocks.as_slice().is_empty());
        if !self.outbound.send_ack(&self.tuple, now, (ack, window), &blocks, ring) {
            self.outbound.owed = true;
            self.timer = self.timer.min(now + wire::RETRY);
        }
    }

    /// How many bytes may come beyond what smoltcp holds.
    fn receive_room(&self) -> usize {
        let smoltcp = self.smoltcp();
        smoltcp.recv_capacity() - smoltcp.recv_queue()
    }

    fn hand_over<R: Ring>(&mut self, now: Time, packet: &[u8], ring: &mut R) {
        self.outbound.now = now;
        self.outbound.replying = true;
        let mut port = Port { arrived: Some(packet), ring, outbound: &mut self.outbound };
        self.interface.poll_ingress_single(instant(now), &mut port, &mut self.sockets);
        self.outbound.replying = false;
    }

    /// Lets smoltcp send all it wants to send, and asks it when it will want to again.
    fn egress<R: Ring>(&mut self, now: Time, ring: &mut R) {
        self.outbound.now = now;
        let mut port = Port { arrived: None, ring, outbound: &mut self.outbound };
        while self.interface.poll_egress(instant(now), &mut port, &mut self.sockets) != smoltcp::iface::PollResult::None
        {
        }
        self.outbound.caught_up();
        self.acknowledgement.sent(now);
        self.timer = match self.interface.poll_at(instant(now), &self.sockets) {
            None => Time::NEVER,
            // It wants to send and could not: no frame was free. Transmission takes microseconds.
            Some(at) if at <= instant(now) => now + wire::RETRY,
            Some(at) => Time::from_nanos(at.total_micros().unsigned_abs() * 1000),
        };
        if std::mem::take(&mut self.outbound.owed) {
            self.send_ack(now, ring);
        }
    }

    fn smoltcp(&self) -> &Socket<'static> {
        self.sockets.get(self.socket)
    }

    fn smoltcp_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// smoltcp's part that makes packets, for the size of packets that `outbound` knows.
fn interface(tuple: FourTuple, outbound: &mut Outbound, seed: u64, now: Time) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut nowhere = crate::ring::MemoryRing::new(1, 1).0;
    let mut interface = Interface::new(config, &mut Port { arrived: None, ring: &mut nowhere, outbound }, instant(now));
    interface.update_ip_addrs(|addresses| {
        let address = tuple.local.ip().into();
        let prefix = if tuple.local.is_ipv6() { 128 } else { 32 };
        addresses.push(IpCidr::new(address, prefix)).expect("the list has room for one address");
    });
    interface
}

/// smoltcp's idea of a moment: microseconds.
fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}
