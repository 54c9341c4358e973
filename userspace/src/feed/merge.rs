//! One feed from several connections: each message once, from whichever connection has it first.
//!
//! In come the messages of all connections, those of one connection in their order; out goes a [`Verdict`] on each. The
//! venue's own numbers decide where a message has them, and what it says where it has none. No clock, no I/O.
//!
//! A chain of numbers (what one stream says of one symbol) goes forward only. The connection that has been there longest
//! leads; another one *joins* a chain with the first message that the leader had before it: from then on it is known to
//! continue where the other does, and the first of the two wins. Before that its messages are not delivered: between them
//! and what was delivered last there may be some that only the leader has yet to bring. So nothing is lost and nothing comes
//! out of order, whenever connections come and go, as long as one of them that has joined lives on.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::event::continuity::Link;
use crate::event::{Continuity, Event, Identity};

/// Connections that a feed can have at a time, those that are being replaced included.
pub const CONNECTIONS_MAX: usize = 8;

/// Messages without numbers that are remembered, to know their copies. A second of a busy feed; 40 bytes each.
const REMEMBERED: usize = 1 << 14;

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the first copy.
    Deliver,
    /// It has been delivered.
    Copy,
    /// Its connection has not joined the chain: the leader will bring it.
    Early,
}

/// What became of the messages of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Messages that came.
    pub messages: u64,
    /// Those of them that came first.
    pub first: u64,
    /// Those of them that came before the connection had joined their chain.
    pub early: u64,
}

/// What has been delivered so far.
#[derive(Debug)]
pub(super) struct Merge {
    /// By stream, or by symbol where the stream's name is not known: one chain for each kind of numbers.
    chains: HashMap<Box<str>, [Option<ChainState>; 4], RandomState>,
    plain: HashMap<Identity, Copies, RandomState>,
    order: VecDeque<Identity>,
    shares: [Share; CONNECTIONS_MAX],
    leader: usize,
}

#[derive(Clone, Copy, Debug)]
struct ChainState {
    last: u64,
    /// Connections that have joined, a bit for each.
    joined: u8,
    /// The last number of each connection.
    own: [u64; CONNECTIONS_MAX],
}

/// How often a message without a number has come.
#[derive(Clone, Copy, Debug, Default)]
struct Copies {
    delivered: u16,
    from: [u16; CONNECTIONS_MAX],
}

impl Merge {
    pub(super) fn new() -> Self {
        Self {
            chains: HashMap::default(),
            plain: HashMap::with_capacity_and_hasher(REMEMBERED, RandomState::default()),
            order: VecDeque::with_capacity(REMEMBERED),
            shares: [Share::default(); CONNECTIONS_MAX],
            leader: 0,
        }
    }

    /// The connection in this place leads from now on.
    pub(super) fn lead(&mut self, place: usize) {
        self.leader = place;
    }

    /// A new connection has taken this place.
    pub(super) fn seat(&mut self, place: usize) {
        for chain in self.chains.values_mut().flatten().flatten() {
            chain.joined &= !(1 << place);
            chain.own[place] = 0;
        }
        for copies in self.plain.values_mut() {
            copies.from[place] = 0;
        }
        self.shares[place] = Share::default();
    }

    pub(super) fn share(&self, place: usize) -> Share {
        self.shares[place]
    }

    /// Whether the connection could do without the leader: it has joined every chain on which both have been heard since it
    /// came.
    pub(super) fn has_joined(&self, place: usize) -> bool {
        let mut chains = self.chains.values().flatten().flatten().filter(|chain| chain.own[place] != 0);
        let mut any = false;
        let all = chains.all(|chain| {
            any = true;
            chain.joined & (1 << place) != 0
        });
        any && all
    }

    /// Judges an event that came over the connection in this place; `identify` tells what it is where it has no number.
    pub(super) fn judge(
        &mut self,
        place: usize,
        event: &Event<'_>,
        identify: impl FnOnce(&Event<'_>) -> Identity,
    ) -> Verdict {
        let verdict = match Link::of(event) {
            Some(link) => self.judge_numbered(place, event.stream.unwrap_or(link.symbol), &link),
            None => self.judge_plain(place, identify(event)),
        };
        self.note(place, verdict)
    }

    /// Judges a message that has no event.
    pub(super) fn judge_binary(&mut self, place: usize, identity: Identity) -> Verdict {
        let verdict = self.judge_plain(place, identity);
        self.note(place, verdict)
    }

    fn note(&mut self, place: usize, verdict: Verdict) -> Verdict {
        let share = &mut self.shares[place];
        share.messages += 1;
        share.first += u64::from(verdict == Verdict::Deliver);
        share.early += u64::from(verdict == Verdict::Early);
        verdict
    }

    fn judge_numbered(&mut self, place: usize, name: &str, link: &Link<'_>) -> Verdict {
        let bit = 1 << place;
        let leads = place == self.leader;
        if !self.chains.contains_key(name) {
            // Beyond that, a venue that invents names would take all memory: who leads is believed.
            if self.chains.len() >= Continuity::NAMES_MAX {
                return if leads { Verdict::Deliver } else { Verdict::Early };
            }
            self.chains.insert(name.into(), [None; 4]);
        }
        let Some(chains) = self.chains.get_mut(name) else { return Verdict::Deliver };
        let chain = &mut chains[link.chain as usize];
        let Some(chain) = chain else {
            if !leads {
                return Verdict::Early;
            }
            let mut own = [0; CONNECTIONS_MAX];
            own[place] = link.last;
            *chain = Some(ChainState { last: link.last, joined: bit, own });
            return Verdict::Deliver;
        };
        let went_back = link.last < chain.own[place];
        chain.own[place] = link.last;
        if went_back && chain.joined & bit != 0 {
            // The venue has begun to count anew. The others will say so too, and join again.
            chain.last = link.last;
            chain.joined = bit;
            return Verdict::Deliver;
        }
        if link.last <= chain.last {
            chain.joined |= bit;
            return Verdict::Copy;
        }
        if chain.joined & bit == 0 && !leads {
            return Verdict::Early;
        }
        chain.joined |= bit;
        chain.last = link.last;
        Verdict::Deliver
    }

    /// The same words can be said twice: the n-th time from one connection is a copy of the n-th time from another.
    fn judge_plain(&mut self, place: usize, identity: Identity) -> Verdict {
        if !self.plain.contains_key(&identity) {
            if self.order.len() == REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.plain.remove(&oldest);
            }
            self.order.push_back(identity);
        }
        let copies = self.plain.entry(identity).or_default();
        copies.from[place] = copies.from[place].saturating_add(1);
        if copies.from[place] <= copies.delivered {
            return Verdict::Copy;
        }
        copies.delivered = copies.from[place];
        Verdict::Deliver
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Decoder, Identifier, Options};
    use crate::floor::Span;

    fn judge(merge: &mut Merge, place: usize, payload: &str) -> Verdict {
        let mut buffer = payload.as_bytes().to_vec();
        buffer.extend([0; Span::PAD]);
        let mut decoder = Decoder::new(Options::default());
        let event = decoder.decode(Span::new(&mut buffer, payload.len()));
        merge.judge(place, &event, |event| Identifier::default().of_event(event))
    }

    fn trade(id: u64) -> String {
        format!(r#"{{"e":"trade","E":1,"s":"BTCUSDT","t":{id},"p":"1","q":"1","T":1,"m":true,"M":true}}"#)
    }

    #[test]
    fn a_connection_that_is_ahead_waits_until_it_has_said_what_was_heard_before() {
        let mut merge = Merge::new();
        assert_eq!(judge(&mut merge, 0, &trade(8)), Verdict::Deliver);
        // 9 is still under way on the first connection.
        assert_eq!(judge(&mut merge, 1, &trade(10)), Verdict::Early);
        assert!(!merge.has_joined(1));
        for id in 9..=11 {
            assert_eq!(judge(&mut merge, 0, &trade(id)), Verdict::Deliver);
        }
        assert_eq!(judge(&mut merge, 1, &trade(11)), Verdict::Copy);
        assert!(merge.has_joined(1));
        assert_eq!(judge(&mut merge, 1, &trade(12)), Verdict::Deliver);
        assert_eq!(judge(&mut merge, 0, &trade(12)), Verdict::Copy);
        assert_eq!(merge.share(1), Share { messages: 3, first: 1, early: 1 });
    }

    #[test]
    fn with_the_leader_gone_the_next_one_is_believed() {
        let mut merge = Merge::new();
        judge(&mut merge, 0, &trade(8));
        assert_eq!(judge(&mut merge, 1, &trade(10)), Verdict::Early);
        merge.lead(1);
        assert_eq!(judge(&mut merge, 1, &trade(11)), Verdict::Deliver);
    }

    #[test]
    fn a_venue_that_counts_anew_is_followed() {
        let mut merge = Merge::new();
        for place in [0, 1] {
            judge(&mut merge, place, &trade(1_000));
        }
        assert_eq!(judge(&mut merge, 1, &trade(1)), Verdict::Deliver);
        assert_eq!(judge(&mut merge, 0, &trade(1)), Verdict::Copy);
        assert_eq!(judge(&mut merge, 0, &trade(2)), Verdict::Deliver);
        assert_eq!(judge(&mut merge, 1, &trade(2)), Verdict::Copy);
    }

    #[test]
    fn what_has_no_number_may_be_said_again() {
        let mut merge = Merge::new();
        let beat = r#"{"type":"heartbeat"}"#;
        assert_eq!(judge(&mut merge, 0, beat), Verdict::Deliver);
        assert_eq!(judge(&mut merge, 1, beat), Verdict::Copy);
        assert_eq!(judge(&mut merge, 1, beat), Verdict::Deliver);
        assert_eq!(judge(&mut merge, 0, beat), Verdict::Copy);
    }

    #[test]
    fn memory_is_bounded() {
        let mut merge = Merge::new();
        for n in 0..2 * REMEMBERED as u64 {
            merge.judge_binary(0, Identity(n));
        }
        assert_eq!((merge.plain.len(), merge.order.len()), (REMEMBERED, REMEMBERED));
        let mut many = Merge::new();
        for n in 0..2 * Continuity::NAMES_MAX {
            judge(&mut many, 0, &trade(1).replace("BTCUSDT", &format!("S{n}")));
        }
        assert_eq!(many.chains.len(), Continuity::NAMES_MAX);
    }

    proptest! {
        /// However the copies of three connections interleave, and whenever two of them come: each message once, in order.
        #[test]
        fn each_message_is_delivered_once_and_in_order(
            joins in prop::array::uniform2(0_u64..60),
            turns in prop::collection::vec(0_usize..3, 300..600),
        ) {
            let mut merge = Merge::new();
            let begins = [0, joins[0], joins[1]];
            let mut next = begins;
            let mut delivered = Vec::new();
            for place in turns {
                if next[place] < 100 {
                    if judge(&mut merge, place, &trade(next[place] + 1)) == Verdict::Deliver {
                        delivered.push(next[place] + 1);
                    }
                    next[place] += 1;
                }
            }
            // The leader brings what it has yet to bring.
            while next[0] < 100 {
                if judge(&mut merge, 0, &trade(next[0] + 1)) == Verdict::Deliver {
                    delivered.push(next[0] + 1);
                }
                next[0] += 1;
            }
            prop_assert_eq!(delivered, (1..=100).collect::<Vec<_>>());
        }
    }
}
