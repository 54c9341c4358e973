//! Everything a feed has counted, in one place.

use wiretick_xdp::Tally;

use super::{Feed, LegReport, Means, Mode, Move, Setup, Steer};
use crate::control::attach::AsksNic;
use crate::control::steering::Steering;
use crate::lane::{ConnectionReport, LaneCounters};
use crate::record::Facts;
use crate::ring::{Ring, RingCounters};

/// What a feed did so far.
#[derive(Clone, Debug)]
pub struct Report {
    /// The mode in effect.
    pub mode: Mode,
    /// How the connection came there.
    pub setup: Setup,
    /// The interface; empty where the kernel path was asked for.
    pub interface: String,
    /// The queue of the interface that is sent over, and received from.
    pub queue: u32,
    /// All queues that are received from; that one comes first.
    pub queues: Vec<u32>,
    /// Better modes, and why they are not in effect.
    pub refusals: Vec<(String, String)>,
    /// What was done to bring connections to the queue; each one's is in [`LegReport`].
    pub steering: SteeringReport,
    /// Every change from one mode to another, oldest first: the last hundred of them.
    pub moves: Vec<Move>,
    /// The process that has taken the connection over.
    pub successor: Option<i32>,
    /// Times the next hop changed its MAC address, and what leaves was addressed anew.
    pub readdressed: u64,
    /// The connections there are, oldest first; the other figures are of the oldest.
    pub legs: Vec<LegReport>,
    /// Connections made after the first ones.
    pub reconnects: u64,
    /// Connections that were left for a successor.
    pub replaced: u64,
    /// What TLS agreed on.
    pub tls: Option<Facts>,
    /// The connection and its stages.
    pub connection: ConnectionReport,
    /// Frames that were nobody's.
    pub lane: LaneCounters,
    /// The ring, where there is one.
    pub ring: Option<RingCounters>,
    /// Whether the ring's memory is made of huge pages: it is where enough of them are free (`vm.nr_hugepages`).
    pub huge_pages: bool,
    /// Whether the XDP program asks the NIC what it knows of frames, or why not.
    pub asks_nic: AsksNic,
    /// If so, the number of the NIC's own clock (N in `/dev/ptpN`), where the driver names one.
    pub ptp_clock: Option<u32>,
    /// What the XDP program decided, by queue.
    pub verdicts: Vec<(u32, Tally)>,
}

/// What a feed does to bring its connections to their queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteeringReport {
    /// What was asked for; [`Steer::None`] where no ring is wanted.
    pub wanted: Steer,
    /// What cannot be had, or has turned out not to work, and why.
    pub refusals: Vec<(Means, String)>,
}

impl SteeringReport {
    fn of(steering: &Steering) -> Self {
        Self { wanted: steering.steer(), refusals: steering.refusals() }
    }

    fn none() -> Self {
        Self { wanted: Steer::None, refusals: Vec::new() }
    }
}

impl Report {
    pub(super) fn new(feed: &Feed) -> Self {
        let bypass = feed.lane.bypass();
        Self {
            mode: feed.mode(),
            setup: feed.setup,
            interface: feed.plan.interface().to_owned(),
            queue: feed.plan.queue(),
            queues: feed.plan.opened_queues().to_vec(),
            refusals: feed.plan.refusals(),
            steering: feed.plan.steering().map_or_else(SteeringReport::none, SteeringReport::of),
            moves: feed.course.moves(),
            successor: feed.successor(),
            readdressed: feed.course.readdressed,
            legs: feed.leg_reports(),
            reconnects: feed.upkeep.reconnects,
            replaced: feed.upkeep.replaced,
            tls: feed.leg(0).path().tls().copied(),
            connection: feed.leg(0).report(),
            lane: feed.lane.counters(),
            ring: bypass.map(|bypass| bypass.ring.counters()),
            huge_pages: bypass.is_some_and(|bypass| bypass.ring.huge_pages()),
            asks_nic: feed.plan.asks_nic().clone(),
            ptp_clock: feed.plan.ptp_clock(),
            verdicts: bypass.map(|bypass| bypass.flows.tallies().unwrap_or_default()).unwrap_or_default(),
        }
    }
}
