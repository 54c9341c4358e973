//! The few rtnetlink requests a topology is made of, one at a time, each answered before the next is sent.
//!
//! What comes in are interface names, addresses and gateways; what goes out is the kernel's yes or no. A [`Netlink`]
//! can only be had by a thread that stands in a namespace of the testbed's own, and acts on that namespace alone.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use super::Error;
use super::namespace::assert_not_the_machines;

/// `TCA_OPTIONS` of linux/rtnetlink.h. For pfifo it holds the bare structure, not attributes, so it is written as bytes.
const TCA_OPTIONS: u16 = 2;

/// One end of a veth pair that is to be made.
pub(super) struct NewEnd<'a> {
    pub(super) name: &'a str,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) queues: u32,
}

/// A conversation with the kernel about the namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens the conversation, unless the thread stands in the machine's own namespace.
    pub(super) fn open() -> Result<Self, Error> {
        assert_not_the_machines()?;
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|source| Error::from_kernel("opening rtnetlink", "CONFIG_NET", source))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes a veth pair: `near` here, `far` in the namespace behind `door`. Both are down.
    pub(super) fn create_veth(
        &mut self,
        near: &NewEnd<'_>,
        far: &NewEnd<'_>,
        door: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        let mut peer = LinkMessage::default();
        peer.attributes = end_attributes(far);
        // Born in its own namespace: there is no moment at which both ends stand in one.
        peer.attributes.push(LinkAttribute::NetNsFd(door.as_raw_fd()));
        let mut link = LinkMessage::default();
        link.attributes = end_attributes(near);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL).map_err(|source| {
            let action = format!("creating the veth pair {} - {}", near.name, far.name);
            Error::from_kernel(action, "CONFIG_VETH", source)
        })
    }

    /// The index of an interface.
    pub(super) fn index_of(&mut self, name: &str) -> Result<u32, Error> {
        Ok(self.link(name)?.header.index)
    }

    /// Waits until an interface that is set up is in operation: its other end is up, too, and the kernel has drawn its
    /// conclusions. It does so in the background; until then packets are dropped and IPv6 has no route.
    pub(super) fn await_operation(&mut self, name: &str) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let link = self.link(name)?;
            if link.attributes.contains(&LinkAttribute::OperState(State::Up)) {
                // Changes nothing, but takes the lock under which those conclusions are drawn: now they all are.
                return self.set_up(link.header.index);
            }
            if Instant::now() > deadline {
                let source = io::Error::from(io::ErrorKind::TimedOut);
                return Err(Error::System { action: format!("waiting for {name} to come up"), source });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn link(&mut self, name: &str) -> Result<LinkMessage, Error> {
        let mut query = LinkMessage::default();
        query.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answer = self.ask(RouteNetlinkMessage::GetLink(query), 0).and_then(|answer| match answer {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            other => Err(unexpected(&other)),
        });
        answer.map_err(|source| Error::from_kernel(format!("looking for {name}"), "CONFIG_VETH", source))
    }

    /// Sets an interface up.
    pub(super) fn set_up(&mut self, index: u32) -> Result<(), Error> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(link), 0)
            .map_err(|source| Error::from_kernel(format!("setting interface {index} up"), "CONFIG_NET", source))
    }

    /// Sets how large an interface's packets are, and how many frames wait for a reader where it is a tap.
    pub(super) fn set_size(&mut self, index: u32, mtu: u32, queue_frames: u32) -> Result<(), Error> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::Mtu(mtu), LinkAttribute::TxQueueLen(queue_frames)];
        self.change(RouteNetlinkMessage::SetLink(link), 0)
            .map_err(|source| Error::from_kernel(format!("setting the MTU of interface {index}"), "CONFIG_NET", source))
    }

    /// Gives an interface an address. An IPv6 address is usable at once: nobody looks for a duplicate on a wire with
    /// two ends, and the search would take a second or more.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<(), Error> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.header.scope = AddressScope::Universe;
        message.header.family = family_of(address);
        if address.is_ipv6() {
            message.header.flags = AddressHeaderFlags::Nodad;
        }
        message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        let config = if address.is_ipv6() { "CONFIG_IPV6" } else { "CONFIG_INET" };
        self.change(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|source| Error::from_kernel(format!("adding address {address}/{prefix}"), config, source))
    }

    /// Everything that is not on this link goes through `gateway`.
    pub(super) fn add_default_route(&mut self, gateway: IpAddr) -> Result<(), Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Gateway(gateway.into()));
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|source| Error::from_kernel(format!("adding a route via {gateway}"), "CONFIG_INET", source))
    }

    /// Makes packets to one host, over this interface, no larger than `mtu` bytes.
    pub(super) fn add_narrow_route(&mut self, host: IpAddr, index: u32, mtu: u32) -> Result<(), Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family_of(host);
        message.header.destination_prefix_length = if host.is_ipv6() { 128 } else { 32 };
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Link;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Destination(host.into()));
        message.attributes.push(RouteAttribute::Oif(index));
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
        self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_EXCL)
            .map_err(|source| Error::from_kernel(format!("adding a narrow route to {host}"), "CONFIG_INET", source))
    }

    /// Puts a queue of `packets` before each transmit queue of an interface.
    pub(super) fn add_queue(&mut self, index: u32, queues: u32, packets: u32) -> Result<(), Error> {
        let root = TcHandle { major: 1, minor: 0 };
        if queues == 1 {
            return self.add_qdisc(index, "pfifo", TcHandle::ROOT, root, Some(packets));
        }
        // One pfifo at the root would put one lock before all transmit queues; mq gives each its own.
        self.add_qdisc(index, "mq", TcHandle::ROOT, root, None)?;
        for queue in 1..=queues {
            let minor = u16::try_from(queue).map_err(|_| Error::Plan("a device has at most 65,535 queues"))?;
            self.add_qdisc(index, "pfifo", TcHandle { major: 1, minor }, TcHandle::UNSPEC, Some(packets))?;
        }
        Ok(())
    }

    fn add_qdisc(
        &mut self,
        index: u32,
        kind: &str,
        parent: TcHandle,
        handle: TcHandle,
        limit: Option<u32>,
    ) -> Result<(), Error> {
        let index = i32::try_from(index).map_err(|_| Error::Plan("an interface index is a positive 32-bit number"))?;
        let mut message = TcMessage::with_index(index);
        message.header.parent = parent;
        message.header.handle = handle;
        message.attributes.push(TcAttribute::Kind(kind.to_owned()));
        if let Some(limit) = limit {
            let limit = limit.to_ne_bytes().to_vec();
            message.attributes.push(TcAttribute::Other(DefaultNla::new(TCA_OPTIONS, limit)));
        }
        self.change(RouteNetlinkMessage::NewQueueDiscipline(message), NLM_F_CREATE | NLM_F_EXCL).map_err(|source| {
            Error::from_kernel(format!("adding the queue {kind}"), "CONFIG_NET_SCHED or CONFIG_NET_SCH_FIFO", source)
        })
    }

    fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, flags | NLM_F_ACK).and_then(|answer| match answer {
            None => Ok(()),
            other => Err(unexpected(&other)),
        })
    }

    /// Sends one request and reads its answer: a message, or the bare acknowledgement (`None`).
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Option<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes).map_err(io::Error::other)?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::Error(answer) => match answer.code {
                    None => Ok(None),
                    Some(_) => Err(answer.to_io()),
                },
                NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
                other => Err(io::Error::other(format!("the kernel answered {other:?}"))),
            };
        }
    }
}

fn end_attributes(end: &NewEnd<'_>) -> Vec<LinkAttribute> {
    vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::Address(end.mac.to_vec()),
        LinkAttribute::Mtu(end.mtu),
        LinkAttribute::NumTxQueues(end.queues),
        LinkAttribute::NumRxQueues(end.queues),
    ]
}

fn family_of(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn unexpected(answer: &Option<RouteNetlinkMessage>) -> io::Error {
    io::Error::other(format!("the kernel answered {answer:?}"))
}
