//! The time at which a message was sent, written into the message itself.
//!
//! `{"e":"trade"}` becomes `{"e":"trade","n":8123456789012      }`: the last field of the outermost object, its digits at
//! the left of a field 19 bytes wide. The width is fixed, so the number can be patched into a frame that was encoded long
//! before; a JSON number has no leading zeros, so what is left over is blank, which JSON allows there.

use super::digits::Digits;

/// Bytes a stamp takes. 19 digits hold 292 years of nanoseconds; with 13, a machine that has been up for three hours would
/// need one more.
pub const STAMP_BYTES: usize = 19;

/// A field name, ready to be put before a stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StampField {
    /// `"n":`
    name: Vec<u8>,
}

impl StampField {
    /// A field of that name.
    pub(super) fn new(name: &str) -> Result<Self, &'static str> {
        if name.is_empty() {
            return Err("a stamp field needs a name");
        }
        if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
            return Err("the name of a stamp field is made of ASCII letters, digits and marks, without \" and \\");
        }
        Ok(Self { name: format!("\"{name}\":").into_bytes() })
    }

    /// Adds the field to the JSON object that ends where `out` ends and began at `start`. Answers where the digits go.
    pub(super) fn append(&self, out: &mut Vec<u8>, start: usize) -> Result<usize, &'static str> {
        let object = out[start..].trim_ascii();
        if object.first() != Some(&b'{') || object.last() != Some(&b'}') || object.len() < 2 {
            return Err("not a JSON object: there is nowhere to put a stamp");
        }
        let is_empty = object[1..object.len() - 1].trim_ascii().is_empty();
        // What follows the brace stays behind it: the message is byte-exact but for the field.
        let after_brace = out[start..].trim_ascii_end().len() + start;
        let tail = out.split_off(after_brace);
        out.pop();
        if !is_empty {
            out.push(b',');
        }
        out.extend_from_slice(&self.name);
        let digits = out.len();
        out.extend_from_slice(&[b' '; STAMP_BYTES]);
        out.push(b'}');
        out.extend_from_slice(&tail);
        Ok(digits)
    }
}

/// What stands in a stamp's bytes when it was sent at `ns`.
pub(super) fn stamp(ns: u64) -> [u8; STAMP_BYTES] {
    let digits = Digits::new(ns.min(STAMP_MAX));
    let mut stamp = [b' '; STAMP_BYTES];
    stamp[..digits.bytes().len()].copy_from_slice(digits.bytes());
    stamp
}

/// The last moment that 19 digits can show.
const STAMP_MAX: u64 = 9_999_999_999_999_999_999;

/// The number with which a client's message begins, where it begins with one.
pub(super) fn leading(message: &[u8]) -> Option<u64> {
    let digits = message.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&message[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamped(message: &str, ns: u64) -> Result<String, &'static str> {
        let mut out = b"header".to_vec();
        out.extend_from_slice(message.as_bytes());
        let at = StampField::new("n")?.append(&mut out, 6)?;
        out[at..at + STAMP_BYTES].copy_from_slice(&stamp(ns));
        Ok(String::from_utf8(out.split_off(6)).unwrap())
    }

    #[test]
    fn the_field_is_the_last_of_the_object_and_of_one_width() {
        assert_eq!(stamped(r#"{"a":{"b":1}}"#, 12).unwrap(), r#"{"a":{"b":1},"n":12                 }"#);
        assert_eq!(stamped("{}", u64::MAX >> 1).unwrap(), r#"{"n":9223372036854775807}"#);
        assert_eq!(stamped("{ } \r", 5).unwrap(), "{ \"n\":5                  } \r");
        for ns in [0, 1, 999_999_999_999, u64::MAX >> 1] {
            let message = stamped(r#"{"a":"}"}"#, ns).unwrap();
            assert_eq!(message.len(), r#"{"a":"}","n":}"#.len() + STAMP_BYTES);
            let value: serde_json::Value = serde_json::from_str(&message).unwrap();
            assert_eq!(value["n"].as_u64(), Some(ns));
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for message in ["[1,2]", "", "{", "}", "pong", "\"{}\""] {
            assert!(stamped(message, 1).is_err(), "{message}");
        }
        for name in ["", "a b", "a\"b", "a\\"] {
            assert!(StampField::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_client_gives_a_stamp_back_at_the_start_of_its_message() {
        assert_eq!(leading(b"8123456789012 buy"), Some(8_123_456_789_012));
        assert_eq!(leading(b"8123456789012"), Some(8_123_456_789_012));
        assert_eq!(leading(b"{\"id\":1}"), None);
        assert_eq!(leading(b"99999999999999999999999"), None, "no clock shows that");
    }
}
