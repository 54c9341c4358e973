//! wiretick takes an exchange's WebSocket feed from the NIC ring to a typed event.

pub mod control;
pub mod event;
pub mod feed;
pub mod floor;
pub mod frame;
pub mod handover;
pub mod lane;
pub mod message;
pub mod path;
pub mod record;
pub mod ring;
pub mod segment;
