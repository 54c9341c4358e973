//! What comes out of order, twice, or from another time: holes and how they are reported, timestamps, windows, probes.

use super::*;

fn at(seq_number: i64, payload: &[u8]) -> TcpRepr<'_> {
    TcpRepr { seq_number: seq(seq_number), ..peer_sends(payload) }
}

fn stamped(tsval: u32, segment: TcpRepr<'_>) -> TcpRepr<'_> {
    TcpRepr { timestamp: Some(TcpTimestampRepr::new(tsval, 70_000)), ..segment }
}

/// The SACK blocks of a packet that left: read here by hand, because there may be more than smoltcp reads.
fn blocks((segment, packet): &(Segment, Vec<u8>)) -> Vec<(u32, u32)> {
    let mut options = &packet[segment.tcp + 20..segment.payload.start];
    loop {
        match *options {
            [1, ref rest @ ..] => options = rest,
            [5, len, ..] => {
                let words = options[2..usize::from(len)].chunks(4).map(|w| u32::from_be_bytes(w.try_into().unwrap()));
                let words: Vec<_> = words.collect();
                return words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
            }
            [_, len, ..] => options = &options[usize::from(len)..],
            [] => return Vec::new(),
            _ => panic!("options cut off"),
        }
    }
}

#[test]
fn every_hole_is_reported_the_latest_first_with_each_segment_and_at_once() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    let mut reported = Vec::new();
    for start in [5010, 5030, 5050, 5070, 5032] {
        bench.arrive(&at(start, b"held!"));
        let ack = bench.sent_one();
        assert_eq!((ack.0.ack, ack.0.payload.len()), (Seq(5000), 0));
        assert!(ack.0.timestamps.is_some());
        reported.push(blocks(&ack));
    }
    assert_eq!(reported[0], [(5010, 5015)]);
    assert_eq!(reported[2], [(5050, 5055), (5030, 5035), (5010, 5015)]);
    assert_eq!(reported[4], [(5030, 5037), (5070, 5075), (5050, 5055)]);
    // The first hole is filled: at once, and what is left is reported.
    bench.arrive(&at(5000, b"0123456789"));
    let ack = bench.sent_one();
    assert_eq!(ack.0.ack, Seq(5015));
    assert_eq!(blocks(&ack), [(5030, 5037), (5070, 5075), (5050, 5055)]);
    bench.turn();
    assert!(bench.sent().is_empty(), "and not twice");
}

#[test]
fn without_timestamps_there_is_room_for_a_fourth_block() {
    let mut bench = Bench::adopted(&Lease { timestamps: None, ..lease() });
    bench.sent();
    for start in [5010, 5030, 5050, 5070, 5090] {
        bench.arrive(&TcpRepr { timestamp: None, ..at(start, b"held!") });
    }
    let last = bench.sent().pop().unwrap();
    assert_eq!(blocks(&last), [(5090, 5095), (5070, 5075), (5050, 5055), (5030, 5035)]);
}

#[test]
fn what_came_twice_is_reported_as_such() {
    let mut bench = Bench::adopted(&lease());
    bench.arrive(&peer_sends(b"abcdef"));
    bench.sent();
    for _ in 0..20 {
        bench.arrive(&peer_sends(b"abcdef"));
        let ack = bench.sent_one();
        assert_eq!((ack.0.ack, blocks(&ack)), (Seq(5006), vec![(5000, 5006)]), "every time: the peer waits for it");
    }
    bench.arrive(&at(5010, b"0123456789"));
    bench.arrive(&at(5012, b"234"));
    let ack = bench.sent().pop().unwrap();
    assert_eq!(blocks(&ack), [(5012, 5015), (5010, 5020)]);
    assert_eq!(bench.tcp.counters().segments_duplicate, 20);
}

#[test]
fn more_holes_than_can_be_remembered_are_not_reported_but_answered() {
    let mut bench = Bench::adopted(&lease());
    bench.sent();
    for i in 0..40 {
        bench.arrive(&at(5010 + 10 * i, b"held!"));
        let ack = bench.sent_one();
        assert_eq!(ack.0.ack, Seq(5000));
        assert_eq!(blocks(&ack)[0].0, 5010 + 10 * u32::try_from(i.min(31)).unwrap());
    }
    assert_eq!(bench.tcp.counters().holes_exhausted, 8);
    // The peer sends all of it again.
    for i in 0..40 {
        bench.arrive(&at(5000 + 10 * i, b"held!....."));
        bench.sent();
    }
    assert_eq!(bench.stream, b"held!.....".repeat(40));
    let before = bench.in_place;
    bench.arrive(&at(5400, b"on"));
    assert_eq!(bench.in_place, before + 2, "and everything is as before");
}

#[test]
fn of_bytes_that_come_twice_and_differently_one_version_is_delivered() {
    // Behind a hole, the later copy; whether the hole is filled in place or through reassembly.
    for filler in [&b"01234fgh"[..], b"01234"] {
        let mut bench = Bench::adopted(&lease());
        bench.arrive(&at(5005, b"abcdefgh"));
        bench.arrive(&at(5006, b"BCD"));
        bench.arrive(&peer_sends(filler));
        let expected = if filler.len() == 8 { &b"01234fghDefgh"[..] } else { b"01234aBCDefgh" };
        assert_eq!(bench.stream, expected);
    }
    // What was delivered stays delivered.
    let mut bench = Bench::adopted(&lease());
    bench.arrive(&peer_sends(b"abcd"));
    bench.arrive(&peer_sends(b"ABCDEF"));
    assert_eq!(bench.stream, b"abcdEF");
}

#[test]
fn urgent_data_stays_in_the_stream() {
    // RFC 6093 section 6: an application that knows of no urgent data reads it where it stands.
    let mut bench = Bench::adopted(&lease());
    let peer = tuple().reversed();
    let mut packet = vec![0; 200];
    Envelope::new([9; 6], [9; 6], None, false).write(&mut packet);
    let len = 14 + write_segment(&peer, &peer_sends(b"urgent"), &mut packet[14..]);
    packet[34 + 13] |= 0x20;
    packet[34 + 18..34 + 20].copy_from_slice(&3u16.to_be_bytes());
    frame::seal(&mut packet[14..len], 20);
    let taken_up = bench.take_up_packet(&packet[..len]);
    bench.arrived(taken_up);
    bench.arrive(&at(5006, b" and not"));
    assert_eq!(bench.stream, b"urgent and not");
}

mod timestamps {
    use super::*;

    #[test]
    fn what_is_older_than_the_last_timestamp_is_answered_and_dropped() {
        let mut bench = Bench::adopted(&lease());
        bench.arrive(&stamped(1000, peer_sends(b"now")));
        bench.later(MS);
        bench.sent();
        bench.arrive(&stamped(999, at(5003, b"from the last turn of the numbers")));
        assert_eq!(bench.stream, b"now");
        assert_eq!(bench.sent_one().0.ack, Seq(5003));
        assert_eq!(bench.tcp.counters().outdated, 1);
        bench.arrive(&stamped(1000, at(5003, b", on")));
        assert_eq!(bench.stream, b"now, on");
        // A mere acknowledgement that was overtaken is nobody's question.
        bench.later(MS);
        bench.sent();
        bench.arrive(&stamped(998, at(5007, b"")));
        assert!(bench.sent().is_empty());
        assert_eq!(bench.tcp.counters().outdated, 2);
    }

    #[test]
    fn what_was_sent_before_the_answer_that_proved_the_ring_is_not_old() {
        // The lease's last timestamp is 300, from the answer to the probe.
        let mut bench = Bench::adopted(&lease());
        bench.arrive(&stamped(299, peer_sends(b"sent before the answer")));
        assert_eq!(bench.in_place, 22);
        bench.later(MS);
        assert_eq!(bench.sent().pop().unwrap().0.timestamps.unwrap().1, 299);
    }

    #[test]
    fn a_reset_needs_no_timestamp() {
        let mut bench = Bench::adopted(&lease());
        bench.arrive(&stamped(3, TcpRepr { control: TcpControl::Rst, ..peer_sends(b"") }));
        assert_eq!(bench.tcp.state(), TcpState::Reset);
    }

    #[test]
    fn the_timestamps_wrap_and_outlive_24_days_of_silence() {
        let clock = TcpTimestamps { recent: u32::MAX - 1, ..lease().timestamps.unwrap() };
        let mut bench = Bench::adopted(&Lease { timestamps: Some(clock), ..lease() });
        for (i, tsval) in [u32::MAX, 0, 5].into_iter().enumerate() {
            bench.arrive(&stamped(tsval, at(5000 + i as i64, b"x")));
            bench.later(MS);
        }
        assert_eq!(bench.stream, b"xxx");
        bench.now = bench.now + Duration::from_secs(25 * 24 * 3600);
        bench.arrive(&stamped(0x8000_0006 + 1000, at(5003, b"y")));
        assert_eq!(bench.stream, b"xxxy");
        bench.later(MS);
        assert_eq!(bench.sent().last().unwrap().0.timestamps.unwrap().1, 0x8000_0006 + 1000);
    }

    #[test]
    fn a_segment_that_was_overtaken_but_is_not_old_fills_its_hole() {
        let mut bench = Bench::adopted(&lease());
        bench.arrive(&stamped(500, at(5003, b"later")));
        bench.arrive(&stamped(499, peer_sends(b"now")));
        assert_eq!(bench.stream, b"nowlater");
    }
}

mod windows {
    use super::*;

    #[test]
    fn our_window_closes_and_its_opening_is_announced_without_being_asked_for() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.stalled = true;
        // Behind a hole first, so that it is smoltcp who holds it.
        let full = vec![7; 1000];
        let mut next = 1000;
        bench.arrive(&at(5000 + next, &full));
        bench.arrive(&peer_sends(&full));
        next += 1000;
        while next + 1000 <= WINDOW_BYTES as i64 {
            bench.arrive(&at(5000 + next, &full));
            next += 1000;
            bench.later(MS);
        }
        let (last, _) = bench.sent().pop().unwrap();
        assert!(usize::from(last.window) << 10 < 2048, "nearly closed: {}", last.window);
        bench.stalled = false;
        bench.read();
        bench.turn();
        let (update, _) = bench.sent_one();
        assert_eq!(update.ack, Seq(5000) + usize::try_from(next).unwrap());
        assert_eq!(usize::from(update.window) << 10, WINDOW_BYTES);
        assert_eq!(bench.stream.len(), usize::try_from(next).unwrap());
    }

    #[test]
    fn a_closed_window_of_the_peers_is_asked_for_ever_more_rarely_with_one_byte() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        bench.arrive(&TcpRepr { window_len: 0, ..peer_sends(b"") });
        let now = bench.now;
        bench.tcp.send(now, b"order", &mut bench.ring);
        let mut probes = Vec::new();
        for ms in 0..20_000 {
            bench.now = now + ms * MS;
            bench.turn();
            for (segment, packet) in bench.sent() {
                assert_eq!(&packet[segment.payload.clone()], b"o");
                assert_eq!(segment.seq, Seq(1000));
                probes.push(ms);
                bench.arrive(&TcpRepr { window_len: 0, ..peer_sends(b"") });
            }
        }
        assert!((3..12).contains(&probes.len()), "{probes:?}");
        let gaps: Vec<_> = probes.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.last() > gaps.first(), "{gaps:?}");
        // The window opens: everything leaves.
        bench.arrive(&peer_sends(b""));
        bench.turn();
        let (segment, packet) = bench.sent().pop().unwrap();
        assert!(packet[segment.payload].ends_with(b"rder"));
    }

    #[test]
    fn an_overtaken_segment_does_not_bring_back_an_old_window() {
        let mut bench = Bench::adopted(&lease());
        let now = bench.now;
        bench.tcp.send(now, b"request", &mut bench.ring);
        bench.arrive(&TcpRepr { ack_number: Some(seq(1007)), window_len: 0, ..at(5004, b"") });
        bench.arrive(&TcpRepr { window_len: 500, ..peer_sends(b"tick") });
        assert_eq!(bench.stream, b"tick");
        assert!(!bench.tcp.may_send_direct(1));
        bench.sent();
        bench.tcp.send(now, b"order", &mut bench.ring);
        assert!(bench.sent().iter().all(|(segment, _)| segment.payload.len() <= 1));
    }

    #[test]
    fn keep_alive_and_window_probes_are_answered_as_often_as_the_limit_allows() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        for i in 1..=5 {
            bench.later(Duration::from_millis(200));
            bench.arrive(&at(4999, b""));
            assert_eq!(bench.sent_one().0.ack, Seq(5000), "smoltcp would answer one a second");
            bench.arrive(&at(4999, b""));
            assert!(bench.sent().is_empty());
            assert_eq!(bench.tcp.counters().challenges_limited, i);
        }
        // With a byte, as other systems send them.
        bench.arrive(&at(4999, b"?"));
        assert_eq!((bench.sent_one().0.ack, bench.stream.len()), (Seq(5000), 0));
    }

    #[test]
    fn the_acknowledgement_of_a_segment_outside_the_window_is_not_believed() {
        let mut bench = Bench::adopted(&lease());
        bench.sent();
        let now = bench.now;
        bench.tcp.send(now, b"order", &mut bench.ring);
        bench.arrive(&TcpRepr { ack_number: Some(seq(1005)), ..at(4000, b"old") });
        assert!(!bench.tcp.is_drained());
        bench.arrive(&TcpRepr { ack_number: Some(seq(1005)), ..at(5000 + (1 << 24), b"") });
        assert!(!bench.tcp.is_drained());
    }
}
