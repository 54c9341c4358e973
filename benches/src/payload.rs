//! Messages: trades that are made up, and parts of a capture.
//!
//! What comes in is a capture, or nothing; what goes out are recordings for the exchange. A part that is sent several times
//! has its numbers carried on from one time to the next, so that a client which checks them finds no gap.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use wiretick_testbed::feeds::{Error, Feeds, Lines, Recording};

/// The capture that loads are cut out of.
const CAPTURE: &str = "BINANCE-spot-btcusdt-mixed";

/// The capture with the largest message there is, Coinbase's snapshot of a book of 5 MB.
const WITH_SNAPSHOT: &str = "COINBASE-advanced-mixed";

/// The span whose messages make a burst, and the time from one burst to the next: five times as long, so that every client
/// is idle again.
const BURST: Duration = Duration::from_millis(10);
pub(crate) const BURST_CYCLE: Duration = Duration::from_millis(50);

/// Trades made up for one recording: 13 MB, which is more than a core's own cache and therefore read as a stream, as a
/// feed that never repeats would be.
const TRADES: u64 = 100_000;

/// Trades in the shape of Binance's spot streams, 134 or 135 bytes each: those of the synthetic feed without their stamp.
pub(crate) fn trades() -> Arc<Recording> {
    let mut text = String::new();
    for n in 0..TRADES {
        // Multipliers without a common divisor with the modulus: prices and quantities wander, and do not repeat soon.
        let (cents, lots) = (6_150_000 + n * 7919 % 50_000, 1 + n * 104_729 % 350_000);
        let _ = writeln!(
            text,
            "{{\"e\":\"trade\",\"E\":{},\"s\":\"BTCUSDT\",\"t\":{},\"p\":\"{}.{:02}000000\",\"q\":\"{}.{:05}000\",\"T\":{},\
             \"m\":{},\"M\":true}}",
            1_700_000_000_000 + n,
            3_700_000_000 + n,
            cents / 100,
            cents % 100,
            lots / 100_000,
            lots % 100_000,
            1_700_000_000_000 + n - 1,
            n % 3 == 0,
        );
    }
    Arc::new(Recording { messages: Lines::new(text.into_bytes()), arrivals: None })
}

/// The largest message of all captures, alone.
pub(crate) fn snapshot() -> Result<Recording, Error> {
    Ok(largest(&Feeds::find()?.recording(WITH_SNAPSHOT)?))
}

fn largest(recording: &Recording) -> Recording {
    let largest = recording.messages.iter().max_by_key(|line| line.len()).unwrap_or_default();
    Recording { messages: Lines::new(largest.to_vec()), arrivals: None }
}

/// A capture with arrival times.
pub(crate) struct Capture {
    recording: Recording,
    /// As recorded, but never earlier than the message before: the collector's clock was set back at times.
    arrivals: Vec<u64>,
}

impl Capture {
    /// Reads the capture.
    pub(crate) fn find() -> Result<Self, Error> {
        let recording = Feeds::find()?.recording(CAPTURE)?;
        Ok(Self::new(recording))
    }

    fn new(recording: Recording) -> Self {
        let mut latest = 0;
        let arrivals = recording.arrivals.iter().flatten().map(|&arrival| {
            latest = latest.max(arrival);
            latest
        });
        Self { arrivals: arrivals.collect(), recording }
    }

    /// The span of this length with the most messages.
    pub(crate) fn densest(&self, span: Duration) -> Recording {
        self.cut(densest(&self.arrivals, span))
    }

    /// The burst with the most messages.
    pub(crate) fn burst(&self) -> Burst {
        Burst { recording: self.densest(BURST) }
    }

    fn cut(&self, range: Range<usize>) -> Recording {
        let mut bytes = Vec::new();
        for line in range.clone().filter_map(|index| self.recording.messages.get(index)) {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        Recording { messages: Lines::new(bytes), arrivals: Some(self.arrivals[range].to_vec()) }
    }
}

/// The messages of the span of this length that has most of them: the first of several.
fn densest(arrivals: &[u64], span: Duration) -> Range<usize> {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let (mut best, mut first) = (0..0, 0);
    for (last, arrival) in arrivals.iter().enumerate() {
        while arrival - arrivals[first] >= span {
            first += 1;
        }
        if last + 1 - first > best.len() {
            best = first..last + 1;
        }
    }
    best
}

/// Messages that came in one burst.
pub(crate) struct Burst {
    recording: Recording,
}

impl Burst {
    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.recording.messages.len() as u64
    }

    /// The burst so many times, a cycle after each other, the numbers in it carried on.
    pub(crate) fn repeated(&self, times: usize) -> Recording {
        let steps = NUMBERS.map(|key| self.step(key));
        let given = self.recording.arrivals.as_deref().unwrap_or_default();
        let begin = given.first().copied().unwrap_or(0);
        let cycle = u64::try_from(BURST_CYCLE.as_nanos()).unwrap_or(u64::MAX);
        let (mut bytes, mut arrivals) = (Vec::new(), Vec::new());
        for time in 0..times as u64 {
            for line in self.recording.messages.iter() {
                let mut line = line.to_vec();
                for (key, step) in NUMBERS.iter().zip(steps) {
                    raise(&mut line, key, step * time);
                }
                bytes.extend_from_slice(&line);
                bytes.push(b'\n');
            }
            arrivals.extend(given.iter().map(|arrival| arrival - begin + cycle * time));
        }
        Recording { messages: Lines::new(bytes), arrivals: Some(arrivals) }
    }

    /// By how much a number has to grow from one time to the next: it goes on behind the last. The update numbers of the
    /// book (`U` and `u`) are one row of numbers.
    fn step(&self, key: &str) -> u64 {
        let keys: &[&str] = if key == NUMBERS[0] { &NUMBERS[..1] } else { &NUMBERS[1..] };
        let found = || {
            let lines = self.recording.messages.iter();
            lines.flat_map(|line| keys.iter().filter_map(|key| Some(number(line, key)?.1)))
        };
        found().max().zip(found().min()).map_or(0, |(last, first)| last - first + 1)
    }
}

/// The numbers that Binance's spot streams count by: trades, and the first and last update of the book. No string in
/// these messages holds a quote, so the first place where the key stands is the key.
const NUMBERS: [&str; 3] = ["\"t\":", "\"U\":", "\"u\":"];

/// Where the digits behind a key stand, and what they say.
fn number(line: &[u8], key: &str) -> Option<(Range<usize>, u64)> {
    let begin = line.windows(key.len()).position(|window| window == key.as_bytes())? + key.len();
    let digits = line[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let range = begin..begin + digits;
    let number = std::str::from_utf8(&line[range.clone()]).ok()?.parse().ok()?;
    Some((range, number))
}

fn raise(line: &mut Vec<u8>, key: &str, by: u64) {
    if let Some((range, number)) = number(line, key) {
        line.splice(range, (number + by).to_string().into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(lines: &[(&str, u64)]) -> Capture {
        let text: String = lines.iter().map(|(line, _)| format!("{line}\n")).collect();
        let arrivals = lines.iter().map(|(_, at)| at * 1_000_000).collect();
        Capture::new(Recording { messages: Lines::new(text.into_bytes()), arrivals: Some(arrivals) })
    }

    fn text(recording: &Recording) -> Vec<String> {
        recording.messages.iter().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    #[test]
    fn the_densest_span_is_found() {
        assert_eq!(densest(&[0, 50, 100, 101, 102, 200, 201], Duration::from_nanos(3)), 2..5);
        assert_eq!(densest(&[], Duration::from_nanos(3)), 0..0);
        let capture = capture(&[("{\"a\":1}", 0), ("{\"a\":2}", 100), ("{\"a\":3}", 105), ("{\"a\":4}", 110)]);
        assert_eq!(text(&capture.densest(BURST)), ["{\"a\":2}", "{\"a\":3}"]);
    }

    #[test]
    fn the_largest_message_stands_alone() {
        let capture = capture(&[("{\"a\":1}", 0), ("{\"a\":100}", 100), ("{\"a\":20}", 105)]);
        assert_eq!(text(&largest(&capture.recording)), ["{\"a\":100}"]);
    }

    #[test]
    fn a_repeated_burst_counts_on() {
        let lines =
            [("{\"t\":9}", 7), ("{\"U\":4,\"u\":6}", 8), ("{\"t\":10}", 9), ("{\"U\":7,\"u\":7}", 9), ("{\"u\":7}", 9)];
        let twice = capture(&lines).burst().repeated(2);
        let expected = ["{\"t\":11}", "{\"U\":8,\"u\":10}", "{\"t\":12}", "{\"U\":11,\"u\":11}", "{\"u\":11}"];
        assert_eq!(text(&twice)[..5], lines.map(|(line, _)| line.to_owned()));
        assert_eq!(text(&twice)[5..], expected);
        let times: Vec<_> = twice.arrivals.unwrap().iter().map(|at| at / 1_000_000).collect();
        assert_eq!(times, [0, 1, 2, 2, 2, 50, 51, 52, 52, 52]);
    }

    #[test]
    fn made_up_trades_are_as_long_as_real_ones() {
        let trades = trades();
        assert_eq!(trades.messages.len() as u64, TRADES);
        for line in trades.messages.iter().step_by(997) {
            let value: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(value["e"], "trade");
            assert!((134..=135).contains(&line.len()), "{}", line.len());
        }
    }
}
