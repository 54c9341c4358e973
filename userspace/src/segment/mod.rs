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
//!   them.
//! - **Number spaces.** A connection that was promoted from the kernel keeps its own sequence numbers, window scale and
//!   timestamp clock on the wire, while smoltcp lives in numbers it chose itself. `wire` translates.
//!
//! It reads no clock, does no I/O but through the ring it is lent, and knows nothing of what the bytes mean.

mod acknowledge;
mod guard;
mod lift;
#[cfg(test)]
mod tests;
mod wire;

use std::ops::Range;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use self::acknowledge::Acknowledgement;
use self::guard::{Guard, Judgement};
use self::lift::Negotiated;
use self::wire::{Outbound, Port};
use crate::floor::counters::counters;
use crate::floor::lease::WindowScales;
use crate::floor::{FourTuple, Hop, Lease, Seq, TcpTimestamps, Time};
use crate::frame::{Envelope, Segment, write_segment};
use crate::ring::{Ring, TxFrame};

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

counters! {
    /// What became of segments.
    pub struct TcpCounters {
        /// Segments whose payload was used where it lay.
        segments_in_order,
        /// Segments with data that went through reassembly.
        segments_reassembled,
        /// Segments without data.
        segments_empty,
        /// Segments that came through the kernel's socket after the handover.
        segments_injected,
        /// Segments that carried an acknowledgement older than one already seen: raised, data kept.
        acks_raised,
        /// Segments that acknowledged what was never sent: answered with a challenge ACK.
        acks_refused,
        /// RST segments whose sequence number was not exactly the next expected: answered with a challenge ACK.
        resets_challenged,
        /// RST segments outside the window.
        resets_outside_window,
        /// SYN segments on an open connection: answered with a challenge ACK.
        syns_challenged,
        /// Challenge ACKs that were held back because one had just been sent.
        challenges_limited,
        /// Segments that reached beyond the window: dropped.
        beyond_window,
        /// Segments without the ACK bit: dropped.
        without_ack,
        /// Segments with data that left before smoltcp knew of them.
        segments_direct,
        /// Segments sent.
        segments_sent,
        /// Segments that could not be sent for want of a free frame: TCP sends them again.
        send_no_frame,
    }
}

impl Tcp {
    /// Begins a connection of our own over the ring: the SYN leaves at the next [`Tcp::turn`].
    ///
    /// `seed` makes the initial sequence number and must be unpredictable (RFC 6528).
    #[must_use]
    pub fn open(tuple: FourTuple, hop: &Hop, seed: u64, now: Time) -> Self {
        let mut tcp = Self::new(tuple, hop, seed, WINDOW_BYTES, now);
        let clock = TcpTimestamps { tsval: (seed >> 32) as u32, read_at: now, tick_ns: 1_000_000, recent: 0 };
        tcp.outbound.timestamps = Some(clock);
        tcp.connect();
        tcp
    }

    /// Continues the connection of `lease`. smoltcp tells the peer the new window in an acknowledgement at the next
    /// [`Tcp::turn`].
    #[must_use]
    pub fn adopt(lease: &Lease, hop: &Hop, seed: u64, now: Time) -> Self {
        // The window that the kernel promised must fit.
        let promised = usize::try_from(lease.rcv_edge.distance(lease.rcv_nxt)).unwrap_or(0);
        let mut tcp = Self::new(lease.tuple, hop, seed, WINDOW_BYTES.max(promised), now);
        tcp.outbound.timestamps = lease.timestamps;
        tcp.connect();

        // smoltcp's SYN stays here. It is answered in the peer's name with what the kernel once negotiated.
        let mut nowhere = crate::ring::MemoryRing::new(1, 1).0;
        tcp.outbound.withhold = true;
        tcp.egress(now, &mut nowhere);
        tcp.outbound.withhold = false;
        let isn = tcp.outbound.snd_nxt - 1;
        let synack = TcpRepr {
            src_port: 0,
            dst_port: 0,
            control: TcpControl::Syn,
            seq_number: number(lease.rcv_nxt - 1),
            ack_number: Some(number(isn + 1)),
            window_len: u16::try_from(lease.snd_wnd).unwrap_or(u16::MAX),
            window_scale: lease.scales.map(|scales| scales.send),
            max_seg_size: Some(lease.mss),
            sack_permitted: lease.sack,
            sack_ranges: [None; 3],
            timestamp: lease.timestamps.map(|clock| TcpTimestampRepr::new(clock.recent, 0)),
            payload: &[],
        };
        let peer = FourTuple { local: lease.tuple.remote, remote: lease.tuple.local };
        let mut packet = [0; 128];
        let len = write_segment(&peer, &synack, &mut packet);
        tcp.hand_over(now, &packet[..len], &mut nowhere);
        debug_assert_eq!(tcp.smoltcp().state(), State::Established);

        tcp.outbound.continue_from(lease, isn + 1);
        tcp.queued = lease.snd_nxt;
        tcp.negotiated = Negotiated { mss: lease.mss, scales: lease.scales, sack: lease.sack };
        tcp.outbound.peer(lease.mss, lease.scales.map_or(0, |scales| scales.send));
        let scale = lease.scales.map_or(0, |scales| scales.send);
        tcp.guard.establish(lease.rcv_nxt, lease.snd_nxt, lease.snd_wnd, scale);
        tcp.timer = now;
        tcp
    }

    fn new(tuple: FourTuple, hop: &Hop, seed: u64, window: usize, now: Time) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let envelope = Envelope::new(hop.source, hop.next, hop.vlan, tuple.local.is_ipv6());
        let mut outbound = Outbound::new(envelope, hop.mtu, window);
        let mut nowhere = crate::ring::MemoryRing::new(1, 1).0;
        let mut interface = Interface::new(
            config,
            &mut Port { arrived: None, ring: &mut nowhere, outbound: &mut outbound },
            instant(now),
        );
        interface.update_ip_addrs(|addresses| {
            let address = tuple.local.ip().into();
            let prefix = if tuple.local.is_ipv6() { 128 } else { 32 };
            addresses.push(IpCidr::new(address, prefix)).expect("the list has room for one address");
        });
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
            acknowledgement: Acknowledgement::default(),
            negotiated: Negotiated::default(),
            ahead: 0,
            queued: Seq::default(),
            timer: now,
            reset: false,
            counters: TcpCounters::default(),
        }
    }

    fn connect(&mut self) {
        if self.outbound.timestamps.is_some() {
            // The value is written over in `wire`: a plain function cannot know the connection's clock.
            self.smoltcp_mut().set_tsval_generator(Some(|| 0));
        }
        let (local, remote) = (self.tuple.local, self.tuple.remote);
        let socket = self.sockets.get_mut::<Socket<'_>>(self.socket);
        socket
            .connect(self.interface.context(), remote, local)
            .expect("a fresh socket with specified addresses and ports of one family connects");
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
        let edge = self.outbound.rcv_edge;
        match self.guard.judge(segment, self.outbound.snd_nxt, edge, &mut self.counters) {
            Judgement::InOrder(ack) => {
                self.outbound.translate_ack(frame, segment.tcp, ack);
                self.ahead += segment.payload.len();
                self.guard.rcv_nxt = self.guard.rcv_nxt + segment.payload.len();
                self.acknowledgement.note(now, segment.payload.len(), self.outbound.mss());
                Arrival::InOrder(segment.payload.clone())
            }
            Judgement::Settle(ack) => {
                self.outbound.translate_ack(frame, segment.tcp, ack);
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
            Judgement::Drop => Arrival::Done,
        }
    }

    /// Gives smoltcp the IP packet of a segment, after its payload has been used. The payload may have been changed in
    /// the meantime: its checksum is not looked at again.
    pub fn settle<R: Ring>(&mut self, now: Time, frame: &[u8], segment: &Segment, ring: &mut R) {
        let connecting = self.smoltcp().state() == State::SynSent;
        if let Some((recent, _)) = segment.timestamps {
            self.outbound.echo(recent, segment.seq);
        }
        self.hand_over(now, &frame[segment.ip.clone()], ring);
        if connecting && self.smoltcp().state() == State::Established {
            self.established(&frame[segment.tcp..segment.payload.start], segment);
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
    fn established(&mut self, header: &[u8], segment: &Segment) {
        let options = TcpPacket::new_checked(header).ok().and_then(|packet| packet.options_summary().ok());
        let scale = options.as_ref().and_then(|options| options.window_scale);
        let sack = options.as_ref().is_some_and(|options| options.sack_permitted);
        // RFC 9293 section 3.7.1: without the option, 536 over IPv4. IPv6 would grant 1220.
        let mss = options.and_then(|options| options.max_segment_size).unwrap_or(536);
        self.outbound.negotiated(scale.is_some(), segment.timestamps.map(|(recent, _)| recent));
        self.outbound.peer(mss, scale.unwrap_or(0));
        self.queued = self.outbound.snd_nxt;
        let scales = scale.map(|send| WindowScales { send, receive: self.outbound.shift_wire });
        self.negotiated = Negotiated { mss, scales, sack };
        self.guard.establish(segment.seq + 1, segment.ack, u32::from(segment.window), 0);
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
        let peer = FourTuple { local: self.tuple.remote, remote: self.tuple.local };
        let mut packet = vec![0; INJECTED_BYTES_MAX + 128];
        for (i, piece) in bytes.chunks(INJECTED_BYTES_MAX).enumerate() {
            let segment = TcpRepr {
                src_port: 0,
                dst_port: 0,
                control: TcpControl::None,
                seq_number: number(seq + i * INJECTED_BYTES_MAX),
                ack_number: Some(number(self.outbound.to_smoltcp(self.guard.snd_una()))),
                window_len: self.guard.last_window(),
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: piece,
            };
            let len = write_segment(&peer, &segment, &mut packet);
            self.hand_over(now, &packet[..len], ring);
            self.counters.segments_injected += 1;
        }
        self.timer = now;
    }

    /// Takes bytes to send; answers how many it took. They leave at once, as far as the peer's window goes.
    pub fn send<R: Ring>(&mut self, now: Time, bytes: &[u8], ring: &mut R) -> usize {
        if self.outbound.is_ahead() {
            self.egress(now, ring);
        }
        let taken = self.smoltcp_mut().send_slice(bytes).unwrap_or(0);
        self.queued = self.queued + taken;
        self.egress(now, ring);
        taken
    }

    /// Where the payload of the next segment begins in its frame, and how many bytes it may have; `None` while the
    /// connection is not open.
    #[must_use]
    pub fn payload_place(&self) -> Option<(usize, usize)> {
        let is_open = self.guard.established() && self.outbound.payload_max > 0;
        is_open.then(|| (self.outbound.payload_start(), self.outbound.payload_max))
    }

    /// Whether `len` bytes may leave at once, as a segment of their own: nothing waits to be sent before them, and the
    /// peer's window has room.
    #[must_use]
    pub fn may_send_direct(&self, len: usize) -> bool {
        let smoltcp = self.smoltcp();
        let window = i64::from(self.guard.last_window()) << self.outbound.shift_peer;
        let unacknowledged = i64::from(self.outbound.snd_nxt.distance(self.guard.snd_una()));
        smoltcp.state() == State::Established
            && self.queued == self.outbound.snd_nxt
            && smoltcp.send_capacity() - smoltcp.send_queue() >= len
            && unacknowledged + len as i64 <= window
    }

    /// Sends `len` bytes that stand in `frame` at [`Tcp::payload_place`] as one segment, ahead of smoltcp: the descriptor
    /// is written first, and smoltcp is told at the next [`Tcp::turn`]. From then on the bytes are smoltcp's to send again.
    ///
    /// Ask [`Tcp::may_send_direct`] first.
    pub fn send_direct<R: Ring>(&mut self, now: Time, mut frame: TxFrame, len: usize, ring: &mut R) {
        debug_assert!(self.may_send_direct(len));
        let start = self.outbound.payload_start();
        // The only copy: what may have to be sent again.
        let kept = self.smoltcp_mut().send_slice(&frame.bytes_mut()[start..start + len]);
        debug_assert_eq!(kept, Ok(len));
        self.queued = self.queued + len;
        // What has been lent upwards is acknowledged with it. smoltcp gets it next, and has no reason to refuse it: the
        // guard has found it in order and inside the window.
        self.outbound.send_direct(&self.tuple, now, self.guard.rcv_nxt, (frame, len), ring);
        self.acknowledgement.sent(now);
        self.counters.segments_direct += 1;
        self.timer = now;
    }

    /// Whether everything sent has been acknowledged.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.smoltcp().send_queue() == 0
    }

    /// Does what is due: acknowledgements, retransmissions, window updates.
    pub fn turn<R: Ring>(&mut self, now: Time, ring: &mut R) {
        if now >= self.timer {
            self.egress(now, ring);
        }
    }

    /// When [`Tcp::turn`] has something to do, at the latest.
    #[must_use]
    pub fn next_turn(&self) -> Time {
        self.timer
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
        counters.send_no_frame = self.outbound.no_frame;
        counters
    }

    /// Sends an acknowledgement of what smoltcp holds, without asking smoltcp.
    fn send_ack<R: Ring>(&mut self, now: Time, ring: &mut R) {
        // Bytes used in place that smoltcp has not seen must not be acknowledged: it could never get them again.
        let ack = self.guard.rcv_nxt - self.ahead;
        self.outbound.send_ack(&self.tuple, now, ack, ring);
    }

    fn hand_over<R: Ring>(&mut self, now: Time, packet: &[u8], ring: &mut R) {
        self.outbound.now = now;
        let mut port = Port { arrived: Some(packet), ring, outbound: &mut self.outbound };
        self.interface.poll_ingress_single(instant(now), &mut port, &mut self.sockets);
    }

    /// Lets smoltcp send all it wants to send, and asks it when it will want to again.
    fn egress<R: Ring>(&mut self, now: Time, ring: &mut R) {
        self.outbound.now = now;
        let mut port = Port { arrived: None, ring, outbound: &mut self.outbound };
        while self.interface.poll_egress(instant(now), &mut port, &mut self.sockets) != smoltcp::iface::PollResult::None
        {
        }
        self.outbound.caught_up();
        if let Some(ack) = self.outbound.owed.take() {
            self.outbound.send_ack(&self.tuple, now, ack, ring);
        }
        self.acknowledgement.sent(now);
        self.guard.forget_filled();
        self.timer = match self.interface.poll_at(instant(now), &self.sockets) {
            None => Time::NEVER,
            // It wants to send and could not: no frame was free. Transmission takes microseconds.
            Some(at) if at <= instant(now) => now + wire::RETRY,
            Some(at) => Time::from_nanos(at.total_micros().unsigned_abs() * 1000),
        };
    }

    fn smoltcp(&self) -> &Socket<'static> {
        self.sockets.get(self.socket)
    }

    fn smoltcp_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// smoltcp's idea of a moment: microseconds.
fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

fn number(seq: Seq) -> TcpSeqNumber {
    TcpSeqNumber(seq.0.cast_signed())
}
