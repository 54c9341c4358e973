//! From a mode that is wanted to a ring that is there: which modes to try, in which order, and why not a better one.

use std::fmt;
use std::net::IpAddr;

use super::watchdog::{Post, Watchdog};
use super::{Error, Setup};
use crate::control::attach::{AsksNic, AttachMode, Attachment, Pieces, Request};
use crate::control::neighbour::{Managed, Solicitor};
use crate::control::nic::{kernel, receiver};
use crate::control::steering::{Steered, Steering};
use crate::control::{self, link, neighbour, offloads, route};
use crate::floor::{FourTuple, Hop};
use crate::handover;
use crate::lane::Bypass;
use crate::privilege::{self, Capabilities};
use crate::ring::{BindMode, JOINED_BYTES_MAX, PACKET_BYTES_MAX, Ring as _, XskConfig, XskRing};

/// A ring and the program in front of it, both the kernel's.
pub(super) type KernelBypass = Bypass<XskRing, Attachment>;

/// Which way the messages take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The best of the others that works, in their order from below.
    Auto,
    /// A kernel socket.
    Kernel,
    /// AF_XDP behind generic XDP: any Ethernet driver; the kernel has made a packet of each frame already.
    Skb,
    /// AF_XDP behind native XDP: in the driver, the kernel copies each frame once.
    Driver,
    /// AF_XDP behind native XDP, with the NIC writing straight into our memory.
    ZeroCopy,
}

impl Mode {
    /// The name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Kernel => "kernel",
            Self::Skb => "skb",
            Self::Driver => "driver",
            Self::ZeroCopy => "zerocopy",
        }
    }
}

/// The queues of the interface on which a feed's ring has sockets.
///
/// On a queue without one, frames of the feed go to the kernel, which knows nothing of a connection that is on the ring. With
/// a socket on each that the NIC may choose, it does not matter where they arrive: not at first, and not when the NIC's
/// distribution changes in mid-stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Queues {
    /// The one that [`FeedBuilder::queue`](super::FeedBuilder::queue) names.
    #[default]
    One,
    /// These. What is sent leaves over the first.
    These(Vec<u32>),
    /// All there are. What is sent leaves over the one that [`FeedBuilder::queue`](super::FeedBuilder::queue) names.
    All,
}

impl Queues {
    /// Whether it matters which queue a flow arrives on.
    pub(super) fn is_one(&self) -> bool {
        match self {
            Self::One => true,
            Self::These(queues) => queues.len() == 1,
            Self::All => false,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The modes to try, and what became of those that were.
#[derive(Debug)]
pub(super) struct BypassPlan {
    wanted: Mode,
    /// The one mode that must be had.
    explicit: Option<Mode>,
    /// Still to try; the best is last.
    left: Vec<Mode>,
    /// Set up at the moment.
    current: Option<Mode>,
    refusals: Vec<(Mode, String)>,
    /// What is sent leaves over this one.
    queue: u32,
    queues: Queues,
    /// Those of the ring that was set up last.
    opened: Vec<u32>,
    setup: Setup,
    stamped: bool,
    /// Whether the program that was set up last asks the NIC.
    asks_nic: AsksNic,
    ptp_clock: Option<u32>,
    busy_poll: bool,
    interface: String,
    /// The interface that receives, where that is another one.
    below: Option<String>,
    site: Option<Site>,
    /// The next hop, where the kernel keeps it for us.
    neighbour: Option<Managed>,
    steering: Option<Steering>,
}

/// Where the bypass that was set up last stands.
#[derive(Clone, Copy, Debug)]
struct Site {
    /// The interface the route leads over, and the one that receives: for a VLAN or a bond one below.
    leaves: u32,
    receives: u32,
    /// Whether a bond has chosen it.
    is_chosen: bool,
    next_hop: IpAddr,
    /// Of the interface the route leads over.
    mtu: u32,
}

/// The modes that `wanted` leaves the choice of; the best is last.
fn modes(wanted: Mode) -> Vec<Mode> {
    match wanted {
        Mode::Auto => vec![Mode::Skb, Mode::Driver, Mode::ZeroCopy],
        Mode::Kernel => Vec::new(),
        Mode::Skb | Mode::Driver | Mode::ZeroCopy => vec![wanted],
    }
}

impl BypassPlan {
    pub(super) fn new(mode: Mode, setup: Setup, queue: u32, stamped: bool) -> Self {
        let explicit = (mode != Mode::Auto).then_some(mode);
        Self {
            wanted: mode,
            explicit,
            left: modes(mode),
            queue,
            queues: Queues::One,
            opened: vec![queue],
            setup,
            stamped,
            asks_nic: AsksNic::NotWanted,
            ptp_clock: None,
            busy_poll: false,
            current: None,
            refusals: Vec::new(),
            interface: String::new(),
            below: None,
            site: None,
            neighbour: None,
            steering: None,
        }
    }

    /// Has sockets on more queues than one.
    pub(super) fn queues(mut self, queues: Queues) -> Self {
        self.queues = queues;
        self
    }

    /// Whether the lane polls the driver itself.
    pub(super) fn busy_poll(mut self, busy_poll: bool) -> Self {
        self.busy_poll = busy_poll;
        self
    }

    pub(super) fn wants_bypass(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether any mode but the kernel is wanted at all.
    pub(super) fn is_for_rings(&self) -> bool {
        self.wanted != Mode::Kernel
    }

    /// Has connections brought to the queue.
    pub(super) fn steer(&mut self, steering: Steering) {
        self.steering = Some(steering);
    }

    /// What brings connections to the queue, where a ring is wanted.
    pub(super) fn steering(&self) -> Option<&Steering> {
        self.steering.as_ref()
    }

    pub(super) fn queue(&self) -> u32 {
        self.queue
    }

    /// The queues of the ring that was set up last; the first one is sent over.
    pub(super) fn opened_queues(&self) -> &[u32] {
        &self.opened
    }

    /// The queues to open on the interface.
    fn queues_of(&self, interface: &str) -> Result<Vec<u32>, String> {
        match &self.queues {
            Queues::One => Ok(vec![self.queue]),
            Queues::These(queues) => Ok(queues.clone()),
            Queues::All => {
                let count = offloads::receive_queues(interface).map_err(|error| {
                    format!("{interface}: the driver does not say how many queues it has ({error}): list them, as in --queue 0,1")
                })?;
                let others = (0..count).filter(|queue| *queue != self.queue);
                Ok(std::iter::once(self.queue).chain(others).collect())
            }
        }
    }

    /// The mode that is set up and waits for the connection to open.
    pub(super) fn opened(&self) -> Option<Mode> {
        self.current
    }

    /// Notes that a mode does not work. An explicit one has no alternative.
    pub(super) fn refused(&mut self, mode: Mode, reason: String) -> Result<(), Error> {
        if self.explicit == Some(mode) {
            self.current = None;
            return Err(Error::Mode { mode, reason });
        }
        self.overtaken(mode, reason);
        Ok(())
    }

    /// Notes that the connection was over before it could be brought to a mode. That is nobody's fault.
    pub(super) fn overtaken(&mut self, mode: Mode, reason: String) {
        self.current = None;
        self.refusals.push((mode, reason));
    }

    /// Notes that a mode works, and is to be set up again for another connection.
    pub(super) fn again(&mut self, mode: Mode) {
        self.current = None;
        self.left.push(mode);
    }

    /// Sets up the best mode that is left and can be set up, for the connection `tuple`.
    pub(super) fn open(&mut self, tuple: FourTuple) -> Result<Option<(Mode, KernelBypass)>, Error> {
        while let Some(mode) = self.left.pop() {
            match self.try_open(mode, &tuple) {
                Ok(bypass) => {
                    self.current = Some(mode);
                    return Ok(Some((mode, bypass)));
                }
                Err(reason) => {
                    log::debug!("mode {mode}: {reason}");
                    self.refused(mode, reason)?;
                }
            }
        }
        Ok(None)
    }

    fn try_open(&mut self, mode: Mode, tuple: &FourTuple) -> Result<KernelBypass, String> {
        let text = |error: control::Error| error.to_string();
        if let Some(reason) = kernel::too_old(&kernel::release()) {
            return Err(reason);
        }
        // Asked first: where privileges are given up, an attempt can end the process.
        let missing = privilege::missing(Capabilities::BYPASS);
        if !missing.is_empty() {
            return Err(format!("needs {missing} (run as root, or give the program what docs/SECURITY.md says)"));
        }
        if self.setup == Setup::Kernel {
            handover::supported().map_err(|error| {
                format!("TCP_REPAIR was refused ({error}): promotion needs CAP_NET_ADMIN (run as root)")
            })?;
        }
        let route = route::to(tuple.remote.ip(), Some(tuple.local.ip()), None).map_err(text)?;
        let leaves = link::by_index(route.interface).map_err(text)?;
        self.interface.clone_from(&leaves.name);
        // A VLAN device only puts the tag on, and a bond has members: the frames are received by an interface below.
        let receiver = receiver::of(&leaves).map_err(text)?;
        if let Some(reason) = receiver.spread() {
            return Err(reason);
        }
        let (receives, vlan) = (&receiver.link, receiver.vlan());
        let name = &receives.name;
        self.below = (receives.index != leaves.index).then(|| name.clone());
        let Some(source) = leaves.mac else {
            return Err(format!("{name}: not an Ethernet interface, so there is nothing to bypass"));
        };
        if !receives.up {
            return Err(format!("{name}: the interface is down: ip link set {name} up"));
        }
        let mtu = leaves.mtu as usize;
        if mtu > JOINED_BYTES_MAX {
            return Err(format!(
                "{name}: packets of MTU {mtu} are larger than can be put together: \
                 ip link set {name} mtu {JOINED_BYTES_MAX}"
            ));
        }
        if mode == Mode::Skb && offloads::gro(name).unwrap_or(false) {
            return Err(format!(
                "{name}: GRO merges segments before generic XDP sees them, and what does not fit a frame is dropped: \
                 ethtool -K {name} gro off"
            ));
        }
        let bind = if mode == Mode::ZeroCopy { BindMode::ZeroCopy } else { BindMode::Copy };
        let attach = if mode == Mode::Skb { AttachMode::Generic } else { AttachMode::Native };
        let stamped = self.stamped;
        let queues = self.queues_of(name)?;
        self.opened.clone_from(&queues);
        let config = XskConfig {
            stamped,
            packet_bytes_max: mtu,
            busy_poll: self.busy_poll,
            ..XskConfig::new(name, self.queue, bind).over(queues)
        };
        let mut ring = XskRing::open(&config).map_err(|error| error.to_string())?;
        let pieces = if mtu > PACKET_BYTES_MAX { Pieces::Several } else { Pieces::One };
        // A tag that the NIC has taken off is part of the flow's key, and only the NIC knows it.
        let asks_nic = stamped || vlan.is_some() && offloads::strips_vlan_tags(name).unwrap_or(false);
        let request = Request { mode: attach, sockets: ring.sockets().collect(), pieces, stamped, asks_nic };
        let flows = Attachment::attach(receives, &request).map_err(text)?;
        self.asks_nic.clone_from(flows.asks_nic());
        // Asked now: when the report is made, that may not be allowed any more.
        self.ptp_clock = match flows.asks_nic() {
            AsksNic::Yes => offloads::ptp_clock(name).ok().flatten(),
            AsksNic::NotWanted | AsksNic::No(_) => None,
        };
        match flows.asks_nic() {
            AsksNic::NotWanted => {}
            AsksNic::Yes => {
                log::info!("{name}: the XDP program asks the NIC for its time, RSS hash and VLAN tag of each frame");
                ring.expect_hints();
            }
            AsksNic::No(reason) => {
                log::info!("{name}: the NIC is not asked, and times of arrival are the XDP program's alone: {reason}");
            }
        }
        let next = neighbour::resolve(&leaves, route.next_hop).map_err(text)?;
        self.neighbour = Managed::keep(leaves.index, route.next_hop);
        let (next_hop, mtu_of_link) = (route.next_hop, leaves.mtu);
        self.site = Some(Site {
            leaves: leaves.index,
            receives: receives.index,
            is_chosen: receiver.bond().is_some(),
            next_hop,
            mtu: mtu_of_link,
        });
        // What is sent fits one chunk, and so does what the peer sends where we tell it how much (docs/ARCHITECTURE.md).
        let mtu = u16::try_from(mtu.min(PACKET_BYTES_MAX)).unwrap_or(u16::MAX);
        Ok(Bypass { ring, flows, hop: Hop { source, next, vlan, mtu } })
    }

    /// Begins anew with the modes of the beginning. An explicit one was had once, so that it is missed no reason to end the
    /// connection.
    pub(super) fn again_from_the_start(&mut self) {
        let Self { explicit, wanted, .. } = self;
        self.left = modes(*wanted);
        *explicit = None;
        self.current = None;
        self.refusals.clear();
    }

    /// Asks again who the next hop is: the connection has been in the kernel meanwhile.
    pub(super) fn refresh(&self, bypass: &mut KernelBypass) -> Result<(), control::Error> {
        let Some(site) = self.site else { return Ok(()) };
        bypass.hop.next = neighbour::resolve(&link::by_index(site.leaves)?, site.next_hop)?;
        Ok(())
    }

    /// What makes the kernel remember the next hop where it does not do so by itself.
    fn solicitor(&self) -> Option<Solicitor> {
        let Site { leaves, next_hop, .. } = self.site?;
        if self.neighbour.is_some() {
            return None;
        }
        Solicitor::new(leaves, next_hop)
            .inspect_err(|error| log::warn!("the kernel may forget the next hop {next_hop}: {error}"))
            .ok()
    }

    /// Sets a watch over the stay of the connection `tuple` on the ring.
    pub(super) fn watch(&self, tuple: FourTuple, bypass: &KernelBypass) -> Result<Option<Watchdog>, Error> {
        let Some(Site { leaves, receives, is_chosen, next_hop, mtu }) = self.site else { return Ok(None) };
        let Bypass { flows, hop, .. } = bypass;
        let post = Post {
            tuple,
            leaves,
            receives,
            is_chosen,
            next_hop,
            next_hop_mac: hop.next,
            mtu,
            program: flows.program(),
            flows: flows.sightings()?,
            solicitor: self.solicitor(),
        };
        Watchdog::set(post).map(Some).map_err(Error::System)
    }

    /// One line: what is in effect, and why nothing better.
    pub(super) fn verdict(&self, mode: Mode) -> String {
        let mut line = match mode {
            Mode::Kernel => "mode kernel: a kernel socket".to_owned(),
            _ => {
                let below = self.below.as_ref().map(|name| format!(" (received by {name})")).unwrap_or_default();
                format!(
                    "mode {mode} on {}{below} {}, proven with frames of the connection",
                    self.interface,
                    named(&self.opened)
                )
            }
        };
        for (refused, reason) in &self.refusals {
            line.push_str(&format!("; not {refused}: {reason}"));
        }
        line
    }

    /// Whether the program that was set up last asks the NIC what it knows of frames.
    pub(super) fn asks_nic(&self) -> &AsksNic {
        &self.asks_nic
    }

    /// The number of the NIC's own clock, where it is asked and has one.
    pub(super) fn ptp_clock(&self) -> Option<u32> {
        self.ptp_clock
    }

    /// The rest of that line: what brings a connection to the queue, and why nothing else does. Empty where nothing has to.
    pub(super) fn steering_verdict(&self, mode: Mode, steered: &Steered) -> String {
        // In the kernel, a connection is welcome on any queue.
        if !steered.is_worth_telling() || mode == Mode::Kernel && steered.seen().is_none() {
            return String::new();
        }
        let mut line = steered.to_string();
        for (refused, reason) in self.steering.iter().flat_map(Steering::refusals) {
            line.push_str(&format!("; not {refused}: {reason}"));
        }
        format!("; {line}")
    }

    /// The interface the connection runs over, once that is known.
    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// Why better modes are not in effect.
    pub(super) fn refusals(&self) -> Vec<(String, String)> {
        self.refusals.iter().map(|(mode, reason)| (mode.to_string(), reason.clone())).collect()
    }

    /// The queue without a socket on which frames of a connection have arrived since it was last entered.
    pub(super) fn elsewhere(&self, bypass: Option<&KernelBypass>, tuple: &FourTuple) -> Option<u32> {
        let seen = bypass?.flows.seen(tuple)?;
        (seen.astray != 0 && !self.opened.contains(&seen.last_queue)).then_some(seen.last_queue)
    }

    /// What the program has seen of a connection whose frames did not reach the ring.
    pub(super) fn diagnosis(&self, bypass: Option<&KernelBypass>, tuple: &FourTuple) -> String {
        let Some(bypass) = bypass else { return String::new() };
        if let Some(queue) = self.elsewhere(Some(bypass), tuple) {
            return format!(": frames of the connection arrive on queue {queue}: use --queue {queue}, or --queue all");
        }
        if bypass.flows.seen(tuple).is_some_and(|seen| seen.frames != 0) {
            return match bypass.ring.counters().frames_received {
                0 => ": the program redirected frames that the ring did not get: see drops by reason".to_owned(),
                received => format!(
                    ": the ring got {received} frames and could use none: see drops by reason (malformed: on a veth, the other end \
                     leaves checksums blank: ethtool -K PEER tx off)"
                ),
            };
        }
        let Ok(tallies) = bypass.flows.tallies() else { return String::new() };
        let total: u64 = tallies.iter().map(|(_, tally)| tally.total()).sum();
        let stripped = match &self.asks_nic {
            AsksNic::No(_) if bypass.hop.vlan.is_some() => {
                "; the NIC may have taken their VLAN tags off (ethtool -K, rxvlan off)"
            }
            _ => "",
        };
        format!(": the program saw {total} frames on the interface, none of the connection{stripped}")
    }
}

/// Queues as they are told: `queue 0`, `queues 0, 1`, `queues 0 to 15`.
fn named(queues: &[u32]) -> String {
    match queues {
        [one] => format!("queue {one}"),
        [first, .., last] if queues.len() > 3 && queues.windows(2).all(|pair| pair[1] == pair[0] + 1) => {
            format!("queues {first} to {last}")
        }
        _ => {
            let queues: Vec<_> = queues.iter().map(u32::to_string).collect();
            format!("queues {}", queues.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_named_as_one_would() {
        for (queues, text) in [
            (&[3][..], "queue 3"),
            (&[0, 1], "queues 0, 1"),
            (&[0, 1, 2], "queues 0, 1, 2"),
            (&[0, 1, 2, 3], "queues 0 to 3"),
            (&[2, 0, 1, 3], "queues 2, 0, 1, 3"),
        ] {
            assert_eq!(named(queues), text);
        }
    }

    #[test]
    fn the_queue_that_is_sent_over_comes_first() {
        let plan = |queues| BypassPlan::new(Mode::Auto, Setup::Kernel, 2, false).queues(queues).queues_of("wt-none0");
        assert_eq!(plan(Queues::One), Ok(vec![2]));
        assert_eq!(plan(Queues::These(vec![5, 1])), Ok(vec![5, 1]));
        let refused = plan(Queues::All).unwrap_err();
        assert!(refused.contains("wt-none0: the driver does not say"), "{refused}");
    }
}
