//! boomnet with rustls, polled without pause: as in its own examples, but that no sleep stands between two polls.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use boomnet::stream::buffer::IntoBufferedStream as _;
use boomnet::stream::tls::TlsStream;
use boomnet::stream::{BindAndConnect as _, ConnectionInfo, ConnectionInfoProvider, ReadHint, tcp};
use boomnet::ws::{Error, IntoWebsocket as _, Websocket, WebsocketFrame};
use peer::{Options, Tally};
use rustls_of_boomnet::{ClientConfig, RootCertStore};
use url::Url;

fn main() -> ExitCode {
    peer::run("boomnet", &["boomnet", "rustls@0.22"], run)
}

fn run(options: &Options, tally: &mut Tally) -> anyhow::Result<()> {
    let url = Url::parse(&options.url).context("--url")?;
    let endpoint = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let info = ConnectionInfo::try_from(url.clone())?;
    let host = info.host().trim_matches(['[', ']']).to_owned();
    // boomnet sets TCP_NODELAY, and the socket is nonblocking from the start.
    let socket = TcpStream::bind_and_connect(&info, None, None).with_context(|| format!("cannot connect to {url}"))?;
    let drain = socket.try_clone()?;
    let stream = tcp::TcpStream::new(socket, info);
    // Buffered, as boomnet advises: it writes the head, the mask and the payload of a frame one by one, and without a
    // buffer each would be a packet.
    if url.scheme() == "wss" {
        let mut roots = RootCertStore::empty();
        for certificate in peer::certificates(options)? {
            roots.add(certificate)?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TlsStream::new_with_config(stream, &host, |tls| *tls.as_rustls_mut() = config)?;
        receive(Prompt { tls: stream }.into_default_buffered_stream().into_websocket(endpoint), tally, &drain)
    } else {
        receive(stream.into_default_buffered_stream().into_websocket(endpoint), tally, &drain)
    }
}

fn receive<S: Read + Write + ReadHint>(
    mut websocket: Websocket<S>,
    tally: &mut Tally,
    drain: &TcpStream,
) -> anyhow::Result<()> {
    while !tally.is_done() {
        // One read of the socket, then every frame that came with it. Pings are answered inside.
        let mut batch = websocket.read_batch().context("cannot read")?;
        let mut echo = None;
        while let Some(frame) = batch.receive_next() {
            match frame {
                Ok(WebsocketFrame::Text(true, payload)) => echo = tally.take(payload)?,
                Ok(WebsocketFrame::Text(false, _) | WebsocketFrame::Continuation(..)) => {
                    bail!("a message came in fragments, which boomnet leaves to its user")
                }
                Ok(_) => {}
                Err(Error::ReceivedCloseFrame(..)) => return Ok(()),
                Err(error) => return Err(error).context("cannot read"),
            }
            // The batch borrows the WebSocket: what is answered ends it. What it still holds comes with the next one.
            if echo.is_some() || tally.is_done() {
                break;
            }
        }
        if let Some(echo) = echo {
            websocket.send_text(true, Some(echo.as_bytes())).context("cannot send an echo")?;
        }
    }
    websocket.send_close().context("cannot close")?;
    // After its own close, boomnet reads no more. The server's part is waited for all the same: a socket closed with
    // unread bytes in it resets the connection, and the close frame might be lost with it.
    drain.set_nonblocking(false)?;
    drain.set_read_timeout(Some(Duration::from_secs(3)))?;
    io::copy(&mut &*drain, &mut io::sink()).context("the server did not close")?;
    Ok(())
}

/// boomnet's TLS sends what was written only with the next read, and never sends its own close: after a close frame it
/// does not read. Here it is sent when it is flushed. This is in boomnet's favour where messages are answered, and changes
/// nothing where they are only read.
struct Prompt {
    tls: TlsStream<tcp::TcpStream>,
}

impl Read for Prompt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tls.read(buffer)
    }
}

impl Write for Prompt {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tls.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tls.flush()?;
        // A read of no bytes sends what is queued.
        match self.tls.read(&mut []) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

impl ReadHint for Prompt {
    fn read_hint(&self) -> bool {
        self.tls.read_hint()
    }
}

impl ConnectionInfoProvider for Prompt {
    fn connection_info(&self) -> &ConnectionInfo {
        self.tls.connection_info()
    }
}
