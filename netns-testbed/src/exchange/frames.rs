//! WebSocket frames as a server writes them (RFC 6455 section 5.2): a header, then the payload unmasked.
//!
//! What comes in are payloads; what goes out are bytes in a buffer of the caller's. Frames are written here rather than
//! by tungstenite because a server's frame can be prepared once and sent any number of times, many in one write.

use std::ops::Range;

/// A whole text message.
pub(super) const TEXT: u8 = FIN | 0x1;
/// A whole binary message.
pub(super) const BINARY: u8 = FIN | 0x2;
/// A close frame.
pub(super) const CLOSE: u8 = FIN | 0x8;
/// A ping.
pub(super) const PING: u8 = FIN | 0x9;
/// The last fragment of a message that is not its first.
pub(super) const LAST_FRAGMENT: u8 = FIN;
/// A fragment that is neither the first of its message nor its last.
pub(super) const MIDDLE_FRAGMENT: u8 = 0;
/// The bit that says a frame is the last of its message.
pub(super) const FIN: u8 = 0x80;

/// The longest header of an unmasked frame: two bytes and a 64-bit length.
const HEADER_BYTES_MAX: usize = 10;

/// Writes a frame whose first byte (FIN, reserved bits, opcode) is `first`.
pub(super) fn push(out: &mut Vec<u8>, first: u8, payload: &[u8]) {
    let (header, length) = header(first, payload.len() as u64);
    out.extend_from_slice(&header[..length]);
    out.extend_from_slice(payload);
}

/// The header of a frame that declares `payload_bytes`, and how long it is. The length takes the shortest form, as the
/// RFC demands.
pub(super) fn header(first: u8, payload_bytes: u64) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = first;
    if payload_bytes < 126 {
        header[1] = payload_bytes as u8;
        (header, 2)
    } else if let Ok(short) = u16::try_from(payload_bytes) {
        header[1] = 126;
        header[2..4].copy_from_slice(&short.to_be_bytes());
        (header, 4)
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&payload_bytes.to_be_bytes());
        (header, 10)
    }
}

/// A frame whose payload is written straight into the buffer, its length not known beforehand.
pub(super) struct Open {
    /// Where its header will stand.
    start: usize,
}

/// Room for the header of a payload from 126 to 65,535 bytes, which most are: then nothing has to be moved.
const HEADER_BYTES_USUAL: usize = 4;

/// Begins a frame at the end of `out`; the payload follows.
pub(super) fn begin(out: &mut Vec<u8>) -> Open {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_USUAL]);
    Open { start }
}

/// Ends a frame: everything written since [`begin`] is its payload. Answers where the payload now lies.
pub(super) fn finish(out: &mut Vec<u8>, open: &Open, first: u8) -> Range<usize> {
    let provisional = open.start + HEADER_BYTES_USUAL;
    let payload_bytes = out.len() - provisional;
    let (header, length) = header(first, payload_bytes as u64);
    let payload = open.start + length;
    if payload != provisional {
        out.resize(out.len().max(payload + payload_bytes), 0);
        out.copy_within(provisional..provisional + payload_bytes, payload);
        out.truncate(payload + payload_bytes);
    }
    out[open.start..payload].copy_from_slice(&header[..length]);
    payload..payload + payload_bytes
}

/// The payload of the first of several frames, and the frames after it. `None` where there is none: they are our own, so
/// they are whole and unmasked.
pub(super) fn split_first(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, length) = match *frames.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes([frames[2], frames[3]]))),
        127 => (10, u64::from_be_bytes(frames[2..10].try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    frames[header..].split_at_checked(usize::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::{Data, OpCode};

    use super::*;

    /// Every length at which the header changes its form, and its neighbours.
    const LENGTHS: [usize; 8] = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000];

    #[test]
    fn tungstenite_reads_the_headers_we_write() {
        for length in LENGTHS {
            let payload = vec![b'x'; length];
            let mut out = b"before".to_vec();
            push(&mut out, TEXT, &payload);
            let mut cursor = std::io::Cursor::new(&out[6..]);
            let (header, declared) = FrameHeader::parse(&mut cursor).unwrap().unwrap();
            assert_eq!(declared, length as u64);
            assert!(header.is_final && header.mask.is_none() && header.opcode == OpCode::Data(Data::Text));
            assert_eq!(out[6 + usize::try_from(cursor.position()).unwrap()..], payload);
        }
    }

    #[test]
    fn a_frame_written_in_place_is_the_frame_written_at_once() {
        for length in LENGTHS {
            let payload = vec![b'y'; length];
            let mut at_once = b"before".to_vec();
            push(&mut at_once, BINARY, &payload);
            let mut in_place = b"before".to_vec();
            let open = begin(&mut in_place);
            in_place.extend_from_slice(&payload);
            let range = finish(&mut in_place, &open, BINARY);
            assert_eq!(in_place, at_once, "{length} bytes");
            assert_eq!(in_place[range], payload);
        }
    }

    #[test]
    fn frames_are_found_again_one_after_the_other() {
        let mut out = Vec::new();
        for length in LENGTHS {
            push(&mut out, TEXT, &vec![b'z'; length]);
        }
        let mut rest = &out[..];
        let mut found = Vec::new();
        while let Some((payload, after)) = split_first(rest) {
            found.push(payload.len());
            rest = after;
        }
        assert_eq!(found, LENGTHS);
        assert!(rest.is_empty());
    }
}
