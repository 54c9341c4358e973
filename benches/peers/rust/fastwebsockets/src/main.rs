//! fastwebsockets, upgraded by hyper, over tokio-rustls, on a runtime of one thread: as in its own examples.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use fastwebsockets::{FragmentCollector, Frame, OpCode, Payload, WebSocket, WebSocketError, handshake};
use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use peer::{Options, Tally};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

fn main() -> ExitCode {
    peer::run(
        "fastwebsockets",
        &["fastwebsockets", "hyper", "tokio", "tokio-rustls", "rustls@0.23"],
        |options, tally| peer::block_on(options, client(options, tally)),
    )
}

async fn client(options: &Options, tally: &mut Tally) -> anyhow::Result<()> {
    let url = Url::parse(&options.url).context("--url")?;
    let address = url.socket_addrs(|| None).with_context(|| format!("cannot resolve {url}"))?;
    let stream = TcpStream::connect(&*address).await.with_context(|| format!("cannot connect to {url}"))?;
    stream.set_nodelay(true)?;
    if url.scheme() == "wss" {
        let host = url.host_str().context("--url has no host")?.trim_matches(['[', ']']).to_owned();
        let connector = TlsConnector::from(peer::tls(options)?);
        let stream = connector
            .connect(ServerName::try_from(host)?, stream)
            .await
            .with_context(|| format!("TLS handshake with {url}"))?;
        receive(upgrade(&url, stream).await?, tally).await
    } else {
        receive(upgrade(&url, stream).await?, tally).await
    }
}

async fn upgrade<S>(url: &Url, stream: S) -> anyhow::Result<WebSocket<impl AsyncRead + AsyncWrite + Unpin + use<S>>>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let request = Request::get(url.as_str())
        .header(HOST, url.authority())
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "upgrade")
        .header("Sec-WebSocket-Key", handshake::generate_key())
        .header("Sec-WebSocket-Version", "13")
        .body(Empty::<Bytes>::new())?;
    let (websocket, _) =
        handshake::client(&Spawn, request, stream).await.with_context(|| format!("upgrade at {url}"))?;
    Ok(websocket)
}

async fn receive(websocket: WebSocket<impl AsyncRead + AsyncWrite + Unpin>, tally: &mut Tally) -> anyhow::Result<()> {
    let mut websocket = FragmentCollector::new(websocket);
    loop {
        // Pings and the server's close are answered inside.
        let frame = websocket.read_frame().await.context("cannot read")?;
        match frame.opcode {
            OpCode::Text => {
                if let Some(echo) = tally.take(&frame.payload)? {
                    let echo = Frame::text(Payload::Borrowed(echo.as_bytes()));
                    websocket.write_frame(echo).await.context("cannot send an echo")?;
                }
            }
            OpCode::Close => return Ok(()),
            _ => {}
        }
        if tally.is_done() {
            break;
        }
    }
    websocket.write_frame(Frame::close(1000, b"")).await.context("cannot close")?;
    // Messages on their way are errors to fastwebsockets once it has closed. They are read all the same: a socket closed with
    // unread bytes in it resets the connection.
    let rest = async {
        loop {
            match websocket.read_frame().await {
                Ok(frame) if frame.opcode == OpCode::Close => break,
                Ok(_) | Err(WebSocketError::ConnectionClosed) => {}
                Err(_) => break,
            }
        }
    };
    timeout(Duration::from_secs(3), rest).await.context("the server did not close")
}

/// hyper wants to be told how to start a task.
struct Spawn;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, task: F) {
        tokio::spawn(task);
    }
}
