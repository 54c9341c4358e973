//! The hash by which a card spreads flows over its queues: Toeplitz, as Microsoft's RSS has it. Written here a second time,
//! beside whatever wiretick knows of it, so that the two can disagree.

use std::net::Ipv4Addr;

/// The hash of a TCP flow over IPv4, as its receiver sees it: the source is the peer.
///
/// Answers `None` where the key is shorter than the 16 bytes that it takes.
#[must_use]
pub(super) fn hash(key: &[u8], source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Option<u32> {
    let mut input = Vec::with_capacity(12);
    input.extend_from_slice(&source.0.octets());
    input.extend_from_slice(&destination.0.octets());
    input.extend_from_slice(&source.1.to_be_bytes());
    input.extend_from_slice(&destination.1.to_be_bytes());
    // For each bit of the input that is set, the 32 bits of the key that begin at its place.
    let window = |bit: usize| {
        let bytes = key.get(bit / 8..bit / 8 + 5)?;
        let five = bytes.iter().fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
        Some((five >> (8 - bit % 8)) as u32)
    };
    let mut sum = 0;
    for bit in 0..input.len() * 8 {
        if input[bit / 8] >> (7 - bit % 8) & 1 == 1 {
            sum ^= window(bit)?;
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Verifying the RSS Hash Calculation" in Microsoft's documentation of network drivers.
    #[test]
    fn the_hash_is_that_of_the_published_vectors() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
            0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
            0xbe, 0xac, 0x01, 0xfa,
        ];
        for (source, destination, expected) in [
            (([66, 9, 149, 187], 2794), ([161, 142, 100, 80], 1766), 0x51cc_c178),
            (([199, 92, 111, 2], 14230), ([65, 69, 140, 83], 4739), 0xc626_b0ea),
            (([24, 19, 198, 95], 12898), ([12, 22, 207, 184], 38024), 0x5c2b_394a),
            (([38, 27, 205, 30], 48228), ([209, 142, 163, 6], 2217), 0xafc7_327f),
            (([153, 39, 163, 191], 44251), ([202, 188, 127, 2], 1303), 0x10e8_28a2),
        ] {
            let end = |(address, port): ([u8; 4], u16)| (Ipv4Addr::from(address), port);
            assert_eq!(hash(&key, end(source), end(destination)), Some(expected));
        }
        assert_eq!(hash(&key[..8], (Ipv4Addr::BROADCAST, 1), (Ipv4Addr::BROADCAST, 1)), None);
    }
}
