//! A feed: one WebSocket connection to a venue, brought to the fastest way that the machine allows.
//!
//! This is the library's front door. A [`FeedBuilder`] says what is wanted; [`FeedBuilder::connect`] dials;
//! [`Feed::run`] or, for a loop of one's own, [`Feed::turn`] and [`Feed::wait`] do the rest: the TLS handshake, the
//! upgrade, the subscriptions, the move to the bypass, and then the messages.

mod builder;
mod bypass;
mod course;
mod error;
mod report;
mod watchdog;

use std::time::Duration;

pub use builder::{FeedBuilder, Setup, Wait};
pub use bypass::Mode;
pub use course::Move;
pub use error::{Culprit, Error};
pub use report::Report;
pub use watchdog::Alarm;

use self::bypass::BypassPlan;
use self::course::Course;
use crate::control::attach::Attachment;
use crate::floor::{Clock, FourTuple, Monotonic, Time};
use crate::lane::{Connection, ConnectionId, Lane, Outcome, Way};
use crate::message::CloseCode;
use crate::path::{Handler, Sender};
use crate::ring::XskRing;

/// The longest wait of [`Feed::run`], after which it looks at what no descriptor announces.
const WAIT_MAX: Duration = Duration::from_millis(100);

/// A connection to a venue.
#[derive(Debug)]
pub struct Feed {
    lane: Lane<XskRing, Attachment>,
    connection: ConnectionId,
    /// Where it is, and where it is to be.
    course: Course,
    /// The modes still to try, best first, and why better ones were refused.
    plan: BypassPlan,
    mode: Mode,
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
    /// What ended the connection, or that a mode which was asked for cannot be had.
    #[inline]
    pub fn turn<H: Handler>(&mut self, now: Time, handler: &mut H) -> Result<usize, Error> {
        let activity = self.lane.turn(now, handler)?;
        if self.wants_attention(now) {
            self.attend(now)?;
        }
        Ok(activity)
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

    /// Begins to close the connection in good order; turns see to the rest.
    pub fn close(&mut self, now: Time) {
        self.lane.connection_mut(self.connection).close(now, CloseCode::NORMAL, "");
    }

    /// A sender of messages. What it sends leaves with the next turn.
    #[must_use]
    pub fn sender(&mut self) -> Sender<'_> {
        self.lane.connection_mut(self.connection).sender()
    }

    /// How the connection ended, once it has, in good order.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.lane.connection(self.connection).outcome()
    }

    /// Whether messages flow.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.lane.connection(self.connection).path().is_open()
    }

    /// Whether the connection is where it is to stay: in the mode that [`Feed::mode`] tells.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.course.is_settled()
    }

    /// Whether a turn may still need privileges although the connection stays where it is: until it is settled, and as long
    /// as the socket it came from is looked at (a second at most). After that, only leaving the ring and coming back need
    /// any: see [`privilege`](crate::privilege).
    #[must_use]
    pub fn needs_privilege(&self) -> bool {
        !self.is_settled() || self.connection().has_open_seam()
    }

    /// The mode in effect. Until the connection has been promoted, that is [`Mode::Kernel`].
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Where the connection lives at the moment.
    #[must_use]
    pub fn way(&self) -> Way {
        self.lane.connection(self.connection).way()
    }

    /// Both ends of the connection.
    #[must_use]
    pub fn tuple(&self) -> FourTuple {
        self.lane.connection(self.connection).tuple()
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

    fn connection(&self) -> &Connection {
        self.lane.connection(self.connection)
    }
}
