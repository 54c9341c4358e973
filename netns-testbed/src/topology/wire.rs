//! A wire that impairs: the thread that carries every frame from one veth pair to the other, and asks [`crate::impair`] what is
//! to become of each.
//!
//! What comes in are a namespace with two ports and a plan; what goes out is a [`Wire`], a handle with which the plan can be
//! changed while frames pass. It ends when the handle is dropped.
//!
//! The wire itself loses nothing: what its sockets cannot hold is counted by the kernel ([`PortCounters::missed`]), what the
//! far side's queue does not take now is offered again. Not carried are 802.1Q tags: the kernel takes them off before a
//! packet socket sees the frame.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, Namespace};
use crate::impair::{Counters, Direction, Impairer, Injection, Plan};
use crate::sys;

/// What each socket holds while the thread is busy or not scheduled, and what it may have under way.
///
/// 256 MiB: some 100,000 full frames, as the kernel accounts for them; a tenth of a second at 1 million a second.
const SOCKET_BYTES: usize = 256 << 20;
/// Frames taken from one side before the other's turn comes: 64, as in NAPI. Twice as many may leave, or what is doubled and
/// forged would pile up.
const BATCH: usize = 64;
/// The largest frame: no device of a topology has a larger MTU.
const FRAME_BYTES_MAX: usize = 65_535 + 14;
/// How long to wait where the far side's queue is full: it empties at the pace of its reader.
const FULL: Duration = Duration::from_micros(50);

/// A running wire. Its plan can be changed while frames pass.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Shared>,
    carrier: Option<JoinHandle<()>>,
    /// Holds the ports.
    _ns: Namespace,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    stop: AtomicBool,
    /// Written to where the thread must look up from its sleep.
    bell: OwnedFd,
    /// Where frames come in, in the order of [`Direction`]: the exchange's port, from which they go to the client, then the
    /// client's.
    ports: [OwnedFd; 2],
    state: Mutex<State>,
    /// How many would like to have the state, and wait for the thread to let go of it.
    wanted: AtomicUsize,
}

#[derive(Debug)]
struct State {
    impairer: Impairer,
    counters: [PortCounters; 2],
    failure: Option<io::Error>,
}

/// What a port of the wire did. It belongs to the direction in which frames come in there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames taken from the socket.
    pub received: u64,
    /// Frames that arrived and found no room in the socket: lost by the wire itself, which must not be.
    pub missed: u64,
    /// Times at which the far side's queue was full, and a frame had to be offered again.
    pub full: u64,
    /// Frames that the far side refused for good, such as those that are too large for it: lost, too.
    pub refused: u64,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.wanted.fetch_sub(1, Ordering::Relaxed);
        state
    }

    /// For the thread that carries: a busy one would take the lock again before anybody else is awake.
    fn lock_politely(&self) -> MutexGuard<'_, State> {
        while self.wanted.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn ring(&self) {
        // Can only fail where the bell has been rung 2^64 times unheard.
        let _ = rustix::io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

impl Wire {
    /// Starts to carry frames between the two interfaces: the client's side first.
    pub(super) fn start(ns: &Namespace, [client, exchange]: [u32; 2], plan: Plan) -> Result<Self, Error> {
        let refused = |source| Error::from_kernel("opening a packet socket", "CONFIG_PACKET", source);
        // Where frames come from, in the order of directions.
        let ports = ns.enter(|| Ok([open(exchange)?, open(client)?]))?.map_err(refused)?;
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
        let state = State { impairer: Impairer::new(plan), counters: Default::default(), failure: None };
        let shared = Arc::new(Shared {
            began: Instant::now(),
            stop: AtomicBool::new(false),
            bell,
            ports,
            state: Mutex::new(state),
            wanted: AtomicUsize::new(0),
        });
        let carrier = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("wire".into()).spawn(move || {
                if let Err(error) = carry(&shared) {
                    log::error!("the wire is broken: {error}");
                    shared.lock().failure = Some(error);
                }
            })
        };
        let carrier = carrier.map_err(|source| Error::System { action: "starting a thread".into(), source })?;
        Ok(Self { shared, carrier: Some(carrier), _ns: ns.clone() })
    }

    /// Does something else from now on: [`Impairer::set_plan`].
    pub fn set_plan(&self, plan: Plan) {
        self.shared.lock().impairer.set_plan(plan);
        self.shared.ring();
    }

    /// Cuts the wire in one direction, from now on and for so long.
    pub fn blackhole(&self, direction: Direction, lasting: Duration) {
        let until = self.shared.now() + lasting;
        self.shared.lock().impairer.blackhole(direction, until);
    }

    /// Sends forgeries, from now on: [`Impairer::inject`].
    ///
    /// # Panics
    ///
    /// As that does.
    pub fn inject(&self, injection: Injection) {
        let mut state = self.shared.lock();
        state.impairer.inject(self.shared.now(), injection);
        drop(state);
        self.shared.ring();
    }

    /// Forgeries that are yet to be sent.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.shared.lock().impairer.pending()
    }

    /// What was done to frames of one direction.
    #[must_use]
    pub fn counters(&self, direction: Direction) -> Counters {
        self.shared.lock().impairer.counters(direction)
    }

    /// What the port did at which frames of this direction come in.
    #[must_use]
    pub fn port(&self, direction: Direction) -> PortCounters {
        let side = direction as usize;
        let counters = &mut self.shared.lock().counters[side];
        // The kernel starts from 0 again each time it is asked.
        if let Ok((_, missed)) = sys::packet_statistics(self.shared.ports[side].as_fd()) {
            counters.missed += u64::from(missed);
        }
        *counters
    }

    /// What the wire itself has lost, in both directions: 0, or what was measured on it means nothing.
    ///
    /// # Panics
    ///
    /// Where the thread that carries frames has failed.
    #[must_use]
    pub fn own_losses(&self) -> u64 {
        let failure = self.shared.lock().failure.as_ref().map(ToString::to_string);
        assert_eq!(failure, None, "the wire is broken");
        Direction::BOTH.map(|direction| self.port(direction)).iter().map(|port| port.missed + port.refused).sum()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.ring();
        if let Some(carrier) = self.carrier.take() {
            // Its panic has been printed; a panic in a drop would hide what is going on.
            let _ = carrier.join();
        }
    }
}

fn open(index: u32) -> io::Result<OwnedFd> {
    // Protocol 0: nothing is received before the socket is bound to the interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES)?;
    rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, SOCKET_BYTES)?;
    socket.set_nonblocking(true)?;
    sys::become_cable(socket.as_fd(), index)?;
    sys::bind_packet(socket.as_fd(), index)?;
    Ok(OwnedFd::from(socket))
}

/// Carries frames until it is told to stop.
fn carry(shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![MaybeUninit::uninit(); FRAME_BYTES_MAX];
    // What the far side did not take.
    let mut left_over: [Option<Vec<u8>>; 2] = [None, None];
    while !shared.stop.load(Ordering::Relaxed) {
        let (mut busy, mut full) = (false, false);
        let mut state = shared.lock_politely();
        let State { impairer, counters, .. } = &mut *state;
        for direction in Direction::BOTH {
            let side = direction as usize;
            let port = &shared.ports[side];
            let taken = take(port, &mut buffer, |frame| impairer.push(shared.now(), direction, frame))?;
            counters[side].received += taken;
            busy |= taken > 0;
            let far = shared.ports[direction.reverse() as usize].as_fd();
            for _ in 0..2 * BATCH {
                let frame = left_over[side].take().or_else(|| impairer.pop(shared.now(), direction));
                let Some(frame) = frame else { break };
                match give(far, &frame) {
                    Ok(Given::Yes) => busy = true,
                    Ok(Given::Later) => {
                        counters[side].full += 1;
                        left_over[side] = Some(frame);
                        full = true;
                        break;
                    }
                    Err(error) => {
                        log::warn!("a frame of {} bytes was refused: {error}", frame.len());
                        counters[side].refused += 1;
                    }
                }
            }
        }
        let next = impairer.next_due();
        drop(state);
        if !busy {
            let patience = next.map(|due| due.saturating_sub(shared.now()));
            wait(shared, if full { Some(FULL) } else { patience })?;
        }
    }
    Ok(())
}

/// Sleeps until a frame arrives, the bell rings, or `patience` is over.
fn wait(shared: &Shared, patience: Option<Duration>) -> io::Result<()> {
    let all = [shared.ports[0].as_fd(), shared.ports[1].as_fd(), shared.bell.as_fd()];
    let mut all = all.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    let timeout = patience.map(|patience| Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    });
    match poll(&mut all, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let _ = rustix::io::read(&shared.bell, &mut [0; 8]);
    Ok(())
}

/// Takes what has arrived, up to [`BATCH`] frames. Answers how many there were.
fn take(port: &OwnedFd, buffer: &mut [MaybeUninit<u8>], mut frame: impl FnMut(&[u8])) -> io::Result<u64> {
    for taken in 0..BATCH {
        match rustix::net::recv(port, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok(((bytes, _), _)) => frame(bytes),
            Err(Errno::AGAIN) => return Ok(taken as u64),
            // The link went down: the topology is being taken apart.
            Err(Errno::INTR | Errno::NETDOWN) => return Ok(taken as u64),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(BATCH as u64)
}

enum Given {
    Yes,
    Later,
}

fn give(port: BorrowedFd<'_>, frame: &[u8]) -> io::Result<Given> {
    match rustix::net::send(port, frame, SendFlags::DONTWAIT) {
        Ok(_) => Ok(Given::Yes),
        // Its own buffer is full, or the device's queue.
        Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(Given::Later),
        Err(error) => Err(error.into()),
    }
}
