//! The message stage: frames found and their UTF-8 checked, beside the check alone; and the way out.

use std::hint::black_box;

use wiretick::floor::Limits;
use wiretick::message::{Decoder, Error, Kind, MaskPool, Message, encode};

use crate::messages::put_text;
use crate::{Bench, Padded, Repeat, Shape, Work};

const GROUP: &str = "message";
/// Messages in a batch, all of which lie in the first-level cache. The clock, which is read twice a batch, then costs
/// less than a nanosecond a message.
const MESSAGES: usize = 64;

pub(crate) fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    let short = || (0..16).map(|_| br#"{"u":50093239212,"b":"61837.63000000","B":"3.78826000"}"#.to_vec());
    let spans: [(&str, Vec<Vec<u8>>); 3] = [
        ("1 in a record", payloads(Shape::ONE)),
        ("16 in a record", payloads(Shape::SIXTEEN)),
        ("16 of 55 bytes in a record", short().collect()),
    ];
    for (name, payloads) in spans {
        let batch = MESSAGES / payloads.len();
        let floor = format!("UTF-8 check alone, {name}");
        let copies = payloads.clone();
        let check = move || {
            let inputs = copies.iter().cycle().take(batch * copies.len()).map(|payload| Padded::new(payload)).collect();
            Repeat::new(inputs, 1, |payload| {
                black_box(simdutf8::basic::from_utf8(payload.bytes())).expect("it is UTF-8");
            })
        };
        benches.push(Bench::new(GROUP, floor.clone(), check));
        let decode = move || Decoding::new(vec![Padded::new(&frames(&payloads)); batch], MESSAGES as u64, true);
        benches.push(Bench::new(GROUP, format!("decoded, {name}"), decode).beside(floor));
    }
    let pieces = || {
        let bytes = frames(&vec![crate::trade(0).into_bytes(); MESSAGES]);
        Decoding::new(bytes.chunks(1000).map(Padded::new).collect(), MESSAGES as u64, false)
    };
    benches.push(Bench::new(GROUP, "decoded, in pieces of 1,000 bytes: some joined", pieces));

    for len in [20, 100, 1000] {
        let write = move || {
            let mut out = [0; 2048];
            Repeat::new(vec![Padded::new(&vec![b'x'; len]); MESSAGES], 1, move |payload| {
                let mask = black_box([1, 2, 3, 4]);
                black_box(encode(Kind::Text, payload.bytes(), mask, black_box(&mut out)));
            })
        };
        benches.push(Bench::new(GROUP, format!("encoded, a text of {len} bytes"), write));
    }
    let draw = || {
        let mut masks = MaskPool::new().expect("random numbers");
        Repeat::new(vec![Padded::default(); 256], 1, move |_| {
            black_box(masks.draw()).expect("random numbers");
        })
    };
    // The pool is filled by AWS-LC's generator, which seeds itself anew when it likes.
    benches.push(Bench::new(GROUP, "a mask drawn, refills included", draw).only_timed());
    benches
}

fn payloads(shape: Shape) -> Vec<Vec<u8>> {
    (0..shape.frames).map(|id| crate::trade(id).into_bytes()).collect()
}

fn frames(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for payload in payloads {
        put_text(&mut bytes, payload);
    }
    bytes
}

/// Pieces of plaintext, decoded.
struct Decoding {
    decoder: Decoder,
    pieces: Vec<Padded>,
    messages: u64,
    in_place: bool,
}

impl Decoding {
    fn new(pieces: Vec<Padded>, messages: u64, in_place: bool) -> Self {
        Self { decoder: Decoder::new(&Limits::default()), pieces, messages, in_place }
    }
}

impl Work for Decoding {
    fn prepare(&mut self) {
        let joined = self.decoder.counters().messages_joined;
        assert!(!self.in_place || joined == 0, "{joined} messages that lay in one piece were joined");
    }

    fn run(&mut self) {
        for piece in &mut self.pieces {
            let sink = &mut |message: Message<'_>| {
                black_box(&message);
                Ok::<(), Error>(())
            };
            self.decoder.push(black_box(piece).span(), sink).expect("what a server sends");
        }
    }

    fn messages(&self) -> u64 {
        self.messages
    }
}
