//! Cutting bytes into pieces, as a network would.

use wiretick::floor::Span;

/// Cuts `bytes` into pieces whose sizes `sizes` gives, over and over; a size of 0 is a piece without a byte, unless all of
/// them are.
pub(crate) fn cut<'a>(bytes: &'a [u8], sizes: &[u8]) -> Vec<&'a [u8]> {
    if sizes.iter().all(|size| *size == 0) {
        return bytes.chunks(1).collect();
    }
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(usize::from(*size).min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// What stands behind a span: neither blank nor equal from one byte to the next.
const BEHIND: &[u8] = b"\"}\\]0,{";

/// Lends `piece` to `take`, and sees to it that what stands behind it is left as it was.
pub(crate) fn lent<T>(piece: &[u8], take: impl FnOnce(Span<'_>) -> T) -> T {
    let behind: Vec<u8> = BEHIND.iter().copied().cycle().take(Span::PAD).collect();
    let mut buffer = [piece, &behind].concat();
    let taken = take(Span::new(&mut buffer, piece.len()));
    assert_eq!(buffer[piece.len()..], behind, "what stands behind the span has changed");
    taken
}
