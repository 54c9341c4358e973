//! Network namespaces joined by veth pairs: a client's machine, an exchange's machine, and if asked for a router between
//! them.
//!
//! ```text
//!   client0 ------------------ exchange0              10.77.0.1, fd77::1      10.77.0.2, fd77::2
//!
//!   client0 ------ router0 router1 ------ exchange0   10.77.0.1, fd77:0::1    10.77.1.2, fd77:0:0:1::2
//!
//!   client0 --- wire0 (impaired) wire1 --- ...        as above: to both sides the wire is a cable
//! ```
//!
//! A [`Topology`] is a guard. The namespaces have no names, so they end with the last thing that holds them: the guard,
//! a socket, a child process. Nothing is visible on the machine while they live and nothing is left when they are gone,
//! also when the process that built them is killed with SIGKILL.
//!
//! What comes in is a [`Plan`]; what goes out are [`Host`]s, each with its namespace and its interface. The machine's
//! own namespace is never changed: every request asks first where its thread stands.

mod error;
mod namespace;
mod netlink;
mod offload;
mod tagger;
mod tap;
mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd as _;

pub use error::Error;
pub use namespace::{Namespace, pin};
pub use tagger::Tagger;
pub use tap::{Tap, TapPlan};
pub use wire::{PortCounters, Wire};

use namespace::{set_sysctl, set_sysctl_if_there};
use netlink::{Netlink, NewEnd};

use crate::impair;

/// What a topology shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The largest IP packet on every link, in bytes: 1280 (IPv6's least) to 65,535.
    ///
    /// Default 1500. Native XDP on a veth refuses anything over about 3,500.
    pub mtu: u32,
    /// Receive and transmit queues of every interface.
    ///
    /// Default 1. A native XDP program on one end wants at least as many receive queues there as the other end has
    /// transmit queues: both ends get the same number.
    pub queues: u32,
    /// Frames that wait before each transmit queue, on every interface.
    ///
    /// Default 10,000. A veth has no queue of its own, and behind it a ring of 256 slots: without a queue the 257th frame
    /// of a burst is dropped. One TCP connection may have 4 MiB below it, some 2,800 full frames: with fewer, two busy
    /// connections lose frames; with more, nothing is gained.
    pub queue_frames: u32,
    /// Whether a router stands between the client and the exchange, each in a network of its own.
    ///
    /// Default no.
    pub router: bool,
    /// The largest packet, in bytes, that the router passes on to the exchange; it says so to who sends a larger one. The
    /// exchange does not know. Means nothing without a router.
    pub router_mtu: Option<u32>,
    /// Whether the kernel may leave TCP checksums blank and hand over segments of up to 64 KiB, as a veth does unless told
    /// otherwise.
    ///
    /// Default no: the frames are those of a real wire, in both directions. A reader of raw frames, such as AF_XDP, needs
    /// that; two kernels with a veth between them would not.
    pub offloads: bool,
    /// The core on which the exchange's kernel takes in what arrives there: its half of TCP, and what TCP then sends.
    ///
    /// Default none: on a veth all that runs on the core of whoever sent the frame, within its system call. For messages one
    /// by one that is the quickest way (to another core it takes an interrupt, which a virtual machine makes expensive); a
    /// client that acknowledges a saturated stream does the exchange's work that way, while the exchange's core idles.
    ///
    /// It takes `net.core.rps_default_mask` (receive packet steering, Linux 6.3). An older kernel leaves things as they are,
    /// which [`Topology::is_steered`] tells.
    pub exchange_core: Option<usize>,
    /// What the wire at the client's interface does to what passes, in both directions.
    ///
    /// Default none: that wire is a veth pair, and does nothing. Otherwise it is two, with a thread between them that
    /// carries every frame ([`Wire`]); the largest packet that joining makes is this plan's MTU. Not together with
    /// [`Plan::offloads`].
    pub wire: Option<impair::Plan>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            mtu: 1500,
            queues: 1,
            queue_frames: 10_000,
            router: false,
            router_mtu: None,
            offloads: false,
            exchange_core: None,
            wire: None,
        }
    }
}

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The name inside its namespace.
    pub name: &'static str,
    /// The index inside its namespace.
    pub index: u32,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// The IPv4 address; the network has 24 bits.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address; the network has 64 bits.
    pub ipv6: Ipv6Addr,
    /// The largest IP packet.
    pub mtu: u32,
    /// Receive queues, and as many transmit queues.
    pub queues: u32,
}

/// A machine with one interface.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where its programs run.
    pub ns: Namespace,
    /// Its end of the link.
    pub interface: Interface,
    /// The other end of its link: what stands there as source of every frame that arrives.
    pub next_hop: Interface,
}

impl Host {
    /// Its IPv4 address with a port.
    #[must_use]
    pub const fn v4(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.interface.ipv4), port)
    }

    /// Its IPv6 address with a port.
    #[must_use]
    pub const fn v6(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.interface.ipv6), port)
    }
}

/// A machine with an interface to either side.
#[derive(Clone, Debug)]
pub struct Router {
    /// Where it forwards.
    pub ns: Namespace,
    /// Its end of the client's link.
    pub to_client: Interface,
    /// Its end of the exchange's link.
    pub to_exchange: Interface,
}

/// Namespaces and links, for as long as this value lives.
#[derive(Debug)]
pub struct Topology {
    /// Where the client runs.
    pub client: Host,
    /// Where the exchange runs.
    pub exchange: Host,
    /// What stands between them, if the plan asks for it.
    pub router: Option<Router>,
    /// The wire that impairs, if the plan asks for it.
    pub wire: Option<Wire>,
    /// Whether [`Plan::exchange_core`] is in effect.
    pub is_steered: bool,
}

impl Topology {
    /// Builds what `plan` says. When this returns, TCP connects both ways over IPv4 and IPv6.
    ///
    /// # Errors
    ///
    /// Without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, on a kernel that lacks what the plan needs (the error names the build
    /// option), or where the plan's numbers are out of range.
    pub fn new(plan: &Plan) -> Result<Self, Error> {
        if !(1280..=65_535).contains(&plan.mtu) {
            return Err(Error::Plan("the MTU must be from 1280 to 65,535"));
        }
        if !(1..=1024).contains(&plan.queues) {
            return Err(Error::Plan("an interface has from 1 to 1,024 queues"));
        }
        if plan.offloads && plan.wire.is_some() {
            return Err(Error::Plan("a wire that impairs carries frames as they are: it needs offloads switched off"));
        }
        let client = Namespace::new()?;
        let exchange = Namespace::new()?;
        if plan.queues > 1 {
            client.enter(keep_queues)??;
            exchange.enter(keep_queues)??;
        }
        // Before the interface is made: it takes the mask that it finds.
        let is_steered = match plan.exchange_core {
            Some(core) => exchange.enter(|| steer(core))??,
            None => false,
        };
        if !plan.router {
            let (near, far, wire) = clients_link(plan, (&client, "client0", 0, 1), (&exchange, "exchange0", 0, 2))?;
            return Ok(Self {
                client: Host { ns: client, interface: near.clone(), next_hop: far.clone() },
                exchange: Host { ns: exchange, interface: far, next_hop: near },
                router: None,
                wire,
                is_steered,
            });
        }
        let router = Namespace::new()?;
        let (client0, router0, wire) = clients_link(plan, (&client, "client0", 0, 1), (&router, "router0", 0, 254))?;
        let (exchange0, router1) = link(plan, (&exchange, "exchange0", 1, 2), (&router, "router1", 1, 254))?;
        router.enter(|| {
            set_sysctl("ipv4/ip_forward", "1")?;
            set_sysctl("ipv6/conf/all/forwarding", "1")
        })??;
        if let Some(mtu) = plan.router_mtu {
            router.enter(|| {
                let mut netlink = Netlink::open()?;
                netlink.add_narrow_route(IpAddr::V4(exchange0.ipv4), router1.index, mtu)?;
                netlink.add_narrow_route(IpAddr::V6(exchange0.ipv6), router1.index, mtu)
            })??;
        }
        for (ns, gateway) in [(&client, &router0), (&exchange, &router1)] {
            ns.enter(|| {
                let mut netlink = Netlink::open()?;
                netlink.add_default_route(IpAddr::V4(gateway.ipv4))?;
                netlink.add_default_route(IpAddr::V6(gateway.ipv6))
            })??;
        }
        Ok(Self {
            client: Host { ns: client, interface: client0, next_hop: router0.clone() },
            exchange: Host { ns: exchange, interface: exchange0, next_hop: router1.clone() },
            router: Some(Router { ns: router, to_client: router0, to_exchange: router1 }),
            wire,
            is_steered,
        })
    }
}

/// One end of a link to be: where, under which name, in which of the networks, with which number in it.
type End<'a> = (&'a Namespace, &'static str, u8, u8);

/// Has what arrives at the interfaces that this namespace is yet to get processed on `core`; answers whether the kernel
/// can do that.
fn steer(core: usize) -> Result<bool, Error> {
    // A bit mask in hexadecimal, in words of 32 bits, the lowest last.
    let mask = format!("{:x}{}", 1u32 << (core % 32), ",00000000".repeat(core / 32));
    set_sysctl_if_there("core/rps_default_mask", &mask)
}

/// Connections that begin after this keep the hash drawn for them, also when segments have timed out (`net.core.txrehash`, Linux 5.18).
///
/// A veth's receive queue follows from that hash. A NIC's follows from addresses and ports, which a timeout does not change.
fn keep_queues() -> Result<bool, Error> {
    set_sysctl_if_there("core/txrehash", "0")
}

/// The link at the client, with a wire in it if the plan asks for one.
fn clients_link(plan: &Plan, near: End<'_>, far: End<'_>) -> Result<(Interface, Interface, Option<Wire>), Error> {
    let Some(impairments) = &plan.wire else {
        let (near, far) = link(plan, near, far)?;
        return Ok((near, far, None));
    };
    let ns = Namespace::new()?;
    // To its own kernel, the wire's ports are no interfaces to speak on.
    ns.enter(|| set_sysctl("ipv6/conf/default/disable_ipv6", "1"))??;
    let ports = [(&ns, "wire0", 0, 252), (&ns, "wire1", 0, 253)];
    for (end, port) in [(near, ports[0]), (far, ports[1])] {
        create(plan, end, port)?;
    }
    let indices = [bring_up(plan, ports[0], &[])?, bring_up(plan, ports[1], &[])?];
    let ends = (set_up(plan, near)?, set_up(plan, far)?);
    await_all(&[near, ports[0], ports[1], far])?;
    let impairments = impair::Plan { mtu: plan.mtu as usize, ..impairments.clone() };
    let wire = Wire::start(&ns, indices, impairments)?;
    Ok((ends.0, ends.1, Some(wire)))
}

/// Joins two namespaces and sets both ends up.
fn link(plan: &Plan, near: End<'_>, far: End<'_>) -> Result<(Interface, Interface), Error> {
    create(plan, near, far)?;
    let ends = (set_up(plan, near)?, set_up(plan, far)?);
    await_all(&[near, far])?;
    Ok(ends)
}

fn create(plan: &Plan, near: End<'_>, far: End<'_>) -> Result<(), Error> {
    let new_end = |end: &End<'_>| NewEnd { name: end.1, mac: mac_of(end), mtu: plan.mtu, queues: plan.queues };
    near.0.enter(|| Netlink::open()?.create_veth(&new_end(&near), &new_end(&far), far.0.as_fd()))?
}

fn await_all(ends: &[End<'_>]) -> Result<(), Error> {
    ends.iter().try_for_each(|(ns, name, ..)| ns.enter(|| Netlink::open()?.await_operation(name))?)
}

/// Brings an end up, with the addresses that follow from its numbers.
fn set_up(plan: &Plan, end: End<'_>) -> Result<Interface, Error> {
    let (_, name, network, number) = end;
    let ipv4 = Ipv4Addr::new(10, 77, network, number);
    let ipv6 = Ipv6Addr::new(0xfd77, 0, 0, network.into(), 0, 0, 0, number.into());
    let index = bring_up(plan, end, &[(IpAddr::V4(ipv4), 24), (IpAddr::V6(ipv6), 64)])?;
    Ok(Interface { name, index, mac: mac_of(&end), ipv4, ipv6, mtu: plan.mtu, queues: plan.queues })
}

/// Loopback, offloads, queue, addresses, up. In this order, so that no frame ever leaves under other rules. Answers the
/// interface's index.
fn bring_up(plan: &Plan, (ns, name, ..): End<'_>, addresses: &[(IpAddr, u8)]) -> Result<u32, Error> {
    ns.enter(|| {
        let mut netlink = Netlink::open()?;
        let loopback = netlink.index_of("lo")?;
        netlink.set_up(loopback)?;
        let index = netlink.index_of(name)?;
        if !plan.offloads {
            offload::switch_off(name)?;
        }
        netlink.add_queue(index, plan.queues, plan.queue_frames)?;
        for &(address, prefix) in addresses {
            netlink.add_address(index, address, prefix)?;
        }
        netlink.set_up(index)?;
        Ok(index)
    })?
}

/// Locally administered (02), then network and number in the clear: readable in a capture.
const fn mac_of(end: &End<'_>) -> [u8; 6] {
    [0x02, 0x77, 0x74, 0, end.2, end.3]
}
