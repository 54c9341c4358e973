//! A second decoder, to compare with: it has the whole stream at hand, copies as it likes, and follows the text of RFC
//! 6455, sections 5.2 to 5.5, line by line. It shares no code with the first but the names of the errors.

use super::*;

/// What a stream of these bytes, of which nothing more has arrived, must have led to.
pub(super) fn judge(stream: &[u8], message_bytes_max: usize) -> (Vec<Seen>, Result<(), Error>) {
    let mut seen = Vec::new();
    let verdict = read(stream, message_bytes_max as u64, &mut seen);
    (seen, verdict)
}

fn read(stream: &[u8], max: u64, seen: &mut Vec<Seen>) -> Result<(), Error> {
    let mut rest = stream.iter().copied();
    let mut under_way: Option<(bool, Vec<u8>)> = None;
    while let Some(first) = rest.next() {
        if first & 0b0111_0000 != 0 {
            return Err(Error::ReservedBits(first));
        }
        let fin = first >> 7 == 1;
        let opcode = first & 15;
        match opcode {
            0..=2 => {}
            8..=10 if fin => {}
            8 => return Err(Error::FragmentedControl(Opcode::Close)),
            9 => return Err(Error::FragmentedControl(Opcode::Ping)),
            10 => return Err(Error::FragmentedControl(Opcode::Pong)),
            reserved => return Err(Error::ReservedOpcode(reserved)),
        }
        match (opcode, &under_way) {
            (0, None) => return Err(Error::NothingToContinue),
            (1, Some(_)) => return Err(Error::MessageInsideMessage(Opcode::Text)),
            (2, Some(_)) => return Err(Error::MessageInsideMessage(Opcode::Binary)),
            _ => {}
        }
        let Some(second) = rest.next() else { return Ok(()) };
        if second >= 128 {
            return Err(Error::Masked);
        }
        if opcode >= 8 && second > 125 {
            return Err(Error::ControlTooLong(match opcode {
                8 => Opcode::Close,
                9 => Opcode::Ping,
                _ => Opcode::Pong,
            }));
        }
        let width = match second {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let field: Vec<u8> = rest.by_ref().take(width).collect();
        if field.len() < width {
            return Ok(());
        }
        let declared = field.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let len = match width {
            0 => u64::from(second),
            8 if declared >= 1 << 63 => return Err(Error::LengthTopBit(declared)),
            2 if declared <= 125 => return Err(Error::LengthNotMinimal(declared)),
            8 if declared <= 0xFFFF => return Err(Error::LengthNotMinimal(declared)),
            _ => declared,
        };
        let before = under_way.as_ref().map_or(0, |(_, bytes)| bytes.len() as u64);
        if opcode < 8 && before + len > max {
            return Err(Error::MessageTooBig { len: before + len, max: max as usize });
        }
        let payload: Vec<u8> = rest.by_ref().take(usize::try_from(len).unwrap_or(usize::MAX)).collect();
        let is_complete = payload.len() as u64 == len;
        if opcode >= 8 {
            if !is_complete {
                return Ok(());
            }
            match opcode {
                9 => seen.push(Seen::Ping(payload)),
                10 => seen.push(Seen::Pong(payload)),
                _ => {
                    seen.push(read_close(&payload)?);
                    return Ok(());
                }
            }
            continue;
        }
        let (is_text, bytes) = under_way.get_or_insert((opcode == 1, Vec::new()));
        bytes.extend(payload);
        let ends = fin && is_complete;
        if *is_text
            && let Err(fault) = std::str::from_utf8(bytes)
            && (ends || fault.error_len().is_some())
        {
            return Err(Error::TextNotUtf8 { at: fault.valid_up_to() });
        }
        if ends {
            let (is_text, bytes) = under_way.take().unwrap();
            seen.push(if is_text { Seen::Text(String::from_utf8(bytes).unwrap()) } else { Seen::Binary(bytes) });
        }
    }
    Ok(())
}

fn read_close(payload: &[u8]) -> Result<Seen, Error> {
    match payload {
        [] => Ok(Seen::Close(None, String::new())),
        [_] => Err(Error::CloseTooShort),
        [high, low, reason @ ..] => {
            let code = u16::from(*high) * 256 + u16::from(*low);
            let is_allowed = match code {
                1000..=2999 => ![1004, 1005, 1006, 1015].contains(&code) && code < 1016,
                3000..=4999 => true,
                _ => false,
            };
            if !is_allowed {
                return Err(Error::CloseCodeInvalid(CloseCode(code)));
            }
            match String::from_utf8(reason.to_vec()) {
                Ok(reason) => Ok(Seen::Close(Some(code), reason)),
                Err(fault) => Err(Error::CloseReasonNotUtf8 { at: fault.utf8_error().valid_up_to() }),
            }
        }
    }
}
