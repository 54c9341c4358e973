//! The record stage allocates nothing once it runs: ten thousand records of every form, whole and cut, opened and sealed.

mod counting;

use std::io::Write as _;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{cipher_suite as suites, default_provider};
use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite};
use rustls_pki_types::PrivateKeyDer;
use wiretick::floor::{Limits, Span};
use wiretick::record::{Client, Content, Error, Handshake, Opened, ServerName, Session, Trust};

use counting::calls_of;

fn connect(suite: SupportedCipherSuite) -> (Session, ServerConnection) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["feed.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[suite.version()])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    config.send_tls13_tickets = 0;
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let client = Client::new(Trust::from_pem(certificate.pem().as_bytes()).unwrap(), false).unwrap();
    let mut handshake =
        Handshake::new(&client, ServerName::try_from("feed.example").unwrap(), &Limits::default()).unwrap();
    let mut out = Vec::new();
    handshake.start(&mut out).unwrap();
    while !handshake.is_complete() {
        give(&mut server, &out);
        out.clear();
        let _ = handshake.push(&take(&mut server), &mut out).unwrap();
    }
    give(&mut server, &out);
    (handshake.finish().unwrap().0, server)
}

fn give(server: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).unwrap();
        server.process_new_packets().unwrap();
    }
}

fn take(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).unwrap();
    }
    bytes
}

const FORMS: [SupportedCipherSuite; 5] = [
    suites::TLS13_AES_128_GCM_SHA256,
    suites::TLS13_AES_256_GCM_SHA384,
    suites::TLS13_CHACHA20_POLY1305_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

const RECORDS: usize = 10_000;

/// As many records of 170 bytes, one behind the other, with a span's padding behind the last.
fn records(server: &mut ServerConnection) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    for _ in 0..RECORDS {
        server.writer().write_all(&[b'7'; 170]).unwrap();
        bytes.extend(take(server));
    }
    let len = bytes.len();
    bytes.resize(len + Span::PAD, 0);
    (bytes, len)
}

/// Pushes the first `len` of `bytes` in pieces of `size`; how many records came out.
fn push(session: &mut Session, bytes: &mut [u8], len: usize, size: usize) -> usize {
    let mut count = 0;
    let mut whole = Span::new(bytes, len);
    for from in (0..len).step_by(size) {
        let piece = whole.lend(from..(from + size).min(len));
        session
            .opener
            .push(piece, &mut |opened: Opened<'_>| {
                assert_eq!(opened.plaintext.bytes(), [b'7'; 170]);
                count += 1;
                Ok::<(), Error>(())
            })
            .unwrap();
    }
    count
}

#[test]
fn the_counter_counts() {
    assert!(calls_of(|| drop(std::hint::black_box(vec![1u8; 100]))) > 0);
    assert_eq!(calls_of(|| ()), 0);
}

#[test]
fn ten_thousand_records_are_opened_in_place_without_allocating() {
    for suite in FORMS {
        let (mut session, mut server) = connect(suite);
        let (mut bytes, len) = records(&mut server);
        let mut count = 0;
        // From the very first record on: nothing is put off until it is first needed.
        assert_eq!(calls_of(|| count = push(&mut session, &mut bytes, len, len / RECORDS)), 0, "{suite:?}");
        assert_eq!(count, RECORDS);
        assert_eq!(session.opener.counters().records_in_place, RECORDS as u64);
    }
}

#[test]
fn ten_thousand_records_in_pieces_are_joined_without_allocating() {
    for suite in FORMS {
        for size in [100, 1448] {
            let (mut session, mut server) = connect(suite);
            let (mut bytes, len) = records(&mut server);
            let mut count = 0;
            assert_eq!(calls_of(|| count = push(&mut session, &mut bytes, len, size)), 0, "{suite:?}");
            assert_eq!(count, RECORDS);
            let joined = session.opener.counters().records_joined;
            assert!(joined as usize > RECORDS / 10, "{joined}");
        }
    }
}

#[test]
fn ten_thousand_orders_are_sealed_without_allocating() {
    for suite in FORMS {
        let (mut session, mut server) = connect(suite);
        let (head, tail) = (session.sealer.head_len(), session.sealer.tail_len());
        let mut record = vec![0; head + 170 + tail];
        let mut out = Vec::with_capacity(record.len());
        let count = calls_of(|| {
            for _ in 0..RECORDS {
                record[head..head + 170].fill(b'7');
                session.sealer.seal_in_place(&mut record, Content::ApplicationData).unwrap();
                session.answer(&mut out).unwrap();
            }
            // Copied, into a buffer that has the room.
            session.sealer.seal(Content::ApplicationData, &[b'7'; 170], &mut out).unwrap();
        });
        assert_eq!(count, 0, "{suite:?}");
        assert_eq!(out.len(), record.len());
        assert_eq!(session.sealer.counters().records_in_place, RECORDS as u64);
        drop(take(&mut server));
    }
}
