//! What the kernel says of an interface and of the machine: asked, and not guessed.
//!
//! A [`Nic`] is everything that decides whether and how an interface can serve the bypass: what its driver can do, how it is set up, which
//! interrupts go where. A [`Host`] is the rest of the machine. Both are plain data, gathered in one place, so that what is made of them (a
//! preset of [`tune`](super::tune), a verdict of `wiretick doctor`) can be tried on any machine there could be. Reading changes nothing and needs
//! no privilege.

mod cpus;
pub(super) mod ethtool;
pub mod host;
mod irq;
pub mod kernel;
pub mod receiver;
#[cfg(test)]
mod recorded;
mod xdp;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

pub use cpus::Cpus;
pub use ethtool::{Channels, Coalescing, Feature, Rings, Rss, Timestamps};
pub use host::Host;
pub use irq::Irq;
pub use receiver::Receiver;
pub use xdp::{Napi, Queue, XdpFeatures};

use self::ethtool::Ethtool;
use super::link::Link;
use super::{Error, offloads};

/// An interface. What its driver or the kernel does not tell is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The largest IP packet, in bytes.
    pub mtu: u32,
    /// What drives it.
    pub driver: offloads::Driver,
    /// What the driver can do for XDP. `None`: the kernel does not tell (before Linux 6.3).
    pub xdp: Option<XdpFeatures>,
    /// Its queues.
    pub channels: Option<Channels>,
    /// Its rings.
    pub rings: Option<Rings>,
    /// How long it waits before it interrupts.
    pub coalescing: Option<Coalescing>,
    /// Its offloads, by the name that `ethtool -k` gives them.
    pub features: BTreeMap<String, Feature>,
    /// Switches that only this driver has.
    pub private_flags: BTreeMap<String, bool>,
    /// What it can stamp.
    pub timestamps: Option<Timestamps>,
    /// Megabits a second.
    pub speed_mbit: Option<u32>,
    /// Over which queues flows are spread.
    pub rss: Option<Rss>,
    /// Its receive queues, and the NAPIs that serve them.
    pub queues: Vec<Queue>,
    /// Its NAPIs.
    pub napis: Vec<Napi>,
    /// The NUMA node it is on, on a machine that has several.
    pub numa_node: Option<usize>,
    /// Its interrupts.
    pub irqs: Vec<Irq>,
    /// Empty polls before interrupts are let in again (`napi_defer_hard_irqs`).
    pub defer_hard_irqs: Option<u64>,
    /// Nanoseconds without a poll after which the kernel polls by itself (`gro_flush_timeout`).
    pub gro_flush_timeout_ns: Option<u64>,
}

/// The names of offloads that matter here, as the kernel spells them (net/ethtool/common.c, `netdev_features_strings`).
pub mod feature {
    /// Segments merged by the NIC, in a way that cannot be undone.
    pub const LRO: &str = "rx-lro";
    /// Segments merged by the NIC, in a way that can be.
    pub const GRO_HW: &str = "rx-gro-hw";
    /// Segments merged by the kernel.
    pub const GRO: &str = "rx-gro";
    /// VLAN tags taken off by the NIC.
    pub const RX_VLAN: &str = "rx-vlan-hw-parse";
    /// Flows steered by rules.
    pub const NTUPLE: &str = "rx-ntuple-filter";
}

impl Nic {
    /// Asks for everything there is to know of an interface.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`] where the kernel could not be asked at all. What a driver does not know is no error.
    pub fn read(link: &Link) -> Result<Self, Error> {
        Self::ask(link).map_err(|source| Error::Netlink { what: "what the interface is", source })
    }

    fn ask(link: &Link) -> io::Result<Self> {
        let sys = Path::new("/sys");
        let mut nic = Self {
            name: link.name.clone(),
            index: link.index,
            mtu: link.mtu,
            driver: offloads::details(&link.name),
            xdp: xdp::features(link.index)?,
            queues: xdp::queues(link.index)?,
            napis: xdp::napis(link.index)?,
            irqs: irq::of(sys, Path::new("/proc"), &link.name),
            numa_node: numa_node(sys, &link.name),
            defer_hard_irqs: attribute(sys, &link.name, "napi_defer_hard_irqs"),
            gro_flush_timeout_ns: attribute(sys, &link.name, "gro_flush_timeout"),
            ..Self::default()
        };
        if let Some(mut ethtool) = Ethtool::about(link.index)? {
            nic.channels = ethtool.channels()?;
            nic.rings = ethtool.rings()?;
            nic.coalescing = ethtool.coalescing()?;
            nic.features = ethtool.features()?;
            nic.private_flags = ethtool.private_flags()?;
            nic.timestamps = ethtool.timestamps()?;
            nic.speed_mbit = ethtool.speed()?;
            nic.rss = ethtool.rss()?;
        }
        Ok(nic)
    }

    /// Whether an offload is on; one that the kernel does not know is off.
    #[must_use]
    pub fn is_on(&self, feature: &str) -> bool {
        self.features.get(feature).is_some_and(|feature| feature.on)
    }

    /// Whether an offload can be switched.
    #[must_use]
    pub fn can_switch(&self, feature: &str) -> bool {
        self.features.get(feature).is_some_and(|feature| feature.changeable)
    }

    /// Queues on which frames arrive; at least 1.
    #[must_use]
    pub fn receive_queues(&self) -> u32 {
        let by_channels = self.channels.map_or(0, |channels| channels.receiving());
        by_channels.max(u32::try_from(self.queues.len()).unwrap_or(u32::MAX)).max(1)
    }

    /// The interrupt that belongs to a receive queue: by its NAPI where the driver tells that, otherwise by a name that ends in the
    /// queue's number (`eth0-TxRx-3`, `ena-Tx-Rx-0`, `virtio3-input.0`).
    #[must_use]
    pub fn irq_of(&self, queue: u32) -> Option<&Irq> {
        let napi = self.queues.iter().find(|found| found.number == queue).and_then(|found| found.napi);
        let number = self.napis.iter().find(|found| Some(found.id) == napi).and_then(|found| found.irq);
        if let Some(irq) = self.irqs.iter().find(|irq| Some(irq.number) == number) {
            return Some(irq);
        }
        let serves = |irq: &&Irq| {
            let name = irq.name.to_ascii_lowercase();
            let receives = ["rx", "input", "comp", "queue", "ntfy"].iter().any(|word| name.contains(word));
            let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            receives && name[name.len() - digits..].parse() == Ok(queue)
        };
        self.irqs.iter().find(serves)
    }
}

/// A number that the kernel shows for an interface below /sys/class/net.
fn attribute(sys: &Path, interface: &str, name: &str) -> Option<u64> {
    fs::read_to_string(sys.join("class/net").join(interface).join(name)).ok()?.trim().parse().ok()
}

/// The node of the device; the kernel says -1 where there is only one.
fn numa_node(sys: &Path, interface: &str) -> Option<usize> {
    let device = irq::device(sys, interface)?;
    [device.join("numa_node"), device.join("../numa_node")]
        .iter()
        .find_map(|file| fs::read_to_string(file).ok())
        .and_then(|text| text.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::link;

    #[test]
    fn loopback_tells_what_it_is_and_claims_nothing() {
        let nic = Nic::read(&link::by_name("lo").unwrap()).unwrap();
        assert_eq!(nic.name, "lo");
        assert_eq!((nic.channels, nic.rings, &nic.rss), (None, None, &None));
        assert!(nic.irqs.is_empty() && nic.private_flags.is_empty());
        assert!(nic.features.is_empty() || nic.features.contains_key(feature::GRO), "{:?}", nic.features);
        if let Some(xdp) = nic.xdp {
            assert!(!xdp.native && !xdp.zero_copy, "{xdp:?}");
        }
        assert_eq!(nic.receive_queues(), 1);
    }

    #[test]
    fn an_interrupt_belongs_to_a_queue_by_its_napi_or_by_its_name() {
        let irq = |number, name: &str| Irq {
            number,
            name: name.to_owned(),
            allowed: Cpus::default(),
            effective: Cpus::default(),
            counts: Vec::new(),
        };
        let irqs = vec![irq(40, "virtio3-config"), irq(41, "virtio3-input.0"), irq(42, "virtio3-output.0")];
        let mut nic = Nic { irqs, ..Nic::default() };
        assert_eq!(nic.irq_of(0).unwrap().number, 41);
        assert_eq!(nic.irq_of(1), None);
        nic.queues = vec![Queue { number: 0, napi: Some(8193), has_xsk: false }];
        nic.napis = vec![Napi { id: 8193, irq: Some(42), thread: None }];
        assert_eq!(nic.irq_of(0).unwrap().number, 42, "what the driver tells counts for more");
        nic.irqs = vec![irq(50, "ena-mgmnt@pci:0000:00:05.0"), irq(51, "eth0-Tx-Rx-0"), irq(60, "eth0-Tx-Rx-10")];
        (nic.queues, nic.napis) = (Vec::new(), Vec::new());
        assert_eq!((nic.irq_of(0).unwrap().number, nic.irq_of(10).unwrap().number), (51, 60));
        assert_eq!(nic.irq_of(1), None);
    }
}
