//! The Autobahn test suite's catalogue for clients, sections 1 to 7, as tables: what the server sends, what must be
//! seen, and how it must end. Each case is fed whole, in octets and in chops of 2 and of 997 bytes.
//!
//! Echoing, which the suite uses to look inside, and the answers to pings and closes are the caller's part and not here.

use super::*;

/// Feeds a case in every way.
fn case(name: &str, frames: &[Vec<u8>], seen: &[Seen], verdict: &Result<(), Error>) {
    let stream = frames.concat();
    let ways = [
        ("frame by frame", feed(frames.iter().map(Vec::as_slice))),
        ("whole", feed([&stream[..]])),
        ("in octets", feed(octets(&stream))),
        ("in chops of 2", feed(stream.chunks(2))),
        ("in chops of 997", feed(stream.chunks(997))),
    ];
    for (way, outcome) in ways {
        assert!(outcome.seen == seen, "case {name}, {way}: {:?}", outcome.seen);
        assert_eq!(outcome.verdict, *verdict, "case {name}, {way}");
    }
}

/// A case that must pass.
fn passes(name: &str, frames: &[Vec<u8>], seen: &[Seen]) {
    case(name, frames, seen, &Ok(()));
}

/// A case that must fail the connection with this code, after these messages.
fn fails(name: &str, frames: &[Vec<u8>], seen: &[Seen], error: Error, code: u16) {
    assert_eq!(error.close_code(), code, "case {name}");
    case(name, frames, seen, &Err(error));
}

const SIZES: [usize; 7] = [0, 125, 126, 127, 128, 65535, 65536];

#[test]
fn section_1_text_and_binary_messages_of_the_sizes_where_the_length_changes_its_form() {
    for size in SIZES {
        passes(&format!("1.1 {size}"), &[frame(TEXT, "*".repeat(size))], &[Seen::Text("*".repeat(size))]);
        passes(&format!("1.2 {size}"), &[frame(BINARY, vec![0xFE; size])], &[Seen::Binary(vec![0xFE; size])]);
    }
}

#[test]
fn section_2_pings_and_pongs() {
    let ping = |payload: &[u8]| (frame(PING, payload), Seen::Ping(payload.to_vec()));
    for (name, payload) in [
        ("2.1", &b""[..]),
        ("2.2", b"Hello, world!"),
        ("2.3", b"\x00\xFF\xFE\xFD\xFC\xFB\x00\xFF"),
        ("2.4", &[0xFE; 125]),
    ] {
        let (frame, seen) = ping(payload);
        passes(name, &[frame], &[seen]);
    }
    fails("2.5", &[frame(PING, [0xFE; 126])], &[], Error::ControlTooLong(Opcode::Ping), 1002);
    fails("2.5, pong", &[frame(PONG, [0xFE; 126])], &[], Error::ControlTooLong(Opcode::Pong), 1002);
    passes("2.7", &[frame(PONG, "")], &[Seen::Pong(Vec::new())]);
    passes("2.8", &[frame(PONG, "unsolicited")], &[Seen::Pong(b"unsolicited".to_vec())]);
    let (frames, seen): (Vec<_>, Vec<_>) = (0..10).map(|i| ping(format!("payload-{i}").as_bytes())).unzip();
    passes("2.10", &frames, &seen);
}

#[test]
fn section_3_reserved_bits() {
    for bits in 1..=7u8 {
        let first = TEXT | bits << 4;
        let frames = [frame(TEXT, "Hello"), frame(first, "Hello"), frame(PING, "")];
        fails(&format!("3.{bits}"), &frames, &[text("Hello")], Error::ReservedBits(first), 1002);
        for control in [PING, PONG, CLOSE] {
            let first = control | bits << 4;
            fails(&format!("3.{bits}, control"), &[frame(first, "")], &[], Error::ReservedBits(first), 1002);
        }
    }
}

#[test]
fn section_4_reserved_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let frames = [frame(TEXT, "Hello"), frame(0x80 | opcode, ""), frame(PING, "")];
        fails(&format!("4 opcode {opcode}"), &frames, &[text("Hello")], Error::ReservedOpcode(opcode), 1002);
        let frames = [frame(0x80 | opcode, "with payload")];
        fails(&format!("4 opcode {opcode}, payload"), &frames, &[], Error::ReservedOpcode(opcode), 1002);
    }
}

#[test]
fn section_5_fragmentation() {
    let ping = |payload: &str| Seen::Ping(payload.as_bytes().to_vec());
    let broken = |opcode| Error::FragmentedControl(opcode);
    fails("5.1", &[frame(0x09, "frag1"), frame(LAST, "frag2")], &[], broken(Opcode::Ping), 1002);
    fails("5.2", &[frame(0x0A, "frag1"), frame(LAST, "frag2")], &[], broken(Opcode::Pong), 1002);
    passes("5.3", &[frame(TEXT_BEGIN, "frag1"), frame(LAST, "frag2")], &[text("frag1frag2")]);
    passes(
        "5.6",
        &[frame(TEXT_BEGIN, "frag1"), frame(PING, "ping"), frame(LAST, "frag2")],
        &[ping("ping"), text("frag1frag2")],
    );
    for (name, first) in [("5.9", LAST), ("5.12", MORE)] {
        let frames = [frame(first, "non-continuation payload"), frame(TEXT, "Hello")];
        fails(name, &frames, &[], Error::NothingToContinue, 1002);
    }
    fails(
        "5.15",
        &[frame(TEXT_BEGIN, "1"), frame(LAST, "2"), frame(MORE, "3"), frame(TEXT, "4")],
        &[text("12")],
        Error::NothingToContinue,
        1002,
    );
    fails("5.16", &[frame(MORE, "1"), frame(TEXT_BEGIN, "2"), frame(LAST, "3")], &[], Error::NothingToContinue, 1002);
    fails("5.17", &[frame(LAST, "1"), frame(TEXT_BEGIN, "2"), frame(LAST, "3")], &[], Error::NothingToContinue, 1002);
    fails(
        "5.18",
        &[frame(TEXT_BEGIN, "fragment1"), frame(TEXT, "fragment2")],
        &[],
        Error::MessageInsideMessage(Opcode::Text),
        1002,
    );
    passes(
        "5.19",
        &[
            frame(TEXT_BEGIN, "fragment1"),
            frame(MORE, "fragment2"),
            frame(PING, "pongme 1"),
            frame(MORE, "fragment3"),
            frame(MORE, "fragment4"),
            frame(PING, "pongme 2"),
            frame(LAST, "fragment5"),
        ],
        &[ping("pongme 1"), ping("pongme 2"), text("fragment1fragment2fragment3fragment4fragment5")],
    );
}

/// Text that must be accepted: section 6's valid cases.
const VALID: [&[u8]; 29] = [
    b"",
    b"Hello-\xC2\xB5@\xC3\x9F\xC3\xB6\xC3\xA4\xC3\xBC\xC3\xA0\xC3\xA1-UTF-8!!",
    // 6.5: the word kosme in Greek, whole and in whole characters.
    b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5",
    b"\xCE\xBA",
    b"\xCE\xBA\xE1\xBD\xB9",
    // 6.7, 6.9: the first and the last possible sequence of each length.
    b"\x00",
    b"\xC2\x80",
    b"\xE0\xA0\x80",
    b"\xF0\x90\x80\x80",
    b"\x7F",
    b"\xDF\xBF",
    b"\xEF\xBF\xBF",
    b"\xF4\x8F\xBF\xBF",
    // 6.11: on either side of the surrogates, and the replacement character.
    b"\xED\x9F\xBF",
    b"\xEE\x80\x80",
    b"\xEF\xBF\xBD",
    // 6.22: what Unicode calls noncharacters may still be sent.
    b"\xEF\xBF\xBE",
    b"\xF0\x9F\xBF\xBE",
    b"\xF0\x9F\xBF\xBF",
    b"\xF0\xAF\xBF\xBE",
    b"\xF1\x8F\xBF\xBF",
    b"\xF3\xBF\xBF\xBE",
    b"\xF3\xBF\xBF\xBF",
    b"\xF4\x8F\xBF\xBE",
    // 6.23: specials.
    b"\xEF\xBF\xB9",
    b"\xEF\xBF\xBA",
    b"\xEF\xBF\xBB",
    b"\xEF\xBF\xBC",
    b"\xEF\xBB\xBFwith a byte order mark",
];

/// Text that must be refused, and how many of its bytes are in order: section 6's invalid cases, after Markus Kuhn's
/// decoder stress test.
const INVALID: [(&[u8], usize); 61] = [
    // 6.3: a surrogate in the middle.
    (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80\x65\x64\x69\x74\x65\x64", 11),
    // 6.4: above U+10FFFF in the middle.
    (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xF4\x90\x80\x80\x65\x64\x69\x74\x65\x64", 11),
    // 6.6: kosme, cut inside its characters.
    (b"\xCE", 0),
    (b"\xCE\xBA\xE1", 2),
    (b"\xCE\xBA\xE1\xBD", 2),
    (b"\xCE\xBA\xE1\xBD\xB9\xCF", 5),
    (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE", 7),
    (b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE", 9),
    // 6.8, 6.10: five and six bytes, which RFC 3629 took away.
    (b"\xF8\x88\x80\x80\x80", 0),
    (b"\xFC\x84\x80\x80\x80\x80", 0),
    (b"\xF7\xBF\xBF\xBF", 0),
    (b"\xFB\xBF\xBF\xBF\xBF", 0),
    (b"\xFD\xBF\xBF\xBF\xBF\xBF", 0),
    // 6.11: the first above Unicode.
    (b"\xF4\x90\x80\x80", 0),
    // 6.12: continuations of nothing, one to seven, and all of them.
    (b"\x80", 0),
    (b"\xBF", 0),
    (b"\x80\xBF", 0),
    (b"\x80\xBF\x80", 0),
    (b"\x80\xBF\x80\xBF", 0),
    (b"\x80\xBF\x80\xBF\x80", 0),
    (b"\x80\xBF\x80\xBF\x80\xBF", 0),
    (b"\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8A\x8B\x8C\x8D\x8E\x8F", 0),
    // 6.13: lonely beginnings, each before a space.
    (b"\xC0 \xC1 \xC2 \xC3 ", 0),
    (b"\xC2 \xDF ", 0),
    (b"\xE0 \xE1 \xE2 ", 0),
    (b"\xF0 \xF1 \xF2 ", 0),
    (b"\xF8 \xF9 \xFA ", 0),
    (b"\xFC \xFD ", 0),
    // 6.14: the last byte is missing.
    (b"\xC0", 0),
    (b"\xE0\x80", 0),
    (b"\xF0\x80\x80", 0),
    (b"\xF8\x80\x80\x80", 0),
    (b"\xFC\x80\x80\x80\x80", 0),
    (b"\xDF", 0),
    (b"\xEF\xBF", 0),
    (b"\xF7\xBF\xBF", 0),
    // 6.15: all of these in a row.
    (b"\xC0\xE0\x80\xF0\x80\x80\xF8\x80\x80\x80\xFC\x80\x80\x80\x80\xDF\xEF\xBF\xF7\xBF\xBF", 0),
    // 6.16: bytes that never occur.
    (b"\xFE", 0),
    (b"\xFF", 0),
    (b"\xFE\xFE\xFF\xFF", 0),
    // 6.17, 6.18: overlong forms of a slash, and the largest.
    (b"\xC0\xAF", 0),
    (b"\xE0\x80\xAF", 0),
    (b"\xF0\x80\x80\xAF", 0),
    (b"\xF8\x80\x80\x80\xAF", 0),
    (b"\xFC\x80\x80\x80\x80\xAF", 0),
    (b"\xC1\xBF", 0),
    (b"\xE0\x9F\xBF", 0),
    (b"\xF0\x8F\xBF\xBF", 0),
    (b"\xF8\x87\xBF\xBF\xBF", 0),
    // 6.19: overlong forms of NUL.
    (b"\xC0\x80", 0),
    (b"\xE0\x80\x80", 0),
    (b"\xF0\x80\x80\x80", 0),
    // 6.20: surrogates alone.
    (b"\xED\xA0\x80", 0),
    (b"\xED\xAD\xBF", 0),
    (b"\xED\xAE\x80", 0),
    (b"\xED\xAF\xBF", 0),
    (b"\xED\xB0\x80", 0),
    (b"\xED\xBF\xBF", 0),
    // 6.21: surrogates in pairs.
    (b"ab\xED\xA0\x80\xED\xB0\x80", 2),
    (b"\xED\xAD\xBF\xED\xBF\xBF", 0),
    (b"\xED\xAE\x80\xED\xB0\x80", 0),
];

#[test]
fn section_6_valid_utf8_is_delivered_however_it_is_fragmented() {
    for bytes in VALID {
        let seen = [Seen::Text(String::from_utf8(bytes.to_vec()).unwrap())];
        let name = format!("6 {bytes:x?}");
        passes(&name, &[frame(TEXT, bytes)], &seen);
        let by_octet: Vec<Vec<u8>> =
            [frame(TEXT_BEGIN, "")].into_iter().chain(bytes.iter().map(|byte| frame(MORE, [*byte]))).collect();
        passes(&name, &[by_octet, vec![frame(LAST, "")]].concat(), &seen);
        // Fragments around control frames, cut at every place.
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            let frames = [frame(TEXT_BEGIN, one), frame(PING, ""), frame(LAST, other)];
            passes(&name, &frames, &[Seen::Ping(Vec::new()), seen[0].clone()]);
        }
    }
}

#[test]
fn section_6_invalid_utf8_fails_however_it_is_fragmented() {
    for (bytes, at) in INVALID {
        let name = format!("6 {bytes:x?}");
        let error = Error::TextNotUtf8 { at };
        fails(&name, &[frame(TEXT, bytes)], &[], error.clone(), 1007);
        fails(&name, &[frame(TEXT, bytes), frame(TEXT, "after")], &[], error.clone(), 1007);
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            fails(&name, &[frame(TEXT_BEGIN, one), frame(LAST, other)], &[], error.clone(), 1007);
        }
    }
}

#[test]
fn section_6_4_an_invalid_text_fails_before_it_is_complete() {
    let good = b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5";
    // 6.4.1: at the end of the fragment that spoils it, not of the message.
    let frames = [frame(TEXT_BEGIN, good), frame(MORE, b"\xF4\x90\x80\x80")];
    fails("6.4.1", &frames, &[], Error::TextNotUtf8 { at: 11 }, 1007);
    // 6.4.2: F4 may still become a character, 90 may not.
    passes("6.4.2", &[frame(TEXT_BEGIN, good), frame(MORE, b"\xF4")], &[]);
    fails(
        "6.4.2",
        &[frame(TEXT_BEGIN, good), frame(MORE, b"\xF4"), frame(MORE, b"\x90")],
        &[],
        Error::TextNotUtf8 { at: 11 },
        1007,
    );
    // 6.4.3, 6.4.4: the same inside one frame that is not complete.
    let mut stream = vec![TEXT, 100];
    stream.extend(good);
    stream.push(0xF4);
    passes("6.4.4", &[stream.clone()], &[]);
    stream.push(0x90);
    fails("6.4.4", &[stream], &[], Error::TextNotUtf8 { at: 11 }, 1007);
}

#[test]
fn section_7_close_handling() {
    let bye = || Seen::Close(None, String::new());
    passes("7.1.1", &[frame(TEXT, "Hello"), frame(CLOSE, "")], &[text("Hello"), bye()]);
    passes("7.1.2", &[frame(CLOSE, ""), frame(CLOSE, "")], &[bye()]);
    passes("7.1.3", &[frame(CLOSE, ""), frame(PING, "")], &[bye()]);
    passes("7.1.4", &[frame(CLOSE, ""), frame(TEXT, "Hello")], &[bye()]);
    passes("7.1.5", &[frame(TEXT_BEGIN, "1"), frame(CLOSE, ""), frame(LAST, "2")], &[bye()]);
    let big = "BAsd7&jh23".repeat(26_000);
    passes("7.1.6", &[frame(TEXT, &big), frame(CLOSE, ""), frame(PING, "")], &[text(&big), bye()]);
    passes("7.3.1", &[frame(CLOSE, "")], &[bye()]);
    fails("7.3.2", &[frame(CLOSE, "a")], &[], Error::CloseTooShort, 1002);
    passes("7.3.3", &[frame(CLOSE, close_body(1000, ""))], &[Seen::Close(Some(1000), String::new())]);
    let longest = "*".repeat(123);
    for reason in ["Hello World!", &longest] {
        passes("7.3.4, 7.3.5", &[frame(CLOSE, close_body(1000, reason))], &[Seen::Close(Some(1000), reason.into())]);
    }
    let too_long = frame(CLOSE, close_body(1000, &"*".repeat(124)));
    fails("7.3.6", &[too_long], &[], Error::ControlTooLong(Opcode::Close), 1002);
    let spoiled =
        [&1000u16.to_be_bytes()[..], b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited"].concat();
    fails("7.5.1", &[frame(CLOSE, spoiled)], &[], Error::CloseReasonNotUtf8 { at: 11 }, 1007);
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        passes("7.7", &[frame(CLOSE, close_body(code, "x"))], &[Seen::Close(Some(code), "x".into())]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
        for reason in ["", "x"] {
            let error = Error::CloseCodeInvalid(CloseCode(code));
            fails("7.9, 7.13", &[frame(CLOSE, close_body(code, reason))], &[], error, 1002);
        }
    }
}
