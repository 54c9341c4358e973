//! UTF-8 of text messages, against the standard library over the bytes that make a difference.

use super::*;

/// The first and the last byte of every class that the definition of UTF-8 (RFC 3629, section 4) tells apart.
const BYTES: [u8; 22] = [
    0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1,
    0xF3, 0xF4, 0xF5,
];

/// What the standard library says of this text: the error, and after how many bytes it can be known.
fn expected(text: &[u8]) -> (Result<(), Error>, usize) {
    match std::str::from_utf8(text) {
        Ok(_) => (Ok(()), text.len()),
        Err(fault) => {
            let known = (1..=text.len())
                .find(|len| std::str::from_utf8(&text[..*len]).is_err_and(|fault| fault.error_len().is_some()))
                .unwrap_or(text.len());
            (Err(Error::TextNotUtf8 { at: fault.valid_up_to() }), known)
        }
    }
}

#[test]
fn every_sequence_of_up_to_four_telling_bytes_is_judged_as_the_standard_library_does() {
    let mut refused = 0;
    let mut judge = |text: &[u8]| {
        let stream = frame(TEXT, text);
        let (verdict, known) = expected(text);
        assert_eq!(feed([&stream[..]]).verdict, verdict, "{text:x?} whole");
        // As soon as it can be known: after the two bytes of the head and the first `known` of the text.
        let mut decoder = Decoder::new(&Limits::default());
        for (i, byte) in stream.iter().enumerate() {
            let mut buffer = [0; 1 + Span::PAD];
            buffer[0] = *byte;
            let now = decoder.push(Span::new(&mut buffer, 1), &mut |_| Ok::<(), Error>(()));
            if now.is_err() || i + 1 == stream.len() {
                assert_eq!(now, verdict, "{text:x?} in octets");
                assert_eq!(i + 1, 2 + known, "{text:x?} must be judged in time");
                break;
            }
        }
        refused += u32::from(verdict.is_err());
    };
    for a in BYTES {
        judge(&[a]);
        for b in BYTES {
            judge(&[a, b]);
            for c in BYTES {
                judge(&[a, b, c]);
                for d in BYTES {
                    judge(&[a, b, c, d]);
                }
            }
        }
    }
    assert!(refused > 100_000, "{refused}");
}

#[test]
fn a_fault_is_found_at_every_position_of_long_texts() {
    // Around the widths of the vectors that check it: 16, 32, 64 bytes.
    for len in [1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 300] {
        for at in 0..len {
            for bad in [0xFF, 0xC3, 0x80] {
                let mut text = vec![b'a'; len];
                text[at] = bad;
                let verdict = Err(Error::TextNotUtf8 { at });
                let stream = frame(TEXT, &text);
                assert_eq!(feed([&stream[..]]).verdict, verdict);
                assert_eq!(feed(stream.chunks(7)).verdict, verdict);
            }
        }
    }
}

#[test]
fn an_invalid_text_is_refused_before_its_frame_is_complete() {
    // A text of 1 MiB of which 10 bytes have come.
    let mut stream = vec![TEXT, 127, 0, 0, 0, 0, 0, 0x10, 0, 0];
    stream.extend(b"abcdefg\xED\xA0\x80");
    assert_eq!(feed([&stream[..]]).verdict, Err(Error::TextNotUtf8 { at: 7 }));
    assert_eq!(feed([&stream[..stream.len() - 2]]).verdict, Ok(()), "ED alone may still become a character");
}

#[test]
fn a_binary_message_may_hold_any_bytes() {
    let all: Vec<u8> = (0..=255).collect();
    let stream = frame(BINARY, &all);
    for outcome in [feed([&stream[..]]), feed(octets(&stream))] {
        assert_eq!(outcome.seen, [Seen::Binary(all.clone())]);
    }
}
