//! Who is measured at which load.
//!
//! Everybody everywhere would take an hour. What is left out is what says little: the loads that decide (TLS, 10,000 and 50,000
//! a second, and saturated) have everybody; the others have [`CORE`], those with pauses in them [`WARM`], tick-to-trade at its higher
//! rate [`NAMED`] as well, those without TLS [`FEW`].

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::contender::{Contender, Family};
use crate::load::{Kind, Scene};
use crate::payload::{self, Capture};
use crate::peers;
use crate::results::Skipped;

/// What the matrix is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Full,
    Quick,
}

/// How long a paced run lasts: 1,750 messages at the lowest rate, enough for a 99th percentile, and short enough for three
/// rounds of everything in about 15 minutes.
const FULL: Duration = Duration::from_millis(1750);
const QUICK: Duration = Duration::from_secs(1);

/// How long a paced run lasts that stands beside another of the same kind: without TLS, where a load is repeated to see what TLS
/// costs, and for the times of the stages. Enough for medians.
const BRIEF: Duration = Duration::from_millis(1250);

/// Messages a second at which the stages are timed.
const STAGES: [u64; 3] = [1_000, 10_000, 50_000];

/// Messages of a saturated run, by frames in a record: about two seconds of the fastest client.
const SATURATED: [(u64, u64); 2] = [(1, 1_500_000), (16, 3_000_000)];

/// At loads that are not for everybody: every mode of wiretick, the kernel's best ways and one that sleeps, and the best of
/// the peers.
pub(crate) const CORE: [&str; 9] = [
    "wiretick driver",
    "wiretick skb",
    "wiretick kernel",
    "kernel epoll",
    "kernel io-uring-spin",
    "kernel spin",
    "kernel busy-poll",
    "beast-spin",
    "boomnet",
];

/// The same with `--keep-warm`, on the bypass and on a kernel socket.
pub(crate) const WARM: [&str; 2] = ["wiretick driver warm", "wiretick kernel warm"];

/// Peers that most people would name.
pub(crate) const NAMED: [&str; 3] = [peers::BEAST, peers::BEAST_AWAKE, peers::PYTHON];

/// Without TLS: how much of the figures is TLS.
pub(crate) const FEW: [&str; 5] = ["wiretick driver", "wiretick kernel", "kernel spin", "beast-spin", "boomnet"];

/// Who times its stages: wiretick in each of its modes.
const STAGED: [&str; 4] = ["wiretick driver", "wiretick skb", "wiretick kernel", WARM[0]];

/// Who takes the snapshot: wiretick in each of its modes, and its stages over a plain socket.
const SNAPSHOT: [&str; 4] = ["wiretick driver", "wiretick skb", "wiretick kernel", "kernel spin"];

/// What is skipped where there are no captures, and has a place of its own in the report.
pub(crate) const SNAPSHOT_LOAD: &str = "captured snapshot";

/// Ways of `kernel-client` to wait.
const WAITS: [&str; 6] = ["blocking", "epoll", "io-uring", "io-uring-spin", "spin", "busy-poll"];

/// A load and those who take it.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) scene: Scene,
    /// Numbers in [`Plan::contenders`].
    pub(crate) contenders: Vec<usize>,
}

/// Everything that is to be run in one round.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) contenders: Vec<Contender>,
    pub(crate) acts: Vec<Act>,
    pub(crate) skipped: Vec<Skipped>,
}

impl Plan {
    /// The whole matrix, or the part of it that two minutes allow.
    pub(crate) fn new(size: Size) -> Result<Self, Box<dyn Error>> {
        let mut plan = Self::default();
        for mode in ["driver", "skb", "kernel"] {
            plan.contenders.push(Contender::wiretick(mode)?);
        }
        for (name, mode) in WARM.into_iter().zip(["driver", "kernel"]) {
            plan.contenders.push(Contender::wiretick(mode)?.with("--keep-warm", name));
        }
        for wait in WAITS {
            plan.contenders.push(Contender::kernel(wait)?);
        }
        plan.skip("kernel ktls", ktls());
        plan.skip("wiretick zerocopy", "veth, which this network is made of, has no zero-copy mode");
        match peers::available(Path::new(peers::LIST)) {
            Ok(peers) => plan.contenders.extend(peers),
            Err(error) => plan.skip("all peers", &format!("not installed (benches/peers/install): {error}")),
        }
        match size {
            Size::Full => plan.full()?,
            Size::Quick => plan.quick()?,
        }
        plan.name_the_missing();
        Ok(plan)
    }

    /// The modes of wiretick alone, at these rates.
    pub(crate) fn modes(rates: &[u64], seconds: u64) -> Result<Self, Box<dyn Error>> {
        let mut plan = Self::default();
        for mode in ["kernel", "skb", "driver"] {
            plan.contenders.push(Contender::wiretick(mode)?);
        }
        for rate in rates {
            plan.add(Scene::mixed(*rate, seconds)?, |_| true);
        }
        Ok(plan)
    }

    fn full(&mut self) -> Result<(), &'static str> {
        for rate in [1_000, 10_000, 50_000] {
            self.add(Scene::paced(rate, true, FULL)?, |it| rate > 1_000 || with_pauses(it));
        }
        for rate in [10_000, 50_000] {
            self.add(Scene::paced(rate, false, BRIEF)?, |it| is_in(&FEW, it));
        }
        for rate in STAGES {
            self.add(Scene::stages(rate, BRIEF)?, |it| is_in(&STAGED, it));
        }
        self.add(Scene::at_once(true, FULL)?, |it| is_in(&CORE, it));
        self.add(Scene::at_once(false, BRIEF)?, |it| is_in(&FEW, it));
        match Capture::find() {
            Ok(capture) => {
                self.add(Scene::captured(capture.densest(FULL), true), with_pauses);
                self.add(Scene::last_of_burst(&capture.burst(), true, FULL), with_pauses);
                self.add(Scene::last_of_burst(&capture.burst(), false, BRIEF), |it| is_in(&FEW, it));
            }
            Err(error) => {
                // The reason may name folders of this machine: for who runs this, not for the report.
                eprintln!("bench: {error}");
                self.skip("loads at captured arrival times", "the captured feeds are not on this machine");
            }
        }
        match payload::snapshot() {
            Ok(snapshot) => self.add(Scene::snapshot(snapshot, BRIEF)?, |it| is_in(&SNAPSHOT, it)),
            Err(error) => {
                eprintln!("bench: {error}");
                self.skip(SNAPSHOT_LOAD, "the captured feeds are not on this machine");
            }
        }
        for (frames, count) in SATURATED {
            self.add(Scene::saturated(frames, count, true), |it| {
                // On a saturated connection nobody sleeps or waits: spinning twins and the like would be measured twice.
                let is_twin = it.core_awake || it.name.ends_with(" spinning") || is_in(&WARM, it);
                !is_twin && (frames > 1 || is_in(&CORE, it))
            });
        }
        self.add(Scene::saturated(SATURATED[1].0, SATURATED[1].1, false), |it| is_in(&FEW, it));
        for rate in [1_000, 10_000] {
            self.add(Scene::tick_to_trade(rate, FULL)?, |it| with_pauses(it) || (rate > 1_000 && is_in(&NAMED, it)));
        }
        Ok(())
    }

    fn quick(&mut self) -> Result<(), &'static str> {
        for rate in [10_000, 50_000] {
            self.add(Scene::paced(rate, true, QUICK)?, |it| is_in(&CORE, it) || is_in(&NAMED, it));
        }
        Ok(())
    }

    /// Leaves out loads and contenders whose names hold none of these words; no words leave everything in.
    pub(crate) fn narrow(&mut self, loads: &[String], contenders: &[String]) {
        let is_in =
            |words: &[String], name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
        self.acts.retain(|act| is_in(loads, &act.scene.load.id()));
        for act in &mut self.acts {
            act.contenders.retain(|at| is_in(contenders, &self.contenders[*at].name));
        }
        self.acts.retain(|act| !act.contenders.is_empty());
    }

    /// Runs of one round.
    pub(crate) fn runs(&self) -> usize {
        self.acts.iter().map(|act| act.contenders.len()).sum()
    }

    /// About how long one round takes.
    pub(crate) fn expected(&self) -> Duration {
        self.acts.iter().map(|act| act.scene.expected() * act.contenders.len() as u32).sum()
    }

    fn add(&mut self, scene: Scene, is_wanted: impl Fn(&Contender) -> bool) {
        let contenders = (0..self.contenders.len()).filter(|at| is_wanted(&self.contenders[*at])).collect();
        self.acts.push(Act { scene, contenders });
    }

    fn skip(&mut self, what: &str, why: &str) {
        self.skipped.push(Skipped { what: what.to_owned(), why: why.to_owned() });
    }

    /// Peers that the matrix names and that are not there.
    fn name_the_missing(&mut self) {
        for name in CORE.into_iter().chain(NAMED) {
            let is_there = self.contenders.iter().any(|it| it.name == name);
            if !is_there && self.contenders.iter().any(|it| it.family == Family::Peer) {
                self.skip(name, "not installed (benches/peers/install says why)");
            }
        }
    }

    /// The matrix in words, for the report.
    pub(crate) fn selection() -> String {
        format!(
            "Not everybody is measured at every load, or it would take an hour. At 10,000 and 50,000 messages a second and saturated \
             with 16 frames a record, all with TLS, everybody is (saturated without the variants that differ in how they wait); at \
             the other loads with TLS: {}; where there are pauses (1,000 a second, captured times, tick-to-trade): {} as well; at \
             tick-to-trade, 10,000 a second: {} as well; without TLS: {}; the stages: {}; the captured snapshot: {}. \"warm\" is \
             with --keep-warm.",
            CORE.join(", "),
            WARM.join(", "),
            NAMED.join(", "),
            FEW.join(", "),
            STAGED.join(", "),
            SNAPSHOT.join(", ")
        )
    }
}

/// Who is measured at loads with pauses in them, of those that are not for everybody.
fn with_pauses(contender: &Contender) -> bool {
    is_in(&CORE, contender) || is_in(&WARM, contender)
}

fn is_in(names: &[&str], contender: &Contender) -> bool {
    names.contains(&contender.name.as_str())
}

/// Why kTLS is not measured.
fn ktls() -> &'static str {
    let is_listed = || {
        let ulps = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
        ulps.split_whitespace().any(|ulp| ulp == "tls")
    };
    // Listed is what is loaded; a module would be loaded when a socket asks for it.
    let is_module = || {
        let dry = Command::new("modprobe").args(["--dry-run", "--quiet", "tls"]).stderr(Stdio::null()).status();
        dry.is_ok_and(|status| status.success())
    };
    if is_listed() || is_module() {
        "this kernel has TLS below sockets, but kernel-client has no way that uses it yet"
    } else {
        "this kernel has no TLS below sockets (CONFIG_TLS)"
    }
}

/// What a load is good for; `None` for those whose name says it.
pub(crate) fn explanation(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Paced(_) => None,
        Kind::Captured => Some(
            "Trades, tickers and depth of a captured feed at the times at which they arrived; every message \
             is timed. Where they came closer together than the exchange can send, they are \"sent late\".",
        ),
        Kind::LastOfBurst(_) => Some(
            "The densest ten milliseconds of a captured feed, every 50 ms anew. Timed is the last message of each burst, from its own \
             send to its event.",
        ),
        Kind::AtOnce(_) => Some(
            "Given to the exchange's TLS in one call, every 100 ms anew. Timed is the last message of each, from before the first was \
             sealed: the time that the whole burst takes.",
        ),
        Kind::Saturated(_) => Some(
            "As fast as the connection goes; nothing is timed and no stamp is in the messages, so no clock is read. Slow clients get \
             fewer messages, so that a run takes seconds for everybody.",
        ),
        Kind::Stages(_) => Some(
            "Runs of their own with `--stages`: six looks at the clock for each message, which the latencies above do not contain. A \
             stage is the time from the end of the one before it; in nanoseconds, medians over the rounds. The p50 of stages \
             do not add up exactly to the p50 of the whole (each is the median of other messages, and their spreads differ), so the \
             whole stands beside them: the sum is for the eye, the whole is the figure. Before the XDP program a message is the \
             sender's and the kernel's; on a kernel socket everything up to our read is in that stage.",
        ),
        Kind::Snapshot(_) => Some(
            "The largest message of the captured feeds, Coinbase's first picture of a book: one WebSocket message, eight times a second, \
             the first of each run left out. From before the exchange seals it, which it does as a whole before the first byte leaves, \
             to the handler. The sealing is the same for everybody, and so is the JSON, which is read to its end for the stamp. Sent \
             over the link of the saturated streams. MB/s is the message's size by its median time.",
        ),
        Kind::TickToTrade(_) => Some(
            "Each message is answered with a text frame that holds its stamp. Timed by the exchange: from the send of the message to \
             the receipt of the answer. Every answer counts, those during the promotion too.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan() -> Plan {
        let argv = ["x".to_owned()];
        let names = CORE.iter().chain(&WARM).chain(&NAMED).chain(&["fastwebsockets", "fastwebsockets spinning"]);
        let contender = |name: &&str| {
            let peer = Contender::peer(name, &argv, BTreeMap::new())?;
            Some(if *name == peers::BEAST_AWAKE { peer.on_awake_core(name) } else { peer })
        };
        Plan { contenders: names.filter_map(contender).collect(), ..Plan::default() }
    }

    fn named(plan: &Plan, id: &str) -> usize {
        plan.acts.iter().find(|act| act.scene.load.id() == id).map_or(0, |act| act.contenders.len())
    }

    #[test]
    fn the_loads_that_decide_have_everybody() {
        let mut plan = plan();
        plan.full().unwrap();
        let everybody = CORE.len() + WARM.len() + NAMED.len() + 2;
        assert_eq!(["paced-10000", "paced-50000"].map(|id| named(&plan, id)), [everybody; 2]);
        assert_eq!(["paced-1000", "saturated-1", "tick-to-trade-10000"].map(|id| named(&plan, id)), [11, 9, 14]);
        assert_eq!(["paced-10000-plain", "saturated-16-plain"].map(|id| named(&plan, id)), [FEW.len(); 2]);
        assert_eq!(named(&plan, "saturated-16"), everybody - 2 - WARM.len(), "nobody sleeps there");
        assert_eq!(["stages-1000", "stages-10000", "stages-50000"].map(|id| named(&plan, id)), [STAGED.len(); 3]);
        let is_told = plan.skipped.iter().any(|it| it.what == SNAPSHOT_LOAD);
        assert_eq!(named(&plan, "captured-snapshot") == 0, is_told, "measured, or skipped by name");
    }

    #[test]
    fn it_can_be_narrowed() {
        let mut plan = plan();
        plan.full().unwrap();
        plan.narrow(&["paced-10000".to_owned()], &["beast".to_owned(), "driver".to_owned()]);
        assert_eq!(["paced-10000", "paced-10000-plain", "paced-1000"].map(|id| named(&plan, id)), [5, 2, 0]);
        assert_eq!(plan.runs(), 7);
    }

    #[test]
    fn a_quick_one_is_quick() {
        let mut plan = plan();
        plan.quick().unwrap();
        assert!(plan.expected() < Duration::from_secs(60), "{:?}", plan.expected());
    }
}
