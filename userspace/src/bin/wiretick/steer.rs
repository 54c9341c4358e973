//! `wiretick steer`: what would bring connections to a receive queue, and whether it does.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::Serialize;
use wiretick::control::steering::Outlook;
use wiretick::feed::{Error, Mode, Steer, Trial};

use crate::args::{ModeArg, SteerArgs};
use crate::exit::Failure;

/// Connections that arrived elsewhere are told one by one up to here.
const ASTRAY_SHOWN: usize = 10;

pub(crate) fn run(args: &SteerArgs) -> Result<(), Failure> {
    let peers = peers(args)?;
    if args.prove { prove(args, &peers) } else { look(args, &peers) }
}

/// One address for each peer: the first that its name has.
fn peers(args: &SteerArgs) -> Result<Vec<SocketAddr>, Failure> {
    let wrong = |peer: &str, what: &dyn fmt::Display| {
        Failure::Feed(Error::Config(format!("{peer}: {what}: a peer is HOST:PORT or ADDRESS:PORT")))
    };
    let address = |peer: &String| {
        let mut found = peer.to_socket_addrs().map_err(|error| wrong(peer, &error))?;
        found.next().ok_or_else(|| wrong(peer, &"it has no address"))
    };
    args.peers.iter().map(address).collect()
}

/// What the driver says, and where connections should come from.
#[derive(Debug, Serialize)]
struct Offer {
    peer: String,
    source: String,
    interface: String,
    driver: String,
    /// Receive queues in use.
    queues: Option<u32>,
    queue: u32,
    /// Why there can be no flow rule.
    no_ntuple: Option<String>,
    /// What the driver says of its RSS, in words.
    rss: Option<String>,
    /// Why no port can be chosen.
    no_port: Option<String>,
    ports: Vec<Port>,
}

#[derive(Debug, Serialize)]
struct Port {
    port: u16,
    hash: u32,
    /// The place in the RSS table that the hash selects.
    entry: usize,
}

fn look(args: &SteerArgs, peers: &[SocketAddr]) -> Result<(), Failure> {
    let offers = peers.iter().map(|peer| offer(args, *peer)).collect::<Result<Vec<_>, _>>()?;
    if args.json {
        return print_json(&offers);
    }
    print(&offers.iter().map(Offer::to_string).collect::<String>())
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, source, interface, driver, queue, .. } = self;
        writeln!(f, "{source} <- {peer} over {interface}, driver {driver}")?;
        let queues = self.queues.map_or_else(|| "not said".to_owned(), |queues| queues.to_string());
        writeln!(f, "  receive queues  {queues}")?;
        writeln!(f, "  ntuple          {}", self.no_ntuple.as_deref().unwrap_or("offered"))?;
        writeln!(f, "  RSS             {}", self.rss.as_deref().unwrap_or("not said"))?;
        if let Some(reason) = &self.no_port {
            return writeln!(f, "  ports           none: {reason}");
        }
        writeln!(f, "  ports that lead to queue {queue}, of those that connections may come from:")?;
        self.ports
            .iter()
            .try_for_each(|Port { port, hash, entry }| writeln!(f, "    {port:>5}  hash {hash:#010x}, entry {entry}"))
    }
}

fn offer(args: &SteerArgs, peer: SocketAddr) -> Result<Offer, Failure> {
    let outlook = Outlook::on(peer, args.interface.as_deref()).map_err(Error::Control)?;
    let ports = outlook.ports(args.queue, args.flows as usize);
    let Outlook { source, survey, rss, .. } = outlook;
    let no_port = ports.as_ref().err().cloned();
    let ports = ports.unwrap_or_default().into_iter();
    Ok(Offer {
        peer: peer.to_string(),
        source: source.to_string(),
        interface: survey.interface,
        driver: survey.driver,
        queues: survey.queues,
        queue: args.queue,
        no_ntuple: Some(survey.no_ntuple).filter(|reason| !reason.is_empty()),
        rss: rss.ok().map(|rss| rss.to_string()),
        no_port,
        ports: ports.map(|(port, prediction)| Port { port, hash: prediction.hash, entry: prediction.entry }).collect(),
    })
}

/// What became of the connections.
#[derive(Debug, Default, Serialize)]
struct Proof {
    interface: String,
    /// Where the program that counted ran.
    mode: String,
    queue: u32,
    flows: u32,
    /// Connections whose frames arrived on the queue, on another one, and of which nothing was seen.
    landed: u32,
    elsewhere: u32,
    unanswered: u32,
    /// Connections by the queue on which they arrived.
    by_queue: BTreeMap<u32, u32>,
    /// Connections by what was to bring them there.
    by_means: BTreeMap<String, u32>,
    /// Those whose queue had been worked out from the RSS table, and for how many it was right.
    predicted: u32,
    predicted_right: u32,
    /// Why other means were not used.
    refused: BTreeMap<String, String>,
    /// The first of those that arrived elsewhere.
    astray: Vec<String>,
}

fn prove(args: &SteerArgs, peers: &[SocketAddr]) -> Result<(), Failure> {
    if args.mode == ModeArg::Kernel {
        let text =
            "--mode kernel: it is a program on the interface that counts frames by queue: take auto, driver or skb";
        return Err(Failure::Feed(Error::Config(text.to_owned())));
    }
    let steer: Steer = args.steer.into();
    let mut trial = Trial::new(args.mode.into(), steer, args.queue, args.interface.as_deref(), args.connect_timeout);
    let mut proof = Proof { queue: args.queue, flows: args.flows, ..Proof::default() };
    let flows = usize::try_from(args.flows).unwrap_or(usize::MAX);
    for peer in peers.iter().cycle().take(flows) {
        let tried = trial.connect(*peer)?;
        let means = tried.means.map_or_else(|| "none".to_owned(), |means| means.to_string());
        *proof.by_means.entry(means).or_default() += 1;
        match tried.seen {
            Some(queue) if queue == args.queue => proof.landed += 1,
            Some(queue) => {
                proof.elsewhere += 1;
                if proof.astray.len() < ASTRAY_SHOWN {
                    proof.astray.push(format!("{}: on queue {queue}", tried.tuple));
                }
            }
            None => proof.unanswered += 1,
        }
        if let Some(queue) = tried.seen {
            *proof.by_queue.entry(queue).or_default() += 1;
            if let Some(prediction) = tried.prediction {
                proof.predicted += 1;
                proof.predicted_right += u32::from(prediction.queue == queue);
            }
        }
    }
    proof.interface = trial.interface().to_owned();
    proof.mode = trial.mode().unwrap_or(Mode::Kernel).to_string();
    proof.refused = trial.refusals().into_iter().map(|(means, reason)| (means.to_string(), reason)).collect();
    drop(trial);
    let said = format!(
        "{} of {} connections arrived on queue {} of {}, {} elsewhere, {} without an answer",
        proof.landed, proof.flows, proof.queue, proof.interface, proof.elsewhere, proof.unanswered
    );
    if args.json {
        print_json(&proof)?;
    } else {
        let refused = proof.refused.iter().map(|(means, reason)| format!("  not {means}: {reason}\n"));
        let astray = proof.astray.iter().map(|line| format!("  {line}\n"));
        print(&(format!("{said}\n") + &refused.chain(astray).collect::<String>()))?;
    }
    if proof.landed == proof.flows { Ok(()) } else { Err(Failure::Machine(said)) }
}

fn print_json(document: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).map_err(|error| unwritten(error.into()))?;
    print(&(text + "\n"))
}

/// A reader that has gone away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten(error)),
        _ => Ok(()),
    }
}

fn unwritten(source: io::Error) -> Failure {
    Failure::File { what: "stdout".to_owned(), source }
}
