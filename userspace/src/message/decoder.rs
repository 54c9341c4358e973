//! From plaintext to messages: the server's frames, found where they lie ("frame" in this file means a WebSocket
//! frame).
//!
//! In comes the connection's plaintext, in pieces of any size; out go messages, lent to a sink while they lie where
//! they arrived. Only a message that did not arrive in one run of bytes is copied, once, into a buffer that is reused
//! ([`Join`]). Nothing is allocated for a message that lies in one piece. All of RFC 6455's rules for what a server may
//! send are kept here and in [`First`]; what to do about a ping, a close or an error is the caller's business, and so
//! is sending.

use simdutf8::basic;

use super::close;
use super::error::Error;
use super::frame::{CONTROL_PAYLOAD_LEN_MAX, First, HEAD_LEN_MAX, Kind, Opcode};
use super::join::Join;
use crate::floor::counters::counters;
use crate::floor::{Limits, Span};

/// What the server said, on loan for the length of one call of the sink.
#[derive(Debug)]
pub enum Message<'a> {
    /// A text message. The bytes have been found to be UTF-8.
    Text(Payload<'a>),
    /// A binary message.
    Binary(Payload<'a>),
    /// A ping: to be answered with a pong that carries the same bytes (RFC 6455, section 5.5.2), at most 125.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The server ends the conversation: the last message that is delivered. To be answered with a close frame of the
    /// same code, if none was sent before (RFC 6455, section 5.5.1).
    Close {
        /// The server's close code, one that is allowed on the wire; [`CloseCode`](super::CloseCode) knows its name.
        code: Option<u16>,
        /// The server's words, at most 123 bytes; empty where there are none. Not made printable.
        reason: &'a str,
    },
}

/// The payload of a whole message.
#[derive(Debug)]
pub struct Payload<'a> {
    /// The bytes. They may be changed in place; what stands behind them must be given back as it was.
    pub span: Span<'a>,
    /// Whether the bytes were copied together, from fragments or pieces. If not, they lie where they arrived.
    pub joined: bool,
}

counters! {
    /// What a [`Decoder`] saw.
    pub struct MessageCounters {
        /// Text and binary messages lent where they arrived.
        messages_in_place,
        /// Text and binary messages that were copied together.
        messages_joined,
        /// Bytes copied to join messages.
        bytes_joined,
        /// Frames that carried a part of a fragmented message.
        fragments,
        /// Text messages delivered.
        text,
        /// Binary messages delivered.
        binary,
        /// Pings delivered.
        pings,
        /// Pongs delivered.
        pongs,
        /// Close frames delivered.
        closes,
        /// Pieces that ended inside the head of a frame.
        heads_split,
        /// Pieces that ended inside the payload of a frame, or right before it.
        payloads_split,
        /// Frames that began after the close frame and were dropped (RFC 6455, section 1.4).
        frames_after_close,
        /// Bytes that came after the close frame and were dropped.
        bytes_after_close,
        /// Errors of the server that ended the stream.
        violations,
        /// Messages that the sink refused, which ended the stream.
        refused_by_sink,
        /// Pieces that came after one of these ends and were not looked at (RFC 6455, section 7.1.7).
        pieces_after_end,
    }
}

/// Finds a server's messages in its stream of bytes.
#[derive(Debug)]
pub struct Decoder {
    /// The frame whose head is read and whose payload is not.
    open: Option<Open>,
    /// The text or binary message that is being joined, if any.
    join: Join,
    /// The head of a frame that was split over pieces.
    head: Held<HEAD_LEN_MAX>,
    /// The payload of a control frame that was split over pieces. Apart from `join`, because a control frame may stand
    /// between the fragments of a message.
    control: Held<CONTROL_PAYLOAD_LEN_MAX>,
    phase: Phase,
    message_bytes_max: usize,
    counters: MessageCounters,
}

/// How much of the stream still means something.
#[derive(Debug)]
enum Phase {
    /// All of it.
    Open,
    /// A close frame was delivered: what follows is dropped, but its frames are counted.
    Closed,
    /// As [`Phase::Closed`], but what follows is no longer a sequence of frames.
    ClosedAndLost,
    /// None of it, for this reason.
    Failed(Error),
}

/// A frame whose head has been read.
#[derive(Clone, Copy, Debug)]
struct Open {
    first: First,
    /// Bytes of payload.
    len: u64,
    /// Bytes of payload that have not been read.
    left: u64,
}

/// A few bytes kept from one piece to the next.
#[derive(Debug)]
struct Held<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Held<N> {
    const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    fn push(&mut self, more: &[u8]) -> &[u8] {
        self.bytes[self.len..self.len + more.len()].copy_from_slice(more);
        self.len += more.len();
        &self.bytes[..self.len]
    }
}

/// Why a piece was not read to its end.
enum Stop<E> {
    /// The server broke a rule.
    Violation(Error),
    /// The sink did not want the message.
    Sink(E),
}

impl<E> From<Error> for Stop<E> {
    fn from(error: Error) -> Self {
        Self::Violation(error)
    }
}

impl Decoder {
    /// A decoder at the beginning of a stream, which is the first byte after the head of the 101 answer.
    ///
    /// Of `limits` it reads `message_bytes_max`.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            open: None,
            join: Join::default(),
            head: Held::EMPTY,
            control: Held::EMPTY,
            phase: Phase::Open,
            message_bytes_max: limits.message_bytes_max,
            counters: MessageCounters::default(),
        }
    }

    /// What happened so far.
    #[must_use]
    pub const fn counters(&self) -> &MessageCounters {
        &self.counters
    }

    /// How many bytes are at least missing to what was begun, and belong to it: the rest of a frame's payload, or more of a head.
    /// `None` between messages.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        match &self.open {
            Some(frame) => Some(usize::try_from(frame.left).unwrap_or(usize::MAX).max(1)),
            None => (self.head.len != 0 || self.join.kind().is_some()).then_some(1),
        }
    }

    /// Whether the server's close frame has been delivered: no message will follow.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::ClosedAndLost)
    }

    /// Whether no message and no frame is under way: a stream that ends elsewhere was cut off.
    #[must_use]
    pub const fn is_between_messages(&self) -> bool {
        self.is_closed() || (self.open.is_none() && self.head.len == 0 && self.join.kind().is_none())
    }

    /// Reads the next piece of plaintext and lends each message that it completes to `sink`, in the server's order.
    ///
    /// A text or binary message whose payload lies whole in this piece, in one frame, is lent where it lies. The sink
    /// may change it in place.
    ///
    /// # Errors
    ///
    /// The sink's own; or an [`Error`] for the rule the server broke, after every message before the fault has been
    /// delivered. Text that can no longer become UTF-8, and a message that declares too many bytes, are refused before
    /// they are complete. After any error the rest of the stream means nothing: every further call fails, with the same
    /// error if it was the server's (RFC 6455, section 7.1.7), with [`Error::StoppedBySink`] if it was the sink's.
    #[inline]
    pub fn push<E: From<Error>>(
        &mut self,
        mut span: Span<'_>,
        sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Phase::Failed(error) = &self.phase {
            self.counters.pieces_after_end += 1;
            return Err(error.clone().into());
        }
        self.read(&mut span, sink).map_err(|stop| match stop {
            Stop::Violation(error) => {
                self.counters.violations += 1;
                self.phase = Phase::Failed(error.clone());
                error.into()
            }
            Stop::Sink(error) => {
                self.counters.refused_by_sink += 1;
                self.phase = Phase::Failed(Error::StoppedBySink);
                error
            }
        })
    }

    #[inline]
    fn read<E>(
        &mut self,
        span: &mut Span<'_>,
        sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let mut at = 0;
        loop {
            if self.is_closed() {
                self.drop_after_close(&span.bytes()[at..]);
                return Ok(());
            }
            let Some(mut frame) = self.next_frame(span.bytes(), &mut at)? else { return Ok(()) };
            let is_untouched = frame.left == frame.len;
            let start = at;
            at += frame.take(span.len() - at);
            let is_complete = frame.left == 0;
            let lies_whole = is_untouched && is_complete;
            match frame.first {
                // Nothing of the payload is here: it may yet come in one piece.
                _ if at == start && !is_complete => {}
                First { fin: true, opcode: Opcode::Text } if lies_whole => {
                    let payload = span.lend(start..at);
                    if basic::from_utf8(payload.bytes()).is_err() {
                        return Err(not_utf8(payload.bytes()).into());
                    }
                    self.deliver_in_place(Kind::Text, payload, sink)?;
                }
                First { fin: true, opcode: Opcode::Binary } if lies_whole => {
                    self.deliver_in_place(Kind::Binary, span.lend(start..at), sink)?;
                }
                First { opcode: Opcode::Close | Opcode::Ping | Opcode::Pong, .. } => {
                    self.read_control(frame, &span.bytes()[start..at], sink)?;
                }
                First { opcode: Opcode::Text | Opcode::Binary | Opcode::Continuation, .. } => {
                    self.read_part(frame, is_untouched, &span.bytes()[start..at], sink)?;
                }
            }
            if !is_complete {
                self.counters.payloads_split += 1;
                self.open = Some(frame);
                return Ok(());
            }
        }
    }

    /// The frame to go on with: the one that is open, or the one whose head stands at `at`, which moves behind it.
    /// `None` where the piece ends first.
    // Always inlined, as all that reads a head: left to the compiler it becomes a call whose result passes through
    // memory, and a text of 150 bytes takes 19 ns instead of 17 (of which 13 are the UTF-8 check).
    #[inline(always)]
    fn next_frame(&mut self, piece: &[u8], at: &mut usize) -> Result<Option<Open>, Error> {
        if self.open.is_some() || self.head.len != 0 {
            return self.resume_frame(piece, at);
        }
        let here = &piece[*at..];
        if let Some((frame, head_len)) = Open::parse(here, &self.join, self.limit())? {
            *at += head_len;
            return Ok(Some(frame));
        }
        if !here.is_empty() {
            self.counters.heads_split += 1;
            self.head.push(here);
        }
        *at = piece.len();
        Ok(None)
    }

    /// The frame of which an earlier piece held a part.
    #[cold]
    fn resume_frame(&mut self, piece: &[u8], at: &mut usize) -> Result<Option<Open>, Error> {
        if let Some(frame) = self.open.take() {
            return Ok(Some(frame));
        }
        let limit = self.limit();
        while let Some(byte) = piece.get(*at) {
            *at += 1;
            if let Some((frame, _)) = Open::parse(self.head.push(&[*byte]), &self.join, limit)? {
                self.head.len = 0;
                return Ok(Some(frame));
            }
        }
        self.counters.heads_split += 1;
        Ok(None)
    }

    /// The limit on a message; `None` after a close frame, when neither the sizes of messages nor their order mean
    /// anything any more.
    #[inline]
    fn limit(&self) -> Option<usize> {
        if self.is_closed() { None } else { Some(self.message_bytes_max) }
    }

    /// Lends a message where it arrived.
    #[inline]
    fn deliver_in_place<E>(
        &mut self,
        kind: Kind,
        span: Span<'_>,
        sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        self.counters.messages_in_place += 1;
        deliver(kind, Payload { span, joined: false }, &mut self.counters, sink)
    }

    /// Takes `part` of the payload of a fragment, or of a frame that no piece held whole.
    #[inline(never)]
    fn read_part<E>(
        &mut self,
        frame: Open,
        is_first_part: bool,
        part: &[u8],
        sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let First { fin, opcode } = frame.first;
        if is_first_part {
            if !fin || opcode == Opcode::Continuation {
                self.counters.fragments += 1;
            }
            match opcode {
                Opcode::Text => self.join.begin(Kind::Text),
                Opcode::Binary => self.join.begin(Kind::Binary),
                _ => {}
            }
        }
        self.counters.bytes_joined += part.len() as u64;
        self.join.append(part, self.message_bytes_max)?;
        let Some(kind) = self.join.kind().filter(|_| fin && frame.left == 0) else { return Ok(()) };
        let payload = Payload { span: self.join.whole()?, joined: true };
        self.counters.messages_joined += 1;
        deliver(kind, payload, &mut self.counters, sink)?;
        self.join.clear();
        Ok(())
    }

    /// Takes `part` of the payload of a control frame.
    #[cold]
    fn read_control<E>(
        &mut self,
        frame: Open,
        part: &[u8],
        sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), Stop<E>> {
        let payload = if part.len() as u64 == frame.len { part } else { self.control.push(part) };
        if frame.left != 0 {
            return Ok(());
        }
        let message = match frame.first.opcode {
            Opcode::Ping => {
                self.counters.pings += 1;
                Message::Ping(payload)
            }
            Opcode::Pong => {
                self.counters.pongs += 1;
                Message::Pong(payload)
            }
            _ => {
                let (code, reason) = close::parse(payload)?;
                self.counters.closes += 1;
                // What was begun will never be whole.
                self.join.clear();
                self.phase = Phase::Closed;
                Message::Close { code, reason }
            }
        };
        sink(message).map_err(Stop::Sink)?;
        self.control.len = 0;
        Ok(())
    }

    /// Drops what comes after the close frame (RFC 6455, section 1.4), and counts the frames as long as there are any
    /// to be recognised.
    #[cold]
    fn drop_after_close(&mut self, rest: &[u8]) {
        self.counters.bytes_after_close += rest.len() as u64;
        let mut at = 0;
        while !matches!(self.phase, Phase::ClosedAndLost) {
            let is_new = self.open.is_none();
            match self.next_frame(rest, &mut at) {
                Ok(Some(mut frame)) => {
                    self.counters.frames_after_close += u64::from(is_new);
                    at += frame.take(rest.len() - at);
                    if frame.left != 0 {
                        self.open = Some(frame);
                        return;
                    }
                }
                Ok(None) => return,
                Err(_) => self.phase = Phase::ClosedAndLost,
            }
        }
    }
}

impl Open {
    /// Reads the head of a frame, and answers its own length too; `None` where it goes on past these bytes.
    ///
    /// `join` is the message under way, if any; `limit` the bound on the whole of it, or `None` where no rule about
    /// messages holds any more.
    #[inline(always)]
    fn parse(head: &[u8], join: &Join, limit: Option<usize>) -> Result<Option<(Self, usize)>, Error> {
        let Some(&byte) = head.first() else { return Ok(None) };
        let first = First::parse(byte)?;
        if limit.is_some() {
            // Section 5.4: the fragments of one message must not be mixed with those of another.
            match (first.opcode, join.kind()) {
                (Opcode::Continuation, None) => return Err(Error::NothingToContinue),
                (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Error::MessageInsideMessage(first.opcode)),
                _ => {}
            }
        }
        let Some((len, head_len)) = first.parse_length(head)? else { return Ok(None) };
        if let Some(max) = limit
            && !first.opcode.is_control()
        {
            // Both terms are far below 2^64: a length has its top bit clear, and the buffer fits in memory.
            let whole = join.len() as u64 + len;
            if whole > max as u64 {
                return Err(Error::MessageTooBig { len: whole, max });
            }
        }
        Ok(Some((Self { first, len, left: len }, head_len)))
    }

    /// Takes what is left of the payload from a piece with `available` bytes left, and answers how many bytes that is.
    #[inline]
    fn take(&mut self, available: usize) -> usize {
        let here = self.left.min(available as u64);
        self.left -= here;
        // Loses nothing: it is no more than `available`.
        here as usize
    }
}

/// Lends a whole message to the sink.
#[inline]
fn deliver<E>(
    kind: Kind,
    payload: Payload<'_>,
    counters: &mut MessageCounters,
    sink: &mut impl FnMut(Message<'_>) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let message = match kind {
        Kind::Text => {
            counters.text += 1;
            Message::Text(payload)
        }
        Kind::Binary => {
            counters.binary += 1;
            Message::Binary(payload)
        }
    };
    sink(message).map_err(Stop::Sink)
}

/// Where a text stops being UTF-8. The quick check that found out does not know.
#[cold]
fn not_utf8(text: &[u8]) -> Error {
    Error::TextNotUtf8 { at: std::str::from_utf8(text).map_or_else(|fault| fault.valid_up_to(), str::len) }
}

#[cfg(test)]
mod tests;
