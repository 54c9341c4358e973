//! Succession: a running connection is left to another process, so that a new version of the program goes on with it.
//!
//! ```text
//!  predecessor                                         successor
//!                  <------------ hello: which feed ---  starts, and connects to the predecessor instead of the venue
//!  goes home to the kernel; reads to the end of a message
//!                  --- estate, and the socket ------->  builds everything, and touches nothing
//!                  <------------------------- ready --
//!  takes its program off the interface
//!                  --- yours ------------------------>  reads on; comes to the ring as any connection does
//!  closes its descriptor, which the peer does not notice
//! ```
//!
//! Until "yours" the connection is the predecessor's: where anything goes wrong before, it goes on as if nobody had called. The
//! stream is handed over between two messages, so that no message is delivered by both or by none. What crosses over holds the
//! keys of the TLS connection: both ends ask the kernel who is at the other one, and deal with nobody but root and their own
//! user.

mod herald;
mod line;

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use self::herald::{Herald, Place};
use self::line::{Estate, FORM, Line, Note};
use super::course::Stage;
use super::{Alarm, Error, Feed};
use crate::floor::Time;
use crate::lane::Way;
use crate::path;

/// How long the connection may take to come home and to the end of a message, before the caller is sent away.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the other process may take for a note. Its work is done in milliseconds; while we wait, nothing is read.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a successor waits for the estate: what the predecessor may take to come home, and an answer.
const ESTATE: Duration = Duration::from_secs(7);

/// Whether the connection is offered, and how far handing it over has come.
#[derive(Debug, Default)]
pub(super) struct Succession {
    /// Until the feed flows.
    place: Option<Place>,
    herald: Option<Herald>,
    caller: Option<(Line, Time)>,
    /// Who has the connection now.
    pub(super) successor: Option<i32>,
}

impl Succession {
    /// Offers the connection at `path`.
    pub(super) fn offer(path: &Path, feed: String, succeeded: bool) -> Result<Self, Error> {
        let place = Place::take(path, feed, succeeded)
            .map_err(|error| Error::Succession { path: path.display().to_string(), reason: error.to_string() })?;
        Ok(Self { place: Some(place), ..Self::default() })
    }

    /// Whether there is anything to do.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.caller.is_some() || self.place.is_some() || self.herald.as_ref().is_some_and(Herald::is_called)
    }

    /// Whether it has yet to be listened to who calls.
    pub(super) fn is_unattended(&self) -> bool {
        self.place.is_some()
    }

    /// Whether the connection is about to be left to somebody: nothing else may be begun with it.
    pub(super) fn is_under_way(&self) -> bool {
        self.caller.is_some()
    }
}

impl Feed {
    /// Takes the next step in handing the connection over.
    #[cold]
    pub(super) fn succeed(&mut self, now: Time) {
        if self.succession.place.is_some() {
            if !self.is_open() || !self.is_settled() {
                return;
            }
            self.succession.herald = self.succession.place.take().and_then(|place| {
                Herald::post(place).inspect_err(|error| log::error!("no successor will be heard: {error}")).ok()
            });
        }
        if let Some(line) =
            self.succession.herald.as_ref().filter(|herald| herald.is_called()).and_then(Herald::take_caller)
            && let Some((before, _)) = self.succession.caller.replace((line, now + PATIENCE))
        {
            refuse(&before, "somebody else has called");
        }
        let Some((line, until)) = self.succession.caller.take() else { return };
        match self.hand_over(&line, now >= until, now) {
            Ok(true) => {
                log::info!("process {} has the connection", line.peer);
                self.succession.successor = Some(line.peer);
                self.succession.herald = None;
                self.upkeep.closing = true;
            }
            Ok(false) => self.succession.caller = Some((line, until)),
            Err(reason) => {
                log::warn!("process {} does not get the connection: {reason}", line.peer);
                refuse(&line, &reason);
                self.leg_mut(0).go_on();
                self.promote(now);
            }
        }
    }

    /// Answers whether the connection is the other process's now, or why it will not be.
    fn hand_over(&mut self, line: &Line, is_late: bool, now: Time) -> Result<bool, String> {
        if self.legs.len() != 1 {
            return Err("there is more than one connection at the moment".to_owned());
        }
        if !self.is_wanted(0) {
            return Err("the connection is not open".to_owned());
        }
        if is_late {
            return Err(format!("the connection did not come home and to the end of a message within {PATIENCE:?}"));
        }
        self.course.stay();
        if self.course.is_calm() && self.legs[0].stage == Stage::Settled {
            match self.way_of(0) {
                Way::Bypass => {
                    self.leave(Alarm::Requested);
                    self.go_home(now);
                }
                Way::Kernel => self.leg_mut(0).halt(),
                Way::Leaving | Way::Gone => {}
            }
        }
        let born = self.legs[0].born;
        let chains = self.copies.as_ref().map(super::copies::Copies::chains);
        let Some((mut estate, socket)) = self.leg(0).estate() else { return Ok(false) };
        if let Some(chains) = chains {
            estate.chains = chains;
        }
        let unheard = |error: std::io::Error| error.to_string();
        let note = Note::Estate(Box::new(Estate::new(estate, born)));
        line.say(&note, Some(socket), ANSWER).map_err(unheard)?;
        drop(note);
        match line.hear(ANSWER).map_err(unheard)?.0 {
            Note::Ready => {}
            Note::Refused(reason) => return Err(reason),
            _ => return Err("it answers what nobody has asked".to_owned()),
        }
        // The interface and the queue have to be free for the successor.
        self.take_ring_away();
        line.say(&Note::Yours, None, ANSWER).map_err(unheard)?;
        self.leg_mut(0).hand_over(&format!("process {}", line.peer));
        Ok(true)
    }
}

fn refuse(line: &Line, reason: &str) {
    if let Err(error) = line.say(&Note::Refused(reason.to_owned()), None, ANSWER) {
        log::debug!("process {} is not told: {error}", line.peer);
    }
}

/// What a predecessor leaves.
#[derive(Debug)]
pub(super) struct Inherited {
    pub(super) line: Predecessor,
    pub(super) stream: TcpStream,
    pub(super) estate: path::Estate,
    /// When the connection was made.
    pub(super) born: Time,
}

impl Inherited {
    /// Asks the process that listens at `path` for the connection of `feed`. It is not ours before [`Predecessor::accept`].
    ///
    /// # Errors
    ///
    /// Why it cannot be had.
    pub(super) fn ask(path: &Path, feed: String) -> Result<Self, Error> {
        let refused = |reason: String| Error::Succession { path: path.display().to_string(), reason };
        let stream = UnixStream::connect(path)
            .map_err(|error| refused(format!("no process offers a connection there ({error}): --succession does")))?;
        let unheard = |error: std::io::Error| refused(error.to_string());
        let line = Line::new(stream).map_err(unheard)?;
        let hello = Note::Hello { form: FORM, version: env!("CARGO_PKG_VERSION").to_owned(), feed };
        line.say(&hello, None, ANSWER).map_err(unheard)?;
        match line.hear(ESTATE).map_err(unheard)? {
            (Note::Estate(estate), Some(socket)) => {
                let born = estate.born();
                Ok(Self { line: Predecessor(line), stream: socket.into(), estate: estate.path, born })
            }
            (Note::Refused(reason), _) => Err(refused(reason)),
            _ => Err(refused("what was handed over is no connection".to_owned())),
        }
    }
}

/// The process that has the connection until it says otherwise.
#[derive(Debug)]
pub(super) struct Predecessor(Line);

impl Predecessor {
    /// The process' id.
    pub(super) fn peer(&self) -> i32 {
        self.0.peer
    }

    /// Says that everything is ready, and waits until the connection is ours.
    ///
    /// # Errors
    ///
    /// Where it is not.
    pub(super) fn accept(&self, path: &Path) -> Result<(), Error> {
        let refused = |reason: String| Error::Succession { path: path.display().to_string(), reason };
        let unheard = |error: std::io::Error| refused(error.to_string());
        self.0.say(&Note::Ready, None, ANSWER).map_err(unheard)?;
        match self.0.hear(ANSWER).map_err(unheard)?.0 {
            Note::Yours => Ok(()),
            Note::Refused(reason) => Err(refused(reason)),
            _ => Err(refused("it is not said whose the connection is".to_owned())),
        }
    }
}
