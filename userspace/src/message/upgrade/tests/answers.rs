//! The answer: good ones, refusals, and everything that only looks like one.

use std::io::{self, Cursor, Read, Write};

use proptest::prelude::*;
use tungstenite::Message as TheirMessage;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;

use super::*;
use crate::floor::Span;
use crate::message::{Decoder, Message};

/// Asserts that an answer leads to this error however it is cut in two, and in octets; the error's own excerpts of what
/// had arrived may differ, its kind may not.
fn fails(answer: &str, is_expected: impl Fn(&Error) -> bool) -> Error {
    let bytes = answer.as_bytes();
    let whole = judge(&mut upgrade(""), [bytes]).expect_err(answer);
    assert!(is_expected(&whole), "{answer:?} led to {whole:?}");
    let octets = judge(&mut upgrade(""), bytes.chunks(1)).expect_err(answer);
    assert!(is_expected(&octets), "{answer:?} in octets led to {octets:?}");
    for cut in 0..bytes.len() {
        let error = judge(&mut upgrade(""), [&bytes[..cut], &bytes[cut..]]).expect_err(answer);
        assert!(is_expected(&error), "{answer:?} cut at {cut} led to {error:?}");
    }
    whole
}

/// Asserts that an answer is good however it is cut.
fn passes(answer: &str) {
    let bytes = [answer.as_bytes(), b"\x81\x05Hello"].concat();
    let head = answer.len();
    for cut in 0..=bytes.len() {
        let verdict = judge(&mut upgrade(""), [&bytes[..cut], &bytes[cut..]]);
        assert_eq!(verdict, Ok(Some(head)), "{answer:?} cut at {cut}");
    }
    assert_eq!(judge(&mut upgrade(""), bytes.chunks(1)), Ok(Some(head)));
    assert_eq!(judge(&mut upgrade(""), [&bytes[..head - 1]]), Ok(None), "not before the last byte");
}

mod that_is_good {
    use super::*;

    #[test]
    fn is_taken_however_it_is_cut_and_the_first_frame_behind_it_is_left_alone() {
        passes(&switched(""));
    }

    #[test]
    fn may_write_its_words_as_it_likes() {
        passes(&format!(
            "HTTP/1.1 101\r\nserver: x\r\nUPGRADE:WebSocket\r\nconnection: keep-alive, \tuPgRaDe \r\n\
             sec-websocket-accept:\t{ACCEPT}  \r\n\r\n"
        ));
        passes(&format!(
            "HTTP/1.1 101 \u{4f60}\u{597d}\r\nUpgrade: websocket\r\nConnection: close\r\nConnection: upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        ));
    }

    #[test]
    fn may_fold_its_headers() {
        // RFC 9112, section 5.2: obsolete, but a user agent must understand it.
        passes(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade:\r\n websocket\r\nConnection: keep-alive,\r\n\tUpgrade\r\n\
             X-Folded: a\r\n   b\r\nSec-WebSocket-Accept: {ACCEPT}\r\n \r\n\r\n"
        ));
    }

    #[test]
    fn may_end_its_lines_with_lf_alone() {
        // RFC 9112, section 2.2.
        passes(&switched("").replace("\r\n", "\n"));
        passes(&switched("").replace("\r\n\r\n", "\r\n\n"));
        passes(&switched("").replace("\r\n\r\n", "\n\r\n"));
    }

    #[test]
    fn may_follow_informational_answers() {
        let early = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n";
        passes(&format!("HTTP/1.1 100 Continue\r\n\r\n{}", switched("")));
        passes(&format!("HTTP/1.1 100 Continue\r\n\r\n{early}{early}{}", switched("")));
    }

    #[test]
    fn may_have_very_many_headers() {
        passes(&switched(&"a:\r\n".repeat(1000)));
    }

    #[test]
    fn takes_no_more_bytes_once_done() {
        let mut upgrade = upgrade("");
        assert_eq!(judge(&mut upgrade, [switched("").as_bytes()]), Ok(Some(switched("").len())));
        assert_eq!(upgrade.push(b"more"), Ok(Progress::Done { consumed: 0 }));
    }
}

mod that_switches_wrongly {
    use super::*;

    /// A good answer with one line replaced.
    fn with(line: &str, by: &str) -> String {
        let answer = switched("");
        let from = answer.split_inclusive('\n').find(|found| found.starts_with(line)).unwrap();
        answer.replace(from, by)
    }

    #[test]
    fn must_upgrade_to_websocket_once() {
        for line in [
            "",
            "Upgrade: h2c\r\n",
            "Upgrade: websocket, h2c\r\n",
            "Upgrade: websocket\r\nUpgrade: websocket\r\n",
            "Upgrade:\r\n",
        ] {
            fails(&with("Upgrade", line), |error| *error == Error::NoUpgradeHeader);
        }
    }

    #[test]
    fn must_say_upgrade_in_connection() {
        for line in ["", "Connection: keep-alive\r\n", "Connection: upgraded\r\n", "Connection: up grade\r\n"] {
            fails(&with("Connection", line), |error| *error == Error::NoConnectionHeader);
        }
    }

    #[test]
    fn must_answer_our_key_once() {
        fails(&with("Sec-WebSocket-Accept", ""), |error| *error == Error::AcceptMissing);
        let twice = format!("Sec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Accept: {ACCEPT}\r\n");
        fails(&with("Sec-WebSocket-Accept", &twice), |error| *error == Error::AcceptRepeated);
        for wrong in
            ["", "dGhlIHNhbXBsZSBub25jZQ==", &ACCEPT.to_lowercase(), &format!("{ACCEPT}, {ACCEPT}"), &ACCEPT[1..]]
        {
            let line = format!("Sec-WebSocket-Accept: {wrong}\r\n");
            fails(&with("Sec-WebSocket-Accept", &line), |error| *error == Error::AcceptWrong);
        }
    }

    #[test]
    fn must_not_bring_extensions() {
        let error =
            fails(&switched("Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=15\r\n"), |error| {
                matches!(error, Error::ExtensionNotOffered(_))
            });
        assert_eq!(
            error.to_string(),
            "server: a 101 with an extension we did not offer: permessage-deflate; server_max_window_bits=15"
        );
        fails(&switched("sec-websocket-extensions:\r\n"), |error| matches!(error, Error::ExtensionNotOffered(_)));
    }

    #[test]
    fn must_not_bring_a_subprotocol_that_was_not_offered() {
        fails(&switched("Sec-WebSocket-Protocol: chat\r\n"), |error| {
            *error == Error::SubprotocolNotOffered("chat".into())
        });
        for (line, chosen) in [
            ("Sec-WebSocket-Protocol: a\r\n", Ok(Some("a"))),
            ("Sec-WebSocket-Protocol: b\r\n", Ok(Some("b"))),
            ("", Ok(None)),
            ("Sec-WebSocket-Protocol: A\r\n", Err("A")),
            ("Sec-WebSocket-Protocol: a, b\r\n", Err("a, b")),
            ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n", Err("a, b")),
            ("Sec-WebSocket-Protocol:\r\n", Err("")),
        ] {
            let mut upgrade = upgrade("a, b");
            let verdict = judge(&mut upgrade, [switched(line).as_bytes()]).map(|_| upgrade.protocol());
            assert_eq!(verdict, chosen.map_err(|name| Error::SubprotocolNotOffered(name.into())), "{line:?}");
        }
    }

    #[test]
    fn must_speak_http_1_1() {
        for version in ["HTTP/1.0", "HTTP/2.0", "HTTP/2", "HTTP/0.9", "HTTP/"] {
            let error = fails(&switched("").replace("HTTP/1.1", version), |error| {
                *error == Error::HttpVersion { version: version.into() }
            });
            assert_eq!(error.culprit(), Culprit::Server);
        }
    }
}

mod that_refuses {
    use super::*;

    fn refusal(answer: &str) -> Refusal {
        match judge(&mut upgrade(""), [answer.as_bytes()]) {
            Err(Error::Refused(refusal)) => *refusal,
            other => panic!("{answer:?} led to {other:?}"),
        }
    }

    #[test]
    fn is_reported_with_status_reason_and_what_it_says() {
        for (status, reason) in [
            (200, "OK"),
            (400, "Bad Request"),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "Not Found"),
            (426, "Upgrade Required"),
            (429, "Too Many Requests"),
            (451, "Unavailable For Legal Reasons"),
            (500, "Internal Server Error"),
            (503, "Service Unavailable"),
        ] {
            let answer = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 12\r\n\r\n{{\"code\": -1}}");
            let expected = Refusal { status, reason: reason.into(), retry_after: None, body: "{\"code\": -1}".into() };
            assert_eq!(refusal(&answer), expected);
            let error = fails(&answer, |error| matches!(error, Error::Refused(refusal) if refusal.status == status));
            assert_eq!(error.culprit(), Culprit::Venue);
            assert!(error.to_string().contains(&format!("{status} {reason}; it says: {{\"code\": -1}}")), "{error}");
        }
    }

    #[test]
    fn says_when_to_come_back() {
        let refusal = refusal("HTTP/1.1 429 Too Many Requests\r\nretry-after: 30\r\n\r\n");
        assert_eq!(refusal.retry_after.as_deref(), Some("30"));
        assert_eq!(refusal.to_string(), "429 Too Many Requests, Retry-After: 30");
    }

    #[test]
    fn may_have_no_reason_and_may_come_in_http_1_0() {
        assert_eq!(refusal("HTTP/1.1 503\r\n\r\n").to_string(), "503");
        assert_eq!(refusal("HTTP/1.0 502 Bad Gateway\r\n\r\n").to_string(), "502 Bad Gateway");
    }

    #[test]
    fn shows_the_text_of_a_chunked_body() {
        let refusal = refusal("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(refusal.body, "hello 0");
    }

    #[test]
    fn is_shown_short_and_without_control_characters() {
        let answer = format!("HTTP/1.1 403 Forbidden\r\n\r\n<b>\x1b[31mno\0\u{e4}</b>\r\n\r\n\t{}", "x".repeat(1000));
        let body = refusal(&answer).body;
        assert!(body.starts_with("<b>.[31mno...</b> xxx"), "{body}");
        assert!(body.ends_with("x ..."));
        assert!(body.len() < 210);
    }

    #[test]
    fn may_redirect_and_then_the_address_is_named_and_not_followed() {
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} Moved\r\nlocation: wss://other.example/ws\r\n\r\n");
            let expected = Redirect { status, location: "wss://other.example/ws".into() };
            let error = fails(&answer, |error| *error == Error::Redirected(Box::new(expected.clone())));
            assert_eq!(
                error.to_string(),
                format!("venue: it redirects with {status}, redirects are not followed: use wss://other.example/ws")
            );
        }
        let error = fails("HTTP/1.1 304 Not Modified\r\n\r\n", |error| matches!(error, Error::Redirected(_)));
        assert!(error.to_string().ends_with("and it names no address"));
    }

    #[test]
    fn is_given_again_for_every_further_piece() {
        let mut upgrade = upgrade("");
        let error = judge(&mut upgrade, [&b"HTTP/1.1 404 Not Found\r\n\r\n"[..]]).unwrap_err();
        assert_eq!(upgrade.push(switched("").as_bytes()), Err(error));
        assert_eq!(upgrade.protocol(), None);
    }
}

mod that_is_none {
    use super::*;

    #[test]
    fn is_refused_at_its_first_wrong_byte() {
        for garbage in
            ["SSH-2.0-OpenSSH_10.0\r\n", "\x15\x03\x01\0\x02\x02\x16", "HTTX", "http/1.1 101", "\r\nHTTP/1.1 101", "HI"]
        {
            let error = fails(garbage, |error| matches!(error, Error::NotHttp { .. }));
            assert_eq!(error.culprit(), Culprit::Server);
        }
        let error = judge(&mut upgrade(""), [&b"SSH-2.0-OpenSSH_10.0\r\n"[..]]).unwrap_err();
        assert_eq!(error.to_string(), "server: the answer is not HTTP, it begins: SSH-2.0-OpenSSH_10.0");
    }

    #[test]
    fn is_refused_when_its_head_is_malformed() {
        for head in [
            "HTTP/1.1 1x1 Odd\r\n\r\n",
            "HTTP/1.1 10\r\n\r\n",
            "HTTP/1.15 101 Odd\r\n\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 101 Odd\x01\r\n\r\n",
            "HTTP/1.1 101 Odd\r\nno colon\r\n\r\n",
            "HTTP/1.1 101 Odd\r\n: no name\r\n\r\n",
            "HTTP/1.1 101 Odd\r\na b: c\r\n\r\n",
            "HTTP/1.1 101 Odd\r\n folded: nothing\r\n\r\n",
            "HTTP/1.1 101 Odd\r\na: b\0c\r\n\r\n",
            "HTTP/1.1 101 Odd\r\na: b\rc\r\n\r\n",
            "HTTP/1.1 101 Odd\r\nSec-WebSocket-Accept : x\r\n\r\n",
        ] {
            fails(head, |error| matches!(error, Error::HeadMalformed { .. }));
        }
    }

    #[test]
    fn may_not_end_never() {
        let limits = Limits { http_head_bytes_max: 500, ..Limits::default() };
        let too_long = Err(Error::HeadTooLong { max: 500 });
        let good = switched("");
        // To the byte.
        let padded = |len: usize| switched(&format!("x: {}\r\n", "y".repeat(len - good.len() - 5)));
        assert_eq!(padded(500).len(), 500);
        let mut upgrade = upgrade_with(&limits, "");
        assert_eq!(judge(&mut upgrade, [padded(500).as_bytes(), b"\x81\x00"]), Ok(Some(500)));
        assert_eq!(judge(&mut upgrade_with(&limits, ""), [padded(501).as_bytes()]), too_long);
        assert_eq!(judge(&mut upgrade_with(&limits, ""), padded(501).as_bytes().chunks(1)), too_long);
        // One endless line, endless headers, endless informational answers.
        for (begin, more) in
            [("HTTP/1.1 101 ", "x"), ("HTTP/1.1 101\r\n", "a: b\r\n"), ("", "HTTP/1.1 100 Continue\r\n\r\n")]
        {
            let endless = [begin, &more.repeat(500)].concat();
            let mut upgrade = upgrade_with(&limits, "");
            assert_eq!(judge(&mut upgrade, endless.as_bytes().chunks(7)), too_long);
            assert!(upgrade.head.capacity() <= 1024);
        }
    }
}

/// Answers made of lines of which some are right and some are not, with line ends of every kind, and noise.
fn almost_answers() -> impl Strategy<Value = Vec<u8>> {
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}");
    let status = prop::sample::select(vec![
        "HTTP/1.1 101 x",
        "HTTP/1.1 101 x",
        "HTTP/1.1 100",
        "HTTP/1.1 429 y",
        "HTTP/1.0 101 x",
        "H",
    ]);
    let line = prop_oneof![
        12 => prop::sample::select(vec![accept, "Upgrade: websocket".into(), "Connection: Upgrade".into()]),
        3 => prop::sample::select(vec!["a: b", " folded", "Upgrade: no", "HTTP/1.1 101", "Sec-WebSocket-Extensions: x"])
            .prop_map(str::to_owned),
    ];
    let end = prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\r\n", "\n", "\n\n", "\r"]);
    let lines = prop::collection::vec((line, end.clone()).prop_map(|(line, end)| line + end), 0..6);
    let noise = prop::collection::vec(any::<u8>(), 0..4);
    let one = (status, end, lines, noise).prop_map(|(status, end, lines, noise)| {
        [status.as_bytes(), end.as_bytes(), lines.concat().as_bytes(), b"\r\n", &noise].concat()
    });
    let good = prop::sample::select(vec!["", "a: b\r\n", "a:\r\n b\r\n", "a: b\n"])
        .prop_map(|more| [switched(more).as_bytes(), b"\x81\x00"].concat());
    prop::collection::vec(prop_oneof![3 => one, 1 => good], 1..3).prop_map(|answers| answers.concat())
}

/// A verdict without the excerpts of what had arrived, which depend on the pieces.
fn kind(verdict: Result<Option<usize>, Error>) -> Result<Option<usize>, String> {
    verdict.map_err(|error| format!("{error:?}").split([' ', '(']).next().unwrap().to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_answer_is_judged_the_same_however_it_is_cut(
        answer in prop_oneof![4 => almost_answers(), 1 => prop::collection::vec(any::<u8>(), 0..100)],
        size in 1..100usize,
    ) {
        let whole = kind(judge(&mut upgrade(""), [&answer[..]]));
        prop_assert_eq!(&whole, &kind(judge(&mut upgrade(""), answer.chunks(1))));
        prop_assert_eq!(&whole, &kind(judge(&mut upgrade(""), answer.chunks(size))));
        if let Ok(Some(head)) = whole {
            let heads = String::from_utf8(answer[..head].to_vec()).unwrap();
            prop_assert!(heads.ends_with("\n\r\n") || heads.ends_with("\n\n"));
            // Of informational answers before it nothing counts.
            let head = &heads[heads.rfind("HTTP/1.1 101").unwrap()..];
            for line in ["Upgrade: websocket", "Connection: Upgrade", ACCEPT] {
                prop_assert!(head.contains(line));
            }
            prop_assert!(!head.contains("Extensions"));
        }
    }
}

#[test]
fn the_strategy_reaches_what_it_is_made_for() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = almost_answers();
    let mut kinds = std::collections::BTreeMap::<_, u32>::new();
    for _ in 0..3000 {
        let answer = strategy.new_tree(&mut runner).unwrap().current();
        let verdict = kind(judge(&mut upgrade(""), [&answer[..]])).map(|head| head.is_some());
        *kinds.entry(verdict).or_default() += 1;
    }
    assert!(kinds.get(&Ok(true)).is_some_and(|good| *good > 20), "{kinds:?}");
    assert!(kinds.len() >= 11, "{kinds:?}");
}

/// A client's bytes to read, and room for a server's.
#[derive(Debug)]
struct Wire {
    heard: Cursor<Vec<u8>>,
    said: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.heard.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.said.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// The callback's error is tungstenite's type, a whole HTTP answer.
#[allow(clippy::result_large_err)]
#[test]
fn a_server_of_another_make_takes_the_request_and_its_first_message_is_read_behind_its_answer() {
    let headers = [
        ("Sec-WebSocket-Protocol".to_owned(), "v1.feed, v2.feed".to_owned()),
        ("User-Agent".to_owned(), "wiretick".to_owned()),
    ];
    let (mut upgrade, request) =
        Upgrade::new("exchange.example", "/ws?a=b", &headers, KEY, &Limits::default()).unwrap();
    let wire = Wire { heard: Cursor::new(request.to_vec()), said: Vec::new() };
    let choose = |request: &Request, mut response: Response| {
        assert_eq!(request.uri(), "/ws?a=b");
        assert_eq!(request.headers()["host"], "exchange.example");
        assert_eq!(request.headers()["user-agent"], "wiretick");
        response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("v2.feed"));
        Ok(response)
    };
    let mut server = tungstenite::accept_hdr(wire, choose).expect("the server takes the request");
    server.send(TheirMessage::text("first")).unwrap();
    let said = server.into_inner().said;

    let head = judge(&mut upgrade, [&said[..]]).unwrap().expect("the answer is complete");
    assert_eq!(upgrade.protocol(), Some("v2.feed"));
    let mut rest = [&said[head..], &[0; Span::PAD]].concat();
    let mut seen = Vec::new();
    Decoder::new(&Limits::default())
        .push(Span::new(&mut rest, said.len() - head), &mut |message| {
            let Message::Text(payload) = message else { panic!("{message:?}") };
            seen.push(payload.span.bytes().to_vec());
            Ok::<(), Error>(())
        })
        .unwrap();
    assert_eq!(seen, [b"first"]);
}
