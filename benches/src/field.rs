//! Where it is measured: two namespaces, an exchange on core 0 of one, the client on core 1 of the other.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;
use wiretick_testbed::client::{Desk, Summary};
use wiretick_testbed::exchange::{Exchange, Security, Tls};
use wiretick_testbed::pki::{Authority, Identity, Validity};
use wiretick_testbed::topology::{Plan, Topology};

use crate::contender::Contender;
use crate::load::Load;

/// The core of the exchange's sending thread.
pub(crate) const EXCHANGE_CORE: usize = 0;
/// The core of the client.
pub(crate) const CLIENT_CORE: usize = 1;

/// What one run has brought.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// The client's figures.
    pub(crate) client: Summary,
    /// Messages that the exchange began to send more than 50 us after they were due: the machine was busy elsewhere.
    pub(crate) sent_late: u64,
}

/// The two machines.
pub(crate) struct Field {
    topology: Topology,
    desk: Desk,
    identity: Identity,
}

impl Field {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        if !rustix::process::geteuid().is_root() {
            return Err("network namespaces and XDP need root: run it with sudo".into());
        }
        if std::thread::available_parallelism()?.get() <= CLIENT_CORE {
            return Err("the exchange and the client need a core each: this machine has one".into());
        }
        let topology = Topology::new(&Plan::default())?;
        let authority = Authority::new("wiretick bench")?;
        let address = topology.exchange.v4(0).ip().to_string();
        let identity = authority.issue(&[address], Validity::Now)?;
        Ok(Self { topology, desk: Desk::new(&authority)?, identity })
    }

    /// One client, one connection, one load. Fails where a message is missing or the mode is another than was asked for.
    pub(crate) fn run(&self, contender: &Contender, load: &Load, stop: &AtomicBool) -> Result<Run, Box<dyn Error>> {
        let listener = self.topology.exchange.ns.listen(self.topology.exchange.v4(0))?;
        let security = Security::Tls(Tls::new(self.identity.clone()));
        let exchange = Exchange::start(load.exchange(security, EXCHANGE_CORE), listener)?;
        let url = format!("wss://{}/ws", exchange.address());
        let mut command = self.topology.client.ns.command_on_core(contender.program(), CLIENT_CORE)?;
        contender.arguments(&mut command, &url, &self.desk.ca_file(), load);
        let client = self.desk.run(command, stop, load.patience())?;
        // Its thread looks at the clock; the connection is over when the client is.
        let _ = exchange.wait_ended(1, Duration::from_secs(1));
        let report = exchange.stop();
        let name = &contender.name;
        if client.messages != load.count {
            return Err(format!("{name}: {} of {} messages arrived", client.messages, load.count).into());
        }
        if client.gaps != 0 {
            return Err(format!("{name}: {} gaps", client.gaps).into());
        }
        if let Some(mode) = contender.mode.as_ref().filter(|mode| **mode != client.mode) {
            return Err(format!("{name}: mode {mode} was asked for, {} was in effect", client.mode).into());
        }
        Ok(Run { client, sent_late: report.late })
    }
}
