//! The floor every stage stands on: time, limits, counters and the span, the one shape in which bytes are lent from
//! stage to stage.
//!
//! Nothing here knows a protocol, does I/O or allocates per message.

pub mod counters;
pub mod limits;
pub mod span;
pub mod time;

pub use limits::Limits;
pub use span::Span;
pub use time::{Clock, Monotonic, Time};
