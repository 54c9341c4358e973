//! One connection from its URL to its end: a kernel socket, a path, and what reads the one into the other.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use wiretick::control::{Target, dial, resolve};
use wiretick::event;
use wiretick::floor::{Clock, Limits, Monotonic, Time};
use wiretick::message::CloseCode;
use wiretick::path::{self, Outlet, Path, PathConfig, PathReport, Source};
use wiretick::record::{Client, ServerName, Trust};

use crate::options::{Options, Wait};
use crate::receive::{Blocking, Epoll, Receive, Received, Spin, Uring};
use crate::tally::Tally;

/// How long each may take: connecting; the handshakes; the peer's part of the goodbye.
const CONNECT: Duration = Duration::from_secs(10);
const OPEN: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(2);

/// Looks that find nothing between two looks at the clock. A look of a spinning receiver takes 0.3 us or more: deadlines of
/// seconds are met within a millisecond, and the clock costs a spinning receiver next to nothing.
const LOOKS: u32 = 1024;

/// A connected socket and its path.
pub(crate) struct Connection {
    stream: TcpStream,
    path: Path,
}

impl Connection {
    /// Dials. The handshakes are the business of [`Connection::run`].
    pub(crate) fn open(options: &Options) -> Result<Self, Box<dyn Error>> {
        if let (Some(stamp), Some(echo)) = (&options.stamp_field, &options.echo_field)
            && stamp != echo
        {
            return Err("--echo-field and --stamp-field must be the same".into());
        }
        let target = Target::parse(&options.url)?;
        let client = target.tls.then(|| trust(options).and_then(|trust| Ok(Client::new(trust, false)?))).transpose()?;
        let name = ServerName::try_from(target.host.clone())?;
        let path = Path::new(PathConfig {
            tls: client.as_ref().map(|client| (client, name)),
            authority: &target.authority,
            path_and_query: &target.path_and_query,
            headers: &[],
            subscriptions: &[],
            messages_per_second: None,
            limits: Limits::default(),
            events: event::Options { stamp_field: options.echo_field.clone().or_else(|| options.stamp_field.clone()) },
        })?;
        let peers = resolve::addresses(&target)?;
        // Non-blocking, and without Nagle's delay.
        let stream = dial::connect(
            &peers,
            &dial::DialOptions { timeout: CONNECT, receive_buffer: None, source: None, interface: None },
        )?;
        Ok(Self { stream, path })
    }

    /// Receives until the tally has enough or the server closes, and closes in order.
    pub(crate) fn run(&mut self, wait: Wait, tally: &mut Tally) -> Result<(), Box<dyn Error>> {
        let stream = self.stream.try_clone()?;
        match wait {
            Wait::Blocking => self.drive(&mut Blocking::new(stream)?, tally),
            Wait::Epoll => self.drive(&mut Epoll::new(stream)?, tally),
            Wait::IoUring => self.drive(&mut Uring::new(stream, true)?, tally),
            Wait::IoUringSpin => self.drive(&mut Uring::new(stream, false)?, tally),
            Wait::Spin => self.drive(&mut Spin::new(stream), tally),
            Wait::BusyPoll => self.drive(&mut Spin::busy_polling(stream)?, tally),
        }
    }

    /// What happened so far.
    pub(crate) fn counters(&self) -> PathReport {
        self.path.counters()
    }

    fn drive<R: Receive>(&mut self, receiver: &mut R, tally: &mut Tally) -> Result<(), Box<dyn Error>> {
        let Self { stream, path } = self;
        let mut outlet = Socket(stream);
        let mut deadline = Deadline { until: Monotonic.now() + OPEN, looks: 0 };
        let mut closing = false;
        loop {
            path.flush(&mut outlet);
            let received = receiver
                .receive(&mut |span| path.arrive(span, Source::Kernel, Monotonic.now(), tally, &mut outlet))
                .inspect_err(|error| {
                    path.farewell(error);
                    path.flush(&mut outlet);
                })?;
            if path.is_closed() {
                path.shut();
                path.flush(&mut outlet);
                // The peer may have been faster; then there is nothing left to shut.
                let _ = stream.shutdown(Shutdown::Write);
                return Ok(());
            }
            if path.was_open() && !closing {
                deadline.until = Time::NEVER;
            }
            if tally.is_done() && !closing {
                closing = true;
                deadline.until = Monotonic.now() + GOODBYE;
                path.close(CloseCode::NORMAL, "")?;
            }
            match received {
                Received::Bytes => {}
                Received::Nothing if deadline.is_over(R::SLEEPS) => return Err("the server is silent".into()),
                Received::Nothing => {}
                Received::End => return Ok(path.on_eof()?),
            }
        }
    }
}

fn trust(options: &Options) -> Result<Trust, Box<dyn Error>> {
    let Some(file) = &options.ca_file else { return Err("wss:// needs --ca-file".into()) };
    let pem = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Trust::from_pem(&pem)?)
}

struct Deadline {
    until: Time,
    looks: u32,
}

impl Deadline {
    /// Whether it has passed. Who spins is answered from the clock now and then only.
    fn is_over(&mut self, every_look: bool) -> bool {
        self.looks += 1;
        if self.looks < LOOKS && !every_look {
            return false;
        }
        self.looks = 0;
        Monotonic.now() > self.until
    }
}

/// A kernel socket as an outlet. What it does not take now is offered again; its errors show when it is read.
struct Socket<'a>(&'a TcpStream);

impl Outlet for Socket<'_> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut put = 0;
        while put < bytes.len() {
            match self.0.write(&bytes[put..]) {
                Ok(n) if n > 0 => put += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        put
    }
}

/// A failure of the socket, as the path names it.
pub(crate) fn lost(error: io::Error) -> path::Error {
    path::Error::Lost(match error.kind() {
        io::ErrorKind::ConnectionReset => path::Lost::Reset,
        _ => path::Lost::Socket(error),
    })
}
