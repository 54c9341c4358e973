//! wiretick against the exchange, over a veth, in namespaces: what has to be shown with a real kernel between the two.
//!
//! Needs root. Tests that also need captured feeds are skipped, by name, where there are none. They run one after
//! another: each takes a core for the client and one for the exchange.

#[path = "bypass/captures.rs"]
mod captures;
#[path = "bypass/compare.rs"]
mod compare;
#[path = "../../userspace/tests/counting/mod.rs"]
mod counting;
#[path = "bypass/doctor.rs"]
mod doctor;
#[path = "bypass/failures.rs"]
mod failures;
#[path = "bypass/handover.rs"]
mod handover;
#[path = "bypass/hardware.rs"]
mod hardware;
#[path = "bypass/hot_path.rs"]
mod hot_path;
#[path = "bypass/jumbo.rs"]
mod jumbo;
#[path = "bypass/lifecycle.rs"]
mod lifecycle;
#[path = "bypass/modes.rs"]
mod modes;
#[path = "bypass/neighbours.rs"]
mod neighbours;
#[path = "bypass/privilege.rs"]
mod privilege;
#[path = "bypass/program.rs"]
mod program;
#[path = "bypass/queues.rs"]
mod queues;
#[path = "bypass/rig.rs"]
mod rig;
#[path = "bypass/sharing.rs"]
mod sharing;
#[path = "bypass/steering.rs"]
mod steering;
#[path = "bypass/succession.rs"]
mod succession;
#[path = "bypass/survival.rs"]
mod survival;
#[path = "bypass/to_and_fro.rs"]
mod to_and_fro;
#[path = "bypass/weather.rs"]
mod weather;

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use wiretick_testbed::feeds::Feeds;

/// A test's name, which is a sentence, and the test.
type Test = (&'static str, fn());

fn main() {
    if std::env::var_os(neighbours::ECHO).is_some() {
        neighbours::echo();
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let root = rustix::process::geteuid().is_root();
    let feeds = Feeds::find();
    if !root {
        eprintln!("skipped: tests over a veth need root: sudo make test");
    } else if let Err(missing) = &feeds {
        eprintln!("skipped: tests on captured feeds: {missing}");
    }
    let plain = [
        modes::TESTS,
        jumbo::TESTS,
        queues::TESTS,
        hardware::TESTS,
        handover::TESTS,
        failures::TESTS,
        neighbours::TESTS,
        sharing::TESTS,
        program::TESTS,
        privilege::TESTS,
        compare::TESTS,
        to_and_fro::TESTS,
        survival::TESTS,
        lifecycle::TESTS,
        succession::TESTS,
        doctor::TESTS,
        steering::TESTS,
        hot_path::TESTS,
        weather::TESTS,
    ];
    let mut trials: Vec<Trial> = plain.into_iter().flatten().map(|test| trial(test, root)).collect();
    let captured = captures::TESTS.iter().chain(hot_path::CAPTURED).chain(weather::CAPTURED);
    trials.extend(captured.map(|test| trial(test, root && feeds.is_ok())));
    let conclusion = libtest_mimic::run(&arguments, trials);
    rig::clean_up();
    conclusion.exit();
}

fn trial(&(name, test): &Test, runs: bool) -> Trial {
    Trial::test(name, move || {
        let _bound = Bound::new(name);
        test();
        Ok(())
    })
    .with_ignored_flag(!runs)
}

/// The longest that a test may take. `WIRETICK_TEST_SECONDS` is for those that were told to take longer.
const TEST_MAX: Duration = Duration::from_secs(240);

/// Ends the whole process where a test hangs, and says which: its namespaces go with it. Dropped when the test is over.
struct Bound(#[expect(dead_code, reason = "what counts is when it is dropped")] Sender<()>);

impl Bound {
    fn new(name: &'static str) -> Self {
        let seconds = std::env::var("WIRETICK_TEST_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
        let at_most = seconds.map_or(TEST_MAX, Duration::from_secs);
        let (alive, over) = channel();
        std::thread::spawn(move || {
            if over.recv_timeout(at_most) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{name} has not ended within {at_most:?}");
                std::process::exit(101);
            }
        });
        Self(alive)
    }
}
