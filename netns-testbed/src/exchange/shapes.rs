//! How faults are played once the stream is running: the one-time ones, and the unusual ways of sending.
//!
//! What comes in is a [`Session`] with a batch to send or a fault to play; what goes out are bytes that the ordinary way
//! of sending would not produce.

use std::time::Duration;

use super::faults::Fault;
use super::frames;
use super::report::Ending;
use super::session::{Session, await_end};

/// Time between two bytes of [`Fault::Drip`].
const DRIP_INTERVAL: Duration = Duration::from_millis(1);

impl Session<'_> {
    /// Plays a fault in mid-stream. `Ok` where the stream goes on afterwards.
    pub(super) fn play(&mut self, fault: Fault) -> Result<(), Ending> {
        if let Some(frame) = fault.frame() {
            self.transport.put(&frame)?;
            self.flush_blocking()?;
            // The client may answer with a close frame, which is answered in turn: nothing below WebSocket is wrong.
            return self.await_close();
        }
        match fault {
            Fault::KeyUpdate => {
                self.transport.refresh_keys()?;
                return self.flush_blocking();
            }
            Fault::Rst => {
                self.transport.reset_on_drop()?;
                self.is_mute = true;
                return Err(Ending::Fault);
            }
            Fault::FlippedBit => {
                let mut sealed = self.seal_one_message()?;
                // Behind the five bytes of the header: the record keeps its length and its type.
                let bit = self.random.between(5 * 8, sealed.len() as u64 * 8 - 1) as usize;
                sealed[bit / 8] ^= 1 << (bit % 8);
                self.transport.write_raw(&sealed, self.stop)?;
            }
            Fault::HalfRecord => {
                let sealed = self.seal_one_message()?;
                self.transport.write_raw(&sealed[..sealed.len() / 2], self.stop)?;
            }
            Fault::FinWithoutCloseNotify => self.transport.finish()?,
            Fault::CloseWithoutWebsocketClose => {
                self.transport.close_notify();
                self.flush_blocking()?;
                self.transport.finish()?;
            }
            // What is left is to say nothing.
            _ => {}
        }
        self.is_mute = true;
        Err(await_end(&mut self.transport, self.stop))
    }

    /// Reads and answers until the client closes, leaves, or the exchange is stopped: never `Ok`.
    fn await_close(&mut self) -> Result<(), Ending> {
        loop {
            self.check_stop()?;
            self.wait_and_read()?;
            self.flush_blocking()?;
        }
    }

    /// A message as one TLS record that nobody has sent yet.
    fn seal_one_message(&mut self) -> Result<Vec<u8>, Ending> {
        self.flush_blocking()?;
        let mut message = Vec::new();
        frames::push(&mut message, frames::TEXT, b"{\"e\":\"trade\",\"E\":1700000000000}");
        self.seal(&message)
    }

    /// Sends the batch in an unusual way.
    pub(super) fn send_shaped(&mut self, shape: Fault) -> Result<(), Ending> {
        let bytes = std::mem::take(&mut self.batch.bytes);
        let sent = self.send_bytes_shaped(shape, &bytes);
        self.batch.bytes = bytes;
        sent
    }

    fn send_bytes_shaped(&mut self, shape: Fault, bytes: &[u8]) -> Result<(), Ending> {
        match shape {
            Fault::Fragments => {
                let mut rest = bytes;
                while let Some((payload, after)) = frames::split_first(rest) {
                    rest = after;
                    self.put_fragments(payload)?;
                }
                self.flush_blocking()
            }
            Fault::TinyRecords => self.put_pieces(bytes, |_, _| 1),
            Fault::SplitRecords => {
                let mut rest = bytes;
                while let Some((_, after)) = frames::split_first(rest) {
                    // No piece is longer than a third, so there are three records at least.
                    let frame = &rest[..rest.len() - after.len()];
                    self.put_pieces(frame, |session, frame| {
                        session.random.between(1, (frame as u64 / 3).max(1)) as usize
                    })?;
                    rest = after;
                }
                Ok(())
            }
            Fault::Scattered => {
                let sealed = self.seal(bytes)?;
                let mut rest = &sealed[..];
                while !rest.is_empty() {
                    let length = self.random.between(1, (sealed.len() as u64 / 2).max(1)) as usize;
                    let (piece, after) = rest.split_at(length.min(rest.len()));
                    self.transport.write_raw(piece, self.stop)?;
                    rest = after;
                }
                Ok(())
            }
            _ => {
                let sealed = self.seal(bytes)?;
                for (at, byte) in sealed.iter().enumerate() {
                    self.transport.write_raw(&[*byte], self.stop)?;
                    std::thread::sleep(DRIP_INTERVAL);
                    // Read, but send no answer yet: it would stand in the middle of the record. Where this is the end, the
                    // record is finished first, for the same reason.
                    let read = if self.read_is_due() { self.read() } else { Ok(()) };
                    if let Err(ending) = self.check_stop().and(read) {
                        self.transport.write_raw(&sealed[at + 1..], self.stop)?;
                        return Err(ending);
                    }
                }
                Ok(())
            }
        }
    }

    /// A message in three fragments, a ping after the first and after the second. The cuts may lie inside a character.
    fn put_fragments(&mut self, payload: &[u8]) -> Result<(), Ending> {
        let first = self.random.between(0, payload.len() as u64) as usize;
        let second = self.random.between(first as u64, payload.len() as u64) as usize;
        let fragments = [
            (frames::TEXT & !frames::FIN, &payload[..first]),
            (frames::MIDDLE_FRAGMENT, &payload[first..second]),
            (frames::LAST_FRAGMENT, &payload[second..]),
        ];
        for (at, (opcode, fragment)) in fragments.into_iter().enumerate() {
            let mut frame = Vec::new();
            frames::push(&mut frame, opcode, fragment);
            self.transport.put(&frame)?;
            if at < 2 {
                let ping = self.pings.next_payload();
                self.put_ping(&ping)?;
            }
        }
        Ok(())
    }

    /// Each piece of `bytes` becomes a record; `length` says how long the next one is, given how many there are in all.
    fn put_pieces(&mut self, bytes: &[u8], length: impl Fn(&mut Self, usize) -> usize) -> Result<(), Ending> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(length(self, bytes.len()).min(rest.len()));
            self.transport.put(piece)?;
            rest = after;
        }
        self.flush_blocking()
    }

    /// Seals bytes, with the answers that were queued before them, and takes them out of the queue.
    fn seal(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Ending> {
        self.transport.put(bytes)?;
        Ok(self.transport.take_queued()?)
    }
}
