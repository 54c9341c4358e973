//! A segment as several smaller ones.

use super::{Segment, seal};

/// Bits of the flags (RFC 9293 section 3.1).
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;

/// The frames of at most `frame_bytes_max` bytes that say the same as `frame`, which `segment` was read from: same headers,
/// the payload in pieces, in order; FIN and PSH on the last one. As a NIC cuts what is larger than a packet (TSO).
///
/// # Panics
///
/// Where `frame_bytes_max` leaves no room for a payload, or `segment` is not of this frame.
pub fn split(frame: &[u8], segment: &Segment, frame_bytes_max: usize) -> Vec<Vec<u8>> {
    let payload = &frame[segment.payload.clone()];
    let headers = &frame[..segment.payload.start];
    assert!(frame_bytes_max > headers.len(), "{frame_bytes_max} bytes have no room behind the headers");
    let room = frame_bytes_max - headers.len();
    if payload.len() <= room {
        return vec![frame[..segment.ip.end].to_vec()];
    }
    let pieces = payload.chunks(room);
    let last = pieces.len() - 1;
    pieces
        .enumerate()
        .map(|(number, piece)| {
            let mut bytes = [headers, piece].concat();
            let ip = &mut bytes[segment.ip.start..];
            let (len, tcp) = (ip.len(), segment.tcp - segment.ip.start);
            // The length of the whole packet, or of all behind the fixed header: it is shorter than before, so it fits.
            let (place, said) = if ip[0] >> 4 == 4 { (2, len) } else { (4, len - 40) };
            ip[place..place + 2].copy_from_slice(&u16::try_from(said).unwrap_or(u16::MAX).to_be_bytes());
            let seq = segment.seq + number * room;
            ip[tcp + 4..tcp + 8].copy_from_slice(&seq.0.to_be_bytes());
            if number != last {
                ip[tcp + 13] &= !(FIN | PSH);
            }
            seal(ip, tcp);
            bytes
        })
        .collect()
}
