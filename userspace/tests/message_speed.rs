//! How long the message stage takes, on this machine and now: figures to look at, not a check.
//!
//! `cargo test --release -p wiretick --test message_speed -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Instant;

use wiretick::floor::{Limits, Span};
use wiretick::message::{Decoder, Error, Kind, MaskPool, Message, encode};

/// Nanoseconds per call of `work`: the best and the median of 200 rounds of 1,000 calls.
fn measure(name: &str, per_call: f64, mut work: impl FnMut()) {
    let mut rounds: Vec<f64> = (0..200)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..1000 {
                work();
            }
            start.elapsed().as_nanos() as f64 / 1000.0 / per_call
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    println!("{name}: best {:.1} ns, median {:.1} ns", rounds[0], rounds[100]);
}

/// `count` text messages of `len` bytes, as a server writes them, with the padding behind.
fn texts(count: usize, len: u8) -> (Vec<u8>, usize) {
    let mut stream = Vec::new();
    for _ in 0..count {
        stream.push(0x81);
        if len > 125 {
            stream.extend([126, 0]);
        }
        stream.push(len);
        let update = r#"{"e":"trade","E":1700000000000,"s":"BTCUSDT","p":"43000.01","q":"0.001"},"#;
        stream.extend(update.bytes().cycle().take(usize::from(len)));
    }
    let len = stream.len();
    stream.resize(len + Span::PAD, 0);
    (stream, len)
}

#[test]
#[ignore = "prints figures; meant for a release build on a quiet machine"]
fn figures() {
    for (count, size) in [(16, 150), (1, 150), (16, 60)] {
        let (mut bytes, len) = texts(count, size);
        let mut decoder = Decoder::new(&Limits::default());
        let name = format!("decode, per message of {size} bytes, {count} in a span, UTF-8 checked");
        measure(&name, count as f64, || {
            let sink = &mut |message: Message<'_>| {
                black_box(&message);
                Ok::<(), Error>(())
            };
            decoder.push(Span::new(black_box(&mut bytes), len), sink).unwrap();
        });
        assert_eq!(decoder.counters().messages_joined, 0);
        let head = if size > 125 { 4 } else { 2 };
        measure(&format!("    of which the UTF-8 check of {size} bytes"), 1.0, || {
            black_box(simdutf8::basic::from_utf8(black_box(&bytes[head..head + usize::from(size)]))).unwrap();
        });
    }

    // The same 16 messages of 150 bytes, in pieces of 1,000 bytes: two or three of them are joined.
    let (bytes, len) = texts(16, 150);
    let mut pieces: Vec<(Vec<u8>, usize)> =
        bytes[..len].chunks(1000).map(|piece| ([piece, &[0; Span::PAD]].concat(), piece.len())).collect();
    let mut decoder = Decoder::new(&Limits::default());
    measure("decode, per message of 150 bytes, 16 in pieces of 1,000 bytes", 16.0, || {
        for (piece, len) in &mut pieces {
            let sink = &mut |message: Message<'_>| {
                black_box(&message);
                Ok::<(), Error>(())
            };
            decoder.push(Span::new(black_box(piece), *len), sink).unwrap();
        }
    });

    let mut out = [0; 2048];
    for size in [20, 100, 103, 1000] {
        let payload = vec![b'x'; size];
        measure(&format!("encode, a text of {size} bytes"), 1.0, || {
            black_box(encode(Kind::Text, black_box(&payload), black_box([1, 2, 3, 4]), black_box(&mut out)));
        });
    }
    let mut masks = MaskPool::new().unwrap();
    measure("draw a mask, refills included", 1.0, || {
        black_box(masks.draw()).unwrap();
    });
    measure("refill the pool of 256 masks", 1.0, || masks.refill().unwrap());
}
