//! The upgrade: the request as the caller's side sees it, the answer in every shape a server may give it, and
//! tungstenite as a server that must take the one and give the other.

mod answers;
mod requests;

use super::*;
use crate::message::{Culprit, Redirect, Refusal};

/// The nonce of the RFC's example (RFC 6455, section 1.3).
const KEY: [u8; 16] = *b"the sample nonce";

/// What must be answered to it.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// An upgrade that offers these subprotocols, if any.
fn upgrade(protocols: &str) -> Upgrade {
    upgrade_with(&Limits::default(), protocols)
}

fn upgrade_with(limits: &Limits, protocols: &str) -> Upgrade {
    let offer = [("Sec-WebSocket-Protocol".to_owned(), protocols.to_owned())];
    let headers = if protocols.is_empty() { &[][..] } else { &offer[..] };
    Upgrade::new("exchange.example", "/ws", headers, KEY, limits).unwrap().0
}

/// What the answer leads to when it comes in these pieces: how many bytes of it are the head's.
fn judge<'p>(upgrade: &mut Upgrade, pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Option<usize>, Error> {
    let mut before = 0;
    for piece in pieces {
        match upgrade.push(piece)? {
            Progress::More => before += piece.len(),
            Progress::Done { consumed } => return Ok(Some(before + consumed)),
        }
    }
    Ok(None)
}

/// A good answer, with these lines more.
fn switched(more: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {ACCEPT}\r\n{more}\r\n"
    )
}
