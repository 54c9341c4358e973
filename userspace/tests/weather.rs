//! Any weather: hundreds of worlds, each with its own mixture of everything a wire can do, in virtual time.
//!
//! What must hold in each: the handler gets the messages, byte for byte and in order; or it gets as many as came whole, and
//! the caller a clear error. Never silence, and never a panic. What is answered arrives the same way. There is one exception, and
//! it is TCP's ([`End::OutOfStep`]).
//!
//! A seed decides everything but what TLS draws for itself: keys, and with them the length of a signature, by a byte or two.
//!
//! `WIRETICK_SEEDS=10000` makes it that many worlds, `WIRETICK_SEED=17` one alone; a failure says which seed it was.

mod memory;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memory::{Coin, Manners, Setup, World};
use wiretick::event::Event;
use wiretick::message::Kind;
use wiretick::path::{Context, Handler};
use wiretick_impair::{Aim, Burst, Chance, Counters, Direction, Forgery, Impairments, Injection, Plan, Rate, Reorder};

/// Worlds without further ado: some seconds.
const SEEDS: u64 = 1_000;
/// The virtual time in which everything must be over: TCP doubles its patience with each loss, to a minute and more.
const PATIENCE: Duration = Duration::from_secs(1800);
const MS: Duration = Duration::from_millis(1);

/// What may happen to a connection that is no fault of anybody on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Nothing that TCP cannot repair.
    None,
    /// Flipped bits with a right checksum: TLS must notice.
    ForgedPayload,
    /// A forged segment that fits exactly.
    Exact(Forgery),
    /// The wire is cut for so long.
    Cut(Duration),
}

impl Harm {
    /// What an error may say then. Nothing where there must be none.
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::None | Self::Cut(_) => &[],
            // Where the client's bytes were forged, the exchange notices, and says so in an alert or closes.
            Self::ForgedPayload => &["TLS", "authentication", "alert", "close_notify", "WebSocket", "reset"],
            Self::Exact(Forgery::Rst(_)) => &["it has reset the connection"],
            Self::Exact(Forgery::Fin(_)) => &["close_notify", "without a WebSocket close"],
            Self::Exact(_) => &["TLS", "authentication", "record", "reset", "close_notify"],
        }
    }
}

/// A world's weather, all of it from its number.
struct Forecast {
    plan: Plan,
    harm: Harm,
    messages: usize,
    batch: usize,
    echo: bool,
    tls: bool,
    ipv6: bool,
    vlan: Option<u16>,
}

impl Forecast {
    fn new(seed: u64) -> Self {
        let mut coin = Coin::new(seed ^ 0x7ea7);
        // The first numbers of neighbouring seeds are alike.
        let _ = (0..8).map(|_| coin.next()).last();
        let mut plan =
            Plan { to_client: impairments(&mut coin), to_exchange: impairments(&mut coin), ..Plan::default() };
        // The peer here is smoltcp as it is: it closes on any RST inside its window. Only we are to be fooled.
        let few = Chance::percent(2);
        let harmless = [
            Forgery::Rst(Aim::Blind),
            Forgery::Rst(Aim::InWindow),
            Forgery::Syn(Aim::Exact),
            Forgery::Syn(Aim::Blind),
            Forgery::Data(Aim::Blind, 100),
            Forgery::Fin(Aim::Blind),
            Forgery::Unreachable(Aim::Exact),
            Forgery::Unreachable(Aim::Blind),
        ];
        for forgery in harmless {
            if one_in(&mut coin, 4) {
                plan.to_client.forgeries.push((few, forgery));
            }
        }
        let tls = !one_in(&mut coin, 6);
        let harm = match coin.next() % 12 {
            // Without TLS, nobody could notice.
            0 if tls => Harm::ForgedPayload,
            1 => Harm::Exact(Forgery::Rst(Aim::Exact)),
            2 => Harm::Exact(Forgery::Fin(Aim::Exact)),
            3 if tls => Harm::Exact(Forgery::Data(Aim::Exact, 1 + (coin.next() % 200) as u16)),
            4 | 5 => Harm::Cut(MS * (1 + coin.next() % 10_000) as u32),
            _ => Harm::None,
        };
        if harm == Harm::ForgedPayload {
            let to = if one_in(&mut coin, 4) { &mut plan.to_exchange } else { &mut plan.to_client };
            to.forge_payload = Chance::percent(1);
        }
        Self {
            plan,
            harm,
            messages: 50 + coin.next() as usize % 200,
            batch: 1 + coin.next() as usize % 20,
            echo: one_in(&mut coin, 3),
            tls,
            ipv6: one_in(&mut coin, 3),
            vlan: one_in(&mut coin, 5).then_some(42),
        }
    }
}

fn one_in(coin: &mut Coin, n: u64) -> bool {
    coin.next().is_multiple_of(n)
}

/// Every impairment that TCP repairs, each in a third of all cases.
fn impairments(coin: &mut Coin) -> Impairments {
    let mut drawn = Impairments::default();
    let mut some = |most: u64| {
        let percent = 1 + coin.next() % most;
        if one_in(coin, 3) { Chance::percent(percent as u32) } else { Chance::NEVER }
    };
    drawn.loss = some(5);
    drawn.duplicate = some(20);
    drawn.corrupt = some(5);
    drawn.truncate = some(5);
    drawn.split = some(40);
    drawn.join = some(40);
    let reorder = some(20);
    drawn.reorder = (reorder > Chance::NEVER).then_some(Reorder::some(reorder));
    let begin = some(2);
    let burst = Burst { begin, end: Chance::percent(30), loss: Chance::percent(90) };
    drawn.burst = (begin > Chance::NEVER).then_some(burst);
    if one_in(coin, 3) {
        drawn.delay = MS * (coin.next() % 50) as u32;
    }
    if one_in(coin, 3) {
        drawn.jitter = MS * (coin.next() % 6) as u32;
        drawn.overtaking = one_in(coin, 2);
    }
    if one_in(coin, 4) {
        let bytes_per_second = 50_000 + coin.next() % 10_000_000;
        drawn.rate = Some(Rate { bytes_per_second, queue_bytes: 10_000 + coin.next() % 100_000 });
    }
    drawn
}

/// Keeps what comes, and answers it if it is to.
#[derive(Default)]
struct Keep {
    payloads: Vec<Vec<u8>>,
    echo: bool,
}

impl Handler for Keep {
    fn payload(&mut self, _: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        self.payloads.push(payload.to_vec());
        if self.echo {
            context.sender.text(std::str::from_utf8(payload).unwrap()).unwrap();
        }
    }

    fn event(&mut self, _: &Event<'_>, _: &mut Context<'_, '_>) {}
}

/// How a world ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Everything arrived.
    Whole,
    /// An error, before the connection was open and after.
    NotOpened(String),
    Error(String),
    /// Both ends wait for each other: forged bytes have taken a place in the sequence space that the peer has not reached,
    /// so that it believes no acknowledgement of ours any more. TCP cannot notice; who asks for an answer can.
    OutOfStep,
}

struct Course {
    end: End,
    lasted: Duration,
    counters: [Counters; 2],
}

/// Lives through the weather of `seed`. Panics where what must hold does not.
fn live(seed: u64) -> Course {
    let Forecast { plan, harm, messages, batch, echo, tls, ipv6, vlan } = Forecast::new(seed);
    let manners = Manners { tls, ..Manners::default() };
    let mut world = World::new(Setup { manners, weather: plan, seed, ipv6, vlan, ..Setup::default() });
    let mut keep = Keep { echo, ..Keep::default() };
    let mut coin = Coin::new(seed);
    let texts: Vec<String> = (0..messages)
        .map(|n| format!(r#"{{"e":"trade","s":"BTCUSDT","t":{n},"x":"{}"}}"#, "x".repeat(coin.next() as usize % 400)))
        .collect();
    let echoed: usize = texts.iter().map(|text| text.len() + 6 + if text.len() > 125 { 2 } else { 0 }).sum();
    let mut chunks = texts.chunks(batch);
    // The harm comes in mid-stream.
    let mut harm_after = Some(messages / 4 + coin.next() as usize % (messages / 2));
    let began = world.now;
    let end = loop {
        let whole = keep.payloads.len() == messages && (!echo || world.exchange.heard.len() >= echoed);
        if whole {
            break End::Whole;
        }
        if world.connection().path().is_open()
            && !world.exchange.has_outgoing()
            && let Some(chunk) = chunks.next()
        {
            world.exchange.send_texts(&chunk.iter().map(String::as_str).collect::<Vec<_>>());
        }
        if harm_after.is_some_and(|after| keep.payloads.len() >= after) {
            harm_after = None;
            let now = Duration::from_nanos(world.now.as_nanos());
            match harm {
                Harm::Exact(forgery) => {
                    let injection = Injection { direction: Direction::ToClient, forgery, count: 1, per_second: 1 };
                    world.wire.inject(now, injection);
                }
                Harm::Cut(lasting) => {
                    for direction in Direction::BOTH {
                        world.wire.blackhole(direction, now + lasting);
                    }
                }
                Harm::None | Harm::ForgedPayload => {}
            }
        }
        if let Err(error) = world.step(&mut keep) {
            let opened = world.connection().path().was_open();
            break if opened { End::Error(error.to_string()) } else { End::NotOpened(error.to_string()) };
        }
        let lasted = world.now.since(began);
        if lasted >= PATIENCE && matches!(harm, Harm::Exact(Forgery::Data(..))) {
            break End::OutOfStep;
        }
        assert!(
            lasted < PATIENCE,
            "silence: {} of {messages} messages, {} of {echoed} bytes back, {harm:?}, {:?}",
            keep.payloads.len(),
            world.exchange.heard.len(),
            world.connection().report()
        );
        assert!(
            world.connection().outcome().is_none() || keep.payloads.len() == messages,
            "it ended well with {} of {messages} messages",
            keep.payloads.len()
        );
    };
    let sent = texts.iter().map(String::as_bytes);
    assert!(keep.payloads.iter().map(Vec::as_slice).eq(sent.take(keep.payloads.len())), "not what was sent");
    assert!(keep.payloads.len() <= messages, "more than was sent");
    match &end {
        End::Whole => {
            if echo {
                let heard = memory::client_frames(&world.exchange.heard);
                let heard = heard.iter().map(|(_, payload)| payload.as_slice());
                assert!(heard.eq(texts.iter().map(String::as_bytes)), "not what was answered");
            }
        }
        End::OutOfStep => {}
        // The weather may eat a handshake: its patience is 10 s, and each SYN costs seconds.
        End::NotOpened(error) if error.contains("silent for 10s") => {}
        End::NotOpened(error) | End::Error(error) => {
            let words = harm.words();
            assert!(words.iter().any(|word| error.contains(word)), "{harm:?} must not end in: {error}");
        }
    }
    let counters = Direction::BOTH.map(|direction| world.wire.counters(direction));
    Course { end, lasted: world.now.since(began), counters }
}

#[test]
fn in_any_weather_messages_arrive_or_an_error_says_why() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect(name));
    let seeds = match number("WIRETICK_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WIRETICK_SEEDS").unwrap_or(SEEDS),
    };
    // Too few to say how often anything happens.
    let few = seeds.end - seeds.start < SEEDS;
    let next = AtomicU64::new(seeds.start);
    let began = Instant::now();
    let courses = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(1, usize::from))
            .map(|_| {
                scope.spawn(|| {
                    let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
                    numbers
                        .take_while(|seed| *seed < seeds.end)
                        .map(|seed| (seed, catch_unwind(AssertUnwindSafe(|| live(seed)))))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let took = began.elapsed();
    let bad: Vec<u64> = courses.iter().filter(|(_, course)| course.is_err()).map(|(seed, _)| *seed).collect();
    assert!(bad.is_empty(), "{} of {} worlds failed, with the seeds {bad:?}", bad.len(), courses.len());
    let courses: Vec<Course> = courses.into_iter().filter_map(|(_, course)| course.ok()).collect();
    let count = |is: fn(&End) -> bool| courses.iter().filter(|course| is(&course.end)).count();
    let whole = count(|end| *end == End::Whole);
    let not_opened = count(|end| matches!(end, End::NotOpened(_)));
    let out_of_step = count(|end| *end == End::OutOfStep);
    let virtually: Duration = courses.iter().map(|course| course.lasted).sum();
    println!(
        "{} worlds in {took:.1?}: {:.0} a minute; {:.0} s of virtual time; {whole} whole, {} errors, \
         {not_opened} not opened, {out_of_step} out of step",
        courses.len(),
        courses.len() as f64 * 60.0 / took.as_secs_f64(),
        virtually.as_secs_f64(),
        courses.len() - whole - not_opened - out_of_step,
    );
    for (name, side) in [("to the client", 0), ("to the exchange", 1)] {
        let mut sums = std::collections::BTreeMap::<&str, u64>::new();
        for (name, count) in courses.iter().flat_map(|course| course.counters[side].nonzero()) {
            *sums.entry(name).or_default() += count;
        }
        println!("{name}: {sums:?}");
        for name in ["lost", "lost_in_burst", "duplicated", "held_back", "corrupted", "truncated", "split", "joined"] {
            assert!(few || sums.get(name).is_some_and(|count| *count > 50), "{name} hardly ever happened: {sums:?}");
        }
    }
    assert!(few || out_of_step * 200 < courses.len(), "{out_of_step} connections fell silent");
    assert!(few || not_opened * 20 < courses.len(), "{not_opened} connections were not even opened");
    assert!(few || whole * 10 > courses.len() * 6, "only {whole} of {} survived", courses.len());
}
