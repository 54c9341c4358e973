//! Demotion: a connection goes home to a kernel socket.
//!
//! Until the flow has left the flow map, all of its segments land in the ring, so that the kernel's side can be built in
//! peace: a new socket takes the state in, and the frozen one that held the port until then is closed, silently. Then
//! the flow leaves the map and the socket wakes up. Frames that are in the ring at that moment, or still on their way
//! there, are for the kernel: whoever finds them passes them on ([`FlowMap::pass`]). So nothing has to be sent again.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use super::repair::Blank;
use super::{FlowMap, Seam};
use crate::floor::{Lease, Time};
use crate::privilege::{self, Capabilities};

/// What holds a connection's place in the kernel while it lives on the ring.
#[derive(Debug)]
pub enum Place {
    /// The frozen socket it came from.
    Seam(Seam),
    /// A socket that is bound to the local port, or once was to be the connection's.
    Port(socket2::Socket),
}

/// Why a connection stays on the ring.
#[derive(Debug, thiserror::Error)]
pub enum DemoteError {
    /// The stream is ending, or has ended.
    #[error("the connection is already closing: {0}")]
    Closing(&'static str),
    /// This thread may not make the socket.
    #[error(
        "bringing a connection home to the kernel needs CAP_NET_ADMIN: run with --privileges demote (and not none)"
    )]
    NotPermitted,
    /// A step failed.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// How a move from the ring to the kernel went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demotion {
    /// From the request to the first turn with the kernel.
    pub took: Duration,
    /// Bytes the peer had not acknowledged: the kernel will send them again where that is needed.
    pub unacknowledged_bytes: usize,
}

/// Whether this thread may bring connections home. Nothing is tried: where privileges are given up, the attempt can end the
/// process.
///
/// # Errors
///
/// [`DemoteError::NotPermitted`].
pub(crate) fn permitted() -> Result<(), DemoteError> {
    if privilege::missing(Capabilities::NET_ADMIN).is_empty() { Ok(()) } else { Err(DemoteError::NotPermitted) }
}

/// Moves the connection of `lease` to a kernel socket. From [`Lease::snd_nxt`] on, `unacknowledged` has been sent.
///
/// # Errors
///
/// The reason, and what holds the port from now on. The connection is as it was, and still on the ring.
pub(crate) fn demote(
    lease: &Lease,
    unacknowledged: &[u8],
    receive_buffer: usize,
    place: Option<Place>,
    now: Time,
    flows: &mut dyn FlowMap,
    vlan: Option<u16>,
) -> Result<TcpStream, (DemoteError, Option<Place>)> {
    let failed = |what, source| DemoteError::System { what, source };
    if let Err(error) = permitted() {
        return Err((error, place));
    }
    let device = match &place {
        Some(Place::Seam(seam)) => seam.device(),
        Some(Place::Port(socket)) => socket.device().ok().flatten(),
        None => None,
    };
    let blank = match Blank::new(lease, receive_buffer, device.as_deref()) {
        Ok(blank) => blank,
        Err(source) => return Err((failed("making a socket for the connection", source), place)),
    };
    // One socket can be connected so, not two.
    drop(place);
    if let Err(source) = blank.restore(lease, unacknowledged, now) {
        return Err((failed("giving the connection to a socket", source), Some(Place::Port(blank.into_port()))));
    }
    // Where the map is gone, so is the program: then the kernel gets the flow anyway.
    if let Err(error) = flows.remove(&lease.tuple) {
        log::warn!("{}: cannot be taken out of the flow map: {error}", lease.tuple);
    }
    blank.wake().map_err(|(source, socket)| {
        // Nothing of it has been seen from outside yet.
        if let Err(error) = flows.insert(&lease.tuple, vlan) {
            log::error!("{}: cannot be entered in the flow map again: {error}", lease.tuple);
        }
        (failed("waking the connection's socket up", source), Some(Place::Port(socket)))
    })
}
