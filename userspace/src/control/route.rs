//! The way to a peer: which interface, which source address, which next hop.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Error, netlink};

/// What the kernel's routing decision for one destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The index of the interface packets leave by.
    pub interface: u32,
    /// The address packets come from.
    pub source: IpAddr,
    /// Who gets the packets on the link: the gateway, or the peer itself.
    pub next_hop: IpAddr,
}

/// Asks the kernel for the route it would take to `peer`, policy routing included.
///
/// `source` and `interface` narrow the question down, as binding a socket would.
///
/// # Errors
///
/// [`Error::Route`] where there is none, or that the kernel could not be asked.
pub fn to(peer: IpAddr, source: Option<IpAddr>, interface: Option<u32>) -> Result<Route, Error> {
    let mut question = RouteMessage::default();
    question.header.address_family = if peer.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let bits = if peer.is_ipv4() { 32 } else { 128 };
    question.header.destination_prefix_length = bits;
    question.attributes.push(RouteAttribute::Destination(peer.into()));
    if let Some(source) = source {
        question.header.source_prefix_length = bits;
        question.attributes.push(RouteAttribute::Source(source.into()));
    }
    if let Some(index) = interface {
        question.attributes.push(RouteAttribute::Oif(index));
    }
    let answers =
        netlink::get(RouteNetlinkMessage::GetRoute(question)).map_err(|cause| Error::Route { peer, source: cause })?;
    let attributes = answers
        .into_iter()
        .find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => Some(message.attributes),
            _ => None,
        })
        .unwrap_or_default();
    let (mut found_interface, mut found_source, mut gateway) = (None, source, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => found_interface = Some(index),
            RouteAttribute::PrefSource(address) => found_source = ip(&address).or(found_source),
            RouteAttribute::Gateway(address) => gateway = ip(&address),
            // A next hop of the other family, which IPv4 routes may have (RFC 5549).
            RouteAttribute::Via(via) => gateway = via_ip(&via),
            _ => {}
        }
    }
    match (found_interface, found_source) {
        (Some(interface), Some(source)) => Ok(Route { interface, source, next_hop: gateway.unwrap_or(peer) }),
        _ => Err(Error::Route {
            peer,
            source: std::io::Error::other("the kernel's answer names no interface or source"),
        }),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match *address {
        RouteAddress::Inet(address) => Some(address.into()),
        RouteAddress::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

fn via_ip(via: &netlink_packet_route::route::RouteVia) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteVia;
    match *via {
        RouteVia::Inet(address) => Some(address.into()),
        RouteVia::Inet6(address) => Some(address.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_ourselves_leads_over_loopback() {
        let peer: IpAddr = "127.0.0.1".parse().unwrap();
        let route = to(peer, None, None).unwrap();
        assert_eq!(route.source, peer);
        assert_eq!(route.next_hop, peer);
        assert_eq!(super::super::link::by_index(route.interface).unwrap().name, "lo");
    }

    #[test]
    fn no_route_is_an_error_that_names_the_peer() {
        // Class E is never routed.
        let error = to("240.0.0.1".parse().unwrap(), None, None);
        if let Err(error) = error {
            assert!(error.to_string().contains("240.0.0.1"), "{error}");
        }
    }
}
