//! The Toeplitz hash, by which a NIC spreads flows over its queues (receive-side scaling, RSS).
//!
//! Bytes in, 32 bits out; no I/O. The definition is Microsoft's ("RSS hashing functions" in the NDIS documentation): for each bit
//! of the input that is set, the 32 bits of the key that begin at the same place are added without carry. Which bytes of a packet
//! are the input is [`super::rss`]' business.

/// A key, unfolded: for each bit of an input, the 32 bits of the key that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    windows: Vec<u32>,
}

impl Key {
    /// Unfolds a key. One of fewer than five bytes hashes nothing.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let bits = (bytes.len() * 8).saturating_sub(u32::BITS as usize - 1);
        let window = |bit: usize| {
            let mut ahead = [0; 8];
            for (to, from) in ahead.iter_mut().zip(&bytes[bit / 8..]) {
                *to = *from;
            }
            (u64::from_be_bytes(ahead) << (bit % 8) >> u32::BITS) as u32
        };
        Self { windows: (0..bits).map(window).collect() }
    }

    /// The longest input that the key can hash, in bytes: four less than the key has.
    #[must_use]
    pub fn input_bytes_max(&self) -> usize {
        self.windows.len() / 8
    }

    /// The hash of `input`.
    ///
    /// # Panics
    ///
    /// Where the input is longer than [`Key::input_bytes_max`].
    #[must_use]
    pub fn hash(&self, input: &[u8]) -> u32 {
        assert!(input.len() <= self.input_bytes_max(), "an input of {} bytes is too long for the key", input.len());
        let mut hash = 0;
        for (byte, windows) in input.iter().zip(self.windows.chunks_exact(8)) {
            for (bit, window) in windows.iter().enumerate() {
                if byte & (0x80 >> bit) != 0 {
                    hash ^= window;
                }
            }
        }
        hash
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::{IpAddr, SocketAddr};

    use proptest::prelude::*;

    use super::*;

    /// The key of Microsoft's verification suite.
    pub(in super::super) const MICROSOFT: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca,
        0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b,
        0xbe, 0xac, 0x01, 0xfa,
    ];

    /// "Verifying the RSS hash calculation": the packet's destination and source, its hash by addresses alone, and that by
    /// addresses and ports.
    pub(in super::super) const VECTORS: [(&str, &str, u32, u32); 8] = [
        ("161.142.100.80:1766", "66.9.149.187:2794", 0x323e_8fc2, 0x51cc_c178),
        ("65.69.140.83:4739", "199.92.111.2:14230", 0xd718_262a, 0xc626_b0ea),
        ("12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0_a5de, 0x5c2b_394a),
        ("209.142.163.6:2217", "38.27.205.30:48228", 0x8298_9176, 0xafc7_327f),
        ("202.188.127.2:1303", "153.39.163.191:44251", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c_461c, 0xdde5_1bbf),
        ("[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61_e985, 0x02d1_feef),
    ];

    fn octets(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }
    }

    #[test]
    fn microsofts_vectors() {
        let key = Key::new(&MICROSOFT);
        for (destination, source, by_addresses, by_ports) in VECTORS {
            let (destination, source): (SocketAddr, SocketAddr) =
                (destination.parse().unwrap(), source.parse().unwrap());
            let mut input = [octets(source.ip()), octets(destination.ip())].concat();
            assert_eq!(key.hash(&input), by_addresses, "{destination} by addresses");
            input.extend(source.port().to_be_bytes());
            input.extend(destination.port().to_be_bytes());
            assert_eq!(key.hash(&input), by_ports, "{destination} with ports");
        }
    }

    #[test]
    fn a_key_hashes_four_bytes_less_than_it_has() {
        assert_eq!(Key::new(&MICROSOFT).input_bytes_max(), 36);
        assert_eq!(Key::new(&[0; 52]).input_bytes_max(), 48);
        for len in 0..5 {
            assert_eq!(Key::new(&vec![0xff; len]).input_bytes_max(), 0, "{len}");
        }
        assert_eq!(Key::new(&[0; 5]).input_bytes_max(), 1);
    }

    /// The definition, to the letter: a key that is shifted left by one for each bit of the input.
    fn by_the_book(key: &[u8], input: &[u8]) -> u32 {
        let bit = |at: usize| u32::from(key[at / 8] >> (7 - at % 8) & 1);
        let mut hash = 0;
        for at in 0..input.len() * 8 {
            if input[at / 8] >> (7 - at % 8) & 1 == 1 {
                hash ^= (0..32).fold(0, |window, next| window << 1 | bit(at + next));
            }
        }
        hash
    }

    proptest! {
        #[test]
        fn any_key_and_input_hash_as_defined(
            key in prop::collection::vec(any::<u8>(), 40..64),
            input in prop::collection::vec(any::<u8>(), 0..=36),
        ) {
            prop_assert_eq!(Key::new(&key).hash(&input), by_the_book(&key, &input));
        }
    }
}
