//! Why a WebSocket connection ends: close codes with their names (RFC 6455, section 7.4), and the body of a close frame.
//!
//! In comes the payload of a close frame; out go its code and reason, or the rule it breaks. The same rules, read the
//! other way, decide what a caller may send. Nothing here knows where the bytes came from. ("Frame" in this file means
//! a WebSocket frame.)

use std::fmt;

use super::error::Error;
use super::frame::CONTROL_PAYLOAD_LEN_MAX;

/// The longest reason in bytes of UTF-8: what two bytes of code leave of a control frame (RFC 6455, section 5.5).
pub(super) const REASON_LEN_MAX: usize = CONTROL_PAYLOAD_LEN_MAX - 2;

/// A close code. Shows itself with its name: `1001 going away`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// A server goes down, or a client leaves.
    pub const GOING_AWAY: Self = Self(1001);
    /// The other side broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// Text that is not UTF-8, and the like.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// A message too big to process.
    pub const TOO_BIG: Self = Self(1009);
    /// Something unexpected kept this side from going on.
    pub const INTERNAL_ERROR: Self = Self(1011);

    /// Whether a close frame may carry this code, in either direction (RFC 6455, sections 7.4.1 and 7.4.2).
    ///
    /// 1004 is reserved; 1005, 1006 and 1015 stand for the *absence* of a close frame and are never sent; 1012 to 1014
    /// were registered with IANA later; the rest up to 2999 has no meaning yet. 3000 to 4999 belong to libraries and
    /// applications.
    #[must_use]
    pub const fn is_allowed_on_the_wire(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// The code's name: that of IANA's WebSocket Close Code Number Registry, or of the range it lies in.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            1000 => "normal closure",
            1001 => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1005 => "no status received",
            1006 => "abnormal closure",
            1007 => "invalid payload data",
            1008 => "policy violation",
            1009 => "message too big",
            1010 => "mandatory extension missing",
            1011 => "internal error",
            1012 => "service restart",
            1013 => "try again later",
            1014 => "bad gateway",
            1015 => "TLS handshake failed",
            3000 => "unauthorized",
            3003 => "forbidden",
            3008 => "timeout",
            0..=999 => "not a close code",
            1004 | 1016..=2999 => "reserved",
            3001..=3999 => "registered use",
            4000..=4999 => "private use",
            5000.. => "not a close code",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

/// Reads the payload of a close frame (RFC 6455, section 5.5.1): empty, or a code and a reason in UTF-8.
pub(super) fn parse(payload: &[u8]) -> Result<(Option<u16>, &str), Error> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(Error::CloseTooShort) };
    };
    let code = CloseCode(u16::from_be_bytes(*code));
    if !code.is_allowed_on_the_wire() {
        return Err(Error::CloseCodeInvalid(code));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok((Some(code.0), reason)),
        Err(fault) => Err(Error::CloseReasonNotUtf8 { at: fault.valid_up_to() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_either_allowed_on_the_wire_or_not_as_the_rfc_and_iana_list_them() {
        let allowed: Vec<u16> = (0..=u16::MAX).filter(|&code| CloseCode(code).is_allowed_on_the_wire()).collect();
        let mut expected = vec![1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        expected.extend(3000..5000);
        assert_eq!(allowed, expected);
    }

    #[test]
    fn a_code_shows_its_name() {
        assert_eq!(CloseCode::GOING_AWAY.to_string(), "1001 going away");
        assert_eq!(CloseCode(1006).to_string(), "1006 abnormal closure");
        assert_eq!(CloseCode(2500).to_string(), "2500 reserved");
        assert_eq!(CloseCode(4001).to_string(), "4001 private use");
        assert_eq!(CloseCode(0).to_string(), "0 not a close code");
        assert_eq!(CloseCode(5000).to_string(), "5000 not a close code");
    }

    #[test]
    fn a_body_is_empty_or_a_code_and_a_reason() {
        assert_eq!(parse(b""), Ok((None, "")));
        assert_eq!(parse(&[0x03, 0xE8]), Ok((Some(1000), "")));
        assert_eq!(parse(b"\x03\xE9bye \xC2\xA3"), Ok((Some(1001), "bye \u{a3}")));
        assert_eq!(parse(&[0x03]), Err(Error::CloseTooShort));
        assert_eq!(parse(&[0x03, 0xED]), Err(Error::CloseCodeInvalid(CloseCode(1005))));
        assert_eq!(parse(b"\x03\xE8ok\xC2"), Err(Error::CloseReasonNotUtf8 { at: 2 }));
    }
}
