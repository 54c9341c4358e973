//! The answer to the WebSocket upgrade, in one piece, in pieces, and byte by byte.
//!
//! The input: one byte for the limit on the head, four piece sizes, and the answer.

use wiretick::floor::Limits;
use wiretick::message::{Error, Progress, Upgrade};

use super::pieces::cut;

/// RFC 6455, section 1.3: the key, and what a server says to it.
const KEY: [u8; 16] = *b"the sample nonce";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What an answer came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It goes on.
    More,
    /// Done after so many bytes, with this subprotocol.
    Done(usize, Option<String>),
    Failed(Error),
}

/// Reads the answer in three ways, which have to agree.
pub fn check(input: &[u8]) {
    let Some((header, answer)) = input.split_first_chunk::<5>() else { return };
    let [limit, sizes @ ..] = header;
    // From a head that has no room for its first line to the limit there usually is.
    let max = if *limit == 0 { Limits::default().http_head_bytes_max } else { usize::from(*limit) * 8 };
    let whole = read(&[answer], max);
    for pieces in [cut(answer, sizes), answer.chunks(1).collect()] {
        let cut = read(&pieces, max);
        same(&whole, &cut);
    }
    judge(&whole, answer, max);
}

fn read(pieces: &[&[u8]], max: usize) -> Outcome {
    let limits = Limits { http_head_bytes_max: max, ..Limits::default() };
    let protocols = [("Sec-WebSocket-Protocol".to_owned(), "json, sbe".to_owned())];
    let (mut upgrade, _) = Upgrade::new("feed.example", "/ws", &protocols, KEY, &limits).unwrap();
    let mut taken = 0;
    for piece in pieces {
        match upgrade.push(piece) {
            Ok(Progress::More) => taken += piece.len(),
            Ok(Progress::Done { consumed }) => {
                assert!(consumed <= piece.len());
                assert_eq!(upgrade.push(b"a frame"), Ok(Progress::Done { consumed: 0 }), "once done, it takes no more");
                return Outcome::Done(taken + consumed, upgrade.protocol().map(str::to_owned));
            }
            Err(error) => {
                assert_eq!(upgrade.push(b"\r\n\r\n"), Err(error.clone()), "an error stays");
                assert_eq!(upgrade.protocol(), None);
                return Outcome::Failed(error);
            }
        }
    }
    assert_eq!(upgrade.protocol(), None);
    Outcome::More
}

/// The outcome of the whole and of pieces of it. Excerpts of what arrived show as much as had arrived.
fn same(whole: &Outcome, cut: &Outcome) {
    match (whole, cut) {
        (Outcome::Failed(Error::Refused(whole)), Outcome::Failed(Error::Refused(cut))) => {
            assert_eq!((whole.status, &whole.reason, &whole.retry_after), (cut.status, &cut.reason, &cut.retry_after));
            begins(&whole.body, &cut.body);
        }
        (Outcome::Failed(Error::NotHttp { beginning: whole }), Outcome::Failed(Error::NotHttp { beginning: cut })) => {
            begins(whole, cut);
        }
        (whole, cut) => assert_eq!(whole, cut),
    }
}

fn begins(whole: &str, excerpt: &str) {
    assert!(whole.starts_with(excerpt.trim_end_matches(" ...")), "{whole:?} does not begin with {excerpt:?}");
    for shown in [whole, excerpt] {
        assert!(shown.len() <= 204 && shown.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{shown:?}");
    }
}

/// What the outcome must be, by what can be told of the bytes without parsing them.
fn judge(outcome: &Outcome, answer: &[u8], max: usize) {
    match outcome {
        Outcome::More => {
            assert!(answer.len() <= max, "{} bytes of a head, {max} were allowed", answer.len());
            assert!(b"HTTP/1.".starts_with(&answer[..answer.len().min(7)]) || answer.starts_with(b"HTTP/"));
        }
        Outcome::Done(len, protocol) => {
            assert!(*len <= max);
            let head = &answer[..*len];
            assert!(head.ends_with(b"\n\r\n") || head.ends_with(b"\n\n"));
            // The last head of those that are there: informational ones may come first.
            let lines: Vec<Vec<u8>> =
                head.split(|byte| *byte == b'\n').map(|line| line.trim_ascii().to_ascii_lowercase()).collect();
            let start = lines.iter().rposition(|line| line.starts_with(b"http/1.1 101")).expect("a 101");
            let has = |part: &[u8]| lines[start..].iter().any(|line| contains(line, part));
            assert!(has(b"websocket") && has(b"upgrade"));
            assert!(contains(head, ACCEPT), "nobody has answered our key");
            assert!(protocol.as_deref().is_none_or(|protocol| matches!(protocol, "json" | "sbe")), "{protocol:?}");
        }
        Outcome::Failed(Error::HeadTooLong { max: named }) => {
            assert_eq!(*named, max);
            assert!(answer.len() > max);
        }
        Outcome::Failed(error) => assert!(error.to_string().len() < 1000, "{error}"),
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
