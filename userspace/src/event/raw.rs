//! What is passed on as it came, and why: the answer of the event stage to whatever it cannot turn into a typed event.
//!
//! The reasons come from `recognise.rs` (not known) and from the readers of the fields (known, but a field does not
//! fit); out goes [`Raw`] with the payload exactly as it arrived. Nothing here reads JSON.

use std::fmt;

use serde::{Serialize, Serializer};

/// A message that is not one of the typed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Raw<'a> {
    /// Why it was not turned into a typed event.
    #[serde(flatten)]
    pub why: Why,
    /// What the message says it is (`e`), where it is JSON and says so in a string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<&'a str>,
    /// The payload, byte for byte as it arrived. Serialized as a JSON string; bytes that are not UTF-8 become U+FFFD
    /// there.
    #[serde(serialize_with = "as_text")]
    pub payload: &'a [u8],
}

/// Why a message is passed on as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// simd-json does not accept it as JSON.
    NotJson,
    /// It is JSON, but none of the messages known here. Normal: venues have more streams than this stage has types.
    UnknownType,
    /// It is a known message with a field that is not as the venue documents it: either the venue has changed, or the
    /// value cannot be held exactly.
    Misfit(Misfit),
}

/// A field that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Misfit {
    /// The field, by the venue's key; a field of the object inside a kline has the form `k.o`.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It is there with another JSON type than the venue documents, or as a negative or fractional number where an
    /// unsigned integer belongs.
    WrongType,
    /// It should be a decimal number and is not written as one: digits, and if there is a point, digits on both sides
    /// of it. No exponent, no sign `+`, no spaces, no leading zeros.
    NotADecimal,
    /// It is a decimal number below zero: no price and no quantity of the venue's streams is.
    Negative,
    /// It is a decimal number with more than 28 digits, or with more than 28 behind the point: it could only be held
    /// rounded.
    TooManyDigits,
    /// It is a decimal number written without quotes and with a point or an exponent. The parser has turned it into
    /// binary floating point by now, and its digits are lost.
    BareFloat,
}

/// Writes bytes as a string, without allocating.
pub(super) fn as_text<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Lossy(bytes))
}

/// Bytes to be shown as text, whether they are UTF-8 or not.
struct Lossy<'a>(&'a [u8]);

impl fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{FFFD}")?;
            }
        }
        Ok(())
    }
}
