//! What the tests stand on: an authority, servers, and a client and a server that are connected in memory.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256};
use rcgen::{KeyUsagePurpose, PKCS_RSA_SHA256};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite as suites, default_provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ServerConfig, ServerConnection, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::floor::{Limits, Span};
use crate::record::{Client, Error, Handshake, Opened, Opener, Progress, Session, Trust};

/// The host all good certificates are for.
pub(super) const HOST: &str = "feed.example";

pub(super) const AES128: SupportedCipherSuite = suites::TLS13_AES_128_GCM_SHA256;
pub(super) const AES256: SupportedCipherSuite = suites::TLS13_AES_256_GCM_SHA384;
pub(super) const CHACHA: SupportedCipherSuite = suites::TLS13_CHACHA20_POLY1305_SHA256;
pub(super) const GCM12: SupportedCipherSuite = suites::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
pub(super) const CHACHA12: SupportedCipherSuite = suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;

/// Every suite a client offers.
pub(super) const SUITES: [SupportedCipherSuite; 9] = [
    AES128,
    AES256,
    CHACHA,
    GCM12,
    suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CHACHA12,
    suites::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    suites::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    suites::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// One of each record form.
pub(super) const FORMS: [SupportedCipherSuite; 3] = [AES128, GCM12, CHACHA12];

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    pub(super) fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// An authority that signs what the tests need.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, ecdsa()).unwrap())
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(super) fn sign(&self, params: &CertificateParams, key: &KeyPair) -> Identity {
        let certificate = params.signed_by(key, &self.0).unwrap();
        identity(certificate.der().clone(), key)
    }
}

pub(super) fn identity(certificate: CertificateDer<'static>, key: &KeyPair) -> Identity {
    Identity { chain: vec![certificate], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
}

pub(super) fn ecdsa() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

pub(super) fn for_host(host: &str) -> CertificateParams {
    CertificateParams::new([host.to_owned()]).unwrap()
}

/// The authority the tests' client trusts.
pub(super) static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("wiretick test authority"));
static ECDSA: LazyLock<Identity> = LazyLock::new(|| AUTHORITY.sign(&for_host(HOST), &ecdsa()));
static RSA: LazyLock<Identity> = LazyLock::new(|| {
    let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    AUTHORITY.sign(&for_host(HOST), &key)
});

/// A client that trusts the tests' authority. Each has a memory for sessions of its own.
pub(super) fn client() -> Client {
    Client::new(Trust::from_pem(AUTHORITY.pem().as_bytes()).unwrap(), false).unwrap()
}

/// A server that speaks this suite alone and sends no tickets unless told to.
pub(super) fn server(suite: SupportedCipherSuite) -> ServerConfig {
    let rsa = format!("{:?}", suite.suite()).contains("_RSA_");
    server_with(suite, if rsa { RSA.clone() } else { ECDSA.clone() })
}

pub(super) fn server_with(suite: SupportedCipherSuite, identity: Identity) -> ServerConfig {
    configure(only(suite), suite, identity, None)
}

/// A server with a provider of the test's own.
pub(super) fn server_from(provider: CryptoProvider, suite: SupportedCipherSuite) -> ServerConfig {
    configure(provider, suite, ECDSA.clone(), None)
}

/// A server that asks for a client certificate.
pub(super) fn server_that_asks(suite: SupportedCipherSuite, verifier: Arc<dyn ClientCertVerifier>) -> ServerConfig {
    configure(only(suite), suite, ECDSA.clone(), Some(verifier))
}

fn only(suite: SupportedCipherSuite) -> CryptoProvider {
    CryptoProvider { cipher_suites: vec![suite], ..default_provider() }
}

fn configure(
    provider: CryptoProvider,
    suite: SupportedCipherSuite,
    identity: Identity,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> ServerConfig {
    let builder =
        ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[suite.version()]).unwrap();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(identity.chain, identity.key).unwrap();
    config.send_tls13_tickets = 0;
    config.enable_secret_extraction = true;
    config
}

pub(super) fn host(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

pub(super) fn begin(client: &Client) -> Handshake {
    Handshake::new(client, host(HOST), &Limits::default()).unwrap()
}

/// What the server has to send.
pub(super) fn take(server: &mut ServerConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Gives bytes to the server; what it reads out of them, or why it would not.
pub(super) fn give(server: &mut ServerConnection, mut bytes: &[u8]) -> Result<Vec<u8>, rustls::Error> {
    let mut read = Vec::new();
    while !bytes.is_empty() {
        if server.read_tls(&mut bytes).unwrap() == 0 {
            break;
        }
        server.process_new_packets()?;
        // "Would block" is what an open connection without data says.
        let _ = server.reader().read_to_end(&mut read);
    }
    Ok(read)
}

/// A client and a server after their handshake.
pub(super) struct Pair {
    pub(super) session: Session,
    pub(super) server: ServerConnection,
    /// What came to the client behind the handshake.
    pub(super) rest: Vec<u8>,
}

impl Pair {
    pub(super) fn new(suite: SupportedCipherSuite) -> Self {
        Self::connect(&client(), server(suite), |_| {})
    }

    /// Connects; `early` sees the server before it has heard anything.
    pub(super) fn connect(client: &Client, config: ServerConfig, early: impl FnOnce(&mut ServerConnection)) -> Self {
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        early(&mut server);
        let mut handshake = begin(client);
        let mut out = Vec::new();
        handshake.start(&mut out).unwrap();
        loop {
            give(&mut server, &out).unwrap();
            out.clear();
            let answer = take(&mut server);
            if handshake.push(&answer, &mut out).unwrap() == Progress::Complete {
                break;
            }
            assert!(!answer.is_empty() || !out.is_empty(), "both sides wait for the other");
        }
        give(&mut server, &out).unwrap();
        assert!(!server.is_handshaking());
        let (session, rest) = handshake.finish().unwrap();
        Self { session, server, rest }
    }

    /// `plaintext`, sealed by the server in as few records as it takes.
    pub(super) fn say(&mut self, plaintext: &[u8]) -> Vec<u8> {
        say(&mut self.server, plaintext)
    }

    /// Opens `bytes` in one piece; the plaintext of each record.
    pub(super) fn open(&mut self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
        open(&mut self.session.opener, bytes)
    }

    /// Has the session answer and gives the answer to the server; how long it was.
    pub(super) fn answer(&mut self) -> usize {
        let mut out = Vec::new();
        self.session.answer(&mut out).unwrap();
        give(&mut self.server, &out).unwrap();
        out.len()
    }

    /// Has both sides say something and hear it, which proves that their keys and sequence numbers agree.
    pub(super) fn talk(&mut self) {
        let sealed = self.say(b"price");
        assert_eq!(self.open(&sealed).unwrap().concat(), b"price");
        let mut out = Vec::new();
        self.session.sealer.seal(crate::record::Content::ApplicationData, b"order", &mut out).unwrap();
        assert_eq!(give(&mut self.server, &out).unwrap(), b"order");
    }
}

pub(super) fn say(server: &mut ServerConnection, mut plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = take(server);
    while !plaintext.is_empty() {
        let taken = server.writer().write(plaintext).unwrap();
        plaintext = &plaintext[taken..];
        sealed.extend(take(server));
    }
    sealed
}

/// One plaintext, and where it lay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) text: Vec<u8>,
    pub(super) address: usize,
    pub(super) joined: bool,
}

/// What stands behind every piece: it must still be there after the push.
const BEHIND: [u8; Span::PAD] = [0xa5; Span::PAD];

/// Pushes one piece; returns what was seen and the addresses of the piece.
pub(super) fn push_piece(
    opener: &mut Opener,
    piece: &[u8],
    seen: &mut Vec<Seen>,
) -> Result<std::ops::Range<usize>, Error> {
    let mut buffer = [piece, &BEHIND].concat();
    let addresses = buffer.as_ptr_range();
    let addresses = addresses.start as usize..addresses.start as usize + piece.len();
    let pushed = opener.push(Span::new(&mut buffer, piece.len()), &mut |mut opened: Opened<'_>| {
        let text = opened.plaintext.bytes().to_vec();
        assert!(!text.is_empty(), "an empty plaintext tells nobody anything");
        assert!(opened.plaintext.with_padding_mut().len() >= text.len() + Span::PAD);
        let address = opened.plaintext.bytes().as_ptr() as usize;
        seen.push(Seen { text, address, joined: opened.joined });
        Ok::<(), Error>(())
    });
    assert_eq!(buffer[piece.len()..], BEHIND, "the padding belongs to somebody else");
    pushed.map(|()| addresses)
}

pub(super) fn open(opener: &mut Opener, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    let mut seen = Vec::new();
    push_piece(opener, bytes, &mut seen)?;
    Ok(seen.into_iter().map(|seen| seen.text).collect())
}

/// Lengths of the records in `bytes`, headers included.
pub(super) fn record_lens(mut bytes: &[u8]) -> Vec<usize> {
    let mut lens = Vec::new();
    while let Some(header) = bytes.first_chunk::<5>() {
        let len = 5 + usize::from(u16::from_be_bytes([header[3], header[4]]));
        lens.push(len);
        bytes = &bytes[len..];
    }
    assert!(bytes.is_empty());
    lens
}
