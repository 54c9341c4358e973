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
mod steered;
mod survey;
#[cfg(test)]
mod tests;
pub mod toeplitz;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::Socket;

pub use self::steered::Steered;
pub use self::survey::{Outlook, Survey};

use self::lease::{Leases, Rule, Site};
use self::rss::Reading;
use self::rule::{DriverRules, FlowRule, RuleError};
use self::steered::Plan;
use self::survey::{Approach, named};
use super::Error;
use crate::floor::FourTuple;
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
