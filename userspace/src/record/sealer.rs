//! The sending half: bytes become TLS records.
//!
//! What comes in: a buffer laid out as head | plaintext | tail, sealed where it lies (the path of an order: no copy, no
//! allocation), or any bytes, cut into records and appended to the caller's outgoing bytes. What goes out: records. It
//! sends nothing itself, and it does not know what the plaintext means.

use super::keys::Cipher;
use super::session::Version;
use super::traffic::{Direction, Source};
use super::wire::{ALERT, APPLICATION_DATA, FATAL, HANDSHAKE, PLAINTEXT_MAX, WARNING};
use super::{Alert, Error};
use crate::floor::counters::counters;

/// The last records a key has, which are kept for saying that it is worn: one key update and one alert.
const RESERVED: u64 = 2;

/// How early the sealer asks for a new key, at most: so many records before it refuses to go on.
///
/// An answer to the request takes until the caller's next [`Session::answer`](super::Session::answer), hence few records;
/// 65,536 is far more, and a 256th of what an AES-GCM key lasts. Lower, and a burst of orders between two answers meets a
/// refusal; higher, and keys are changed more often than they need.
const EARLY_MAX: u64 = 1 << 16;

/// The fewest records a limit may allow: fewer leave no room between asking and refusing.
const LIMIT_MIN: u64 = 8;

counters! {
    /// What the sealer did.
    pub struct SealerCounters {
        /// Records sealed where they lay.
        records_in_place,
        /// Records made from bytes that were copied.
        records_copied,
        /// Bytes copied for them.
        bytes_copied,
        /// Key updates sent.
        key_updates_sent,
        /// Alerts sent, `close_notify` included.
        alerts_sent,
        /// Refused: the key is worn.
        refused_worn,
        /// Refused: this side is closed.
        refused_closed,
        /// Refused: no room for head and tail, or more than one record carries.
        refused_length,
    }
}

/// What a record carries (`ContentType`, RFC 8446 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The application's bytes: all that a caller seals.
    ApplicationData,
    /// An alert. [`Sealer::alert`] and [`Sealer::close_notify`] are the ways to send one.
    Alert,
    /// A handshake message. [`Session`](super::Session) seals those that are due.
    Handshake,
}

impl Content {
    const fn code(self) -> u8 {
        match self {
            Self::ApplicationData => APPLICATION_DATA,
            Self::Alert => ALERT,
            Self::Handshake => HANDSHAKE,
        }
    }
}

/// The sending half of a session.
#[derive(Debug)]
pub struct Sealer {
    cipher: Cipher,
    source: Source,
    /// The number of the next record under this key.
    sequence: u64,
    /// How many records the key may protect.
    records_max: u64,
    closed: bool,
    counters: SealerCounters,
}

impl Sealer {
    pub(super) fn new(direction: Direction, version: Version, records_max: u64) -> Result<Self, Error> {
        let Direction { source, sequence } = direction;
        // 2^64 records would make the sequence number wrap, which must never happen (RFC 8446 5.3). ChaCha20-Poly1305 has
        // no other limit (rustls: `u64::MAX`), so this is its.
        let records_max = records_max.min(u64::MAX - 1);
        let cipher = Cipher::new(&source.key()?, version)?;
        Ok(Self { cipher, source, sequence, records_max, closed: false, counters: SealerCounters::default() })
    }

    /// What it takes to go on sealing.
    pub(super) fn estate(&self) -> Direction {
        Direction { source: self.source.clone(), sequence: self.sequence }
    }

    /// What its keys come from.
    pub(super) const fn source(&self) -> &Source {
        &self.source
    }

    /// How many records the key may protect.
    pub(super) const fn records_max(&self) -> u64 {
        self.records_max
    }

    /// Bytes of a record before the plaintext: 5, or 13 in TLS 1.2 with AES-GCM. The same for the whole session.
    #[inline]
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.cipher.form().head_len()
    }

    /// Bytes of a record behind the plaintext: 17 in TLS 1.3, 16 in TLS 1.2. The same for the whole session.
    #[inline]
    #[must_use]
    pub const fn tail_len(&self) -> usize {
        self.cipher.form().tail_len()
    }

    /// The most plaintext one record carries: 16,384 bytes.
    #[inline]
    #[must_use]
    pub const fn plaintext_max(&self) -> usize {
        PLAINTEXT_MAX
    }

    /// Bytes that `plaintext` bytes take sealed, in as few records as carry them.
    #[inline]
    #[must_use]
    pub const fn sealed_len(&self, plaintext: usize) -> usize {
        plaintext + plaintext.div_ceil(PLAINTEXT_MAX) * (self.head_len() + self.tail_len())
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> &SealerCounters {
        &self.counters
    }

    /// Whether `close_notify` or a fatal alert has been sealed, after which nothing else is.
    #[inline]
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Records sealed under the present key.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.sequence
    }

    /// Lowers the number of records a key may protect; the cipher's own limit cannot be raised. At least 8.
    ///
    /// AES-GCM comes with 2^24 (RFC 8446 5.5, rustls' `confidentiality_limit`): beyond it, an observer begins to have a
    /// chance of telling the ciphertext from noise. ChaCha20-Poly1305 has no such limit.
    pub fn lower_limit(&mut self, records_max: u64) {
        self.records_max = self.records_max.min(records_max.max(LIMIT_MIN));
    }

    /// Seals a record in place. `record` is laid out as [`head_len`](Self::head_len) bytes to be written, the plaintext, and
    /// [`tail_len`](Self::tail_len) bytes to be written; afterwards all of it is the record.
    ///
    /// # Errors
    ///
    /// [`Error::RecordTooShort`], [`Error::PlaintextTooLong`], [`Error::AfterClose`], [`Error::KeyWorn`]. Nothing has been
    /// written then and no sequence number is used up.
    #[inline]
    pub fn seal_in_place(&mut self, record: &mut [u8], content: Content) -> Result<(), Error> {
        let overhead = self.head_len() + self.tail_len();
        let Some(plaintext_len) = record.len().checked_sub(overhead) else {
            self.counters.refused_length += 1;
            return Err(Error::RecordTooShort { bytes: record.len(), overhead });
        };
        if plaintext_len > PLAINTEXT_MAX {
            self.counters.refused_length += 1;
            return Err(Error::PlaintextTooLong { bytes: plaintext_len, bytes_max: PLAINTEXT_MAX });
        }
        self.admit(1, content)?;
        self.seal_admitted(record, content)?;
        self.counters.records_in_place += 1;
        Ok(())
    }

    /// Seals the plaintext at the end of `records` in as many records as it takes, which then fill all of `records`. It has to
    /// be as long as [`sealed_len`](Self::sealed_len) says for the plaintext.
    ///
    /// # Errors
    ///
    /// [`Error::RecordTooShort`], where no plaintext is as long as that sealed, [`Error::AfterClose`], [`Error::KeyWorn`].
    /// Nothing has been written then: what does not fit as a whole is not begun.
    pub fn seal_spread(&mut self, records: &mut [u8], content: Content) -> Result<(), Error> {
        let (head, tail) = (self.head_len(), self.tail_len());
        let count = records.len().div_ceil(head + PLAINTEXT_MAX + tail);
        let overhead = count * (head + tail);
        let plaintext = records.len().checked_sub(overhead);
        if plaintext.is_none_or(|plaintext| self.sealed_len(plaintext) != records.len()) {
            self.counters.refused_length += 1;
            return Err(Error::RecordTooShort { bytes: records.len(), overhead });
        }
        self.admit(count as u64, content)?;
        // Each piece moves to the front, to where its record lies; no record reaches the pieces that have yet to move.
        let (mut at, mut from) = (0, overhead);
        while from < records.len() {
            let piece = PLAINTEXT_MAX.min(records.len() - from);
            records.copy_within(from..from + piece, at + head);
            let end = at + head + piece + tail;
            self.seal_admitted(&mut records[at..end], content)?;
            self.counters.records_copied += 1;
            self.counters.bytes_copied += piece as u64;
            (at, from) = (end, from + piece);
        }
        Ok(())
    }

    /// Seals `plaintext` in as many records as it takes and appends them to `out`; no byte, no record.
    ///
    /// # Errors
    ///
    /// [`Error::AfterClose`], [`Error::KeyWorn`]. `out` is unchanged then: what does not fit as a whole is not begun.
    pub fn seal(&mut self, content: Content, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.admit(plaintext.len().div_ceil(PLAINTEXT_MAX) as u64, content)?;
        for piece in plaintext.chunks(PLAINTEXT_MAX) {
            let at = out.len();
            out.resize(at + self.head_len(), 0);
            out.extend_from_slice(piece);
            out.resize(out.len() + self.tail_len(), 0);
            if let Err(error) = self.seal_admitted(&mut out[at..], content) {
                out.truncate(at);
                return Err(error);
            }
            self.counters.records_copied += 1;
            self.counters.bytes_copied += piece.len() as u64;
        }
        Ok(())
    }

    /// Appends `close_notify`, the last word of this side; nothing, where that has been said already.
    ///
    /// # Errors
    ///
    /// None in practice: a key always has a record left for it.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.alert(Alert::CLOSE_NOTIFY, out)
    }

    /// Appends an alert; after any but a warning, this side is closed. Nothing, where it is closed already.
    ///
    /// # Errors
    ///
    /// None in practice: a key always has a record left for it.
    pub fn alert(&mut self, alert: Alert, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.closed {
            return Ok(());
        }
        // TLS 1.3 reads no meaning in the level, but wants it set as TLS 1.2 does (RFC 8446 6).
        let level = if alert.is_warning() { WARNING } else { FATAL };
        self.seal(Content::Alert, &[level, alert.code()], out)?;
        self.counters.alerts_sent += 1;
        self.closed = alert == Alert::CLOSE_NOTIFY || !alert.is_warning();
        Ok(())
    }

    /// Whether the key is so near its limit that it should be changed now; never in TLS 1.2, which cannot.
    #[inline]
    pub(super) fn needs_refresh(&self) -> bool {
        let early = EARLY_MAX.min(self.records_max / 4);
        self.sequence >= self.records_max - RESERVED - early && self.renewable() && !self.closed
    }

    /// Takes the next key, after the message that announces it has been sealed.
    pub(super) fn renew(&mut self, version: Version) -> Result<(), Error> {
        self.cipher = Cipher::new(&self.source.next()?, version)?;
        self.sequence = 0;
        self.counters.key_updates_sent += 1;
        Ok(())
    }

    /// Whether `records` more may be sealed.
    #[inline]
    fn admit(&mut self, records: u64, content: Content) -> Result<(), Error> {
        if self.closed {
            self.counters.refused_closed += 1;
            return Err(Error::AfterClose);
        }
        let reserved = if content == Content::ApplicationData { RESERVED } else { 0 };
        if self.sequence.saturating_add(records) > self.records_max - reserved {
            self.counters.refused_worn += 1;
            return Err(Error::KeyWorn { records: self.sequence, renewable: self.renewable() });
        }
        Ok(())
    }

    #[inline]
    fn seal_admitted(&mut self, record: &mut [u8], content: Content) -> Result<(), Error> {
        let sealed = self.cipher.seal(self.sequence, content.code(), record);
        // A number is never used twice, whatever came of its first use.
        self.sequence += 1;
        sealed.ok_or_else(|| Error::internal("the cipher refused to seal a record"))
    }

    const fn renewable(&self) -> bool {
        matches!(self.cipher.form(), super::keys::Form::Tls13)
    }
}
