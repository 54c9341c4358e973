//! One direction of a wire: what is on it, what is held back, and when each frame leaves.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::counters::Counters;
use super::plan::Rate;
use super::segment::Segment;

/// How long a segment waits for the one it is to be joined with.
///
/// 1 ms: longer than two segments of one write are apart, and shorter than any acknowledgement is delayed.
const JOINING: Duration = Duration::from_millis(1);

/// A frame that is not lost, and what is yet to happen to it.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    /// What is in it; `None` where that is no segment, or a broken one.
    pub(super) segment: Option<Segment>,
    pub(super) delay: Duration,
    /// How many others overtake it, and for how long it waits for them.
    pub(super) hold: Option<(u32, Duration)>,
    /// Whether it waits for the next.
    pub(super) join: bool,
    pub(super) rate: Option<Rate>,
    pub(super) overtaking: bool,
}

/// A frame that others overtake.
#[derive(Clone, Debug)]
struct Held {
    frame: Frame,
    /// How many are yet to pass.
    others: u32,
    until: Duration,
}

/// A frame that leaves at a time, behind those that were put there before.
#[derive(Clone, Debug)]
struct Departure {
    due: Duration,
    ticket: u64,
    bytes: Vec<u8>,
    segment: Option<Segment>,
}

impl PartialEq for Departure {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Departure {}

impl PartialOrd for Departure {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Departure {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.ticket).cmp(&(other.due, other.ticket))
    }
}

/// One direction.
#[derive(Clone, Debug, Default)]
pub(super) struct Way {
    /// The number of the next frame.
    pub(super) number: u64,
    pub(super) in_burst: bool,
    pub(super) cut_until: Duration,
    pub(super) counters: Counters,
    joining: Option<(Frame, Duration)>,
    held: Vec<Held>,
    departures: BinaryHeap<Reverse<Departure>>,
    tickets: u64,
    /// When the last of those that keep their order leaves.
    last_due: Duration,
    /// When the bandwidth is free again.
    free_at: Duration,
}

impl Way {
    /// Frames that have come and not left.
    pub(super) fn waiting(&self) -> usize {
        self.departures.len() + self.held.len() + usize::from(self.joining.is_some())
    }

    /// Sends a frame at once, past everything else.
    pub(super) fn pass(&mut self, now: Duration, bytes: Vec<u8>) {
        self.depart(now, bytes, None);
    }

    fn depart(&mut self, due: Duration, bytes: Vec<u8>, segment: Option<Segment>) {
        self.tickets += 1;
        self.departures.push(Reverse(Departure { due, ticket: self.tickets, bytes, segment }));
    }

    /// Takes a frame: joins it with the one that waits for it, or makes it wait for the next.
    pub(super) fn take(&mut self, now: Duration, mut frame: Frame, mtu: usize) {
        if let Some((first, _)) = self.joining.take() {
            let joined = match (&first.segment, &frame.segment) {
                (Some(segment), Some(next)) => segment.join(&first.bytes, next, &frame.bytes, mtu),
                _ => None,
            };
            if let Some(bytes) = joined {
                self.counters.joined += 1;
                frame.segment = Segment::of(&bytes);
                frame.bytes = bytes;
            } else {
                self.hold(now, first);
            }
        }
        if frame.join && frame.segment.is_some() {
            self.joining = Some((frame, now + JOINING));
        } else {
            self.hold(now, frame);
        }
    }

    /// Holds a frame back if that is its fate; otherwise sends it, and with it those that it was the last to overtake.
    fn hold(&mut self, now: Duration, mut frame: Frame) {
        if let Some((others, time)) = frame.hold.take() {
            self.held.push(Held { frame, others, until: now + time });
            return;
        }
        self.schedule(now, frame);
        // Each that goes on is one more that has overtaken the rest.
        while !self.held.is_empty() {
            for held in &mut self.held {
                held.others = held.others.saturating_sub(1);
            }
            let Some(free) = self.held.iter().position(|held| held.others == 0) else { break };
            let free = self.held.remove(free);
            self.schedule(now, free.frame);
        }
    }

    fn schedule(&mut self, now: Duration, frame: Frame) {
        let mut due = now;
        if let Some(rate) = frame.rate {
            let bytes_per_second = rate.bytes_per_second.max(1);
            let waiting = self.free_at.saturating_sub(now).as_nanos() * u128::from(bytes_per_second) / 1_000_000_000;
            if waiting > u128::from(rate.queue_bytes) {
                self.counters.over_rate += 1;
                return;
            }
            let nanos = frame.bytes.len() as u64 * 1_000_000_000 / bytes_per_second;
            self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
            due = self.free_at;
        }
        due += frame.delay;
        if !frame.overtaking {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        self.depart(due, frame.bytes, frame.segment);
    }

    /// Lets go of what has waited long enough. Answers when the next frame is due.
    pub(super) fn release(&mut self, now: Duration) -> Option<Duration> {
        if let Some((frame, until)) = self.joining.take_if(|(_, until)| *until <= now) {
            self.hold(until, frame);
        }
        if self.held.iter().any(|held| held.until <= now) {
            for held in self.held.extract_if(.., |held| held.until <= now).collect::<Vec<_>>() {
                self.schedule(held.until, held.frame);
            }
        }
        self.departures.peek().map(|Reverse(departure)| departure.due)
    }

    /// The frame that is due next.
    pub(super) fn next(&mut self) -> Option<(Vec<u8>, Option<Segment>)> {
        self.departures.pop().map(|Reverse(departure)| (departure.bytes, departure.segment))
    }

    /// When there is something to do, at the earliest.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let departure = self.departures.peek().map(|Reverse(departure)| departure.due);
        let held = self.held.iter().map(|held| held.until).min();
        let joining = self.joining.as_ref().map(|(_, until)| *until);
        [departure, held, joining].into_iter().flatten().min()
    }
}
