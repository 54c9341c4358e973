//! Steering: what brings a connection's frames to the receive queue where its ring is.
//!
//! Two means, tried in this order unless one is asked for by name ([`Steer`]):
//!
//! 1. **ntuple**: a rule in the NIC that sends exactly this flow to the queue ([`rule`]). It is inserted once the connection has
//!    been made, read back, withdrawn when the connection ends, and after a crash by the next start ([`lease`]).
//! 2. **port**: a local port for which the NIC's own spreading of flows ([`rss`], [`toeplitz`]) comes to the queue ([`port`]). It is
//!    chosen before the connection is made.
//!
//! What the driver says is not believed. Whoever uses this counts frames afterwards, by queue, and tells [`Steering::contradicted`]
//! what it has seen, which answers whether anything else is left to try. An interface with one receive queue needs none of it.
//!
//! [`Steering`] is what a feed has, [`Steered`] what was done for one connection. Everything is cold: names, ioctls, files.

mod ethtool;
pub mod lease;
pub mod port;
pub mod rss;
pub mod rule;
pub mod toeplitz;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::Socket;

use self::ethtool::Ntuple;
use self::lease::{Leases, Rule, Site};
use self::port::NoPort;
use self::rss::{Prediction, Predictor, Reading, Rss};
use self::rule::{DriverRules, FlowRule, RuleError, RuleStore as _};
use super::link::{self, Link};
use super::{Error, offloads, route};
use crate::floor::{FourTuple, background};
use crate::privilege::{self, Capabilities};

/// How often a connection is made anew because the RSS table has changed under it. Attaching an XDP program changes some (virtio-net);
/// a table that goes on changing is somebody's intention.
const TABLE_CHANGES_MAX: u32 = 3;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Steer {
    /// The first of the means that works.
    #[default]
    Auto,
    /// A rule in the NIC, or an error.
    Ntuple,
    /// A chosen local port, or an error.
    Port,
    /// Nothing: the flow arrives where it arrives.
    None,
}

impl Steer {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ntuple => "ntuple",
            Self::Port => "port",
            Self::None => "none",
        }
    }

    const fn means(self) -> &'static [Means] {
        match self {
            Self::Auto => &[Means::Ntuple, Means::Port],
            Self::Ntuple => &[Means::Ntuple],
            Self::Port => &[Means::Port],
            Self::None => &[],
        }
    }

    /// Whether one of the means was asked for by name.
    #[must_use]
    pub const fn is_explicit(self) -> bool {
        matches!(self, Self::Ntuple | Self::Port)
    }
}

impl fmt::Display for Steer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What brings a flow to its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// A rule in the NIC.
    Ntuple,
    /// The local port.
    Port,
}

impl fmt::Display for Means {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ntuple => "ntuple",
            Self::Port => "port",
        })
    }
}

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
fn named(reason: &dyn fmt::Display, interface: &str) -> String {
    format!("{interface}: {}", reason.to_string().replace(" IF ", &format!(" {interface} ")))
}

/// The way to a peer.
#[derive(Clone, Debug)]
struct Approach {
    peer: SocketAddr,
    source: IpAddr,
    /// The interface the route leads over, for link-local addresses.
    leaves: u32,
    vlan: Option<u16>,
    survey: Survey,
}

impl Approach {
    fn to(peer: SocketAddr, source: Option<IpAddr>, interface: Option<&str>) -> Result<Self, Error> {
        let interface = interface.map(link::by_name).transpose()?.map(|link| link.index);
        let route = route::to(peer.ip(), source, interface)?;
        let leaves = link::by_index(route.interface)?;
        let (receives, vlan) = match leaves.vlan {
            Some((parent, id)) => (link::by_index(parent)?, Some(id)),
            None => (leaves.clone(), None),
        };
        Ok(Self { peer, source: route.source, leaves: leaves.index, vlan, survey: Survey::of(&receives) })
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

/// What a feed does to bring its connections to their queue. Clones share what they have learnt.
#[derive(Clone, Debug)]
pub struct Steering {
    steer: Steer,
    queue: u32,
    leases: Leases,
    state: Arc<Mutex<State>>,
}

/// What has been learnt about an interface.
#[derive(Debug, Default)]
struct State {
    interface: String,
    refusals: Vec<(Means, String)>,
    /// Readings of the RSS key that frames have contradicted.
    readings: usize,
    table_changes: u32,
    /// One of the means has worked: from then on its absence is no error.
    had: bool,
}

impl Steering {
    /// Steers to `queue`.
    #[must_use]
    pub fn new(steer: Steer, queue: u32) -> Self {
        Self { steer, queue, leases: Leases::new(Path::new(lease::FOLDER)), state: Arc::default() }
    }

    /// What was asked for.
    #[must_use]
    pub fn steer(&self) -> Steer {
        self.steer
    }

    /// The means that cannot be had, or have turned out not to work, and why.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Means, String)> {
        self.state().refusals.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses the means for a connection to `peer` that is about to be made.
    ///
    /// # Errors
    ///
    /// Where one was asked for by name and cannot be had: [`Error::Steering`], or that there is no route.
    pub fn begin(&self, peer: SocketAddr, source: Option<IpAddr>, interface: Option<&str>) -> Result<Steered, Error> {
        if self.steer == Steer::None {
            return Ok(Steered::default());
        }
        // Asked first: where privileges are given up, asking the driver can end the process.
        let missing = privilege::missing(Capabilities::NET_ADMIN);
        if !missing.is_empty() {
            let note = format!("it cannot leave the kernel without {missing}, where any queue will do");
            for &means in self.steer.means() {
                self.refuse(means, note.clone())?;
            }
            return Ok(Steered { note, ..Steered::default() });
        }
        let approach = match Approach::to(peer, source, interface) {
            Ok(approach) => approach,
            Err(error) if self.steer.is_explicit() => return Err(error),
            // Whether there is a connection to be had is for others to say.
            Err(error) => return Ok(Steered { note: error.to_string(), ..Steered::default() }),
        };
        let Survey { interface, queues, .. } = &approach.survey;
        self.state().look_at(interface);
        match *queues {
            Some(1) => {
                let note = format!("{interface} has one receive queue");
                return Ok(Steered { plan: Plan::Needless, note, ..Steered::default() });
            }
            Some(queues) if self.queue >= queues => {
                let note = format!(
                    "{interface} has {queues} receive queues, numbered from 0: there is no queue {}",
                    self.queue
                );
                return Ok(Steered { note, ..Steered::default() });
            }
            _ => {}
        }
        for &means in self.steer.means() {
            let refused = self.state().refusals.iter().any(|(other, _)| *other == means);
            if refused {
                continue;
            }
            let plan = match means {
                Means::Ntuple => self.by_rule(&approach),
                Means::Port => self.by_port(&approach),
            };
            match plan {
                Ok(plan) => return Ok(Steered { plan, approach: Some(approach), ..Steered::default() }),
                Err(reason) => self.refuse(means, reason)?,
            }
        }
        Ok(Steered { note: "nothing brings it there".to_owned(), ..Steered::default() })
    }

    /// Chooses the means for a connection that another process has made: its port is what it is, so a rule is all there can be.
    #[must_use]
    pub fn adopt(&self, tuple: &FourTuple) -> Steered {
        if !self.steer.means().contains(&Means::Ntuple) {
            return Steered { note: "another process has chosen its port".to_owned(), ..Steered::default() };
        }
        let approach = match Approach::to(tuple.remote, Some(tuple.local.ip()), None) {
            Ok(approach) => approach,
            Err(error) => return Steered { note: error.to_string(), ..Steered::default() },
        };
        self.state().look_at(&approach.survey.interface);
        if approach.survey.queues == Some(1) {
            let note = format!("{} has one receive queue", approach.survey.interface);
            return Steered { plan: Plan::Needless, note, ..Steered::default() };
        }
        let mut steered = match self.by_rule(&approach) {
            Ok(plan) => Steered { plan, approach: Some(approach), ..Steered::default() },
            Err(note) => return Steered { note, ..Steered::default() },
        };
        match self.insert(&mut steered, tuple) {
            Ok(()) => steered,
            Err(note) => Steered { note, ..Steered::default() },
        }
    }

    fn by_rule(&self, approach: &Approach) -> Result<Plan, String> {
        let Survey { interface, no_ntuple, .. } = &approach.survey;
        if !no_ntuple.is_empty() {
            return Err(no_ntuple.clone());
        }
        // Asked first: where privileges are given up, an attempt can end the process.
        if !privilege::missing(Capabilities::NET_ADMIN).is_empty() {
            return Err(named(&RuleError::NotPermitted, interface));
        }
        Ok(Plan::Ntuple(None))
    }

    fn by_port(&self, approach: &Approach) -> Result<Plan, String> {
        let Survey { interface, driver, .. } = &approach.survey;
        let readings = Reading::possible(driver);
        // What has been contradicted altogether was refused then.
        let reading = readings[self.state().readings.min(readings.len() - 1)];
        let predictor = approach.survey.rss()?.predictor(reading, approach.peer.is_ipv6());
        Ok(Plan::Port(predictor.map_err(|error| named(&error, interface))?, reading, None))
    }

    /// Notes that one of the means cannot be had.
    ///
    /// # Errors
    ///
    /// [`Error::Steering`] where it was asked for by name, and has not worked before.
    fn refuse(&self, means: Means, reason: String) -> Result<(), Error> {
        let mut state = self.state();
        log::debug!("not steered by {means}: {reason}");
        if self.steer.is_explicit() && !state.had {
            return Err(Error::Steering { means, reason });
        }
        state.refusals.retain(|(other, _)| *other != means);
        state.refusals.push((means, reason));
        Ok(())
    }

    /// Makes a socket for the connection, binds it where a port has been chosen, and lets `connect` connect it; then inserts the
    /// rule, where that is the means. Falls back from one of the means to the next.
    ///
    /// # Errors
    ///
    /// As [`Steering::begin`], and what `connect` answered.
    pub(super) fn steer_socket(
        &self,
        peer: SocketAddr,
        source: Option<IpAddr>,
        interface: Option<&str>,
        mut make: impl FnMut() -> Result<Socket, Error>,
        mut connect: impl FnMut(&Socket, &Steered) -> Result<FourTuple, Error>,
    ) -> Result<(Socket, FourTuple, Steered), Error> {
        loop {
            let mut steered = self.begin(peer, source, interface)?;
            let socket = make()?;
            if let Err(reason) = steered.bind(&socket, self.queue) {
                self.refuse(Means::Port, reason)?;
                continue;
            }
            let tuple = connect(&socket, &steered)?;
            if let Err(reason) = self.insert(&mut steered, &tuple) {
                // The connection is given up, not only the rule: the next of the means chooses its port.
                self.refuse(Means::Ntuple, reason)?;
                continue;
            }
            return Ok((socket, tuple, steered));
        }
    }

    /// Inserts the rule for a connection, where that is the means.
    fn insert(&self, steered: &mut Steered, tuple: &FourTuple) -> Result<(), String> {
        let (Plan::Ntuple(rule), Some(approach)) = (&mut steered.plan, &steered.approach) else { return Ok(()) };
        let Approach { vlan, survey: Survey { interface, index, .. }, .. } = approach;
        let site = Site::here(*index, interface).map_err(|error| named(&error, interface))?;
        let wanted = FlowRule { tuple: *tuple, vlan: *vlan, queue: self.queue };
        let store = Box::new(DriverRules::of(interface));
        let inserted = self.leases.insert(store, site, &wanted).map_err(|error| named(&error, interface))?;
        *rule = Some(inserted);
        Ok(())
    }

    /// Sees to it that the rule of a connection is still there, where that is the means: a device that was reset may have lost it,
    /// and the route may lead over another interface by now.
    pub fn renew(&self, steered: &mut Steered, tuple: &FourTuple) {
        let Steered { plan: Plan::Ntuple(rule), approach, .. } = steered else { return };
        let now = match Approach::to(tuple.remote, Some(tuple.local.ip()), None) {
            Ok(now) => now,
            Err(error) => return log::debug!("{tuple}: {error}"),
        };
        let same = approach.as_ref().is_some_and(|then| then.survey.index == now.survey.index);
        if same && rule.as_ref().is_some_and(Rule::is_there) {
            return;
        }
        *rule = None;
        *approach = Some(now);
        match self.insert(steered, tuple) {
            Ok(()) => log::info!("{tuple}: its flow rule was gone and is there again"),
            Err(reason) => log::warn!("{tuple}: its flow rule is gone: {reason}"),
        }
    }

    /// Frames of a connection have come where they should.
    pub fn confirmed(&self, steered: &mut Steered) {
        if steered.means().is_some() {
            steered.seen = Some(self.queue);
            self.state().had = true;
        }
    }

    /// Frames of a connection came on queue `seen` instead. Answers whether a connection made anew could do better.
    ///
    /// # Errors
    ///
    /// [`Error::Steering`] where nothing is left of what was asked for by name.
    pub fn contradicted(&self, steered: &mut Steered, tuple: &FourTuple, seen: u32) -> Result<bool, Error> {
        let Some(means) = steered.means() else { return Ok(false) };
        steered.seen = Some(seen);
        let reason = steered.contradiction(self.queue, seen);
        log::warn!("{tuple}: {reason}");
        if let (Plan::Port(_, reading, _), Some(approach)) = (&steered.plan, &steered.approach) {
            let fresh = approach.survey.rss().ok().and_then(|rss| rss.predictor(*reading, tuple.local.is_ipv6()).ok());
            let fresh = fresh.map(|predictor| predictor.predict(tuple).queue);
            let mut state = self.state();
            if fresh == Some(seen) && state.table_changes < TABLE_CHANGES_MAX {
                // The arithmetic holds: it was the table that changed in between.
                state.table_changes += 1;
                return Ok(true);
            }
            if state.readings + 1 < Reading::possible(&approach.survey.driver).len() {
                state.readings += 1;
                return Ok(true);
            }
        }
        self.refuse(means, reason)?;
        let refused = self.state().refusals.len();
        Ok(refused < self.steer.means().len())
    }
}

impl State {
    /// What has been learnt is about one interface.
    fn look_at(&mut self, interface: &str) {
        if self.interface != interface {
            *self = Self { interface: interface.to_owned(), had: self.had, ..Self::default() };
        }
    }
}

/// What was done for one connection. Dropping it withdraws its rule.
#[derive(Debug, Default)]
pub struct Steered {
    plan: Plan,
    approach: Option<Approach>,
    /// Why nothing was done.
    note: String,
    /// The queue on which its frames were seen.
    seen: Option<u32>,
}

#[derive(Debug, Default)]
enum Plan {
    #[default]
    Nothing,
    /// Nothing has to be done.
    Needless,
    Ntuple(Option<Rule>),
    Port(Predictor, Reading, Option<Prediction>),
}

impl Steered {
    /// The means that was used, if any.
    #[must_use]
    pub fn means(&self) -> Option<Means> {
        match self.plan {
            Plan::Nothing | Plan::Needless => None,
            Plan::Ntuple(_) => Some(Means::Ntuple),
            Plan::Port(..) => Some(Means::Port),
        }
    }

    /// Whether something could have been done, with or without success.
    #[must_use]
    pub fn is_worth_telling(&self) -> bool {
        match self.plan {
            Plan::Nothing => !self.note.is_empty(),
            Plan::Needless => false,
            Plan::Ntuple(_) | Plan::Port(..) => true,
        }
    }

    /// Whether its socket has been bound: then its address is not to be chosen again.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.prediction().is_some() && matches!(&self.plan, Plan::Port(predictor, ..) if predictor.heeds_ports())
    }

    /// The place of its rule in the NIC.
    #[must_use]
    pub fn rule(&self) -> Option<u32> {
        match &self.plan {
            Plan::Ntuple(rule) => rule.as_ref().map(Rule::location),
            _ => None,
        }
    }

    /// Where its frames should arrive, where RSS was reckoned with.
    #[must_use]
    pub fn prediction(&self) -> Option<Prediction> {
        match self.plan {
            Plan::Port(_, _, prediction) => prediction,
            _ => None,
        }
    }

    /// The queue on which its frames were seen, where that was looked at.
    #[must_use]
    pub fn seen(&self) -> Option<u32> {
        self.seen
    }

    /// Binds the socket, where the means is its port.
    fn bind(&mut self, socket: &Socket, queue: u32) -> Result<(), String> {
        let (Plan::Port(predictor, _, prediction), Some(approach)) = (&mut self.plan, &self.approach) else {
            return Ok(());
        };
        let Approach { peer, source, leaves, survey, .. } = approach;
        let bound = port::bind(socket, queue, predictor, *source, *peer, *leaves);
        *prediction = Some(bound.map_err(|error: NoPort| named(&error, &survey.interface))?);
        Ok(())
    }

    /// What was promised, and what came.
    fn contradiction(&self, queue: u32, seen: u32) -> String {
        match &self.plan {
            Plan::Port(_, reading, Some(prediction)) => {
                let told = format!("the RSS table says {prediction}, {reading}; frames came on queue {seen}");
                match &self.approach {
                    Some(Approach { survey: Survey { driver, interface, .. }, .. }) if driver == "virtio_net" => {
                        format!(
                            "{interface}: {told}: a virtio-net device gives RSS up when an XDP program is attached, until its table is \
                         written anew: ethtool -X {interface} equal N"
                        )
                    }
                    Some(Approach { survey, .. }) => format!("{}: {told}", survey.interface),
                    None => told,
                }
            }
            Plan::Ntuple(Some(rule)) => format!(
                "{}: flow rule {} sends the flow to queue {queue}, says the driver; frames came on queue {seen}",
                rule.interface(),
                rule.location()
            ),
            _ => format!("frames came on queue {seen}"),
        }
    }

    /// Withdraws the rule, if there is one, on a thread of its own: some drivers take their time for it.
    pub fn let_go(self) {
        if self.rule().is_some() {
            // Where there is no thread to be had, it is dropped here.
            let _ = background("steering", move || drop(self));
        }
    }
}

impl fmt::Display for Steered {
    /// In a few words; empty where nothing was asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plan {
            Plan::Nothing if self.note.is_empty() => return Ok(()),
            Plan::Needless => return f.write_str(&self.note),
            Plan::Nothing => write!(f, "not steered: {}", self.note)?,
            Plan::Ntuple(Some(rule)) => write!(f, "steered by flow rule {} of {}", rule.location(), rule.interface())?,
            Plan::Ntuple(None) => f.write_str("steered by a flow rule that is gone")?,
            Plan::Port(.., Some(prediction)) => write!(f, "steered by its local port: {prediction}")?,
            Plan::Port(.., None) => f.write_str("steered by its local port")?,
        }
        match self.seen {
            Some(queue) => write!(f, ", seen on queue {queue}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUPLE: &str = "192.0.2.1:40000 198.51.100.7:443";

    fn tuple() -> FourTuple {
        let (local, remote) = TUPLE.split_once(' ').unwrap();
        FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() }
    }

    /// Of an interface that is not there any more: what its driver says cannot be asked again.
    fn steered(driver: &str, means: Means, queue: u32) -> Steered {
        let survey = Survey {
            interface: "wt-none0".to_owned(),
            index: 1,
            driver: driver.to_owned(),
            queues: Some(4),
            no_ntuple: String::new(),
        };
        let tuple = tuple();
        let approach = Approach { peer: tuple.remote, source: tuple.local.ip(), leaves: 1, vlan: None, survey };
        let plan = match means {
            Means::Ntuple => Plan::Ntuple(None),
            Means::Port => {
                let rss = Rss {
                    driver: driver.to_owned(),
                    key: (1..=40).collect(),
                    key_is_kernels: false,
                    table: vec![queue],
                    function: 1,
                    transform: 0,
                    fields_ipv4: None,
                    fields_ipv6: None,
                };
                let reading = Reading::possible(driver)[0];
                let predictor = rss.predictor(reading, false).unwrap();
                let prediction = predictor.predict(&tuple);
                Plan::Port(predictor, reading, Some(prediction))
            }
        };
        Steered { plan, approach: Some(approach), ..Steered::default() }
    }

    #[test]
    fn what_frames_contradict_is_given_up_one_by_one_and_said() {
        let steering = Steering::new(Steer::Auto, 1);
        let mut by_rule = steered("ice", Means::Ntuple, 1);
        assert!(steering.contradicted(&mut by_rule, &tuple(), 3).unwrap(), "the port is left");
        assert_eq!(by_rule.seen(), Some(3));
        let mut by_port = steered("ice", Means::Port, 1);
        assert!(!steering.contradicted(&mut by_port, &tuple(), 2).unwrap(), "nothing is left");
        let [(Means::Ntuple, ntuple), (Means::Port, port)] = &steering.refusals()[..] else {
            panic!("{:?}", steering.refusals())
        };
        assert!(ntuple.contains("frames came on queue 3"), "{ntuple}");
        assert!(port.starts_with("wt-none0: the RSS table says queue 1 (hash 0x"), "{port}");
        assert!(port.ends_with("entry 0 of 1), key as shown; frames came on queue 2"), "{port}");
        // What was not steered cannot be contradicted.
        assert!(!steering.contradicted(&mut Steered::default(), &tuple(), 2).unwrap());
    }

    #[test]
    fn what_was_asked_for_by_name_is_an_error_until_it_has_worked_once() {
        for (steer, means) in [(Steer::Ntuple, Means::Ntuple), (Steer::Port, Means::Port)] {
            let steering = Steering::new(steer, 1);
            let error = steering.contradicted(&mut steered("ice", means, 1), &tuple(), 2).unwrap_err();
            assert!(matches!(error, Error::Steering { means: refused, .. } if refused == means), "{error}");
            let mut good = steered("ice", means, 1);
            steering.confirmed(&mut good);
            assert_eq!(good.seen(), Some(1));
            assert!(!steering.contradicted(&mut steered("ice", means, 1), &tuple(), 2).unwrap());
        }
    }

    #[test]
    fn each_reading_of_enas_key_is_tried_before_the_port_is_given_up() {
        let steering = Steering::new(Steer::Port, 1);
        let readings = Reading::possible("ena").len();
        for _ in 1..readings {
            assert!(steering.contradicted(&mut steered("ena", Means::Port, 1), &tuple(), 2).unwrap());
        }
        assert_eq!(steering.state().readings, readings - 1);
        assert!(steering.contradicted(&mut steered("ena", Means::Port, 1), &tuple(), 2).is_err());
    }

    #[test]
    fn another_interface_begins_anew() {
        let steering = Steering::new(Steer::Auto, 1);
        steering.state().look_at("wt-none0");
        steering.contradicted(&mut steered("ice", Means::Port, 1), &tuple(), 2).unwrap();
        steering.state().look_at("wt-none0");
        assert_eq!(steering.refusals().len(), 1);
        steering.state().look_at("wt-none1");
        assert_eq!(steering.refusals(), []);
    }

    #[test]
    fn loopback_needs_nothing_and_a_route_that_is_not_there_is_said() {
        let steering = Steering::new(Steer::Auto, 0);
        // It was made with one queue.
        let steered = steering.begin(([127, 0, 0, 1], 443).into(), None, None).unwrap();
        assert_eq!((steered.means(), steered.to_string().as_str()), (None, "lo has one receive queue"));
        assert!(!steered.is_worth_telling());
        let steered = steering.begin(([127, 0, 0, 1], 443).into(), None, Some("wt-none0")).unwrap();
        assert!(steered.to_string().contains("wt-none0: no such interface"), "{steered}");
        let explicit = Steering::new(Steer::Port, 0).begin(([127, 0, 0, 1], 443).into(), None, Some("wt-none0"));
        assert!(matches!(explicit, Err(Error::NoInterface { .. })));
        let nothing = Steering::new(Steer::None, 0).begin(([127, 0, 0, 1], 443).into(), None, None).unwrap();
        assert_eq!(nothing.to_string(), "");
    }
}
