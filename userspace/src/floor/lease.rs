//! What crosses from control to the data path: plain data, and all of it.
//!
//! A [`Hop`] says how packets of a flow are addressed on the link. A [`Lease`] is the state of one live TCP connection,
//! lifted out of the kernel at one moment: whoever holds it may continue the connection, and nobody else does.

use std::time::Duration;

use super::{FourTuple, Seq, Time};

/// How packets of a flow leave: the addresses of the link, not of the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The MAC address of our interface.
    pub source: [u8; 6],
    /// The MAC address of the next hop: the peer's, or the gateway's.
    pub next: [u8; 6],
    /// The id of the 802.1Q tag our packets need, if they need one.
    pub vlan: Option<u16>,
    /// The largest IP packet to send, in bytes: what the link takes, and what fits a frame of ours.
    pub mtu: u16,
}

/// The state of a live TCP connection at the moment it was lifted, in the connection's own sequence numbers.
///
/// Everything of ours is acknowledged at that moment: `snd_una` is `snd_nxt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Both ends.
    pub tuple: FourTuple,
    /// The next byte we send.
    pub snd_nxt: Seq,
    /// The next byte we expect. What came before it has been taken out of the kernel already.
    pub rcv_nxt: Seq,
    /// Bytes the peer allows us to have in flight.
    pub snd_wnd: u32,
    /// The first byte the peer may not send yet: what the kernel has promised must be kept.
    pub rcv_edge: Seq,
    /// The largest payload the peer takes in one segment, options not subtracted.
    pub mss: u16,
    /// The window scale of both directions, or `None` where window scaling was not negotiated.
    pub scales: Option<WindowScales>,
    /// Whether selective acknowledgements were negotiated.
    pub sack: bool,
    /// The timestamp clocks, where timestamps were negotiated.
    pub timestamps: Option<TcpTimestamps>,
    /// How long the peer took to answer so far, where that was measured.
    pub round_trip: Option<RoundTrip>,
}

/// How long a peer takes to answer (RFC 6298 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrip {
    /// The smoothed round trip.
    pub smoothed: Duration,
    /// Its mean variation.
    pub variation: Duration,
}

/// Shifts of the window field (RFC 7323 section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowScales {
    /// Of the windows the peer announces.
    pub send: u8,
    /// Of the windows we announce.
    pub receive: u8,
}

/// Both sides' timestamp clocks (RFC 7323 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpTimestamps {
    /// What our clock showed at `read_at`.
    pub tsval: u32,
    /// When it was read.
    pub read_at: Time,
    /// How long one tick of it lasts: a millisecond, or a microsecond where the route says so (`tcp_usec_ts`). Not zero.
    pub tick_ns: u32,
    /// The peer's last timestamp: what our segments have to echo.
    pub recent: u32,
}

impl TcpTimestamps {
    /// What our timestamp clock shows at `now`.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "timestamps count modulo 2^32")]
    pub fn at(&self, now: Time) -> u32 {
        let ticks = now.as_nanos().saturating_sub(self.read_at.as_nanos()) / u64::from(self.tick_ns);
        self.tsval.wrapping_add(ticks as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timestamp_clock_goes_on_at_its_own_pace_and_wraps() {
        let clock =
            TcpTimestamps { tsval: u32::MAX - 1, read_at: Time::from_nanos(5_000_000), tick_ns: 1_000_000, recent: 0 };
        assert_eq!(clock.at(Time::from_nanos(5_999_999)), u32::MAX - 1);
        assert_eq!(clock.at(Time::from_nanos(8_000_000)), 1);
    }
}
