//! An exchange in memory: smoltcp, rustls and a few lines of WebSocket on the other end of a [`MemoryRing`]'s wire, with
//! the testbed's wire between the two, with all its impairments. Everything runs in virtual time from a seed.
#![allow(unreachable_pub, reason = "a module of one test binary")]
#![allow(dead_code, reason = "not every program that includes this file uses all of it")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr};
use wiretick::event;
use wiretick::floor::{FourTuple, Hop, Limits, Time};
use wiretick::frame::as_linux_writes;
use wiretick::handover::FlowMap;
use wiretick::lane::{Bypass, Connection, ConnectionId, Lane};
use wiretick::path::{Error, Handler, Path, PathConfig};
use wiretick::record::{self, Trust};
use wiretick::ring::{FarEnd, MemoryRing};
use wiretick::segment::Tcp;
use wiretick_impair::{Direction, Impairer, Plan};

pub const NAME: &str = "exchange.test";

/// The answer to a client's key (RFC 6455 section 1.3).
fn accept_key(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// A flow map that nobody consults: on this wire, everything goes to the ring.
#[derive(Debug, Default)]
pub struct Everything;

impl FlowMap for Everything {
    fn insert(&mut self, _: &FourTuple, _: Option<u16>) -> std::io::Result<()> {
        Ok(())
    }

    fn remove(&mut self, _: &FourTuple) -> std::io::Result<()> {
        Ok(())
    }

    fn pass(&mut self, _: &[u8]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

/// A generator for tests: small, seeded, good enough to toss coins.
#[derive(Clone, Debug)]
pub struct Coin(u64);

impl Coin {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// How the exchange answers the upgrade, and whatever else a test wants to be different.
#[derive(Clone, Debug)]
pub struct Manners {
    pub tls: bool,
    /// What it says instead of a proper 101.
    pub answer: Option<String>,
    /// Bytes (WebSocket frames) that leave together with the 101.
    pub with_the_answer: Vec<u8>,
    /// TCP is accepted, and then nothing is ever said.
    pub mute: bool,
    /// Nothing is ever said at all.
    pub absent: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self { tls: true, answer: None, with_the_answer: Vec::new(), mute: false, absent: false }
    }
}

/// The exchange's end.
pub struct Exchange {
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    wire: Wire,
    tls: Option<ServerConnection>,
    manners: Manners,
    /// Plaintext from the client.
    pub heard: Vec<u8>,
    upgraded: bool,
    /// Bytes for TCP.
    outgoing: VecDeque<u8>,
    /// Flips a bit in the next record that is sent.
    pub spoil_next_record: bool,
}

#[derive(Default)]
struct Wire {
    arrived: VecDeque<Vec<u8>>,
    sent: VecDeque<Vec<u8>>,
}

struct Arrived(Vec<u8>);
struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>);

impl RxToken for Arrived {
    fn consume<T, F: FnOnce(&[u8]) -> T>(self, take: F) -> T {
        take(&self.0)
    }
}

impl TxToken for Leaving<'_> {
    fn consume<T, F: FnOnce(&mut [u8]) -> T>(self, len: usize, write: F) -> T {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        self.arrived.pop_front().map(|packet| (Arrived(packet), Leaving(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

/// A certificate authority, and the exchange's certificate under it.
pub struct Pki {
    pub ca_pem: String,
    server: Arc<ServerConfig>,
}

impl Pki {
    /// The one that clients trust, and another.
    pub fn get(other: bool) -> &'static Self {
        static BOTH: LazyLock<[Pki; 2]> = LazyLock::new(|| [Pki::new(), Pki::new()]);
        &BOTH[usize::from(other)]
    }

    fn new() -> Self {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![NAME.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        Self { ca_pem: ca.pem(), server: Arc::new(server) }
    }
}

impl Exchange {
    fn new(pki: &Pki, tuple: &FourTuple, manners: Manners, seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut wire = Wire::default();
        let mut interface = Interface::new(config, &mut wire, Instant::from_micros(0));
        let bits = if tuple.remote.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|list| list.push(IpCidr::new(tuple.remote.ip().into(), bits)).unwrap());
        let mut socket = Socket::new(SocketBuffer::new(vec![0; 64 << 10]), SocketBuffer::new(vec![0; 256 << 10]));
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_tsval_generator(Some(|| 7));
        if !manners.absent {
            socket.listen(tuple.remote.port()).unwrap();
        }
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        let tls = manners.tls.then(|| ServerConnection::new(Arc::clone(&pki.server)).unwrap());
        Self {
            interface,
            sockets,
            socket,
            wire,
            tls,
            manners,
            heard: Vec::new(),
            upgraded: false,
            outgoing: VecDeque::new(),
            spoil_next_record: false,
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn poll(&mut self, now: Time) {
        let instant = Instant::from_micros((now.as_nanos() / 1000) as i64);
        self.interface.poll(instant, &mut self.wire, &mut self.sockets);
        if !self.manners.mute {
            self.listen();
        }
        let (front, _) = self.outgoing.as_slices();
        let front = front.to_vec();
        if self.socket().may_send()
            && let Ok(n) = self.socket().send_slice(&front)
        {
            self.outgoing.drain(..n);
        }
        self.interface.poll(instant, &mut self.wire, &mut self.sockets);
    }

    /// When it has something to do although nothing arrives.
    fn next_turn(&mut self, now: Time) -> Time {
        if !self.outgoing.is_empty() {
            return now;
        }
        let instant = Instant::from_micros((now.as_nanos() / 1000) as i64);
        let at = self.interface.poll_at(instant, &self.sockets);
        at.map_or(Time::NEVER, |at| Time::from_nanos(at.total_micros().unsigned_abs() * 1000))
    }

    fn listen(&mut self) {
        let mut bytes = Vec::new();
        while self.socket().can_recv() {
            let part = self.socket().recv(|part| (part.len(), part.to_vec())).unwrap();
            bytes.extend(part);
        }
        match &mut self.tls {
            None => self.heard.extend(bytes),
            Some(tls) => {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    tls.read_tls(&mut rest).unwrap();
                    let broken = tls.process_new_packets().is_err();
                    // Each time: the session holds a few records only.
                    let _ = tls.reader().read_to_end(&mut self.heard);
                    if broken {
                        break;
                    }
                    // Each time: rustls keeps only so much that nobody has read.
                    let _ = tls.reader().read_to_end(&mut self.heard);
                }
            }
        }
        if !self.upgraded
            && let Some(end) = self.heard.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = String::from_utf8(self.heard.drain(..end + 4).collect()).unwrap();
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
            let accept = accept_key(key);
            let proper = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            let mut answer = self.manners.answer.clone().unwrap_or(proper).into_bytes();
            answer.extend(std::mem::take(&mut self.manners.with_the_answer));
            self.upgraded = true;
            self.say(&answer);
        }
        self.seal();
    }

    /// Sends plaintext, in one record where there is TLS.
    pub fn say(&mut self, plaintext: &[u8]) {
        match &mut self.tls {
            None => self.outgoing.extend(plaintext),
            Some(tls) => tls.writer().write_all(plaintext).unwrap(),
        }
        self.seal();
    }

    /// Sends `close_notify`, where there is TLS, and FIN.
    pub fn hang_up(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
        self.seal();
        let mut left = self.outgoing.make_contiguous().to_vec();
        let n = self.socket().send_slice(&left).unwrap_or(0);
        left.drain(..n);
        self.outgoing = left.into();
        self.socket().close();
    }

    /// Sends FIN alone.
    pub fn fin(&mut self) {
        self.socket().close();
    }

    /// Sends RST.
    pub fn reset(&mut self) {
        self.socket().abort();
    }

    /// Sends one frame for every payload, all in one record.
    pub fn send_texts(&mut self, payloads: &[&str]) {
        let frames: Vec<u8> = payloads.iter().flat_map(|payload| frame(0x81, payload.as_bytes())).collect();
        self.say(&frames);
    }

    fn seal(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        let mut sealed = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut sealed).unwrap();
        }
        if self.spoil_next_record && !sealed.is_empty() {
            self.spoil_next_record = false;
            let last = sealed.len() - 1;
            sealed[last] ^= 1;
        }
        self.outgoing.extend(sealed);
    }

    pub fn has_outgoing(&mut self) -> bool {
        !self.outgoing.is_empty() || self.socket().send_queue() > 0
    }

    pub fn state(&mut self) -> State {
        self.socket().state()
    }
}

/// A server's WebSocket frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(payload);
    bytes
}

/// The frames a client has sent: first byte and unmasked payload.
pub fn client_frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = bytes {
        assert_eq!(second & 0x80, 0x80, "client frames are masked");
        let (len, rest) = match usize::from(second & 0x7f) {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => unreachable!("nothing here is as long as that"),
            len => (len, rest),
        };
        let (mask, rest) = rest.split_at(4);
        let payload: Vec<u8> = rest[..len].iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        frames.push((*first, payload));
        bytes = &rest[len..];
    }
    frames
}

/// What a test sets up.
pub struct Setup {
    pub manners: Manners,
    /// What the wire does. Its seed is the one below; without a delay, one way takes 20 us.
    pub weather: Plan,
    pub seed: u64,
    pub ipv6: bool,
    pub vlan: Option<u16>,
    pub subscriptions: Vec<String>,
    pub limits: Limits,
    pub name: &'static str,
    /// Trust another authority than the exchange's.
    pub distrust: bool,
    /// After how long without anything to do the path is kept warm.
    pub keep_warm: Option<Duration>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            manners: Manners::default(),
            weather: Plan::default(),
            seed: 1,
            ipv6: false,
            vlan: None,
            subscriptions: Vec::new(),
            limits: Limits::default(),
            name: NAME,
            distrust: false,
            keep_warm: None,
        }
    }
}

/// The client's lane and the exchange, and the wire between them.
pub struct World {
    pub lane: Lane<MemoryRing, Everything>,
    pub client: ConnectionId,
    pub exchange: Exchange,
    far: FarEnd,
    pub wire: Impairer,
    pub now: Time,
    header: Vec<u8>,
}

/// One way over the wire.
const DELAY: Duration = Duration::from_micros(20);
/// The shortest step, and the longest: what a test asks for between two steps begins with the next.
const STEP: Duration = Duration::from_micros(10);
const LEAP: Duration = Duration::from_millis(1);

impl World {
    pub fn new(setup: Setup) -> Self {
        let at = |text: &str| text.parse().unwrap();
        let tuple = if setup.ipv6 {
            FourTuple { local: at("[fd77::1]:40000"), remote: at("[fd77::2]:443") }
        } else {
            FourTuple { local: at("10.77.0.1:40000"), remote: at("10.77.0.2:443") }
        };
        let pki = Pki::get(false);
        let trusted = &Pki::get(setup.distrust).ca_pem;
        let client = record::Client::new(Trust::from_pem(trusted.as_bytes()).unwrap(), false).unwrap();
        let name = record::ServerName::try_from(setup.name).unwrap();
        let path = Path::new(PathConfig {
            tls: setup.manners.tls.then_some((&client, name)),
            authority: NAME,
            path_and_query: "/ws",
            headers: &[],
            subscriptions: &setup.subscriptions,
            messages_per_second: None,
            limits: setup.limits,
            events: event::Options::default(),
        })
        .unwrap();
        let mut weather = Plan { seed: setup.seed, ..setup.weather };
        for way in [&mut weather.to_client, &mut weather.to_exchange] {
            if way.delay.is_zero() {
                way.delay = DELAY;
            }
        }
        let (ring, far) = MemoryRing::new(512, 256);
        let hop = Hop { source: [2; 6], next: [4; 6], vlan: setup.vlan, mtu: 1500 };
        let now = Time::from_nanos(1_000_000_000);
        let tcp = Tcp::open(tuple, &hop, setup.seed, now);
        let connection = Connection::over_ring(tcp, None, setup.vlan, path, now, now + Duration::from_secs(10));
        let mut lane = Lane::default();
        if let Some(after) = setup.keep_warm {
            lane.keep_warm(after);
        }
        lane.set_bypass(Bypass { flows: Everything, ring, hop });
        let client = lane.add(connection);
        let mut header = vec![2; 6];
        header.extend([4; 6]);
        if let Some(vlan) = setup.vlan {
            header.extend(0x8100u16.to_be_bytes());
            header.extend(vlan.to_be_bytes());
        }
        header.extend(if setup.ipv6 { [0x86, 0xdd] } else { [8, 0] });
        Self {
            lane,
            client,
            exchange: Exchange::new(pki, &tuple, setup.manners, setup.seed ^ 0xfeed),
            far,
            wire: Impairer::new(weather),
            now,
            header,
        }
    }

    /// Lets time pass until something is due, and everybody do what there is to do.
    pub fn step(&mut self, handler: &mut impl Handler) -> Result<usize, Error> {
        let timers = self.lane.next_turn().min(self.exchange.next_turn(self.now));
        let next = self.wire.next_due().map_or(timers, |due| timers.min(time(due)));
        self.now = next.max(self.now + STEP).min(self.now + LEAP);
        let now = since(self.now);
        while let Some(packet) = self.wire.pop(now, Direction::ToExchange) {
            // What is left of a truncated frame may have no packet in it.
            self.exchange.wire.arrived.extend(packet.get(self.header.len()..).map(<[u8]>::to_vec));
        }
        self.exchange.poll(self.now);
        while let Some(mut packet) = self.exchange.wire.sent.pop_front() {
            as_linux_writes(&mut packet);
            self.wire.push(now, Direction::ToClient, &[&self.header[..], &packet].concat());
        }
        while let Some(packet) = self.wire.pop(now, Direction::ToClient) {
            self.far.deliver(&packet);
        }
        let result = self.turn(handler);
        while let Some(packet) = self.far.take() {
            self.wire.push(now, Direction::ToExchange, &packet);
        }
        result
    }

    /// Packets that the wire has lost.
    pub fn packets_lost(&self) -> u64 {
        Direction::BOTH.map(|direction| self.wire.counters(direction).lost).iter().sum()
    }

    /// The other end of the client's wire.
    pub fn far_end(&self) -> FarEnd {
        self.far.clone()
    }

    /// One turn of the lane alone.
    pub fn turn(&mut self, handler: &mut impl Handler) -> Result<usize, Error> {
        self.lane.turn(self.now, handler)
    }

    /// The exchange hears what the client has sent since, and sends each of `records` by itself, so that a record that
    /// fits a segment gets one. When this returns, all of it lies in the client's ring: no weather, no delay.
    pub fn burst(&mut self, records: &[Vec<String>]) {
        self.now = self.now + Duration::from_micros(100);
        while let Some(packet) = self.far.take() {
            self.exchange.wire.arrived.push_back(packet[self.header.len()..].to_vec());
        }
        self.exchange.poll(self.now);
        for record in records {
            self.exchange.send_texts(&record.iter().map(String::as_str).collect::<Vec<_>>());
            self.exchange.poll(self.now);
            while let Some(mut packet) = self.exchange.wire.sent.pop_front() {
                as_linux_writes(&mut packet);
                assert!(self.far.deliver(&[&self.header[..], &packet].concat()), "the ring is full");
            }
        }
    }

    /// Steps until `done`, or fails the test after `limit` of virtual time.
    pub fn until(
        &mut self,
        handler: &mut impl Handler,
        limit: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), Error> {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "not within {limit:?}: {:?}", self.lane.connection(self.client));
            self.step(handler)?;
        }
        Ok(())
    }

    pub fn connection(&self) -> &Connection {
        self.lane.connection(self.client)
    }
}

/// A time as the wire has it: since the beginning of all times.
fn since(time: Time) -> Duration {
    Duration::from_nanos(time.as_nanos())
}

fn time(since: Duration) -> Time {
    Time::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
