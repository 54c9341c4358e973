//! Between the connections and the handler: what has been delivered already goes no further.

use std::time::Duration;

use super::merge::{Merge, Verdict};
use super::upkeep::is_farewell;
use crate::event::continuity::Chains;
use crate::event::{Continuity, Event, Identifier};
use crate::message::Kind;
use crate::path::{Context, Handler, Mark};

/// What is kept from turn to turn.
#[derive(Debug)]
pub(super) struct Copies {
    pub(super) merge: Merge,
    /// Of what is delivered: gaps of one connection that another one fills are none.
    continuity: Continuity,
    identifier: Identifier,
    /// The message at hand, as it came: decoding may change it.
    payload: Vec<u8>,
    /// The connection over which the venue has announced that it will close it.
    pub(super) farewell: Option<usize>,
}

impl Copies {
    pub(super) fn new(stamp_field: Option<&str>, message_bytes_max: usize) -> Self {
        Self {
            merge: Merge::new(),
            continuity: Continuity::default(),
            identifier: Identifier::new(stamp_field),
            payload: Vec::with_capacity(message_bytes_max.min(64 << 10)),
            farewell: None,
        }
    }
}

impl Copies {
    /// Where the venue's numbers stand.
    pub(super) fn chains(&self) -> Chains {
        self.continuity.chains()
    }

    /// Goes on where another process stood.
    pub(super) fn inherit(&mut self, chains: &Chains) {
        self.continuity.inherit(chains);
    }
}

/// A handler in front of the caller's.
pub(super) struct FirstCopy<'a, H> {
    pub(super) copies: &'a mut Copies,
    pub(super) inner: &'a mut H,
    /// There is one connection only: nothing can be a copy, so nothing has to be held back until that is known.
    pub(super) sole: bool,
}

impl<H: Handler> Handler for FirstCopy<'_, H> {
    fn payload(&mut self, kind: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        let Copies { merge, payload: kept, .. } = &mut *self.copies;
        if self.sole {
            self.inner.payload(kind, payload, context);
        } else if kind == Kind::Binary {
            if merge.judge_binary(context.connection, Identifier::of_binary(payload)) == Verdict::Deliver {
                self.inner.payload(kind, payload, context);
            }
        } else {
            kept.clear();
            kept.extend_from_slice(payload);
        }
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        let Copies { merge, continuity, identifier, payload, farewell } = &mut *self.copies;
        if is_farewell(event) {
            *farewell = Some(context.connection);
        }
        let verdict = merge.judge(context.connection, event, |event| identifier.of_event(event));
        if verdict != Verdict::Deliver && !self.sole {
            return;
        }
        // The connection's own view of it is of no interest: another one may have filled the gap, or it may have begun anew.
        let mut context = context.with_gap(continuity.observe(event));
        if !self.sole {
            context.in_place = false;
            self.inner.payload(Kind::Text, payload, &mut context);
        }
        if self.inner.wants_events() {
            self.inner.event(event, &mut context);
        }
    }

    fn rehearse(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self.inner.rehearse(event, context);
    }

    fn interrupted(&mut self, reason: &str) {
        self.inner.interrupted(reason);
    }

    fn lagging(&mut self, connection: usize, behind: Option<Duration>) {
        self.inner.lagging(connection, behind);
    }

    fn pong(&mut self, payload: &[u8]) {
        self.inner.pong(payload);
    }

    #[inline]
    fn mark(&mut self, mark: Mark) {
        self.inner.mark(mark);
    }
}
