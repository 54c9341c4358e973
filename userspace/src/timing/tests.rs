use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::*;
use crate::event::{self, Decoder};
use crate::floor::Span;
use crate::path::Path;

/// A clock that the test sets.
#[derive(Clone, Debug, Default)]
struct Set(Rc<Cell<u64>>);

impl Clock for Set {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.get())
    }
}

/// Takes this long for each event.
struct Busy(Set, u64);

impl Handler for Busy {
    fn event(&mut self, _: &Event<'_>, _: &mut Context<'_, '_>) {
        self.0.0.set(self.0.0.get() + self.1);
    }
}

struct Bench {
    clock: Set,
    timed: Timed<Busy, Set>,
    late: Arc<Mutex<Vec<Late>>>,
    path: Path,
    decoder: Decoder,
}

fn bench(handler_ns: u64) -> Bench {
    let clock = Set::default();
    let late = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&late);
    let timed = Timed::with_clock(Busy(clock.clone(), handler_ns), clock.clone())
        .spinning(true)
        .tell_late(Duration::from_micros(50), move |late| told.lock().unwrap().push(late));
    let decoder = Decoder::new(event::Options { stamp_field: Some("n".to_owned()) });
    Bench { clock, timed, late, path: Path::for_tests(), decoder }
}

impl Bench {
    fn at(&mut self, ns: u64, mark: Mark) {
        self.clock.0.set(ns);
        self.timed.mark(mark);
    }

    fn frame(&mut self, arrived: u64, taken: u64, behind: usize) {
        self.at(taken, Mark::Frame { arrived: Some(Time::from_nanos(arrived)), hints: None, behind });
    }

    /// A message that was sent at `sent`, found at `found` and decoded at `decoded`.
    fn message(&mut self, sent: u64, found: u64, decoded: u64) {
        let payload = format!(r#"{{"result":null,"id":1,"n":{sent}}}"#);
        let mut bytes = payload.clone().into_bytes();
        bytes.resize(payload.len() + Span::PAD, 0);
        let mut stopped = false;
        let mut sender = self.path.sender();
        let mut context = Context::for_tests(&mut sender, &mut stopped);
        self.clock.0.set(found);
        self.timed.payload(Kind::Text, payload.as_bytes(), &mut context);
        self.clock.0.set(decoded);
        let event = self.decoder.decode(Span::new(&mut bytes, payload.len()));
        self.timed.event(&event, &mut context);
    }

    fn only(&self, stage: Stage) -> u64 {
        let histogram = self.timed.stages().of(stage);
        assert_eq!(histogram.len(), 1, "{stage:?}");
        histogram.max()
    }

    fn cause(&self) -> Cause {
        let late = self.late.lock().unwrap();
        assert_eq!(late.len(), 1, "{late:?}");
        late[0].cause
    }
}

#[test]
fn each_stage_gets_its_own_time() {
    let mut bench = bench(700);
    bench.frame(1_050, 1_060, 0);
    bench.at(1_063, Mark::Stream(Source::Frame));
    bench.at(1_068, Mark::Opened { joined: false });
    bench.message(1_000, 1_070, 1_079);
    bench.at(1_900, Mark::Sent);
    let times = Stage::ALL.map(|stage| bench.only(stage));
    // Two significant digits: 700 is kept to the nearest 4.
    assert_eq!(times[..6], [50, 10, 3, 5, 2, 9]);
    assert!(times[6].abs_diff(700) <= 4);
    assert_eq!(times[7..10], [19, 29, 79]);
    assert!(times[10].abs_diff(850) <= 4, "from the XDP program to what was sent");
}

#[test]
fn the_second_message_of_a_record_begins_where_the_first_has_ended() {
    let mut bench = bench(100);
    bench.frame(1_000, 1_010, 0);
    bench.at(1_011, Mark::Stream(Source::Frame));
    bench.at(1_020, Mark::Opened { joined: false });
    bench.message(900, 1_021, 1_025);
    // Handled until 1,125.
    bench.message(900, 1_127, 1_130);
    let stages = bench.timed.stages();
    assert_eq!(stages.of(Stage::Ring).len(), 1, "only one message waited in the ring");
    assert_eq!((stages.of(Stage::Find).min(), stages.of(Stage::Find).max()), (1, 2));
    assert_eq!(stages.of(Stage::TakenToEvent).max(), 120);
}

#[test]
fn warmup_is_left_out() {
    let mut bench = bench(1);
    bench.timed = bench.timed.warmup(1);
    for _ in 0..3 {
        bench.frame(1_000, 1_010, 0);
        bench.message(900, 1_021, 1_025);
    }
    assert_eq!(bench.timed.stages().of(Stage::SentToEvent).len(), 2);
}

#[test]
fn a_message_that_was_sent_late_is_the_senders() {
    let mut bench = bench(1);
    bench.frame(101_000, 101_010, 0);
    bench.at(101_012, Mark::Stream(Source::Frame));
    bench.message(1_000, 101_020, 101_030);
    assert_eq!(bench.cause(), Cause::Before(Duration::from_micros(100)));
}

#[test]
fn after_a_hole_the_hole_is_the_cause() {
    let mut bench = bench(1);
    bench.frame(101_000, 101_010, 0);
    bench.at(101_012, Mark::Stream(Source::Reassembled));
    bench.message(1_000, 101_020, 101_030);
    assert_eq!(bench.cause(), Cause::Hole(Duration::from_micros(100)));
}

#[test]
fn a_stall_is_told_from_a_backlog() {
    for stalled in [true, false] {
        let mut bench = bench(1);
        bench.at(10_000, Mark::Turn(Time::from_nanos(10_000)));
        let next = if stalled { 90_000 } else { 10_100 };
        bench.at(next, Mark::Turn(Time::from_nanos(next)));
        bench.frame(20_000, 90_100, 7);
        bench.at(90_110, Mark::Stream(Source::Frame));
        bench.message(19_000, 90_120, 90_130);
        let waited = Duration::from_nanos(70_100);
        let expected = if stalled { Cause::Stall(waited) } else { Cause::Backlog { waited, behind: 7 } };
        assert_eq!(bench.cause(), expected);
        assert_eq!(bench.timed.stages().stalls, u64::from(stalled));
    }
}

#[test]
fn keeping_warm_is_no_stall() {
    for (rehearsed, stalls) in [(false, 1), (true, 0)] {
        let mut bench = bench(100);
        for at in [1_000, 1_100, 20_000] {
            bench.at(at, Mark::Turn(Time::from_nanos(at)));
            if rehearsed {
                bench.at(at, Mark::Rehearsed);
            }
        }
        assert_eq!(bench.timed.stages().stalls, stalls);
    }
}

#[test]
fn a_turn_that_was_busy_is_no_stall() {
    let mut bench = bench(80_000);
    bench.at(10_000, Mark::Turn(Time::from_nanos(10_000)));
    bench.frame(9_000, 10_010, 0);
    bench.at(10_020, Mark::Stream(Source::Frame));
    bench.message(8_000, 10_030, 10_040);
    bench.at(91_000, Mark::Turn(Time::from_nanos(91_000)));
    assert_eq!(bench.timed.stages().stalls, 0);
}

#[test]
fn a_record_in_pieces_waited_for_its_last() {
    let mut bench = bench(1);
    bench.frame(10_000, 10_010, 0);
    bench.at(10_020, Mark::Stream(Source::Frame));
    bench.frame(110_000, 110_010, 0);
    bench.at(110_020, Mark::Stream(Source::Frame));
    bench.at(110_030, Mark::Opened { joined: true });
    bench.message(9_000, 110_040, 110_050);
    assert_eq!(bench.cause(), Cause::Record { waited: Duration::from_nanos(99_990), pieces: 2 });
}

#[test]
fn a_slow_handler_makes_the_next_message_of_the_record_late() {
    let mut bench = bench(80_000);
    bench.frame(10_000, 10_010, 0);
    bench.at(10_020, Mark::Stream(Source::Frame));
    bench.at(10_030, Mark::Opened { joined: false });
    bench.message(9_000, 10_040, 10_050);
    bench.message(9_000, 90_060, 90_070);
    assert!(matches!(bench.cause(), Cause::Handler { ahead: 1, .. }), "{:?}", bench.cause());
}

#[test]
fn our_own_work_can_be_the_cause() {
    let mut bench = bench(1);
    bench.frame(10_000, 10_010, 0);
    bench.at(10_020, Mark::Stream(Source::Frame));
    bench.at(10_030, Mark::Opened { joined: false });
    bench.message(9_900, 10_040, 80_000);
    assert!(matches!(bench.cause(), Cause::Work(_)), "{:?}", bench.cause());
}
