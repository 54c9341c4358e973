//! Several feeds on one interface, of one process and of several: one program, a queue each.
//!
//! A veth's other end chooses the queue by a flow's hash, which is drawn anew for each connection: where one arrives on the wrong queue,
//! another one is made.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wiretick::control::link;
use wiretick::feed::{Feed, FeedBuilder, Mode, Report, Wait};
use wiretick::floor::{Clock, Monotonic};
use wiretick_testbed::exchange::{Config, Start};
use wiretick_testbed::topology::Plan;
use wiretick_xdp::Verdict;

use crate::Test;
use crate::rig::{PATIENCE, Rig, Seen, synthetic, wiretick_program};

pub(crate) const TESTS: &[Test] = &[
    ("sharing::two_feeds_on_two_queues_share_the_program_whoever_goes_first", two),
    ("sharing::a_process_that_is_killed_takes_nothing_from_the_other", killed),
    ("sharing::a_flow_on_the_other_feeds_queue_goes_to_the_kernel_and_not_to_the_other", astray),
    ("sharing::who_wants_another_program_is_told_why_not", unfit),
];

/// Connections until one arrives on the right queue: half of them do.
const ATTEMPTS: usize = 60;

/// Does `deed` on the client's machine, whose link has two queues, with an exchange that is underway. Nothing is attached afterwards.
fn on_client(deed: impl FnOnce(&Rig) + Send) {
    let config = Config { start: Start::Underway, count: None, ..synthetic(5_000, 1) };
    let rig = Rig::with(&Plan { queues: 2, ..Plan::default() }, config, false);
    rig.topology.client.ns.enter(|| deed(&rig)).unwrap();
    rig.await_clean();
}

/// The id of the program on the client's interface, asked on its machine.
fn attached() -> Option<u32> {
    link::by_name("client0").unwrap().xdp_program
}

/// A feed and what it has brought.
struct Watched {
    feed: Feed,
    seen: Seen,
}

impl Watched {
    /// Brings a feed to its ring; where its frames arrive on the wrong queue, another one.
    fn new(builder: impl Fn() -> FeedBuilder) -> Self {
        for _ in 0..ATTEMPTS {
            let feed = match builder().connect() {
                Ok(feed) => feed,
                // The one before: the kernel lets go of a queue in deferred work, for which it needs a lock that others hold while
                // they take namespaces down.
                Err(error) if error.to_string().contains("another AF_XDP socket owns this queue") => continue,
                Err(error) => panic!("{error}"),
            };
            let mut watched = Self { feed, seen: Seen::default() };
            match watched.settle() {
                Ok(()) => return watched,
                Err(reason) => assert!(reason.contains("arrive on queue"), "{reason}"),
            }
        }
        panic!("{ATTEMPTS} connections arrived on the wrong queue");
    }

    fn settle(&mut self) -> Result<(), String> {
        let until = Monotonic.now() + PATIENCE;
        while self.feed.mode() != Mode::Driver {
            let now = Monotonic.now();
            assert!(now < until, "{:?}", self.feed.report().moves);
            self.feed.turn(now, &mut self.seen).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn turn(&mut self) {
        let now = Monotonic.now();
        if self.feed.turn(now, &mut self.seen).unwrap() == 0 {
            self.feed.wait(now, Duration::from_millis(5)).unwrap();
        }
    }

    fn has_stayed(&self) -> Report {
        let report = self.feed.report();
        assert_eq!((report.mode, report.moves.len(), self.seen.gaps), (Mode::Driver, 1, 0), "{:?}", report.moves);
        assert_eq!(report.lane.frames_unknown, 0);
        report
    }
}

/// Takes turns with all of them until each has so many messages more.
fn messages(feeds: &mut [&mut Watched], n: u64) {
    let goals: Vec<u64> = feeds.iter().map(|watched| watched.seen.messages + n).collect();
    let until = Monotonic.now() + PATIENCE;
    while feeds.iter().zip(&goals).any(|(watched, goal)| watched.seen.messages < *goal) {
        assert!(Monotonic.now() < until, "messages stay away");
        feeds.iter_mut().for_each(|watched| watched.turn());
    }
}

/// Takes turns with both until the first is in this mode.
fn until(mode: Mode, first: &mut Watched, second: &mut Watched) {
    while first.feed.mode() != mode {
        first.turn();
        second.turn();
    }
}

fn two() {
    on_client(|rig| {
        let on = |queue| Watched::new(|| rig.builder().mode(Mode::Driver).queue(queue));
        let mut first = on(0);
        let program = attached().expect("a program");
        let mut second = on(1);
        assert_eq!(attached(), Some(program), "there is one program");
        messages(&mut [&mut first, &mut second], 5_000);
        for (queue, watched) in [(0, &first), (1, &second)] {
            let report = watched.has_stayed();
            assert_eq!(report.queue, queue);
            // Of both: the program counts by queue.
            let redirected = report.verdicts.iter().find(|(other, _)| *other == queue).unwrap().1[Verdict::Redirected];
            assert!(redirected >= report.ring.unwrap().frames_received, "{redirected}");
        }
        // Home and back: the other one keeps the program, and is not disturbed.
        first.feed.demote(Monotonic.now());
        until(Mode::Kernel, &mut first, &mut second);
        messages(&mut [&mut first, &mut second], 2_000);
        first.feed.promote(Monotonic.now());
        until(Mode::Driver, &mut first, &mut second);
        messages(&mut [&mut first, &mut second], 2_000);
        assert_eq!(first.seen.gaps, 0);
        // The one that attached it goes first; then a third comes, and the second goes.
        drop(first);
        assert_eq!(attached(), Some(program), "the second holds it");
        messages(&mut [&mut second], 2_000);
        let mut third = on(0);
        assert_eq!(attached(), Some(program));
        messages(&mut [&mut second, &mut third], 2_000);
        second.has_stayed();
        drop(second);
        messages(&mut [&mut third], 2_000);
        third.has_stayed();
    });
}

/// The program in a process of its own, which ends with this value.
struct Process(Child);

impl Process {
    /// On this thread's machine and this queue, once it streams over its ring; others take their turns meanwhile. Nobody spins: where
    /// there are few cores, one of them would be late, its peer would send again, and Linux draws the flow's hash anew then.
    fn new(rig: &Rig, queue: &str, mut turn: impl FnMut()) -> Self {
        for _ in 0..ATTEMPTS {
            let arguments = ["--mode", "driver", "--queue", queue, "--format", "none", "--wait", "poll"];
            let mut command = rig.stream(Command::new(wiretick_program()), &arguments);
            let mut process = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            let began = Instant::now();
            // What arrives on the wrong queue ends with exit code 3, within a few hundred milliseconds.
            while began.elapsed() < Duration::from_millis(1_500) {
                if let Some(status) = process.0.try_wait().unwrap() {
                    assert_eq!(status.code(), Some(3));
                    break;
                }
                turn();
            }
            if process.lives() {
                return process;
            }
        }
        panic!("{ATTEMPTS} connections arrived on the wrong queue");
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Process {
    /// With SIGKILL.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn killed() {
    on_client(|rig| {
        let first = Process::new(rig, "0", || std::thread::sleep(Duration::from_millis(5)));
        let program = attached().expect("a program");
        let mut second = Watched::new(|| rig.builder().mode(Mode::Driver).queue(1).wait(Wait::Poll));
        assert_eq!(attached(), Some(program), "that of the other process is shared");
        messages(&mut [&mut second], 3_000);
        drop(first);
        // Its peer goes on sending for a while; nobody else's connection is the worse for it.
        messages(&mut [&mut second], 5_000);
        second.has_stayed();
        assert_eq!(attached(), Some(program));
        let mut third = Process::new(rig, "0", || second.turn());
        assert_eq!(attached(), Some(program), "a process shares what this one holds");
        messages(&mut [&mut second], 3_000);
        second.has_stayed();
        drop(second);
        assert_eq!(attached(), Some(program));
        assert!(third.lives(), "it streams on");
    });
}

/// Where the second feed's frames arrive on the first one's queue, the first one's ring gets none of them, and the second is told
/// which queue it is.
fn astray() {
    on_client(|rig| {
        let mut first = Watched::new(|| rig.builder().mode(Mode::Driver).queue(0));
        let mut refused = 0;
        for _ in 0..ATTEMPTS {
            let feed = rig.builder().mode(Mode::Driver).queue(1).connect().unwrap();
            let mut second = Watched { feed, seen: Seen::default() };
            let result = loop {
                first.turn();
                match second.feed.turn(Monotonic.now(), &mut second.seen) {
                    Ok(_) if second.feed.mode() == Mode::Driver => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error.to_string()),
                }
            };
            if let Err(reason) = result {
                assert!(reason.contains("arrive on queue 0: use --queue 0"), "{reason}");
                refused += 1;
                if refused == 3 {
                    break;
                }
            }
        }
        assert_eq!(refused, 3);
        messages(&mut [&mut first], 2_000);
        first.has_stayed();
    });
}

fn unfit() {
    on_client(|rig| {
        let mut first = Watched::new(|| rig.builder().mode(Mode::Driver).queue(0));
        let error = |builder: FeedBuilder| builder.connect().map(drop).unwrap_err().to_string();
        let skb = error(rig.builder().mode(Mode::Skb).queue(1));
        assert!(skb.contains("it runs in the driver: use --mode driver"), "{skb}");
        assert!(skb.contains(&format!("(pid {})", std::process::id())), "{skb}");
        let stamped = error(rig.builder().mode(Mode::Driver).queue(1).stamp_arrivals(true));
        assert!(stamped.contains("no time of arrival"), "{stamped}");
        messages(&mut [&mut first], 1_000);
        first.has_stayed();
    });
}
