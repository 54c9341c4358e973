//! The HTTP exchange that opens a WebSocket connection (RFC 6455, section 4.1), without the connection.
//!
//! In come the host, the path, the caller's headers and a random key: out goes the request's bytes. In come the bytes
//! of the answer, in any pieces: out goes "more", or where the head ends (the first frame may stand right behind it),
//! or what is wrong with the answer. No I/O, no clock; redirects are reported, not followed.

mod answer;
mod request;

use zeroize::Zeroizing;

use self::answer::{Answer, Expected, PREFIX};
use super::error::Error;
use crate::floor::Limits;

/// An upgrade under way: the request is made, the answer is being read.
#[derive(Debug)]
pub struct Upgrade {
    /// The head being read: one of perhaps several, as informational answers may come first.
    head: Vec<u8>,
    /// Bytes of all heads so far.
    taken: usize,
    head_bytes_max: usize,
    expected: Expected,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Reading,
    Done { protocol: Option<String> },
    Failed(Error),
}

/// How far the answer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head is not complete.
    More,
    /// The server has switched to WebSocket.
    Done {
        /// How many bytes of the piece just pushed belong to the head. What follows them is the first frame's.
        consumed: usize,
    },
}

impl Upgrade {
    /// Makes the request, and what will judge the answer.
    ///
    /// `host` is the `Host` header as it shall be sent, with the port if that is not the scheme's own.
    /// `path_and_query` begins with `/`. `headers` are sent as they are, in order, after the ones that make the
    /// upgrade; `Sec-WebSocket-Protocol` may be among them (more than once, and with lists), and so may `Origin` and
    /// `User-Agent`, neither of which is sent otherwise. `key` must be random and fresh (RFC 6455, section 4.1, item 7
    /// of the request). Of `limits` it reads `http_head_bytes_max`.
    ///
    /// # Errors
    ///
    /// The caller's mistakes: [`Error::BadHost`], [`Error::BadPath`], [`Error::BadHeader`].
    pub fn new(
        host: &str,
        path_and_query: &str,
        headers: &[(String, String)],
        key: [u8; 16],
        limits: &Limits,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), Error> {
        let (request, expected) = request::build(host, path_and_query, headers, key)?;
        let upgrade = Self {
            head: Vec::new(),
            taken: 0,
            head_bytes_max: limits.http_head_bytes_max,
            expected,
            phase: Phase::Reading,
        };
        Ok((upgrade, request))
    }

    /// The subprotocol that the server chose from those offered, once done.
    #[must_use]
    pub fn protocol(&self) -> Option<&str> {
        match &self.phase {
            Phase::Done { protocol } => protocol.as_deref(),
            Phase::Reading | Phase::Failed(_) => None,
        }
    }

    /// Reads the next piece of the answer. Once done, it takes no more bytes.
    ///
    /// Informational answers (100 to 199 but for 101) are read over, as RFC 9110, section 15.2 wants it.
    ///
    /// # Errors
    ///
    /// What is wrong with the answer; the same again for every further call.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Progress, Error> {
        match &self.phase {
            Phase::Reading => {}
            Phase::Done { .. } => return Ok(Progress::Done { consumed: 0 }),
            Phase::Failed(error) => return Err(error.clone()),
        }
        self.read(bytes).inspect_err(|error| self.phase = Phase::Failed(error.clone()))
    }

    /// Byte by byte: this runs once per connection, and knows the head's end without parsing it again and again.
    fn read(&mut self, bytes: &[u8]) -> Result<Progress, Error> {
        for (i, &byte) in bytes.iter().enumerate() {
            if self.taken == self.head_bytes_max {
                return Err(Error::HeadTooLong { max: self.head_bytes_max });
            }
            self.taken += 1;
            self.head.push(byte);
            if PREFIX.get(self.head.len() - 1).is_some_and(|expected| *expected != byte) {
                let arrived = [&self.head, &bytes[i + 1..]].concat();
                return Err(Error::NotHttp { beginning: answer::printable(&arrived) });
            }
            if !ends_a_head(&self.head) {
                continue;
            }
            match answer::judge(&self.head, &bytes[i + 1..], &self.expected)? {
                Answer::Informational => self.head.clear(),
                Answer::Switched { protocol } => {
                    self.phase = Phase::Done { protocol };
                    self.head = Vec::new();
                    return Ok(Progress::Done { consumed: i + 1 });
                }
            }
        }
        Ok(Progress::More)
    }
}

/// Whether the last line of `head` is empty. Lines end with CR LF, or LF alone (RFC 9112, section 2.2).
fn ends_a_head(head: &[u8]) -> bool {
    head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n")
}

#[cfg(test)]
mod tests;
