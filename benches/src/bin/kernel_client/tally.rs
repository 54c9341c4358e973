//! The handler: counts, clocks, answers; and the summary of it all.

use std::collections::BTreeMap;
use std::error::Error;

use hdrhistogram::Histogram;
use serde::Serialize;
use wiretick::event::Event;
use wiretick::floor::counters::Counters;
use wiretick::floor::{Clock, Monotonic, Time, process_cpu};
use wiretick::message::Kind;
use wiretick::path::{Context, Handler, SendError};
use wiretick::timing::Quantiles;
use wiretick_testbed::client::Records;

use crate::connection::Connection;
use crate::options::{Options, Wait};

/// The longest latency that is told apart: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// What has been received so far.
pub(crate) struct Tally {
    count: u64,
    warmup: u64,
    echo: bool,
    /// The message at hand is one of those wanted.
    wanted: bool,
    messages: u64,
    bytes: u64,
    echoes: u64,
    stamps_ahead: u64,
    latency_ns: Histogram<u64>,
    first: Option<Time>,
    last: Time,
    /// Why an answer could not be sent.
    broken: Option<SendError>,
}

impl Tally {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            count: options.count,
            warmup: options.warmup,
            echo: options.echo_field.is_some(),
            wanted: true,
            messages: 0,
            bytes: 0,
            echoes: 0,
            stamps_ahead: 0,
            latency_ns: Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are in order"),
            first: None,
            last: Time::ZERO,
            broken: None,
        }
    }

    /// Whether the last message has come, or nothing more can be done.
    pub(crate) fn is_done(&self) -> bool {
        self.messages >= self.count || self.broken.is_some()
    }

    pub(crate) fn check_complete(&mut self) -> Result<(), Box<dyn Error>> {
        if let Some(broken) = self.broken.take() {
            return Err(format!("an answer could not be sent: {broken}").into());
        }
        if self.messages < self.count {
            return Err(format!("the server closed after {} of {} messages", self.messages, self.count).into());
        }
        Ok(())
    }

    /// Everything `--summary` writes.
    pub(crate) fn summary(&self, connection: &Connection, options: &Options, error: Option<String>) -> Summary {
        let report = connection.counters();
        let owned = |(name, n): (&str, u64)| (name.to_owned(), n);
        Summary {
            client: "kernel-client",
            version: env!("CARGO_PKG_VERSION"),
            wait: format!("{:?}", options.wait()),
            busy_poll: matches!(options.wait(), Wait::Spin | Wait::BusyPoll | Wait::IoUringSpin),
            messages: self.messages,
            bytes: self.bytes,
            events: report.events.nonzero().into_iter().map(owned).collect(),
            echoes: self.echoes,
            gaps: report.path.gaps,
            records: Records { in_place: report.opener.records_in_place, joined: report.opener.records_joined },
            stamps_ahead: self.stamps_ahead,
            latency_ns: Quantiles::of(&self.latency_ns),
            first_to_last_s: self.first.map_or(0.0, |first| self.last.since(first).as_secs_f64()),
            cpu_seconds: process_cpu().as_secs_f64(),
            error,
        }
    }

    fn answer(&mut self, stamp: u64, context: &mut Context<'_, '_>) {
        match context.sender.text(itoa::Buffer::new().format(stamp)) {
            Ok(()) => self.echoes += 1,
            Err(error) => self.broken = Some(error),
        }
    }
}

impl Handler for Tally {
    fn payload(&mut self, _: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        // What arrives behind the last message is not looked at.
        self.wanted = !self.is_done();
        if self.wanted {
            self.messages += 1;
            self.bytes += payload.len() as u64;
            self.first.get_or_insert(context.arrived);
            self.last = context.arrived;
        }
    }

    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        let Some(stamp) = event.stamp_ns else { return };
        if self.messages > self.warmup {
            match Monotonic.now().as_nanos().checked_sub(stamp) {
                Some(latency) => self.latency_ns.saturating_record(latency.max(1)),
                None => self.stamps_ahead += 1,
            }
        }
        if self.echo {
            self.answer(stamp, context);
        }
    }

    fn wants_events(&self) -> bool {
        self.wanted
    }
}

/// Everything `--summary` writes. The names are those of the peers' summaries.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    client: &'static str,
    version: &'static str,
    wait: String,
    busy_poll: bool,
    messages: u64,
    bytes: u64,
    events: BTreeMap<String, u64>,
    echoes: u64,
    gaps: u64,
    records: Records,
    stamps_ahead: u64,
    latency_ns: Option<Quantiles>,
    first_to_last_s: f64,
    cpu_seconds: f64,
    error: Option<String>,
}
