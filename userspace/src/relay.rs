//! Events for another thread: a ready-made handler that puts what a function makes of each event into a bounded ring, and
//! the other end of that ring.
//!
//! An [`Event`] borrows from the packet it came in, so it cannot leave the lane as it is. The function takes from it what
//! is wanted, as a value of its own (a few numbers, best `Copy`): that is all that is copied. The lane never waits. Where
//! the ring is full, the value is dropped and counted: the other thread then asks [`Receiver::dropped`] how much it has
//! missed.
//!
//! ```
//! use wiretick::event::{Body, Decimal};
//!
//! #[derive(Clone, Copy)]
//! struct Trade {
//!     id: u64,
//!     price: Decimal,
//! }
//!
//! let (handler, mut receiver) = wiretick::relay::ring(1024, |event, _| match &event.body {
//!     Body::Trade(trade) => Some(Trade { id: trade.trade_id, price: trade.price }),
//!     _ => None,
//! });
//! // `handler` goes to Feed::run; meanwhile, on another thread:
//! while let Some(trade) = receiver.pop() {
//!     println!("{} {}", trade.id, trade.price);
//! }
//! # drop(handler);
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::Event;
use crate::path::{Context, Handler};

/// The lane's end of the ring: a handler.
#[derive(Debug)]
pub struct Relay<T, F> {
    ring: rtrb::Producer<T>,
    pick: F,
    dropped: Arc<AtomicU64>,
}

/// The other thread's end.
#[derive(Debug)]
pub struct Receiver<T> {
    ring: rtrb::Consumer<T>,
    dropped: Arc<AtomicU64>,
}

/// A ring of `capacity` values. `pick` makes a value of an event, or nothing; it runs on the lane.
///
/// Choose the capacity by the longest pause of the receiving thread: at 50,000 events a second, 1,024 values are 20 ms.
///
/// # Panics
///
/// Where so much memory cannot be had.
#[must_use]
pub fn ring<T, F>(capacity: usize, pick: F) -> (Relay<T, F>, Receiver<T>)
where
    F: FnMut(&Event<'_>, &mut Context<'_, '_>) -> Option<T>,
{
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let dropped = Arc::new(AtomicU64::new(0));
    (Relay { ring: producer, pick, dropped: Arc::clone(&dropped) }, Receiver { ring: consumer, dropped })
}

impl<T, F> Handler for Relay<T, F>
where
    F: FnMut(&Event<'_>, &mut Context<'_, '_>) -> Option<T>,
{
    #[inline]
    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        if let Some(value) = (self.pick)(event, context)
            && self.ring.push(value).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<T> Receiver<T> {
    /// The oldest value, if there is one. Never waits.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        self.ring.pop().ok()
    }

    /// Values that were dropped so far because the ring was full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether the lane's end is gone: what is still in the ring is all there will ever be.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.ring.is_abandoned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{self, Body, Decoder};
    use crate::floor::Span;
    use crate::path::Path;

    #[test]
    fn values_arrive_in_order_on_another_thread_and_what_does_not_fit_is_counted() {
        const EVENTS: u64 = 1_000;
        let (mut relay, mut receiver) = ring(16, |event: &Event<'_>, _: &mut Context<'_, '_>| match &event.body {
            Body::BookTicker(ticker) => Some(ticker.update_id),
            _ => None,
        });
        let other = std::thread::spawn(move || {
            let mut seen = Vec::new();
            loop {
                match receiver.pop() {
                    Some(id) => seen.push(id),
                    // Asked after an empty look, and looked at once more: the last values may have come in between.
                    None if receiver.is_abandoned() => {
                        seen.extend(std::iter::from_fn(|| receiver.pop()));
                        return (seen, receiver.dropped());
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
        let mut path = Path::for_tests();
        let mut decoder = Decoder::new(event::Options::default());
        let mut stopped = false;
        let mut sender = path.sender();
        let mut context = Context::for_tests(&mut sender, &mut stopped);
        for id in 0..EVENTS {
            let text = format!(r#"{{"u":{id},"s":"BTCUSDT","b":"1.0","B":"2.0","a":"3.0","A":"4.0"}}"#);
            let mut bytes = text.into_bytes();
            let len = bytes.len();
            bytes.resize(len + Span::PAD, 0);
            relay.event(&decoder.decode(Span::new(&mut bytes, len)), &mut context);
        }
        drop(relay);
        let (seen, dropped) = other.join().unwrap();
        assert!(seen.is_sorted() && seen.len() >= 16);
        assert_eq!(seen.len() as u64 + dropped, EVENTS, "what did not arrive was counted");
    }
}
