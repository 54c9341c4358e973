//! One record after another: is it allowed, does it authenticate, what is in it?
//!
//! What comes in: a header, then the whole record, lying in a buffer that may be changed. What goes out: where in the record
//! the application's bytes are, or nothing, when the record was TLS's own business (`post_handshake.rs`). It knows nothing of
//! spans, pieces and sinks.

use std::fmt;
use std::ops::Range;

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;

use super::Error;
use super::keys::{Cipher, Form};
use super::opener::OpenerCounters;
use super::session::Version;
use super::traffic::{Direction, Source};
use super::wire::{self, ALERT, APPLICATION_DATA, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER, PLAINTEXT_MAX};

/// Records of application data without any that may follow each other, as many as rustls allows (and OpenSSL).
///
/// They cost the peer 22 bytes and us an AEAD each, and carry nothing. Lower, and a server that hides its traffic's timing
/// behind a few of them is cut off; higher, and keeping us busy for nothing gets cheaper.
const EMPTY_MAX: u8 = 32;

/// Where the receiving direction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The peer has said `close_notify`.
    Closed,
    Failed,
}

/// The receiving direction: its key, its sequence number, and all that a record can change.
pub(super) struct Incoming {
    cipher: Cipher,
    source: Source,
    /// The number of the next record under this key.
    sequence: u64,
    state: State,
    /// Records of application data without any since the last one that had some.
    empty: u8,
    /// Key updates since the last application data.
    pub(super) key_updates: u8,
    /// TLS 1.2's warnings, and TLS 1.3's `user_canceled`, so far.
    pub(super) warnings: u8,
    /// TLS 1.2: the peer has asked to renegotiate.
    pub(super) renegotiation_asked: bool,
    /// The beginning of a handshake message that spans records.
    pub(super) partial: Vec<u8>,
    /// The peer has asked for a key update and has not had one.
    pub(super) update_owed: bool,
    /// The peer has asked to renegotiate and has not been told that we will not.
    pub(super) refusal_owed: bool,
    /// rustls' store of tickets. A connection that was taken over has none.
    pub(super) tickets: Option<KernelConnection<ClientConnectionData>>,
    pub(super) counters: OpenerCounters,
}

impl Incoming {
    pub(super) fn new(
        direction: Direction,
        version: Version,
        tickets: Option<KernelConnection<ClientConnectionData>>,
    ) -> Result<Self, Error> {
        let Direction { source, sequence } = direction;
        Ok(Self {
            cipher: Cipher::new(&source.key()?, version)?,
            source,
            sequence,
            state: State::Open,
            empty: 0,
            key_updates: 0,
            warnings: 0,
            renegotiation_asked: false,
            partial: Vec::new(),
            update_owed: false,
            refusal_owed: false,
            tickets,
            counters: OpenerCounters::default(),
        })
    }

    /// What it takes to go on.
    pub(super) fn estate(&self) -> Direction {
        Direction { source: self.source.clone(), sequence: self.sequence }
    }

    #[inline]
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    #[inline]
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    #[inline]
    pub(super) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) const fn form(&self) -> Form {
        self.cipher.form()
    }

    #[cfg(test)]
    pub(super) const fn set_sequence(&mut self, sequence: u64) {
        self.sequence = sequence;
    }

    /// Marks the peer as having said its last word.
    pub(super) const fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Takes the peer's next key.
    pub(super) fn renew(&mut self) -> Result<(), Error> {
        self.cipher = Cipher::new(&self.source.next()?, Version::Tls13)?;
        self.sequence = 0;
        Ok(())
    }

    /// The length of the record at the front of `bytes`, its header included; `None` where it is not whole.
    #[inline]
    pub(super) fn whole_record(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        let Some(header) = wire::header(bytes) else { return Ok(None) };
        let len = HEADER + self.admit(header)?;
        Ok((bytes.len() >= len).then_some(len))
    }

    /// The length of the body that may follow this header.
    #[inline]
    pub(super) fn admit(&mut self, header: [u8; HEADER]) -> Result<usize, Error> {
        let len = wire::body_len(header);
        let form = self.cipher.form();
        if header[0] == APPLICATION_DATA && (form.body_min()..=form.body_max()).contains(&len) {
            return Ok(len);
        }
        self.admit_rare(header, len).map_err(|error| self.fail(error))
    }

    #[cold]
    fn admit_rare(&self, header: [u8; HEADER], len: usize) -> Result<usize, Error> {
        let form = self.cipher.form();
        match header[0] {
            APPLICATION_DATA => {}
            // RFC 8446 5.2: after the handshake every record is sealed, and the sealed ones look like application data. An
            // alert in clear was not sent by who has the keys (a server has had them since before its Finished).
            ALERT if form == Form::Tls13 => {
                return Err(Error::unexpected("it sent an alert in clear after the handshake"));
            }
            HANDSHAKE if form == Form::Tls13 => {
                return Err(Error::unexpected("it sent a handshake message in clear after the handshake"));
            }
            ALERT | HANDSHAKE => {}
            // RFC 8446 5: after the peer's Finished, not even the one that middleboxes like. In TLS 1.2 it would change keys.
            CHANGE_CIPHER_SPEC => return Err(Error::unexpected("it sent ChangeCipherSpec after the handshake")),
            _ => return Err(Error::unexpected("it sent a record of an unknown type")),
        }
        if len > form.body_max() {
            return Err(Error::RecordOverflow { bytes: len, bytes_max: form.body_max() });
        }
        if len < form.body_min() {
            // Too short to hold a tag.
            return Err(Error::BadRecordMac { sequence: self.sequence });
        }
        Ok(len)
    }

    /// Opens the record that fills `record`, admitted by its header, in place. Says where in `record` its application data
    /// lies, or `None` where there is none of it.
    #[inline]
    pub(super) fn open(&mut self, record: &mut [u8]) -> Result<Option<Range<usize>>, Error> {
        let sequence = self.sequence;
        let Some((header, body)) = record.split_first_chunk_mut::<HEADER>() else {
            return Err(self.fail(Error::BadRecordMac { sequence }));
        };
        // The number after the last would be 0 again (RFC 8446 5.3). There is no other limit to opening: the tag's failures
        // need no count (RFC 8446 5.5 leaves it to QUIC and DTLS), since the first one ends the connection; and how long the
        // key keeps a secret is up to who seals with it.
        let Some(next) = sequence.checked_add(1) else {
            return Err(self.fail(Error::SequenceExhausted));
        };
        let Some(Range { start, mut end }) = self.cipher.open(sequence, *header, body) else {
            return Err(self.fail(Error::BadRecordMac { sequence }));
        };
        self.sequence = next;
        let content_type = if self.cipher.form() == Form::Tls13 {
            // The content, its type, and zeros (RFC 8446 5.4); content and type may not exceed 2^14 + 1 with the zeros.
            if end - start > PLAINTEXT_MAX + 1 {
                return Err(self.overflow(end - start - 1));
            }
            let Some(last) = body[start..end].iter().rposition(|&byte| byte != 0) else {
                return Err(self.fail(Error::unexpected("it sent a record of nothing but padding")));
            };
            end = start + last;
            body[end]
        } else {
            if end - start > PLAINTEXT_MAX {
                return Err(self.overflow(end - start));
            }
            header[0]
        };
        if content_type == APPLICATION_DATA && start < end && self.partial.is_empty() {
            self.empty = 0;
            self.key_updates = 0;
            return Ok(Some(HEADER + start..HEADER + end));
        }
        self.own_business(content_type, &body[start..end]).map(|()| None).map_err(|error| self.fail(error))
    }

    /// Counts, and refuses, an application data record without any; hands everything else to where it belongs.
    #[cold]
    fn own_business(&mut self, content_type: u8, content: &[u8]) -> Result<(), Error> {
        match content_type {
            HANDSHAKE if !content.is_empty() => self.handshake(content),
            ALERT if !content.is_empty() => self.alert(content),
            // RFC 8446 5.4, RFC 5246 6.2.1: only application data may be empty.
            HANDSHAKE | ALERT => Err(Error::unexpected("it sent an empty handshake message or alert")),
            // RFC 8446 5.1: "if a handshake message is split over two or more records, there MUST NOT be any other records
            // between them."
            APPLICATION_DATA if !self.partial.is_empty() => {
                Err(Error::unexpected("it sent application data in the middle of a handshake message"))
            }
            APPLICATION_DATA if self.empty == EMPTY_MAX => {
                Err(Error::unexpected("it sent too many records without content in a row"))
            }
            APPLICATION_DATA => {
                self.empty += 1;
                self.counters.records_empty += 1;
                Ok(())
            }
            CHANGE_CIPHER_SPEC => Err(Error::unexpected("it sent ChangeCipherSpec in a sealed record")),
            _ => Err(Error::unexpected("it sent a record of an unknown type")),
        }
    }

    /// What becomes of `bytes` that arrive when the direction is no longer open.
    #[cold]
    pub(super) fn after_end(&mut self, bytes: usize) -> Result<(), Error> {
        match self.state {
            State::Open => Ok(()),
            State::Closed => {
                self.counters.bytes_after_close += bytes as u64;
                Ok(())
            }
            State::Failed => {
                self.counters.pushes_after_failure += 1;
                Err(Error::AfterFailure)
            }
        }
    }

    /// The sink would not go on.
    #[cold]
    pub(super) const fn abandon(&mut self) {
        self.counters.failed_sink += 1;
        self.state = State::Failed;
    }

    #[cold]
    fn overflow(&mut self, bytes: usize) -> Error {
        self.fail(Error::RecordOverflow { bytes, bytes_max: PLAINTEXT_MAX })
    }

    /// Counts the error under its name and ends the direction.
    #[cold]
    fn fail(&mut self, error: Error) -> Error {
        self.state = State::Failed;
        let counter = match &error {
            Error::BadRecordMac { .. } => &mut self.counters.failed_authentication,
            Error::RecordOverflow { .. } => &mut self.counters.failed_overflow,
            Error::PeerAlert(_) => &mut self.counters.failed_alert,
            _ => &mut self.counters.failed_protocol,
        };
        *counter += 1;
        error
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("cipher", &self.cipher)
            .field("sequence", &self.sequence)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
