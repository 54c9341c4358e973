//! An established TLS connection: an opener, a sealer, and what only both together can do.
//!
//! What comes in: the outcome of a handshake. What goes out: what the peer is owed after a push (a key update of our
//! own, a refused renegotiation), appended to the caller's outgoing bytes. The two halves are public fields, so that a
//! handler that looks at bytes the opener has just opened can seal its order at the same moment.

use rustls::SupportedCipherSuite;
use rustls::client::ClientConnectionData;
use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::kernel::KernelConnection;
use rustls::{CipherSuiteCommon, ExtractedSecrets};
use serde::{Deserialize, Serialize};

use super::traffic::{Direction, Estate, Secret, Source, TrafficKey};
use super::wire::{KEY_UPDATE, UPDATE_NOT_REQUESTED, UPDATE_REQUESTED};
use super::{Alert, Content, Error, Opener, Sealer};

/// A TLS version that this stage speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}

/// What the handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The protocol version.
    pub version: Version,
    /// The cipher suite, as rustls spells it (`TLS13_AES_128_GCM_SHA256`).
    pub suite: &'static str,
    /// Whether an earlier session was resumed, which spares the certificates and one signature.
    pub resumed: bool,
    /// Whether the peer confirmed HTTP/1.1 by name (ALPN); most do, and one that does not speaks it all the same.
    pub http11_confirmed: bool,
    /// Handshake bytes received, record headers included.
    pub handshake_bytes: usize,
}

/// An established TLS connection.
///
/// After each [`Opener::push`], call [`Session::answer`]; when it fails, seal [`Error::alert`] with [`Sealer::alert`]; when
/// [`Opener::is_closed`], say [`Sealer::close_notify`] too (TLS 1.2 demands the answer at once, RFC 5246 7.2.1; TLS 1.3
/// allows to finish what is being sent) and close.
#[derive(Debug)]
pub struct Session {
    /// The receiving half.
    pub opener: Opener,
    /// The sending half.
    pub sealer: Sealer,
    facts: Facts,
}

impl Session {
    pub(super) fn new(
        secrets: &ExtractedSecrets,
        (client, server): (Option<Secret>, Option<Secret>),
        kernel: KernelConnection<ClientConnectionData>,
        facts: Facts,
    ) -> Result<Self, Error> {
        let direction = |(sequence, first): &(u64, _), secret| {
            let source = Source::of(TrafficKey::of(first)?, facts.version, secret)?;
            Ok(Direction { source, sequence: *sequence })
        };
        let (sending, receiving) = (direction(&secrets.tx, client)?, direction(&secrets.rx, server)?);
        let limit = common(kernel.negotiated_cipher_suite()).confidentiality_limit;
        let sealer = Sealer::new(sending, facts.version, limit)?;
        let opener = Opener::new(receiving, facts.version, Some(kernel))?;
        Ok(Self { opener, sealer, facts })
    }

    /// Goes on where another process has left the connection.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where the estate makes no sense.
    pub fn inherit(estate: Estate) -> Result<Self, Error> {
        let Estate { version, suite, http11_confirmed, handshake_bytes, .. } = estate;
        let known = ALL_CIPHER_SUITES.iter().filter_map(|known| known.suite().as_str());
        let facts = Facts {
            version,
            suite: known.into_iter().find(|known| *known == suite).unwrap_or("unknown"),
            resumed: false,
            http11_confirmed,
            handshake_bytes,
        };
        let sealer = Sealer::new(estate.sending, version, estate.records_max)?;
        let mut opener = Opener::new(estate.receiving, version, None)?;
        opener.inherit(estate.renegotiation_asked, estate.warnings);
        Ok(Self { opener, sealer, facts })
    }

    /// Everything another process needs to go on with the connection. `None` in the middle of a record, while the peer is owed
    /// something, or where either side has closed. Nobody may push or seal any more afterwards: numbers would be used twice.
    #[must_use]
    pub fn estate(&self) -> Option<Estate> {
        let Self { opener, sealer, facts } = self;
        if sealer.is_closed() || opener.owes() || opener.wanted().is_some() {
            return None;
        }
        let (receiving, renegotiation_asked, warnings) = opener.estate()?;
        Some(Estate {
            version: facts.version,
            suite: facts.suite.to_owned(),
            http11_confirmed: facts.http11_confirmed,
            handshake_bytes: facts.handshake_bytes,
            sending: sealer.estate(),
            receiving,
            records_max: sealer.records_max(),
            renegotiation_asked,
            warnings,
        })
    }

    /// Both ends of a connection that there is not: a session like this one, and what seals records for it. Same version, same
    /// cipher, keys that are made up.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] where the system has no random numbers.
    pub fn rehearsal(&self) -> Result<(Self, Sealer), Error> {
        let facts = self.facts;
        let made_up = || Ok::<_, Error>(Direction { source: self.sealer.source().made_up()?, sequence: 0 });
        let (sending, receiving) = (made_up()?, made_up()?);
        // Nobody sees these records, so no key wears out.
        let venue = Sealer::new(receiving.clone(), facts.version, u64::MAX)?;
        let sealer = Sealer::new(sending, facts.version, u64::MAX)?;
        let opener = Opener::new(receiving, facts.version, None)?;
        Ok((Self { opener, sealer, facts }, venue))
    }

    /// What the handshake agreed on.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Appends to `out` what the peer is owed: our key update where it asked for one or where our own key wears out, and
    /// TLS 1.2's refusal to renegotiate. To be called after every push; costs two comparisons when nothing is due.
    ///
    /// However often the peer has asked since the last call, it is answered once (RFC 8446 4.6.3). The same section wants
    /// the answer before the next application data; a record that a handler seals during the very push that brought the
    /// request still goes out under the old key, which to the peer looks like one that crossed the request on the wire.
    ///
    /// # Errors
    ///
    /// Those of sealing. Once this side is closed, nothing is owed and nothing is an error.
    #[inline]
    pub fn answer(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.opener.owes() || self.sealer.needs_refresh() { self.answer_now(out) } else { Ok(()) }
    }

    #[cold]
    fn answer_now(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let update_owed = self.opener.take_update_owed();
        let refusal_owed = self.opener.take_refusal_owed();
        if self.sealer.is_closed() {
            return Ok(());
        }
        if refusal_owed {
            self.sealer.alert(Alert::NO_RENEGOTIATION, out)?;
        }
        if update_owed || self.sealer.needs_refresh() {
            self.update(UPDATE_NOT_REQUESTED, out)?;
        }
        Ok(())
    }

    /// Changes our sending key and asks the peer to change its own (RFC 8446 4.6.3).
    ///
    /// A sealing key that wears out is changed by [`Session::answer`] without being asked. This is for the other one: how
    /// often the peer changes the key it seals with is its own affair unless it is asked to.
    ///
    /// # Errors
    ///
    /// [`Error::NoKeyUpdate`] in TLS 1.2, [`Error::AfterClose`] after `close_notify`.
    pub fn refresh(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.facts.version == Version::Tls12 {
            return Err(Error::NoKeyUpdate);
        }
        // What is sent now also answers whatever the peer has asked for.
        self.opener.take_update_owed();
        self.update(UPDATE_REQUESTED, out)
    }

    fn update(&mut self, request: u8, out: &mut Vec<u8>) -> Result<(), Error> {
        // The message that announces the new key is the last one under the old.
        self.sealer.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, request], out)?;
        self.sealer.renew(self.facts.version)
    }
}

const fn common(suite: SupportedCipherSuite) -> &'static CipherSuiteCommon {
    match suite {
        SupportedCipherSuite::Tls12(suite) => &suite.common,
        SupportedCipherSuite::Tls13(suite) => &suite.common,
    }
}
