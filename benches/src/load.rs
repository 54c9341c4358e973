//! What the exchange sends while somebody is measured.

use std::num::NonZeroU64;
use std::time::Duration;

use serde::Serialize;
use wiretick_testbed::exchange::{Config, Feed, Pace, Security, SyntheticPlan};

/// The field of each message in which the exchange tells when it was sent.
pub(crate) const STAMP_FIELD: &str = "n";

/// A stream of messages.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Load {
    /// As it stands in tables.
    pub(crate) name: String,
    /// Messages, all told.
    pub(crate) count: u64,
    /// How many of the first do not count.
    pub(crate) warmup: u64,
    #[serde(skip)]
    pace: Pace,
}

impl Load {
    /// Evenly spaced messages. The first tenth does not count: it holds the handshakes and the promotion.
    pub(crate) fn paced(rate: u64, seconds: u64) -> Result<Self, &'static str> {
        let rate = NonZeroU64::new(rate).ok_or("a rate of 0 messages a second measures nothing")?;
        let count = rate.get() * seconds;
        Ok(Self { name: format!("{rate} a second"), count, warmup: count / 10, pace: Pace::Rate(rate) })
    }

    /// How long a run may take.
    pub(crate) fn patience(&self) -> Duration {
        let sending = match self.pace {
            Pace::Rate(rate) => Duration::from_secs(self.count / rate),
            _ => Duration::from_secs(60),
        };
        2 * sending + Duration::from_secs(20)
    }

    pub(crate) fn exchange(&self, security: Security, core: usize) -> Config {
        Config {
            security,
            feed: Feed::Synthetic(SyntheticPlan::default()),
            pace: self.pace,
            count: Some(self.count),
            stamp_field: Some(STAMP_FIELD.to_owned()),
            core: Some(core),
            ..Config::default()
        }
    }
}
