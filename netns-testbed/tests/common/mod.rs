//! Clients for the exchange's tests: one that looks at every TLS record and every frame header by itself, and tungstenite
//! over rustls for everything else.
//!
//! What comes in is the address of a running exchange; what goes out is what stood on the wire. Nothing waits for more than
//! [`PATIENCE`].

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::WebSocket;
use wiretick_testbed::exchange::{Config, Exchange, Running, Security, Tls};
use wiretick_testbed::feeds::{Lines, Recording};
use wiretick_testbed::pki::{Authority, Identity, Validity};

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a peer is listened to that is expected to say nothing.
pub const SILENCE: Duration = Duration::from_millis(150);

/// The name the exchange's certificate is for.
pub const NAME: &str = "exchange.test";

static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| Authority::new("Testbed CA").unwrap());
static IDENTITY: LazyLock<Identity> = LazyLock::new(|| AUTHORITY.issue(&[NAME], Validity::Now).unwrap());

/// TLS 1.3 with a good certificate.
pub fn tls() -> Tls {
    Tls::new(IDENTITY.clone())
}

/// A configuration with TLS, to be changed further.
pub fn secure() -> Config {
    Config { security: Security::Tls(tls()), ..Config::default() }
}

/// A recording without times.
pub fn recording(lines: &[impl AsRef<str>]) -> Arc<Recording> {
    let text: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
    Arc::new(Recording { messages: Lines::new(text.join("\n").into_bytes()), arrivals: None })
}

/// Trades numbered from 0, each some 60 bytes.
pub fn trades(count: usize) -> Vec<String> {
    (0..count).map(|at| format!(r#"{{"e":"trade","s":"BTCUSDT","t":{at},"p":"61837.63000000","é":"ü"}}"#)).collect()
}

/// An exchange on a free port of the loopback interface.
pub fn start(config: Config) -> Running {
    Exchange::start(config, TcpListener::bind("127.0.0.1:0").unwrap()).unwrap()
}

/// A TCP connection that gives up after [`PATIENCE`].
pub fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A TLS client that trusts `roots` only.
pub fn tls_client(roots: RootCertStore) -> ClientConnection {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    ClientConnection::new(Arc::new(config), NAME.try_into().unwrap()).unwrap()
}

/// The authority the exchange's certificate is from, as what a client trusts.
pub fn roots() -> RootCertStore {
    AUTHORITY.roots()
}

/// tungstenite's client over TLS.
pub type Client = WebSocket<StreamOwned<ClientConnection, TcpStream>>;

/// Connects tungstenite over TLS to `path`.
pub fn client(address: SocketAddr, path: &str) -> Client {
    let stream = StreamOwned::new(tls_client(roots()), connect(address));
    tungstenite::client(format!("wss://{NAME}{path}"), stream).unwrap().0
}

/// Connects tungstenite without TLS to `path`.
pub fn plain_client(address: SocketAddr, path: &str) -> WebSocket<TcpStream> {
    tungstenite::client(format!("ws://{NAME}{path}"), connect(address)).unwrap().0
}

/// The upgrade request of RFC 6455 section 1.3.
pub const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: exchange.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The accept value that belongs to [`UPGRADE`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// One TLS record as the client found it.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    /// The type in its header: 23 for everything that is encrypted.
    pub content_type: u8,
    /// The length in its header.
    pub sealed_bytes: usize,
    /// What was in it for the application.
    pub plain: Vec<u8>,
}

/// A client that takes TLS records and WebSocket frames one by one.
pub struct Observer {
    pub socket: TcpStream,
    pub tls: ClientConnection,
    /// Plaintext that has not been made into frames yet.
    pub plain: Vec<u8>,
}

/// One WebSocket frame, unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, reserved bits, opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Observer {
    /// Connects and completes the TLS handshake.
    pub fn new(address: SocketAddr) -> Self {
        let mut observer = Self { socket: connect(address), tls: tls_client(roots()), plain: Vec::new() };
        observer.handshake().unwrap();
        observer
    }

    fn handshake(&mut self) -> io::Result<()> {
        while self.tls.is_handshaking() {
            while self.tls.wants_write() {
                self.tls.write_tls(&mut self.socket)?;
            }
            if self.tls.is_handshaking() {
                self.record()?;
            }
        }
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Connects, upgrades, and answers the head of the response. What came behind it is in [`Observer::plain`].
    pub fn upgraded(address: SocketAddr) -> (Self, String) {
        let mut observer = Self::new(address);
        observer.send(UPGRADE);
        let head = observer.head();
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        (observer, head)
    }

    /// Reads an HTTP head.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.plain.windows(4).position(|end| end == b"\r\n\r\n") {
                let head = self.plain.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            let record = self.record().unwrap();
            self.plain.extend_from_slice(&record.plain);
        }
    }

    /// Sends plaintext.
    pub fn send(&mut self, plain: &[u8]) {
        self.tls.writer().write_all(plain).unwrap();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket).unwrap();
        }
    }

    /// Sends a frame, masked as a client must.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        assert!(payload.len() < 126);
        let key = [1, 2, 3, 4];
        let mut frame = vec![first, 0x80 | payload.len() as u8];
        frame.extend(key);
        frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        self.send(&frame);
    }

    /// Reads exactly one TLS record.
    pub fn record(&mut self) -> io::Result<Record> {
        let mut bytes = vec![0; 5];
        self.socket.read_exact(&mut bytes)?;
        let sealed_bytes = usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        bytes.resize(5 + sealed_bytes, 0);
        self.socket.read_exact(&mut bytes[5..])?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.tls.read_tls(&mut rest)?;
        }
        let state = self.tls.process_new_packets().map_err(io::Error::other)?;
        let mut plain = vec![0; state.plaintext_bytes_to_read()];
        if !plain.is_empty() {
            self.tls.reader().read_exact(&mut plain)?;
        }
        Ok(Record { content_type: bytes[0], sealed_bytes, plain })
    }

    /// Reads plaintext until there are `bytes` of it. They stay in [`Observer::plain`].
    pub fn fill(&mut self, bytes: usize) {
        while self.plain.len() < bytes {
            let record = self.record().unwrap();
            self.plain.extend_from_slice(&record.plain);
        }
    }

    /// Reads one whole frame of any kind.
    pub fn frame(&mut self) -> Frame {
        loop {
            if let Some((frame, rest)) = split_frame(&self.plain) {
                self.plain = rest.to_vec();
                return frame;
            }
            let record = self.record().unwrap();
            self.plain.extend_from_slice(&record.plain);
        }
    }

    /// Reads one frame, which must be a whole text message.
    pub fn text(&mut self) -> String {
        let frame = self.frame();
        assert_eq!(frame.first, 0x81, "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// Whether nothing at all comes for a while.
    pub fn is_silent(&mut self) -> bool {
        assert!(self.plain.is_empty(), "unread plaintext");
        is_silent(&self.socket)
    }
}

/// Whether nothing at all comes for a while.
pub fn is_silent(socket: &TcpStream) -> bool {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let peeked = socket.peek(&mut [0]);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// The first frame of some plaintext, and what follows it. `None` where it is not whole.
pub fn split_frame(plain: &[u8]) -> Option<(Frame, &[u8])> {
    let (header, length): (usize, usize) = match *plain.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(plain.get(2..4)?.try_into().unwrap()))),
        127 => (10, usize::try_from(u64::from_be_bytes(plain.get(2..10)?.try_into().unwrap())).unwrap()),
        short => {
            assert!(short < 126, "masked: {plain:x?}");
            (2, usize::from(short))
        }
    };
    let payload = plain.get(header..header.checked_add(length)?)?;
    Some((Frame { first: plain[0], payload: payload.to_vec() }, &plain[header + length..]))
}
