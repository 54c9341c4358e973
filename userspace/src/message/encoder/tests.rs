//! Client frames, read back by another implementation (tungstenite, as a server) and by hand.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocket};
use tungstenite::{Error as TheirError, Message};

use super::*;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A stream that has said all it will say, and swallows answers.
#[derive(Debug)]
struct Heard(Cursor<Vec<u8>>);

impl Read for Heard {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            len => Ok(len),
        }
    }
}

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a server makes of `stream`.
fn heard_by_a_server(stream: Vec<u8>) -> Vec<Message> {
    let mut server = WebSocket::from_raw_socket(Heard(Cursor::new(stream)), Role::Server, None);
    let mut heard = Vec::new();
    loop {
        match server.read() {
            Ok(message) => heard.push(message),
            Err(TheirError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return heard,
            Err(TheirError::ConnectionClosed) => return heard,
            Err(error) => panic!("a server refuses our frames: {error}"),
        }
    }
}

/// Writes into a buffer of exactly the frame's length.
fn encoded(kind: Kind, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut out = vec![0; frame_len(payload.len())];
    assert_eq!(encode(kind, payload, mask, &mut out), out.len());
    out
}

#[test]
fn the_masked_examples_of_the_rfc_come_out() {
    // Section 5.7.
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(encoded(Kind::Text, b"Hello", MASK), hello);
    let mut out = [0; CONTROL_FRAME_LEN_MAX];
    let len = pong(b"Hello", MASK, &mut out).unwrap();
    assert_eq!(out[..len], [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
}

#[test]
fn the_length_takes_as_few_bytes_as_possible() {
    // Payload, bytes before it, and the length's own bytes without the mask bit.
    let cases: [(usize, usize, &[u8]); 6] = [
        (0, 6, &[0]),
        (125, 6, &[125]),
        (126, 8, &[126, 0, 126]),
        (65535, 8, &[126, 0xFF, 0xFF]),
        (65536, 14, &[127, 0, 0, 0, 0, 0, 1, 0, 0]),
        (70000, 14, &[127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
    ];
    for (len, head, field) in cases {
        let frame = encoded(Kind::Binary, &vec![1; len], MASK);
        assert_eq!(frame.len(), head + len);
        assert_eq!(frame[0], 0x82);
        assert_eq!(frame[1] & 0x80, 0x80, "a client must mask");
        assert_eq!(frame[1] & 0x7F, field[0]);
        assert_eq!(frame[2..1 + field.len()], field[1..]);
        assert_eq!(frame[head - 4..head], MASK);
    }
}

#[test]
fn nothing_is_written_behind_the_frame() {
    let mut out = [0xAA; 64];
    let len = encode(Kind::Text, b"abc", MASK, &mut out);
    assert_eq!(len, 9);
    assert_eq!(out[len..], [0xAA; 55]);
}

#[test]
#[should_panic(expected = "a frame of 9 bytes needs as much room, has 8")]
fn a_buffer_that_is_too_short_is_refused() {
    encode(Kind::Text, b"abc", MASK, &mut [0; 8]);
}

#[test]
#[should_panic(expected = "a text that is not UTF-8")]
#[cfg(debug_assertions)]
fn a_text_that_is_not_utf8_is_noticed_where_assertions_are_on() {
    encode(Kind::Text, b"\xFF", MASK, &mut [0; 64]);
}

#[test]
fn a_control_payload_of_125_bytes_fits_and_126_do_not() {
    let mut out = [0; CONTROL_FRAME_LEN_MAX];
    assert_eq!(ping(&[1; 125], MASK, &mut out), Ok(CONTROL_FRAME_LEN_MAX));
    assert_eq!(pong(&[1; 125], MASK, &mut out), Ok(CONTROL_FRAME_LEN_MAX));
    let refused = |opcode| Err(Error::ControlPayloadTooLong { opcode, len: 126 });
    assert_eq!(ping(&[1; 126], MASK, &mut out), refused(Opcode::Ping));
    assert_eq!(pong(&[1; 126], MASK, &mut out), refused(Opcode::Pong));
}

#[test]
fn a_close_carries_a_code_that_may_be_sent_and_a_reason_that_fits() {
    let mut out = [0; CONTROL_FRAME_LEN_MAX];
    assert_eq!(close(Some(1000), &"*".repeat(123), MASK, &mut out), Ok(CONTROL_FRAME_LEN_MAX));
    assert_eq!(close(Some(1000), &"*".repeat(124), MASK, &mut out), Err(Error::CloseReasonTooLong { len: 124 }));
    assert_eq!(close(None, "", MASK, &mut out), Ok(6));
    assert_eq!(close(None, "why", MASK, &mut out), Err(Error::CloseReasonWithoutCode));
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        assert_eq!(close(Some(code), "", MASK, &mut out), Err(Error::CloseCodeNotForSending(CloseCode(code))));
    }
}

#[test]
fn every_code_an_error_asks_for_may_be_sent() {
    let mut out = [0; CONTROL_FRAME_LEN_MAX];
    let errors =
        [Error::Masked, Error::TextNotUtf8 { at: 0 }, Error::MessageTooBig { len: 2, max: 1 }, Error::StoppedBySink];
    for error in errors {
        assert!(close(Some(error.close_code()), "", MASK, &mut out).is_ok());
    }
}

#[test]
fn a_server_hears_pings_pongs_and_closes() {
    let mut stream = Vec::new();
    let mut out = [0; CONTROL_FRAME_LEN_MAX];
    for write in [ping, pong] {
        let len = write(b"\x00payload\xFF", MASK, &mut out).unwrap();
        stream.extend(&out[..len]);
    }
    let len = close(Some(4321), "gr\u{fc}\u{df} dich", MASK, &mut out).unwrap();
    stream.extend(&out[..len]);
    let heard = heard_by_a_server(stream);
    let [Message::Ping(ping), Message::Pong(pong), Message::Close(Some(farewell))] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!(&ping[..], b"\x00payload\xFF");
    assert_eq!(&pong[..], b"\x00payload\xFF");
    assert_eq!((u16::from(farewell.code), farewell.reason.as_str()), (4321, "gr\u{fc}\u{df} dich"));
    // Without a code.
    let len = close(None, "", MASK, &mut out).unwrap();
    assert_eq!(heard_by_a_server(out[..len].to_vec()), [Message::Close(None)]);
}

proptest! {
    #[test]
    fn a_server_hears_what_was_said(
        sayings in prop::collection::vec(
            (prop_oneof![4 => "[a-z\u{e4}\u{20ac}\u{10ffff}]{0,300}", 1 => Just("\u{20AC}".repeat(25_000))], any::<bool>(), any::<[u8; 4]>()),
            0..10,
        ),
    ) {
        let mut stream = Vec::new();
        for (text, is_text, mask) in &sayings {
            let kind = if *is_text { Kind::Text } else { Kind::Binary };
            stream.extend(encoded(kind, text.as_bytes(), *mask));
        }
        let expected: Vec<Message> = sayings
            .iter()
            .map(|(text, is_text, _)| {
                if *is_text { Message::text(text.as_str()) } else { Message::binary(text.clone().into_bytes()) }
            })
            .collect();
        prop_assert!(heard_by_a_server(stream) == expected);
    }
}
