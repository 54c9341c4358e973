//! The TLS handshake, driven by the caller: bytes from TCP in, bytes for TCP out, until both sides have keys.
//!
//! What comes in: pieces of the TCP stream. What goes out: the handshake's own records, appended to the caller's outgoing
//! bytes, and in the end a [`Session`] together with the bytes that came after the handshake. rustls does the protocol;
//! this file decides how much rustls gets to see.
//!
//! It gets whole records, one at a time, and none after the one that completes the handshake. Whatever rustls opened
//! beyond it (the first prices often ride in the same segment as the server's Finished) would be counted in its sequence
//! number, copied into its buffers and, for a ticket, answered by its state: all things that the session's own opener
//! does from that record on.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::ServerName;

use super::session::{Facts, Version};
use super::traffic::Scribe;
use super::wire::{self, ALERT, BODY_MAX_12, CHANGE_CIPHER_SPEC, HANDSHAKE, HEADER, HEARTBEAT};
use super::{Client, Error, Session};
use crate::floor::Limits;

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The peer has to say more.
    Partial,
    /// Both sides have keys: send what is in `out` and call [`Handshake::finish`].
    Complete,
}

/// Where the handshake stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Complete,
    Failed,
}

/// What stands at the front of the bytes that wait.
enum Next {
    /// Less than a record.
    Partial,
    /// A record of this length, its header included.
    Record(usize),
    /// A header that is none.
    Nonsense,
}

/// A TLS handshake under way.
pub struct Handshake {
    rustls: UnbufferedClientConnection,
    /// Has the secrets that rustls does not hand over.
    scribe: Arc<Scribe>,
    /// Whole records that rustls has seen and not yet let go of: fragments of a message that is not complete.
    given: Vec<u8>,
    /// Bytes that rustls has not seen: the beginning of a record, and once the handshake is complete, all that follows.
    waiting: Vec<u8>,
    /// Bytes that rustls has seen.
    bytes_given: usize,
    bytes_max: usize,
    host: String,
    state: State,
}

impl Handshake {
    /// A handshake with the server called `host`: the name in the URL, which its certificate has to bear.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where the system has no random numbers.
    pub fn new(client: &Client, host: ServerName<'static>, limits: &Limits) -> Result<Self, Error> {
        let name = host.to_str().into_owned();
        let (config, scribe) = client.config();
        let rustls = UnbufferedClientConnection::new(config, host).map_err(|error| Error::handshake(error, &name))?;
        Ok(Self {
            rustls,
            scribe,
            given: Vec::new(),
            waiting: Vec::new(),
            bytes_given: 0,
            bytes_max: limits.handshake_bytes_max,
            host: name,
            state: State::Running,
        })
    }

    /// Appends the first flight, the `ClientHello`, to `out`.
    ///
    /// # Errors
    ///
    /// None that depends on the peer; [`Error::AfterFailure`] after a push that failed.
    pub fn start(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.push(&[], out).map(|_| ())
    }

    /// Takes the next piece of the stream, of any size, and appends to `out` whatever the handshake has to say to that.
    /// Bytes that come after the handshake is complete are kept for [`Handshake::finish`].
    ///
    /// # Errors
    ///
    /// Whatever ends the handshake; `out` then holds the alert that tells the peer, to be sent before closing (rustls has one
    /// for nearly every refusal, and offers no way to send one of our own). Every call after that is
    /// [`Error::AfterFailure`].
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Progress, Error> {
        match self.state {
            State::Running => {}
            State::Complete => {
                self.waiting.extend_from_slice(bytes);
                return Ok(Progress::Complete);
            }
            State::Failed => return Err(Error::AfterFailure),
        }
        self.waiting.extend_from_slice(bytes);
        let pushed = self.advance(out);
        if pushed.is_err() {
            self.state = State::Failed;
        }
        pushed
    }

    /// What it means that the TCP stream has ended here.
    ///
    /// # Errors
    ///
    /// [`Error::ClosedInHandshake`], or [`Error::Truncated`] where the handshake was complete already.
    pub const fn on_eof(&self) -> Result<(), Error> {
        match self.state {
            State::Running | State::Failed => Err(Error::ClosedInHandshake),
            State::Complete => Err(Error::Truncated),
        }
    }

    /// Whether [`Handshake::finish`] will give a session.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Complete)
    }

    /// The session, and the bytes that arrived after the handshake. Those belong to the session's opener, from their
    /// first byte: push them through it (with padding behind them, as for every span) before anything that arrives later.
    ///
    /// # Errors
    ///
    /// [`Error::HandshakeUnfinished`] before [`Progress::Complete`], [`Error::AfterFailure`] after a failure.
    pub fn finish(self) -> Result<(Session, Vec<u8>), Error> {
        match self.state {
            State::Running => return Err(Error::HandshakeUnfinished),
            State::Failed => return Err(Error::AfterFailure),
            State::Complete => {}
        }
        let facts = self.facts()?;
        let (secrets, kernel) = self.rustls.dangerous_into_kernel_connection().map_err(Error::internal)?;
        Ok((Session::new(&secrets, self.scribe.take(), kernel, facts)?, self.waiting))
    }

    fn facts(&self) -> Result<Facts, Error> {
        let version = match self.rustls.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => Version::Tls13,
            Some(ProtocolVersion::TLSv1_2) => Version::Tls12,
            _ => return Err(Error::internal("a version was negotiated that nobody offered")),
        };
        let suite = self.rustls.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str());
        Ok(Facts {
            version,
            suite: suite.unwrap_or("unknown"),
            resumed: self.rustls.handshake_kind() == Some(HandshakeKind::Resumed),
            http11_confirmed: self.rustls.alpn_protocol() == Some(b"http/1.1"),
            handshake_bytes: self.bytes_given,
        })
    }

    /// Gives rustls record after record, until it needs one that is not whole yet or the handshake is complete.
    fn advance(&mut self, out: &mut Vec<u8>) -> Result<Progress, Error> {
        let mut at = 0;
        let advanced = loop {
            match self.drive(out) {
                Ok(Progress::Partial) => {}
                done_or_failed => break done_or_failed,
            }
            match self.next(at) {
                Ok(Next::Partial) => break Ok(Progress::Partial),
                Ok(Next::Record(len)) => {
                    self.give(at, len);
                    at += len;
                }
                Ok(Next::Nonsense) => {
                    self.give(at, HEADER);
                    let refused = self.drive(out).err();
                    break Err(
                        refused.unwrap_or_else(|| self.refusal("a record header that makes no sense".to_owned()))
                    );
                }
                Err(error) => break Err(error),
            }
        };
        self.waiting.drain(..at);
        advanced
    }

    fn give(&mut self, at: usize, len: usize) {
        self.given.extend_from_slice(&self.waiting[at..at + len]);
        self.bytes_given += len;
    }

    /// What rustls shall see next, from `waiting[at..]`.
    fn next(&self, at: usize) -> Result<Next, Error> {
        let waiting = &self.waiting[at..];
        let Some(header) = wire::header(waiting) else { return Ok(Next::Partial) };
        let body_len = wire::body_len(header);
        // There is no point in waiting for a body that will never come, so rustls gets to see the header alone: it
        // refuses these before it looks at the body, and its refusal comes with an alert for the peer.
        if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&header[0]) || header[1] != 3 || body_len >= BODY_MAX_12 {
            return Ok(Next::Nonsense);
        }
        // Checked on what the header announces: a peer that announces too much need not send it first.
        if self.bytes_given + HEADER + body_len > self.bytes_max {
            return Err(Error::HandshakeTooLong { bytes_max: self.bytes_max });
        }
        if waiting.len() < HEADER + body_len { Ok(Next::Partial) } else { Ok(Next::Record(HEADER + body_len)) }
    }

    /// Lets rustls work on the records it has been given, and say what it has to say.
    fn drive(&mut self, out: &mut Vec<u8>) -> Result<Progress, Error> {
        loop {
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(&mut self.given);
            let done = match state {
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, out)?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    None
                }
                Ok(ConnectionState::BlockedHandshake) => Some(Progress::Partial),
                Ok(ConnectionState::WriteTraffic(_)) => Some(Progress::Complete),
                // Nothing of the peer's can be here before the handshake is complete, and then this loop ends.
                Ok(state) => return Err(Error::internal(format_args!("rustls is in {state:?} during a handshake"))),
                Err(error) => return Err(self.failed(error, out)),
            };
            self.given.drain(..discard);
            match done {
                Some(Progress::Complete) => return self.complete(),
                Some(Progress::Partial) => return Ok(Progress::Partial),
                None => {}
            }
        }
    }

    /// The record just given completes the handshake.
    fn complete(&mut self) -> Result<Progress, Error> {
        // Nothing is left inside rustls that would be lost with it. It can hold back two kinds of bytes. Records it has not
        // come to: there are none, the one that completed the handshake was the last it got. And handshake messages that
        // stand behind Finished in the same record, whole or begun: those it refuses itself, because keys change at
        // Finished and a message may not span a change of keys (RFC 8446 5.1; `check_aligned_handshake` before
        // `start_traffic`, in TLS 1.2 too). Both would show as bytes it has not discarded. It has not opened any
        // application data either, so its two sequence numbers are those of the session's first records.
        if !self.given.is_empty() {
            return Err(Error::unexpected("a handshake message behind Finished in the same record"));
        }
        self.state = State::Complete;
        Ok(Progress::Complete)
    }

    /// What rustls has refused, after its alert has been put in `out`.
    fn failed(&mut self, error: rustls::Error, out: &mut Vec<u8>) -> Error {
        // rustls has queued the alert behind what it had to say before. It hands out what is queued before it looks at any
        // input, and it must not look: the input has failed once already.
        while self.rustls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(data)) = self.rustls.process_tls_records(&mut []).state else {
                break;
            };
            if let Err(error) = encode(data, out) {
                return error;
            }
        }
        match error {
            rustls::Error::InvalidMessage(_) => self.refusal(error.to_string()),
            error => Error::handshake(error, &self.host),
        }
    }

    /// The error for bytes that cannot be read.
    fn refusal(&self, what: String) -> Error {
        // A server opens with a handshake record or an alert. Anything else at the very beginning is another protocol,
        // and its first line says more than "received corrupt message". (`waiting` keeps the first bytes until `advance`
        // returns; only a header has been given when the first record has none that makes sense.)
        let first = self.bytes_given <= HEADER;
        if first && !matches!(self.waiting[..], [HANDSHAKE | ALERT, 3, ..]) {
            return Error::NotTls { seen: quote(&self.waiting) };
        }
        Error::HandshakeBroken { what }
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake")
            .field("host", &self.host)
            .field("state", &self.state)
            .field("bytes_given", &self.bytes_given)
            .finish_non_exhaustive()
    }
}

/// Appends one of rustls' records to `out`.
fn encode<Data>(mut data: EncodeTlsData<'_, Data>, out: &mut Vec<u8>) -> Result<(), Error> {
    // It says how long the record is only by refusing a buffer that is too short.
    let len = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Ok(_) => return Ok(()),
        Err(error) => return Err(Error::internal(error)),
    };
    let at = out.len();
    out.resize(at + len, 0);
    data.encode(&mut out[at..]).map_err(Error::internal)?;
    Ok(())
}

/// The first line of an answer where it is text, its first bytes where it is not.
fn quote(bytes: &[u8]) -> String {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(bytes);
    let line = &line[..line.len().min(64)];
    match str::from_utf8(line) {
        Ok(text) if !text.is_empty() && !text.contains(char::is_control) => format!("{text:?}"),
        _ => {
            let shown: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("with the bytes {}", shown.join(" "))
        }
    }
}
