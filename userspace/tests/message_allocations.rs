//! The message stage allocates nothing per message. ("Frame" here means a WebSocket frame.)

mod counting;

use std::hint::black_box;

use wiretick::floor::{Limits, Span};
use wiretick::message::{CONTROL_FRAME_LEN_MAX, Decoder, Error, Kind, MaskPool, Message, close, encode, ping, pong};

use counting::calls_of;

/// A server's frames: a text, a binary message, a ping and a pong, with the padding behind.
fn stream() -> (Vec<u8>, usize) {
    let mut stream = Vec::new();
    for (first, len) in [(0x81, 150u8), (0x82, 200), (0x89, 20), (0x8A, 0)] {
        stream.push(first);
        if len > 125 {
            stream.extend([126, 0]);
        }
        stream.push(len);
        stream.resize(stream.len() + usize::from(len), b'x');
    }
    let len = stream.len();
    stream.resize(len + Span::PAD, 0);
    (stream, len)
}

fn push(decoder: &mut Decoder, bytes: &mut [u8], len: usize) {
    let taken = decoder.push(Span::new(bytes, len), &mut |message: Message<'_>| {
        black_box(&message);
        Ok::<(), Error>(())
    });
    assert_eq!(taken, Ok(()));
}

#[test]
fn the_counter_sees_an_allocation() {
    assert_eq!(calls_of(|| drop(black_box(Box::new(1)))), 1);
    assert_eq!(calls_of(|| drop(black_box(Vec::<u8>::with_capacity(10)))), 1);
}

#[test]
fn ten_thousand_messages_in_place_allocate_nothing() {
    let (mut bytes, len) = stream();
    let mut decoder = Decoder::new(&Limits::default());
    let taken = calls_of(|| {
        for _ in 0..5000 {
            push(&mut decoder, &mut bytes, len);
        }
    });
    let counters = decoder.counters();
    assert_eq!((counters.messages_in_place, counters.messages_joined), (10_000, 0));
    assert_eq!((counters.pings, counters.pongs), (5000, 5000));
    assert_eq!(taken, 0);
}

#[test]
fn messages_over_pieces_allocate_nothing_once_the_buffer_has_grown() {
    let (bytes, len) = stream();
    let mut decoder = Decoder::new(&Limits::default());
    // Pieces of 7 bytes: every head and every payload is split, those of control frames too.
    let mut run = |rounds: usize| {
        let mut piece = [0; 7 + Span::PAD];
        for _ in 0..rounds {
            for part in bytes[..len].chunks(7) {
                piece[..part.len()].copy_from_slice(part);
                push(&mut decoder, &mut piece, part.len());
            }
        }
    };
    assert!(calls_of(|| run(1)) > 0, "the first message over pieces must take the buffer");
    assert_eq!(calls_of(|| run(1000)), 0);
    assert_eq!(decoder.counters().messages_joined, 2002);
    assert_eq!(decoder.counters().messages_in_place, 0);
}

#[test]
fn ten_thousand_frames_out_allocate_nothing() {
    let mut masks = MaskPool::new().unwrap();
    let mut out = [0; 1024];
    let taken = calls_of(|| {
        for _ in 0..10_000 {
            black_box(encode(Kind::Text, &[b'x'; 300], masks.draw().unwrap(), &mut out));
            let control = &mut out[..CONTROL_FRAME_LEN_MAX];
            black_box(ping(b"ping", masks.draw().unwrap(), control)).unwrap();
            black_box(pong(&[1; 125], masks.draw().unwrap(), control)).unwrap();
            black_box(close(Some(1000), "bye", masks.draw().unwrap(), control)).unwrap();
        }
    });
    assert_eq!(taken, 0);
}
