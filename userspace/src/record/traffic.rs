//! The secrets of an established connection, as bytes: what keys are made of, and what a successor process needs.
//!
//! What comes in: what a handshake has agreed on. What goes out: the key of each direction, the next one after a key update
//! (TLS 1.3, RFC 8446 7.2), and both directions as plain data ([`Estate`]). rustls hands out a connection's first keys and keeps
//! the secrets they come from; those are taken where it would write them to a key log. That they are the right ones is checked
//! by deriving the first keys from them.
//!
//! Everything secret here is wiped when it is dropped.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, NONCE_LEN};
use aws_lc_rs::{hkdf, rand};
use rustls::{ConnectionTrafficSecrets, KeyLog};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Error;
use super::session::Version;

/// An AEAD that this stage speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Aead {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Aead {
    pub(super) fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Aes128Gcm => &AES_128_GCM,
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }

    /// The hash that goes with it in TLS 1.3 (RFC 8446 B.4).
    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Aes128Gcm | Self::ChaCha20Poly1305 => hkdf::HKDF_SHA256,
            Self::Aes256Gcm => hkdf::HKDF_SHA384,
        }
    }
}

/// Bytes that are wiped when they are dropped, and never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }

    fn zeros(len: usize) -> Self {
        Self(Zeroizing::new(vec![0; len]))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// As long, and nothing to do with this one.
    fn made_up(&self) -> Result<Self, Error> {
        let mut other = Self::zeros(self.0.len());
        rand::fill(&mut other.0).map_err(|_| Error::internal("the system has no random numbers"))?;
        Ok(other)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secret bytes", self.0.len())
    }
}

/// One direction's key and IV.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrafficKey {
    pub(super) aead: Aead,
    pub(super) key: Secret,
    pub(super) iv: Secret,
}

impl TrafficKey {
    /// The key that rustls has agreed with the peer.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] for a cipher this stage does not know, which its own provider never negotiates.
    pub(super) fn of(secrets: &ConnectionTrafficSecrets) -> Result<Self, Error> {
        let (aead, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Aead::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Aead::Aes256Gcm, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (Aead::ChaCha20Poly1305, key, iv),
            _ => return Err(Error::internal("a cipher was negotiated that nobody offered")),
        };
        Ok(Self { aead, key: Secret::of(key.as_ref()), iv: Secret::of(iv.as_ref()) })
    }

    /// RFC 8446 7.3.
    fn derive(aead: Aead, secret: &Secret) -> Result<Self, Error> {
        let key = expand_label(aead, secret, "key", aead.algorithm().key_len())?;
        Ok(Self { aead, key, iv: expand_label(aead, secret, "iv", NONCE_LEN)? })
    }
}

/// What one direction's keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Source {
    /// TLS 1.3: the traffic secret. The next key comes from the next secret.
    Traffic(Aead, Secret),
    /// TLS 1.2: there is one key for the whole connection.
    Fixed(TrafficKey),
}

impl Source {
    /// The present key.
    pub(super) fn key(&self) -> Result<TrafficKey, Error> {
        match self {
            Self::Traffic(aead, secret) => TrafficKey::derive(*aead, secret),
            Self::Fixed(key) => Ok(key.clone()),
        }
    }

    /// Changes to the next key, whose sequence numbers begin at 0 (RFC 8446 5.3).
    ///
    /// # Errors
    ///
    /// [`Error::NoKeyUpdate`] in TLS 1.2.
    pub(super) fn next(&mut self) -> Result<TrafficKey, Error> {
        match self {
            Self::Traffic(aead, secret) => {
                let len = secret.bytes().len();
                *secret = expand_label(*aead, secret, "traffic upd", len)?;
                TrafficKey::derive(*aead, secret)
            }
            Self::Fixed(_) => Err(Error::NoKeyUpdate),
        }
    }

    /// Of the same cipher, and made up: for records that never leave this process.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where the system has no random numbers.
    pub(super) fn made_up(&self) -> Result<Self, Error> {
        Ok(match self {
            Self::Traffic(aead, secret) => Self::Traffic(*aead, secret.made_up()?),
            Self::Fixed(TrafficKey { aead, key, iv }) => {
                Self::Fixed(TrafficKey { aead: *aead, key: key.made_up()?, iv: iv.made_up()? })
            }
        })
    }

    /// What the keys of a connection come from: in TLS 1.3 `secret`, which must be that of `first`, its first key.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where it is not.
    pub(super) fn of(first: TrafficKey, version: Version, secret: Option<Secret>) -> Result<Self, Error> {
        if version == Version::Tls12 {
            return Ok(Self::Fixed(first));
        }
        let source = Self::Traffic(first.aead, secret.ok_or_else(|| Error::internal("no traffic secret was told"))?);
        if source.key()? == first { Ok(source) } else { Err(Error::internal("the traffic secret gives another key")) }
    }
}

/// `HKDF-Expand-Label` without a context (RFC 8446 7.1).
fn expand_label(aead: Aead, secret: &Secret, label: &str, len: usize) -> Result<Secret, Error> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }

    const PREFIX: &str = "tls13 ";
    let [_, .., high, low] = len.to_be_bytes();
    let label_len = u8::try_from(PREFIX.len() + label.len()).unwrap_or(u8::MAX);
    let info = [&[high, low, label_len], PREFIX.as_bytes(), label.as_bytes(), &[0]];
    let mut out = Secret::zeros(len);
    hkdf::Prk::new_less_safe(aead.hkdf(), secret.bytes())
        .expand(&info, Length(len))
        .and_then(|okm| okm.fill(&mut out.0))
        .map_err(|_| Error::internal("a key cannot be derived"))?;
    Ok(out)
}

/// Takes down the traffic secrets of one handshake, where rustls would write them to a key log, and passes on what is for that.
#[derive(Debug)]
pub(super) struct Scribe {
    log: Arc<dyn KeyLog>,
    secrets: Mutex<(Option<Secret>, Option<Secret>)>,
}

/// Their names in a key log.
const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

impl Scribe {
    /// In front of `log`.
    pub(super) fn new(log: Arc<dyn KeyLog>) -> Self {
        Self { log, secrets: Mutex::default() }
    }

    /// The client's secret and the server's, taken out.
    pub(super) fn take(&self) -> (Option<Secret>, Option<Secret>) {
        std::mem::take(&mut self.secrets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl KeyLog for Scribe {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if self.log.will_log(label) {
            self.log.log(label, client_random, secret);
        }
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        match label {
            CLIENT => secrets.0 = Some(Secret::of(secret)),
            SERVER => secrets.1 = Some(Secret::of(secret)),
            _ => {}
        }
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER) || self.log.will_log(label)
    }
}

/// One direction of a connection, as another process can continue it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Direction {
    pub(super) source: Source,
    /// The number of the next record under the present key.
    pub(super) sequence: u64,
}

/// A TLS connection between two records, as another process can continue it. Whoever has it can read and write the
/// connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estate {
    pub(super) version: Version,
    pub(super) suite: String,
    pub(super) http11_confirmed: bool,
    pub(super) handshake_bytes: usize,
    pub(super) sending: Direction,
    pub(super) receiving: Direction,
    /// Records that a sending key may protect.
    pub(super) records_max: u64,
    /// TLS 1.2: the peer has asked to renegotiate.
    pub(super) renegotiation_asked: bool,
    /// Warnings so far.
    pub(super) warnings: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Secret {
        let digits: Vec<_> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        Secret::of(&digits.chunks(2).map(byte).collect::<Vec<_>>())
    }

    /// RFC 8448, section 3, "Simple 1-RTT Handshake": the server's application traffic secret, and the key and IV it derives.
    #[test]
    fn keys_are_those_of_the_published_handshake() {
        let secret =
            hex("a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43");
        let key = TrafficKey::derive(Aead::Aes128Gcm, &secret).unwrap();
        assert_eq!(key.key, hex("9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56"));
        assert_eq!(key.iv, hex("cf 78 2b 88 dd 83 54 9a ad f1 e9 84"));
    }

    #[test]
    fn a_secret_is_written_and_read_and_never_shown() {
        let secret = hex("00 01 fe ff");
        let text = serde_json::to_string(&secret).unwrap();
        assert_eq!(serde_json::from_str::<Secret>(&text).unwrap(), secret);
        assert_eq!(format!("{secret:?}"), "4 secret bytes");
    }

    #[test]
    fn a_secret_of_another_key_is_noticed() {
        let source = Source::Traffic(Aead::Aes256Gcm, Secret::zeros(48));
        let first = source.key().unwrap();
        assert_eq!(Source::of(first.clone(), Version::Tls13, Some(Secret::zeros(48))).unwrap(), source);
        assert!(Source::of(first.clone(), Version::Tls13, Some(Secret::of(&[1; 48]))).is_err());
        assert!(Source::of(first, Version::Tls13, None).is_err());
    }

    #[test]
    fn each_key_update_gives_another_key_of_the_same_kind() {
        for aead in [Aead::Aes128Gcm, Aead::Aes256Gcm, Aead::ChaCha20Poly1305] {
            let mut source = Source::Traffic(aead, Secret::zeros(32));
            let first = source.key().unwrap();
            let second = source.next().unwrap();
            assert_ne!(first, second);
            assert_eq!(source.key().unwrap(), second);
            assert_eq!(second.key.bytes().len(), aead.algorithm().key_len());
        }
    }
}
