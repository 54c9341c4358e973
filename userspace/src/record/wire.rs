//! The numbers of the record protocol: sizes and codes that RFC 8446 (TLS 1.3) and RFC 5246 (TLS 1.2) give names to.
//!
//! Only constants, and the one question asked of raw bytes before any key is known: where does this record end? Nothing
//! here touches a key or keeps state.

/// Content type, legacy version, length: what stands in clear before every record (RFC 8446 5.1).
pub(super) const HEADER: usize = 5;

/// The most content one record carries, 2^14 bytes (RFC 8446 5.1, RFC 5246 6.2.1).
pub(super) const PLAINTEXT_MAX: usize = 1 << 14;

/// The longest record body in TLS 1.3: 256 bytes more than the content (RFC 8446 5.2).
pub(super) const BODY_MAX_13: usize = PLAINTEXT_MAX + 256;

/// The longest record body in TLS 1.2, and before the version is known (RFC 5246 6.2.3).
pub(super) const BODY_MAX_12: usize = PLAINTEXT_MAX + 2048;

/// The authentication tag of all three AEADs.
pub(super) const TAG: usize = 16;

/// `legacy_record_version`, which both versions write as TLS 1.2 (RFC 8446 5.1).
pub(super) const LEGACY_VERSION: [u8; 2] = [3, 3];

/// `ContentType` (RFC 8446 5.1).
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
/// `ContentType` (RFC 8446 5.1).
pub(super) const ALERT: u8 = 21;
/// `ContentType` (RFC 8446 5.1).
pub(super) const HANDSHAKE: u8 = 22;
/// `ContentType` (RFC 8446 5.1).
pub(super) const APPLICATION_DATA: u8 = 23;

/// `ContentType` (RFC 6520 3): never sent, and the last one that has a name.
pub(super) const HEARTBEAT: u8 = 24;

/// `AlertLevel` (RFC 5246 7.2).
pub(super) const WARNING: u8 = 1;
/// `AlertLevel` (RFC 5246 7.2).
pub(super) const FATAL: u8 = 2;

/// Type and 24-bit length before every handshake message (RFC 8446 4).
pub(super) const MESSAGE_HEADER: usize = 4;

/// `HandshakeType` (RFC 5246 7.4).
pub(super) const HELLO_REQUEST: u8 = 0;
/// `HandshakeType` (RFC 8446 4).
pub(super) const NEW_SESSION_TICKET: u8 = 4;
/// `HandshakeType` (RFC 8446 4).
pub(super) const KEY_UPDATE: u8 = 24;

/// `KeyUpdateRequest` (RFC 8446 4.6.3).
pub(super) const UPDATE_NOT_REQUESTED: u8 = 0;
/// `KeyUpdateRequest` (RFC 8446 4.6.3).
pub(super) const UPDATE_REQUESTED: u8 = 1;

/// The header at the front of `bytes`, once it is all there.
#[inline]
pub(super) fn header(bytes: &[u8]) -> Option<[u8; HEADER]> {
    bytes.first_chunk().copied()
}

/// The length of the body that a header announces.
#[inline]
pub(super) fn body_len(header: [u8; HEADER]) -> usize {
    usize::from(u16::from_be_bytes([header[3], header[4]]))
}
