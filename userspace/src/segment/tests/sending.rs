//! What we send: ahead of smoltcp, through smoltcp, and mixed.

use proptest::prelude::*;

use super::*;

impl Bench {
    /// Sends `bytes` as a path does that has laid them out in a frame; answers whether they left directly.
    pub(super) fn send_direct(&mut self, bytes: &[u8]) -> bool {
        let (start, max) = self.tcp.payload_place().expect("the connection is open");
        if bytes.len() > max || !self.tcp.may_send_direct(bytes.len()) {
            return false;
        }
        let mut frame = self.ring.lend().unwrap();
        frame.bytes_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        self.tcp.send_direct(self.now, frame, bytes.len(), &mut self.ring);
        true
    }
}

#[test]
fn a_direct_segment_leaves_at_once_and_only_once() {
    for mut lease in [lease(), Lease { timestamps: None, ..lease() }] {
        lease.rcv_nxt = Seq(5000);
        let mut bench = Bench::adopted(&lease);
        bench.sent();
        assert!(bench.send_direct(b"order"));
        let (segment, packet) = bench.sent_one();
        assert_eq!((segment.seq, segment.ack, &packet[segment.payload.clone()]), (Seq(1000), Seq(5000), &b"order"[..]));
        assert_eq!(segment.timestamps.is_some(), lease.timestamps.is_some());
        assert_eq!(segment.payload.start, bench.tcp.payload_place().unwrap().0);
        bench.turn();
        assert!(bench.sent().is_empty(), "smoltcp's copy of it stays here");
        assert_eq!(bench.tcp.counters().segments_direct, 1);
    }
}

#[test]
fn it_acknowledges_the_segment_it_answers_and_no_other_packet_does() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    // What a lane does, with the answer in the middle: between the arrival and the settling.
    let (mut rx, segment) = bench.take_up(&peer_sends(b"tick"));
    assert!(matches!(bench.tcp.arrive(bench.now, rx.bytes_mut(), &segment, &mut bench.ring), Arrival::InOrder(_)));
    assert!(bench.send_direct(b"trade"));
    bench.tcp.settle(bench.now, rx.packet(), &segment, &mut bench.ring);
    bench.ring.recycle(rx);
    bench.turn();
    assert_eq!(bench.sent_one().0.ack, Seq(5004));
    bench.later(Duration::from_millis(5));
    assert!(bench.sent().is_empty(), "everything has been acknowledged");
}

#[test]
fn an_acknowledgement_that_smoltcp_put_into_what_had_left_already_is_not_lost() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    assert!(bench.send_direct(b"order"));
    // Before the turn, another segment comes: smoltcp's copy of the order acknowledges it.
    bench.arrive(&peer_sends(b"news"));
    assert_eq!(bench.sent_one().0.ack, Seq(5000));
    bench.turn();
    let (segment, _) = bench.sent_one();
    assert_eq!((segment.ack, segment.payload.len()), (Seq(5004), 0));
}

#[test]
fn a_direct_segment_that_is_lost_is_sent_again() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    assert!(bench.send_direct(b"order"));
    bench.sent();
    bench.turn();
    bench.later(Duration::from_millis(1100));
    let (again, packet) = bench.sent_one();
    assert_eq!((again.seq, &packet[again.payload]), (Seq(1000), &b"order"[..]));
}

#[test]
fn what_is_sent_behind_a_direct_segment_follows_it() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    assert!(bench.send_direct(b"order"));
    let now = bench.now;
    bench.tcp.send(now, b"more", &mut bench.ring);
    let sent = bench.sent();
    let texts: Vec<_> = sent.iter().map(|(segment, packet)| (segment.seq, &packet[segment.payload.clone()])).collect();
    assert_eq!(texts, [(Seq(1000), &b"order"[..]), (Seq(1005), &b"more"[..])]);
}

#[test]
fn with_the_peers_window_full_nothing_leaves_directly() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    bench.arrive(&TcpRepr { window_len: 0, ..peer_sends(b"") });
    assert!(!bench.tcp.may_send_direct(1));
    let now = bench.now;
    bench.tcp.send(now, b"order", &mut bench.ring);
    assert!(bench.sent().iter().all(|(segment, _)| segment.payload.is_empty()));
    bench.arrive(&peer_sends(b""));
    assert!(!bench.tcp.may_send_direct(1), "what waits goes first");
    bench.turn();
    assert_eq!(bench.sent_one().0.payload.len(), 5);
    assert!(bench.tcp.may_send_direct(1));
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    Direct(usize),
    Send(usize),
    Turn,
    /// The peer sends a byte, and acknowledges what it has.
    Peer,
    /// So many milliseconds pass.
    Later(u64),
}

pub(super) fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        (1usize..1400).prop_map(Deed::Direct),
        (1usize..3000).prop_map(Deed::Send),
        Just(Deed::Turn),
        Just(Deed::Peer),
        (1u64..400).prop_map(Deed::Later),
    ]
}

/// Does it; what is said to the peer is added to `said`.
pub(super) fn do_deed(deed: Deed, bench: &mut Bench, peer: &mut Peer, said: &mut Vec<u8>) {
    let text = |len: usize, at: usize| -> Vec<u8> { (at..at + len).map(|i| (i * 7 + i / 251) as u8).collect() };
    match deed {
        Deed::Direct(len) => {
            let bytes = text(len, said.len());
            if bench.send_direct(&bytes) {
                said.extend(bytes);
            }
        }
        Deed::Send(len) => {
            let bytes = text(len, said.len());
            let now = bench.now;
            let taken = bench.tcp.send(now, &bytes, &mut bench.ring);
            said.extend(&bytes[..taken]);
        }
        Deed::Turn => bench.turn(),
        Deed::Peer => peer.answer(bench),
        Deed::Later(ms) => bench.later(Duration::from_millis(ms)),
    }
}

/// The peer: puts together what arrives, some of which the wire loses.
pub(super) struct Peer {
    start: Seq,
    bytes: Vec<Option<u8>>,
    sent: i64,
    losses: u64,
    /// From now on the wire loses nothing.
    pub(super) calm: bool,
    /// It reports what it holds behind holes.
    pub(super) selective: bool,
}

impl Peer {
    pub(super) fn new(losses: u64) -> Self {
        Self { start: Seq(1000), bytes: Vec::new(), sent: 0, losses, calm: false, selective: false }
    }

    pub(super) fn take(&mut self, bench: &mut Bench) -> Result<(), TestCaseError> {
        for (segment, packet) in bench.sent() {
            self.losses = self.losses.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            prop_assert!(segment.ack.distance(Seq(5000)) <= self.sent as i32, "acknowledged what was never sent");
            if !self.calm && (self.losses >> 33).is_multiple_of(4) {
                continue;
            }
            let at = usize::try_from(segment.seq.distance(self.start)).unwrap();
            for (i, byte) in packet[segment.payload].iter().enumerate() {
                if self.bytes.len() <= at + i {
                    self.bytes.resize(at + i + 1, None);
                }
                prop_assert!(self.bytes[at + i].is_none_or(|known| known == *byte), "a byte has changed");
                self.bytes[at + i] = Some(*byte);
            }
        }
        Ok(())
    }

    fn has(&self) -> usize {
        self.bytes.iter().take_while(|byte| byte.is_some()).count()
    }

    pub(super) fn heard(&self) -> Vec<u8> {
        self.bytes.iter().map_while(|byte| *byte).collect()
    }

    /// The first range behind a hole.
    fn held(&self) -> Option<(u32, u32)> {
        let left = self.has() + self.bytes[self.has()..].iter().position(Option::is_some)?;
        let right = left + self.bytes[left..].iter().take_while(|byte| byte.is_some()).count();
        Some(((self.start + left).0, (self.start + right).0))
    }

    pub(super) fn answer(&mut self, bench: &mut Bench) {
        let ack = seq(1000 + self.has() as i64);
        let sack_ranges = [if self.selective { self.held() } else { None }, None, None];
        bench.arrive(&TcpRepr {
            seq_number: seq(5000 + self.sent),
            ack_number: Some(ack),
            sack_ranges,
            ..peer_sends(b"x")
        });
        self.sent += 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// However direct and other sends mix with what the peer does, and whatever is lost, the peer gets our bytes.
    #[test]
    fn however_it_is_sent_the_peer_gets_the_stream(deeds in proptest::collection::vec(deed(), 1..60), losses in any::<u64>()) {
        let mut bench = Bench::adopted(&lease());
        let mut peer = Peer::new(losses);
        let mut said = Vec::new();
        for deed in deeds {
            do_deed(deed, &mut bench, &mut peer, &mut said);
            peer.take(&mut bench)?;
        }
        // smoltcp doubles its timeout with every try, without a bound worth waiting for.
        peer.calm = true;
        for _ in 0..400 {
            if bench.tcp.is_drained() {
                break;
            }
            bench.later(Duration::from_millis(500));
            peer.take(&mut bench)?;
            peer.answer(&mut bench);
            bench.turn();
            peer.take(&mut bench)?;
        }
        prop_assert_eq!(peer.heard().len(), said.len());
        prop_assert!(peer.heard() == said);
        prop_assert!(bench.tcp.is_drained());
    }
}
