//! A lane: one thread, one queue of one interface, any number of connections.
//!
//! It takes frames from the ring, finds the connection each belongs to, and lets that connection go on; connections on
//! the kernel path are read from their sockets in the same turn. Nothing in a lane is shared with another thread, and a
//! turn never waits: waiting is a separate call, so that the caller chooses between spinning and `poll`.

mod connection;
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
    }
}

/// Connections, and the ring they share.
#[derive(Debug)]
pub struct Lane<R: Ring, F: FlowMap> {
    bypass: Option<Bypass<R, F>>,
    connections: Vec<Connection>,
    batch: Vec<RxFrame>,
    counters: LaneCounters,
}

/// Names a connection of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId(usize);

impl<R: Ring, F: FlowMap> Default for Lane<R, F> {
    fn default() -> Self {
        Self {
            bypass: None,
            connections: Vec::new(),
            batch: Vec::with_capacity(BATCH),
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

    /// Adds a connection.
    pub fn add(&mut self, connection: Connection) -> ConnectionId {
        self.connections.push(connection);
        ConnectionId(self.connections.len() - 1)
    }

    /// One of the lane's connections.
    ///
    /// # Panics
    ///
    /// Where `id` comes from another lane.
    #[must_use]
    pub fn connection(&self, id: ConnectionId) -> &Connection {
        &self.connections[id.0]
    }

    /// One of the lane's connections.
    ///
    /// # Panics
    ///
    /// Where `id` comes from another lane.
    #[must_use]
    pub fn connection_mut(&mut self, id: ConnectionId) -> &mut Connection {
        &mut self.connections[id.0]
    }

    /// Begins to move a connection from the kernel to the ring. How that ends, [`Connection::take_handover`] tells.
    ///
    /// # Panics
    ///
    /// Where the lane has no ring, or the connection is not on the kernel path.
    pub fn promote(&mut self, id: ConnectionId, now: Time) {
        let hop = self.bypass.as_ref().expect("a lane without a ring promotes nothing").hop;
        self.connections[id.0].promote(hop, now);
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
    /// on with them. An error of the ring ends all connections on it.
    pub fn turn<H: Handler>(&mut self, now: Time, handler: &mut H) -> Result<usize, Error> {
        self.counters.turns += 1;
        handler.mark(Mark::Turn(now));
        let Self { bypass, connections, batch, counters } = self;
        let mut activity = 0;
        let mut failed = Ok(());
        if let Some(Bypass { ring, .. }) = bypass {
            activity += ring.receive(batch, BATCH);
        }
        for (behind, frame) in batch.drain(..).enumerate() {
            handler.mark(Mark::Frame { arrived: frame.arrived(), behind });
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
        if let Some(Bypass { ring, .. }) = bypass {
            ring.flush().map_err(|error| Error::Lost(error.into()))?;
        }
        failed.map(|()| activity)
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
        if let Some(descriptor) = self.bypass.as_ref().and_then(|bypass| bypass.ring.descriptor()) {
            descriptors.push(PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
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
