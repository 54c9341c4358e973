//! The course of a connection: from the kernel to the best ring there is, home again where that ring fails, and back.
//!
//! Every step is taken between two turns, while the connection lives on wherever it is. A mode that was asked for by name
//! must be had at first, or there is an error. After that the connection counts for more than the mode: a ring that fails
//! costs the mode for a while, and that is said in the log and in the report.

use std::collections::VecDeque;
use std::time::Duration;

use super::watchdog::{Alarm, Watchdog};
use super::{Error, Feed, Mode};
use crate::floor::Time;
use crate::handover::{self, DemoteError};
use crate::lane::Way;
use crate::path::Lost;

/// How long a connection that has come home stays there, at first, before the next attempt to bring it to a ring. Doubled
/// with each attempt that fails or does not last, up to the second figure: attaching a program takes some links down.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long a stay on the ring has to last to be a success.
const LASTING: Duration = Duration::from_secs(10);
/// Moves that are remembered.
const MOVES: usize = 100;

/// Where the connection is, and where it is to be.
#[derive(Debug)]
pub(super) struct Course {
    stage: Stage,
    /// When to try to come back to a ring. [`Time::NEVER`] while there is nothing to come back from.
    back_at: Time,
    pause: Duration,
    /// Since when the connection is where it is.
    since: Time,
    watchdog: Option<Watchdog>,
    moves: VecDeque<Move>,
}

/// What a change of the mode was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
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

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the connection is open.
    Opening,
    /// On the way to the ring, in this mode.
    Promoting(Mode),
    /// On the way home.
    Demoting(Alarm),
    /// Where it is to stay for now.
    Settled,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            stage: Stage::Opening,
            back_at: Time::NEVER,
            pause: PAUSE,
            since: Time::ZERO,
            watchdog: None,
            moves: VecDeque::new(),
        }
    }
}

impl Course {
    pub(super) fn is_settled(&self) -> bool {
        self.stage == Stage::Settled
    }

    pub(super) fn moves(&self) -> Vec<Move> {
        self.moves.iter().cloned().collect()
    }
}

impl Feed {
    /// Tells the watchdog how far the lane is, and asks whether there is anything to attend to.
    #[inline]
    pub(super) fn wants_attention(&mut self, now: Time) -> bool {
        let Self { course, lane, .. } = self;
        if let (Some(watchdog), Some(bypass)) = (&course.watchdog, lane.bypass()) {
            watchdog.beat(lane.counters().turns, bypass.ring.pulse());
            if watchdog.alarm().is_some() {
                return true;
            }
        }
        course.stage != Stage::Settled || now >= course.back_at || lane.has_failed()
    }

    /// Takes the next step.
    #[cold]
    pub(super) fn attend(&mut self, now: Time) -> Result<(), Error> {
        match self.course.stage.clone() {
            Stage::Opening if self.is_wanted() => {
                match self.plan.opened() {
                    Some(mode) if self.way() == Way::Kernel => self.set_out(mode, now),
                    Some(mode) => self.arrived(mode, Duration::ZERO, "opened over the ring".to_owned(), now),
                    None => self.settle(Mode::Kernel, now),
                }
                Ok(())
            }
            Stage::Opening => Ok(()),
            Stage::Promoting(mode) => self.promoting(mode, now),
            Stage::Demoting(alarm) => self.demoting(&alarm, now),
            Stage::Settled => {
                if let Some(error) = self.lane.take_failure() {
                    self.leave(Alarm::RingFailed(error.to_string()), now);
                } else if let Some(alarm) = self.course.watchdog.as_ref().and_then(Watchdog::alarm).cloned() {
                    self.leave(alarm, now);
                } else if now >= self.course.back_at {
                    self.come_back(now);
                }
                Ok(())
            }
        }
    }

    fn promoting(&mut self, mode: Mode, now: Time) -> Result<(), Error> {
        match self.lane.connection_mut(self.connection).take_handover() {
            None => Ok(()),
            Some(Ok(handover)) => {
                log::info!("promoted: {handover:?}");
                self.arrived(mode, handover.took, "the best mode that works".to_owned(), now);
                Ok(())
            }
            // A connection that is being closed, by us or by the peer, has no need of another mode.
            Some(Err(error)) if !self.is_wanted() => {
                drop(self.lane.take_bypass());
                self.plan.overtaken(mode, error.to_string());
                self.settle(Mode::Kernel, now);
                Ok(())
            }
            Some(Err(error)) => self.fall_back(mode, &error.to_string(), now),
        }
    }

    /// `mode` did not work out: the next best is tried with the same connection, which still lives in the kernel.
    fn fall_back(&mut self, mode: Mode, reason: &str, now: Time) -> Result<(), Error> {
        let reason = format!("{reason}{}", self.plan.diagnosis(self.lane.bypass()));
        // The program must be off the interface before another one can be attached.
        drop(self.lane.take_bypass());
        self.plan.refused(mode, reason)?;
        match self.plan.open(self.tuple())? {
            Some((next, bypass)) => {
                self.lane.set_bypass(bypass);
                self.set_out(next, now);
            }
            None => self.stay_home(now),
        }
        Ok(())
    }

    fn demoting(&mut self, alarm: &Alarm, now: Time) -> Result<(), Error> {
        match self.lane.connection_mut(self.connection).take_demotion() {
            None => Ok(()),
            Some(Ok(demotion)) => {
                log::warn!("{} went home to the kernel: {alarm}; {demotion:?}", self.tuple());
                if alarm.spoils_ring() {
                    drop(self.lane.take_bypass());
                }
                if *alarm != Alarm::Requested {
                    if now.since(self.course.since) >= LASTING {
                        self.course.pause = PAUSE;
                    }
                    self.put_off(now);
                }
                self.changed(Mode::Kernel, demotion.took, alarm.to_string(), now);
                Ok(())
            }
            Some(Err(_)) if !self.is_wanted() => {
                self.course.stage = Stage::Settled;
                Ok(())
            }
            // Without the privilege to leave it, a ring that cannot be relied on any more is the end.
            Some(Err(error))
                if matches!(alarm, Alarm::RingFailed(_) | Alarm::InterfaceGone)
                    || matches!(error, DemoteError::NotPermitted) =>
            {
                Err(crate::path::Error::from(Lost::Stranded { alarm: alarm.to_string(), why: error.to_string() })
                    .into())
            }
            Some(Err(error)) => {
                log::error!("{} stays on the ring, although {alarm}: {error}", self.tuple());
                self.course.stage = Stage::Settled;
                self.watch();
                Ok(())
            }
        }
    }

    /// Whether messages flow and are to go on: the answer to the upgrade may come when the goodbye has begun.
    fn is_wanted(&self) -> bool {
        self.connection().path().is_open() && !self.connection().is_ending()
    }

    /// Begins the way to the ring.
    fn set_out(&mut self, mode: Mode, now: Time) {
        self.lane.promote(self.connection, now);
        self.course.stage = Stage::Promoting(mode);
    }

    /// Begins the way home.
    fn leave(&mut self, alarm: Alarm, now: Time) {
        self.course.watchdog = None;
        if self.way() != Way::Bypass {
            // It is home already: what the alarm says is true of a ring that carries nothing.
            if alarm.spoils_ring() {
                drop(self.lane.take_bypass());
            }
            return;
        }
        self.lane.demote(self.connection, now);
        self.course.stage = Stage::Demoting(alarm);
    }

    /// Tries to bring a connection that has come home back to a ring.
    fn come_back(&mut self, now: Time) {
        self.course.back_at = Time::NEVER;
        if !self.is_wanted() || self.way() != Way::Kernel {
            return;
        }
        let refreshed = self.lane.bypass_mut().map(|bypass| self.plan.refresh(bypass));
        if let (Some(mode), Some(Ok(()))) = (self.plan.opened(), &refreshed) {
            self.set_out(mode, now);
            return;
        }
        drop(self.lane.take_bypass());
        self.plan.again_from_the_start();
        match self.plan.open(self.tuple()) {
            Ok(Some((mode, bypass))) => {
                self.lane.set_bypass(bypass);
                self.set_out(mode, now);
            }
            Ok(None) => self.stay_home(now),
            Err(error) => {
                log::warn!("{error}");
                self.stay_home(now);
            }
        }
    }

    /// No ring can be had. Where there was one before, it is worth another try later.
    fn stay_home(&mut self, now: Time) {
        if !self.course.moves.is_empty() {
            self.put_off(now);
        }
        self.settle(Mode::Kernel, now);
    }

    /// Sets the time for the next attempt.
    fn put_off(&mut self, now: Time) {
        let course = &mut self.course;
        course.back_at = now + course.pause;
        course.pause = (course.pause * 2).min(PAUSE_MAX);
    }

    /// The connection has come to the ring.
    fn arrived(&mut self, mode: Mode, took: Duration, reason: String, now: Time) {
        self.changed(mode, took, reason, now);
        self.watch();
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

    /// The mode has changed.
    fn changed(&mut self, to: Mode, took: Duration, reason: String, now: Time) {
        let moves = &mut self.course.moves;
        if moves.len() == MOVES {
            moves.pop_front();
        }
        moves.push_back(Move { at: now, from: self.mode, to, reason, took });
        self.settle(to, now);
    }

    fn settle(&mut self, mode: Mode, now: Time) {
        self.course.stage = Stage::Settled;
        self.course.since = now;
        self.mode = mode;
        log::info!("{}", self.plan.verdict(mode));
    }

    /// Brings the connection back to a kernel socket, where it stays until [`Feed::promote`]. Turns do the rest;
    /// [`Feed::mode`] tells when it has arrived. Does nothing where it is there already, or where the calling thread has no
    /// `CAP_NET_ADMIN` (which is logged).
    pub fn demote(&mut self, now: Time) {
        self.course.back_at = Time::NEVER;
        if self.course.is_settled() && self.way() == Way::Bypass {
            if let Err(error) = handover::permitted() {
                log::error!("{} stays on the ring: {error}", self.tuple());
                return;
            }
            self.leave(Alarm::Requested, now);
        }
    }

    /// Brings the connection to the best ring there is of those the mode allows. Turns do the rest; where it cannot be had
    /// now, that is tried again later. Does nothing where the connection is on a ring already, or none is wanted.
    pub fn promote(&mut self, now: Time) {
        if self.course.is_settled() && self.way() == Way::Kernel && self.plan.is_for_rings() {
            self.course.pause = PAUSE;
            self.course.back_at = now;
        }
    }
}
