//! The upkeep of a feed that outlives its connections: lost ones are made anew, old ones replaced before they are left, and as
//! many kept as are wanted.
//!
//! A new connection is made beside the lane ([`super::dialler`]) and begins in the kernel like the first. It leads once no
//! older one is left. An old one is left when its successor has proven itself: it has said what the old one had said before,
//! so that nothing is missing between the two ([`super::merge`]).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

use super::course::Stage;
use super::dialler::Dialler;
use super::leg::Leg;
use super::merge::CONNECTIONS_MAX;
use super::{Error, Feed};
use crate::control::dial::Dialled;
use crate::event::{Body, Event};
use crate::floor::Time;
use crate::lane::{Connection, Way};
use crate::message::CloseCode;
use crate::path::{self, Handler, Lag, Lost};

/// How often to look after connections.
const EVERY: Duration = Duration::from_millis(20);
/// The first pause before connecting again, and the longest. Each is between once and twice as long, at random: when a venue
/// restarts, not everybody comes back at the same moment.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a connection has to be open for the pauses to begin anew.
const LASTING: Duration = Duration::from_secs(10);
/// How long an old connection and its successor run beside each other at least, and at most. The first lets slow streams be
/// heard on both; after the second the old one is left although not every stream has been heard on both.
const OVERLAP: Duration = Duration::from_secs(1);
const OVERLAP_MAX: Duration = Duration::from_secs(30);
/// How long every event of a connection may be too late before the connection is replaced. Shorter, and a burst at the venue,
/// which another connection would have as late, costs a connection.
const BEHIND_MAX: Duration = Duration::from_secs(5);

/// What a feed does about its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// Connections to keep.
    pub(super) connections: usize,
    /// A lost connection is made anew.
    pub(super) reconnect: bool,
    /// How old a connection may become.
    pub(super) age_max: Option<Duration>,
    /// How long a connection may be silent.
    pub(super) idle_max: Option<Duration>,
    /// How far events may be behind the venue's clock.
    pub(super) lag_max: Option<Duration>,
}

/// How the upkeep stands.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) policy: Policy,
    pub(super) dialler: Dialler,
    pauses: ExponentialBackoff,
    retry_at: Time,
    next_look: Time,
    /// The feed is to end.
    pub(super) closing: bool,
    pub(super) reconnects: u64,
    pub(super) replaced: u64,
}

impl Upkeep {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            dialler: Dialler::default(),
            pauses: pauses(),
            retry_at: Time::ZERO,
            // With nothing to look after, nobody looks.
            next_look: if policy.reconnect || policy.idle_max.is_some() || policy.lag_max.is_some() {
                Time::ZERO
            } else {
                Time::NEVER
            },
            closing: false,
            reconnects: 0,
            replaced: 0,
        }
    }

    #[inline]
    pub(super) fn is_due(&self, now: Time) -> bool {
        now >= self.next_look
    }

    fn put_off(&mut self, now: Time) -> Duration {
        let pause = self.pauses.next().unwrap_or(PAUSE_MAX);
        self.retry_at = now + pause;
        pause
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(PAUSE)
        .with_max_delay(PAUSE_MAX)
        .with_jitter()
        .without_max_times()
        .build()
}

impl Feed {
    /// A connection is lost. That is the end of a feed that does not make it anew.
    pub(super) fn lost(&mut self, at: usize, error: path::Error, now: Time) -> Result<(), Error> {
        if !self.upkeep.policy.reconnect {
            return Err(error.into());
        }
        if self.upkeep.closing {
            log::info!("{}: {error}", self.leg(at).tuple());
            return Ok(());
        }
        let tuple = self.leg(at).tuple();
        let pause = self.upkeep.put_off(now);
        log::warn!("{tuple} is lost: {error}; the next attempt is in {pause:?}");
        self.upkeep.dialler.note(tuple.remote, None);
        let Leg { id, .. } = self.legs[at];
        if !self.leg(at).is_ending() && self.way_of(at) != Way::Gone {
            self.lane.connection_mut(id).close(now, CloseCode::GOING_AWAY, "");
        }
        self.legs[at].leaves = Some(error.to_string());
        Ok(())
    }

    /// Which connection an error of the lane is about: the one that is gone and has not been known to be.
    pub(super) fn failed_leg(&self) -> Option<usize> {
        (0..self.legs.len()).find(|at| {
            self.way_of(*at) == Way::Gone && self.leg(*at).outcome().is_none() && self.legs[*at].leaves.is_none()
        })
    }

    /// Looks after the connections, and tells `handler` what it should know.
    #[cold]
    pub(super) fn look_after<H: Handler>(&mut self, now: Time, handler: &mut H) -> Result<(), Error> {
        if let Some(lag_max) = self.upkeep.policy.lag_max {
            self.look_at_lag(lag_max, now, handler);
        }
        if let Some(reason) = self.look_at_connections(now)? {
            handler.interrupted(&reason);
        }
        Ok(())
    }

    /// How far the connections are behind the venue's clock.
    fn look_at_lag<H: Handler>(&mut self, lag_max: Duration, now: Time, handler: &mut H) {
        let calendar = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let offset_ns = i64::try_from(calendar).unwrap_or(i64::MAX).saturating_sub_unsigned(now.as_nanos());
        for at in 0..self.legs.len() {
            let behind = self.leg(at).path().lag().and_then(Lag::behind);
            self.leg_mut(at).path_mut().measure_lag(lag_max, offset_ns);
            let tuple = self.leg(at).tuple();
            let leg = &mut self.legs[at];
            match behind {
                Some((_, lag)) if !leg.is_behind => {
                    log::warn!("{tuple}: events are {lag:?} behind the venue's clock, or its clock or ours is wrong");
                    handler.lagging(leg.place, Some(lag));
                }
                None if leg.is_behind => {
                    log::warn!("{tuple}: events are in time again");
                    handler.lagging(leg.place, None);
                }
                _ => {}
            }
            leg.is_behind = behind.is_some();
            if let Some((since, lag)) = behind
                && now.since(since) >= BEHIND_MAX
                && self.upkeep.policy.reconnect
                && leg.leaves.is_none()
                // A successor that is no better is not replaced again and again.
                && now.since(leg.born) >= BEHIND_MAX * 12
            {
                log::warn!("{tuple}: {lag:?} behind for {BEHIND_MAX:?}: another one takes over");
                leg.leaves = Some(format!("{lag:?} behind the venue's clock"));
            }
        }
    }

    /// Answers with the reason where the last connection that brought messages is gone.
    fn look_at_connections(&mut self, now: Time) -> Result<Option<String>, Error> {
        self.upkeep.next_look = now + EVERY;
        if self.upkeep.closing || self.succession.is_under_way() {
            return Ok(None);
        }
        for at in 0..self.legs.len() {
            if self.way_of(at) == Way::Gone && self.legs[at].leaves.is_none() && self.upkeep.policy.reconnect {
                // In good order, and not by our wish.
                let code = self.leg(at).outcome().and_then(|outcome| outcome.code);
                let code = code.map_or_else(|| "without a code".to_owned(), |code| format!("code {code}"));
                let pause = self.upkeep.put_off(now);
                log::warn!("{}: the peer has closed, {code}; the next attempt is in {pause:?}", self.leg(at).tuple());
                self.legs[at].leaves = Some(format!("the peer has closed, {code}"));
            }
            self.look_at_age(at, now);
            if let Some(silent) = self.has_gone_silent(at, now) {
                let lost = Lost::Silent { waited: silent, doing: "in mid-stream" };
                self.lost(at, lost.into(), now)?;
            }
        }
        if let Some(result) = self.upkeep.dialler.done() {
            match result {
                Ok(dialled) => self.add(dialled.socket, now)?,
                Err(error) => {
                    let pause = self.upkeep.put_off(now);
                    log::warn!("{error}; the next attempt is in {pause:?}");
                }
            }
        }
        if !self.upkeep.policy.reconnect {
            return Ok(None);
        }
        self.leave_succeeded(now);
        let interrupted = self.sweep();
        self.dial_if_wanted(now)?;
        if self.legs.iter().any(|leg| leg.mode_lasts(now)) && self.upkeep.retry_at <= now {
            self.upkeep.pauses = pauses();
        }
        Ok(interrupted)
    }

    /// An old connection is to be replaced.
    fn look_at_age(&mut self, at: usize, now: Time) {
        let Some(age_max) = self.upkeep.policy.age_max else { return };
        let leg = &mut self.legs[at];
        if leg.leaves.is_none() && now.since(leg.born) >= age_max {
            log::info!("a connection is {age_max:?} old: another one takes over");
            leg.leaves = Some(format!("{age_max:?} old"));
        }
    }

    /// How long nothing has come over a connection, where that is too long.
    fn has_gone_silent(&mut self, at: usize, now: Time) -> Option<Duration> {
        let idle_max = self.upkeep.policy.idle_max?;
        let bytes = self.leg(at).path().counters().path.stream_bytes;
        let is_open = self.is_wanted(at);
        let leg = &mut self.legs[at];
        if bytes != leg.heard.0 || !is_open {
            leg.heard = (bytes, now);
            return None;
        }
        let silent = now.since(leg.heard.1);
        (silent >= idle_max && leg.leaves.is_none()).then_some(silent)
    }

    /// A new connection takes the first free place.
    fn add(&mut self, dialled: Dialled, now: Time) -> Result<(), Error> {
        let Dialled { stream, steered } = dialled;
        let Some(place) = (0..CONNECTIONS_MAX).find(|place| self.legs.iter().all(|leg| leg.place != *place)) else {
            return Ok(());
        };
        let mut path = self.recipe.new_path()?;
        path.take_place(place);
        if let Some(copies) = &mut self.copies {
            copies.merge.seat(place);
        }
        let connection = Connection::over_kernel(stream, path, now, now + self.recipe.connect_timeout())?;
        log::info!("connected: {}", connection.tuple());
        self.upkeep.reconnects += 1;
        let id = self.lane.add(connection);
        self.legs.push(Leg::new(id, place, steered, now));
        Ok(())
    }

    /// Closes connections whose successors have proven themselves.
    fn leave_succeeded(&mut self, now: Time) {
        for at in 0..self.legs.len() {
            if self.legs[at].leaves.is_none() || !self.is_wanted(at) {
                continue;
            }
            let born = self.legs[at].born;
            let successor = (0..self.legs.len()).find(|other| {
                let leg = &self.legs[*other];
                leg.leaves.is_none() && leg.born > born && self.is_wanted(*other)
            });
            let Some(successor) = successor else {
                self.legs[at].succeeded = None;
                continue;
            };
            let since = *self.legs[at].succeeded.get_or_insert(now);
            let overlap = now.since(since);
            let place = self.legs[successor].place;
            let proven = self.copies.as_ref().is_none_or(|copies| copies.merge.has_joined(place));
            if (proven && overlap >= OVERLAP) || overlap >= OVERLAP_MAX {
                if !proven {
                    log::warn!(
                        "{}: left, although its successor has not been heard on all streams",
                        self.leg(at).tuple()
                    );
                }
                self.upkeep.replaced += 1;
                self.leg_mut(at).close(now, CloseCode::NORMAL, "");
            }
        }
    }

    /// Takes out connections that are gone, but for the last; sets who leads. Answers with the reason where none is left that
    /// brings messages, once.
    fn sweep(&mut self) -> Option<String> {
        let mut at = 0;
        while at < self.legs.len() {
            if self.way_of(at) == Way::Gone && self.legs.len() > 1 {
                let leg = self.legs.remove(at);
                self.lane.remove(leg.id);
                leg.steered.let_go();
            } else {
                at += 1;
            }
        }
        if let (Some(copies), Some(leader)) = (&mut self.copies, self.legs.first()) {
            copies.merge.lead(leader.place);
        }
        let only = &self.legs[0];
        let is_gone = self.legs.len() == 1 && self.way_of(0) == Way::Gone;
        let reason = is_gone.then(|| only.leaves.clone()).flatten();
        if is_gone && !self.interrupted {
            self.interrupted = true;
            return reason;
        }
        if !is_gone {
            self.interrupted = false;
        }
        None
    }

    /// Begins to make a connection, where one is missing and it is time.
    fn dial_if_wanted(&mut self, now: Time) -> Result<(), Error> {
        let Upkeep { policy, dialler, retry_at, .. } = &self.upkeep;
        let staying =
            (0..self.legs.len()).filter(|at| self.legs[*at].leaves.is_none() && self.way_of(*at) != Way::Gone).count();
        if staying >= policy.connections || dialler.is_busy() || now < *retry_at || self.legs.len() >= CONNECTIONS_MAX {
            return Ok(());
        }
        let taken = (0..self.legs.len()).map(|at| self.leg(at).tuple().remote).collect();
        let (target, options) = self.recipe.dial(self.plan.is_for_rings());
        let steering = self.plan.steering().cloned();
        self.upkeep.dialler.start(target, options, steering, taken)
    }

    /// A venue that announces its shutdown is left in time.
    pub(super) fn heed(&mut self, place: usize) {
        if let Some(leg) = self.legs.iter_mut().find(|leg| leg.place == place && leg.leaves.is_none()) {
            log::info!("the venue is about to close a connection: another one takes over");
            leg.leaves = Some("the venue has announced its shutdown".to_owned());
        }
    }

    /// Replaces the connections by new ones, each before it is left: nothing is missed. Does nothing where the feed does not
    /// make connections anew ([`super::FeedBuilder::reconnect`]).
    pub fn renew(&mut self) {
        if self.upkeep.policy.reconnect {
            for leg in self.legs.iter_mut().filter(|leg| leg.leaves.is_none()) {
                leg.leaves = Some("requested".to_owned());
            }
        }
    }
}

impl Leg {
    fn mode_lasts(&self, now: Time) -> bool {
        self.stage == Stage::Settled && self.leaves.is_none() && now.since(self.born) >= LASTING
    }
}

/// Whether an event announces that its connection will be closed.
pub(super) fn is_farewell(event: &Event<'_>) -> bool {
    matches!(event.body, Body::ServerShutdown(_))
}
