//! TLS alerts: the one byte with which either side says why it ends a connection.
//!
//! Only numbers and their names in the RFCs. What an alert received does to the connection is `post_handshake.rs`; how
//! one is sent is `sealer.rs`.

use std::fmt;

/// An alert description, as its byte on the wire (RFC 8446 6).
///
/// It shows itself under its name in the RFC (`bad_record_mac`), or as its number where it has none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Alert(u8);

macro_rules! alerts {
    ($( $(#[$doc:meta])* $constant:ident = $code:literal $name:literal, )*) => {
        impl Alert {
            $( $(#[$doc])* pub const $constant: Self = Self($code); )*

            /// The name in the RFCs; `None` for a number that IANA has given no meaning.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $code => Some($name), )*
                    _ => None,
                }
            }
        }
    };
}

alerts! {
    /// The sender will send nothing more (RFC 8446 6.1).
    CLOSE_NOTIFY = 0 "close_notify",
    /// A message that has no place here.
    UNEXPECTED_MESSAGE = 10 "unexpected_message",
    /// A record that does not authenticate.
    BAD_RECORD_MAC = 20 "bad_record_mac",
    /// TLS 1.0's word for a record that does not decrypt.
    DECRYPTION_FAILED = 21 "decryption_failed",
    /// A record longer than allowed.
    RECORD_OVERFLOW = 22 "record_overflow",
    /// TLS 1.2: compression, which nobody offers.
    DECOMPRESSION_FAILURE = 30 "decompression_failure",
    /// No acceptable set of parameters.
    HANDSHAKE_FAILURE = 40 "handshake_failure",
    /// A corrupt certificate, or one whose signatures do not verify.
    BAD_CERTIFICATE = 42 "bad_certificate",
    /// A certificate of an unsupported kind.
    UNSUPPORTED_CERTIFICATE = 43 "unsupported_certificate",
    /// A certificate its signer has revoked.
    CERTIFICATE_REVOKED = 44 "certificate_revoked",
    /// A certificate outside its dates.
    CERTIFICATE_EXPIRED = 45 "certificate_expired",
    /// A certificate refused for another reason.
    CERTIFICATE_UNKNOWN = 46 "certificate_unknown",
    /// A field with an impossible value.
    ILLEGAL_PARAMETER = 47 "illegal_parameter",
    /// A certificate whose authority is not trusted.
    UNKNOWN_CA = 48 "unknown_ca",
    /// A valid certificate, and yet no access.
    ACCESS_DENIED = 49 "access_denied",
    /// A message that cannot be parsed.
    DECODE_ERROR = 50 "decode_error",
    /// A handshake signature or Finished that does not verify.
    DECRYPT_ERROR = 51 "decrypt_error",
    /// A TLS version that is recognised and not supported.
    PROTOCOL_VERSION = 70 "protocol_version",
    /// Only parameters weaker than required.
    INSUFFICIENT_SECURITY = 71 "insufficient_security",
    /// A failure that has nothing to do with the peer.
    INTERNAL_ERROR = 80 "internal_error",
    /// A retry at a lower version where none was needed.
    INAPPROPRIATE_FALLBACK = 86 "inappropriate_fallback",
    /// The sender cancels the handshake; the one alert that TLS 1.3 lets a connection survive.
    USER_CANCELED = 90 "user_canceled",
    /// TLS 1.2: the sender will not renegotiate.
    NO_RENEGOTIATION = 100 "no_renegotiation",
    /// An extension that had to be there.
    MISSING_EXTENSION = 109 "missing_extension",
    /// An extension nobody offered.
    UNSUPPORTED_EXTENSION = 110 "unsupported_extension",
    /// The server serves no such host name.
    UNRECOGNIZED_NAME = 112 "unrecognized_name",
    /// An unacceptable OCSP response.
    BAD_CERTIFICATE_STATUS_RESPONSE = 113 "bad_certificate_status_response",
    /// No acceptable pre-shared key.
    UNKNOWN_PSK_IDENTITY = 115 "unknown_psk_identity",
    /// The server wants a client certificate.
    CERTIFICATE_REQUIRED = 116 "certificate_required",
    /// No application protocol in common (RFC 7301).
    NO_APPLICATION_PROTOCOL = 120 "no_application_protocol",
}

impl Alert {
    /// The alert with this number.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// Its number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// Whether the sender of this alert goes on (TLS 1.2's warnings) or at least ends in good order.
    ///
    /// RFC 8446 6 makes every other alert fatal, whatever its level says.
    pub(super) const fn is_warning(self) -> bool {
        matches!(self, Self::CLOSE_NOTIFY | Self::USER_CANCELED | Self::NO_RENEGOTIATION)
    }

    /// What the person in front of a connection that ended with this alert should look at.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::PROTOCOL_VERSION => ": it accepts neither TLS 1.2 nor TLS 1.3",
            Self::HANDSHAKE_FAILURE | Self::INSUFFICIENT_SECURITY => {
                ": it found no cipher suite, key exchange group or signature scheme in common with this client"
            }
            Self::UNRECOGNIZED_NAME => ": it serves no such host name; check the host in the URL",
            Self::NO_APPLICATION_PROTOCOL => ": it does not speak HTTP/1.1 on this port",
            Self::CERTIFICATE_REQUIRED => ": it wants a client certificate, which this client never sends",
            Self::CLOSE_NOTIFY => " before the handshake was complete",
            _ => "",
        }
    }
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "number {}", self.0),
        }
    }
}

impl fmt::Debug for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Alert({} {})", self.0, self.name().unwrap_or("?"))
    }
}

#[cfg(test)]
mod tests {
    use super::Alert;

    #[test]
    fn every_alert_that_rustls_knows_has_the_name_of_the_rfc() {
        assert_eq!(Alert::from_code(20).to_string(), "bad_record_mac");
        assert_eq!(Alert::from_code(200).to_string(), "number 200");
        assert_eq!(Alert::UNKNOWN_CA.code(), u8::from(rustls::AlertDescription::UnknownCA));
        // Obsolete ones and two drafts that never became a server's habit are shown by number.
        let nameless: Vec<u8> = (0..=255)
            .filter(|&code| rustls::AlertDescription::from(code).as_str().is_some())
            .filter(|&code| Alert::from_code(code).name().is_none())
            .collect();
        assert_eq!(nameless, [41, 60, 111, 114, 121]);
    }
}
