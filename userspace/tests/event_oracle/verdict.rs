//! Whether an event is what the independent decode says.

use serde_json::Value;
use wiretick::event::{Body, Event, Why};

/// Compares the event of `payload` with what is expected of it (`None`: that it is passed on raw).
///
/// # Errors
///
/// What is not the same.
pub(crate) fn judge(event: &Event<'_>, payload: &[u8], expected: Option<&Value>) -> Result<(), String> {
    let shown = || String::from_utf8_lossy(payload);
    if let Body::Raw(raw) = &event.body {
        if raw.payload != payload {
            return Err(format!("the payload has changed: {}", shown()));
        }
        if raw.why == Why::NotJson && beyond_64_bits(payload) {
            return Ok(());
        }
        return expected.map_or(Ok(()), |expected| Err(format!("raw, {:?}, not {expected}: {}", raw.why, shown())));
    }
    if expected.is_none() && payload.windows(2).any(|window| window == b"-0") {
        // simd-json takes -0 for the integer 0, serde_json for a floating point number.
        return Ok(());
    }
    let found = serde_json::to_value(event).map_err(|error| error.to_string())?;
    if Some(&found) == expected { Ok(()) } else { Err(format!("{found}, not {expected:?}: {}", shown())) }
}

/// Whether there may be an integer that simd-json refuses, and `serde_json` takes for a floating point number.
fn beyond_64_bits(payload: &[u8]) -> bool {
    payload.windows(19).any(|window| window.iter().all(u8::is_ascii_digit))
}
