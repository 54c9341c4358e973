//! Honest streams, cut and joined in every way: nothing lost, nothing doubled, and each plaintext where it should lie.

use proptest::prelude::*;
use rustls::server::ServerConnectionData;
use rustls::{ConnectionCommon, SupportedCipherSuite};

use super::forger::Forged;
use super::rig::{self, AES128, FORMS, Pair, SUITES, Seen, open, push_piece, record_lens};
use crate::floor::Span;
use crate::floor::counters::Counters as _;
use crate::record::{Error, Opened, Opener};

/// Pushes `bytes` in pieces that end at `cuts`.
fn push_cut(opener: &mut Opener, bytes: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&bytes.len()]) {
        push_piece(opener, &bytes[from..to], &mut seen).unwrap();
        from = to;
    }
    seen
}

fn texts(seen: &[Seen]) -> Vec<&[u8]> {
    seen.iter().map(|seen| &seen.text[..]).collect()
}

#[test]
fn a_record_is_opened_whatever_the_size_of_its_pieces() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        for size in [1, 2, 3, 4, 5, 6, 7, 16, 21, 29, 100] {
            let text: Vec<u8> = (0..200).collect();
            let bytes = [pair.say(&text), pair.say(b"x"), pair.say(&text[..17])].concat();
            let cuts: Vec<usize> = (size..bytes.len()).step_by(size).collect();
            let seen = push_cut(&mut pair.session.opener, &bytes, &cuts);
            assert_eq!(texts(&seen), [&text[..], b"x", &text[..17]], "{suite:?}, pieces of {size}");
        }
        assert_eq!(pair.session.opener.bytes_waiting(), 0);
    }
}

#[test]
fn two_records_may_be_cut_at_any_two_places() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let len = pair.say(b"first price").len();
        drop(pair);
        let mut pair = Pair::new(suite);
        for first in 0..=2 * len {
            for second in first..=2 * len {
                let bytes = [pair.say(b"first price"), pair.say(b"other price")].concat();
                let seen = push_cut(&mut pair.session.opener, &bytes, &[first, second]);
                assert_eq!(texts(&seen), [b"first price", b"other price"], "{suite:?} cut at {first} and {second}");
                for (at, seen) in seen.iter().enumerate() {
                    // A record is joined if and only if a cut goes through it.
                    let inside = |cut: usize| cut > at * len && cut < (at + 1) * len;
                    assert_eq!(seen.joined, inside(first) || inside(second), "{suite:?} cut at {first} and {second}");
                }
            }
        }
    }
}

#[test]
fn a_whole_record_is_opened_where_it_arrived() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let head = pair.session.sealer.head_len();
        let records: Vec<Vec<u8>> = (1..=16u8).map(|n| pair.say(&vec![n; usize::from(n) * 10])).collect();
        let mut seen = Vec::new();
        let place = push_piece(&mut pair.session.opener, &records.concat(), &mut seen).unwrap();
        assert_eq!(seen.len(), 16);
        let mut at = place.start;
        for (n, (seen, record)) in (1..=16u8).zip(seen.iter().zip(&records)) {
            assert_eq!(seen.text, vec![n; usize::from(n) * 10]);
            assert_eq!(seen.address, at + head, "the plaintext stands where its ciphertext stood");
            assert!(!seen.joined);
            at += record.len();
        }
        assert_eq!(at, place.end);
        let counters = pair.session.opener.counters();
        assert_eq!((counters.records_in_place, counters.records_joined, counters.bytes_joined), (16, 0, 0));
        assert_eq!(counters.bytes_opened, 16 * 17 / 2 * 10);
    }
}

#[test]
fn a_record_that_spans_pieces_is_joined_and_the_rest_of_the_piece_is_not() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let (first, second, third) = (pair.say(&[1; 300]), pair.say(&[2; 300]), pair.say(&[3; 300]));
        let bytes = [&first[..], &second, &third].concat();
        let cut = first.len() + 100;
        let mut seen = Vec::new();
        let one = push_piece(&mut pair.session.opener, &bytes[..cut], &mut seen).unwrap();
        assert_eq!(seen.len(), 1, "the first does not wait for the second");
        assert_eq!(pair.session.opener.bytes_waiting(), 100);
        let two = push_piece(&mut pair.session.opener, &bytes[cut..], &mut seen).unwrap();
        assert_eq!(texts(&seen), [&[1; 300], &[2; 300], &[3; 300]]);
        assert!(one.contains(&seen[0].address) && !seen[0].joined);
        assert!(pair.session.opener.join_buffer().contains(&seen[1].address) && seen[1].joined);
        assert!(two.contains(&seen[2].address) && !seen[2].joined);
        let counters = pair.session.opener.counters();
        assert_eq!((counters.records_in_place, counters.records_joined), (2, 1));
        assert_eq!(counters.bytes_joined, second.len() as u64, "what belongs to others is not copied");
        assert_eq!(pair.session.opener.bytes_waiting(), 0);
    }
}

#[test]
fn a_record_is_lent_as_soon_as_its_last_byte_is_there() {
    let mut pair = Pair::new(AES128);
    let bytes = pair.say(b"price");
    let mut seen = Vec::new();
    for &byte in &bytes[..bytes.len() - 1] {
        push_piece(&mut pair.session.opener, &[byte], &mut seen).unwrap();
    }
    assert!(seen.is_empty());
    push_piece(&mut pair.session.opener, &bytes[bytes.len() - 1..], &mut seen).unwrap();
    assert_eq!(texts(&seen), [b"price"]);
}

#[test]
fn sixteen_messages_in_one_record_come_as_one_plaintext() {
    let mut pair = Pair::new(AES128);
    let messages: Vec<u8> = (0..16).flat_map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
    let bytes = pair.say(&messages);
    assert_eq!(record_lens(&bytes).len(), 1);
    assert_eq!(pair.open(&bytes).unwrap(), [messages]);
}

#[test]
fn a_snapshot_of_five_megabytes_arrives_whole() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let snapshot: Vec<u8> = (0..5_079_379u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let bytes = pair.say(&snapshot);
        let mut seen = Vec::new();
        // Segments of an ordinary MTU: a record of 16 KiB never lies whole in one, what is left over at the end may.
        const SEGMENT: usize = 1448;
        for piece in bytes.chunks(SEGMENT) {
            push_piece(&mut pair.session.opener, piece, &mut seen).unwrap();
        }
        assert!(texts(&seen).concat() == snapshot);
        let (mut at, mut records, mut spanning) = (0, 0, 0);
        for len in record_lens(&bytes) {
            spanning += u64::from(at / SEGMENT != (at + len - 1) / SEGMENT);
            records += 1;
            at += len;
        }
        assert!(records >= 311 && spanning >= 310);
        assert_eq!(pair.session.opener.counters().records_joined, spanning);
        assert_eq!(pair.session.opener.records() - u64::from(suite.tls13().is_none()), records);
    }
}

#[test]
fn the_largest_record_there_is_fits() {
    // 2^14 bytes of content, in one piece and in two, and in TLS 1.3 with as much overhead as the length field admits.
    for suite in FORMS {
        let mut forged = Forged::new(suite);
        for cut in [0, 1, 9000] {
            let record = forged.data(&[7; 1 << 14]);
            let seen = push_cut(&mut forged.session.opener, &record, &[cut]);
            assert_eq!(seen.len(), 1);
            assert!(seen[0].text == [7; 1 << 14]);
            assert_eq!(seen[0].joined, cut > 0);
        }
    }
}

#[test]
fn nothing_is_taken_from_an_empty_piece() {
    let mut pair = Pair::new(AES128);
    let bytes = pair.say(b"price");
    let seen = push_cut(&mut pair.session.opener, &bytes, &[0, 0, 3, 3, 10, 10]);
    assert_eq!(texts(&seen), [b"price"]);
}

#[test]
fn a_handler_can_seal_while_it_looks_at_what_was_opened() {
    let mut pair = Pair::new(AES128);
    let bytes = pair.say(b"price");
    let mut buffer = [&bytes[..], &[0; Span::PAD]].concat();
    let (opener, sealer) = (&mut pair.session.opener, &mut pair.session.sealer);
    let (head, tail) = (sealer.head_len(), sealer.tail_len());
    let mut order = vec![0; head + 5 + tail];
    opener
        .push(Span::new(&mut buffer, bytes.len()), &mut |opened: Opened<'_>| {
            assert_eq!(opened.plaintext.bytes(), b"price");
            order[head..head + 5].copy_from_slice(b"order");
            sealer.seal_in_place(&mut order, crate::record::Content::ApplicationData)
        })
        .unwrap();
    assert_eq!(rig::give(&mut pair.server, &order).unwrap(), b"order");
}

#[test]
fn a_sink_that_refuses_ends_the_connection() {
    #[derive(Debug)]
    enum Refusal {
        Enough,
        Tls(Error),
    }
    impl From<Error> for Refusal {
        fn from(error: Error) -> Self {
            Self::Tls(error)
        }
    }
    for cut in [0, 3] {
        let mut pair = Pair::new(AES128);
        let bytes = [pair.say(b"one"), pair.say(b"two")].concat();
        let opener = &mut pair.session.opener;
        let mut count = 0;
        let mut sink = |_: Opened<'_>| {
            count += 1;
            Err(Refusal::Enough)
        };
        let mut first = [&bytes[..cut], &[0; Span::PAD]].concat();
        opener.push(Span::new(&mut first, cut), &mut sink).unwrap();
        let mut rest = [&bytes[cut..], &[0; Span::PAD]].concat();
        let len = bytes.len() - cut;
        assert!(matches!(opener.push(Span::new(&mut rest, len), &mut sink), Err(Refusal::Enough)));
        assert!(matches!(opener.push(Span::new(&mut rest, len), &mut sink), Err(Refusal::Tls(Error::AfterFailure))));
        assert_eq!(count, 1);
        assert_eq!(opener.counters().failed_sink, 1);
        assert_eq!(opener.counters().pushes_after_failure, 1);
    }
}

#[test]
fn close_notify_ends_the_stream_and_what_follows_is_only_counted() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let mut bytes = pair.say(b"last price");
        pair.server.send_close_notify();
        bytes.extend(rig::take(&mut pair.server));
        bytes.extend([0xee; 1000]);
        for _ in 0..2 {
            let cut = bytes.len() - 1000;
            let seen = push_cut(&mut pair.session.opener, &bytes, &[cut]);
            assert!(pair.session.opener.is_closed());
            assert!(seen.len() <= 1);
            bytes = vec![0xee; 1000];
        }
        let counters = pair.session.opener.counters();
        assert_eq!((counters.bytes_after_close, counters.alerts), (2000, 1));
        pair.session.opener.on_eof().unwrap();
        // The other direction is still open until we close it (TLS 1.3; TLS 1.2's answer is the same close_notify).
        let mut out = Vec::new();
        pair.session.sealer.close_notify(&mut out).unwrap();
        pair.session.sealer.close_notify(&mut out).unwrap();
        assert_eq!(record_lens(&out).len(), 1, "said once");
        rig::give(&mut pair.server, &out).unwrap();
        assert!(peer_has_closed(&mut pair.server));
        pair.session.answer(&mut out).unwrap();
        assert_eq!(record_lens(&out).len(), 1, "nothing follows it");
    }
}

fn peer_has_closed(server: &mut ConnectionCommon<ServerConnectionData>) -> bool {
    server.process_new_packets().unwrap().peer_has_closed()
}

#[test]
fn an_end_without_close_notify_is_a_truncation() {
    for cut in [0, 3, 20] {
        let mut pair = Pair::new(AES128);
        let bytes = pair.say(b"price");
        push_cut(&mut pair.session.opener, &bytes[..cut], &[]);
        let error = pair.session.opener.on_eof().unwrap_err();
        assert!(matches!(error, Error::Truncated));
        assert_eq!(pair.session.opener.counters().nonzero().last(), Some(&("truncated", 1)));
    }
}

#[test]
fn sequence_numbers_do_not_wrap() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        pair.session.opener.set_sequence(u64::MAX);
        let bytes = pair.say(b"price");
        let error = pair.open(&bytes).unwrap_err();
        assert!(matches!(error, Error::SequenceExhausted), "{error:?}");
    }
}

fn form() -> impl Strategy<Value = SupportedCipherSuite> {
    prop::sample::select(&FORMS[..])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_stream_in_any_pieces_comes_out_as_it_went_in(
        suite in form(),
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..600), 1..20),
        sizes in prop::collection::vec(1usize..900, 1..40),
        updates in any::<u64>(),
    ) {
        let mut pair = Pair::new(suite);
        let mut bytes = Vec::new();
        let mut update_count = 0;
        for (n, message) in messages.iter().enumerate() {
            if updates >> (n * 3) & 7 == 0 && suite.tls13().is_some() {
                pair.server.refresh_traffic_keys().unwrap();
                update_count += 1;
            }
            bytes.extend(pair.say(message));
        }
        let mut cuts = Vec::new();
        let mut at = 0;
        for size in sizes.iter().cycle() {
            at += size;
            if at >= bytes.len() { break }
            cuts.push(at);
        }
        let seen = push_cut(&mut pair.session.opener, &bytes, &cuts);
        prop_assert_eq!(texts(&seen), messages.iter().map(|message| &message[..]).collect::<Vec<_>>());
        let counters = *pair.session.opener.counters();
        prop_assert_eq!(counters.key_updates_received, update_count);
        prop_assert_eq!(counters.records_in_place + counters.records_joined, messages.len() as u64 + update_count);
        let owed = pair.answer() > 0;
        prop_assert_eq!(owed, update_count > 0);
        pair.talk();
    }

    #[test]
    fn no_bytes_make_the_opener_panic(
        suite in form(),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..10),
        header in prop::option::of((20u8..25, 0u16..300)),
    ) {
        let mut pair = Pair::new(suite);
        if let Some((kind, len)) = header {
            let [high, low] = len.to_be_bytes();
            let _ = open(&mut pair.session.opener, &[kind, 3, 3, high, low]);
        }
        for piece in pieces {
            let opened = open(&mut pair.session.opener, &piece);
            prop_assert!(opened.is_err() || opened.unwrap().is_empty(), "garbage does not authenticate");
        }
    }
}
