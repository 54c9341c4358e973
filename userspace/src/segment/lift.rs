//! The way out of this stage: the state of a connection that is to live on elsewhere.

use super::Tcp;
use crate::floor::lease::WindowScales;
use crate::floor::{Lease, Time};

/// What the two sides have agreed on once and for all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Negotiated {
    /// The largest payload the peer takes in one segment, options not subtracted.
    pub(super) mss: u16,
    pub(super) scales: Option<WindowScales>,
    pub(super) sack: bool,
}

impl Tcp {
    /// Whether something has arrived that lies behind a hole. Who takes the connection over does not get it: the peer has to
    /// send it again, although it may have been told that it had arrived (RFC 2018 section 8 allows that).
    #[must_use]
    pub fn has_hole(&self) -> bool {
        self.guard.has_hole()
    }

    /// The state of the connection, to be continued elsewhere; `None` while the peer has not acknowledged everything.
    /// Everything that arrived in order has to be read before, and this `Tcp` must not be used afterwards.
    #[must_use]
    pub fn lift(&self, now: Time) -> Option<Lease> {
        if !self.is_drained() || self.ahead > 0 || self.is_readable() {
            return None;
        }
        let Negotiated { mss, scales, sack } = self.negotiated;
        let timestamps = self.outbound.timestamps.map(|clock| crate::floor::TcpTimestamps {
            tsval: clock.at(now),
            read_at: now,
            ..clock
        });
        Some(Lease {
            tuple: self.tuple,
            snd_nxt: self.outbound.snd_nxt,
            rcv_nxt: self.guard.rcv_nxt,
            snd_wnd: u32::from(self.guard.last_window()) << self.outbound.shift_peer,
            rcv_edge: self.outbound.rcv_edge,
            mss,
            scales,
            sack,
            timestamps,
        })
    }
}
