//! The MAC address of the next hop, as the kernel knows it, and that it goes on knowing it.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link::Link;
use super::{Error, netlink};

/// How often and how long to look for an answer to a solicitation: 100 times every 10 ms, a second in all. The kernel
/// itself solicits three times, a second apart; on a link that works, the first is answered within a millisecond.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// The MAC address of `address` on `link`, asking the link for it where the kernel does not know it yet.
///
/// # Errors
///
/// [`Error::NoNeighbour`] where nobody answers within a second, or that the kernel could not be asked.
pub fn resolve(link: &Link, address: IpAddr) -> Result<[u8; 6], Error> {
    for attempt in 0..TRIES {
        if let Some(mac) = lookup(link.index, address)? {
            return Ok(mac);
        }
        if attempt == 0 {
            match Solicitor::new(link.index, address) {
                Ok(solicitor) => solicitor.solicit(),
                Err(error) => log::debug!("soliciting {address}: {error}"),
            }
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::NoNeighbour { interface: link.name.clone(), address })
}

/// What the kernel's neighbour table says now: `None` where it knows no address that can be used.
///
/// # Errors
///
/// That the kernel could not be asked.
pub fn lookup(interface: u32, address: IpAddr) -> Result<Option<[u8; 6]>, Error> {
    Ok(entry(interface, address)?.filter(|entry| usable(entry.header.state)).and_then(|entry| {
        entry.attributes.into_iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(mac) => mac.try_into().ok(),
            _ => None,
        })
    }))
}

fn entry(interface: u32, address: IpAddr) -> Result<Option<NeighbourMessage>, Error> {
    let question = RouteNetlinkMessage::GetNeighbour(about(interface, address));
    match netlink::get(question) {
        Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(entry) => Some(entry),
            _ => None,
        })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(source) => Err(Error::Netlink { what: "a neighbour", source }),
    }
}

/// A message about a neighbour.
fn about(interface: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = interface;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }));
    message
}

/// A neighbour that the kernel keeps reachable by itself as long as this lives: it asks for its address again before it
/// becomes old, although nothing of the kernel's own is sent there (`NTF_EXT_MANAGED`, since Linux 5.16).
///
/// A process that is killed leaves the mark on the entry: an ARP request every half a minute, until the entry or the interface
/// goes. The next one that uses the neighbour takes the mark over.
#[derive(Debug)]
pub struct Managed {
    interface: u32,
    address: IpAddr,
}

impl Managed {
    /// Has the kernel keep the neighbour. `None` where that is not its way (before Linux 5.16), where this thread may not ask
    /// for it (`CAP_NET_ADMIN`), or where somebody has set the address for good.
    #[must_use]
    pub fn keep(interface: u32, address: IpAddr) -> Option<Self> {
        let found = entry(interface, address).ok()??;
        if found.header.state == NeighbourState::Permanent {
            return None;
        }
        if !is_managed(&found) {
            mark(interface, address, NeighbourExtFlags::Managed).ok()?;
            // An older kernel reads over what it does not know.
            is_managed(&entry(interface, address).ok()??).then_some(())?;
        }
        Some(Self { interface, address })
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        // Where privileges have been given up, or the interface is gone, it stays as it is.
        if let Err(error) = mark(self.interface, self.address, NeighbourExtFlags::empty()) {
            log::debug!("{} is still kept reachable by the kernel: {error}", self.address);
        }
    }
}

fn is_managed(entry: &NeighbourMessage) -> bool {
    entry.attributes.iter().any(|attribute| match attribute {
        NeighbourAttribute::ExtFlags(flags) => flags.contains(NeighbourExtFlags::Managed),
        _ => false,
    })
}

/// Gives an entry this mark, or none. `NTF_USE`: nothing else of the entry changes (`__neigh_update`, net/core/neighbour.c).
fn mark(interface: u32, address: IpAddr, flags: NeighbourExtFlags) -> io::Result<()> {
    let mut message = about(interface, address);
    message.header.flags = NeighbourFlags::Use;
    message.attributes.push(NeighbourAttribute::ExtFlags(flags));
    netlink::replace(RouteNetlinkMessage::NewNeighbour(message))
}

/// Whether an entry's MAC address can be used. A stale one can: the kernel uses it too, and verifies it on the side.
fn usable(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    )
}

/// A socket whose datagrams, empty and to the discard port, make the kernel look for a neighbour, or verify what it knows of it.
#[derive(Debug)]
pub struct Solicitor {
    socket: UdpSocket,
}

impl Solicitor {
    /// For the neighbour with this address on the link of this interface.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn new(interface: u32, address: IpAddr) -> io::Result<Self> {
        const DISCARD: u16 = 9;
        let (from, to): (SocketAddr, SocketAddr) = match address {
            IpAddr::V4(address) => (([0, 0, 0, 0], 0).into(), (address, DISCARD).into()),
            // Gateways of IPv6 have addresses that mean something on their link alone.
            IpAddr::V6(address) => {
                (([0u16; 8], 0).into(), SocketAddrV6::new(address, DISCARD, 0, scope(interface, address)).into())
            }
        };
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        Ok(Self { socket })
    }

    /// Sends one.
    pub fn solicit(&self) {
        // If it fails, the neighbour stays unknown, and that is reported. A port that is closed says so, which is an answer.
        if let Err(error) = self.socket.send(&[])
            && error.kind() != io::ErrorKind::ConnectionRefused
        {
            log::debug!("soliciting: {error}");
        }
    }
}

fn scope(interface: u32, address: Ipv6Addr) -> u32 {
    if address.is_unicast_link_local() { interface } else { 0 }
}
