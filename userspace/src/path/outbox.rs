//! The way out: messages are masked and sealed where they leave from, and leave as far as the connection takes them.
//!
//! On the bypass that is a frame of the ring ([`Slot`]): an order is written once, and the NIC reads it there. On the
//! kernel path, and for what does not fit the frame or has to wait for something before it, it is a buffer.

use std::ops::Range;

use aws_lc_rs::rand;

use super::budget::Budget;
use super::{Error, PathCounters, Prepared, Slot};
use crate::floor::{Limits, Time};
use crate::message::{self, Kind, MaskPool, frame_len};
use crate::record::{self, Content, Sealer};

/// Room beside what the limit allows: for what is sent whatever waits, which is the answer to a change of keys and the last
/// words of TLS, some 30 bytes each.
const UNCOUNTED: usize = 4 << 10;

/// Where bytes for the peer go: a kernel socket, or TCP over the ring.
pub trait Outlet {
    /// Takes bytes; answers how many it took. Those it does not take are offered again later.
    fn put(&mut self, bytes: &[u8]) -> usize;

    /// A frame to write the next messages into, where what is sent leaves in frames.
    fn slot(&mut self) -> Option<Slot> {
        None
    }

    /// Sends what is in the slot as one segment, or gives it back where that cannot be done now.
    ///
    /// # Errors
    ///
    /// The slot, unchanged.
    fn send(&mut self, slot: Slot) -> Result<(), Slot> {
        Err(slot)
    }

    /// What was given so far shall leave now, whatever else there is to do.
    fn kick(&mut self) {}
}

/// Bytes on their way out, and what it takes to make more of them.
#[derive(Debug)]
pub struct Outbox {
    /// The frame that the next message goes into. What is in it comes before `bytes`.
    slot: Option<Slot>,
    /// Has room for all that may wait, from the start: sending takes no memory.
    bytes: Vec<u8>,
    /// Bytes at the front that have left.
    left: usize,
    masks: MaskPool,
    bytes_max: usize,
    pub(super) close_sent: bool,
    pub(super) budget: Budget,
    /// When what is being sent is sent: the present, as far as the path knows it.
    pub(super) now: Time,
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
    pub(super) fn new(limits: &Limits, budget: Budget) -> Result<Self, Error> {
        let capacity = limits.outgoing_bytes_max.saturating_add(UNCOUNTED);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(capacity).map_err(|_| Error::Memory { bytes: capacity })?;
        Ok(Self {
            slot: None,
            bytes,
            left: 0,
            masks: MaskPool::new()?,
            bytes_max: limits.outgoing_bytes_max,
            close_sent: false,
            budget,
            now: Time::ZERO,
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
        self.waiting() == 0
    }

    /// Bytes that have not left.
    fn waiting(&self) -> usize {
        self.bytes.len() - self.left + self.slot.as_ref().map_or(0, Slot::len)
    }

    /// Sees to it that there is a frame for the next message, where there are frames.
    #[inline]
    pub(super) fn take_slot<O: Outlet>(&mut self, outlet: &mut O) {
        if self.slot.is_none() {
            self.slot = outlet.slot();
        }
    }

    /// Parts with the frame; what is in it goes to the front of the other bytes. The slot is empty then.
    pub(super) fn give_slot_up(&mut self) -> Option<Slot> {
        self.spill();
        self.slot.take()
    }

    /// Takes back what the outlet had taken and not sent.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.bytes.splice(self.left..self.left, bytes.iter().copied());
    }

    /// Forgets what waits: it is not meant to be sent. Parts with the frame.
    pub(super) fn forget(&mut self) -> Option<Slot> {
        self.bytes.clear();
        self.left = 0;
        self.slot.take()
    }

    /// What is in the slot goes to the front of the other bytes. The slot is empty then.
    fn spill(&mut self) {
        if let Some(slot) = &mut self.slot {
            self.bytes.splice(self.left..self.left, slot.payload().iter().copied());
            slot.clear();
        }
    }

    /// Offers what waits to the outlet; answers whether it took any of it.
    #[inline]
    pub(super) fn drain<O: Outlet>(&mut self, outlet: &mut O) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut has_left = false;
        if let Some(slot) = self.slot.take_if(|slot| !slot.is_empty()) {
            match outlet.send(slot) {
                Ok(()) => {
                    has_left = true;
                    self.take_slot(outlet);
                }
                Err(slot) => {
                    self.slot = Some(slot);
                    self.spill();
                }
            }
        }
        if self.left < self.bytes.len() {
            let put = outlet.put(&self.bytes[self.left..]);
            self.left += put;
            has_left |= put > 0;
            if self.left == self.bytes.len() {
                self.bytes.clear();
                self.left = 0;
            }
        }
        has_left
    }

    /// Room for a record of `len` bytes in the frame, where there is one, it fits, and nothing else has to leave first.
    #[inline]
    fn slot_for(&mut self, len: usize) -> Option<&mut Slot> {
        let is_next = self.left == self.bytes.len();
        self.slot.as_mut().filter(|slot| is_next && slot.room() >= len)
    }

    /// Room for `len` more bytes, or the reason why there is none.
    fn admit(&mut self, len: usize) -> Result<(), SendError> {
        let waiting = self.waiting();
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

    /// Sends a prepared message.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing of the message has been sent then.
    pub fn prepared(&mut self, message: &Prepared) -> Result<(), SendError> {
        self.message(Kind::Text, message.text().as_bytes())
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
        // In one record it stands behind the head. In several, it has to be spread over them, and stands at the end.
        let (record_len, begin) = self.sealer.as_ref().map_or((len, 0), |sealer| {
            let sealed = sealer.sealed_len(len);
            (sealed, if len > sealer.plaintext_max() { sealed - len } else { sealer.head_len() })
        });
        let place = begin..begin + len;
        self.outbox.admit(record_len)?;
        let mask = self.outbox.masks.draw()?;
        let before = self.outbox.waiting();
        let sealer = self.sealer.as_deref_mut();
        if let Some(slot) = self.outbox.slot_for(record_len) {
            let result = lay_out(slot.extend(record_len), place, mask, write, sealer);
            if result.is_err() {
                slot.shorten(record_len);
                return result;
            }
        } else {
            let bytes = &mut self.outbox.bytes;
            let begin = bytes.len();
            bytes.resize(begin + record_len, 0);
            let result = lay_out(&mut bytes[begin..], place, mask, write, sealer);
            if result.is_err() {
                bytes.truncate(begin);
                return result;
            }
        }
        self.outbox.budget.note(self.outbox.now);
        self.counters.sent += 1;
        self.counters.sent_bytes += (self.outbox.waiting() - before) as u64;
        Ok(())
    }
}

/// Lets `write` write a WebSocket frame to its place in a record, and seals the record where it lies; or several, for a
/// frame that does not fit one.
#[inline]
fn lay_out(
    record: &mut [u8],
    place: Range<usize>,
    mask: [u8; 4],
    write: impl FnOnce([u8; 4], &mut [u8]) -> Result<usize, message::Error>,
    sealer: Option<&mut Sealer>,
) -> Result<(), SendError> {
    let len = place.len();
    write(mask, &mut record[place])?;
    match sealer {
        Some(sealer) if len > sealer.plaintext_max() => sealer.seal_spread(record, Content::ApplicationData)?,
        Some(sealer) => sealer.seal_in_place(record, Content::ApplicationData)?,
        None => {}
    }
    Ok(())
}
