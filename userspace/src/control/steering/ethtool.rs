//! The driver's answers about queues, RSS and flow rules, over the ethtool ioctl (linux/ethtool.h).
//!
//! Structures and numbers only; what they mean is the business of [`super::rss`] and [`super::rule`]. There is a netlink
//! interface beside the ioctl, which knows RSS (`ETHTOOL_MSG_RSS_GET`, Linux 6.3) but no flow rules; the ioctl has both, on every
//! kernel. Reading needs no privilege; inserting and deleting rules needs `CAP_NET_ADMIN` (`dev_ethtool`, net/ethtool/ioctl.c).
//!
//! The layout is checked against the header by a C compiler, where there is one (`the_header_has_the_same_layout`).

use std::io;
use std::net::IpAddr;

use super::super::offloads::{self, ethtool};
use super::rule::FlowRule;

// Commands.
const GET_STRINGS: u32 = 0x1b;
const GET_HASHED_FIELDS: u32 = 0x29;
const GET_RINGS: u32 = 0x2d;
const GET_RULE_COUNT: u32 = 0x2e;
const GET_RULE: u32 = 0x2f;
const GET_RULES: u32 = 0x30;
const DELETE_RULE: u32 = 0x31;
const INSERT_RULE: u32 = 0x32;
const GET_SET_SIZES: u32 = 0x37;
const GET_FEATURES: u32 = 0x3a;
const GET_HASHING: u32 = 0x46;

/// `ETH_SS_FEATURES`, and the length of each name in it (`ETH_GSTRING_LEN`).
const FEATURE_NAMES: u32 = 4;
const NAME_BYTES: usize = 32;
/// The feature's name (`NETIF_F_NTUPLE_BIT`, net/ethtool/common.c); `ethtool -K` calls it ntuple.
const NTUPLE: &str = "rx-ntuple-filter";
/// Words of features that are asked for: 32 in each.
const FEATURE_WORDS: usize = 8;
/// `TCP_V4_FLOW`, `TCP_V6_FLOW`.
const TCP_OVER_IPV4: u32 = 0x01;
const TCP_OVER_IPV6: u32 = 0x05;
/// `FLOW_EXT`: the VLAN counts too.
const WITH_EXTENSION: u32 = 0x8000_0000;
/// `FLOW_MAC_EXT`, `FLOW_RSS`.
const OTHER_FLAGS: u32 = 0x4000_0000 | 0x2000_0000;
/// `RX_CLS_LOC_SPECIAL` in the size of the rule table: the driver chooses locations itself.
const CHOOSES_LOCATIONS: u32 = 0x8000_0000;
/// `RX_CLS_LOC_ANY`.
pub(super) const ANY_LOCATION: u32 = 0xffff_ffff;
/// The queue in a `ring_cookie` (`ETHTOOL_RX_FLOW_SPEC_RING`); above it stands a virtual function.
const COOKIE_QUEUE: u64 = 0xffff_ffff;
/// The id in a VLAN tag.
const VLAN_ID: u16 = 0x0fff;

/// `struct ethtool_flow_ext`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FlowExtension {
    padding: [u8; 2],
    destination_mac: [u8; 6],
    vlan_ethertype: [u8; 2],
    vlan_tag: [u8; 2],
    data: [u32; 2],
}

/// `struct ethtool_rx_flow_spec`. The unions of fields and masks are `tcp_ip4_spec` (source, destination, source port, destination
/// port, TOS) or `tcp_ip6_spec` (the same with longer addresses), in network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
struct FlowSpec {
    flow_type: u32,
    fields: [u8; 52],
    extension: FlowExtension,
    field_masks: [u8; 52],
    extension_masks: FlowExtension,
    ring_cookie: u64,
    location: u32,
}

/// `struct ethtool_rxnfc` without the locations behind it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Rules {
    command: u32,
    flow_type: u32,
    data: u64,
    spec: FlowSpec,
    rule_count: u32,
}

/// Where `rule_locs` begins in `struct ethtool_rxnfc`: in what is padding of the structure without it.
const LOCATIONS_AT: usize = std::mem::offset_of!(Rules, rule_count) + size_of::<u32>();

/// The head of `struct ethtool_rxfh`, in words; the table and then the key follow.
const HASHING_WORDS: usize = 6;

impl Rules {
    fn new(command: u32) -> Self {
        let spec = FlowSpec {
            flow_type: 0,
            fields: [0; 52],
            extension: FlowExtension::default(),
            field_masks: [0; 52],
            extension_masks: FlowExtension::default(),
            ring_cookie: 0,
            location: 0,
        };
        Self { command, flow_type: 0, data: 0, spec, rule_count: 0 }
    }
}

/// Receive queues that are in use: `ETHTOOL_GCHANNELS`, and where a driver has no channels `ETHTOOL_GRXRINGS`.
pub(super) fn queues(interface: &str) -> io::Result<u32> {
    if let Ok(queues @ 1..) = offloads::receive_queues(interface) {
        return Ok(queues);
    }
    let mut rings = Rules::new(GET_RINGS);
    ethtool(interface, &mut rings)?;
    Ok(u32::try_from(rings.data).unwrap_or(u32::MAX))
}

/// Whether the driver heeds flow rules (`ethtool -k`: ntuple-filters).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ntuple {
    On,
    /// It can be switched on.
    Off,
    /// It cannot.
    FixedOff,
}

pub(super) fn ntuple(interface: &str) -> io::Result<Ntuple> {
    // `struct ethtool_sset_info`, `struct ethtool_gstrings` and `struct ethtool_gfeatures`, in words.
    let mut sizes = [GET_SET_SIZES, 0, 1 << FEATURE_NAMES, 0, 0];
    ethtool(interface, &mut sizes)?;
    let count = sizes[4] as usize;
    let mut strings = vec![0u32; 3 + count * NAME_BYTES / 4];
    (strings[0], strings[1], strings[2]) = (GET_STRINGS, FEATURE_NAMES, sizes[4]);
    ethtool(interface, &mut strings[..])?;
    let names: Vec<u8> = strings[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
    let bit = feature(&names, NTUPLE).ok_or(io::ErrorKind::Unsupported)?;
    let mut features = [0; 2 + 4 * FEATURE_WORDS];
    (features[0], features[1]) = (GET_FEATURES, FEATURE_WORDS as u32);
    ethtool(interface, &mut features)?;
    // Of each 32: available, requested, active, never changed.
    let word = features[2..].chunks_exact(4).nth(bit / 32).ok_or(io::ErrorKind::Unsupported)?;
    let has = |of: u32| of & 1 << (bit % 32) != 0;
    Ok(match (has(word[2]), has(word[0])) {
        (true, _) => Ntuple::On,
        (false, true) => Ntuple::Off,
        (false, false) => Ntuple::FixedOff,
    })
}

/// The number of a feature among names of 32 bytes each.
fn feature(names: &[u8], wanted: &str) -> Option<usize> {
    names.chunks_exact(NAME_BYTES).position(|name| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME_BYTES);
        name[..end] == *wanted.as_bytes()
    })
}

/// The fields of TCP that are hashed, as `RXH_*`.
pub(super) fn hashed_fields(interface: &str, ipv6: bool) -> io::Result<u64> {
    let mut question = Rules::new(GET_HASHED_FIELDS);
    question.flow_type = if ipv6 { TCP_OVER_IPV6 } else { TCP_OVER_IPV4 };
    ethtool(interface, &mut question)?;
    Ok(question.data)
}

/// What `ETHTOOL_GRSSH` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hashing {
    pub(super) key: Vec<u8>,
    pub(super) table: Vec<u32>,
    pub(super) function: u8,
    pub(super) transform: u8,
}

impl Hashing {
    /// Takes an answer apart; `None` where it is shorter than it says.
    pub(super) fn parse(answer: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at * 4..at * 4 + 4)?.try_into().ok()?));
        let (entries, key_bytes) = (word(2)? as usize, word(3)? as usize);
        let body = answer.get(HASHING_WORDS * 4..)?;
        let (table, rest) = body.split_at_checked(entries.checked_mul(4)?)?;
        let table = table.chunks_exact(4).map(|entry| u32::from_ne_bytes([entry[0], entry[1], entry[2], entry[3]]));
        Some(Self {
            key: rest.get(..key_bytes)?.to_vec(),
            table: table.collect(),
            function: *answer.get(16)?,
            transform: *answer.get(17)?,
        })
    }
}

/// Key, table and function.
pub(super) fn hashing(interface: &str) -> io::Result<Hashing> {
    // Asked twice: with no room, the driver tells how much it needs, and only exactly that is accepted.
    let mut head = [0; HASHING_WORDS];
    head[0] = GET_HASHING;
    ethtool(interface, &mut head)?;
    let (entries, key_bytes) = (head[2], head[3]);
    let words = HASHING_WORDS + entries as usize + (key_bytes as usize).div_ceil(4);
    let mut answer = vec![0; words];
    (answer[0], answer[2], answer[3]) = (GET_HASHING, entries, key_bytes);
    ethtool(interface, &mut answer[..])?;
    let bytes: Vec<u8> = answer.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Hashing::parse(&bytes).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// A rule table as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleTable {
    /// Rules in it.
    pub(super) rules: u32,
    /// Whether the driver chooses locations itself.
    pub(super) chooses: bool,
}

pub(super) fn rule_table(interface: &str) -> io::Result<RuleTable> {
    let mut question = Rules::new(GET_RULE_COUNT);
    ethtool(interface, &mut question)?;
    Ok(RuleTable { rules: question.rule_count, chooses: question.data & u64::from(CHOOSES_LOCATIONS) != 0 })
}

/// The locations that are taken, and the size of the table; 0 where the driver does not say.
pub(super) fn rule_locations(interface: &str) -> io::Result<(Vec<u32>, u32)> {
    // A few more than there are now: somebody may be adding some.
    let room = rule_table(interface)?.rules + 16;
    let mut answer = vec![0u32; (LOCATIONS_AT / 4 + room as usize).max(size_of::<Rules>() / 4)];
    answer[0] = GET_RULES;
    answer[LOCATIONS_AT / 4 - 1] = room;
    ethtool(interface, &mut answer[..])?;
    let count = answer[LOCATIONS_AT / 4 - 1].min(room) as usize;
    let locations = answer[LOCATIONS_AT / 4..][..count].to_vec();
    let size = u64::from_ne_bytes(std::array::from_fn(|i| answer[2 + i / 4].to_ne_bytes()[i % 4]));
    Ok((locations, size as u32 & !CHOOSES_LOCATIONS))
}

/// The rule at a location; `None` where it is no rule for one TCP flow.
pub(super) fn rule(interface: &str, location: u32) -> io::Result<Option<FlowRule>> {
    let mut question = Rules::new(GET_RULE);
    question.spec.location = location;
    ethtool(interface, &mut question)?;
    Ok(read(&question.spec))
}

/// Inserts a rule; answers where.
pub(super) fn insert_rule(interface: &str, rule: &FlowRule, location: u32) -> io::Result<u32> {
    let mut order = Rules::new(INSERT_RULE);
    order.spec = write(rule, location);
    ethtool(interface, &mut order)?;
    Ok(order.spec.location)
}

pub(super) fn delete_rule(interface: &str, location: u32) -> io::Result<()> {
    let mut order = Rules::new(DELETE_RULE);
    order.spec.location = location;
    ethtool(interface, &mut order)
}

/// The rule for the kernel. What it matches is what arrives: the peer is the source.
fn write(rule: &FlowRule, location: u32) -> FlowSpec {
    let mut spec = Rules::new(INSERT_RULE).spec;
    let mut len = 0;
    let mut put = |bytes: &[u8]| {
        spec.fields[len..len + bytes.len()].copy_from_slice(bytes);
        spec.field_masks[len..len + bytes.len()].fill(0xff);
        len += bytes.len();
    };
    for end in [rule.tuple.remote, rule.tuple.local] {
        match end.ip() {
            IpAddr::V4(address) => put(&address.octets()),
            IpAddr::V6(address) => put(&address.octets()),
        }
    }
    for end in [rule.tuple.remote, rule.tuple.local] {
        put(&end.port().to_be_bytes());
    }
    spec.flow_type = if rule.tuple.local.is_ipv6() { TCP_OVER_IPV6 } else { TCP_OVER_IPV4 };
    if let Some(vlan) = rule.vlan {
        spec.flow_type |= WITH_EXTENSION;
        spec.extension.vlan_tag = vlan.to_be_bytes();
        spec.extension_masks.vlan_tag = VLAN_ID.to_be_bytes();
    }
    spec.ring_cookie = rule.queue.into();
    spec.location = location;
    spec
}

/// The opposite; `None` for any rule that this program could not have written.
fn read(spec: &FlowSpec) -> Option<FlowRule> {
    let (ipv6, bytes) = match spec.flow_type & !(WITH_EXTENSION | OTHER_FLAGS) {
        TCP_OVER_IPV4 => (false, 12),
        TCP_OVER_IPV6 => (true, 36),
        _ => return None,
    };
    if spec.flow_type & OTHER_FLAGS != 0 || spec.field_masks[..bytes].iter().any(|mask| *mask != 0xff) {
        return None;
    }
    // A TOS or a traffic class, and what else a driver may put behind.
    if spec.field_masks[bytes..].iter().any(|mask| *mask != 0) {
        return None;
    }
    let half = (bytes - 4) / 2;
    let port = |at: usize| u16::from_be_bytes([spec.fields[at], spec.fields[at + 1]]);
    let end = |nth: usize| {
        let address = &spec.fields[nth * half..(nth + 1) * half];
        let ip = if ipv6 {
            IpAddr::from(<[u8; 16]>::try_from(address).ok()?)
        } else {
            IpAddr::from(<[u8; 4]>::try_from(address).ok()?)
        };
        Some((ip, port(2 * half + 2 * nth)).into())
    };
    let tuple = crate::floor::FourTuple { remote: end(0)?, local: end(1)? };
    let tagged = spec.flow_type & WITH_EXTENSION != 0 && spec.extension_masks.vlan_tag != [0; 2];
    let vlan = tagged.then(|| u16::from_be_bytes(spec.extension.vlan_tag) & VLAN_ID);
    // Above the queue stands a virtual function: not ours.
    let queue = (spec.ring_cookie & !COOKIE_QUEUE == 0).then_some(spec.ring_cookie as u32)?;
    Some(FlowRule { tuple, vlan, queue })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::super::super::offloads::{Channels, ETHTOOL_GCHANNELS};
    use super::*;
    use crate::floor::FourTuple;

    /// What the header says, according to a C compiler: names, and what they are here.
    fn facts() -> Vec<(String, u64)> {
        macro_rules! offsets {
            ($structure:ty, $c:literal: $($field:ident = $c_field:literal),*) => {
                vec![$((
                    format!("offsetof(struct {}, {})", $c, $c_field),
                    std::mem::offset_of!($structure, $field) as u64,
                )),*]
            };
        }
        let size = |c: &str, bytes: usize| (format!("sizeof(struct {c})"), bytes as u64);
        let number = |name: &str, value: u64| (name.to_owned(), value);
        [
            offsets!(FlowSpec, "ethtool_rx_flow_spec": flow_type = "flow_type", fields = "h_u", extension = "h_ext",
                field_masks = "m_u", extension_masks = "m_ext", ring_cookie = "ring_cookie", location = "location"),
            offsets!(FlowExtension, "ethtool_flow_ext": destination_mac = "h_dest", vlan_ethertype = "vlan_etype",
                vlan_tag = "vlan_tci", data = "data"),
            offsets!(Rules, "ethtool_rxnfc": command = "cmd", flow_type = "flow_type", data = "data", spec = "fs",
                rule_count = "rule_cnt"),
            offsets!(Channels, "ethtool_channels": receive = "rx_count", combined = "combined_count"),
            vec![
                size("ethtool_channels", size_of::<Channels>()),
                number("ETHTOOL_GCHANNELS", ETHTOOL_GCHANNELS.into()),
                size("ethtool_rx_flow_spec", size_of::<FlowSpec>()),
                size("ethtool_flow_ext", size_of::<FlowExtension>()),
                size("ethtool_rxnfc", size_of::<Rules>()),
                size("ethtool_rxfh", HASHING_WORDS * 4),
                number("offsetof(struct ethtool_rxnfc, rule_locs)", LOCATIONS_AT as u64),
                number("offsetof(struct ethtool_rxfh, indir_size)", 8),
                number("offsetof(struct ethtool_rxfh, key_size)", 12),
                number("offsetof(struct ethtool_rxfh, hfunc)", 16),
                // Where `input_xfrm` is since Linux 6.8.
                number("offsetof(struct ethtool_rxfh, hfunc) + 1", 17),
                number("offsetof(struct ethtool_rxfh, rss_config)", HASHING_WORDS as u64 * 4),
                number("offsetof(struct ethtool_tcpip4_spec, ip4src)", 0),
                number("offsetof(struct ethtool_tcpip4_spec, ip4dst)", 4),
                number("offsetof(struct ethtool_tcpip4_spec, psrc)", 8),
                number("offsetof(struct ethtool_tcpip4_spec, pdst)", 10),
                number("offsetof(struct ethtool_tcpip4_spec, tos)", 12),
                number("offsetof(struct ethtool_tcpip6_spec, ip6src)", 0),
                number("offsetof(struct ethtool_tcpip6_spec, ip6dst)", 16),
                number("offsetof(struct ethtool_tcpip6_spec, psrc)", 32),
                number("offsetof(struct ethtool_tcpip6_spec, pdst)", 34),
                number("offsetof(struct ethtool_tcpip6_spec, tclass)", 36),
                number("ETHTOOL_GSTRINGS", GET_STRINGS.into()),
                number("ETHTOOL_GSSET_INFO", GET_SET_SIZES.into()),
                number("ETHTOOL_GFEATURES", GET_FEATURES.into()),
                number("ETH_SS_FEATURES", FEATURE_NAMES.into()),
                number("ETH_GSTRING_LEN", NAME_BYTES as u64),
                number("offsetof(struct ethtool_sset_info, sset_mask)", 8),
                number("offsetof(struct ethtool_sset_info, data)", 16),
                number("offsetof(struct ethtool_gstrings, data)", 12),
                number("offsetof(struct ethtool_gfeatures, features)", 8),
                number("sizeof(struct ethtool_get_features_block)", 16),
                number("offsetof(struct ethtool_get_features_block, active)", 8),
                number("ETHTOOL_GRXFH", GET_HASHED_FIELDS.into()),
                number("ETHTOOL_GRXRINGS", GET_RINGS.into()),
                number("ETHTOOL_GRXCLSRLCNT", GET_RULE_COUNT.into()),
                number("ETHTOOL_GRXCLSRULE", GET_RULE.into()),
                number("ETHTOOL_GRXCLSRLALL", GET_RULES.into()),
                number("ETHTOOL_SRXCLSRLDEL", DELETE_RULE.into()),
                number("ETHTOOL_SRXCLSRLINS", INSERT_RULE.into()),
                number("ETHTOOL_GRSSH", GET_HASHING.into()),
                number("TCP_V4_FLOW", TCP_OVER_IPV4.into()),
                number("TCP_V6_FLOW", TCP_OVER_IPV6.into()),
                number("FLOW_EXT", WITH_EXTENSION.into()),
                number("FLOW_MAC_EXT | FLOW_RSS", OTHER_FLAGS.into()),
                number("RX_CLS_LOC_SPECIAL", CHOOSES_LOCATIONS.into()),
                number("RX_CLS_LOC_ANY", ANY_LOCATION.into()),
                number("ETHTOOL_RX_FLOW_SPEC_RING", COOKIE_QUEUE),
                number("RXH_IP_SRC", 1 << 4),
                number("RXH_IP_DST", 1 << 5),
                number("RXH_L4_B_0_1", 1 << 6),
                number("RXH_L4_B_2_3", 1 << 7),
            ],
        ]
        .concat()
    }

    /// Building the XDP program takes clang and the kernel's headers, so both are there.
    #[test]
    fn the_header_has_the_same_layout() {
        let mut text = "#include <stddef.h>\n#include <linux/types.h>\n#include <linux/ethtool.h>\n".to_owned();
        for (c, here) in facts() {
            text += &format!("_Static_assert(({c}) == {here}ULL, \"{c}\");\n");
        }
        let clang = std::env::var_os("CLANG").unwrap_or_else(|| "clang".into());
        let mut compiler = Command::new(clang)
            .args(["-x", "c", "-std=gnu11", "-fsyntax-only", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("clang, which the XDP program needs too");
        compiler.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = compiler.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn rule_of(local: &str, remote: &str, vlan: Option<u16>) -> FlowRule {
        let tuple = FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
        FlowRule { tuple, vlan, queue: 5 }
    }

    /// `ethtool -N eth0 flow-type tcp4 src-ip 198.51.100.7 dst-ip 192.0.2.1 src-port 443 dst-port 40000 action 5`.
    #[test]
    fn what_arrives_comes_from_the_peer() {
        let spec = write(&rule_of("192.0.2.1:40000", "198.51.100.7:443", None), 3);
        assert_eq!((spec.flow_type, spec.ring_cookie, spec.location), (1, 5, 3));
        assert_eq!(spec.fields[..13], [198, 51, 100, 7, 192, 0, 2, 1, 1, 187, 156, 64, 0]);
        assert_eq!(spec.field_masks[..12], [0xff; 12]);
        assert_eq!(spec.field_masks[12..], [0; 40], "the TOS is any");
        assert_eq!(spec.extension_masks.vlan_tag, [0; 2]);
    }

    #[test]
    fn a_vlan_is_an_extension_with_its_own_mask() {
        let spec = write(&rule_of("[2001:db8::1]:40000", "[2001:db8::2]:443", Some(0x123)), ANY_LOCATION);
        assert_eq!(spec.flow_type, 0x8000_0005);
        assert_eq!((spec.extension.vlan_tag, spec.extension_masks.vlan_tag), ([0x01, 0x23], [0x0f, 0xff]));
        assert_eq!(spec.fields[..16], "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(spec.fields[32..36], [1, 187, 156, 64]);
        assert_eq!(spec.field_masks[..36], [0xff; 36]);
        assert_eq!(spec.field_masks[36..], [0; 16]);
    }

    #[test]
    fn rules_of_others_are_not_taken_for_ours() {
        let ours = write(&rule_of("192.0.2.1:40000", "198.51.100.7:443", None), 3);
        assert!(read(&ours).is_some());
        let but = |change: fn(&mut FlowSpec)| {
            let mut spec = ours;
            change(&mut spec);
            read(&spec)
        };
        assert_eq!(but(|spec| spec.flow_type = 2), None, "UDP");
        assert_eq!(but(|spec| spec.flow_type |= 0x2000_0000), None, "a rule with an RSS context");
        assert_eq!(but(|spec| spec.field_masks[9] = 0), None, "any source port");
        assert_eq!(but(|spec| spec.field_masks[12] = 0xff), None, "one TOS only");
        assert_eq!(but(|spec| spec.ring_cookie = u64::MAX), None, "dropped (RX_CLS_FLOW_DISC)");
        assert_eq!(but(|spec| spec.ring_cookie |= 1 << 32), None, "to a virtual function");
        assert_eq!(but(|spec| spec.ring_cookie = 6).unwrap().queue, 6);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(
            (local, remote) in prop_oneof![
                (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
                (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            ],
            ports: (u16, u16),
            vlan in prop::option::of(0..4096u16),
            queue: u32,
        ) {
            let tuple = FourTuple { local: (local, ports.0).into(), remote: (remote, ports.1).into() };
            let rule = FlowRule { tuple, vlan, queue };
            prop_assert_eq!(read(&write(&rule, 0)), Some(rule));
        }

        #[test]
        fn any_answer_about_hashing_is_taken_apart_or_refused(answer in prop::collection::vec(any::<u8>(), 0..256)) {
            let _ = Hashing::parse(&answer);
        }
    }

    /// As a driver fills it in: the numbers of entries and key bytes, the function, then the table and the key.
    #[test]
    fn an_answer_is_a_head_a_table_and_a_key() {
        let mut answer = Vec::new();
        for word in [GET_HASHING, 0, 4, 3] {
            answer.extend(u32::to_ne_bytes(word));
        }
        answer.extend([1, 2, 0, 0]);
        answer.extend([0; 4]);
        for entry in [0u32, 1, 2, 3] {
            answer.extend(entry.to_ne_bytes());
        }
        answer.extend([0xaa, 0xbb, 0xcc]);
        let hashing = Hashing::parse(&answer).unwrap();
        assert_eq!((hashing.table, hashing.key), (vec![0, 1, 2, 3], vec![0xaa, 0xbb, 0xcc]));
        assert_eq!((hashing.function, hashing.transform), (1, 2));
        for len in 0..answer.len() {
            assert_eq!(Hashing::parse(&answer[..len]), None, "cut off at {len}");
        }
    }

    #[test]
    fn an_interface_that_does_not_exist_answers_nothing() {
        assert!(queues("wt-none0").is_err());
        assert!(hashing("wt-none0").is_err());
        assert!(rule_locations("wt-none0").is_err());
        assert!(ntuple("wt-none0").is_err());
    }

    #[test]
    fn a_feature_is_found_by_its_whole_name() {
        let mut names = [0; 4 * NAME_BYTES];
        for (name, place) in ["rx-ntuple-filter-x", "x", NTUPLE, "y"].iter().zip(names.chunks_exact_mut(NAME_BYTES)) {
            place[..name.len()].copy_from_slice(name.as_bytes());
        }
        assert_eq!(feature(&names, NTUPLE), Some(2));
        assert_eq!(feature(&names, "rx-ntuple"), None);
        assert_eq!(feature(&[], NTUPLE), None);
    }

    /// Loopback has neither, and says so.
    #[test]
    fn an_interface_without_rules_says_so() {
        assert_eq!(ntuple("lo").unwrap(), Ntuple::FixedOff);
        for error in [rule_table("lo").unwrap_err(), hashing("lo").unwrap_err()] {
            assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
        }
    }
}
