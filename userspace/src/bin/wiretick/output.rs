//! What the program does with each message: prints it, counts it, takes its latency.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use wiretick::event::Event;
use wiretick::floor::{Clock, Monotonic, Time};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler, SendError};

use crate::args::{Format, StreamArgs};

/// Bytes of output that are collected before they are written, while messages keep coming.
const BUFFER: usize = 64 << 10;
/// The longest latency that is told apart, in nanoseconds: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// An empty histogram of latencies in nanoseconds, to three significant digits.
pub(crate) fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order")
}

/// The handler of `wiretick stream`.
pub(crate) struct Output {
    format: Format,
    count: Option<u64>,
    warmup: u64,
    /// Whether the number read from each message is the time at which it was sent.
    stamped: bool,
    /// Whether it is to be sent back.
    echo: bool,
    /// Where it is printed: stdout, unless it is a second connection's.
    out: Box<dyn Write + Send>,
    buffer: Vec<u8>,
    /// Why nothing more can be printed.
    broken: Option<io::Error>,
    /// The message at hand is still one of those wanted: what arrives behind the last of them is not looked at.
    wanted: bool,
    pub(crate) messages: u64,
    /// When the first message and the last one so far had arrived.
    pub(crate) arrived: Option<(Time, Time)>,
    pub(crate) bytes: u64,
    pub(crate) in_place: u64,
    /// Messages answered with their number.
    pub(crate) echoes: u64,
    pub(crate) latency_ns: Histogram<u64>,
    /// Gaps in the venue's numbering.
    pub(crate) gaps: u64,
    /// Times at which no connection was left.
    pub(crate) interruptions: u64,
    /// Stamps that lie in the future: the sender's clock is not ours.
    pub(crate) stamps_ahead: u64,
}

impl Output {
    pub(crate) fn new(args: &StreamArgs, out: Box<dyn Write + Send>) -> Self {
        Self {
            format: args.format,
            count: args.count,
            warmup: args.warmup,
            stamped: args.stamp_field.is_some(),
            echo: args.echo_field.is_some(),
            out,
            buffer: Vec::with_capacity(2 * BUFFER),
            broken: None,
            wanted: true,
            messages: 0,
            arrived: None,
            bytes: 0,
            in_place: 0,
            echoes: 0,
            latency_ns: latency_histogram(),
            gaps: 0,
            interruptions: 0,
            stamps_ahead: 0,
        }
    }

    /// Writes out what is collected.
    pub(crate) fn flush(&mut self) {
        if self.buffer.is_empty() || self.broken.is_some() {
            return;
        }
        if let Err(error) = self.out.write_all(&self.buffer).and_then(|()| self.out.flush()) {
            self.broken = Some(error);
        }
        self.buffer.clear();
    }

    /// Sends the event's number back, where that is wanted and it has one.
    fn answer(&self, event: &Event<'_>, context: &mut Context<'_, '_>) -> Option<Result<(), SendError>> {
        let number = event.stamp_ns.filter(|_| self.echo)?;
        Some(context.sender.text(itoa::Buffer::new().format(number)))
    }

    /// Whether more messages are wanted.
    pub(crate) fn wants_more(&self) -> bool {
        self.broken.is_none() && self.count.is_none_or(|count| self.messages < count)
    }

    /// Whether the message at hand is behind those that the latency figures leave out.
    pub(crate) fn is_warm(&self) -> bool {
        self.messages > self.warmup
    }

    /// Why printing failed. A reader that has gone away (`| head`) is no failure.
    pub(crate) fn failure(&mut self) -> Option<io::Error> {
        self.broken.take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }
}

impl Handler for Output {
    fn payload(&mut self, _: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.wanted = self.wants_more();
        if !self.wanted {
            return;
        }
        self.bytes += payload.len() as u64;
        self.in_place += u64::from(context.in_place);
        if self.format == Format::Raw {
            self.buffer.extend_from_slice(payload);
            self.buffer.push(b'\n');
        }
        // Binary messages never become events, so messages are counted here.
        self.messages += 1;
        self.arrived.get_or_insert((context.arrived, context.arrived)).1 = context.arrived;
        if !self.wants_more() {
            context.stop();
        }
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        if let Some(stamp) = event.stamp_ns
            && self.stamped
            && self.is_warm()
        {
            match Monotonic.now().as_nanos().checked_sub(stamp) {
                Some(latency) => self.latency_ns.saturating_record(latency.max(1)),
                None => self.stamps_ahead += 1,
            }
        }
        match self.answer(event, context) {
            Some(Ok(())) => self.echoes += 1,
            Some(Err(error)) => log::error!("a message could not be answered: {error}"),
            None => {}
        }
        if let Some(gap) = &context.gap {
            self.gaps += 1;
            log::warn!("gap: {gap:?}");
        }
        if self.format == Format::Json {
            if let Err(error) = serde_json::to_writer(&mut self.buffer, event) {
                log::error!("an event could not be written as JSON: {error}");
            }
            self.buffer.push(b'\n');
        }
    }

    /// The same work with each event, as far as it leaves no trace: what is sent here goes nowhere.
    fn rehearse(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        // An answer that was not to go anywhere cannot fail to.
        let _ = self.answer(event, context);
        if self.format == Format::Json {
            let written = self.buffer.len();
            let _ = serde_json::to_writer(&mut self.buffer, event);
            self.buffer.truncate(written);
        }
    }

    fn wants_events(&self) -> bool {
        self.wanted
    }

    fn interrupted(&mut self, _: &str) {
        self.interruptions += 1;
    }
}
