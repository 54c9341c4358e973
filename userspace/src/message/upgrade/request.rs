//! The request: what is checked of the caller's wishes, and the bytes.
//!
//! In come the caller's strings; out go the request and what an answer to it must say. Everything wrong here is the
//! caller's fault and named so: nothing unchecked reaches the wire, where it would look like the server's.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::answer::{Expected, printable};
use crate::message::error::Error;

/// What a server appends to the key (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Where the caller offers subprotocols.
const SUBPROTOCOL: &str = "Sec-WebSocket-Protocol";

/// Headers that a caller may not set: the upgrade's own, and those that would make a server take what follows the
/// request for its body, or wait for it.
const RESERVED: [&str; 6] = ["Host", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Expect"];

/// Builds the request.
pub(super) fn build(
    host: &str,
    path_and_query: &str,
    headers: &[(String, String)],
    key: [u8; 16],
) -> Result<(Zeroizing<Vec<u8>>, Expected), Error> {
    check_host(host)?;
    check_path(path_and_query)?;
    let mut protocols = Vec::new();
    for (name, value) in headers {
        check_header(name, value, &mut protocols)
            .map_err(|why| Error::BadHeader { name: printable(name.as_bytes()), why })?;
    }

    let key = STANDARD.encode(key);
    let head = format!(
        "GET {path_and_query} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n"
    );
    // Headers can hold a key to an account. The whole is sized first: a buffer that grows leaves copies behind.
    let headers_len: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let mut request = Zeroizing::new(Vec::with_capacity(head.len() + headers_len + 2));
    request.extend_from_slice(head.as_bytes());
    for (name, value) in headers {
        for part in [name.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            request.extend_from_slice(part);
        }
    }
    request.extend_from_slice(b"\r\n");
    Ok((request, Expected { accept: accept(&key), protocols }))
}

/// What `Sec-WebSocket-Accept` must say to `key` (RFC 6455, section 4.2.2, item 5.4).
fn accept(key: &str) -> String {
    // SHA-1 is what the RFC prescribes; it proves that the server read the request, and protects nothing.
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat());
    STANDARD.encode(hash.as_ref())
}

fn check_host(host: &str) -> Result<(), Error> {
    let why = if host.is_empty() {
        "is empty"
    } else if !host.bytes().all(|byte| byte.is_ascii_graphic()) {
        "has a byte that is not visible ASCII (an internationalised name must be given in its xn-- form)"
    } else if host.contains(['/', '?', '#', '@', '\\', ',']) {
        "has a character that belongs to a URL around it"
    } else {
        return Ok(());
    };
    Err(Error::BadHost { host: printable(host.as_bytes()), why })
}

fn check_path(path_and_query: &str) -> Result<(), Error> {
    let why = if !path_and_query.starts_with('/') {
        "does not begin with /"
    } else if !path_and_query.bytes().all(|byte| byte.is_ascii_graphic()) {
        "has a byte that is not visible ASCII; it must be percent-encoded"
    } else if path_and_query.contains('#') {
        "has a fragment, which is never sent"
    } else {
        return Ok(());
    };
    Err(Error::BadPath { why })
}

/// Checks one header of the caller's, and notes the subprotocols it offers.
fn check_header(name: &str, value: &str, protocols: &mut Vec<String>) -> Result<(), &'static str> {
    if !is_token(name) {
        return Err("has a name that is not a token");
    }
    // RFC 9110, section 5.5: of the control characters only the tab may stand in a value. CR and LF would begin a
    // header of their own.
    if value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err("has a control character in its value");
    }
    if RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name)) {
        return Err("is the upgrade's own to set");
    }
    if !name.get(..14).is_some_and(|begin| begin.eq_ignore_ascii_case("Sec-WebSocket-")) {
        return Ok(());
    }
    if !name.eq_ignore_ascii_case(SUBPROTOCOL) {
        return Err("is the upgrade's own to set");
    }
    // RFC 6455, section 4.1, item 10 of the request: tokens, each one once.
    for protocol in value.split(',').map(|item| item.trim_matches([' ', '\t'])) {
        if !is_token(protocol) {
            return Err("offers a subprotocol that is not a token");
        }
        if protocols.iter().any(|offered| offered == protocol) {
            return Err("offers a subprotocol twice");
        }
        protocols.push(protocol.to_owned());
    }
    Ok(())
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_value_of_the_rfcs_example_comes_out() {
        // RFC 6455, section 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
