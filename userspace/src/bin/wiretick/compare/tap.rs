//! The handler of each of the two connections: the program's output, with a note to whoever pairs in front of it.
//!
//! In come events, out goes a [`Sample`] of each into a bounded ring. The lane never waits: where the ring is full, the
//! sample is dropped and counted.

use wiretick::event::Event;
use wiretick::floor::{Clock, Monotonic, Time};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler};

use super::pairing::Sample;
use crate::output::Output;
use crate::stream::Sink;
use wiretick::event::{Identifier, Identity};

/// The handler of one connection.
pub(super) struct Tap {
    pub(super) output: Output,
    identifier: Identifier,
    ring: rtrb::Producer<Sample>,
    /// The connection is where it is to stay.
    settled: bool,
    /// Samples that found the ring full.
    pub(super) dropped: u64,
}

impl Tap {
    pub(super) fn new(output: Output, identifier: Identifier, ring: rtrb::Producer<Sample>) -> Self {
        Self { output, identifier, ring, settled: false, dropped: 0 }
    }

    fn note(&mut self, identity: Identity, at: Time, stamp_ns: Option<u64>) {
        let measured = self.settled && self.output.is_warm();
        let sample = Sample { identity, at, stamp: stamp_ns.map(Time::from_nanos), measured };
        self.dropped += u64::from(self.ring.push(sample).is_err());
    }
}

impl Handler for Tap {
    fn payload(&mut self, kind: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.output.payload(kind, payload, context);
        if kind == Kind::Binary && self.output.wants_events() {
            let at = Monotonic.now();
            self.note(Identifier::of_binary(payload), at, None);
        }
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        // The clock first: what it costs to name the event belongs to neither connection.
        let at = Monotonic.now();
        self.note(self.identifier.of_event(event), at, event.stamp_ns);
        self.output.event(event, context);
    }

    fn wants_events(&self) -> bool {
        self.output.wants_events()
    }
}

impl Sink for Tap {
    fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    fn settled(&mut self) {
        self.settled = true;
    }
}
