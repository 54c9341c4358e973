//! An exchange of our own: a WebSocket server that sends market data on a schedule, checks what comes back, and does one
//! thing wrong if it is asked to.
//!
//! What comes in is a [`Config`] and sockets that listen or are connected already; what goes out is the feed, and a
//! [`Report`] of what was sent, how late, and what clients did. It shares no code with wiretick: TLS is rustls' server, the
//! upgrade and the client's frames are read by tungstenite. A mistake in wiretick's protocol code is not made twice.
//!
//! One thread per connection. A client that vanishes ends its own thread and no other.

mod book;
mod config;
mod digits;
mod faults;
mod frames;
mod pings;
mod report;
mod schedule;
mod session;
mod shapes;
mod source;
mod stamp;
mod streams;
mod synthetic;
mod transport;
mod upgrade;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

pub use config::{Config, ConfigError, Feed, Security, Start, Suite, Tls, TlsVersion};
pub use faults::Fault;
pub use pings::PingCounts;
pub use report::{Ending, Received, Report};
pub use schedule::{Pace, monotonic_ns};
pub use stamp::STAMP_BYTES;
pub use synthetic::SyntheticPlan;

use config::Prepared;
use session::lock;
use transport::TICK;

/// An exchange that is ready to serve. Clones are the same exchange: a recording is in memory once.
#[derive(Clone, Debug)]
pub struct Exchange {
    prepared: Arc<Prepared>,
}

impl Exchange {
    /// Checks the configuration and encodes the recording.
    ///
    /// # Errors
    ///
    /// Where the configuration contradicts itself or a line of the recording cannot be sent.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Ok(Self { prepared: Arc::new(Prepared::new(config)?) })
    }

    /// [`Exchange::new`] and [`Exchange::listen`] in one.
    ///
    /// # Errors
    ///
    /// Those of both.
    pub fn start(config: Config, listener: TcpListener) -> Result<Running, ConfigError> {
        Ok(Self::new(config)?.listen(listener)?)
    }

    /// Serves everyone who connects, on threads of its own, until the answer is stopped or dropped. The listener may
    /// stand in another network namespace than the calling thread.
    ///
    /// # Errors
    ///
    /// Where the socket or a thread is refused.
    pub fn listen(&self, listener: TcpListener) -> io::Result<Running> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let acceptor = {
            let (prepared, shared) = (Arc::clone(&self.prepared), Arc::clone(&shared));
            thread::Builder::new().name("accept".into()).spawn(move || accept(&listener, &prepared, &shared))?
        };
        Ok(Running { address, shared, acceptor: Some(acceptor) })
    }

    /// Serves one client that is connected already, on the calling thread, until the connection ends.
    #[must_use]
    pub fn serve(&self, client: TcpStream) -> Report {
        let ledger = Mutex::default();
        session::serve(client, &self.prepared, &AtomicBool::new(false), &ledger);
        ledger.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves one client that is connected already, on the calling thread, until the connection ends.
///
/// # Errors
///
/// Where the configuration is refused.
pub fn serve(client: TcpStream, config: &Config) -> Result<Report, ConfigError> {
    Ok(Exchange::new(config.clone())?.serve(client))
}

/// What the threads of a running exchange share.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// One report per connection, in the order in which they were accepted.
    ledgers: Mutex<Vec<Arc<Mutex<Report>>>>,
}

impl Shared {
    fn ledgers(&self) -> Vec<Arc<Mutex<Report>>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An exchange that listens. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// One report per connection, in the order in which they were accepted. Those of living connections are at most a
    /// millisecond old, or as old as the last thing that happened.
    #[must_use]
    pub fn connections(&self) -> Vec<Report> {
        self.shared.ledgers().iter().map(|ledger| lock(ledger).clone()).collect()
    }

    /// All connections together.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut sum = Report::default();
        for ledger in self.shared.ledgers() {
            sum += &lock(&ledger);
        }
        sum
    }

    /// How many connections have ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.shared.ledgers().iter().filter(|ledger| !lock(ledger).endings.is_empty()).count()
    }

    /// Waits until so many connections have ended. Answers whether they did before the time was over.
    #[must_use]
    pub fn wait_ended(&self, connections: usize, longest: Duration) -> bool {
        let deadline = Instant::now() + longest;
        while self.ended() < connections {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(2));
        }
        true
    }

    /// Closes every connection in order (code 1001), waits for the threads, and answers the sum of the reports.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.halt();
        self.report()
    }

    fn halt(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic of the acceptor has been shown already; there is nobody to pass it on to while dropping.
            let _ = acceptor.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Accepts until the exchange is stopped, then waits for all connections.
fn accept(listener: &TcpListener, prepared: &Arc<Prepared>, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    while !shared.stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((client, _)) => {
                let ledger = Arc::new(Mutex::new(Report::default()));
                shared.ledgers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&ledger));
                let (prepared, shared) = (Arc::clone(prepared), Arc::clone(shared));
                let spawned = thread::Builder::new().name("client".into()).spawn(move || {
                    if let Some(core) = prepared.config.core
                        && let Err(error) = crate::topology::pin(core)
                    {
                        log::warn!("cannot pin a connection's thread to core {core}: {error}");
                    }
                    session::serve(client, &prepared, &shared.stop, &ledger);
                });
                match spawned {
                    Ok(thread) => threads.push(thread),
                    Err(error) => log::error!("no thread for a client: {error}"),
                }
                threads.retain(|thread| !thread.is_finished());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let tick = Timespec::try_from(TICK).ok();
                let _ = rustix::event::poll(&mut [PollFd::new(listener, PollFlags::IN)], tick.as_ref());
            }
            // The client was gone again before it was accepted, or we are out of descriptors: the next one may do better.
            Err(error) => {
                log::warn!("a client was not accepted: {error}");
                thread::sleep(TICK);
            }
        }
    }
    for thread in threads {
        let _ = thread.join();
    }
}
