//! What was done for one connection.

use std::fmt;

use socket2::Socket;

use super::Means;
use super::lease::Rule;
use super::port::{self, NoPort};
use super::rss::{Prediction, Predictor, Reading};
use super::survey::{Approach, Survey, named};
use crate::floor::background;

/// What was done for one connection. Dropping it withdraws its rule.
#[derive(Debug, Default)]
pub struct Steered {
    pub(super) plan: Plan,
    pub(super) approach: Option<Approach>,
    /// Why nothing was done.
    pub(super) note: String,
    /// The queue on which its frames were seen.
    pub(super) seen: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) enum Plan {
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
    pub(super) fn bind(&mut self, socket: &Socket, queue: u32) -> Result<(), String> {
        let (Plan::Port(predictor, _, prediction), Some(approach)) = (&mut self.plan, &self.approach) else {
            return Ok(());
        };
        let Approach { peer, source, leaves, survey, .. } = approach;
        let bound = port::bind(socket, queue, predictor, *source, *peer, *leaves);
        *prediction = Some(bound.map_err(|error: NoPort| named(&error, &survey.interface))?);
        Ok(())
    }

    /// What was promised, and what came.
    pub(super) fn contradiction(&self, queue: u32, seen: u32) -> String {
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
