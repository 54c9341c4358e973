//! One client from its first byte to its last.
//!
//! What comes in is a connected socket and what the exchange shall do; what goes out is the feed, on its schedule, and the
//! counts of a [`Report`]. One thread, no lock on the way of a message: the report is brought up to date once a
//! millisecond, when the client's frames are read too.

use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, Message, WebSocket};
use wiretick_impair::random::Random;

use super::config::{Feed, Prepared, Start};
use super::faults::{Fault, Moment};
use super::frames;
use super::pings::Pings;
use super::report::{Ending, Report};
use super::schedule::{Pace, Schedule, monotonic_ns};
use super::source::{Batch, Source};
use super::stamp;
use super::streams::Streams;
use super::transport::{Broken, Fetched, TICK, Transport};
use super::upgrade::{Pipe, Upgraded, upgrade};

/// Time between two looks at what the client sent. A read that finds nothing costs about a microsecond: at 1 ms that is a
/// thousandth of the thread, and a ping is answered within the jitter of any network.
const READ_INTERVAL_NS: u64 = 1_000_000;

/// A read is not begun when a message is due sooner than this, unless the last one is long ago. A read that finds nothing
/// takes two or three microseconds, the report included. Lower, and it makes messages late; from 20 us on there is never
/// room at 50,000 messages a second, and every read makes one late.
const READ_ROOM_NS: u64 = 8_000;

/// A wait longer than this sleeps, and only its last part spins. Shorter, and a late wake-up (the kernel's timer slack is
/// 50 us) would make the message late; longer, and a slow feed would burn a core for nothing.
const SPIN_NS: u64 = 250_000;

/// What is gathered for one system call when the stream has no schedule.
const SATURATE_WRITE_BYTES: usize = 64 << 10;

/// How long a client is waited for that is only saying goodbye, or that has been told that the exchange was stopped.
const GOODBYE: Duration = Duration::from_secs(1);

/// Serves one client. The report is under a lock for others to look at while the connection lives.
pub(super) fn serve(socket: TcpStream, prepared: &Prepared, stop: &AtomicBool, ledger: &Mutex<Report>) {
    lock(ledger).connections = 1;
    let ending = welcome(socket, prepared, stop, ledger).unwrap_or_else(|ending| ending);
    log::debug!("a connection ended: {ending}");
    lock(ledger).endings.push(ending);
}

/// Everything before the stream: TLS, the upgrade, and the faults that lie there.
fn welcome(
    socket: TcpStream,
    prepared: &Prepared,
    stop: &AtomicBool,
    ledger: &Mutex<Report>,
) -> Result<Ending, Ending> {
    let config = &prepared.config;
    let fault = config.fault;
    let is_before_tls = fault.is_some_and(|fault| fault.moment() == Moment::Accept);
    let tls = prepared.tls.clone().filter(|_| !is_before_tls);
    let mut transport = Transport::new(socket, tls)?;
    if fault.is_some_and(|fault| fault.moment() != Moment::Stream) {
        lock(ledger).faults = 1;
    }
    if is_before_tls {
        return play_before_tls(
            &mut transport,
            fault.and_then(|it| it.before_tls(&mut Random::new(config.fault_seed))),
            stop,
        );
    }
    let mut incoming = Vec::new();
    transport.handshake(&mut incoming, config.patience, stop)?;
    if fault == Some(Fault::SilentTls) {
        return Ok(await_end(&mut transport, stop));
    }
    let Upgraded { websocket, path } = upgrade(&mut transport, incoming, fault, config.patience, stop)?;
    let symbols = match &config.feed {
        Feed::Synthetic(plan) => plan.symbols.as_slice(),
        Feed::Nothing | Feed::Replay(_) => &[],
    };
    let now_ns = monotonic_ns();
    let mut session = Session {
        prepared,
        stop,
        ledger,
        transport,
        websocket,
        streams: Streams::new(symbols, &path),
        source: prepared.source(),
        batch: Batch::default(),
        pings: Pings::new(config.ping_interval, config.fault_seed, now_ns),
        random: Random::new(config.fault_seed),
        has_begun: config.start != Start::OnSubscribe,
        pending_fault: fault.filter(|fault| fault.moment() == Moment::Stream),
        shape: fault.filter(|fault| fault.moment() == Moment::Shape),
        is_mute: false,
        read_interval_ns: if config.echo || config.measure_echo { 0 } else { READ_INTERVAL_NS },
        next_read_ns: now_ns,
        gathered_bytes: 0,
        sent: 0,
        tally: Tally::default(),
    };
    let ending = session.run();
    session.pings.give_up();
    session.publish();
    Ok(ending)
}

/// Waits for the client's first bytes, answers something that is no TLS, or nothing, and waits for the client to leave.
fn play_before_tls(transport: &mut Transport, answer: Option<Vec<u8>>, stop: &AtomicBool) -> Result<Ending, Ending> {
    if let Some(answer) = answer {
        transport.wait(PollFlags::IN, TICK)?;
        transport.write_raw(&answer, stop)?;
    }
    Ok(await_end(transport, stop))
}

/// Reads whatever comes, without a word, until the client leaves or the exchange is stopped.
pub(super) fn await_end(transport: &mut Transport, stop: &AtomicBool) -> Ending {
    loop {
        match transport.fetch(&mut Vec::new()) {
            Ok(Fetched::End { announced }) => return Ending::EndOfStream { announced },
            Ok(Fetched::Bytes) => {}
            Ok(Fetched::Nothing) => {
                if stop.load(Ordering::Relaxed) {
                    return Ending::Stopped;
                }
                if let Err(error) = transport.wait(PollFlags::IN, TICK) {
                    return error.into();
                }
            }
            Err(broken) => return broken.into(),
        }
    }
}

/// What has been done since the report was brought up to date.
#[derive(Debug, Default)]
struct Tally {
    messages: u64,
    batches: u64,
    payload_bytes: u64,
    blocked: u64,
    lateness_ns: Vec<u64>,
}

/// A client that has been upgraded.
pub(super) struct Session<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) stop: &'a AtomicBool,
    ledger: &'a Mutex<Report>,
    pub(super) transport: Transport,
    websocket: WebSocket<Pipe>,
    streams: Streams,
    pub(super) source: Source,
    pub(super) batch: Batch,
    pub(super) pings: Pings,
    pub(super) random: Random,
    has_begun: bool,
    /// The fault that is yet to be played in mid-stream.
    pending_fault: Option<Fault>,
    /// The unusual way in which everything is sent.
    shape: Option<Fault>,
    /// Nothing is sent any more, no answers either: a fault has begun that a further record would spoil.
    pub(super) is_mute: bool,
    read_interval_ns: u64,
    next_read_ns: u64,
    gathered_bytes: usize,
    /// Messages sent on this connection.
    sent: u64,
    tally: Tally,
}

impl Session<'_> {
    /// The whole stream, and the goodbye.
    fn run(&mut self) -> Ending {
        match self.stream() {
            Ok(()) => self.close(CloseCode::Normal, self.prepared.config.patience, Ending::Completed),
            Err(Ending::Stopped) if !self.is_mute => {
                let ending = self.close(CloseCode::Away, self.prepared.config.patience.min(GOODBYE), Ending::Stopped);
                // Whatever the client makes of it: it ended because the exchange was stopped.
                if matches!(ending, Ending::TimedOut(_) | Ending::EndOfStream { .. }) {
                    Ending::Stopped
                } else {
                    ending
                }
            }
            Err(ending @ (Ending::ClosedByClient(_) | Ending::Misbehaved(_))) => {
                self.part();
                ending
            }
            Err(ending) => ending,
        }
    }

    fn stream(&mut self) -> Result<(), Ending> {
        let config = &self.prepared.config;
        let count = self.prepared.count();
        if config.fault == Some(Fault::EarlyFrame) && self.source.fill(&mut self.batch, &self.streams, config.batch) {
            // Behind the 101 that is still in the pipe: both go into one record.
            self.batch.stamp(monotonic_ns());
            self.websocket.get_mut().outgoing.extend_from_slice(&self.batch.bytes);
            self.account(None);
        }
        self.queue_replies()?;
        self.flush_blocking()?;
        if config.fault == Some(Fault::SilentUpgrade) {
            self.is_mute = true;
            return Err(await_end(&mut self.transport, self.stop));
        }
        let mut schedule: Option<Schedule> = None;
        while self.sent < count {
            if !self.has_begun {
                self.idle()?;
                continue;
            }
            let mut room = count - self.sent;
            if let Some(fault) = self.pending_fault {
                if self.sent >= config.fault_after {
                    self.pending_fault = None;
                    lock(self.ledger).faults += 1;
                    self.play(fault)?;
                    continue;
                }
                room = room.min(config.fault_after - self.sent);
            }
            let messages = usize::try_from(room).map_or(config.batch, |room| room.min(config.batch));
            if !self.source.fill(&mut self.batch, &self.streams, messages) {
                // When the client wants something again, the stream starts anew and owes nothing for the time between.
                schedule = None;
                self.idle()?;
                continue;
            }
            let underway = config.start == Start::Underway;
            let begin = || if underway { self.prepared.began_ns } else { monotonic_ns() };
            let schedule = schedule.get_or_insert_with(|| Schedule::new(config.pace, begin()));
            let due_ns = schedule.due_ns(self.batch.recorded_ns);
            if underway && self.sent == 0 && due_ns.is_some_and(|due_ns| due_ns < monotonic_ns()) {
                // Others have had it.
                schedule.advance(self.batch.messages);
                continue;
            }
            let now_ns = self.wait_until(due_ns)?;
            self.batch.stamp(now_ns);
            self.send_batch()?;
            schedule.advance(self.batch.messages);
            self.account(due_ns.map(|due_ns| now_ns.saturating_sub(due_ns)));
        }
        Ok(())
    }

    /// Counts the batch as sent.
    fn account(&mut self, lateness_ns: Option<u64>) {
        self.sent += self.batch.messages;
        self.tally.messages += self.batch.messages;
        self.tally.batches += 1;
        self.tally.payload_bytes += self.batch.payload_bytes;
        self.tally.lateness_ns.extend(lateness_ns);
    }

    /// Waits, and reads what the client sends meanwhile. Answers the moment at which it stopped waiting.
    fn wait_until(&mut self, due_ns: Option<u64>) -> Result<u64, Ending> {
        loop {
            let now_ns = monotonic_ns();
            let left_ns = due_ns.map_or(0, |due_ns| due_ns.saturating_sub(now_ns));
            // Reading gives way to a message that is due soon, but not for ever. Where there is no schedule every message
            // is due: then a look is due when it is, and the message waits for it.
            let patience_ns = if due_ns.is_none() { 0 } else { READ_INTERVAL_NS };
            let must_read = now_ns >= self.next_read_ns.saturating_add(patience_ns);
            if must_read || (now_ns >= self.next_read_ns && left_ns > READ_ROOM_NS) {
                self.check_stop()?;
                self.service()?;
                if left_ns > 0 {
                    continue;
                }
                return Ok(monotonic_ns());
            }
            if left_ns == 0 {
                return Ok(now_ns);
            }
            if left_ns > SPIN_NS && self.read_interval_ns > 0 {
                let sleep = Duration::from_nanos(left_ns - SPIN_NS).min(TICK);
                self.transport.wait(PollFlags::IN, sleep)?;
                self.next_read_ns = 0;
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// There is nothing to send: waits for the client to say something.
    fn idle(&mut self) -> Result<(), Ending> {
        self.check_stop()?;
        self.service()?;
        // No longer than a ping may be late.
        let spins = self.prepared.config.measure_echo;
        let longest = if spins { Duration::ZERO } else { Duration::from_millis(1) };
        Ok(self.transport.wait(PollFlags::IN, longest)?)
    }

    fn send_batch(&mut self) -> Result<(), Ending> {
        if let Some(shape) = self.shape {
            return self.send_shaped(shape);
        }
        self.transport.put(&self.batch.bytes)?;
        if self.prepared.config.pace == Pace::Saturate {
            self.gathered_bytes += self.batch.bytes.len();
            if self.gathered_bytes < SATURATE_WRITE_BYTES {
                return Ok(());
            }
        }
        self.flush_blocking()
    }

    /// Gives the socket everything that is queued, and reads while it does not take it.
    pub(super) fn flush_blocking(&mut self) -> Result<(), Ending> {
        self.gathered_bytes = 0;
        if self.flush()? {
            return Ok(());
        }
        self.tally.blocked += 1;
        while !self.flush()? {
            self.transport.wait(PollFlags::OUT, Duration::from_nanos(READ_INTERVAL_NS))?;
            if monotonic_ns() >= self.next_read_ns {
                self.check_stop()?;
                self.publish();
                self.read()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<bool, Ending> {
        Ok(self.transport.flush()?)
    }

    /// Reads, sends pings and answers as far as the socket takes them, and brings the report up to date.
    fn service(&mut self) -> Result<(), Ending> {
        let read = self.read();
        if let Some(payload) = self.pings.due(monotonic_ns()) {
            self.put_ping(&payload)?;
        }
        self.publish();
        read?;
        self.flush().map(|_| ())
    }

    /// Queues a ping.
    pub(super) fn put_ping(&mut self, payload: &[u8]) -> Result<(), Ending> {
        let mut ping = Vec::with_capacity(127);
        frames::push(&mut ping, frames::PING, payload);
        Ok(self.transport.put(&ping)?)
    }

    /// Reads what the client has sent, and queues the answers.
    pub(super) fn read(&mut self) -> Result<(), Ending> {
        let fetched = self.transport.fetch(&mut self.websocket.get_mut().incoming);
        let arrived_ns = monotonic_ns();
        // Where there was something there may be more: the next look need not wait, if there is time for it.
        let interval_ns = if matches!(fetched, Ok(Fetched::Bytes)) { 0 } else { self.read_interval_ns };
        self.next_read_ns = arrived_ns + interval_ns;
        // What came before a failure counts, so it is looked at first.
        if matches!(fetched, Ok(Fetched::Nothing)) {
            return Ok(());
        }
        loop {
            match self.websocket.read() {
                Ok(message) => self.take_in(message, arrived_ns)?,
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(Error::ConnectionClosed) => {
                    // Its answer to the client's close lies in the pipe; where it was the answer to ours, nothing does.
                    self.queue_replies()?;
                    return Err(Ending::ClosedByClient(None));
                }
                Err(error) => {
                    let mut close = Vec::new();
                    frames::push(&mut close, frames::CLOSE, &u16::from(CloseCode::Protocol).to_be_bytes());
                    self.transport.put(&close)?;
                    return Err(Ending::Misbehaved(error.to_string()));
                }
            }
        }
        self.queue_replies()?;
        match fetched? {
            Fetched::End { announced } => Err(Ending::EndOfStream { announced }),
            Fetched::Bytes | Fetched::Nothing => Ok(()),
        }
    }

    /// Does what a message of the client asks for.
    fn take_in(&mut self, message: Message, arrived_ns: u64) -> Result<(), Ending> {
        let config = &self.prepared.config;
        let mut ledger = lock(self.ledger);
        let mut reply = Vec::new();
        match message {
            Message::Text(text) => {
                ledger.received.text += 1;
                self.has_begun = true;
                let echoed = config.measure_echo.then(|| stamp::leading(text.as_bytes())).flatten();
                if let Some(stamped_ns) = echoed {
                    // Histograms that resize take any number; a stamp from the future counts as 0.
                    let _ = ledger.echo_ns.record(arrived_ns.saturating_sub(stamped_ns));
                }
                if config.echo {
                    ledger.echoes += 1;
                    frames::push(&mut reply, frames::TEXT, text.as_bytes());
                } else if echoed.is_none()
                    && let Some(answer) = self.streams.request(text.as_str())
                {
                    ledger.answers += 1;
                    frames::push(&mut reply, frames::TEXT, answer.as_bytes());
                }
            }
            Message::Binary(bytes) => {
                ledger.received.binary += 1;
                if config.echo {
                    ledger.echoes += 1;
                    frames::push(&mut reply, frames::BINARY, &bytes);
                }
            }
            Message::Ping(_) => ledger.received.ping += 1,
            Message::Pong(payload) => {
                ledger.received.pong += 1;
                self.pings.answered(&payload);
            }
            Message::Close(frame) => {
                ledger.received.close += 1;
                drop(ledger);
                let code = frame.map(|frame| u16::from(frame.code));
                // One more read has tungstenite put its answer into the pipe.
                let _ = self.websocket.read();
                self.queue_replies()?;
                return Err(Ending::ClosedByClient(code));
            }
            // Only sent, never read.
            Message::Frame(_) => {}
        }
        self.websocket.get_mut().outgoing.extend_from_slice(&reply);
        Ok(())
    }

    /// Moves what tungstenite has to say into the transport's queue.
    fn queue_replies(&mut self) -> Result<(), Ending> {
        let replies = &mut self.websocket.get_mut().outgoing;
        if !replies.is_empty() && !self.is_mute {
            self.transport.put(replies)?;
        }
        replies.clear();
        Ok(())
    }

    /// Says goodbye in order: waits for pongs, sends a close frame, waits for the client's, ends TLS and TCP. Answers
    /// `ending` where the client does its part.
    fn close(&mut self, code: CloseCode, patience: Duration, ending: Ending) -> Ending {
        match self.close_websocket(code, patience) {
            Ok(()) => Ending::TimedOut("its part of the close"),
            Err(Ending::ClosedByClient(_)) => {
                self.part();
                ending
            }
            Err(other) => other,
        }
    }

    /// `Ok` where the client does nothing.
    fn close_websocket(&mut self, code: CloseCode, patience: Duration) -> Result<(), Ending> {
        self.flush_blocking()?;
        let pongs_until = Instant::now() + patience.min(GOODBYE);
        while self.pings.are_waiting() && Instant::now() < pongs_until {
            self.wait_and_read()?;
        }
        // It lands in the pipe, which takes everything.
        let _ = self.websocket.close(Some(CloseFrame { code, reason: "".into() }));
        self.queue_replies()?;
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            let _ = self.flush()?;
            self.wait_and_read()?;
        }
        Ok(())
    }

    pub(super) fn wait_and_read(&mut self) -> Result<(), Ending> {
        self.transport.wait(PollFlags::IN, TICK)?;
        self.read()
    }

    /// After both close frames: `close_notify` and FIN, then a moment for the client's own. The server closes first, so
    /// that `TIME_WAIT` is its own (RFC 6455 section 7.1.1).
    fn part(&mut self) {
        if self.is_mute {
            return;
        }
        self.transport.close_notify();
        let deadline = Instant::now() + self.prepared.config.patience.min(GOODBYE);
        while !self.transport.flush().unwrap_or(true) && Instant::now() < deadline {
            let _ = self.transport.wait(PollFlags::OUT, TICK);
        }
        let _ = self.transport.finish();
        while matches!(self.transport.fetch(&mut Vec::new()), Ok(Fetched::Nothing | Fetched::Bytes))
            && Instant::now() < deadline
        {
            let _ = self.transport.wait(PollFlags::IN, TICK);
        }
    }

    pub(super) fn check_stop(&self) -> Result<(), Ending> {
        if self.stop.load(Ordering::Relaxed) { Err(Ending::Stopped) } else { Ok(()) }
    }

    /// Whether a look at what the client sent is due.
    pub(super) fn read_is_due(&self) -> bool {
        monotonic_ns() >= self.next_read_ns
    }

    /// Brings the report up to date.
    fn publish(&mut self) {
        let mut ledger = lock(self.ledger);
        ledger.messages += self.tally.messages;
        ledger.batches += self.tally.batches;
        ledger.payload_bytes += self.tally.payload_bytes;
        ledger.blocked += self.tally.blocked;
        ledger.wire_bytes = self.transport.wire_bytes;
        ledger.pings = self.pings.counts;
        let late_after_ns = self.prepared.config.late_after.as_nanos();
        for lateness_ns in self.tally.lateness_ns.drain(..) {
            ledger.late += u64::from(u128::from(lateness_ns) > late_after_ns);
            let _ = ledger.lateness_ns.record(lateness_ns);
        }
        let lateness_ns = std::mem::take(&mut self.tally.lateness_ns);
        self.tally = Tally { lateness_ns, ..Tally::default() };
    }
}

/// What a failure below WebSocket means for the connection.
impl From<Broken> for Ending {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Alert(alert) => Self::Alert(format!("{alert:?}")),
            Broken::Tls(error) => Self::Misbehaved(error.to_string()),
            Broken::Stopped => Self::Stopped,
            Broken::TimedOut => Self::TimedOut("the TLS handshake"),
            Broken::Io(error) => error.into(),
        }
    }
}

impl From<io::Error> for Ending {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Reset,
            io::ErrorKind::TimedOut => Self::TimedOut("acknowledging what was sent"),
            io::ErrorKind::UnexpectedEof => Self::EndOfStream { announced: false },
            _ => Self::Misbehaved(error.to_string()),
        }
    }
}

/// A panic elsewhere does not make counts wrong.
pub(super) fn lock(ledger: &Mutex<Report>) -> MutexGuard<'_, Report> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}
