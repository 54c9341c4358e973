//! The network cards that QEMU emulates, and what each is called on either side of the cable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The id of the VLAN that is spoken over every card beside untagged frames.
pub const VLAN: u16 = 10;

/// A network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Nic {
    /// Intel 82576, driver igb: two queues with RSS.
    Igb,
    /// virtio-net with `iommu_platform=on` (`VIRTIO_F_ACCESS_PLATFORM)`: buffers are mapped by the kernel's DMA interface, which
    /// is what AF_XDP's zero-copy builds on. One queue.
    Virtio,
    /// The same with RSS: two queues, and two more that the driver takes for XDP.
    VirtioRss,
    /// virtio-net as it is by default, with one queue.
    VirtioPlain,
    /// Intel 82574L, driver e1000e: no native XDP.
    E1000e,
}

impl Nic {
    /// All of them. Every guest has each once.
    pub const ALL: [Self; 5] = [Self::Igb, Self::Virtio, Self::VirtioRss, Self::VirtioPlain, Self::E1000e];

    /// How it is called here.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Igb => "igb",
            Self::Virtio => "virtio",
            Self::VirtioRss => "virtio-rss",
            Self::VirtioPlain => "virtio-plain",
            Self::E1000e => "e1000e",
        }
    }

    /// The interface in the guest.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Igb => "igb0",
            Self::Virtio => "virtio0",
            Self::VirtioRss => "rss0",
            Self::VirtioPlain => "plain0",
            Self::E1000e => "e1000e0",
        }
    }

    /// The driver, as ethtool calls it.
    #[must_use]
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Igb => "igb",
            Self::Virtio | Self::VirtioRss | Self::VirtioPlain => "virtio_net",
            Self::E1000e => "e1000e",
        }
    }

    /// Its place in [`Nic::ALL`]: part of its addresses.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Its Ethernet address.
    #[must_use]
    pub const fn mac(self) -> [u8; 6] {
        [0x02, 0x77, 0x76, 0, self.number(), 1]
    }

    /// Queues of the tap it hangs on. QEMU gives virtio-net as many pairs of queues; the others have what they have.
    #[must_use]
    pub const fn tap_queues(self) -> u32 {
        match self {
            // One for each processor, and as many again, which the driver needs for XDP.
            Self::VirtioRss => 4,
            _ => 1,
        }
    }

    /// Whether it spreads flows over two queues by a table.
    #[must_use]
    pub const fn has_table(self) -> bool {
        matches!(self, Self::Igb | Self::VirtioRss)
    }

    /// QEMU's description of it, on the network `netdev`.
    pub(super) fn device(self, netdev: &str) -> String {
        let model = match self {
            Self::Igb => "igb",
            Self::Virtio => "virtio-net-pci,disable-legacy=on,iommu_platform=on",
            // Two interrupts for each pair of queues, one for changes and one for the control queue.
            Self::VirtioRss => "virtio-net-pci,disable-legacy=on,iommu_platform=on,mq=on,vectors=10,rss=on,hash=on",
            Self::VirtioPlain => "virtio-net-pci,disable-legacy=on",
            Self::E1000e => "e1000e",
        };
        format!("{model},netdev={netdev},mac={}", colons(self.mac()))
    }

    /// The network of its cable (or of the VLAN on it), and the two ends' addresses there.
    #[must_use]
    pub fn addresses(self, tagged: bool) -> Addresses {
        let (network, number) = (if tagged { 79 } else { 78 }, self.number());
        let v4 = |end| Ipv4Addr::new(10, network, number, end);
        // Written in hexadecimal, so that 78 looks like 78.
        let v6 = |end| Ipv6Addr::new(if tagged { 0xfd79 } else { 0xfd78 }, 0, 0, number.into(), 0, 0, 0, end);
        Addresses { guest: v4(1), outside: v4(2), guest_v6: v6(1), outside_v6: v6(2) }
    }
}

/// The addresses of a cable's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// In the guest; the network has 24 bits.
    pub guest: Ipv4Addr,
    /// Where the exchange is.
    pub outside: Ipv4Addr,
    /// In the guest; the network has 64 bits.
    pub guest_v6: Ipv6Addr,
    /// Where the exchange is.
    pub outside_v6: Ipv6Addr,
}

impl Addresses {
    /// Those outside, each with the bits of its network.
    #[must_use]
    pub const fn outside_with_prefixes(&self) -> [(IpAddr, u8); 2] {
        [(IpAddr::V4(self.outside), 24), (IpAddr::V6(self.outside_v6), 64)]
    }
}

/// An Ethernet address as Linux writes it.
pub(super) fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_has_names_and_addresses_of_its_own() {
        for (at, nic) in Nic::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(nic.number()), at);
            assert!(nic.interface().len() < 16);
            for other in Nic::ALL.into_iter().filter(|other| *other != nic) {
                assert_ne!(nic.interface(), other.interface());
                assert_ne!(nic.mac(), other.mac());
                assert_ne!(nic.addresses(false), other.addresses(false));
            }
            assert_ne!(nic.addresses(false), nic.addresses(true));
        }
    }
}
