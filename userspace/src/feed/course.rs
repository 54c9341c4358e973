//! The course of connections: from the kernel to the best ring there is, home again where that ring fails, and back.
//!
//! All connections of a feed share one ring. Every step is taken between two turns, while they live on wherever they are. A mode that was asked for by name
//! must be had at first, or there is an error. After that the connection counts for more than the mode: a ring that fails
//! costs the mode for a while, and that is said in the log and in the report.

use std::collections::VecDeque;
use std::time::Duration;

use super::leg::Leg;
use super::watchdog::{Alarm, Watchdog};
use super::{Error, Feed, Mode};
use crate::floor::Time;
use crate::handover::{self, DemoteError};
use crate::lane::Way;
use crate::path::{self, Lost};
use crate::privilege::{self, Capabilities};

/// How long a connection that has come home stays there, at first, before the next attempt to bring it to a ring. Doubled
/// with each attempt that fails or does not last, up to the second figure: attaching a program takes some links down.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a stay on the ring has to last to be a success.
const LASTING: Duration = Duration::from_secs(10);
/// Moves that are remembered.
const MOVES: usize = 100;

/// The ring, as far as the feed has come with it.
#[derive(Debug)]
pub(super) struct Course {
    /// Why the connections are going home, while they are.
    alarm: Option<Alarm>,
    /// When to try to come back to a ring. [`Time::NEVER`] while there is nothing to come back from.
    back_at: Time,
    pause: Duration,
    /// Since when a connection has been on the ring.
    since: Time,
    watchdog: Option<Watchdog>,
    moves: VecDeque<Move>,
    /// Times the next hop has changed its address.
    pub(super) readdressed: u64,
}

/// What a change of the mode was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which of the feed's connections, counted from 0.
    pub connection: usize,
    /// When it was complete.
    pub at: Time,
    /// The mode before.
    pub from: Mode,
    /// The mode after.
    pub to: Mode,
    /// What made it necessary, or possible.
    pub reason: String,
    /// How long it took, from its first step.
    pub took: Duration,
}

/// Where a connection is on its course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Until it is open.
    Opening,
    /// On the way to the ring, in this mode.
    Promoting(Mode),
    /// On the way home.
    Demoting,
    /// Where it is to stay for now.
    Settled,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            alarm: None,
            back_at: Time::NEVER,
            pause: PAUSE,
            since: Time::ZERO,
            watchdog: None,
            moves: VecDeque::new(),
            readdressed: 0,
        }
    }
}

impl Course {
    pub(super) fn is_calm(&self) -> bool {
        self.alarm.is_none()
    }

    /// Nobody is to be brought to the ring for now.
    pub(super) fn stay(&mut self) {
        self.back_at = Time::NEVER;
    }

    pub(super) fn moves(&self) -> Vec<Move> {
        self.moves.iter().cloned().collect()
    }
}

impl Feed {
    /// Tells the watchdog how far the lane is, and asks whether there is anything to attend to.
    #[inline]
    pub(super) fn wants_steering(&mut self, now: Time) -> bool {
        let Self { course, lane, legs, .. } = self;
        if let (Some(watchdog), Some(bypass)) = (&course.watchdog, lane.bypass()) {
            watchdog.beat(lane.counters().turns, bypass.ring.pulse());
            if watchdog.alarm().is_some() {
                return true;
            }
        }
        legs.iter().any(|leg| leg.stage != Stage::Settled) || now >= course.back_at || lane.has_failed()
    }

    /// Takes the next steps.
    #[cold]
    pub(super) fn steer(&mut self, now: Time) -> Result<(), Error> {
        for at in 0..self.legs.len() {
            match self.legs[at].stage {
                Stage::Opening if self.is_wanted(at) => self.opened(at, now),
                Stage::Promoting(mode) => self.promoting(at, mode, now)?,
                Stage::Demoting => self.demoting(at, now)?,
                Stage::Opening | Stage::Settled => {}
            }
        }
        if self.course.alarm.is_some() {
            if self.legs.iter().all(|leg| leg.stage != Stage::Demoting) {
                self.all_home(now);
            }
        } else if let Some(error) = self.lane.take_failure() {
            self.leave(Alarm::RingFailed(error.to_string()));
        } else if let Some(alarm) = self.course.watchdog.as_ref().and_then(Watchdog::alarm).cloned() {
            match alarm {
                Alarm::NextHopMoved(mac) => self.readdress(mac, &alarm),
                alarm => self.leave(alarm),
            }
        } else if now >= self.course.back_at {
            self.come_back(now);
        }
        self.go_home(now);
        Ok(())
    }

    /// A connection is open.
    fn opened(&mut self, at: usize, now: Time) {
        match self.plan.opened() {
            Some(mode) if self.way_of(at) == Way::Kernel => self.set_out(at, mode, now),
            Some(mode) => self.arrived(at, mode, Duration::ZERO, "opened over the ring", now),
            None => self.settle(at, Mode::Kernel),
        }
    }

    fn promoting(&mut self, at: usize, mode: Mode, now: Time) -> Result<(), Error> {
        match self.leg_mut(at).take_handover() {
            None if self.way_of(at) == Way::Gone => self.settle(at, Mode::Kernel),
            None => {}
            Some(Ok(handover)) => {
                log::info!("promoted: {handover:?}");
                self.arrived(at, mode, handover.took, "the best mode that works", now);
            }
            // Its frames arrive elsewhere, and another connection's would not.
            Some(Err(error)) if self.is_replaced(at, now)? => {
                log::warn!("{} stays in the kernel, and is replaced: {error}", self.leg(at).tuple());
                self.settle(at, Mode::Kernel);
            }
            // Others show that the ring works: what is wrong is the way of this connection to it.
            Some(Err(error)) if self.is_ring_in_use() => {
                log::warn!("{} stays in the kernel: {error}", self.leg(at).tuple());
                self.settle(at, Mode::Kernel);
                self.put_off(now);
            }
            // A connection that is being closed, by us or by the peer, has no need of another mode.
            Some(Err(error)) if !self.is_wanted(at) => {
                self.take_ring_away();
                self.plan.overtaken(mode, error.to_string());
                self.settle(at, Mode::Kernel);
            }
            Some(Err(error)) => return self.fall_back(at, mode, &error.to_string(), now),
        }
        Ok(())
    }

    /// A connection could not be promoted: whether that is because its frames arrive on another queue, and a connection made anew
    /// takes its place.
    fn is_replaced(&mut self, at: usize, now: Time) -> Result<bool, Error> {
        let tuple = self.leg(at).tuple();
        let Some(queue) = self.plan.elsewhere(self.lane.bypass(), &tuple) else { return Ok(false) };
        let Some(steering) = self.plan.steering().cloned() else { return Ok(false) };
        let better = steering.contradicted(&mut self.legs[at].steered, &tuple, queue)?;
        if better && self.upkeep.policy.reconnect && self.legs[at].leaves.is_none() && self.is_wanted(at) {
            self.legs[at].leaves = Some(format!("its frames arrive on queue {queue}"));
            self.put_off(now);
            return Ok(true);
        }
        Ok(false)
    }

    /// `mode` did not work out: the next best is tried with the same connection, which still lives in the kernel.
    fn fall_back(&mut self, at: usize, mode: Mode, reason: &str, now: Time) -> Result<(), Error> {
        let reason = format!("{reason}{}", self.plan.diagnosis(self.lane.bypass(), &self.leg(at).tuple()));
        // The program must be off the interface before another one can be attached.
        self.take_ring_away();
        self.plan.refused(mode, reason)?;
        match self.plan.open(self.leg(at).tuple())? {
            Some((next, bypass)) => {
                self.lane.set_bypass(bypass);
                self.renew_rules();
                self.set_out(at, next, now);
            }
            None => {
                if !self.course.moves.is_empty() {
                    self.put_off(now);
                }
                self.settle(at, Mode::Kernel);
            }
        }
        Ok(())
    }

    fn demoting(&mut self, at: usize, now: Time) -> Result<(), Error> {
        let reason = self.course.alarm.as_ref().map_or_else(String::new, Alarm::to_string);
        match self.leg_mut(at).take_demotion() {
            None if self.way_of(at) == Way::Gone => self.settle(at, Mode::Kernel),
            None => {}
            Some(Ok(demotion)) => {
                log::warn!("{} went home to the kernel: {reason}; {demotion:?}", self.leg(at).tuple());
                self.changed(at, Mode::Kernel, demotion.took, &reason, now);
            }
            Some(Err(_)) if !self.is_wanted(at) => self.legs[at].stage = Stage::Settled,
            Some(Err(error)) => {
                self.legs[at].stage = Stage::Settled;
                // Without the privilege to leave it, a ring that cannot be relied on any more is the end.
                if matches!(self.course.alarm, Some(Alarm::RingFailed(_) | Alarm::InterfaceGone))
                    || matches!(error, DemoteError::NotPermitted)
                {
                    let stranded = path::Error::from(Lost::Stranded { alarm: reason, why: error.to_string() });
                    return self.lost(at, stranded, now);
                }
                log::error!("{} stays on the ring, although {reason}: {error}", self.leg(at).tuple());
            }
        }
        Ok(())
    }

    /// Nobody is on the way home any more.
    fn all_home(&mut self, now: Time) {
        let Some(alarm) = self.course.alarm.take() else { return };
        if self.is_ring_in_use() {
            // Somebody could not go.
            self.watch();
            return;
        }
        if alarm.spoils_ring() {
            self.take_ring_away();
        }
        if alarm != Alarm::Requested {
            if now.since(self.course.since) >= LASTING {
                self.course.pause = PAUSE;
            }
            self.put_off(now);
        }
    }

    /// A program was attached: flow rules may have been lost with it, and the ring may be on another interface.
    fn renew_rules(&mut self) {
        let Some(steering) = self.plan.steering().cloned() else { return };
        for at in 0..self.legs.len() {
            let tuple = self.leg(at).tuple();
            steering.renew(&mut self.legs[at].steered, &tuple);
        }
    }

    /// Begins the way of a connection to the ring.
    fn set_out(&mut self, at: usize, mode: Mode, now: Time) {
        // Asked first: where privileges have been given up, the attempt would end the process.
        let missing = privilege::missing(Capabilities::BYPASS);
        if !missing.is_empty() {
            log::warn!("{} stays in the kernel: a ring needs {missing}", self.leg(at).tuple());
            return self.settle(at, Mode::Kernel);
        }
        self.lane.promote(self.legs[at].id, now);
        self.legs[at].stage = Stage::Promoting(mode);
    }

    /// The next hop has another address. What leaves goes there from now on, and the connections stay where they are.
    fn readdress(&mut self, mac: [u8; 6], alarm: &Alarm) {
        log::warn!("{alarm}: what leaves goes there");
        self.course.readdressed += 1;
        self.lane.readdress(mac);
        self.watch();
    }

    /// Everybody shall go home.
    pub(super) fn leave(&mut self, alarm: Alarm) {
        self.course.watchdog = None;
        self.course.back_at = Time::NEVER;
        self.course.alarm = Some(alarm);
    }

    /// Sends those home who are on the ring and should not be. One that is on its way there arrives, or fails, first.
    pub(super) fn go_home(&mut self, now: Time) {
        if self.course.alarm.is_none() {
            return;
        }
        for at in 0..self.legs.len() {
            if self.legs[at].stage == Stage::Settled && self.way_of(at) == Way::Bypass {
                self.lane.demote(self.legs[at].id, now);
                self.legs[at].stage = Stage::Demoting;
            }
        }
    }

    /// Tries to bring connections that have come home back to a ring.
    fn come_back(&mut self, now: Time) {
        self.course.back_at = Time::NEVER;
        let home = |feed: &Self, at: &usize| {
            feed.legs[*at].stage == Stage::Settled && feed.way_of(*at) == Way::Kernel && feed.is_wanted(*at)
        };
        let Some(first) = (0..self.legs.len()).find(|at| home(self, at)) else { return };
        let refreshed = self.lane.bypass_mut().map(|bypass| self.plan.refresh(bypass));
        if !matches!((self.plan.opened(), refreshed), (Some(_), Some(Ok(())))) {
            if self.is_ring_in_use() {
                self.put_off(now);
                return;
            }
            self.take_ring_away();
            self.plan.again_from_the_start();
            match self.plan.open(self.leg(first).tuple()) {
                Ok(Some((_, bypass))) => {
                    self.lane.set_bypass(bypass);
                    self.renew_rules();
                }
                Ok(None) => self.put_off(now),
                Err(error) => {
                    log::warn!("{error}");
                    self.put_off(now);
                }
            }
        }
        let Some(mode) = self.plan.opened() else { return };
        for at in 0..self.legs.len() {
            if home(self, &at) {
                self.set_out(at, mode, now);
            }
        }
    }

    /// Sets the time for the next attempt.
    fn put_off(&mut self, now: Time) {
        let course = &mut self.course;
        course.back_at = now + course.pause;
        course.pause = (course.pause * 2).min(PAUSE_MAX);
    }

    /// A connection has come to the ring.
    fn arrived(&mut self, at: usize, mode: Mode, took: Duration, reason: &str, now: Time) {
        if let Some(steering) = self.plan.steering() {
            steering.confirmed(&mut self.legs[at].steered);
        }
        self.changed(at, mode, took, reason, now);
        self.course.since = now;
        if self.course.alarm.is_none() {
            self.watch();
        }
    }

    fn watch(&mut self) {
        let Some(bypass) = self.lane.bypass() else { return };
        self.course.watchdog = match self.plan.watch(self.tuple(), bypass) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                log::error!("nobody watches the ring: {error}");
                None
            }
        };
    }

    pub(super) fn take_ring_away(&mut self) {
        self.course.watchdog = None;
        drop(self.lane.take_bypass());
    }

    fn is_ring_in_use(&self) -> bool {
        (0..self.legs.len()).any(|at| matches!(self.way_of(at), Way::Bypass | Way::Leaving))
    }

    /// The mode of a connection has changed.
    fn changed(&mut self, at: usize, to: Mode, took: Duration, reason: &str, now: Time) {
        let moves = &mut self.course.moves;
        if moves.len() == MOVES {
            moves.pop_front();
        }
        let Leg { place, mode, .. } = self.legs[at];
        moves.push_back(Move { connection: place, at: now, from: mode, to, reason: reason.to_owned(), took });
        self.settle(at, to);
    }

    fn settle(&mut self, at: usize, mode: Mode) {
        self.legs[at].stage = Stage::Settled;
        self.legs[at].mode = mode;
        let steering = self.plan.steering_verdict(mode, &self.legs[at].steered);
        log::info!("{}{steering}", self.plan.verdict(mode));
    }

    /// Brings the connections back to kernel sockets, where they stay until [`Feed::promote`]. Turns do the rest;
    /// [`Feed::mode`] tells when it is done. Does nothing where they are there already, or where the calling thread has no
    /// `CAP_NET_ADMIN` (which is logged).
    pub fn demote(&mut self, now: Time) {
        if self.is_settled() && self.is_ring_in_use() {
            if let Err(error) = handover::permitted() {
                log::error!("the connections stay on the ring: {error}");
                return;
            }
            self.leave(Alarm::Requested);
            self.go_home(now);
        }
    }

    /// Brings the connections to the best ring there is of those the mode allows. Turns do the rest; where it cannot be had
    /// now, that is tried again later. Does nothing where no ring is wanted.
    pub fn promote(&mut self, now: Time) {
        if self.is_settled() && self.plan.is_for_rings() {
            self.course.pause = PAUSE;
            self.course.back_at = now;
        }
    }
}
