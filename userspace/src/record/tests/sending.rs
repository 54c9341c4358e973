//! What we seal, as a real server reads it, and what we refuse to seal.

use super::forger::Forged;
use super::rig::{self, AES128, FORMS, Pair, SUITES, give, record_lens};
use crate::record::{Alert, Client, Content, Error, Handshake, Session};

#[test]
fn a_record_is_sealed_where_its_plaintext_lies() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        let (head, tail) = (pair.session.sealer.head_len(), pair.session.sealer.tail_len());
        for len in [0, 1, 15, 16, 17, 170, 4096, 1 << 14] {
            let text: Vec<u8> = (0..len).map(|n: usize| n.to_le_bytes()[0]).collect();
            let mut record = [&vec![0xcc; head][..], &text, &vec![0xcc; tail]].concat();
            pair.session.sealer.seal_in_place(&mut record, Content::ApplicationData).unwrap();
            assert_eq!(record_lens(&record), [record.len()], "the header covers the buffer");
            assert!(give(&mut pair.server, &record).unwrap() == text, "{suite:?} {len}");
        }
        assert_eq!(pair.session.sealer.counters().records_in_place, 8);
        assert_eq!(pair.session.sealer.counters().bytes_copied, 0);
    }
}

#[test]
fn long_bytes_are_cut_into_records() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let overhead = pair.session.sealer.head_len() + pair.session.sealer.tail_len();
        let max = pair.session.sealer.plaintext_max();
        assert_eq!(max, 16_384);
        for (len, lens) in
            [(0, vec![]), (1, vec![1]), (max, vec![max]), (max + 1, vec![max, 1]), (2 * max + 7, vec![max, max, 7])]
        {
            let text: Vec<u8> = (0..len).map(|n: usize| n.to_le_bytes()[1]).collect();
            let mut out = b"before".to_vec();
            pair.session.sealer.seal(Content::ApplicationData, &text, &mut out).unwrap();
            assert_eq!(out[..6], *b"before", "appended");
            assert_eq!(record_lens(&out[6..]), lens.iter().map(|len| len + overhead).collect::<Vec<_>>());
            assert!(give(&mut pair.server, &out[6..]).unwrap() == text);
        }
        assert_eq!(pair.session.sealer.counters().bytes_copied, (4 * max + 9) as u64);
    }
}

#[test]
fn long_bytes_are_spread_over_records_where_they_lie() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let sealer = &mut pair.session.sealer;
        let (overhead, max) = (sealer.head_len() + sealer.tail_len(), sealer.plaintext_max());
        for (len, lens) in
            [(0, vec![]), (1, vec![1]), (max, vec![max]), (max + 1, vec![max, 1]), (2 * max + 7, vec![max, max, 7])]
        {
            let text: Vec<u8> = (0..len).map(|n: usize| (n * 7).to_le_bytes()[1]).collect();
            let sealed = pair.session.sealer.sealed_len(len);
            let mut records = [&vec![0xcc; sealed - len][..], &text].concat();
            pair.session.sealer.seal_spread(&mut records, Content::ApplicationData).unwrap();
            assert_eq!(record_lens(&records), lens.iter().map(|len| len + overhead).collect::<Vec<_>>());
            assert!(give(&mut pair.server, &records).unwrap() == text, "{suite:?} {len}");
        }
        // One byte behind a full record is no record, and neither is a head without plaintext.
        for len in [overhead - 1, overhead, overhead + max + 1, 2 * overhead + max] {
            let mut records = vec![1; len];
            let error = pair.session.sealer.seal_spread(&mut records, Content::ApplicationData).unwrap_err();
            assert!(matches!(error, Error::RecordTooShort { bytes, .. } if bytes == len), "{error:?}");
            assert!(records.iter().all(|&byte| byte == 1), "untouched");
        }
        assert_eq!(pair.session.sealer.counters().refused_length, 4);
    }
}

#[test]
fn no_nonce_is_used_twice() {
    // In TLS 1.2 with AES-GCM it can be seen. (For the others it is the sequence number, which the server checks.)
    let mut pair = Pair::new(rig::GCM12);
    let mut nonces = std::collections::HashSet::new();
    for _ in 0..1000 {
        let mut out = Vec::new();
        pair.session.sealer.seal(Content::ApplicationData, b"order", &mut out).unwrap();
        assert!(nonces.insert(out[5..13].to_vec()));
    }
}

#[test]
fn a_buffer_that_is_no_record_is_refused_and_costs_no_number() {
    for suite in FORMS {
        let mut pair = Pair::new(suite);
        let sealer = &mut pair.session.sealer;
        let overhead = sealer.head_len() + sealer.tail_len();
        for len in [0, 4, 5, overhead - 1] {
            let error = sealer.seal_in_place(&mut vec![1; len], Content::ApplicationData).unwrap_err();
            assert!(matches!(error, Error::RecordTooShort { bytes, .. } if bytes == len), "{error:?}");
        }
        let mut long = vec![1; overhead + (1 << 14) + 1];
        let error = sealer.seal_in_place(&mut long, Content::ApplicationData).unwrap_err();
        assert!(matches!(error, Error::PlaintextTooLong { bytes: 16_385, bytes_max: 16_384 }), "{error:?}");
        assert!(long.iter().all(|&byte| byte == 1), "untouched");
        assert_eq!(sealer.counters().refused_length, 5);
        pair.talk();
    }
}

#[test]
fn nothing_follows_the_last_word() {
    for last in [Alert::CLOSE_NOTIFY, Alert::BAD_RECORD_MAC] {
        let mut pair = Pair::new(AES128);
        let mut out = Vec::new();
        pair.session.sealer.alert(last, &mut out).unwrap();
        assert!(pair.session.sealer.is_closed());
        let len = out.len();
        assert!(matches!(pair.session.sealer.seal(Content::ApplicationData, b"x", &mut out), Err(Error::AfterClose)));
        let mut record = vec![0; 40];
        assert!(matches!(
            pair.session.sealer.seal_in_place(&mut record, Content::ApplicationData),
            Err(Error::AfterClose)
        ));
        pair.session.sealer.alert(Alert::DECODE_ERROR, &mut out).unwrap();
        pair.session.sealer.close_notify(&mut out).unwrap();
        assert_eq!(out.len(), len, "silence");
        assert_eq!(pair.session.sealer.counters().refused_closed, 2);
        let heard = give(&mut pair.server, &out);
        if last == Alert::CLOSE_NOTIFY {
            heard.unwrap();
            assert!(pair.server.process_new_packets().unwrap().peer_has_closed());
        } else {
            assert_eq!(heard, Err(rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)));
        }
    }
}

#[test]
fn alerts_have_the_level_that_tls_1_2_gives_them() {
    for suite in FORMS {
        for (alert, level) in [
            (Alert::CLOSE_NOTIFY, 1),
            (Alert::NO_RENEGOTIATION, 1),
            (Alert::USER_CANCELED, 1),
            (Alert::DECODE_ERROR, 2),
        ] {
            let mut forged = Forged::new(suite);
            let mut out = Vec::new();
            forged.session.sealer.alert(alert, &mut out).unwrap();
            assert_eq!(forged.read(&out), [(21, vec![level, alert.code()])]);
            let survives = matches!(alert, Alert::NO_RENEGOTIATION | Alert::USER_CANCELED);
            assert_eq!(forged.session.sealer.is_closed(), !survives);
        }
    }
}

#[test]
fn a_rehearsal_speaks_the_same_suite_under_keys_of_its_own() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        let (mut rehearsal, mut venue) = pair.session.rehearsal().unwrap();
        assert_eq!(rehearsal.facts(), pair.session.facts());
        let mut sealed = Vec::new();
        for text in [b"one", b"two"] {
            let at = sealed.len();
            venue.seal(Content::ApplicationData, text, &mut sealed).unwrap();
            assert_eq!(rig::open(&mut rehearsal.opener, &sealed[at..]).unwrap(), [text.to_vec()]);
        }
        // What it seals is none of the server's business, and what is sealed for it none of the session's.
        let mut out = Vec::new();
        rehearsal.sealer.seal(Content::ApplicationData, b"an order that is none", &mut out).unwrap();
        pair.talk();
        assert!(give(&mut pair.server, &out).is_err(), "{suite:?}: keys are shared");
        assert!(pair.open(&sealed).is_err(), "{suite:?}: keys are shared");
    }
}

#[test]
fn a_session_shows_none_of_its_keys() {
    let pair = Pair::new(AES128);
    let shown = format!("{:?}", pair.session);
    assert!(shown.contains("Tls13") && shown.contains("sequence"), "{shown}");
    assert!(!shown.contains("iv") && !shown.contains("AeadKey"), "{shown}");
}

#[test]
fn a_session_can_be_given_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Session>();
    is_send::<Handshake>();
    is_send::<Client>();
    is_send::<Error>();
}
