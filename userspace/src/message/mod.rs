//! The message stage: WebSocket (RFC 6455), the client's side.
//!
//! In comes the connection's plaintext, as [`Span`](crate::floor::Span)s of any size; out go the server's messages,
//! lent to a sink where they lie ([`Decoder`]). The other way, [`encode`](fn@encode) and its siblings write masked
//! client frames into the caller's buffer, and [`Upgrade`] builds the HTTP request that opens the connection and judges
//! the answer. No I/O, no clock, no randomness but [`MaskPool`]'s; no other stage is known here.
//!
//! **In this folder "frame" always means a WebSocket frame** (RFC 6455, section 5.2), never an Ethernet frame.
//!
//! What is not there: extensions (none is offered, so permessage-deflate is refused by name), fragmented sending, and
//! redirects (reported with the address to use).

mod close;
mod decoder;
mod encoder;
mod error;
mod frame;
mod join;
mod mask;
mod upgrade;

pub use close::CloseCode;
pub use decoder::{Decoder, Message, MessageCounters, Payload};
pub(crate) use encoder::append_as_server;
pub use encoder::{CONTROL_FRAME_LEN_MAX, close, encode, frame_len, ping, pong};
pub use error::{Culprit, Error, Redirect, Refusal};
pub(crate) use frame::HEAD_LEN_MAX as SERVER_HEAD_LEN_MAX;
pub use frame::{Kind, Opcode};
pub use mask::MaskPool;
pub use upgrade::{Progress, Upgrade};
