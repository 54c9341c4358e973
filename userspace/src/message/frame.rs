//! The head of a WebSocket frame ("frame" in this file means nothing else): RFC 6455, section 5.2, as a server sends it.
//!
//! In come the first bytes of a frame, perhaps not all of them; out goes what they say, or the rule they break. Rules
//! that need to know what came before (continuations, sizes of whole messages) are the decoder's. Nothing is kept here.
//!
//! The bytes are judged in the order in which they arrive: a head with two faults is refused for the same one however
//! it was split.

use std::fmt;

use super::error::Error;

/// Bytes of the longest head a server may send: two, and a 64-bit length. (A client's has a mask of 4 more.)
pub(crate) const HEAD_LEN_MAX: usize = 10;

/// The most payload a control frame may carry (RFC 6455, section 5.5).
pub(super) const CONTROL_PAYLOAD_LEN_MAX: usize = 125;

/// FIN: this frame is its message's last.
pub(super) const FIN: u8 = 0x80;

/// What a message carries (RFC 6455, section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8 text.
    Text,
    /// Bytes whose meaning is the application's.
    Binary,
}

/// What a frame is (RFC 6455, section 11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// 0x0: goes on with the message that is under way.
    Continuation,
    /// 0x1: begins a text message.
    Text,
    /// 0x2: begins a binary message.
    Binary,
    /// 0x8: ends the conversation.
    Close,
    /// 0x9: asks for a pong.
    Ping,
    /// 0xA: answers a ping.
    Pong,
}

impl Opcode {
    /// The four bits that stand for it in a frame's first byte.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Close, Ping and Pong (RFC 6455, section 5.5): short, never fragmented, allowed between fragments.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl From<Kind> for Opcode {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Binary => Self::Binary,
        }
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Continuation => "continuation",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Close => "close",
            Self::Ping => "ping",
            Self::Pong => "pong",
        })
    }
}

/// What the first byte of a frame says.
#[derive(Clone, Copy, Debug)]
pub(super) struct First {
    pub(super) fin: bool,
    pub(super) opcode: Opcode,
}

// Always inlined: see `Decoder::next_frame`.
impl First {
    /// Reads a frame's first byte: FIN, three reserved bits, the opcode.
    #[inline(always)]
    pub(super) fn parse(byte: u8) -> Result<Self, Error> {
        // No extension is ever negotiated, so nothing may give these bits a meaning.
        if byte & 0x70 != 0 {
            return Err(Error::ReservedBits(byte));
        }
        let opcode = match byte & 0x0F {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xA => Opcode::Pong,
            reserved => return Err(Error::ReservedOpcode(reserved)),
        };
        let fin = byte & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(Error::FragmentedControl(opcode));
        }
        Ok(Self { fin, opcode })
    }

    /// Reads what follows the first byte of `head`: the mask bit and the length of the payload.
    ///
    /// Answers the payload's length and the head's own, or `None` where the head goes on past these bytes.
    #[inline(always)]
    pub(super) fn parse_length(self, head: &[u8]) -> Result<Option<(u64, usize)>, Error> {
        let Some(&second) = head.get(1) else { return Ok(None) };
        if second & 0x80 != 0 {
            return Err(Error::Masked);
        }
        if self.opcode.is_control() && usize::from(second) > CONTROL_PAYLOAD_LEN_MAX {
            return Err(Error::ControlTooLong(self.opcode));
        }
        match second {
            126 => {
                let Some(field) = head.get(2..).and_then(<[u8]>::first_chunk::<2>) else { return Ok(None) };
                let len = u64::from(u16::from_be_bytes(*field));
                if len < 126 {
                    return Err(Error::LengthNotMinimal(len));
                }
                Ok(Some((len, 4)))
            }
            127 => {
                let Some(field) = head.get(2..).and_then(<[u8]>::first_chunk::<8>) else { return Ok(None) };
                let len = u64::from_be_bytes(*field);
                if len >> 63 != 0 {
                    return Err(Error::LengthTopBit(len));
                }
                if len <= u64::from(u16::MAX) {
                    return Err(Error::LengthNotMinimal(len));
                }
                Ok(Some((len, HEAD_LEN_MAX)))
            }
            len => Ok(Some((u64::from(len), 2))),
        }
    }
}
