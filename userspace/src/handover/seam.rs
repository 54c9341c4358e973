//! The seam: what may still come through the kernel after a connection has left it.
//!
//! A segment that had passed the XDP program before the flow was put into the map may sit in a NAPI or backlog queue
//! for a while and then ends in the frozen socket, which takes and acknowledges it. The peer will never send it again,
//! so it has to be fetched. Once the ring has delivered the byte that the kernel expected next, nothing new can come
//! this way, and the seam is closed; the socket stays, because it holds the port.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use socket2::SockRef;

use super::repair::Frozen;
use crate::floor::{Seq, Time};

/// How often to look while the seam is fresh, and for how long it is. NAPI polls end within a few milliseconds.
const FRESH_EVERY: Duration = Duration::from_micros(50);
const FRESH: Duration = Duration::from_millis(10);
/// How often to look after that, and when to stop. `gro_flush_timeout` and `napi_defer_hard_irqs` are set to
/// milliseconds at most; a second is far beyond anything a queue holds a packet for.
const LATER_EVERY: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_secs(1);

/// A frozen kernel socket whose connection lives on elsewhere.
#[derive(Debug)]
pub struct Seam {
    stream: TcpStream,
    /// The first byte of the socket's receive queue, which cannot be emptied in repair mode.
    start: Seq,
    /// Up to here everything was taken from the kernel.
    taken: Seq,
    made: Time,
    next_look: Time,
    open: bool,
}

impl Seam {
    /// `stream` is frozen, its receive queue begins at `start`, and everything before `taken` has been copied from it.
    pub(super) fn new(stream: TcpStream, start: Seq, taken: Seq, now: Time) -> Self {
        Self { stream, start, taken, made: now, next_look: now, open: true }
    }

    /// Whether something may still come.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// When [`Seam::look`] has something to look at, at the earliest.
    #[must_use]
    pub fn next_look(&self) -> Time {
        if self.open { self.next_look } else { Time::NEVER }
    }

    /// The interface the socket is tied to, where it is (`SO_BINDTODEVICE`).
    pub(super) fn device(&self) -> Option<Vec<u8>> {
        SockRef::from(&self.stream).device().ok().flatten()
    }

    /// The ring has delivered everything before `rcv_nxt`.
    #[inline]
    pub fn delivered(&mut self, rcv_nxt: Seq) {
        if rcv_nxt.is_after(self.taken) {
            self.open = false;
        }
    }

    /// Looks, where it is time to, whether the frozen socket has received more.
    ///
    /// # Errors
    ///
    /// What the kernel answered. The connection itself is not affected; bytes in the socket are.
    pub fn look(&mut self, now: Time) -> io::Result<Option<Late>> {
        if !self.open || now < self.next_look {
            return Ok(None);
        }
        self.look_now(now)
    }

    /// Looks whether the frozen socket has received more, whatever time it is: for the last time before it is closed.
    ///
    /// # Errors
    ///
    /// As [`Seam::look`].
    pub fn look_now(&mut self, now: Time) -> io::Result<Option<Late>> {
        let age = now.since(self.made);
        if age > LATER {
            self.open = false;
            return Ok(None);
        }
        self.next_look = now + if age < FRESH { FRESH_EVERY } else { LATER_EVERY };
        let frozen = Frozen::freeze(&self.stream)?;
        if frozen.rcv_nxt()? == self.taken {
            return Ok(None);
        }
        let (_, queued) = frozen.queue()?;
        let known = usize::try_from(self.taken.distance(self.start)).unwrap_or(0).min(queued.len());
        let late = Late { seq: self.taken, bytes: queued[known..].to_vec(), fin: frozen.ended()? };
        self.taken = self.start + queued.len();
        if late.fin {
            self.open = false;
        }
        Ok(Some(late))
    }
}

/// What came through the kernel after the handover.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The sequence number of the first byte.
    pub seq: Seq,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the peer's FIN follows them.
    pub fin: bool,
}
