//! Whole streams, cut and shuffled at random.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A stream cut into segments that overlap, come twice, in any order and with any acknowledgement, some of them
    /// lost at first, arrives whole, in order, once.
    #[test]
    fn however_the_segments_come_the_stream_is_the_stream(
        start in any::<u32>(),
        cuts in proptest::collection::vec((0usize..900, 1usize..200), 1..40),
        order in any::<u64>(),
        scribble in any::<bool>(),
    ) {
        let text: Vec<u8> = (0..1000u32).map(|i| (i * 7 + i / 256) as u8).collect();
        let lease = Lease { rcv_nxt: Seq(start), rcv_edge: Seq(start) + 65_536, ..lease() };
        let mut bench = Bench::adopted(&lease);
        bench.scribble = scribble;
        let mut pieces: Vec<(usize, usize)> =
            cuts.iter().map(|&(at, len)| (at, (at + len).min(text.len()))).collect();
        // Shuffled by a small generator, so that a failure shrinks.
        let mut state = order;
        for i in (1..pieces.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            pieces.swap(i, (state >> 33) as usize % (i + 1));
        }
        // And at last a sender that goes through everything once more.
        pieces.extend((0..text.len()).step_by(100).map(|at| (at, at + 100)));
        for (from, to) in pieces {
            bench.arrive(&TcpRepr { seq_number: number(Seq(start) + from), ..peer_sends(&text[from..to]) });
            bench.later(Duration::from_micros(100));
            for (ack, packet) in bench.sent() {
                for (left, right) in ack.sack_blocks(&packet) {
                    // What is reported is held, or was received before.
                    let next = bench.tcp.rcv_held();
                    let there = !right.is_after(next) || bench.tcp.held.has(next, (left, right));
                    prop_assert!(there, "{} {left} {right}", ack.ack);
                }
            }
            prop_assert!(text.starts_with(&bench.stream));
        }
        prop_assert_eq!(&bench.stream, &text);
        prop_assert_eq!(bench.tcp.rcv_nxt(), Seq(start) + text.len());
        bench.later(MS);
        prop_assert_eq!(bench.tcp.ahead, 0);
    }
}
