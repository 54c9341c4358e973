//! The way out of this stage: the state of a connection that is to live on elsewhere.

use smoltcp::socket::tcp::State;

use super::Tcp;
use crate::floor::Lease;
use crate::floor::lease::WindowScales;

/// What the two sides have agreed on once and for all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Negotiated {
    /// The largest payload the peer takes in one segment, options not subtracted.
    pub(super) mss: u16,
    pub(super) scales: Option<WindowScales>,
}

/// A connection that is to be continued elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifted {
    /// Its state. [`Lease::snd_nxt`] is the first byte the peer has not acknowledged.
    pub lease: Lease,
    /// What was sent from there on and is not acknowledged.
    pub unacknowledged: Vec<u8>,
    /// What follows that and was not sent, because the peer's window was full.
    pub unsent: Vec<u8>,
}

impl Tcp {
    /// Whether something has arrived that lies behind a hole. Who takes the connection over does not get it: the peer has to
    /// send it again, although it may have been told that it had arrived (RFC 2018 section 8 allows that).
    #[must_use]
    pub fn has_hole(&self) -> bool {
        !self.held.is_empty() || self.early_fin.is_some()
    }

    /// The state of the connection, to be continued elsewhere. Everything that arrived in order has to be read before, and this
    /// `Tcp` must not be used afterwards.
    ///
    /// # Errors
    ///
    /// Why it cannot be: one of the two has begun to end it.
    pub fn lift(&self) -> Result<Lifted, &'static str> {
        if self.guard.ended {
            return Err("the peer has");
        }
        if self.smoltcp().state() != State::Established {
            return Err("one of the two has");
        }
        if self.is_readable() {
            return Err("not everything was read");
        }
        let Negotiated { mss, scales } = self.negotiated;
        let (start, sent, end) = (self.guard.snd_una(), self.outbound.snd_nxt, self.outbound.kept.end());
        let mut bytes = vec![0; usize::try_from(end.distance(start)).unwrap_or(0)];
        if self.outbound.kept.copy(start, &mut bytes) != bytes.len() {
            return Err("what was sent is not known any more");
        }
        let unsent = bytes.split_off(usize::try_from(sent.distance(start)).unwrap_or(0).min(bytes.len()));
        let lease = Lease {
            tuple: self.tuple,
            snd_nxt: start,
            rcv_nxt: self.guard.rcv_nxt,
            snd_wnd: u32::from(self.guard.last_window()) << self.outbound.shift_peer,
            rcv_edge: self.outbound.rcv_edge,
            mss,
            scales,
            sack: self.selective,
            timestamps: self.outbound.clocks.map(|clocks| clocks.ours),
            round_trip: None,
        };
        Ok(Lifted { lease, unacknowledged: bytes, unsent })
    }
}
