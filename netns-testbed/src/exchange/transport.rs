//! A client's connection below WebSocket: a non-blocking TCP socket, with or without TLS on it.
//!
//! What comes in is plaintext, sealed into records at once and kept until the socket takes it; what comes back is
//! plaintext the client sent. For the faults there is a way around each layer: the sealed bytes can be taken away and
//! changed, and any bytes can be written as they are.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustls::{AlertDescription, ServerConfig, ServerConnection};

/// How long a wait may last before somebody looks whether the exchange was stopped.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// There is nothing at the moment.
    Nothing,
    /// Some plaintext.
    Bytes,
    /// The client will send no more.
    End {
        /// Whether it said so in TLS first. True without TLS.
        announced: bool,
    },
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// The client sent a fatal TLS alert.
    Alert(AlertDescription),
    /// The client's TLS is wrong.
    Tls(rustls::Error),
    /// The socket failed: reset, mostly.
    Io(io::Error),
    /// The exchange was stopped.
    Stopped,
    /// It took too long.
    TimedOut,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustls::Error> for Broken {
    fn from(error: rustls::Error) -> Self {
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert(alert),
            other => Self::Tls(other),
        }
    }
}

/// One connection.
pub(super) struct Transport {
    socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    /// Without TLS: what the socket has not taken yet, from `written` on.
    outgoing: Vec<u8>,
    written: usize,
    /// For reads without TLS.
    scratch: Box<[u8]>,
    /// Bytes the socket has taken, TLS and all.
    pub(super) wire_bytes: u64,
}

impl Transport {
    /// Takes over a connected socket.
    pub(super) fn new(socket: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        // A message waits for nothing: least of all for the acknowledgement of the one before.
        socket.set_nodelay(true)?;
        let tls = tls.map(ServerConnection::new).transpose().map_err(io::Error::other)?;
        let tls = tls.map(|mut tls| {
            // The bound is ours: nothing is sealed before the socket has taken what was.
            tls.set_buffer_limit(None);
            Box::new(tls)
        });
        let scratch = vec![0; 16 << 10].into_boxed_slice();
        Ok(Self { socket, tls, outgoing: Vec::new(), written: 0, scratch, wire_bytes: 0 })
    }

    /// Does the server's part of the TLS handshake, where there is TLS. What the client sent right behind its own part is
    /// added to `plain`.
    pub(super) fn handshake(
        &mut self,
        plain: &mut Vec<u8>,
        patience: Duration,
        stop: &AtomicBool,
    ) -> Result<(), Broken> {
        let deadline = Instant::now() + patience;
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            self.flush()?;
            match self.fetch(plain)? {
                Fetched::End { .. } => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Fetched::Bytes => {}
                Fetched::Nothing => {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Broken::Stopped);
                    }
                    if Instant::now() > deadline {
                        return Err(Broken::TimedOut);
                    }
                    self.wait(PollFlags::IN, TICK)?;
                }
            }
        }
        self.flush()?;
        Ok(())
    }

    /// Seals `plain` into a record, or several where it is longer than 16 KiB, and queues it.
    pub(super) fn put(&mut self, plain: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.writer().write_all(plain),
            None => {
                self.outgoing.extend_from_slice(plain);
                Ok(())
            }
        }
    }

    /// Offers the socket what is queued. Answers whether it has taken everything.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        loop {
            let written = match &mut self.tls {
                Some(tls) if !tls.wants_write() => return Ok(true),
                Some(tls) => tls.write_tls(&mut &self.socket),
                None if self.written == self.outgoing.len() => {
                    self.outgoing.clear();
                    self.written = 0;
                    return Ok(true);
                }
                None => (&self.socket).write(&self.outgoing[self.written..]).inspect(|taken| self.written += taken),
            };
            match written {
                Ok(taken) => self.wire_bytes += taken as u64,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once from the socket and adds what the client sent to `plain`.
    pub(super) fn fetch(&mut self, plain: &mut Vec<u8>) -> Result<Fetched, Broken> {
        let Some(tls) = &mut self.tls else {
            return match (&self.socket).read(&mut self.scratch) {
                Ok(0) => Ok(Fetched::End { announced: true }),
                Ok(length) => {
                    plain.extend_from_slice(&self.scratch[..length]);
                    Ok(Fetched::Bytes)
                }
                Err(error) if is_not_now(&error) => Ok(Fetched::Nothing),
                Err(error) => Err(error.into()),
            };
        };
        let end = match tls.read_tls(&mut &self.socket) {
            Ok(0) => true,
            Ok(_) => false,
            Err(error) if is_not_now(&error) => return Ok(Fetched::Nothing),
            Err(error) => return Err(error.into()),
        };
        let state = match tls.process_new_packets() {
            Ok(state) => state,
            Err(error) => {
                // The alert that tells the client what is wrong. If the socket does not take it, it is not told.
                let _ = tls.write_tls(&mut &self.socket);
                return Err(error.into());
            }
        };
        let before = plain.len();
        plain.resize(before + state.plaintext_bytes_to_read(), 0);
        if plain.len() > before {
            tls.reader().read_exact(&mut plain[before..])?;
        }
        if end || state.peer_has_closed() {
            return Ok(Fetched::End { announced: state.peer_has_closed() });
        }
        Ok(Fetched::Bytes)
    }

    /// Waits until the socket is ready for one of `what`, or `longest` is over.
    pub(super) fn wait(&self, what: PollFlags, longest: Duration) -> io::Result<()> {
        let longest = Timespec::try_from(longest).map_err(io::Error::other)?;
        match rustix::event::poll(&mut [PollFd::new(&self.socket, what)], Some(&longest)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes away what is queued, as it would stand on the wire.
    pub(super) fn take_queued(&mut self) -> io::Result<Vec<u8>> {
        let Some(tls) = &mut self.tls else {
            let queued = self.outgoing.split_off(self.written);
            self.outgoing.clear();
            self.written = 0;
            return Ok(queued);
        };
        let mut queued = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut queued)?;
        }
        Ok(queued)
    }

    /// Writes bytes as they are, past TLS, in one system call if the socket takes them.
    pub(super) fn write_raw(&mut self, mut bytes: &[u8], stop: &AtomicBool) -> Result<(), Broken> {
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(taken) => {
                    self.wire_bytes += taken as u64;
                    bytes = &bytes[taken..];
                }
                Err(error) if is_not_now(&error) => {
                    if stop.load(Ordering::Relaxed) {
                        return Err(Broken::Stopped);
                    }
                    self.wait(PollFlags::OUT, TICK)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Queues a KeyUpdate that asks the client for its own: everything after it is sealed with new keys.
    pub(super) fn refresh_keys(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.refresh_traffic_keys().map_err(io::Error::other))
    }

    /// Queues TLS's word for the end of the stream.
    pub(super) fn close_notify(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
        }
    }

    /// Sends a FIN after what the socket has taken.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Has the connection end with an RST when this value is dropped.
    pub(super) fn reset_on_drop(&self) -> io::Result<()> {
        // A close that does not linger at all: unsent bytes are thrown away and the peer is told at once.
        socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
