//! A connection that there is not.

use super::*;
use crate::segment::Rehearsal;

/// Rehearses once with an order of so many bytes; answers how it left.
fn rehearse(rehearsal: &mut Rehearsal, bench: &mut Bench, order: usize) -> Option<usize> {
    assert!(rehearsal.next(b"a message", bench.now, &mut bench.ring));
    let segment = frame::parse(rehearsal.packet()).unwrap().unwrap();
    let Rehearsal { tcp, frame, .. } = rehearsal;
    let Arrival::InOrder(payload) = tcp.arrive(bench.now, frame, &segment, &mut bench.ring) else {
        panic!("not in order")
    };
    assert_eq!(&frame[payload], b"a message");
    let (start, room) = tcp.payload_place().unwrap();
    let direct = (order > 0 && tcp.may_send_direct(order)).then(|| {
        assert!(order <= room);
        let mut lent = bench.ring.lend().unwrap();
        lent.bytes_mut()[start..start + order].fill(7);
        tcp.send_direct(bench.now, lent, order, &mut bench.ring);
        order
    });
    tcp.settle(bench.now, frame, &segment, &mut bench.ring);
    direct
}

#[test]
fn it_goes_on_for_ever_and_nothing_leaves() {
    let without = Lease { timestamps: None, scales: None, sack: false, ..lease() };
    // Its numbers wrap.
    let late =
        Lease { snd_nxt: Seq(u32::MAX - 50_000), rcv_nxt: Seq(u32::MAX - 9_000), rcv_edge: Seq(50_000), ..lease() };
    for lease in [lease(), without, late] {
        let mut bench = Bench::adopted(&lease);
        bench.turn();
        while bench.far.take().is_some() {}
        let before = bench.ring.counters();
        let mut rehearsal = Rehearsal::like(&bench.tcp, &hop(), 7, bench.now).unwrap();
        for n in 0..20_000 {
            bench.now = bench.now + Duration::from_micros(20);
            assert_eq!(rehearse(&mut rehearsal, &mut bench, 80), Some(80), "the {n}th");
        }
        assert_eq!(rehearsal.tcp.counters().segments_direct, 20_000);
        assert_eq!(rehearsal.tcp.counters().segments_resent, 0);
        assert_eq!(bench.ring.counters(), before);
        assert_eq!(bench.far.take(), None);
        // After a pause of any length as well, whatever its timers say.
        bench.now = bench.now + Duration::from_secs(100);
        assert_eq!(rehearse(&mut rehearsal, &mut bench, 80), Some(80));
        assert_eq!((bench.ring.counters(), bench.far.take()), (before, None));
        // All frames are back.
        assert_eq!(std::iter::from_fn(|| bench.ring.lend()).count(), 64);
    }
}

#[test]
fn it_looks_like_the_real_one() {
    let mut bench = Bench::adopted(&lease());
    bench.turn();
    let mut rehearsal = Rehearsal::like(&bench.tcp, &hop(), 7, bench.now).unwrap();
    assert_eq!(rehearsal.tcp.payload_place(), bench.tcp.payload_place());
    assert_eq!(rehearsal.tcp.tuple().remote.to_string(), "192.0.2.2:9");
    assert!(rehearsal.next(b"x", bench.now, &mut bench.ring));
    let segment = frame::parse(rehearsal.packet()).unwrap().unwrap();
    assert_eq!(segment.payload.start, 14 + 20 + 32, "as Linux lays out its options");
    assert!(!rehearsal.next(&[0; 1500], bench.now, &mut bench.ring), "no segment takes so much");
}

#[test]
fn a_connection_that_has_ended_has_none() {
    let mut bench = Bench::adopted(&lease());
    bench.turn();
    assert!(Rehearsal::like(&Tcp::open(tuple(), &hop(), 7, bench.now), &hop(), 7, bench.now).is_none(), "not open yet");
    bench.arrive(&TcpRepr { control: TcpControl::Fin, ..peer_sends(b"") });
    assert!(Rehearsal::like(&bench.tcp, &hop(), 7, bench.now).is_none());
}
