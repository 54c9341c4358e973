//! The floor every stage stands on: time, limits, counters and the span, the one shape in which bytes are lent from
//! stage to stage.
//!
//! Nothing here knows a protocol, does I/O or allocates per message.

mod background;
pub mod counters;
pub mod lease;
pub mod limits;
pub mod seq;
pub mod span;
pub mod time;
pub mod tuple;

pub use background::background;
pub use lease::{Hop, Lease, TcpTimestamps};
pub use limits::Limits;
pub use seq::Seq;
pub use span::Span;
pub use time::{Clock, Monotonic, SystemClock, Time, process_cpu};
pub use tuple::FourTuple;
