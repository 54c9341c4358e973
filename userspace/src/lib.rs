//! wiretick takes an exchange's WebSocket feed from the NIC ring to a typed event.

pub mod event;
pub mod floor;
pub mod message;
pub mod record;
