//! Handshakes that end well or badly for reasons other than the certificate.

use std::io::Write as _;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::server::{ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{KeyLog, RootCertStore, ServerConnection};

use super::forger::{Direction, Secrets};
use super::rig::{
    self, AES128, AES256, CHACHA, CHACHA12, FORMS, GCM12, HOST, Pair, SUITES, begin, give, open, record_lens, take,
};
use crate::floor::Limits;
use crate::record::{Alert, Client, Error, Handshake, Progress, Trust, Version};

/// The plaintext alert in a record of its own.
fn alert_in(out: &[u8]) -> Option<Alert> {
    match out {
        [21, 3, _, 0, 2, 2, code] => Some(Alert::from_code(*code)),
        _ => None,
    }
}

/// Starts a handshake with a peer that answers with these bytes.
fn answered_with(answer: &[u8]) -> (Error, Vec<u8>) {
    let mut handshake = begin(&rig::client());
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    out.clear();
    let error = handshake.push(answer, &mut out).unwrap_err();
    assert!(matches!(handshake.push(&[], &mut Vec::new()), Err(Error::AfterFailure)));
    assert!(matches!(handshake.finish(), Err(Error::AfterFailure)));
    (error, out)
}

#[test]
fn every_suite_that_is_offered_is_spoken() {
    for suite in SUITES {
        let mut pair = Pair::new(suite);
        let facts = *pair.session.facts();
        assert_eq!(facts.suite, suite.suite().as_str().unwrap());
        assert_eq!(facts.version == Version::Tls13, suite.tls13().is_some());
        assert!(!facts.resumed && facts.handshake_bytes > 500, "{facts:?}");
        for _ in 0..3 {
            pair.talk();
        }
    }
}

#[test]
fn the_handshake_may_arrive_byte_by_byte() {
    for suite in FORMS {
        let mut server = ServerConnection::new(Arc::new(rig::server(suite))).unwrap();
        let mut handshake = begin(&rig::client());
        let mut out = Vec::new();
        handshake.start(&mut out).unwrap();
        while !handshake.is_complete() {
            give(&mut server, &std::mem::take(&mut out)).unwrap();
            for byte in take(&mut server) {
                assert!(!handshake.is_complete(), "nothing follows the handshake here");
                let _ = handshake.push(&[byte], &mut out).unwrap();
            }
        }
        give(&mut server, &out).unwrap();
        let (session, rest) = handshake.finish().unwrap();
        Pair { session, server, rest }.talk();
    }
}

#[test]
fn handshake_messages_may_be_split_over_records_and_the_records_over_pieces() {
    for suite in FORMS {
        for fragment in [32, 100, 1000] {
            let mut config = rig::server(suite);
            config.max_fragment_size = Some(fragment);
            config.send_half_rtt_data = true;
            let mut server = ServerConnection::new(Arc::new(config)).unwrap();
            server.writer().write_all(b"the first price").unwrap();
            let mut handshake = begin(&rig::client());
            let mut out = Vec::new();
            handshake.start(&mut out).unwrap();
            while !handshake.is_complete() {
                give(&mut server, &std::mem::take(&mut out)).unwrap();
                for piece in take(&mut server).chunks(77) {
                    let _ = handshake.push(piece, &mut out).unwrap();
                }
            }
            give(&mut server, &out).unwrap();
            let (session, rest) = handshake.finish().unwrap();
            let mut pair = Pair { session, server, rest: Vec::new() };
            assert_eq!(pair.open(&rest).unwrap().concat(), b"the first price");
            pair.talk();
        }
    }
}

#[test]
fn a_message_behind_finished_in_the_same_record_is_refused() {
    // The server's own flight, its last record opened and sealed again with more in it. Finished itself is genuine.
    let ticket = [4, 0, 0, 13, 0, 0, 28, 32, 0, 0, 0, 1, 0, 0, 0, 0, 0];
    for (extra, accepted) in [(&[][..], true), (&ticket, false), (&ticket[..9], false), (&ticket[..1], false)] {
        let (mut config, secrets) = (rig::server(AES128), Arc::new(Secrets::default()));
        config.key_log = Arc::clone(&secrets) as Arc<dyn KeyLog>;
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let mut handshake = begin(&rig::client());
        let mut out = Vec::new();
        handshake.start(&mut out).unwrap();
        give(&mut server, &out).unwrap();
        let flight = take(&mut server);
        let secret = secrets.get("SERVER_HANDSHAKE_TRAFFIC_SECRET");
        let (mut opening, mut sealing) = (Direction::tls13(AES128, secret.clone()), Direction::tls13(AES128, secret));
        let (mut forged, mut rest) = (Vec::new(), &flight[..]);
        for len in record_lens(&flight) {
            let (record, behind) = rest.split_at(len);
            rest = behind;
            if record[0] != 23 {
                forged.extend(record);
                continue;
            }
            let (kind, mut content) = opening.open(record);
            if rest.is_empty() {
                content.extend(extra);
            }
            forged.extend(sealing.seal(23, &[&content[..], &[kind]].concat()));
        }
        out.clear();
        let pushed = handshake.push(&forged, &mut out);
        assert_eq!(pushed.is_ok(), accepted, "{pushed:?}");
        if !accepted {
            let error = pushed.unwrap_err();
            assert!(matches!(error, Error::HandshakeBroken { .. }), "{error:?}");
            // rustls seals this alert with the handshake key, behind a Finished after which the server has changed to
            // the next one: it learns that the connection has failed, not why.
            assert!(give(&mut server, &out).is_err());
        }
    }
}

#[test]
fn what_follows_the_handshake_in_the_same_segment_belongs_to_the_opener() {
    for suite in FORMS {
        let mut config = rig::server(suite);
        // TLS 1.3: the server may speak before it has the client's Finished. TLS 1.2: it has had it.
        config.send_half_rtt_data = true;
        let mut pair = Pair::connect(&rig::client(), config, |server| {
            server.writer().write_all(b"the first price").unwrap();
        });
        assert!(!pair.rest.is_empty(), "the price must have come in the same flight");
        let rest = std::mem::take(&mut pair.rest);
        assert_eq!(pair.open(&rest).unwrap(), [b"the first price"]);
        pair.talk();
    }
}

#[test]
fn what_follows_the_handshake_is_kept_to_the_byte_wherever_the_segment_is_cut() {
    // A fixed conversation cannot be replayed, so each cut gets a handshake of its own.
    for suite in FORMS {
        for behind in [1, 4, 5, 6, 20, 36] {
            let mut config = rig::server(suite);
            config.send_half_rtt_data = true;
            let mut server = ServerConnection::new(Arc::new(config)).unwrap();
            server.writer().write_all(b"the first price").unwrap();
            let mut handshake = begin(&rig::client());
            let (mut out, mut late) = (Vec::new(), Vec::new());
            handshake.start(&mut out).unwrap();
            let mut flights = 0;
            while !handshake.is_complete() {
                give(&mut server, &std::mem::take(&mut out)).unwrap();
                let flight = take(&mut server);
                flights += 1;
                // The flight that has the price at its end: TLS 1.3's first, TLS 1.2's second.
                let last = flights == if suite.tls13().is_some() { 1 } else { 2 };
                let cut = if last { flight.len() - behind } else { flight.len() };
                let _ = handshake.push(&flight[..cut], &mut out).unwrap();
                late = flight[cut..].to_vec();
            }
            give(&mut server, &out).unwrap();
            let _ = handshake.push(&late[..late.len() / 2], &mut out).unwrap();
            let (session, rest) = handshake.finish().unwrap();
            let mut pair = Pair { session, server, rest: Vec::new() };
            let bytes = [&rest, &late[late.len() / 2..]].concat();
            assert_eq!(pair.open(&bytes).unwrap(), [b"the first price"], "{behind} bytes late");
            pair.talk();
        }
    }
}

#[test]
fn a_server_may_ask_for_another_key_share_first() {
    // TLS 1.3: HelloRetryRequest, hence one more round trip. TLS 1.2 agrees on the group in passing.
    for suite in FORMS {
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        provider.kx_groups = vec![kx_group::SECP384R1];
        let mut pair = Pair::connect(&rig::client(), rig::server_from(provider, suite), |_| {});
        pair.talk();
    }
}

#[test]
fn a_server_with_nothing_in_common_says_so() {
    for suite in FORMS {
        let mut provider = default_provider();
        provider.cipher_suites = vec![suite];
        provider.kx_groups = vec![kx_group::MLKEM1024];
        let mut server = ServerConnection::new(Arc::new(rig::server_from(provider, suite))).unwrap();
        let mut handshake = begin(&rig::client());
        let mut out = Vec::new();
        handshake.start(&mut out).unwrap();
        assert!(give(&mut server, &out).is_err());
        let error = handshake.push(&take(&mut server), &mut out).unwrap_err();
        assert!(matches!(error, Error::PeerAlert(Alert::HANDSHAKE_FAILURE)), "{error:?}");
        assert!(error.to_string().contains("no cipher suite, key exchange group or signature scheme"), "{error}");
    }
}

#[test]
fn a_server_that_wants_a_client_certificate_says_so() {
    let mut roots = RootCertStore::empty();
    roots.add(rig::AUTHORITY.der()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider()));
    let mut server = ServerConnection::new(Arc::new(rig::server_that_asks(AES128, verifier.build().unwrap()))).unwrap();
    let mut handshake = begin(&rig::client());
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    give(&mut server, &out).unwrap();
    out.clear();
    // In TLS 1.3 the client is done before the server has seen that no certificate came.
    assert_eq!(handshake.push(&take(&mut server), &mut out).unwrap(), Progress::Complete);
    assert!(give(&mut server, &out).is_err());
    let (mut session, _) = handshake.finish().unwrap();
    let error = open(&mut session.opener, &take(&mut server)).unwrap_err();
    assert!(matches!(error, Error::PeerAlert(Alert::CERTIFICATE_REQUIRED)), "{error:?}");
    assert!(error.to_string().ends_with("it wants a client certificate, which this client never sends"), "{error}");
}

#[test]
fn a_handshake_changed_on_its_way_fails_or_makes_no_difference() {
    let client = rig::client();
    for suite in [AES128, GCM12] {
        let (mut changed, mut completed, mut told, mut refused) = (0, 0, 0, 0);
        'positions: for at in 0usize.. {
            let mut server = ServerConnection::new(Arc::new(rig::server(suite))).unwrap();
            let mut handshake = begin(&client);
            let (mut out, mut seen) = (Vec::new(), 0);
            handshake.start(&mut out).unwrap();
            let ended = loop {
                if give(&mut server, &std::mem::take(&mut out)).is_err() {
                    break false;
                }
                let mut flight = take(&mut server);
                if let Some(byte) = at.checked_sub(seen).and_then(|at| flight.get_mut(at)) {
                    *byte ^= 1 << (at % 8);
                    changed += 1;
                }
                seen += flight.len();
                match handshake.push(&flight, &mut out) {
                    Ok(Progress::Complete) => break true,
                    // It waits for the rest of a record that has become longer.
                    Ok(Progress::Partial) if out.is_empty() => break false,
                    Ok(Progress::Partial) => {}
                    Err(_) => {
                        told += usize::from(!out.is_empty());
                        refused += 1;
                        break false;
                    }
                }
            };
            if ended {
                if changed < at + 1 {
                    break 'positions;
                }
                // The one thing nobody authenticates: the version in the header of a record in clear.
                completed += 1;
                let (session, rest) = handshake.finish().unwrap();
                if give(&mut server, &out).is_ok() {
                    Pair { session, server, rest }.talk();
                }
            }
        }
        assert!(changed > 600, "{suite:?}: {changed} bytes");
        assert!(completed <= 8, "{suite:?}: {completed} changes made no difference");
        // rustls tells the server about nearly all of them; a few come without an alert, in any version of it so far.
        assert!(refused > 500 && refused - told <= 10, "{suite:?}: {told} of {refused} refusals were told");
    }
}

#[test]
fn a_session_is_resumed() {
    for suite in [AES128, AES256, CHACHA, GCM12, CHACHA12] {
        let client = rig::client();
        let mut config = rig::server(suite);
        config.send_tls13_tickets = 3;
        config.session_storage = ServerSessionMemoryCache::new(32);
        let mut first = Pair::connect(&client, config.clone(), |_| {});
        assert!(!first.session.facts().resumed);
        // TLS 1.3's tickets come after the handshake: if the opener dropped them, nothing could be resumed.
        let tickets = take(&mut first.server);
        assert!(first.open(&tickets).unwrap().is_empty());
        let expected = if suite.tls13().is_some() { 3 } else { 0 };
        assert_eq!(first.session.opener.counters().tickets, expected);
        first.talk();
        let mut second = Pair::connect(&client, config.clone(), |_| {});
        assert!(second.session.facts().resumed, "{suite:?}");
        second.talk();
        let stranger = Pair::connect(&rig::client(), config, |_| {});
        assert!(!stranger.session.facts().resumed, "another client has no memory of it");
    }
}

#[test]
fn http11_is_offered_by_name() {
    let mut config = rig::server(AES128);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let pair = Pair::connect(&rig::client(), config, |_| {});
    assert_eq!(pair.server.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(pair.session.facts().http11_confirmed);
    assert!(!Pair::new(AES128).session.facts().http11_confirmed, "a server may ignore it");

    let mut config = rig::server(AES128);
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let mut handshake = begin(&rig::client());
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    assert!(give(&mut server, &out).is_err());
    let error = handshake.push(&take(&mut server), &mut out).unwrap_err();
    assert!(matches!(error, Error::PeerAlert(Alert::NO_APPLICATION_PROTOCOL)));
    assert!(error.to_string().ends_with("no_application_protocol: it does not speak HTTP/1.1 on this port"), "{error}");
}

#[test]
fn a_peer_that_speaks_http_is_told_apart() {
    let (error, out) = answered_with(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n");
    assert!(matches!(&error, Error::NotTls { seen } if seen == "\"HTTP/1.1 400 Bad Request\""), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the peer does not speak TLS: it answered \"HTTP/1.1 400 Bad Request\"; is this a wss:// port?"
    );
    assert_eq!(alert_in(&out), Some(Alert::DECODE_ERROR), "rustls' alert must get out");
    assert_eq!(error.alert(), None, "rustls has sent it already");
}

#[test]
fn other_protocols_are_told_apart() {
    for (answer, seen) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "\"SSH-2.0-OpenSSH_9.2\""),
        (b"220 mail.example ESMTP\r\n", "\"220 mail.example ESMTP\""),
        // A WebSocket frame, an empty HTTP/2 SETTINGS frame, garbage; and headers that are almost TLS.
        (&[0x81, 0x05, b'h', b'e', b'l', b'l', b'o'], "with the bytes 81 05 68 65 6c 6c 6f"),
        (&[0, 0, 0, 4, 0, 0, 0, 0, 0], "with the bytes 00 00 00 04 00 00 00 00"),
        (&[0xff; 40], "with the bytes ff ff ff ff ff ff ff ff"),
        (&[22, 2, 0, 0, 40, 1], "with the bytes 16 02 00 00 28 01"),
        (&[22, 0xfe, 0xff, 0, 40, 1], "with the bytes 16 fe ff 00 28 01"),
    ] {
        match answered_with(answer) {
            (Error::NotTls { seen: told }, _) => assert_eq!(told, seen),
            (error, _) => panic!("{answer:?}: {error:?}"),
        }
    }
}

#[test]
fn a_broken_handshake_is_refused_with_an_alert() {
    // A ServerHello that ends in its first field.
    let (error, out) = answered_with(&[22, 3, 3, 0, 6, 2, 0, 0, 2, 3, 3]);
    assert!(matches!(&error, Error::HandshakeBroken { what } if what.contains("corrupt")), "{error:?}");
    assert_eq!(alert_in(&out), Some(Alert::DECODE_ERROR));
    // A record longer than any; its body need not come.
    let (error, out) = answered_with(&[22, 3, 3, 0xff, 0xff]);
    assert!(matches!(error, Error::HandshakeBroken { .. }), "{error:?}");
    assert_eq!(alert_in(&out), Some(Alert::DECODE_ERROR));
    // A Finished before anything else.
    let (error, out) = answered_with(&[22, 3, 3, 0, 4, 20, 0, 0, 0]);
    assert!(matches!(&error, Error::HandshakeBroken { what } if what.contains("Finished")), "{error:?}");
    assert_eq!(alert_in(&out), Some(Alert::UNEXPECTED_MESSAGE));
}

#[test]
fn a_server_of_tls_1_1_is_refused() {
    // ServerHello of TLS 1.1 with an RSA suite: version, random, no session id, suite, no compression.
    let hello = [&[3, 2][..], &[7; 32], &[0, 0, 0x2f, 0]].concat();
    let len = u8::try_from(hello.len()).unwrap();
    let record = [&[22, 3, 2, 0, len + 4, 2, 0, 0, len], &hello[..]].concat();
    let (error, out) = answered_with(&record);
    assert!(matches!(error, Error::NoCommonVersion), "{error:?}");
    assert_eq!(alert_in(&out), Some(Alert::PROTOCOL_VERSION));
    // Or it says so itself.
    let (error, _) = answered_with(&[21, 3, 2, 0, 2, 2, 70]);
    assert!(matches!(error, Error::PeerAlert(Alert::PROTOCOL_VERSION)));
    assert!(error.to_string().contains("neither TLS 1.2 nor TLS 1.3"), "{error}");
}

#[test]
fn a_fatal_alert_is_shown_by_name() {
    let (error, _) = answered_with(&[21, 3, 3, 0, 2, 2, 40]);
    assert!(error.to_string().contains("handshake_failure: it found no cipher suite"), "{error}");
    let (error, _) = answered_with(&[21, 3, 3, 0, 2, 2, 112]);
    assert!(error.to_string().ends_with("unrecognized_name: it serves no such host name; check the host in the URL"));
}

#[test]
fn the_bytes_of_a_handshake_are_bounded() {
    let mut handshake =
        Handshake::new(&rig::client(), rig::host(HOST), &Limits { handshake_bytes_max: 600, ..Limits::default() })
            .unwrap();
    let mut server = ServerConnection::new(Arc::new(rig::server(AES128))).unwrap();
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    give(&mut server, &out).unwrap();
    let error = handshake.push(&take(&mut server), &mut out).unwrap_err();
    assert!(matches!(error, Error::HandshakeTooLong { bytes_max: 600 }), "{error:?}");

    // What is only announced counts: nobody has to receive it first.
    let mut handshake =
        Handshake::new(&rig::client(), rig::host(HOST), &Limits { handshake_bytes_max: 600, ..Limits::default() })
            .unwrap();
    handshake.start(&mut out).unwrap();
    assert_eq!(handshake.push(&[22, 3, 3, 2, 83], &mut out).unwrap(), Progress::Partial, "600 in all");
    let error = handshake.push(&[], &mut out);
    assert_eq!(error.unwrap(), Progress::Partial);
    let mut handshake =
        Handshake::new(&rig::client(), rig::host(HOST), &Limits { handshake_bytes_max: 600, ..Limits::default() })
            .unwrap();
    handshake.start(&mut out).unwrap();
    assert!(matches!(handshake.push(&[22, 3, 3, 2, 84], &mut out), Err(Error::HandshakeTooLong { .. })), "601");

    // Whatever comes after the handshake is not handshake.
    let mut config = rig::server(AES128);
    config.send_half_rtt_data = true;
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    server.writer().write_all(&[1; 8000]).unwrap();
    let limits = Limits { handshake_bytes_max: 4096, ..Limits::default() };
    let mut handshake = Handshake::new(&rig::client(), rig::host(HOST), &limits).unwrap();
    out.clear();
    handshake.start(&mut out).unwrap();
    give(&mut server, &out).unwrap();
    let flight = take(&mut server);
    assert!(flight.len() > 8000);
    assert_eq!(handshake.push(&flight, &mut out).unwrap(), Progress::Complete);
    assert!(handshake.finish().unwrap().1.len() > 8000);
}

#[test]
fn the_end_of_the_stream_is_an_error_at_any_moment() {
    let mut handshake = begin(&rig::client());
    assert!(matches!(handshake.on_eof(), Err(Error::ClosedInHandshake)));
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    assert!(matches!(handshake.on_eof(), Err(Error::ClosedInHandshake)));
    assert!(!handshake.is_complete());
    assert!(matches!(handshake.finish(), Err(Error::HandshakeUnfinished)));
}

#[test]
fn an_alert_for_a_bad_certificate_reaches_the_server() {
    let stranger = Client::new(Trust::web_pki(), false).unwrap();
    for (suite, certificate_in_clear) in [(AES128, false), (GCM12, true)] {
        let mut server = ServerConnection::new(Arc::new(rig::server(suite))).unwrap();
        let mut handshake = begin(&stranger);
        let mut out = Vec::new();
        handshake.start(&mut out).unwrap();
        give(&mut server, &out).unwrap();
        out.clear();
        let error = handshake.push(&take(&mut server), &mut out).unwrap_err();
        assert!(matches!(error, Error::UnknownAuthority { .. }), "{error:?}");
        assert_eq!(alert_in(&out).is_some(), certificate_in_clear, "TLS 1.3 has keys by then, and uses them");
        let heard = give(&mut server, &out).unwrap_err();
        assert_eq!(heard, rustls::Error::AlertReceived(rustls::AlertDescription::UnknownCA));
    }
}

#[test]
fn the_key_log_is_written_only_when_it_is_asked_for() {
    // Asked for without a file to write: an error, in a process that has the variable cleared.
    if let Ok(mode) = std::env::var("WIRETICK_TEST_KEY_LOG") {
        let trust = || Trust::from_pem(rig::AUTHORITY.pem().as_bytes()).unwrap();
        if mode == "missing" {
            assert!(matches!(Client::new(trust(), true), Err(Error::KeyLogWithoutFile)));
            return;
        }
        let path = std::env::var("SSLKEYLOGFILE").unwrap();
        Pair::connect(&Client::new(trust(), false).unwrap(), rig::server(AES128), |_| {});
        assert!(!std::path::Path::new(&path).exists(), "the variable alone does nothing");
        Pair::connect(&Client::new(trust(), true).unwrap(), rig::server(AES128), |_| {});
        let log = std::fs::read_to_string(&path).unwrap();
        assert!(log.contains("SERVER_TRAFFIC_SECRET_0 ") && log.contains("CLIENT_TRAFFIC_SECRET_0 "), "{log}");
        return;
    }
    // The environment of a process with threads is nothing to play with: children have their own.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    for (mode, file) in [("missing", std::ffi::OsStr::new("")), ("written", path.as_os_str())] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "record::tests::handshake::the_key_log_is_written_only_when_it_is_asked_for"])
            .env("WIRETICK_TEST_KEY_LOG", mode)
            .env("SSLKEYLOGFILE", file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && text.contains("1 passed"), "{mode}: {text}");
    }
}
