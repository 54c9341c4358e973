//! A trial of steering: connections are made to a peer, and frames show on which queue each of them arrives.
//!
//! It takes the way of a feed (the same steering, the same program on the interface, the same look at its counters), and no feed: the
//! peer only has to accept TCP connections, which are reset as soon as they have been looked at.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;

use super::bypass::{BypassPlan, KernelBypass, Mode};
use super::{Error, Setup, arrival};
use crate::control::dial::{self, DialOptions};
use crate::control::steering::rss::Prediction;
use crate::control::steering::{Means, Steer, Steering, lease};
use crate::floor::FourTuple;

/// Connections that are steered to a queue and looked at.
#[derive(Debug)]
pub struct Trial {
    options: DialOptions,
    queue: u32,
    steering: Steering,
    plan: BypassPlan,
    bypass: Option<KernelBypass>,
}

/// What became of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Both ends.
    pub tuple: FourTuple,
    /// What was to bring its frames to the queue.
    pub means: Option<Means>,
    /// The place of its rule in the NIC.
    pub rule: Option<u32>,
    /// Where its frames should arrive, where RSS was reckoned with.
    pub prediction: Option<Prediction>,
    /// The queue on which the peer's answer arrived; `None` where none came.
    pub seen: Option<u32>,
}

impl Trial {
    /// Steers to `queue`, with the program in this mode.
    #[must_use]
    pub fn new(mode: Mode, steer: Steer, queue: u32, interface: Option<&str>, timeout: Duration) -> Self {
        lease::sweep();
        Self {
            options: DialOptions {
                timeout,
                receive_buffer: None,
                source: None,
                interface: interface.map(str::to_owned),
            },
            queue,
            steering: Steering::new(steer, queue),
            plan: BypassPlan::new(mode, Setup::Kernel, queue, false),
            bypass: None,
        }
    }

    /// Makes a connection, steered, and looks on which queue it arrives. The first one attaches the program.
    ///
    /// # Errors
    ///
    /// That the peer does not accept, the program cannot be attached, or what was asked for by name cannot be had or does not work.
    pub fn connect(&mut self, peer: SocketAddr) -> Result<Tried, Error> {
        if self.bypass.is_none() {
            // Attaching can change the RSS table, so that a connection made before it proves nothing.
            let tuple = self.dial(peer)?.tuple().map_err(Error::System)?;
            let opened = self.plan.open(tuple)?;
            self.bypass = Some(opened.map(|(_, bypass)| bypass).ok_or_else(|| self.without_ring())?);
        }
        let mut dialled = self.dial(peer)?;
        let tuple = dialled.tuple().map_err(Error::System)?;
        let Some(bypass) = &mut self.bypass else { return Err(self.without_ring()) };
        let seen = arrival::queue_of(&dialled.stream, &tuple, bypass)?;
        let steered = &mut dialled.steered;
        let tried =
            Tried { tuple, means: steered.means(), rule: steered.rule(), prediction: steered.prediction(), seen };
        match seen {
            Some(seen) if seen == self.queue => self.steering.confirmed(steered),
            Some(seen) => drop(self.steering.contradicted(steered, &tuple, seen)?),
            None => {}
        }
        Ok(tried)
    }

    /// Reset when it is over: the ports of a thousand connections are free again at once, and so are the peer's.
    fn dial(&self, peer: SocketAddr) -> Result<dial::Dialled, Error> {
        let dialled = dial::connect_steered(&[peer], &self.options, Some(&self.steering))?;
        SockRef::from(&dialled.stream).set_linger(Some(Duration::ZERO)).map_err(Error::System)?;
        Ok(dialled)
    }

    fn without_ring(&self) -> Error {
        let reasons: Vec<_> =
            self.plan.refusals().iter().map(|(mode, reason)| format!("not {mode}: {reason}")).collect();
        Error::Mode { mode: Mode::Auto, reason: format!("no program counts frames by queue: {}", reasons.join("; ")) }
    }

    /// The interface, once there has been a connection.
    #[must_use]
    pub fn interface(&self) -> &str {
        self.plan.interface()
    }

    /// The mode of the program, once there has been a connection.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        self.plan.opened()
    }

    /// What cannot be had, or has turned out not to work, and why.
    #[must_use]
    pub fn refusals(&self) -> Vec<(Means, String)> {
        self.steering.refusals()
    }
}
