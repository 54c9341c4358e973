//! Frames as they come off the wire, built byte by byte from a description in which any field may be wrong.
//!
//! Checksums are left zero: the program reads none (it steers, userspace judges), so none can change a verdict.

use std::net::{IpAddr, SocketAddr};

/// Bytes of an Ethernet header, without tags.
pub(crate) const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
pub(crate) const IPV4: usize = 20;
/// Bytes of an IPv6 header.
pub(crate) const IPV6: usize = 40;
/// Bytes of a TCP header without options.
pub(crate) const TCP: usize = 20;

pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_UDP: u8 = 17;

/// TPID of an 802.1Q tag.
pub(crate) const DOT1Q: u16 = 0x8100;
/// TPID of an 802.1ad service tag.
pub(crate) const DOT1AD: u16 = 0x88a8;

/// A TCP segment from a remote end to ours.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    /// VLAN tags from the outside in: TPID and TCI.
    pub(crate) tags: Vec<(u16, u16)>,
    /// IPv4's protocol, IPv6's next header.
    pub(crate) protocol: u8,
    /// IPv4's flags and fragment offset, as one field.
    pub(crate) fragment: u16,
    /// IPv4's options, a multiple of four bytes and at most 40.
    pub(crate) options: Vec<u8>,
    /// What stands between the IPv6 header and TCP. `protocol` must announce it.
    pub(crate) extension: Vec<u8>,
    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN.
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    /// A data segment with 32 bytes, everything about it in order.
    pub(crate) fn new(remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            remote,
            local,
            tags: Vec::new(),
            protocol: PROTOCOL_TCP,
            // Don't fragment, as Linux sends TCP.
            fragment: 0x4000,
            options: Vec::new(),
            extension: Vec::new(),
            flags: 0x18,
            payload: (b'a'..).take(32).collect(),
        }
    }

    /// The same with an 802.1Q tag.
    pub(crate) fn tagged(mut self, tci: u16) -> Self {
        self.tags.push((DOT1Q, tci));
        self
    }

    /// Where the IP header begins.
    pub(crate) fn ip(&self) -> usize {
        ETHERNET + 4 * self.tags.len()
    }

    /// Where the TCP header begins.
    pub(crate) fn tcp(&self) -> usize {
        self.ip() + if self.local.is_ipv4() { IPV4 + self.options.len() } else { IPV6 + self.extension.len() }
    }

    /// The frame.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend([0x02, 0, 0, 0, 0, 0x01]);
        frame.extend([0x02, 0, 0, 0, 0, 0x02]);
        for (tpid, tci) in &self.tags {
            frame.extend(tpid.to_be_bytes());
            frame.extend(tci.to_be_bytes());
        }
        match (self.remote.ip(), self.local.ip()) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => {
                let header = IPV4 + self.options.len();
                frame.extend([0x08, 0x00]);
                frame.extend([0x40 | u8::try_from(header / 4).unwrap(), 0]);
                frame.extend(length(header + TCP + self.payload.len()));
                frame.extend([0x12, 0x34]);
                frame.extend(self.fragment.to_be_bytes());
                frame.extend([64, self.protocol, 0, 0]);
                frame.extend(remote.octets());
                frame.extend(local.octets());
                frame.extend(&self.options);
            }
            (IpAddr::V6(remote), IpAddr::V6(local)) => {
                frame.extend([0x86, 0xdd]);
                frame.extend([0x60, 0, 0, 0]);
                frame.extend(length(self.extension.len() + TCP + self.payload.len()));
                frame.extend([self.protocol, 64]);
                frame.extend(remote.octets());
                frame.extend(local.octets());
                frame.extend(&self.extension);
            }
            _ => panic!("a packet is of one family"),
        }
        frame.extend(self.remote.port().to_be_bytes());
        frame.extend(self.local.port().to_be_bytes());
        frame.extend(0x0102_0304_u32.to_be_bytes());
        frame.extend(0x0506_0708_u32.to_be_bytes());
        frame.extend([0x50, self.flags, 0x02, 0x00, 0, 0, 0, 0]);
        frame.extend(&self.payload);
        frame
    }
}

/// `frame` with other bytes at `at`.
pub(crate) fn patched(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..][..bytes.len()].copy_from_slice(bytes);
    frame
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}
