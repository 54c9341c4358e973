//! New keys and new tickets in the middle of a connection.

use super::forger::Forged;
use super::rig::{AES128, AES256, CHACHA, GCM12, Pair, give, record_lens, take};
use crate::record::{Alert, Content, Error};

const NOT_REQUESTED: [u8; 5] = [24, 0, 0, 1, 0];
const REQUESTED: [u8; 5] = [24, 0, 0, 1, 1];
const HANDSHAKE: u8 = 22;

#[test]
fn the_server_changes_its_keys_between_any_two_records() {
    for suite in [AES128, AES256, CHACHA] {
        let mut pair = Pair::new(suite);
        for round in 0..200 {
            pair.server.refresh_traffic_keys().unwrap();
            // Odd rounds: price and update in one piece.
            let update = take(&mut pair.server);
            let price = pair.say(b"price");
            if round % 2 == 0 {
                assert!(pair.open(&update).unwrap().is_empty());
                assert_eq!(pair.session.opener.records(), 0, "numbers start again under a new key");
                assert_eq!(pair.open(&price).unwrap(), [b"price"]);
            } else {
                assert_eq!(pair.open(&[update, price].concat()).unwrap(), [b"price"]);
            }
            assert!(pair.answer() > 0, "rustls asks for ours");
            assert_eq!(pair.answer(), 0, "once");
            pair.talk();
        }
        assert_eq!(pair.session.opener.counters().key_updates_received, 200);
        assert_eq!(pair.session.opener.counters().key_updates_requested, 200);
        assert_eq!(pair.session.sealer.counters().key_updates_sent, 200);
    }
}

#[test]
fn keys_may_change_without_traffic_so_many_times_and_no_more() {
    let mut pair = Pair::new(AES128);
    for _ in 0..32 {
        pair.server.refresh_traffic_keys().unwrap();
        let update = take(&mut pair.server);
        pair.open(&update).unwrap();
    }
    pair.talk();
    for _ in 0..32 {
        pair.server.refresh_traffic_keys().unwrap();
        let update = take(&mut pair.server);
        pair.open(&update).unwrap();
    }
    pair.server.refresh_traffic_keys().unwrap();
    let update = take(&mut pair.server);
    let error = pair.open(&update).unwrap_err();
    assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE));
    assert!(error.to_string().contains("too many key updates"), "{error}");
}

#[test]
fn many_requests_before_an_answer_are_answered_once() {
    let mut forged = Forged::new(AES128);
    let mut bytes = Vec::new();
    for message in [REQUESTED, NOT_REQUESTED, REQUESTED, REQUESTED] {
        bytes.extend(forged.seal(HANDSHAKE, &message));
        forged.update();
    }
    bytes.extend(forged.data(b"price"));
    assert_eq!(forged.push(&bytes).unwrap(), [b"price"]);
    let answer = forged.answer();
    assert_eq!(forged.read(&answer), [(HANDSHAKE, NOT_REQUESTED.to_vec())], "one, under the old key");
    assert!(forged.answer().is_empty());
    // The next record is under the new key, and its numbers start again.
    let mut out = Vec::new();
    forged.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
    forged.update_receiving();
    assert_eq!(forged.read(&out), [(23, b"order".to_vec())]);
    assert_eq!(forged.session.sealer.records(), 1);
}

#[test]
fn an_update_that_asks_for_nothing_is_answered_with_nothing() {
    let mut forged = Forged::new(AES128);
    let update = forged.seal(HANDSHAKE, &NOT_REQUESTED);
    forged.update();
    let price = forged.data(b"price");
    assert_eq!(forged.push(&[update, price].concat()).unwrap(), [b"price"]);
    assert!(forged.answer().is_empty());
    assert_eq!(forged.session.opener.counters().key_updates_received, 1);
    assert_eq!(forged.session.opener.counters().key_updates_requested, 0);
}

#[test]
fn an_update_may_be_split_over_records_and_is_then_the_last_of_them() {
    let mut forged = Forged::new(AES256);
    let bytes = [forged.seal(HANDSHAKE, &REQUESTED[..2]), forged.seal(HANDSHAKE, &REQUESTED[2..])].concat();
    forged.update();
    let price = forged.data(b"price");
    assert_eq!(forged.push(&[bytes, price].concat()).unwrap(), [b"price"]);
    assert_eq!(forged.session.opener.counters().messages_joined, 1);
}

#[test]
fn our_own_refresh_is_understood_and_answered() {
    for suite in [AES128, AES256, CHACHA] {
        let mut pair = Pair::new(suite);
        for _ in 0..20 {
            let mut out = Vec::new();
            pair.session.refresh(&mut out).unwrap();
            assert_eq!(record_lens(&out).len(), 1);
            give(&mut pair.server, &out).unwrap();
            // rustls' answer waits for the next thing it has to say.
            pair.talk();
        }
        assert_eq!(pair.session.opener.counters().key_updates_received, 20);
        assert_eq!(pair.session.sealer.counters().key_updates_sent, 20);
        assert_eq!(pair.answer(), 0, "its answers ask for nothing");
    }
}

#[test]
fn a_refresh_answers_a_request_that_was_pending() {
    let mut forged = Forged::new(AES128);
    let update = forged.seal(HANDSHAKE, &REQUESTED);
    forged.update();
    forged.push(&update).unwrap();
    let mut out = Vec::new();
    forged.session.refresh(&mut out).unwrap();
    assert_eq!(forged.read(&out), [(HANDSHAKE, REQUESTED.to_vec())]);
    assert!(forged.answer().is_empty());
}

#[test]
fn tls_1_2_has_no_refresh() {
    let mut pair = Pair::new(GCM12);
    let mut out = Vec::new();
    assert!(matches!(pair.session.refresh(&mut out), Err(Error::NoKeyUpdate)));
    assert!(out.is_empty());
    pair.talk();
}

#[test]
fn a_closed_side_answers_nothing() {
    let mut forged = Forged::new(AES128);
    let mut out = Vec::new();
    forged.session.sealer.close_notify(&mut out).unwrap();
    let update = forged.seal(HANDSHAKE, &REQUESTED);
    forged.push(&update).unwrap();
    assert!(forged.answer().is_empty());
    assert!(matches!(forged.session.refresh(&mut out), Err(Error::AfterClose)));
}

/// A NewSessionTicket message with a ticket of this many bytes (RFC 8446 4.6.1).
fn ticket(len: u16) -> Vec<u8> {
    let body = [
        &7200u32.to_be_bytes()[..],
        &1u32.to_be_bytes(),
        &[2, 0, 1],
        &len.to_be_bytes(),
        &vec![9; usize::from(len)],
        &[0, 0],
    ]
    .concat();
    message(4, &body)
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, len[1], len[2], len[3]], body].concat()
}

#[test]
fn tickets_may_share_a_record_or_span_many() {
    let mut forged = Forged::new(AES128);
    let shared = [ticket(50), ticket(60), ticket(70)].concat();
    let mut bytes = forged.seal(HANDSHAKE, &shared);
    // One and a half in the first, the rest and another in the second.
    let (one, two) = shared.split_at(100);
    bytes.extend(forged.seal(HANDSHAKE, one));
    bytes.extend(forged.seal(HANDSHAKE, two));
    // Both cuts inside a ticket: the second record ends one and begins another.
    for piece in [&shared[..20], &shared[20..80], &shared[80..150], &shared[150..]] {
        bytes.extend(forged.seal(HANDSHAKE, piece));
    }
    // One byte to a record: the header is split, too.
    for byte in ticket(30) {
        bytes.extend(forged.seal(HANDSHAKE, &[byte]));
    }
    // As long as may be.
    for piece in ticket(65_520).chunks(16_000) {
        bytes.extend(forged.seal(HANDSHAKE, piece));
    }
    // A ticket, and behind it a change of keys.
    bytes.extend(forged.seal(HANDSHAKE, &[&ticket(40)[..], &NOT_REQUESTED].concat()));
    forged.update();
    bytes.extend(forged.data(b"price"));
    for piece in bytes.chunks(777) {
        let opened = forged.push(piece).unwrap();
        assert!(opened.is_empty() || opened == [b"price"]);
    }
    let counters = forged.session.opener.counters();
    assert_eq!(counters.tickets, 3 + 3 + 3 + 1 + 1 + 1);
    assert_eq!(counters.messages_joined, 1 + 3 + 1 + 1);
    assert_eq!(counters.key_updates_received, 1);
    assert_eq!(counters.bytes_opened, 5);
}

#[test]
fn a_ticket_that_cannot_be_read_is_refused() {
    for body in [&b""[..], &[0; 8], &[0, 0, 28, 32, 0, 0, 0, 1, 0, 0, 0, 0, 0]] {
        let mut forged = Forged::new(AES128);
        let bytes = forged.seal(HANDSHAKE, &message(4, body));
        let error = forged.push(&bytes).unwrap_err();
        assert_eq!(error.alert(), Some(Alert::DECODE_ERROR), "{error:?}");
    }
}

#[test]
fn a_worn_key_is_changed_before_its_limit() {
    let mut pair = Pair::new(AES128);
    pair.session.sealer.lower_limit(100);
    let mut out = Vec::new();
    for n in 0..1000 {
        pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
        pair.session.answer(&mut out).unwrap();
        assert!(pair.session.sealer.records() <= 73, "record {n}: the last quarter, and two, are kept back");
    }
    assert_eq!(give(&mut pair.server, &out).unwrap().len(), 5000, "the server follows every change");
    assert_eq!(pair.session.sealer.counters().key_updates_sent, 1000 / 73);
    pair.talk();
}

#[test]
fn a_worn_key_that_nobody_changes_is_refused_and_can_still_be_changed() {
    let mut pair = Pair::new(AES128);
    pair.session.sealer.lower_limit(100);
    let mut out = Vec::new();
    for _ in 0..98 {
        pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
    }
    let len = out.len();
    let error = pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap_err();
    assert!(matches!(error, Error::KeyWorn { records: 98, renewable: true }), "{error:?}");
    assert_eq!(out.len(), len);
    pair.session.answer(&mut out).unwrap();
    pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
    assert_eq!(give(&mut pair.server, &out).unwrap().len(), 99 * 5);
}

#[test]
fn a_worn_key_of_tls_1_2_can_only_say_goodbye() {
    let mut pair = Pair::new(GCM12);
    pair.session.sealer.lower_limit(100);
    let mut out = Vec::new();
    // The handshake's Finished was sealed with it, too.
    for _ in 0..97 {
        pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
        pair.session.answer(&mut out).unwrap();
    }
    assert_eq!(record_lens(&out).len(), 97);
    let error = pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap_err();
    assert!(matches!(error, Error::KeyWorn { records: 98, renewable: false }), "{error:?}");
    assert!(error.to_string().ends_with("TLS 1.2 cannot change keys: reconnect"), "{error}");
    assert_eq!(error.alert(), Some(Alert::CLOSE_NOTIFY));
    pair.session.sealer.alert(Alert::CLOSE_NOTIFY, &mut out).unwrap();
    assert_eq!(give(&mut pair.server, &out).unwrap().len(), 97 * 5);
    assert!(pair.server.process_new_packets().unwrap().peer_has_closed());
}

#[test]
fn a_limit_can_be_lowered_and_not_raised() {
    let mut pair = Pair::new(AES128);
    pair.session.sealer.lower_limit(0);
    pair.session.sealer.lower_limit(1000);
    let mut out = Vec::new();
    for _ in 0..6 {
        pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
    }
    assert!(pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).is_err(), "8, less the reserve");
    // What would not fit as a whole is not begun.
    let mut pair = Pair::new(AES128);
    pair.session.sealer.lower_limit(10);
    out.clear();
    let error = pair.session.sealer.seal(Content::ApplicationData, &[0; 9 << 14], &mut out).unwrap_err();
    assert!(matches!(error, Error::KeyWorn { records: 0, .. }) && out.is_empty(), "{error:?}");
    pair.session.sealer.seal(Content::ApplicationData, &[0; 8 << 14], &mut out).unwrap();
    assert_eq!(give(&mut pair.server, &out).unwrap().len(), 8 << 14);
}
