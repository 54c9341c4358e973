//! The way out: messages are masked and sealed into one buffer, and leave as far as the connection takes them.

use aws_lc_rs::rand;

use super::{Error, PathCounters};
use crate::floor::Limits;
use crate::message::{self, Kind, MaskPool, frame_len};
use crate::record::{self, Content, Sealer};

/// Where bytes for the peer go: a kernel socket, or TCP over the ring.
pub trait Outlet {
    /// Takes bytes; answers how many it took. Those it does not take are offered again later.
    fn put(&mut self, bytes: &[u8]) -> usize;
}

/// Bytes on their way out, and what it takes to make more of them.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// Bytes at the front that have left.
    left: usize,
    /// A WebSocket frame that is too large for one record.
    frame: Vec<u8>,
    masks: MaskPool,
    bytes_max: usize,
    pub(super) close_sent: bool,
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection is not open, or is closing.
    #[error("the connection is not open")]
    NotOpen,
    /// The peer does not read as fast as we write.
    #[error("{waiting} bytes already wait for the peer to read, and {bytes_max} is the limit")]
    Full {
        /// Bytes that wait.
        waiting: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The message stage refused.
    #[error(transparent)]
    Message(#[from] message::Error),
    /// The record stage refused.
    #[error(transparent)]
    Record(#[from] record::Error),
}

impl Outbox {
    pub(super) fn new(limits: &Limits) -> Result<Self, Error> {
        Ok(Self {
            // Room for a burst of small messages: no allocation while the peer keeps up.
            bytes: Vec::with_capacity(16 << 10),
            left: 0,
            frame: Vec::new(),
            masks: MaskPool::new()?,
            bytes_max: limits.outgoing_bytes_max,
            close_sent: false,
        })
    }

    /// 16 bytes that nobody can guess, for the upgrade's key.
    pub(super) fn nonce(&mut self) -> Result<[u8; 16], Error> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).map_err(|_| message::Error::Randomness)?;
        Ok(nonce)
    }

    /// The buffer, to append sealed bytes to.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == self.bytes.len()
    }

    /// Offers what waits to the outlet.
    #[inline]
    pub(super) fn drain<O: Outlet>(&mut self, outlet: &mut O) {
        if self.is_empty() {
            return;
        }
        self.left += outlet.put(&self.bytes[self.left..]);
        if self.is_empty() {
            self.bytes.clear();
            self.left = 0;
        }
    }

    /// Room for `len` more bytes, or the reason why there is none.
    fn admit(&mut self, len: usize) -> Result<(), SendError> {
        let waiting = self.bytes.len() - self.left;
        if waiting + len > self.bytes_max {
            return Err(SendError::Full { waiting, bytes_max: self.bytes_max });
        }
        if self.left > 0 && self.bytes.len() + len > self.bytes.capacity() {
            self.bytes.drain(..self.left);
            self.left = 0;
        }
        Ok(())
    }
}

/// Sends messages over one connection.
#[derive(Debug)]
pub struct Sender<'a> {
    outbox: &'a mut Outbox,
    sealer: Option<&'a mut Sealer>,
    open: bool,
    pub(super) counters: &'a mut PathCounters,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        outbox: &'a mut Outbox,
        sealer: Option<&'a mut Sealer>,
        open: bool,
        counters: &'a mut PathCounters,
    ) -> Self {
        Self { outbox, sealer, open, counters }
    }

    /// Sends a text message.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing of the message has been sent then.
    pub fn text(&mut self, text: &str) -> Result<(), SendError> {
        self.message(Kind::Text, text.as_bytes())
    }

    /// Sends a binary message.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing of the message has been sent then.
    pub fn binary(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.message(Kind::Binary, payload)
    }

    /// Sends a message. A text must be UTF-8.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing of the message has been sent then.
    pub fn message(&mut self, kind: Kind, payload: &[u8]) -> Result<(), SendError> {
        self.frame(frame_len(payload.len()), |mask, out| Ok(message::encode(kind, payload, mask, out)))
    }

    /// Sends a ping with at most 125 bytes of payload.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    pub fn ping(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.frame(frame_len(payload.len()), |mask, out| message::ping(payload, mask, out))
    }

    pub(super) fn pong(&mut self, payload: &[u8]) -> Result<(), SendError> {
        self.frame(frame_len(payload.len()), |mask, out| message::pong(payload, mask, out))
    }

    /// Sends a close frame, once.
    pub(super) fn close(&mut self, code: Option<u16>, reason: &str) -> Result<(), Error> {
        if self.outbox.close_sent {
            return Ok(());
        }
        let payload = if code.is_some() { 2 + reason.len() } else { 0 };
        self.frame(frame_len(payload), |mask, out| message::close(code, reason, mask, out))?;
        self.outbox.close_sent = true;
        Ok(())
    }

    /// Lets `write` write a WebSocket frame of `len` bytes to where it leaves from, and seals it there.
    fn frame(
        &mut self,
        len: usize,
        write: impl FnOnce([u8; 4], &mut [u8]) -> Result<usize, message::Error>,
    ) -> Result<(), SendError> {
        if !self.open || self.outbox.close_sent {
            return Err(SendError::NotOpen);
        }
        let (head, tail) = self.sealer.as_ref().map_or((0, 0), |sealer| (sealer.head_len(), sealer.tail_len()));
        self.outbox.admit(len + head + tail)?;
        let mask = self.outbox.masks.draw()?;
        let begin = self.outbox.bytes.len();
        match &mut self.sealer {
            Some(sealer) if len > sealer.plaintext_max() => {
                let Outbox { bytes, frame, .. } = &mut *self.outbox;
                frame.clear();
                frame.resize(len, 0);
                write(mask, frame)?;
                sealer.seal(Content::ApplicationData, frame, bytes)?;
            }
            sealer => {
                let bytes = &mut self.outbox.bytes;
                bytes.resize(begin + head + len + tail, 0);
                let record = &mut bytes[begin..];
                let mut result = write(mask, &mut record[head..head + len]).map(drop).map_err(SendError::from);
                if let (Ok(()), Some(sealer)) = (&result, sealer) {
                    result = sealer.seal_in_place(record, Content::ApplicationData).map_err(SendError::from);
                }
                if result.is_err() {
                    bytes.truncate(begin);
                    return result;
                }
            }
        }
        self.counters.sent += 1;
        self.counters.sent_bytes += (self.outbox.bytes.len() - begin) as u64;
        Ok(())
    }
}
