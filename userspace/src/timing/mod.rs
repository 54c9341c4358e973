//! Where the time of each message goes: a handler around another one that looks at the clock at every stage.
//!
//! What comes in are the marks that lane and path leave as they work ([`Mark`]); what goes out are a histogram for
//! each stage ([`Stages`]) and, for each message that is later than a threshold, a [`Late`] with its cause.
//!
//! ```text
//!  sent        arrived       taken          ordered      opened      found      decoded      handled
//!   |  before    |   ring     |    order      |   open     |   find    |  decode   |  handle    |
//!   sender's     XDP          frame taken     its bytes    its record  message     event        handler
//!   stamp        program      from the ring   are next     is opened   found       made         returned
//! ```
//!
//! What the NIC itself says of a frame, its time above all, is of another clock, and kept apart ([`Nic`]).
//!
//! All moments are of one clock, `CLOCK_MONOTONIC`: the program's (`bpf_ktime_get_ns`), a sender's on the same machine, and
//! ours, through the vDSO. A calibrated reading of the TSC would save some 15 ns of each look, and could not be compared
//! with the other two to the nanosecond; six looks a message are paid for only by who asks for them. A handler that is
//! not wrapped leaves no trace of all this in the machine code: [`Handler::mark`] is empty.

mod cause;
mod nic;
mod quantiles;
mod stages;

use crate::event::Event;
use crate::floor::{Clock, Monotonic, Time};
use crate::message::Kind;
use crate::path::{Context, Handler, Mark, Source};

pub use cause::{Cause, Late, Timeline};
pub use nic::{Nic, NicCounters};
pub use quantiles::Quantiles;
pub use stages::{Stage, Stages};

use std::time::Duration;

/// A pause between two turns that is taken for a stall of our own: the thread did not run.
///
/// 5 us: an idle turn takes some 100 ns, a timer interrupt one or two microseconds. Lower, and interrupts that delay
/// nobody count; higher, and a stall that makes a message late goes unexplained.
const STALL: Duration = Duration::from_micros(5);

/// A handler with a clock at every stage around `H`.
#[derive(Debug)]
pub struct Timed<H, C = Monotonic> {
    inner: H,
    clock: C,
    stages: Stages,
    line: Timeline,
    /// When the frame was taken up in which the record at hand began.
    record_began: Time,
    /// Pieces of the stream since the last record was opened.
    pieces: u32,
    /// Messages to leave out of the figures.
    warmup: u64,
    slow: Option<Slow>,
    last_turn: Time,
    /// Something was done in the turn at hand, so its length is no stall.
    busy: bool,
    spinning: bool,
}

/// What happens to messages that are late.
struct Slow {
    threshold: Duration,
    tell: Box<dyn FnMut(Late) + Send>,
}

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slow").field("threshold", &self.threshold).finish_non_exhaustive()
    }
}

impl<H: Handler> Timed<H> {
    /// Puts a clock around `inner`.
    #[must_use]
    pub fn new(inner: H) -> Self {
        Self::with_clock(inner, Monotonic)
    }
}

impl<H: Handler, C: Clock> Timed<H, C> {
    /// As [`Timed::new`], with a clock of the caller's.
    #[must_use]
    pub fn with_clock(inner: H, clock: C) -> Self {
        Self {
            inner,
            clock,
            stages: Stages::default(),
            line: Timeline::default(),
            record_began: Time::ZERO,
            pieces: 0,
            warmup: 0,
            slow: None,
            last_turn: Time::ZERO,
            busy: true,
            spinning: false,
        }
    }

    /// Leaves the first messages out of the figures.
    #[must_use]
    pub fn warmup(mut self, messages: u64) -> Self {
        self.warmup = messages;
        self
    }

    /// Whether the caller spins: then a pause between two idle turns is a stall. Default: no.
    #[must_use]
    pub fn spinning(mut self, spinning: bool) -> Self {
        self.spinning = spinning;
        self
    }

    /// Tells of each message that took longer than `threshold` to its event, counted from the earliest moment that is
    /// known of it. `tell` runs on the lane: it must not wait.
    #[must_use]
    pub fn tell_late(mut self, threshold: Duration, tell: impl FnMut(Late) + Send + 'static) -> Self {
        self.slow = Some(Slow { threshold, tell: Box::new(tell) });
        self
    }

    /// The figures so far.
    #[must_use]
    pub fn stages(&self) -> &Stages {
        &self.stages
    }

    /// The handler inside.
    #[must_use]
    pub fn inner(&self) -> &H {
        &self.inner
    }

    /// The handler inside, for good.
    #[must_use]
    pub fn into_inner(self) -> H {
        self.inner
    }

    /// The handler inside.
    #[must_use]
    pub fn inner_mut(&mut self) -> &mut H {
        &mut self.inner
    }

    /// A message has found its end.
    fn finish(&mut self) {
        let line = self.line;
        if self.warmup > 0 {
            self.warmup -= 1;
        } else {
            self.stages.record(&line);
        }
        if let Some(slow) = &mut self.slow {
            let took = line.decoded.since(line.began());
            if took > slow.threshold {
                (slow.tell)(Late { took, cause: Cause::of(&line), line });
            }
        }
        // What follows in the same record begins where this one ended.
        self.line.previous = line.handled;
        self.line.ahead_in_record += 1;
        self.line.sent = None;
    }
}

impl<H: Handler, C: Clock> Handler for Timed<H, C> {
    fn payload(&mut self, kind: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.line.found = self.clock.now();
        self.inner.payload(kind, payload, context);
        if kind != Kind::Text || !self.inner.wants_events() {
            self.line.decoded = self.line.found;
            self.line.handled = self.clock.now();
            self.finish();
        }
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self.line.decoded = self.clock.now();
        self.line.sent = event.stamp_ns.map(Time::from_nanos);
        self.inner.event(event, context);
        self.line.handled = self.clock.now();
        self.finish();
    }

    fn wants_events(&self) -> bool {
        self.inner.wants_events()
    }

    fn rehearse(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self.inner.rehearse(event, context);
    }

    fn pong(&mut self, payload: &[u8]) {
        self.inner.pong(payload);
    }

    fn interrupted(&mut self, reason: &str) {
        self.inner.interrupted(reason);
    }

    #[inline]
    fn mark(&mut self, mark: Mark) {
        match mark {
            Mark::Turn(now) => {
                if self.spinning && !self.busy && now.since(self.last_turn) >= STALL {
                    self.line.stall = (self.last_turn, now);
                    self.stages.stalls += 1;
                    self.stages.stalled += now.since(self.last_turn);
                }
                self.busy = false;
                self.last_turn = now;
            }
            Mark::Frame { arrived, hints, behind } => {
                if let (Some(arrived), Some(hints)) = (arrived, &hints) {
                    self.stages.nic.note(arrived, hints);
                }
                self.busy = true;
                self.line.taken = self.clock.now();
                self.line.arrived = arrived;
                self.line.behind = behind;
            }
            Mark::Stream(source) => {
                self.busy = true;
                let now = self.clock.now();
                if source == Source::Kernel {
                    self.line.taken = now;
                    self.line.arrived = None;
                    self.line.behind = 0;
                }
                self.line.ordered = now;
                self.line.opened = now;
                self.line.source = source;
                self.line.ahead_in_record = 0;
                if self.pieces == 0 {
                    self.record_began = self.line.taken;
                }
                self.pieces += 1;
            }
            Mark::Opened { joined } => {
                self.line.opened = self.clock.now();
                self.line.joined = joined;
                self.line.record_began = if joined { self.record_began } else { self.line.taken };
                self.line.pieces = self.pieces;
                self.line.ahead_in_record = 0;
                // The next record may begin in this very piece.
                self.record_began = self.line.taken;
                self.pieces = 1;
            }
            Mark::Rehearsed => self.busy = true,
            Mark::Sent => {
                if let Some(arrived) = self.line.arrived.filter(|_| self.warmup == 0) {
                    self.stages.note(Stage::ArrivedToSent, arrived, self.clock.now());
                }
            }
        }
        self.inner.mark(mark);
    }
}

#[cfg(test)]
mod tests;
