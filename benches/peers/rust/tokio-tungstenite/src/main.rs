//! tokio-tungstenite on a runtime of one thread: what most Rust clients are.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use peer::{Options, Tally};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

/// tungstenite fills this buffer with zeros before each read. The default is 128 KiB; in 4 KiB, all but one message in a
/// hundred of a captured feed fit.
const READ_BUFFER_BYTES: usize = 4 << 10;

fn main() -> ExitCode {
    peer::run("tokio-tungstenite", &["tokio-tungstenite", "tungstenite", "tokio", "rustls@0.23"], |options, tally| {
        peer::block_on(options, client(options, tally))
    })
}

async fn client(options: &Options, tally: &mut Tally) -> anyhow::Result<()> {
    let connector =
        if options.url.starts_with("wss:") { Connector::Rustls(peer::tls(options)?) } else { Connector::Plain };
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    // `true`: TCP_NODELAY, which is not the default here.
    let (mut websocket, _) = connect_async_tls_with_config(&options.url, Some(config), true, Some(connector))
        .await
        .with_context(|| format!("cannot connect to {}", options.url))?;
    while let Some(message) = websocket.next().await {
        let Message::Text(text) = message.context("cannot read")? else { continue };
        if let Some(echo) = tally.take(text.as_bytes())? {
            websocket.send(Message::text(echo)).await.context("cannot send an echo")?;
        }
        if tally.is_done() {
            websocket.close(None).await.context("cannot close")?;
            let rest = async { while let Some(Ok(_)) = websocket.next().await {} };
            timeout(Duration::from_secs(3), rest).await.context("the server did not close")?;
            break;
        }
    }
    Ok(())
}
