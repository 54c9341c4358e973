//! Where messages come from, in batches of frames that are ready to be sent.
//!
//! What comes in is a recording or a synthetic plan; what goes out is a [`Batch`]: WebSocket frames in one piece of
//! memory, and the places in it where stamps go. A recording is encoded once, for all clients; while it is sent, its
//! frames are only copied.

use std::sync::Arc;

use crate::feeds::Recording;

use super::frames;
use super::stamp::{STAMP_BYTES, StampField, stamp};
use super::streams::Streams;
use super::synthetic::Synthetic;

/// Frames that are sent together.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// The frames, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Where the digits of each stamp begin.
    stamps: Vec<usize>,
    /// How many frames there are.
    pub(super) messages: u64,
    /// Their payloads, all together.
    pub(super) payload_bytes: u64,
    /// How long after the first message of the recording the first of these arrived.
    pub(super) recorded_ns: u64,
}

impl Batch {
    /// Puts the present moment into every stamp.
    pub(super) fn stamp(&mut self, now_ns: u64) {
        if self.stamps.is_empty() {
            return;
        }
        let stamp = stamp(now_ns);
        for &at in &self.stamps {
            self.bytes[at..at + STAMP_BYTES].copy_from_slice(&stamp);
        }
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.stamps.clear();
        (self.messages, self.payload_bytes) = (0, 0);
    }
}

/// A recording as frames.
#[derive(Debug)]
pub(super) struct Script {
    bytes: Vec<u8>,
    frames: Vec<Encoded>,
    /// When each message arrived, after the first. Empty where that was not recorded.
    recorded_ns: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Encoded {
    /// Where the frame ends; the one before ends where it begins.
    end: usize,
    payload_bytes: usize,
    /// Where the digits of the stamp begin, after the start of the frame; `None` where the message has none.
    stamp: Option<usize>,
}

impl Script {
    /// Encodes a recording, each line one text message. The last of every `stamp_every` lines gets the field.
    pub(super) fn new(recording: &Recording, field: Option<&StampField>, stamp_every: u64) -> Result<Self, String> {
        if recording.messages.is_empty() {
            return Err("there is no message in the recording".into());
        }
        let mut script = Self { bytes: Vec::new(), frames: Vec::new(), recorded_ns: Vec::new() };
        for (index, line) in recording.messages.iter().enumerate() {
            let refuse = |problem| format!("line {} cannot be sent: {problem}", index + 1);
            // A client must fail the connection over a text message that is not UTF-8, and over nothing at all a JSON
            // reader would stumble: neither is what somebody wants who replays a file.
            if line.is_empty() {
                return Err(refuse("it is empty"));
            }
            if std::str::from_utf8(line).is_err() {
                return Err(refuse("it is not UTF-8"));
            }
            let open = frames::begin(&mut script.bytes);
            let start = script.bytes.len();
            script.bytes.extend_from_slice(line);
            let field = field.filter(|_| is_stamped(index as u64, stamp_every));
            let digits = field.map(|field| field.append(&mut script.bytes, start)).transpose().map_err(refuse)?;
            let payload = frames::finish(&mut script.bytes, &open, frames::TEXT);
            script.frames.push(Encoded {
                end: script.bytes.len(),
                payload_bytes: payload.len(),
                // The header may have got another length than was reserved: what lies in the payload moved with it.
                stamp: digits.map(|digits| digits - start + payload.start),
            });
        }
        if let Some(arrivals) = &recording.arrivals {
            // Where the collector's clock was set back, messages follow each other at once.
            let mut latest = arrivals.first().copied().unwrap_or(0);
            let first = latest;
            script.recorded_ns.extend(arrivals.iter().map(|&arrival| {
                latest = latest.max(arrival);
                latest - first
            }));
        }
        Ok(script)
    }

    /// How many messages there are.
    pub(super) const fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether the times are known at which messages arrived.
    pub(super) const fn has_times(&self) -> bool {
        !self.recorded_ns.is_empty()
    }
}

/// One client's place in the stream of messages.
#[derive(Debug)]
pub(super) enum Source {
    /// There are no messages of the exchange's own.
    Nothing,
    /// The recording, from its first message on and then again.
    Replay {
        /// What is sent.
        script: Arc<Script>,
        /// The message that comes next.
        next: usize,
        /// What was sent of it, all rounds before this one: nanoseconds of recorded time.
        rounds_ns: u64,
    },
    /// A market of its own.
    Synthetic {
        /// The generator.
        synthetic: Box<Synthetic>,
        /// What is added to the last of every so many messages.
        field: Option<StampField>,
        /// How many.
        stamp_every: u64,
        /// Messages made so far.
        made: u64,
    },
}

/// Whether the message with this number, from 0, is the last of `every`.
const fn is_stamped(index: u64, every: u64) -> bool {
    (index + 1).is_multiple_of(every)
}

impl Source {
    /// Fills the batch with the next `count` messages that the client wants. Answers whether there are any.
    pub(super) fn fill(&mut self, batch: &mut Batch, streams: &Streams, count: usize) -> bool {
        batch.clear();
        match self {
            Self::Nothing => false,
            Self::Replay { script, next, rounds_ns } => {
                batch.recorded_ns = *rounds_ns + script.recorded_ns.get(*next).copied().unwrap_or(0);
                for _ in 0..count {
                    let frame = script.frames[*next];
                    let start = if *next == 0 { 0 } else { script.frames[*next - 1].end };
                    if let Some(stamp) = frame.stamp {
                        batch.stamps.push(batch.bytes.len() + stamp - start);
                    }
                    batch.bytes.extend_from_slice(&script.bytes[start..frame.end]);
                    batch.messages += 1;
                    batch.payload_bytes += frame.payload_bytes as u64;
                    *next += 1;
                    if *next == script.len() {
                        *next = 0;
                        *rounds_ns += script.recorded_ns.last().copied().unwrap_or(0);
                    }
                }
                true
            }
            Self::Synthetic { synthetic, field, stamp_every, made } => {
                for _ in 0..count {
                    let open = frames::begin(&mut batch.bytes);
                    let start = batch.bytes.len();
                    if !synthetic.next(streams, &mut batch.bytes) {
                        batch.bytes.clear();
                        return false;
                    }
                    let field = field.as_ref().filter(|_| is_stamped(*made, *stamp_every));
                    let digits = field.map(|field| field.append(&mut batch.bytes, start));
                    *made += 1;
                    let payload = frames::finish(&mut batch.bytes, &open, frames::TEXT);
                    if let Some(Ok(digits)) = digits {
                        batch.stamps.push(digits - start + payload.start);
                    }
                    batch.messages += 1;
                    batch.payload_bytes += payload.len() as u64;
                }
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeds::Lines;

    fn recording(text: &str, arrivals: Option<Vec<u64>>) -> Recording {
        Recording { messages: Lines::new(text.as_bytes().to_vec()), arrivals }
    }

    fn replay(recording: &Recording, field: Option<&StampField>) -> Source {
        let script = Arc::new(Script::new(recording, field, 1).unwrap());
        Source::Replay { script, next: 0, rounds_ns: 0 }
    }

    #[test]
    fn a_recording_is_sent_line_by_line_and_then_again() {
        let long = format!("{{\"x\":\"{}\"}}", "é".repeat(70));
        let mut source = replay(&recording(&format!("{{\"a\":1}}\n{long}\n[]\n"), None), None);
        let streams = Streams::new(&[], "/ws");
        let mut batch = Batch::default();
        assert!(source.fill(&mut batch, &streams, 4));
        let mut expected = Vec::new();
        for line in ["{\"a\":1}", &long, "[]", "{\"a\":1}"] {
            frames::push(&mut expected, frames::TEXT, line.as_bytes());
        }
        assert_eq!(batch.bytes, expected);
        assert_eq!((batch.messages, batch.payload_bytes), (4, 7 + long.len() as u64 + 2 + 7));
        assert!(source.fill(&mut batch, &streams, 1));
        assert!(batch.bytes.ends_with(long.as_bytes()), "it goes on where the last batch ended");
    }

    #[test]
    fn stamps_are_found_whatever_length_the_header_has() {
        let field = StampField::new("n").unwrap();
        let lines = ["{}".to_owned(), format!("{{\"x\":\"{}\"}}", "x".repeat(85)), "{\"y\":0}".to_owned()];
        let long = format!("{{\"z\":\"{}\"}}", "z".repeat(70_000));
        let mut source = replay(&recording(&format!("{}\n{long}\n", lines.join("\n")), None), Some(&field));
        let mut batch = Batch::default();
        assert!(source.fill(&mut batch, &Streams::new(&[], "/ws"), 4));
        let length = batch.bytes.len();
        batch.stamp(1_234_567);
        assert_eq!(batch.bytes.len(), length);
        let text = String::from_utf8_lossy(&batch.bytes);
        assert_eq!(text.matches("\"n\":1234567            }").count(), 4);
    }

    #[test]
    fn only_the_last_of_so_many_is_stamped_if_that_is_wanted() {
        let field = StampField::new("n").unwrap();
        let script = Script::new(&recording("{}\n{}\n{}\n{}\n{}\n{}\n", None), Some(&field), 3).unwrap();
        let replay = Source::Replay { script: Arc::new(script), next: 0, rounds_ns: 0 };
        let synthetic = Source::Synthetic {
            synthetic: Box::new(Synthetic::new(&super::super::SyntheticPlan::default())),
            field: Some(field),
            stamp_every: 3,
            made: 0,
        };
        for mut source in [replay, synthetic] {
            let streams = Streams::new(&["BTCUSDT".into()], "/ws");
            let mut batch = Batch::default();
            let stamps: Vec<usize> = (0..7)
                .map(|_| {
                    source.fill(&mut batch, &streams, 1);
                    batch.stamps.len()
                })
                .collect();
            assert_eq!(stamps, [0, 0, 1, 0, 0, 1, 0]);
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_message_overtake() {
        let script = Script::new(&recording("1\n2\n3\n4\n", Some(vec![100, 300, 200, 500])), None, 1).unwrap();
        assert_eq!(script.recorded_ns, [0, 200, 200, 400]);
        let mut source = Source::Replay { script: Arc::new(script), next: 0, rounds_ns: 0 };
        let mut batch = Batch::default();
        let times: Vec<u64> = (0..6)
            .map(|_| {
                source.fill(&mut batch, &Streams::new(&[], "/ws"), 1);
                batch.recorded_ns
            })
            .collect();
        assert_eq!(times, [0, 200, 200, 400, 400, 600], "the second round follows the first");
    }

    #[test]
    fn lines_that_cannot_be_sent_are_named() {
        let told = |text: &[u8], field: Option<&StampField>| {
            let recording = Recording { messages: Lines::new(text.to_vec()), arrivals: None };
            Script::new(&recording, field, 1).unwrap_err()
        };
        let field = StampField::new("n").unwrap();
        assert_eq!(told(b"{}\n\n{}", None), "line 2 cannot be sent: it is empty");
        assert_eq!(told(b"{}\n\xff\n", None), "line 2 cannot be sent: it is not UTF-8");
        assert!(told(b"{}\n[1]\n", Some(&field)).starts_with("line 2 cannot be sent: not a JSON object"));
        assert_eq!(told(b"", None), "there is no message in the recording");
    }
}
