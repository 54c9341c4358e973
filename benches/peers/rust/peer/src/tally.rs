//! Counts, clocks and the summary.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use memchr::memmem::FinderRev;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::Options;
use crate::market::{self, Event};

/// What has been received so far.
#[derive(Debug)]
pub struct Tally {
    count: u64,
    warmup: u64,
    busy_poll: bool,
    summary: PathBuf,
    stamp: Option<Field>,
    echo: Option<Field>,
    messages: u64,
    bytes: u64,
    events: Events,
    echoes: u64,
    stamps_ahead: u64,
    latency_ns: Vec<u64>,
    first_ns: u64,
    last_ns: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Events {
    trade: u64,
    #[serde(rename = "bookTicker")]
    book_ticker: u64,
    depth: u64,
    other: u64,
}

impl Tally {
    pub(crate) fn new(options: &Options) -> Self {
        let expected = usize::try_from(options.count.saturating_sub(options.warmup)).unwrap_or(0);
        // Written once, so that no page is touched for the first time while messages are timed.
        let mut latency_ns = vec![u64::MAX; expected];
        black_box(&mut latency_ns).clear();
        Self {
            count: options.count,
            warmup: options.warmup,
            busy_poll: options.busy_poll,
            summary: options.summary.clone(),
            stamp: options.stamp_field.as_deref().map(Field::new),
            echo: options.echo_field.as_deref().map(Field::new),
            messages: 0,
            bytes: 0,
            events: Events::default(),
            echoes: 0,
            stamps_ahead: 0,
            latency_ns,
            first_ns: 0,
            last_ns: 0,
        }
    }

    /// Decodes a text message, looks at the clock, and counts. Answers what is to be sent back, if anything.
    #[inline]
    pub fn take<'a>(&mut self, payload: &'a [u8]) -> anyhow::Result<Option<&'a str>> {
        let event = market::decode(payload);
        // Nothing of the decoding may slip below the clock.
        black_box(&event);
        let now_ns = clock_ns(ClockId::Monotonic);
        let event = event.with_context(|| format!("message {} cannot be decoded", self.messages + 1))?;

        self.messages += 1;
        self.bytes += payload.len() as u64;
        if self.messages == 1 {
            self.first_ns = now_ns;
        }
        self.last_ns = now_ns;
        match event {
            Event::Trade(_) => self.events.trade += 1,
            Event::BookTicker(_) => self.events.book_ticker += 1,
            Event::Depth(_) => self.events.depth += 1,
            Event::Other => {
                self.events.other += 1;
                return Ok(None);
            }
        }
        if self.messages > self.warmup
            && let Some(stamp_ns) = self.stamp.as_ref().and_then(|stamp| stamp.number_in(payload)?.parse::<u64>().ok())
        {
            match now_ns.checked_sub(stamp_ns) {
                Some(latency_ns) => self.latency_ns.push(latency_ns),
                None => self.stamps_ahead += 1,
            }
        }
        let echo = self.echo.as_ref().and_then(|echo| echo.number_in(payload));
        self.echoes += u64::from(echo.is_some());
        Ok(echo)
    }

    /// Whether the last message has come.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.messages >= self.count
    }

    pub(crate) fn is_complete(&self) -> anyhow::Result<()> {
        if !self.is_done() {
            bail!("the server closed the connection after {} of {} messages", self.messages, self.count);
        }
        Ok(())
    }

    pub(crate) fn write_summary(
        &mut self,
        client: &'static str,
        libraries: &[&'static str],
        error: Option<&anyhow::Error>,
    ) -> anyhow::Result<()> {
        self.latency_ns.sort_unstable();
        let summary = Summary {
            client,
            version: versions(libraries),
            busy_poll: self.busy_poll,
            messages: self.messages,
            bytes: self.bytes,
            events: self.events,
            echoes: self.echoes,
            stamps_ahead: self.stamps_ahead,
            latency_ns: Latency::new(&self.latency_ns),
            first_to_last_s: (self.last_ns - self.first_ns) as f64 / 1e9,
            cpu_seconds: clock_ns(ClockId::ProcessCPUTime) as f64 / 1e9,
            error: error.map(|error| format!("{error:#}")),
        };
        fs::write(&self.summary, serde_json::to_string_pretty(&summary)? + "\n")
            .with_context(|| format!("cannot write {}", self.summary.display()))
    }
}

/// A field whose number is read from the raw payload, after the clock: it is part of the measurement, not of the client.
#[derive(Debug)]
struct Field {
    key: FinderRev<'static>,
}

impl Field {
    fn new(name: &str) -> Self {
        Self { key: FinderRev::new(&format!("\"{name}\":")).into_owned() }
    }

    /// The digits behind the last occurrence: a stamp is the last field of a message, so it is found at once.
    fn number_in<'a>(&self, payload: &'a [u8]) -> Option<&'a str> {
        let number = &payload[self.key.rfind(payload)? + self.key.needle().len()..];
        let end = number.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(number.len());
        std::str::from_utf8(&number[..end]).ok().filter(|digits| !digits.is_empty())
    }
}

#[derive(Serialize)]
struct Summary {
    client: &'static str,
    version: serde_json::Value,
    busy_poll: bool,
    messages: u64,
    bytes: u64,
    events: Events,
    echoes: u64,
    stamps_ahead: u64,
    latency_ns: Option<Latency>,
    first_to_last_s: f64,
    cpu_seconds: f64,
    error: Option<String>,
}

#[derive(Serialize)]
struct Latency {
    count: u64,
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

impl Latency {
    /// `None` where nothing was measured.
    fn new(sorted: &[u64]) -> Option<Self> {
        // The nearest rank: a value that occurred, of which at least that share is not greater.
        let at = |per_mille: usize| sorted[(sorted.len() * per_mille).div_ceil(1000).max(1) - 1];
        (!sorted.is_empty()).then(|| Self {
            count: sorted.len() as u64,
            min: sorted[0],
            mean: sorted.iter().map(|&ns| ns as f64).sum::<f64>() / sorted.len() as f64,
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p999: at(999),
            max: at(1000),
        })
    }
}

/// The versions of crates, from the lock file the peer was built with. Where that has two of one name, `name@1.2` says
/// which.
pub(crate) fn versions(libraries: &[&'static str]) -> serde_json::Value {
    let mut versions = BTreeMap::new();
    let mut name = "";
    for line in include_str!("../../Cargo.lock").lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(version) = line.strip_prefix("version = ") {
            let version = version.trim_matches('"');
            let is_wanted = |library: &&&str| {
                let (wanted, prefix) = library.split_once('@').unwrap_or((library, ""));
                wanted == name && version.starts_with(prefix)
            };
            if libraries.iter().chain(&["serde_json"]).any(|library| is_wanted(&library)) {
                versions.insert(name, version);
            }
        }
    }
    serde_json::json!(versions)
}

fn clock_ns(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
