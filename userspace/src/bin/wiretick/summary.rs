//! The closing figures, for people and for programs: one structure, shown as a table and written as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use wiretick::control::attach::AsksNic;
use wiretick::feed::{LegReport, Move, Report};
use wiretick::floor::counters::Counters;
use wiretick::floor::{SystemClock, process_cpu};
use wiretick::lane::Outcome;
use wiretick::timing::{Nic, NicCounters, Quantiles, Stage, Stages};
use wiretick_xdp::Verdict;

use crate::compare::Comparison;
use crate::exit::Failure;
use crate::output::Output;

/// Everything `--summary` writes. Field names are part of the interface.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) version: &'static str,
    /// The mode in effect, not the one asked for.
    pub(crate) mode: String,
    pub(crate) setup: String,
    pub(crate) interface: String,
    /// The queue that is sent over, and received from.
    pub(crate) queue: u32,
    /// All queues that are received from; that one comes first.
    pub(crate) queues: Vec<u32>,
    /// Whether the frames lie in huge pages.
    pub(crate) huge_pages: bool,
    /// Better modes, and why they are not in effect.
    pub(crate) refused_modes: BTreeMap<String, String>,
    pub(crate) steering: Steering,
    pub(crate) tls: Option<String>,
    pub(crate) duration_s: f64,
    /// From the arrival of the first message to that of the last.
    pub(crate) first_to_last_s: Option<f64>,
    pub(crate) cpu_seconds: f64,
    pub(crate) messages: u64,
    pub(crate) payload_bytes: u64,
    /// Events by type.
    pub(crate) events: BTreeMap<String, u64>,
    pub(crate) gaps: u64,
    /// Messages whose bytes were never copied before the handler saw them.
    pub(crate) messages_in_place: u64,
    pub(crate) records: Records,
    /// The connections there were at the end, oldest first.
    pub(crate) connections: Vec<Leg>,
    /// Connections made after the first.
    pub(crate) reconnects: u64,
    /// Connections that were left for a successor.
    pub(crate) replaced: u64,
    /// Times at which no connection was left.
    pub(crate) interruptions: u64,
    pub(crate) handover_us: Vec<f64>,
    /// Every change of the mode.
    pub(crate) moves: Vec<Moved>,
    /// Times the next hop changed its MAC address.
    pub(crate) readdressed: u64,
    /// The process that has the connection now (`--succession`).
    pub(crate) successor: Option<i32>,
    /// Frames that reached the ring when their flow was the kernel's already, and were passed on.
    pub(crate) frames_passed: u64,
    /// Nanoseconds from the sender's stamp to the handler.
    pub(crate) latency_ns: Option<Quantiles>,
    pub(crate) stamps_ahead: u64,
    /// Messages answered with their number (`--echo-field`).
    pub(crate) echoes: u64,
    /// Nanoseconds in each stage (`--stages`).
    pub(crate) stages_ns: Option<BTreeMap<String, Quantiles>>,
    /// What the NIC itself says of frames (`--stages`).
    pub(crate) hardware: Option<Hardware>,
    /// Times at which the spinning thread did not run, and how long, all told.
    pub(crate) stalls: Option<(u64, f64)>,
    /// What was dropped, refused or not used, by reason; only what is not zero.
    pub(crate) drops: BTreeMap<String, u64>,
    /// Every counter that is not zero, by stage.
    pub(crate) counters: BTreeMap<String, BTreeMap<String, u64>>,
    pub(crate) end: String,
    /// The same feed on a kernel connection (`--compare`); everything else is of the bypassed connection, but
    /// `cpu_seconds` is of both.
    pub(crate) compare: Option<Comparison>,
}

/// How often is in `counters.nic`.
#[derive(Debug, Serialize)]
pub(crate) struct Hardware {
    /// Whether the XDP program asks the NIC.
    pub(crate) asked: bool,
    /// Why not.
    pub(crate) reason: Option<String>,
    /// Frames with the NIC's time, out of all of which it was asked.
    pub(crate) times: u64,
    pub(crate) frames: u64,
    /// In the others, what there was instead.
    pub(crate) without: String,
    /// The clock that the NIC's times are of.
    pub(crate) clock: String,
    /// The clock of the machine's that it is near, and how far it is ahead of that.
    pub(crate) near: Option<String>,
    pub(crate) ahead_ns: Option<i64>,
    /// How much faster than `CLOCK_MONOTONIC` it goes, in millionths.
    pub(crate) fast_ppm: Option<f64>,
}

/// What brought the connections to the queue; each one's is in `connections`.
#[derive(Debug, Serialize)]
pub(crate) struct Steering {
    pub(crate) wanted: String,
    /// What cannot be had, or has turned out not to work, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Leg {
    pub(crate) connection: usize,
    pub(crate) local: String,
    pub(crate) remote: String,
    pub(crate) mode: String,
    /// `ntuple`, `port`, or nothing.
    pub(crate) steered_by: Option<String>,
    pub(crate) steering: String,
    /// Messages that came over it, and those of them that came over it first.
    pub(crate) messages: Option<u64>,
    pub(crate) first: Option<u64>,
    /// Events that were further behind the venue's clock than `--max-lag`.
    pub(crate) late: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Moved {
    pub(crate) connection: usize,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) reason: String,
    pub(crate) took_us: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Records {
    pub(crate) in_place: u64,
    pub(crate) joined: u64,
}

/// Counters that stand for something that was dropped, refused or had to be done again: the ones to look at first.
const DROPS: &[(&str, &[&str])] = &[
    (
        "ring",
        &[
            "descriptors_refused",
            "joins_exhausted",
            "joins_too_long",
            "receive_ring_full",
            "fill_ring_empty",
            "receive_dropped",
            "transmit_refused",
            "transmit_exhausted",
        ],
    ),
    ("lane", &["frames_unknown", "frames_foreign", "frames_malformed"]),
    (
        "tcp",
        &[
            "acks_refused",
            "resets_challenged",
            "resets_outside_window",
            "syns_challenged",
            "beyond_window",
            "without_ack",
            "outdated",
            "segments_duplicate",
            "holes_exhausted",
            "after_end",
            "segments_resent",
            "too_big_refused",
            "send_no_frame",
        ],
    ),
    ("xdp", &["no_socket"]),
];

impl Summary {
    pub(crate) fn new(
        report: &Report,
        output: &Output,
        stages: Option<&Stages>,
        result: Result<&Outcome, &Failure>,
        duration: Duration,
    ) -> Self {
        let connection = &report.connection;
        let mut counters = BTreeMap::new();
        let mut add = |stage: &str, group: &dyn Counters| {
            let found: BTreeMap<_, _> = group.nonzero().into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
            if !found.is_empty() {
                counters.insert(stage.to_owned(), found);
            }
        };
        add("lane", &report.lane);
        add("tcp", &connection.tcp);
        add("path", &connection.path.path);
        add("records_received", &connection.path.opener);
        add("records_sent", &connection.path.sealer);
        add("messages", &connection.path.messages);
        add("events", &connection.path.events);
        add("direct_decoding", &connection.path.direct);
        if let Some(ring) = &report.ring {
            add("ring", ring);
        }
        if let Some(stages) = stages {
            add("nic", &stages.nic.counters);
        }
        let mut xdp = BTreeMap::new();
        for (queue, tally) in &report.verdicts {
            for (verdict, n) in tally.iter().filter(|(_, n)| *n != 0) {
                *xdp.entry(verdict.name().to_owned()).or_insert(0) += n;
                if verdict == Verdict::NoSocket || (verdict == Verdict::Redirected && report.queues.len() > 1) {
                    *xdp.entry(format!("{}_queue_{queue}", verdict.name())).or_insert(0) += n;
                }
            }
        }
        if !xdp.is_empty() {
            counters.insert("xdp".to_owned(), xdp);
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            mode: report.mode.to_string(),
            setup: format!("{:?}", report.setup).to_lowercase(),
            interface: report.interface.clone(),
            queue: report.queue,
            queues: report.queues.clone(),
            huge_pages: report.huge_pages,
            refused_modes: report.refusals.iter().cloned().collect(),
            steering: Steering {
                wanted: report.steering.wanted.to_string(),
                refused: report
                    .steering
                    .refusals
                    .iter()
                    .map(|(means, reason)| (means.to_string(), reason.clone()))
                    .collect(),
            },
            tls: report.tls.map(|facts| format!("{} {}", facts.version, facts.suite)),
            duration_s: duration.as_secs_f64(),
            first_to_last_s: output.arrived.map(|(first, last)| last.since(first).as_secs_f64()),
            cpu_seconds: process_cpu().as_secs_f64(),
            messages: output.messages,
            payload_bytes: output.bytes,
            events: counters.get("events").cloned().unwrap_or_default(),
            gaps: output.gaps,
            messages_in_place: output.in_place,
            records: Records {
                in_place: connection.path.opener.records_in_place,
                joined: connection.path.opener.records_joined,
            },
            connections: report.legs.iter().map(Leg::of).collect(),
            reconnects: report.reconnects,
            replaced: report.replaced,
            interruptions: output.interruptions,
            handover_us: connection.handovers.iter().map(|handover| handover.took.as_secs_f64() * 1e6).collect(),
            moves: report.moves.iter().map(Moved::of).collect(),
            readdressed: report.readdressed,
            successor: report.successor,
            frames_passed: connection.frames_passed,
            latency_ns: Quantiles::of(&output.latency_ns),
            stamps_ahead: output.stamps_ahead,
            echoes: output.echoes,
            stages_ns: stages.map(|stages| {
                let named = |stage: &Stage| Some((stage.name().to_owned(), Quantiles::of(stages.of(*stage))?));
                Stage::ALL.iter().filter_map(named).collect()
            }),
            hardware: stages.and_then(|stages| Hardware::of(report, &stages.nic)),
            stalls: stages.map(|stages| (stages.stalls, stages.stalled.as_secs_f64())),
            drops: drops(&counters),
            counters,
            end: end(result),
            compare: None,
        }
    }
}

impl Hardware {
    /// `None` where no program was wanted that could ask.
    fn of(report: &Report, nic: &Nic) -> Option<Self> {
        let reason = match &report.asks_nic {
            AsksNic::NotWanted => return None,
            AsksNic::Yes => None,
            AsksNic::No(reason) => Some(reason.clone()),
        };
        let near = nic.near(&SystemClock::all());
        let NicCounters { time_zero, time_absent, time_unsupported, time_failed, .. } = nic.counters;
        const REMEDY: &str = " (is it switched on? hwstamp_ctl -r 1)";
        let without = [
            (time_zero, "zero", REMEDY),
            (time_absent, "absent", REMEDY),
            (time_unsupported, "not supported by the driver", ""),
            (time_failed, "refused with another error", ""),
        ];
        let without = without.iter().filter(|(n, ..)| *n != 0);
        let without: Vec<_> = without.map(|(n, what, remedy)| format!("{what} in {n}{remedy}")).collect();
        Some(Self {
            asked: reason.is_none(),
            reason,
            times: nic.counters.time_known,
            frames: nic.counters.frames,
            without: without.join(", "),
            clock: match report.ptp_clock {
                Some(number) => format!("the NIC's, /dev/ptp{number}"),
                None => "the NIC's, which has no device".to_owned(),
            },
            near: near.map(|(clock, _)| clock.to_string()),
            ahead_ns: near.map(|(_, ahead)| ahead),
            fast_ppm: nic.fast_ppm(),
        })
    }

    /// In words.
    pub(crate) fn in_words(&self) -> String {
        let Self { reason, times, frames, without, clock, near, ahead_ns, fast_ppm, .. } = self;
        if let Some(reason) = reason {
            return format!("none: {reason}");
        }
        if *times == 0 {
            return format!("none of {frames} frames: {without}");
        }
        let mut words = format!("{times} of {frames} frames, on {clock}");
        if !without.is_empty() {
            words.push_str(&format!("; {without}"));
        }
        if let (Some(near), Some(ahead)) = (near, ahead_ns) {
            words.push_str(&format!("; {} us ahead of {near}", *ahead / 1_000));
        }
        if let Some(ppm) = fast_ppm {
            words.push_str(&format!("; {ppm:+.1} ppm against CLOCK_MONOTONIC"));
        }
        words
    }
}

impl Leg {
    fn of(leg: &LegReport) -> Self {
        Self {
            connection: leg.place,
            local: leg.tuple.local.to_string(),
            remote: leg.tuple.remote.to_string(),
            mode: leg.mode.to_string(),
            steered_by: leg.steered_by.map(|means| means.to_string()),
            steering: leg.steering.clone(),
            messages: leg.share.map(|share| share.messages),
            first: leg.share.map(|share| share.first),
            late: leg.late,
        }
    }
}

impl Moved {
    fn of(change: &Move) -> Self {
        let Move { connection, from, to, reason, took, .. } = change;
        let took_us = took.as_secs_f64() * 1e6;
        Self { connection: *connection, from: from.to_string(), to: to.to_string(), reason: reason.clone(), took_us }
    }
}

/// How a connection ended, in a few words.
pub(crate) fn end(result: Result<&Outcome, &Failure>) -> String {
    match result {
        Ok(Outcome { code: Some(code), reason }) if reason.is_empty() => format!("closed, code {code}"),
        Ok(Outcome { code: Some(code), reason }) => format!("closed, code {code}: {}", reason.escape_debug()),
        Ok(Outcome { code: None, reason }) if reason.is_empty() => "closed".to_owned(),
        // To a successor: the peer has not been told anything.
        Ok(Outcome { code: None, reason }) => reason.clone(),
        Err(error) => error.to_string(),
    }
}

fn drops(counters: &BTreeMap<String, BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut drops = BTreeMap::new();
    for (stage, names) in DROPS {
        for name in *names {
            if let Some(n) = counters.get(*stage).and_then(|group| group.get(*name)) {
                drops.insert(format!("{stage}.{name}"), *n);
            }
        }
    }
    drops
}
