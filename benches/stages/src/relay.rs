//! The relay: what it costs the lane to pass a trade on to another thread, beside a push to the bare ring.
//!
//! A handler's context cannot be made outside of the path. So one message goes down the path, and its event is relayed
//! thousands of times from inside the handler: the message's own way is less than one instruction of each figure.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wiretick::event::{Body, Decimal, Event};
use wiretick::path::{Context, Handler};
use wiretick::relay::{self, Receiver};

use crate::path::{World, opened};
use crate::{Bench, Work};

const GROUP: &str = "relay";
/// Values in a batch, and twice as many places: nothing is dropped.
const VALUES: u64 = 4096;
const PLACES: usize = 2 * VALUES as usize;

/// What a strategy would take of a trade.
#[derive(Clone, Copy)]
struct Taken {
    _id: u64,
    _price: Decimal,
    _quantity: Decimal,
}

pub(crate) fn benches() -> Vec<Bench> {
    let floor = "push alone";
    vec![
        Bench::new(GROUP, floor, Push::new),
        Bench::new(GROUP, "relayed, read afterwards", Relayed::read_afterwards).beside(floor),
        // Two cores pass cache lines back and forth, which takes time and no instruction.
        Bench::new(GROUP, "relayed, read meanwhile", Relayed::read_meanwhile).beside(floor).only_timed(),
    ]
}

fn take(event: &Event<'_>, _: &mut Context<'_, '_>) -> Option<Taken> {
    match &event.body {
        Body::Trade(trade) => Some(Taken { _id: trade.trade_id, _price: trade.price, _quantity: trade.quantity }),
        _ => None,
    }
}

struct Push {
    producer: rtrb::Producer<Taken>,
    consumer: rtrb::Consumer<Taken>,
}

impl Push {
    fn new() -> Self {
        let (producer, consumer) = rtrb::RingBuffer::new(PLACES);
        Self { producer, consumer }
    }
}

impl Work for Push {
    fn prepare(&mut self) {
        while self.consumer.pop().is_ok() {}
    }

    fn run(&mut self) {
        for id in 0..VALUES {
            let value = black_box(Taken { _id: id, _price: Decimal::default(), _quantity: Decimal::default() });
            assert!(self.producer.push(value).is_ok(), "the ring is full");
        }
    }

    fn messages(&self) -> u64 {
        VALUES
    }
}

/// Relays each event so many times.
struct Often<H>(H);

impl<H: Handler> Handler for Often<H> {
    fn event(&mut self, event: &Event<'_>, context: &mut Context<'_, '_>) {
        for _ in 0..VALUES {
            self.0.event(black_box(event), context);
        }
    }
}

/// Who empties the ring.
enum Reader {
    /// We do, between the batches.
    Afterwards(Receiver<Taken>),
    /// A thread, which counts what it has read.
    Meanwhile(Arc<AtomicU64>),
}

struct Relayed {
    world: Box<World>,
    turn: Box<dyn FnMut(&mut World)>,
    reader: Reader,
    relayed: u64,
}

impl Relayed {
    fn read_afterwards() -> Self {
        Self::new(Reader::Afterwards)
    }

    fn read_meanwhile() -> Self {
        Self::new(|mut receiver| {
            let read = Arc::new(AtomicU64::new(0));
            let count = Arc::clone(&read);
            // It ends with the lane's end of the ring.
            std::thread::spawn(move || {
                while !receiver.is_abandoned() {
                    while receiver.pop().is_some() {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    std::hint::spin_loop();
                }
            });
            Reader::Meanwhile(read)
        })
    }

    fn new(reader: impl FnOnce(Receiver<Taken>) -> Reader) -> Self {
        let (relay, receiver) = relay::ring(PLACES, take);
        let mut often = Often(relay);
        let world = Box::new(opened(false, &mut often));
        let turn = Box::new(move |world: &mut World| {
            world.turn(&mut often).expect("the lane goes on");
        });
        Self { world, turn, reader: reader(receiver), relayed: 0 }
    }
}

impl Work for Relayed {
    fn prepare(&mut self) {
        match &mut self.reader {
            Reader::Meanwhile(read) => {
                while read.load(Ordering::Relaxed) < self.relayed {
                    std::thread::yield_now();
                }
            }
            Reader::Afterwards(receiver) => {
                let mut found = 0;
                while receiver.pop().is_some() {
                    found += 1;
                }
                assert_eq!(found, VALUES.min(self.relayed), "a value was dropped");
            }
        }
        self.world.burst(&[vec![crate::trade(self.relayed)]]);
        self.relayed += VALUES;
    }

    fn run(&mut self) {
        (self.turn)(&mut self.world);
    }

    fn messages(&self) -> u64 {
        VALUES
    }
}
