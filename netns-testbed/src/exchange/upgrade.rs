//! From HTTP to WebSocket: the upgrade request is read and answered.
//!
//! What comes in is plaintext from the [`Transport`]; what goes out is tungstenite's WebSocket over a [`Pipe`], and the
//! path the client asked for. tungstenite reads from the pipe what the client sent and leaves in it what it has to say;
//! it never sees the socket.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use tungstenite::WebSocket;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;

use super::faults::Fault;
use super::report::Ending;
use super::transport::{Fetched, TICK, Transport};

/// Between tungstenite and the transport: two runs of bytes.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// From the client, not yet read by tungstenite.
    pub(super) incoming: Vec<u8>,
    /// For the client, not yet given to the transport.
    pub(super) outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = buffer.len().min(self.incoming.len());
        buffer[..length].copy_from_slice(&self.incoming[..length]);
        self.incoming.drain(..length);
        Ok(length)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client that has been upgraded. The 101 answer is still in the pipe.
pub(super) struct Upgraded {
    pub(super) websocket: WebSocket<Pipe>,
    /// With its query, if there is one.
    pub(super) path: String,
}

/// The answer to a request that is no upgrade.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The accept value of the RFC's example key (RFC 6455 section 1.3): right for that key only.
const ANOTHER_ACCEPT: HeaderValue = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// Reads the upgrade request, whose beginning may have come with the TLS handshake, and answers it, unless `fault` wants
/// something else answered.
pub(super) fn upgrade(
    transport: &mut Transport,
    incoming: Vec<u8>,
    fault: Option<Fault>,
    patience: Duration,
    stop: &AtomicBool,
) -> Result<Upgraded, Ending> {
    let mut waiter = Waiter { transport, deadline: Instant::now() + patience, stop };
    if let Some(answer) = fault.and_then(Fault::http_answer) {
        let mut request = incoming;
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            waiter.fetch(&mut request)?;
        }
        return Err(waiter.refuse(answer, Ending::Fault));
    }
    let mut path = String::new();
    #[expect(
        clippy::result_large_err,
        reason = "tungstenite's type: the answer in place of a 101, which is never given here"
    )]
    let callback = |request: &Request, mut response: Response| {
        path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        if fault == Some(Fault::WrongAccept) {
            response.headers_mut().insert("Sec-WebSocket-Accept", ANOTHER_ACCEPT);
        }
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4 << 10).write_buffer_size(0);
    let pipe = Pipe { incoming, outgoing: Vec::new() };
    let mut attempt = tungstenite::accept_hdr_with_config(pipe, callback, Some(config));
    let websocket = loop {
        attempt = match attempt {
            Ok(websocket) => break websocket,
            Err(HandshakeError::Interrupted(mut unfinished)) => {
                waiter.fetch(&mut unfinished.get_mut().get_mut().incoming)?;
                unfinished.handshake()
            }
            Err(HandshakeError::Failure(error)) => {
                return Err(waiter.refuse(BAD_REQUEST, Ending::Misbehaved(error.to_string())));
            }
        };
    };
    Ok(Upgraded { websocket, path })
}

struct Waiter<'a> {
    transport: &'a mut Transport,
    deadline: Instant,
    stop: &'a AtomicBool,
}

impl Waiter<'_> {
    /// Waits until the client has sent something.
    fn fetch(&mut self, incoming: &mut Vec<u8>) -> Result<(), Ending> {
        loop {
            match self.transport.fetch(incoming)? {
                Fetched::Bytes => return Ok(()),
                Fetched::End { announced } => return Err(Ending::EndOfStream { announced }),
                Fetched::Nothing if self.stop.load(Ordering::Relaxed) => return Err(Ending::Stopped),
                Fetched::Nothing if Instant::now() > self.deadline => {
                    return Err(Ending::TimedOut("its upgrade request"));
                }
                Fetched::Nothing => {
                    self.transport.wait(PollFlags::IN, TICK)?;
                }
            }
        }
    }

    /// Answers something else than 101, and waits until the client has left.
    fn refuse(&mut self, answer: &[u8], ending: Ending) -> Ending {
        let told = self.transport.put(answer).and_then(|()| self.transport.flush());
        if told.is_ok() {
            // An HTTP answer is complete without it, but a server that is done says so.
            self.transport.close_notify();
            let _ = self.transport.flush();
            let _ = self.transport.finish();
            while self.fetch(&mut Vec::new()).is_ok() {}
        }
        ending
    }
}
