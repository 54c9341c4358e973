//! The engine by itself: each impairment does what it says and nothing else, and a seed says which frames it befalls.

use std::collections::BTreeSet;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};

use super::segment::{ACK, FIN, RST, SYN};
use super::*;
use crate::frame::{EthernetFrame, TcpSegment};

const MS: Duration = Duration::from_millis(1);
const US: Duration = Duration::from_micros(1);
const NOW: Duration = Duration::from_secs(7);
const OUT: Direction = Direction::ToClient;
const BACK: Direction = Direction::ToExchange;

/// A segment from port 443 to 40,000, or the other way round, over IPv4 or IPv6, with a VLAN tag or without.
#[derive(Clone, Copy)]
struct Make {
    direction: Direction,
    ipv6: bool,
    vlan: bool,
}

const USUAL: Make = Make { direction: OUT, ipv6: false, vlan: false };

impl Make {
    fn segment(self, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (from, to) = if self.direction == OUT { (2, 1) } else { (1, 2) };
        let link = PacketBuilder::ethernet2([from; 6], [to; 6]);
        let mut header = etherparse::TcpHeader::new(443, 40_000, seq, 1000);
        if self.direction == BACK {
            (header.source_port, header.destination_port) = (40_000, 443);
        }
        header.acknowledgment_number = ack;
        (header.ack, header.syn) = (flags & ACK != 0, flags & SYN != 0);
        (header.fin, header.rst) = (flags & FIN != 0, flags & RST != 0);
        let v6 = |last| [0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let mut frame = Vec::new();
        match (self.ipv6, self.vlan) {
            (false, false) => {
                link.ipv4([10, 77, 0, from], [10, 77, 0, to], 64).tcp_header(header).write(&mut frame, payload)
            }
            (true, false) => link.ipv6(v6(from), v6(to), 64).tcp_header(header).write(&mut frame, payload),
            (false, true) => link
                .single_vlan(42.try_into().unwrap())
                .ipv4([10, 77, 0, from], [10, 77, 0, to], 64)
                .tcp_header(header)
                .write(&mut frame, payload),
            (true, true) => link
                .single_vlan(42.try_into().unwrap())
                .ipv6(v6(from), v6(to), 64)
                .tcp_header(header)
                .write(&mut frame, payload),
        }
        .unwrap();
        frame
    }
}

fn all_kinds() -> impl Iterator<Item = Make> {
    [(false, false), (true, false), (false, true), (true, true)].into_iter().map(|(ipv6, vlan)| Make {
        ipv6,
        vlan,
        ..USUAL
    })
}

/// The n-th of a stream of segments of 100 bytes.
fn nth(n: u64) -> Vec<u8> {
    USUAL.segment(1000 + 100 * n as u32, 1, ACK, &[n as u8; 100])
}

/// Where it stands in that stream.
fn place(frame: &[u8]) -> u64 {
    u64::from((Segment::of(frame).unwrap().seq - 1000) / 100)
}

/// Everything that leaves until nothing is due any more, with its time, to the client and to the exchange.
fn drain_both(wire: &mut Impairer) -> [Vec<(Duration, Vec<u8>)>; 2] {
    let mut left = [Vec::new(), Vec::new()];
    while let Some(due) = wire.next_due() {
        for direction in Direction::BOTH {
            left[direction as usize].extend(std::iter::from_fn(|| wire.pop(due, direction)).map(|frame| (due, frame)));
        }
    }
    left
}

fn drain(wire: &mut Impairer) -> Vec<(Duration, Vec<u8>)> {
    let [left, _] = drain_both(wire);
    left
}

/// Sends `count` segments, `gap` apart, and answers what leaves.
fn run(plan: Plan, count: u64, gap: Duration) -> (Vec<(Duration, Vec<u8>)>, Counters) {
    let mut wire = Impairer::new(plan);
    let mut left = Vec::new();
    for n in 0..count {
        let now = NOW + gap * n as u32;
        while let Some(due) = wire.next_due().filter(|due| *due < now) {
            left.extend(std::iter::from_fn(|| wire.pop(due, OUT)).map(|frame| (due, frame)));
        }
        wire.push(now, OUT, &nth(n));
        while let Some(frame) = wire.pop(now, OUT) {
            left.push((now, frame));
        }
    }
    left.extend(drain(&mut wire));
    (left, wire.counters(OUT))
}

fn with(seed: u64, impairments: Impairments) -> Plan {
    Plan { seed, to_client: impairments, ..Plan::default() }
}

fn bytes(left: &[(Duration, Vec<u8>)]) -> Vec<&[u8]> {
    left.iter().map(|(_, frame)| frame.as_slice()).collect()
}

fn whole(frame: &[u8]) -> EthernetFrame {
    EthernetFrame { bytes: frame.to_vec(), wire_bytes: frame.len() }
}

#[test]
fn a_wire_without_a_plan_changes_nothing() {
    let (left, counters) = run(Plan::default(), 100, US);
    assert!(left.iter().enumerate().all(|(n, (at, frame))| *at == NOW + US * n as u32 && *frame == nth(n as u64)));
    assert_eq!(counters.nonzero(), [("frames", 100), ("delivered", 100)]);
}

#[test]
fn what_is_not_tcp_passes_unless_it_is_asked_for() {
    let mut arp = vec![0xff; 12];
    arp.extend([0x08, 0x06]);
    arp.extend([0; 28]);
    for (scope, delivered) in [(Scope::Tcp, 1), (Scope::Everything, 0)] {
        let plan = Plan { scope, ..with(1, Impairments { loss: Chance::ALWAYS, ..Impairments::default() }) };
        let mut wire = Impairer::new(plan);
        wire.push(NOW, OUT, &arp);
        wire.push(NOW, OUT, &nth(0));
        let left = drain(&mut wire);
        assert_eq!(left.len(), delivered, "{scope:?}");
        assert!(left.iter().all(|(_, frame)| *frame == arp));
    }
}

/// Which of `count` segments are lost.
fn lost(plan: Plan, count: u64, gap: Duration) -> BTreeSet<u64> {
    let (left, _) = run(plan, count, gap);
    let left: BTreeSet<u64> = left.iter().map(|(_, frame)| place(frame)).collect();
    (0..count).filter(|n| !left.contains(n)).collect()
}

#[test]
fn the_fate_of_the_nth_segment_depends_on_the_seed_alone() {
    let loss = Impairments { loss: Chance::percent(10), ..Impairments::default() };
    let first = lost(with(5, loss.clone()), 1000, US);
    assert_eq!(lost(with(5, loss.clone()), 1000, 3 * MS), first, "whatever the times");
    assert_ne!(lost(with(6, loss.clone()), 1000, US), first);
    let more = Impairments {
        duplicate: Chance::percent(30),
        reorder: Some(Reorder::some(Chance::percent(20))),
        split: Chance::percent(10),
        jitter: MS,
        ..loss.clone()
    };
    assert!(first.is_subset(&lost(with(5, more), 1000, US)), "whatever else happens");
    // The other direction has its own fates, and takes none of these.
    let mut wire = Impairer::new(Plan::both(5, &loss));
    let back = Make { direction: BACK, ..USUAL };
    for n in 0..1000 {
        wire.push(NOW, OUT, &nth(n));
        for k in 0..3 {
            wire.push(NOW, BACK, &back.segment(300 * n as u32 + 100 * k, 1, ACK, &[0; 100]));
        }
    }
    let left: BTreeSet<u64> = drain(&mut wire).iter().map(|(_, frame)| place(frame)).collect();
    assert!((0..1000).all(|n| left.contains(&n) != first.contains(&n)));
    // A new plan counts from 0 again.
    wire.set_plan(with(5, loss));
    (0..1000).for_each(|n| wire.push(NOW, OUT, &nth(n)));
    let left: BTreeSet<u64> = drain(&mut wire).iter().map(|(_, frame)| place(frame)).collect();
    assert!((0..1000).all(|n| left.contains(&n) != first.contains(&n)));
}

#[test]
fn each_chance_comes_as_often_as_it_says() {
    const N: u64 = 20_000;
    type Case = (fn(Chance) -> Impairments, fn(&Counters) -> u64);
    let cases: [Case; 7] = [
        (|loss| Impairments { loss, ..Impairments::default() }, |it| it.lost),
        (|duplicate| Impairments { duplicate, ..Impairments::default() }, |it| it.duplicated),
        (|chance| Impairments { reorder: Some(Reorder::some(chance)), ..Impairments::default() }, |it| it.held_back),
        (|corrupt| Impairments { corrupt, ..Impairments::default() }, |it| it.corrupted),
        (|forge_payload| Impairments { forge_payload, ..Impairments::default() }, |it| it.payload_forged),
        (|truncate| Impairments { truncate, ..Impairments::default() }, |it| it.truncated),
        (|split| Impairments { split, ..Impairments::default() }, |it| it.split),
    ];
    for (which, (plan, count)) in cases.into_iter().enumerate() {
        for percent in [1, 10, 50] {
            let (left, counters) = run(with(9, plan(Chance::percent(percent))), N, US);
            let happened = count(&counters);
            // Five standard deviations of a binomial distribution.
            let p = f64::from(percent) / 100.0;
            let (mean, deviation) = (N as f64 * p, (N as f64 * p * (1.0 - p)).sqrt());
            assert!((happened as f64 - mean).abs() < 5.0 * deviation, "case {which}, {percent} %: {happened} of {N}");
            let expected = N - counters.lost + counters.duplicated + counters.split;
            assert_eq!((left.len() as u64, counters.delivered), (expected, expected));
        }
    }
}

#[test]
fn bursts_are_as_long_as_they_say() {
    let burst = Burst { begin: Chance::percent(1), end: Chance::percent(20), loss: Chance::ALWAYS };
    let lost = lost(with(3, Impairments { burst: Some(burst), ..Impairments::default() }), 50_000, US);
    let bursts = lost.iter().filter(|n| **n == 0 || !lost.contains(&(**n - 1))).count();
    let length = lost.len() as f64 / bursts as f64;
    assert!((4.0..6.0).contains(&length), "{} lost in {bursts} bursts", lost.len());
    assert!((350..650).contains(&bursts), "{bursts}");
}

#[test]
fn what_is_held_back_is_overtaken_by_so_many_and_comes_in_time() {
    let reorder = Reorder { chance: Chance::percent(10), frames_max: 3, time_max: MS };
    let plan = with(2, Impairments { reorder: Some(reorder), ..Impairments::default() });
    let (left, counters) = run(plan.clone(), 5000, US);
    let places: Vec<u64> = left.iter().map(|(_, frame)| place(frame)).collect();
    assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), 5000);
    let mut late = 0;
    for (at, n) in places.iter().enumerate() {
        let overtaken_by = places[..at].iter().filter(|other| *other > n).count();
        assert!(overtaken_by <= 3, "{n} was overtaken by {overtaken_by}");
        late += u64::from(overtaken_by > 0);
    }
    assert!(late > counters.held_back * 9 / 10, "{late} of {}", counters.held_back);
    // With nobody to overtake it, it comes when its time is over.
    let mut wire = Impairer::new(with(
        2,
        Impairments { reorder: Some(Reorder { chance: Chance::ALWAYS, ..reorder }), ..Impairments::default() },
    ));
    wire.push(NOW, OUT, &nth(0));
    assert_eq!(wire.pop(NOW, OUT), None);
    assert_eq!(wire.next_due(), Some(NOW + MS));
    assert_eq!(wire.pop(NOW + MS, OUT), Some(nth(0)));
}

#[test]
fn two_copies_are_the_same() {
    let (left, _) = run(with(1, Impairments { duplicate: Chance::ALWAYS, ..Impairments::default() }), 10, US);
    assert_eq!(left.len(), 20);
    assert!(left.chunks(2).all(|pair| pair[0] == pair[1]));
}

fn difference(a: &[u8], b: &[u8]) -> u32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[test]
fn a_flipped_bit_is_one_bit_and_a_forged_payload_has_a_right_checksum() {
    for make in all_kinds() {
        let frame = make.segment(1000, 1, ACK, &[7; 100]);
        let plain = Segment::of(&frame).unwrap();
        for seed in 0..200 {
            let one = |impairments| {
                let mut wire = Impairer::new(with(seed, impairments));
                wire.push(NOW, OUT, &frame);
                wire.pop(NOW, OUT).unwrap()
            };
            let corrupted = one(Impairments { corrupt: Chance::ALWAYS, ..Impairments::default() });
            assert_eq!(difference(&frame, &corrupted), 1);
            assert_eq!(frame[..plain.ip], corrupted[..plain.ip]);
            let forged = one(Impairments { forge_payload: Chance::ALWAYS, ..Impairments::default() });
            assert_eq!(difference(&frame[plain.payload.clone()], &forged[plain.payload.clone()]), 1);
            assert!(is_right(&forged));
            assert_eq!(difference(&frame[..plain.tcp], &forged[..plain.tcp]), 0);
        }
    }
}

/// Whether all checksums of a frame are right, as the capture sees it; it knows no VLANs, so a tag is taken off.
fn is_right(frame: &[u8]) -> bool {
    let mut frame = frame.to_vec();
    if frame[12..14] == [0x81, 0] {
        frame.drain(12..16);
    }
    let ip = SlicedPacket::from_ethernet(&frame).unwrap().net.unwrap();
    let header_is_right =
        ip.ipv4_ref().is_none_or(|ip| ip.header().header_checksum() == ip.header().to_header().calc_header_checksum());
    header_is_right && whole(&frame).tcp().as_ref().is_some_and(TcpSegment::checksum_is_right)
}

#[test]
fn a_truncated_frame_is_the_beginning_of_the_whole_one() {
    let (left, _) = run(with(1, Impairments { truncate: Chance::ALWAYS, ..Impairments::default() }), 500, US);
    let lengths: BTreeSet<usize> = left.iter().map(|(_, frame)| frame.len()).collect();
    assert!(left.iter().enumerate().all(|(n, (_, frame))| nth(n as u64).starts_with(frame)));
    assert!(*lengths.first().unwrap() > ETHERNET_HEADER && *lengths.last().unwrap() < nth(0).len());
    assert!(lengths.len() > 100, "any length: {lengths:?}");
}

#[test]
fn halves_are_right_and_joined_again_they_are_the_whole() {
    for make in all_kinds() {
        for cut in [1, 50, 99] {
            let frame = make.segment(u32::MAX - 20, 1, ACK | FIN, &std::array::from_fn::<u8, 100, _>(|n| n as u8));
            let segment = Segment::of(&frame).unwrap();
            let halves = segment.split(&frame, cut);
            let read = halves.each_ref().map(|half| Segment::of(half).unwrap());
            assert!(halves.iter().all(|half| is_right(half)));
            assert_eq!(read[0].payload.len(), cut);
            assert_eq!(read[0].end(), read[1].seq, "also where numbers wrap");
            assert_eq!((read[0].flags, read[1].flags), (ACK, ACK | FIN), "only the second ends the stream");
            assert_eq!(read[0].join(&halves[0], &read[1], &halves[1], 1500), None, "which a joined one would not show");
        }
        let frame = make.segment(5, 1, ACK, &[3; 100]);
        let segment = Segment::of(&frame).unwrap();
        let [a, b] = segment.split(&frame, 40);
        let (first, second) = (Segment::of(&a).unwrap(), Segment::of(&b).unwrap());
        assert_eq!(first.join(&a, &second, &b, 1500), Some(frame.clone()));
        assert_eq!(first.join(&a, &second, &b, frame.len() - segment.ip - 1), None, "too large");
        assert_eq!(second.join(&b, &first, &a, 1500), None, "the wrong way round");
    }
}

#[test]
fn joined_segments_carry_the_same_bytes_and_nothing_waits_for_ever() {
    let (left, counters) = run(with(1, Impairments { join: Chance::percent(50), ..Impairments::default() }), 1000, US);
    let mut stream = Vec::new();
    for (_, frame) in &left {
        assert!(is_right(frame));
        stream.extend_from_slice(&frame[Segment::of(frame).unwrap().payload]);
    }
    assert_eq!(stream, (0..1000).flat_map(|n| [n as u8; 100]).collect::<Vec<_>>());
    assert!(counters.joined > 300);
    assert_eq!(left.len() as u64, 1000 - counters.joined);
    // A millisecond at most.
    let (left, counters) = run(with(1, Impairments { join: Chance::ALWAYS, ..Impairments::default() }), 3, 5 * MS);
    assert_eq!(counters.joined, 0);
    assert_eq!(left.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [NOW + MS, NOW + 6 * MS, NOW + 11 * MS]);
}

#[test]
fn delay_and_jitter_are_in_their_bounds_and_overtake_only_if_they_may() {
    let jitter = Impairments { delay: 10 * MS, jitter: 5 * MS, ..Impairments::default() };
    for overtaking in [false, true] {
        let (left, counters) = run(with(4, Impairments { overtaking, ..jitter.clone() }), 1000, 100 * US);
        let places: Vec<u64> = left.iter().map(|(_, frame)| place(frame)).collect();
        assert_eq!(places.is_sorted(), !overtaking);
        let took: Vec<Duration> = left.iter().map(|(at, frame)| *at - NOW - 100 * US * place(frame) as u32).collect();
        assert!(took.iter().all(|took| (10 * MS..=15 * MS).contains(took)));
        assert!(took.iter().max() > Some(&(14 * MS)) && took.iter().min() < Some(&(12 * MS)));
        assert!(counters.delayed > 990);
    }
}

#[test]
fn a_bandwidth_is_kept_and_its_queue_has_an_end() {
    let frame = nth(0).len() as u64;
    let rate = Rate { bytes_per_second: frame * 1000, queue_bytes: frame * 5 };
    let plan = with(1, Impairments { rate: Some(rate), ..Impairments::default() });
    let (left, counters) = run(plan.clone(), 20, Duration::ZERO);
    assert_eq!(counters.over_rate, 14, "one under way and five that wait");
    let times: Vec<Duration> = left.iter().map(|(at, _)| *at - NOW).collect();
    assert_eq!(times, (1..=6).map(|n| MS * n).collect::<Vec<_>>());
    let (left, _) = run(plan, 20, MS);
    assert_eq!(left.len(), 20, "nothing is lost of what the bandwidth allows");
}

#[test]
fn a_cut_wire_loses_everything_in_one_direction_for_so_long() {
    let mut wire = Impairer::new(Plan::default());
    wire.blackhole(OUT, NOW + MS);
    wire.push(NOW, OUT, &nth(0));
    wire.push(NOW, BACK, &Make { direction: BACK, ..USUAL }.segment(1, 1, ACK, b"x"));
    wire.push(NOW + MS, OUT, &nth(1));
    let [left, back] = drain_both(&mut wire);
    assert_eq!((bytes(&left), back.len()), (vec![nth(1).as_slice()], 1));
    assert_eq!(wire.counters(OUT).blackholed, 1);
}

#[test]
fn a_full_queue_drops_and_counts() {
    let plan = Plan { queue_frames: 10, ..with(1, Impairments { delay: MS, ..Impairments::default() }) };
    let (left, counters) = run(plan, 15, Duration::ZERO);
    assert_eq!((left.len(), counters.over_queue), (10, 5));
}

#[test]
fn a_script_chooses_by_number_by_place_in_the_stream_and_by_flags() {
    let run = |script: Vec<Rule>| {
        let mut wire = Impairer::new(Plan { script, ..Plan::default() });
        wire.push(NOW, OUT, &USUAL.segment(999, 0, SYN | ACK, b""));
        (0..10).for_each(|n| wire.push(NOW, OUT, &nth(n)));
        wire.push(NOW, OUT, &nth(4));
        wire.push(NOW, OUT, &USUAL.segment(2000, 1, ACK, b""));
        wire.push(NOW, OUT, &USUAL.segment(2000, 1, ACK | FIN, b""));
        let counters = wire.counters(OUT);
        (drain(&mut wire).into_iter().map(|(_, frame)| frame).collect::<Vec<_>>(), counters)
    };
    let places = |frames: &[Vec<u8>]| -> Vec<u64> {
        let data = |frame: &&Vec<u8>| !Segment::of(frame).unwrap().payload.is_empty();
        frames.iter().filter(data).map(|frame| place(frame)).collect()
    };
    let lose = Rule::new(OUT, Fate::Lose);
    let (left, counters) = run(vec![]);
    assert_eq!((left.len(), counters.retransmitted), (14, 1));
    assert_eq!(places(&run(vec![lose.clone().nth(1..3)]).0), [2, 3, 4, 5, 6, 7, 8, 9, 4]);
    assert_eq!(places(&run(vec![lose.clone().offsets(450..451)]).0), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    assert_eq!(places(&run(vec![lose.clone().offsets(450..451).times(1)]).0), [0, 1, 2, 3, 5, 6, 7, 8, 9, 4]);
    assert_eq!(run(vec![lose.clone().flags(FIN)]).0.len(), 13);
    assert_eq!(run(vec![lose.clone().with_payload(false)]).0.len(), 11);
    assert_eq!(run(vec![Rule::new(BACK, Fate::Lose)]).0.len(), 14);
    // The first that fits decides.
    let spared = Rule::new(OUT, Fate::Pass).offsets(0..500);
    assert_eq!(places(&run(vec![spared, lose.clone().with_payload(true)]).0), [0, 1, 2, 3, 4, 4]);
    // And what else can be done.
    let hold = Rule::new(OUT, Fate::Hold(2, MS)).nth(1..2);
    assert_eq!(places(&run(vec![hold]).0), [1, 2, 0, 3, 4, 5, 6, 7, 8, 9, 4]);
    let (left, _) = run(vec![Rule::new(OUT, Fate::Split(30)).nth(1..2), Rule::new(OUT, Fate::Truncate(20)).nth(2..3)]);
    assert_eq!(Segment::of(&left[1]).unwrap().payload.len(), 30);
    assert_eq!(Segment::of(&left[2]).unwrap().seq, 1030);
    assert_eq!(left[3], nth(1)[..20]);
}

/// What an etherparse reads of a forged frame.
fn tcp(frame: &[u8]) -> etherparse::TcpHeader {
    let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ethernet(frame).unwrap().transport else {
        panic!("no TCP: {frame:x?}")
    };
    tcp.to_header()
}

#[test]
fn forgeries_know_what_their_aim_says() {
    for make in all_kinds() {
        let forge = |forgery, seed| {
            let mut wire = Impairer::new(Plan { seed, ..Plan::default() });
            wire.push(NOW, OUT, &make.segment(1000, 77, ACK, &[0; 100]));
            wire.push(NOW, BACK, &Make { direction: BACK, ..make }.segment(77, 1100, ACK, b""));
            assert_eq!(drain_both(&mut wire).map(|left| left.len()), [1, 1]);
            wire.inject(NOW, Injection { direction: OUT, forgery, count: 3, per_second: 1000 });
            assert_eq!(wire.pending(), 3);
            let left = drain(&mut wire);
            assert_eq!(left.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [NOW, NOW + MS, NOW + 2 * MS]);
            assert_eq!((wire.pending(), wire.counters(OUT).forged), (0, 3));
            left.into_iter().map(|(_, frame)| frame).collect::<Vec<_>>()
        };
        for frame in forge(Forgery::Rst(Aim::Exact), 1) {
            let header = tcp(&frame);
            assert_eq!((header.sequence_number, header.acknowledgment_number, header.rst), (1100, 77, true));
            assert_eq!((header.source_port, header.destination_port), (443, 40_000));
            assert!(is_right(&frame));
            assert_eq!(frame[..12], make.segment(0, 0, ACK, b"")[..12]);
        }
        for frame in forge(Forgery::Rst(Aim::InWindow), 1) {
            assert!((1101..=1100 + 16 * 1024).contains(&tcp(&frame).sequence_number));
        }
        let blind: BTreeSet<u32> = (0..40)
            .flat_map(|seed| forge(Forgery::Data(Aim::Blind, 64), seed))
            .inspect(|frame| assert!(is_right(frame)))
            .map(|frame| tcp(&frame).sequence_number >> 28)
            .collect();
        assert!(blind.len() > 12, "from all over the sequence space: {blind:?}");
        assert!(forge(Forgery::Syn(Aim::Exact), 1).iter().all(|frame| tcp(frame).syn && !tcp(frame).ack));
        assert!(forge(Forgery::Fin(Aim::Exact), 1).iter().all(|frame| tcp(frame).fin && tcp(frame).ack));
        for forgery in [Forgery::Unreachable(Aim::Exact), Forgery::TooBig(Aim::Exact, 1000)] {
            for frame in forge(forgery, 1) {
                // What is quoted ends with the ports and the sequence number of the client's own segment.
                assert!(frame.ends_with(&[0x9c, 0x40, 0x01, 0xbb, 0, 0, 0, 77]), "{frame:x?}");
                let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                let sum_is_right = match packet.transport.unwrap() {
                    TransportSlice::Icmpv4(icmp) => icmp.checksum() == icmp.icmp_type().calc_checksum(icmp.payload()),
                    TransportSlice::Icmpv6(icmp) => {
                        let ip = packet.net.as_ref().unwrap().ipv6_ref().unwrap().header().to_header();
                        icmp.is_checksum_valid(ip.source, ip.destination)
                    }
                    _ => false,
                };
                assert!(sum_is_right);
            }
        }
    }
    // Nobody to forge for.
    let mut wire = Impairer::new(Plan::default());
    wire.inject(NOW, Injection { direction: OUT, forgery: Forgery::Rst(Aim::Blind), count: 3, per_second: 1000 });
    assert_eq!(drain(&mut wire), []);
    assert_eq!((wire.counters(OUT), wire.next_due()), (Counters::default(), None));
}

#[test]
fn forgeries_come_with_segments_as_often_as_they_say() {
    let forgeries =
        vec![(Chance::percent(10), Forgery::Rst(Aim::Blind)), (Chance::percent(20), Forgery::Syn(Aim::Exact))];
    let (left, counters) = run(with(1, Impairments { forgeries, ..Impairments::default() }), 5000, US);
    assert!((1350..1650).contains(&counters.forged), "{}", counters.forged);
    assert_eq!(left.len() as u64, 5000 + counters.forged);
}

/// Frames of any bytes, and what is left of segments, come through or are dropped, and that is all.
#[test]
fn nothing_that_comes_makes_it_panic() {
    let everything = Impairments {
        loss: Chance::percent(1),
        burst: Some(Burst { begin: Chance::percent(2), end: Chance::percent(50), loss: Chance::percent(50) }),
        duplicate: Chance::percent(10),
        reorder: Some(Reorder::some(Chance::percent(10))),
        corrupt: Chance::percent(10),
        forge_payload: Chance::percent(10),
        truncate: Chance::percent(10),
        split: Chance::percent(10),
        join: Chance::percent(30),
        delay: US,
        jitter: MS,
        overtaking: true,
        rate: Some(Rate { bytes_per_second: 1 << 30, queue_bytes: 1 << 20 }),
        forgeries: vec![(Chance::percent(10), Forgery::TooBig(Aim::Blind, 600))],
    };
    let mut random = Random::new(1);
    for scope in [Scope::Tcp, Scope::Everything] {
        let mut wire = Impairer::new(Plan { scope, ..Plan::both(1, &everything) });
        for n in 0..20_000_u32 {
            let make = all_kinds().nth(n as usize % 4).unwrap();
            let payload = vec![n as u8; random.below(50) as usize];
            let mut frame = make.segment(n.wrapping_mul(25), 1, random.next() as u8, &payload);
            if random.below(3) == 0 {
                frame.truncate(random.below(frame.len() as u64 + 1) as usize);
            }
            if random.below(3) == 0 && !frame.is_empty() {
                let at = random.below(frame.len() as u64) as usize;
                frame[at] = random.next() as u8;
            }
            let now = NOW + US * n;
            wire.push(now, Direction::BOTH[n as usize % 2], &frame);
            for direction in Direction::BOTH {
                while wire.pop(now, direction).is_some() {}
            }
        }
    }
}
