//! The way to the peer: name, route, connection, next hop.

use crate::doctor::facts::{Facts, Peer, Site};
use crate::doctor::finding::Finding;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let Some(peer) = &facts.peer else { return Vec::new() };
    vec![name(peer), route(peer, facts.site.as_ref().ok()), connection(peer), neighbour(peer)]
}

fn name(peer: &Peer) -> Finding {
    const CHECK: &str = "name";
    match &peer.addresses {
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            Finding::ok(CHECK, format!("{}: {}", peer.name, addresses.join(", ")))
        }
        Err(error) => Finding::fail(CHECK, error)
            .means("nothing can be connected to")
            .command(format!("getent ahosts {}", peer.name)),
    }
}

fn route(peer: &Peer, site: Option<&Site>) -> Finding {
    const CHECK: &str = "route";
    match (&peer.route, site) {
        (None, _) => Finding::fail(CHECK, "no address, so no route"),
        (Some(Err(error)), _) => Finding::fail(CHECK, error),
        (Some(Ok(route)), Some(site)) if route.interface != site.leaves.index => {
            Finding::fail(CHECK, format!("leads over interface {}, and not over {}", route.interface, site.leaves.name))
                .means("frames of the connection do not arrive on the interface that was named")
                .command(format!("ip route get {}", route.next_hop))
        }
        (Some(Ok(route)), site) => {
            let over = site.map_or_else(String::new, |site| format!("over {} ", site.leaves.name));
            Finding::ok(CHECK, format!("{over}from {} by {}", route.source, route.next_hop))
        }
    }
}

fn connection(peer: &Peer) -> Finding {
    const CHECK: &str = "connection";
    match &peer.connected {
        None => Finding::fail(CHECK, "not tried: there is no address"),
        Some(Ok((address, took))) => {
            Finding::ok(CHECK, format!("{address} accepts within {:.1} ms", took.as_secs_f64() * 1e3))
        }
        Some(Err(error)) => {
            Finding::fail(CHECK, error).means("nothing can be proven, or streamed, without a connection")
        }
    }
}

fn neighbour(peer: &Peer) -> Finding {
    const CHECK: &str = "neighbour";
    match (&peer.route, peer.next_hop_mac) {
        (Some(Ok(route)), Some(mac)) => {
            let mac: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
            Finding::ok(CHECK, format!("{} is {}", route.next_hop, mac.join(":")))
        }
        (Some(Ok(route)), None) => Finding::fail(CHECK, format!("{} has no MAC address", route.next_hop))
            .means("the ring does not know where to send frames to")
            .command(format!("ip neigh show {}", route.next_hop)),
        _ => Finding::fail(CHECK, "no route, so no next hop"),
    }
}
