//! TLS's own business on an established connection: tickets, key updates, alerts, and what is refused.
//!
//! What comes in: the content of an authenticated record that is not application data. What goes out: a changed key, a
//! stored ticket, a note of what the peer is owed (`Session::answer` sends it), the end of the stream, or an error. The rules
//! are those of RFC 8446 4.6, 5.1 and 6, and of RFC 5246 7.2 and RFC 5746 for TLS 1.2.

use super::incoming::Incoming;
use super::keys::Form;
use super::wire::{
    FATAL, HELLO_REQUEST, KEY_UPDATE, MESSAGE_HEADER, NEW_SESSION_TICKET, UPDATE_NOT_REQUESTED, UPDATE_REQUESTED,
    WARNING,
};
use super::{Alert, Error};

/// The longest handshake message that is put together, as in rustls.
///
/// A ticket is the only one that can be long (two fields of up to 64 KiB each, RFC 8446 4.6.1); those of exchanges take 200
/// to 1,300 bytes. Lower than 16 KiB, and a server that puts a certificate chain into its tickets is cut off; higher, and the
/// peer claims more of our memory for nothing.
const MESSAGE_MAX: usize = 0xffff;

/// Key updates without application data between them, as many as rustls and `BoringSSL` allow.
///
/// Each costs us a key derivation and the peer 26 bytes. Lower, and a server that updates by the clock on a feed that has
/// gone quiet is cut off; higher, and keeping us busy gets cheaper.
const KEY_UPDATES_MAX: u8 = 32;

/// Warnings a connection survives, as many as rustls and `BoringSSL` allow; none is ever needed.
const WARNINGS_MAX: u8 = 4;

impl Incoming {
    /// Deals with the handshake messages in `content`, several, one, or a piece of one.
    pub(super) fn handshake(&mut self, content: &[u8]) -> Result<(), Error> {
        if self.partial.is_empty() {
            let taken = self.messages(content)?;
            self.partial.extend_from_slice(&content[taken..]);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(content);
        let taken = self.messages(&partial)?;
        if taken > 0 {
            self.counters.messages_joined += 1;
        }
        partial.drain(..taken);
        self.partial = partial;
        Ok(())
    }

    /// Deals with the whole messages at the front of `bytes` and says how many bytes they took.
    fn messages(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let mut at = 0;
        while let Some(&kind) = bytes.get(at) {
            // Judged by its first byte: what has no place here is not collected first.
            self.admit_message(kind)?;
            let Some(&[_, a, b, c]) = bytes[at..].first_chunk::<MESSAGE_HEADER>() else { break };
            let len = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if len > MESSAGE_MAX {
                return Err(Error::undecodable("it sent a handshake message of more than 65,535 bytes"));
            }
            let start = at + MESSAGE_HEADER;
            let Some(body) = bytes.get(start..start + len) else { break };
            at = start + len;
            match kind {
                NEW_SESSION_TICKET => self.ticket(body)?,
                KEY_UPDATE => self.key_update(body, at == bytes.len())?,
                _ => self.hello_request(body)?,
            }
        }
        Ok(at)
    }

    /// Whether a message of this kind may come now.
    fn admit_message(&self, kind: u8) -> Result<(), Error> {
        match (self.form(), kind) {
            (Form::Tls13, NEW_SESSION_TICKET | KEY_UPDATE) | (Form::Tls12Gcm | Form::Tls12ChaCha, HELLO_REQUEST) => {
                Ok(())
            }
            // RFC 8446 4.6.2: a client that has not offered post_handshake_auth answers with unexpected_message.
            _ => Err(Error::unexpected("it sent a handshake message that has no place after the handshake")),
        }
    }

    /// Gives a ticket to rustls, for the next handshake with this host.
    fn ticket(&mut self, body: &[u8]) -> Result<(), Error> {
        let Some(store) = &mut self.tickets else {
            self.counters.tickets_forgotten += 1;
            return Ok(());
        };
        match store.handle_new_session_ticket(body) {
            Ok(()) => {
                self.counters.tickets += 1;
                Ok(())
            }
            Err(rustls::Error::InvalidMessage(what)) => Err(Error::PeerMisbehaved {
                what: "it sent a session ticket that cannot be read",
                alert: Alert::from_code(rustls::AlertDescription::from(what).into()),
            }),
            Err(error) => Err(Error::internal(error)),
        }
    }

    /// Changes to the peer's next key, from the next record on.
    fn key_update(&mut self, body: &[u8], last_in_record: bool) -> Result<(), Error> {
        let &[request] = body else { return Err(Error::undecodable("it sent a key update of the wrong length")) };
        match request {
            UPDATE_NOT_REQUESTED => {}
            UPDATE_REQUESTED => {
                self.counters.key_updates_requested += 1;
                // A flag and not a number: however many requests, one answer (RFC 8446 4.6.3).
                self.update_owed = true;
            }
            _ => {
                // RFC 8446 4.6.3: "If an implementation receives any other value, it MUST terminate the connection with an
                // `illegal_parameter` alert."
                let what = "it sent a key update that neither asks for ours nor does not";
                return Err(Error::PeerMisbehaved { what, alert: Alert::ILLEGAL_PARAMETER });
            }
        }
        // RFC 8446 5.1: messages before a change of keys must end with their record, or the rest would have been sealed with
        // a key that was already gone.
        if !last_in_record {
            return Err(Error::unexpected("it changed keys in the middle of a record"));
        }
        if self.key_updates == KEY_UPDATES_MAX {
            return Err(Error::unexpected("it sent too many key updates without application data between them"));
        }
        self.key_updates += 1;
        self.renew()?;
        self.counters.key_updates_received += 1;
        Ok(())
    }

    /// TLS 1.2: the server wants a new handshake on this connection, and does not get one.
    ///
    /// RFC 5746 makes renegotiation safe, not useful: it would take the keys from under the opener in mid-stream. A client may
    /// ignore the request or answer with the warning `no_renegotiation` (RFC 5246 7.4.1.1), after which the server decides
    /// whether it can go on. It is answered, so that a server which waits for the answer does not wait for ever; once, since
    /// to ask again after having been refused is to ask for something else: work.
    fn hello_request(&mut self, body: &[u8]) -> Result<(), Error> {
        if !body.is_empty() {
            return Err(Error::undecodable("it sent a HelloRequest that is not empty"));
        }
        if std::mem::replace(&mut self.renegotiation_asked, true) {
            return Err(Error::unexpected("it asked to renegotiate again after it was refused"));
        }
        self.counters.renegotiations_refused += 1;
        self.refusal_owed = true;
        Ok(())
    }

    /// Deals with an alert.
    pub(super) fn alert(&mut self, content: &[u8]) -> Result<(), Error> {
        // RFC 8446 5.1: exactly one to a record, never split.
        let &[level, code] = content else { return Err(Error::undecodable("it sent an alert of the wrong length")) };
        let alert = Alert::from_code(code);
        self.counters.alerts += 1;
        if alert == Alert::CLOSE_NOTIFY {
            self.close();
            return Ok(());
        }
        let survives = if self.form() == Form::Tls13 {
            // RFC 8446 6: the level can be ignored; only this one is not an error, and every unknown one is.
            alert == Alert::USER_CANCELED
        } else {
            match level {
                WARNING => true,
                FATAL => false,
                _ => {
                    let what = "it sent an alert that is neither a warning nor fatal";
                    return Err(Error::PeerMisbehaved { what, alert: Alert::ILLEGAL_PARAMETER });
                }
            }
        };
        if !survives {
            return Err(Error::PeerAlert(alert));
        }
        // An alert that ends the connection is worth more than the rule that it may not stand between the pieces of a
        // message (RFC 8446 5.1); one that does not end it is not.
        if !self.partial.is_empty() {
            return Err(Error::unexpected("it sent an alert in the middle of a handshake message"));
        }
        if self.warnings == WARNINGS_MAX {
            return Err(Error::unexpected("it sent too many warnings"));
        }
        self.warnings += 1;
        self.counters.warnings_ignored += 1;
        Ok(())
    }
}
