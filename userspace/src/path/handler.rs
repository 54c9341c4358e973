//! Who gets the messages.

use super::Sender;
use crate::event::Event;
use crate::event::continuity::Gap;
use crate::floor::Time;
use crate::message::Kind;

/// What a program does with a feed. It runs on the thread that reads the ring: what it takes, the next message waits.
///
/// A closure `FnMut(&Event, &mut Context)` is a handler of events.
pub trait Handler {
    /// A whole message has arrived. `payload` is as the peer sent it: where it was not joined from several records or
    /// fragments ([`Context::in_place`]), these are the very bytes in the NIC's memory. Called before [`Handler::event`],
    /// which may change them (simd-json unescapes strings in place).
    fn payload(&mut self, kind: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        let _ = (kind, payload, context);
    }

    /// The same message, decoded. Binary messages are not decoded.
    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>);

    /// Whether messages are to be decoded at all.
    fn wants_events(&self) -> bool {
        true
    }

    /// A pong has arrived.
    fn pong(&mut self, payload: &[u8]) {
        let _ = payload;
    }
}

impl<F: FnMut(&Event<'_>, &mut Context<'_, '_>)> Handler for F {
    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        self(event, context);
    }
}

/// What is known about a message beside what it says, and what can be done about it.
#[derive(Debug)]
pub struct Context<'a, 's> {
    /// When its last byte was taken from the ring or read from the socket.
    pub arrived: Time,
    /// Whether its bytes were never copied: on the bypass, they lie in UMEM where the NIC or the kernel put them.
    pub in_place: bool,
    /// The venue's numbering says that something is missing before this message.
    pub gap: Option<Gap<'a>>,
    /// To answer it.
    pub sender: &'a mut Sender<'s>,
    pub(super) stopped: &'a mut bool,
}

impl Context<'_, '_> {
    /// Asks for the feed to be closed in good order. Messages that have arrived already are still delivered.
    pub fn stop(&mut self) {
        *self.stopped = true;
    }
}
