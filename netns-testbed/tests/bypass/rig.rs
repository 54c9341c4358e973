//! What every test of the bypass needs: a topology, an exchange on its far side, and a wiretick on its near side.
//!
//! A client runs on a thread inside the client's namespace, either as the library (so that a test can look at addresses
//! and choose moments) or as the program (so that a test can kill it).

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libbpf_rs::ObjectBuilder;
use sha2::{Digest, Sha256};
use wiretick::event::Event;
use wiretick::feed::{Error, Feed, FeedBuilder, Mode, Report};
use wiretick::floor::{Clock, Monotonic, Time};
use wiretick::lane::Outcome;
use wiretick::message::Kind;
use wiretick::path::{Context, Handler};
use wiretick::record::Trust;
use wiretick_testbed::exchange::{Config, Exchange, Feed as Source, Pace, Running, Security, SyntheticPlan, Tls};
use wiretick_testbed::pki::{Authority, Identity, Validity};
use wiretick_testbed::topology::{Plan, Topology};

/// How long any one run may take before its test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The authority all exchanges here are certified by.
pub(crate) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Testbed CA").unwrap());

/// The name of the exchange, where somebody resolves it.
pub(crate) const NAME: &str = "feed.test";

/// A certificate for the addresses and the name of the exchange.
pub(crate) fn identity(validity: Validity) -> Identity {
    AUTHORITY.issue(&["10.77.0.2", "10.77.1.2", "fd77::2", "fd77:0:0:1::2", NAME], validity).unwrap()
}

pub(crate) fn tls() -> Security {
    Security::Tls(Tls::new(identity(Validity::Now)))
}

/// The name of a program that is not a feed's.
pub(crate) const FOREIGN: &str = wiretick_xdp::FLOOR_PROGRAM;

/// A synthetic feed over TLS at this rate.
pub(crate) fn synthetic(rate: u64, count: u64) -> Config {
    Config {
        security: tls(),
        feed: Source::Synthetic(SyntheticPlan::default()),
        pace: Pace::Rate(rate.try_into().unwrap()),
        count: Some(count),
        core: Some(0),
        ..Config::default()
    }
}

/// Two machines and an exchange on one of them.
pub(crate) struct Rig {
    pub(crate) topology: Topology,
    pub(crate) exchange: Running,
    pub(crate) tls: bool,
}

impl Rig {
    pub(crate) fn new(config: Config) -> Self {
        Self::with(&Plan::default(), config, false)
    }

    pub(crate) fn with(plan: &Plan, config: Config, ipv6: bool) -> Self {
        let topology = Topology::new(plan).expect("namespaces");
        let tls = matches!(config.security, Security::Tls(_));
        let host = &topology.exchange;
        let listener = host.ns.listen(if ipv6 { host.v6(0) } else { host.v4(0) }).unwrap();
        let exchange = Exchange::start(config, listener).expect("an exchange");
        Self { topology, exchange, tls }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.exchange.address()
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}/ws", if self.tls { "wss" } else { "ws" }, self.address())
    }

    /// A builder that trusts the exchange.
    pub(crate) fn builder(&self) -> FeedBuilder {
        Feed::builder(&self.url())
            .trust(Trust::from_pem(AUTHORITY.pem().as_bytes()).unwrap())
            .connect_timeout(Duration::from_secs(5))
    }

    /// Runs a feed on the client's machine until it is over.
    pub(crate) fn run(&self, builder: FeedBuilder) -> Run {
        self.topology.client.ns.enter(|| Run::of(builder)).unwrap()
    }

    /// As [`Rig::run`], in this mode, and it must end well.
    pub(crate) fn run_in(&self, mode: Mode) -> Run {
        let run = self.run(self.builder().mode(mode));
        run.result.as_ref().unwrap_or_else(|error| panic!("{mode}: {error}"));
        run
    }

    /// The id of the XDP program on the client's interface.
    pub(crate) fn xdp_program(&self) -> Option<u32> {
        let name = self.topology.client.interface.name;
        self.topology.client.ns.enter(|| wiretick::control::link::by_name(name).unwrap().xdp_program).unwrap()
    }

    /// Attaches a program to the client's interface that is not a feed's, for as long as the answer lives.
    pub(crate) fn attach_foreign(&self) -> (libbpf_rs::Object, libbpf_rs::Link) {
        let index = self.topology.client.interface.index;
        self.topology
            .client
            .ns
            .enter(|| {
                let object = ObjectBuilder::default().open_memory(wiretick_xdp::FLOOR_OBJECT).unwrap().load().unwrap();
                let link = {
                    let program = object.progs_mut().find(|program| program.name() == FOREIGN).unwrap();
                    program.attach_xdp(i32::try_from(index).unwrap()).unwrap()
                };
                (object, link)
            })
            .unwrap()
    }

    /// Waits until no XDP program is on the client's interface: the kernel takes it off a moment after its last owner
    /// is gone.
    pub(crate) fn await_clean(&self) {
        let began = Instant::now();
        while let Some(program) = self.xdp_program() {
            assert!(began.elapsed() < Duration::from_secs(5), "program {program} is still attached");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The program under test, on the client's machine, on core 1.
    pub(crate) fn program(&self, arguments: &[&str]) -> std::process::Command {
        self.stream(self.topology.client.ns.command_on_core(wiretick_program(), 1).unwrap(), arguments)
    }

    /// The same for a command that is the program already, wherever it is to run.
    pub(crate) fn stream(&self, mut command: std::process::Command, arguments: &[&str]) -> std::process::Command {
        command.args(["stream", &self.url(), "--ca-file"]).arg(ca_file()).args(arguments);
        command
    }
}

/// The program `wiretick`, built beside this test.
pub(crate) fn wiretick_program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("wiretick");
    assert!(path.exists(), "{}: not built: cargo build --bins, with the profile of the tests", path.display());
    path
}

/// The authority's certificate as a file.
pub(crate) fn ca_file() -> PathBuf {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = std::env::temp_dir().join(format!("wiretick-test-{}-ca.pem", std::process::id()));
        AUTHORITY.write_pem(&path).unwrap();
        path
    });
    FILE.clone()
}

/// Takes away what [`ca_file`] has left.
pub(crate) fn clean_up() {
    let _ = std::fs::remove_file(std::env::temp_dir().join(format!("wiretick-test-{}-ca.pem", std::process::id())));
}

/// What a feed brought, from the connection to its end.
pub(crate) struct Run {
    pub(crate) result: Result<Outcome, Error>,
    pub(crate) report: Option<Report>,
    pub(crate) seen: Seen,
}

impl Run {
    fn of(builder: FeedBuilder) -> Self {
        let mut seen = Seen::default();
        let mut feed = match builder.connect() {
            Ok(feed) => feed,
            Err(error) => return Self { result: Err(error), report: None, seen },
        };
        seen.region = feed.region();
        let clock = Monotonic;
        let until = clock.now() + PATIENCE;
        let result = loop {
            let now = clock.now();
            assert!(now < until, "the run took longer than {PATIENCE:?}: {:?}", feed.report());
            match feed.turn(now, &mut seen) {
                Ok(0) => {
                    let _ = feed.wait(now, Duration::from_millis(50));
                }
                Ok(_) => {}
                Err(error) => break Err(error),
            }
            if let Some(outcome) = feed.outcome() {
                break Ok(outcome.clone());
            }
        };
        Self { result, report: Some(feed.report()), seen }
    }

    pub(crate) fn report(&self) -> &Report {
        self.report.as_ref().expect("the feed was connected")
    }

    /// The text of the error it ended with.
    pub(crate) fn error(&self) -> String {
        match &self.result {
            Err(error) => error.to_string(),
            Ok(outcome) => panic!("no error but {outcome:?}"),
        }
    }
}

/// A handler that keeps what tests ask about.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) gaps: u64,
    digest: Sha256,
    /// Where the ring's memory lies.
    pub(crate) region: Option<Range<usize>>,
    /// Messages whose payload lay in the ring's memory when the handler got it.
    pub(crate) in_umem: u64,
    /// Messages that were called "in place".
    pub(crate) in_place: u64,
    pub(crate) largest: usize,
    /// When the first message and the last one so far had arrived, and the longest time between two.
    pub(crate) arrived: Option<(Time, Time)>,
    pub(crate) stall: Duration,
}

impl Seen {
    /// SHA-256 of all payloads, each followed by a newline: that of the file they came from.
    pub(crate) fn sha256(&self) -> String {
        hex(&self.digest.clone().finalize())
    }
}

impl Handler for Seen {
    fn payload(&mut self, _: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.messages += 1;
        self.bytes += payload.len() as u64;
        self.largest = self.largest.max(payload.len());
        let (_, last) = self.arrived.get_or_insert((context.arrived, context.arrived));
        self.stall = self.stall.max(context.arrived.since(*last));
        *last = context.arrived;
        self.digest.update(payload);
        self.digest.update(b"\n");
        self.in_place += u64::from(context.in_place);
        let address = payload.as_ptr() as usize;
        self.in_umem += u64::from(self.region.as_ref().is_some_and(|region| region.contains(&address)));
    }

    fn event(&mut self, _: &Event<'_>, context: &mut Context<'_, '_>) {
        self.gaps += u64::from(context.gap.is_some());
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of lines, each followed by a newline.
pub(crate) fn sha256_of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    for line in lines {
        digest.update(line);
        digest.update(b"\n");
    }
    hex(&digest.finalize())
}

/// Sets a TCP option to a structure of 32-bit integers, or to one of them.
pub(crate) fn set_tcp_option<const N: usize>(
    socket: &socket2::Socket,
    option: i32,
    value: [u32; N],
) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to a local array and the length is its size.
    #[allow(unsafe_code)]
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), len) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}
