//! The exchange against clients that keep to the rules: what it sends, when, in which records, and what it reports.

mod common;

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{
    Observer, PATIENCE, client, connect, plain_client, recording, roots, secure, start, tls, tls_client, trades,
};
use rustls::StreamOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Message, WebSocket};
use wiretick_testbed::exchange::{
    Config, Ending, Feed, Pace, STAMP_BYTES, Security, Start, Suite, SyntheticPlan, Tls, TlsVersion, monotonic_ns,
    serve,
};
use wiretick_testbed::feeds::{Lines, Recording};
use wiretick_testbed::pki::{Authority, Validity};

fn rate(per_second: u64) -> Pace {
    Pace::Rate(NonZeroU64::new(per_second).unwrap())
}

/// Everything a client receives until the close frame, and that frame's code.
fn receive_all<S: std::io::Read + std::io::Write>(client: &mut WebSocket<S>) -> (Vec<String>, CloseCode) {
    let mut messages = Vec::new();
    loop {
        match client.read().unwrap() {
            Message::Text(text) => messages.push(text.to_string()),
            Message::Close(frame) => {
                // The answer to the close frame is sent while reading on.
                while client.read().is_ok() {}
                return (messages, frame.unwrap().code);
            }
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_replay_is_byte_exact_under_every_version_and_suite() {
    let mut lines = trades(300);
    lines.push(format!(r#"{{"long":"{}"}}"#, "x".repeat(70_000)));
    lines.push("[1, 2,  3]\t".into());
    lines.extend(trades(10));
    let digest = |lines: &[String]| Sha256::digest(lines.join("\n"));
    let suites = [None, Some(Suite::Aes128), Some(Suite::Aes256), Some(Suite::ChaCha20)];
    for version in [TlsVersion::Tls13, TlsVersion::Tls12] {
        for suite in suites {
            let security = Security::Tls(Tls { version, suite, ..tls() });
            let config = Config { security, feed: Feed::Replay(recording(&lines)), pace: Pace::Saturate, ..secure() };
            let exchange = start(config);
            let mut client = client(exchange.address(), "/ws");
            let (received, code) = receive_all(&mut client);
            assert_eq!(digest(&received), digest(&lines), "{version:?} {suite:?}");
            assert_eq!(code, CloseCode::Normal);
            let negotiated = client.get_ref().conn.negotiated_cipher_suite().unwrap();
            let expected = match suite {
                None => "",
                Some(Suite::Aes128) => "AES_128_GCM",
                Some(Suite::Aes256) => "AES_256_GCM",
                Some(Suite::ChaCha20) => "CHACHA20",
            };
            assert!(format!("{:?}", negotiated.suite()).contains(expected));
            let is_13 = client.get_ref().conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
            assert_eq!(is_13, version == TlsVersion::Tls13);
            drop(client);
            assert!(exchange.wait_ended(1, PATIENCE));
            let report = exchange.stop();
            assert_eq!(report.endings, [Ending::Completed]);
            assert_eq!((report.messages, report.batches), (312, 312));
            assert_eq!(report.payload_bytes, lines.iter().map(|line| line.len() as u64).sum::<u64>());
            assert!(report.errors().is_empty());
        }
    }
    let config =
        Config { security: Security::Plain, feed: Feed::Replay(recording(&lines)), pace: Pace::Saturate, ..secure() };
    let exchange = start(config);
    assert_eq!(digest(&receive_all(&mut plain_client(exchange.address(), "/ws")).0), digest(&lines));
}

#[test]
fn a_count_repeats_a_recording_or_cuts_it_short() {
    for (count, expected) in [(2, vec![0, 1]), (7, vec![0, 1, 2, 0, 1, 2, 0])] {
        let config = Config {
            feed: Feed::Replay(recording(&trades(3))),
            count: Some(count),
            batch: 5,
            pace: rate(10_000),
            ..secure()
        };
        let exchange = start(config);
        let (received, _) = receive_all(&mut client(exchange.address(), "/ws"));
        let expected: Vec<String> = expected.into_iter().map(|at: usize| trades(3)[at].clone()).collect();
        assert_eq!(received, expected);
    }
}

#[test]
fn the_close_is_websocket_then_tls_then_tcp() {
    let exchange = start(Config { feed: Feed::Replay(recording(&["{}"])), ..secure() });
    let (mut observer, _) = Observer::upgraded(exchange.address());
    assert_eq!(observer.text(), "{}");
    let close = observer.frame();
    assert_eq!((close.first, &close.payload[..]), (0x88, &1000_u16.to_be_bytes()[..]));
    assert!(observer.is_silent(), "TLS is not closed before the client's close frame");
    observer.send_frame(0x88, &1000_u16.to_be_bytes());
    let notify = observer.record().unwrap();
    assert!(notify.plain.is_empty());
    assert_eq!(observer.tls.reader().read(&mut [0]).unwrap(), 0, "a close_notify");
    assert_eq!(observer.socket.read(&mut [0]).unwrap(), 0, "a FIN");
}

#[test]
fn a_seed_determines_the_synthetic_feed() {
    let run = |seed| {
        let plan = SyntheticPlan { seed, symbols: vec!["BTCUSDT".into(), "ETHUSDT".into()] };
        let config =
            Config { feed: Feed::Synthetic(plan), count: Some(500), pace: Pace::Saturate, batch: 7, ..secure() };
        let exchange = start(config);
        let (one, _) = receive_all(&mut client(exchange.address(), "/stream"));
        let (two, _) = receive_all(&mut client(exchange.address(), "/stream"));
        assert_eq!(one, two, "each client sees the same market");
        one
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_subscription_is_answered_and_chooses_the_streams() {
    let config = Config { feed: Feed::Synthetic(SyntheticPlan::default()), pace: rate(2000), ..secure() };
    let exchange = start(config);
    let mut client = client(exchange.address(), "/ws");
    assert!(client.read().unwrap().into_text().unwrap().contains("depthUpdate"), "everything comes at first");
    client.send(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":42}"#.into()).unwrap();
    let mut text = || client.read().unwrap().into_text().unwrap().to_string();
    while text() != r#"{"result":null,"id":42}"# {}
    // What was prepared when the request came may still follow.
    let after: Vec<String> = (0..50).map(|_| text()).skip(2).collect();
    let trades: Vec<u64> = after
        .iter()
        .map(|text| serde_json::from_str::<Value>(text).unwrap())
        .inspect(|value| assert_eq!(value["e"], "trade"))
        .map(|value| value["t"].as_u64().unwrap())
        .collect();
    assert!(trades.windows(2).all(|pair| pair[1] == pair[0] + 1), "{trades:?}");
    drop(client);
    assert!(exchange.wait_ended(1, PATIENCE));
    let report = exchange.stop();
    assert_eq!((report.answers, report.received.text), (1, 1));
}

#[test]
fn a_stream_can_wait_for_the_first_request() {
    let config = Config {
        feed: Feed::Synthetic(SyntheticPlan::default()),
        start: Start::OnSubscribe,
        pace: rate(1000),
        count: Some(5),
        ..secure()
    };
    let exchange = start(config);
    let (mut observer, _) = Observer::upgraded(exchange.address());
    while observer.plain.is_empty() && !observer.is_silent() {
        // Session tickets.
        let record = observer.record().unwrap();
        observer.plain.extend_from_slice(&record.plain);
    }
    assert!(observer.plain.is_empty());
    observer.send_frame(0x81, br#"{"method":"SUBSCRIBE","params":["btcusdt@bookTicker"],"id":"x"}"#);
    assert_eq!(observer.text(), r#"{"result":null,"id":"x"}"#);
    for _ in 0..5 {
        assert!(observer.text().starts_with("{\"u\":"));
    }
    assert_eq!(observer.frame().first, 0x88);
}

#[test]
fn a_path_chooses_streams_and_form() {
    let config =
        Config { feed: Feed::Synthetic(SyntheticPlan::default()), pace: Pace::Saturate, count: Some(20), ..secure() };
    let exchange = start(config);
    for text in receive_all(&mut client(exchange.address(), "/ws/btcusdt@bookTicker")).0 {
        assert!(text.starts_with("{\"u\":"), "{text}");
    }
    for text in receive_all(&mut client(exchange.address(), "/stream?streams=btcusdt@trade")).0 {
        assert!(text.starts_with("{\"stream\":\"btcusdt@trade\",\"data\":{\"e\":\"trade\""), "{text}");
    }
}

#[test]
fn right_pongs_are_told_from_wrong_and_missing_ones() {
    let pings = |interval| Config { ping_interval: Some(Duration::from_millis(interval)), ..secure() };
    // tungstenite answers as the RFC says.
    let config = Config { feed: Feed::Replay(recording(&trades(300))), pace: rate(1000), ..pings(10) };
    let exchange = start(config);
    receive_all(&mut client(exchange.address(), "/ws"));
    assert!(exchange.wait_ended(1, PATIENCE));
    let counts = exchange.stop().pings;
    assert!(counts.sent >= 20 && counts.answered + counts.overtaken == counts.sent, "{counts:?}");
    assert_eq!((counts.strange, counts.missing), (0, 0));

    // A client that answers with something else, then not at all.
    let exchange = start(pings(20));
    let (mut observer, _) = Observer::upgraded(exchange.address());
    let mut payloads = HashSet::new();
    for _ in 0..3 {
        let ping = observer.frame();
        assert_eq!(ping.first, 0x89);
        assert!(payloads.insert(ping.payload), "every ping has its own payload");
    }
    observer.send_frame(0x8a, b"not yours");
    observer.send_frame(0x88, &1000_u16.to_be_bytes());
    assert!(exchange.wait_ended(1, PATIENCE));
    let report = exchange.stop();
    assert_eq!(report.pings.strange, 1);
    assert!(report.pings.missing >= 3);
    assert_eq!(report.errors().len(), 2);
}

#[test]
fn stamps_have_one_width_rise_and_are_true() {
    let config = Config {
        feed: Feed::Replay(recording(&trades(10))),
        count: Some(400),
        stamp_field: Some("n".into()),
        pace: rate(4000),
        ..secure()
    };
    let exchange = start(config);
    let mut client = client(exchange.address(), "/ws");
    let begin_ns = monotonic_ns();
    let (mut last_ns, mut seen) = (begin_ns - 1_000_000_000, 0);
    while let Message::Text(text) = client.read().unwrap() {
        let line = &trades(10)[seen % 10];
        assert_eq!(text.len(), line.len() + ",\"n\":".len() + STAMP_BYTES);
        assert!(text.starts_with(&line[..line.len() - 1]));
        let stamp_ns = serde_json::from_str::<Value>(&text).unwrap()["n"].as_u64().unwrap();
        assert!(stamp_ns > last_ns, "{stamp_ns} after {last_ns}");
        assert!(stamp_ns <= monotonic_ns());
        (last_ns, seen) = (stamp_ns, seen + 1);
    }
    assert_eq!(seen, 400);
    assert!(last_ns - begin_ns < 10_000_000_000);
}

#[test]
fn a_batch_is_one_record() {
    for (batch, pace) in [(1, rate(20_000)), (16, rate(20_000)), (16, Pace::Saturate), (5, Pace::Saturate)] {
        let config = Config { feed: Feed::Replay(recording(&trades(160))), batch, pace, ..secure() };
        let exchange = start(config);
        let (mut observer, _) = Observer::upgraded(exchange.address());
        let mut seen = 0;
        while seen < 160 {
            let plain = observer.record().unwrap().plain;
            let mut rest = &plain[..];
            let mut frames = 0;
            while let Some((frame, after)) = common::split_frame(rest) {
                assert_eq!(frame.payload, trades(160)[seen + frames].as_bytes());
                (rest, frames) = (after, frames + 1);
            }
            assert!(rest.is_empty(), "a frame reaches into the next record");
            // Session tickets come in records of their own, without a frame.
            assert!(frames == batch || frames == 0, "{frames} frames in a record");
            seen += frames;
        }
    }
}

#[test]
fn a_rate_is_kept_and_lateness_is_counted() {
    let config = Config {
        feed: Feed::Replay(recording(&trades(400))),
        pace: rate(1000),
        late_after: Duration::ZERO,
        ..secure()
    };
    let exchange = start(config);
    let mut client = client(exchange.address(), "/ws");
    client.read().unwrap();
    let begin = Instant::now();
    receive_all(&mut client);
    let took = begin.elapsed();
    // 399 intervals of a millisecond; the first message may have been read late.
    assert!((Duration::from_millis(350)..Duration::from_secs(5)).contains(&took), "{took:?}");
    assert!(exchange.wait_ended(1, PATIENCE));
    let report = exchange.stop();
    assert_eq!(report.lateness_ns.len(), 400);
    // A turn of the waiting loop takes tens of nanoseconds: now and then it ends on the very nanosecond.
    assert!(report.late >= 300, "with a tolerance of zero nearly everything is late: {}", report.late);
}

#[test]
fn a_recorded_pace_keeps_the_gaps() {
    let messages = Lines::new(trades(4).join("\n").into_bytes());
    let arrivals = Some(vec![7_000_000_000, 7_100_000_000, 7_050_000_000, 7_400_000_000]);
    let recording = Arc::new(Recording { messages, arrivals });
    for (speed, expected_ms) in [(1.0, 400), (4.0, 100)] {
        let config = Config {
            feed: Feed::Replay(Arc::clone(&recording)),
            pace: Pace::Recorded { speed },
            stamp_field: Some("n".into()),
            ..secure()
        };
        let exchange = start(config);
        let stamps: Vec<u64> = receive_all(&mut client(exchange.address(), "/ws"))
            .0
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap()["n"].as_u64().unwrap() / 1_000_000)
            .collect();
        let span = stamps[3] - stamps[0];
        assert!((expected_ms - 1..expected_ms + 2000).contains(&span), "{span} ms at speed {speed}");
        assert!(stamps[1] - stamps[0] >= expected_ms / 4 - 1);
    }
}

#[test]
fn echoes_come_back_and_are_timed() {
    let exchange = start(Config { echo: true, ..secure() });
    let mut one = client(exchange.address(), "/ws");
    for message in [Message::text("é".repeat(100_000)), Message::binary(vec![0, 255, 7]), Message::text("")] {
        one.send(message.clone()).unwrap();
        assert_eq!(one.read().unwrap(), message);
    }
    let config = Config {
        feed: Feed::Replay(recording(&trades(50))),
        pace: rate(1000),
        stamp_field: Some("n".into()),
        measure_echo: true,
        ..secure()
    };
    let timed = start(config);
    let mut two = client(timed.address(), "/ws");
    for _ in 0..50 {
        let text = two.read().unwrap().into_text().unwrap();
        let stamp = serde_json::from_str::<Value>(&text).unwrap()["n"].as_u64().unwrap();
        two.send(Message::text(format!("{stamp} order"))).unwrap();
    }
    receive_all(&mut two);
    assert!(timed.wait_ended(1, PATIENCE));
    let report = timed.stop();
    assert_eq!((report.echo_ns.len(), report.received.text, report.answers), (50, 50, 0));
    assert!(report.echo_ns.max() < 5_000_000_000 && report.echo_ns.min() > 0);
    one.close(None).unwrap();
    while one.read().is_ok() {}
    assert!(exchange.wait_ended(1, PATIENCE));
    assert_eq!(exchange.stop().echoes, 3);
}

#[test]
fn a_client_that_vanishes_ends_only_its_own_connection() {
    let config = Config { feed: Feed::Replay(recording(&trades(10))), count: Some(300), pace: rate(1000), ..secure() };
    let exchange = start(config);
    let mut steady = client(exchange.address(), "/ws");
    let mut vanishing = client(exchange.address(), "/ws");
    vanishing.read().unwrap();
    socket2::SockRef::from(&vanishing.get_ref().sock).set_linger(Some(Duration::ZERO)).unwrap();
    drop(vanishing);
    let half = client(exchange.address(), "/ws");
    half.get_ref().sock.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(receive_all(&mut steady).0.len(), 300);
    assert!(exchange.wait_ended(3, PATIENCE));
    let endings: Vec<Ending> = exchange.connections().into_iter().flat_map(|report| report.endings).collect();
    assert_eq!(endings[0], Ending::Completed);
    assert_eq!(endings[1], Ending::Reset);
    assert!(matches!(endings[2], Ending::EndOfStream { announced: false } | Ending::Reset), "{endings:?}");
}

#[test]
fn a_client_that_does_not_read_is_waited_for() {
    let lines = vec![format!(r#"{{"x":"{}"}}"#, "x".repeat(10_000)); 2000];
    let exchange = start(Config { feed: Feed::Replay(recording(&lines)), pace: Pace::Saturate, ..secure() });
    let mut client = client(exchange.address(), "/ws");
    let deadline = Instant::now() + PATIENCE;
    while exchange.report().blocked == 0 {
        assert!(Instant::now() < deadline, "20 MB fit in no socket");
        std::thread::sleep(Duration::from_millis(5));
    }
    client.send(Message::Ping("still here".into())).unwrap();
    assert_eq!(receive_all(&mut client).0.len(), 2000, "nothing is lost for having waited");
}

#[test]
fn a_stop_closes_everyone_in_order() {
    let exchange = start(Config { feed: Feed::Synthetic(SyntheticPlan::default()), ..secure() });
    let mut client = client(exchange.address(), "/ws");
    client.read().unwrap();
    let stopper = std::thread::spawn(move || exchange.stop());
    assert_eq!(receive_all(&mut client).1, CloseCode::Away);
    let report = stopper.join().unwrap();
    assert_eq!(report.endings, [Ending::Stopped]);
    assert!(report.errors().is_empty());
}

#[test]
fn a_client_that_breaks_the_rules_is_told_so() {
    let exchange = start(secure());
    let (mut observer, _) = Observer::upgraded(exchange.address());
    observer.send(b"\x81\x02hi");
    let close = observer.frame();
    assert_eq!((close.first, &close.payload[..]), (0x88, &1002_u16.to_be_bytes()[..]), "unmasked");
    let mut other = Observer::new(exchange.address());
    other.send(b"GET /ws HTTP/1.1\r\nHost: exchange.test\r\n\r\n");
    assert!(other.head().starts_with("HTTP/1.1 400"));
    drop(other);
    drop(observer);
    assert!(exchange.wait_ended(2, PATIENCE));
    let report = exchange.stop();
    assert!(report.endings.iter().all(|ending| matches!(ending, Ending::Misbehaved(_))), "{:?}", report.endings);
    assert_eq!(report.errors().len(), 2);
}

#[test]
fn bad_certificates_are_refused_by_a_client_that_looks() {
    let authority = Authority::new("Testbed CA").unwrap();
    let bad = [
        authority.issue(&[common::NAME], Validity::Past).unwrap(),
        authority.issue(&[common::NAME], Validity::Future).unwrap(),
        authority.issue(&["elsewhere.test"], Validity::Now).unwrap(),
        // Same names, another key.
        Authority::new("Testbed CA").unwrap().issue(&[common::NAME], Validity::Now).unwrap(),
    ];
    for identity in bad {
        let exchange = start(Config { security: Security::Tls(Tls { identity, ..tls() }), ..secure() });
        let mut stream = StreamOwned::new(tls_client(authority.roots()), connect(exchange.address()));
        let error = stream.write_all(b"x").and_then(|()| stream.flush()).unwrap_err();
        assert!(error.to_string().contains("invalid peer certificate"), "{error}");
        drop(stream);
        assert!(exchange.wait_ended(1, PATIENCE));
        assert!(matches!(&exchange.stop().endings[..], [Ending::Alert(_)]));
    }
}

#[test]
fn a_connected_socket_can_be_served_directly() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config { feed: Feed::Replay(recording(&trades(20))), pace: Pace::Saturate, ..secure() };
    let server = std::thread::spawn(move || serve(listener.accept().unwrap().0, &config).unwrap());
    let socket: TcpStream = connect(address);
    let stream = StreamOwned::new(tls_client(roots()), socket);
    let mut client = tungstenite::client(format!("wss://{}/ws", common::NAME), stream).unwrap().0;
    assert_eq!(receive_all(&mut client).0, trades(20));
    drop(client);
    let report = server.join().unwrap();
    assert_eq!((report.connections, report.messages, report.endings), (1, 20, vec![Ending::Completed]));
}
