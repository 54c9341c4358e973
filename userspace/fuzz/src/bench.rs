//! One `Tcp` over a ring in memory, the peer played by hand, and what must hold of every packet that leaves.
//!
//! Both streams are texts that are known at every offset, so that each byte can be told from each other one. The model has
//! one number space, that of the wire: the lease's.

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, TcpTimestampRepr};
use wiretick::floor::lease::{TcpTimestamps, WindowScales};
use wiretick::floor::{FourTuple, Hop, Lease, Seq, Time};
use wiretick::frame::{self, Envelope, Segment};
use wiretick::ring::{FarEnd, MemoryRing, Ring, RxFrame, TxFrame};
use wiretick::segment::{Arrival, Tcp, WINDOW_BYTES};

/// Chunks of the ring, for each direction: what is sent is taken at once.
pub(crate) const CHUNKS: usize = 8;

/// What the peer has at this offset of its stream; before its beginning, too.
pub(crate) fn theirs(at: i64) -> u8 {
    (at * 7 + at / 256 * 13) as u8
}

/// What we have at this offset of ours.
pub(crate) fn ours(at: usize) -> u8 {
    (at * 5 + at / 256 * 11) as u8 ^ 0x5a
}

/// A segment of the peer's.
#[derive(Clone, Debug)]
pub(crate) struct Theirs {
    pub(crate) seq: Seq,
    pub(crate) ack: Seq,
    pub(crate) control: TcpControl,
    pub(crate) window: u16,
    pub(crate) timestamp: Option<u32>,
    pub(crate) payload: Vec<u8>,
    /// Bits that the flags have besides.
    pub(crate) bits: u8,
    /// Instead of the options that go with the above: whole words.
    pub(crate) options: Option<Vec<u8>>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// It is broken: nobody but the frame walk saw it.
    Malformed,
    Seen,
}

pub(crate) struct Bench {
    pub(crate) tcp: Tcp,
    pub(crate) ring: MemoryRing,
    far: FarEnd,
    pub(crate) now: Time,
    pub(crate) lease: Lease,
    hop: Hop,
    /// Offset 0 of the peer's stream, and of ours.
    pub(crate) their_start: Seq,
    pub(crate) our_start: Seq,
    /// Bytes of the peer's stream that came up.
    pub(crate) delivered: usize,
    /// Nothing is read, and nothing used where it lies.
    pub(crate) stalled: bool,
    /// Runs of the peer's stream that were put on the wire; from its beginning on, so that all of it is known.
    put: Vec<(i64, i64)>,
    /// Where the peer's stream ends, once that was said.
    pub(crate) fin: Option<i64>,
    /// Bytes we were given to send.
    pub(crate) queued: usize,
    /// The furthest byte of ours that left, since the connection was taken over.
    pub(crate) sent: usize,
    /// The furthest the peer has acknowledged, of what was believed.
    pub(crate) acknowledged: usize,
    /// What the last packet acknowledged, and the furthest byte that was ever allowed.
    pub(crate) last_ack: Option<Seq>,
    pub(crate) edge: Seq,
    /// The timestamps the peer has used: what may be echoed.
    used: Vec<u32>,
    pub(crate) echoed: Option<u32>,
    /// The peer has left its timestamps out of a segment, which RFC 7323 (section 3.2) forbids. smoltcp answers in kind.
    untimed: bool,
    /// Our own timestamp clock.
    clock: Option<TcpTimestamps>,
    held: Vec<TxFrame>,
}

/// A lease that the first bytes of a script describe.
pub(crate) fn lease(script: &mut Unstructured<'_>) -> arbitrary::Result<(Lease, Hop)> {
    let (choices, rcv_nxt, snd_nxt): (u8, u32, u32) = script.arbitrary()?;
    let (promised, snd_wnd, recent, tsval): (u16, u16, u32, u32) = script.arbitrary()?;
    let has = |bit: u8| choices & 1 << bit != 0;
    let at = |text: &str| text.parse::<SocketAddr>().expect("it is an address");
    let tuple = if has(0) {
        FourTuple { local: at("[fd77::1]:40000"), remote: at("[fd77::2]:443") }
    } else {
        FourTuple { local: at("10.77.0.1:40000"), remote: at("10.77.0.2:443") }
    };
    let scales = has(1).then_some(WindowScales { send: choices >> 6, receive: 10 });
    let promised = usize::from(promised) << if has(1) { 4 } else { 0 };
    let lease = Lease {
        tuple,
        snd_nxt: Seq(snd_nxt),
        rcv_nxt: Seq(rcv_nxt),
        snd_wnd: u32::from(snd_wnd) << scales.map_or(0, |scales| scales.send),
        rcv_edge: Seq(rcv_nxt) + promised,
        mss: if has(2) { 1460 } else { 536 },
        scales,
        sack: has(3),
        timestamps: has(4).then_some(TcpTimestamps { tsval, read_at: Time::ZERO, tick_ns: 1_000_000, recent }),
        round_trip: None,
    };
    let hop = Hop { source: [2, 0, 0, 0, 0, 1], next: [2, 0, 0, 0, 0, 2], vlan: has(5).then_some(77), mtu: 1500 };
    Ok((lease, hop))
}

impl Bench {
    pub(crate) fn adopted(lease: &Lease, hop: &Hop) -> Self {
        let (ring, far) = MemoryRing::new(CHUNKS, CHUNKS);
        let now = Time::ZERO + Duration::from_millis(1);
        let mut bench = Self {
            tcp: Tcp::adopt(lease, hop, 42, now),
            ring,
            far,
            now,
            lease: *lease,
            hop: *hop,
            their_start: lease.rcv_nxt,
            our_start: lease.snd_nxt,
            delivered: 0,
            stalled: false,
            put: Vec::new(),
            fin: None,
            queued: 0,
            sent: 0,
            acknowledged: 0,
            last_ack: None,
            edge: lease.rcv_edge,
            used: lease.timestamps.iter().map(|clock| clock.recent).collect(),
            echoed: lease.timestamps.map(|clock| clock.recent),
            untimed: false,
            clock: lease.timestamps,
            held: Vec::new(),
        };
        bench.turn();
        bench
    }

    /// Goes on with another `Tcp`, made from `lease`, which the last one was lifted into.
    pub(crate) fn adopt_again(&mut self, lease: &Lease, seed: u64) {
        self.tcp = Tcp::adopt(lease, &self.hop, seed, self.now);
        self.lease = *lease;
        self.sent = self.acknowledged;
    }

    /// A segment of the peer's at this place of its stream, as honest as can be: it acknowledges all it has seen.
    pub(crate) fn honest(&self, at: i64, len: usize) -> Theirs {
        Theirs {
            seq: self.at(at),
            ack: self.our_start + self.sent,
            control: TcpControl::None,
            window: 500,
            timestamp: self.echoed,
            payload: (at..).take(len).map(theirs).collect(),
            bits: 0,
            options: None,
        }
    }

    /// The sequence number at this offset of the peer's stream.
    pub(crate) fn at(&self, offset: i64) -> Seq {
        Seq(self.their_start.0.wrapping_add(offset as u32))
    }

    /// Lets a segment of the peer's arrive, and does with it what a lane does.
    pub(crate) fn arrive(&mut self, segment: &Theirs) -> Fate {
        let packet = self.packet(segment);
        self.used.extend(segment.timestamp);
        self.untimed |= segment.timestamp.is_none() || segment.options.is_some();
        if segment.control == TcpControl::Fin {
            let end = i64::from(segment.seq.distance(self.their_start)) + segment.payload.len() as i64;
            assert!(self.fin.is_none_or(|fin| fin == end), "a stream has one end");
            self.fin = Some(end);
        }
        let from = i64::from(segment.seq.distance(self.their_start));
        if !segment.payload.is_empty() {
            self.put.push((from, from + segment.payload.len() as i64));
        }
        assert!(self.far.deliver(&packet), "the ring ran dry");
        let mut batch: Vec<RxFrame> = Vec::new();
        self.ring.receive(&mut batch, 1);
        let mut rx = batch.pop().expect("it was delivered");
        let Ok(Some(parsed)) = frame::parse(rx.packet()) else {
            self.give_back(rx);
            return Fate::Malformed;
        };
        assert_eq!(parsed.tuple, self.lease.tuple);
        match self.tcp.arrive(self.now, rx.bytes_mut(), &parsed, &mut self.ring) {
            Arrival::InOrder(range) => {
                let bytes = rx.packet()[range.clone()].to_vec();
                self.take(&bytes);
                // As opening a record does.
                rx.bytes_mut()[range].fill(0xee);
                self.tcp.settle(self.now, rx.packet(), &parsed, &mut self.ring);
            }
            Arrival::Settle => self.tcp.settle(self.now, rx.packet(), &parsed, &mut self.ring),
            Arrival::Done => {}
        }
        self.give_back(rx);
        self.read();
        self.look();
        Fate::Seen
    }

    fn give_back(&mut self, rx: RxFrame) {
        self.ring.recycle(rx);
        self.ring.flush().expect("memory does not fail");
    }

    fn packet(&self, segment: &Theirs) -> Vec<u8> {
        let peer = FourTuple { local: self.lease.tuple.remote, remote: self.lease.tuple.local };
        let options = segment.options.as_deref().unwrap_or_default();
        // smoltcp would not write such options: for it they are payload, at first.
        let payload = [options, &segment.payload].concat();
        let repr = TcpRepr {
            src_port: 0,
            dst_port: 0,
            control: segment.control,
            seq_number: TcpSeqNumber(segment.seq.0.cast_signed()),
            ack_number: Some(TcpSeqNumber(segment.ack.0.cast_signed())),
            window_len: segment.window,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: segment
                .timestamp
                .filter(|_| segment.options.is_none())
                .map(|value| TcpTimestampRepr::new(value, 0)),
            payload: &payload,
        };
        let envelope = Envelope::new(self.hop.next, self.hop.source, self.hop.vlan, peer.local.is_ipv6());
        let mut packet = vec![0; 200 + payload.len()];
        envelope.write(&mut packet);
        let ip = envelope.len();
        let end = ip + frame::write_segment(&peer, &repr, &mut packet[ip..]);
        packet.truncate(end);
        let tcp = if peer.local.is_ipv6() { 40 } else { 20 };
        let mut header = TcpPacket::new_unchecked(&mut packet[ip + tcp..]);
        if segment.options.is_some() {
            header.set_header_len(u8::try_from(20 + options.len()).expect("at most 40 bytes of options"));
        }
        packet[ip + tcp + 13] |= segment.bits;
        frame::seal(&mut packet[ip..], tcp);
        packet
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            assert_eq!(*byte, theirs(self.delivered as i64), "at {} of the stream", self.delivered);
            self.delivered += 1;
        }
        let at = self.delivered as i64;
        assert!(at <= self.frontier(), "{at} bytes came up, of which {} were sent", self.frontier());
        assert!(self.fin.is_none_or(|fin| at <= fin), "something came up from behind the end");
    }

    /// Reads what there is, unless stalled.
    pub(crate) fn read(&mut self) {
        let mut buffer = [0; 300];
        while !self.stalled {
            let n = self.tcp.read(&mut buffer);
            if n == 0 {
                break;
            }
            self.take(&buffer[..n]);
        }
        assert_eq!(self.tcp.rcv_nxt(), self.their_start + self.delivered);
    }

    /// How far the peer's stream is known without a hole.
    pub(crate) fn frontier(&self) -> i64 {
        let mut frontier = self.delivered as i64;
        while let Some((_, to)) = self.put.iter().find(|(from, to)| *from <= frontier && frontier < *to) {
            frontier = *to;
        }
        frontier
    }

    /// Forgets what was put beyond the frontier: it has to come again.
    pub(crate) fn forget_what_is_behind_holes(&mut self) {
        let frontier = self.frontier();
        self.put = vec![(0, frontier)];
    }

    /// The end of what was ever put on the wire.
    pub(crate) fn put_end(&self) -> i64 {
        self.put.iter().map(|(_, to)| *to).max().unwrap_or(0).max(self.delivered as i64)
    }

    pub(crate) fn turn(&mut self) {
        self.tcp.turn(self.now, &mut self.ring);
        self.look();
    }

    pub(crate) fn later(&mut self, by: Duration) {
        self.now = self.now + by;
        self.turn();
    }

    /// We send as many bytes, as far as there is room for them.
    pub(crate) fn send(&mut self, len: usize) {
        let bytes: Vec<u8> = (self.queued..self.queued + len).map(ours).collect();
        self.queued += self.tcp.send(self.now, &bytes, &mut self.ring);
        self.look();
    }

    /// We send as many bytes ahead of smoltcp, where that may be.
    pub(crate) fn send_direct(&mut self, len: usize) {
        let (Some((start, room)), true) = (self.tcp.payload_place(), self.tcp.may_send_direct(len)) else { return };
        let Some(mut tx) = self.ring.lend() else { return };
        assert!(len <= room);
        for (i, byte) in tx.bytes_mut()[start..start + len].iter_mut().enumerate() {
            *byte = ours(self.queued + i);
        }
        self.queued += len;
        self.tcp.send_direct(self.now, tx, len, &mut self.ring);
        self.look();
    }

    /// Keeps all frames but so many from being sent in.
    pub(crate) fn leave_frames(&mut self, left: usize) {
        for tx in self.held.drain(..) {
            self.ring.cancel(tx);
        }
        for _ in left..CHUNKS {
            self.held.extend(self.ring.lend());
        }
    }

    /// Looks at all that has left.
    fn look(&mut self) {
        while let Some(packet) = self.far.take() {
            let segment = frame::parse(&packet).expect("what leaves is intact").expect("what leaves is TCP");
            self.judge(&segment, &packet);
        }
    }

    fn judge(&mut self, segment: &Segment, packet: &[u8]) {
        let shown = || format!("{segment:?}, delivered {}, lease {:?}", self.delivered, self.lease);
        assert_eq!((packet[..6].as_ref(), packet[6..12].as_ref()), (&self.hop.next[..], &self.hop.source[..]));
        assert_eq!(segment.vlan, self.hop.vlan.unwrap_or(0));
        let tuple = FourTuple { local: segment.tuple.remote, remote: segment.tuple.local };
        assert_eq!(tuple, self.lease.tuple);
        let flags = segment.flags;
        assert!(flags.ack && !flags.syn && !flags.rst && !flags.fin && !flags.urg, "{}", shown());

        // Our numbers and bytes: those of the connection, as if there were no others.
        let from = segment.seq.distance(self.our_start);
        let from = usize::try_from(from).unwrap_or_else(|_| panic!("before the beginning: {}", shown()));
        let to = from + segment.payload.len();
        assert!(to <= self.queued, "{to} of {} bytes: {}", self.queued, shown());
        for (i, byte) in packet[segment.payload.clone()].iter().enumerate() {
            assert_eq!(*byte, ours(from + i), "at {} of what is sent: {}", from + i, shown());
        }
        assert!(segment.payload.len() <= usize::from(self.lease.mss), "{}", shown());
        self.sent = self.sent.max(to);

        // Theirs: never more than has come, never back.
        let end = self.frontier();
        let end = end + i64::from(self.fin == Some(end));
        let ack = i64::from(segment.ack.distance(self.their_start));
        assert!(ack <= end, "it acknowledges {ack} of {end}: {}", shown());
        if let Some(last) = self.last_ack {
            assert!(!last.is_after(segment.ack), "it acknowledges less than before, {last}: {}", shown());
        }
        self.last_ack = Some(segment.ack);
        for (left, right) in segment.sack_blocks(packet) {
            assert!(self.lease.sack, "{}", shown());
            let (left, right) = (left.distance(self.their_start).into(), right.distance(self.their_start).into());
            assert!(self.was_put(left, right), "it reports {left}..{right}: {}", shown());
        }

        // The window: what was promised is kept, to within what its unit can say.
        let shift = self.lease.scales.map_or(0, |scales| scales.receive);
        let edge = segment.ack + (usize::from(segment.window) << shift);
        assert!(!(self.edge - ((1 << shift) - 1)).is_after(edge), "the window shrinks from {}: {}", self.edge, shown());
        let most = self.their_start + self.delivered + WINDOW_BYTES + (1 << 20);
        assert!(!edge.is_after(most), "{}", shown());
        self.edge = self.edge.max(edge);

        // The timestamps: our clock goes on, and theirs is one of theirs.
        let has_timestamps = segment.timestamps.is_some();
        assert!(has_timestamps == self.clock.is_some() || (self.untimed && !has_timestamps), "{}", shown());
        if let (Some((value, echo)), Some(clock)) = (segment.timestamps, self.clock) {
            assert_eq!(value, clock.at(self.now), "{}", shown());
            assert!(self.used.contains(&echo), "it echoes {echo}: {}", shown());
            self.echoed = Some(echo);
        }
    }

    /// Whether every byte of this run was put on the wire.
    fn was_put(&self, from: i64, to: i64) -> bool {
        let mut at = from;
        while at < to {
            let Some((_, end)) = self.put.iter().find(|(from, end)| *from <= at && at < *end) else { return false };
            at = *end;
        }
        from < to
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A ring whose frames are out leaks its memory.
        self.leave_frames(CHUNKS);
    }
}
