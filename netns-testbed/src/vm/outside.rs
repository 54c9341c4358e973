//! The world outside a guest: a namespace with one end of each card's cable, and the VLAN on each.

use std::net::{IpAddr, SocketAddr, TcpListener};

use super::Error;
use super::error::system;
use super::nic::{Nic, VLAN};
use crate::topology::{Namespace, Tagger, Tap, TapPlan};

/// Where the exchange is. It goes with the guest.
#[derive(Debug)]
pub struct Outside {
    ns: Namespace,
    /// In the order of [`Nic::ALL`].
    cables: Vec<Cable>,
}

#[derive(Debug)]
struct Cable {
    tap: Tap,
    vlan: Tagger,
}

impl Outside {
    /// Makes it, with every cable in place. Packets may have up to `mtu` bytes.
    pub(super) fn new(mtu: u32) -> Result<Self, Error> {
        let ns = Namespace::new()?;
        let cable = |nic: Nic| {
            let tap = Tap::new(
                &ns,
                &TapPlan {
                    mtu,
                    queues: nic.tap_queues(),
                    addresses: nic.addresses(false).outside_with_prefixes().into(),
                    ..TapPlan::new(&format!("tap-{}", nic.interface()))
                },
            )?;
            let vlan = Tagger::new(
                &ns,
                tap.index(),
                VLAN,
                &TapPlan {
                    mtu,
                    addresses: nic.addresses(true).outside_with_prefixes().into(),
                    ..TapPlan::new(&format!("vlan-{}", nic.interface()))
                },
            )?;
            Ok::<_, Error>(Cable { tap, vlan })
        };
        let cables = Nic::ALL.into_iter().map(cable).collect::<Result<_, _>>()?;
        Ok(Self { ns, cables })
    }

    /// The namespace.
    #[must_use]
    pub const fn ns(&self) -> &Namespace {
        &self.ns
    }

    /// The cable of a card.
    #[must_use]
    pub fn tap(&self, nic: Nic) -> &Tap {
        &self.cables[usize::from(nic.number())].tap
    }

    /// The VLAN over the cable of a card.
    #[must_use]
    pub fn vlan(&self, nic: Nic) -> &Tagger {
        &self.cables[usize::from(nic.number())].vlan
    }

    /// A listener at the outer end of a card's cable, or of the VLAN on it, on a free port.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses it.
    pub fn listen(&self, nic: Nic, tagged: bool) -> Result<TcpListener, Error> {
        let address = SocketAddr::new(IpAddr::V4(nic.addresses(tagged).outside), 0);
        self.ns.listen(address).map_err(system(format!("listening on {address}")))
    }

    /// The addresses that the exchange's certificate must be good for.
    #[must_use]
    pub fn names() -> Vec<String> {
        let of = |nic: Nic| {
            [false, true]
                .map(|tagged| nic.addresses(tagged))
                .map(|it| [it.outside.to_string(), it.outside_v6.to_string()])
        };
        Nic::ALL.into_iter().flat_map(of).flatten().collect()
    }
}
