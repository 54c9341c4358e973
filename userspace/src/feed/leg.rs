//! One of the connections of a feed, as the feed sees it.

use super::course::Stage;
use super::merge::Share;
use super::{Feed, Mode};
use crate::control::steering::{Means, Steered};
use crate::floor::{FourTuple, Time};
use crate::lane::{Connection, ConnectionId, Way};
use crate::path::Lag;

/// A connection of a feed.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) id: ConnectionId,
    /// Its number among the feed's connections.
    pub(super) place: usize,
    pub(super) stage: Stage,
    pub(super) mode: Mode,
    /// What was done to bring its frames to the queue of the ring.
    pub(super) steered: Steered,
    /// When its TCP connection was made.
    pub(super) born: Time,
    /// Bytes of its stream at the last look, and when they had last become more.
    pub(super) heard: (u64, Time),
    /// Why it is to be replaced by another connection.
    pub(super) leaves: Option<String>,
    /// Since when its successor is open.
    pub(super) succeeded: Option<Time>,
    /// Whether it has been said that it is behind.
    pub(super) is_behind: bool,
}

impl Leg {
    pub(super) fn new(id: ConnectionId, place: usize, steered: Steered, now: Time) -> Self {
        Self {
            id,
            place,
            stage: Stage::Opening,
            mode: Mode::Kernel,
            steered,
            born: now,
            heard: (0, now),
            leaves: None,
            succeeded: None,
            is_behind: false,
        }
    }
}

/// A connection of a feed, in reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegReport {
    /// Its number among the feed's connections.
    pub place: usize,
    /// Both ends.
    pub tuple: FourTuple,
    /// The mode it is in.
    pub mode: Mode,
    /// Events that were further behind the venue's clock than they may be, where that is measured.
    pub late: Option<u64>,
    /// What brings its frames to the queue of the ring; `None` where nothing is done about it.
    pub steered_by: Option<Means>,
    /// The same in words, with the rule's place or the hash, and where its frames were seen.
    pub steering: String,
    /// What became of its messages, where there can be several connections.
    pub share: Option<Share>,
}

impl Feed {
    pub(super) fn leg(&self, at: usize) -> &Connection {
        self.lane.connection(self.legs[at].id)
    }

    pub(super) fn leg_mut(&mut self, at: usize) -> &mut Connection {
        self.lane.connection_mut(self.legs[at].id)
    }

    pub(super) fn way_of(&self, at: usize) -> Way {
        self.leg(at).way()
    }

    /// Whether messages flow and are to go on: the answer to the upgrade may come when the goodbye has begun.
    pub(super) fn is_wanted(&self, at: usize) -> bool {
        self.leg(at).path().is_open() && !self.leg(at).is_ending()
    }

    pub(super) fn leg_reports(&self) -> Vec<LegReport> {
        let report = |(at, leg): (usize, &Leg)| LegReport {
            place: leg.place,
            tuple: self.leg(at).tuple(),
            mode: leg.mode,
            late: self.leg(at).path().lag().map(Lag::late),
            steered_by: leg.steered.means(),
            steering: leg.steered.to_string(),
            share: self.copies.as_ref().map(|copies| copies.merge.share(leg.place)),
        };
        self.legs.iter().enumerate().map(report).collect()
    }
}
