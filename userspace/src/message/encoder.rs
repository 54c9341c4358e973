//! Client frames, written into a buffer of the caller's ("frame" in this file means a WebSocket frame).
//!
//! In come a payload, a mask and room; out goes the frame's length. Every frame is masked (RFC 6455, section 5.1) and
//! whole (FIN is set: messages are not fragmented on the way out). No memory is allocated and nothing is kept: whose
//! connection it is, and where masks come from ([`MaskPool`](super::MaskPool)), is the caller's business.

use super::close::{CloseCode, REASON_LEN_MAX};
use super::error::Error;
use super::frame::{CONTROL_PAYLOAD_LEN_MAX, FIN, Kind, Opcode};
use super::mask::{self, MASK_LEN};

/// The mask bit, in the byte of the length.
const MASKED: u8 = 0x80;

/// Bytes of the longest control frame: room of this size is enough for any [`ping`], [`pong`] and [`close`](fn@close).
pub const CONTROL_FRAME_LEN_MAX: usize = frame_len(CONTROL_PAYLOAD_LEN_MAX);

/// Bytes of the client frame that carries `payload_len` bytes of payload.
#[must_use]
pub const fn frame_len(payload_len: usize) -> usize {
    head_len(payload_len) + payload_len
}

/// Bytes before the payload: two, the extended length in as few bytes as possible (RFC 6455, section 5.2), the mask.
const fn head_len(payload_len: usize) -> usize {
    let length = match payload_len {
        0..=125 => 0,
        126..=0xFFFF => 2,
        _ => 8,
    };
    2 + length + MASK_LEN
}

/// Writes `payload` as one message to the beginning of `out` and answers the frame's length,
/// [`frame_len`]`(payload.len())`.
///
/// `mask` must be fresh and unpredictable for each frame (RFC 6455, section 5.3). That a text is UTF-8 is the caller's
/// promise (section 5.6): it has usually been built from a `str`, and a second look would cost time on the way of an
/// order.
///
/// # Panics
///
/// Where `out` is shorter than the frame.
#[inline]
pub fn encode(kind: Kind, payload: &[u8], mask: [u8; MASK_LEN], out: &mut [u8]) -> usize {
    debug_assert!(kind == Kind::Binary || simdutf8::basic::from_utf8(payload).is_ok(), "a text that is not UTF-8");
    write(kind.into(), payload, mask, out)
}

/// Appends a text as a server sends it, which is not masked: for what pretends to come from one.
pub(crate) fn append_as_server(text: &[u8], out: &mut Vec<u8>) {
    out.push(FIN | Opcode::Text.bits());
    match text.len() {
        len @ 0..=125 => out.push(len as u8),
        len @ 126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

/// Writes a ping (RFC 6455, section 5.5.2) to the beginning of `out` and answers the frame's length.
///
/// # Errors
///
/// [`Error::ControlPayloadTooLong`] for more than 125 bytes.
///
/// # Panics
///
/// Where `out` is shorter than the frame; [`CONTROL_FRAME_LEN_MAX`] is always enough.
pub fn ping(payload: &[u8], mask: [u8; MASK_LEN], out: &mut [u8]) -> Result<usize, Error> {
    control(Opcode::Ping, payload, mask, out)
}

/// Writes a pong (RFC 6455, section 5.5.3: with the ping's own payload, if it answers one) to the beginning of `out`
/// and answers the frame's length.
///
/// # Errors
///
/// [`Error::ControlPayloadTooLong`] for more than 125 bytes.
///
/// # Panics
///
/// Where `out` is shorter than the frame; [`CONTROL_FRAME_LEN_MAX`] is always enough.
pub fn pong(payload: &[u8], mask: [u8; MASK_LEN], out: &mut [u8]) -> Result<usize, Error> {
    control(Opcode::Pong, payload, mask, out)
}

/// Writes a close frame (RFC 6455, section 5.5.1) to the beginning of `out` and answers the frame's length.
///
/// Without a code the frame is empty, and there can be no reason.
///
/// # Errors
///
/// [`Error::CloseCodeNotForSending`], [`Error::CloseReasonTooLong`] for more than 123 bytes of UTF-8,
/// [`Error::CloseReasonWithoutCode`].
///
/// # Panics
///
/// Where `out` is shorter than the frame; [`CONTROL_FRAME_LEN_MAX`] is always enough.
pub fn close(code: Option<u16>, reason: &str, mask: [u8; MASK_LEN], out: &mut [u8]) -> Result<usize, Error> {
    let Some(code) = code else {
        if !reason.is_empty() {
            return Err(Error::CloseReasonWithoutCode);
        }
        return control(Opcode::Close, &[], mask, out);
    };
    if !CloseCode(code).is_allowed_on_the_wire() {
        return Err(Error::CloseCodeNotForSending(CloseCode(code)));
    }
    if reason.len() > REASON_LEN_MAX {
        return Err(Error::CloseReasonTooLong { len: reason.len() });
    }
    let mut body = [0; CONTROL_PAYLOAD_LEN_MAX];
    let (code_field, reason_field) = body.split_at_mut(2);
    code_field.copy_from_slice(&code.to_be_bytes());
    reason_field[..reason.len()].copy_from_slice(reason.as_bytes());
    control(Opcode::Close, &body[..2 + reason.len()], mask, out)
}

fn control(opcode: Opcode, payload: &[u8], mask: [u8; MASK_LEN], out: &mut [u8]) -> Result<usize, Error> {
    if payload.len() > CONTROL_PAYLOAD_LEN_MAX {
        return Err(Error::ControlPayloadTooLong { opcode, len: payload.len() });
    }
    Ok(write(opcode, payload, mask, out))
}

#[inline]
fn write(opcode: Opcode, payload: &[u8], mask: [u8; MASK_LEN], out: &mut [u8]) -> usize {
    let head_len = head_len(payload.len());
    let frame_len = head_len + payload.len();
    assert!(out.len() >= frame_len, "a frame of {frame_len} bytes needs as much room, has {}", out.len());
    let (head, body) = out[..frame_len].split_at_mut(head_len);
    head[0] = FIN | opcode.bits();
    match payload.len() {
        // The casts lose nothing: each arm's range is that of its type.
        len @ 0..=125 => head[1] = MASKED | len as u8,
        len @ 126..=0xFFFF => {
            head[1] = MASKED | 126;
            head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            head[1] = MASKED | 127;
            head[2..10].copy_from_slice(&(len as u64).to_be_bytes());
        }
    }
    head[head_len - MASK_LEN..].copy_from_slice(&mask);
    mask::apply(payload, mask, body);
    frame_len
}

#[cfg(test)]
mod tests;
