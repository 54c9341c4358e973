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
fn a_fin_behind_a_hole_waits_for_the_hole() {
    let mut bench = Bench::adopted(&lease());
    bench.arrive(&fin(5003));
    assert_eq!(bench.tcp.state(), TcpState::Open);
    bench.arrive(&peer_sends(b"abc"));
    assert_eq!((bench.stream.as_slice(), bench.tcp.state()), (&b"abc"[..], TcpState::Open));
    bench.arrive(&fin(5003));
    assert_eq!(bench.tcp.state(), TcpState::PeerClosed);
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
