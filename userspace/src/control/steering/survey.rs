//! What drivers and routes say before a connection is made.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::ethtool::{self, Ntuple};
use super::port;
use super::rss::{Prediction, Predictor, Reading, Rss};
use super::rule::{DriverRules, RuleError, RuleStore as _};
use crate::control::link::{self, Link};
use crate::control::nic::receiver;
use crate::control::{Error, offloads, route};

/// An interface, as far as steering is concerned.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The interface that receives.
    pub interface: String,
    /// Its index.
    pub index: u32,
    /// Its driver; empty where it does not say.
    pub driver: String,
    /// Receive queues in use; `None` where the driver does not say.
    pub queues: Option<u32>,
    /// Why there can be no rule; empty where there can.
    pub no_ntuple: String,
}

impl Survey {
    /// Asks the driver.
    #[must_use]
    pub fn of(receives: &Link) -> Self {
        let name = &receives.name;
        let driver = offloads::driver(name);
        let no_ntuple = match (DriverRules::of(name).chooses_locations(), ethtool::ntuple(name)) {
            (Err(error), _) => named(&RuleError::NoRules(error), name),
            (Ok(_), Ok(Ntuple::FixedOff)) => {
                format!("{name}: the driver has no flow rules for this NIC (ntuple is fixed off)")
            }
            (Ok(_), Ok(Ntuple::Off)) => format!("{name}: flow rules are switched off: ethtool -K {name} ntuple on"),
            // Where that cannot be asked, the attempt tells.
            (Ok(_), Ok(Ntuple::On) | Err(_)) => String::new(),
        };
        // With one queue made, no more can be in use.
        let queues = ethtool::queues(name).ok().or_else(|| (receives.receive_queues == 1).then_some(1));
        Self { interface: name.clone(), index: receives.index, queues, driver, no_ntuple }
    }

    /// What the driver says of its RSS.
    ///
    /// # Errors
    ///
    /// Why it says nothing, with the interface's name.
    pub fn rss(&self) -> Result<Rss, String> {
        Rss::read(&self.interface, &self.driver).map_err(|error| named(&error, &self.interface))
    }
}

/// A reason, with the interface's name in front and in the commands.
pub(super) fn named(reason: &dyn fmt::Display, interface: &str) -> String {
    format!("{interface}: {}", reason.to_string().replace(" IF ", &format!(" {interface} ")))
}

/// The way to a peer.
#[derive(Clone, Debug)]
pub(super) struct Approach {
    pub(super) peer: SocketAddr,
    pub(super) source: IpAddr,
    /// The interface the route leads over, for link-local addresses.
    pub(super) leaves: u32,
    pub(super) vlan: Option<u16>,
    pub(super) survey: Survey,
}

impl Approach {
    pub(super) fn to(peer: SocketAddr, source: Option<IpAddr>, interface: Option<&str>) -> Result<Self, Error> {
        let interface = interface.map(link::by_name).transpose()?.map(|link| link.index);
        let route = route::to(peer.ip(), source, interface)?;
        let leaves = link::by_index(route.interface)?;
        let receiver = receiver::of(&leaves)?;
        let (vlan, survey) = (receiver.vlan(), Survey::of(&receiver.link));
        Ok(Self { peer, source: route.source, leaves: leaves.index, vlan, survey })
    }
}

/// What there is to be said of the way to a peer without making a connection.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The address a connection comes from.
    pub source: IpAddr,
    /// The interface that receives, and its driver.
    pub survey: Survey,
    /// What the driver says of its RSS, or why nothing.
    pub rss: Result<Rss, String>,
    predictor: Result<Predictor, String>,
    peer: SocketAddr,
}

impl Outlook {
    /// Asks for the way to `peer`, and the driver that is on it.
    ///
    /// # Errors
    ///
    /// That there is none.
    pub fn on(peer: SocketAddr, interface: Option<&str>) -> Result<Self, Error> {
        let Approach { source, survey, .. } = Approach::to(peer, None, interface)?;
        let rss = survey.rss();
        let predictor = rss.clone().and_then(|rss| {
            let reading = Reading::possible(&survey.driver)[0];
            rss.predictor(reading, peer.is_ipv6()).map_err(|error| named(&error, &survey.interface))
        });
        Ok(Self { source, survey, rss, predictor, peer })
    }

    /// Up to `count` local ports from which connections should arrive on `queue`, beginning at a random one.
    ///
    /// # Errors
    ///
    /// Why it cannot be worked out.
    pub fn ports(&self, queue: u32, count: usize) -> Result<Vec<(u16, Prediction)>, String> {
        let Self { source, survey, peer, .. } = self;
        let predictor = self.predictor.as_ref().map_err(Clone::clone)?;
        port::choices(queue, predictor, *source, *peer, count).map_err(|error| named(&error, &survey.interface))
    }
}
