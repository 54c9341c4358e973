//! The MAC address of the next hop, as the kernel knows it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
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
            solicit(address);
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
    let mut question = NeighbourMessage::default();
    question.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    question.header.ifindex = interface;
    question.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }));
    let answers = match netlink::get(RouteNetlinkMessage::GetNeighbour(question)) {
        Ok(answers) => answers,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(source) => return Err(Error::Netlink { what: "a neighbour", source }),
    };
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewNeighbour(entry) if usable(entry.header.state) => {
            entry.attributes.into_iter().find_map(|attribute| match attribute {
                NeighbourAttribute::LinkLayerAddress(mac) => mac.try_into().ok(),
                _ => None,
            })
        }
        _ => None,
    }))
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

/// Makes the kernel look for a neighbour, by sending it an empty datagram to the discard port.
fn solicit(address: IpAddr) {
    const DISCARD: u16 = 9;
    let from: SocketAddr = match address {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    // If it fails, the neighbour stays unknown, and that is reported.
    let sent = UdpSocket::bind(from).and_then(|socket| socket.send_to(&[], (address, DISCARD)));
    if let Err(error) = sent {
        log::debug!("soliciting {address}: {error}");
    }
}
