//! What the driver says of itself and of its settings, over the generic netlink family `ethtool`
//! (`Documentation/networking/ethtool-netlink.rst`; Linux 5.8 has all of it but the RSS table, which is of 6.3).
//!
//! Reading only; [`tune`](crate::control::tune) changes what is read here. What a driver does not have is `None` or empty, and so is everything
//! where the kernel has no such family.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::DefaultNla;

use crate::control::genetlink::{Attributes, Family, nest, number, os_code};

// include/uapi/linux/ethtool_netlink_generated.h
pub(crate) const FAMILY: &str = "ethtool";
const ETHTOOL_MSG_LINKMODES_GET: u8 = 4;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_MSG_PRIVFLAGS_GET: u8 = 13;
const ETHTOOL_MSG_RINGS_GET: u8 = 15;
const ETHTOOL_MSG_CHANNELS_GET: u8 = 17;
const ETHTOOL_MSG_COALESCE_GET: u8 = 19;
const ETHTOOL_MSG_TSINFO_GET: u8 = 25;
const ETHTOOL_MSG_RSS_GET: u8 = 38;

/// The header of every request and answer, and what stands in it.
const ETHTOOL_A_HEADER: u16 = 1;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;

const ETHTOOL_A_LINKMODES_SPEED: u16 = 5;

const ETHTOOL_A_FEATURES_HW: u16 = 2;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_FEATURES_NOCHANGE: u16 = 5;

const ETHTOOL_A_PRIVFLAGS_FLAGS: u16 = 2;

const ETHTOOL_A_RINGS_RX_MAX: u16 = 2;
const ETHTOOL_A_RINGS_TX_MAX: u16 = 5;
const ETHTOOL_A_RINGS_RX: u16 = 6;
const ETHTOOL_A_RINGS_TX: u16 = 9;
const ETHTOOL_A_RINGS_RX_BUF_LEN: u16 = 10;
const ETHTOOL_A_RINGS_TCP_DATA_SPLIT: u16 = 11;
/// `ETHTOOL_TCP_DATA_SPLIT_ENABLED`.
const TCP_DATA_SPLIT_ENABLED: u64 = 2;

const ETHTOOL_A_CHANNELS_RX_MAX: u16 = 2;
const ETHTOOL_A_CHANNELS_TX_MAX: u16 = 3;
const ETHTOOL_A_CHANNELS_COMBINED_MAX: u16 = 5;
pub(crate) const ETHTOOL_A_CHANNELS_RX_COUNT: u16 = 6;
pub(crate) const ETHTOOL_A_CHANNELS_TX_COUNT: u16 = 7;
pub(crate) const ETHTOOL_A_CHANNELS_COMBINED_COUNT: u16 = 9;

pub(crate) const ETHTOOL_A_COALESCE_RX_USECS: u16 = 2;
const ETHTOOL_A_COALESCE_RX_MAX_FRAMES: u16 = 3;
pub(crate) const ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX: u16 = 11;

const ETHTOOL_A_TSINFO_RX_FILTERS: u16 = 4;
const ETHTOOL_A_TSINFO_PHC_INDEX: u16 = 5;

const ETHTOOL_A_RSS_INDIR: u16 = 4;

pub(crate) const ETHTOOL_A_BITSET_BITS: u16 = 3;
pub(crate) const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
pub(crate) const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
pub(crate) const ETHTOOL_A_BITSET_BIT_VALUE: u16 = 3;

/// Queues, in the driver's words: channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues for receiving only, now and at most.
    pub rx: (u32, u32),
    /// Queues for sending only, now and at most.
    pub tx: (u32, u32),
    /// Pairs of both, now and at most.
    pub combined: (u32, u32),
}

impl Channels {
    /// Queues on which frames arrive.
    #[must_use]
    pub const fn receiving(&self) -> u32 {
        self.rx.0 + self.combined.0
    }
}

/// Descriptors in the rings between driver and NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rings {
    /// Of a receive queue, now and at most.
    pub rx: (u32, u32),
    /// Of a transmit queue, now and at most.
    pub tx: (u32, u32),
    /// Bytes of a receive buffer, where the driver tells it.
    pub rx_buffer_bytes: Option<u32>,
    /// Headers and payload of TCP arrive in different buffers.
    pub tcp_data_split: bool,
}

/// How long the NIC waits before it interrupts. `None`: not told by this driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalescing {
    /// Microseconds after a frame.
    pub rx_usecs: Option<u32>,
    /// Frames.
    pub rx_frames: Option<u32>,
    /// The driver changes the first figure with the load.
    pub adaptive_rx: Option<bool>,
}

/// One of the offloads that `ethtool -k` lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feature {
    /// It is on.
    pub on: bool,
    /// It can be switched.
    pub changeable: bool,
}

/// What the NIC can stamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// The frames it can stamp on arrival: `all`, or kinds of PTP messages.
    pub rx_filters: Vec<String>,
    /// The number of its clock: `/dev/ptpN`.
    pub clock: Option<u32>,
}

/// Over which queues arriving flows are spread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rss {
    /// Entries of the indirection table that name each queue.
    pub weights: BTreeMap<u32, u32>,
}

/// A conversation about one interface.
#[derive(Debug)]
pub(super) struct Ethtool {
    family: Family,
    header: DefaultNla,
}

/// The header that names an interface.
pub(crate) fn header(interface: u32) -> DefaultNla {
    nest(ETHTOOL_A_HEADER, &[number(ETHTOOL_A_HEADER_DEV_INDEX, interface)])
}

impl Ethtool {
    /// `None` where this kernel has no such family.
    pub(super) fn about(interface: u32) -> io::Result<Option<Self>> {
        Ok(Family::find(FAMILY)?.map(|family| Self { family, header: header(interface) }))
    }

    /// The answer to a question; `None` where the driver has none.
    fn get(&mut self, command: u8) -> io::Result<Option<Vec<u8>>> {
        match self.family.get(command, std::slice::from_ref(&self.header)) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => match os_code(&error) {
                // The driver, or an older kernel, does not know. ENODATA and EINVAL come from drivers without an RSS table.
                Some(libc::EOPNOTSUPP | libc::ENODATA | libc::EINVAL) => Ok(None),
                _ => Err(error),
            },
        }
    }

    pub(super) fn channels(&mut self) -> io::Result<Option<Channels>> {
        Ok(self.get(ETHTOOL_MSG_CHANNELS_GET)?.map(|answer| read_channels(Attributes(&answer))))
    }

    pub(super) fn rings(&mut self) -> io::Result<Option<Rings>> {
        Ok(self.get(ETHTOOL_MSG_RINGS_GET)?.map(|answer| read_rings(Attributes(&answer))))
    }

    pub(super) fn coalescing(&mut self) -> io::Result<Option<Coalescing>> {
        Ok(self.get(ETHTOOL_MSG_COALESCE_GET)?.map(|answer| read_coalescing(Attributes(&answer))))
    }

    pub(super) fn features(&mut self) -> io::Result<BTreeMap<String, Feature>> {
        Ok(self.get(ETHTOOL_MSG_FEATURES_GET)?.map(|answer| read_features(Attributes(&answer))).unwrap_or_default())
    }

    pub(super) fn private_flags(&mut self) -> io::Result<BTreeMap<String, bool>> {
        let Some(answer) = self.get(ETHTOOL_MSG_PRIVFLAGS_GET)? else { return Ok(BTreeMap::new()) };
        let flags = Attributes(&answer).nested(ETHTOOL_A_PRIVFLAGS_FLAGS).map(bits).unwrap_or_default();
        Ok(flags.into_iter().collect())
    }

    pub(super) fn timestamps(&mut self) -> io::Result<Option<Timestamps>> {
        Ok(self.get(ETHTOOL_MSG_TSINFO_GET)?.map(|answer| read_timestamps(Attributes(&answer))))
    }

    /// Megabits a second; `None` while there is no link, and where a link has no speed.
    pub(super) fn speed(&mut self) -> io::Result<Option<u32>> {
        const UNKNOWN: u32 = u32::MAX;
        let Some(answer) = self.get(ETHTOOL_MSG_LINKMODES_GET)? else { return Ok(None) };
        Ok(Attributes(&answer).u32(ETHTOOL_A_LINKMODES_SPEED).filter(|speed| *speed != UNKNOWN && *speed != 0))
    }

    pub(super) fn rss(&mut self) -> io::Result<Option<Rss>> {
        Ok(self.get(ETHTOOL_MSG_RSS_GET)?.and_then(|answer| read_rss(Attributes(&answer))))
    }
}

fn read_channels(attributes: Attributes<'_>) -> Channels {
    let pair = |now, most| (attributes.u32(now).unwrap_or(0), attributes.u32(most).unwrap_or(0));
    Channels {
        rx: pair(ETHTOOL_A_CHANNELS_RX_COUNT, ETHTOOL_A_CHANNELS_RX_MAX),
        tx: pair(ETHTOOL_A_CHANNELS_TX_COUNT, ETHTOOL_A_CHANNELS_TX_MAX),
        combined: pair(ETHTOOL_A_CHANNELS_COMBINED_COUNT, ETHTOOL_A_CHANNELS_COMBINED_MAX),
    }
}

fn read_rings(attributes: Attributes<'_>) -> Rings {
    let pair = |now, most| (attributes.u32(now).unwrap_or(0), attributes.u32(most).unwrap_or(0));
    Rings {
        rx: pair(ETHTOOL_A_RINGS_RX, ETHTOOL_A_RINGS_RX_MAX),
        tx: pair(ETHTOOL_A_RINGS_TX, ETHTOOL_A_RINGS_TX_MAX),
        rx_buffer_bytes: attributes.u32(ETHTOOL_A_RINGS_RX_BUF_LEN),
        tcp_data_split: attributes.number(ETHTOOL_A_RINGS_TCP_DATA_SPLIT) == Some(TCP_DATA_SPLIT_ENABLED),
    }
}

fn read_coalescing(attributes: Attributes<'_>) -> Coalescing {
    Coalescing {
        rx_usecs: attributes.u32(ETHTOOL_A_COALESCE_RX_USECS),
        rx_frames: attributes.u32(ETHTOOL_A_COALESCE_RX_MAX_FRAMES),
        adaptive_rx: attributes.number(ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX).map(|on| on != 0),
    }
}

fn read_features(attributes: Attributes<'_>) -> BTreeMap<String, Feature> {
    let names = |kind| attributes.nested(kind).map(bits).unwrap_or_default();
    let mut features = BTreeMap::new();
    for (name, value) in names(ETHTOOL_A_FEATURES_HW) {
        features.insert(name, Feature { on: false, changeable: value });
    }
    for (name, value) in names(ETHTOOL_A_FEATURES_ACTIVE) {
        features.entry(name).or_insert(Feature::default()).on = value;
    }
    for (name, _) in names(ETHTOOL_A_FEATURES_NOCHANGE) {
        features.entry(name).or_insert(Feature::default()).changeable = false;
    }
    features
}

fn read_timestamps(attributes: Attributes<'_>) -> Timestamps {
    let filters = attributes.nested(ETHTOOL_A_TSINFO_RX_FILTERS).map(bits).unwrap_or_default();
    Timestamps {
        rx_filters: filters.into_iter().filter(|(name, on)| *on && name != "none").map(|(name, _)| name).collect(),
        clock: attributes.u32(ETHTOOL_A_TSINFO_PHC_INDEX),
    }
}

fn read_rss(attributes: Attributes<'_>) -> Option<Rss> {
    let mut weights = BTreeMap::new();
    for entry in attributes.find(ETHTOOL_A_RSS_INDIR)?.as_chunks().0 {
        *weights.entry(u32::from_ne_bytes(*entry)).or_insert(0) += 1;
    }
    Some(Rss { weights })
}

/// The bits of a set that is told by name: all of them with their value, or, of a set without a mask, those that are on.
fn bits(set: Attributes<'_>) -> Vec<(String, bool)> {
    const NOMASK: u16 = 1;
    let is_list = set.find(NOMASK).is_some();
    let Some(bits) = set.nested(ETHTOOL_A_BITSET_BITS) else { return Vec::new() };
    let named = bits.iter().filter(|(kind, _)| *kind == ETHTOOL_A_BITSET_BITS_BIT).filter_map(|(_, bit)| {
        let bit = Attributes(bit);
        // Features that the kernel does not show have an empty name.
        let name = bit.text(ETHTOOL_A_BITSET_BIT_NAME).filter(|name| !name.is_empty())?;
        Some((name, is_list || bit.find(ETHTOOL_A_BITSET_BIT_VALUE).is_some()))
    });
    named.collect()
}

#[cfg(test)]
mod tests;
