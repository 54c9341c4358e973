//! Who gets the messages.

use std::time::Duration;

use wiretick_xdp::Hints;

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

    /// The last connection of the feed is lost, for this reason, and another one is being made
    /// ([`FeedBuilder::reconnect`](crate::feed::FeedBuilder::reconnect)): what the venue sends until then does not arrive.
    /// Where the venue numbers its messages, [`Context::gap`] tells afterwards what is missing.
    fn interrupted(&mut self, reason: &str) {
        let _ = reason;
    }

    /// The events of a connection are further behind the venue's clock than they may be
    /// ([`FeedBuilder::lag_max`](crate::feed::FeedBuilder::lag_max)), by this much; or, with `None`, are in time again.
    /// Looked at every 20 ms.
    fn lagging(&mut self, connection: usize, behind: Option<Duration>) {
        let _ = (connection, behind);
    }

    /// Nothing has come for a while, and a message that has come before is decoded once more, only to keep the way warm
    /// ([`FeedBuilder::keep_warm`](crate::feed::FeedBuilder::keep_warm)). A handler can do here what it would do with such an event, so that its own code stays
    /// warm too, as long as it leaves no trace: what it sends goes nowhere, what it counts would be wrong.
    fn rehearse(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        let _ = (event, context);
    }

    /// The message at hand has come to a point of its way. For handlers that look at the clock there, such as
    /// [`Timed`](crate::timing::Timed); others cost nothing.
    #[inline]
    fn mark(&mut self, mark: Mark) {
        let _ = mark;
    }
}

/// A point on the way to a message. The last marks before a message are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A turn of the lane begins, at this time.
    Turn(Time),
    /// A frame was taken up.
    Frame {
        /// When the XDP program had it, where the program was asked to say so.
        arrived: Option<Time>,
        /// What the NIC knows of it, where the program asks and `arrived` is known. Its time is of a clock of its own.
        hints: Option<Hints>,
        /// Frames that were taken from the ring in the same go and came before it.
        behind: usize,
    },
    /// Bytes are the next of the stream, and about to be read.
    Stream(Source),
    /// A record was opened.
    Opened {
        /// It had to be put together from several pieces.
        joined: bool,
    },
    /// The way was kept warm, and nothing else was done meanwhile.
    Rehearsed,
    /// What the handler sent has left: on the bypass its transmit descriptor is written and the driver is about to be
    /// woken up, on the kernel path the socket has taken it.
    Sent,
}

/// How bytes come into the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a frame, in order: read where they lie.
    Frame,
    /// In a frame that came in several chunks and was put together, in order.
    Joined,
    /// In a frame, in order, and copied, because there is no room for the padding of a span behind them.
    Staged,
    /// Through reassembly: something before them had been missing, or they were late themselves.
    Reassembled,
    /// From a kernel socket.
    Kernel,
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
    /// Whether its bytes were never copied: they lie in UMEM, where the NIC or the kernel put them. Never so on the kernel
    /// path, where the kernel has copied them to us.
    pub in_place: bool,
    /// Which of the feed's connections brought it, counted from 0. A place that has become free is taken again.
    pub connection: usize,
    /// The venue's numbering says that something is missing before this message.
    pub gap: Option<Gap<'a>>,
    /// To answer it.
    pub sender: &'a mut Sender<'s>,
    pub(super) stopped: &'a mut bool,
}

#[cfg(test)]
impl<'a, 's> Context<'a, 's> {
    /// A context that came from nowhere.
    pub(crate) fn for_tests(sender: &'a mut Sender<'s>, stopped: &'a mut bool) -> Self {
        Self { arrived: Time::ZERO, in_place: true, connection: 0, gap: None, sender, stopped }
    }
}

impl<'s> Context<'_, 's> {
    /// The same context with another gap.
    pub(crate) fn with_gap<'b>(&'b mut self, gap: Option<Gap<'b>>) -> Context<'b, 's> {
        let Self { arrived, in_place, connection, sender, stopped, .. } = self;
        Context { arrived: *arrived, in_place: *in_place, connection: *connection, gap, sender, stopped }
    }

    /// Asks for the feed to be closed in good order. Messages that have arrived already are still delivered.
    pub fn stop(&mut self) {
        *self.stopped = true;
    }
}
