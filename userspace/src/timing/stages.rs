//! A histogram for each stage.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Nic, Timeline};
use crate::floor::Time;

/// The longest time that is told apart: a second. What takes longer counts as that.
const LONGEST_NS: u64 = 1_000_000_000;

/// A stretch of a message's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the sender's stamp to the XDP program (without one: to where we took it): the sender, the wire, the driver.
    Before,
    /// From the XDP program to where the frame was taken from the ring.
    Ring,
    /// From there to where its bytes were next in the stream: headers, checksum, TCP.
    Order,
    /// From there to where its record was opened: TLS.
    Open,
    /// From there, or from the end of the message before it in the same record, to where the message was found.
    Find,
    /// From there to the event: JSON. The handler's look at the payload is in it.
    Decode,
    /// The handler.
    Handle,
    /// From where the frame was taken to the event.
    TakenToEvent,
    /// From the XDP program to the event.
    ArrivedToEvent,
    /// From the sender's stamp to the event.
    SentToEvent,
    /// From the XDP program to the transmit descriptor of what the handler answered: our part of tick-to-trade.
    ArrivedToSent,
}

impl Stage {
    /// All of them, in the order of the way; sums last.
    pub const ALL: [Self; 11] = [
        Self::Before,
        Self::Ring,
        Self::Order,
        Self::Open,
        Self::Find,
        Self::Decode,
        Self::Handle,
        Self::TakenToEvent,
        Self::ArrivedToEvent,
        Self::SentToEvent,
        Self::ArrivedToSent,
    ];

    /// The name in tables and summaries.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Ring => "ring",
            Self::Order => "order",
            Self::Open => "open",
            Self::Find => "find",
            Self::Decode => "decode",
            Self::Handle => "handle",
            Self::TakenToEvent => "taken_to_event",
            Self::ArrivedToEvent => "arrived_to_event",
            Self::SentToEvent => "sent_to_event",
            Self::ArrivedToSent => "arrived_to_sent",
        }
    }
}

/// The time that messages spent in each stage, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Stages {
    histograms: Vec<Histogram<u64>>,
    /// Times at which our own thread did not run although it had nothing to wait for.
    pub stalls: u64,
    /// How long that was, all told.
    pub stalled: Duration,
    /// What the NIC said of frames.
    pub nic: Nic,
}

impl Default for Stages {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_NS, 2).expect("the bounds are in order");
        let histograms = Stage::ALL.iter().map(|_| histogram()).collect();
        Self { histograms, stalls: 0, stalled: Duration::ZERO, nic: Nic::default() }
    }
}

impl Stages {
    /// The times of one stage; empty where a moment it needs was never known.
    #[must_use]
    pub fn of(&self, stage: Stage) -> &Histogram<u64> {
        &self.histograms[stage as usize]
    }

    /// Records one stretch.
    pub(super) fn note(&mut self, stage: Stage, from: Time, to: Time) {
        let ns = u64::try_from(to.since(from).as_nanos()).unwrap_or(LONGEST_NS);
        self.histograms[stage as usize].saturating_record(ns);
    }

    pub(super) fn record(&mut self, line: &Timeline) {
        let mut note = |stage, from: Option<Time>, to| {
            if let Some(from) = from {
                self.note(stage, from, to);
            }
        };
        note(Stage::Before, line.sent, line.arrived.unwrap_or(line.taken));
        // Of messages that share a frame only the first waited for it.
        if line.ahead_in_record == 0 {
            note(Stage::Ring, line.arrived, line.taken);
            note(Stage::Order, Some(line.taken), line.ordered);
            note(Stage::Open, Some(line.ordered), line.opened);
        }
        note(Stage::Find, Some(line.find_from()), line.found);
        note(Stage::Decode, Some(line.found), line.decoded);
        note(Stage::Handle, Some(line.decoded), line.handled);
        note(Stage::TakenToEvent, Some(line.taken), line.decoded);
        note(Stage::ArrivedToEvent, line.arrived, line.decoded);
        note(Stage::SentToEvent, line.sent, line.decoded);
    }
}
