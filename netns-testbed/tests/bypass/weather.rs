//! Over a wire that impairs: what arrives is the same, in the mode that was asked for, and forgeries end nothing that they
//! could not know enough of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wiretick::feed::{Culprit, Mode, Wait};
use wiretick_testbed::exchange::{Config, Feed as Source, Pace};
use wiretick_testbed::feeds::{Lines, Recording};
use wiretick_testbed::impair::{Aim, Direction, Forgery, Injection, Plan as Weather, mixtures};
use wiretick_testbed::topology::{Plan, Wire};

use crate::Test;
use crate::captures::recording;
use crate::rig::{PATIENCE, Rig, sha256_of, synthetic, tls};

pub(crate) const TESTS: &[Test] = &[
    ("weather::a_hundred_thousand_blind_resets_and_forged_segments_change_nothing_and_an_exact_reset_ends_it", forged),
    ("weather::a_cut_of_two_seconds_is_survived", cut),
];

/// Tests that need captured feeds.
pub(crate) const CAPTURED: &[Test] = &[
    ("weather::a_capture_is_the_same_in_every_weather", every_weather),
    ("weather::the_program_shows_a_table_and_ends_well", program),
];

const SEED: u64 = 7;

fn rig(weather: Weather, config: Config) -> Rig {
    Rig::with(&Plan { wire: Some(weather), ..Plan::default() }, config, false)
}

fn wire(rig: &Rig) -> &Wire {
    rig.topology.wire.as_ref().unwrap()
}

fn every_weather() {
    let capture = recording("BINANCE-spot-btcusdt-mixed");
    assert_eq!(capture.messages.len(), 99_573);
    let bytes: usize = capture.messages.iter().map(<[u8]>::len).sum();
    let digest = sha256_of(capture.messages.iter());
    for (name, impairments) in mixtures() {
        for mode in [Mode::Driver, Mode::Kernel] {
            let config = Config {
                security: tls(),
                feed: Source::Replay(Arc::clone(&capture)),
                pace: Pace::Saturate,
                core: Some(0),
                patience: PATIENCE,
                ..Config::default()
            };
            let rig = rig(Weather::both(SEED, &impairments), config);
            // Sleeping where there is nothing to do: the wire needs a core, too.
            let builder = rig.builder().mode(mode).wait(Wait::Poll).connect_timeout(PATIENCE);
            let run = rig.run(builder);
            run.result.as_ref().unwrap_or_else(|error| panic!("{name}, {mode}: {error}"));
            assert_eq!(run.report().mode, mode, "{name}: the mode in effect");
            assert_eq!(run.seen.messages, 99_573, "{name}, {mode}: messages");
            assert_eq!(run.seen.sha256(), digest, "{name}, {mode}: bytes");
            assert_eq!(wire(&rig).own_losses(), 0, "{name}, {mode}");
            let (first, last) = run.seen.arrived.unwrap();
            let counters = wire(&rig).counters(Direction::ToClient);
            println!(
                "{name:18} {:6} {:7.1} Mbit/s, longest stall {:6.1} ms, {:5} sent again; {:?}",
                mode.to_string(),
                bytes as f64 * 8e-6 / last.since(first).as_secs_f64(),
                run.seen.stall.as_secs_f64() * 1e3,
                counters.retransmitted,
                counters.nonzero(),
            );
        }
    }
}

/// `testbed weather`, which takes its time over all of it.
fn program() {
    let arguments = ["weather", "--count", "3000", "--only", "loss 5 %"];
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_testbed")).args(arguments).output().unwrap();
    let (table, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}{errors}");
    let rows: Vec<&str> = table.lines().filter(|line| line.contains("loss 5 %")).collect();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.contains("3000") && row.contains("yes")), "{table}");
    assert!(rows[0].contains("driver") && rows[1].contains("kernel"), "{table}");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_testbed")).args(["weather", "--only", "snow"]).output();
    let output = output.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("loss 5 %"), "it says which weathers there are");
}

fn cut() {
    const CUT: Duration = Duration::from_secs(2);
    for mode in [Mode::Driver, Mode::Kernel] {
        let rig = rig(Weather::default(), synthetic(2_000, 6_000));
        let run = std::thread::scope(|scope| {
            scope.spawn(|| {
                await_messages(&rig, 1_000);
                for direction in Direction::BOTH {
                    wire(&rig).blackhole(direction, CUT);
                }
            });
            rig.run(rig.builder().mode(mode).wait(Wait::Poll))
        });
        run.result.as_ref().unwrap_or_else(|error| panic!("{mode}: {error}"));
        assert_eq!((run.seen.messages, run.seen.gaps), (6_000, 0), "{mode}");
        assert!(run.seen.stall >= CUT, "{mode}: {:?}", run.seen.stall);
        println!("{mode}: cut for {CUT:?}, no message for {:?}", run.seen.stall);
    }
}

/// Waits until the exchange has sent so many messages.
fn await_messages(rig: &Rig, messages: u64) {
    await_that("messages", || rig.exchange.report().messages >= messages);
}

fn await_that(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn forged() {
    const FORGERIES: u64 = 100_000;
    let lines: Vec<String> = (0..200_000).map(|n| format!(r#"{{"e":"trade","s":"BTCUSDT","t":{n}}}"#)).collect();
    let recording = Arc::new(Recording { messages: Lines::new(lines.join("\n").into_bytes()), arrivals: None });
    for mode in [Mode::Driver, Mode::Kernel] {
        let config = Config { feed: Source::Replay(Arc::clone(&recording)), ..synthetic(5_000, 200_000) };
        let rig = rig(Weather { seed: SEED, ..Weather::default() }, config);
        let inject = |forgery, count, per_second| {
            wire(&rig).inject(Injection { direction: Direction::ToClient, forgery, count, per_second });
        };
        let (run, before) = std::thread::scope(|scope| {
            let attacker = scope.spawn(|| {
                // By then it has been promoted.
                await_messages(&rig, 2_000);
                inject(Forgery::Rst(Aim::Blind), FORGERIES, 20_000);
                inject(Forgery::Data(Aim::Blind, 100), FORGERIES, 20_000);
                await_that("end of forgeries", || wire(&rig).pending() == 0);
                let before = rig.exchange.report().messages;
                await_messages(&rig, before + 2_000);
                inject(Forgery::Rst(Aim::Exact), 1, 1);
                before
            });
            let run = rig.run(rig.builder().mode(mode).wait(Wait::Poll));
            (run, attacker.join().unwrap())
        });
        let error = run.error();
        assert!(error.contains("it has reset the connection"), "{mode}: {error}");
        assert_eq!(run.result.as_ref().unwrap_err().culprit(), Culprit::Network);
        assert_eq!(run.report().mode, mode);
        assert_eq!(wire(&rig).counters(Direction::ToClient).forged, 2 * FORGERIES + 1);
        assert_eq!(wire(&rig).own_losses(), 0);
        // All that came before the one that fits, and nothing else.
        assert!(run.seen.messages >= before + 1_000, "{mode}: {} messages, {before} before", run.seen.messages);
        let sent = recording.messages.iter().take(run.seen.messages as usize);
        assert_eq!(run.seen.sha256(), sha256_of(sent), "{mode}: {} messages", run.seen.messages);
        if mode == Mode::Driver {
            let tcp = run.report().connection.tcp;
            let resets = tcp.resets_outside_window + tcp.resets_challenged;
            // Random numbers: some in the window, none of them exact but with a chance of 1 in 40,000.
            assert!(resets >= FORGERIES * 99 / 100, "{resets} resets came through the ring: {tcp:?}");
            // Half of them lie before what has come, half beyond what may.
            let forged = tcp.segments_duplicate + tcp.acks_refused + tcp.beyond_window;
            assert!(forged >= FORGERIES * 99 / 100, "{forged} forged segments were refused: {tcp:?}");
        }
        println!("{mode}: {} messages, then: {error}", run.seen.messages);
    }
}
