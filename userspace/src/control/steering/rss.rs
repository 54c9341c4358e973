//! Receive-side scaling: which queue a flow's frames will arrive on, worked out as the NIC does it.
//!
//! What comes in is what the driver says of its key, table, function and fields ([`Rss::read`] asks it; [`Rss::parse`] is for
//! bytes); what goes out is a [`Predictor`], which is arithmetic. What it cannot work out has a name ([`Unpredictable`]) and is not
//! guessed at.
//!
//! A prediction is not a proof. Drivers differ in more than they say (mlx5 hashed symmetrically for years without a word of it,
//! before Linux 6.15), so whoever relies on one counts real frames afterwards.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};

use super::ethtool::{self, Hashing};
use super::toeplitz::Key;
use crate::floor::FourTuple;

/// The kernel's own random key (`netdev_rss_key_fill`, net/ethtool/ioctl.c), from which most drivers take theirs.
const KERNEL_KEY: &str = "/proc/sys/net/core/netdev_rss_key";
/// Drivers that show no key and take the kernel's: `igb_setup_mrqc` (`drivers/net/ethernet/intel/igb/igb_main.c`) and
/// `igc_setup_mrqc`. They write its first ten words.
const KERNEL_KEY_DRIVERS: [&str; 2] = ["igb", "igc"];
const KERNEL_KEY_BYTES: usize = 40;

// ETH_RSS_HASH_* (include/linux/ethtool.h).
const FUNCTION_UNSAID: u8 = 0;
const FUNCTION_TOEPLITZ: u8 = 1 << 0;
const FUNCTION_XOR: u8 = 1 << 1;
const FUNCTION_CRC32: u8 = 1 << 2;

// RXH_XFRM_* and RXH_* (linux/ethtool.h).
const TRANSFORM_SYMMETRIC_XOR: u8 = 1 << 0;
const TRANSFORM_SYMMETRIC_OR_XOR: u8 = 1 << 1;
const FIELD_SOURCE: u64 = 1 << 4;
const FIELD_DESTINATION: u64 = 1 << 5;
const FIELD_SOURCE_PORT: u64 = 1 << 6;
const FIELD_DESTINATION_PORT: u64 = 1 << 7;
const FIELDS_ADDRESSES: u64 = FIELD_SOURCE | FIELD_DESTINATION;
const FIELDS_PORTS: u64 = FIELD_SOURCE_PORT | FIELD_DESTINATION_PORT;
const FIELD_NAMES: [(u64, &str); 10] = [
    (1 << 1, "destination MAC"),
    (1 << 2, "VLAN"),
    (1 << 3, "protocol"),
    (FIELD_SOURCE, "source address"),
    (FIELD_DESTINATION, "destination address"),
    (FIELD_SOURCE_PORT, "source port"),
    (FIELD_DESTINATION_PORT, "destination port"),
    (1 << 8, "GTP tunnel"),
    (1 << 9, "IPv6 flow label"),
    (1 << 31, "(discarded)"),
];

/// What a driver says of its RSS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rss {
    /// The driver's name.
    pub driver: String,
    /// The hash key, as the driver shows it; empty where it shows none.
    pub key: Vec<u8>,
    /// Whether the key is not the driver's word but the kernel's own key, which this driver is known to use.
    pub key_is_kernels: bool,
    /// The indirection table: a queue for each value of the hash's lower bits.
    pub table: Vec<u32>,
    /// The hash function (`ETH_RSS_HASH_*`); 0 where the driver does not say.
    pub function: u8,
    /// What is done to the fields before they are hashed (`RXH_XFRM_*`).
    pub transform: u8,
    /// Which fields of TCP over IPv4 are hashed (`RXH_*`); `None` where the driver does not say.
    pub fields_ipv4: Option<u64>,
    /// The same for IPv6.
    pub fields_ipv6: Option<u64>,
}

/// How a key that a driver shows is to be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its bytes are in the opposite order.
    reversed: bool,
    /// What the hash begins with.
    seed: u32,
}

impl Reading {
    const AS_SHOWN: Self = Self { reversed: false, seed: 0 };

    /// The readings that are possible with a driver, the likeliest first. More than one only where the driver's source leaves it
    /// open: counting frames then tells.
    ///
    /// ena: the device reads the key backwards (`ena_reorder_rss_hash_key` in DPDK's `drivers/net/ena/ena_rss.c` turns it round; the
    /// kernel's `ena_ethtool.c` hands it on as it is), and the kernel's driver sets an initial value of all ones
    /// (`ena_rss_init_default`, `ena_netdev.c`), of which nothing says whether Toeplitz heeds it. Not verified on hardware.
    #[must_use]
    pub fn possible(driver: &str) -> &'static [Self] {
        match driver {
            "ena" => &[Self { reversed: true, seed: u32::MAX }, Self { reversed: true, seed: 0 }, Self::AS_SHOWN],
            _ => &[Self::AS_SHOWN],
        }
    }
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.reversed { "key read backwards" } else { "key as shown" })?;
        if self.seed == 0 { Ok(()) } else { write!(f, ", initial value {:#x}", self.seed) }
    }
}

/// Why it cannot be worked out which queue a flow arrives on.
#[derive(Debug, thiserror::Error)]
pub enum Unpredictable {
    /// The driver could not be asked.
    #[error("the driver shows no RSS table ({0})")]
    NoTable(io::Error),
    /// The table has no entries.
    #[error("the driver shows an RSS table without entries")]
    EmptyTable,
    /// The driver keeps its key to itself.
    #[error("driver {driver} does not show its RSS key")]
    NoKey {
        /// The driver.
        driver: String,
    },
    /// The key is too short for the fields that are hashed.
    #[error("the RSS key has {bytes} bytes, too few for the fields that are hashed")]
    ShortKey {
        /// Its length.
        bytes: usize,
    },
    /// Another function than Toeplitz.
    #[error("the NIC's hash function is {name}, and only toeplitz is understood: ethtool -X IF hfunc toeplitz")]
    Function {
        /// As `ethtool` names it.
        name: String,
    },
    /// A transformation that is not known here.
    #[error(
        "the NIC transforms the hashed fields in a way that is not known here (input_xfrm {0:#x}): ethtool -X IF xfrm none"
    )]
    Transform(u8),
    /// Fields whose order in the input nothing defines.
    #[error("the NIC hashes {fields} of {family}, which is not understood: ethtool -N IF rx-flow-hash {flow} sdfn")]
    Fields {
        /// Their names.
        fields: String,
        /// IPv4 or IPv6.
        family: &'static str,
        /// What `ethtool` calls the flow.
        flow: &'static str,
    },
    /// Which bits of the hash select an entry is only defined for a power of two.
    #[error("the RSS table has {0} entries, which is no power of two")]
    TableSize(usize),
}

impl Rss {
    /// Asks the driver of an interface.
    ///
    /// # Errors
    ///
    /// [`Unpredictable::NoTable`] where it does not answer.
    pub fn read(interface: &str, driver: &str) -> Result<Self, Unpredictable> {
        let mut hashing = ethtool::hashing(interface).map_err(Unpredictable::NoTable)?;
        let mut key_is_kernels = false;
        if is_blank(&hashing.key) && KERNEL_KEY_DRIVERS.contains(&driver) {
            let kernels = fs::read_to_string(KERNEL_KEY).ok().and_then(|text| kernel_key(&text));
            // Only the first network namespace shows it.
            if let Some(kernels) = kernels.filter(|key| !is_blank(key)) {
                hashing.key = kernels;
                key_is_kernels = true;
            }
        }
        let Hashing { key, table, function, transform } = hashing;
        Ok(Self {
            driver: driver.to_owned(),
            key,
            key_is_kernels,
            table,
            function,
            transform,
            fields_ipv4: ethtool::hashed_fields(interface, false).ok(),
            fields_ipv6: ethtool::hashed_fields(interface, true).ok(),
        })
    }

    /// What a driver answered to `ETHTOOL_GRSSH`, byte for byte, with the fields it hashes.
    #[must_use]
    pub fn parse(driver: &str, answer: &[u8], fields_ipv4: Option<u64>, fields_ipv6: Option<u64>) -> Option<Self> {
        let Hashing { key, table, function, transform } = Hashing::parse(answer)?;
        let driver = driver.to_owned();
        Some(Self { driver, key, key_is_kernels: false, table, function, transform, fields_ipv4, fields_ipv6 })
    }

    /// The arithmetic for TCP over one family, with the key read in this way.
    ///
    /// # Errors
    ///
    /// What stands in the way; each text says what can be done about it, with `IF` for the interface.
    pub fn predictor(&self, reading: Reading, ipv6: bool) -> Result<Predictor, Unpredictable> {
        match self.function {
            // Older drivers hash by Toeplitz and have no word for it.
            FUNCTION_TOEPLITZ | FUNCTION_UNSAID => {}
            other => return Err(Unpredictable::Function { name: function_name(other) }),
        }
        let transform = match self.transform {
            0 => Transform::None,
            TRANSFORM_SYMMETRIC_XOR => Transform::SymmetricXor,
            TRANSFORM_SYMMETRIC_OR_XOR => Transform::SymmetricOrXor,
            other => return Err(Unpredictable::Transform(other)),
        };
        if self.table.is_empty() {
            return Err(Unpredictable::EmptyTable);
        }
        if !self.table.len().is_power_of_two() {
            return Err(Unpredictable::TableSize(self.table.len()));
        }
        if is_blank(&self.key) {
            return Err(Unpredictable::NoKey { driver: self.driver.clone() });
        }
        // Who does not say hashes all four: nothing else has ever been a driver's default for TCP.
        let fields = if ipv6 { self.fields_ipv6 } else { self.fields_ipv4 }.unwrap_or(FIELDS_ADDRESSES | FIELDS_PORTS);
        let ports = match fields {
            FIELDS_ADDRESSES => false,
            _ if fields == FIELDS_ADDRESSES | FIELDS_PORTS => true,
            _ => {
                let (family, flow) = if ipv6 { ("TCP over IPv6", "tcp6") } else { ("TCP over IPv4", "tcp4") };
                return Err(Unpredictable::Fields { fields: field_names(fields), family, flow });
            }
        };
        let mut key = self.key.clone();
        if reading.reversed {
            key.reverse();
        }
        let key = Key::new(&key);
        let input_bytes = if ipv6 { 32 } else { 8 } + if ports { 4 } else { 0 };
        if key.input_bytes_max() < input_bytes {
            return Err(Unpredictable::ShortKey { bytes: self.key.len() });
        }
        Ok(Predictor { key, seed: reading.seed, transform, ports, table: self.table.clone() })
    }
}

/// What is done to the fields before they are hashed (linux/ethtool.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transform {
    None,
    /// Each pair of fields is replaced by two copies of its exclusive or.
    SymmetricXor,
    /// The first copy is an or instead.
    SymmetricOrXor,
}

impl Transform {
    fn of<const N: usize>(self, source: [u8; N], destination: [u8; N]) -> ([u8; N], [u8; N]) {
        let pair = |join: fn(u8, u8) -> u8| std::array::from_fn(|i| join(source[i], destination[i]));
        let xor = pair(|a, b| a ^ b);
        match self {
            Self::None => (source, destination),
            Self::SymmetricXor => (xor, xor),
            Self::SymmetricOrXor => (pair(|a, b| a | b), xor),
        }
    }
}

/// Works out queues for TCP over one family.
#[derive(Clone, Debug)]
pub struct Predictor {
    key: Key,
    seed: u32,
    transform: Transform,
    ports: bool,
    table: Vec<u32>,
}

/// Where the frames of a flow should arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// The flow's hash.
    pub hash: u32,
    /// The entry of the table that it selects.
    pub entry: usize,
    /// How many entries the table has.
    pub entries: usize,
    /// The queue in that entry.
    pub queue: u32,
}

impl fmt::Display for Prediction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash, entry, entries, queue } = self;
        write!(f, "queue {queue} (hash {hash:#010x}, entry {entry} of {entries})")
    }
}

impl Predictor {
    /// Where frames from the peer of `tuple` should arrive.
    ///
    /// # Panics
    ///
    /// Where the tuple is of the other family.
    #[must_use]
    pub fn predict(&self, tuple: &FourTuple) -> Prediction {
        // In what arrives, the peer is the source.
        let FourTuple { remote: source, local: destination } = tuple;
        let mut input = [0; 36];
        let len = self.input(source, destination, &mut input);
        let hash = self.key.hash(&input[..len]) ^ self.seed;
        let entry = hash as usize & (self.table.len() - 1);
        Prediction { hash, entry, entries: self.table.len(), queue: self.table[entry] }
    }

    /// Lays the hashed fields out; answers how many bytes they are.
    fn input(&self, source: &SocketAddr, destination: &SocketAddr, input: &mut [u8; 36]) -> usize {
        let mut len = 0;
        let mut put = |(first, second): (&[u8], &[u8])| {
            for part in [first, second] {
                input[len..len + part.len()].copy_from_slice(part);
                len += part.len();
            }
        };
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (first, second) = self.transform.of(source.octets(), destination.octets());
                put((&first, &second));
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (first, second) = self.transform.of(source.octets(), destination.octets());
                put((&first, &second));
            }
            _ => panic!("both ends of a connection are of one family"),
        }
        if self.ports {
            let (first, second) = self.transform.of(source.port().to_be_bytes(), destination.port().to_be_bytes());
            put((&first, &second));
        }
        len
    }

    /// Whether the ports are hashed at all.
    #[must_use]
    pub fn heeds_ports(&self) -> bool {
        self.ports
    }

    /// Whether any entry of the table is this queue.
    #[must_use]
    pub fn reaches(&self, queue: u32) -> bool {
        self.table.contains(&queue)
    }
}

/// A key of zeros, or none: what drivers show that cannot tell theirs. It would send every flow to one queue.
fn is_blank(key: &[u8]) -> bool {
    key.iter().all(|byte| *byte == 0)
}

/// The kernel's key from its text, as far as drivers use it: 52 bytes in hexadecimal with colons between them.
fn kernel_key(text: &str) -> Option<Vec<u8>> {
    let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>().ok()?;
    bytes.get(..KERNEL_KEY_BYTES).map(<[u8]>::to_vec)
}

/// As `ethtool` names it.
fn function_name(function: u8) -> String {
    match function {
        FUNCTION_TOEPLITZ => "toeplitz".to_owned(),
        FUNCTION_XOR => "xor".to_owned(),
        FUNCTION_CRC32 => "crc32".to_owned(),
        FUNCTION_UNSAID => "not said".to_owned(),
        other => format!("number {other:#x}"),
    }
}

fn field_names(fields: u64) -> String {
    let names: Vec<_> = FIELD_NAMES.iter().filter(|(bit, _)| fields & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { format!("no field that has a name here ({fields:#x})") } else { names.join(", ") }
}

impl fmt::Display for Rss {
    /// In one line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = |fields: Option<u64>| fields.map_or_else(|| "not said".to_owned(), field_names);
        let key = match (is_blank(&self.key), self.key_is_kernels) {
            (true, _) => "not shown".to_owned(),
            (false, true) => format!("the kernel's ({KERNEL_KEY})"),
            (false, false) => format!("{} bytes", self.key.len()),
        };
        let transform = match self.transform {
            0 => String::new(),
            TRANSFORM_SYMMETRIC_XOR => ", symmetric-xor".to_owned(),
            TRANSFORM_SYMMETRIC_OR_XOR => ", symmetric-or-xor".to_owned(),
            other => format!(", transformation {other:#x}"),
        };
        write!(
            f,
            "function {}{transform}, key {key}, {} entries; TCP over IPv4 by {}, over IPv6 by {}",
            function_name(self.function),
            self.table.len(),
            fields(self.fields_ipv4),
            fields(self.fields_ipv6),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::toeplitz::tests::{MICROSOFT, VECTORS};
    use super::*;

    const ALL: u64 = FIELDS_ADDRESSES | FIELDS_PORTS;

    fn rss(table: Vec<u32>) -> Rss {
        Rss {
            driver: "test".to_owned(),
            key: MICROSOFT.to_vec(),
            key_is_kernels: false,
            table,
            function: FUNCTION_TOEPLITZ,
            transform: 0,
            fields_ipv4: Some(ALL),
            fields_ipv6: Some(ALL),
        }
    }

    fn tuple(local: &str, remote: &str) -> FourTuple {
        FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    /// A table whose entries are their own numbers shows the lower bits of the hash.
    #[test]
    fn microsofts_vectors_select_the_entry_of_their_lower_bits() {
        for fields in [FIELDS_ADDRESSES, ALL] {
            let rss = Rss { fields_ipv4: Some(fields), fields_ipv6: Some(fields), ..rss((0..128).collect()) };
            for (destination, source, by_addresses, by_ports) in VECTORS {
                let tuple = tuple(destination, source);
                let predictor = rss.predictor(Reading::AS_SHOWN, tuple.local.is_ipv6()).unwrap();
                let prediction = predictor.predict(&tuple);
                let hash = if fields == ALL { by_ports } else { by_addresses };
                assert_eq!((prediction.hash, prediction.queue), (hash, hash & 127), "{destination}");
                assert_eq!(predictor.heeds_ports(), fields == ALL);
            }
        }
    }

    #[test]
    fn a_symmetric_hash_is_the_same_both_ways() {
        for transform in [TRANSFORM_SYMMETRIC_XOR, TRANSFORM_SYMMETRIC_OR_XOR] {
            let rss = Rss { transform, ..rss((0..128).collect()) };
            for (destination, source, ..) in VECTORS {
                let (out, back) = (tuple(destination, source), tuple(source, destination));
                let predictor = rss.predictor(Reading::AS_SHOWN, out.local.is_ipv6()).unwrap();
                assert_eq!(predictor.predict(&out), predictor.predict(&back));
            }
        }
    }

    /// By hand, from the definition in linux/ethtool.h.
    #[test]
    fn symmetric_inputs_are_laid_out_as_defined() {
        let out = tuple("10.0.3.4:258", "192.0.2.5:772");
        let input = |transform| {
            let rss = Rss { transform, ..rss(vec![0]) };
            let mut input = [0; 36];
            let len = rss.predictor(Reading::AS_SHOWN, false).unwrap().input(&out.remote, &out.local, &mut input);
            input[..len].to_vec()
        };
        assert_eq!(input(0), [192, 0, 2, 5, 10, 0, 3, 4, 3, 4, 1, 2]);
        assert_eq!(input(TRANSFORM_SYMMETRIC_XOR), [202, 0, 1, 1, 202, 0, 1, 1, 2, 6, 2, 6]);
        assert_eq!(input(TRANSFORM_SYMMETRIC_OR_XOR), [202, 0, 3, 5, 202, 0, 1, 1, 3, 6, 2, 6]);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let good = rss(vec![0, 1]);
        let refused = |rss: Rss, ipv6| rss.predictor(Reading::AS_SHOWN, ipv6).unwrap_err().to_string();
        for (rss, word) in [
            (Rss { function: FUNCTION_XOR, ..good.clone() }, "hash function is xor"),
            (Rss { function: FUNCTION_CRC32, ..good.clone() }, "hash function is crc32"),
            (Rss { function: 8, ..good.clone() }, "number 0x8"),
            (Rss { transform: 4, ..good.clone() }, "input_xfrm 0x4"),
            (Rss { transform: 3, ..good.clone() }, "input_xfrm 0x3"),
            (Rss { key: Vec::new(), ..good.clone() }, "driver test does not show its RSS key"),
            (Rss { key: vec![0; 40], ..good.clone() }, "does not show its RSS key"),
            (Rss { key: vec![1; 15], ..good.clone() }, "15 bytes, too few"),
            (Rss { table: Vec::new(), ..good.clone() }, "without entries"),
            (Rss { table: vec![0, 1, 2], ..good.clone() }, "3 entries"),
            (Rss { fields_ipv4: Some(ALL | 4), ..good.clone() }, "VLAN"),
            (Rss { fields_ipv4: Some(FIELD_SOURCE), ..good.clone() }, "hashes source address of TCP over IPv4"),
            (Rss { fields_ipv4: Some(0), ..good.clone() }, "no field"),
        ] {
            let error = refused(rss, false);
            assert!(error.contains(word), "{word:?}: {error}");
        }
        let error = refused(Rss { fields_ipv6: Some(ALL | 1 << 9), ..good.clone() }, true);
        assert!(error.contains("IPv6 flow label") && error.contains("rx-flow-hash tcp6 sdfn"), "{error}");
        assert!(good.predictor(Reading::AS_SHOWN, true).is_ok());
        // A driver without a word for its function, or for its fields, is taken at its default; frames tell.
        let silent = Rss { function: 0, fields_ipv4: None, fields_ipv6: None, ..good };
        assert!(silent.predictor(Reading::AS_SHOWN, false).unwrap().heeds_ports());
    }

    #[test]
    fn a_key_of_40_bytes_suffices_for_ipv6_and_not_one_less() {
        let short = Rss { key: MICROSOFT[..39].to_vec(), ..rss(vec![0]) };
        assert!(short.predictor(Reading::AS_SHOWN, true).is_err());
        assert!(rss(vec![0]).predictor(Reading::AS_SHOWN, true).is_ok());
    }

    #[test]
    fn ena_has_several_readings_and_each_says_what_it_is() {
        let rss = rss((0..128).collect());
        let (destination, source, _, by_ports) = VECTORS[0];
        let tuple = tuple(destination, source);
        let hash = |rss: &Rss, reading| rss.predictor(reading, false).unwrap().predict(&tuple).hash;
        let mut backwards = rss.clone();
        backwards.key.reverse();
        let [first, second, third] = *Reading::possible("ena") else { panic!("three readings") };
        assert_eq!(hash(&backwards, first), !by_ports);
        assert_eq!(hash(&backwards, second), by_ports);
        assert_eq!(hash(&rss, third), by_ports);
        assert_eq!(first.to_string(), "key read backwards, initial value 0xffffffff");
        assert_eq!(Reading::possible("ice"), [Reading::AS_SHOWN]);
    }

    #[test]
    fn the_kernels_key_is_read_from_its_text() {
        let text = (0..52).map(|n| format!("{n:02x}")).collect::<Vec<_>>().join(":") + "\n";
        assert_eq!(kernel_key(&text), Some((0..40).collect()));
        for wrong in ["", "01:02", "zz:00", "01:02:300"] {
            assert_eq!(kernel_key(wrong), None, "{wrong:?}");
        }
    }

    /// What an igb (82576) and a virtio-net answered to `ETHTOOL_GRSSH` in a virtual machine (QEMU 10, Linux 7.3), as it came: both had
    /// taken the kernel's key and spread evenly.
    #[cfg(target_endian = "little")]
    fn recorded() -> Vec<u8> {
        let text = "460000000000000080000000280000000100000000000000".to_owned()
            + &"0000000001000000".repeat(64)
            + "592539d12284b024c244a4d1a15728759c2c357d7a83e282b85c0cc5e024d3c071de1faae9b2d4ef";
        text.as_bytes().chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    /// Connections that were made there by the kernel, from ports of its own choice, and the queue on which the XDP program saw each.
    const SEEN: [(&str, &str, [&[u16]; 2]); 4] = [
        ("10.78.0.1", "10.78.0.2:9000", [&[45410, 45438, 45440, 45464, 45474], &[32944, 45250, 45264, 45280, 45314]]),
        ("fd78::1", "[fd78::2]:9001", [&[56062, 56066, 56074, 56088, 56110], &[55924, 55930, 55942, 55954, 55970]]),
        (
            "10.78.2.1",
            "10.78.2.2:9000",
            [&[58512, 58532, 58550, 58566, 58568], &[58358, 58360, 58364, 58378, 58390, 58406]],
        ),
        (
            "fd78:0:0:2::1",
            "[fd78:0:0:2::2]:9001",
            [&[59582, 59586, 59600, 59616, 59624], &[59356, 59364, 59372, 59422]],
        ),
    ];

    #[cfg(target_endian = "little")]
    #[test]
    fn a_recorded_answer_tells_where_flows_were_seen() {
        let rss = Rss::parse("igb", &recorded(), Some(0xf0), Some(0xf0)).unwrap();
        assert_eq!((rss.key.len(), rss.table.len(), rss.function, rss.transform), (40, 128, FUNCTION_TOEPLITZ, 0));
        let mut flows = 0;
        for (local, remote, by_queue) in SEEN {
            let (local, remote): (IpAddr, SocketAddr) = (local.parse().unwrap(), remote.parse().unwrap());
            let predictor = rss.predictor(Reading::AS_SHOWN, local.is_ipv6()).unwrap();
            for (queue, ports) in by_queue.iter().enumerate() {
                for port in *ports {
                    let prediction = predictor.predict(&FourTuple { local: (local, *port).into(), remote });
                    assert_eq!(prediction.queue as usize, queue, "{local} {port} <- {remote}: {prediction}");
                    flows += 1;
                }
            }
        }
        assert_eq!(flows, 40);
        for len in 0..recorded().len() {
            assert_eq!(Rss::parse("igb", &recorded()[..len], None, None), None, "cut off at {len}");
        }
    }

    fn address(ipv6: bool) -> impl Strategy<Value = SocketAddr> {
        (any::<u128>(), any::<u16>()).prop_map(move |(bits, port)| match ipv6 {
            true => SocketAddr::new(IpAddr::V6(bits.into()), port),
            false => SocketAddr::new(IpAddr::V4((bits as u32).into()), port),
        })
    }

    proptest! {
        /// Whatever the table, the entry is the hash's lower bits and the queue is what stands there.
        #[test]
        fn the_queue_is_what_stands_in_the_entry_of_the_hash(
            (local, remote) in any::<bool>().prop_flat_map(|ipv6| (address(ipv6), address(ipv6))),
            key in prop::collection::vec(1..=255u8, 40..=52),
            table in (0..=9u32).prop_flat_map(|bits| prop::collection::vec(0..64u32, 1 << bits)),
            transform in 0..=2u8,
        ) {
            let tuple = FourTuple { local, remote };
            let rss = Rss { key, transform, ..rss(table) };
            let prediction = rss.predictor(Reading::AS_SHOWN, local.is_ipv6()).unwrap().predict(&tuple);
            prop_assert_eq!(prediction.entry, prediction.hash as usize % rss.table.len());
            prop_assert_eq!(prediction.queue, rss.table[prediction.entry]);
        }
    }
}
