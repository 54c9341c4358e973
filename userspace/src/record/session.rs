//! An established TLS connection: an opener, a sealer, and what only both together can do.
//!
//! What comes in: the outcome of a handshake. What goes out: what the peer is owed after a push (a key update of our
//! own, a refused renegotiation), appended to the caller's outgoing bytes. The two halves are public fields, so that a
//! handler that looks at bytes the opener has just opened can seal its order at the same moment.

use rustls::SupportedCipherSuite;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{CipherSuiteCommon, ExtractedSecrets};

use super::keys::Cipher;
use super::wire::{KEY_UPDATE, UPDATE_NOT_REQUESTED, UPDATE_REQUESTED};
use super::{Alert, Content, Error, Opener, Sealer};

/// A TLS version that this stage speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        kernel: KernelConnection<ClientConnectionData>,
        facts: Facts,
    ) -> Result<Self, Error> {
        let (tx_sequence, tx) = &secrets.tx;
        let (rx_sequence, rx) = &secrets.rx;
        let limit = common(kernel.negotiated_cipher_suite()).confidentiality_limit;
        let sealer = Sealer::new(Cipher::new(tx, facts.version)?, *tx_sequence, limit);
        let opener = Opener::new(Cipher::new(rx, facts.version)?, *rx_sequence, kernel);
        Ok(Self { opener, sealer, facts })
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
        let (sequence, secrets) = self.opener.kernel().update_tx_secret().map_err(Error::internal)?;
        self.sealer.replace(Cipher::new(&secrets, self.facts.version)?, sequence);
        Ok(())
    }
}

const fn common(suite: SupportedCipherSuite) -> &'static CipherSuiteCommon {
    match suite {
        SupportedCipherSuite::Tls12(suite) => &suite.common,
        SupportedCipherSuite::Tls13(suite) => &suite.common,
    }
}
