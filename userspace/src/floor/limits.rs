//! Bounds on everything a peer can make grow.

/// How much of our memory a peer may claim. Every field is a number of bytes and is checked before the memory is taken; only
/// that for [`outgoing_bytes_max`](Self::outgoing_bytes_max) is taken at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest WebSocket message, all its fragments together.
    ///
    /// Default 16 MiB. Lower than 8 MiB, and Coinbase's level2 snapshot (5,079,379 bytes seen) has no room to grow;
    /// without a bound, one declared length of 2^63 ends the process.
    pub message_bytes_max: usize,
    /// All TLS handshake bytes from the peer before the handshake is complete.
    ///
    /// Default 256 KiB: certificate chains of public exchanges take 3 to 6 KiB; rustls itself refuses a single
    /// handshake message over 64 KiB.
    pub handshake_bytes_max: usize,
    /// The status line and headers of the answer to the WebSocket upgrade.
    ///
    /// Default 16 KiB: exchanges behind CDNs send 1 to 3 KiB, cookies included.
    pub http_head_bytes_max: usize,
    /// What we may have sealed and not yet handed to TCP.
    ///
    /// Default 1 MiB. A peer that stops reading must not make our memory grow; beyond this, sending is an error that
    /// says so. Every connection takes this much memory when it is made, so that a backlog of orders, whatever has stalled,
    /// takes none.
    pub outgoing_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 << 20,
            handshake_bytes_max: 256 << 10,
            http_head_bytes_max: 16 << 10,
            outgoing_bytes_max: 1 << 20,
        }
    }
}
