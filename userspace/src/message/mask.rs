//! Masking: the four bytes a client lays over every payload it sends (RFC 6455, section 5.3), and where they come from.
//!
//! In come random bytes from the system, in refills; out goes one unpredictable mask per frame. Why at all: so that
//! nobody who chooses the payload can choose what an intermediary sees on the wire (section 10.3).

use std::fmt;

use aws_lc_rs::rand;

use super::error::Error;

/// Bytes of a mask.
pub(super) const MASK_LEN: usize = 4;

/// Bytes per refill: 256 masks.
///
/// Fewer, and the generator's cost per call shows in more messages; more, and the one message that meets the refill
/// waits longer for it.
const POOL_LEN: usize = 1024;

/// A stock of unpredictable masks. Each is handed out once; no memory is allocated after creation.
pub struct MaskPool {
    stock: [u8; POOL_LEN],
    /// Bytes of the stock that were handed out.
    used: usize,
}

impl MaskPool {
    /// A full stock.
    ///
    /// # Errors
    ///
    /// [`Error::Randomness`] where the system has no random numbers.
    pub fn new() -> Result<Self, Error> {
        let mut pool = Self { stock: [0; POOL_LEN], used: POOL_LEN };
        pool.refill()?;
        Ok(pool)
    }

    /// The next mask. One call in 256 asks the system's generator for more.
    ///
    /// # Errors
    ///
    /// [`Error::Randomness`] where that fails; no mask is ever handed out twice instead.
    #[inline]
    pub fn draw(&mut self) -> Result<[u8; MASK_LEN], Error> {
        if self.used == POOL_LEN {
            self.refill()?;
        }
        let mut mask = [0; MASK_LEN];
        mask.copy_from_slice(&self.stock[self.used..self.used + MASK_LEN]);
        self.used += MASK_LEN;
        Ok(mask)
    }

    /// Takes a new stock. To be called in a quiet moment by who does not want a [`draw`](Self::draw) to meet it.
    ///
    /// # Errors
    ///
    /// [`Error::Randomness`] where the system has no random numbers.
    #[cold]
    pub fn refill(&mut self) -> Result<(), Error> {
        // Should this fail halfway, what is in the stock has no known quality: leave it marked as used up.
        self.used = POOL_LEN;
        rand::fill(&mut self.stock).map_err(|_| Error::Randomness)?;
        self.used = 0;
        Ok(())
    }
}

impl fmt::Debug for MaskPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the stock: a mask that stands in a log is not unpredictable.
        f.debug_struct("MaskPool").field("used", &self.used).finish_non_exhaustive()
    }
}

/// Writes `payload` under `mask` to `out`, which is of the same length.
///
/// Eight bytes at a time: the compiler makes vectors of it, and a length of up to 7 remains to be done singly.
#[inline]
pub(super) fn apply(payload: &[u8], mask: [u8; MASK_LEN], out: &mut [u8]) {
    debug_assert_eq!(payload.len(), out.len());
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (from, from_rest) = payload.as_chunks::<8>();
    let (to, to_rest) = out.as_chunks_mut::<8>();
    for (to, from) in to.iter_mut().zip(from) {
        *to = (u64::from_ne_bytes(*from) ^ wide).to_ne_bytes();
    }
    for (i, (to, from)) in to_rest.iter_mut().zip(from_rest).enumerate() {
        *to = from ^ mask[i % MASK_LEN];
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_payload_of_any_length_is_masked_as_the_rfc_writes_it() {
        // Section 5.3: transformed-octet-i = original-octet-i XOR masking-key-octet-(i MOD 4).
        let mask = [0x37, 0xFA, 0x21, 0x3D];
        for len in 0..100u8 {
            let payload: Vec<u8> = (0..len).collect();
            let expected: Vec<u8> = (0..len).map(|i| i ^ mask[usize::from(i) % 4]).collect();
            let mut out = vec![0xAA; usize::from(len)];
            apply(&payload, mask, &mut out);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn masks_do_not_repeat_across_refills() {
        let mut pool = MaskPool::new().unwrap();
        // 20,000 draws of 32 bits repeat by chance about 0.05 times; 1,000 repeats would be a stock handed out again.
        let masks: HashSet<_> = (0..20_000).map(|_| pool.draw().unwrap()).collect();
        assert!(masks.len() > 19_990, "{} different masks of 20,000", masks.len());
    }

    #[test]
    fn two_pools_hand_out_different_masks() {
        let (mut one, mut other) = (MaskPool::new().unwrap(), MaskPool::new().unwrap());
        let draw = |pool: &mut MaskPool| (0..8).map(|_| pool.draw().unwrap()).collect::<Vec<_>>();
        assert_ne!(draw(&mut one), draw(&mut other));
    }

    #[test]
    fn a_pool_does_not_show_its_masks() {
        let pool = MaskPool::new().unwrap();
        assert_eq!(format!("{pool:?}"), "MaskPool { used: 0, .. }");
    }
}
