//! Every fault does what its name says, seen from the wire; and a client that keeps to the rules survives what is allowed
//! and refuses what is not.

mod common;

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use common::{
    ACCEPT, Observer, PATIENCE, SILENCE, UPGRADE, client, connect, is_silent, recording, secure, start, trades,
};
use rustls::{AlertDescription, Error};
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::{Error as WsError, Message};
use wiretick_testbed::exchange::{Config, Ending, Fault, Feed, Pace, Running};

/// Messages before a fault in mid-stream.
const BEFORE: usize = 3;

fn exchange(fault: Fault) -> Running {
    let config = Config {
        feed: Feed::Replay(recording(&trades(6))),
        pace: Pace::Rate(NonZeroU64::new(2000).unwrap()),
        fault: Some(fault),
        fault_after: BEFORE as u64,
        ..secure()
    };
    start(config)
}

/// A client that has read the messages before the fault.
fn observer_at(exchange: &Running) -> Observer {
    let (mut observer, head) = Observer::upgraded(exchange.address());
    assert!(head.contains(ACCEPT));
    for trade in trades(BEFORE) {
        assert_eq!(observer.text(), trade);
    }
    observer
}

/// How the only connection ended.
fn ending(exchange: Running) -> Ending {
    assert!(exchange.wait_ended(1, PATIENCE), "the connection did not end");
    let report = exchange.stop();
    assert_eq!(report.faults, 1);
    report.endings[0].clone()
}

#[test]
fn every_fault_is_covered_here() {
    let here = include_str!("faults.rs");
    for fault in Fault::value_variants() {
        assert!(here.contains(&format!("Fault::{fault:?}")), "{fault:?}");
    }
}

#[test]
fn silent_peers_say_nothing_at_their_layer() {
    let tcp = exchange(Fault::SilentTcp);
    let mut socket = connect(tcp.address());
    socket.write_all(b"\x16\x03\x01\x00\x05hello").unwrap();
    assert!(is_silent(&socket));
    drop(socket);
    assert_eq!(ending(tcp), Ending::EndOfStream { announced: true });

    let tls = exchange(Fault::SilentTls);
    let mut observer = Observer::new(tls.address());
    observer.send(UPGRADE);
    settle(&mut observer);
    drop(observer);
    assert_eq!(ending(tls), Ending::EndOfStream { announced: false });

    let upgrade = exchange(Fault::SilentUpgrade);
    let (mut observer, _) = Observer::upgraded(upgrade.address());
    settle(&mut observer);
    observer.send_frame(0x89, b"anybody there?");
    assert!(observer.is_silent());
    drop(observer);
    ending(upgrade);

    let stream = exchange(Fault::SilentStream);
    let mut observer = observer_at(&stream);
    observer.send_frame(0x89, b"anybody there?");
    assert!(observer.is_silent());
    let _ = stream.stop();
    assert_eq!(observer.socket.read(&mut [0]).unwrap_or(0), 0, "a stopped exchange does not say goodbye either");
}

/// Reads session tickets, then silence.
fn settle(observer: &mut Observer) {
    while !observer.is_silent() {
        assert!(observer.record().unwrap().plain.is_empty());
    }
}

#[test]
fn what_is_no_tls_is_seen_as_such() {
    for (fault, beginning) in [(Fault::GarbageTls, &b"\xee"[..]), (Fault::PlainHttp, b"HTTP/1.1 400 Bad Request\r\n")] {
        let exchange = exchange(fault);
        let mut tls = common::tls_client(common::roots());
        let mut socket = connect(exchange.address());
        tls.write_tls(&mut socket).unwrap();
        let mut bytes = [0; 100];
        socket.read_exact(&mut bytes).unwrap();
        assert!(bytes.starts_with(beginning));
        tls.read_tls(&mut &bytes[..]).unwrap();
        assert!(matches!(tls.process_new_packets(), Err(Error::InvalidMessage(_))), "{fault:?}");
        drop(socket);
        ending(exchange);
    }
}

#[test]
fn other_answers_than_101_are_whole_http() {
    for (fault, status, header) in [
        (Fault::Status200, 200, "Content-Length: "),
        (Fault::Status429, 429, "Retry-After: 7"),
        (Fault::Redirect, 302, "Location: wss://elsewhere.test/ws"),
    ] {
        let exchange = exchange(fault);
        let mut observer = Observer::new(exchange.address());
        observer.send(UPGRADE);
        let head = observer.head();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")) && head.contains(header), "{head}");
        drop(observer);
        assert_eq!(ending(exchange), Ending::Fault);
    }
}

#[test]
fn a_wrong_accept_is_refused() {
    let exchange = exchange(Fault::WrongAccept);
    let stream = rustls::StreamOwned::new(common::tls_client(common::roots()), connect(exchange.address()));
    let error = tungstenite::client(format!("wss://{}/ws", common::NAME), stream).unwrap_err().to_string();
    assert!(error.contains("Accept"), "{error}");
    assert!(matches!(ending(exchange), Ending::EndOfStream { .. } | Ending::Reset));
}

#[test]
fn frames_that_break_the_rfc_look_as_intended_and_are_refused() {
    // What the frame begins with, and tungstenite's verdict.
    type Case = (Fault, &'static [u8], fn(&WsError) -> bool);
    let protocol = |error: &WsError| matches!(error, WsError::Protocol(_));
    let cases: [Case; 10] = [
        (Fault::MaskedFrame, b"\x81\x9f", |e| matches!(e, WsError::Protocol(ProtocolError::MaskedFrameFromServer))),
        (Fault::BadUtf8, b"\x81\x10{\"e\":\"tra\xc0\xaf", |e| matches!(e, WsError::Utf8(_))),
        (Fault::Length4Gib, b"\x81\x7f\x00\x00\x00\x01\x00\x00\x00\x00", too_long),
        (Fault::Length2pow62, b"\x81\x7f\x40\x00\x00\x00\x00\x00\x00\x00", too_long),
        (Fault::Length2pow63, b"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", too_long),
        (Fault::ReservedBits, b"\xf1\x1f", |e| matches!(e, WsError::Protocol(ProtocolError::NonZeroReservedBits))),
        (Fault::ReservedOpcode, b"\x83\x1f", protocol),
        (Fault::LongControl, b"\x89\x7e\x00\x7e", |e| {
            matches!(e, WsError::Protocol(ProtocolError::ControlFrameTooBig))
        }),
        (Fault::FragmentedControl, b"\x09\x07half a \x80\x04ping", |e| {
            matches!(e, WsError::Protocol(ProtocolError::FragmentedControlFrame))
        }),
        (Fault::StrayContinuation, b"\x80\x1f", |e| {
            matches!(e, WsError::Protocol(ProtocolError::UnexpectedContinueFrame))
        }),
    ];
    for (fault, beginning, is_right) in cases {
        let exchange = exchange(fault);
        let mut observer = observer_at(&exchange);
        observer.fill(beginning.len());
        assert!(observer.plain.starts_with(beginning), "{fault:?}: {:x?}", observer.plain);
        // What a client does about it: a close frame with a code, then the end.
        observer.send_frame(0x88, &1002_u16.to_be_bytes());
        drop(observer);
        let mut client = client(exchange.address(), "/ws");
        let error = loop {
            match client.read() {
                Ok(Message::Text(_)) => {}
                Ok(other) => panic!("{fault:?}: {other:?}"),
                Err(error) => break error,
            }
        };
        assert!(is_right(&error), "{fault:?}: {error:?}");
        drop(client);
        assert!(exchange.wait_ended(2, PATIENCE));
        let report = exchange.stop();
        assert_eq!((report.faults, &report.endings[0]), (2, &Ending::ClosedByClient(Some(1002))), "{fault:?}");
    }
}

fn too_long(error: &WsError) -> bool {
    matches!(error, WsError::Capacity(CapacityError::MessageTooLong { .. }))
}

#[test]
fn a_flipped_bit_is_caught_by_tls() {
    let exchange = exchange(Fault::FlippedBit);
    let mut observer = observer_at(&exchange);
    let error = observer.record().unwrap_err();
    let error = error.get_ref().and_then(|error| error.downcast_ref::<Error>()).unwrap();
    assert_eq!(error, &Error::DecryptError);
    while observer.tls.wants_write() {
        observer.tls.write_tls(&mut observer.socket).unwrap();
    }
    assert_eq!(ending(exchange), Ending::Alert(format!("{:?}", AlertDescription::BadRecordMac)));
}

#[test]
fn half_a_record_is_followed_by_nothing() {
    let exchange = exchange(Fault::HalfRecord);
    let mut observer = observer_at(&exchange);
    let mut header = [0; 5];
    observer.socket.read_exact(&mut header).unwrap();
    let declared = usize::from(u16::from_be_bytes([header[3], header[4]]));
    let mut came = 0;
    while !is_silent_after(&mut observer, &mut came) {}
    assert!(header[0] == 23 && came > 0 && came < declared, "{came} of {declared}");
    observer.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(matches!(ending(exchange), Ending::EndOfStream { announced: false } | Ending::Reset));
}

fn is_silent_after(observer: &mut Observer, came: &mut usize) -> bool {
    observer.socket.set_read_timeout(Some(SILENCE)).unwrap();
    match observer.socket.read(&mut [0; 64]) {
        Ok(length) => *came += length,
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
    }
    is_silent(&observer.socket)
}

#[test]
fn a_key_update_comes_in_mid_stream_and_nothing_is_lost() {
    let exchange = exchange(Fault::KeyUpdate);
    let mut observer = observer_at(&exchange);
    let update = observer.record().unwrap();
    // A handshake message of five bytes, its type, and the tag.
    assert_eq!((update.plain.len(), update.sealed_bytes), (0, 5 + 1 + 16));
    for trade in &trades(6)[BEFORE..] {
        assert_eq!(&observer.text(), trade);
    }
    assert_eq!(observer.frame().first, 0x88);
    // rustls sends its own update in front of the next thing it has to say; the exchange reads what follows it.
    observer.send_frame(0x88, &1000_u16.to_be_bytes());
    assert_eq!(ending(exchange), Ending::Completed);
}

#[test]
fn ends_out_of_order_are_what_they_are_called() {
    let rst = exchange(Fault::Rst);
    let mut observer = observer_at(&rst);
    assert_eq!(observer.socket.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(ending(rst), Ending::Fault);

    let fin = exchange(Fault::FinWithoutCloseNotify);
    let mut observer = observer_at(&fin);
    assert_eq!(observer.tls.read_tls(&mut observer.socket).unwrap(), 0);
    observer.tls.process_new_packets().unwrap();
    assert_eq!(observer.tls.reader().read(&mut [0]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    drop(observer);
    assert_eq!(ending(fin), Ending::EndOfStream { announced: false });

    let close = exchange(Fault::CloseWithoutWebsocketClose);
    let mut observer = observer_at(&close);
    assert!(observer.record().unwrap().plain.is_empty());
    assert_eq!(observer.tls.reader().read(&mut [0]).unwrap(), 0, "a close_notify");
    assert_eq!(observer.socket.read(&mut [0]).unwrap(), 0, "a FIN");
    drop(observer);
    ending(close);
}

#[test]
fn whatever_is_allowed_costs_no_message() {
    let allowed: Vec<Fault> = Fault::value_variants().iter().copied().filter(|fault| fault.is_allowed()).collect();
    assert_eq!(allowed.len(), 7);
    for fault in allowed {
        let exchange = exchange(fault);
        let mut client = client(exchange.address(), "/ws");
        let mut received = Vec::new();
        loop {
            match client.read().unwrap() {
                Message::Text(text) => received.push(text.to_string()),
                Message::Ping(_) => {}
                Message::Close(_) => break,
                other => panic!("{fault:?}: {other:?}"),
            }
        }
        while client.read().is_ok() {}
        drop(client);
        assert_eq!(received, trades(6), "{fault:?}");
        assert!(exchange.wait_ended(1, PATIENCE));
        let report = exchange.stop();
        assert_eq!((&report.endings[..], report.faults), (&[Ending::Completed][..], 1), "{fault:?}");
        assert!(report.errors().is_empty(), "{fault:?}: {:?}", report.errors());
        if fault == Fault::Fragments {
            assert_eq!((report.pings.sent, report.pings.missing), (12, 0), "two pings in each message");
        }
    }
}

#[test]
fn the_first_message_rides_with_the_101() {
    let exchange = exchange(Fault::EarlyFrame);
    let mut observer = Observer::new(exchange.address());
    observer.send(UPGRADE);
    let record = loop {
        let record = observer.record().unwrap();
        if !record.plain.is_empty() {
            break record;
        }
    };
    let head = record.plain.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    let (frame, rest) = common::split_frame(&record.plain[head..]).unwrap();
    assert_eq!(frame.payload, trades(1)[0].as_bytes());
    assert!(rest.is_empty());
    observer.send_frame(0x88, &1000_u16.to_be_bytes());
}

#[test]
fn fragments_have_pings_between_them() {
    let exchange = exchange(Fault::Fragments);
    let (mut observer, _) = Observer::upgraded(exchange.address());
    for trade in trades(6) {
        let frames: Vec<_> = (0..5).map(|_| observer.frame()).collect();
        let opcodes: Vec<u8> = frames.iter().map(|frame| frame.first).collect();
        assert_eq!(opcodes, [0x01, 0x89, 0x00, 0x89, 0x80]);
        let message = [0, 2, 4].map(|at: usize| frames[at].payload.clone()).concat();
        assert_eq!(message, trade.as_bytes());
        observer.send_frame(0x8a, &frames[1].payload);
        observer.send_frame(0x8a, &frames[3].payload);
    }
    assert_eq!(observer.frame().first, 0x88);
    observer.send_frame(0x88, &1000_u16.to_be_bytes());
    drop(observer);
    assert!(exchange.wait_ended(1, PATIENCE));
    assert_eq!(exchange.stop().pings.answered, 12);
}

#[test]
fn records_can_be_tiny_or_parts_of_a_message() {
    let tiny = exchange(Fault::TinyRecords);
    let (mut observer, _) = Observer::upgraded(tiny.address());
    for byte in std::iter::repeat_with(|| observer.record().unwrap().plain).filter(|plain| !plain.is_empty()).take(60) {
        assert_eq!(byte.len(), 1);
    }

    let split = exchange(Fault::SplitRecords);
    let (mut observer, _) = Observer::upgraded(split.address());
    for trade in trades(6) {
        let mut records = 0;
        let mut plain = Vec::new();
        let frame = loop {
            if let Some((frame, rest)) = common::split_frame(&plain) {
                assert!(rest.is_empty());
                break frame;
            }
            let record = observer.record().unwrap();
            records += usize::from(!record.plain.is_empty());
            plain.extend(record.plain);
        };
        assert_eq!(frame.payload, trade.as_bytes());
        assert!(records >= 3, "{records}");
    }
}

#[test]
fn scattered_records_are_cut_by_segments() {
    let config = Config {
        feed: Feed::Replay(recording(&trades(200))),
        pace: Pace::Rate(NonZeroU64::new(1000).unwrap()),
        fault: Some(Fault::Scattered),
        ..secure()
    };
    let exchange = start(config);
    let (mut observer, _) = Observer::upgraded(exchange.address());
    // Reads what each wake-up brings and counts those that end inside a record.
    let (mut stream, mut cut, mut seen) = (Vec::new(), 0, 0);
    while seen < 200 {
        let mut bytes = [0; 4096];
        let length = observer.socket.read(&mut bytes).unwrap();
        stream.extend_from_slice(&bytes[..length]);
        while let Some(whole) = whole_record(&stream) {
            observer.tls.read_tls(&mut &stream[..whole]).unwrap();
            let state = observer.tls.process_new_packets().unwrap();
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            observer.tls.reader().read_exact(&mut plain).unwrap();
            seen += usize::from(!plain.is_empty());
            stream.drain(..whole);
        }
        cut += usize::from(!stream.is_empty());
    }
    assert!(cut >= 5, "of 200 records {cut} were seen in part");
}

fn whole_record(stream: &[u8]) -> Option<usize> {
    let length = 5 + usize::from(u16::from_be_bytes([*stream.get(3)?, *stream.get(4)?]));
    (stream.len() >= length).then_some(length)
}

#[test]
fn a_drip_takes_a_millisecond_a_byte() {
    let exchange = exchange(Fault::Drip);
    let address: SocketAddr = exchange.address();
    let (mut observer, _) = Observer::upgraded(address);
    let begin = Instant::now();
    assert_eq!(observer.text(), trades(1)[0]);
    let bytes = trades(1)[0].len() + 2 + 5 + 1 + 16;
    // The first bytes may have come while the answer to the upgrade was read.
    let least = Duration::from_millis(bytes as u64 * 3 / 4);
    assert!(begin.elapsed() >= least, "{bytes} bytes in {:?}", begin.elapsed());
}
