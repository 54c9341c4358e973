//! What routers say about packets that are too big: ICMP "fragmentation needed" and ICMPv6 "packet too big".
//!
//! The XDP program leaves ICMP to the kernel, and the kernel cannot do anything with it: its frozen socket has sent nothing
//! of what the message quotes, so it takes the message for forged (`tcp_v4_err`, `net/ipv4/tcp_ipv4.c`, compares the quoted
//! sequence number with what is unacknowledged). So a raw socket gets these messages, and is looked at where something
//! had to be sent again: never while all is well. Whether the quoted segment is one of ours on its way is
//! for [`Tcp::too_big`](crate::segment::Tcp::too_big) to judge.

use std::io::{self, Read};

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::floor::{FourTuple, Seq};

/// ICMP: type 3, code 4 (RFC 1191 section 4). ICMPv6: type 2 (RFC 4443 section 3.2).
const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const PACKET_TOO_BIG: u8 = 2;
/// Both have their MTU and the quoted packet at the same place.
const MTU: usize = 6;
const QUOTED: usize = 8;
/// What of a TCP header is quoted at least (RFC 792): ports and sequence number.
const TCP_QUOTED: usize = 8;

/// A socket that gets what routers say.
#[derive(Debug)]
pub(super) struct TooBig {
    socket: Socket,
    tuple: FourTuple,
}

impl TooBig {
    /// # Errors
    ///
    /// `EPERM` without `CAP_NET_RAW`, which AF_XDP sockets need too.
    pub(super) fn new(tuple: FourTuple) -> io::Result<Self> {
        let (domain, protocol) = match tuple.local {
            std::net::SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            std::net::SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        // Pings and all else would fill its queue. Over IPv4 the filter sees the IP header, whose length varies.
        let [load_at_start, load_behind_header, header_len, is_equal, answer] = [0x30, 0x50, 0xb1, 0x15, 0x06];
        let op = SockFilter::new;
        let kept = u32::from(u16::MAX);
        socket.attach_filter(&match domain {
            Domain::IPV4 => vec![
                op(header_len, 0, 0, 0),
                op(load_behind_header, 0, 0, 0),
                op(is_equal, 0, 3, UNREACHABLE.into()),
                op(load_behind_header, 0, 0, 1),
                op(is_equal, 0, 1, FRAGMENTATION_NEEDED.into()),
                op(answer, 0, 0, kept),
                op(answer, 0, 0, 0),
            ],
            _ => vec![
                op(load_at_start, 0, 0, 0),
                op(is_equal, 0, 1, PACKET_TOO_BIG.into()),
                op(answer, 0, 0, kept),
                op(answer, 0, 0, 0),
            ],
        })?;
        Ok(Self { socket, tuple })
    }

    /// The next message about this connection: the sequence number of the segment that was too big, and the largest
    /// packet that would not have been. Never waits.
    pub(super) fn next(&mut self) -> Option<(Seq, u16)> {
        let mut message = [0; 1280];
        loop {
            match self.socket.read(&mut message) {
                Ok(len) => {
                    if let Some(found) = parse(&message[..len], &self.tuple) {
                        return Some(found);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Nothing there; any other error is none of the connection's.
                Err(_) => return None,
            }
        }
    }
}

/// Reads a message as a raw socket delivers it: over IPv4 with the IP header, over IPv6 without.
fn parse(message: &[u8], tuple: &FourTuple) -> Option<(Seq, u16)> {
    let ipv6 = tuple.local.is_ipv6();
    let icmp =
        if ipv6 { message } else { &message[usize::from(Ipv4Packet::new_checked(message).ok()?.header_len())..] };
    let says_so = match *icmp {
        [kind, code, ..] if !ipv6 => (kind, code) == (UNREACHABLE, FRAGMENTATION_NEEDED),
        [kind, ..] => kind == PACKET_TOO_BIG,
        [] => false,
    };
    let quoted = icmp.get(QUOTED..)?;
    // The quoted packet is cut off, so its length is not checked against what is there.
    let (from, to, protocol, tcp) = if ipv6 {
        let packet = Ipv6Packet::new_unchecked(quoted.get(..40)?);
        (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), 40)
    } else {
        let packet = Ipv4Packet::new_unchecked(quoted.get(..20)?);
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        (std::net::IpAddr::from(from), std::net::IpAddr::from(to), packet.next_header(), packet.header_len().into())
    };
    let &[a, b, c, d, s0, s1, s2, s3] = quoted.get(tcp..tcp + TCP_QUOTED)?.first_chunk::<TCP_QUOTED>()?;
    let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let is_ours = (from, to) == (tuple.local.ip(), tuple.remote.ip())
        && ports == (tuple.local.port(), tuple.remote.port())
        && protocol == IpProtocol::Tcp;
    // ICMPv6 has 32 bits for it; a link of more than 65,535 bytes is no limit.
    let mtu = u16::from_be_bytes([icmp[MTU], icmp[MTU + 1]]);
    let is_small = !ipv6 || icmp[4..MTU] == [0, 0];
    (says_so && is_ours && is_small).then(|| (Seq(u32::from_be_bytes([s0, s1, s2, s3])), mtu))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn tuple(local: &str, remote: &str) -> FourTuple {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        FourTuple { local: at(local), remote: at(remote) }
    }

    fn v4() -> (FourTuple, Vec<u8>) {
        let mut message = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 77, 0, 254, 10, 77, 0, 1];
        message.extend([3, 4, 0, 0, 0, 0, 0x05, 0x14]);
        message.extend([0x45, 0, 5, 220, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 1, 10, 77, 1, 2]);
        message.extend([0x9c, 0x40, 0x01, 0xbb, 0xff, 0, 0, 1]);
        (tuple("10.77.0.1:40000", "10.77.1.2:443"), message)
    }

    fn v6() -> (FourTuple, Vec<u8>) {
        let mut message = vec![2, 0, 0, 0, 0, 0, 0x05, 0x14];
        message.extend([0x60, 0, 0, 0, 5, 220, 6, 64]);
        for end in [1u8, 2] {
            message.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, end]);
        }
        message.extend([0x9c, 0x40, 0x01, 0xbb, 0xff, 0, 0, 1]);
        (tuple("[fd00::1]:40000", "[fd00::2]:443"), message)
    }

    #[test]
    fn a_message_about_this_connection_is_read() {
        for (tuple, message) in [v4(), v6()] {
            assert_eq!(parse(&message, &tuple), Some((Seq(0xff00_0001), 1300)));
        }
    }

    #[test]
    fn nothing_else_is() {
        for (tuple, message) in [v4(), v6()] {
            for len in 0..message.len() {
                assert_eq!(parse(&message[..len], &tuple), None, "cut off at {len}");
            }
            let icmp = if tuple.local.is_ipv6() { 0 } else { 20 };
            let quoted = icmp + QUOTED;
            // Type; addresses, ports and protocol of the quoted packet.
            let protocol = quoted + if icmp == 0 { 6 } else { 9 };
            let tcp = message.len() - TCP_QUOTED;
            let source = tcp - if icmp == 0 { 17 } else { 5 };
            for at in [icmp, protocol, source, tcp - 1, tcp, tcp + 1, tcp + 2, tcp + 3] {
                let mut message = message.clone();
                message[at] ^= 1;
                assert_eq!(parse(&message, &tuple), None, "byte {at}");
            }
        }
    }
}
