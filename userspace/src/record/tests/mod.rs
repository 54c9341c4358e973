//! The record stage against real rustls servers, and against a peer that lies.
//!
//! `rig` has the certificates, the servers and a connected pair; `forger` has a peer that holds the real traffic secrets but
//! seals whatever it likes, with its own key derivation and AEAD calls, so that an error in `keys.rs` cannot cancel itself out.

mod certificates;
mod forger;
mod handshake;
mod hostile;
mod receiving;
mod renewal;
mod rig;
mod sending;
