//! The decoder, state by state; and the harness that the other test files here share ("frame" means a WebSocket frame).
//!
//! [`feed`] pushes pieces, each in a buffer of its own, checks every promise that holds whatever the stream says, and
//! returns what was delivered. Its sink overwrites each payload, as a parser that works in place would.

mod autobahn;
mod hostile;
mod model;
mod oracle;
mod splits;
mod utf8;

use super::*;
use crate::floor::counters::Counters as _;
use crate::message::CloseCode;

/// A delivered message, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// What a stream led to.
#[derive(Debug)]
struct Outcome {
    seen: Vec<Seen>,
    /// For each text or binary message: did it lie where it arrived?
    in_place: Vec<bool>,
    verdict: Result<(), Error>,
    decoder: Decoder,
}

/// What stands behind every piece, and must still stand there afterwards.
const BEHIND: [u8; Span::PAD] = [0xC3; Span::PAD];

/// Feeds `pieces` to a new decoder with the default limits, until they end or it fails.
fn feed<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    feed_with(&Limits::default(), pieces)
}

fn feed_with<'p>(limits: &Limits, pieces: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    let mut outcome =
        Outcome { seen: Vec::new(), in_place: Vec::new(), verdict: Ok(()), decoder: Decoder::new(limits) };
    for piece in pieces {
        let mut buffer = piece.to_vec();
        buffer.extend(BEHIND);
        let lent = buffer.as_ptr_range();
        let Outcome { seen, in_place, decoder, .. } = &mut outcome;
        let verdict = decoder.push(Span::new(&mut buffer, piece.len()), &mut |message| {
            seen.push(match message {
                Message::Text(payload) => {
                    let bytes = inspect(payload, lent.clone(), in_place);
                    Seen::Text(String::from_utf8(bytes).expect("a text is UTF-8"))
                }
                Message::Binary(payload) => Seen::Binary(inspect(payload, lent.clone(), in_place)),
                Message::Ping(bytes) => Seen::Ping(bytes.to_vec()),
                Message::Pong(bytes) => Seen::Pong(bytes.to_vec()),
                Message::Close { code, reason } => Seen::Close(code, reason.to_owned()),
            });
            Ok::<(), Error>(())
        });
        assert_eq!(buffer[piece.len()..], BEHIND, "somebody wrote behind the piece");
        let arrived = outcome.decoder.join.len() + piece.len();
        let bound = super::super::join::KEEP_BYTES.max(2 * (arrived + Span::PAD));
        assert!(outcome.decoder.join.capacity() <= bound, "memory grew without bytes");
        if verdict.is_err() {
            outcome.verdict = verdict;
            break;
        }
    }
    let counters = outcome.decoder.counters();
    assert_eq!(counters.messages_in_place, outcome.in_place.iter().filter(|yes| **yes).count() as u64);
    assert_eq!(counters.messages_joined, outcome.in_place.iter().filter(|yes| !**yes).count() as u64);
    assert_eq!(counters.text + counters.binary, outcome.in_place.len() as u64);
    outcome
}

/// Copies a payload, checks where it lies, and then overwrites it.
fn inspect(mut payload: Payload<'_>, lent: std::ops::Range<*const u8>, in_place: &mut Vec<bool>) -> Vec<u8> {
    let bytes = payload.span.bytes().to_vec();
    let address = payload.span.bytes().as_ptr();
    // An empty payload may lie right behind the piece's last byte, which is still inside the buffer.
    assert_eq!(lent.contains(&address), !payload.joined, "`joined` must say where the payload lies");
    in_place.push(!payload.joined);
    assert!(payload.span.with_padding_mut().len() >= bytes.len() + Span::PAD);
    payload.span.bytes_mut().fill(0xEE);
    bytes
}

/// Single bytes of a stream, as the cruellest network would send them.
fn octets(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    stream.chunks(1)
}

/// A server's frame with this first byte.
fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = vec![first];
    match payload.len() {
        len @ ..126 => frame.push(u8::try_from(len).unwrap()),
        len @ ..65536 => {
            frame.push(126);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
/// The same without FIN, and the frames that go on.
const TEXT_BEGIN: u8 = 0x01;
const BINARY_BEGIN: u8 = 0x02;
const MORE: u8 = 0x00;
const LAST: u8 = 0x80;

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

mod between_messages {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_read_as_it_says() {
        // Section 5.7; the masked ones are a client's, and refused.
        let examples: [(&[u8], Seen); 5] = [
            (&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], text("Hello")),
            (&[0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f], text("Hello")),
            (&[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], Seen::Ping(b"Hello".to_vec())),
            (&[&[0x82, 0x7E, 0x01, 0x00][..], &[7; 256]].concat(), Seen::Binary(vec![7; 256])),
            (&[&[0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0][..], &[9; 65536]].concat(), Seen::Binary(vec![9; 65536])),
        ];
        for (bytes, expected) in examples {
            let outcome = feed([bytes]);
            assert_eq!(outcome.verdict, Ok(()));
            assert_eq!(outcome.seen, [expected]);
        }
        let masked_hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(feed([&masked_hello[..]]).verdict, Err(Error::Masked));
        let masked_pong = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(feed([&masked_pong[..]]).verdict, Err(Error::Masked));
    }

    #[test]
    fn many_messages_in_one_piece_are_delivered_in_order_and_in_place() {
        let stream: Vec<u8> = (0..100).flat_map(|i| frame(TEXT, format!("message {i}"))).collect();
        let outcome = feed([&stream[..]]);
        let expected: Vec<Seen> = (0..100).map(|i| text(&format!("message {i}"))).collect();
        assert_eq!(outcome.seen, expected);
        assert_eq!(outcome.in_place, [true; 100]);
        assert_eq!(outcome.decoder.counters().bytes_joined, 0);
        assert!(outcome.decoder.is_between_messages());
    }

    #[test]
    fn an_empty_piece_says_nothing() {
        let stream = frame(TEXT, "a");
        let outcome = feed([&[][..], &stream[..1], &[][..], &stream[1..2], &[][..], &stream[2..], &[][..]]);
        assert_eq!(outcome.seen, [text("a")]);
        assert_eq!(outcome.verdict, Ok(()));
    }

    #[test]
    fn a_payload_that_follows_its_head_in_the_next_piece_is_not_copied() {
        for cut in 0..=4 {
            let stream = frame(BINARY, [5; 300]);
            let outcome = feed([&stream[..cut], &stream[cut..]]);
            assert_eq!(outcome.seen, [Seen::Binary(vec![5; 300])]);
            assert_eq!(outcome.in_place, [true], "cut at {cut}");
            assert_eq!(outcome.decoder.counters().bytes_joined, 0);
        }
    }

    #[test]
    fn a_message_cut_inside_its_payload_is_copied_once() {
        let stream = frame(BINARY, [5; 300]);
        let outcome = feed([&stream[..5], &stream[5..100], &stream[100..]]);
        assert_eq!(outcome.seen, [Seen::Binary(vec![5; 300])]);
        assert_eq!(
            outcome.decoder.counters().nonzero(),
            [("messages_joined", 1), ("bytes_joined", 300), ("binary", 1), ("payloads_split", 2)]
        );
    }

    #[test]
    fn pieces_that_end_inside_a_frame_are_counted_by_where_they_end() {
        // A head of 4 bytes and a payload of 200: 3 pieces end in the head, one right behind it, 199 in the payload.
        let stream = frame(TEXT, "x".repeat(200));
        let outcome = feed(octets(&stream));
        assert_eq!(outcome.decoder.counters().heads_split, 3);
        assert_eq!(outcome.decoder.counters().payloads_split, 200);
    }

    #[test]
    fn an_empty_message_is_delivered_without_waiting_for_the_next_byte() {
        for first in [TEXT, BINARY, PING, PONG, CLOSE] {
            assert_eq!(feed([&[first, 0][..]]).seen.len(), 1);
            assert_eq!(feed(octets(&[first, 0])).seen.len(), 1);
        }
    }

    #[test]
    fn each_malformed_head_is_refused_under_its_own_name() {
        let cases: [(&[u8], Error); 14] = [
            (&[0xC1, 0x00], Error::ReservedBits(0xC1)),
            (&[0xA1, 0x00], Error::ReservedBits(0xA1)),
            (&[0x91, 0x00], Error::ReservedBits(0x91)),
            (&[0x83, 0x00], Error::ReservedOpcode(3)),
            (&[0x8B, 0x00], Error::ReservedOpcode(11)),
            (&[0x09, 0x00], Error::FragmentedControl(Opcode::Ping)),
            (&[0x08, 0x00], Error::FragmentedControl(Opcode::Close)),
            (&[0x8A, 126, 0, 126], Error::ControlTooLong(Opcode::Pong)),
            (&[0x88, 127], Error::ControlTooLong(Opcode::Close)),
            (&[0x81, 0x80], Error::Masked),
            (&[0x81, 126, 0, 125], Error::LengthNotMinimal(125)),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Error::LengthNotMinimal(65535)),
            (&[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 1], Error::LengthTopBit(0x8000_0000_0000_0001)),
            (&[0x80, 0x00], Error::NothingToContinue),
        ];
        for (bytes, error) in cases {
            assert_eq!(error.close_code(), 1002);
            for outcome in [feed([bytes]), feed(octets(bytes))] {
                assert_eq!(outcome.verdict, Err(error.clone()));
                assert_eq!(outcome.seen, []);
            }
        }
    }

    #[test]
    fn a_head_is_refused_at_its_first_wrong_byte() {
        assert_eq!(feed([&[0xC1][..]]).verdict, Err(Error::ReservedBits(0xC1)));
        assert_eq!(feed([&[0x80][..]]).verdict, Err(Error::NothingToContinue));
        assert_eq!(feed([&[0x89, 126][..]]).verdict, Err(Error::ControlTooLong(Opcode::Ping)));
    }

    #[test]
    fn the_messages_before_a_fault_are_delivered() {
        let stream = [frame(TEXT, "one"), frame(PING, "two"), vec![0x83, 0]].concat();
        let outcome = feed([&stream[..]]);
        assert_eq!(outcome.seen, [text("one"), Seen::Ping(b"two".to_vec())]);
        assert_eq!(outcome.verdict, Err(Error::ReservedOpcode(3)));
    }
}

mod at_the_limit {
    use super::*;

    const KIB: Limits =
        Limits { message_bytes_max: 1024, handshake_bytes_max: 0, http_head_bytes_max: 0, outgoing_bytes_max: 0 };

    #[test]
    fn a_message_of_the_limit_passes_and_one_byte_more_is_refused_at_its_head() {
        let stream = frame(BINARY, [1; 1024]);
        for cut in [stream.len(), 4, 500] {
            assert_eq!(feed_with(&KIB, [&stream[..cut], &stream[cut..]]).verdict, Ok(()));
        }
        let head = &frame(BINARY, [1; 1025])[..4];
        let outcome = feed_with(&KIB, [head]);
        assert_eq!(outcome.verdict, Err(Error::MessageTooBig { len: 1025, max: 1024 }));
        assert_eq!(outcome.verdict.unwrap_err().close_code(), 1009);
        assert_eq!(outcome.decoder.join.capacity(), 0, "no memory is taken for it");
    }

    #[test]
    fn the_limit_holds_for_the_sum_of_the_fragments() {
        let begin = frame(TEXT_BEGIN, "x".repeat(1000));
        let fits = frame(LAST, "y".repeat(24));
        let outcome = feed_with(&KIB, [&begin[..], &fits[..]]);
        assert_eq!(outcome.verdict, Ok(()));
        assert_eq!(outcome.seen.len(), 1);
        let outcome = feed_with(&KIB, [&begin[..], &[LAST, 25][..]]);
        assert_eq!(outcome.verdict, Err(Error::MessageTooBig { len: 1025, max: 1024 }));
    }

    #[test]
    fn endless_fragments_end_at_the_limit() {
        let mut stream = frame(BINARY_BEGIN, [0; 100]);
        for _ in 0..100 {
            stream.extend(frame(MORE, [0; 100]));
        }
        let outcome = feed_with(&KIB, [&stream[..]]);
        assert_eq!(outcome.verdict, Err(Error::MessageTooBig { len: 1100, max: 1024 }));
        assert!(outcome.decoder.join.capacity() <= 1024 + Span::PAD);
    }

    #[test]
    fn a_control_frame_does_not_count() {
        let tiny = Limits { message_bytes_max: 3, ..KIB };
        let stream = [frame(TEXT_BEGIN, "ab"), frame(PING, [1; 125]), frame(LAST, "c")].concat();
        assert_eq!(feed_with(&tiny, [&stream[..]]).seen.len(), 2);
    }

    #[test]
    fn a_declared_giant_takes_no_memory_before_it_arrives() {
        let boundless = Limits { message_bytes_max: usize::MAX, ..KIB };
        for len in [1u64 << 62, 4 << 30] {
            let mut stream = vec![BINARY, 127];
            stream.extend(len.to_be_bytes());
            stream.extend([0; 1000]);
            // The harness checks after each piece that memory is in proportion to the bytes that came.
            let outcome = feed_with(&boundless, stream.chunks(100));
            assert_eq!(outcome.verdict, Ok(()));
            assert_eq!(outcome.decoder.join.len(), 1000);
            let refused = feed([&stream[..]]).verdict;
            assert_eq!(refused, Err(Error::MessageTooBig { len, max: Limits::default().message_bytes_max }));
        }
    }

    #[test]
    fn memory_of_a_giant_message_is_given_back() {
        let stream = frame(BINARY, vec![0; 5 << 20]);
        let outcome = feed(stream.chunks(16 << 10));
        assert_eq!(outcome.seen.len(), 1);
        assert_eq!(outcome.decoder.join.capacity(), super::super::super::join::KEEP_BYTES);
    }
}

mod inside_a_fragmented_message {
    use super::*;

    #[test]
    fn fragments_are_joined_and_counted() {
        let stream = [frame(TEXT_BEGIN, "a"), frame(MORE, ""), frame(MORE, "b"), frame(LAST, "c")].concat();
        let outcome = feed([&stream[..]]);
        assert_eq!(outcome.seen, [text("abc")]);
        assert_eq!(
            outcome.decoder.counters().nonzero(),
            [("messages_joined", 1), ("bytes_joined", 3), ("fragments", 4), ("text", 1)]
        );
    }

    #[test]
    fn control_frames_between_fragments_come_first() {
        let stream =
            [frame(BINARY_BEGIN, "a"), frame(PING, "p"), frame(MORE, "b"), frame(PONG, "q"), frame(LAST, "c")].concat();
        for outcome in [feed([&stream[..]]), feed(octets(&stream))] {
            assert_eq!(
                outcome.seen,
                [Seen::Ping(b"p".to_vec()), Seen::Pong(b"q".to_vec()), Seen::Binary(b"abc".to_vec())]
            );
        }
    }

    #[test]
    fn another_message_is_refused() {
        for (first, opcode) in
            [(TEXT, Opcode::Text), (TEXT_BEGIN, Opcode::Text), (BINARY, Opcode::Binary), (BINARY_BEGIN, Opcode::Binary)]
        {
            let stream = [frame(TEXT_BEGIN, "a"), vec![first]].concat();
            assert_eq!(feed([&stream[..]]).verdict, Err(Error::MessageInsideMessage(opcode)));
        }
    }

    #[test]
    fn a_close_ends_it_and_the_message_is_never_delivered() {
        let stream = [frame(TEXT_BEGIN, "a"), frame(CLOSE, ""), frame(LAST, "b")].concat();
        let outcome = feed([&stream[..]]);
        assert_eq!(outcome.seen, [Seen::Close(None, String::new())]);
        assert_eq!(outcome.decoder.counters().frames_after_close, 1);
    }

    #[test]
    fn the_stream_is_not_between_messages() {
        assert!(!feed([&frame(TEXT_BEGIN, "")[..]]).decoder.is_between_messages());
        assert!(!feed([&[TEXT][..]]).decoder.is_between_messages());
        assert!(!feed([&[TEXT, 1][..]]).decoder.is_between_messages());
        assert!(feed([&[TEXT, 0][..]]).decoder.is_between_messages());
        assert!(feed([]).decoder.is_between_messages());
    }

    #[test]
    fn a_message_after_it_lies_in_place_again() {
        let stream = [frame(TEXT_BEGIN, "a"), frame(LAST, "b"), frame(TEXT, "c")].concat();
        let outcome = feed([&stream[..]]);
        assert_eq!(outcome.in_place, [false, true]);
    }
}

mod after_a_close {
    use super::*;

    #[test]
    fn what_follows_is_dropped_and_its_frames_are_counted() {
        let after = [frame(TEXT, "x"), frame(CLOSE, ""), frame(BINARY, vec![0; 70_000]), frame(MORE, "")].concat();
        let stream = [frame(CLOSE, close_body(1001, "bye")), after.clone()].concat();
        for outcome in [feed([&stream[..]]), feed(octets(&stream)), feed(stream.chunks(997))] {
            assert_eq!(outcome.seen, [Seen::Close(Some(1001), "bye".into())]);
            assert_eq!(outcome.verdict, Ok(()));
            let counters = outcome.decoder.counters();
            assert_eq!(counters.frames_after_close, 4);
            assert_eq!(counters.bytes_after_close, after.len() as u64);
            assert!(outcome.decoder.is_closed());
            assert!(outcome.decoder.is_between_messages());
        }
    }

    #[test]
    fn garbage_is_dropped_too() {
        // Garbage that is seen at a head's first byte, and garbage that is seen at its last.
        for garbage in [[0xFF; 10], [TEXT, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0]] {
            let stream = [frame(CLOSE, ""), frame(TEXT, "x"), garbage.repeat(100)].concat();
            for outcome in [feed(stream.chunks(300)), feed(octets(&stream))] {
                assert_eq!(outcome.verdict, Ok(()));
                assert_eq!(outcome.decoder.counters().frames_after_close, 1);
                assert_eq!(outcome.decoder.counters().bytes_after_close, 1003);
            }
        }
    }

    #[test]
    fn the_message_that_was_under_way_gives_its_memory_back() {
        let begun = frame(BINARY_BEGIN, vec![0; 5 << 20]);
        let held = feed([&begun[..]]).decoder.join.capacity();
        assert!(held > 5 << 20);
        let outcome = feed([&begun[..], &frame(CLOSE, "")]);
        assert_eq!(outcome.decoder.join.len(), 0);
        assert_eq!(outcome.decoder.join.capacity(), super::super::super::join::KEEP_BYTES);
    }

    #[test]
    fn the_limit_on_messages_means_nothing_any_more() {
        let stream = [frame(CLOSE, ""), vec![BINARY, 127, 0x40, 0, 0, 0, 0, 0, 0, 0], vec![0; 5000]].concat();
        let outcome = feed(stream.chunks(1000));
        assert_eq!(outcome.verdict, Ok(()));
        assert_eq!(outcome.decoder.counters().frames_after_close, 1);
        assert_eq!(outcome.decoder.join.capacity(), 0);
    }

    #[test]
    fn the_code_shows_its_name() {
        let outcome = feed([&frame(CLOSE, close_body(1012, ""))[..]]);
        let [Seen::Close(Some(code), _)] = outcome.seen[..] else { panic!("{:?}", outcome.seen) };
        assert_eq!(CloseCode(code).to_string(), "1012 service restart");
    }
}

mod after_an_end {
    use super::*;

    fn push(decoder: &mut Decoder, bytes: &[u8], verdict: &Result<(), Error>) -> (usize, Result<(), Error>) {
        let mut calls = 0;
        let mut buffer = [bytes, &[0; Span::PAD]].concat();
        let result = decoder.push(Span::new(&mut buffer, bytes.len()), &mut |_| {
            calls += 1;
            verdict.clone()
        });
        (calls, result)
    }

    #[test]
    fn a_broken_stream_stays_broken_and_is_not_read_again() {
        let mut decoder = Decoder::new(&Limits::default());
        let fault = [frame(TEXT, "a"), vec![0x83, 0], frame(TEXT, "b")].concat();
        assert_eq!(push(&mut decoder, &fault, &Ok(())), (1, Err(Error::ReservedOpcode(3))));
        assert_eq!(push(&mut decoder, &frame(TEXT, "c"), &Ok(())), (0, Err(Error::ReservedOpcode(3))));
        assert_eq!(
            decoder.counters().nonzero(),
            [("messages_in_place", 1), ("text", 1), ("violations", 1), ("pieces_after_end", 1)]
        );
    }

    #[test]
    fn a_sink_that_refuses_gets_its_own_error_back_and_no_more_messages() {
        // In place, joined, and control: every way to a sink.
        let streams = [
            [frame(TEXT, "a"), frame(TEXT, "b")].concat(),
            [frame(TEXT_BEGIN, "a"), frame(LAST, "b"), frame(TEXT, "c")].concat(),
            [frame(PING, ""), frame(TEXT, "b")].concat(),
        ];
        for stream in streams {
            let mut decoder = Decoder::new(&Limits::default());
            assert_eq!(push(&mut decoder, &stream, &Err(Error::Randomness)), (1, Err(Error::Randomness)));
            assert_eq!(push(&mut decoder, &frame(TEXT, "c"), &Ok(())), (0, Err(Error::StoppedBySink)));
            assert_eq!(decoder.counters().refused_by_sink, 1);
            assert_eq!(decoder.counters().violations, 0);
        }
    }

    #[test]
    fn an_error_type_of_the_callers_own_takes_both() {
        #[derive(Debug, PartialEq)]
        enum Mine {
            Stage(Error),
            Enough,
        }
        impl From<Error> for Mine {
            fn from(error: Error) -> Self {
                Self::Stage(error)
            }
        }
        let run = |bytes: &[u8]| {
            let mut buffer = [bytes, &[0; Span::PAD]].concat();
            Decoder::new(&Limits::default()).push(Span::new(&mut buffer, bytes.len()), &mut |_| Err(Mine::Enough))
        };
        assert_eq!(run(&frame(TEXT, "a")), Err(Mine::Enough));
        assert_eq!(run(&[0x83]), Err(Mine::Stage(Error::ReservedOpcode(3))));
    }
}
