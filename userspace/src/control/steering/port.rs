//! A local port that RSS leads to the wanted queue.
//!
//! From the kernel's own range for such ports ([`PortRange::of_this_namespace`]), beginning at a random place: which port it will be
//! cannot be told from outside (RFC 6056). The search is bounded by the range, the attempts to bind by `BINDS_MAX`.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;

use aws_lc_rs::rand;
use socket2::Socket;

use super::rss::{Prediction, Predictor};
use crate::floor::FourTuple;

/// Ports that are tried before giving up, where others hold them.
///
/// With fewer, a host with many connections to the same queue would find none; each costs a system call of a microsecond. Of 64
/// ports at random, all are taken in one of 10^8 cases where three quarters of the range are.
const BINDS_MAX: usize = 64;

const RANGE: &str = "ip_local_port_range";
const RESERVED: &str = "ip_local_reserved_ports";
/// Both also hold for IPv6.
const SETTINGS: &str = "/proc/sys/net/ipv4";

/// The ports that connections may come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
    reserved: Vec<RangeInclusive<u16>>,
}

impl PortRange {
    /// What `net.ipv4.ip_local_port_range` and `ip_local_reserved_ports` say.
    ///
    /// # Errors
    ///
    /// Where they cannot be read, or are not understood.
    pub fn of_this_namespace() -> io::Result<Self> {
        let setting = |name| fs::read_to_string(Path::new(SETTINGS).join(name));
        // Not every container shows the second.
        let (range, reserved) = (setting(RANGE)?, setting(RESERVED).unwrap_or_default());
        Self::parse(&range, &reserved)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{RANGE} is not understood: {range:?}")))
    }

    /// The two settings, as they read.
    fn parse(range: &str, reserved: &str) -> Option<Self> {
        let mut bounds = range.split_ascii_whitespace().map(str::parse);
        let (first, last) = (bounds.next()?.ok()?, bounds.next()?.ok()?);
        let interval = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.parse().ok()?..=last.parse().ok()?)
        };
        let reserved =
            reserved.trim().split(',').filter(|text| !text.is_empty()).map(interval).collect::<Option<_>>()?;
        (first <= last && first != 0).then_some(Self { first, last, reserved })
    }

    /// Each port that is not reserved, once, beginning at the `start`th.
    pub fn ports(&self, start: u16) -> impl Iterator<Item = u16> {
        let count = u32::from(self.last - self.first) + 1;
        let start = u32::from(start) % count;
        (0..count)
            .map(move |n| self.first + ((start + n) % count) as u16)
            .filter(|port| !self.reserved.iter().any(|interval| interval.contains(port)))
    }
}

impl std::fmt::Display for PortRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.first, self.last)
    }
}

/// The ports from which connections to `peer` should arrive on `queue`, in the order in which they are to be tried.
pub fn leading_to(
    queue: u32,
    predictor: &Predictor,
    source: IpAddr,
    peer: SocketAddr,
    range: &PortRange,
    start: u16,
) -> impl Iterator<Item = (u16, Prediction)> {
    range.ports(start).filter_map(move |port| {
        let tuple = FourTuple { local: SocketAddr::new(source, port), remote: peer };
        let prediction = predictor.predict(&tuple);
        (prediction.queue == queue).then_some((port, prediction))
    })
}

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum NoPort {
    /// The table leads nowhere near.
    #[error(
        "no entry of the RSS table is queue {queue}: ethtool -x IF shows it, ethtool -X IF default spreads over all queues"
    )]
    NotInTable {
        /// The queue.
        queue: u32,
    },
    /// The port has no influence.
    #[error(
        "the NIC hashes addresses alone, and for these two it comes to {prediction}: ethtool -N IF rx-flow-hash {flow} sdfn"
    )]
    PortsNotHashed {
        /// Where all of these connections should arrive.
        prediction: Prediction,
        /// What `ethtool` calls the flow.
        flow: &'static str,
    },
    /// All are taken, or there are none.
    #[error("none of {tried} local ports that lead to queue {queue} is free, of those from {range}")]
    NoneFree {
        /// The queue.
        queue: u32,
        /// How many were tried.
        tried: usize,
        /// Where they were looked for.
        range: PortRange,
    },
    /// Something else.
    #[error("binding to a local port: {0}")]
    System(io::Error),
}

/// Binds `socket` to a port of `source` from which a connection to `peer` should arrive on `queue`. `scope` is the interface's index,
/// for link-local addresses.
///
/// # Errors
///
/// [`NoPort`].
pub fn bind(
    socket: &Socket,
    queue: u32,
    predictor: &Predictor,
    source: IpAddr,
    peer: SocketAddr,
    scope: u32,
) -> Result<Prediction, NoPort> {
    if let Some(prediction) = whatever_port(queue, predictor, source, peer)? {
        return Ok(prediction);
    }
    let (range, start) = (PortRange::of_this_namespace().map_err(NoPort::System)?, anywhere()?);
    let mut tried = 0;
    for (port, prediction) in leading_to(queue, predictor, source, peer, &range, start).take(BINDS_MAX) {
        // Given explicitly, so that the port is taken now (without IP_BIND_ADDRESS_NO_PORT, and without SO_REUSEADDR: one that is
        // still in TIME_WAIT is passed over).
        match socket.bind(&local(source, port, scope).into()) {
            Ok(()) => return Ok(prediction),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => tried += 1,
            Err(error) => return Err(NoPort::System(error)),
        }
    }
    Err(NoPort::NoneFree { queue, tried, range })
}

/// Up to `count` ports that [`bind`] would try, without looking whether they are free.
///
/// # Errors
///
/// [`NoPort`].
pub fn choices(
    queue: u32,
    predictor: &Predictor,
    source: IpAddr,
    peer: SocketAddr,
    count: usize,
) -> Result<Vec<(u16, Prediction)>, NoPort> {
    let (range, start) = (PortRange::of_this_namespace().map_err(NoPort::System)?, anywhere()?);
    if let Some(prediction) = whatever_port(queue, predictor, source, peer)? {
        return Ok(range.ports(start).take(count).map(|port| (port, prediction)).collect());
    }
    Ok(leading_to(queue, predictor, source, peer, &range, start).take(count).collect())
}

/// The prediction where the port has no influence and it is the queue all the same.
fn whatever_port(
    queue: u32,
    predictor: &Predictor,
    source: IpAddr,
    peer: SocketAddr,
) -> Result<Option<Prediction>, NoPort> {
    if !predictor.reaches(queue) {
        return Err(NoPort::NotInTable { queue });
    }
    if predictor.heeds_ports() {
        return Ok(None);
    }
    let tuple = FourTuple { local: SocketAddr::new(source, 0), remote: peer };
    let prediction = predictor.predict(&tuple);
    let flow = if peer.is_ipv6() { "tcp6" } else { "tcp4" };
    if prediction.queue == queue { Ok(Some(prediction)) } else { Err(NoPort::PortsNotHashed { prediction, flow }) }
}

/// Where to begin.
fn anywhere() -> Result<u16, NoPort> {
    let mut start = [0; 2];
    rand::fill(&mut start).map_err(|_| NoPort::System(io::Error::other("the system has no random numbers")))?;
    Ok(u16::from_ne_bytes(start))
}

/// A local address for a socket; link-local ones belong to an interface.
pub fn local(source: IpAddr, port: u16, scope: u32) -> SocketAddr {
    match source {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            std::net::SocketAddrV6::new(address, port, 0, scope).into()
        }
        _ => SocketAddr::new(source, port),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use proptest::prelude::*;
    use socket2::{Domain, Type};

    use super::super::rss::{Reading, Rss};
    use super::*;

    fn predictor(key: Vec<u8>, table: Vec<u32>, fields: u64, transform: u8, ipv6: bool) -> Predictor {
        let rss = Rss {
            driver: "test".to_owned(),
            key,
            key_is_kernels: false,
            table,
            function: 1,
            transform,
            fields_ipv4: Some(fields),
            fields_ipv6: Some(fields),
        };
        rss.predictor(Reading::possible("")[0], ipv6).unwrap()
    }

    #[test]
    fn the_settings_are_read_as_the_kernel_writes_them() {
        let range = PortRange::parse("32768\t60999\n", "\n").unwrap();
        assert_eq!(range, PortRange { first: 32768, last: 60999, reserved: vec![] });
        let range = PortRange::parse("1024\t65535\n", "8080,9148-9150\n").unwrap();
        assert_eq!(range.reserved, [8080..=8080, 9148..=9150]);
        for (range, reserved) in [("", ""), ("5", ""), ("9 5", ""), ("0 9", ""), ("1 70000", ""), ("1 9", "x")] {
            assert_eq!(PortRange::parse(range, reserved), None, "{range:?} {reserved:?}");
        }
        PortRange::of_this_namespace().unwrap();
    }

    #[test]
    fn reserved_ports_are_never_taken() {
        let range = PortRange::parse("100 109", "100,103-107").unwrap();
        for start in 0..20 {
            let ports: Vec<_> = range.ports(start).collect();
            assert_eq!(ports.iter().copied().collect::<HashSet<_>>(), [101, 102, 108, 109].into(), "from {start}");
            assert_eq!(ports.len(), 4);
        }
        assert_eq!(range.ports(8).next(), Some(108));
        assert_eq!(PortRange::parse("65535 65535", "").unwrap().ports(7).collect::<Vec<_>>(), [65535]);
    }

    fn socket() -> Socket {
        Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()
    }

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ALL: u64 = 0xf0;

    #[test]
    fn a_port_is_bound_and_its_connection_comes_from_there() {
        let listener = TcpListener::bind((LOOPBACK, 0)).unwrap();
        let peer = listener.local_addr().unwrap();
        let predictor = predictor((1..=40).collect(), (0..8).collect(), ALL, 0, false);
        let mut seen = HashSet::new();
        for queue in 0..8 {
            let socket = socket();
            let prediction = bind(&socket, queue, &predictor, LOOPBACK, peer, 0).unwrap();
            socket.connect(&peer.into()).unwrap();
            let local = socket.local_addr().unwrap().as_socket().unwrap();
            assert_eq!(predictor.predict(&FourTuple { local, remote: peer }), prediction);
            assert_eq!(prediction.queue, queue);
            assert!(seen.insert(local.port()));
        }
    }

    #[test]
    fn taken_ports_are_passed_over() {
        // Everything leads to queue 0, and the ports of the range are few.
        let predictor = predictor((1..=40).collect(), vec![0], ALL, 0, false);
        let peer = ([127, 0, 0, 1], 9).into();
        let (first, second) = (socket(), socket());
        bind(&first, 0, &predictor, LOOPBACK, peer, 0).unwrap();
        bind(&second, 0, &predictor, LOOPBACK, peer, 0).unwrap();
        assert_ne!(first.local_addr().unwrap().as_socket(), second.local_addr().unwrap().as_socket());
        let refused = socket().bind(&first.local_addr().unwrap());
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse, "which is what is passed over");
    }

    #[test]
    fn what_no_port_can_do_is_refused_with_the_reason() {
        let peer = ([127, 0, 0, 1], 9).into();
        let key: Vec<u8> = (1..=40).collect();
        let nowhere = predictor(key.clone(), vec![0, 1], ALL, 0, false);
        let error = bind(&socket(), 2, &nowhere, LOOPBACK, peer, 0).unwrap_err();
        assert!(matches!(error, NoPort::NotInTable { queue: 2 }), "{error}");
        // Addresses alone: the one queue they lead to can be had, no other.
        let addresses = predictor(key, vec![0, 1], 0x30, 0, false);
        let only = addresses.predict(&FourTuple { local: (LOOPBACK, 0).into(), remote: peer }).queue;
        bind(&socket(), only, &addresses, LOOPBACK, peer, 0).unwrap();
        let error = bind(&socket(), 1 - only, &addresses, LOOPBACK, peer, 0).unwrap_err().to_string();
        assert!(error.contains("addresses alone") && error.contains("rx-flow-hash tcp4 sdfn"), "{error}");
    }

    #[test]
    fn link_local_addresses_have_their_interface() {
        assert_eq!(local("fe80::1".parse().unwrap(), 5, 3).to_string(), "[fe80::1%3]:5");
        assert_eq!(local("2001:db8::1".parse().unwrap(), 5, 3).to_string(), "[2001:db8::1]:5");
    }

    /// Beginnings are spread over the range: 200 of them do not fall into a tenth of it.
    #[test]
    fn the_port_is_another_one_each_time() {
        let predictor = predictor((1..=40).collect(), vec![0], ALL, 0, false);
        let ports: Vec<_> = (0..200)
            .map(|_| {
                let socket = socket();
                bind(&socket, 0, &predictor, LOOPBACK, ([127, 0, 0, 1], 9).into(), 0).unwrap();
                socket.local_addr().unwrap().as_socket().unwrap().port()
            })
            .collect();
        let (least, most) = (ports.iter().min().unwrap(), ports.iter().max().unwrap());
        let PortRange { first, last, .. } = PortRange::of_this_namespace().unwrap();
        assert!(most - least > (last - first) / 10, "{least} to {most}");
        assert!(ports.iter().collect::<HashSet<_>>().len() > 150);
    }

    proptest! {
        /// Whatever the key, the table, the addresses and the place to begin: each port that is offered leads to the queue, by a
        /// hash that is worked out anew, and none that does is left out.
        #[test]
        fn every_port_that_is_offered_leads_to_the_queue(
            key in prop::collection::vec(1..=255u8, 40..=52),
            table in (0..=7u32).prop_flat_map(|bits| prop::collection::vec(0..8u32, 1 << bits)),
            ends in any::<bool>().prop_flat_map(|ipv6| (Just(ipv6), any::<(u128, u128, u16)>())),
            queue in 0..8u32,
            transform in 0..=2u8,
            start: u16,
        ) {
            let (ipv6, (source, peer, port)) = ends;
            let address = |bits: u128| if ipv6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) };
            let (source, peer) = (address(source), SocketAddr::new(address(peer), port));
            let predictor = predictor(key, table.clone(), ALL, transform, ipv6);
            let range = PortRange::parse("32768 33791", "32800-32900").unwrap();
            let offered: Vec<_> = leading_to(queue, &predictor, source, peer, &range, start).collect();
            for (port, prediction) in &offered {
                let tuple = FourTuple { local: (source, *port).into(), remote: peer };
                let again = predictor.predict(&tuple);
                prop_assert_eq!(again, *prediction);
                prop_assert_eq!(table[again.hash as usize % table.len()], queue);
                prop_assert!(!(32800..=32900).contains(port));
            }
            let leads = |port: &u16| {
                predictor.predict(&FourTuple { local: (source, *port).into(), remote: peer }).queue == queue
            };
            prop_assert_eq!(offered.len(), range.ports(0).filter(leads).count());
        }
    }
}
