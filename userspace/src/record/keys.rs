//! One direction's key: nonce, additional data and AEAD, for the three record forms there are.
//!
//! What comes in: a sequence number and a whole record, head included. What goes out: the same bytes, opened or sealed
//! where they lie. It keeps no sequence number (the opener and the sealer do), knows no content type beyond the byte it is
//! given, and allocates nothing.
//!
//! The expanded key inside `LessSafeKey` is cleansed by AWS-LC when it frees it; the IV is copied, and wiped with its key. The
//! bytes both come from are `traffic.rs`'s business.

use std::fmt;
use std::ops::Range;

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroize as _;

use super::Error;
use super::session::Version;
use super::traffic::{Aead, TrafficKey};
use super::wire::{APPLICATION_DATA, BODY_MAX_12, BODY_MAX_13, HEADER, LEGACY_VERSION, TAG};

/// How a record is laid out and what its nonce and additional data are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// TLS 1.3 (RFC 8446 5.2): header | content, content type, padding | tag. The AEAD covers the header as it stands.
    Tls13,
    /// TLS 1.2 with AES-GCM (RFC 5288 3): header | 8 bytes of nonce | content | tag.
    Tls12Gcm,
    /// TLS 1.2 with ChaCha20-Poly1305 (RFC 7905 2): header | content | tag; its nonce is made as in TLS 1.3.
    Tls12ChaCha,
}

impl Form {
    /// Bytes of nonce that travel in the record.
    const fn explicit_nonce_len(self) -> usize {
        match self {
            Self::Tls12Gcm => 8,
            Self::Tls13 | Self::Tls12ChaCha => 0,
        }
    }

    /// Bytes before the content.
    pub(super) const fn head_len(self) -> usize {
        HEADER + self.explicit_nonce_len()
    }

    /// Bytes after the content.
    pub(super) const fn tail_len(self) -> usize {
        match self {
            Self::Tls13 => 1 + TAG,
            Self::Tls12Gcm | Self::Tls12ChaCha => TAG,
        }
    }

    /// The shortest body that can authenticate. (In TLS 1.3 it takes one byte more to be a record that has a type.)
    pub(super) const fn body_min(self) -> usize {
        self.explicit_nonce_len() + TAG
    }

    /// The longest body the protocol allows.
    pub(super) const fn body_max(self) -> usize {
        match self {
            Self::Tls13 => BODY_MAX_13,
            Self::Tls12Gcm | Self::Tls12ChaCha => BODY_MAX_12,
        }
    }
}

/// The key of one direction.
pub(super) struct Cipher {
    key: LessSafeKey,
    form: Form,
    /// The first four bytes of the IV (in TLS 1.2 with AES-GCM: the salt), which no sequence number reaches.
    iv_head: [u8; 4],
    /// The other eight, to be combined with the sequence number by exclusive or (RFC 8446 5.3).
    iv_tail: u64,
}

impl Cipher {
    /// Expands a key.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where key or IV have another length than the AEAD's.
    pub(super) fn new(traffic: &TrafficKey, version: Version) -> Result<Self, Error> {
        let form = match version {
            Version::Tls13 => Form::Tls13,
            Version::Tls12 if traffic.aead == Aead::ChaCha20Poly1305 => Form::Tls12ChaCha,
            Version::Tls12 => Form::Tls12Gcm,
        };
        let unbound = UnboundKey::new(traffic.aead.algorithm(), traffic.key.bytes())
            .map_err(|_| Error::internal("a key of the wrong length was negotiated"))?;
        let (Some(iv_head), Some(iv_tail)) = (traffic.iv.bytes().first_chunk(), traffic.iv.bytes().last_chunk()) else {
            return Err(Error::internal("an IV of the wrong length was negotiated"));
        };
        Ok(Self { key: LessSafeKey::new(unbound), form, iv_head: *iv_head, iv_tail: u64::from_be_bytes(*iv_tail) })
    }

    /// The layout of its records.
    #[inline]
    pub(super) const fn form(&self) -> Form {
        self.form
    }

    /// Opens `body`, which follows `header`, and says where in `body` the content now lies (in TLS 1.3 with its type and
    /// padding still behind it). `None`: it does not authenticate, and what `body` holds now means nothing.
    #[inline]
    pub(super) fn open(&self, sequence: u64, header: [u8; HEADER], body: &mut [u8]) -> Option<Range<usize>> {
        let start = self.form.explicit_nonce_len();
        let content_len = body.len().checked_sub(start + TAG)?;
        let (explicit, sealed) = body.split_at_mut(start);
        let (content, tag) = sealed.split_at_mut(content_len);
        let opened = match self.form {
            // The additional data is the header as it arrived (RFC 8446 5.2), so a record whose legacy version was
            // tampered with does not open although the field "MUST be ignored for all purposes" otherwise.
            Form::Tls13 => self.key.open_in_place_separate_tag(
                self.nonce(self.iv_tail ^ sequence),
                Aad::from(header),
                tag,
                content,
            ),
            Form::Tls12Gcm => {
                let explicit = u64::from_be_bytes(*explicit.first_chunk()?);
                let aad = Aad::from(additional_data(sequence, header[0], [header[1], header[2]], content_len)?);
                self.key.open_in_place_separate_tag(self.nonce(explicit), aad, tag, content)
            }
            Form::Tls12ChaCha => {
                let aad = Aad::from(additional_data(sequence, header[0], [header[1], header[2]], content_len)?);
                self.key.open_in_place_separate_tag(self.nonce(self.iv_tail ^ sequence), aad, tag, content)
            }
        };
        opened.is_ok().then_some(start..start + content_len)
    }

    /// Seals the content that lies in `record` between `head_len` and `tail_len`, and writes head and tail around it.
    ///
    /// `None`, with `record` in an unspecified state, where it is shorter than head and tail, longer than a header can
    /// say, or AWS-LC refuses (which it does for no length that a record can have).
    #[inline]
    pub(super) fn seal(&self, sequence: u64, content_type: u8, record: &mut [u8]) -> Option<()> {
        let content_len = record.len().checked_sub(self.form.head_len() + self.form.tail_len())?;
        let [high, low] = u16::try_from(record.len() - HEADER).ok()?.to_be_bytes();
        let (head, rest) = record.split_at_mut(self.form.head_len());
        let sealed_len = rest.len() - TAG;
        let (text, tag) = rest.split_at_mut(sealed_len);
        // The counter is unique for the key, which is all that AES-GCM asks of the explicit part (RFC 5288 3); xored with
        // an IV only the two sides know it does not tell a stranger how many records have passed either.
        let counter = self.iv_tail ^ sequence;
        let outer_type = match self.form {
            Form::Tls13 => {
                *text.last_mut()? = content_type;
                APPLICATION_DATA
            }
            Form::Tls12Gcm => {
                head[HEADER..].copy_from_slice(&counter.to_be_bytes());
                content_type
            }
            Form::Tls12ChaCha => content_type,
        };
        let header = [outer_type, LEGACY_VERSION[0], LEGACY_VERSION[1], high, low];
        head[..HEADER].copy_from_slice(&header);
        let nonce = self.nonce(counter);
        let sealed = match self.form {
            Form::Tls13 => self.key.seal_in_place_scatter(nonce, Aad::from(header), text, &[], tag),
            Form::Tls12Gcm | Form::Tls12ChaCha => {
                let aad = Aad::from(additional_data(sequence, content_type, LEGACY_VERSION, content_len)?);
                self.key.seal_in_place_scatter(nonce, aad, text, &[], tag)
            }
        };
        sealed.ok()
    }

    #[inline]
    fn nonce(&self, tail: u64) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[..4].copy_from_slice(&self.iv_head);
        nonce[4..].copy_from_slice(&tail.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        self.iv_head.zeroize();
        self.iv_tail.zeroize();
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither key nor IV: a log line must not be a key log.
        f.debug_struct("Cipher").field("form", &self.form).field("key", &self.key).finish_non_exhaustive()
    }
}

/// TLS 1.2's additional data: sequence number, type, version, length of the content (RFC 5246 6.2.3.3).
#[inline]
fn additional_data(sequence: u64, content_type: u8, version: [u8; 2], content_len: usize) -> Option<[u8; 13]> {
    let mut aad = [0; 13];
    aad[..8].copy_from_slice(&sequence.to_be_bytes());
    aad[8] = content_type;
    aad[9..11].copy_from_slice(&version);
    aad[11..].copy_from_slice(&u16::try_from(content_len).ok()?.to_be_bytes());
    Some(aad)
}
