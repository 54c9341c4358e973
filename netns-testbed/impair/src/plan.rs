//! What a wire shall do to the segments on it: chances, times and scripted fates.
//!
//! All of it is plain data, comparable and copied at will; nothing here acts.

use std::ops::Range;
use std::time::Duration;

use super::Forgery;

/// How often something happens to a segment, in millionths: an integer, so that a seed means the same on every machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chance(u32);

impl Chance {
    /// To no segment.
    pub const NEVER: Self = Self(0);
    /// To every segment.
    pub const ALWAYS: Self = Self(1_000_000);

    /// To so many of a hundred.
    ///
    /// # Panics
    ///
    /// With more than 100.
    #[must_use]
    pub const fn percent(percent: u32) -> Self {
        assert!(percent <= 100, "a chance is at most 100 %");
        Self(percent * 10_000)
    }

    /// To one of so many.
    ///
    /// # Panics
    ///
    /// With 0.
    #[must_use]
    pub const fn one_in(n: u32) -> Self {
        assert!(n > 0, "one in none means nothing: use Chance::NEVER");
        Self(1_000_000 / n)
    }

    /// Whether `draw`, one of all numbers of 64 bits, is among those it happens with.
    pub(super) const fn hits(self, draw: u64) -> bool {
        ((draw as u128 * 1_000_000) >> 64) < self.0 as u128
    }
}

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the exchange to the client.
    ToClient,
    /// From the client to the exchange.
    ToExchange,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::ToClient, Self::ToExchange];

    /// The other way.
    #[must_use]
    pub const fn reverse(self) -> Self {
        match self {
            Self::ToClient => Self::ToExchange,
            Self::ToExchange => Self::ToClient,
        }
    }
}

/// What a wire shall do. The default does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Determines everything that is left to chance.
    pub seed: u64,
    /// What happens on the way from the exchange to the client.
    pub to_client: Impairments,
    /// What happens on the way from the client to the exchange.
    pub to_exchange: Impairments,
    /// What these happen to.
    pub scope: Scope,
    /// Fates of chosen segments. The first rule that fits decides, and chance has no say in that segment.
    pub script: Vec<Rule>,
    /// The largest IP packet that joining two segments may make, in bytes. Default 1500.
    pub mtu: usize,
    /// Frames that may wait in one direction, held back or delayed; with one more, the newest is dropped and counted.
    /// Default 65,536: at 1,500 bytes, 25 times the 4 MiB that one TCP connection may have under way.
    pub queue_frames: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            seed: 1,
            to_client: Impairments::default(),
            to_exchange: Impairments::default(),
            scope: Scope::Tcp,
            script: Vec::new(),
            mtu: 1500,
            queue_frames: 1 << 16,
        }
    }
}

impl Plan {
    /// The same in both directions.
    #[must_use]
    pub fn both(seed: u64, impairments: &Impairments) -> Self {
        Self { seed, to_client: impairments.clone(), to_exchange: impairments.clone(), ..Self::default() }
    }

    pub(super) const fn on(&self, direction: Direction) -> &Impairments {
        match direction {
            Direction::ToClient => &self.to_client,
            Direction::ToExchange => &self.to_exchange,
        }
    }
}

/// What impairments happen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// TCP segments. All else (ARP, neighbour discovery, ICMP) passes at once.
    Tcp,
    /// Every frame. What only makes sense for TCP (splitting, joining, checksums) happens to TCP segments only.
    Everything,
}

/// What happens to the frames of one direction. The default is nothing.
///
/// Every chance has draws of its own: switching one on leaves alone what befalls which segment by the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impairments {
    /// Lost, each by itself.
    pub loss: Chance,
    /// Lost in bursts.
    pub burst: Option<Burst>,
    /// Delivered twice.
    pub duplicate: Chance,
    /// Overtaken by later ones.
    pub reorder: Option<Reorder>,
    /// One bit behind the Ethernet header is flipped, and no checksum changed: what receivers must notice.
    pub corrupt: Chance,
    /// One bit of the payload is flipped, and the TCP checksum made right again: what TCP cannot notice and TLS must.
    /// Segments without a payload are spared.
    pub forge_payload: Chance,
    /// Cut off somewhere behind the Ethernet header, with lengths and checksums as they were.
    pub truncate: Chance,
    /// Cut into two segments at a random byte of the payload.
    pub split: Chance,
    /// Joined with the next one, where that continues it and both fit one packet.
    pub join: Chance,
    /// The time from one end to the other.
    pub delay: Duration,
    /// Up to so much more, evenly distributed.
    pub jitter: Duration,
    /// Whether a frame with little jitter overtakes one with much. If not, it waits behind it, as in a queue.
    pub overtaking: bool,
    /// The bandwidth, with a queue before it.
    pub rate: Option<Rate>,
    /// Segments made up and sent in the name of the other end, one with every so many segments of this direction.
    pub forgeries: Vec<(Chance, Forgery)>,
}

/// Loss in bursts: two states, and a step with every frame (Gilbert, 1960).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// How often a burst begins while there is none.
    pub begin: Chance,
    /// How often a burst ends; its mean length in frames is one over this.
    pub end: Chance,
    /// How often a frame within a burst is lost.
    pub loss: Chance,
}

/// Reordering: a frame is held back until others of its direction have passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    /// How often a frame is held back.
    pub chance: Chance,
    /// How many frames overtake it: from 1 to this.
    pub frames_max: u32,
    /// How long it waits for them at most.
    pub time_max: Duration,
}

impl Reorder {
    /// By 1 to 8 frames, within 5 ms: past the 3 segments after which TCP takes one for lost (RFC 5681 section 3.2).
    #[must_use]
    pub const fn some(chance: Chance) -> Self {
        Self { chance, frames_max: 8, time_max: Duration::from_millis(5) }
    }
}

/// A bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes of Ethernet frames in a second; not 0.
    pub bytes_per_second: u64,
    /// Bytes that wait before it; what does not fit is dropped and counted.
    pub queue_bytes: u64,
}

/// What becomes of a segment that a [`Rule`] fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing happens to it.
    Pass,
    /// It is lost.
    Lose,
    /// It is delivered twice.
    Duplicate,
    /// It is delivered after so many others have overtaken it, at the latest after this time.
    Hold(u32, Duration),
    /// It takes so much longer; others overtake it, if the direction allows that.
    Delay(Duration),
    /// One of its bits is flipped.
    Corrupt,
    /// One bit of its payload is flipped, and its checksum made right again.
    ForgePayload,
    /// Only so many bytes of the frame are left; at least an Ethernet header and one byte.
    Truncate(usize),
    /// It is cut into two before this byte of its payload; whole where the payload is not longer.
    Split(usize),
    /// It is joined with the next one, if that continues it.
    Join,
}

/// Which segments have which [`Fate`]: all conditions must hold. A new one has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(super) direction: Direction,
    pub(super) fate: Fate,
    pub(super) nth: Option<Range<u64>>,
    pub(super) offsets: Option<Range<u64>>,
    pub(super) flags: u8,
    pub(super) with_payload: Option<bool>,
    pub(super) times: u64,
}

impl Rule {
    /// Every segment of this direction has this fate.
    #[must_use]
    pub const fn new(direction: Direction, fate: Fate) -> Self {
        Self { direction, fate, nth: None, offsets: None, flags: 0, with_payload: None, times: u64::MAX }
    }

    /// Only the frames with these numbers, counted from 0 in this direction.
    #[must_use]
    pub fn nth(mut self, numbers: Range<u64>) -> Self {
        self.nth = Some(numbers);
        self
    }

    /// Only segments that carry one of these bytes of the stream, the first of which, behind the SYN, is 0. None of a
    /// connection whose SYN did not pass this wire.
    #[must_use]
    pub fn offsets(mut self, bytes: Range<u64>) -> Self {
        self.offsets = Some(bytes);
        self
    }

    /// Only segments with all of these flags, from FIN (1) to CWR (128) as in RFC 9293 section 3.1.
    #[must_use]
    pub const fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Only segments with, or only those without, a payload.
    #[must_use]
    pub const fn with_payload(mut self, with: bool) -> Self {
        self.with_payload = Some(with);
        self
    }

    /// Only the first so many of them.
    #[must_use]
    pub const fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }
}
