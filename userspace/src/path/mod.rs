//! The path: the stages in a row, from stream bytes to the handler, for one connection.
//!
//! ```text
//! segment or kernel socket --Span--> record --Span--> message --Span--> event --> handler
//!                     <--bytes-- [`Outbox`] <--------- sealed, masked ---------
//! ```
//!
//! What comes in are pieces of the peer's TCP stream, in order, wherever they lie; what goes out are calls of the
//! [`Handler`] and bytes for the peer, which go to whatever [`Outlet`] the connection has at the moment. The path does
//! not know whether its bytes come from a kernel socket or from UMEM: that is how a connection can change from one to
//! the other between two bytes. It does no I/O and reads no clock.

mod budget;
mod error;
mod handler;
mod lag;
mod outbox;
mod prepared;
mod reader;
mod rehearsal;
mod slot;

pub use error::{Error, Lost};
pub use handler::{Context, Handler, Mark, Source};
pub use lag::Lag;
pub use outbox::{Outbox, Outlet, SendError, Sender};
pub use prepared::{Prepared, PreparedError};
pub use slot::Slot;

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use self::budget::{Budget, Waiting};
use self::reader::Reader;
use self::rehearsal::Rehearsal;

use crate::event::continuity::Chains;
use crate::event::{self, Continuity};
use crate::floor::counters::counters;
use crate::floor::{Limits, Span, Time};
use crate::message::{self, CloseCode, Decoder, Upgrade};
use crate::record::{self, Handshake, Opened, Opener, Session};

/// What a connection wants of the path.
#[derive(Debug)]
pub struct PathConfig<'a> {
    /// TLS, and the name the peer's certificate must bear; `None` for `ws://`.
    pub tls: Option<(&'a record::Client, record::ServerName<'static>)>,
    /// For the `Host` header.
    pub authority: &'a str,
    /// For the request line.
    pub path_and_query: &'a str,
    /// More headers for the request.
    pub headers: &'a [(String, String)],
    /// Text messages to send as soon as the connection is open.
    pub subscriptions: &'a [String],
    /// Messages the venue takes from a client in a second; `None`: any number. Answers to pings and the subscriptions wait
    /// for it; what else is sent is counted, and does not wait.
    pub messages_per_second: Option<NonZeroU32>,
    /// Bounds on what the peer can make grow.
    pub limits: Limits,
    /// How messages are decoded.
    pub events: event::Options,
}

/// How far a connection has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// The TLS handshake is under way.
    Handshake,
    /// The WebSocket upgrade is under way.
    Upgrade,
    /// Messages flow.
    Open,
    /// One side has said that it wants to close.
    Closing,
    /// Both have, in good order: TCP may be closed. The peer's code and reason, if it gave any.
    Closed(Option<u16>, String),
}

enum Phase {
    Handshake(Box<Handshake>),
    Upgrade(Box<Upgrade>),
    Open,
}

counters! {
    /// What a path did beside what its stages count themselves.
    pub struct PathCounters {
        /// Bytes of the TCP stream received.
        stream_bytes,
        /// Pings answered.
        pings_answered,
        /// Pings that were not answered, because a later one was: the budget of messages was used up.
        pings_superseded,
        /// Messages sent, pings and pongs included.
        sent,
        /// Bytes sealed for the peer.
        sent_bytes,
        /// Gaps in the venue's numbering.
        gaps,
    }
}

/// Everything a connection knows above TCP.
pub struct Path {
    phase: Phase,
    session: Option<Session>,
    decoder: Decoder,
    events: event::Decoder,
    continuity: Continuity,
    outbox: Outbox,
    waiting: Waiting,
    /// The request can hold a key to an account: what has been sent is wiped.
    upgrade: Option<Box<(Upgrade, Zeroizing<Vec<u8>>)>>,
    stopped: bool,
    received_close: Option<(Option<u16>, String)>,
    counters: PathCounters,
    /// What [`Context::connection`] tells.
    connection: usize,
    /// Where it is to be measured.
    lag: Option<Lag>,
    /// Where the path is to be kept warm.
    rehearsal: Option<Box<Rehearsal>>,
    /// What comes through this path is a rehearsal.
    rehearses: bool,
}

#[cfg(test)]
impl Path {
    /// A path without TLS that no byte has come through.
    pub(crate) fn for_tests() -> Self {
        Self::new(PathConfig {
            tls: None,
            authority: "x",
            path_and_query: "/",
            headers: &[],
            subscriptions: &[],
            messages_per_second: None,
            limits: Limits::default(),
            events: event::Options::default(),
        })
        .expect("there is no TLS to fail")
    }
}

/// A connection between two messages, as another process can continue it. Whoever has it can read and write the connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Estate {
    tls: Option<record::Estate>,
    /// Where the venue's numbers stand.
    pub chains: Chains,
}

impl Path {
    /// Goes on with a connection that another process has left. Subscriptions are not sent: they have been.
    ///
    /// # Errors
    ///
    /// Where the estate is not of such a connection (TLS for one without), or makes no sense.
    pub fn inherit(config: &PathConfig<'_>, estate: Estate) -> Result<Self, Error> {
        let Estate { tls, chains } = estate;
        if tls.is_some() != config.tls.is_some() {
            return Err(Error::Estate("has TLS where the URL has none, or none where the URL has it"));
        }
        let mut path = Self::blank(config)?;
        path.waiting.clear();
        path.session = tls.map(Session::inherit).transpose()?;
        path.continuity.inherit(&chains);
        Ok(path)
    }

    /// Everything another process needs to go on with the connection: `None` unless messages flow, nothing of ours waits, and
    /// the stream was read exactly to the end of a message ([`Path::wanted`]).
    #[must_use]
    pub fn estate(&self) -> Option<Estate> {
        if !self.is_open() || self.has_outgoing() || !self.waiting.is_empty() || self.wanted().is_some() {
            return None;
        }
        let tls = match &self.session {
            Some(session) => Some(session.estate()?),
            None => None,
        };
        Some(Estate { tls, chains: self.continuity.chains() })
    }

    /// How many bytes of the stream are at least missing to the end of the message that was begun, none of which belongs to the
    /// next one. `None` between messages.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        let message = self.decoder.wanted();
        match &self.session {
            Some(session) => session.opener.wanted().or(message.map(|_| Opener::HEADER_LEN)),
            None => message,
        }
    }

    /// Prepares the path; what is to be sent first waits for [`Path::flush`].
    ///
    /// # Errors
    ///
    /// Where what the caller wants cannot be sent: a header that is none, for one.
    pub fn new(config: PathConfig<'_>) -> Result<Self, Error> {
        let mut path = Self::blank(&config)?;
        let key = path.outbox.nonce()?;
        let (upgrade, request) =
            Upgrade::new(config.authority, config.path_and_query, config.headers, key, &config.limits)?;
        if let Some((client, name)) = config.tls {
            let mut handshake = Handshake::new(client, name, &config.limits)?;
            handshake.start(path.outbox.raw())?;
            path.upgrade = Some(Box::new((upgrade, request)));
            path.phase = Phase::Handshake(Box::new(handshake));
        } else {
            path.outbox.raw().extend_from_slice(&request);
            path.phase = Phase::Upgrade(Box::new(upgrade));
        }
        Ok(path)
    }

    /// An open path that nothing has come through.
    fn blank(config: &PathConfig<'_>) -> Result<Self, Error> {
        Ok(Self {
            phase: Phase::Open,
            session: None,
            decoder: Decoder::new(&config.limits),
            events: event::Decoder::new(config.events.clone()),
            continuity: Continuity::default(),
            outbox: Outbox::new(&config.limits, Budget::new(config.messages_per_second))?,
            waiting: Waiting::of(config.subscriptions),
            upgrade: None,
            stopped: false,
            received_close: None,
            counters: PathCounters::default(),
            connection: 0,
            lag: None,
            rehearsal: None,
            rehearses: false,
        })
    }

    /// Takes the next piece of the peer's stream, which came from `source` and arrived `at`, and calls `handler` for every message in it.
    /// Answers and whatever the handler sends leave through `outlet` before this returns, as far as it takes them.
    ///
    /// # Errors
    ///
    /// What the peer did wrong. The connection is then over: call [`Path::farewell`], flush, and close.
    pub fn arrive<H: Handler, O: Outlet>(
        &mut self,
        span: Span<'_>,
        source: Source,
        at: Time,
        handler: &mut H,
        outlet: &mut O,
    ) -> Result<(), Error> {
        if !self.rehearses {
            handler.mark(Mark::Stream(source));
        }
        self.outbox.now = at;
        self.outbox.take_slot(outlet);
        self.counters.stream_bytes += span.len() as u64;
        if let Phase::Handshake(handshake) = &mut self.phase {
            let progress = handshake.push(span.bytes(), self.outbox.raw())?;
            if progress == record::Progress::Complete {
                self.secured(at, handler, outlet)?;
            }
        } else {
            self.read(span, source, at, handler, outlet)?;
        }
        self.outbox.drain(outlet);
        Ok(())
    }

    /// The TLS handshake is complete.
    fn secured<H: Handler, O: Outlet>(&mut self, at: Time, handler: &mut H, outlet: &mut O) -> Result<(), Error> {
        let Some(upgrade) = self.upgrade.take() else { return Ok(()) };
        let (upgrade, request) = *upgrade;
        let before = std::mem::replace(&mut self.phase, Phase::Upgrade(Box::new(upgrade)));
        let Phase::Handshake(handshake) = before else { return Ok(()) };
        let (mut session, mut rest) = handshake.finish()?;
        log::debug!("{:?}", session.facts());
        session.sealer.seal(record::Content::ApplicationData, &request, self.outbox.raw())?;
        self.session = Some(session);
        // What came behind the handshake is already of the session.
        let len = rest.len();
        rest.resize(len + Span::PAD, 0);
        self.read(Span::new(&mut rest, len), Source::Staged, at, handler, outlet)
    }

    /// The stages in a row.
    #[inline]
    fn read<H: Handler, O: Outlet>(
        &mut self,
        span: Span<'_>,
        source: Source,
        at: Time,
        handler: &mut H,
        outlet: &mut O,
    ) -> Result<(), Error> {
        let Self {
            phase,
            session,
            decoder,
            events,
            continuity,
            outbox,
            waiting,
            stopped,
            received_close,
            counters,
            connection,
            lag,
            rehearsal,
            rehearses,
            ..
        } = self;
        let (lent, connection, rehearses) = (source == Source::Frame, *connection, *rehearses);
        let specimen = rehearsal.as_mut().map(|rehearsal| &mut rehearsal.specimen).filter(|specimen| specimen.wanted);
        let mut reader = Reader {
            phase,
            events,
            continuity,
            outbox,
            waiting,
            stopped,
            received_close,
            counters,
            at,
            lent,
            connection,
            lag,
            specimen,
            rehearses,
        };
        let Some(session) = session else {
            return reader.plaintext(decoder, Opened { plaintext: span, joined: false }, None, handler, outlet);
        };
        let Session { opener, sealer, .. } = session;
        opener.push(span, &mut |opened: Opened<'_>| {
            if !rehearses {
                handler.mark(Mark::Opened { joined: opened.joined });
            }
            reader.plaintext(decoder, opened, Some(&mut *sealer), handler, outlet)
        })?;
        session.answer(outbox.raw())?;
        Ok(())
    }

    /// Gives the connection its place among those of a feed: what [`Context::connection`] tells.
    pub fn take_place(&mut self, place: usize) {
        self.connection = place;
    }

    /// Measures how far events are behind the venue's clock: no more than `max` is as it should be. `offset_ns` says how our
    /// clock stands to the calendar; to be called again now and then.
    pub fn measure_lag(&mut self, max: Duration, offset_ns: i64) {
        self.lag.get_or_insert(Lag::new(max)).set_offset(offset_ns);
    }

    /// Lets the path be kept warm: takes the memory for it.
    pub fn keep_warm(&mut self) {
        self.rehearsal = Some(Box::new(Rehearsal::new()));
    }

    /// The bytes of the stream in which the peer would send a message that has come before once more, under keys of their own. `None`
    /// unless [`Path::keep_warm`] was called, messages flow, and there has been one.
    pub fn next_rehearsal(&mut self) -> Option<&[u8]> {
        if !self.is_open() {
            return None;
        }
        match self.rehearsal.as_mut()?.next(self.session.as_ref(), self.events.options()) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                log::warn!("the path is not kept warm: {error}");
                self.rehearsal = None;
            }
        }
        self.rehearsal.as_deref().map(Rehearsal::stream)
    }

    /// Takes the last [`Path::next_rehearsal`] through a path like this one, which ends at [`Handler::rehearse`] and at an `outlet`
    /// that must lead nowhere. Hands back the frame that is held for what would be sent next.
    pub fn rehearse<H: Handler, O: Outlet>(
        &mut self,
        span: Span<'_>,
        source: Source,
        at: Time,
        handler: &mut H,
        outlet: &mut O,
    ) -> Option<Slot> {
        let rehearsal = self.rehearsal.as_mut()?;
        let (slot, result) = rehearsal.arrive(&mut self.events, (span, source, at), handler, outlet);
        if let Err(error) = result {
            log::warn!("the path is not kept warm any more: {error}");
            self.rehearsal = None;
        }
        slot
    }

    /// The last [`Path::next_rehearsal`] could not be taken anywhere: there are no more.
    pub fn give_rehearsals_up(&mut self) {
        log::debug!("the path is not kept warm any more");
        self.rehearsal = None;
    }

    /// How far events are behind the venue's clock, where that is measured.
    #[must_use]
    pub fn lag(&self) -> Option<&Lag> {
        self.lag.as_ref()
    }

    /// Hands what waits to be sent to the connection.
    pub fn flush<O: Outlet>(&mut self, outlet: &mut O) {
        self.outbox.drain(outlet);
    }

    /// Sends what has waited for the venue to take another message, where it is time to. To be flushed.
    ///
    /// # Errors
    ///
    /// What cannot be sent although nothing is in its way.
    #[inline]
    pub fn turn(&mut self, now: Time) -> Result<(), Error> {
        self.outbox.now = now;
        if self.waiting.is_empty() { Ok(()) } else { self.send_waiting() }
    }

    #[cold]
    fn send_waiting(&mut self) -> Result<(), Error> {
        let Self { phase: Phase::Open, waiting, outbox, session, counters, .. } = self else { return Ok(()) };
        send_waiting(waiting, outbox, session.as_mut().map(|session| &mut session.sealer), counters)
    }

    /// When [`Path::turn`] has something to do, at the latest.
    #[must_use]
    pub fn next_turn(&self) -> Time {
        if self.waiting.is_empty() || !matches!(self.phase, Phase::Open) {
            return Time::NEVER;
        }
        self.outbox.budget.ready_at()
    }

    /// Takes back bytes that have not left after all: they come before everything else.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.outbox.put_back(bytes);
    }

    /// Gives up the frame that was held for what would be sent next. What is in it is sent another way.
    pub fn give_slot_up(&mut self) -> Option<Slot> {
        self.outbox.give_slot_up()
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// A sender of messages, outside of the handler.
    #[must_use]
    pub fn sender(&mut self) -> Sender<'_> {
        let open = matches!(self.phase, Phase::Open);
        Sender::new(
            &mut self.outbox,
            self.session.as_mut().map(|session| &mut session.sealer),
            open,
            &mut self.counters,
        )
    }

    /// Begins the closing handshake, unless it has begun.
    ///
    /// # Errors
    ///
    /// Where the code or the reason cannot be sent.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), Error> {
        if !matches!(self.phase, Phase::Open) || self.outbox.close_sent {
            return Ok(());
        }
        self.sender().close(Some(code.0), reason)
    }

    /// Tells the peer why the connection ends, as far as that can be told: a close frame, an alert. To be flushed.
    pub fn farewell(&mut self, error: &Error) {
        if let (Phase::Open, Some(code)) = (&self.phase, error.close_code()) {
            // Best effort: the error itself is what counts.
            let _ = self.sender().close(Some(code), "");
        }
        let Some(session) = &mut self.session else { return };
        let last = match error.alert() {
            Some(alert) => session.sealer.alert(alert, self.outbox.raw()),
            None => session.sealer.close_notify(self.outbox.raw()),
        };
        if let Err(error) = last {
            log::debug!("no alert could be sent: {error}");
        }
    }

    /// Says `close_notify`, where there is TLS and it has not been said: nothing more will be sent.
    pub fn shut(&mut self) {
        if let Some(session) = &mut self.session
            && let Err(error) = session.sealer.close_notify(self.outbox.raw())
        {
            log::debug!("no close_notify could be sent: {error}");
        }
    }

    /// What it means that the peer's stream has ended here.
    ///
    /// # Errors
    ///
    /// Unless the closing handshake was complete: that the connection was lost, and at what point.
    pub fn on_eof(&mut self) -> Result<(), Error> {
        if self.is_closed() {
            return Ok(());
        }
        match &self.phase {
            Phase::Handshake(handshake) => handshake.on_eof()?,
            Phase::Upgrade(_) | Phase::Open => {
                if let Some(session) = &mut self.session {
                    session.opener.on_eof()?;
                }
            }
        }
        Err(Error::Lost(match self.phase {
            Phase::Open => Lost::Ended,
            Phase::Handshake(_) | Phase::Upgrade(_) => Lost::EndedInUpgrade,
        }))
    }

    /// How far the connection has come.
    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.phase, &self.received_close) {
            (Phase::Handshake(_), _) => Status::Handshake,
            (Phase::Upgrade(_), _) => Status::Upgrade,
            (Phase::Open, Some((code, reason))) if self.outbox.close_sent => Status::Closed(*code, reason.clone()),
            (Phase::Open, None) if !self.outbox.close_sent => Status::Open,
            (Phase::Open, _) => Status::Closing,
        }
    }

    /// Whether messages flow.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.outbox.close_sent && self.received_close.is_none()
    }

    /// Whether messages flow, or once did.
    #[must_use]
    pub fn was_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether the closing handshake is complete: TCP may be closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Open) && self.outbox.close_sent && self.received_close.is_some()
    }

    /// Whether the handler has asked to stop, which is forgotten by asking.
    #[must_use]
    pub fn take_stopped(&mut self) -> bool {
        std::mem::take(&mut self.stopped)
    }

    /// What TLS agreed on, once it has.
    #[must_use]
    pub fn tls(&self) -> Option<&record::Facts> {
        self.session.as_ref().map(Session::facts)
    }

    /// What happened so far: the path's own counters, then those of its stages.
    #[must_use]
    pub fn counters(&self) -> PathReport {
        PathReport {
            path: self.counters,
            opener: self.session.as_ref().map(|session| *session.opener.counters()).unwrap_or_default(),
            sealer: self.session.as_ref().map(|session| *session.sealer.counters()).unwrap_or_default(),
            messages: *self.decoder.counters(),
            events: *self.events.counters(),
            direct: *self.events.direct_counters(),
        }
    }
}

/// Sends what waits, as far as the venue takes it now; the answer to a ping first.
fn send_waiting(
    waiting: &mut Waiting,
    outbox: &mut Outbox,
    mut sealer: Option<&mut record::Sealer>,
    counters: &mut PathCounters,
) -> Result<(), Error> {
    if outbox.close_sent {
        waiting.clear();
    }
    while !waiting.is_empty() && outbox.budget.allows(outbox.now) {
        let mut sender = Sender::new(outbox, sealer.as_deref_mut(), true, counters);
        if let Some((payload, len)) = waiting.take_pong() {
            sender.pong(&payload[..len])?;
            counters.pings_answered += 1;
        } else if let Some(text) = waiting.subscriptions.pop_front() {
            sender.text(&text)?;
        }
    }
    Ok(())
}

/// The counters of a path and of its stages.
#[derive(Clone, Copy, Debug, Default)]
pub struct PathReport {
    /// The path's own.
    pub path: PathCounters,
    /// Of the records opened.
    pub opener: record::OpenerCounters,
    /// Of the records sealed.
    pub sealer: record::SealerCounters,
    /// Of the WebSocket messages.
    pub messages: message::MessageCounters,
    /// Of the events, by type.
    pub events: event::Decoded,
    /// How the events were decoded: directly, or why not.
    pub direct: event::DirectCounters,
}
