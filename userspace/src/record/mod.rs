//! The record stage: TLS 1.2 and 1.3 between the TCP stream and the WebSocket, with every record opened where it lies.
//!
//! What comes in: pieces of the TCP stream, of any size, as [`Span`](crate::floor::Span)s. What goes out: the plaintext of
//! each record, lent as a span to a sink, and bytes for TCP, appended to a `Vec<u8>` the caller owns.
//!
//! rustls does the handshake ([`Handshake`]) and keeps the tickets; the records that follow are opened
//! ([`Opener`]) and sealed ([`Sealer`]) here, with the secrets rustls hands over, because rustls' own reading allocates
//! and copies every record. A [`Session`] is the pair. No other stage knows rustls: its unbuffered API is gone from
//! its next version, and this folder is what will have to change then.
//!
//! The stage does no I/O and looks at no monotonic clock. Two things inside rustls are exceptions, both off the hot
//! path: verifying a certificate and storing a session ticket read the wall clock (a certificate is valid between two
//! dates), and the key log writes a file when it has been asked for.
//!
//! What is left out, on purpose: 0-RTT data (an upgrade request may not be replayed), client certificates (no exchange
//! asks for one on its feeds), renegotiation (TLS 1.2; refused), and any switch that turns verification off.

mod alert;
mod client;
mod error;
mod handshake;
mod incoming;
mod keys;
mod opener;
mod post_handshake;
mod sealer;
mod session;
#[cfg(test)]
mod tests;
mod traffic;
mod wire;

pub use alert::Alert;
pub use client::{Client, Trust};
pub use error::{Date, Error};
pub use handshake::{Handshake, Progress};
pub use opener::{Opened, Opener, OpenerCounters};
pub use rustls_pki_types::ServerName;
pub use sealer::{Content, Sealer, SealerCounters};
pub use session::{Facts, Session, Version};
pub use traffic::Estate;
