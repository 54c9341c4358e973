//! What is held behind holes, and how the peer is told (RFC 2018, RFC 2883).
//!
//! smoltcp's acknowledgements carry one SACK block; this is a twin of its assembler (the same type, given the same
//! ranges), from which our acknowledgements are written with as many blocks as their header has room for. The twin
//! refuses what smoltcp refuses (more holes than it can remember), so nothing is reported that smoltcp does not have.

use smoltcp::storage::Assembler;

use crate::floor::Seq;

/// The most blocks that the 40 bytes for options hold: 4, or 3 beside timestamps (RFC 2018 section 3).
pub(super) const BLOCKS_MAX: usize = 4;

/// A range of sequence numbers: its first, and the one behind its last.
pub(super) type Block = (Seq, Seq);

/// The blocks of one acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Blocks {
    blocks: [Block; BLOCKS_MAX],
    len: usize,
}

impl Blocks {
    fn add(&mut self, block: Block, max: usize) {
        if self.len < max && !self.as_slice().contains(&block) {
            self.blocks[self.len] = block;
            self.len += 1;
        }
    }

    pub(super) fn as_slice(&self) -> &[Block] {
        &self.blocks[..self.len]
    }
}

/// What is held behind holes.
#[derive(Debug)]
pub(super) struct Held {
    assembler: Assembler,
    /// A byte of each of the last segments that were held, the latest first.
    latest: [Option<Seq>; BLOCKS_MAX],
    /// A segment that came twice, until it has been reported.
    duplicate: Option<Block>,
}

impl Default for Held {
    fn default() -> Self {
        Self { assembler: Assembler::new(), latest: [None; BLOCKS_MAX], duplicate: None }
    }
}

impl Held {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.assembler.is_empty()
    }

    /// smoltcp, whose next missing byte is `next` and which takes nothing from `edge` on, gets `len` bytes from `seq` on.
    /// Answers whether it keeps them.
    pub(super) fn take(&mut self, next: Seq, edge: Seq, seq: Seq, len: usize) -> bool {
        let (from, to) = (seq.max(next), seq + len);
        let to = if to.is_after(edge) { edge } else { to };
        let size = usize::try_from(to.distance(from)).unwrap_or(0);
        if size == 0 {
            return false;
        }
        let offset = from.distance(next).unsigned_abs() as usize;
        if from.is_after(next) {
            if let Some(block) = self.around(next, from).filter(|(_, right)| !to.is_after(*right)) {
                // RFC 2883 section 4: also what lies inside of a block that was reported before.
                self.duplicate = Some((from, to));
                self.remember(block.0);
                return true;
            }
            if self.assembler.add_then_remove_front(offset, size).is_err() {
                return false;
            }
            self.remember(from);
            true
        } else {
            self.assembler.add_then_remove_front(offset, size).is_ok()
        }
    }

    /// A segment has come that had been received before.
    pub(super) fn note_duplicate(&mut self, seq: Seq, len: usize) {
        self.duplicate = (len > 0).then(|| (seq, seq + len));
    }

    fn remember(&mut self, seq: Seq) {
        self.latest.rotate_right(1);
        self.latest[0] = Some(seq);
    }

    /// The ranges, when `next` is the next missing byte.
    fn ranges(&self, next: Seq) -> impl Iterator<Item = Block> {
        self.assembler.iter_data().map(move |(left, right)| (next + left, next + right))
    }

    fn around(&self, next: Seq, seq: Seq) -> Option<Block> {
        self.ranges(next).find(|(left, right)| !left.is_after(seq) && right.is_after(seq))
    }

    /// What an acknowledgement of `next` has to report: a duplicate, then the block of the latest segment, then those of
    /// the ones before it, then what else there is room for.
    pub(super) fn blocks(&mut self, next: Seq, max: usize) -> Blocks {
        let mut blocks = Blocks::default();
        if let Some(duplicate) = self.duplicate.take() {
            blocks.add(duplicate, max);
        }
        for seq in self.latest.into_iter().flatten() {
            if let Some(block) = self.around(next, seq) {
                blocks.add(block, max);
            }
        }
        for block in self.ranges(next) {
            blocks.add(block, max);
        }
        blocks
    }

    /// Whether all of `block` is held.
    #[cfg(test)]
    pub(super) fn has(&self, next: Seq, block: Block) -> bool {
        self.around(next, block.0).is_some_and(|(_, right)| !block.1.is_after(right))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: Seq = Seq(u32::MAX - 10);
    const EDGE: Seq = Seq(100_000);

    fn held(segments: &[(usize, usize)]) -> Held {
        let mut held = Held::default();
        for &(at, len) in segments {
            held.take(NEXT, EDGE, NEXT + at, len);
        }
        held
    }

    fn blocks(held: &mut Held, max: usize) -> Vec<(i32, i32)> {
        let blocks = held.blocks(NEXT, max);
        blocks.as_slice().iter().map(|(left, right)| (left.distance(NEXT), right.distance(NEXT))).collect()
    }

    #[test]
    fn the_latest_segments_block_comes_first_then_those_before_it() {
        let mut held = held(&[(10, 5), (30, 5), (50, 5), (70, 5), (32, 8)]);
        assert_eq!(blocks(&mut held, 3), [(30, 40), (70, 75), (50, 55)]);
        assert_eq!(blocks(&mut held, 4), [(30, 40), (70, 75), (50, 55), (10, 15)]);
    }

    #[test]
    fn what_has_grown_together_is_one_block() {
        let mut held = held(&[(10, 5), (20, 5), (15, 5)]);
        assert_eq!(blocks(&mut held, 4), [(10, 25)]);
    }

    #[test]
    fn a_duplicate_is_reported_once_with_the_block_it_lies_in() {
        let mut held = held(&[(10, 10), (40, 5), (12, 4)]);
        assert_eq!(blocks(&mut held, 3), [(12, 16), (10, 20), (40, 45)]);
        assert_eq!(blocks(&mut held, 3), [(10, 20), (40, 45)]);
        held.note_duplicate(NEXT - 7, 3);
        assert_eq!(blocks(&mut held, 1), [(-7, -4)]);
    }

    #[test]
    fn what_does_not_fit_is_not_reported() {
        let mut held = held(&(0..32).map(|i| (10 + 10 * i, 5)).collect::<Vec<_>>());
        assert!(!held.take(NEXT, EDGE, NEXT + 400, 5), "smoltcp remembers 32 holes");
        assert_eq!(blocks(&mut held, 1), [(320, 325)]);
        assert!(!held.take(NEXT, NEXT + 500, NEXT + 500, 5), "beyond the window");
        assert!(held.take(NEXT, EDGE, NEXT, 10), "what fills the first hole always fits");
        assert_eq!(held.blocks(NEXT + 15, 4).as_slice()[0].0, NEXT + 320);
    }
}
