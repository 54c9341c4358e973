//! What an exchange did and saw: one report per connection, and their sum.
//!
//! What comes in are the counts of connection threads; what goes out is text for people and JSON for programs.

use std::fmt;
use std::ops::AddAssign;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::pings::PingCounts;

/// How a connection ended, as the exchange saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything was sent, and both sides closed in order.
    Completed,
    /// The exchange was stopped.
    Stopped,
    /// The client sent a close frame, with this code.
    ClosedByClient(Option<u16>),
    /// The client's stream ended, without a WebSocket close.
    EndOfStream {
        /// Whether TLS's `close_notify` came before the FIN. Always true without TLS.
        announced: bool,
    },
    /// The client reset the connection, or was gone when something was sent.
    Reset,
    /// The client refused our TLS: the name of its alert.
    Alert(String),
    /// The client broke the rules of TLS, HTTP or WebSocket.
    Misbehaved(String),
    /// The client took too long.
    TimedOut(&'static str),
    /// The fault that was asked for ended it.
    Fault,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("complete, closed in order"),
            Self::Stopped => f.write_str("the exchange was stopped"),
            Self::ClosedByClient(Some(code)) => write!(f, "closed by the client, code {code}"),
            Self::ClosedByClient(None) => f.write_str("closed by the client, no code"),
            Self::EndOfStream { announced: true } => f.write_str("the client left without a WebSocket close"),
            Self::EndOfStream { announced: false } => f.write_str("the client left without a TLS close_notify"),
            Self::Reset => f.write_str("reset by the client"),
            Self::Alert(alert) => write!(f, "TLS alert from the client: {alert}"),
            Self::Misbehaved(what) => write!(f, "the client broke a rule: {what}"),
            Self::TimedOut(what) => write!(f, "the client took too long over {what}"),
            Self::Fault => f.write_str("ended by the fault that was asked for"),
        }
    }
}

/// Frames that came from clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Text messages, whole ones.
    pub text: u64,
    /// Binary messages, whole ones.
    pub binary: u64,
    /// Pings; each was answered.
    pub ping: u64,
    /// Pongs.
    pub pong: u64,
    /// Close frames.
    pub close: u64,
}

/// What one connection, or all of them, did and saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// Connections that were accepted.
    pub connections: u64,
    /// Messages of the feed that were handed to the kernel. Answers, echoes and control frames are not among them.
    pub messages: u64,
    /// Batches they were sent in, each one write to TLS.
    pub batches: u64,
    /// Their payloads.
    pub payload_bytes: u64,
    /// Everything the sockets took, TLS and HTTP included.
    pub wire_bytes: u64,
    /// Batches whose sending began more than [`Config::late_after`](super::Config::late_after) after they were due.
    pub late: u64,
    /// Times at which the socket was full and the exchange had to wait.
    pub blocked: u64,
    /// How long after they were due batches began to be sent, in nanoseconds. Empty in a stream that has no schedule.
    pub lateness_ns: Histogram<u64>,
    /// Pings of the exchange's own.
    pub pings: PingCounts,
    /// What came from clients.
    pub received: Received,
    /// Requests that were answered.
    pub answers: u64,
    /// Messages that were sent back.
    pub echoes: u64,
    /// With `measure_echo`: from the stamp a client's message begins with to its arrival, in nanoseconds.
    pub echo_ns: Histogram<u64>,
    /// Faults that were played.
    pub faults: u64,
    /// How connections ended, in the order in which they did.
    pub endings: Vec<Ending>,
}

impl Default for Report {
    fn default() -> Self {
        // Three digits, and as far as it takes: what is out of the ordinary shall be seen, not cut off.
        let histogram = || Histogram::new(3).expect("three digits are allowed");
        Self {
            connections: 0,
            messages: 0,
            batches: 0,
            payload_bytes: 0,
            wire_bytes: 0,
            late: 0,
            blocked: 0,
            lateness_ns: histogram(),
            pings: PingCounts::default(),
            received: Received::default(),
            answers: 0,
            echoes: 0,
            echo_ns: histogram(),
            faults: 0,
            endings: Vec::new(),
        }
    }
}

impl Report {
    /// What should not have happened: wrong and missing pongs, and rules that clients broke. Empty after a good run.
    #[must_use]
    pub fn errors(&self) -> Vec<String> {
        let mut errors = Vec::new();
        if self.pings.strange > 0 {
            errors.push(format!("{} pongs carry no payload of ours", self.pings.strange));
        }
        if self.pings.missing > 0 {
            errors.push(format!("{} pings were never answered", self.pings.missing));
        }
        let wrong = |it: &&Ending| matches!(it, Ending::Misbehaved(_) | Ending::Alert(_) | Ending::TimedOut(_));
        errors.extend(self.endings.iter().filter(wrong).map(ToString::to_string));
        errors
    }

    /// The report as JSON; histograms as count, percentiles and maximum.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let endings: Vec<String> = self.endings.iter().map(ToString::to_string).collect();
        json!({
            "connections": self.connections,
            "messages": self.messages,
            "batches": self.batches,
            "payload_bytes": self.payload_bytes,
            "wire_bytes": self.wire_bytes,
            "late": self.late,
            "blocked": self.blocked,
            "lateness_ns": percentiles(&self.lateness_ns),
            "pings": {
                "sent": self.pings.sent,
                "answered": self.pings.answered,
                "overtaken": self.pings.overtaken,
                "strange": self.pings.strange,
                "missing": self.pings.missing,
            },
            "received": {
                "text": self.received.text,
                "binary": self.received.binary,
                "ping": self.received.ping,
                "pong": self.received.pong,
                "close": self.received.close,
            },
            "answers": self.answers,
            "echoes": self.echoes,
            "echo_ns": percentiles(&self.echo_ns),
            "faults": self.faults,
            "endings": endings,
            "errors": self.errors(),
        })
    }
}

impl AddAssign<&Self> for Report {
    fn add_assign(&mut self, other: &Self) {
        self.connections += other.connections;
        self.messages += other.messages;
        self.batches += other.batches;
        self.payload_bytes += other.payload_bytes;
        self.wire_bytes += other.wire_bytes;
        self.late += other.late;
        self.blocked += other.blocked;
        for (mine, theirs) in [(&mut self.lateness_ns, &other.lateness_ns), (&mut self.echo_ns, &other.echo_ns)] {
            mine.add(theirs).expect("both resize and have three digits");
        }
        self.pings.sent += other.pings.sent;
        self.pings.answered += other.pings.answered;
        self.pings.overtaken += other.pings.overtaken;
        self.pings.strange += other.pings.strange;
        self.pings.missing += other.pings.missing;
        self.received.text += other.received.text;
        self.received.binary += other.received.binary;
        self.received.ping += other.received.ping;
        self.received.pong += other.received.pong;
        self.received.close += other.received.close;
        self.answers += other.answers;
        self.echoes += other.echoes;
        self.faults += other.faults;
        self.endings.extend_from_slice(&other.endings);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} messages in {} batches, {} payload bytes, {} bytes on {} connections",
            self.messages, self.batches, self.payload_bytes, self.wire_bytes, self.connections
        )?;
        if !self.lateness_ns.is_empty() {
            writeln!(f, "begun after due: {}; {} late", told(&self.lateness_ns), self.late)?;
        }
        if self.blocked > 0 {
            writeln!(f, "the socket was full {} times", self.blocked)?;
        }
        if self.pings.sent > 0 || self.pings.strange > 0 {
            let PingCounts { sent, answered, overtaken, strange, missing } = self.pings;
            writeln!(
                f,
                "pings: {sent} sent, {answered} answered, {overtaken} overtaken, {missing} missing; {strange} strange pongs"
            )?;
        }
        let Received { text, binary, ping, pong, close } = self.received;
        writeln!(f, "received: {text} text, {binary} binary, {ping} ping, {pong} pong, {close} close")?;
        if self.answers + self.echoes > 0 {
            writeln!(f, "{} requests answered, {} messages echoed", self.answers, self.echoes)?;
        }
        if !self.echo_ns.is_empty() {
            writeln!(f, "stamp to echo: {} of {} echoes", told(&self.echo_ns), self.echo_ns.len())?;
        }
        if self.faults > 0 {
            writeln!(f, "{} faults played", self.faults)?;
        }
        for ending in &self.endings {
            writeln!(f, "a connection ended: {ending}")?;
        }
        for error in self.errors() {
            writeln!(f, "error: {error}")?;
        }
        Ok(())
    }
}

/// The percentiles that are shown, with their names.
const SHOWN: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99_9", 99.9)];

fn percentiles(histogram: &Histogram<u64>) -> Value {
    let mut value = json!({ "count": histogram.len(), "max": histogram.max() });
    for (name, percentile) in SHOWN {
        value[name] = histogram.value_at_percentile(percentile).into();
    }
    value
}

fn told(histogram: &Histogram<u64>) -> String {
    let us = |ns: u64| format!("{:.1} us", ns as f64 / 1000.0);
    let shown = SHOWN.map(|(name, percentile)| {
        format!("{} {}", name.replace('_', "."), us(histogram.value_at_percentile(percentile)))
    });
    format!("{}, max {}", shown.join(", "), us(histogram.max()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_add_up() {
        let mut one = Report { connections: 1, messages: 5, ..Report::default() };
        one.lateness_ns.record(10).unwrap();
        one.endings.push(Ending::Completed);
        let mut sum = Report::default();
        sum += &one;
        sum += &one;
        assert_eq!((sum.connections, sum.messages, sum.lateness_ns.len(), sum.endings.len()), (2, 10, 2, 2));
        assert_eq!(sum.to_json()["lateness_ns"]["p50"], 10);
        assert!(sum.errors().is_empty());
    }

    #[test]
    fn what_should_not_have_happened_is_an_error() {
        let report = Report {
            pings: PingCounts { strange: 1, missing: 2, ..PingCounts::default() },
            endings: vec![Ending::Reset, Ending::Misbehaved("an unmasked frame".into())],
            ..Report::default()
        };
        assert_eq!(report.errors().len(), 3, "a client may vanish, but not misbehave");
        assert!(report.to_string().contains("error: 2 pings were never answered"));
    }
}
