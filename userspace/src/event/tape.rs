//! Reading fields off simd-json's tape.
//!
//! In comes the tape of one message, out go numbers, and strings as [`Place`]s in the payload: while the tape is in use
//! simd-json has the payload to itself, so nothing here can lend a string for longer. What a field means is the
//! business of the file of its type. Nothing here allocates, except that vectors of levels grow to their working size.
//!
//! The tape is flat: a container's node is followed by all that is in it, keys and values in turn.

use simd_json::{Node, StaticNode};

use super::Body;
use super::decimal::{self, Decimal};
use super::depth::Level;
use super::raw::{Misfit, Problem, Raw, Why};

/// A key of the venue's objects, and how it is called in a [`Misfit`].
#[derive(Clone, Copy)]
pub(super) struct Key {
    slot: u8,
    name: &'static str,
}

impl Key {
    pub(super) const PREVIOUS_UPDATE_ID: Self = Self { slot: 59, name: "pu" };
    pub(super) const LAST_UPDATE_ID: Self = Self { slot: 60, name: "lastUpdateId" };
    pub(super) const BIDS: Self = Self { slot: 61, name: "bids" };
    pub(super) const ASKS: Self = Self { slot: 62, name: "asks" };

    /// The key that is one letter.
    pub(super) const fn letter(name: &'static str) -> Self {
        Self::inside(name.as_bytes()[0], name)
    }

    /// The key that is one letter, of an object inside another one: `name` says where.
    pub(super) const fn inside(letter: u8, name: &'static str) -> Self {
        assert!(letter.is_ascii_alphabetic());
        Self { slot: letter & 63, name }
    }

    /// The complaint about this key's value.
    pub(super) const fn misfit(self, problem: Problem) -> Misfit {
        Misfit { field: self.name, problem }
    }
}

/// A string of the payload: where it begins and how long it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) start: usize,
    pub(super) len: usize,
}

impl Place {
    /// The string at this place of the payload.
    ///
    /// # Panics
    ///
    /// Never: the place was that of a `&str` inside this payload, and the payload has not changed since.
    pub(super) fn of(self, text: &[u8]) -> &str {
        std::str::from_utf8(&text[self.start..][..self.len]).expect("the tape had it as a string")
    }
}

/// A part of the payload that is known to be text, so that what lies in it need not be looked at again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strings<'a> {
    start: usize,
    text: &'a str,
}

impl<'a> Strings<'a> {
    /// The start of the payload, as far as `end` at least; nothing where that is not all text.
    ///
    /// To look at a string costs several instructions for each byte, unless the bytes are ASCII, aligned to a word, and a
    /// multiple of 16: then it is one for two bytes. So this begins at the first word of the payload and goes on a little
    /// behind `end`.
    #[inline(always)]
    pub(super) fn of(payload: &'a [u8], end: usize) -> Self {
        let start = payload.as_ptr().addr().wrapping_neg() % 8;
        let aligned = payload.get(start..).unwrap_or_default();
        let len = end.saturating_sub(start).next_multiple_of(16).min(aligned.len());
        std::str::from_utf8(&aligned[..len]).map(|text| Self { start, text }).unwrap_or_default()
    }

    #[inline(always)]
    fn get(self, place: Place) -> Option<&'a str> {
        let start = place.start.checked_sub(self.start)?;
        self.text.get(start..start + place.len)
    }
}

/// What an event borrows: available when the tape is no longer in use.
#[derive(Clone, Copy)]
pub(super) struct Lent<'a> {
    /// The payload, with its escapes resolved where there were any.
    pub(super) text: &'a [u8],
    /// The part of `text` that has been looked at already.
    pub(super) strings: Strings<'a>,
    /// The payload as it arrived.
    pub(super) payload: &'a [u8],
    /// The stream's name, where there is an envelope.
    pub(super) stream: Option<Place>,
    /// `e`, where it is a string.
    pub(super) event_type: Option<Place>,
    pub(super) bids: &'a [Level],
    pub(super) asks: &'a [Level],
}

impl<'a> Lent<'a> {
    #[inline(always)]
    pub(super) fn str(&self, place: Place) -> &'a str {
        self.strings.get(place).unwrap_or_else(|| place.of(self.text))
    }

    pub(super) fn raw(&self, why: Why) -> Body<'a> {
        let event_type = self.event_type.map(|place| self.str(place));
        Body::Raw(Raw { why, event_type, payload: self.payload })
    }
}

/// The tape of one message.
#[derive(Clone, Copy)]
pub(super) struct Tape<'t, 'x> {
    nodes: &'t [Node<'x>],
    /// Where the payload begins in memory: only to compute the places of strings in it.
    payload_address: usize,
}

impl<'t, 'x> Tape<'t, 'x> {
    /// The root of every document.
    pub(super) const ROOT: usize = 0;

    pub(super) const fn new(nodes: &'t [Node<'x>], payload_address: usize) -> Self {
        Self { nodes, payload_address }
    }

    pub(super) fn node(self, at: usize) -> Node<'x> {
        self.nodes[at]
    }

    pub(super) fn place(self, text: &'x str) -> Place {
        Place { start: text.as_ptr().addr() - self.payload_address, len: text.len() }
    }

    pub(super) fn is_object(self, at: usize) -> bool {
        matches!(self.nodes[at], Node::Object { .. })
    }

    /// The keys of the object at `at` with the positions of their values; nothing where it is no object.
    pub(super) fn entries(self, at: usize) -> impl Iterator<Item = (&'x str, usize)> + use<'t, 'x> {
        let len = if let Node::Object { len, .. } = self.nodes[at] { len } else { 0 };
        let mut key_at = at + 1;
        (0..len).map_while(move |_| {
            let Node::String(key) = self.nodes[key_at] else { return None };
            let value_at = key_at + 1;
            key_at = value_at + self.width(value_at);
            Some((key, value_at))
        })
    }

    /// Where the value of `key` is in the object at `at`: of the last one, as JSON readers commonly have it, where the
    /// key is there more than once. For the rare messages: it walks over all keys.
    pub(super) fn find(self, at: usize, key: &str) -> Option<usize> {
        self.entries(at).filter(|(name, _)| *name == key).last().map(|(_, value_at)| value_at)
    }

    /// The unsigned integer at `at`, written as a number or as a string of digits.
    pub(super) fn loose_integer(self, at: usize) -> Option<u64> {
        match self.nodes[at] {
            Node::Static(StaticNode::U64(value)) => Some(value),
            Node::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
    }

    /// The decimal at `at`.
    #[inline]
    fn decimal(self, at: usize) -> Result<Decimal, Problem> {
        match self.nodes[at] {
            Node::String(text) => decimal::parse(text.as_bytes()),
            Node::Static(StaticNode::U64(value)) => Ok(decimal::from_integer(value)),
            Node::Static(StaticNode::I64(_)) => Err(Problem::Negative),
            Node::Static(StaticNode::F64(_)) => Err(Problem::BareFloat),
            _ => Err(Problem::WrongType),
        }
    }

    /// Puts the levels of the array at `at` in `levels`, in their order. A level is an array that begins with the price
    /// and the quantity; whatever follows is ignored (spot once sent an empty array there).
    fn levels(self, at: usize, levels: &mut Vec<Level>) -> Result<(), Problem> {
        levels.clear();
        let Node::Array { len, .. } = self.nodes[at] else { return Err(Problem::WrongType) };
        levels.reserve(len);
        let mut at = at + 1;
        for _ in 0..len {
            let Node::Array { len: 2.., .. } = self.nodes[at] else { return Err(Problem::WrongType) };
            let price = self.decimal(at + 1)?;
            let quantity = self.decimal(at + 1 + self.width(at + 1))?;
            levels.push(Level { price, quantity });
            at += self.width(at);
        }
        Ok(())
    }

    /// How many nodes the value at `at` takes.
    fn width(self, at: usize) -> usize {
        match self.nodes[at] {
            Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
            Node::String(_) | Node::Static(_) => 1,
        }
    }
}

/// Where the values of the known keys of one object are.
///
/// One walk over the object notes them all, whatever their order; of a key that is there more than once the last value
/// counts.
pub(super) struct Fields<'t, 'x> {
    pub(super) tape: Tape<'t, 'x>,
    /// By slot of the key; 0, where no value can be, for a key that is not there. Slot 0 takes the unknown keys.
    at: [u32; 64],
}

impl<'t, 'x> Fields<'t, 'x> {
    /// The fields of the object at `at`; none where it is no object.
    pub(super) fn of(tape: Tape<'t, 'x>, at: usize) -> Self {
        let mut fields = Self { tape, at: [0; 64] };
        for (key, value_at) in tape.entries(at) {
            let slot = match key.as_bytes() {
                [letter] if letter.is_ascii_alphabetic() => letter & 63,
                b"pu" => Key::PREVIOUS_UPDATE_ID.slot,
                b"lastUpdateId" => Key::LAST_UPDATE_ID.slot,
                b"bids" => Key::BIDS.slot,
                b"asks" => Key::ASKS.slot,
                _ => 0,
            };
            #[expect(clippy::cast_possible_truncation, reason = "simd-json's documents have less than 2^32 bytes")]
            let value_at = value_at as u32;
            fields.at[usize::from(slot)] = value_at;
        }
        fields.at[0] = 0;
        fields
    }

    pub(super) fn at(&self, key: Key) -> Option<usize> {
        match self.at[usize::from(key.slot)] {
            0 => None,
            at => Some(at as usize),
        }
    }

    pub(super) fn has(&self, key: Key) -> bool {
        self.at(key).is_some()
    }

    /// The string under `key`, if it is there and is one.
    pub(super) fn str(&self, key: Key) -> Option<&'x str> {
        match self.tape.node(self.at(key)?) {
            Node::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn text(&self, key: Key) -> Result<Place, Misfit> {
        match self.node(key)? {
            Node::String(text) => Ok(self.tape.place(text)),
            _ => Err(key.misfit(Problem::WrongType)),
        }
    }

    pub(super) fn integer(&self, key: Key) -> Result<u64, Misfit> {
        match self.node(key)? {
            Node::Static(StaticNode::U64(value)) => Ok(value),
            _ => Err(key.misfit(Problem::WrongType)),
        }
    }

    pub(super) fn boolean(&self, key: Key) -> Result<bool, Misfit> {
        match self.node(key)? {
            Node::Static(StaticNode::Bool(value)) => Ok(value),
            _ => Err(key.misfit(Problem::WrongType)),
        }
    }

    pub(super) fn decimal(&self, key: Key) -> Result<Decimal, Misfit> {
        self.tape.decimal(self.required(key)?).map_err(|problem| key.misfit(problem))
    }

    pub(super) fn levels(&self, key: Key, levels: &mut Vec<Level>) -> Result<(), Misfit> {
        self.tape.levels(self.required(key)?, levels).map_err(|problem| key.misfit(problem))
    }

    /// `read` of `key` where the key is there.
    pub(super) fn optional<T>(
        &self,
        key: Key,
        read: impl FnOnce(&Self, Key) -> Result<T, Misfit>,
    ) -> Result<Option<T>, Misfit> {
        self.has(key).then(|| read(self, key)).transpose()
    }

    pub(super) fn node(&self, key: Key) -> Result<Node<'x>, Misfit> {
        self.required(key).map(|at| self.tape.node(at))
    }

    fn required(&self, key: Key) -> Result<usize, Misfit> {
        self.at(key).ok_or(key.misfit(Problem::Missing))
    }
}
