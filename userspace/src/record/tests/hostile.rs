//! A peer that has the keys and breaks the rules, and a network that changes bytes.

use rustls::SupportedCipherSuite;

use super::forger::Forged;
use super::rig::{AES128, AES256, CHACHA, CHACHA12, FORMS, GCM12, Pair, open};
use crate::record::{Alert, Error};

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// Pushes what a forger makes, in one piece and again byte by byte; the alert its error asks for.
fn refused(suite: SupportedCipherSuite, make: impl Fn(&mut Forged) -> Vec<u8>) -> (Error, Alert) {
    let mut forged = Forged::new(suite);
    let bytes = make(&mut forged);
    let error = forged.push(&bytes).unwrap_err();
    assert!(matches!(forged.push(b"more"), Err(Error::AfterFailure)), "it ends the connection");

    let mut forged = Forged::new(suite);
    let bytes = make(&mut forged);
    let slowly = bytes.iter().find_map(|byte| forged.push(&[*byte]).err()).unwrap();
    assert_eq!(slowly.to_string(), error.to_string(), "pieces make no difference");
    let counters = forged.session.opener.counters();
    let failures =
        counters.failed_authentication + counters.failed_overflow + counters.failed_alert + counters.failed_protocol;
    assert_eq!(failures, 1, "{counters:?}");
    let alert = error.alert().unwrap_or(Alert::CLOSE_NOTIFY);
    (error, alert)
}

#[test]
fn a_bit_changed_anywhere_is_noticed() {
    for suite in [AES128, AES256, CHACHA, GCM12, CHACHA12] {
        let mut probe = Pair::new(suite);
        let len = probe.say(b"buy at 17.01").len();
        for at in 0..len {
            for bit in [0x01, 0x80] {
                let mut pair = Pair::new(suite);
                let mut record = pair.say(b"buy at 17.01");
                record[at] ^= bit;
                // A longer length makes it wait; let it have what it waits for.
                record.extend([0; 40_000]);
                let error = open(&mut pair.session.opener, &record).unwrap_err();
                match at {
                    // The type: in clear, and some types have no business here whatever they hold.
                    0 => assert!(
                        matches!(error, Error::PeerMisbehaved { alert: Alert::UNEXPECTED_MESSAGE, .. })
                            || matches!(error, Error::BadRecordMac { .. }),
                        "{suite:?} {error:?}"
                    ),
                    3 if bit == 0x80 => assert!(matches!(error, Error::RecordOverflow { .. }), "{error:?}"),
                    _ => {
                        assert!(matches!(error, Error::BadRecordMac { .. }), "{suite:?}, byte {at}: {error:?}");
                        assert_eq!(error.alert(), Some(Alert::BAD_RECORD_MAC));
                    }
                }
            }
        }
    }
}

#[test]
fn a_record_repeated_left_out_or_swapped_is_noticed() {
    for suite in FORMS {
        for order in [[0, 0, 1], [1, 2, 2], [1, 0, 2]] {
            let mut pair = Pair::new(suite);
            let records = [pair.say(b"one"), pair.say(b"two"), pair.say(b"three")];
            let bytes = order.map(|n: usize| records[n].clone()).concat();
            let error = pair.open(&bytes).unwrap_err();
            assert!(matches!(error, Error::BadRecordMac { .. }), "{suite:?} {order:?}: {error:?}");
        }
    }
}

#[test]
fn padding_is_taken_off() {
    let mut forged = Forged::new(AES128);
    let mut bytes = Vec::new();
    for zeros in [0, 1, 2, 15, 16, 17, 255, 16_000] {
        let mut inner = b"price\x17".to_vec();
        inner.resize(6 + zeros, 0);
        bytes.extend(forged.seal_inner(&inner));
    }
    assert_eq!(forged.push(&bytes).unwrap(), [b"price"; 8]);
    // Zeros at the end of the content are content.
    let bytes = forged.seal_inner(b"price\0\0\x17\0\0");
    assert_eq!(forged.push(&bytes).unwrap(), [b"price\0\0"]);
}

#[test]
fn a_record_of_nothing_but_padding_is_refused() {
    for len in [0, 1, 100, 1 << 14] {
        let (error, alert) = refused(AES128, |forged| forged.seal_inner(&vec![0; len]));
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
        assert!(error.to_string().contains("nothing but padding"), "{error}");
    }
}

#[test]
fn an_inner_type_that_has_no_place_is_refused() {
    for kind in [1, 20, 24, 25, 255] {
        let (error, alert) = refused(AES128, |forged| forged.seal_inner(&[b'x', kind]));
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE, "{kind}: {error}");
    }
}

#[test]
fn an_outer_type_that_has_no_place_is_refused_before_its_body_comes() {
    for suite in FORMS {
        for kind in [0, 20, 24, 25, 0x48, 255] {
            let mut forged = Forged::new(suite);
            let error = forged.push(&[kind, 3, 3, 0, 40]).unwrap_err();
            assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE), "{suite:?} {kind}: {error}");
        }
    }
    // Alerts and handshake messages in clear: TLS 1.2 has those types outside, sealed; TLS 1.3 has them inside only.
    for (kind, record) in [(ALERT, &[21, 3, 3, 0, 2, 1, 0][..]), (HANDSHAKE, &[22, 3, 3, 0, 5, 24, 0, 0, 1, 0])] {
        let (error, alert) = refused(AES128, |_| record.to_vec());
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
        assert!(error.to_string().contains("in clear"), "{error}");
        let mut forged = Forged::new(AES128);
        assert!(forged.push(&record[..5]).is_err(), "{kind}: its header suffices");
        for suite in [GCM12, CHACHA12] {
            let (error, _) = refused(suite, |_| record.to_vec());
            assert!(matches!(error, Error::BadRecordMac { .. }), "too short to be sealed: {error}");
        }
    }
}

#[test]
fn a_record_that_is_too_long_is_refused() {
    // By its header alone, in every form.
    for (suite, body_max) in [(AES128, 16_640u16), (GCM12, 18_432), (CHACHA12, 18_432)] {
        let header = |len: u16| [&[23, 3, 3], &len.to_be_bytes()[..]].concat();
        let mut forged = Forged::new(suite);
        assert!(forged.push(&header(body_max)).unwrap().is_empty(), "as long as may be: wait for it");
        let (error, alert) = refused(suite, |_| header(body_max + 1));
        assert_eq!(alert, Alert::RECORD_OVERFLOW);
        assert!(matches!(error, Error::RecordOverflow { bytes_max, .. } if bytes_max == usize::from(body_max)));
        // By its content, once it is opened.
        let (error, alert) = refused(suite, |forged| forged.data(&[1; (1 << 14) + 1]));
        assert_eq!(alert, Alert::RECORD_OVERFLOW);
        assert!(matches!(error, Error::RecordOverflow { bytes: 16_385, bytes_max: 16_384 }), "{error:?}");
    }
    // TLS 1.3 counts the padding, too (RFC 8446 5.4).
    let (error, alert) = refused(AES128, |forged| {
        let mut inner = b"x\x17".to_vec();
        inner.resize((1 << 14) + 2, 0);
        forged.seal_inner(&inner)
    });
    assert_eq!(alert, Alert::RECORD_OVERFLOW, "{error:?}");
}

#[test]
fn a_record_too_short_for_its_tag_is_refused() {
    for suite in FORMS {
        for len in [0, 1, 15] {
            let (error, alert) = refused(suite, |_| [&[23, 3, 3, 0, len][..], &vec![0; usize::from(len)]].concat());
            assert!(matches!(error, Error::BadRecordMac { sequence: 0 | 1 }), "{error:?}");
            assert_eq!(alert, Alert::BAD_RECORD_MAC);
            let mut forged = Forged::new(suite);
            assert!(forged.push(&[23, 3, 3, 0, len]).is_err(), "its header suffices");
        }
    }
    let mut forged = Forged::new(GCM12);
    assert!(forged.push(&[23, 3, 3, 0, 23]).is_err(), "the nonce takes room, too");
    let mut forged = Forged::new(AES128);
    assert!(forged.push(&[23, 3, 3, 0, 16]).unwrap().is_empty());
}

#[test]
fn empty_records_are_allowed_in_small_numbers() {
    for suite in FORMS {
        let mut forged = Forged::new(suite);
        for _ in 0..3 {
            let mut bytes: Vec<u8> = (0..32).flat_map(|_| forged.data(b"")).collect();
            bytes.extend(forged.data(b"price"));
            assert_eq!(forged.push(&bytes).unwrap(), [b"price"], "content begins the count anew");
        }
        assert_eq!(forged.session.opener.counters().records_empty, 96);
        let (error, alert) = refused(suite, |forged| (0..33).flat_map(|_| forged.data(b"")).collect());
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
        assert!(error.to_string().contains("too many records without content"), "{error}");
    }
    // Padded ones are no less empty.
    let (_, alert) = refused(AES128, |forged| (0..33).flat_map(|_| forged.seal_inner(&[23, 0, 0, 0])).collect());
    assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
}

#[test]
fn empty_alerts_and_handshake_messages_are_refused() {
    for suite in FORMS {
        for kind in [ALERT, HANDSHAKE] {
            let (_, alert) = refused(suite, |forged| forged.seal(kind, b""));
            assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
        }
    }
}

#[test]
fn a_key_update_must_be_the_last_in_its_record() {
    for behind in [&[0][..], &[24], &KEY_UPDATE, &[4, 0, 0, 0]] {
        let (error, alert) = refused(AES128, |forged| forged.seal(HANDSHAKE, &[&KEY_UPDATE, behind].concat()));
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE, "{error}");
        assert!(error.to_string().contains("changed keys in the middle of a record"), "{error}");
    }
}

#[test]
fn a_key_update_that_cannot_be_read_is_refused() {
    for (message, expected) in [
        (&[24, 0, 0, 1, 2][..], Alert::ILLEGAL_PARAMETER),
        (&[24, 0, 0, 1, 255], Alert::ILLEGAL_PARAMETER),
        (&[24, 0, 0, 0], Alert::DECODE_ERROR),
        (&[24, 0, 0, 2, 0, 0], Alert::DECODE_ERROR),
        (&[24, 1, 0, 0], Alert::DECODE_ERROR),
    ] {
        let (error, alert) = refused(AES128, |forged| forged.seal(HANDSHAKE, message));
        assert_eq!(alert, expected, "{message:?}: {error}");
    }
}

#[test]
fn the_old_key_is_gone_after_an_update() {
    let (error, alert) = refused(AES128, |forged| {
        let mut bytes = forged.seal(HANDSHAKE, &KEY_UPDATE);
        // Not updated: sealed with the key that has just been given up.
        bytes.extend(forged.data(b"price"));
        bytes
    });
    assert!(matches!(error, Error::BadRecordMac { sequence: 0 }), "{error:?}");
    assert_eq!(alert, Alert::BAD_RECORD_MAC);
}

#[test]
fn nothing_may_come_between_the_pieces_of_a_message() {
    let piece = &[4, 0, 1, 0, 0, 0][..];
    for suite in [AES128] {
        for between in [(23, &b"price"[..]), (23, b""), (ALERT, &[1, 90])] {
            for piece in [piece, &piece[..3], &piece[..1]] {
                let (error, alert) = refused(suite, |forged| {
                    [forged.seal(HANDSHAKE, piece), forged.seal(between.0, between.1)].concat()
                });
                assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
                assert!(error.to_string().contains("in the middle of a handshake message"), "{error}");
            }
        }
        // The end of the connection may.
        let mut forged = Forged::new(suite);
        let bytes = [forged.seal(HANDSHAKE, piece), forged.seal(ALERT, &[2, 80])].concat();
        assert!(matches!(forged.push(&bytes), Err(Error::PeerAlert(Alert::INTERNAL_ERROR))));
    }
    let (error, _) = refused(GCM12, |forged| [forged.seal(HANDSHAKE, &[0, 0]), forged.data(b"price")].concat());
    assert!(error.to_string().contains("in the middle of a handshake message"), "{error}");
}

#[test]
fn messages_that_have_no_place_after_the_handshake_are_refused_by_their_first_byte() {
    for kind in (0..=255).filter(|kind| ![4, 24].contains(kind)) {
        let mut forged = Forged::new(AES128);
        let bytes = forged.seal(HANDSHAKE, &[kind]);
        let error = forged.push(&bytes).unwrap_err();
        assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE), "{kind}");
        if kind % 16 == 0 {
            let mut forged = Forged::new(CHACHA12);
            let bytes = forged.seal(HANDSHAKE, &[kind + 1]);
            assert!(forged.push(&bytes).is_err(), "TLS 1.2 knows one only");
        }
    }
    for kind in [4, 24] {
        let (_, alert) = refused(GCM12, |forged| forged.seal(HANDSHAKE, &[kind, 0, 0, 1, 0]));
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE, "neither tickets nor key updates in TLS 1.2");
    }
}

#[test]
fn a_message_longer_than_any_is_not_collected() {
    let (error, alert) = refused(AES128, |forged| forged.seal(HANDSHAKE, &[4, 1, 0, 0]));
    assert_eq!(alert, Alert::DECODE_ERROR, "{error}");
}

#[test]
fn fatal_alerts_are_the_peers_last_word() {
    for suite in FORMS {
        for (content, name) in [([2, 20], "bad_record_mac"), ([2, 80], "internal_error"), ([2, 201], "number 201")] {
            let (error, _) = refused(suite, |forged| forged.seal(ALERT, &content));
            assert!(matches!(error, Error::PeerAlert(alert) if alert.code() == content[1]), "{error:?}");
            assert_eq!(error.alert(), None, "it has stopped listening");
            assert_eq!(error.to_string(), format!("the peer ended the connection with the TLS alert {name}"));
        }
    }
    // TLS 1.3 has no warnings: what calls itself one is an error all the same.
    for content in [[1, 20], [1, 100], [1, 201], [0, 80], [9, 80]] {
        let (error, _) = refused(AES128, |forged| forged.seal(ALERT, &content));
        assert!(matches!(error, Error::PeerAlert(alert) if alert.code() == content[1]), "{error:?}");
    }
}

#[test]
fn alerts_of_the_wrong_length_are_refused() {
    for suite in FORMS {
        for content in [&[1][..], &[2], &[1, 0, 0], &[1, 0, 1, 0]] {
            let (error, alert) = refused(suite, |forged| forged.seal(ALERT, content));
            assert_eq!(alert, Alert::DECODE_ERROR, "{error}");
        }
    }
}

#[test]
fn warnings_are_survived_in_small_numbers() {
    for (suite, content) in
        [(AES128, [1, 90]), (AES128, [2, 90]), (GCM12, [1, 90]), (GCM12, [1, 112]), (CHACHA12, [1, 255])]
    {
        let mut forged = Forged::new(suite);
        let mut bytes: Vec<u8> = (0..4).flat_map(|_| forged.seal(ALERT, &content)).collect();
        bytes.extend(forged.data(b"price"));
        assert_eq!(forged.push(&bytes).unwrap(), [b"price"]);
        assert_eq!(forged.session.opener.counters().warnings_ignored, 4);
        let (error, alert) = refused(suite, |forged| (0..5).flat_map(|_| forged.seal(ALERT, &content)).collect());
        assert_eq!(alert, Alert::UNEXPECTED_MESSAGE);
        assert!(error.to_string().contains("too many warnings"), "{error}");
    }
    let (_, alert) = refused(GCM12, |forged| forged.seal(ALERT, &[3, 80]));
    assert_eq!(alert, Alert::ILLEGAL_PARAMETER, "TLS 1.2 has two levels");
}

#[test]
fn close_notify_closes_whatever_its_level() {
    for suite in FORMS {
        for level in [0, 1, 2] {
            let mut forged = Forged::new(suite);
            let bytes = [forged.data(b"price"), forged.seal(ALERT, &[level, 0]), forged.data(b"late")].concat();
            assert_eq!(forged.push(&bytes).unwrap(), [b"price"]);
            assert!(forged.session.opener.is_closed());
            assert!(forged.session.opener.counters().bytes_after_close > 0);
        }
    }
}

#[test]
fn renegotiation_is_refused_once_and_then_it_is_over() {
    for suite in [GCM12, CHACHA12] {
        let mut forged = Forged::new(suite);
        let bytes = [forged.seal(HANDSHAKE, &[0, 0]), forged.seal(HANDSHAKE, &[0, 0]), forged.data(b"price")].concat();
        assert_eq!(forged.push(&bytes).unwrap(), [b"price"], "the feed goes on");
        let answer = forged.answer();
        assert_eq!(forged.read(&answer), [(ALERT, vec![1, 100])], "no_renegotiation, a warning");
        assert!(forged.answer().is_empty());
        assert!(!forged.session.sealer.is_closed());
        assert_eq!(forged.session.opener.counters().renegotiations_refused, 1);
        let bytes = forged.seal(HANDSHAKE, &[0, 0, 0, 0]);
        let error = forged.push(&bytes).unwrap_err();
        assert_eq!(error.alert(), Some(Alert::UNEXPECTED_MESSAGE), "{error}");

        let (_, alert) = refused(suite, |forged| forged.seal(HANDSHAKE, &[0, 0, 0, 1, 9]));
        assert_eq!(alert, Alert::DECODE_ERROR);
    }
}

#[test]
fn an_error_can_be_told_to_a_real_server() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let mut record = pair.say(b"price");
        *record.last_mut().unwrap() ^= 1;
        let error = pair.open(&record).unwrap_err();
        let mut out = Vec::new();
        pair.session.sealer.alert(error.alert().unwrap(), &mut out).unwrap();
        let heard = super::rig::give(&mut pair.server, &out).unwrap_err();
        assert_eq!(heard, rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
    }
}
