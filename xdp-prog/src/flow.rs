//! The flow map: its key, one TCP connection on its VLAN, as a frame that is received shows it; and its value: on
//! which queues its feed has sockets, and what the program has seen of it.
//!
//! The C twin is `struct flow_key` in `src/bpf/layout.h`. A key is bytes and not a struct of integers, since every
//! field is in network byte order: that leaves nothing to align, nothing to pad, and lets both loaders take it without
//! an `unsafe` promise (a byte array is plain old data to aya already).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::QUEUES_MAX;

/// One TCP connection on its VLAN, in the bytes the program compares.
///
/// | bytes | field | contents |
/// |---|---|---|
/// | 0..16 | `remote` | source address; IPv4 in the first four, the rest zero |
/// | 16..32 | `local` | destination address, likewise |
/// | 32..34 | `remote_port` | source port |
/// | 34..36 | `local_port` | destination port |
/// | 36..38 | `vlan` | VLAN identifier, 0 for none |
/// | 38..40 | `ethertype` | 0x0800 for IPv4, 0x86dd for IPv6 |
///
/// All in network byte order. Two connections have equal keys only where a frame cannot tell them apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct FlowKey([u8; Self::LEN]);

const REMOTE: usize = 0;
const LOCAL: usize = 16;
const REMOTE_PORT: usize = 32;
const LOCAL_PORT: usize = 34;
const VLAN: usize = 36;
const ETHERTYPE: usize = 38;

const ETHERTYPE_IPV4: [u8; 2] = 0x0800_u16.to_be_bytes();
const ETHERTYPE_IPV6: [u8; 2] = 0x86dd_u16.to_be_bytes();

/// 802.1Q-2018, table 9-2: 0xfff is reserved and must not be sent.
const VLAN_ID_MAX: u16 = 0xffe;

const _: () = assert!(ETHERTYPE + 2 == FlowKey::LEN && size_of::<FlowKey>() == FlowKey::LEN);
const _: () = assert!(align_of::<FlowKey>() == 1);

/// Why two addresses and a VLAN are not a flow. The mistake is always the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowKeyError {
    /// One address is IPv4 and the other IPv6: no packet has both.
    #[error("{local} and {remote} are not of one family: no packet has both")]
    MixedFamilies {
        /// Our end, as it was given.
        local: SocketAddr,
        /// The remote end, as it was given.
        remote: SocketAddr,
    },
    /// The address or the port is unspecified: the map matches exactly and knows no wildcard.
    #[error("{0} is not one end of a connection: flows match exactly, and neither address nor port may be unspecified")]
    Unspecified(SocketAddr),
    /// The VLAN identifier is above 4094.
    #[error("{0} is no VLAN identifier: they go up to {VLAN_ID_MAX}")]
    Vlan(u16),
}

impl FlowKey {
    /// Bytes in a key.
    pub const LEN: usize = 40;

    /// The key of the frames that `remote` sends to `local`, its addresses as `getpeername` and `getsockname` give
    /// them.
    ///
    /// `vlan` is the identifier in the frame's 802.1Q tag, 1 to 4094. `Some(0)` is the same as `None`, since a tag with
    /// identifier 0 carries a priority and no VLAN (802.1Q). IPv4 addresses in their IPv6-mapped form, which a
    /// dual-stack socket shows, are IPv4 on the wire and become so here. The scope and flow label of an IPv6 address
    /// are not part of the key.
    ///
    /// # Errors
    ///
    /// [`FlowKeyError`], where no frame could ever match.
    pub fn new(local: SocketAddr, remote: SocketAddr, vlan: Option<u16>) -> Result<Self, FlowKeyError> {
        for end in [local, remote] {
            if end.port() == 0 || end.ip().to_canonical().is_unspecified() {
                return Err(FlowKeyError::Unspecified(end));
            }
        }
        let vlan = vlan.unwrap_or(0);
        if vlan > VLAN_ID_MAX {
            return Err(FlowKeyError::Vlan(vlan));
        }

        let mut key = [0; Self::LEN];
        match (remote.ip().to_canonical(), local.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                key[REMOTE..][..4].copy_from_slice(&from.octets());
                key[LOCAL..][..4].copy_from_slice(&to.octets());
                key[ETHERTYPE..][..2].copy_from_slice(&ETHERTYPE_IPV4);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                key[REMOTE..][..16].copy_from_slice(&from.octets());
                key[LOCAL..][..16].copy_from_slice(&to.octets());
                key[ETHERTYPE..][..2].copy_from_slice(&ETHERTYPE_IPV6);
            }
            _ => return Err(FlowKeyError::MixedFamilies { local, remote }),
        }
        key[REMOTE_PORT..][..2].copy_from_slice(&remote.port().to_be_bytes());
        key[LOCAL_PORT..][..2].copy_from_slice(&local.port().to_be_bytes());
        key[VLAN..][..2].copy_from_slice(&vlan.to_be_bytes());
        Ok(Self(key))
    }

    /// The key that was read out of the map. Bytes that [`FlowKey::new`] would not have made are kept as they are.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, to enter in the map.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// The bytes, to look at.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Our end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        SocketAddr::new(self.address(LOCAL), self.number(LOCAL_PORT))
    }

    /// The remote end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.address(REMOTE), self.number(REMOTE_PORT))
    }

    /// The VLAN identifier, 1 to 4094, where there is one.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        Some(self.number(VLAN)).filter(|&vlan| vlan != 0)
    }

    fn number(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }

    fn address(&self, at: usize) -> IpAddr {
        let octets: [u8; 16] = self.0[at..][..16].try_into().expect("16 bytes were taken");
        if self.0[ETHERTYPE..] == ETHERTYPE_IPV4 {
            Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3]).into()
        } else {
            Ipv6Addr::from(octets).into()
        }
    }
}

/// From whom to whom, and on which VLAN where there is one: `198.51.100.7:443 > 192.0.2.1:40000 vlan 7`.
impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.remote(), self.local())?;
        match self.vlan() {
            Some(vlan) => write!(f, " vlan {vlan}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowKey({self})")
    }
}

/// What is entered with a flow: the queues on which its feed has sockets. The C twin is `struct flow`.
///
/// On other queues there may be sockets of other feeds, which are not to get its frames.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowQueues([u64; QUEUES_MAX as usize / 64]);

impl FlowQueues {
    /// These queues. Such as can have no socket ([`QUEUES_MAX`]) are left out.
    #[must_use]
    pub fn new(queues: impl IntoIterator<Item = u32>) -> Self {
        let mut words = [0; QUEUES_MAX as usize / 64];
        for queue in queues {
            if let Some(word) = words.get_mut(queue as usize / 64) {
                *word |= 1 << (queue % 64);
            }
        }
        Self(words)
    }

    /// The value to enter in [`FLOWS`](crate::FLOWS): nothing has been seen yet.
    #[must_use]
    pub fn to_bytes(self) -> [u8; FlowSeen::LEN] {
        let mut bytes = [0; FlowSeen::LEN];
        for (place, word) in bytes.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

impl fmt::Debug for FlowQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries((0..QUEUES_MAX).filter(|queue| self.0[*queue as usize / 64] >> (queue % 64) & 1 != 0))
            .finish()
    }
}

/// What the program has seen of a flow since it was entered.
///
/// While a flow moves from one queue to another, two CPUs may count at once, and one of their counts be lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSeen {
    /// Frames of the flow.
    pub frames: u64,
    /// Those of them that found no socket of their feed on their queue, and went to the kernel. Begins anew after 2^32.
    pub astray: u32,
    /// The queue of the last one; means nothing where there was none.
    pub last_queue: u32,
}

impl FlowSeen {
    /// Bytes of a value of the map.
    pub const LEN: usize = 144;

    /// Frames that went to a socket of the feed.
    #[must_use]
    pub fn redirected(&self) -> u64 {
        self.frames.saturating_sub(self.astray.into())
    }

    /// What a value of the map says.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        let [.., i, j, k, l, m, n, o, p, a, b, c, d, e, f, g, h] = bytes;
        Self {
            frames: u64::from_ne_bytes([i, j, k, l, m, n, o, p]),
            astray: u32::from_ne_bytes([a, b, c, d]),
            last_queue: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn key(local: &str, remote: &str, vlan: Option<u16>) -> FlowKey {
        FlowKey::new(end(local), end(remote), vlan).unwrap()
    }

    #[test]
    fn an_ipv4_key_is_the_packets_own_bytes_with_the_remote_end_first() {
        assert_eq!(
            key("192.0.2.1:40000", "198.51.100.7:443", Some(0x123)).to_bytes(),
            [
                198, 51, 100, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // remote
                192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // local
                0x01, 0xbb, 0x9c, 0x40, // ports
                0x01, 0x23, 0x08, 0x00, // VLAN, ethertype
            ]
        );
    }

    #[test]
    fn an_ipv6_key_holds_both_addresses_whole() {
        assert_eq!(
            key("[2001:db8::1]:40000", "[2001:db8:1:2:3:4:5:6]:443", None).to_bytes(),
            [
                0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, // remote
                0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, // local
                0x01, 0xbb, 0x9c, 0x40, // ports
                0, 0, 0x86, 0xdd, // no VLAN, ethertype
            ]
        );
    }

    #[test]
    fn a_dual_stack_sockets_ipv4_addresses_are_ipv4_on_the_wire() {
        assert_eq!(
            key("[::ffff:192.0.2.1]:40000", "[::ffff:198.51.100.7]:443", None),
            key("192.0.2.1:40000", "198.51.100.7:443", None)
        );
    }

    #[test]
    fn a_priority_tag_is_no_vlan() {
        let untagged = key("192.0.2.1:40000", "198.51.100.7:443", None);
        assert_eq!(key("192.0.2.1:40000", "198.51.100.7:443", Some(0)), untagged);
        assert_ne!(key("192.0.2.1:40000", "198.51.100.7:443", Some(1)), untagged);
    }

    #[test]
    fn a_key_tells_what_it_was_made_of() {
        for (local, remote, vlan) in [
            ("192.0.2.1:40000", "198.51.100.7:443", None),
            ("192.0.2.1:40000", "198.51.100.7:443", Some(4094)),
            ("[2001:db8::1]:1", "[2001:db8:1:2:3:4:5:6]:65535", Some(1)),
        ] {
            let key = FlowKey::from_bytes(*key(local, remote, vlan).as_bytes());
            assert_eq!((key.local(), key.remote(), key.vlan()), (end(local), end(remote), vlan));
        }
        assert_eq!(
            key("192.0.2.1:40000", "198.51.100.7:443", Some(7)).to_string(),
            "198.51.100.7:443 > 192.0.2.1:40000 vlan 7"
        );
        assert_eq!(
            format!("{:?}", key("[2001:db8::1]:40000", "[2001:db8::2]:443", None)),
            "FlowKey([2001:db8::2]:443 > [2001:db8::1]:40000)"
        );
    }

    #[test]
    fn what_no_frame_can_match_is_refused() {
        let ours = end("192.0.2.1:40000");
        let theirs = end("198.51.100.7:443");
        for wrong in ["0.0.0.0:40000", "192.0.2.1:0", "[::]:40000", "[::ffff:0.0.0.0]:40000"].map(end) {
            assert_eq!(FlowKey::new(wrong, theirs, None), Err(FlowKeyError::Unspecified(wrong)));
            assert_eq!(FlowKey::new(ours, wrong, None), Err(FlowKeyError::Unspecified(wrong)));
        }
        let other = end("[2001:db8::1]:443");
        assert_eq!(FlowKey::new(ours, other, None), Err(FlowKeyError::MixedFamilies { local: ours, remote: other }));
        assert_eq!(FlowKey::new(ours, theirs, Some(4095)), Err(FlowKeyError::Vlan(4095)));
        assert!(FlowKey::new(ours, theirs, Some(4094)).is_ok());
    }
}
