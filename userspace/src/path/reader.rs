//! The receiving half of a path: what is done with plaintext.

use super::budget::Waiting;
use super::rehearsal::Specimen;
use super::{Context, Error, Handler, Lag, Mark, Outbox, Outlet, PathCounters, Phase, Sender, send_waiting};
use crate::event::{self, Continuity};
use crate::floor::Time;
use crate::message::{self, Decoder, Message, Payload};
use crate::record::{self, Opened};

/// The receiving half of a path while one piece of the stream is read: everything but the opener and the decoder, which
/// are busy, and the sealer, which the handler may need.
pub(super) struct Reader<'a> {
    pub(super) phase: &'a mut Phase,
    pub(super) events: &'a mut event::Decoder,
    pub(super) continuity: &'a mut Continuity,
    pub(super) outbox: &'a mut Outbox,
    pub(super) waiting: &'a mut Waiting,
    pub(super) stopped: &'a mut bool,
    pub(super) received_close: &'a mut Option<(Option<u16>, String)>,
    pub(super) counters: &'a mut PathCounters,
    pub(super) at: Time,
    /// The piece of the stream lies in its frame.
    pub(super) lent: bool,
    pub(super) connection: usize,
    pub(super) lag: &'a mut Option<Lag>,
    /// Takes a copy of the next message.
    pub(super) specimen: Option<&'a mut Specimen>,
    /// Nothing of it is real: see [`rehearsal`](super::rehearsal).
    pub(super) rehearses: bool,
}

impl Reader<'_> {
    /// Plaintext has come: the answer to the upgrade, messages, or the one and then the other.
    #[inline]
    pub(super) fn plaintext<H: Handler, O: Outlet>(
        &mut self,
        decoder: &mut Decoder,
        opened: Opened<'_>,
        mut sealer: Option<&mut record::Sealer>,
        handler: &mut H,
        outlet: &mut O,
    ) -> Result<(), Error> {
        let Opened { mut plaintext, joined } = opened;
        let mut begin = 0;
        if let Phase::Upgrade(upgrade) = self.phase {
            match upgrade.push(plaintext.bytes())? {
                message::Progress::More => return Ok(()),
                message::Progress::Done { consumed } => begin = consumed,
            }
            *self.phase = Phase::Open;
            send_waiting(self.waiting, self.outbox, sealer.as_deref_mut(), self.counters)?;
        }
        let len = plaintext.len();
        decoder.push(plaintext.lend(begin..len), &mut |message: Message<'_>| {
            self.message(message, joined, sealer.as_deref_mut(), handler, outlet)
        })
    }

    #[inline]
    fn message<H: Handler, O: Outlet>(
        &mut self,
        message: Message<'_>,
        joined: bool,
        sealer: Option<&mut record::Sealer>,
        handler: &mut H,
        outlet: &mut O,
    ) -> Result<(), Error> {
        match message {
            Message::Text(payload) => self.data(message::Kind::Text, payload, joined, sealer, handler),
            Message::Binary(payload) => self.data(message::Kind::Binary, payload, joined, sealer, handler),
            Message::Ping(payload) => {
                // Behind our close frame nothing may follow, not even an answer (RFC 6455 section 5.5.1). A peer that
                // floods us with pings and does not read gets no more answers than fit the outbox: that ends the
                // connection, with an error that says so.
                if !self.outbox.close_sent {
                    let superseded = self.waiting.put_off(payload);
                    self.counters.pings_superseded += u64::from(superseded);
                    send_waiting(self.waiting, self.outbox, sealer, self.counters)?;
                }
            }
            Message::Pong(payload) => handler.pong(payload),
            Message::Close { code, reason } => {
                *self.received_close = Some((code, reason.to_owned()));
                let mut sender = Sender::new(self.outbox, sealer, true, self.counters);
                // RFC 6455 section 5.5.1: echo the code, unless our own close frame came first.
                sender.close(code, "")?;
            }
        }
        if self.outbox.drain(outlet) && !self.rehearses {
            handler.mark(Mark::Sent);
            outlet.kick();
        }
        Ok(())
    }

    #[inline]
    fn data<H: Handler>(
        &mut self,
        kind: message::Kind,
        payload: Payload<'_>,
        joined: bool,
        sealer: Option<&mut record::Sealer>,
        handler: &mut H,
    ) {
        let in_place = self.lent && !joined && !payload.joined;
        let mut sender = Sender::new(self.outbox, sealer, true, self.counters);
        let (arrived, connection) = (self.at, self.connection);
        let mut context =
            Context { arrived, in_place, connection, gap: None, sender: &mut sender, stopped: self.stopped };
        if self.rehearses {
            let event = self.events.decode(payload.span);
            handler.rehearse(&event, &mut context);
            return;
        }
        if kind == message::Kind::Text
            && let Some(specimen) = self.specimen.take_if(|specimen| specimen.wanted)
        {
            specimen.take(payload.span.bytes());
        }
        handler.payload(kind, payload.span.bytes(), &mut context);
        if kind == message::Kind::Text && handler.wants_events() {
            let event = self.events.decode(payload.span);
            if let (Some(lag), Some(sent)) = (&mut *self.lag, event.event_time_ms()) {
                lag.note(self.at, sent);
            }
            if let Some(gap) = self.continuity.observe(&event) {
                context.sender.counters.gaps += 1;
                context.gap = Some(gap);
            }
            handler.event(&event, &mut context);
        }
    }
}
