//! What a scenario is given: a booted guest, one of its cards, a feed whose digest is known, and an exchange to send it.
//!
//! What comes in is an [`Ask`]: how `wiretick stream` is to be run; what goes out is a [`Stream`]: how it ended, its closing
//! figures, and the digest of everything it has handed on. [`Stream::came_whole`] and its neighbours compare that with what was
//! sent, and say in a sentence what differs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{Error, Guest, Nic, Output, Outside, Series};
use crate::exchange::{Config, Exchange, Feed, Pace, Report, Security, SyntheticPlan, Tls};
use crate::feeds::{self, Feeds, Lines, Recording};
use crate::pki::{Authority, Identity, Validity};

/// The capture that is replayed where there are captures.
const CAPTURE: &str = "BINANCE-spot-btcusdt-mixed";
/// Its first messages: 1.3 MB, some 1,500 full segments.
const MESSAGES: usize = 4_000;
/// Where the certificate of the exchange's authority lies in the guest.
pub(super) const CA_FILE: &str = "/etc/exchange.pem";
/// How long one run may take in the guest.
const PATIENCE: Duration = Duration::from_secs(90);
/// How many of the messages come one by one, so that the connection is brought to the ring while they do. The rest comes as
/// fast as it is taken.
const ONE_BY_ONE: usize = 1_000;

/// Frames with which a connection ends, behind its last message: an alert, FIN, acknowledgements.
const LAST_WORDS: u64 = 4;

/// What all guests have in common.
#[derive(Debug)]
pub struct Props {
    /// Who has certified the exchange.
    pub authority: Authority,
    identity: Identity,
    /// What the exchange sends.
    pub feed: Slice,
}

/// Messages with their digest.
#[derive(Clone, Debug)]
pub struct Slice {
    /// Where they are from.
    pub name: String,
    messages: Lines,
    sha256: String,
}

impl Slice {
    fn new(name: String, messages: Lines) -> Self {
        let mut digest = Sha256::new();
        for line in messages.iter() {
            digest.update(line);
            digest.update(b"\n");
        }
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { name, messages, sha256 }
    }

    /// A piece of a captured feed; where there is none, as many messages that are made up.
    fn find() -> Result<Self, feeds::Error> {
        let taken = |lines: &Lines| Lines::new(lines.iter().take(MESSAGES).collect::<Vec<_>>().join(&b'\n'));
        match Feeds::find() {
            Ok(feeds) => {
                let lines = taken(&feeds.recording(CAPTURE)?.messages);
                Ok(Self::new(format!("the first {} messages of {CAPTURE}", lines.len()), lines))
            }
            Err(missing @ feeds::Error::Missing { .. }) => {
                let lines = SyntheticPlan::default().messages(MESSAGES);
                Ok(Self::new(format!("{MESSAGES} made-up messages ({missing})"), lines))
            }
            Err(other) => Err(other),
        }
    }

    /// How many messages there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Their bytes, without the ends of lines.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.messages.iter().map(<[u8]>::len).sum()
    }

    /// SHA-256 of all of them, each followed by a newline.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// With times at which each is sent: some of them over `lead`, then the others at once.
    fn timed(&self, lead: Duration) -> Recording {
        let step = lead.as_nanos() as u64 / ONE_BY_ONE as u64;
        let at = |index: usize| step * index.min(ONE_BY_ONE) as u64;
        Recording { messages: self.messages.clone(), arrivals: Some((0..self.len()).map(at).collect()) }
    }
}

impl Props {
    /// Makes a certificate, and looks for the feed.
    ///
    /// # Errors
    ///
    /// Where a capture is there and cannot be read.
    pub fn new() -> Result<Self, Error> {
        let authority = Authority::new("wiretick testbed")?;
        let identity = authority.issue(&Outside::names(), Validity::Now)?;
        Ok(Self { authority, identity, feed: Slice::find()? })
    }

    /// A file of every guest: whom to trust.
    #[must_use]
    pub fn ca_file(&self) -> (&'static str, &[u8]) {
        (CA_FILE, self.authority.pem().as_bytes())
    }
}

/// A guest, and one of its cards.
#[derive(Debug)]
pub struct Lab<'a> {
    /// The guest, for what the methods here do not do.
    pub guest: &'a mut Guest,
    /// The card that this is about.
    pub nic: Nic,
    props: &'a Props,
    /// What wiretick said last, for the case that something is not as expected.
    last: String,
}

/// How `wiretick stream` is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `--mode`.
    pub mode: &'a str,
    /// Whether over the VLAN on the card.
    pub tagged: bool,
    /// Further options.
    pub options: &'a [&'a str],
    /// Over how long the first thousand messages are spread: long enough for the connection to be on the ring before the
    /// others come.
    pub lead: Duration,
    /// A script for the time in which it runs; `$pid` is its process, and `seen TEXT N` waits until its log has N lines with the text, and
    /// gives up when the run is over. What it writes is in [`Stream::beside`].
    pub beside: &'a str,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { mode: "auto", tagged: false, options: &[], lead: Duration::from_secs(4), beside: "" }
    }
}

/// How a run of `wiretick stream` went.
#[derive(Debug)]
pub struct Stream {
    /// wiretick's exit code.
    pub code: i32,
    /// SHA-256 of what it wrote.
    pub sha256: String,
    /// Its closing figures; all of them nothing where it wrote none.
    pub figures: Figures,
    /// What it said.
    pub log: String,
    /// What [`Ask::beside`] wrote.
    pub beside: String,
    /// The exchange's view.
    pub exchange: Report,
    wanted: (usize, String),
}

/// What a scenario looks at of `wiretick stream --summary`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Figures {
    pub mode: String,
    pub interface: String,
    pub queue: u32,
    pub refused_modes: BTreeMap<String, String>,
    pub tls: Option<String>,
    pub messages: u64,
    pub messages_in_place: u64,
    pub gaps: u64,
    pub reconnects: u64,
    pub moves: Vec<Moved>,
    pub frames_passed: u64,
    pub drops: BTreeMap<String, u64>,
    pub hardware: Option<Hardware>,
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
    pub end: String,
}

/// What the card was asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Hardware {
    pub reason: Option<String>,
}

/// A change of the mode.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Moved {
    pub from: String,
    pub to: String,
    pub reason: String,
}

impl Figures {
    /// Why the card was not asked what it knows of frames; empty where it was.
    #[must_use]
    pub fn not_asked(&self) -> &str {
        self.hardware.as_ref().and_then(|hardware| hardware.reason.as_deref()).unwrap_or_default()
    }

    /// A counter, 0 where it is not told.
    #[must_use]
    pub fn counter(&self, stage: &str, name: &str) -> u64 {
        self.counters.get(stage).and_then(|group| group.get(name)).copied().unwrap_or(0)
    }
}

/// Why a scenario did not show what it was to show.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// Something is not as it must be.
    #[error("{0}")]
    Claim(String),
    /// It could not be tried.
    #[error(transparent)]
    Lab(#[from] Error),
}

/// Fails with what `otherwise` says, unless it `holds`.
///
/// # Errors
///
/// [`Failed::Claim`].
pub fn claim(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(Failed::Claim(otherwise())) }
}

impl<'a> Lab<'a> {
    /// For one scenario.
    #[must_use]
    pub fn new(guest: &'a mut Guest, nic: Nic, props: &'a Props) -> Self {
        Self { guest, nic, props, last: String::new() }
    }

    /// The kernel's series.
    #[must_use]
    pub fn series(&self) -> Series {
        self.guest.kernel().series
    }

    /// What the exchange sends.
    #[must_use]
    pub const fn feed(&self) -> &Slice {
        &self.props.feed
    }

    /// What wiretick, or a script, said last.
    #[must_use]
    pub fn last(&self) -> &str {
        &self.last
    }

    /// Runs a script in the guest, where `$nic` is the card's interface, and it must succeed. Answers its standard output.
    ///
    /// # Errors
    ///
    /// [`Failed::Claim`] where it fails.
    pub fn script(&mut self, script: &str) -> Result<String, Failed> {
        let output = self.try_script(script, PATIENCE)?;
        claim(output.code == 0, || format!("{script:?} ended with {}: {}", output.code, output.stderr.trim()))?;
        Ok(output.stdout)
    }

    /// As [`Lab::script`], but it may fail.
    ///
    /// # Errors
    ///
    /// Those of [`Guest::run`].
    pub fn try_script(&mut self, script: &str, limit: Duration) -> Result<Output, Error> {
        let output = self.guest.run(&format!("nic={}\n{script}", self.nic.interface()), limit)?;
        self.last = format!("{}\n{}", output.stdout.trim_end(), output.stderr.trim_end());
        Ok(output)
    }

    /// Starts an exchange at the far end of the card's cable, has `wiretick stream` take its feed, and compares nothing yet.
    ///
    /// # Errors
    ///
    /// Where the exchange or the guest fail; not where wiretick does.
    pub fn stream(&mut self, ask: &Ask<'_>) -> Result<Stream, Failed> {
        let listener = self.guest.outside().listen(self.nic, ask.tagged)?;
        self.stream_from(listener, ask)
    }

    /// As [`Lab::stream`], with the exchange at a listener that is there already.
    ///
    /// # Errors
    ///
    /// As that.
    pub fn stream_from(&mut self, listener: TcpListener, ask: &Ask<'_>) -> Result<Stream, Failed> {
        let config = Config {
            security: Security::Tls(Tls::new(self.props.identity.clone())),
            feed: Feed::Replay(Arc::new(self.props.feed.timed(ask.lead))),
            pace: Pace::Recorded { speed: 1.0 },
            // A guest is slow.
            patience: PATIENCE,
            ..Config::default()
        };
        let exchange = Exchange::start(config, listener).map_err(Error::from)?;
        let url = format!("wss://{}/ws", exchange.address());
        let script = stream_script(&url, ask);
        let output = self.try_script(&script, PATIENCE)?;
        let exchange = exchange.stop();
        self.last = output.stderr.clone();
        let told = Told::read(&output.stdout)
            .ok_or_else(|| Failed::Claim(format!("the guest's account of the run cannot be read: {output:?}")))?;
        Ok(Stream {
            code: told.code,
            sha256: told.sha256,
            figures: told.figures,
            log: output.stderr,
            beside: told.beside,
            exchange,
            wanted: (self.props.feed.len(), self.props.feed.sha256.clone()),
        })
    }
}

/// Between the closing figures and what was done beside the run.
const BESIDE: &str = "--- beside";

const SEEN: &str = "seen() { until [ $(grep -c \"$1\" log) -ge $2 ]; do kill -0 $pid || exit 1; sleep 0.05; done; }";

fn stream_script(url: &str, ask: &Ask<'_>) -> String {
    let options: String = ask.options.iter().map(|option| format!(" '{option}'")).collect();
    let Ask { mode, beside, .. } = ask;
    // Waiting asleep: the guest's processors are threads of a machine that has other things to do.
    format!(
        "rm -rf /run/stream; mkdir /run/stream; cd /run/stream; mkfifo raw\n\
         sha256sum <raw >digest & digest=$!\n\
         wiretick stream {url} --ca-file {CA_FILE} --mode {mode} --wait poll --format raw --connect-timeout 60s \
         --summary figures{options} >raw 2>log & pid=$!\n\
         (\n{SEEN}\n{beside}\n) >beside\n\
         wait $pid; code=$?\n\
         wait $digest\n\
         read -r sha256 rest <digest\n\
         echo $code $sha256; cat figures; echo; echo '{BESIDE}'; cat beside; cat log >&2\n"
    )
}

/// What the script of [`stream_script`] writes.
struct Told {
    code: i32,
    sha256: String,
    figures: Figures,
    beside: String,
}

impl Told {
    fn read(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('\n')?;
        let (code, sha256) = first.split_once(' ')?;
        let (figures, beside) = rest.split_once(&format!("\n{BESIDE}\n"))?;
        // Where it does not come so far that it has figures, the file is empty.
        let figures =
            if figures.trim().is_empty() { Figures::default() } else { serde_json::from_str(figures).ok()? };
        Some(Self { code: code.parse().ok()?, sha256: sha256.to_owned(), figures, beside: beside.to_owned() })
    }
}

impl Stream {
    /// Every message came, once, in order, byte for byte, over TLS, and the exchange has nothing to complain of.
    ///
    /// # Errors
    ///
    /// With the first thing that is not so.
    pub fn came_whole(&self) -> Result<(), Failed> {
        let figures = &self.figures;
        claim(self.code == 0, || format!("wiretick ended with {}: {}", self.code, self.words()))?;
        let (messages, sha256) = &self.wanted;
        claim(figures.messages == *messages as u64, || format!("{} of {messages} messages came", figures.messages))?;
        claim(self.sha256 == *sha256, || "the messages are not the bytes that were sent".to_owned())?;
        claim(figures.gaps == 0, || format!("{} gaps", figures.gaps))?;
        claim(figures.reconnects == 0, || format!("it took {} more connections", figures.reconnects))?;
        claim(figures.tls.is_some(), || "there was no TLS".to_owned())?;
        let complaints = self.exchange.errors();
        claim(complaints.is_empty(), || format!("the exchange complains: {}", complaints.join("; ")))
    }

    /// It ended in this mode, and in a bypass the frames really took that way: by the counts of the XDP program and of the
    /// ring.
    ///
    /// # Errors
    ///
    /// With the first thing that is not so.
    pub fn was_in(&self, mode: &str) -> Result<(), Failed> {
        let figures = &self.figures;
        claim(figures.mode == mode, || {
            format!("it ran in {} mode; refused: {:?}", figures.mode, figures.refused_modes)
        })?;
        let (redirected, received) = (figures.counter("xdp", "redirected"), figures.counter("ring", "frames_received"));
        if mode == "kernel" {
            return claim((redirected, received) == (0, 0), || format!("{received} frames took the ring nevertheless"));
        }
        claim(received > 100, || format!("only {received} frames came over the ring"))?;
        // What the peer says last may come when the ring is no longer looked at.
        claim((received..=received + LAST_WORDS).contains(&redirected), || {
            format!("of {redirected} frames that were redirected, {received} arrived")
        })
    }

    /// It was refused, as the machine's fault, in words that have all these in them.
    ///
    /// # Errors
    ///
    /// With what was said instead.
    pub fn was_refused(&self, words: &[&str]) -> Result<(), Failed> {
        claim(self.code == 3, || {
            format!("it ended with {} instead of being refused (3): {}", self.code, self.words())
        })?;
        let said = self.words();
        for word in words {
            claim(said.contains(word), || format!("the refusal does not say {word:?}: {said}"))?;
        }
        Ok(())
    }

    /// The last thing it said.
    #[must_use]
    pub fn words(&self) -> &str {
        self.log.lines().rev().find(|line| line.starts_with("wiretick: ")).unwrap_or_else(|| self.log.trim())
    }
}

impl fmt::Display for Stream {
    /// What came, in a few words.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        write!(f, "{} messages, same SHA-256", figures.messages)?;
        match figures.counter("ring", "frames_received") {
            0 => Ok(()),
            frames => write!(f, ", {frames} frames over the ring"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slice_is_sent_slowly_and_then_at_once() {
        let lines: Vec<u8> = (0..1500).flat_map(|number| format!("{number}\n").into_bytes()).collect();
        let slice = Slice::new("numbers".into(), Lines::new(lines));
        let arrivals = slice.timed(Duration::from_secs(2)).arrivals.unwrap();
        assert_eq!(arrivals.len(), 1500);
        assert_eq!((arrivals[0], arrivals[1], arrivals[999]), (0, 2_000_000, 1_998_000_000));
        assert!(arrivals[1000..].iter().all(|&at| at == 2_000_000_000));
    }

    #[test]
    fn a_digest_is_that_of_the_lines_with_their_ends() {
        let slice = Slice::new("two".into(), Lines::new(b"a\nb".to_vec()));
        // printf 'a\nb\n' | sha256sum
        assert_eq!(slice.sha256(), "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2");
        assert_eq!((slice.len(), slice.bytes()), (2, 2));
    }

    #[test]
    fn the_account_of_a_run_is_read() {
        let text = "0 abc\n{\"mode\": \"driver\", \"counters\": {\"xdp\": {\"redirected\": 7}}}\n--- beside\nx\n";
        let told = Told::read(text).unwrap();
        assert_eq!((told.code, told.sha256.as_str(), told.beside.as_str()), (0, "abc", "x\n"));
        assert_eq!((told.figures.mode.as_str(), told.figures.counter("xdp", "redirected")), ("driver", 7));
        assert_eq!(told.figures.counter("ring", "anything"), 0);
        assert_eq!(Told::read("3 abc\n\n--- beside\n").unwrap().code, 3, "without figures");
        assert!(Told::read("0 abc\n{broken\n--- beside\n").is_none());
        assert!(Told::read("").is_none());
    }
}
