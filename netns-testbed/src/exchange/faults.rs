//! What an exchange can do wrong, one thing at a time.
//!
//! What comes in is a [`Fault`]; what goes out are the moment at which it is played, and its bytes where it is a matter of
//! bytes. The playing itself is in `session.rs` and `shapes.rs`.

use wiretick_impair::random::Random;

use super::frames;

/// One thing that is done wrong, or in an unusual way that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Fault {
    /// Accepts the TCP connection and says nothing, ever
    SilentTcp,
    /// Completes the TLS handshake and never answers the upgrade request
    SilentTls,
    /// Answers the upgrade request and says nothing more
    SilentUpgrade,
    /// Sends messages, then nothing more; the connection stays open
    SilentStream,
    /// Answers the client's TLS hello with bytes that are no TLS
    GarbageTls,
    /// Answers the client's TLS hello with plain HTTP, as web servers do on their TLS port
    PlainHttp,
    /// Answers the upgrade request with 200 OK instead of 101
    #[value(name = "status-200")]
    Status200,
    /// Answers the upgrade request with 429 Too Many Requests and Retry-After
    #[value(name = "status-429")]
    Status429,
    /// Answers the upgrade request with a redirect
    Redirect,
    /// Answers 101 with the Sec-WebSocket-Accept of another key
    WrongAccept,
    /// Allowed: sends the first message in the same TLS record as the 101 answer
    EarlyFrame,
    /// Sends a masked frame
    MaskedFrame,
    /// Sends a text message that is not UTF-8
    BadUtf8,
    /// Declares a frame of 4 GiB
    #[value(name = "length-4gib")]
    Length4Gib,
    /// Declares a frame of 2^62 bytes
    #[value(name = "length-2pow62")]
    Length2pow62,
    /// Declares a frame of 2^63 bytes: the RFC wants that bit to be zero
    #[value(name = "length-2pow63")]
    Length2pow63,
    /// Sets the three reserved bits of a frame
    ReservedBits,
    /// Sends a frame with opcode 3, which means nothing
    ReservedOpcode,
    /// Sends a ping of 126 bytes: one more than allowed
    LongControl,
    /// Sends a ping in two fragments
    FragmentedControl,
    /// Sends a continuation with nothing to continue
    StrayContinuation,
    /// Flips one bit of a TLS record's ciphertext
    FlippedBit,
    /// Sends half a TLS record, then nothing
    HalfRecord,
    /// Allowed: updates its keys, and asks the client to (TLS 1.3)
    KeyUpdate,
    /// Resets the TCP connection
    Rst,
    /// Sends a FIN without a TLS close, and without a WebSocket close
    FinWithoutCloseNotify,
    /// Closes TLS and TCP in order, but without a WebSocket close
    CloseWithoutWebsocketClose,
    /// Allowed: sends every message in three fragments with pings between them
    Fragments,
    /// Allowed: puts every byte into a TLS record of its own
    TinyRecords,
    /// Allowed: spreads every message over several TLS records
    SplitRecords,
    /// Allowed: cuts the stream into TCP segments at random places
    Scattered,
    /// Allowed: sends one byte per millisecond
    Drip,
}

/// When a fault is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before TLS.
    Accept,
    /// Instead of, or in, the answer to the upgrade request.
    Upgrade,
    /// Once, after some messages.
    Stream,
    /// All the time: it is a way of sending.
    Shape,
}

impl Fault {
    /// When it is played.
    pub(super) const fn moment(self) -> Moment {
        match self {
            Self::SilentTcp | Self::GarbageTls | Self::PlainHttp => Moment::Accept,
            Self::SilentTls
            | Self::Status200
            | Self::Status429
            | Self::Redirect
            | Self::WrongAccept
            | Self::EarlyFrame
            | Self::SilentUpgrade => Moment::Upgrade,
            Self::SilentStream
            | Self::MaskedFrame
            | Self::BadUtf8
            | Self::Length4Gib
            | Self::Length2pow62
            | Self::Length2pow63
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::LongControl
            | Self::FragmentedControl
            | Self::StrayContinuation
            | Self::FlippedBit
            | Self::HalfRecord
            | Self::KeyUpdate
            | Self::Rst
            | Self::FinWithoutCloseNotify
            | Self::CloseWithoutWebsocketClose => Moment::Stream,
            Self::Fragments | Self::TinyRecords | Self::SplitRecords | Self::Scattered | Self::Drip => Moment::Shape,
        }
    }

    /// Whether it is nothing without TLS.
    pub(super) const fn needs_tls(self) -> bool {
        matches!(
            self,
            Self::GarbageTls
                | Self::PlainHttp
                | Self::FlippedBit
                | Self::HalfRecord
                | Self::KeyUpdate
                | Self::FinWithoutCloseNotify
                | Self::TinyRecords
                | Self::SplitRecords
        )
    }

    /// Whether a client that keeps to the rules gets all messages all the same.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self.moment(), Moment::Shape) || matches!(self, Self::EarlyFrame | Self::KeyUpdate)
    }

    /// What is written past TLS as soon as the client has said something.
    pub(super) fn before_tls(self, random: &mut Random) -> Option<Vec<u8>> {
        match self {
            // The first byte is none that a TLS record begins with (20 to 24).
            Self::GarbageTls => Some((0..200).map(|at| if at == 0 { 0xee } else { random.next() as u8 }).collect()),
            Self::PlainHttp => Some(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 29\r\nConnection: close\r\n\r\n\
                  This port wants HTTPS, dear.\n"
                    .to_vec(),
            ),
            _ => None,
        }
    }

    /// The HTTP answer that is given instead of a 101.
    pub(super) const fn http_answer(self) -> Option<&'static [u8]> {
        match self {
            Self::Status200 => {
                Some(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 15\r\n\r\nNo WebSockets.\n")
            }
            Self::Status429 => Some(
                b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 12\r\nConnection: close\r\n\r\nSlow down.\r\n",
            ),
            Self::Redirect => Some(
                b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.test/ws\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            ),
            _ => None,
        }
    }

    /// The frame, or its beginning, that must make a client fail the connection.
    pub(super) fn frame(self) -> Option<Vec<u8>> {
        const MESSAGE: &[u8] = b"{\"e\":\"trade\",\"E\":1700000000000}";
        let mut bytes = Vec::new();
        let declare = |payload_bytes: u64| {
            let (header, length) = frames::header(frames::TEXT, payload_bytes);
            [&header[..length], MESSAGE].concat()
        };
        match self {
            Self::MaskedFrame => {
                let key = [0x37, 0xfa, 0x21, 0x3d];
                bytes.extend([frames::TEXT, 0x80 | MESSAGE.len() as u8]);
                bytes.extend(key);
                bytes.extend(MESSAGE.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
            }
            // An overlong slash and a lone continuation byte, in the middle of what is otherwise a message.
            Self::BadUtf8 => frames::push(&mut bytes, frames::TEXT, b"{\"e\":\"tra\xc0\xaf\x80de\"}"),
            Self::Length4Gib => bytes = declare(1 << 32),
            Self::Length2pow62 => bytes = declare(1 << 62),
            Self::Length2pow63 => bytes = declare(1 << 63),
            Self::ReservedBits => frames::push(&mut bytes, frames::TEXT | 0x70, MESSAGE),
            Self::ReservedOpcode => frames::push(&mut bytes, frames::FIN | 0x3, MESSAGE),
            Self::LongControl => frames::push(&mut bytes, frames::PING, &[b'p'; 126]),
            Self::FragmentedControl => {
                frames::push(&mut bytes, frames::PING & !frames::FIN, b"half a ");
                frames::push(&mut bytes, frames::LAST_FRAGMENT, b"ping");
            }
            Self::StrayContinuation => frames::push(&mut bytes, frames::LAST_FRAGMENT, MESSAGE),
            _ => return None,
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_fault_has_its_bytes_in_one_place_at_most() {
        for &fault in Fault::value_variants() {
            let places = [
                fault.before_tls(&mut Random::new(1)).is_some(),
                fault.http_answer().is_some(),
                fault.frame().is_some(),
            ];
            assert!(places.iter().filter(|it| **it).count() <= 1, "{fault:?}");
            match fault.moment() {
                Moment::Accept => assert!(places[0] || fault == Fault::SilentTcp),
                Moment::Upgrade | Moment::Stream => assert!(!places[0]),
                Moment::Shape => assert!(fault.is_allowed()),
            }
        }
    }

    #[test]
    fn http_answers_are_as_long_as_they_say() {
        let answers = Fault::value_variants().iter().filter_map(|fault| {
            fault.http_answer().map(<[u8]>::to_vec).or_else(|| fault.before_tls(&mut Random::new(1)))
        });
        for answer in answers.filter(|answer| answer.starts_with(b"HTTP")) {
            let answer = String::from_utf8(answer).unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        }
    }
}
