//! What is wanted of a feed, and the first steps: name, address, socket.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use zeroize::Zeroize as _;

use super::bypass::{BypassPlan, Mode, Queues};
use super::copies::Copies;
use super::course::Course;
use super::leg::Leg;
use super::succession::{Inherited, Succession};
use super::upkeep::{Policy, Upkeep};
use super::{Error, Feed, arrival};
use crate::control::attach::Attachment;
use crate::control::steering::{Steer, Steered, Steering, lease};
use crate::control::{Target, dial, resolve};
use crate::event;
use crate::floor::{Clock, Limits, Monotonic, Time};
use crate::handover::FlowMap;
use crate::lane::{Connection, ConnectionId, Lane, seed};
use crate::path::{self, Path, PathConfig};
use crate::record::{self, Trust};
use crate::ring::XskRing;
use crate::segment::{Tcp, WINDOW_BYTES};

/// How long a handshake over the ring may take before another way is tried: three SYNs, a second apart.
const RING_SETUP: Duration = Duration::from_millis(3500);

/// More often, and messages mostly come in the middle of a rehearsal.
const WARMING_MIN: Duration = Duration::from_micros(5);

/// Connections that a feed can be asked to keep. As many again can be there while they are being replaced.
const CONNECTIONS_WANTED_MAX: usize = super::CONNECTIONS_MAX / 2;

/// How the connection comes to the ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Setup {
    /// The kernel connects; the live connection is then promoted.
    #[default]
    Kernel,
    /// The TCP handshake is made over the ring.
    Ring,
}

/// What to do when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Look again at once: the fastest answer, at the price of a core.
    #[default]
    Spin,
    /// Sleep in `poll` until something arrives.
    Poll,
}

/// Describes a feed. Only the URL has no default.
#[derive(Clone, Debug)]
pub struct FeedBuilder {
    url: String,
    mode: Mode,
    setup: Setup,
    wait: Wait,
    interface: Option<String>,
    queue: u32,
    queues: Queues,
    steer: Steer,
    subscriptions: Vec<String>,
    headers: Vec<(String, String)>,
    trust: Option<Trust>,
    log_keys: bool,
    limits: Limits,
    events: event::Options,
    stamp_arrivals: bool,
    busy_poll: bool,
    keep_warm: Option<Duration>,
    connect_timeout: Duration,
    messages_per_second: Option<NonZeroU32>,
    succession: Option<PathBuf>,
    take_over: Option<PathBuf>,
    policy: Policy,
}

/// What it takes to make another connection of the same feed.
pub(super) struct Recipe {
    builder: FeedBuilder,
    target: Target,
    client: Option<record::Client>,
    name: record::ServerName<'static>,
}

impl std::fmt::Debug for Recipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recipe").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Recipe {
    fn new(builder: FeedBuilder) -> Result<Self, Error> {
        let target = Target::parse(&builder.url)?;
        let client = if target.tls {
            let trust = builder.trust.clone().unwrap_or_else(Trust::web_pki);
            Some(record::Client::new(trust, builder.log_keys)?)
        } else {
            None
        };
        let name = record::ServerName::try_from(target.host.clone())
            .map_err(|error| Error::Config(format!("{}: not a name a certificate can bear: {error}", target.host)))?;
        let recipe = Self { builder, target, client, name };
        // Headers and the like are checked before anything is asked of the network.
        drop(recipe.new_path()?);
        Ok(recipe)
    }

    /// Everything above TCP, for a new connection.
    pub(super) fn new_path(&self) -> Result<Path, path::Error> {
        Path::new(self.path_config())
    }

    fn path_config(&self) -> PathConfig<'_> {
        let Self { builder, target, client, name } = self;
        PathConfig {
            tls: client.as_ref().map(|client| (client, name.clone())),
            authority: &target.authority,
            path_and_query: &target.path_and_query,
            headers: &builder.headers,
            subscriptions: &builder.subscriptions,
            messages_per_second: builder.messages_per_second,
            limits: builder.limits,
            events: builder.events.clone(),
        }
    }

    /// What a predecessor and its successor must agree on.
    fn feed_name(&self) -> String {
        let Target { tls, authority, path_and_query, .. } = &self.target;
        format!("{}://{authority}{path_and_query}", if *tls { "wss" } else { "ws" })
    }

    /// Where to connect to, and how.
    pub(super) fn dial(&self, for_bypass: bool) -> (Target, dial::DialOptions) {
        (self.target.clone(), self.builder.dial_options(for_bypass))
    }

    /// For its connections.
    fn lane(&self) -> Lane<XskRing, Attachment> {
        let mut lane = Lane::default();
        if let Some(after) = self.builder.keep_warm {
            lane.keep_warm(after);
        }
        lane
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.builder.connect_timeout
    }
}

impl FeedBuilder {
    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            mode: Mode::Auto,
            setup: Setup::default(),
            wait: Wait::default(),
            interface: None,
            queue: 0,
            queues: Queues::One,
            steer: Steer::default(),
            subscriptions: Vec::new(),
            headers: Vec::new(),
            trust: None,
            log_keys: false,
            limits: Limits::default(),
            events: event::Options::default(),
            stamp_arrivals: false,
            busy_poll: false,
            keep_warm: None,
            connect_timeout: Duration::from_secs(10),
            messages_per_second: NonZeroU32::new(5),
            succession: None,
            take_over: None,
            policy: Policy { connections: 1, reconnect: false, age_max: None, idle_max: None, lag_max: None },
        }
    }

    /// Which way the messages take. Default [`Mode::Auto`]: the best that works.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How the connection comes to the ring. Default: promoted from the kernel.
    #[must_use]
    pub fn setup(mut self, setup: Setup) -> Self {
        self.setup = setup;
        self
    }

    /// What to do when there is nothing to do. Default: spin.
    #[must_use]
    pub fn wait(mut self, wait: Wait) -> Self {
        self.wait = wait;
        self
    }

    /// The interface to use. Default: the one the route to the peer leads over.
    #[must_use]
    pub fn interface(mut self, name: &str) -> Self {
        self.interface = Some(name.to_owned());
        self
    }

    /// The receive queue of the interface on which the ring is, and every connection is to arrive. Default 0.
    #[must_use]
    pub fn queue(mut self, queue: u32) -> Self {
        self.queue = queue;
        self
    }

    /// On which queues there are sockets: for a flow that nothing brings to a queue of choice. It costs a look at each queue in
    /// every turn, and 16 MiB for each. Default [`Queues::One`]; with [`Queues::These`], the first takes the place of
    /// [`FeedBuilder::queue`].
    #[must_use]
    pub fn queues(mut self, queues: Queues) -> Self {
        if let Queues::These(queues) = &queues {
            self.queue = queues.first().copied().unwrap_or(self.queue);
        }
        self.queues = queues;
        self
    }

    /// How connections are brought to that queue, where the interface has several. Default [`Steer::Auto`]: a flow rule in the
    /// NIC, else a chosen local port, else as it comes; what it came to is in the [`Report`](super::Report).
    #[must_use]
    pub fn steer(mut self, steer: Steer) -> Self {
        self.steer = steer;
        self
    }

    /// A text message to send as soon as the connection is open; may be called several times.
    #[must_use]
    pub fn subscribe(mut self, message: &str) -> Self {
        self.subscriptions.push(message.to_owned());
        self
    }

    /// A header for the upgrade request; may be called several times.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Which certificates to trust. Default: the roots of the public web.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = Some(trust);
        self
    }

    /// Whether to write TLS secrets to the file that `SSLKEYLOGFILE` names, for debugging. Default: no, whatever the
    /// environment says.
    #[must_use]
    pub fn log_keys(mut self, log_keys: bool) -> Self {
        self.log_keys = log_keys;
        self
    }

    /// Bounds on what the peer can make grow.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How messages are decoded.
    #[must_use]
    pub fn events(mut self, events: event::Options) -> Self {
        self.events = events;
        self
    }

    /// Whether the XDP program notes when each frame arrives, and asks the NIC what it knows of it
    /// ([`Mark::Frame`](path::Mark)); about 25 ns a frame, and what the driver takes to answer. Where the NIC cannot be asked,
    /// the report says why, and the time of arrival is there all the same. Default: no.
    #[must_use]
    pub fn stamp_arrivals(mut self, stamp: bool) -> Self {
        self.stamp_arrivals = stamp;
        self
    }

    /// Whether the lane polls the driver itself (preferred busy polling): each turn is a system call then, and no interrupt is needed while it
    /// takes turns. Only for one that spins, and only where the driver links its NAPI; the log says whether it does. Default: no.
    #[must_use]
    pub fn busy_poll(mut self, busy_poll: bool) -> Self {
        self.busy_poll = busy_poll;
        self
    }

    /// After how long without anything to do a message that has come before is decrypted and decoded once more, and
    /// given to [`Handler::rehearse`](path::Handler::rehearse), so that code and tables are in the core's caches when the next one
    /// comes; from 5 us on. One that arrives meanwhile waits for the rest of it, 1 us or 2. It takes 300 KB for each
    /// connection. Only for a feed that spins. Default: never.
    #[must_use]
    pub fn keep_warm(mut self, after: Option<Duration>) -> Self {
        self.keep_warm = after;
        self
    }

    /// How long connecting may take, and then again the handshakes until messages flow. Default 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many connections to keep for the feed, from 1 to 4, to different addresses where the name has several. Each
    /// message is delivered once, from whichever connection has it first; more than one implies
    /// [`FeedBuilder::reconnect`]. Default 1.
    #[must_use]
    pub fn connections(mut self, connections: usize) -> Self {
        self.policy.connections = connections;
        self.policy.reconnect |= connections > 1;
        self
    }

    /// Whether a connection that is lost is made anew, until the feed is closed: after a pause of 0.1 s, doubled with each
    /// failure up to 30 s, with jitter; to the other addresses of the name first. The subscriptions are sent again. A venue's
    /// `serverShutdown` is heeded: another connection takes over before the old one is left. Default no: whatever ends the
    /// connection is an error.
    #[must_use]
    pub fn reconnect(mut self, reconnect: bool) -> Self {
        self.policy.reconnect = reconnect;
        self
    }

    /// How old a connection may become before another one takes over: the new one is up and has said what the old one has
    /// said before the old one is left. Venues end connections after a time of their own (Binance: 24 h). Implies
    /// [`FeedBuilder::reconnect`]. Default: never replaced.
    #[must_use]
    pub fn age_max(mut self, age: Duration) -> Self {
        self.policy.age_max = Some(age);
        self.policy.reconnect = true;
        self
    }

    /// How long nothing may come over an open connection before it is taken for lost. Default: for ever.
    #[must_use]
    pub fn idle_max(mut self, idle: Duration) -> Self {
        self.policy.idle_max = Some(idle);
        self
    }

    /// How far behind the venue's own clock (`E`) an event may be before the feed says so: in the log, in the report, and to
    /// [`Handler::lagging`](path::Handler::lagging). A connection that is behind for 5 s is replaced, where the feed makes
    /// connections anew. This machine's clock has to be right. Default: any lag is none of our business.
    #[must_use]
    pub fn lag_max(mut self, lag: Duration) -> Self {
        self.policy.lag_max = Some(lag);
        self
    }

    /// Messages the venue takes from a client in a second, pings, pongs and subscriptions among them; `None`: any number.
    /// Answers to pings wait for it, and only the last ping is answered; so do subscriptions. What the handler sends is
    /// counted, and never waits. Default 5, Binance's.
    #[must_use]
    pub fn messages_per_second(mut self, messages: Option<NonZeroU32>) -> Self {
        self.messages_per_second = messages;
        self
    }

    /// Offers the connection to a successor: a process of the same user, or root's, that asks for it at the Unix socket `path`
    /// ([`FeedBuilder::take_over`]) goes on with it, and this feed is over ([`Feed::successor`]). Only for one connection.
    #[must_use]
    pub fn succession(mut self, path: impl Into<PathBuf>) -> Self {
        self.succession = Some(path.into());
        self
    }

    /// Takes the connection of a running process over instead of making one, from where it listens
    /// ([`FeedBuilder::succession`]). The URL must be the same; subscriptions have been sent, and are not sent again. A mode
    /// that cannot be had does not end the connection: that is logged, and tried again later.
    #[must_use]
    pub fn take_over(mut self, path: impl Into<PathBuf>) -> Self {
        self.take_over = Some(path.into());
        self
    }

    /// Resolves the name, prepares the bypass and connects. Everything after the TCP handshake is the business of
    /// [`Feed::turn`].
    ///
    /// # Errors
    ///
    /// What could not be had: a name, a route, a connection, or the mode that was asked for.
    pub fn connect(self) -> Result<Feed, Error> {
        if !(1..=CONNECTIONS_WANTED_MAX).contains(&self.policy.connections) {
            return Err(Error::Config(format!(
                "{} connections: a feed has from 1 to {CONNECTIONS_WANTED_MAX}",
                self.policy.connections
            )));
        }
        if self.succession.is_some() && self.policy.connections > 1 {
            return Err(Error::Config(
                "a succession is for one connection: leave --connections or --succession out".to_owned(),
            ));
        }
        if let Queues::These(queues) = &self.queues
            && (queues.is_empty() || (1..queues.len()).any(|at| queues[..at].contains(&queues[at])))
        {
            return Err(Error::Config(format!("queues {queues:?}: at least one, and each once")));
        }
        if self.busy_poll && self.wait == Wait::Poll {
            return Err(Error::Config(
                "busy polling keeps interrupts away, and without them nothing wakes a lane that sleeps: let it spin"
                    .to_owned(),
            ));
        }
        if let Some(after) = self.keep_warm {
            if self.wait == Wait::Poll {
                let text = "a lane that sleeps is not kept warm: let it spin, or leave keep_warm (--keep-warm) out";
                return Err(Error::Config(text.to_owned()));
            }
            if after < WARMING_MIN {
                return Err(Error::Config(format!("kept warm every {after:?}: {WARMING_MIN:?} is the least")));
            }
        }
        if self.mode == Mode::Kernel && self.steer.is_explicit() {
            let text =
                format!("steering by {} brings frames to a ring, and with mode kernel there is none", self.steer);
            return Err(Error::Config(text));
        }
        let recipe = Recipe::new(self)?;
        let builder = &recipe.builder;
        let mut plan = BypassPlan::new(builder.mode, builder.setup, builder.queue, builder.stamp_arrivals)
            .queues(builder.queues.clone())
            .busy_poll(builder.busy_poll);
        // With a socket on every queue it does not matter where the flow arrives.
        if plan.wants_bypass() && (builder.queues.is_one() || builder.steer.is_explicit()) {
            lease::sweep();
            plan.steer(Steering::new(builder.steer, builder.queue));
        }
        let mut feed = if builder.take_over.is_some() {
            inherited(recipe, plan)?
        } else {
            let peers = resolve::addresses(&recipe.target)?;
            match builder.setup {
                Setup::Kernel => over_kernel(recipe, &peers, plan)?,
                Setup::Ring => over_ring(recipe, &peers, plan)?,
            }
        };
        let FeedBuilder { succession, take_over, .. } = &feed.recipe.builder;
        if let Some(path) = succession {
            let is_succeeded = take_over.as_ref() == Some(path);
            feed.succession = Succession::offer(path, feed.recipe.feed_name(), is_succeeded)?;
        }
        Ok(feed)
    }

    fn dial_options(&self, for_bypass: bool) -> dial::DialOptions {
        dial::DialOptions {
            timeout: self.connect_timeout,
            // What the kernel promises, the ring must hold.
            receive_buffer: for_bypass.then_some(WINDOW_BYTES),
            source: None,
            interface: self.interface.clone(),
        }
    }
}

fn over_kernel(recipe: Recipe, peers: &[SocketAddr], mut plan: BypassPlan) -> Result<Feed, Error> {
    let clock = Monotonic;
    let options = recipe.builder.dial_options(plan.wants_bypass());
    let steering = plan.steering().cloned();
    let dial = |peers: &[SocketAddr]| dial::connect_steered(peers, &options, steering.as_ref()).map_err(Error::from);
    let mut dialled = dial(peers)?;
    let tuple = dialled.tuple().map_err(Error::System)?;
    log::info!("connected: {tuple}");
    let mut lane = recipe.lane();
    // The program is attached now, while the connection is idle: attaching can take a link down for seconds.
    if let Some((_, mut bypass)) = plan.open(tuple)? {
        if let Some(steering) = &steering {
            steering.renew(&mut dialled.steered, &tuple);
            dialled = arrival::prove(dialled, plan.queue(), &mut bypass, steering, || dial(&[tuple.remote]))?;
        }
        lane.set_bypass(bypass);
    }
    let dial::Dialled { stream, steered } = dialled;
    let now = clock.now();
    let connection = Connection::over_kernel(stream, recipe.new_path()?, now, now + recipe.connect_timeout())?;
    let id = lane.add(connection);
    Ok(feed(recipe, lane, id, plan, steered, now))
}

/// Goes on with the connection of another process.
fn inherited(recipe: Recipe, mut plan: BypassPlan) -> Result<Feed, Error> {
    let Some(from) = recipe.builder.take_over.clone() else { return Err(Error::Config("from whom?".to_owned())) };
    let Inherited { line, stream, estate, born } = Inherited::ask(&from, recipe.feed_name())?;
    let chains = estate.chains.clone();
    let path = Path::inherit(&recipe.path_config(), estate)?;
    let now = Monotonic.now();
    let connection = Connection::over_kernel(stream, path, now, now + recipe.connect_timeout())?;
    let tuple = connection.tuple();
    // Nothing that can fail may come behind this: the connection would be lost.
    line.accept(&from)?;
    log::info!("taken over from process {}: {tuple}", line.peer());
    plan.again_from_the_start();
    let mut lane = recipe.lane();
    match plan.open(tuple) {
        Ok(Some((_, bypass))) => lane.set_bypass(bypass),
        Ok(None) => {}
        Err(error) => log::error!("the connection stays in the kernel for now: {error}"),
    }
    let id = lane.add(connection);
    let steered = plan.steering().map(|steering| steering.adopt(&tuple)).unwrap_or_default();
    let mut feed = feed(recipe, lane, id, plan, steered, now);
    feed.legs[0].born = born;
    if let Some(copies) = &mut feed.copies {
        copies.inherit(&chains);
    }
    Ok(feed)
}

fn over_ring(recipe: Recipe, peers: &[SocketAddr], mut plan: BypassPlan) -> Result<Feed, Error> {
    let clock = Monotonic;
    let mut refused = None;
    for &peer in peers {
        loop {
            let interface = recipe.builder.interface.as_deref();
            let (port, tuple, mut steered) = dial::reserve(peer, interface, plan.steering())?;
            let Some((mode, mut bypass)) = plan.open(tuple)? else { break };
            if let Some(steering) = plan.steering() {
                steering.renew(&mut steered, &tuple);
            }
            let vlan = bypass.hop.vlan;
            bypass.flows.insert(&tuple, vlan).map_err(Error::System)?;
            let now = clock.now();
            let tcp = Tcp::open(tuple, &bypass.hop, seed(), now);
            let open_by = now + recipe.connect_timeout();
            let connection = Connection::over_ring(tcp, Some(port), vlan, recipe.new_path()?, now, open_by);
            let mut lane = recipe.lane();
            lane.set_bypass(bypass);
            let id = lane.add(connection);
            match connect_over_ring(&mut lane, id, &clock, open_by.min(now + RING_SETUP)) {
                Ok(true) => {
                    if let Some(steering) = plan.steering() {
                        steering.confirmed(&mut steered);
                    }
                    return Ok(feed(recipe, lane, id, plan, steered, now));
                }
                Ok(false) => {
                    if let (Some(steering), Some(queue)) = (plan.steering(), plan.elsewhere(lane.bypass(), &tuple))
                        && steering.contradicted(&mut steered, &tuple, queue)?
                    {
                        plan.again(mode);
                        continue;
                    }
                    let seen = plan.diagnosis(lane.bypass(), &tuple);
                    plan.refused(mode, format!("no answer to our SYN came over the ring{seen}"))?;
                }
                // The ring works; it is the peer that says no. Another address may say yes, in the same mode.
                Err(error) => {
                    plan.again(mode);
                    refused = Some(error);
                    break;
                }
            }
        }
    }
    match refused {
        Some(error) => Err(error.into()),
        // Only a mode that was left to us gets here: an explicit one has ended in an error.
        None => over_kernel(recipe, peers, plan),
    }
}

fn feed(
    recipe: Recipe,
    lane: Lane<XskRing, Attachment>,
    connection: ConnectionId,
    plan: BypassPlan,
    steered: Steered,
    now: Time,
) -> Feed {
    let FeedBuilder { policy, wait, setup, events, limits, .. } = &recipe.builder;
    let several = policy.reconnect || policy.connections > 1;
    Feed {
        lane,
        legs: vec![Leg::new(connection, 0, steered, now)],
        course: Course::default(),
        plan,
        upkeep: Upkeep::new(*policy),
        copies: several.then(|| Copies::new(events.stamp_field.as_deref(), limits.message_bytes_max)),
        interrupted: false,
        wait: *wait,
        setup: *setup,
        succession: Succession::default(),
        recipe,
    }
}

impl Drop for FeedBuilder {
    /// Headers and subscriptions can hold a key to an account.
    fn drop(&mut self) {
        self.headers.iter_mut().for_each(|(_, value)| value.zeroize());
        self.subscriptions.zeroize();
    }
}

/// Takes turns until the TCP handshake over the ring is complete, which is the answer. Nothing but that can happen
/// meanwhile.
fn connect_over_ring(
    lane: &mut Lane<XskRing, Attachment>,
    connection: ConnectionId,
    clock: &impl Clock,
    until: Time,
) -> Result<bool, path::Error> {
    let mut nobody = |_: &event::Event<'_>, _: &mut path::Context<'_, '_>| {};
    loop {
        let now = clock.now();
        lane.turn(now, &mut nobody)?;
        if lane.connection(connection).is_connected() || now >= until {
            return Ok(lane.connection(connection).is_connected());
        }
    }
}
