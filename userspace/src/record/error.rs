//! What can go wrong in TLS, sorted by who has to do something about it: the peer, its certificate, the caller.
//!
//! What comes in: rustls' errors, and this stage's own findings. What goes out: one sentence that names the culprit and,
//! where there is one, the remedy; and the alert that the peer is owed ([`Error::alert`]). Nothing here sends anything.

use std::fmt;

use rustls::{CertificateError, PeerIncompatible};

use super::Alert;

/// Why a TLS connection, or a call to this stage, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // The peer.
    /// The first bytes are not TLS.
    #[error("the peer does not speak TLS: it answered {seen}; is this a wss:// port?")]
    NotTls {
        /// The beginning of its answer, quoted where it is text.
        seen: String,
    },
    /// Only TLS 1.1 or older in common.
    #[error("the peer speaks neither TLS 1.2 nor TLS 1.3, and nothing older is accepted")]
    NoCommonVersion,
    /// The versions fit, something else does not.
    #[error("the peer and this client have nothing in common: {what}")]
    NothingInCommon {
        /// What they do not share, as rustls names it.
        what: String,
    },
    /// The handshake is not what the protocol prescribes.
    #[error("the peer broke the TLS handshake: {what}")]
    HandshakeBroken {
        /// Where, as rustls names it.
        what: String,
    },
    /// More handshake than [`Limits::handshake_bytes_max`](crate::floor::Limits::handshake_bytes_max) allows.
    #[error(
        "the peer's TLS handshake is longer than {bytes_max} bytes: raise handshake_bytes_max if that is legitimate"
    )]
    HandshakeTooLong {
        /// The limit that was in force.
        bytes_max: usize,
    },
    /// The TCP connection ended before the handshake did.
    #[error("the peer closed the connection in the middle of the TLS handshake")]
    ClosedInHandshake,
    /// A fatal alert: the peer's last word.
    #[error("the peer ended the connection with the TLS alert {0}{hint}", hint = .0.hint())]
    PeerAlert(Alert),
    /// After the handshake, something that the protocol forbids.
    #[error("the peer broke the TLS protocol: {what}")]
    PeerMisbehaved {
        /// What it did.
        what: &'static str,
        /// The alert that the RFC prescribes for it.
        alert: Alert,
    },
    /// A record that does not authenticate.
    #[error(
        "TLS record {sequence} failed authentication: it was changed on its way, or bytes of the stream are missing"
    )]
    BadRecordMac {
        /// Its number under the current key, from 0.
        sequence: u64,
    },
    /// A record longer than the protocol allows.
    #[error("the peer sent a TLS record of {bytes} bytes where {bytes_max} is the most")]
    RecordOverflow {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        bytes_max: usize,
    },
    /// The stream ended, and nobody said it would.
    #[error("the connection ended without close_notify: what came last may be cut off")]
    Truncated,

    // The peer's certificate.
    /// No path to a trusted authority.
    #[error("the certificate of {host} is signed by an unknown authority: pass its certificate with --ca-file")]
    UnknownAuthority {
        /// The host that was asked for.
        host: String,
    },
    /// Past its last day.
    #[error("the certificate of {host} has expired{}: it must be renewed there, or this machine's clock is wrong", on(.not_after))]
    CertificateExpired {
        /// The host that was asked for.
        host: String,
        /// Its last moment, where it is known.
        not_after: Option<Date>,
    },
    /// Before its first day.
    #[error("the certificate of {host} is not valid yet{}: is this machine's clock right?", from(.not_before))]
    CertificateNotYetValid {
        /// The host that was asked for.
        host: String,
        /// Its first moment, where it is known.
        not_before: Option<Date>,
    },
    /// Somebody else's certificate.
    #[error("the certificate is not for {host}: it names {}", names(.presented))]
    WrongHost {
        /// The host that was asked for.
        host: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// Refused for another reason.
    #[error("the certificate of {host} is refused: {why}")]
    CertificateRefused {
        /// The host that was asked for.
        host: String,
        /// The reason.
        why: String,
    },

    // The caller.
    /// A file of trusted roots without a certificate in it.
    #[error("no certificate found: expected a PEM file with \"-----BEGIN CERTIFICATE-----\", got {found}")]
    PemWithoutCertificate {
        /// What it looks like instead.
        found: String,
    },
    /// A section of the PEM file that cannot be decoded.
    #[error("the PEM file is damaged after {certificates} certificate(s): {why}")]
    PemDamaged {
        /// How many whole certificates stand before the damage.
        certificates: usize,
        /// What is wrong.
        why: String,
    },
    /// A section that decodes, to something that is not a certificate.
    #[error("certificate {number} of the PEM file cannot be parsed: {why}")]
    PemCertificate {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        why: String,
    },
    /// A key log was asked for, and there is nowhere to write it.
    #[error("logging TLS keys was asked for, but the environment variable SSLKEYLOGFILE names no file")]
    KeyLogWithoutFile,
    /// A session was asked of a handshake that is not complete.
    #[error("the TLS handshake is not complete yet")]
    HandshakeUnfinished,
    /// The connection had already failed.
    #[error("this TLS connection has failed before: nothing more can be done with it")]
    AfterFailure,
    /// Something was to be sent after `close_notify` or a fatal alert.
    #[error("this side of the TLS connection is closed: nothing may follow close_notify or a fatal alert")]
    AfterClose,
    /// A buffer to seal in place has no room for head and tail.
    #[error("a buffer of {bytes} bytes has no room for a TLS record's head and tail, {overhead} bytes")]
    RecordTooShort {
        /// Its length.
        bytes: usize,
        /// Head and tail together.
        overhead: usize,
    },
    /// More content than one record carries.
    #[error("{bytes} bytes do not fit in one TLS record, which carries at most {bytes_max}")]
    PlaintextTooLong {
        /// How much was given.
        bytes: usize,
        /// The most.
        bytes_max: usize,
    },
    /// TLS 1.2 was asked for new keys.
    #[error("TLS 1.2 cannot change keys in mid-connection: reconnect")]
    NoKeyUpdate,

    // Nobody's fault.
    /// The key has protected as many records as is safe.
    #[error("the key has sealed {records} records, its limit: {}", remedy(*.renewable))]
    KeyWorn {
        /// Records sealed with it.
        records: u64,
        /// Whether a key update helps (TLS 1.3).
        renewable: bool,
    },
    /// 2^64 records under one key.
    #[error("the peer has used up the sequence numbers of its key: reconnect")]
    SequenceExhausted,
    /// Something that cannot happen, or the system's clock or random numbers.
    #[error("TLS failed on this side: {what}")]
    Internal {
        /// What.
        what: String,
    },
}

impl Error {
    /// The alert that the peer must be sent before the connection is closed, sealed with
    /// [`Sealer::alert`](super::Sealer::alert).
    ///
    /// `None` where nothing is owed: the peer has said its last word, or is gone; the call was the caller's mistake; or it is
    /// an error of the handshake, whose alert rustls has appended to `out` where it makes one (and where it does not, as
    /// for [`Error::HandshakeTooLong`], offers no way to send one).
    #[must_use]
    pub const fn alert(&self) -> Option<Alert> {
        match self {
            Self::PeerMisbehaved { alert, .. } => Some(*alert),
            Self::BadRecordMac { .. } => Some(Alert::BAD_RECORD_MAC),
            Self::RecordOverflow { .. } => Some(Alert::RECORD_OVERFLOW),
            Self::Internal { .. } => Some(Alert::INTERNAL_ERROR),
            // Not an error the peer has made: a farewell in good order (RFC 8446 5.3: "either rekey or terminate").
            Self::KeyWorn { .. } | Self::SequenceExhausted => Some(Alert::CLOSE_NOTIFY),
            _ => None,
        }
    }

    pub(super) fn internal(what: impl fmt::Display) -> Self {
        Self::Internal { what: what.to_string() }
    }

    pub(super) const fn unexpected(what: &'static str) -> Self {
        Self::PeerMisbehaved { what, alert: Alert::UNEXPECTED_MESSAGE }
    }

    pub(super) const fn undecodable(what: &'static str) -> Self {
        Self::PeerMisbehaved { what, alert: Alert::DECODE_ERROR }
    }

    /// What rustls says about a handshake with `host`.
    pub(super) fn handshake(error: rustls::Error, host: &str) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::certificate(error, host.to_owned()),
            rustls::Error::NoCertificatesPresented => {
                Self::CertificateRefused { host: host.to_owned(), why: "it has none".to_owned() }
            }
            rustls::Error::AlertReceived(alert) => Self::PeerAlert(Alert::from_code(alert.into())),
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired,
            ) => Self::NoCommonVersion,
            rustls::Error::PeerIncompatible(what) => Self::NothingInCommon { what: format!("{what:?}") },
            error @ (rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. }
            | rustls::Error::InvalidMessage(_)
            | rustls::Error::DecryptError
            | rustls::Error::PeerMisbehaved(_)
            | rustls::Error::PeerSentOversizedRecord
            | rustls::Error::NoApplicationProtocol) => Self::HandshakeBroken { what: error.to_string() },
            error => Self::internal(error),
        }
    }

    fn certificate(error: CertificateError, host: String) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownAuthority { host },
            // What a replaced authority looks like: the name is trusted, the key under it is another one.
            CertificateError::BadSignature => {
                let why = "its signature is not that of the trusted authority of this name: is --ca-file up to date?";
                Self::CertificateRefused { host, why: why.to_owned() }
            }
            CertificateError::Expired => Self::CertificateExpired { host, not_after: None },
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::CertificateExpired { host, not_after: Some(Date(not_after.as_secs())) }
            }
            CertificateError::NotValidYet => Self::CertificateNotYetValid { host, not_before: None },
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::CertificateNotYetValid { host, not_before: Some(Date(not_before.as_secs())) }
            }
            CertificateError::NotValidForName => Self::WrongHost { host, presented: Vec::new() },
            CertificateError::NotValidForNameContext { presented, .. } => {
                // rustls writes them as `DnsName("example.com")`; people write `example.com`.
                let presented = presented.iter().map(|name| bare(name).to_owned()).collect();
                Self::WrongHost { host, presented }
            }
            error => {
                let why = error.to_string();
                // webpki's own error type is not ours to name, so the text has to do.
                if why.contains("CaUsedAsEndEntity") {
                    return Self::CertificateRefused {
                        host,
                        why: "it is an authority's own certificate, and such a one may not serve a host: \
                              let the authority sign a certificate for the host"
                            .to_owned(),
                    };
                }
                Self::CertificateRefused { host, why }
            }
        }
    }
}

/// The name inside `DnsName("example.com")`, or the text as it is where it has another form.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

fn on(date: &Option<Date>) -> String {
    date.map_or(String::new(), |date| format!(" on {date}"))
}

fn from(date: &Option<Date>) -> String {
    date.map_or(String::new(), |date| format!(", only from {date}"))
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() { "no host at all".to_owned() } else { presented.join(", ") }
}

const fn remedy(renewable: bool) -> &'static str {
    if renewable { "let the session send its key update first" } else { "TLS 1.2 cannot change keys: reconnect" }
}

/// A moment in a certificate, as a day and a time in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Date(
    /// Seconds since 1970.
    u64,
);

impl Date {
    /// Seconds since the first of January 1970, UTC.
    #[must_use]
    pub const fn unix_seconds(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, seconds) = (self.0 / 86_400, self.0 % 86_400);
        // Days since 0000-03-01, in eras of 400 years: with the leap day last in the year, no month needs a table.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year_of_era + u64::from(month >= 10);
        let month = if month < 10 { month + 3 } else { month - 9 };
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_shown_as_people_write_it() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_709_210_096, "2024-02-29 12:34:56 UTC"),
            (4_107_542_399, "2100-02-28 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(Date(seconds).to_string(), shown);
        }
    }

    #[test]
    fn a_name_in_a_certificate_is_shown_bare() {
        assert_eq!(bare("DnsName(\"example.com\")"), "example.com");
        assert_eq!(bare("IpAddress(10.0.0.1)"), "10.0.0.1");
        assert_eq!(bare("example.com"), "example.com");
    }

    #[test]
    fn a_peer_with_nothing_in_common_is_not_a_peer_that_breaks_rules() {
        let handshake = |error: PeerIncompatible| Error::handshake(error.into(), "feed.example");
        let error = handshake(PeerIncompatible::NoSignatureSchemesInCommon);
        assert_eq!(error.to_string(), "the peer and this client have nothing in common: NoSignatureSchemesInCommon");
        assert!(matches!(handshake(PeerIncompatible::ServerDoesNotSupportTls12Or13), Error::NoCommonVersion));
        let error = Error::handshake(rustls::Error::FailedToGetCurrentTime, "feed.example");
        assert_eq!(error.to_string(), "TLS failed on this side: failed to get current time");
        let error = Error::handshake(rustls::Error::NoCertificatesPresented, "feed.example");
        assert_eq!(error.to_string(), "the certificate of feed.example is refused: it has none");
    }

    #[test]
    fn a_callers_mistake_owes_the_peer_nothing() {
        assert_eq!(Error::HandshakeUnfinished.alert(), None);
        assert_eq!(Error::AfterClose.alert(), None);
        assert_eq!(Error::PeerAlert(Alert::BAD_RECORD_MAC).alert(), None, "no alert answers an alert");
        assert_eq!(Error::Truncated.alert(), None, "nobody is there to read it");
        assert_eq!(Error::BadRecordMac { sequence: 7 }.alert(), Some(Alert::BAD_RECORD_MAC));
    }
}
