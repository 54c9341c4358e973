//! What an exchange shall do, and the check that it can.
//!
//! What comes in is a [`Config`] with everything in it; what goes out is the same, with its TLS set up and its recording
//! encoded, ready for any number of connections.

use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{CipherSuite, KeyLogFile, ServerConfig, SupportedProtocolVersion, version};

use crate::feeds::Recording;
use crate::pki::Identity;

use super::faults::Fault;
use super::schedule::{Pace, monotonic_ns};
use super::source::{Script, Source};
use super::stamp::StampField;
use super::synthetic::{Synthetic, SyntheticPlan};

/// What an exchange shall do.
#[derive(Clone, Debug)]
pub struct Config {
    /// TLS or none. Default none.
    pub security: Security,
    /// What is sent. Default nothing.
    pub feed: Feed,
    /// How fast. Default 1,000 messages a second.
    pub pace: Pace,
    /// Frames in one write to TLS: one record, as long as they have 16 KiB together. A batch is due with its first message.
    /// Default 1.
    pub batch: usize,
    /// Messages after which the exchange closes the connection. Default: a recording is sent once, a synthetic feed never
    /// ends. With a number, a recording begins again at its first line as often as it takes.
    pub count: Option<u64>,
    /// When the stream begins. Default at once.
    pub start: Start,
    /// The name of a last field in each message that tells when it was sent. Default none.
    pub stamp_field: Option<String>,
    /// Which messages have that field: the last of every so many, counted from the first of the recording or of the
    /// synthetic feed. Default 1: all of them.
    pub stamp_every: u64,
    /// Time between two pings. Default none are sent.
    pub ping_interval: Option<Duration>,
    /// Whether each message of the client is sent back. Default no.
    pub echo: bool,
    /// Whether a client's text message that begins with a stamp's digits is timed. Default no.
    pub measure_echo: bool,
    /// What is done wrong. Default nothing.
    pub fault: Option<Fault>,
    /// Messages sent before a fault in mid-stream. Default 3.
    pub fault_after: u64,
    /// Determines what is random about faults and pings. Default 1.
    pub fault_seed: u64,
    /// The core that connection threads are pinned to. Default none.
    pub core: Option<usize>,
    /// A batch whose sending begins so much after it was due counts as late. Default 50 us: about what a preempted thread
    /// loses at least; a busy but undisturbed one stays below 5 us.
    pub late_after: Duration,
    /// How long a client may take over a handshake or over its part of the close. Default 5 s.
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            security: Security::Plain,
            feed: Feed::Nothing,
            pace: Pace::Rate(NonZeroU64::new(1000).expect("1000 is not 0")),
            batch: 1,
            count: None,
            start: Start::AtOnce,
            stamp_field: None,
            stamp_every: 1,
            ping_interval: None,
            echo: false,
            measure_echo: false,
            fault: None,
            fault_after: 3,
            fault_seed: 1,
            core: None,
            late_after: Duration::from_micros(50),
            patience: Duration::from_secs(5),
        }
    }
}

/// TLS or none.
#[derive(Clone, Debug)]
pub enum Security {
    /// `ws://`
    Plain,
    /// `wss://`
    Tls(Tls),
}

/// The server's side of TLS.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate and key.
    pub identity: Identity,
    /// The one version that is offered.
    pub version: TlsVersion,
    /// The one cipher suite that is offered; `None` for all.
    pub suite: Option<Suite>,
}

impl Tls {
    /// TLS 1.3 with all its suites.
    #[must_use]
    pub const fn new(identity: Identity) -> Self {
        Self { identity, version: TlsVersion::Tls13, suite: None }
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A cipher, as a name for the suite that uses it: with TLS 1.2, the ECDHE-ECDSA one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Suite {
    /// AES-128-GCM
    #[value(name = "aes128")]
    Aes128,
    /// AES-256-GCM
    #[value(name = "aes256")]
    Aes256,
    /// ChaCha20-Poly1305
    #[value(name = "chacha20")]
    ChaCha20,
}

/// What is sent.
#[derive(Clone, Debug)]
pub enum Feed {
    /// No messages: pings, answers and echoes only.
    Nothing,
    /// Each line one message, byte for byte.
    Replay(Arc<Recording>),
    /// A market of our own.
    Synthetic(SyntheticPlan),
}

/// When a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Start {
    /// Right after the upgrade.
    AtOnce,
    /// With the client's first text message, whatever it says.
    OnSubscribe,
    /// At once, where the stream stands by then: it began with the exchange, and goes on whether anybody listens or not. All
    /// clients get the same messages at the same moments, as from a real venue.
    Underway,
}

/// Why an exchange cannot be started.
#[derive(Debug)]
pub enum ConfigError {
    /// The configuration asks for something that cannot be.
    Refused(String),
    /// The kernel refused a socket or a thread.
    Io(io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => f.write_str(reason),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(_) => None,
            Self::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for ConfigError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A configuration that can be served, with everything that connections share.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) config: Config,
    pub(super) tls: Option<Arc<ServerConfig>>,
    script: Option<Arc<Script>>,
    field: Option<StampField>,
    /// When the exchange began: `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) began_ns: u64,
}

impl Prepared {
    /// Checks a configuration and does what need only be done once.
    pub(super) fn new(config: Config) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| Err(ConfigError::Refused(reason.to_owned()));
        if config.batch == 0 {
            return refuse("a batch holds at least one message");
        }
        if config.stamp_every == 0 {
            return refuse("stamps stand in every message or in one of several, not in every 0th");
        }
        let field = config.stamp_field.as_deref().map(StampField::new).transpose();
        let field = field.map_err(|reason| ConfigError::Refused(reason.to_owned()))?;
        let script = match &config.feed {
            Feed::Replay(recording) => Some(Arc::new(
                Script::new(recording, field.as_ref(), config.stamp_every).map_err(ConfigError::Refused)?,
            )),
            Feed::Synthetic(plan) if plan.symbols.is_empty() => return refuse("a market needs a symbol"),
            Feed::Synthetic(_) | Feed::Nothing => None,
        };
        if let Pace::Recorded { speed } = config.pace {
            if !script.as_ref().is_some_and(|script| script.has_times()) {
                return refuse("the recorded pace needs a recording with arrival times");
            }
            if !(speed.is_finite() && speed > 0.0) {
                return refuse("the speed must be a positive number");
            }
        }
        if config.start == Start::Underway && !matches!(config.pace, Pace::Rate(_)) {
            return refuse("only a stream with a rate goes on while nobody listens");
        }
        if let Some(fault) = config.fault {
            let version = match &config.security {
                Security::Plain => None,
                Security::Tls(tls) => Some(tls.version),
            };
            if fault.needs_tls() && version.is_none() {
                return refuse("this fault is one of TLS, and the exchange has none");
            }
            if fault == Fault::KeyUpdate && version != Some(TlsVersion::Tls13) {
                return refuse("keys can be updated in TLS 1.3 only");
            }
        }
        let tls = match &config.security {
            Security::Plain => None,
            Security::Tls(tls) => {
                let tls = server_config(tls).map_err(|error| ConfigError::Refused(error.to_string()))?;
                Some(Arc::new(tls))
            }
        };
        Ok(Self { config, tls, script, field, began_ns: monotonic_ns() })
    }

    /// The beginning of the feed, for one more client.
    pub(super) fn source(&self) -> Source {
        match (&self.config.feed, &self.script) {
            (Feed::Replay(_), Some(script)) => Source::Replay { script: Arc::clone(script), next: 0, rounds_ns: 0 },
            (Feed::Synthetic(plan), _) => Source::Synthetic {
                synthetic: Box::new(Synthetic::new(plan)),
                field: self.field.clone(),
                stamp_every: self.config.stamp_every,
                made: 0,
            },
            (Feed::Nothing | Feed::Replay(_), _) => Source::Nothing,
        }
    }

    /// How many messages a client gets.
    pub(super) fn count(&self) -> u64 {
        let once = || self.script.as_ref().map(|script| script.len() as u64);
        self.config.count.or_else(once).unwrap_or(u64::MAX)
    }
}

fn server_config(tls: &Tls) -> Result<ServerConfig, rustls::Error> {
    let mut provider = aws_lc_rs::default_provider();
    if let Some(suite) = tls.suite {
        let wanted = match suite {
            Suite::Aes128 => {
                [CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
            }
            Suite::Aes256 => {
                [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]
            }
            Suite::ChaCha20 => [
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            ],
        };
        provider.cipher_suites.retain(|suite| wanted.contains(&suite.suite()));
    }
    let versions: [&'static SupportedProtocolVersion; 1] = match tls.version {
        TlsVersion::Tls12 => [&version::TLS12],
        TlsVersion::Tls13 => [&version::TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(Arc::<CryptoProvider>::new(provider))
        .with_protocol_versions(&versions)?
        .with_no_client_auth()
        .with_single_cert(tls.identity.chain.clone(), tls.identity.key.clone_key())?;
    // Does nothing unless SSLKEYLOGFILE is set: with it, a capture of a test can be read.
    config.key_log = Arc::new(KeyLogFile::new());
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feeds::Lines;

    fn refusal(config: Config) -> String {
        Prepared::new(config).unwrap_err().to_string()
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let base = Config::default;
        let recorded = |speed| Config { pace: Pace::Recorded { speed }, ..base() };
        assert!(refusal(Config { batch: 0, ..base() }).contains("at least one"));
        assert!(refusal(Config { stamp_every: 0, ..base() }).contains("every 0th"));
        assert!(refusal(recorded(1.0)).contains("arrival times"));
        let recording = Arc::new(Recording { messages: Lines::new(b"{}".to_vec()), arrivals: Some(vec![7]) });
        assert!(refusal(Config { feed: Feed::Replay(recording), ..recorded(0.0) }).contains("positive"));
        assert!(refusal(Config { stamp_field: Some(String::new()), ..base() }).contains("a name"));
        assert!(refusal(Config { fault: Some(Fault::FlippedBit), ..base() }).contains("one of TLS"));
        let plan = SyntheticPlan { seed: 1, symbols: Vec::new() };
        assert!(refusal(Config { feed: Feed::Synthetic(plan), ..base() }).contains("a symbol"));
        let array = Recording { messages: Lines::new(b"[1]".to_vec()), arrivals: None };
        let stamped = Config { feed: Feed::Replay(Arc::new(array)), stamp_field: Some("n".into()), ..base() };
        assert!(refusal(stamped).starts_with("line 1 cannot be sent: not a JSON object"));
    }
}
