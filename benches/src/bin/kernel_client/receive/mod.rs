//! The ways to get bytes out of a kernel socket. Each lends what it has received to the path, where it lies.

#[allow(unsafe_code)]
mod uring;

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use socket2::SockRef;
use wiretick::floor::Span;
use wiretick::path;

use crate::connection::lost;

pub(crate) use uring::Uring;

/// Bytes read from a socket in one go: as many as wiretick reads on its own kernel path.
const STAGING: usize = 64 << 10;

/// The longest sleep between two looks at a deadline.
const NAP: Duration = Duration::from_millis(100);

/// How long the kernel may stay in the driver's queue for one `recv`, in microseconds. On a socket that does not block it
/// looks there once, whatever the figure; it has to be more than zero.
const BUSY_POLL_US: u32 = 50;

/// What a call of [`Receive::receive`] has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes,
    Nothing,
    End,
}

/// A way to receive.
pub(crate) trait Receive {
    /// Whether a call that brings nothing has slept.
    const SLEEPS: bool;

    /// Lends what has come to `take`.
    fn receive(&mut self, take: &mut impl FnMut(Span<'_>) -> Result<(), path::Error>) -> Result<Received, path::Error>;
}

/// `recv` that sleeps in the kernel.
pub(crate) struct Blocking {
    socket: Staged,
}

impl Blocking {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(NAP))?;
        Ok(Self { socket: Staged::new(stream) })
    }
}

impl Receive for Blocking {
    const SLEEPS: bool = true;

    fn receive(&mut self, take: &mut impl FnMut(Span<'_>) -> Result<(), path::Error>) -> Result<Received, path::Error> {
        self.socket.read(take)
    }
}

/// `epoll_wait`, then `recv`.
pub(crate) struct Epoll {
    socket: Staged,
    epoll: OwnedFd,
    /// The last read filled the buffer: there is more, and nothing to wait for.
    more: bool,
}

impl Epoll {
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stream, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { socket: Staged::new(stream), epoll, more: false })
    }
}

impl Receive for Epoll {
    const SLEEPS: bool = true;

    fn receive(&mut self, take: &mut impl FnMut(Span<'_>) -> Result<(), path::Error>) -> Result<Received, path::Error> {
        if !self.more {
            let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
            let nap = Timespec { tv_sec: 0, tv_nsec: i64::from(NAP.subsec_nanos()) };
            match epoll::wait(&self.epoll, &mut events, Some(&nap)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Received::Nothing),
                Ok(_) => {}
                Err(error) => return Err(lost(error.into())),
            }
        }
        let received = self.socket.read(take)?;
        self.more = self.socket.was_full;
        Ok(received)
    }
}

/// `recv` that never sleeps.
pub(crate) struct Spin {
    socket: Staged,
}

impl Spin {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { socket: Staged::new(stream) }
    }

    /// With `SO_BUSY_POLL`.
    pub(crate) fn busy_polling(stream: TcpStream) -> io::Result<Self> {
        SockRef::from(&stream).set_busy_poll(BUSY_POLL_US)?;
        Ok(Self::new(stream))
    }
}

impl Receive for Spin {
    const SLEEPS: bool = false;

    fn receive(&mut self, take: &mut impl FnMut(Span<'_>) -> Result<(), path::Error>) -> Result<Received, path::Error> {
        self.socket.read(take)
    }
}

/// A socket and the one buffer that it is read into.
struct Staged {
    stream: TcpStream,
    staging: Box<[u8]>,
    was_full: bool,
}

impl Staged {
    fn new(stream: TcpStream) -> Self {
        Self { stream, staging: vec![0; STAGING + Span::PAD].into_boxed_slice(), was_full: false }
    }

    #[inline]
    fn read(&mut self, take: &mut impl FnMut(Span<'_>) -> Result<(), path::Error>) -> Result<Received, path::Error> {
        match self.stream.read(&mut self.staging[..STAGING]) {
            Ok(0) => Ok(Received::End),
            Ok(n) => {
                self.was_full = n == STAGING;
                take(Span::new(&mut self.staging, n))?;
                Ok(Received::Bytes)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    self.was_full = false;
                    Ok(Received::Nothing)
                }
                _ => Err(lost(error)),
            },
        }
    }
}
