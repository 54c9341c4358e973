//! The record opener over a session of its own making, with a peer that has the server's keys and a network that changes
//! what it likes.
//!
//! The input is read as a script: which cipher, four piece sizes, then what happens to the stream, step by step. It runs in
//! one session in one piece and in another in pieces: keys differ, what comes of it must not. Whatever was changed, only
//! what the peer sealed, in its place and before the first change, may come out.

use std::sync::{Arc, LazyLock};

use arbitrary::Unstructured;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::crypto::aws_lc_rs::{cipher_suite as suites, default_provider};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ConnectionTrafficSecrets, ServerConfig, ServerConnection, SupportedCipherSuite};
use wiretick::floor::Limits;
use wiretick::record::{Client, Error, Handshake, Opened, ServerName, Session, Trust};

use super::pieces::{cut, lent};

const HOST: &str = "feed.example";
const SUITES: [SupportedCipherSuite; 4] = [
    suites::TLS13_AES_128_GCM_SHA256,
    suites::TLS13_CHACHA20_POLY1305_SHA256,
    suites::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    suites::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// `ContentType` (RFC 8446 5.1).
const APPLICATION_DATA: u8 = 23;

/// A script longer than this says nothing new.
const STEPS_MAX: usize = 40;

/// What happens to the stream.
#[derive(Debug)]
enum Step {
    /// The peer seals a record: its type, its content, and in TLS 1.3 so many zeros behind it.
    Seal(u8, Vec<u8>, usize),
    /// The peer seals application data, and the network changes one byte of the record.
    Change(Vec<u8>, usize, u8),
    /// The network adds bytes of its own.
    Add(Vec<u8>),
    /// The last record comes once more.
    Repeat,
    /// The peer seals application data, and the network keeps it.
    Lose(Vec<u8>),
    /// The peer seals application data, and the network cuts its end off.
    CutOff(Vec<u8>, usize),
}

/// What came of a stream.
#[derive(Debug, PartialEq)]
struct Outcome {
    opened: Vec<Vec<u8>>,
    error: Option<String>,
    closed: bool,
    waiting: usize,
    records: u64,
    owed: usize,
}

/// Runs the script twice.
pub fn check(input: &[u8]) {
    let mut script = Unstructured::new(input);
    let Ok((suite, sizes)) = script.arbitrary::<(u8, [u8; 4])>() else { return };
    let suite = SUITES[usize::from(suite) % SUITES.len()];
    let mut steps = Vec::new();
    while !script.is_empty() && steps.len() < STEPS_MAX {
        match step(&mut script) {
            Ok(step) => steps.push(step),
            Err(_) => break,
        }
    }
    if steps.is_empty() {
        return;
    }
    let whole = run(suite, &steps, |stream| vec![stream]);
    let pieces = run(suite, &steps, |stream| cut(stream, &sizes));
    assert_eq!(whole, pieces, "{suite:?} {steps:?}");
}

fn step(script: &mut Unstructured<'_>) -> arbitrary::Result<Step> {
    let kind = script.arbitrary::<u8>()?;
    Ok(match kind % 10 {
        0..4 => Step::Seal(APPLICATION_DATA, bytes(script)?, 0),
        4 => Step::Seal(script.arbitrary()?, bytes(script)?, usize::from(script.arbitrary::<u16>()?) % 18_000),
        5 => Step::Change(bytes(script)?, script.arbitrary::<u16>()?.into(), script.arbitrary::<u8>()?.max(1)),
        6 => Step::Add(bytes(script)?),
        7 => Step::Repeat,
        8 => Step::Lose(bytes(script)?),
        _ => Step::CutOff(bytes(script)?, usize::from(script.arbitrary::<u16>()?).max(1)),
    })
}

/// A length, and as many bytes: those of the script, or where the length says so, many of one kind.
fn bytes(script: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let len = usize::from(script.arbitrary::<u8>()?);
    if len >= 250 {
        // Around the longest content there may be, and around a segment.
        let len = [1400, 16_383, 16_384, 16_385, 16_640, 18_000][len - 250];
        return Ok(vec![script.arbitrary()?; len]);
    }
    Ok(script.bytes(len.min(script.len()))?.to_vec())
}

fn run(suite: SupportedCipherSuite, steps: &[Step], pieces: impl for<'a> Fn(&'a [u8]) -> Vec<&'a [u8]>) -> Outcome {
    let (mut session, mut peer) = connect(suite);
    let mut stream = Vec::new();
    // What may come out, and how much of it has to.
    let (mut honest, mut due) = (Vec::new(), 0);
    let (mut is_intact, mut is_plain) = (true, true);
    let mut last = Vec::new();
    for step in steps {
        let (record, content, is_honest) = match step {
            Step::Seal(kind, content, zeros) => {
                let record = peer.seal(*kind, content, *zeros);
                // What TLS does with its own records is its own affair: from the first on, nothing has to come out.
                is_plain &= *kind == APPLICATION_DATA && content.len() + zeros <= 16_384 && !content.is_empty();
                (record, (*kind == APPLICATION_DATA).then_some(content), true)
            }
            Step::Change(content, at, by) => {
                let mut record = peer.seal(APPLICATION_DATA, content, 0);
                let at = at % record.len();
                record[at] ^= by;
                (record, None, false)
            }
            Step::Add(bytes) => (bytes.clone(), None, bytes.is_empty()),
            Step::Repeat => (last.clone(), None, last.is_empty()),
            Step::Lose(content) => {
                peer.seal(APPLICATION_DATA, content, 0);
                (Vec::new(), None, false)
            }
            Step::CutOff(content, by) => {
                let mut record = peer.seal(APPLICATION_DATA, content, 0);
                record.truncate(record.len().saturating_sub(*by));
                (record, None, false)
            }
        };
        is_intact &= is_honest;
        stream.extend_from_slice(&record);
        last = record;
        if let Some(content) = content.filter(|content| is_intact && !content.is_empty()) {
            honest.push(content.clone());
            due += usize::from(is_plain);
        }
    }
    let outcome = open(&mut session, &pieces(&stream));
    assert!(honest.starts_with(&outcome.opened), "what nobody sealed has come out: {outcome:?}");
    assert!(outcome.opened.len() >= due, "{} of {due}: {outcome:?}", outcome.opened.len());
    assert!(is_intact && is_plain || outcome.opened.len() <= honest.len());
    if is_intact && is_plain {
        assert_eq!((outcome.error.as_deref(), outcome.waiting), (None, 0));
    }
    outcome
}

fn open(session: &mut Session, pieces: &[&[u8]]) -> Outcome {
    let mut opened = Vec::new();
    let mut sink = |record: Opened<'_>| {
        assert!(!record.plaintext.is_empty());
        opened.push(record.plaintext.bytes().to_vec());
        Ok::<(), Error>(())
    };
    let mut error = None;
    for piece in pieces {
        if let Err(fault) = lent(piece, |span| session.opener.push(span, &mut sink)) {
            let again = lent(b"\x17\x03\x03", |span| session.opener.push(span, &mut sink));
            assert!(matches!(again, Err(Error::AfterFailure)), "{again:?}");
            error = Some(fault.to_string());
            break;
        }
    }
    let mut out = Vec::new();
    let owed = session.answer(&mut out).map_or(0, |()| out.len());
    let opener = &session.opener;
    let counters = *opener.counters();
    assert_eq!(counters.bytes_opened, opened.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
    let waiting = if error.is_some() || opener.is_closed() { 0 } else { opener.bytes_waiting() };
    Outcome { opened, error, closed: opener.is_closed(), waiting, records: opener.records(), owed }
}

/// Who has the server's sending key.
struct Peer {
    key: LessSafeKey,
    iv: [u8; 12],
    sequence: u64,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Tls13,
    Gcm12,
    ChaCha12,
}

impl Peer {
    fn new(suite: SupportedCipherSuite, server: ServerConnection) -> Self {
        let (sequence, secrets) = server.dangerous_extract_secrets().expect("the server was told to give them").tx;
        let (algorithm, key, iv): (&'static Algorithm, _, _) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => unreachable!("no other is among the suites"),
        };
        let form = match (suite.tls13(), algorithm == &CHACHA20_POLY1305) {
            (Some(_), _) => Form::Tls13,
            (None, false) => Form::Gcm12,
            (None, true) => Form::ChaCha12,
        };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key.as_ref()).unwrap());
        Self { key, iv: iv.as_ref().try_into().unwrap(), sequence, form }
    }

    /// A record of this type: RFC 8446 5.2, RFC 5288 3, RFC 7905 2. A content too long for a header's length is cut.
    fn seal(&mut self, kind: u8, content: &[u8], zeros: usize) -> Vec<u8> {
        let mut text = content.to_vec();
        if self.form == Form::Tls13 {
            text.push(kind);
            text.resize(text.len() + zeros, 0);
        }
        let mut nonce = self.iv;
        for (byte, of_sequence) in nonce[4..].iter_mut().zip(self.sequence.to_be_bytes()) {
            *byte ^= of_sequence;
        }
        let explicit = if self.form == Form::Gcm12 { nonce[4..].to_vec() } else { Vec::new() };
        let len = u16::try_from(explicit.len() + text.len() + 16).expect("contents are short").to_be_bytes();
        let outer = if self.form == Form::Tls13 { APPLICATION_DATA } else { kind };
        let header = [outer, 3, 3, len[0], len[1]];
        let aad = if self.form == Form::Tls13 {
            header.to_vec()
        } else {
            let len = u16::try_from(text.len()).unwrap().to_be_bytes();
            [&self.sequence.to_be_bytes()[..], &[kind, 3, 3], &len].concat()
        };
        self.key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut text).unwrap();
        self.sequence += 1;
        [&header[..], &explicit, &text].concat()
    }
}

/// A client, and servers that speak one suite each.
struct Sides {
    client: Client,
    servers: Vec<Arc<ServerConfig>>,
}

static SIDES: LazyLock<Sides> = LazyLock::new(|| {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new([HOST.to_owned()]).unwrap().self_signed(&key).unwrap();
    let server = |suite: &SupportedCipherSuite| {
        let mut provider = default_provider();
        provider.cipher_suites = vec![*suite];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[suite.version()])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.send_tls13_tickets = 0;
        config.enable_secret_extraction = true;
        Arc::new(config)
    };
    Sides {
        client: Client::new(Trust::from_pem(certificate.pem().as_bytes()).unwrap(), false).unwrap(),
        servers: SUITES.iter().map(server).collect(),
    }
});

fn connect(suite: SupportedCipherSuite) -> (Session, Peer) {
    let place = SUITES.iter().position(|other| *other == suite).expect("it is one of them");
    let mut server = ServerConnection::new(Arc::clone(&SIDES.servers[place])).unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut handshake = Handshake::new(&SIDES.client, name, &Limits::default()).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    handshake.start(&mut to_server).unwrap();
    loop {
        let mut bytes = &to_server[..];
        while !bytes.is_empty() {
            server.read_tls(&mut bytes).unwrap();
            server.process_new_packets().unwrap();
        }
        to_server.clear();
        if handshake.is_complete() {
            break;
        }
        to_client.clear();
        while server.wants_write() {
            server.write_tls(&mut to_client).unwrap();
        }
        let _ = handshake.push(&to_client, &mut to_server).unwrap();
    }
    assert!(!server.wants_write());
    let (session, _) = handshake.finish().unwrap();
    (session, Peer::new(suite, server))
}
