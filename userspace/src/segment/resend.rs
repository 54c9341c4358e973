//! What of ours is on its way, and what of it to send again.
//!
//! smoltcp sends again after a second at the earliest, or after three acknowledgements without data, and does not read
//! SACK blocks. Here a lost order or pong is found by what the peer says and does not say:
//!
//! | what is seen | the segment is lost |
//! |---|---|
//! | three later segments, or three duplicate acknowledgements | at once (RFC 6675, RFC 5681) |
//! | one later segment has arrived | after 5/4 of the round trip (RFC 8985 section 6.2) |
//! | the peer sends anything, data too, and does not acknowledge it | after two round trips: what the peer sends acknowledges what it has |
//! | nothing comes at all | after two round trips and the longest delay of an acknowledgement (RFC 8985 section 7.2) |
//!
//! The round trip is the least of late; for what left before the last acknowledgement came, it is that of what was
//! acknowledged then, where that is longer: segments that wait in one queue behind each other are not lost. What was heard
//! is judged at the end of a turn, when everything that had arrived has been told: a handler that took its time must not
//! make the first of many segments look like the last.
//!
//! Each try doubles the wait for the next. smoltcp's own timer stays the last resort; what it wants to send again a
//! moment after it was sent from here is held back.
//!
//! Sending a segment of a hundred bytes for nothing costs the path little and the peer nothing; it says so (RFC 2883), and
//! from then on there is more patience ([`RoundTrips::needless`]).

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use super::rtt::{RoundTrips, doubled};
use super::sack::Block;
use crate::floor::{Seq, Time};

/// Segments that are told apart. Beyond that, the last two become one: a bulk of data is found lost in larger pieces.
const FLIGHTS: usize = 64;
/// Doublings of the wait for the next try: 64 times.
const TRIES_MAX: u32 = 6;
/// Later segments that prove a loss (RFC 6675 section 2, RFC 5681 section 3.2).
const PASSED: usize = 3;

/// A segment that has left. It begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
struct Flight {
    end: Seq,
    sent: Time,
    /// How often it was sent again.
    tries: u32,
    sacked: bool,
    lost: bool,
}

/// The segments that are on their way.
#[derive(Debug)]
pub(super) struct Flights {
    flights: VecDeque<Flight>,
    /// The first byte that is not acknowledged.
    start: Seq,
    pub(super) round_trips: RoundTrips,
    /// When the next one has to be sent again, or judged.
    due: Time,
    /// When something was last heard that has not been judged yet.
    heard: Option<Time>,
    /// When the last news of an acknowledgement came, and how long what it acknowledged had been on its way.
    news: (Time, Duration),
    /// Acknowledgements without data, one after another, of the same byte.
    duplicates: usize,
    /// How much was sent again of what the peer has not complained about yet.
    suspects: u64,
}

/// A segment that is to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) range: Range<Seq>,
    /// Nothing was heard: this is a question.
    pub(super) probe: bool,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self {
            flights: VecDeque::with_capacity(FLIGHTS),
            start: Seq::default(),
            round_trips: RoundTrips::default(),
            due: Time::NEVER,
            heard: None,
            news: (Time::ZERO, Duration::ZERO),
            duplicates: 0,
            suspects: 0,
        }
    }

    /// Nothing is on its way; the next byte is `start`.
    pub(super) fn restart(&mut self, start: Seq, round_trips: RoundTrips) {
        self.flights.clear();
        (self.start, self.round_trips, self.due, self.heard) = (start, round_trips, Time::NEVER, None);
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// When [`Flights::next_lost`] has something to say.
    #[inline]
    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// A segment with new bytes up to `end` has left.
    #[inline]
    pub(super) fn sent(&mut self, end: Seq, now: Time) {
        if self.flights.is_empty() {
            self.due = now + self.round_trips.silence();
        } else if self.flights.len() == FLIGHTS
            && let Some(last) = self.flights.back_mut()
        {
            *last = Flight { end, sent: now, ..*last };
            return;
        }
        self.flights.push_back(Flight { end, sent: now, tries: 0, sacked: false, lost: false });
    }

    /// The last one has not left after all: there was no frame for it.
    pub(super) fn grounded(&mut self, retry: Time) {
        if let Some(last) = self.flights.back_mut() {
            last.lost = true;
            last.tries += 1;
            self.due = self.due.min(retry);
        }
    }

    /// The bytes of `range` have left again.
    pub(super) fn sent_again(&mut self, range: &Range<Seq>, now: Time) {
        let mut start = self.start;
        for flight in &mut self.flights {
            if flight.end.is_after(range.start) && range.end.is_after(start) {
                *flight = Flight { sent: now, tries: flight.tries + 1, lost: false, sacked: false, ..*flight };
                self.suspects += 1;
            }
            start = flight.end;
        }
        self.wait();
    }

    /// Whether the bytes of `range` have just left again, so that sending them once more is for nothing.
    pub(super) fn were_just_sent_again(&self, range: &Range<Seq>, now: Time) -> bool {
        let wait = self.round_trips.heard_nothing_of_it(Duration::ZERO);
        let mut start = self.start;
        let mut found = false;
        for flight in &self.flights {
            if flight.end.is_after(range.start) && range.end.is_after(start) {
                if flight.tries == 0 || now >= flight.sent + doubled(wait, flight.tries.min(TRIES_MAX)) {
                    return false;
                }
                found = true;
            }
            start = flight.end;
        }
        found
    }

    /// The peer has acknowledged everything before `ack`. Answers whether that is news.
    pub(super) fn acknowledged(&mut self, ack: Seq, now: Time) -> bool {
        let mut sample = None;
        let mut took = None;
        while let Some(flight) = self.flights.front().filter(|flight| !flight.end.is_after(ack)) {
            took = Some(now.since(flight.sent));
            if flight.tries == 0 && !flight.sacked {
                sample = took;
            }
            self.flights.pop_front();
        }
        if let Some(took) = sample {
            self.round_trips.sample(took, now);
        }
        let is_news = ack.is_after(self.start);
        if is_news {
            self.news = (now, took.unwrap_or(self.news.1));
            self.start = ack;
            self.duplicates = 0;
        }
        self.wait();
        is_news
    }

    /// The peer has `blocks`, while it acknowledges `ack`. Answers whether it says that something came twice which was
    /// sent again from here.
    pub(super) fn sacked(&mut self, blocks: &[Block], ack: Seq) -> bool {
        for &(left, right) in blocks {
            let mut start = self.start;
            for flight in &mut self.flights {
                flight.sacked |= !left.is_after(start) && !flight.end.is_after(right) && right.is_after(left);
                start = flight.end;
            }
        }
        // RFC 2883 section 4: the first block is a duplicate where it is acknowledged already, or lies inside the second.
        let twice = match *blocks {
            [(_, right), ..] if !right.is_after(ack) => true,
            [(left, right), (outer, end), ..] => !outer.is_after(left) && !right.is_after(end),
            _ => false,
        };
        let needless = twice && self.suspects > 0;
        if needless {
            self.suspects -= 1;
            self.round_trips.needless();
        }
        needless
    }

    /// An acknowledgement without data has said nothing new.
    pub(super) fn duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// Something has come from the peer at `now`, and everything in it has been told. What that says about the rest is
    /// judged at the end of the turn ([`Flights::next_lost`]).
    pub(super) fn heard(&mut self, now: Time) {
        self.heard = Some(now);
        self.due = self.due.min(now);
    }

    /// The next segment to send again, if one is due; then [`Flights::sent_again`].
    pub(super) fn next_lost(&mut self, now: Time) -> Option<Lost> {
        let heard = self.heard.take();
        let probe = self.judge(now, heard);
        let mut start = self.start;
        for flight in &self.flights {
            if flight.lost {
                return Some(Lost { range: start..flight.end, probe });
            }
            start = flight.end;
        }
        None
    }

    /// What is longer than `max` did not get through.
    pub(super) fn lose_longer_than(&mut self, max: usize, now: Time) {
        let mut start = self.start;
        for flight in &mut self.flights {
            flight.lost |= usize::try_from(flight.end.distance(start)).is_ok_and(|len| len > max);
            start = flight.end;
        }
        self.judge(now, None);
    }

    /// Whether the byte at `seq` is on its way.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.flights.back().is_some_and(|last| !self.start.is_after(seq) && last.end.is_after(seq))
    }

    /// When the next thing will be lost if nothing is heard.
    fn wait(&mut self) {
        self.judge(Time::ZERO, None);
        if let Some(heard) = self.heard {
            self.due = self.due.min(heard);
        }
    }

    /// Finds what is lost at `now`, and when something else will be. Answers whether only silence tells of it.
    fn judge(&mut self, now: Time, heard: Option<Time>) -> bool {
        let round_trips = self.round_trips;
        let (passed, silence) = (round_trips.overtaken(), round_trips.silence());
        let (news, took) = self.news;
        let mut later = self.flights.iter().filter(|flight| flight.sacked).count();
        let mut by_silence = false;
        let mut is_first = true;
        self.due = Time::NEVER;
        for flight in &mut self.flights {
            if flight.sacked {
                later -= 1;
                continue;
            }
            let back_off = |since: Time, wait| since + doubled(wait, flight.tries.min(TRIES_MAX));
            let when_passed = back_off(flight.sent, passed);
            // RFC 6298 section 5.3: news of others start it anew.
            let when_silent = back_off(flight.sent.max(news), silence);
            if !flight.lost {
                let unheard = round_trips.heard_nothing_of_it(if flight.sent < news { took } else { Duration::ZERO });
                let when_unheard = back_off(flight.sent, unheard);
                let proven = flight.tries == 0 && (later >= PASSED || is_first && self.duplicates >= PASSED);
                let told = heard.is_some_and(|heard| heard >= when_unheard) || later > 0 && now >= when_passed;
                let silent = is_first && now >= when_silent;
                flight.lost = proven || told || silent;
                by_silence |= silent && !proven && !told;
            }
            if flight.lost {
                self.due = now;
            } else if later > 0 {
                self.due = self.due.min(when_passed);
            } else if is_first {
                self.due = self.due.min(when_silent);
            }
            is_first = false;
        }
        by_silence
    }
}

/// A copy of the bytes that may have to be sent again: smoltcp has them too, and does not show them.
#[derive(Debug)]
pub(super) struct Kept {
    bytes: Box<[u8]>,
    /// The sequence number behind the last byte.
    end: Seq,
    len: usize,
}

impl Kept {
    /// Room for `capacity` bytes, a power of two.
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity.is_power_of_two());
        Self { bytes: vec![0; capacity].into(), end: Seq::default(), len: 0 }
    }

    pub(super) fn restart(&mut self, start: Seq) {
        (self.end, self.len) = (start, 0);
    }

    /// The sequence number behind the last byte.
    pub(super) fn end(&self) -> Seq {
        self.end
    }

    /// Appends. The oldest give way where there is no room: what smoltcp has room for, there is room for here.
    #[inline]
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let capacity = self.bytes.len();
        debug_assert!(bytes.len() <= capacity);
        let at = self.end.0 as usize & (capacity - 1);
        let first = bytes.len().min(capacity - at);
        self.bytes[at..at + first].copy_from_slice(&bytes[..first]);
        self.bytes[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.end = self.end + bytes.len();
        self.len = (self.len + bytes.len()).min(capacity);
    }

    /// Copies the bytes from `from` on to `into`, as many as there are; answers how many.
    pub(super) fn copy(&self, from: Seq, into: &mut [u8]) -> usize {
        let behind = usize::try_from(self.end.distance(from)).unwrap_or(0);
        if behind > self.len {
            return 0;
        }
        let len = behind.min(into.len());
        let at = from.0 as usize & (self.bytes.len() - 1);
        let first = len.min(self.bytes.len() - at);
        into[..first].copy_from_slice(&self.bytes[at..at + first]);
        into[first..len].copy_from_slice(&self.bytes[..len - first]);
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::lease::RoundTrip;

    const MS: Duration = Duration::from_millis(1);
    const START: Seq = Seq(u32::MAX - 150);

    fn at(ms: u32) -> Time {
        Time::ZERO + ms * MS
    }

    /// Segments of 100 bytes, one a millisecond, on a path of 10 ms.
    fn flights(n: u32) -> Flights {
        let mut flights = Flights::new();
        let known = RoundTrip { smoothed: 10 * MS, variation: Duration::ZERO };
        flights.restart(START, RoundTrips::from_lease(Some(known), Time::ZERO));
        for i in 0..n {
            flights.sent(START + 100 * (i as usize + 1), at(i));
        }
        flights
    }

    fn nth(n: usize) -> Range<Seq> {
        START + 100 * n..START + 100 * (n + 1)
    }

    fn lost(flights: &mut Flights, now: Time) -> Option<(Range<Seq>, bool)> {
        flights.next_lost(now).map(|Lost { range, probe }| (range, probe))
    }

    #[test]
    fn silence_asks_with_the_oldest_and_then_ever_more_rarely() {
        let mut flights = flights(2);
        assert_eq!(flights.due(), at(70));
        assert_eq!(lost(&mut flights, at(69)), None);
        assert_eq!(lost(&mut flights, at(70)), Some((nth(0), true)));
        flights.sent_again(&nth(0), at(70));
        assert_eq!(flights.due(), at(70 + 140));
        assert_eq!(lost(&mut flights, at(209)), None);
        assert_eq!(lost(&mut flights, at(210)), Some((nth(0), true)));
    }

    #[test]
    fn whatever_the_peer_sends_two_round_trips_later_tells_what_it_has_not() {
        let mut flights = flights(3);
        flights.heard(at(20));
        assert_eq!(lost(&mut flights, at(20)), None);
        flights.heard(at(22));
        assert_eq!(flights.due(), at(22), "judged at the end of the turn");
        assert_eq!(lost(&mut flights, at(22)), Some((nth(0), false)));
        flights.sent_again(&nth(0), at(22));
        assert_eq!(lost(&mut flights, at(22)), Some((nth(1), false)));
        flights.sent_again(&nth(1), at(22));
        assert_eq!(lost(&mut flights, at(22)), None, "the third has been on its way for 20 ms");
    }

    #[test]
    fn one_later_segment_proves_a_loss_after_a_while_three_at_once() {
        let mut flights = flights(5);
        assert!(!flights.sacked(&[(nth(1).start, nth(1).end)], START));
        flights.heard(at(11));
        assert_eq!(lost(&mut flights, at(11)), None);
        assert_eq!(flights.due(), Time::ZERO + Duration::from_micros(13_500));
        assert_eq!(lost(&mut flights, at(13)), None);
        flights.sacked(&[(nth(1).start, nth(3).end)], START);
        flights.heard(at(13));
        assert_eq!(lost(&mut flights, at(13)), Some((nth(0), false)));
        flights.sent_again(&nth(0), at(13));
        assert_eq!(lost(&mut flights, at(13)), None, "the others are there, or may be");
    }

    #[test]
    fn three_duplicate_acknowledgements_prove_a_loss() {
        let mut flights = flights(4);
        for _ in 0..3 {
            assert_eq!(lost(&mut flights, at(12)), None);
            flights.duplicate();
            flights.heard(at(12));
        }
        assert_eq!(lost(&mut flights, at(12)), Some((nth(0), false)));
    }

    #[test]
    fn what_waits_in_a_queue_behind_others_is_not_lost() {
        // All leave at once; the narrow link takes 2 ms for each, and the path was known to take 10.
        let mut flights = flights(0);
        for i in 1..=40 {
            flights.sent(START + 100 * i, at(0));
        }
        for i in 1..40 {
            let now = at(10 + 2 * u32::try_from(i).unwrap());
            flights.acknowledged(START + 100 * i, now);
            flights.heard(now);
            assert_eq!(lost(&mut flights, now), None, "{i}");
        }
        // The last is lost. Another, sent since, is not concerned.
        flights.sent(START + 4100, at(95));
        flights.heard(at(96));
        assert_eq!(lost(&mut flights, at(96)), None);
        flights.heard(at(177));
        assert_eq!(lost(&mut flights, at(177)), Some((nth(39), false)));
    }

    #[test]
    fn only_what_left_once_is_a_sample() {
        let mut flights = flights(2);
        flights.sent_again(&nth(0), at(70));
        let before = flights.round_trips.silence();
        flights.acknowledged(nth(0).end, at(71));
        assert_eq!(flights.round_trips.silence(), before);
        flights.acknowledged(nth(1).end, at(71));
        assert!(flights.round_trips.silence() > before);
        assert_eq!((flights.is_empty(), flights.due()), (true, Time::NEVER));
    }

    #[test]
    fn a_segment_that_came_twice_makes_patient_but_only_if_it_was_ours() {
        let mut flights = flights(2);
        let before = flights.round_trips.silence();
        assert!(!flights.sacked(&[(START - 1, START)], START), "nothing was sent again");
        flights.sent_again(&nth(0), at(70));
        assert!(flights.sacked(&[(nth(0).start, nth(0).end)], nth(0).end));
        assert_eq!(flights.round_trips.silence(), 2 * before);
    }

    #[test]
    fn more_segments_than_are_told_apart_are_still_all_there() {
        let mut flights = flights(200);
        assert_eq!(flights.flights.len(), FLIGHTS);
        flights.acknowledged(START + 63 * 100, at(250));
        let (range, _) = lost(&mut flights, at(2000)).unwrap();
        assert_eq!(range, START + 6300..START + 20_000);
    }

    #[test]
    fn the_copy_wraps_and_forgets_the_oldest() {
        let mut kept = Kept::new(16);
        kept.restart(START);
        let text: Vec<u8> = (0..40).collect();
        for piece in text.chunks(5) {
            kept.push(piece);
        }
        let mut out = [0; 16];
        assert_eq!(kept.copy(START + 24, &mut out), 16);
        assert_eq!(out, text[24..]);
        assert_eq!(kept.copy(START + 37, &mut out), 3);
        assert_eq!(out[..3], text[37..]);
        assert_eq!(kept.copy(START + 23, &mut out), 0);
        assert_eq!(kept.copy(START + 40, &mut out), 0);
    }
}
