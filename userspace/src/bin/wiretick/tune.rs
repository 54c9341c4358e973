//! `wiretick tune`, and `stream --tune`: an interface set up for the bypass, and put back afterwards.
//!
//! `stream` gives its privileges up, and could not put anything back at its end. So the changes are made by a process of their own, this
//! program again, which does nothing but wait: it puts everything back when its standard input ends, and that is a pipe whose other end
//! closes with the streaming process, however that ends. Nothing is ever sent through it. Should both be killed, what was changed is written down, and
//! the next start undoes it. Doc comments on options are what `--help` prints, so they hold no markup.
#![allow(clippy::doc_markdown)]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use wiretick::control::link::{self, Link};
use wiretick::control::nic::{Host, Nic, receiver};
use wiretick::control::tune::{self, Outcome, Plan, Tuning, Wishes};
use wiretick::control::{Target, resolve, route};
use wiretick::feed::Error;

use crate::args::{ModeArg, StreamArgs};
use crate::exit::Failure;

/// What it says when the changes are made.
const READY: &str = "ready";
/// How long a process that puts things back may take: drivers refuse while the program is still on the interface, and links have to come back.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at signals.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// What `--help` says besides the options.
pub(crate) const HELP: &str = "\
Without --hold or --undo, nothing is changed: the commands are printed, each with its reason.

What is changed is written down in /run/wiretick first. It is undone when the last process that uses it ends; where that was
killed, by the next wiretick that starts, or by --undo. A setting that somebody else has changed meanwhile is left alone.";

#[derive(Args, Debug)]
pub(crate) struct TuneArgs {
    /// The interface.
    #[arg(long, value_name = "IF", required_unless_present = "undo")]
    interface: Option<String>,

    /// Make the changes, and undo them when this ends (Ctrl-C, TERM).
    #[arg(long)]
    hold: bool,

    /// Undo what killed processes have left behind, on all interfaces of this network namespace.
    #[arg(long, conflicts_with_all = ["hold", "interface"])]
    undo: bool,

    /// For stream --busy-poll: keep interrupts away while the lane polls.
    #[arg(long)]
    busy_poll: bool,

    /// For stream --mode skb: switch off what merges segments before generic XDP sees them.
    #[arg(long)]
    skb: bool,

    /// End when the standard input ends, too.
    #[arg(long, hide = true, requires = "hold")]
    while_stdin: bool,

    /// How much to log.
    #[arg(long, hide = true, value_name = "LEVEL", default_value_t = LevelFilter::Info)]
    pub(crate) log: LevelFilter,
}

pub(crate) fn run(args: &TuneArgs) -> Result<(), Failure> {
    let Some(name) = &args.interface else { return undo() };
    let leaves = link::by_name(name).map_err(Error::Control)?;
    let receiver = receiver::of(&leaves).map_err(Error::Control)?;
    let wishes = Wishes { busy_poll: args.busy_poll, skb: args.skb, vlan: receiver.vlan().is_some() };
    let cpus = u32::try_from(Host::read(None).online.len()).unwrap_or(u32::MAX);
    if args.hold {
        return hold(&receiver.link, &wishes, cpus, args.while_stdin);
    }
    let nic = Nic::read(&receiver.link).map_err(Error::Control)?;
    say(&describe(&nic, &Plan::new(&nic, &wishes, cpus)))
}

/// A plan as lines of commands.
fn describe(nic: &Nic, plan: &Plan) -> String {
    let mut lines: Vec<_> = plan
        .steps
        .iter()
        .map(|step| {
            let weight = if step.needed { "needed" } else { "quicker" };
            format!("{}   # {weight}: {}", step.change.command(&nic.name), step.reason)
        })
        .collect();
    lines.extend(plan.obstacles.iter().map(|obstacle| format!("# {} ({})", obstacle.what, obstacle.source)));
    if lines.is_empty() {
        let known =
            if tune::preset(nic).is_some() { "" } else { ", as far as is known: its driver is not in the table" };
        lines.push(format!("# {}: nothing to change{known}", nic.name));
    }
    lines.join("\n")
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(|source| Failure::File { what: "stdout".to_owned(), source })
}

fn undo() -> Result<(), Failure> {
    let found = tune::undo_abandoned().map_err(Error::Control)?;
    let mut stuck = false;
    for (interface, outcomes) in &found {
        for outcome in outcomes {
            stuck |= matches!(outcome, Outcome::Stuck(..));
            say(&told(interface, outcome))?;
        }
    }
    if found.is_empty() {
        say("# nothing was left behind")?;
    }
    if stuck { Err(Failure::Machine("not everything could be undone".to_owned())) } else { Ok(()) }
}

/// An outcome as a line.
fn told(interface: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Made(step) => format!("{interface}: {} ({})", step.change.command(interface), step.reason),
        Outcome::Refused(step, why) => format!("{interface}: {} was refused: {why}", step.change.command(interface)),
        Outcome::Shared(step) => format!("{interface}: {} is {}, {}", step.change.setting, step.change.to, step.reason),
        Outcome::Undone(change) => format!("{interface}: undone: {}", change.reversed().command(interface)),
        Outcome::LeftAlone(change, now) => {
            format!("{interface}: {} is left alone: somebody else has set it to {now}", change.setting)
        }
        Outcome::Stuck(change, why) => {
            format!("{interface}: not undone ({why}): {}", change.reversed().command(interface))
        }
    }
}

fn log(interface: &str, outcomes: &[Outcome]) {
    for outcome in outcomes {
        let line = told(interface, outcome);
        match outcome {
            Outcome::Made(_) | Outcome::Undone(_) | Outcome::Shared(_) => log::info!("{line}"),
            Outcome::Refused(..) | Outcome::LeftAlone(..) => log::warn!("{line}"),
            Outcome::Stuck(..) => log::error!("{line}"),
        }
    }
}

/// Makes the changes, waits, and undoes them.
fn hold(link: &Link, wishes: &Wishes, cpus: u32, while_stdin: bool) -> Result<(), Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .map_err(|error| Failure::Machine(format!("signal {signal} cannot be handled: {error}")))?;
    }
    let tuning = Tuning::hold(link, wishes, cpus).map_err(Error::Control)?;
    log(&link.name, &tuning.outcomes);
    // Whoever is not there any more has ended, and the next lines notice.
    let _ = writeln!(io::stdout(), "{READY}");
    let stdin = io::stdin();
    while !stop.load(Ordering::Relaxed) {
        // Without a pipe to watch, only signals end it.
        let mut watched = if while_stdin { vec![PollFd::new(&stdin, PollFlags::IN)] } else { Vec::new() };
        let ready = poll(&mut watched, Some(&NAP)).is_ok_and(|ready| ready > 0);
        if ready && matches!(stdin.lock().read(&mut [0; 64]), Ok(0) | Err(_)) {
            break;
        }
    }
    let outcomes = tuning.undo().map_err(Error::Control)?;
    log(&link.name, &outcomes);
    Ok(())
}

/// A process that keeps an interface tuned for as long as this lives.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// Its end tells the process to put everything back.
    pipe: Option<ChildStdin>,
    /// Its end tells that it has.
    done: ChildStdout,
}

impl Keeper {
    /// Undoes what was left behind, and, where `--tune` asks for it, starts the process and waits until the changes are made.
    pub(crate) fn start(args: &StreamArgs) -> Result<Option<Self>, Failure> {
        match tune::undo_abandoned() {
            Ok(found) => found.iter().for_each(|(interface, outcomes)| log(interface, outcomes)),
            Err(error) => log::warn!("{error}"),
        }
        if !args.tune || args.mode == ModeArg::Kernel {
            return Ok(None);
        }
        let interface = interface(args)?;
        let mut command = Command::new("/proc/self/exe");
        command.args(["tune", "--log", args.log.as_str(), "--hold", "--while-stdin", "--interface", &interface]);
        if args.busy_poll {
            command.arg("--busy-poll");
        }
        if args.mode == ModeArg::Skb {
            command.arg("--skb");
        }
        // A group of its own: Ctrl-C in a terminal goes to the whole group, and this process is to outlive the other one.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let failed = |source: io::Error| Failure::Machine(format!("--tune: {source}"));
        let mut child = command.spawn().map_err(failed)?;
        let (Some(pipe), Some(done)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let mut keeper = Self { pipe: Some(pipe), done };
        let mut line = String::new();
        BufReader::new(&mut keeper.done).read_line(&mut line).map_err(failed)?;
        if line.trim() == READY {
            Ok(Some(keeper))
        } else {
            // It has said why.
            Err(Failure::Machine(format!("--tune: {interface} could not be tuned")))
        }
    }
}

impl Drop for Keeper {
    /// Waits until everything is put back. With `read` and `poll` alone: by now, other calls may be forbidden.
    fn drop(&mut self) {
        drop(self.pipe.take());
        let until = Instant::now() + PATIENCE;
        loop {
            let mut watched = [PollFd::new(&self.done, PollFlags::IN)];
            match poll(&mut watched, Some(&NAP)) {
                Ok(0) | Err(_) => {}
                Ok(_) if matches!(self.done.read(&mut [0; 64]), Ok(0) | Err(_)) => return,
                Ok(_) => {}
            }
            if Instant::now() > until {
                log::error!("what --tune has changed is not undone yet; see: wiretick tune --undo");
                return;
            }
        }
    }
}

/// The interface that the feed will use.
fn interface(args: &StreamArgs) -> Result<String, Failure> {
    if let Some(interface) = &args.interface {
        return Ok(interface.clone());
    }
    let target = Target::parse(&args.url).map_err(Error::Control)?;
    let peers = resolve::addresses(&target).map_err(Error::Control)?;
    let route = route::to(peers[0].ip(), None, None).map_err(Error::Control)?;
    Ok(link::by_index(route.interface).map_err(Error::Control)?.name)
}

/// Says so where the core that reads the ring is far from the NIC.
pub(crate) fn warn_if_far(core: usize, interface: &str) {
    let near = || {
        let receiver = receiver::of(&link::by_name(interface).ok()?).ok()?;
        let node = Nic::read(&receiver.link).ok()?.numa_node?;
        let nodes = wiretick::control::nic::host::nodes();
        let of_core = nodes.iter().position(|cpus| cpus.contains(core))?;
        (of_core != node).then(|| (of_core, node, nodes.get(node).map(ToString::to_string).unwrap_or_default()))
    };
    if let Some((of_core, node, cpus)) = near() {
        log::warn!(
            "core {core} is on NUMA node {of_core}, and {interface} on node {node}: every frame crosses between them; take a core of {cpus}"
        );
    }
}

#[cfg(test)]
mod tests {
    use wiretick::control::nic::Coalescing;
    use wiretick::control::offloads::Driver;

    use super::*;

    fn nic(driver: &str) -> Nic {
        Nic {
            name: "eth0".to_owned(),
            mtu: 9_001,
            driver: Driver { name: driver.to_owned(), ..Driver::default() },
            coalescing: Some(Coalescing { rx_usecs: Some(20), ..Coalescing::default() }),
            ..Nic::default()
        }
    }

    #[test]
    fn a_plan_is_lines_that_a_shell_takes() {
        let ena = nic("ena");
        let text = describe(&ena, &Plan::new(&ena, &Wishes::default(), 8));
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("ip link set eth0 mtu 3498   # needed: "), "{text}");
        assert!(lines[1].starts_with("ethtool -C eth0 rx-usecs 0   # quicker: "), "{text}");
        let veth = Nic { mtu: 1_500, coalescing: None, ..nic("veth") };
        assert_eq!(describe(&veth, &Plan::new(&veth, &Wishes::default(), 8)), "# eth0: nothing to change");
        let unknown = Nic { driver: Driver::default(), coalescing: None, ..nic("") };
        assert!(describe(&unknown, &Plan::default()).contains("not in the table"));
    }
}
