//! What another implementation (tungstenite, as a server) writes is read here as it was meant.

use proptest::prelude::*;
use tungstenite::Bytes;
use tungstenite::protocol::frame::coding::{CloseCode as TheirCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};

use super::*;

/// One thing that a server says: a message, where to cut it into fragments, and the control frames in the gaps.
#[derive(Clone, Debug)]
struct Saying {
    is_text: bool,
    text: String,
    cuts: Vec<usize>,
    between: Vec<(bool, Vec<u8>)>,
}

fn sayings() -> impl Strategy<Value = Vec<Saying>> {
    let text = prop_oneof![
        8 => "[a-z\u{e4}\u{20ac}\u{10ffff}]{0,200}",
        1 => Just("\u{20AC}".repeat(30_000)),
        1 => Just("x".repeat(126)),
    ];
    let control = (any::<bool>(), prop::collection::vec(any::<u8>(), 0..=125));
    let saying = (
        any::<bool>(),
        text,
        prop_oneof![2 => Just(Vec::new()), 1 => prop::collection::vec(any::<usize>(), 1..5)],
        prop::collection::vec(control, 0..3),
    )
        .prop_map(|(is_text, text, cuts, between)| Saying { is_text, text, cuts, between });
    prop::collection::vec(saying, 0..8)
}

/// Has tungstenite write a saying, and notes what must be seen.
fn write(saying: &Saying, stream: &mut Vec<u8>, seen: &mut Vec<Seen>) {
    let bytes = saying.text.as_bytes();
    let mut cuts: Vec<usize> = saying.cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.sort_unstable();
    cuts.push(bytes.len());
    let mut from = 0;
    for (i, &cut) in cuts.iter().enumerate() {
        let opcode = match (i, saying.is_text) {
            (0, true) => Data::Text,
            (0, false) => Data::Binary,
            _ => Data::Continue,
        };
        let is_last = i + 1 == cuts.len();
        let part = Bytes::copy_from_slice(&bytes[from..cut]);
        from = cut;
        Frame::message(part, OpCode::Data(opcode), is_last).format(stream).unwrap();
        if let Some((is_ping, payload)) = saying.between.get(i).filter(|_| !is_last) {
            let (frame, sight) = if *is_ping {
                (Frame::ping(payload.clone()), Seen::Ping(payload.clone()))
            } else {
                (Frame::pong(payload.clone()), Seen::Pong(payload.clone()))
            };
            frame.format(stream).unwrap();
            seen.push(sight);
        }
    }
    seen.push(if saying.is_text { text(&saying.text) } else { Seen::Binary(bytes.to_vec()) });
}

proptest! {
    #[test]
    fn what_tungstenite_writes_is_read_as_it_was_meant(
        sayings in sayings(),
        code in prop_oneof![1000..=1003u16, 1007..=1013u16, 3000..=4999u16],
        reason in "[a-z \u{e4}]{0,60}",
        size in 1..5000usize,
    ) {
        let (mut stream, mut seen) = (Vec::new(), Vec::new());
        for saying in &sayings {
            write(saying, &mut stream, &mut seen);
        }
        let farewell = CloseFrame { code: TheirCode::from(code), reason: reason.as_str().into() };
        Frame::close(Some(farewell)).format(&mut stream).unwrap();
        seen.push(Seen::Close(Some(code), reason));

        for outcome in [feed([&stream[..]]), feed(stream.chunks(size))] {
            prop_assert_eq!(&outcome.verdict, &Ok(()));
            prop_assert!(outcome.seen == seen);
        }
        // In one piece, exactly the messages of one frame lie in place.
        let whole: Vec<bool> = sayings.iter().map(|saying| saying.cuts.is_empty()).collect();
        prop_assert_eq!(feed([&stream[..]]).in_place, whole);
    }
}
