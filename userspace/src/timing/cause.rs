//! Why a message was late: the stretch of its way that took longest, by the name of what usually stretches it.

use std::fmt;
use std::time::Duration;

use crate::floor::Time;
use crate::path::Source;

/// The moments of one message.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// When the sender says it was sent.
    pub sent: Option<Time>,
    /// When the XDP program had the frame with its last byte.
    pub arrived: Option<Time>,
    /// When that frame was taken up from the ring, or its bytes were read from the kernel.
    pub taken: Time,
    /// When its bytes were next in the stream.
    pub ordered: Time,
    /// When its record was opened; without TLS, as [`ordered`](Self::ordered).
    pub opened: Time,
    /// When it was found.
    pub found: Time,
    /// When its event was made.
    pub decoded: Time,
    /// When the handler returned.
    pub handled: Time,
    /// How its last byte came into the stream.
    pub source: Source,
    /// Frames taken from the ring in the same go that were before it.
    pub behind: usize,
    /// Its record was put together from several pieces.
    pub joined: bool,
    /// When the frame was taken in which its record began, and pieces it came in.
    pub record_began: Time,
    /// Pieces of the stream its record came in.
    pub pieces: u32,
    /// Messages before it in the same record.
    pub ahead_in_record: u32,
    /// When the handler returned from the message before it.
    pub previous: Time,
    /// The last time our own thread did not run: from, to.
    pub stall: (Time, Time),
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            sent: None,
            arrived: None,
            taken: Time::ZERO,
            ordered: Time::ZERO,
            opened: Time::ZERO,
            found: Time::ZERO,
            decoded: Time::ZERO,
            handled: Time::ZERO,
            source: Source::Kernel,
            behind: 0,
            joined: false,
            record_began: Time::ZERO,
            pieces: 0,
            ahead_in_record: 0,
            previous: Time::ZERO,
            stall: (Time::ZERO, Time::ZERO),
        }
    }
}

impl Timeline {
    /// The earliest moment that is known of it.
    #[must_use]
    pub fn began(&self) -> Time {
        self.sent.or(self.arrived).unwrap_or(self.taken)
    }

    /// From where looking for the message could begin.
    pub(super) fn find_from(&self) -> Time {
        if self.ahead_in_record == 0 { self.opened } else { self.previous.max(self.opened) }
    }
}

/// What made a message late, with how much of its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It came late: the sender, the wire, or a driver before XDP.
    Before(Duration),
    /// A segment before it was missing or came out of order; its bytes had to wait for the rest.
    Hole(Duration),
    /// Our thread did not run while the frame lay in the ring.
    Stall(Duration),
    /// The frame lay in the ring behind others.
    Backlog {
        /// How long.
        waited: Duration,
        /// Frames before it in the same go.
        behind: usize,
    },
    /// Its record waited for its last segment.
    Record {
        /// How long.
        waited: Duration,
        /// Pieces it came in.
        pieces: u32,
    },
    /// The handler was busy with messages before it in the same record.
    Handler {
        /// How long.
        waited: Duration,
        /// Messages before it.
        ahead: u32,
    },
    /// Our own work on it: opening, finding, decoding.
    Work(Duration),
}

impl Cause {
    /// The cause that explains most of a message's time.
    #[must_use]
    pub fn of(line: &Timeline) -> Self {
        let edge = line.arrived.unwrap_or(line.taken);
        let before = line.sent.map_or(Duration::ZERO, |sent| edge.since(sent));
        let waited = line.arrived.map_or(Duration::ZERO, |arrived| line.taken.since(arrived));
        // A record in pieces: until its last piece arrived, and no longer.
        let record = if line.joined { edge.since(line.record_began) } else { Duration::ZERO };
        let in_record = if line.ahead_in_record == 0 { Duration::ZERO } else { line.previous.since(line.opened) };
        let work = line.decoded.since(line.taken).saturating_sub(in_record);

        let (from, to) = line.stall;
        let stalled = line.arrived.map_or(Duration::ZERO, |arrived| to.since(from.max(arrived)));
        let ring = if stalled * 2 >= waited && !stalled.is_zero() {
            Self::Stall(waited)
        } else {
            Self::Backlog { waited, behind: line.behind }
        };
        // The time before the ring that a record spent waiting for its own end is the sender's to explain, too; but it
        // says more.
        let early = if record * 2 >= before && !record.is_zero() {
            Self::Record { waited: record, pieces: line.pieces }
        } else if line.source == Source::Reassembled {
            Self::Hole(before)
        } else {
            Self::Before(before)
        };
        let in_record_cause = Self::Handler { waited: in_record, ahead: line.ahead_in_record };
        let candidates =
            [(before.max(record), early), (waited, ring), (in_record, in_record_cause), (work, Self::Work(work))];
        let mut most = candidates[0];
        for candidate in &candidates[1..] {
            if candidate.0 > most.0 {
                most = *candidate;
            }
        }
        most.1
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(time) => {
                write!(f, "it reached us late: {time:.1?} at the sender, on the wire or in the driver")
            }
            Self::Hole(time) => write!(f, "a segment before it was missing or out of order: {time:.1?}"),
            Self::Stall(time) => write!(f, "our own thread did not run: {time:.1?} in the ring"),
            Self::Backlog { waited, behind } => write!(f, "{waited:.1?} in the ring behind {behind} frames"),
            Self::Record { waited, pieces } => {
                write!(f, "its record waited {waited:.1?} for the last of {pieces} pieces")
            }
            Self::Handler { waited, ahead } => {
                write!(f, "the handler took {waited:.1?} for {ahead} messages before it in the record")
            }
            Self::Work(time) => write!(f, "{time:.1?} of our own work"),
        }
    }
}

/// A message that was late.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// From the earliest moment that is known of it to its event.
    pub took: Duration,
    /// Why.
    pub cause: Cause,
    /// Its moments.
    pub line: Timeline,
}
