//! What of ours is lost, and how soon it is sent again.
//!
//! The path has a round trip; the peer answers as a script says. What leaves is written down with its time.

use super::sending::{Peer, deed, do_deed};
use super::*;
use crate::floor::lease::RoundTrip;
use proptest::prelude::*;

const US: Duration = Duration::from_micros(1);

fn measured(round_trip: Duration) -> Lease {
    Lease { round_trip: Some(RoundTrip { smoothed: round_trip, variation: round_trip / 10 }), ..lease() }
}

/// An acknowledgement of everything before `ack`, without data.
fn acks(ack: i64) -> TcpRepr<'static> {
    TcpRepr { ack_number: Some(seq(ack)), ..peer_sends(b"") }
}

impl Bench {
    /// Goes on until `by`, and answers what left and when; as a lane does that sleeps until something is due.
    fn until(&mut self, by: Time) -> Vec<(Time, Segment, Vec<u8>)> {
        let mut left = Vec::new();
        loop {
            self.turn();
            for (segment, packet) in self.sent() {
                left.push((self.now, segment, packet));
            }
            if self.now >= by {
                return left;
            }
            self.now = self.tcp.next_turn().max(self.now + 10 * US).min(by);
        }
    }

    fn order(&mut self, text: &[u8]) -> Time {
        let now = self.now;
        assert_eq!(self.tcp.send(now, text, &mut self.ring), text.len());
        let (segment, packet) = self.sent_one();
        assert_eq!(&packet[segment.payload], text);
        now
    }
}

#[test]
fn an_order_is_sent_again_when_the_feed_goes_on_without_acknowledging_it() {
    for round_trip in [100 * US, 10 * MS, 200 * MS] {
        let mut bench = Bench::adopted(&measured(round_trip));
        bench.until(Time::ZERO + 5 * MS);
        let began = bench.order(b"order");
        let mut again = Vec::new();
        // The feed: a message every millisecond.
        for i in 0..1000 {
            let next = bench.now + MS;
            again.extend(bench.until(next).into_iter().filter(|(_, segment, _)| !segment.payload.is_empty()));
            if !again.is_empty() {
                break;
            }
            bench.arrive(&TcpRepr { seq_number: seq(5000 + i), ..peer_sends(b"x") });
        }
        let (at, segment, packet) = &again[0];
        assert_eq!((segment.seq, &packet[segment.payload.clone()]), (Seq(1000), &b"order"[..]));
        let took = at.since(began);
        assert!(took >= round_trip && took <= 2 * round_trip + 3 * MS, "{round_trip:?}: {took:?}");
        let counters = bench.tcp.counters();
        assert_eq!((counters.segments_resent, counters.probes_sent), (1, 0));
        // The order arrives: that is all.
        bench.arrive(&TcpRepr { seq_number: number(bench.tcp.rcv_nxt()), ..acks(1005) });
        let end = bench.now + Duration::from_secs(5);
        assert!(bench.until(end).iter().all(|(_, segment, _)| segment.payload.is_empty()));
        assert!(bench.tcp.is_drained());
    }
}

#[test]
fn in_silence_it_is_sent_again_after_two_round_trips_and_the_longest_delay_of_an_acknowledgement() {
    for round_trip in [100 * US, 10 * MS, 200 * MS] {
        let mut bench = Bench::adopted(&measured(round_trip));
        bench.until(Time::ZERO + 5 * MS);
        let began = bench.order(b"order");
        // The first retransmission is lost as well, and the second.
        let left = bench.until(began + Duration::from_secs(4));
        let times: Vec<_> = left.iter().map(|(at, ..)| at.since(began)).collect();
        let allowance = 50 * MS;
        assert!(times[0] >= 2 * round_trip + allowance && times[0] <= 2 * round_trip + allowance + MS, "{times:?}");
        let wait = times[0];
        assert!(times[1] - times[0] >= 2 * wait && times[1] - times[0] <= 2 * wait + MS, "{times:?}");
        // And ever more rarely: smoltcp's own timer makes no pairs with ours.
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 2 * round_trip), "{times:?}");
        assert!(left.len() <= 7, "{times:?}");
        for (_, segment, packet) in &left {
            assert_eq!((segment.seq, &packet[segment.payload.clone()]), (Seq(1000), &b"order"[..]));
        }
        bench.arrive(&acks(1005));
        assert!(bench.tcp.is_drained());
        assert!(bench.tcp.counters().probes_sent >= 2);
    }
}

#[test]
fn a_delayed_acknowledgement_is_waited_for() {
    for round_trip in [100 * US, 10 * MS] {
        let mut bench = Bench::adopted(&measured(round_trip));
        bench.until(Time::ZERO + 5 * MS);
        for i in 0..50 {
            let began = bench.order(b"order");
            let left = bench.until(began + round_trip + 40 * MS);
            assert!(left.is_empty(), "{left:?}");
            bench.arrive(&acks(1005 + 5 * i));
            let next = bench.now + 3 * MS;
            bench.until(next);
        }
        assert_eq!(bench.tcp.counters().segments_resent, 0);
    }
}

#[test]
fn a_peer_that_waits_longer_is_sent_one_segment_too_many_and_then_no_more() {
    let mut bench = Bench::adopted(&measured(MS));
    bench.until(Time::ZERO + 5 * MS);
    let mut needless = Vec::new();
    for i in 0..30 {
        let began = bench.order(b"order");
        let left = bench.until(began + 201 * MS).len();
        needless.push(left);
        let ack = 1005 + 5 * i;
        let twice = [(left > 0).then(|| (u32::try_from(ack).unwrap() - 5, u32::try_from(ack).unwrap())), None, None];
        bench.arrive(&TcpRepr { sack_ranges: twice, ..acks(ack) });
    }
    assert!(needless.iter().sum::<usize>() <= 5, "{needless:?}");
    assert_eq!(needless[5..].iter().sum::<usize>(), 0, "{needless:?}");
    assert!(bench.tcp.counters().resends_needless >= 1);
}

#[test]
fn a_lost_acknowledgement_costs_one_segment() {
    let mut bench = Bench::adopted(&measured(MS));
    bench.until(Time::ZERO + 5 * MS);
    let began = bench.order(b"order");
    assert_eq!(bench.until(began + 60 * MS).len(), 1);
    bench.arrive(&TcpRepr { sack_ranges: [Some((1000, 1005)), None, None], ..acks(1005) });
    assert_eq!(bench.until(began + Duration::from_secs(3)).len(), 0);
    assert_eq!(bench.tcp.counters().resends_needless, 1);
}

#[test]
fn a_slow_handler_does_not_mistake_the_first_of_many_segments_for_the_last() {
    let mut bench = Bench::adopted(&measured(100 * US));
    bench.until(Time::ZERO + 5 * MS);
    bench.order(b"order");
    // 20 ms later there are ten segments, of which only the last was sent after the order had arrived.
    bench.now = bench.now + 20 * MS;
    for i in 0..10 {
        let ack = if i == 9 { 1005 } else { 1000 };
        bench.arrive(&TcpRepr { seq_number: seq(5000 + i), ..TcpRepr { payload: b"x", ..acks(ack) } });
    }
    let end = bench.now + Duration::from_secs(3);
    assert!(bench.until(end).iter().all(|(_, segment, _)| segment.payload.is_empty()));
    assert_eq!(bench.tcp.counters().segments_resent, 0);
}

#[test]
fn a_later_order_that_arrived_tells_of_the_lost_one() {
    let mut bench = Bench::adopted(&measured(10 * MS));
    bench.until(Time::ZERO + 5 * MS);
    let began = bench.order(b"first");
    bench.order(b"second");
    bench.until(began + 10 * MS);
    bench.arrive(&TcpRepr { sack_ranges: [Some((1005, 1011)), None, None], ..acks(1000) });
    let left = bench.until(began + 30 * MS);
    assert_eq!(left.len(), 1);
    let (at, segment, packet) = &left[0];
    assert_eq!(&packet[segment.payload.clone()], b"first");
    assert!(at.since(began) <= 15 * MS, "{:?}", at.since(began));
    assert_eq!(bench.tcp.counters().probes_sent, 0);
}

#[test]
fn three_later_orders_that_arrived_tell_it_at_once_and_only_what_is_missing_is_sent() {
    let mut bench = Bench::adopted(&measured(10 * MS));
    bench.until(Time::ZERO + 5 * MS);
    let began = bench.order(b"aaaa");
    for text in [b"bbbb", b"cccc", b"dddd", b"eeee"] {
        bench.order(text);
    }
    bench.until(began + 10 * MS);
    // The first and the third are missing.
    bench.arrive(&TcpRepr { sack_ranges: [Some((1012, 1020)), Some((1004, 1008)), None], ..acks(1000) });
    let left = bench.until(bench.now);
    assert_eq!(left.iter().map(|(_, segment, _)| segment.seq).collect::<Vec<_>>(), [Seq(1000)]);
    let left = bench.until(began + 15 * MS);
    assert_eq!(left.iter().map(|(_, segment, _)| segment.seq).collect::<Vec<_>>(), [Seq(1008)]);
}

#[test]
fn a_window_that_closed_over_what_is_on_its_way_is_asked_for_with_a_byte() {
    let mut bench = Bench::adopted(&measured(10 * MS));
    bench.until(Time::ZERO + 5 * MS);
    let began = bench.order(b"order");
    bench.arrive(&TcpRepr { window_len: 0, ..acks(1000) });
    let left = bench.until(began + Duration::from_secs(2));
    assert!(!left.is_empty());
    assert!(left.iter().all(|(_, segment, _)| segment.payload.len() == 1), "{left:?}");
    bench.arrive(&acks(1001));
    let left = bench.until(bench.now + Duration::from_secs(3));
    let (_, segment, packet) = &left[0];
    assert_eq!((segment.seq, &packet[segment.payload.clone()]), (Seq(1001), &b"rder"[..]));
}

#[test]
fn a_lost_goodbye_is_said_again() {
    let mut bench = Bench::adopted(&measured(10 * MS));
    bench.until(Time::ZERO + 5 * MS);
    let began = bench.now;
    bench.tcp.send(began, b"close", &mut bench.ring);
    bench.tcp.close(began, &mut bench.ring);
    bench.sent();
    let left = bench.until(began + 300 * MS);
    assert!(left[0].0.since(began) < 100 * MS);
    bench.arrive(&acks(1005));
    let left = bench.until(bench.now + 300 * MS);
    let (_, fin, _) = &left[0];
    assert_eq!((fin.flags.fin, fin.seq, fin.payload.len()), (true, Seq(1005), 0));
    bench.arrive(&acks(1006));
    assert!(bench.until(bench.now + Duration::from_secs(5)).is_empty());
}

#[test]
fn without_a_frame_it_leaves_as_soon_as_there_is_one() {
    let mut bench = Bench::adopted(&measured(10 * MS));
    bench.sent();
    let mut held = Vec::new();
    while let Some(frame) = bench.ring.lend() {
        held.push(frame);
    }
    let now = bench.now;
    bench.tcp.send(now, b"order", &mut bench.ring);
    assert_eq!(bench.until(now + MS).len(), 0);
    for frame in held {
        bench.ring.cancel(frame);
    }
    let left = bench.until(bench.now + MS);
    let (at, segment, packet) = &left[0];
    assert_eq!(&packet[segment.payload.clone()], b"order");
    assert!(at.since(now) <= MS + 200 * US);
    assert_eq!(left.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// As in `sending`, on a path that is known, with a peer that says what it holds: whatever is lost, and however often
    /// something is sent again, the peer gets our bytes, and gets them soon once the wire is calm.
    #[test]
    fn whatever_is_sent_again_the_peer_gets_the_stream(
        deeds in proptest::collection::vec(deed(), 1..60),
        losses in any::<u64>(),
        round_trip in 0u32..300,
    ) {
        let mut bench = Bench::adopted(&measured(round_trip * MS));
        let mut peer = Peer::new(losses);
        peer.selective = true;
        let mut said = Vec::new();
        for deed in deeds {
            do_deed(deed, &mut bench, &mut peer, &mut said);
            peer.take(&mut bench)?;
        }
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
        prop_assert!(peer.heard() == said);
        prop_assert!(bench.tcp.is_drained());
        prop_assert!(bench.tcp.outbound.flights.is_empty());
    }
}
