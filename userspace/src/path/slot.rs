//! Room in a frame that leaves as one segment: what is sent on the bypass is masked and sealed where the NIC reads it.

use crate::ring::TxFrame;

/// A frame to transmit, filled from where the TCP payload begins; the headers in front are TCP's business.
///
/// It belongs to the ring it was lent from and has to go back there: by being sent, or by
/// [`Ring::cancel`](crate::ring::Ring::cancel).
#[derive(Debug)]
#[must_use = "the frame has to go back to its ring, or the ring runs dry"]
pub struct Slot {
    frame: TxFrame,
    /// Where the payload begins, where it ends so far, and where it has to end.
    start: usize,
    end: usize,
    limit: usize,
}

impl Slot {
    /// Room for `payload_max` bytes in `frame`, from `start` on.
    ///
    /// # Panics
    ///
    /// Where the frame is too small for that.
    pub fn new(mut frame: TxFrame, start: usize, payload_max: usize) -> Self {
        let limit = start + payload_max;
        assert!(limit <= frame.bytes_mut().len(), "a frame has no room for a segment");
        Self { frame, start, end: start, limit }
    }

    /// Bytes of payload so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// The payload so far.
    #[must_use]
    pub fn payload(&mut self) -> &[u8] {
        &self.frame.bytes_mut()[self.start..self.end]
    }

    /// The frame, and the length of its payload.
    pub fn into_frame(self) -> (TxFrame, usize) {
        (self.frame, self.end - self.start)
    }

    /// Bytes that still fit.
    pub(super) fn room(&self) -> usize {
        self.limit - self.end
    }

    /// The next `len` bytes of the payload, to be written. [`Slot::shorten`] takes them away again.
    pub(super) fn extend(&mut self, len: usize) -> &mut [u8] {
        let begin = self.end;
        self.end += len;
        debug_assert!(self.end <= self.limit);
        &mut self.frame.bytes_mut()[begin..begin + len]
    }

    pub(super) fn shorten(&mut self, len: usize) {
        self.end -= len;
    }

    pub(super) fn clear(&mut self) {
        self.end = self.start;
    }
}
