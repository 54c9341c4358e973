//! Frames as they stand on a wire, and the TCP segments in them, checksums included.
//!
//! Read by hand: what judges the frames of others shares no code with what makes them.

use std::net::IpAddr;

/// A frame that was on a wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthernetFrame {
    /// The bytes, from the destination address on.
    pub bytes: Vec<u8>,
    /// How many there were, Ethernet header included.
    pub wire_bytes: usize,
}

impl EthernetFrame {
    /// Whether `mac` is its source.
    #[must_use]
    pub fn is_from(&self, mac: [u8; 6]) -> bool {
        self.bytes.get(6..12) == Some(&mac)
    }

    /// The TCP segment in it. `None` where it holds something else, or is cut off.
    #[must_use]
    pub fn tcp(&self) -> Option<TcpSegment<'_>> {
        let packet = self.bytes.get(14..)?;
        match self.bytes.get(12..14)? {
            [0x08, 0x00] => {
                let header = usize::from(packet.first()? & 0xf) * 4;
                let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
                let (source, destination) = (packet.get(12..16)?, packet.get(16..20)?);
                (packet[9] == 6).then_some(())?;
                TcpSegment::new(
                    IpAddr::from(<[u8; 4]>::try_from(source).ok()?),
                    IpAddr::from(<[u8; 4]>::try_from(destination).ok()?),
                    packet.get(header..total)?,
                )
            }
            // Extension headers are not followed: nothing on these wires sends any in front of TCP.
            [0x86, 0xdd] => {
                let length = usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?]));
                let (source, destination) = (packet.get(8..24)?, packet.get(24..40)?);
                (packet[6] == 6).then_some(())?;
                TcpSegment::new(
                    IpAddr::from(<[u8; 16]>::try_from(source).ok()?),
                    IpAddr::from(<[u8; 16]>::try_from(destination).ok()?),
                    packet.get(40..40 + length)?,
                )
            }
            _ => None,
        }
    }
}

/// A TCP segment with the addresses its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpSegment<'a> {
    /// Where it came from.
    pub source: IpAddr,
    /// Where it went.
    pub destination: IpAddr,
    /// Header and payload.
    bytes: &'a [u8],
}

impl<'a> TcpSegment<'a> {
    fn new(source: IpAddr, destination: IpAddr, bytes: &'a [u8]) -> Option<Self> {
        let header = usize::from(bytes.get(12)? >> 4) * 4;
        (header >= 20 && bytes.len() >= header).then_some(Self { source, destination, bytes })
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[usize::from(self.bytes[12] >> 4) * 4..]
    }

    /// The source port.
    #[must_use]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// The flags from FIN (1) to CWR (128), as in RFC 9293 section 3.1.
    #[must_use]
    pub fn flags(&self) -> u8 {
        self.bytes[13]
    }

    /// Whether the checksum is the one that header, payload and addresses ask for (RFC 9293 section 3.1).
    #[must_use]
    pub fn checksum_is_right(&self) -> bool {
        let mut sum = 6 + u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        let mut add = |bytes: &[u8]| {
            for pair in bytes.chunks(2) {
                // An odd last byte counts as if a zero followed.
                sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            }
        };
        for address in [self.source, self.destination] {
            match address {
                IpAddr::V4(address) => add(&address.octets()),
                IpAddr::V6(address) => add(&address.octets()),
            }
        }
        add(self.bytes);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A SYN from 127.0.0.1:41138 to 127.0.0.1:80, built by hand: the sum was worked out on paper.
    fn syn() -> EthernetFrame {
        let mut bytes = vec![0; 12];
        bytes.extend([0x08, 0x00]);
        bytes.extend([0x45, 0, 0, 41, 0, 0, 0x40, 0, 64, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
        bytes.extend([0xa0, 0xb2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, b'!']);
        // a0b2 + 0050 + 0001 + 5002 + ffff + 2100 + 2 * (7f00 + 0001) + 0006 + 0015 = 31021 -> 1024, inverted: efdb
        bytes[50..52].copy_from_slice(&[0xef, 0xdb]);
        EthernetFrame { wire_bytes: bytes.len(), bytes }
    }

    #[test]
    fn a_segment_of_odd_length_is_summed_with_a_zero_behind_it() {
        let frame = syn();
        let segment = frame.tcp().unwrap();
        assert_eq!((segment.source_port(), segment.flags(), segment.payload()), (41_138, 2, &b"!"[..]));
        assert!(segment.checksum_is_right());
    }

    #[test]
    fn a_changed_bit_is_noticed_wherever_it_is() {
        for bit in (14 + 12) * 8..syn().bytes.len() * 8 {
            let mut frame = syn();
            frame.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(frame.tcp().is_none_or(|segment| !segment.checksum_is_right()), "bit {bit}");
        }
    }

    #[test]
    fn what_is_cut_off_is_not_a_segment() {
        let whole = syn().bytes;
        for length in 0..whole.len() {
            let frame = EthernetFrame { bytes: whole[..length].to_vec(), wire_bytes: length };
            assert_eq!(frame.tcp(), None, "{length} bytes");
        }
    }
}
