//! The WebSocket decoder, beside one that is as plain as RFC 6455, and over the same bytes cut differently.
//!
//! The input: one byte for the limit on messages, four piece sizes, and what the server sends.

use wiretick::floor::Limits;
use wiretick::message::{CloseCode, Decoder, Error, Message, MessageCounters, Opcode};

use super::pieces::{cut, lent};

/// What the server said.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

/// All that came of a stream.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    said: Vec<Said>,
    verdict: Result<(), Error>,
    /// Nothing was under way at the end.
    between: bool,
}

/// Decodes the stream in three ways, which have to agree.
pub fn check(input: &[u8]) {
    let Some((header, stream)) = input.split_first_chunk::<5>() else { return };
    let [limit, sizes @ ..] = header;
    let max = if *limit == 0 { 1 << 20 } else { usize::from(*limit) };
    let expected = plain(stream, max);
    let (whole, counters) = decode(&[stream], max);
    assert_eq!(whole, expected, "in one piece");
    for pieces in [cut(stream, sizes), stream.chunks(1).collect()] {
        let (outcome, in_pieces) = decode(&pieces, max);
        assert_eq!(outcome, expected, "in pieces");
        assert_eq!(what_was_said(&in_pieces), what_was_said(&counters));
    }
}

/// The counters that do not depend on how the stream was cut.
fn what_was_said(counters: &MessageCounters) -> [u64; 10] {
    let MessageCounters { messages_in_place, messages_joined, text, binary, pings, pongs, closes, .. } = *counters;
    let MessageCounters { violations, frames_after_close, bytes_after_close, .. } = *counters;
    let messages = messages_in_place + messages_joined;
    [
        messages,
        text,
        binary,
        pings,
        pongs,
        closes,
        violations,
        frames_after_close,
        bytes_after_close,
        counters.refused_by_sink,
    ]
}

fn decode(pieces: &[&[u8]], max: usize) -> (Outcome, MessageCounters) {
    let mut decoder = Decoder::new(&Limits { message_bytes_max: max, ..Limits::default() });
    let mut said = Vec::new();
    let mut sink = |message: Message<'_>| {
        said.push(match message {
            Message::Text(payload) => {
                Said::Text(String::from_utf8(payload.span.bytes().to_vec()).expect("text is UTF-8"))
            }
            Message::Binary(payload) => Said::Binary(payload.span.bytes().to_vec()),
            Message::Ping(payload) => Said::Ping(payload.to_vec()),
            Message::Pong(payload) => Said::Pong(payload.to_vec()),
            Message::Close { code, reason } => Said::Close(code, reason.to_owned()),
        });
        Ok::<(), Error>(())
    };
    let mut verdict = Ok(());
    for piece in pieces {
        verdict = lent(piece, |span| decoder.push(span, &mut sink));
        if verdict.is_err() {
            assert_eq!(lent(b"\x81\x01x", |span| decoder.push(span, &mut sink)), verdict, "an error stays");
            break;
        }
    }
    // Where an error ended it, what was under way means nothing.
    let between = verdict.is_ok() && decoder.is_between_messages();
    (Outcome { said, verdict, between }, *decoder.counters())
}

/// The stream by the letter of RFC 6455, section 5, from its beginning to its end, with no thought of speed.
fn plain(mut stream: &[u8], max: usize) -> Outcome {
    let mut said = Vec::new();
    let mut message: Option<(Opcode, Vec<u8>)> = None;
    let mut closed = false;
    let verdict = loop {
        if closed || stream.is_empty() {
            break Ok(());
        }
        let (frame, rest) = match head(stream, message.as_ref(), max) {
            Ok(Some(frame)) => frame,
            // It is cut off.
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        };
        let there = &rest[..rest.len().min(usize::try_from(frame.len).unwrap_or(usize::MAX))];
        let whole = there.len() as u64 == frame.len;
        match frame.opcode {
            Opcode::Continuation => message.as_mut().expect("the head was judged").1.extend(there),
            Opcode::Text | Opcode::Binary => message = Some((frame.opcode, there.to_vec())),
            _ if !whole => {}
            Opcode::Ping => said.push(Said::Ping(there.to_vec())),
            Opcode::Pong => said.push(Said::Pong(there.to_vec())),
            Opcode::Close => match close(there) {
                Ok(close) => {
                    said.push(close);
                    closed = true;
                }
                Err(error) => break Err(error),
            },
        }
        if let Some((Opcode::Text, bytes)) = &message {
            // What is there of it has to be able to become UTF-8; at its end it has to be that.
            let ends = whole && frame.fin && !frame.opcode.is_control();
            if let Err(fault) = std::str::from_utf8(bytes)
                && (ends || fault.error_len().is_some())
            {
                break Err(Error::TextNotUtf8 { at: fault.valid_up_to() });
            }
        }
        if !whole {
            return Outcome { said, verdict: Ok(()), between: false };
        }
        stream = &rest[there.len()..];
        if frame.fin && !frame.opcode.is_control() {
            said.push(match message.take() {
                Some((Opcode::Text, bytes)) => Said::Text(String::from_utf8(bytes).expect("it was looked at")),
                Some((_, bytes)) => Said::Binary(bytes),
                None => unreachable!("a frame of a message makes one"),
            });
        }
    };
    let between = verdict.is_ok() && (closed || (message.is_none() && stream.is_empty()));
    Outcome { said, verdict, between }
}

struct Frame {
    fin: bool,
    opcode: Opcode,
    len: u64,
}

/// The head at the front of `stream` and what follows it; `None` where it is not whole. Its bytes are judged in their order.
fn head<'a>(
    stream: &'a [u8],
    message: Option<&(Opcode, Vec<u8>)>,
    max: usize,
) -> Result<Option<(Frame, &'a [u8])>, Error> {
    let first = stream[0];
    if first & 0x70 != 0 {
        return Err(Error::ReservedBits(first));
    }
    let known = [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Close, Opcode::Ping, Opcode::Pong];
    let Some(opcode) = known.into_iter().find(|opcode| opcode.bits() == first & 15) else {
        return Err(Error::ReservedOpcode(first & 15));
    };
    let fin = first >= 0x80;
    match (opcode, message) {
        _ if opcode.is_control() && !fin => return Err(Error::FragmentedControl(opcode)),
        (Opcode::Continuation, None) => return Err(Error::NothingToContinue),
        (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Error::MessageInsideMessage(opcode)),
        _ => {}
    }
    let Some(second) = stream.get(1) else { return Ok(None) };
    if *second >= 0x80 {
        return Err(Error::Masked);
    }
    if opcode.is_control() && *second > 125 {
        return Err(Error::ControlTooLong(opcode));
    }
    let bytes = match second {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(field) = stream.get(2..2 + bytes) else { return Ok(None) };
    let len =
        if bytes == 0 { u64::from(*second) } else { field.iter().fold(0, |len, byte| len << 8 | u64::from(*byte)) };
    if len >> 63 == 1 {
        return Err(Error::LengthTopBit(len));
    }
    if (bytes == 2 && len < 126) || (bytes == 8 && len < 1 << 16) {
        return Err(Error::LengthNotMinimal(len));
    }
    let before = if opcode.is_control() { None } else { Some(message.map_or(0, |(_, bytes)| bytes.len() as u64)) };
    if let Some(before) = before
        && before + len > max as u64
    {
        return Err(Error::MessageTooBig { len: before + len, max });
    }
    Ok(Some((Frame { fin, opcode, len }, &stream[2 + bytes..])))
}

fn close(payload: &[u8]) -> Result<Said, Error> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(Said::Close(None, String::new())) } else { Err(Error::CloseTooShort) };
    };
    let code = u16::from_be_bytes(*code);
    // Section 7.4 and IANA's registry.
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Error::CloseCodeInvalid(CloseCode(code)));
    }
    match std::str::from_utf8(reason) {
        Ok(reason) => Ok(Said::Close(Some(code), reason.to_owned())),
        Err(fault) => Err(Error::CloseReasonNotUtf8 { at: fault.valid_up_to() }),
    }
}
