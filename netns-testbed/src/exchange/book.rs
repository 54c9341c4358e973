//! One symbol of the synthetic exchange: an order book that moves at random and never contradicts itself.
//!
//! What comes in are random numbers; what goes out are three kinds of event, as Binance's spot market sends them: a
//! trade, the best bid and offer, and the levels that changed since the last time. A reader that applies every level of
//! every [`Event::Depth`] to an empty book has this book: never crossed, its best levels those of the last ticker.

use std::collections::VecDeque;

use wiretick_impair::random::Random;

/// A price and what is on offer there. Prices count in ticks of 0.01, quantities in lots of 0.00001.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) tick: u64,
    pub(super) lots: u64,
}

/// What a market has to say next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Somebody traded.
    Trade(Trade),
    /// The best bid or offer is another.
    Ticker,
    /// Levels changed; [`Market::take_changes`] has them.
    Depth,
}

/// One trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trade {
    pub(super) id: u64,
    pub(super) tick: u64,
    pub(super) lots: u64,
    pub(super) buyer_is_maker: bool,
}

/// The levels that changed since the last time, each with its present quantity (0: gone).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// The first update in it: one after the last update of the changes before.
    pub(super) first_update: u64,
    /// The last update in it.
    pub(super) last_update: u64,
    /// From the best bid down.
    pub(super) bids: Vec<Level>,
    /// From the best offer up.
    pub(super) asks: Vec<Level>,
}

/// Levels a side is kept above, so that a best level can always go. Lower, and a run of trades could empty the side.
const LEVELS_MIN: usize = 300;
/// Levels a side is kept below: the largest message stays near the largest captured, 34,571 bytes for some 1,000 levels.
const LEVELS_MAX: usize = 800;
/// The largest quantity a level gets: 12 coins.
const LOTS_MAX: u64 = 1_200_000;

/// One symbol's book and counters.
#[derive(Clone, Debug)]
pub(super) struct Market {
    /// Best first: falling ticks.
    bids: VecDeque<Level>,
    /// Best first: rising ticks.
    asks: VecDeque<Level>,
    /// Ticks that changed since the last changes were taken, in no order, perhaps more than once.
    touched_bids: Vec<u64>,
    touched_asks: Vec<u64>,
    first_tick: u64,
    update: u64,
    updates_told: u64,
    trade_id: u64,
    /// The best changed through a trade and nobody has been told.
    ticker_is_due: bool,
    /// Nobody has been told the book at all.
    is_new: bool,
}

impl Market {
    /// A market around `tick`, with a full book.
    pub(super) fn new(tick: u64, random: &mut Random) -> Self {
        assert!(tick >= 100_000, "a market below 1,000.00 has no room for its bids to fall");
        let mut market = Self {
            bids: VecDeque::with_capacity(LEVELS_MAX + 1),
            asks: VecDeque::with_capacity(LEVELS_MAX + 1),
            touched_bids: Vec::new(),
            touched_asks: Vec::new(),
            first_tick: tick,
            update: 50_093_239_188 + random.below(1 << 32),
            updates_told: 0,
            trade_id: 3_735_683_258 + random.below(1 << 30),
            ticker_is_due: false,
            is_new: true,
        };
        market.updates_told = market.update;
        market.bids.push_back(Level { tick, lots: lots(random) });
        market.asks.push_back(Level { tick: tick + 1, lots: lots(random) });
        while market.bids.len() < LEVELS_MAX / 2 {
            market.deepen(Side::Bid, random);
            market.deepen(Side::Ask, random);
        }
        market.touched_bids.extend(market.bids.iter().map(|level| level.tick));
        market.touched_asks.extend(market.asks.iter().map(|level| level.tick));
        market.update += market.touched_bids.len() as u64 + market.touched_asks.len() as u64;
        market
    }

    /// Moves the market to its next event. In the long run 20 % are trades, 73 % tickers and 7 % depth, as in the
    /// captured BTCUSDT; a trade is always followed by a ticker.
    pub(super) fn step(&mut self, random: &mut Random) -> Event {
        if std::mem::take(&mut self.is_new) {
            return Event::Depth;
        }
        if std::mem::take(&mut self.ticker_is_due) {
            return Event::Ticker;
        }
        match random.below(1000) {
            0..250 => Event::Trade(self.trade(random)),
            250..919 => {
                self.move_best(random);
                Event::Ticker
            }
            _ => {
                self.move_deep(random);
                Event::Depth
            }
        }
    }

    /// The number of the last update.
    pub(super) const fn update(&self) -> u64 {
        self.update
    }

    /// The best bid.
    pub(super) fn best_bid(&self) -> Level {
        self.bids[0]
    }

    /// The best offer.
    pub(super) fn best_ask(&self) -> Level {
        self.asks[0]
    }

    /// Hands over what changed and begins to collect anew.
    pub(super) fn take_changes(&mut self, changes: &mut Changes) {
        changes.first_update = self.updates_told + 1;
        changes.last_update = self.update;
        self.updates_told = self.update;
        for (touched, levels, told) in [
            (&mut self.touched_bids, &self.bids, &mut changes.bids),
            (&mut self.touched_asks, &self.asks, &mut changes.asks),
        ] {
            touched.sort_unstable();
            touched.dedup();
            told.clear();
            // Bids fall and touched ticks rise: which way to search and to tell depends on the side.
            let falling = levels[0].tick > levels[1].tick;
            told.extend(touched.iter().map(|&tick| {
                let found = levels
                    .binary_search_by(|level| if falling { tick.cmp(&level.tick) } else { level.tick.cmp(&tick) });
                Level { tick, lots: found.map_or(0, |at| levels[at].lots) }
            }));
            if falling {
                told.reverse();
            }
            touched.clear();
        }
    }

    fn side(&mut self, side: Side) -> (&mut VecDeque<Level>, &mut Vec<u64>) {
        match side {
            Side::Bid => (&mut self.bids, &mut self.touched_bids),
            Side::Ask => (&mut self.asks, &mut self.touched_asks),
        }
    }

    fn touch(&mut self, side: Side, tick: u64) {
        self.update += 1;
        self.side(side).1.push(tick);
    }

    /// A trade at the best level of one side, which takes part of it or all.
    fn trade(&mut self, random: &mut Random) -> Trade {
        let side = Side::any(random);
        let best = self.side(side).0[0];
        let lots = if random.below(8) == 0 { best.lots } else { random.between(1, best.lots.min(20_000)) };
        if lots == best.lots {
            self.remove(side, 0, random);
        } else {
            self.side(side).0[0].lots -= lots;
            self.touch(side, best.tick);
        }
        self.trade_id += 1;
        self.ticker_is_due = true;
        Trade { id: self.trade_id, tick: best.tick, lots, buyer_is_maker: side == Side::Bid }
    }

    /// The best level of one side grows, shrinks, goes, or is bettered where there is room between the sides.
    fn move_best(&mut self, random: &mut Random) {
        let room = self.best_ask().tick - self.best_bid().tick - 1;
        // Somebody steps into the room between the sides sooner or later: they stay together.
        let betters = room > 0 && random.below(3) > 0;
        let goes = !betters && random.below(6) == 0;
        let side = match (betters, goes) {
            (true, _) if self.is_below_half() => Side::Bid,
            (_, true) if self.is_below_half() => Side::Ask,
            _ => Side::any(random),
        };
        let best = self.side(side).0[0];
        if betters {
            let step = random.between(1, room.min(5));
            let tick = if side == Side::Bid { best.tick + step } else { best.tick - step };
            let lots = lots(random);
            self.side(side).0.push_front(Level { tick, lots });
            self.touch(side, tick);
            self.shorten(side);
        } else if goes {
            self.remove(side, 0, random);
        } else {
            self.side(side).0[0].lots = other_lots(best.lots, random);
            self.touch(side, best.tick);
        }
    }

    /// Whether the price has lost half of what it began with: from there on it moves up only. A walk at random reaches
    /// every price in the end, and the bids need room below.
    fn is_below_half(&self) -> bool {
        self.best_bid().tick < self.first_tick / 2
    }

    /// Some levels behind the best change: mostly a dozen or two, sometimes hundreds, as captured.
    fn move_deep(&mut self, random: &mut Random) {
        let changes = match random.below(100) {
            0..2 => random.between(300, 1200),
            2..20 => random.between(60, 250),
            _ => random.between(6, 30),
        };
        for _ in 0..changes {
            let side = Side::any(random);
            let levels = self.side(side).0;
            let at = random.between(1, levels.len() as u64 - 2) as usize;
            let (level, next) = (levels[at], levels[at + 1]);
            match random.below(5) {
                0 if levels.len() > LEVELS_MIN => self.remove(side, at, random),
                1 if level.tick.abs_diff(next.tick) > 1 => {
                    let tick = level.tick.midpoint(next.tick);
                    let lots = lots(random);
                    self.side(side).0.insert(at + 1, Level { tick, lots });
                    self.touch(side, tick);
                    self.shorten(side);
                }
                _ => {
                    levels[at].lots = other_lots(level.lots, random);
                    self.touch(side, level.tick);
                }
            }
        }
    }

    fn remove(&mut self, side: Side, at: usize, random: &mut Random) {
        let Some(level) = self.side(side).0.remove(at) else { return };
        self.touch(side, level.tick);
        while self.side(side).0.len() < LEVELS_MIN {
            let tick = self.deepen(side, random);
            self.touch(side, tick);
        }
    }

    /// Adds a level behind the last one.
    fn deepen(&mut self, side: Side, random: &mut Random) -> u64 {
        let (step, lots) = (random.between(1, 40), lots(random));
        let levels = self.side(side).0;
        let last = levels[levels.len() - 1].tick;
        let tick = if side == Side::Bid { last - step } else { last + step };
        levels.push_back(Level { tick, lots });
        tick
    }

    /// Takes the last level away where there are too many.
    fn shorten(&mut self, side: Side) {
        if self.side(side).0.len() > LEVELS_MAX
            && let Some(level) = self.side(side).0.pop_back()
        {
            self.touch(side, level.tick);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Bid,
    Ask,
}

impl Side {
    fn any(random: &mut Random) -> Self {
        if random.below(2) == 0 { Self::Bid } else { Self::Ask }
    }
}

/// A quantity: mostly small, as real ones are.
fn lots(random: &mut Random) -> u64 {
    let ceiling = random.between(1, LOTS_MAX);
    random.between(1, ceiling)
}

/// A quantity that differs from the present one, so that what is told as a change is one.
fn other_lots(present: u64, random: &mut Random) -> u64 {
    let lots = lots(random);
    if lots == present { lots + 1 } else { lots }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_book_rebuilt_from_the_changes_is_the_book() {
        for seed in 0..5 {
            let mut random = Random::new(seed);
            let mut market = Market::new(6_183_763, &mut random);
            let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
            let mut changes = Changes::default();
            let (mut last_update, mut last_trade) = (None, None);
            for _ in 0..10_000 {
                match market.step(&mut random) {
                    Event::Trade(trade) => {
                        assert!(last_trade.is_none_or(|last| trade.id == last + 1));
                        assert!(trade.lots > 0);
                        last_trade = Some(trade.id);
                    }
                    Event::Ticker => assert!(market.best_bid().tick < market.best_ask().tick),
                    Event::Depth => {
                        market.take_changes(&mut changes);
                        assert!(last_update.is_none_or(|last| changes.first_update == last + 1));
                        assert!(changes.last_update >= changes.first_update);
                        last_update = Some(changes.last_update);
                        assert!(changes.bids.is_sorted_by(|a, b| a.tick > b.tick));
                        assert!(changes.asks.is_sorted_by(|a, b| a.tick < b.tick));
                        for (side, changed) in [(&mut bids, &changes.bids), (&mut asks, &changes.asks)] {
                            for level in changed {
                                match level.lots {
                                    0 => side.remove(&level.tick),
                                    lots => side.insert(level.tick, lots),
                                };
                            }
                        }
                        let best = |level: Level| (level.tick, level.lots);
                        assert_eq!(bids.last_key_value().map(|(t, l)| (*t, *l)), Some(best(market.best_bid())));
                        assert_eq!(asks.first_key_value().map(|(t, l)| (*t, *l)), Some(best(market.best_ask())));
                        assert_eq!((bids.len(), asks.len()), (market.bids.len(), market.asks.len()));
                    }
                }
            }
        }
    }

    #[test]
    fn a_price_that_fell_to_half_comes_back() {
        let mut random = Random::new(3);
        let mut market = Market::new(6_183_763, &mut random);
        market.first_tick *= 3;
        let before = market.best_bid().tick;
        for _ in 0..100_000 {
            if market.step(&mut random) == Event::Depth {
                market.take_changes(&mut Changes::default());
            }
        }
        assert!(market.best_bid().tick > before + 10_000, "{} from {before}", market.best_bid().tick);
    }

    #[test]
    fn events_come_in_the_captured_proportion() {
        let mut random = Random::new(7);
        let mut market = Market::new(6_183_763, &mut random);
        let mut seen = [0_u32; 3];
        for _ in 0..100_000 {
            match market.step(&mut random) {
                Event::Trade(_) => seen[0] += 1,
                Event::Ticker => seen[1] += 1,
                Event::Depth => {
                    seen[2] += 1;
                    market.take_changes(&mut Changes::default());
                }
            }
        }
        assert!((19_000..21_000).contains(&seen[0]), "{seen:?}");
        assert!((72_500..74_500).contains(&seen[1]), "{seen:?}");
        assert!((6_000..7_000).contains(&seen[2]), "{seen:?}");
    }
}
