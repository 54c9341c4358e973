//! A peer that holds the traffic secrets of a real connection and seals whatever it likes with them.
//!
//! It shares no code with the stage: keys come from the server's key log by the formulas of RFC 8446 7.1 to 7.3 (TLS 1.3)
//! or from the server's own secrets (TLS 1.2), and the AEAD is called in its plainest form.

use std::sync::{Arc, Mutex};

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{self, KeyType, Prk};
use rustls::{ConnectionTrafficSecrets, KeyLog, SupportedCipherSuite};

use super::rig::{self, Pair, open};
use crate::record::{Error, Session};

/// Remembers what a server would write to SSLKEYLOGFILE.
#[derive(Debug, Default)]
pub(super) struct Secrets(Mutex<Vec<(String, Vec<u8>)>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().push((label.to_owned(), secret.to_vec()));
    }
}

impl Secrets {
    pub(super) fn get(&self, label: &str) -> Vec<u8> {
        let secrets = self.0.lock().unwrap();
        secrets.iter().find(|(name, _)| name == label).map(|(_, secret)| secret.clone()).unwrap()
    }
}

/// The key of one direction.
pub(super) struct Direction {
    suite: SupportedCipherSuite,
    /// TLS 1.3: what the next key is made of.
    secret: Vec<u8>,
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
}

impl Direction {
    /// RFC 8446 7.3.
    pub(super) fn tls13(suite: SupportedCipherSuite, secret: Vec<u8>) -> Self {
        let key = expand(suite, &secret, "key", algorithm(suite).key_len());
        let iv = expand(suite, &secret, "iv", 12).try_into().unwrap();
        let key = LessSafeKey::new(UnboundKey::new(algorithm(suite), &key).unwrap());
        Self { suite, secret, key, iv, sequence: 0 }
    }

    fn tls12(suite: SupportedCipherSuite, (sequence, secrets): (u64, ConnectionTrafficSecrets)) -> Self {
        use ConnectionTrafficSecrets as Secrets;
        let (Secrets::Aes128Gcm { key, iv } | Secrets::Aes256Gcm { key, iv } | Secrets::Chacha20Poly1305 { key, iv }) =
            &secrets
        else {
            unreachable!()
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm(suite), key.as_ref()).unwrap());
        Self { suite, secret: Vec::new(), key, iv: iv.as_ref().try_into().unwrap(), sequence }
    }

    /// RFC 8446 7.2.
    fn update(&mut self) {
        let secret = expand(self.suite, &self.secret, "traffic upd", self.secret.len());
        *self = Self::tls13(self.suite, secret);
    }

    fn nonce(&self) -> [u8; 12] {
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        nonce
    }

    fn is_13(&self) -> bool {
        self.suite.tls13().is_some()
    }

    fn is_gcm12(&self) -> bool {
        !self.is_13() && algorithm(self.suite) != &aead::CHACHA20_POLY1305
    }

    fn aad(&self, kind: u8, content_len: usize) -> Vec<u8> {
        let [high, low] = u16::try_from(content_len).unwrap().to_be_bytes();
        [&self.sequence.to_be_bytes()[..], &[kind, 3, 3, high, low]].concat()
    }

    /// `inner` is in TLS 1.3 content, type and padding; in TLS 1.2 the content.
    pub(super) fn seal(&mut self, kind: u8, inner: &[u8]) -> Vec<u8> {
        let mut nonce = self.nonce();
        if self.is_gcm12() {
            // The sender's own choice (RFC 5288 3), and not what we would have chosen.
            nonce[4..].copy_from_slice(&(!self.sequence).to_be_bytes());
        }
        let explicit: &[u8] = if self.is_gcm12() { &nonce[4..] } else { &[] };
        let len = u16::try_from(explicit.len() + inner.len() + 16).unwrap().to_be_bytes();
        let header = [kind, 3, 3, len[0], len[1]];
        let aad = if self.is_13() { header.to_vec() } else { self.aad(kind, inner.len()) };
        let mut text = inner.to_vec();
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text).unwrap();
        self.sequence += 1;
        [&header, explicit, &text].concat()
    }

    /// The type and content of a record.
    pub(super) fn open(&mut self, record: &[u8]) -> (u8, Vec<u8>) {
        let (header, body) = record.split_at(5);
        let mut nonce = self.nonce();
        let mut text = body.to_vec();
        if self.is_gcm12() {
            nonce[4..].copy_from_slice(&text[..8]);
            text.drain(..8);
        }
        let aad = if self.is_13() { header.to_vec() } else { self.aad(header[0], text.len() - 16) };
        let len = self.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text).unwrap().len();
        text.truncate(len);
        self.sequence += 1;
        let kind = if self.is_13() { text.pop().unwrap() } else { header[0] };
        (kind, text)
    }
}

fn algorithm(suite: SupportedCipherSuite) -> &'static aead::Algorithm {
    let name = format!("{:?}", suite.suite());
    match () {
        () if name.contains("AES_128") => &aead::AES_128_GCM,
        () if name.contains("AES_256") => &aead::AES_256_GCM,
        () => &aead::CHACHA20_POLY1305,
    }
}

struct Len(usize);

impl KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label with an empty context (RFC 8446 7.1).
fn expand(suite: SupportedCipherSuite, secret: &[u8], label: &str, len: usize) -> Vec<u8> {
    let sha384 = format!("{:?}", suite.suite()).ends_with("SHA384");
    let prk = Prk::new_less_safe(if sha384 { hkdf::HKDF_SHA384 } else { hkdf::HKDF_SHA256 }, secret);
    let label = format!("tls13 {label}");
    let info =
        [&u16::try_from(len).unwrap().to_be_bytes()[..], &[u8::try_from(label.len()).unwrap()], label.as_bytes(), &[0]];
    let mut out = vec![0; len];
    prk.expand(&info, Len(len)).unwrap().fill(&mut out).unwrap();
    out
}

/// A session whose peer is a forger.
pub(super) struct Forged {
    pub(super) session: Session,
    sending: Direction,
    receiving: Direction,
}

impl Forged {
    /// Connects to an honest server and takes its place.
    pub(super) fn new(suite: SupportedCipherSuite) -> Self {
        let secrets = Arc::new(Secrets::default());
        let mut config = rig::server(suite);
        config.key_log = Arc::clone(&secrets) as Arc<dyn KeyLog>;
        let Pair { session, server, rest } = Pair::connect(&rig::client(), config, |_| {});
        assert!(rest.is_empty());
        let (sending, receiving) = if suite.tls13().is_some() {
            let sending = Direction::tls13(suite, secrets.get("SERVER_TRAFFIC_SECRET_0"));
            (sending, Direction::tls13(suite, secrets.get("CLIENT_TRAFFIC_SECRET_0")))
        } else {
            let extracted = server.dangerous_extract_secrets().unwrap();
            (Direction::tls12(suite, extracted.tx), Direction::tls12(suite, extracted.rx))
        };
        Self { session, sending, receiving }
    }

    /// An honest record with this content.
    pub(super) fn seal(&mut self, kind: u8, content: &[u8]) -> Vec<u8> {
        if self.sending.is_13() {
            self.sending.seal(23, &[content, &[kind]].concat())
        } else {
            self.sending.seal(kind, content)
        }
    }

    /// TLS 1.3: a record with anything at all as `TLSInnerPlaintext`.
    pub(super) fn seal_inner(&mut self, inner: &[u8]) -> Vec<u8> {
        self.sending.seal(23, inner)
    }

    /// An honest record of application data.
    pub(super) fn data(&mut self, content: &[u8]) -> Vec<u8> {
        self.seal(23, content)
    }

    /// Changes the sending key, after a key update has been sealed.
    pub(super) fn update(&mut self) {
        self.sending.update();
    }

    /// Changes the receiving key, after a key update has been read.
    pub(super) fn update_receiving(&mut self) {
        self.receiving.update();
    }

    /// The records in `bytes`, all under one key.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut records = Vec::new();
        for len in rig::record_lens(bytes) {
            let (record, rest) = bytes.split_at(len);
            records.push(self.receiving.open(record));
            bytes = rest;
        }
        records
    }

    /// Pushes `bytes` through the session's opener in one piece.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        open(&mut self.session.opener, bytes)
    }

    /// What the session answers.
    pub(super) fn answer(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.session.answer(&mut out).unwrap();
        out
    }
}
