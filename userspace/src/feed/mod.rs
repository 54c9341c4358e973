//! A feed: one WebSocket connection to a venue, brought to the fastest way that the machine allows.
//!
//! This is the library's front door. A [`FeedBuilder`] says what is wanted; [`FeedBuilder::connect`] dials;
//! [`Feed::run`] or, for a loop of one's own, [`Feed::turn`] and [`Feed::wait`] do the rest: the TLS handshake, the
//! upgrade, the subscriptions, the move to the bypass, and then the messages.

mod arrival;
mod builder;
mod bypass;
mod copies;
mod course;
mod dialler;
mod error;
mod leg;
mod merge;
pub mod proof;
mod report;
mod succession;
mod trial;
mod upkeep;
mod watchdog;

use std::time::Duration;

pub use builder::{FeedBuilder, Setup, Wait};
pub use bypass::{Mode, Queues};
pub use course::Move;
pub use error::{Culprit, Error};
pub use leg::LegReport;
pub use merge::{CONNECTIONS_MAX, Share};
pub use report::{Report, SteeringReport};
pub use trial::{Trial, Tried};
pub use watchdog::Alarm;

use self::builder::Recipe;
use self::bypass::BypassPlan;
use self::copies::{Copies, FirstCopy};
use self::course::{Course, Stage};
use self::leg::Leg;
use self::succession::Succession;
use self::upkeep::Upkeep;
use crate::control::attach::Attachment;
pub use crate::control::steering::{Means, Steer};
use crate::floor::{Clock, FourTuple, Monotonic, Time};
use crate::lane::{Lane, Outcome, Way};
use crate::message::CloseCode;
use crate::path::{self, Handler, Sender};
use crate::ring::XskRing;

/// The longest wait of [`Feed::run`], after which it looks at what no descriptor announces.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A feed of a venue, over one connection or several.
#[derive(Debug)]
pub struct Feed {
    lane: Lane<XskRing, Attachment>,
    /// Its connections, oldest first. There is always one, even if it is over.
    legs: Vec<Leg>,
    course: Course,
    /// The modes still to try, best first, and why better ones were refused.
    plan: BypassPlan,
    upkeep: Upkeep,
    /// Where there can be several connections, at once or one after another.
    copies: Option<Copies>,
    recipe: Recipe,
    succession: Succession,
    /// All connections are gone, and the handler knows it.
    interrupted: bool,
    wait: Wait,
    setup: Setup,
}

impl Feed {
    /// Describes a feed from a `ws://` or `wss://` URL.
    #[must_use]
    pub fn builder(url: &str) -> FeedBuilder {
        FeedBuilder::new(url)
    }

    /// Does everything that can be done at `now` without waiting, and calls `handler` for every message that has
    /// arrived. Answers how much there was to do: with 0, the caller may [`Feed::wait`].
    ///
    /// # Errors
    ///
    /// What ended the connection, where it is not to be made anew, or that a mode which was asked for cannot be had.
    #[inline]
    pub fn turn<H: Handler>(&mut self, now: Time, handler: &mut H) -> Result<usize, Error> {
        let activity = match &mut self.copies {
            None => self.lane.turn(now, handler)?,
            Some(copies) => {
                let sole = self.legs.len() == 1;
                let result = self.lane.turn(now, &mut FirstCopy { copies, inner: handler, sole });
                self.after_turn(now, result)?
            }
        };
        if self.upkeep.is_due(now) {
            self.look_after(now, handler)?;
        }
        if self.wants_steering(now) {
            self.steer(now)?;
        }
        if self.succession.is_due() {
            self.succeed(now);
        }
        Ok(activity)
    }

    /// Forgives what a feed that outlives its connections can forgive, and heeds what the venue has announced.
    #[inline]
    fn after_turn(&mut self, now: Time, result: Result<usize, path::Error>) -> Result<usize, Error> {
        if let Some(place) = self.copies.as_mut().and_then(|copies| copies.farewell.take()) {
            self.heed(place);
        }
        match result {
            Ok(activity) => Ok(activity),
            Err(error) => {
                let Some(at) = self.failed_leg() else { return Err(error.into()) };
                self.lost(at, error, now)?;
                Ok(1)
            }
        }
    }

    /// Waits, as the builder was told to, until there is something to do or `at_most` has passed. Spinning returns at
    /// once.
    ///
    /// # Errors
    ///
    /// Where the kernel cannot be asked to wait.
    pub fn wait(&self, now: Time, at_most: Duration) -> Result<(), Error> {
        match self.wait {
            Wait::Spin => {
                std::hint::spin_loop();
                Ok(())
            }
            Wait::Poll => self.lane.wait(now, at_most).map_err(Error::System),
        }
    }

    /// Runs until the connection is over, or `go_on` says no, which closes it in good order. Answers how it ended.
    ///
    /// # Errors
    ///
    /// As [`Feed::turn`].
    pub fn run<H: Handler>(&mut self, handler: &mut H, mut go_on: impl FnMut() -> bool) -> Result<Outcome, Error> {
        let clock = Monotonic;
        loop {
            let now = clock.now();
            let activity = self.turn(now, handler)?;
            if let Some(outcome) = self.outcome() {
                return Ok(outcome.clone());
            }
            if activity == 0 {
                if !go_on() {
                    self.close(now);
                }
                self.wait(now, WAIT_MAX)?;
            }
        }
    }

    /// Begins to close the feed in good order; turns see to the rest.
    pub fn close(&mut self, now: Time) {
        self.upkeep.closing = true;
        for at in 0..self.legs.len() {
            self.leg_mut(at).close(now, CloseCode::NORMAL, "");
        }
    }

    /// A sender of messages, over the oldest connection that is open. What it sends leaves with the next turn.
    #[must_use]
    pub fn sender(&mut self) -> Sender<'_> {
        let at = (0..self.legs.len()).find(|at| self.is_wanted(*at)).unwrap_or(0);
        self.leg_mut(at).sender()
    }

    /// How the feed ended, once it has, in good order. One that makes its connections anew ends when it is closed.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        if !self.upkeep.policy.reconnect {
            return self.leg(0).outcome();
        }
        let is_over = self.upkeep.closing && (0..self.legs.len()).all(|at| self.way_of(at) == Way::Gone);
        const NONE: &Outcome = &Outcome::NONE;
        is_over.then(|| self.leg(0).outcome().unwrap_or(NONE))
    }

    /// The process that has taken the connection over, once one has ([`FeedBuilder::succession`]). The feed is over then.
    #[must_use]
    pub fn successor(&self) -> Option<i32> {
        self.succession.successor
    }

    /// Whether messages flow.
    #[must_use]
    pub fn is_open(&self) -> bool {
        (0..self.legs.len()).any(|at| self.leg(at).path().is_open())
    }

    /// Whether all connections are where they are to stay for now.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.course.is_calm() && self.legs.iter().all(|leg| leg.stage == Stage::Settled)
    }

    /// Whether a turn may still need privileges although the connection stays where it is: until it is settled, and as long
    /// as the socket it came from is looked at (a second at most). After that, only leaving the ring and coming back need any,
    /// and making a connection anew needs system calls: see [`privilege`](crate::privilege).
    #[must_use]
    pub fn needs_privilege(&self) -> bool {
        !self.is_settled()
            || self.succession.is_unattended()
            || (0..self.legs.len()).any(|at| self.leg(at).has_open_seam())
    }

    /// The mode of the oldest connection. Until it has been promoted, that is [`Mode::Kernel`].
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.legs[0].mode
    }

    /// Where the oldest connection lives at the moment.
    #[must_use]
    pub fn way(&self) -> Way {
        self.way_of(0)
    }

    /// Both ends of the oldest connection.
    #[must_use]
    pub fn tuple(&self) -> FourTuple {
        self.leg(0).tuple()
    }

    /// Where the shared memory of the ring lies, where there is a ring: a payload that was not copied lies in it.
    #[must_use]
    pub fn region(&self) -> Option<std::ops::Range<usize>> {
        use crate::ring::Ring as _;
        self.lane.bypass().map(|bypass| bypass.ring.region())
    }

    /// What happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report::new(self)
    }
}
