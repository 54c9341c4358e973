//! wiretick takes an exchange's WebSocket feed from the NIC's ring to a typed event.
//!
//! An XDP program redirects exactly one TCP flow to an AF_XDP socket; smoltcp does TCP in this process; each TLS record is
//! opened where it lies; the WebSocket message is found, and its JSON read, in the same bytes. Names, routes and the
//! handshakes stay on the kernel's path, and the live connection is then **promoted** to the bypass. Where there is no
//! XDP, it simply stays in the kernel, and says why.
//!
//! ```no_run
//! use wiretick::event::{Body, Event};
//! use wiretick::feed::Feed;
//! use wiretick::path::Context;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut feed = Feed::builder("wss://stream.binance.com:9443/ws/btcusdt@trade").connect()?;
//! let mut print = |event: &Event<'_>, context: &mut Context<'_, '_>| {
//!     if let Some(gap) = &context.gap {
//!         eprintln!("missed something: {gap:?}");
//!     }
//!     if let Body::Trade(trade) = &event.body {
//!         println!("{} {} x {}", trade.symbol, trade.price, trade.quantity);
//!     }
//! };
//! feed.run(&mut print, || true)?;
//! # Ok(())
//! # }
//! ```
//!
//! # The modules
//!
//! [`feed`] is the front door. What it puts together:
//!
//! ```text
//!  control   names, routes, neighbours, sockets, the XDP program         cold, the kernel's side
//!  handover  a live connection moves from a kernel socket to the ring    once
//!  lane      one thread: a ring, and the connections on it               hot, runs to completion
//!
//!  ring -> frame -> segment -> record -> message -> event                the stages of a lane
//!                  (TCP)      (TLS)    (WebSocket) (JSON)
//!                              `------- path ---------'                  these, in a row, for one connection
//!  relay     a handler that passes events to another thread
//!  timing    a clock at every stage, for who asks for it
//!  privilege giving up, for good, what is not needed any more
//!  floor     time, spans, limits, counters, the lease                    what all of them stand on
//! ```
//!
//! A stage knows the stage before it by its output only, does no I/O, and is told the time. Therefore everything from
//! [`frame`] to [`event`] also runs over a [`ring::MemoryRing`], in virtual time and without privilege.
//!
//! Privilege: the bypass needs `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_BPF`, `CAP_PERFMON` and memory to lock; the kernel path
//! needs none. What is not needed any more can be given up: [`privilege`].

pub mod control;
pub mod event;
pub mod feed;
pub mod floor;
pub mod frame;
pub mod handover;
pub mod lane;
pub mod message;
pub mod path;
pub mod privilege;
pub mod record;
pub mod relay;
pub mod ring;
pub mod segment;
pub mod timing;
