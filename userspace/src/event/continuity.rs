//! The gap detector: whether the venue's own numbering says that something is missing.
//!
//! In come the events of one connection in their order, out goes a [`Gap`] where a number does not continue the one
//! before it. A chain is what one stream says of one symbol; its first message sets the base. Nothing is requested
//! again and nothing repaired here.
//!
//! Which rules hold is for the venue to say, and for captures to confirm; a rule without captured steps to confirm it
//! is not enforced. What captures of 2021 and 2024 show, as steps that keep the rule of all steps:
//!
//! | chain | rule | spot | USD-M |
//! |---|---|---|---|
//! | depth | `U` = `u` before + 1 (spot), `pu` = `u` before (USD-M) | 6,667 of 6,667 | 7,310 of 7,310 |
//! | trade | `t` = `t` before + 1 | 19,903 of 19,903 | 21,312 of 21,312, all of them `X` = `MARKET` |
//! | aggTrade | `a` = `a` before + 1 | no step captured: not enforced | 87 of 87 |
//! | bookTicker | `u` > `u` before; skips are normal | 73,254 of 73,254 | 66,697 of 66,697 |
//!
//! Limits: a trade of the insurance fund (`X` other than `MARKET`) is in no capture, so whether it takes a number of its
//! own is not known. Streams that send the same messages under another name, such as the partial depth of USD-M
//! (`@depth5`), are not enforced; on a raw stream, which has no name, they cannot be told apart, and neither can two
//! update speeds of one depth stream: use combined streams there. One detector per connection: call
//! [`Continuity::forget`] on a new one.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::{Body, Event};
use crate::floor::counters::counters;

/// A number that does not continue the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap<'a> {
    /// What kind of numbers.
    pub chain: Chain,
    /// The instrument.
    pub symbol: &'a str,
    /// Which way it does not continue.
    pub step: Step,
    /// The number that would have continued the chain; for [`Chain::BookTicker`] the lowest of them.
    pub expected: u64,
    /// The number that came.
    pub found: u64,
}

/// A kind of numbers that the venue gives its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chain {
    /// Update numbers of the order book, in its changes.
    Depth,
    /// Numbers of trades.
    Trade,
    /// Numbers of trades summed up.
    AggTrade,
    /// Update numbers of the order book, in its best bid and ask: they rise, with skips.
    BookTicker,
}

/// How a number fails to continue a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is too high: something is missing.
    Missing,
    /// It is the one that came before, once more.
    Repeated,
    /// It is too low, and not the one that came before.
    Backward,
}

counters! {
    /// What a [`Continuity`] has seen.
    pub struct Observed {
        /// Messages that began a chain.
        begun,
        /// Messages that continued their chain.
        continued,
        /// Messages before which something is missing.
        gaps,
        /// Messages with the number of the one before.
        repeats,
        /// Messages with a number from further back.
        backward,
        /// Messages of a stream for which no rule is known to hold.
        not_enforced,
        /// Messages of chains beyond the number that is followed.
        not_followed,
    }
}

/// Follows the chains of one connection.
///
/// After the first message of each chain nothing is allocated.
#[derive(Debug)]
pub struct Continuity {
    /// What is known of a stream, or of a symbol where the stream's name does not tell it.
    ///
    /// Looked up for every message, hence the quick hasher. A venue that finds names that collide slows down its own feed,
    /// by as many steps as it may have names.
    names: HashMap<Box<str>, Followed, RandomState>,
    names_max: usize,
    counters: Observed,
}

/// A stream or a symbol that is followed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Followed {
    /// The one kind of numbers whose rule holds in this stream; `None` for a symbol, which may have them all.
    only: Option<Chain>,
    /// The last number of each kind.
    last: [Option<u64>; 4],
}

/// Where all chains of a connection stand, for another process to follow them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Chains(Vec<(Box<str>, Followed)>);

impl Continuity {
    /// Names of streams and symbols that a detector follows unless told otherwise.
    ///
    /// Binance allows 1,024 streams on a connection; one raw stream of all symbols has some 3,500 of them. A higher
    /// bound lets a venue that invents symbols take more memory (about 150 bytes each).
    pub const NAMES_MAX: usize = 4096;

    /// A detector that follows at most `names_max` streams or symbols. What comes beyond is counted as
    /// [`Observed::not_followed`].
    #[must_use]
    pub fn new(names_max: usize) -> Self {
        Self { names: HashMap::default(), names_max, counters: Observed::default() }
    }

    /// What was seen so far.
    #[must_use]
    pub const fn counters(&self) -> &Observed {
        &self.counters
    }

    /// Ends all chains: the next message of each begins a new one. For a new connection.
    pub fn forget(&mut self) {
        self.names.clear();
    }

    /// Where the chains stand.
    #[must_use]
    pub fn chains(&self) -> Chains {
        Chains(self.names.iter().map(|(name, followed)| (name.clone(), followed.clone())).collect())
    }

    /// Goes on where another detector stood.
    pub fn inherit(&mut self, chains: &Chains) {
        self.names = chains.0.iter().take(self.names_max).cloned().collect();
    }

    /// Takes the next event of the connection; tells if it does not continue its chain. The chain goes on from what was
    /// found, so that each gap, and each restart of the venue's numbers, is told once.
    pub fn observe<'a>(&mut self, event: &Event<'a>) -> Option<Gap<'a>> {
        let link = Link::of(event)?;
        if !link.enforced {
            self.counters.not_enforced += 1;
            return None;
        }
        // A stream of one symbol has the numbers of one kind; elsewhere it is the symbol that counts.
        let stream = event.stream.filter(|stream| !stream.starts_with('!'));
        let name = stream.unwrap_or(link.symbol);
        let Some(followed) = self.names.get_mut(name) else {
            self.begin(event, &link, stream);
            return None;
        };
        let holds = match (stream, event.stream) {
            (Some(_), _) => followed.only == Some(link.chain),
            (None, Some(of_all)) => link.enforced_in(of_all),
            (None, None) => true,
        };
        if !holds {
            self.counters.not_enforced += 1;
            return None;
        }
        let Some(before) = followed.last[link.chain as usize].replace(link.last) else {
            self.counters.begun += 1;
            return None;
        };
        let expected = match link.rule {
            Rule::Next | Rule::Rises => before.saturating_add(1),
            Rule::Same => before,
        };
        let step = if link.found == expected || (link.rule == Rule::Rises && link.found > expected) {
            self.counters.continued += 1;
            return None;
        } else if link.found > expected {
            self.counters.gaps += 1;
            Step::Missing
        } else if link.last == before {
            self.counters.repeats += 1;
            Step::Repeated
        } else {
            self.counters.backward += 1;
            Step::Backward
        };
        Some(Gap { chain: link.chain, symbol: link.symbol, step, expected, found: link.found })
    }

    /// A name that has not been seen.
    #[cold]
    fn begin(&mut self, event: &Event<'_>, link: &Link<'_>, stream: Option<&str>) {
        if event.stream.is_some_and(|stream| !link.enforced_in(stream)) {
            self.counters.not_enforced += 1;
            return;
        }
        if self.names.len() >= self.names_max {
            self.counters.not_followed += 1;
            return;
        }
        let mut followed = Followed { only: stream.map(|_| link.chain), ..Followed::default() };
        followed.last[link.chain as usize] = Some(link.last);
        self.names.insert(stream.unwrap_or(link.symbol).into(), followed);
        self.counters.begun += 1;
    }
}

impl Default for Continuity {
    fn default() -> Self {
        Self::new(Self::NAMES_MAX)
    }
}

/// How a number has to relate to the last one of the message before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Next,
    Same,
    Rises,
}

/// What a message says about its chain.
pub(crate) struct Link<'a> {
    pub(crate) chain: Chain,
    pub(crate) symbol: &'a str,
    rule: Rule,
    /// The number that the rule is about.
    found: u64,
    /// The number that the next message has to relate to.
    pub(crate) last: u64,
    /// Whether captures confirm the rule.
    enforced: bool,
}

impl<'a> Link<'a> {
    pub(crate) fn of(event: &Event<'a>) -> Option<Self> {
        Some(match &event.body {
            Body::Depth(depth) => {
                let (rule, found) = match depth.previous_final_update_id {
                    Some(previous) => (Rule::Same, previous),
                    None => (Rule::Next, depth.first_update_id),
                };
                let last = depth.final_update_id;
                Self { chain: Chain::Depth, symbol: depth.symbol, rule, found, last, enforced: true }
            }
            Body::Trade(trade) => {
                let id = trade.trade_id;
                let (chain, symbol) = (Chain::Trade, trade.symbol);
                Self { chain, symbol, rule: Rule::Next, found: id, last: id, enforced: true }
            }
            Body::AggTrade(trade) => {
                let id = trade.agg_trade_id;
                let (chain, symbol) = (Chain::AggTrade, trade.symbol);
                // Only spot has this field.
                let enforced = trade.best_price_match.is_none();
                Self { chain, symbol, rule: Rule::Next, found: id, last: id, enforced }
            }
            Body::BookTicker(ticker) => {
                let id = ticker.update_id;
                let (chain, symbol) = (Chain::BookTicker, ticker.symbol);
                Self { chain, symbol, rule: Rule::Rises, found: id, last: id, enforced: true }
            }
            Body::PartialDepth(_) | Body::Kline(_) | Body::Answer(_) | Body::ServerShutdown(_) | Body::Raw(_) => {
                return None;
            }
        })
    }

    /// Whether the rule is about this stream: `btcusdt@depth@100ms` is a `depth` stream, `btcusdt@depth5` is not, and
    /// `!bookTicker` is one of all symbols.
    fn enforced_in(&self, stream: &str) -> bool {
        let kind = match stream.strip_prefix('!') {
            Some(kind) => Some(kind),
            None => stream.split('@').nth(1),
        };
        kind == Some(match self.chain {
            Chain::Depth => "depth",
            Chain::Trade => "trade",
            Chain::AggTrade => "aggTrade",
            Chain::BookTicker => "bookTicker",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Decoder, Options};
    use crate::floor::Span;

    /// Decodes the payloads one after the other and says what the detector finds.
    fn observe(detector: &mut Continuity, payloads: &[String]) -> Vec<Option<(Chain, Step, u64, u64)>> {
        let mut decoder = Decoder::new(Options::default());
        let observe = |payload: &String| {
            let mut buffer = payload.as_bytes().to_vec();
            buffer.extend([0; Span::PAD]);
            let event = decoder.decode(Span::new(&mut buffer, payload.len()));
            assert!(!matches!(event.body, Body::Raw(_)), "{event:?}");
            detector.observe(&event).map(|gap| (gap.chain, gap.step, gap.expected, gap.found))
        };
        payloads.iter().map(observe).collect()
    }

    fn check(payloads: &[String], expected: &[Option<(Chain, Step, u64, u64)>]) -> Observed {
        let mut detector = Continuity::default();
        assert_eq!(observe(&mut detector, payloads), expected);
        *detector.counters()
    }

    fn trade(symbol: &str, id: u64) -> String {
        format!(r#"{{"e":"trade","E":1,"T":1,"s":"{symbol}","t":{id},"p":"1","q":"1","m":true}}"#)
    }

    fn agg_trade(id: u64, spot: &str) -> String {
        format!(r#"{{"e":"aggTrade","E":1,"s":"A","a":{id},"p":"1","q":"1","f":1,"l":1,"T":1,"m":true{spot}}}"#)
    }

    fn ticker(symbol: &str, id: u64) -> String {
        format!(r#"{{"u":{id},"s":"{symbol}","b":"1","B":"1","a":"1","A":"1"}}"#)
    }

    fn depth(first: u64, last: u64, previous: Option<u64>) -> String {
        let previous = previous.map(|id| format!(r#""pu":{id},"#)).unwrap_or_default();
        format!(r#"{{"e":"depthUpdate","E":1,"s":"A","U":{first},"u":{last},{previous}"b":[],"a":[]}}"#)
    }

    fn in_stream(stream: &str, data: &str) -> String {
        format!(r#"{{"stream":"{stream}","data":{data}}}"#)
    }

    #[test]
    fn a_spot_depth_begins_one_after_the_end_of_the_one_before() {
        let seen = check(
            &[depth(5, 9, None), depth(10, 10, None), depth(11, 20, None), depth(22, 25, None), depth(26, 26, None)],
            &[None, None, None, Some((Chain::Depth, Step::Missing, 21, 22)), None],
        );
        assert_eq!((seen.begun, seen.continued, seen.gaps), (1, 3, 1));
    }

    #[test]
    fn a_usdm_depth_names_the_end_of_the_one_before() {
        let seen = check(
            &[depth(5, 9, Some(1)), depth(17, 20, Some(9)), depth(40, 45, Some(30)), depth(50, 55, Some(45))],
            &[None, None, Some((Chain::Depth, Step::Missing, 20, 30)), None],
        );
        assert_eq!((seen.begun, seen.continued, seen.gaps), (1, 2, 1));
    }

    #[test]
    fn a_depth_once_more_is_a_repeat_and_one_from_before_goes_backward() {
        let seen = check(
            &[depth(5, 9, None), depth(5, 9, None), depth(1, 4, None), depth(5, 9, None), depth(9, 12, None)],
            &[
                None,
                Some((Chain::Depth, Step::Repeated, 10, 5)),
                Some((Chain::Depth, Step::Backward, 10, 1)),
                None,
                Some((Chain::Depth, Step::Backward, 10, 9)),
            ],
        );
        assert_eq!((seen.repeats, seen.backward, seen.gaps), (1, 2, 0));
    }

    #[test]
    fn trades_count_up_by_one_for_each_symbol() {
        check(
            &[trade("A", 5), trade("B", 100), trade("A", 6), trade("B", 101), trade("A", 8), trade("A", 9)],
            &[None, None, None, None, Some((Chain::Trade, Step::Missing, 7, 8)), None],
        );
    }

    #[test]
    fn summed_trades_count_up_by_one_where_captures_show_it() {
        check(
            &[agg_trade(5, ""), agg_trade(6, ""), agg_trade(8, ""), agg_trade(8, "")],
            &[None, None, Some((Chain::AggTrade, Step::Missing, 7, 8)), Some((Chain::AggTrade, Step::Repeated, 9, 8))],
        );
        let seen = check(&[agg_trade(5, r#","M":true"#), agg_trade(9, r#","M":true"#)], &[None, None]);
        assert_eq!(seen.not_enforced, 2);
    }

    #[test]
    fn book_tickers_may_skip_but_not_go_back() {
        check(
            &[ticker("A", 5), ticker("A", 50), ticker("A", 50), ticker("A", 49), ticker("A", 51)],
            &[
                None,
                None,
                Some((Chain::BookTicker, Step::Repeated, 51, 50)),
                Some((Chain::BookTicker, Step::Backward, 51, 49)),
                None,
            ],
        );
    }

    #[test]
    fn kinds_of_one_symbol_do_not_disturb_each_other() {
        let seen = check(
            &[trade("A", 5), ticker("A", 900), depth(5, 9, None), agg_trade(1, ""), trade("A", 6), depth(10, 11, None)],
            &[None; 6],
        );
        assert_eq!((seen.begun, seen.continued), (4, 2));
    }

    #[test]
    fn streams_of_one_symbol_are_chains_of_their_own() {
        let (fast, slow) = ("a@depth@100ms", "a@depth");
        check(
            &[
                in_stream(fast, &depth(5, 9, None)),
                in_stream(slow, &depth(5, 50, None)),
                in_stream(fast, &depth(10, 50, None)),
                in_stream(slow, &depth(51, 60, None)),
                in_stream(fast, &depth(52, 60, None)),
            ],
            &[None, None, None, None, Some((Chain::Depth, Step::Missing, 51, 52))],
        );
    }

    #[test]
    fn a_stream_of_all_symbols_has_a_chain_for_each() {
        let all = "!bookTicker";
        check(
            &[in_stream(all, &ticker("A", 5)), in_stream(all, &ticker("B", 3)), in_stream(all, &ticker("A", 4))],
            &[None, None, Some((Chain::BookTicker, Step::Backward, 6, 4))],
        );
    }

    #[test]
    fn a_stream_without_a_known_rule_is_left_alone() {
        let seen = check(
            &[in_stream("a@depth5", &depth(5, 9, Some(4))), in_stream("a@depth5", &depth(50, 59, Some(44)))],
            &[None, None],
        );
        assert_eq!((seen.not_enforced, seen.begun), (2, 0));
    }

    #[test]
    fn symbols_beyond_the_bound_are_counted_and_not_followed() {
        let mut detector = Continuity::new(1);
        let payloads = [trade("A", 1), trade("B", 1), trade("B", 7), trade("A", 3)];
        let found = observe(&mut detector, &payloads);
        assert_eq!(found, [None, None, None, Some((Chain::Trade, Step::Missing, 2, 3))]);
        assert_eq!((detector.counters().not_followed, detector.names.len()), (2, 1));
        detector.forget();
        assert_eq!(observe(&mut detector, &[trade("B", 9), trade("B", 10)]), [None, None]);
    }

    #[test]
    fn numbers_at_the_end_of_their_range_do_not_overflow() {
        check(
            &[trade("A", u64::MAX), trade("A", u64::MAX), trade("A", 0)],
            &[None, None, Some((Chain::Trade, Step::Backward, u64::MAX, 0))],
        );
    }
}
