//! The receiving half: TLS records become plaintext, where they lie.
//!
//! What comes in: the TCP stream in pieces of any size, each a span that may be changed. What goes out: each record's
//! plaintext, lent to a sink. A record that lies whole in its piece is opened there; one that spans pieces is joined in one
//! buffer that was allocated with the opener, by copying the bytes that complete it and no others.
//!
//! This file finds records and decides where they are opened; what is in them is `incoming.rs`.

use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;

use super::Error;
use super::incoming::Incoming;
use super::session::Version;
use super::traffic::Direction;
use super::wire::{self, BODY_MAX_12, BODY_MAX_13, HEADER};
use crate::floor::Span;
use crate::floor::counters::counters;

counters! {
    /// What the opener saw.
    pub struct OpenerCounters {
        /// Records opened where they arrived, of any content.
        records_in_place,
        /// Records that spanned pieces and were opened in the join buffer.
        records_joined,
        /// Bytes copied into the join buffer.
        bytes_joined,
        /// Plaintext bytes lent to the sink.
        bytes_opened,
        /// Records of application data without any.
        records_empty,
        /// Session tickets stored.
        tickets,
        /// Session tickets of a connection that was taken over: there is no handshake they belong to.
        tickets_forgotten,
        /// Handshake messages that spanned records.
        messages_joined,
        /// Key updates from the peer.
        key_updates_received,
        /// Key updates that asked for one of ours.
        key_updates_requested,
        /// TLS 1.2: the peer wanted to renegotiate.
        renegotiations_refused,
        /// Alerts received, of any kind.
        alerts,
        /// Alerts that a connection survives.
        warnings_ignored,
        /// Bytes that came after the peer's `close_notify`, and were not looked at.
        bytes_after_close,
        /// Pushes after a failure.
        pushes_after_failure,
        /// Failed: a record did not authenticate.
        failed_authentication,
        /// Failed: a record was too long.
        failed_overflow,
        /// Failed: a fatal alert from the peer.
        failed_alert,
        /// Failed: anything else the protocol forbids.
        failed_protocol,
        /// Failed: the sink would not go on.
        failed_sink,
        /// The stream ended without `close_notify`.
        truncated,
    }
}

/// The plaintext of one record.
#[derive(Debug)]
pub struct Opened<'a> {
    /// The application's bytes, never none. What follows them is their padding: the record's tag, and whatever follows it.
    pub plaintext: Span<'a>,
    /// Whether the record spanned pieces, so that its bytes were copied once.
    pub joined: bool,
}

/// The receiving half of a session.
#[derive(Debug)]
pub struct Opener {
    incoming: Incoming,
    joiner: Joiner,
}

impl Opener {
    /// `tickets` gets session tickets; without it, they are counted and forgotten.
    pub(super) fn new(
        direction: Direction,
        version: Version,
        tickets: Option<KernelConnection<ClientConnectionData>>,
    ) -> Result<Self, Error> {
        let incoming = Incoming::new(direction, version, tickets)?;
        let joiner = Joiner::new(HEADER + incoming.form().body_max());
        Ok(Self { incoming, joiner })
    }

    /// What another process knew of the connection beside its key.
    pub(super) const fn inherit(&mut self, renegotiation_asked: bool, warnings: u8) {
        self.incoming.renegotiation_asked = renegotiation_asked;
        self.incoming.warnings = warnings;
    }

    /// What it takes to go on opening, beside the key: whether the peer has asked to renegotiate, and its warnings. `None`
    /// where the peer has closed.
    pub(super) fn estate(&self) -> Option<(Direction, bool, u8)> {
        let Incoming { renegotiation_asked, warnings, .. } = self.incoming;
        self.incoming.is_open().then(|| (self.incoming.estate(), renegotiation_asked, warnings))
    }

    /// How many bytes are at least missing to what was begun, and belong to it: the rest of a record, of a record's header, or of
    /// a handshake message's next record. `None` between records.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        match self.joiner.record_len {
            Some(record_len) => Some(record_len - self.joiner.held),
            None if self.joiner.held > 0 || !self.incoming.partial.is_empty() => Some(HEADER - self.joiner.held),
            None => None,
        }
    }

    /// How many bytes the next record's header takes.
    pub(crate) const HEADER_LEN: usize = HEADER;

    /// Takes the next piece of the stream, from one byte up, opens the records that it completes and lends the plaintext of
    /// each to `sink`, in order. Records without application data (tickets, key updates, alerts) are dealt with here.
    ///
    /// Nothing waits for more than the record it belongs to, and what the span holds of the last, incomplete record is
    /// remembered: the span is free as soon as this returns. Nothing is allocated unless a ticket or a change of keys
    /// arrives.
    ///
    /// After `close_notify` ([`Opener::is_closed`]) the rest is counted and not looked at (RFC 8446 6.1).
    ///
    /// # Errors
    ///
    /// What the peer did wrong ([`Error::alert`] is what it is owed), or whatever `sink` returns. Either ends the
    /// connection: the rest of the span has not been looked at, so every later push is [`Error::AfterFailure`].
    #[inline]
    pub fn push<E: From<Error>>(
        &mut self,
        mut span: Span<'_>,
        sink: &mut impl FnMut(Opened<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { incoming, joiner } = self;
        let mut at = 0;
        while at < span.len() {
            if !incoming.is_open() {
                incoming.after_end(span.len() - at)?;
                return Ok(());
            }
            let rest = &span.bytes()[at..];
            if joiner.is_empty() {
                match incoming.whole_record(rest)? {
                    Some(len) => {
                        let mut record = span.lend(at..at + len);
                        at += len;
                        incoming.counters.records_in_place += 1;
                        if let Some(plaintext) = incoming.open(record.bytes_mut())? {
                            lend(incoming, record.lend(plaintext), false, sink)?;
                        }
                    }
                    None => {
                        at += joiner.fill(rest, incoming)?;
                    }
                }
            } else {
                at += joiner.fill(rest, incoming)?;
                if let Some(mut record) = joiner.take_whole() {
                    incoming.counters.records_joined += 1;
                    if let Some(plaintext) = incoming.open(record.bytes_mut())? {
                        lend(incoming, record.lend(plaintext), true, sink)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What it means that the TCP stream has ended here.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] unless the peer has said `close_notify`: anybody on the way can forge a FIN (RFC 8446 6.1).
    pub fn on_eof(&mut self) -> Result<(), Error> {
        if self.is_closed() {
            return Ok(());
        }
        self.incoming.counters.truncated += 1;
        Err(Error::Truncated)
    }

    /// Whether the peer has said `close_notify`: it will send nothing more, and it has cut nothing off.
    #[inline]
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.incoming.is_closed()
    }

    /// Records opened under the peer's present key.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.incoming.sequence()
    }

    /// Bytes of an incomplete record that wait for the rest of it.
    #[must_use]
    pub const fn bytes_waiting(&self) -> usize {
        self.joiner.held
    }

    /// What was counted so far.
    #[must_use]
    pub const fn counters(&self) -> &OpenerCounters {
        &self.incoming.counters
    }

    /// Whether the peer is owed an answer.
    #[inline]
    pub(super) const fn owes(&self) -> bool {
        self.incoming.update_owed || self.incoming.refusal_owed
    }

    pub(super) const fn take_update_owed(&mut self) -> bool {
        std::mem::replace(&mut self.incoming.update_owed, false)
    }

    pub(super) const fn take_refusal_owed(&mut self) -> bool {
        std::mem::replace(&mut self.incoming.refusal_owed, false)
    }

    /// For the test that nobody could wait for otherwise.
    #[cfg(test)]
    pub(super) const fn set_sequence(&mut self, sequence: u64) {
        self.incoming.set_sequence(sequence);
    }

    /// Where the join buffer lies, for the test that asks where a plaintext lies.
    #[cfg(test)]
    pub(super) fn join_buffer(&self) -> std::ops::Range<usize> {
        let range = self.joiner.buffer.as_ptr_range();
        range.start as usize..range.end as usize
    }
}

/// Lends one plaintext; a sink that refuses it has ended the connection.
#[inline]
fn lend<E>(
    incoming: &mut Incoming,
    plaintext: Span<'_>,
    joined: bool,
    sink: &mut impl FnMut(Opened<'_>) -> Result<(), E>,
) -> Result<(), E> {
    incoming.counters.bytes_opened += plaintext.len() as u64;
    sink(Opened { plaintext, joined }).inspect_err(|_| incoming.abandon())
}

/// The one buffer in which a record that spans pieces becomes whole.
#[derive(Debug)]
struct Joiner {
    /// Room for the longest record and a span's padding; allocated once.
    buffer: Box<[u8]>,
    /// Bytes of the record so far.
    held: usize,
    /// The length of the whole record, once its header is there.
    record_len: Option<usize>,
}

impl Joiner {
    fn new(record_len_max: usize) -> Self {
        Self { buffer: vec![0; record_len_max + Span::PAD].into_boxed_slice(), held: 0, record_len: None }
    }

    #[inline]
    const fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Copies from the front of `piece` what the record lacks, and says how much that was.
    fn fill(&mut self, piece: &[u8], incoming: &mut Incoming) -> Result<usize, Error> {
        let mut taken = 0;
        if self.record_len.is_none() {
            taken = self.copy(piece, HEADER);
            let Some(header) = wire::header(&self.buffer[..self.held]) else { return Ok(taken) };
            // Judged before its body arrives: an absurd length is an error now, not a connection that hangs.
            self.record_len = Some(HEADER + incoming.admit(header)?);
        }
        if let Some(record_len) = self.record_len {
            taken += self.copy(&piece[taken..], record_len);
        }
        incoming.counters.bytes_joined += taken as u64;
        Ok(taken)
    }

    /// Copies from `piece` until `end` bytes are held, or it is used up.
    fn copy(&mut self, piece: &[u8], end: usize) -> usize {
        let len = piece.len().min(end - self.held);
        self.buffer[self.held..self.held + len].copy_from_slice(&piece[..len]);
        self.held += len;
        len
    }

    /// The record, once it is whole; the joiner is empty then.
    fn take_whole(&mut self) -> Option<Span<'_>> {
        let record_len = self.record_len.filter(|&len| len == self.held)?;
        self.held = 0;
        self.record_len = None;
        Some(Span::new(&mut self.buffer, record_len))
    }
}

// The joiner is sized by the longest body its session's version allows; both must fit what a header can say.
const _: () = assert!(BODY_MAX_13 <= BODY_MAX_12 && BODY_MAX_12 <= u16::MAX as usize);
