//! Routers that say that our packets are too big.

use super::*;

fn open_order(bench: &mut Bench, len: usize) -> Vec<u8> {
    let text: Vec<u8> = (0..len).map(|i| i as u8).collect();
    let now = bench.now;
    assert_eq!(bench.tcp.send(now, &text, &mut bench.ring), len);
    text
}

/// The payloads that left, and the largest IP packet among them.
fn sent(bench: &mut Bench) -> (Vec<u8>, usize) {
    let sent = bench.sent();
    let largest = sent.iter().map(|(segment, _)| segment.ip.len()).max().unwrap_or(0);
    (sent.iter().flat_map(|(segment, packet)| packet[segment.payload.clone()].to_vec()).collect(), largest)
}

#[test]
fn what_was_too_big_leaves_again_at_once_in_pieces_and_so_does_all_that_follows() {
    for direct in [false, true] {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        let text = if direct {
            let text: Vec<u8> = (0..1448usize).map(|i| i as u8).collect();
            assert!(bench.send_direct(&text));
            bench.turn();
            text
        } else {
            open_order(&mut bench, 3000)
        };
        assert_eq!(sent(&mut bench), (text.clone(), 1500));
        assert!(bench.tcp.too_big(bench.now, Seq(1000), 1400));
        bench.turn();
        let (again, largest) = sent(&mut bench);
        let full = text.len() / 1448 * 1448;
        assert_eq!((&again[..], largest), (&text[..full], 1400), "what was not too big is not sent again");
        let ack = 1000 + text.len() as i64;
        bench.arrive(&TcpRepr { ack_number: Some(seq(ack)), ..peer_sends(b"") });
        assert_eq!(bench.tcp.payload_place().unwrap().1, 1400 - 52);
        assert!(!bench.tcp.may_send_direct(1400 - 51));
        let more = open_order(&mut bench, 5000);
        assert_eq!(sent(&mut bench), (more, 1400));
        assert_eq!(bench.tcp.counters().mtu_lowered, 1);
    }
}

#[test]
fn who_cannot_know_what_is_on_its_way_is_not_believed() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    assert!(!bench.tcp.too_big(bench.now, Seq(1000), 1400), "nothing is on its way");
    open_order(&mut bench, 3000);
    bench.sent();
    assert!(!bench.tcp.too_big(bench.now, Seq(999), 1400));
    assert!(!bench.tcp.too_big(bench.now, Seq(4000), 1400));
    assert!(!bench.tcp.too_big(bench.now, Seq(1000), 1500), "no smaller");
    assert!(bench.tcp.too_big(bench.now, Seq(3999), 68));
    bench.turn();
    let (_, largest) = sent(&mut bench);
    assert_eq!(largest, 576, "no smaller than what every host takes");
    let counters = bench.tcp.counters();
    assert_eq!((counters.too_big_refused, counters.mtu_lowered), (4, 1));
}

#[test]
fn over_ipv6_less_than_every_link_carries_is_ignored() {
    let at = |s: &str| s.parse::<SocketAddr>().unwrap();
    let tuple = FourTuple { local: at("[fd00::1]:40000"), remote: at("[fd00::2]:443") };
    let mut tcp = Tcp::adopt(&Lease { tuple, ..lease() }, &hop(), 42, Time::ZERO);
    let (mut ring, far) = MemoryRing::new(64, 64);
    let now = Time::ZERO + MS;
    tcp.send(now, &[7; 1428], &mut ring);
    assert!(!tcp.too_big(now, Seq(1000), 1279));
    assert!(tcp.too_big(now, Seq(1000), 1280));
    while far.take().is_some() {}
    tcp.turn(now, &mut ring);
    let sizes: Vec<_> = std::iter::from_fn(|| far.take()).map(|packet| packet.len() - 14).collect();
    assert_eq!(sizes, [1280, 40 + 32 + 1428 - 1208]);
}
