//! What can go wrong in the message stage, whose fault it is, and what the server is told.
//!
//! Every message begins with the culprit. Texts that came from the server have been made printable and short before
//! they got here; values of the caller's own headers never get here, because they may be secrets. ("Frame" in this file
//! means a WebSocket frame.)

use std::fmt;

use thiserror::Error as ThisError;

use super::close::{CloseCode, REASON_LEN_MAX};
use super::frame::{CONTROL_PAYLOAD_LEN_MAX, Opcode};

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// The code or the settings on our side.
    Caller,
    /// The server broke HTTP or the WebSocket protocol.
    Server,
    /// The server speaks HTTP well, but does not want to speak WebSocket with us here and now.
    Venue,
    /// The machine: no random numbers.
    System,
}

/// An answer other than 101 and a redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The reason phrase; empty where there is none.
    pub reason: String,
    /// `Retry-After`: seconds or an HTTP date, as the server wrote it (RFC 9110, section 10.2.3).
    pub retry_after: Option<String>,
    /// The beginning of the body, as much as had arrived with the head; unprintable bytes shown as dots.
    pub body: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.reason.is_empty() {
            write!(f, " {}", self.reason)?;
        }
        if let Some(when) = &self.retry_after {
            write!(f, ", Retry-After: {when}")?;
        }
        if !self.body.is_empty() {
            write!(f, "; it says: {}", self.body)?;
        }
        Ok(())
    }
}

/// A 3xx answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The HTTP status.
    pub status: u16,
    /// `Location`; empty where there is none.
    pub location: String,
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, redirects are not followed: ", self.status)?;
        if self.location.is_empty() { write!(f, "and it names no address") } else { write!(f, "use {}", self.location) }
    }
}

/// A failure of the message stage.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum Error {
    /// The host cannot stand in a `Host` header (RFC 9110, section 7.2).
    #[error("caller: host {host:?} {why}")]
    BadHost {
        /// What was given, made printable.
        host: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The path cannot stand in a request line (RFC 9112, section 3.2.1; RFC 6455, section 3 on fragments).
    #[error("caller: request path {why}")]
    BadPath {
        /// What is wrong with it. (The path itself may hold a token and is not repeated.)
        why: &'static str,
    },
    /// A header that the caller wants to send is malformed, or not the caller's to set (RFC 9110, section 5; RFC 6455,
    /// section 4.1).
    #[error("caller: header {name:?} {why}")]
    BadHeader {
        /// The header's name, made printable. (Its value may be a secret and is not repeated.)
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A ping or pong whose payload does not fit in a control frame (RFC 6455, section 5.5).
    #[error("caller: a {opcode} of {len} bytes; a control frame carries at most {CONTROL_PAYLOAD_LEN_MAX}")]
    ControlPayloadTooLong {
        /// Ping or pong.
        opcode: Opcode,
        /// Bytes of payload asked for.
        len: usize,
    },
    /// A close reason that does not fit in a control frame behind the code (RFC 6455, section 5.5).
    #[error("caller: a close reason of {len} bytes; at most {REASON_LEN_MAX} fit")]
    CloseReasonTooLong {
        /// Bytes of reason asked for.
        len: usize,
    },
    /// A close reason without a code has no place in a close frame (RFC 6455, section 5.5.1).
    #[error("caller: a close reason needs a close code")]
    CloseReasonWithoutCode,
    /// A close code that must not be sent (RFC 6455, section 7.4).
    #[error("caller: close code {0} must not be sent")]
    CloseCodeNotForSending(CloseCode),
    /// The sink refused a message, so the rest of that piece was never read; more bytes cannot be put in place.
    #[error("caller: more bytes after its own sink had stopped the decoder")]
    StoppedBySink,

    /// The system's random generator failed; a predictable mask must not be sent (RFC 6455, section 10.3).
    #[error("system: no random numbers for masks")]
    Randomness,

    /// What came back is not HTTP at all.
    #[error("server: the answer is not HTTP, it begins: {beginning}")]
    NotHttp {
        /// What had arrived, made printable.
        beginning: String,
    },
    /// The head of the answer does not end (`Limits::http_head_bytes_max`).
    #[error("server: the head of its HTTP answer is longer than {max} bytes")]
    HeadTooLong {
        /// The limit in bytes.
        max: usize,
    },
    /// The head of the answer breaks RFC 9112.
    #[error("server: malformed HTTP answer: {what}")]
    HeadMalformed {
        /// The parser's complaint.
        what: String,
    },
    /// Upgrades exist in HTTP/1.1 only (RFC 6455, section 4.2.2, item 5.1; RFC 9110, section 7.8).
    #[error("server: it answers in {version}, an upgrade needs HTTP/1.1")]
    HttpVersion {
        /// The version it names.
        version: String,
    },
    /// A 3xx answer. RFC 6455, section 4.1 (on the server's response) leaves following to the client; a feed should
    /// know its address.
    #[error("venue: it redirects with {0}")]
    Redirected(Box<Redirect>),
    /// Any other answer than 101 (RFC 6455, section 4.1, on the server's response, item 1).
    #[error("venue: it refuses the WebSocket upgrade with {0}")]
    Refused(Box<Refusal>),
    /// No single `Upgrade: websocket` (RFC 6455, section 4.1, item 2 of the answer's checks).
    #[error("server: a 101 without exactly one `Upgrade: websocket`")]
    NoUpgradeHeader,
    /// `Connection` does not name `upgrade` (item 3).
    #[error("server: a 101 whose `Connection` does not say `Upgrade`")]
    NoConnectionHeader,
    /// No `Sec-WebSocket-Accept` (item 4).
    #[error("server: a 101 without `Sec-WebSocket-Accept`")]
    AcceptMissing,
    /// More than one `Sec-WebSocket-Accept` (RFC 6455, section 11.3.3).
    #[error("server: a 101 with more than one `Sec-WebSocket-Accept`")]
    AcceptRepeated,
    /// `Sec-WebSocket-Accept` does not belong to our key: an answer to somebody else, or from a cache (item 4).
    #[error("server: a 101 whose `Sec-WebSocket-Accept` does not answer our key")]
    AcceptWrong,
    /// An extension although none was offered (item 5).
    #[error("server: a 101 with an extension we did not offer: {0}")]
    ExtensionNotOffered(String),
    /// A subprotocol that was not offered, or more than one (item 6).
    #[error("server: a 101 with a subprotocol we did not offer: {0}")]
    SubprotocolNotOffered(String),

    /// A reserved bit is set although no extension was negotiated (RFC 6455, section 5.2, RSV1 to RSV3).
    #[error("server: a WebSocket frame with reserved bits set (first byte {0:#04x})")]
    ReservedBits(u8),
    /// An opcode without a meaning (RFC 6455, section 5.2, opcode).
    #[error("server: a WebSocket frame with reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A control frame without FIN (RFC 6455, section 5.4: control frames must not be fragmented).
    #[error("server: a fragmented {0} frame")]
    FragmentedControl(Opcode),
    /// A control frame with more than 125 bytes of payload (RFC 6455, section 5.5).
    #[error("server: a {0} frame with more than {CONTROL_PAYLOAD_LEN_MAX} bytes of payload")]
    ControlTooLong(Opcode),
    /// A continuation although no message is under way (RFC 6455, section 5.4).
    #[error("server: a continuation frame that continues nothing")]
    NothingToContinue,
    /// A text or binary frame although a fragmented message is under way (RFC 6455, section 5.4).
    #[error("server: a {0} frame inside a fragmented message")]
    MessageInsideMessage(Opcode),
    /// A masked frame (RFC 6455, section 5.1: a server must not mask).
    #[error("server: a masked WebSocket frame")]
    Masked,
    /// A length written with more bytes than it needs (RFC 6455, section 5.2: the minimal number must be used).
    #[error("server: a payload length of {0} written in more bytes than it needs")]
    LengthNotMinimal(u64),
    /// A 64-bit length whose most significant bit is set (RFC 6455, section 5.2).
    #[error("server: a payload length of {0:#x}, whose top bit must be 0")]
    LengthTopBit(u64),
    /// A message over the limit, judged by its declared length before any memory is taken (RFC 6455, section 10.4).
    #[error("server: a message of {len} bytes or more; the limit is {max} (--max-message-bytes)")]
    MessageTooBig {
        /// Bytes that the message has at least: those of all its fragments so far, as declared.
        len: u64,
        /// The limit in bytes (`Limits::message_bytes_max`).
        max: usize,
    },
    /// A text message that is not UTF-8 (RFC 6455, sections 5.6 and 8.1).
    #[error("server: a text message that is not UTF-8 from byte {at} on")]
    TextNotUtf8 {
        /// Bytes of the message before the fault.
        at: usize,
    },
    /// A close frame with one byte of payload, where a code takes two (RFC 6455, section 5.5.1).
    #[error("server: a close frame with half a code")]
    CloseTooShort,
    /// A close code that must not be sent (RFC 6455, section 7.4).
    #[error("server: a close frame with code {0}, which must not be sent")]
    CloseCodeInvalid(CloseCode),
    /// A close reason that is not UTF-8 (RFC 6455, sections 5.5.1 and 8.1).
    #[error("server: a close reason that is not UTF-8 from byte {at} on")]
    CloseReasonNotUtf8 {
        /// Bytes of the reason before the fault.
        at: usize,
    },
}

impl Error {
    /// What the close frame must say that we send because of this error (RFC 6455, section 7.4.1): 1002 protocol error,
    /// 1007 not UTF-8, 1009 too big, 1011 for our own faults.
    ///
    /// An [`Upgrade`](super::Upgrade) that failed has no WebSocket connection: nothing is sent, TCP is just closed
    /// (section 7.1.7), and the 1002 given here is for reports only.
    #[must_use]
    pub const fn close_code(&self) -> u16 {
        match self {
            Self::TextNotUtf8 { .. } | Self::CloseReasonNotUtf8 { .. } => CloseCode::INVALID_PAYLOAD.0,
            Self::MessageTooBig { .. } => CloseCode::TOO_BIG.0,
            _ => match self.culprit() {
                Culprit::Server | Culprit::Venue => CloseCode::PROTOCOL_ERROR.0,
                Culprit::Caller | Culprit::System => CloseCode::INTERNAL_ERROR.0,
            },
        }
    }

    /// Whose fault it is; the first word of the message says the same.
    #[must_use]
    pub const fn culprit(&self) -> Culprit {
        match self {
            Self::BadHost { .. }
            | Self::BadPath { .. }
            | Self::BadHeader { .. }
            | Self::ControlPayloadTooLong { .. }
            | Self::CloseReasonTooLong { .. }
            | Self::CloseReasonWithoutCode
            | Self::CloseCodeNotForSending(_)
            | Self::StoppedBySink => Culprit::Caller,
            Self::Randomness => Culprit::System,
            Self::Redirected(_) | Self::Refused(_) => Culprit::Venue,
            Self::NotHttp { .. }
            | Self::HeadTooLong { .. }
            | Self::HeadMalformed { .. }
            | Self::HttpVersion { .. }
            | Self::NoUpgradeHeader
            | Self::NoConnectionHeader
            | Self::AcceptMissing
            | Self::AcceptRepeated
            | Self::AcceptWrong
            | Self::ExtensionNotOffered(_)
            | Self::SubprotocolNotOffered(_)
            | Self::ReservedBits(_)
            | Self::ReservedOpcode(_)
            | Self::FragmentedControl(_)
            | Self::ControlTooLong(_)
            | Self::NothingToContinue
            | Self::MessageInsideMessage(_)
            | Self::Masked
            | Self::LengthNotMinimal(_)
            | Self::LengthTopBit(_)
            | Self::MessageTooBig { .. }
            | Self::TextNotUtf8 { .. }
            | Self::CloseTooShort
            | Self::CloseCodeInvalid(_)
            | Self::CloseReasonNotUtf8 { .. } => Culprit::Server,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each culprit and of each close code.
    fn samples() -> [(Error, Culprit, u16); 7] {
        [
            (Error::CloseReasonWithoutCode, Culprit::Caller, 1011),
            (Error::Randomness, Culprit::System, 1011),
            (Error::Masked, Culprit::Server, 1002),
            (Error::TextNotUtf8 { at: 3 }, Culprit::Server, 1007),
            (Error::CloseReasonNotUtf8 { at: 0 }, Culprit::Server, 1007),
            (Error::MessageTooBig { len: 70_000, max: 65_536 }, Culprit::Server, 1009),
            (
                Error::Redirected(Box::new(Redirect { status: 301, location: "wss://b.example/".into() })),
                Culprit::Venue,
                1002,
            ),
        ]
    }

    #[test]
    fn the_first_word_of_a_message_is_the_culprit() {
        for (error, culprit, code) in samples() {
            let text = error.to_string();
            let first = text.split(':').next().unwrap();
            assert_eq!(first, format!("{culprit:?}").to_lowercase(), "{text}");
            assert_eq!(error.culprit(), culprit, "{text}");
            assert_eq!(error.close_code(), code, "{text}");
        }
    }

    #[test]
    fn a_message_over_the_limit_names_the_limit_and_the_setting() {
        let text = Error::MessageTooBig { len: 70_000, max: 65_536 }.to_string();
        assert_eq!(text, "server: a message of 70000 bytes or more; the limit is 65536 (--max-message-bytes)");
    }

    #[test]
    fn a_refusal_says_what_the_server_said_and_when_to_come_back() {
        let refusal = Refusal {
            status: 429,
            reason: "Too Many Requests".into(),
            retry_after: Some("7".into()),
            body: "slow down".into(),
        };
        assert_eq!(
            Error::Refused(Box::new(refusal)).to_string(),
            "venue: it refuses the WebSocket upgrade with 429 Too Many Requests, Retry-After: 7; it says: slow down"
        );
    }

    #[test]
    fn an_error_is_small_enough_to_be_returned_for_every_message() {
        assert!(size_of::<Error>() <= 48, "{}", size_of::<Error>());
    }
}
