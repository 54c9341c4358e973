//! Bytes that were right, changed in an order that is the same in every run.

/// Numbers in an order that looks like none (`SplitMix64`), the same in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    pub(crate) fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// Changes the message, which is not empty, in one place; bytes that are put in are some of `letters`.
pub(crate) fn spoil(message: &mut Vec<u8>, letters: &[u8], numbers: &mut Numbers) {
    let at = numbers.below(message.len());
    match numbers.below(9) {
        0 => message[at] ^= 1 << numbers.below(8),
        1 => message[at] = *numbers.of(letters),
        2 => drop(message.remove(at)),
        3 => message.insert(at, *numbers.of(letters)),
        4 => {
            let other = numbers.below(message.len());
            message.swap(at, other);
        }
        5 => {
            let end = (at + numbers.below(24)).min(message.len());
            message.splice(at..at, message[at..end].to_vec());
        }
        6 => {
            let end = (at + numbers.below(24)).min(message.len());
            message.drain(at..end);
        }
        7 => message.truncate(at),
        // Most likely to leave a message that is accepted.
        _ => {
            let digits: Vec<usize> = (0..message.len()).filter(|at| message[*at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                message[*numbers.of(&digits)] = *numbers.of(b"0123456789");
            }
        }
    }
    // Nothing can be changed in nothing.
    if message.is_empty() {
        message.push(b'{');
    }
}
