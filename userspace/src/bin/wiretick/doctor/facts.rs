//! Everything the doctor judges, gathered in one place: plain data, so that every verdict can be tried on a machine that is not there.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use wiretick::control::dial::{self, DialOptions};
use wiretick::control::link::{self, Link};
use wiretick::control::nic::{Host, Nic, Receiver, receiver};
use wiretick::control::route::{self, Route};
use wiretick::control::{Target, neighbour, owner, resolve};

use super::DoctorArgs;

/// An address that is routed over the default route, where there is one. Nothing is sent there.
const SOMEWHERE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
];

/// How long a connection to the peer may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);

/// What is known.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The machine.
    pub(crate) host: Host,
    /// The interface; or why there is none.
    pub(crate) site: Result<Site, String>,
    /// The peer, where one was named.
    pub(crate) peer: Option<Peer>,
    /// The queue that is to be used.
    pub(crate) queue: u32,
    /// The core that is to read the ring.
    pub(crate) core: Option<usize>,
}

/// Where the bypass would stand.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// The interface that the route leads over, or that was named.
    pub(crate) leaves: Link,
    /// The one that receives for it.
    pub(crate) receiver: Receiver,
    /// What the kernel says of that one.
    pub(crate) nic: Nic,
    /// The program that is on it, and who holds it.
    pub(crate) program: Option<String>,
    /// Whether that one is a feed's, which others can share.
    pub(crate) is_a_feed: bool,
}

/// The peer.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// As it was named.
    pub(crate) name: String,
    /// Its addresses, or why there are none.
    pub(crate) addresses: Result<Vec<SocketAddr>, String>,
    /// The way to the address that accepted, otherwise to the first one.
    pub(crate) route: Option<Result<Route, String>>,
    /// How long it took to connect, or why that could not be done.
    pub(crate) connected: Option<Result<(SocketAddr, Duration), String>>,
    /// The next hop's address on the link.
    pub(crate) next_hop_mac: Option<[u8; 6]>,
}

/// Looks at everything.
pub(super) fn gather(args: &DoctorArgs, target: Option<&Target>) -> Facts {
    let named = args.interface.as_deref().map(link::by_name).transpose();
    let peer = target.map(|target| peer(args, target));
    let site = match (named, &peer) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(Some(link)), _) => site(link),
        (Ok(None), Some(Peer { route: Some(route), .. })) => route
            .clone()
            .and_then(|route| link::by_index(route.interface).map_err(|error| error.to_string()))
            .and_then(site),
        (Ok(None), Some(Peer { addresses: Err(error), .. })) => Err(error.clone()),
        (Ok(None), _) => default_link().and_then(site),
    };
    Facts { host: Host::read(args.core), site, peer, queue: args.queue, core: args.core }
}

fn site(leaves: Link) -> Result<Site, String> {
    let text = |error: wiretick::control::Error| error.to_string();
    let receiver = receiver::of(&leaves).map_err(text)?;
    let nic = Nic::read(&receiver.link).map_err(text)?;
    let program = receiver.link.xdp_program;
    let is_a_feed = program.is_some_and(owner::is_a_feed);
    Ok(Site { leaves, receiver, nic, program: program.map(owner::of), is_a_feed })
}

/// The interface of the default route.
fn default_link() -> Result<Link, String> {
    SOMEWHERE
        .iter()
        .find_map(|peer| route::to(*peer, None, None).ok())
        .and_then(|route| link::by_index(route.interface).ok())
        .ok_or_else(|| "there is no default route: name the interface".to_owned())
}

fn peer(args: &DoctorArgs, target: &Target) -> Peer {
    let addresses = resolve::addresses(target).map_err(|error| error.to_string());
    let mut peer = Peer {
        name: args.host.clone().unwrap_or_default(),
        addresses,
        route: None,
        connected: None,
        next_hop_mac: None,
    };
    let Ok(addresses) = &peer.addresses else { return peer };
    let began = Instant::now();
    // This also makes the kernel look for the next hop.
    let connected = dial(args, addresses);
    let took = began.elapsed();
    let address = match connected {
        Ok((_, address)) => {
            peer.connected = Some(Ok((address, took)));
            address
        }
        Err(error) => {
            peer.connected = Some(Err(error));
            addresses[0]
        }
    };
    let interface = args.interface.as_deref().and_then(|name| link::by_name(name).ok()).map(|link| link.index);
    let route = route::to(address.ip(), None, interface).map_err(|error| error.to_string());
    if let Ok(route) = &route {
        peer.next_hop_mac = neighbour::lookup(route.interface, route.next_hop).ok().flatten();
    }
    peer.route = Some(route);
    peer
}

/// A connection to the first address that accepts.
pub(super) fn dial(args: &DoctorArgs, addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), String> {
    let options =
        DialOptions { timeout: CONNECT, receive_buffer: None, source: None, interface: args.interface.clone() };
    let stream = dial::connect(addresses, &options).map_err(|error| error.to_string())?;
    let address = stream.peer_addr().map_err(|error| error.to_string())?;
    Ok((stream, address))
}
