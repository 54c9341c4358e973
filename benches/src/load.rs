//! What the exchange sends while somebody is measured: loads, and what it takes to make them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wiretick_testbed::exchange::{Config, Feed, Pace, Security, SyntheticPlan};
use wiretick_testbed::feeds::Recording;

use crate::payload::{self, BURST_CYCLE, Burst};

/// The field of each message in which the exchange tells when it was sent.
pub(crate) const STAMP_FIELD: &str = "n";

/// Messages of "all at once", and the time from one to the next. 1,000 are 170 KB: they fit every client's receive window,
/// so the sender never waits for the client.
const AT_ONCE: u64 = 1000;
const AT_ONCE_CYCLE: Duration = Duration::from_millis(100);

/// Snapshots a second: a client has handled one (in 20 to 40 ms) long before the next is due.
const SNAPSHOTS_PER_SECOND: u64 = 8;

/// A stream of messages, as it is described.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    pub(crate) tls: bool,
    /// Messages, all told.
    pub(crate) count: u64,
    /// How many of the first do not count: they hold the handshakes and the promotion.
    pub(crate) warmup: u64,
}

/// What is special about a load.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Evenly spaced messages, so many a second.
    Paced(u64),
    /// The densest seconds of a capture, each message at the time at which it arrived.
    Captured,
    /// The densest ten milliseconds of a capture, again and again; timed is the last message of each time.
    LastOfBurst(u64),
    /// So many messages given to the exchange's TLS in one call; timed is the last, from before the first was sealed.
    AtOnce(u64),
    /// As fast as it goes, so many frames in a TLS record (or, without TLS, in a write). No stamps, no clock.
    Saturated(u64),
    /// Evenly spaced messages, so many a second, with a look at the clock at every stage of each.
    Stages(u64),
    /// One message of so many bytes, a few times a second.
    Snapshot(u64),
    /// Evenly spaced messages, each answered; timed by the exchange, from the send of the message to the receipt of the
    /// answer.
    TickToTrade(u64),
}

impl Load {
    /// As it stands in tables.
    pub(crate) fn name(&self) -> String {
        let thousands = |n: u64| match n {
            n if n >= 1000 => format!("{},{:03}", n / 1000, n % 1000),
            n => n.to_string(),
        };
        let name = match self.kind {
            Kind::Paced(rate) => format!("{} a second", thousands(rate)),
            Kind::Captured => "captured, the densest seconds".to_owned(),
            Kind::LastOfBurst(n) => format!("captured burst of {n}, its last message"),
            Kind::AtOnce(n) => format!("{} at once, the last of them", thousands(n)),
            Kind::Saturated(1) => "saturated, 1 frame a record".to_owned(),
            Kind::Saturated(n) => format!("saturated, {n} frames a record"),
            Kind::Stages(rate) => format!("stages, {} a second", thousands(rate)),
            Kind::Snapshot(bytes) => format!("captured snapshot of {:.1} MB", bytes as f64 / 1e6),
            Kind::TickToTrade(rate) => format!("tick-to-trade, {} a second", thousands(rate)),
        };
        if self.tls { name } else { format!("{name}, without TLS") }
    }

    /// As it stands in file names.
    pub(crate) fn id(&self) -> String {
        let name = match self.kind {
            Kind::Paced(rate) => format!("paced-{rate}"),
            Kind::Captured => "captured".to_owned(),
            Kind::LastOfBurst(_) => "captured-burst".to_owned(),
            Kind::AtOnce(n) => format!("at-once-{n}"),
            Kind::Saturated(frames) => format!("saturated-{frames}"),
            Kind::Stages(rate) => format!("stages-{rate}"),
            Kind::Snapshot(_) => "captured-snapshot".to_owned(),
            Kind::TickToTrade(rate) => format!("tick-to-trade-{rate}"),
        };
        if self.tls { name } else { format!("{name}-plain") }
    }
}

/// A load, and what the exchange needs to make it.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) load: Load,
    /// The path of the URL: which streams of the feed.
    pub(crate) path: &'static str,
    feed: Feed,
    pace: Pace,
    batch: u64,
    /// Stamps stand in the last of so many messages; `None` where nothing is timed.
    stamp_every: Option<u64>,
    /// How long sending takes; `None` where that is the client's doing.
    lasts: Option<Duration>,
}

impl Scene {
    /// Evenly spaced messages: trades, tickers and depth in the proportion of the captures.
    pub(crate) fn mixed(rate: u64, seconds: u64) -> Result<Self, &'static str> {
        Ok(Self { path: "/ws", ..Self::at_rate(Kind::Paced(rate), true, rate, Duration::from_secs(seconds))? })
    }

    /// Evenly spaced trades.
    pub(crate) fn paced(rate: u64, tls: bool, lasts: Duration) -> Result<Self, &'static str> {
        Self::at_rate(Kind::Paced(rate), tls, rate, lasts)
    }

    /// Evenly spaced trades, each timed at every stage.
    pub(crate) fn stages(rate: u64, lasts: Duration) -> Result<Self, &'static str> {
        Self::at_rate(Kind::Stages(rate), true, rate, lasts)
    }

    /// A captured snapshot, again and again.
    pub(crate) fn snapshot(recording: Recording, lasts: Duration) -> Result<Self, &'static str> {
        let bytes = recording.messages.get(0).map_or(0, <[u8]>::len) as u64;
        let scene = Self::at_rate(Kind::Snapshot(bytes), true, SNAPSHOTS_PER_SECOND, lasts)?;
        let load = Load { warmup: 1, ..scene.load };
        Ok(Self { load, path: "/ws", feed: Feed::Replay(Arc::new(recording)), ..scene })
    }

    /// Evenly spaced trades, each answered.
    pub(crate) fn tick_to_trade(rate: u64, lasts: Duration) -> Result<Self, &'static str> {
        Self::at_rate(Kind::TickToTrade(rate), true, rate, lasts)
    }

    /// Bursts of trades.
    pub(crate) fn at_once(tls: bool, lasts: Duration) -> Result<Self, &'static str> {
        let rate = AT_ONCE * 1000 / AT_ONCE_CYCLE.as_millis() as u64;
        let scene = Self::at_rate(Kind::AtOnce(AT_ONCE), tls, rate, lasts)?;
        Ok(Self { batch: AT_ONCE, stamp_every: Some(AT_ONCE), ..scene.in_wholes_of(AT_ONCE) })
    }

    /// The densest part of a capture as it came.
    pub(crate) fn captured(recording: Recording, tls: bool) -> Self {
        let lasts = recording.arrivals.as_ref().and_then(|it| Some(it.last()? - it.first()?)).unwrap_or(0);
        let count = recording.messages.len() as u64;
        Self {
            load: Load { kind: Kind::Captured, tls, count, warmup: count / 10 },
            path: "/stream",
            feed: Feed::Replay(Arc::new(recording)),
            pace: Pace::Recorded { speed: 1.0 },
            batch: 1,
            stamp_every: Some(1),
            lasts: Some(Duration::from_nanos(lasts)),
        }
    }

    /// The densest ten milliseconds of a capture, again and again.
    pub(crate) fn last_of_burst(burst: &Burst, tls: bool, lasts: Duration) -> Self {
        let times = (lasts.as_millis() / BURST_CYCLE.as_millis()).max(1) as usize;
        let recording = burst.repeated(times);
        let scene = Self::captured(recording, tls).in_wholes_of(burst.len());
        let load = Load { kind: Kind::LastOfBurst(burst.len()), ..scene.load };
        Self { load, stamp_every: Some(burst.len()), ..scene }
    }

    /// As many trades as the client takes. The exchange sends them from a recording, which costs it a copy a message; when
    /// that is through, it begins anew.
    pub(crate) fn saturated(frames: u64, count: u64, tls: bool) -> Self {
        Self {
            load: Load { kind: Kind::Saturated(frames), tls, count, warmup: 0 },
            path: "/ws/btcusdt@trade",
            feed: Feed::Replay(payload::trades()),
            pace: Pace::Saturate,
            batch: frames,
            stamp_every: None,
            lasts: None,
        }
    }

    fn at_rate(kind: Kind, tls: bool, rate: u64, lasts: Duration) -> Result<Self, &'static str> {
        let pace = Pace::Rate(NonZeroU64::new(rate).ok_or("a rate of 0 messages a second measures nothing")?);
        let count = (u128::from(rate) * lasts.as_millis() / 1000) as u64;
        Ok(Self {
            load: Load { kind, tls, count, warmup: count / 10 },
            path: "/ws/btcusdt@trade",
            feed: Feed::Synthetic(SyntheticPlan::default()),
            pace,
            batch: 1,
            stamp_every: Some(1),
            lasts: Some(lasts),
        })
    }

    /// The same with whole bursts only, in what counts and in what does not.
    fn in_wholes_of(mut self, messages: u64) -> Self {
        let down = |count: u64| (count / messages).max(1) * messages;
        (self.load.count, self.load.warmup) = (down(self.load.count), down(self.load.warmup));
        self
    }

    /// The field that the client is to measure by.
    pub(crate) fn stamp_field(&self) -> Option<&'static str> {
        self.stamp_every.map(|_| STAMP_FIELD)
    }

    /// Whether the client is to look at the clock at every stage.
    pub(crate) fn has_stages(&self) -> bool {
        matches!(self.load.kind, Kind::Stages(_))
    }

    /// Whether nothing but acknowledgements decides when the next segment is sent.
    pub(crate) fn is_sent_by_acknowledgements(&self) -> bool {
        matches!(self.load.kind, Kind::Saturated(_) | Kind::Snapshot(_))
    }

    /// The field that the client is to answer with.
    pub(crate) fn echo_field(&self) -> Option<&'static str> {
        matches!(self.load.kind, Kind::TickToTrade(_)).then_some(STAMP_FIELD)
    }

    /// Gaps in the numbering that `count` messages have: one for each time that a recording begins anew. A snapshot has no
    /// number that is looked at.
    pub(crate) fn gaps(&self, count: u64) -> u64 {
        match &self.feed {
            _ if matches!(self.load.kind, Kind::Snapshot(_)) => 0,
            Feed::Replay(recording) => count.saturating_sub(1) / recording.messages.len().max(1) as u64,
            Feed::Synthetic(_) | Feed::Nothing => 0,
        }
    }

    /// How long a run may take.
    pub(crate) fn patience(&self) -> Duration {
        2 * self.lasts.unwrap_or(Duration::from_secs(20)) + Duration::from_secs(20)
    }

    /// About how long a run takes.
    pub(crate) fn expected(&self) -> Duration {
        // A process, three handshakes and a goodbye beside it.
        self.lasts.unwrap_or(Duration::from_secs(2)) + Duration::from_millis(350)
    }

    pub(crate) fn exchange(&self, count: u64, security: Security, core: usize) -> Config {
        Config {
            security,
            feed: self.feed.clone(),
            pace: self.pace,
            batch: usize::try_from(self.batch).unwrap_or(1),
            // Answers are timed until the client has said goodbye. Were it the exchange that ends, the slowest of the last
            // answers would be missing, and the figures better than the client.
            count: self.echo_field().is_none().then_some(count),
            stamp_field: self.stamp_every.map(|_| STAMP_FIELD.to_owned()),
            stamp_every: self.stamp_every.unwrap_or(1),
            measure_echo: self.echo_field().is_some(),
            core: Some(core),
            ..Config::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Duration = Duration::from_secs(2);

    #[test]
    fn a_run_lasts_as_long_as_was_asked_for() {
        let scene = Scene::paced(50_000, true, SECONDS).unwrap();
        assert_eq!(
            (scene.load.count, scene.load.warmup, scene.load.name()),
            (100_000, 10_000, "50,000 a second".into())
        );
        assert!(Scene::paced(0, true, SECONDS).is_err());
    }

    #[test]
    fn bursts_are_whole_and_only_their_last_message_is_stamped() {
        let scene = Scene::at_once(true, SECONDS).unwrap();
        assert_eq!((scene.load.count, scene.load.warmup), (20_000, 2_000));
        let config = scene.exchange(scene.load.count, Security::Plain, 0);
        assert_eq!((config.batch, config.stamp_every), (1000, 1000));
    }

    #[test]
    fn a_snapshot_is_sent_again_and_again_and_the_first_does_not_count() {
        let lines = wiretick_testbed::feeds::Lines::new(b"{\"a\":1}\n".to_vec());
        let scene = Scene::snapshot(Recording { messages: lines, arrivals: None }, SECONDS).unwrap();
        assert_eq!((scene.load.kind, scene.load.count, scene.load.warmup), (Kind::Snapshot(7), 16, 1));
        assert_eq!((scene.gaps(16), scene.stamp_field()), (0, Some(STAMP_FIELD)));
    }

    #[test]
    fn who_answers_is_the_one_that_ends() {
        let scene = Scene::tick_to_trade(1000, SECONDS).unwrap();
        assert_eq!(scene.exchange(scene.load.count, Security::Plain, 0).count, None);
    }

    #[test]
    fn a_recording_that_begins_anew_has_a_gap_each_time() {
        let scene = Scene::saturated(16, 1, true);
        let Feed::Replay(recording) = &scene.feed else { panic!() };
        let lines = recording.messages.len() as u64;
        assert_eq!([scene.gaps(lines), scene.gaps(lines + 1), scene.gaps(3 * lines)], [0, 1, 2]);
        assert_eq!(scene.stamp_field(), None);
    }

    #[test]
    fn names_tell_loads_apart() {
        let loads =
            [Scene::paced(1000, true, SECONDS), Scene::paced(1000, false, SECONDS), Scene::at_once(true, SECONDS)]
                .map(|scene| scene.unwrap().load);
        assert_eq!(loads.each_ref().map(Load::id), ["paced-1000", "paced-1000-plain", "at-once-1000"]);
        assert_eq!(loads[1].name(), "1,000 a second, without TLS");
    }
}
