//! TCP as segment scripts: what the peer sends, what leaves, what the stream gets.
//!
//! The peer is played by hand: one template, and what differs. The same `Tcp` runs over the in-memory ring as over
//! AF_XDP, and time is an argument.

use std::net::SocketAddr;
use std::time::Duration;

use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};

use super::*;
use crate::floor::lease::WindowScales;
use crate::frame::{self, Segment};
use crate::ring::{FarEnd, MemoryRing, RxFrame};

mod closing;
mod disorder;
mod path_mtu;
mod rehearsal;
mod resending;
mod sending;
mod streams;

const MS: Duration = Duration::from_millis(1);

fn tuple() -> FourTuple {
    let at = |s: &str| s.parse::<SocketAddr>().unwrap();
    FourTuple { local: at("10.77.0.1:40000"), remote: at("10.77.0.2:443") }
}

fn hop() -> Hop {
    Hop { source: [2, 0, 0, 0, 0, 1], next: [2, 0, 0, 0, 0, 2], vlan: None, mtu: 1500 }
}

/// A connection the kernel has set up; both sides scale, use SACK and timestamps.
fn lease() -> Lease {
    Lease {
        tuple: tuple(),
        snd_nxt: Seq(1000),
        rcv_nxt: Seq(5000),
        snd_wnd: 60_000,
        rcv_edge: Seq(5000) + 65_536,
        mss: 1460,
        scales: Some(WindowScales { send: 7, receive: 10 }),
        sack: true,
        timestamps: Some(TcpTimestamps { tsval: 70_000, read_at: Time::ZERO, tick_ns: 1_000_000, recent: 300 }),
        round_trip: None,
    }
}

fn number(seq: Seq) -> TcpSeqNumber {
    TcpSeqNumber(seq.0.cast_signed())
}

/// The peer's template: an acknowledgement of everything we had sent when the lease was taken.
fn peer_sends(payload: &[u8]) -> TcpRepr<'_> {
    TcpRepr {
        src_port: 0,
        dst_port: 0,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(5000),
        ack_number: Some(TcpSeqNumber(1000)),
        window_len: 500,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: Some(TcpTimestampRepr::new(301, 70_000)),
        payload,
    }
}

/// One `Tcp`, its ring, and the wire.
struct Bench {
    tcp: Tcp,
    ring: MemoryRing,
    far: FarEnd,
    now: Time,
    /// What the stream got, in order.
    stream: Vec<u8>,
    /// How much of it was used where it lay.
    in_place: usize,
    /// Simulates a stage that changes the bytes it was lent, as opening a record does.
    scribble: bool,
    /// Nothing is read, and nothing used where it lies.
    stalled: bool,
}

impl Bench {
    fn new(tcp: Tcp) -> Self {
        let (ring, far) = MemoryRing::new(64, 64);
        Self { tcp, ring, far, now: Time::ZERO + MS, stream: Vec::new(), in_place: 0, scribble: false, stalled: false }
    }

    fn adopted(lease: &Lease) -> Self {
        let mut bench = Self::new(Tcp::adopt(lease, &hop(), 42, Time::ZERO));
        bench.turn();
        bench
    }

    fn turn(&mut self) {
        self.tcp.turn(self.now, &mut self.ring);
    }

    fn later(&mut self, by: Duration) {
        self.now = self.now + by;
        self.turn();
    }

    /// Lets a segment of the peer come off the ring.
    fn take_up(&mut self, segment: &TcpRepr<'_>) -> (RxFrame, Segment) {
        let peer = tuple().reversed();
        let mut packet = vec![0; 4000];
        let envelope = Envelope::new([9; 6], [9; 6], None, false);
        envelope.write(&mut packet);
        let len = envelope.len() + write_segment(&peer, segment, &mut packet[envelope.len()..]);
        self.take_up_packet(&packet[..len])
    }

    fn take_up_packet(&mut self, packet: &[u8]) -> (RxFrame, Segment) {
        assert!(self.far.deliver(packet), "the ring ran dry");
        let mut batch: Vec<RxFrame> = Vec::new();
        self.ring.receive(&mut batch, 1);
        let rx = batch.pop().unwrap();
        let segment = frame::parse(rx.packet()).unwrap().unwrap();
        (rx, segment)
    }

    /// Lets a segment of the peer arrive and does with it what a lane does.
    fn arrive(&mut self, segment: &TcpRepr<'_>) -> Arrival {
        let taken_up = self.take_up(segment);
        self.arrived(taken_up)
    }

    fn arrived(&mut self, (mut rx, segment): (RxFrame, Segment)) -> Arrival {
        let arrival = self.tcp.arrive(self.now, rx.bytes_mut(), &segment, &mut self.ring);
        match &arrival {
            Arrival::InOrder(range) => {
                let address = rx.packet()[range.clone()].as_ptr() as usize;
                assert!(self.ring.region().contains(&address));
                self.stream.extend_from_slice(&rx.packet()[range.clone()]);
                self.in_place += range.len();
                if self.scribble {
                    rx.bytes_mut()[range.clone()].fill(0xee);
                }
                self.tcp.settle(self.now, rx.packet(), &segment, &mut self.ring);
            }
            Arrival::Settle => self.tcp.settle(self.now, rx.packet(), &segment, &mut self.ring),
            Arrival::Done => {}
        }
        if !self.stalled {
            self.read();
        }
        self.ring.recycle(rx);
        self.ring.flush().unwrap();
        arrival
    }

    fn read(&mut self) {
        let mut buffer = [0; 100];
        loop {
            let n = self.tcp.read(&mut buffer);
            if n == 0 {
                break;
            }
            self.stream.extend_from_slice(&buffer[..n]);
        }
    }

    /// What has left since the last time, oldest first.
    fn sent(&mut self) -> Vec<(Segment, Vec<u8>)> {
        let mut sent = Vec::new();
        while let Some(packet) = self.far.take() {
            let segment = frame::parse(&packet).expect("what leaves is intact").expect("what leaves is TCP");
            assert_eq!(packet[..6], hop().next);
            assert_eq!(packet[6..12], hop().source);
            sent.push((segment, packet));
        }
        sent
    }

    fn sent_one(&mut self) -> (Segment, Vec<u8>) {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.pop().unwrap()
    }
}

fn seq(n: i64) -> TcpSeqNumber {
    TcpSeqNumber((n as u32).cast_signed())
}

mod opening {
    use super::*;

    fn opened() -> Bench {
        let mut bench = Bench::new(Tcp::open(tuple(), &hop(), 7, Time::ZERO));
        bench.turn();
        let (syn, packet) = bench.sent_one();
        assert!(syn.flags.syn && !syn.flags.ack);
        let options = TcpPacket::new_checked(&packet[syn.tcp..]).unwrap().options_summary().unwrap();
        assert_eq!(options.max_segment_size, Some(1460));
        assert!(options.sack_permitted);
        assert!(options.window_scale.is_some());
        assert!(syn.timestamps.is_some());
        assert_eq!(bench.tcp.state(), TcpState::Connecting);
        bench.arrive(&TcpRepr {
            control: TcpControl::Syn,
            seq_number: seq(0xffff_fff0),
            ack_number: Some(number(syn.seq + 1)),
            window_scale: Some(7),
            max_seg_size: Some(1460),
            sack_permitted: true,
            timestamp: Some(TcpTimestampRepr::new(0xf000_0000, syn.timestamps.unwrap().0)),
            ..peer_sends(b"")
        });
        bench
    }

    #[test]
    fn a_handshake_opens_the_connection_and_its_numbers_wrap() {
        let mut bench = opened();
        assert_eq!(bench.tcp.state(), TcpState::Open);
        bench.turn();
        let (ack, _) = bench.sent_one();
        assert_eq!(ack.ack, Seq(0xffff_fff1));
        assert_eq!(ack.timestamps.unwrap().1, 0xf000_0000, "the peer's first timestamp is echoed");
        let text = b"across the wrap of the sequence numbers";
        let arrival = bench.arrive(&TcpRepr {
            seq_number: seq(0xffff_fff1),
            ack_number: Some(number(ack.seq)),
            timestamp: Some(TcpTimestampRepr::new(0xf000_0001, 0)),
            ..peer_sends(text)
        });
        assert!(matches!(arrival, Arrival::InOrder(_)));
        assert_eq!(bench.stream, text);
        bench.later(MS);
        let (ack, _) = bench.sent_one();
        assert_eq!(ack.ack, Seq(0xffff_fff1) + text.len());
        assert_eq!(ack.timestamps.unwrap().1, 0xf000_0001);
    }

    #[test]
    fn a_refused_connection_is_refused() {
        let mut bench = Bench::new(Tcp::open(tuple(), &hop(), 7, Time::ZERO));
        bench.turn();
        let (syn, _) = bench.sent_one();
        bench.arrive(&TcpRepr {
            control: TcpControl::Rst,
            seq_number: seq(0),
            ack_number: Some(number(syn.seq + 1)),
            ..peer_sends(b"")
        });
        assert_eq!(bench.tcp.state(), TcpState::Refused);
    }

    #[test]
    fn a_lost_syn_is_sent_again() {
        let mut bench = Bench::new(Tcp::open(tuple(), &hop(), 7, Time::ZERO));
        bench.turn();
        let (first, _) = bench.sent_one();
        bench.later(Duration::from_millis(1100));
        let (second, _) = bench.sent_one();
        assert_eq!((first.seq, second.flags.syn), (second.seq, true));
    }

    #[test]
    fn a_peer_without_options_gets_none() {
        let mut bench = Bench::new(Tcp::open(tuple(), &hop(), 7, Time::ZERO));
        bench.turn();
        let (syn, _) = bench.sent_one();
        bench.arrive(&TcpRepr {
            control: TcpControl::Syn,
            seq_number: seq(99),
            ack_number: Some(number(syn.seq + 1)),
            timestamp: None,
            ..peer_sends(b"")
        });
        bench.turn();
        let (ack, _) = bench.sent_one();
        assert_eq!(ack.timestamps, None);
        assert_eq!(ack.window, u16::MAX, "a window that is not scaled");
    }
}

mod adopting {
    use super::*;

    #[test]
    fn the_first_packet_acknowledges_in_the_connections_own_numbers() {
        let mut bench = Bench::adopted(&lease());
        assert_eq!(bench.tcp.state(), TcpState::Open);
        let (ack, _) = bench.sent_one();
        assert_eq!((ack.seq, ack.ack), (Seq(1000), Seq(5000)));
        assert!(ack.flags.plain() && ack.payload.is_empty());
        assert_eq!(usize::from(ack.window) << 10, WINDOW_BYTES, "scaled as the kernel once announced");
        assert_eq!(ack.timestamps, Some((70_001, 300)), "one tick of the kernel's clock later");
    }

    #[test]
    fn a_promise_of_the_kernel_larger_than_our_window_is_kept() {
        let promised = WINDOW_BYTES + 300_000;
        let mut bench = Bench::adopted(&Lease { rcv_edge: Seq(5000) + promised, ..lease() });
        let (ack, _) = bench.sent_one();
        assert!(usize::from(ack.window) << 10 >= promised - (1 << 10));
    }

    #[test]
    fn data_flows_both_ways_across_the_wrap() {
        for (snd, rcv) in [(0xffff_fffe, 0xffff_fffd), (0, 0), (0x7fff_fffe, 0x8000_0000), (1, 0xffff_ffff)] {
            let lease = Lease { snd_nxt: Seq(snd), rcv_nxt: Seq(rcv), rcv_edge: Seq(rcv) + 65_536, ..lease() };
            let mut bench = Bench::adopted(&lease);
            bench.sent();
            for (i, text) in [b"one", b"two", b"six"].into_iter().enumerate() {
                let at = number(Seq(rcv) + i * 3);
                let arrival =
                    bench.arrive(&TcpRepr { seq_number: at, ack_number: Some(number(Seq(snd))), ..peer_sends(text) });
                assert!(matches!(arrival, Arrival::InOrder(_)), "snd {snd} rcv {rcv}");
            }
            assert_eq!(bench.stream, b"onetwosix");
            let now = bench.now;
            assert_eq!(bench.tcp.send(now, b"pong", &mut bench.ring), 4);
            let (data, packet) = bench.sent_one();
            assert_eq!((data.seq, data.ack), (Seq(snd), Seq(rcv) + 9));
            assert_eq!(&packet[data.payload.clone()], b"pong");
            assert!(!bench.tcp.is_drained());
            bench.arrive(&TcpRepr {
                seq_number: number(Seq(rcv) + 9),
                ack_number: Some(number(Seq(snd) + 4)),
                ..peer_sends(b"")
            });
            assert!(bench.tcp.is_drained());
        }
    }

    #[test]
    fn without_scaling_sack_and_timestamps_none_of_them_appears() {
        let plain = Lease { scales: None, sack: false, timestamps: None, rcv_edge: Seq(5000) + 30_000, ..lease() };
        let mut bench = Bench::adopted(&plain);
        let (ack, _) = bench.sent_one();
        assert_eq!((ack.window, ack.timestamps), (u16::MAX, None));
        bench.arrive(&TcpRepr { seq_number: seq(5010), timestamp: None, ..peer_sends(b"beyond a hole") });
        let (ack, packet) = bench.sent_one();
        assert_eq!(ack.ack, Seq(5000));
        assert_eq!(ack.sack_blocks(&packet).count(), 0);
    }

    #[test]
    fn the_peers_window_is_obeyed_at_its_own_scale() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.arrive(&TcpRepr { window_len: 1, ..peer_sends(b"") });
        let now = bench.now;
        let taken = bench.tcp.send(now, &[7; 1000], &mut bench.ring);
        assert_eq!(taken, 1000);
        let sent: usize = bench.sent().iter().map(|(segment, _)| segment.payload.len()).sum();
        assert_eq!(sent, 1 << 7);
    }

    #[test]
    fn the_window_is_rounded_down_to_the_kernels_coarser_scale() {
        let coarse = Lease { scales: Some(WindowScales { send: 0, receive: 14 }), ..lease() };
        let mut bench = Bench::adopted(&coarse);
        let (ack, _) = bench.sent_one();
        assert_eq!(usize::from(ack.window) << 14, WINDOW_BYTES);
        let unscaled = Lease { scales: Some(WindowScales { send: 0, receive: 0 }), ..lease() };
        let mut bench = Bench::adopted(&unscaled);
        assert_eq!(bench.sent_one().0.window, u16::MAX);
    }
}

mod receiving {
    use super::*;

    #[test]
    fn bytes_in_order_are_used_in_place_even_if_the_reader_changes_them() {
        let mut bench = Bench::adopted(&lease());
        bench.scribble = true;
        bench.arrive(&peer_sends(b"first"));
        bench.arrive(&TcpRepr { seq_number: seq(5005), ..peer_sends(b" and second") });
        assert_eq!(bench.stream, b"first and second");
        assert_eq!(bench.in_place, 16);
        assert_eq!(bench.tcp.counters().segments_in_order, 2);
    }

    #[test]
    fn a_hole_is_reported_at_once_with_sack_and_filled_in_order() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.arrive(&TcpRepr { seq_number: seq(5004), ..peer_sends(b"later") });
        assert_eq!(bench.stream, b"");
        let (ack, packet) = bench.sent_one();
        assert_eq!(ack.ack, Seq(5000));
        assert_eq!(ack.sack_blocks(&packet).collect::<Vec<_>>(), [(Seq(5004), Seq(5009))]);
        bench.arrive(&peer_sends(b"now,"));
        assert_eq!(bench.stream, b"now,later");
        assert_eq!(bench.in_place, 4, "the filling segment is used where it lies, what waited is not");
        let acks: Vec<_> = bench.sent().iter().map(|(segment, _)| segment.ack).collect();
        assert_eq!(acks.last(), Some(&Seq(5009)), "the peer hears at once that the hole is filled");
    }

    #[test]
    fn what_was_already_received_is_not_delivered_again() {
        let mut bench = Bench::adopted(&lease());
        bench.arrive(&peer_sends(b"abcdef"));
        bench.sent();
        bench.arrive(&peer_sends(b"abcdef"));
        assert_eq!(bench.sent_one().0.ack, Seq(5006), "a duplicate means that our acknowledgement was lost");
        bench.arrive(&TcpRepr { seq_number: seq(5003), ..peer_sends(b"defghi") });
        assert_eq!(bench.stream, b"abcdefghi");
    }

    #[test]
    fn data_with_an_old_acknowledgement_number_is_not_lost() {
        let mut bench = Bench::adopted(&lease());
        let now = bench.now;
        bench.tcp.send(now, b"request", &mut bench.ring);
        bench.arrive(&TcpRepr { ack_number: Some(seq(1007)), ..peer_sends(b"") });
        assert!(bench.tcp.is_drained());
        // In place, and through reassembly.
        bench.arrive(&TcpRepr { ack_number: Some(seq(1003)), ..peer_sends(b"old ack, ") });
        bench.arrive(&TcpRepr { seq_number: seq(5011), ack_number: Some(seq(1000)), ..peer_sends(b"data") });
        bench.arrive(&TcpRepr { seq_number: seq(5009), ack_number: Some(seq(1001)), ..peer_sends(b"my") });
        assert_eq!(bench.stream, b"old ack, mydata");
        assert_eq!(bench.tcp.counters().acks_raised, 3);
    }

    #[test]
    fn data_beyond_the_window_is_dropped() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        let edge = 5000 + i64::try_from(WINDOW_BYTES).unwrap();
        bench.arrive(&TcpRepr { seq_number: seq(edge - 3), ..peer_sends(b"four") });
        assert_eq!(bench.tcp.counters().beyond_window, 1);
        assert_eq!(bench.sent_one().0.ack, Seq(5000));
        bench.arrive(&TcpRepr { seq_number: seq(edge - 4), ..peer_sends(b"four") });
        assert_eq!(bench.tcp.counters().segments_reassembled, 1);
    }

    #[test]
    fn every_eighth_small_segment_is_acknowledged_at_once_the_rest_after_a_while() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        for i in 0..7 {
            bench.arrive(&TcpRepr { seq_number: seq(5000 + i), ..peer_sends(b"x") });
            bench.turn();
        }
        assert_eq!(bench.sent().len(), 0);
        bench.arrive(&TcpRepr { seq_number: seq(5007), ..peer_sends(b"x") });
        bench.turn();
        assert_eq!(bench.sent_one().0.ack, Seq(5008));
        bench.arrive(&TcpRepr { seq_number: seq(5008), ..peer_sends(b"x") });
        bench.turn();
        assert_eq!(bench.sent().len(), 0);
        bench.later(MS);
        assert_eq!(bench.sent_one().0.ack, Seq(5009));
        bench.later(Duration::from_secs(10));
        assert_eq!(bench.sent().len(), 0, "and never twice");
    }

    #[test]
    fn a_segment_that_comes_a_while_after_the_last_acknowledgement_brings_the_next() {
        let mut bench = Bench::adopted(&lease());
        bench.later(MS);
        bench.sent();
        for i in 0..3i64 {
            bench.later(MS);
            bench.arrive(&TcpRepr { seq_number: seq(5000 + i), ..peer_sends(b"x") });
            bench.turn();
            assert_eq!(
                bench.sent_one().0.ack,
                Seq(5001) + usize::try_from(i).unwrap(),
                "with the segment, not by the clock"
            );
        }
    }

    #[test]
    fn two_full_segments_are_acknowledged_at_once() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.arrive(&peer_sends(&[1; 1448]));
        bench.turn();
        assert_eq!(bench.sent().len(), 0);
        bench.arrive(&TcpRepr { seq_number: seq(5000 + 1448), ..peer_sends(&[2; 1448]) });
        bench.turn();
        assert_eq!(bench.sent_one().0.ack, Seq(5000 + 2896));
    }

    #[test]
    fn a_keep_alive_probe_is_answered() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.later(Duration::from_secs(75));
        bench.arrive(&TcpRepr { seq_number: seq(4999), ..peer_sends(b"") });
        assert_eq!(bench.sent_one().0.ack, Seq(5000));
    }
}

mod guarding {
    use super::*;

    #[test]
    fn only_a_reset_at_exactly_the_next_byte_ends_the_connection() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        let rst = |at| TcpRepr { control: TcpControl::Rst, seq_number: seq(at), ..peer_sends(b"") };
        bench.arrive(&rst(5001));
        assert_eq!(bench.tcp.state(), TcpState::Open);
        assert_eq!(bench.sent_one().0.ack, Seq(5000), "a challenge, so that a true peer can try again");
        bench.arrive(&rst(4999));
        bench.arrive(&rst(5000 + (1 << 24)));
        assert_eq!(bench.tcp.state(), TcpState::Open);
        assert_eq!(bench.sent().len(), 0);
        assert_eq!(bench.tcp.counters().resets_outside_window, 2);
        bench.arrive(&rst(5000));
        assert_eq!(bench.tcp.state(), TcpState::Reset);
    }

    #[test]
    fn challenges_are_limited() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        let forged = TcpRepr { control: TcpControl::Rst, seq_number: seq(5100), ..peer_sends(b"") };
        for _ in 0..50 {
            bench.arrive(&forged);
        }
        assert_eq!(bench.sent().len(), 1);
        assert_eq!(bench.tcp.counters().challenges_limited, 49);
        bench.now = bench.now + Duration::from_millis(10);
        bench.arrive(&forged);
        assert_eq!(bench.sent().len(), 1);
    }

    #[test]
    fn a_syn_on_an_open_connection_is_challenged() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.arrive(&TcpRepr { control: TcpControl::Syn, ack_number: None, ..peer_sends(b"") });
        assert_eq!((bench.tcp.state(), bench.sent_one().0.ack), (TcpState::Open, Seq(5000)));
    }

    #[test]
    fn an_acknowledgement_of_the_unsent_is_refused_with_its_data() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.arrive(&TcpRepr { ack_number: Some(seq(1001)), ..peer_sends(b"forged") });
        bench.now = bench.now + Duration::from_millis(20);
        bench.arrive(&TcpRepr { ack_number: Some(seq(1000 - 200_000)), ..peer_sends(b"forged") });
        assert_eq!(bench.stream, b"");
        assert_eq!(bench.tcp.counters().acks_refused, 2);
        assert_eq!(bench.sent().len(), 2);
    }

    #[test]
    fn a_challenge_does_not_acknowledge_what_reassembly_has_not_seen() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        // Used in place, and then the frame is lost before smoltcp gets it: as after an error between the two.
        bench.tcp.ahead = 6;
        bench.tcp.guard.rcv_nxt = Seq(5006);
        bench.arrive(&TcpRepr { control: TcpControl::Rst, seq_number: seq(5010), ..peer_sends(b"") });
        assert_eq!(bench.sent_one().0.ack, Seq(5000));
        bench.arrive(&peer_sends(b"abcdef"));
        bench.arrive(&TcpRepr { seq_number: seq(5006), ..peer_sends(b"ghi") });
        assert_eq!(bench.stream, b"ghi", "the bytes used in place do not come again");
    }
}
