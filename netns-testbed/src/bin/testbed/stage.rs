//! Where a show takes place: an exchange, a place for its clients, and the way between them.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::path::Path;
use std::process::Command;

use clap::Args;
use wiretick_testbed::client::Desk;
use wiretick_testbed::exchange::{Config, Exchange, Feed, Pace, Running, Security, SyntheticPlan, Tls};
use wiretick_testbed::pki::{Authority, Validity};
use wiretick_testbed::topology::{Plan, Topology};

/// The field in which the exchange tells when it sent a message.
pub(crate) const STAMP_FIELD: &str = "n";

/// What the exchange sends.
#[derive(Args, Debug)]
pub(crate) struct FeedOptions {
    /// Messages a second
    #[arg(long, value_name = "N", default_value = "5000")]
    pub(crate) rate: NonZeroU64,
    /// Determines every byte of the feed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// Two machines if we may make them; otherwise this one.
pub(crate) struct Stage {
    pub(crate) desk: Desk,
    pub(crate) exchange: Running,
    /// `None`: the exchange is on loopback.
    pub(crate) topology: Option<Topology>,
    cores: Cores,
}

/// Where the exchange and the client run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) exchange: usize,
    pub(crate) client: usize,
}

impl Cores {
    /// The first and the last core this process may use; on a machine with one core, both are that one.
    pub(crate) fn choose() -> std::io::Result<Self> {
        let allowed = rustix::thread::sched_getaffinity(None)?;
        let mut cores = (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let exchange = cores.next().unwrap_or(0);
        Ok(Self { exchange, client: cores.next_back().unwrap_or(exchange) })
    }
}

impl Stage {
    /// Sets it up: with root in namespaces of its own, otherwise on loopback.
    pub(crate) fn new(feed: &FeedOptions, count: Option<u64>, root: bool) -> Result<Self, Box<dyn Error>> {
        let cores = Cores::choose()?;
        let authority = Authority::new("wiretick testbed")?;
        let desk = Desk::new(&authority)?;
        let topology = if root { Some(Topology::new(&Plan::default())?) } else { None };
        let listener = match &topology {
            Some(topology) => topology.exchange.ns.listen(topology.exchange.v4(9443))?,
            None => TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?,
        };
        let identity = authority.issue(&[listener.local_addr()?.ip().to_string()], Validity::Now)?;
        let config = Config {
            security: Security::Tls(Tls::new(identity)),
            feed: Feed::Synthetic(SyntheticPlan { seed: feed.seed, ..SyntheticPlan::default() }),
            pace: Pace::Rate(feed.rate),
            count,
            stamp_field: Some(STAMP_FIELD.to_owned()),
            core: Some(cores.exchange),
            ..Config::default()
        };
        let exchange = Exchange::start(config, listener)?;
        Ok(Self { desk, exchange, topology, cores })
    }

    pub(crate) fn url(&self) -> String {
        format!("wss://{}/ws", self.exchange.address())
    }

    pub(crate) fn cores(&self) -> Cores {
        self.cores
    }

    /// A program on the client's machine, on the client's core.
    pub(crate) fn command(&self, program: &Path) -> std::io::Result<Command> {
        match &self.topology {
            Some(topology) => topology.client.ns.command_on_core(program, self.cores.client),
            None => Ok(Command::new(program)),
        }
    }
}
