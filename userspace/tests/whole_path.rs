//! The whole path over an in-memory ring: TCP handshake, TLS, upgrade, messages, close, and everything that can go wrong
//! on the way. No privilege, no kernel, no real time.

mod memory;

use std::time::Duration;

use memory::{Coin, Manners, Setup, World, client_frames, frame};
use smoltcp::socket::tcp::State;
use wiretick::event::{Body, Event};
use wiretick::message::Kind;
use wiretick::path::{Context, Error, Handler, Status};
use wiretick_impair::{Chance, Impairments, Plan, Reorder};

const SECOND: Duration = Duration::from_secs(1);

/// Keeps everything.
#[derive(Default)]
struct Keep {
    payloads: Vec<String>,
    in_place: usize,
    outside: usize,
    region: std::ops::Range<usize>,
    trades: usize,
    /// Answers every message with its text.
    echo: bool,
    stop_after: usize,
}

impl Handler for Keep {
    fn payload(&mut self, _: Kind, payload: &[u8], context: &mut Context<'_, '_>) {
        let address = payload.as_ptr() as usize;
        if context.in_place {
            self.in_place += 1;
            // The promise of the whole project: what was not copied lies in the ring's memory.
            assert!(self.region.is_empty() || self.region.contains(&address), "in place, and not in UMEM");
        } else if !self.region.contains(&address) {
            self.outside += 1;
        }
        let text = String::from_utf8(payload.to_vec()).unwrap();
        if self.echo {
            context.sender.text(&text).unwrap();
        }
        self.payloads.push(text);
        if self.payloads.len() == self.stop_after {
            context.stop();
        }
    }

    fn event(&mut self, event: &Event<'_>, _: &mut Context<'_, '_>) {
        self.trades += usize::from(matches!(event.body, Body::Trade(_)));
    }
}

fn trade(id: usize) -> String {
    format!(
        r#"{{"e":"trade","E":1723161600123,"s":"BTCUSDT","t":{id},"p":"61234.56000000","q":"0.00{:06}","T":1723161600122,"m":true,"M":true}}"#,
        id % 1_000_000
    )
}

fn opened(setup: Setup) -> (World, Keep) {
    let mut world = World::new(setup);
    let mut keep = Keep::default();
    world.until(&mut keep, 5 * SECOND, |world| world.connection().path().is_open()).unwrap();
    let region = wiretick::ring::Ring::region(&world.lane.bypass().unwrap().ring);
    keep.region = region;
    (world, keep)
}

/// Sends `n` trades, `batch` frames to a record, as fast as the peer takes them; answers what was sent.
fn stream(world: &mut World, keep: &mut Keep, n: usize, batch: usize, limit: Duration) -> Vec<String> {
    let texts: Vec<String> = (0..n).map(trade).collect();
    let mut chunks = texts.chunks(batch);
    let mut next = chunks.next();
    let end = world.now + limit;
    while keep.payloads.len() < n {
        if let Some(chunk) = next
            && !world.exchange.has_outgoing()
        {
            world.exchange.send_texts(&chunk.iter().map(String::as_str).collect::<Vec<_>>());
            next = chunks.next();
        }
        world.step(keep).unwrap();
        assert!(world.now < end, "{} of {n} messages within {limit:?}", keep.payloads.len());
    }
    texts
}

#[test]
fn messages_arrive_in_order_decoded_and_never_copied() {
    for (ipv6, vlan) in [(false, None), (true, None), (false, Some(42)), (true, Some(4094))] {
        let (mut world, mut keep) = opened(Setup { ipv6, vlan, ..Setup::default() });
        let sent = stream(&mut world, &mut keep, 2000, 1, 10 * SECOND);
        assert_eq!(keep.payloads, sent);
        assert_eq!(keep.trades, 2000);
        assert_eq!(keep.in_place, 2000, "one message, one record, one segment: nothing to copy");
        let report = world.connection().report();
        assert_eq!(report.path.opener.records_joined, 0);
        assert_eq!(report.path.path.gaps, 0);
    }
}

#[test]
fn without_tls_it_is_the_same() {
    let manners = Manners { tls: false, ..Manners::default() };
    let (mut world, mut keep) = opened(Setup { manners, ..Setup::default() });
    let sent = stream(&mut world, &mut keep, 500, 1, 10 * SECOND);
    assert_eq!(keep.payloads, sent);
    assert_eq!(keep.in_place, 500);
}

#[test]
fn sixteen_messages_to_a_record_and_records_over_segments() {
    let (mut world, mut keep) = opened(Setup::default());
    let sent = stream(&mut world, &mut keep, 3200, 16, 10 * SECOND);
    assert_eq!(keep.payloads, sent);
    let report = world.connection().report();
    assert!(report.path.opener.records_joined > 0, "2,500 bytes do not fit a segment");
    assert!(keep.outside > 0);
}

#[test]
fn a_message_of_megabytes_passes() {
    let (mut world, mut keep) = opened(Setup::default());
    let big = format!("\"{}\"", "x".repeat(5_079_377));
    // The exchange's socket buffers a part; the rest goes out as it is acknowledged.
    let bytes = frame(0x81, big.as_bytes());
    for piece in bytes.chunks(16 << 10) {
        world.exchange.say(piece);
    }
    let end = world.now + 60 * SECOND;
    while keep.payloads.is_empty() {
        world.step(&mut keep).unwrap();
        assert!(world.now < end, "not within a minute");
    }
    assert_eq!(keep.payloads, [big]);
}

#[test]
fn the_first_messages_may_ride_with_the_answer_to_the_upgrade() {
    let mut with_the_answer = frame(0x81, trade(1).as_bytes());
    with_the_answer.extend(frame(0x81, trade(2).as_bytes()));
    let manners = Manners { with_the_answer, ..Manners::default() };
    let (_, keep) = opened(Setup { manners, ..Setup::default() });
    assert_eq!(keep.payloads, [trade(1), trade(2)]);
}

#[test]
fn subscriptions_are_sent_masked_and_in_order() {
    let subscriptions = vec![r#"{"method":"SUBSCRIBE","id":1}"#.to_owned(), "second".to_owned()];
    let (mut world, mut keep) = opened(Setup { subscriptions: subscriptions.clone(), ..Setup::default() });
    world.until(&mut keep, SECOND, |world| world.exchange.heard.len() >= 29 + 6 + 6 + 6).unwrap();
    let expected: Vec<_> = subscriptions.into_iter().map(|text| (0x81, text.into_bytes())).collect();
    assert_eq!(client_frames(&world.exchange.heard), expected);
}

#[test]
fn a_handler_answers_from_within_and_a_ping_gets_its_payload_back() {
    let (mut world, mut keep) = opened(Setup::default());
    keep.echo = true;
    world.exchange.send_texts(&["first"]);
    world.exchange.say(&frame(0x89, b"1723161600"));
    world.exchange.send_texts(&["second"]);
    world.until(&mut keep, SECOND, |world| world.exchange.heard.len() >= 11 + 16 + 12).unwrap();
    let heard = client_frames(&world.exchange.heard);
    assert_eq!(heard, [(0x81, b"first".to_vec()), (0x8a, b"1723161600".to_vec()), (0x81, b"second".to_vec())]);
    assert_eq!(world.connection().report().tcp.segments_direct, 3, "each leaves from the frame it was sealed in");
}

#[test]
fn a_lane_that_is_dropped_in_mid_stream_holds_no_frame() {
    let (mut world, mut keep) = opened(Setup::default());
    keep.echo = true;
    world.exchange.send_texts(&["first"]);
    world.until(&mut keep, SECOND, |world| !world.exchange.heard.is_empty()).unwrap();
    let far = world.far_end();
    assert_eq!(far.outstanding(), 1, "the frame for the next answer");
    drop(world);
    assert_eq!(far.outstanding(), 0);
}

/// Answers are laid out in frames; the wire loses, doubles and flips them. The peer gets each once, in order.
#[test]
fn answers_arrive_whole_in_any_weather() {
    let (mut direct, mut lost) = (0, 0);
    for seed in 0..12 {
        let (mut world, mut keep) = opened_in(&all_at_once(), seed);
        keep.echo = true;
        let short: Vec<String> = (0..200).map(|i| format!("{}{i}", "tick".repeat(1 + i % 20))).collect();
        let end = world.now + Duration::from_secs(3600);
        let mut next = short.chunks(3);
        let answers: usize = short.iter().map(|text| 6 + text.len()).sum();
        while world.exchange.heard.len() < answers {
            if !world.exchange.has_outgoing()
                && let Some(chunk) = next.next()
            {
                world.exchange.send_texts(&chunk.iter().map(String::as_str).collect::<Vec<_>>());
            }
            world.step(&mut keep).unwrap();
            assert!(world.now < end, "{} of {answers} bytes", world.exchange.heard.len());
        }
        let heard: Vec<_> = client_frames(&world.exchange.heard).into_iter().map(|(_, payload)| payload).collect();
        assert!(heard.iter().map(Vec::as_slice).eq(short.iter().map(String::as_bytes)), "seed {seed}");
        direct += world.connection().report().tcp.segments_direct;
        lost += world.packets_lost();
    }
    assert!(direct > 1000 && lost > 20, "{direct} answers left directly, {lost} packets were lost");
}

#[test]
fn we_close_with_a_close_frame_close_notify_and_fin() {
    let (mut world, mut keep) = opened(Setup::default());
    keep.stop_after = 3;
    for id in 0..3 {
        world.exchange.send_texts(&[&trade(id)]);
    }
    world.until(&mut keep, SECOND, |world| !world.exchange.heard.is_empty()).unwrap();
    assert_eq!(world.exchange.heard[0], 0x88, "a close frame");
    world.exchange.say(&frame(0x88, &1000u16.to_be_bytes()));
    world.until(&mut keep, SECOND, |world| world.exchange.state() == State::CloseWait).unwrap();
    world.exchange.hang_up();
    world.until(&mut keep, 3 * SECOND, |world| world.connection().outcome().is_some()).unwrap();
    let outcome = world.connection().outcome().unwrap();
    assert_eq!(outcome.code, Some(1000));
    world.until(&mut keep, SECOND, |world| world.exchange.state() == State::Closed).unwrap();
}

#[test]
fn a_peer_that_does_not_answer_our_close_is_left_after_a_while() {
    let (mut world, mut keep) = opened(Setup::default());
    let now = world.now;
    world.lane.connection_mut(world.client).close(now, wiretick::message::CloseCode::NORMAL, "");
    world.until(&mut keep, 4 * SECOND, |world| world.connection().outcome().is_some()).unwrap();
    assert_eq!(world.connection().outcome().unwrap().code, None);
}

#[test]
fn a_close_by_the_peer_is_answered_with_its_code() {
    let (mut world, mut keep) = opened(Setup::default());
    let mut payload = 1001u16.to_be_bytes().to_vec();
    payload.extend(b"maintenance");
    world.exchange.say(&frame(0x88, &payload));
    world.until(&mut keep, SECOND, |world| world.exchange.heard.len() >= 8).unwrap();
    assert_eq!(client_frames(&world.exchange.heard), [(0x88, 1001u16.to_be_bytes().to_vec())]);
    world.exchange.hang_up();
    world.until(&mut keep, 3 * SECOND, |world| world.connection().outcome().is_some()).unwrap();
    let outcome = world.connection().outcome().unwrap();
    assert_eq!((outcome.code, outcome.reason.as_str()), (Some(1001), "maintenance"));
}

/// Opens a connection and expects it to fail; answers how.
fn fails(setup: Setup, then: impl FnOnce(&mut World, &mut Keep)) -> Error {
    let mut world = World::new(setup);
    let mut keep = Keep::default();
    let mut then = Some(then);
    let end = world.now + Duration::from_secs(30);
    while world.now < end {
        if world.connection().path().is_open()
            && let Some(then) = then.take()
        {
            then(&mut world, &mut keep);
        }
        if let Err(error) = world.step(&mut keep) {
            return error;
        }
    }
    panic!("no error in 30 s");
}

#[test]
fn each_failure_has_an_error_of_its_own() {
    let nothing = |_: &mut World, _: &mut Keep| {};
    let manners = |manners: Manners| Setup { manners, ..Setup::default() };
    let answers = |answer: &str| manners(Manners { answer: Some(answer.to_owned()), ..Manners::default() });
    let says = |bytes: Vec<u8>| move |world: &mut World, _: &mut Keep| world.exchange.say(&bytes);
    let small =
        Setup { limits: wiretick::floor::Limits { message_bytes_max: 100, ..Default::default() }, ..Setup::default() };

    let cases: Vec<(&str, Error)> = vec![
        ("--ca-file", fails(Setup { distrust: true, ..Setup::default() }, nothing)),
        ("other.test", fails(Setup { name: "other.test", ..Setup::default() }, nothing)),
        ("200", fails(answers("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), nothing)),
        (
            "Accept",
            fails(
                answers(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
                ),
                nothing,
            ),
        ),
        ("masked", fails(Setup::default(), says(vec![0x81, 0x81, 1, 2, 3, 4, 5]))),
        ("UTF-8", fails(Setup::default(), says(frame(0x81, b"\xff\xfe")))),
        ("--max-message-bytes", fails(small, says(frame(0x81, &[b'x'; 101])))),
        (
            "authentication",
            fails(Setup::default(), |world, _| {
                world.exchange.spoil_next_record = true;
                world.exchange.send_texts(&["spoilt"]);
            }),
        ),
        ("reset", fails(Setup::default(), |world, _| world.exchange.reset())),
        ("close_notify", fails(Setup::default(), |world, _| world.exchange.fin())),
        ("without a WebSocket close", fails(Setup::default(), |world, _| world.exchange.hang_up())),
        (
            "without a WebSocket close",
            fails(manners(Manners { tls: false, ..Manners::default() }), |world, _| world.exchange.fin()),
        ),
        ("refuses", fails(manners(Manners { absent: true, ..Manners::default() }), nothing)),
        (
            "silent for 10s during the TLS handshake",
            fails(manners(Manners { mute: true, ..Manners::default() }), nothing),
        ),
        (
            "silent for 10s during the WebSocket upgrade",
            fails(manners(Manners { mute: true, tls: false, ..Manners::default() }), nothing),
        ),
        (
            "silent for 10s after our SYN",
            fails(
                Setup { weather: both(&Impairments { loss: Chance::ALWAYS, ..none() }), ..Setup::default() },
                nothing,
            ),
        ),
    ];
    for (expected, error) in cases {
        let text = error.to_string();
        println!("{text}");
        assert!(text.contains(expected), "{expected:?} is not in: {text}");
    }
}

#[test]
fn after_a_failure_the_peer_is_told_and_the_connection_is_gone() {
    let (mut world, mut keep) = opened(Setup::default());
    world.exchange.say(&frame(0x81, b"\xff"));
    let error = loop {
        if let Err(error) = world.step(&mut keep) {
            break error;
        }
    };
    assert!(error.to_string().contains("UTF-8"));
    for _ in 0..100 {
        world.step(&mut keep).unwrap();
    }
    assert_eq!(client_frames(&world.exchange.heard), [(0x88, 1007u16.to_be_bytes().to_vec())]);
    assert_eq!(world.connection().way(), wiretick::lane::Way::Gone);
    assert!(matches!(world.connection().path().status(), Status::Closing | Status::Closed(..)));
}

#[test]
fn in_bad_weather_nothing_is_lost_doubled_or_reordered() {
    let some = Chance::one_in(5);
    let weathers = [
        Impairments { loss: Chance::one_in(20), ..none() },
        Impairments { reorder: Some(Reorder::some(some)), ..none() },
        Impairments { duplicate: some, ..none() },
        Impairments { corrupt: Chance::one_in(20), ..none() },
        all_at_once(),
    ];
    let mut lost = 0;
    for seed in 0..12 {
        for weather in &weathers {
            let (mut world, mut keep) = opened_in(weather, seed);
            let batch = 1 + Coin::new(seed).next() as usize % 20;
            let sent = stream(&mut world, &mut keep, 300, batch, Duration::from_secs(600));
            assert_eq!(keep.payloads, sent, "{weather:?} seed {seed}");
            lost += world.packets_lost();
        }
    }
    assert!(lost > 100, "the weather was too good: {lost} packets lost");
}

fn none() -> Impairments {
    Impairments::default()
}

fn both(impairments: &Impairments) -> Plan {
    Plan::both(0, impairments)
}

fn all_at_once() -> Impairments {
    Impairments {
        loss: Chance::one_in(30),
        duplicate: Chance::one_in(10),
        reorder: Some(Reorder::some(Chance::one_in(5))),
        corrupt: Chance::one_in(50),
        ..none()
    }
}

fn opened_in(weather: &Impairments, seed: u64) -> (World, Keep) {
    let mut world = World::new(Setup { weather: both(weather), seed, ..Setup::default() });
    let mut keep = Keep::default();
    world.until(&mut keep, Duration::from_secs(60), |world| world.connection().path().is_open()).unwrap();
    keep.region = wiretick::ring::Ring::region(&world.lane.bypass().unwrap().ring);
    (world, keep)
}
