//! Ends of streams, ours and the peer's, and what was lost on the way to the peer.

use super::*;

fn fin(at: i64) -> TcpRepr<'static> {
    TcpRepr { control: TcpControl::Fin, seq_number: seq(at), ..peer_sends(b"") }
}

#[test]
fn a_fin_after_the_last_byte_ends_the_stream_and_is_acknowledged() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    bench.arrive(&TcpRepr { control: TcpControl::Fin, ..peer_sends(b"bye") });
    assert_eq!(bench.stream, b"bye");
    assert_eq!(bench.tcp.state(), TcpState::PeerClosed);
    bench.turn();
    assert_eq!(bench.sent_one().0.ack, Seq(5004));
}

#[test]
fn a_fin_behind_a_hole_waits_for_the_hole_and_need_not_come_again() {
    for with_data in [false, true] {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        let last = if with_data { TcpRepr { payload: b"de", ..fin(5003) } } else { fin(5003) };
        let (text, end) = if with_data { (&b"abcde"[..], 5006) } else { (&b"abc"[..], 5004) };
        bench.arrive(&last);
        assert_eq!(bench.tcp.state(), TcpState::Open);
        assert_eq!(bench.sent_one().0.ack, Seq(5000), "the peer hears of the hole at once");
        bench.arrive(&peer_sends(b"abc"));
        assert_eq!((bench.stream.as_slice(), bench.tcp.state()), (text, TcpState::PeerClosed));
        bench.turn();
        let (answer, _) = bench.sent_one();
        assert_eq!(answer.ack, Seq(end));
        assert!(answer.timestamps.is_some(), "found by fuzzing: smoltcp's answer to a made-up FIN had none");
        assert_eq!(bench.tcp.counters().fins_early, 1);
        // Our acknowledgement was lost.
        bench.later(MS);
        bench.arrive(&last);
        assert_eq!(bench.sent_one().0.ack, Seq(end));
        bench.arrive(&TcpRepr { seq_number: seq(end.into()), ..peer_sends(b"from the dead") });
        assert_eq!((bench.stream.as_slice(), bench.tcp.counters().after_end), (text, 1));
    }
}

#[test]
fn a_half_closed_connection_still_carries_the_other_half() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    let now = bench.now;
    // The peer has ended; we go on.
    bench.arrive(&fin(5000));
    bench.turn();
    assert_eq!((bench.tcp.state(), bench.sent_one().0.ack), (TcpState::PeerClosed, Seq(5001)));
    assert_eq!(bench.tcp.send(now, b"last words", &mut bench.ring), 10);
    let (segment, packet) = bench.sent_one();
    assert_eq!((segment.seq, &packet[segment.payload]), (Seq(1000), &b"last words"[..]));
    bench.arrive(&TcpRepr { seq_number: seq(5001), ack_number: Some(seq(1010)), ..peer_sends(b"") });
    assert!(bench.tcp.is_drained());
    bench.tcp.close(now, &mut bench.ring);
    assert!(bench.sent_one().0.flags.fin);
    bench.arrive(&TcpRepr { seq_number: seq(5001), ack_number: Some(seq(1011)), ..peer_sends(b"") });
    assert_eq!(bench.tcp.state(), TcpState::Closed);

    // We have ended; the peer goes on, and is read where it lies.
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    bench.tcp.close(now, &mut bench.ring);
    assert!(bench.sent_one().0.flags.fin);
    for i in 0..3 {
        let at = seq(5000 + 4 * i);
        bench.arrive(&TcpRepr { seq_number: at, ack_number: Some(seq(1001)), ..peer_sends(b"more") });
    }
    assert_eq!((bench.stream.as_slice(), bench.in_place), (&b"moremoremore"[..], 12));
    assert_eq!(bench.tcp.state(), TcpState::Open);
    bench.arrive(&TcpRepr { ack_number: Some(seq(1001)), ..fin(5012) });
    assert_eq!(bench.tcp.state(), TcpState::Closed);
    bench.turn();
    assert_eq!(bench.sent().last().unwrap().0.ack, Seq(5013));
}

#[test]
fn both_may_close_at_once() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    let now = bench.now;
    bench.tcp.close(now, &mut bench.ring);
    bench.sent();
    // The peer's FIN does not acknowledge ours: they have crossed.
    bench.arrive(&fin(5000));
    bench.turn();
    assert_eq!(bench.sent().last().unwrap().0.ack, Seq(5001));
    bench.arrive(&TcpRepr { seq_number: seq(5001), ack_number: Some(seq(1001)), ..peer_sends(b"") });
    assert_eq!(bench.tcp.state(), TcpState::Closed);
    bench.later(Duration::from_secs(30));
    assert!(bench.sent().is_empty(), "nothing is left to say");
}

#[test]
fn our_fin_follows_what_we_had_to_say() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    let now = bench.now;
    bench.tcp.send(now, b"close", &mut bench.ring);
    bench.tcp.close(now, &mut bench.ring);
    let sent = bench.sent();
    let last = &sent.last().unwrap().0;
    assert!(last.flags.fin);
    assert_eq!(last.seq + last.payload.len(), Seq(1005));
    bench.arrive(&TcpRepr { ack_number: Some(seq(1006)), ..fin(5000) });
    assert_eq!(bench.tcp.state(), TcpState::Closed);
}

#[test]
fn what_is_lost_is_sent_again_with_the_same_numbers() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    let now = bench.now;
    bench.tcp.send(now, b"order", &mut bench.ring);
    let (first, _) = bench.sent_one();
    bench.later(Duration::from_millis(1100));
    let (again, packet) = bench.sent_one();
    assert_eq!((first.seq, &packet[again.payload.clone()]), (again.seq, &b"order"[..]));
    assert!(again.timestamps.unwrap().0 > first.timestamps.unwrap().0, "the timestamp clock goes on");
}

#[test]
fn with_no_frame_to_send_in_nothing_is_forgotten() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    let mut held = Vec::new();
    while let Some(frame) = bench.ring.lend() {
        held.push(frame);
    }
    let now = bench.now;
    bench.tcp.send(now, b"order", &mut bench.ring);
    assert!(bench.tcp.counters().send_no_frame > 0);
    for frame in held {
        bench.ring.transmit(frame, 0);
    }
    while bench.far.take().is_some() {}
    bench.later(Duration::from_millis(1100));
    let (again, packet) = bench.sent_one();
    assert_eq!(&packet[again.payload], b"order");
}
