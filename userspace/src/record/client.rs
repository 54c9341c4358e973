//! Whom to trust, and everything else that is decided once for all connections.
//!
//! What comes in: the bytes of a PEM file, or nothing. What goes out: a [`Client`], cheap to clone, from which each
//! connection's [`Handshake`](super::Handshake) starts. Opens no file (the key log excepted, when asked for) and no socket.
//!
//! There is no way to make a client that does not verify: a feed whose sender is unknown is not a feed.

use std::fmt;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, KeyLogFile, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::Error;
use super::traffic::Scribe;

/// Sessions (TLS 1.2) and tickets (TLS 1.3, eight a host) that are remembered for resumption, in memory only.
///
/// Lower, and a client of many hosts forgets the first ones' tickets before it reconnects to them; higher costs some
/// 2 KiB each and helps nobody: a client of exchange feeds talks to a handful of hosts.
const SESSIONS_MAX: usize = 256;

/// The authorities whose signature makes a server's certificate good.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: RootCertStore,
}

impl Trust {
    /// Mozilla's list, as compiled into the binary: the same on every machine, whatever is installed there.
    #[must_use]
    pub fn web_pki() -> Self {
        Self { roots: RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() } }
    }

    /// The certificates in a PEM file, and no others: who names an authority of their own does not want a certificate
    /// from a public one accepted in its place.
    ///
    /// # Errors
    ///
    /// [`Error::PemWithoutCertificate`], [`Error::PemDamaged`] or [`Error::PemCertificate`]. One unusable certificate makes
    /// the file unusable: trusting the rest would only move the surprise to the first handshake.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| Error::PemDamaged { certificates: roots.len(), why: describe(&error) })?;
            roots
                .add(certificate)
                .map_err(|error| Error::PemCertificate { number: roots.len() + 1, why: error.to_string() })?;
        }
        if roots.is_empty() {
            return Err(Error::PemWithoutCertificate { found: guess(pem) });
        }
        Ok(Self { roots })
    }

    /// How many authorities are trusted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether nobody is trusted, which neither constructor lets happen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
}

/// What kind of damage, without rustls' words for it, which quote bytes as numbers.
fn describe(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error as Pem;
    match error {
        Pem::MissingSectionEnd { end_marker } => {
            format!("\"-----END {}-----\" is missing", String::from_utf8_lossy(end_marker))
        }
        Pem::IllegalSectionStart { line } => format!("{:?} begins no section", String::from_utf8_lossy(line)),
        Pem::Base64Decode(why) => format!("not base64: {why}"),
        other => other.to_string(),
    }
}

/// What a file without a certificate probably is.
fn guess(pem: &[u8]) -> String {
    let text = String::from_utf8_lossy(pem);
    if pem.is_empty() {
        "an empty file".to_owned()
    } else if let Some((_, label)) = text.split_once("-----BEGIN ") {
        format!("a {:?} section", label.split("-----").next().unwrap_or(label))
    } else if pem.starts_with(&[0x30, 0x82]) {
        "DER: convert it with `openssl x509 -inform der`".to_owned()
    } else {
        format!("{} bytes of something else", pem.len())
    }
}

/// The settings all connections share. A clone is the same client: same trust, same memory of sessions.
///
/// That memory is behind a lock which is taken in a handshake and when a ticket arrives. Lanes that shall share nothing
/// each make a client of their own.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// A client for TLS 1.2 and 1.3 with the cipher suites AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305.
    ///
    /// With `log_keys`, the secrets of every handshake are appended to the file that the environment variable
    /// `SSLKEYLOGFILE` names, so that Wireshark can read a capture. Whoever has that file can read the connection; hence
    /// the variable alone, which may have been left over from something else, does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::KeyLogWithoutFile`] where the log is asked for and the variable is empty or not set.
    pub fn new(trust: Trust, log_keys: bool) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::internal)?
            .with_root_certificates(trust.roots)
            .with_no_client_auth();
        // The whole point: records are opened here, with rustls' secrets.
        config.enable_secret_extraction = true;
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        // A WebSocket upgrade is HTTP/1.1, and it is offered by name. Saying nothing would do for most servers (HTTP/2 may
        // only be spoken when ALPN has chosen it, RFC 9113 3.2, so a silent client gets HTTP/1.1), but the offer is what
        // browsers make for wss://, hence the path that every CDN in front of an exchange is tested with; a port that
        // tells protocols apart by ALPN needs it; and a server of another protocol can refuse the connection instead of
        // taking a request for something else (RFC 7301 3.2). What it costs: a server that knows only other names ends
        // the handshake with no_application_protocol, which browsers would get from it too.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if log_keys {
            if std::env::var_os("SSLKEYLOGFILE").is_none_or(|path| path.is_empty()) {
                return Err(Error::KeyLogWithoutFile);
            }
            config.key_log = Arc::new(KeyLogFile::new());
        }
        Ok(Self { config: Arc::new(config) })
    }

    /// The settings for one connection, and who takes down its secrets.
    pub(super) fn config(&self) -> (Arc<ClientConfig>, Arc<Scribe>) {
        let mut config = ClientConfig::clone(&self.config);
        let scribe = Arc::new(Scribe::new(config.key_log));
        config.key_log = Arc::<Scribe>::clone(&scribe);
        (Arc::new(config), scribe)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The configuration holds tickets, and tickets hold secrets.
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
