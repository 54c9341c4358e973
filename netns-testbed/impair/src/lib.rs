//! A wire that does what wires do to segments: loses them, alone and in bursts, doubles, reorders, flips, cuts, delays, splits
//! and joins them, and lets others slip in.
//!
//! What comes in are Ethernet frames, each with its direction and the time; what goes out are frames and the time at which
//! the next is due. Nothing here reads a clock or touches a socket: over a real link the same [`Impairer`] is driven by a
//! thread (the testbed's `topology::Plan::wire`), in virtual time by a loop.
//!
//! **A seed means the same everywhere.** What befalls the n-th frame of a direction depends on the seed, the direction and n
//! (and, for bursts, on the frames before it), not on times, and not on the other direction. With the same frames,
//! the same happens; with two TCPs that react differently, as two modes of a client do, the n-th frame of each meets
//! the same fate.
//!
//! A frame goes through, in this order: the cut wire, loss, flipped bits, truncation, splitting, duplication, joining, being
//! held back, bandwidth, delay. What it does not do: IP fragments and frames with two VLAN tags count as no TCP.

mod counters;
mod forge;
pub mod frame;
mod mixtures;
mod plan;
pub mod random;
mod segment;
#[cfg(test)]
mod tests;
mod way;

use std::time::Duration;

pub use counters::Counters;
pub use forge::{Aim, Forgery};
pub use mixtures::mixtures;
pub use plan::{Burst, Chance, Direction, Fate, Impairments, Plan, Rate, Reorder, Rule, Scope};

use forge::{Flows, Standing};
use random::Random;
use segment::{ETHERNET_HEADER, Segment};
use way::{Frame, Way};

/// A wire's engine. Times are durations since any moment, the same for all calls, and must not go back.
#[derive(Clone, Debug)]
pub struct Impairer {
    plan: Plan,
    /// To the client, to the exchange.
    ways: [Way; 2],
    flows: Flows,
    /// How often each rule of the script has decided.
    used: Vec<u64>,
    jobs: Vec<Job>,
}

/// Forgeries to be sent one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Which way they go.
    pub direction: Direction,
    /// What they are.
    pub forgery: Forgery,
    /// How many.
    pub count: u64,
    /// How many in a second; not 0.
    pub per_second: u32,
}

#[derive(Clone, Debug)]
struct Job {
    injection: Injection,
    next: Duration,
    random: Random,
}

/// What is to happen to one frame.
#[derive(Clone, Debug, Default)]
struct Fates {
    lost: bool,
    lost_in_burst: bool,
    corrupt: bool,
    forge_payload: bool,
    truncate: Option<Option<usize>>,
    split: Option<Option<usize>>,
    duplicate: bool,
    join: bool,
    hold: Option<(u32, Duration)>,
    late: Duration,
}

impl Impairer {
    /// A wire that does what `plan` says.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let used = vec![0; plan.script.len()];
        Self { ways: Default::default(), flows: Flows::default(), used, jobs: Vec::new(), plan }
    }

    /// Does something else from now on. Frames are numbered from 0 again, so that the new plan's seed says what happens
    /// whatever was before; what is on its way stays on its way, and the counters go on.
    pub fn set_plan(&mut self, plan: Plan) {
        self.used = vec![0; plan.script.len()];
        for way in &mut self.ways {
            way.number = 0;
            way.in_burst = false;
        }
        self.plan = plan;
    }

    /// Cuts the wire in one direction: what comes before `until` is lost. What is on its way still arrives.
    pub fn blackhole(&mut self, direction: Direction, until: Duration) {
        self.way(direction).cut_until = until;
    }

    /// Sends forgeries from `now` on. Where no connection is known yet, they are not made, and not counted.
    ///
    /// # Panics
    ///
    /// With 0 in a second.
    pub fn inject(&mut self, now: Duration, injection: Injection) {
        assert!(injection.per_second > 0, "at no rate, nothing is ever sent");
        let seed = self.plan.seed ^ self.jobs.len() as u64;
        self.jobs.push(Job { injection, next: now, random: Random::new(Random::new(seed).next()) });
    }

    /// Forgeries that are yet to be sent.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.jobs.iter().map(|job| job.injection.count).sum()
    }

    /// What was done so far in one direction.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> Counters {
        self.ways[direction as usize].counters
    }

    fn way(&mut self, direction: Direction) -> &mut Way {
        &mut self.ways[direction as usize]
    }

    /// A frame comes to the wire.
    pub fn push(&mut self, now: Duration, direction: Direction, frame: &[u8]) {
        let segment = Segment::of(frame);
        let way = &mut self.ways[direction as usize];
        // What was due before it is not affected by it, however late we were asked.
        way.release(now);
        if segment.is_none() && self.plan.scope == Scope::Tcp {
            way.counters.others += 1;
            way.pass(now, frame.to_vec());
            return;
        }
        let number = way.number;
        way.number += 1;
        way.counters.frames += 1;
        let standing = segment.as_ref().map(|segment| self.flows.came(direction, segment)).unwrap_or_default();
        let way = &mut self.ways[direction as usize];
        way.counters.retransmitted += u64::from(standing.retransmitted);

        let mut random = dice(self.plan.seed, direction, number);
        let impairments = self.plan.on(direction);
        let mut fates = Fates::draw(impairments, &mut random, &mut way.in_burst);
        for (chance, forgery) in &impairments.forgeries {
            if chance.hits(random.next())
                && let Some(forged) = self.flows.forge(direction, *forgery, &mut random)
            {
                way.counters.forged += 1;
                way.pass(now, forged);
            }
        }
        if let Some(rule) = self.plan.script.iter().zip(&mut self.used).find(|(rule, used)| {
            rule.direction == direction && **used < rule.times && rule.fits(number, segment.as_ref(), standing)
        }) {
            *rule.1 += 1;
            fates = Fates::scripted(rule.0.fate);
        }
        if way.waiting() >= self.plan.queue_frames {
            way.counters.over_queue += 1;
        } else if now < way.cut_until {
            way.counters.blackholed += 1;
        } else if fates.lost {
            way.counters.lost += 1;
        } else if fates.lost_in_burst {
            way.counters.lost_in_burst += 1;
        } else {
            self.go(now, direction, frame.to_vec(), segment, &fates, &mut random);
        }
    }

    /// What is not lost: changes it, and sends it on its way.
    fn go(
        &mut self,
        now: Duration,
        direction: Direction,
        mut bytes: Vec<u8>,
        mut segment: Option<Segment>,
        fates: &Fates,
        random: &mut Random,
    ) {
        let way = &mut self.ways[direction as usize];
        let (rate, mtu) = (self.plan.on(direction).rate, self.plan.mtu);
        let overtaking = self.plan.on(direction).overtaking;
        if fates.forge_payload
            && let Some(segment) = segment.as_ref().filter(|segment| !segment.payload.is_empty())
        {
            flip(&mut bytes[segment.payload.clone()], random);
            // Without what an Ethernet link has padded.
            bytes.truncate(segment.payload.end);
            segment.seal(&mut bytes);
            way.counters.payload_forged += 1;
        }
        if fates.corrupt && bytes.len() > ETHERNET_HEADER {
            let start = segment.as_ref().map_or(ETHERNET_HEADER, |segment| segment.ip);
            flip(&mut bytes[start..], random);
            way.counters.corrupted += 1;
            segment = None;
        }
        if let Some(to) = fates.truncate
            && bytes.len() > ETHERNET_HEADER + 1
        {
            let last = bytes.len() as u64 - 1;
            let to = to.unwrap_or_else(|| random.between(ETHERNET_HEADER as u64 + 1, last) as usize);
            bytes.truncate(to.max(ETHERNET_HEADER + 1));
            way.counters.truncated += 1;
            segment = None;
        }
        let mut pieces = vec![(segment, bytes)];
        if let (Some(at), (Some(segment), bytes)) = (fates.split, &pieces[0]) {
            let last = segment.payload.len().saturating_sub(1);
            let at = at.or_else(|| (last > 0).then(|| random.between(1, last as u64) as usize));
            if let Some(at) = at.filter(|at| (1..=last).contains(at)) {
                pieces = segment.split(bytes, at).map(|half| (Segment::of(&half), half)).to_vec();
                way.counters.split += 1;
            }
        }
        if fates.duplicate {
            let copies = pieces.clone();
            pieces.extend(copies);
            way.counters.duplicated += 1;
        }
        way.counters.held_back += u64::from(fates.hold.is_some());
        way.counters.delayed += u64::from(!fates.late.is_zero());
        let delay = self.plan.on(direction).delay;
        for (segment, bytes) in pieces {
            let frame = Frame {
                bytes,
                segment,
                delay: delay + fates.late,
                hold: fates.hold,
                join: fates.join,
                rate,
                overtaking,
            };
            way.take(now, frame, mtu);
        }
    }

    /// The next frame that leaves in this direction, if it is due.
    pub fn pop(&mut self, now: Duration, direction: Direction) -> Option<Vec<u8>> {
        loop {
            let due = self.ways[direction as usize].release(now);
            let jobs = self.jobs.iter_mut().filter(|job| job.injection.direction == direction && job.next <= now);
            let job = jobs.min_by_key(|job| job.next);
            if let Some(job) = job
                && due.is_none_or(|due| job.next <= due)
            {
                let forged = self.flows.forge(direction, job.injection.forgery, &mut job.random);
                job.injection.count = job.injection.count.saturating_sub(1);
                job.next += Duration::from_secs(1) / job.injection.per_second;
                self.jobs.retain(|job| job.injection.count > 0);
                let Some(forged) = forged else { continue };
                let counters = &mut self.way(direction).counters;
                counters.forged += 1;
                counters.delivered += 1;
                return Some(forged);
            }
            due.filter(|due| *due <= now)?;
            let (bytes, segment) = self.way(direction).next()?;
            if let Some(segment) = segment {
                self.flows.left(direction, &segment, &bytes);
            }
            self.way(direction).counters.delivered += 1;
            return Some(bytes);
        }
    }

    /// When [`Impairer::pop`] has something, at the earliest. `None` where nothing is on its way.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let ways = self.ways.iter().filter_map(Way::next_due);
        ways.chain(self.jobs.iter().map(|job| job.next)).min()
    }
}

/// The random numbers of one frame. Those of neighbours have nothing to do with each other: their seeds are mixed once.
fn dice(seed: u64, direction: Direction, number: u64) -> Random {
    let stream = Random::new(seed ^ (direction as u64) << 63).next();
    Random::new(Random::new(stream.wrapping_add(number)).next())
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    let bit = random.below(bytes.len() as u64 * 8) as usize;
    bytes[bit / 8] ^= 1 << (bit % 8);
}

impl Fates {
    /// One draw for each, whether it is asked for or not: so no chance changes what comes of the others.
    fn draw(plan: &Impairments, random: &mut Random, in_burst: &mut bool) -> Self {
        let mut hits = |chance: Chance| chance.hits(random.next());
        let lost = hits(plan.loss);
        let burst = plan.burst.unwrap_or(Burst { begin: Chance::NEVER, end: Chance::ALWAYS, loss: Chance::NEVER });
        let (begins, ends, lost_in_burst) = (hits(burst.begin), hits(burst.end), hits(burst.loss));
        *in_burst = if *in_burst { !ends } else { begins };
        let reorder = plan.reorder.unwrap_or(Reorder { frames_max: 1, ..Reorder::some(Chance::NEVER) });
        let held = hits(reorder.chance);
        let fates = Self {
            lost,
            lost_in_burst: *in_burst && lost_in_burst,
            corrupt: hits(plan.corrupt),
            forge_payload: hits(plan.forge_payload),
            truncate: hits(plan.truncate).then_some(None),
            split: hits(plan.split).then_some(None),
            duplicate: hits(plan.duplicate),
            join: hits(plan.join),
            ..Self::default()
        };
        let frames = random.between(1, reorder.frames_max.max(1).into()) as u32;
        let nanos = u64::try_from(plan.jitter.as_nanos()).unwrap_or(u64::MAX - 1);
        let late = Duration::from_nanos(random.between(0, nanos));
        Self { hold: held.then_some((frames, reorder.time_max)), late, ..fates }
    }

    fn scripted(fate: Fate) -> Self {
        let mut fates = Self::default();
        match fate {
            Fate::Pass => {}
            Fate::Lose => fates.lost = true,
            Fate::Duplicate => fates.duplicate = true,
            Fate::Hold(frames, time) => fates.hold = Some((frames, time)),
            Fate::Delay(time) => fates.late = time,
            Fate::Corrupt => fates.corrupt = true,
            Fate::ForgePayload => fates.forge_payload = true,
            Fate::Truncate(to) => fates.truncate = Some(Some(to)),
            Fate::Split(at) => fates.split = Some(Some(at)),
            Fate::Join => fates.join = true,
        }
        fates
    }
}

impl Rule {
    fn fits(&self, number: u64, segment: Option<&Segment>, standing: Standing) -> bool {
        let payload = segment.map_or(0, |segment| segment.payload.len() as u64);
        let carries = |bytes: &std::ops::Range<u64>| {
            standing.offset.is_some_and(|from| payload > 0 && from < bytes.end && from + payload > bytes.start)
        };
        self.nth.as_ref().is_none_or(|numbers| numbers.contains(&number))
            && self.offsets.as_ref().is_none_or(carries)
            && (self.flags == 0 || segment.is_some_and(|segment| segment.flags & self.flags == self.flags))
            && self.with_payload.is_none_or(|with| segment.is_some() && with == (payload > 0))
    }
}
