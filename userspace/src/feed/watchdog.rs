//! The watchdog: a thread that looks whether the ring that carries a connection still can, and says so if not.
//!
//! The lane never asks the kernel anything while messages flow: it only writes down how far it is ([`Watchdog::beat`]) and
//! reads one flag ([`Watchdog::alarm`]). Everything else is done here, every [`EVERY`], and at once when the kernel has news
//! of the network ([`Changes`]): what has become of the interface, the route and the next hop, and whether the frames that the
//! XDP program redirected have arrived. What can be known at once is told at once; what is a matter of counters has to be
//! seen twice. So an alarm comes at most three looks after its cause, 150 ms.
//!
//! It also keeps the next hop known to the kernel, which sees nothing of the bypass and would forget it.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use wiretick_xdp::FlowSeen;

use crate::control::changes::Changes;
use crate::control::flows::Sightings;
use crate::control::neighbour::Solicitor;
use crate::control::nic::receiver;
use crate::control::{self, link, neighbour, route};
use crate::floor::{FourTuple, background};
use crate::privilege;
use crate::ring::Pulse;

/// How often to look at the link and the counters, which nobody announces: a program that is detached, a ring that is silent.
const EVERY: Duration = Duration::from_millis(50);
/// How often to ask for the route and the next hop where there are no news of them. Only for what should not happen: news that
/// do not come.
const ROUTE_EVERY: Duration = Duration::from_secs(1);
/// The least time between two looks: a router that takes in a table of routes announces thousands of changes a second.
const EVERY_MIN: Duration = Duration::from_millis(5);
/// How often the kernel is made to use what it knows of the next hop, so that it verifies it: as often as it would believe it
/// at the longest (`base_reachable_time_ms` and a half, net/core/neighbour.c).
const KEEP_EVERY: Duration = Duration::from_secs(45);
/// Turns of the lane between two looks below which its silence says nothing: a lane that sleeps, or whose handler takes its
/// time, takes no frames from the ring and sees none leave. A spinning lane takes 100,000 and more.
const TURNS_MIN: u64 = 2_000;

/// Why a connection should leave the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Somebody has asked for it.
    Requested,
    /// The program is off the interface; what is there instead.
    ProgramGone(Option<u32>),
    /// The interface is no more.
    InterfaceGone,
    /// It was set down.
    InterfaceDown,
    /// Its link is down.
    NoCarrier,
    /// Its MTU is less than it was.
    MtuLowered(u32),
    /// Another member of the bond receives: its name, or why there is none.
    MemberChanged(String),
    /// The route to the peer leads elsewhere: the interface, or why there is none.
    RouteMoved(String),
    /// The next hop has another MAC address.
    NextHopMoved([u8; 6]),
    /// Frames that the program redirected did not arrive.
    RingSilent(u64),
    /// Frames of the connection arrive on a queue without a socket.
    OtherQueue(u32),
    /// Frames wait to be sent, and none is.
    TransmitStuck(u64),
    /// The ring's socket reports an error.
    RingFailed(String),
}

impl Alarm {
    /// Whether the ring and the program are of no use any more, even if the cause goes away.
    pub(super) fn spoils_ring(&self) -> bool {
        !matches!(self, Self::Requested)
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("requested"),
            Self::ProgramGone(None) => f.write_str("somebody has detached the XDP program"),
            Self::ProgramGone(Some(id)) => write!(f, "XDP program {id} is attached in place of ours"),
            Self::InterfaceGone => f.write_str("the interface is gone"),
            Self::InterfaceDown => f.write_str("the interface was set down"),
            Self::NoCarrier => f.write_str("the link is down"),
            Self::MtuLowered(mtu) => write!(f, "the MTU was lowered to {mtu}"),
            Self::MemberChanged(member) => write!(f, "the bond has changed its member: {member}"),
            Self::RouteMoved(where_to) => write!(f, "the route has moved: {where_to}"),
            Self::NextHopMoved(mac) => {
                let mac: Vec<_> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
                write!(f, "the next hop has another MAC address, {}", mac.join(":"))
            }
            Self::RingSilent(frames) => write!(f, "the ring did not get {frames} frames that the program sent there"),
            Self::OtherQueue(queue) => {
                write!(f, "frames of the connection arrive on queue {queue}, where no socket is")
            }
            Self::TransmitStuck(frames) => write!(f, "the driver does not send: {frames} frames wait"),
            Self::RingFailed(error) => write!(f, "the AF_XDP socket reports: {error}"),
        }
    }
}

/// What was true when the connection came to the ring, and is to stay true.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) tuple: FourTuple,
    /// The interface the route leads over; for a VLAN or a bond not the one below, where the program is.
    pub(super) leaves: u32,
    /// The interface the program is on.
    pub(super) receives: u32,
    /// Whether a bond has chosen that one, and may choose another.
    pub(super) is_chosen: bool,
    pub(super) next_hop: IpAddr,
    pub(super) next_hop_mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) program: u32,
    pub(super) flows: Sightings,
    /// Where the kernel does not keep the next hop by itself.
    pub(super) solicitor: Option<Solicitor>,
}

#[derive(Debug, Default)]
struct Shared {
    alarm: OnceLock<Alarm>,
    raised: AtomicBool,
    over: AtomicBool,
    turns: AtomicU64,
    received: AtomicU64,
    completed: AtomicU64,
    in_flight: AtomicU64,
}

/// The watch over one stay of a connection on the ring. Dropping it ends the watch.
#[derive(Debug)]
pub(super) struct Watchdog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Begins to watch.
    ///
    /// # Errors
    ///
    /// Where there can be no thread.
    pub(super) fn set(post: Post) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let watch = move || {
            let changes = Changes::subscribe()
                .inspect_err(|error| log::warn!("no news of the network, which is looked at every second: {error}"))
                .ok();
            // A look has to be taken before this thread is without capabilities: whoever seals the process waits for that, and
            // what is read from files on the first occasion can be read then.
            let mut way = way(&post);
            let _ = look(&post, &way);
            if let Err(error) = privilege::renounce() {
                log::warn!("the watchdog keeps capabilities that it has no use for: {error}");
            }
            let mut judge = Judge::default();
            let (mut asked, mut solicited) = (Instant::now(), Instant::now());
            while !seen.over.load(Ordering::Relaxed) {
                if has_news(changes.as_ref()) || asked.elapsed() >= ROUTE_EVERY {
                    way = self::way(&post);
                    asked = Instant::now();
                }
                if let Some(solicitor) = &post.solicitor
                    && solicited.elapsed() >= KEEP_EVERY
                {
                    solicitor.solicit();
                    solicited = Instant::now();
                }
                if let Some(alarm) = look(&post, &way).and_then(|look| judge.judge(&post, &look, Beat::of(&seen))) {
                    let _ = seen.alarm.set(alarm);
                    seen.raised.store(true, Ordering::Release);
                    return;
                }
            }
        };
        let thread = background("watchdog", watch)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The lane has taken another turn.
    #[inline]
    pub(super) fn beat(&self, turns: u64, pulse: Pulse) {
        let Shared { turns: at, received, completed, in_flight, .. } = &*self.shared;
        received.store(pulse.received, Ordering::Relaxed);
        completed.store(pulse.completed, Ordering::Relaxed);
        in_flight.store(pulse.in_flight, Ordering::Relaxed);
        at.store(turns, Ordering::Relaxed);
    }

    /// The alarm, once there is one.
    #[inline]
    pub(super) fn alarm(&self) -> Option<&Alarm> {
        if self.shared.raised.load(Ordering::Acquire) { self.shared.alarm.get() } else { None }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // It is not waited for: it may be asking the kernel, and the lane has better things to do.
        drop(self.thread.take());
    }
}

/// How far the lane is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Beat {
    turns: u64,
    pulse: Pulse,
}

impl Beat {
    fn of(shared: &Shared) -> Self {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let pulse = Pulse {
            received: read(&shared.received),
            completed: read(&shared.completed),
            in_flight: read(&shared.in_flight),
        };
        Self { turns: read(&shared.turns), pulse }
    }
}

/// What the kernel says at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    /// The interface the program is on; `None` where it is gone.
    link: Option<Interface>,
    way: Way,
    /// What the program has seen of each flow.
    flows: Vec<FlowSeen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interface {
    up: bool,
    carrier: bool,
    mtu: u32,
    program: Option<u32>,
}

/// Where the packets of the connection go, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    /// The interface the route leads over and the next hop, or why there is none.
    route: Result<(u32, IpAddr), String>,
    /// The interface that receives, where a bond chooses it, or why there is none.
    chosen: Option<Result<(u32, String), String>>,
    next_hop_mac: Option<[u8; 6]>,
}

/// Waits until there is something to look at; answers whether it is news of the network.
fn has_news(changes: Option<&Changes>) -> bool {
    let Some(changes) = changes else {
        thread::sleep(EVERY);
        return false;
    };
    let news = changes.wait(EVERY).unwrap_or(false);
    if news {
        thread::sleep(EVERY_MIN);
    }
    news
}

/// Asks the kernel for the way; `None` where it gives no answer that means anything.
fn way(post: &Post) -> Option<Way> {
    let FourTuple { local, remote } = post.tuple;
    let route = match route::to(remote.ip(), Some(local.ip()), None) {
        Ok(route) => Ok((route.interface, route.next_hop)),
        Err(error) => Err(error.to_string()),
    };
    let chosen = post.is_chosen.then(|| {
        let receiver = link::by_index(post.leaves).and_then(|leaves| receiver::of(&leaves));
        receiver.map(|found| (found.link.index, found.link.name)).map_err(|error| error.to_string())
    });
    let next_hop_mac = neighbour::lookup(post.leaves, post.next_hop).ok()?;
    Some(Way { route, chosen, next_hop_mac })
}

/// Asks the kernel for everything else; `None` where it gives no answer that means anything.
fn look(post: &Post, way: &Option<Way>) -> Option<Look> {
    let way = way.clone()?;
    let link = match link::by_index(post.receives) {
        Ok(link) => Some(Interface { up: link.up, carrier: link.carrier, mtu: link.mtu, program: link.xdp_program }),
        Err(control::Error::NoInterface { .. }) => None,
        Err(_) => return None,
    };
    Some(Look { link, way, flows: post.flows.look() })
}

/// Frames that the program has sent to the ring.
fn redirected(flows: &[FlowSeen]) -> u64 {
    flows.iter().map(FlowSeen::redirected).sum()
}

/// Compares what is seen with what was seen before.
#[derive(Debug, Default)]
struct Judge {
    last: Option<(Look, Beat)>,
    /// Frames that were redirected before the last look and had not arrived at it, and how many had by then.
    missing: Option<(u64, u64)>,
    /// Whether nothing was sent between the last two looks although something waited.
    stuck: bool,
}

impl Judge {
    fn judge(&mut self, post: &Post, look: &Look, beat: Beat) -> Option<Alarm> {
        let alarm = Self::at_once(post, look).or_else(|| self.by_comparison(look, beat));
        self.last = Some((look.clone(), beat));
        alarm
    }

    /// What needs to be seen only once.
    fn at_once(post: &Post, look: &Look) -> Option<Alarm> {
        let Some(link) = look.link else { return Some(Alarm::InterfaceGone) };
        if link.program != Some(post.program) {
            return Some(Alarm::ProgramGone(link.program));
        }
        if !link.up {
            return Some(Alarm::InterfaceDown);
        }
        if !link.carrier {
            return Some(Alarm::NoCarrier);
        }
        if link.mtu < post.mtu {
            return Some(Alarm::MtuLowered(link.mtu));
        }
        match &look.way.chosen {
            Some(Ok((index, name))) if *index != post.receives => return Some(Alarm::MemberChanged(name.clone())),
            Some(Err(why)) => return Some(Alarm::MemberChanged(why.clone())),
            Some(Ok(_)) | None => {}
        }
        match &look.way.route {
            Err(why) => return Some(Alarm::RouteMoved(why.clone())),
            Ok((interface, _)) if *interface != post.leaves => {
                let name = link::by_index(*interface).map_or_else(|_| format!("{interface}"), |link| link.name);
                return Some(Alarm::RouteMoved(format!("over {name}")));
            }
            Ok((_, next_hop)) if *next_hop != post.next_hop => {
                return Some(Alarm::RouteMoved(format!("via {next_hop}")));
            }
            Ok(_) => {}
        }
        // That the kernel knows no address at the moment means nothing: it has had no traffic of its own for it.
        look.way.next_hop_mac.filter(|mac| *mac != post.next_hop_mac).map(Alarm::NextHopMoved)
    }

    /// What is a matter of counters.
    fn by_comparison(&mut self, look: &Look, beat: Beat) -> Option<Alarm> {
        let (before, beat_before) = self.last.as_ref()?;
        if let Some((flow, _)) = look.flows.iter().zip(&before.flows).find(|(now, before)| now.astray > before.astray) {
            return Some(Alarm::OtherQueue(flow.last_queue));
        }
        let awake = beat.turns.saturating_sub(beat_before.turns) >= TURNS_MIN;
        let received = beat.pulse.received;
        // What was redirected before the last look has had all the time since to arrive.
        if let Some((frames, at)) = self.missing
            && awake
            && received == at
        {
            return Some(Alarm::RingSilent(frames));
        }
        let redirected = redirected(&look.flows).saturating_sub(redirected(&before.flows));
        self.missing = (redirected > 0 && received == beat_before.pulse.received).then_some((redirected, received));

        let waits = beat.pulse.in_flight > 0 && beat_before.pulse.in_flight > 0;
        let is_stuck = awake && waits && beat.pulse.completed == beat_before.pulse.completed;
        if is_stuck && self.stuck {
            return Some(Alarm::TransmitStuck(beat.pulse.in_flight));
        }
        self.stuck = is_stuck;
        None
    }
}
