//! The command line. Doc comments here are what `--help` prints, so they hold no markup.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use log::LevelFilter;
use wiretick::feed::{self, Queues};

use crate::doctor::{self, DoctorArgs};
use crate::exit;
use crate::tune::{self, TuneArgs};

/// A kernel-bypass client for exchange WebSocket feeds.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Connect to a feed and print its events.
    ///
    /// Events go to stdout and nothing else does; the log and the closing table go to stderr.
    #[command(after_help = exit::HELP)]
    Stream(Box<StreamArgs>),
    /// Say what keeps this machine from the best mode there is, and what makes messages late; then prove it with frames.
    #[command(after_help = doctor::HELP)]
    Doctor(DoctorArgs),
    /// Show what an interface wants for the bypass, as commands; or do it, and undo it.
    #[command(after_help = tune::HELP)]
    Tune(TuneArgs),
    /// Say what would bring connections to a receive queue, or prove it with connections to a peer.
    ///
    /// Without --prove nothing is changed and nothing sent, and no privilege is needed: it says what the driver offers, and
    /// which local ports lead to the queue.
    Steer(SteerArgs),
}

#[derive(Args, Debug)]
pub(crate) struct SteerArgs {
    /// Whom to connect to: HOST:PORT or ADDRESS:PORT; several are taken in turns.
    #[arg(required = true, value_name = "PEER")]
    pub(crate) peers: Vec<String>,

    /// The interface to use [default: the one the route leads over].
    #[arg(long, value_name = "IF")]
    pub(crate) interface: Option<String>,

    /// The receive queue to be on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) queue: u32,

    /// How many connections to choose a port for, or to make.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) flows: u32,

    /// Make the connections, and count on which queue the peer's frames arrive. The peer has to accept TCP connections; they are
    /// reset at once. Exit code 0 where every one arrived on the queue, 3 otherwise.
    #[arg(long)]
    pub(crate) prove: bool,

    /// With --prove: what brings the flows to the queue.
    #[arg(long, value_enum, default_value_t = SteerArg::Auto, requires = "prove")]
    pub(crate) steer: SteerArg,

    /// With --prove: where the program that counts runs, as for stream.
    #[arg(long, value_enum, default_value_t = ModeArg::Auto, requires = "prove")]
    pub(crate) mode: ModeArg,

    /// Print one JSON document.
    #[arg(long)]
    pub(crate) json: bool,

    /// How long a connection may take to be made.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s", requires = "prove")]
    pub(crate) connect_timeout: Duration,

    /// How much to log: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value_t = LevelFilter::Info)]
    pub(crate) log: LevelFilter,
}

#[derive(Args, Debug)]
pub(crate) struct StreamArgs {
    /// The feed: wss://HOST[:PORT]/PATH, or ws:// without TLS.
    pub(crate) url: String,

    /// The interface to use [default: the one the route leads over].
    #[arg(long, value_name = "IF")]
    pub(crate) interface: Option<String>,

    /// Which way the messages take. auto tries zerocopy, driver, skb and kernel, each proven with frames of the
    /// connection, and says why not a better one; any other is had or is an error.
    #[arg(long, value_enum, default_value_t = ModeArg::Auto)]
    pub(crate) mode: ModeArg,

    /// The interface's queue on which the flow arrives; or several, as in 0,1, each with a socket of its own; or all. What is
    /// sent leaves over the first one.
    #[arg(long, value_name = "N[,N...]|all", value_parser = queues, default_value = "0")]
    pub(crate) queue: Queues,

    /// What brings the flow to that queue, where the interface has several: a flow rule in the NIC (ntuple), a local port
    /// that the NIC's RSS leads there (port), or nothing. auto tries them in this order, and says what it came to; one that
    /// is named is had or is an error. Frames of the connection show each time where it arrives.
    #[arg(long, value_enum, default_value_t = SteerArg::Auto)]
    pub(crate) steer: SteerArg,

    /// Pin the thread that reads the ring to this CPU.
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,

    /// How the connection comes to the ring: promoted from the kernel in mid-stream, or opened over the ring.
    #[arg(long, value_enum, default_value_t = SetupArg::Kernel)]
    pub(crate) setup: SetupArg,

    /// A text message to send once connected; may be given several times.
    #[arg(long, value_name = "JSON")]
    pub(crate) subscribe: Vec<String>,

    /// Trust the certificates in this file instead of the roots of the public web.
    #[arg(long, value_name = "PEM")]
    pub(crate) ca_file: Option<PathBuf>,

    /// A header for the upgrade request; may be given several times.
    #[arg(long, value_name = "K: V", value_parser = header)]
    pub(crate) header: Vec<(String, String)>,

    /// What to print for each message: the decoded event as a line of JSON, the payload as it came, or nothing.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(crate) format: Format,

    /// Close after this many messages.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Close after this long, counted from the first turn (30s, 5m, 1h30m).
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) duration: Option<Duration>,

    /// What to do while nothing arrives: look again at once, or sleep until something does.
    #[arg(long, value_enum, default_value_t = WaitArg::Spin)]
    pub(crate) wait: WaitArg,

    /// Measure latency from this field of each JSON message, which holds the sender's CLOCK_MONOTONIC nanoseconds, to
    /// the moment the decoded event reaches the handler.
    #[arg(long, value_name = "NAME")]
    pub(crate) stamp_field: Option<String>,

    /// Leave the first N messages out of the latency figures.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warmup: u64,

    /// Answer each message that has this field, a number, with a text message that begins with that number: whoever sends
    /// the messages can then time the answers. With --stamp-field, it must be the same field.
    #[arg(long, value_name = "NAME")]
    pub(crate) echo_field: Option<String>,

    /// Look at the clock at every stage of each message, from the XDP program to the end of the handler, and add the times
    /// to the closing figures.
    #[arg(long)]
    pub(crate) stages: bool,

    /// Log each message that takes longer than this from where it was sent to its event, with the cause. Without
    /// --stamp-field, it is counted from its arrival.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) slow_log: Option<Duration>,

    /// Run with real-time priority (SCHED_FIFO) and all memory locked. Together with spinning, it takes its core for
    /// itself: give it one with --core that nothing else needs.
    #[arg(long)]
    pub(crate) rt: bool,

    /// Set the interface up as its driver wants it for the bypass, and put it back at the end, whatever that is. wiretick tune shows
    /// what that would be.
    #[arg(long)]
    pub(crate) tune: bool,

    /// Poll the driver from the thread that reads the ring, instead of waiting for interrupts (preferred busy polling). It takes a driver
    /// that links its NAPI, which the log tells; on a veth it has no effect. Interrupts stay away only with --tune.
    #[arg(long)]
    pub(crate) busy_poll: bool,

    /// Whenever nothing has come for so long, decrypt and decode a message that has come before once more, so that the next one
    /// finds code and tables in the core's caches. Only for a lane that spins.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, num_args = 0..=1, default_missing_value = "20us", require_equals = true)]
    pub(crate) keep_warm: Option<Duration>,

    /// Open a second connection to the same feed that stays in the kernel, and measure for each message by how much the
    /// bypassed one has it earlier. Events and all other figures are of the bypassed one. With --mode kernel, both stay in
    /// the kernel: what is measured then is the error of the measurement.
    #[arg(long, conflicts_with_all = ["stages", "slow_log", "echo_field"])]
    pub(crate) compare: bool,

    /// Pin the thread of the kernel connection to this CPU: another one than that of --core.
    #[arg(long, value_name = "N", requires = "compare")]
    pub(crate) compare_core: Option<usize>,

    /// Make a connection that is lost anew until the feed is closed, after a pause of 0.1 s that doubles with each failure up
    /// to 30 s, and replace one that the venue is about to close.
    #[arg(long)]
    pub(crate) reconnect: bool,

    /// Keep this many connections (1 to 4), to different addresses where the name has several. Each message counts once, from
    /// whichever connection has it first. More than one implies --reconnect.
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "compare")]
    pub(crate) connections: usize,

    /// Replace a connection of this age by another one, without missing a message (Binance ends them after 24 h: 23h50m).
    /// Implies --reconnect.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) max_age: Option<Duration>,

    /// Take an open connection over which nothing comes for this long for lost.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) idle_timeout: Option<Duration>,

    /// Warn when events are this far behind the venue's clock (as this machine's clock sees it), and count them. With
    /// --reconnect, a connection that stays behind for 5 s is replaced.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) max_lag: Option<Duration>,

    /// Send at most this many messages a second, answers to pings and subscriptions included (--echo-field is counted, and
    /// never waits); 0: any number. Binance ends connections that send more than 5.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) message_budget: u32,

    /// Offer the connection to a successor at this Unix socket: a process of the same user, or root's, started with
    /// --take-over, goes on with it, and this one ends.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["compare", "connections"])]
    pub(crate) succession: Option<PathBuf>,

    /// Go on with the connection of the process that offers it at this Unix socket, instead of making one. The URL must be
    /// the same.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["compare", "setup"])]
    pub(crate) take_over: Option<PathBuf>,

    /// What to do when told to end: close the connection; or bring it home to the kernel, and close it only if no successor
    /// has come within 10 s.
    #[arg(long, value_enum, default_value_t = OnExit::Close, requires_if("demote", "succession"))]
    pub(crate) on_exit: OnExit,

    /// Write the closing figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: Option<PathBuf>,

    /// Refuse messages larger than this.
    #[arg(long, value_name = "N", default_value_t = wiretick::floor::Limits::default().message_bytes_max)]
    pub(crate) max_message_bytes: usize,

    /// How long connecting may take, and then again the handshakes until messages flow.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "10s")]
    pub(crate) connect_timeout: Duration,

    /// What to keep once the feed flows: everything; what it takes to bring the connection home to the kernel when the ring
    /// fails, and back; or nothing at all, so that a ring that fails is the end, and a connection that is made anew
    /// (--reconnect) stays in the kernel.
    #[arg(long, value_enum, default_value_t = PrivilegesArg::Demote)]
    pub(crate) privileges: PrivilegesArg,

    /// Change to this user, and its groups, as soon as there is a connection and before the peer has said anything.
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,

    /// Write TLS secrets to the file that SSLKEYLOGFILE names: for debugging, and never on its own.
    #[arg(long)]
    pub(crate) key_log: bool,

    /// How much to log: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value_t = LevelFilter::Info)]
    pub(crate) log: LevelFilter,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeArg {
    Auto,
    Kernel,
    Skb,
    Driver,
    Zerocopy,
}

impl From<ModeArg> for feed::Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Auto => Self::Auto,
            ModeArg::Kernel => Self::Kernel,
            ModeArg::Skb => Self::Skb,
            ModeArg::Driver => Self::Driver,
            ModeArg::Zerocopy => Self::ZeroCopy,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrivilegesArg {
    Keep,
    Demote,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnExit {
    Close,
    Demote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SetupArg {
    Kernel,
    Ring,
}

impl From<SetupArg> for feed::Setup {
    fn from(setup: SetupArg) -> Self {
        match setup {
            SetupArg::Kernel => Self::Kernel,
            SetupArg::Ring => Self::Ring,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SteerArg {
    Auto,
    Ntuple,
    Port,
    None,
}

impl From<SteerArg> for feed::Steer {
    fn from(steer: SteerArg) -> Self {
        match steer {
            SteerArg::Auto => Self::Auto,
            SteerArg::Ntuple => Self::Ntuple,
            SteerArg::Port => Self::Port,
            SteerArg::None => Self::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitArg {
    Spin,
    Poll,
}

impl From<WaitArg> for feed::Wait {
    fn from(wait: WaitArg) -> Self {
        match wait {
            WaitArg::Spin => Self::Spin,
            WaitArg::Poll => Self::Poll,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Json,
    Raw,
    None,
}

fn queues(text: &str) -> Result<Queues, String> {
    if text == "all" {
        return Ok(Queues::All);
    }
    let number = |part: &str| part.trim().parse().map_err(|_| format!("{part:?} is no queue: a number, or all"));
    text.split(',').map(number).collect::<Result<_, _>>().map(Queues::These)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header has the form 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn queues_are_numbers_or_all_of_them() {
        assert_eq!(queues("all"), Ok(Queues::All));
        assert_eq!(queues("3"), Ok(Queues::These(vec![3])));
        assert_eq!(queues("1, 0"), Ok(Queues::These(vec![1, 0])));
        for wrong in ["", "0,", "-1", "every", "0-3"] {
            assert!(queues(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_header_is_a_name_and_a_value() {
        assert_eq!(header("X-Key: a: b "), Ok(("X-Key".to_owned(), "a: b".to_owned())));
        assert!(header("nonsense").is_err());
    }
}
