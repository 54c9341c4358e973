//! What the kernel says of XDP on an interface: the generic netlink family `netdev` (`Documentation/netlink/specs/netdev.yaml`).
//!
//! Which features the driver has, which of the metadata it tells, and which NAPI serves which queue. The features are asked for since
//! Linux 6.3, the AF_XDP ones since 6.8 and queues and NAPIs since 6.8; an older kernel does not know the command, and then nothing is claimed.

use std::io;

use crate::control::genetlink::{Attributes, Family, number};

// include/uapi/linux/netdev.h
const FAMILY: &str = "netdev";
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_CMD_QUEUE_GET: u8 = 10;
const NETDEV_CMD_NAPI_GET: u8 = 11;

const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_A_DEV_XDP_ZC_MAX_SEGS: u16 = 4;
const NETDEV_A_DEV_XDP_RX_METADATA_FEATURES: u16 = 5;
const NETDEV_A_DEV_XSK_FEATURES: u16 = 6;

const NETDEV_A_QUEUE_ID: u16 = 1;
const NETDEV_A_QUEUE_IFINDEX: u16 = 2;
const NETDEV_A_QUEUE_TYPE: u16 = 3;
const NETDEV_A_QUEUE_NAPI_ID: u16 = 4;
const NETDEV_A_QUEUE_XSK: u16 = 7;
const NETDEV_QUEUE_TYPE_RX: u32 = 0;

const NETDEV_A_NAPI_IFINDEX: u16 = 1;
const NETDEV_A_NAPI_ID: u16 = 2;
const NETDEV_A_NAPI_IRQ: u16 = 3;
const NETDEV_A_NAPI_PID: u16 = 4;

const NETDEV_XDP_ACT_BASIC: u64 = 1;
const NETDEV_XDP_ACT_REDIRECT: u64 = 2;
const NETDEV_XDP_ACT_XSK_ZEROCOPY: u64 = 8;
const NETDEV_XDP_ACT_RX_SG: u64 = 32;
const NETDEV_XDP_RX_METADATA_TIMESTAMP: u64 = 1;
const NETDEV_XDP_RX_METADATA_HASH: u64 = 2;
const NETDEV_XDP_RX_METADATA_VLAN_TAG: u64 = 4;

/// What the driver can do for XDP, as the kernel tells it. A driver can change it: gve and i40e, for two, tell none while
/// something is set up that excludes XDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures {
    /// Native XDP: the program runs in the driver.
    pub native: bool,
    /// The program may redirect, which a ring takes.
    pub redirect: bool,
    /// AF_XDP without a copy.
    pub zero_copy: bool,
    /// Packets in several buffers reach the program (XDP frags).
    pub frags: bool,
    /// The most descriptors that one packet can have in zero-copy; 1 where it has to fit one chunk.
    pub zero_copy_segments: u32,
    /// The NIC's time of arrival can be asked for in the program.
    pub rx_timestamp: bool,
    /// The NIC's hash can be asked for in the program.
    pub rx_hash: bool,
    /// The tag that the NIC has stripped can be asked for in the program.
    pub rx_vlan_tag: bool,
    /// The bits of `xsk-features`: offloads for what an AF_XDP socket sends. Not used here.
    pub xsk: u64,
}

/// A receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Its number.
    pub number: u32,
    /// The NAPI that serves it, where the driver tells it.
    pub napi: Option<u32>,
    /// An AF_XDP socket is bound to it. Told since Linux 6.15, by drivers that link their queues; no more than a yes.
    pub has_xsk: bool,
}

/// A NAPI instance: what polls a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Napi {
    /// Its number, as `SO_INCOMING_NAPI_ID` tells it too.
    pub id: u32,
    /// The interrupt that wakes it.
    pub irq: Option<u32>,
    /// The thread in which it runs, where it has one of its own.
    pub thread: Option<u32>,
}

/// The features of an interface; `None` where this kernel cannot be asked.
pub(super) fn features(interface: u32) -> io::Result<Option<XdpFeatures>> {
    let Some(mut family) = Family::find(FAMILY)? else { return Ok(None) };
    let answer = family.get(NETDEV_CMD_DEV_GET, &[number(NETDEV_A_DEV_IFINDEX, interface)])?;
    Ok(Some(read_features(Attributes(&answer))))
}

fn read_features(attributes: Attributes<'_>) -> XdpFeatures {
    let has = |kind, bit| attributes.number(kind).is_some_and(|bits| bits & bit != 0);
    let xdp = |bit| has(NETDEV_A_DEV_XDP_FEATURES, bit);
    let metadata = |bit| has(NETDEV_A_DEV_XDP_RX_METADATA_FEATURES, bit);
    XdpFeatures {
        native: xdp(NETDEV_XDP_ACT_BASIC),
        redirect: xdp(NETDEV_XDP_ACT_REDIRECT),
        zero_copy: xdp(NETDEV_XDP_ACT_XSK_ZEROCOPY),
        frags: xdp(NETDEV_XDP_ACT_RX_SG),
        zero_copy_segments: attributes.u32(NETDEV_A_DEV_XDP_ZC_MAX_SEGS).unwrap_or(1),
        rx_timestamp: metadata(NETDEV_XDP_RX_METADATA_TIMESTAMP),
        rx_hash: metadata(NETDEV_XDP_RX_METADATA_HASH),
        rx_vlan_tag: metadata(NETDEV_XDP_RX_METADATA_VLAN_TAG),
        xsk: attributes.number(NETDEV_A_DEV_XSK_FEATURES).unwrap_or(0),
    }
}

/// The receive queues of an interface, by number. Empty where this kernel does not tell.
pub(super) fn queues(interface: u32) -> io::Result<Vec<Queue>> {
    let found = dump(NETDEV_CMD_QUEUE_GET, number(NETDEV_A_QUEUE_IFINDEX, interface))?;
    let mut queues: Vec<_> = found.iter().filter_map(|answer| read_queue(Attributes(answer))).collect();
    queues.sort_unstable_by_key(|queue| queue.number);
    Ok(queues)
}

fn read_queue(attributes: Attributes<'_>) -> Option<Queue> {
    if attributes.u32(NETDEV_A_QUEUE_TYPE)? != NETDEV_QUEUE_TYPE_RX {
        return None;
    }
    Some(Queue {
        number: attributes.u32(NETDEV_A_QUEUE_ID)?,
        napi: attributes.u32(NETDEV_A_QUEUE_NAPI_ID),
        has_xsk: attributes.find(NETDEV_A_QUEUE_XSK).is_some(),
    })
}

/// The NAPIs of an interface. Empty where this kernel does not tell.
pub(super) fn napis(interface: u32) -> io::Result<Vec<Napi>> {
    let found = dump(NETDEV_CMD_NAPI_GET, number(NETDEV_A_NAPI_IFINDEX, interface))?;
    let read = |answer: &Vec<u8>| {
        let attributes = Attributes(answer);
        let id = attributes.u32(NETDEV_A_NAPI_ID)?;
        Some(Napi { id, irq: attributes.u32(NETDEV_A_NAPI_IRQ), thread: attributes.u32(NETDEV_A_NAPI_PID) })
    };
    Ok(found.iter().filter_map(read).collect())
}

fn dump(command: u8, interface: netlink_packet_core::DefaultNla) -> io::Result<Vec<Vec<u8>>> {
    let Some(mut family) = Family::find(FAMILY)? else { return Ok(Vec::new()) };
    match family.dump(command, &[interface]) {
        // A family of a kernel that does not know the command yet.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
