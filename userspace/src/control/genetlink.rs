//! Questions to a family of generic netlink (`NETLINK_GENERIC`): `netdev` and `ethtool`.
//!
//! What comes in is a command and its attributes; what goes out are the attributes of each answer, which [`Attributes`] reads. The
//! packets are netlink-packet-generic's; which attributes mean what is the business of those who ask. (The crate `ethtool`
//! knows that family's attributes, but drives its socket through an asynchronous runtime, and can change nothing but the number of channels.)

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    NlasIterator, ParseableParametrized,
};
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_generic::{GenlFamily, GenlHeader, GenlMessage};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

/// Bytes of a `struct nlmsghdr`: what an error repeats of the request.
const HEADER: usize = 16;
/// `NLMSGERR_ATTR_MSG` (linux/netlink.h): the kernel's own words on an error.
const ERROR_TEXT: u16 = 1;

/// A conversation with one family, in the network namespace of the thread that began it.
#[derive(Debug)]
pub(super) struct Family {
    socket: Socket,
    id: u16,
    sequence: u32,
}

impl Family {
    /// Looks the family up by its name; `None` where this kernel does not have it.
    pub(super) fn find(name: &str) -> io::Result<Option<Self>> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel's own words come with an error, and not the whole request with them. Both are of Linux 4.12.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        let mut conversation = Self { socket, id: 0, sequence: 0 };
        let question = GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: vec![GenlCtrlAttrs::FamilyName(name.to_owned())] };
        let answers = match conversation.exchange::<GenlCtrl>(GenlMessage::from_payload(question), 0) {
            Ok(answers) => answers,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        let id = answers.into_iter().flat_map(|answer| answer.nlas).find_map(|attribute| match attribute {
            GenlCtrlAttrs::FamilyId(id) => Some(id),
            _ => None,
        });
        Ok(id.map(|id| Self { id, ..conversation }))
    }

    /// Asks for one object: the attributes of the answer.
    pub(super) fn get(&mut self, command: u8, attributes: &[DefaultNla]) -> io::Result<Vec<u8>> {
        let mut answers = self.ask(command, attributes, 0)?;
        match answers.pop() {
            Some(answer) if answers.is_empty() => Ok(answer),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "not one answer")),
        }
    }

    /// Asks for all objects there are of a kind: the attributes of each.
    pub(super) fn dump(&mut self, command: u8, attributes: &[DefaultNla]) -> io::Result<Vec<Vec<u8>>> {
        self.ask(command, attributes, NLM_F_DUMP)
    }

    /// Asks for something to be done.
    pub(super) fn set(&mut self, command: u8, attributes: &[DefaultNla]) -> io::Result<()> {
        self.ask(command, attributes, NLM_F_ACK).map(drop)
    }

    fn ask(&mut self, command: u8, attributes: &[DefaultNla], flags: u16) -> io::Result<Vec<Vec<u8>>> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        let mut message = GenlMessage::from_payload(Payload { command, attributes: bytes });
        message.set_resolved_family_id(self.id);
        let answers = self.exchange::<Payload>(message, flags)?;
        Ok(answers.into_iter().map(|answer| answer.attributes).collect())
    }

    /// Sends a request, and reads until the kernel has said that there is nothing more.
    fn exchange<P>(&mut self, message: GenlMessage<P>, flags: u16) -> io::Result<Vec<P>>
    where
        P: GenlFamily + Emitable + ParseableParametrized<[u8], GenlHeader> + std::fmt::Debug,
    {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        // Objects of a dump come in any number of datagrams, and an acknowledgement behind its answer in another one; a single
        // answer that nobody asked to acknowledge is the end by itself.
        let many = flags != 0;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = &datagram[..];
            while !rest.is_empty() {
                let answer = NetlinkMessage::<GenlMessage<P>>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                let len = (answer.header.length as usize).next_multiple_of(4).clamp(1, rest.len());
                rest = &rest[len..];
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(refusal(error.to_io(), &error.header));
                    }
                    NetlinkPayload::Error(_) => return Ok(answers),
                    // The result of a dump can be an error, too (since Linux 4.14 told at its end).
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(found) => answers.push(found.into_parts().1),
                    _ => {}
                }
            }
            if !many {
                return Ok(answers);
            }
        }
    }
}

/// The error the kernel has answered with, in its own words where it has any. `repeated` is the request's header, and behind it
/// the attributes of the error.
fn refusal(error: io::Error, repeated: &[u8]) -> io::Error {
    let words = repeated.get(HEADER..).map(Attributes).and_then(|attributes| attributes.text(ERROR_TEXT));
    match words {
        Some(words) => io::Error::new(error.kind(), Refusal { words, error }),
        None => error,
    }
}

/// What the kernel says of a request that it refuses.
#[derive(Debug, thiserror::Error)]
#[error("{error}: {words}")]
struct Refusal {
    words: String,
    #[source]
    error: io::Error,
}

/// The number of an error that [`Family`] has answered with.
pub(super) fn os_code(error: &io::Error) -> Option<i32> {
    let refusal = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>());
    refusal.map_or_else(|| error.raw_os_error(), |refusal| refusal.error.raw_os_error())
}

/// A message of any family: its attributes, unread.
#[derive(Debug)]
struct Payload {
    command: u8,
    attributes: Vec<u8>,
}

impl GenlFamily for Payload {
    fn family_name() -> &'static str {
        // Not looked at: the number has been looked up.
        ""
    }

    fn command(&self) -> u8 {
        self.command
    }

    fn version(&self) -> u8 {
        1
    }
}

impl Emitable for Payload {
    fn buffer_len(&self) -> usize {
        self.attributes.len()
    }

    fn emit(&self, buffer: &mut [u8]) {
        buffer[..self.attributes.len()].copy_from_slice(&self.attributes);
    }
}

impl ParseableParametrized<[u8], GenlHeader> for Payload {
    fn parse_with_param(buffer: &[u8], header: GenlHeader) -> Result<Self, DecodeError> {
        Ok(Self { command: header.cmd, attributes: buffer.to_vec() })
    }
}

/// Attributes as they came. What is malformed ends them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Attributes<'a> {
    /// All of them, as kind and value.
    pub(super) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        NlasIterator::new(self.0).map_while(Result::ok).map(|attribute| {
            let value = attribute.into_inner();
            // What the iterator hands out begins with the attribute and goes on to the end of the buffer.
            let len = usize::from(u16::from_ne_bytes([value[0], value[1]]));
            (attribute.kind(), &value[4..len])
        })
    }

    /// The value of the first of this kind.
    pub(super) fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.iter().find_map(|(found, value)| (found == kind).then_some(value))
    }

    /// What is nested in the first of this kind.
    pub(super) fn nested(self, kind: u16) -> Option<Self> {
        self.find(kind).map(Self)
    }

    /// A number of one, two, four or eight bytes.
    pub(super) fn number(self, kind: u16) -> Option<u64> {
        let value = self.find(kind)?;
        Some(match value.len() {
            1 => value[0].into(),
            2 => u16::from_ne_bytes(value.try_into().ok()?).into(),
            4 => u32::from_ne_bytes(value.try_into().ok()?).into(),
            8 => u64::from_ne_bytes(value.try_into().ok()?),
            _ => return None,
        })
    }

    /// A number that fits 32 bits.
    pub(super) fn u32(self, kind: u16) -> Option<u32> {
        self.number(kind).and_then(|number| u32::try_from(number).ok())
    }

    /// A text, without the zero at its end.
    pub(super) fn text(self, kind: u16) -> Option<String> {
        let value = self.find(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(&value[..end]).into_owned())
    }
}

/// An attribute that holds a number of 32 bits.
pub(super) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_ne_bytes().to_vec())
}

/// An attribute that holds a text.
pub(super) fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

/// An attribute that holds others.
pub(super) fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind | netlink_packet_core::NLA_F_NESTED, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_that_does_not_exist_is_no_error() {
        assert!(Family::find("wt-none").unwrap().is_none());
        assert!(Family::find("nlctrl").unwrap().is_some());
    }

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let written = [number(1, 77), text(2, "lo"), nest(3, &[number(1, 5)]), DefaultNla::new(4, vec![0; 8])];
        let mut bytes = vec![0; written.as_slice().buffer_len()];
        written.as_slice().emit(&mut bytes);
        let read = Attributes(&bytes);
        assert_eq!(read.u32(1), Some(77));
        assert_eq!(read.text(2).as_deref(), Some("lo"));
        assert_eq!(read.nested(3).and_then(|inner| inner.u32(1)), Some(5));
        assert_eq!(read.number(4), Some(0));
        assert_eq!(read.iter().count(), 4);
        assert_eq!((read.find(9), read.u32(2)), (None, None));
        // Cut off anywhere, what is left is read and nothing panics.
        for len in 0..bytes.len() {
            let _ = Attributes(&bytes[..len]).iter().count();
        }
    }

    #[test]
    fn the_kernels_words_come_with_its_refusal() {
        // As the kernel lays it out: the header of the request, then NLMSGERR_ATTR_MSG.
        let mut repeated = vec![0; HEADER];
        let words = [text(ERROR_TEXT, "requested channel count exceeds maximum")];
        let mut bytes = vec![0; words.as_slice().buffer_len()];
        words.as_slice().emit(&mut bytes);
        repeated.extend_from_slice(&bytes);
        let error = refusal(io::Error::from_raw_os_error(libc::EINVAL), &repeated);
        assert!(error.to_string().ends_with("requested channel count exceeds maximum"), "{error}");
        assert_eq!(os_code(&error), Some(libc::EINVAL));
        assert_eq!(os_code(&refusal(io::Error::from_raw_os_error(libc::EPERM), &[])), Some(libc::EPERM));
    }
}
