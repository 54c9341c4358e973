//! The answer: is this a server that has switched to WebSocket, for us, and with nothing we did not ask for?
//!
//! In come a whole HTTP head, what had arrived behind it, and what the request expects; out goes the verdict (RFC 6455,
//! section 4.1, the checks on the server's response, items 1 to 6). Whatever of the server's text goes into an error is
//! made printable and short here.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Response, Status};

use crate::message::error::{Error, Redirect, Refusal};

/// How every HTTP/1 answer begins.
pub(super) const PREFIX: &[u8] = b"HTTP/";

/// The most of a server's text that goes into an error: bytes.
const EXCERPT_LEN_MAX: usize = 200;

/// What the answer to our request must say.
#[derive(Debug)]
pub(super) struct Expected {
    /// `Sec-WebSocket-Accept`.
    pub(super) accept: String,
    /// The subprotocols that were offered.
    pub(super) protocols: Vec<String>,
}

/// An answer that is in order.
#[derive(Debug)]
pub(super) enum Answer {
    /// 1xx: the real one follows.
    Informational,
    /// 101, and all is well.
    Switched { protocol: Option<String> },
}

/// Judges a `head` that ends with its empty line. `behind` is what had arrived after it.
pub(super) fn judge(head: &[u8], behind: &[u8], expected: &Expected) -> Result<Answer, Error> {
    let malformed = |what: &dyn std::fmt::Display| Error::HeadMalformed { what: what.to_string() };
    if !head.starts_with(b"HTTP/1.0") && !head.starts_with(b"HTTP/1.1") {
        let version = head.split(u8::is_ascii_whitespace).next().unwrap_or_default();
        return Err(Error::HttpVersion { version: printable(version) });
    }
    // There cannot be more headers than lines, and the head's length is bounded.
    let lines = head.iter().filter(|byte| **byte == b'\n').count();
    let mut headers = vec![EMPTY_HEADER; lines];
    let mut response = Response::new(&mut headers);
    // Folded values: a user agent must take each fold for spaces (RFC 9112, section 5.2).
    let status = ParserConfig::default()
        .allow_obsolete_multiline_headers_in_responses(true)
        .parse_response(&mut response, head)
        .map_err(|fault| malformed(&fault))?;
    if status != Status::Complete(head.len()) {
        return Err(malformed(&"its end is not where its lines say"));
    }
    let code = response.code.unwrap_or_default();
    let reason = printable(response.reason.unwrap_or_default().as_bytes());
    let headers = Headers(response.headers);
    match code {
        101 if response.version == Some(1) => {}
        101 => return Err(Error::HttpVersion { version: "HTTP/1.0".to_owned() }),
        100..=199 => return Ok(Answer::Informational),
        300..=399 => {
            let location = headers.first("Location").map(printable).unwrap_or_default();
            return Err(Error::Redirected(Box::new(Redirect { status: code, location })));
        }
        _ => {
            let retry_after = headers.first("Retry-After").map(printable);
            let body = printable(headers.body_text(behind));
            return Err(Error::Refused(Box::new(Refusal { status: code, reason, retry_after, body })));
        }
    }

    match headers.all("Upgrade").as_slice() {
        [only] if only.eq_ignore_ascii_case(b"websocket") => {}
        _ => return Err(Error::NoUpgradeHeader),
    }
    let says_upgrade = |value: &&[u8]| list(value).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    if !headers.all("Connection").iter().any(says_upgrade) {
        return Err(Error::NoConnectionHeader);
    }
    match headers.all("Sec-WebSocket-Accept").as_slice() {
        [] => return Err(Error::AcceptMissing),
        [only] if *only == expected.accept.as_bytes() => {}
        [_] => return Err(Error::AcceptWrong),
        [..] => return Err(Error::AcceptRepeated),
    }
    if let Some(extensions) = headers.first("Sec-WebSocket-Extensions") {
        return Err(Error::ExtensionNotOffered(printable(extensions)));
    }
    // Section 11.3.4: in an answer this header names one subprotocol and does not come twice.
    let protocol = match headers.all("Sec-WebSocket-Protocol").as_slice() {
        [] => None,
        [only] if expected.protocols.iter().any(|offered| offered.as_bytes() == *only) => {
            // It equals one of ours, which are ASCII.
            Some(String::from_utf8_lossy(only).into_owned())
        }
        chosen => return Err(Error::SubprotocolNotOffered(printable(&chosen.join(&b", "[..])))),
    };
    Ok(Answer::Switched { protocol })
}

/// The headers of an answer, by name.
struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// The values of all headers of this name, in order, without the white space around them.
    ///
    /// A folded value still has its line ends inside. They are white space to everything that reads values here.
    fn all(&self, name: &str) -> Vec<&'a [u8]> {
        let named = self.0.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value.trim_ascii()).collect()
    }

    /// The value of the first header of this name.
    fn first(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).first().copied()
    }

    /// What a person would want to read of the body: without the size line of a first chunk (RFC 9112, section 7.1).
    fn body_text<'b>(&self, body: &'b [u8]) -> &'b [u8] {
        let is_chunked = |value: &&[u8]| list(value).any(|coding| coding.eq_ignore_ascii_case(b"chunked"));
        if !self.all("Transfer-Encoding").iter().any(is_chunked) {
            return body;
        }
        body.iter().position(|byte| *byte == b'\n').map_or(&[], |end| &body[end + 1..])
    }
}

/// The members of a comma-separated list.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// The beginning of a server's text, safe to show on a terminal and in a log: one line of visible ASCII, a run of white
/// space as one space, every other byte as a dot.
pub(super) fn printable(text: &[u8]) -> String {
    let mut shown = String::new();
    for &byte in &text[..text.len().min(EXCERPT_LEN_MAX)] {
        match byte {
            b'!'..=b'~' => shown.push(char::from(byte)),
            b' ' | b'\t' | b'\r' | b'\n' => {
                if !shown.is_empty() && !shown.ends_with(' ') {
                    shown.push(' ');
                }
            }
            _ => shown.push('.'),
        }
    }
    shown.truncate(shown.trim_end().len());
    if text.len() > EXCERPT_LEN_MAX {
        shown.push_str(" ...");
    }
    shown
}
