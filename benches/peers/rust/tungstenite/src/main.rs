//! tungstenite on a nonblocking socket that is read without pause, whatever `--busy-poll` says: the lowest latency it can
//! have.

use std::io;
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use peer::{Options, Tally};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Connector, Error, Message, WebSocket};
use url::Url;

/// tungstenite fills this buffer with zeros before each read, also before one that finds nothing, and a spinning client
/// does little else. The default is 128 KiB; in 4 KiB, all but one message in a hundred of a captured feed fit.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// How long the server may take over its part of the close.
const GOODBYE: Duration = Duration::from_secs(3);

fn main() -> ExitCode {
    peer::run("tungstenite", &["tungstenite", "rustls@0.23"], run)
}

fn run(options: &Options, tally: &mut Tally) -> anyhow::Result<()> {
    let mut websocket = connect(options)?;
    let mut until: Option<Instant> = None;
    loop {
        match websocket.read() {
            Ok(Message::Text(text)) if until.is_none() => {
                if let Some(echo) = tally.take(text.as_bytes())? {
                    // Writes and flushes at once.
                    websocket.send(Message::text(echo)).context("cannot send an echo")?;
                }
                if tally.is_done() {
                    websocket.close(None).context("cannot close")?;
                    until = Some(Instant::now() + GOODBYE);
                }
            }
            // tungstenite answers pings and the server's close by itself, with the next read.
            Ok(_) => {}
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if until.is_some_and(|until| Instant::now() > until) {
                    bail!("the server did not close");
                }
                std::hint::spin_loop();
            }
            Err(Error::ConnectionClosed) => return Ok(()),
            Err(_) if until.is_some() => return Ok(()),
            Err(error) => return Err(error).context("cannot read"),
        }
    }
}

fn connect(options: &Options) -> anyhow::Result<WebSocket<MaybeTlsStream<TcpStream>>> {
    let url = Url::parse(&options.url).context("--url")?;
    let address = url.socket_addrs(|| None).with_context(|| format!("cannot resolve {url}"))?;
    let stream = TcpStream::connect(&*address).with_context(|| format!("cannot connect to {url}"))?;
    stream.set_nodelay(true)?;
    let connector = match url.scheme() {
        "wss" => Connector::Rustls(peer::tls(options)?),
        _ => Connector::Plain,
    };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    // The handshakes block; only the stream spins.
    let (mut websocket, _) = tungstenite::client_tls_with_config(url.as_str(), stream, Some(config), Some(connector))
        .map_err(|error| anyhow::anyhow!("handshake with {url}: {error}"))?;
    match websocket.get_mut() {
        MaybeTlsStream::Plain(stream) => stream.set_nonblocking(true)?,
        MaybeTlsStream::Rustls(stream) => stream.sock.set_nonblocking(true)?,
        _ => bail!("tungstenite chose another TLS"),
    }
    Ok(websocket)
}
