//! The record stage: a record opened where it lies, beside the same AEAD alone, by AWS-LC itself.
//!
//! Opening destroys a record, so the server seals the next ones before each run. The floor has a key of its own and the
//! same cipher, record header, nonce rule and plaintext.

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::{cipher_suite::TLS13_AES_256_GCM_SHA384, default_provider};
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::PrivateKeyDer;
use wiretick::event;
use wiretick::floor::{Limits, Span};
use wiretick::record::{Client, Error, Handshake, Opened, ServerName, Session, Trust};

use crate::event::Tape;
use crate::{Bench, Padded, Shape, Work};

const GROUP: &str = "record";
/// The suite of all records here: what rustls prefers, on both sides.
pub const SUITE: &str = "TLS13_AES_256_GCM_SHA384";

const HEADER: usize = 5;
const TAG: usize = 16;

pub(crate) fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    for (name, shape) in Shape::ALL {
        let floor = format!("AEAD alone, {name}");
        benches.push(Bench::new(GROUP, floor.clone(), move || Aead::new(shape, |_, _| ())));
        benches.push(Bench::new(GROUP, format!("opened, {name}"), move || Records::new(shape)).beside(floor));
    }
    benches
}

/// A session, and the server at its other end.
struct Records {
    session: Session,
    server: ServerConnection,
    shape: Shape,
    records: Vec<Padded>,
    /// Messages sealed so far, and records opened.
    next: u64,
    opened: u64,
}

impl Records {
    fn new(shape: Shape) -> Self {
        let (session, server) = connect();
        assert_eq!(session.facts().suite, SUITE);
        let records = vec![Padded::default(); usize::try_from(shape.records).expect("a few")];
        Self { session, server, shape, records, next: 0, opened: 0 }
    }
}

impl Work for Records {
    fn prepare(&mut self) {
        assert_eq!(self.opened * self.shape.frames, self.next, "a record was not opened");
        for record in &mut self.records {
            self.server.writer().write_all(&self.shape.plaintext(self.next).0).expect("it takes a record");
            record.set(&take(&mut self.server));
            self.next += self.shape.frames;
        }
    }

    fn run(&mut self) {
        for record in &mut self.records {
            let sink = &mut |opened: Opened<'_>| {
                black_box(opened.plaintext.bytes());
                self.opened += 1;
                Ok::<(), Error>(())
            };
            self.session.opener.push(record.span(), sink).expect("it authenticates");
        }
    }

    fn messages(&self) -> u64 {
        self.shape.messages()
    }
}

/// Records of an own key, opened by AWS-LC, and whatever is then done with each payload.
pub(crate) struct Aead<F> {
    key: LessSafeKey,
    shape: Shape,
    records: Vec<Padded>,
    /// Where the payloads lie in each plaintext.
    payloads: Vec<std::ops::Range<usize>>,
    /// The number of the first record of the batch.
    sequence: u64,
    each: F,
}

impl<F: FnMut(&mut [u8], usize)> Aead<F> {
    /// `each` gets every payload, with what follows it, and its length.
    pub(crate) fn new(shape: Shape, each: F) -> Self {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("a key of 32 bytes"));
        let records = vec![Padded::default(); usize::try_from(shape.records).expect("a few")];
        Self { key, shape, records, payloads: shape.plaintext(0).1, sequence: 0, each }
    }
}

impl<F: FnMut(&mut [u8], usize)> Work for Aead<F> {
    fn prepare(&mut self) {
        self.sequence += self.shape.records;
        for (number, record) in (self.sequence..).zip(&mut self.records) {
            let (plaintext, _) = self.shape.plaintext(number * self.shape.frames);
            let header = header(plaintext.len() + 1 + TAG);
            let mut bytes = [&header[..], &plaintext, &[23]].concat();
            let tag = self
                .key
                .seal_in_place_separate_tag(nonce(number), Aad::from(header), &mut bytes[HEADER..])
                .expect("it seals");
            bytes.extend(tag.as_ref());
            record.set(&bytes);
        }
    }

    fn run(&mut self) {
        for (number, record) in (self.sequence..).zip(&mut self.records) {
            let (head, rest) = record.bytes.split_first_chunk_mut::<HEADER>().expect("a header");
            let (content, rest) = rest.split_at_mut(record.len - HEADER - TAG);
            let tag = &rest[..TAG];
            self.key
                .open_in_place_separate_tag(nonce(number), Aad::from(*head), tag, content)
                .expect("it authenticates");
            for payload in &self.payloads {
                (self.each)(&mut record.bytes[HEADER + payload.start..], payload.len());
            }
        }
        black_box(&mut self.records);
    }

    fn messages(&self) -> u64 {
        self.shape.messages()
    }
}

/// The floor of the whole path: the AEAD, then our own decoder on each payload.
pub(crate) fn aead_and_direct(shape: Shape) -> impl Work {
    let mut decoder = event::Decoder::new(event::Options::default());
    Aead::new(shape, move |bytes, len| {
        black_box(&decoder.decode(Span::new(bytes, len)));
    })
}

/// The same with simd-json's tape, which makes no event.
pub(crate) fn aead_and_tape(shape: Shape) -> impl Work {
    let mut tape = Tape::default();
    Aead::new(shape, move |bytes, len| tape.fill_padded(bytes, len))
}

fn header(body: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(body).expect("a record").to_be_bytes();
    [23, 3, 3, high, low]
}

fn nonce(number: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn connect() -> (Session, ServerConnection) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = rcgen::CertificateParams::new(["feed.example".to_owned()])
        .expect("a name")
        .self_signed(&key)
        .expect("a certificate");
    let mut provider = default_provider();
    provider.cipher_suites = vec![TLS13_AES_256_GCM_SHA384];
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    config.send_tls13_tickets = 0;
    let mut server = ServerConnection::new(Arc::new(config)).expect("a server");
    let trust = Trust::from_pem(certificate.pem().as_bytes()).expect("a certificate");
    let client = Client::new(trust, false).expect("a client");
    let name = ServerName::try_from("feed.example").expect("a name");
    let mut handshake = Handshake::new(&client, name, &Limits::default()).expect("a handshake");
    let mut out = Vec::new();
    handshake.start(&mut out).expect("a hello");
    while !handshake.is_complete() {
        give(&mut server, &out);
        out.clear();
        let _ = handshake.push(&take(&mut server), &mut out).expect("a server's handshake");
    }
    give(&mut server, &out);
    (handshake.finish().expect("a session").0, server)
}

fn give(server: &mut ServerConnection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        server.read_tls(&mut bytes).expect("a slice can be read");
        server.process_new_packets().expect("a client's handshake");
    }
}

fn take(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).expect("a vector can be written");
    }
    bytes
}
