//! A lane: one thread, one queue of one interface, any number of connections.
//!
//! It takes frames from the ring, finds the connection each belongs to, and lets that connection go on; connections on
//! the kernel path are read from their sockets in the same turn. Nothing in a lane is shared with another thread, and a
//! turn never waits: waiting is a separate call, so that the caller chooses between spinning and `poll`.

mod connection;
mod too_big;
mod transport;

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

pub(crate) use connection::seed;
pub use connection::{Connection, ConnectionReport, Handover, Outcome};
pub use transport::Way;

use crate::floor::counters::counters;
use crate::floor::{Hop, Time};
use crate::frame;
use crate::handover::FlowMap;
use crate::path::{Error, Handler, Mark};
use crate::ring::{Ring, RxFrame};

/// Frames taken from the ring in one go: a NAPI poll's budget, the most the kernel delivers at once.
const BATCH: usize = 64;

/// The bypass of a lane: the ring, and the map that sends flows to it.
#[derive(Debug)]
pub struct Bypass<R, F> {
    /// The XDP program's flow map. Dropped first: what is detached redirects nothing to a ring that is gone.
    pub flows: F,
    /// The ring.
    pub ring: R,
    /// How our packets are addressed.
    pub hop: Hop,
}

counters! {
    /// What became of frames before they were anybody's.
    pub struct LaneCounters {
        /// Turns taken.
        turns,
        /// Frames of no connection of this lane.
        frames_unknown,
        /// Frames that are not TCP.
        frames_foreign,
        /// Frames whose headers or checksums are broken.
        frames_malformed,
        /// Times a path was kept warm.
        rehearsals,
    }
}

/// Connections, and the ring they share.
#[derive(Debug)]
pub struct Lane<R: Ring, F: FlowMap> {
    bypass: Option<Bypass<R, F>>,
    connections: Vec<Connection>,
    /// Of the connection in the same place.
    ids: Vec<ConnectionId>,
    /// Connections added, ever.
    added: u64,
    batch: Vec<RxFrame>,
    /// Why the ring does not move any more.
    failure: Option<io::Error>,
    /// After how long without anything to do the paths are kept warm, and when that is due.
    warming: Option<(Duration, Time)>,
    counters: LaneCounters,
}

/// Names a connection of a lane, also after others have been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(u64);

impl<R: Ring, F: FlowMap> Default for Lane<R, F> {
    fn default() -> Self {
        Self {
            bypass: None,
            connections: Vec::new(),
            ids: Vec::new(),
            added: 0,
            batch: Vec::with_capacity(BATCH),
            failure: None,
            warming: None,
            counters: LaneCounters::default(),
        }
    }
}

impl<R: Ring, F: FlowMap> Drop for Lane<R, F> {
    /// Frames that connections hold go back to the ring: memory with frames out is not freed.
    fn drop(&mut self) {
        for connection in &mut self.connections {
            connection.gone(&mut self.bypass);
        }
    }
}

impl<R: Ring, F: FlowMap> Lane<R, F> {
    /// Gives the lane a ring. Connections can be promoted from now on.
    pub fn set_bypass(&mut self, bypass: Bypass<R, F>) {
        self.bypass = Some(bypass);
    }

    /// Takes the ring away. No connection may be on it.
    ///
    /// # Panics
    ///
    /// Where a connection is on the ring, or on its way there.
    pub fn take_bypass(&mut self) -> Option<Bypass<R, F>> {
        assert!(
            self.connections.iter().all(|connection| matches!(connection.way(), Way::Kernel | Way::Gone)),
            "a connection still lives on the ring"
        );
        self.failure = None;
        self.bypass.take()
    }

    /// The ring, and the map that sends flows to it.
    #[must_use]
    pub fn bypass(&self) -> Option<&Bypass<R, F>> {
        self.bypass.as_ref()
    }

    /// The ring, and the map that sends flows to it.
    #[must_use]
    pub fn bypass_mut(&mut self) -> Option<&mut Bypass<R, F>> {
        self.bypass.as_mut()
    }

    /// Keeps the paths of connections warm that are added from now on: whenever there has been nothing to do for so long
    /// ([`Handler::rehearse`]). Only worth while for a lane that takes turns without a pause.
    pub fn keep_warm(&mut self, every: Duration) {
        self.warming = Some((every, Time::ZERO));
    }

    /// Adds a connection.
    pub fn add(&mut self, mut connection: Connection) -> ConnectionId {
        if self.warming.is_some() {
            connection.path_mut().keep_warm();
        }
        let id = ConnectionId(self.added);
        self.added += 1;
        self.connections.push(connection);
        self.ids.push(id);
        id
    }

    /// Takes a connection out, and lets go of everything that carried it: without a word to the peer, unless it has been
    /// closed before.
    ///
    /// # Panics
    ///
    /// Where the lane has no such connection.
    pub fn remove(&mut self, id: ConnectionId) {
        let place = self.place(id);
        self.connections[place].gone(&mut self.bypass);
        self.connections.swap_remove(place);
        self.ids.swap_remove(place);
    }

    fn place(&self, id: ConnectionId) -> usize {
        self.ids.iter().position(|other| *other == id).expect("the connection belongs to this lane")
    }

    /// One of the lane's connections.
    ///
    /// # Panics
    ///
    /// Where the lane has no such connection.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> &Connection {
        &self.connections[self.place(id)]
    }

    /// One of the lane's connections.
    ///
    /// # Panics
    ///
    /// Where the lane has no such connection.
    #[must_use]
    pub fn connection_mut(&mut self, id: ConnectionId) -> &mut Connection {
        let place = self.place(id);
        &mut self.connections[place]
    }

    /// Begins to move a connection from the kernel to the ring. How that ends, [`Connection::take_handover`] tells.
    ///
    /// # Panics
    ///
    /// Where the lane has no ring, or the connection is not on the kernel path.
    pub fn promote(&mut self, id: ConnectionId, now: Time) {
        let hop = self.bypass.as_ref().expect("a lane without a ring promotes nothing").hop;
        self.connection_mut(id).promote(hop, now);
    }

    /// Asks a connection to go back from the ring to the kernel, where it is on the ring. How that ends,
    /// [`Connection::take_demotion`] tells.
    pub fn demote(&mut self, id: ConnectionId, now: Time) {
        self.connection_mut(id).demote(now);
    }

    /// Addresses what leaves over the ring to another next hop from now on, on all connections. What is on its way out goes
    /// to the old one.
    pub fn readdress(&mut self, next_hop: [u8; 6]) {
        if let Some(Bypass { hop, .. }) = &mut self.bypass {
            hop.next = next_hop;
        }
        for connection in &mut self.connections {
            connection.readdress(next_hop);
        }
    }

    /// What became of frames that were nobody's.
    #[must_use]
    pub fn counters(&self) -> LaneCounters {
        self.counters
    }

    /// Does everything that can be done at `now` without waiting: frames, sockets, timers. Answers how many frames and
    /// socket reads there were: with none, the caller may wait.
    ///
    /// # Errors
    ///
    /// What ended a connection; it is then [`Way::Gone`]. The other connections are not affected, and the next turn goes
    /// on with them. An error of the ring itself is told by [`Lane::has_failed`].
    pub fn turn<H: Handler>(&mut self, now: Time, handler: &mut H) -> Result<usize, Error> {
        self.counters.turns += 1;
        handler.mark(Mark::Turn(now));
        let Self { bypass, connections, batch, failure, counters, .. } = self;
        let mut activity = 0;
        let mut failed = Ok(());
        if let Some(Bypass { ring, .. }) = bypass {
            activity += ring.receive(batch, BATCH);
        }
        for (behind, frame) in batch.drain(..).enumerate() {
            let hints = bypass.as_ref().and_then(|Bypass { ring, .. }| ring.hints(&frame));
            handler.mark(Mark::Frame { arrived: frame.arrived(), hints, behind });
            let unwanted = match frame::parse(frame.packet()) {
                Ok(Some(segment)) => match connections.iter_mut().find(|connection| connection.owns(&segment)) {
                    Some(connection) => {
                        let result = connection.frame(now, frame, segment, bypass, handler);
                        failed = failed.and(result);
                        continue;
                    }
                    None => &mut counters.frames_unknown,
                },
                Ok(None) => &mut counters.frames_foreign,
                Err(_) => &mut counters.frames_malformed,
            };
            *unwanted += 1;
            if let Some(Bypass { ring, .. }) = bypass {
                ring.recycle(frame);
            }
        }
        for connection in connections {
            match connection.turn(now, bypass, handler) {
                Ok(reads) => activity += reads,
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        if let (Some(Bypass { ring, .. }), None) = (bypass, &*failure) {
            *failure = ring.flush().err();
        }
        if let Some((every, due)) = &mut self.warming {
            if activity > 0 {
                *due = now + *every;
            } else if now >= *due {
                *due = now + *every;
                self.rehearse(now, handler);
            }
        }
        failed.map(|()| activity)
    }

    /// Keeps the paths warm.
    fn rehearse<H: Handler>(&mut self, now: Time, handler: &mut H) {
        let Self { bypass, connections, counters, .. } = self;
        for connection in connections {
            counters.rehearsals += u64::from(connection.rehearse(now, bypass, handler));
        }
        handler.mark(Mark::Rehearsed);
    }

    /// Whether the ring has failed: the interface is gone or down, for one. Nothing moves on it any more; its connections are
    /// to be demoted.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// What the ring has failed with, once. After that it is tried again.
    pub fn take_failure(&mut self) -> Option<io::Error> {
        self.failure.take()
    }

    /// When a turn has something to do, at the latest, even if nothing arrives. [`Time::NEVER`] where nothing is waited for.
    #[must_use]
    pub fn next_turn(&self) -> Time {
        self.connections.iter().map(Connection::next_turn).min().unwrap_or(Time::NEVER)
    }

    /// Waits until there is something to do, or until `at_most` has passed. A signal ends the wait early.
    ///
    /// # Errors
    ///
    /// What `poll` answered.
    pub fn wait(&self, now: Time, at_most: Duration) -> io::Result<()> {
        let due = self.next_turn().min(now + at_most);
        let mut descriptors = Vec::with_capacity(self.connections.len() + 1);
        if let Some(Bypass { ring, .. }) = &self.bypass {
            descriptors.extend(ring.descriptors().map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)));
        }
        for connection in &self.connections {
            if let Some((descriptor, interest)) = connection.descriptor() {
                descriptors.push(PollFd::from_borrowed_fd(descriptor, interest));
            }
        }
        let timeout = due.since(now);
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match poll(&mut descriptors, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
