//! Where it is measured: two namespaces, an exchange on core 0 of one, the client on core 1 of the other.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use wiretick_testbed::client::{self, Desk};
use wiretick_testbed::exchange::{Exchange, Security, Tls};
use wiretick_testbed::pki::{Authority, Identity, Validity};
use wiretick_testbed::topology::{Plan, Topology};

use crate::awake::Awake;
use crate::contender::Contender;
use crate::load::Scene;
use crate::results::{Run, Sender};

/// The core of the exchange's sending thread.
pub(crate) const EXCHANGE_CORE: usize = 0;
/// The core of the client.
pub(crate) const CLIENT_CORE: usize = 1;

/// Why a run brought no figure.
#[derive(Debug)]
pub(crate) enum Broken {
    /// We were told to stop.
    Interrupted,
    /// Something was missing or other than asked for, or the client failed.
    Failed(String),
}

impl<E: Into<Box<dyn Error>>> From<E> for Broken {
    fn from(error: E) -> Self {
        let error: Box<dyn Error> = error.into();
        match error.downcast_ref::<client::Error>() {
            Some(client::Error::Interrupted) => Self::Interrupted,
            _ => Self::Failed(error.to_string()),
        }
    }
}

/// The two machines.
pub(crate) struct Field {
    topology: Topology,
    /// The same for streams that are sent as fast as they go, where the exchange's TCP stays on the exchange's core.
    steered: OnceCell<Topology>,
    desk: Desk,
    identity: Identity,
    /// Exchanges that have been set up, by load and number of messages: a recording is encoded once.
    exchanges: RefCell<HashMap<(String, u64), Exchange>>,
}

impl Field {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        able()?;
        let topology = Topology::new(&Plan::default())?;
        let authority = Authority::new("wiretick bench")?;
        let address = topology.exchange.v4(0).ip().to_string();
        let identity = authority.issue(&[address], Validity::Now)?;
        Ok(Self {
            topology,
            steered: OnceCell::new(),
            desk: Desk::new(&authority)?,
            identity,
            exchanges: RefCell::default(),
        })
    }

    /// One client, one connection, one load. Fails where a message is missing or the mode is another than was asked for.
    pub(crate) fn run(&self, contender: &Contender, scene: &Scene, stop: &AtomicBool) -> Result<Run, Broken> {
        let count = contender.count(scene);
        let topology = self.topology_for(scene)?;
        let listener = topology.exchange.ns.listen(topology.exchange.v4(0))?;
        let exchange = self.exchange(scene, count)?.listen(listener)?;
        let scheme = if scene.load.tls { "wss" } else { "ws" };
        let url = format!("{scheme}://{}{}", exchange.address(), scene.path);
        let ca = scene.load.tls.then(|| self.desk.ca_file());
        let mut command = topology.client.ns.command_on_core(contender.program(), CLIENT_CORE)?;
        contender.arguments(&mut command, &url, ca.as_deref(), scene);
        let awake = contender.core_awake.then(|| Awake::on_core(CLIENT_CORE)).transpose()?;
        let client = self.desk.run(command, stop, scene.patience())?;
        if let Some(awake) = awake {
            awake.end()?;
        }
        // Its thread looks at the clock; the connection is over when the client is.
        let _ = exchange.wait_ended(1, Duration::from_secs(1));
        let run = Run { client, sender: Sender::new(&exchange.stop()) };
        check(contender, scene, count, &run).map_err(Broken::Failed)?;
        Ok(run)
    }

    /// A stream that waits for nothing but acknowledgements is sent by them: on the core that takes them in. Without
    /// steering that is the client's, which then does the exchange's work while the exchange's core idles.
    fn topology_for(&self, scene: &Scene) -> Result<&Topology, Box<dyn Error>> {
        if !scene.is_sent_by_acknowledgements() {
            return Ok(&self.topology);
        }
        if let Some(topology) = self.steered.get() {
            return Ok(topology);
        }
        let topology = Topology::new(&Plan { exchange_core: Some(EXCHANGE_CORE), ..Plan::default() })?;
        if !topology.is_steered {
            log::warn!(
                "no receive packet steering before Linux 6.3: clients at full speed do a part of the exchange's work"
            );
        }
        Ok(self.steered.get_or_init(|| topology))
    }

    fn exchange(&self, scene: &Scene, count: u64) -> Result<Exchange, Box<dyn Error>> {
        let key = (scene.load.id(), count);
        if let Some(exchange) = self.exchanges.borrow().get(&key) {
            return Ok(exchange.clone());
        }
        let security = if scene.load.tls { Security::Tls(Tls::new(self.identity.clone())) } else { Security::Plain };
        let exchange = Exchange::new(scene.exchange(count, security, EXCHANGE_CORE))?;
        self.exchanges.borrow_mut().insert(key, exchange.clone());
        Ok(exchange)
    }
}

/// Whether anything can be measured here at all.
pub(crate) fn able() -> Result<(), Box<dyn Error>> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces and XDP need root: run it with sudo".into());
    }
    if std::thread::available_parallelism()?.get() <= CLIENT_CORE {
        return Err("the exchange and the client need a core each: this machine has one".into());
    }
    Ok(())
}

/// Whether a run may stand for a figure.
fn check(contender: &Contender, scene: &Scene, count: u64, run: &Run) -> Result<(), String> {
    let (client, sender) = (&run.client, &run.sender);
    if client.messages != count {
        return Err(format!("{} of {count} messages arrived", client.messages));
    }
    let gaps = scene.gaps(count);
    if contender.counts_gaps() && client.gaps != gaps {
        return Err(format!("{} gaps in the numbering, and the feed has {gaps}", client.gaps));
    }
    if let Some(mode) = contender.mode.as_ref().filter(|mode| **mode != client.mode) {
        return Err(format!("mode {mode} was asked for, {} was in effect", client.mode));
    }
    if scene.has_stages() && client.stages_ns.is_none() {
        return Err("no stage was timed".to_owned());
    }
    if scene.stamp_field().is_some() && client.latency_ns.is_none() {
        return Err("no message was timed".to_owned());
    }
    let echoes = sender.echo_ns.map_or(0, |echo| echo.count);
    if scene.echo_field().is_some() && echoes < count {
        return Err(format!("{echoes} of {count} messages were answered"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use wiretick_testbed::client::{Latency, Summary};

    use super::*;

    #[test]
    fn a_run_that_is_not_whole_is_no_figure() {
        let peer = Contender::peer("p", &["x".to_owned()], BTreeMap::new()).unwrap();
        let scene = Scene::tick_to_trade(1000, Duration::from_secs(2)).unwrap();
        let latency = Some(Latency { count: 2000, ..Latency::default() });
        let good = Run {
            client: Summary { messages: 2000, latency_ns: latency, ..Summary::default() },
            sender: Sender { echo_ns: latency, ..Sender::default() },
        };
        let told = |change: fn(&mut Run)| {
            let mut run = good.clone();
            change(&mut run);
            check(&peer, &scene, 2000, &run)
        };
        assert_eq!(told(|_| ()), Ok(()));
        assert_eq!(told(|run| run.client.messages = 1999).unwrap_err(), "1999 of 2000 messages arrived");
        assert_eq!(told(|run| run.client.latency_ns = None).unwrap_err(), "no message was timed");
        assert_eq!(told(|run| run.sender.echo_ns = None).unwrap_err(), "0 of 2000 messages were answered");
    }
}
