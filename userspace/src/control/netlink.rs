//! Questions and orders to the kernel's routing tables, and the answers, over `NETLINK_ROUTE`.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Asks for one object.
pub(super) fn get(question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    request(question, NLM_F_REQUEST)
}

/// Asks for all objects of a kind.
pub(super) fn dump(question: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
    request(question, NLM_F_REQUEST | NLM_F_DUMP)
}

/// Changes one object that is there.
pub(super) fn replace(object: RouteNetlinkMessage) -> io::Result<()> {
    request(object, NLM_F_REQUEST | NLM_F_REPLACE | NLM_F_ACK).map(drop)
}

fn request(question: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = 1;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(question));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        // The kernel answers a request before `send` returns, and goes on with a dump as its parts are taken: this does not wait for
        // anybody.
        let (datagram, _) = socket.recv_from_full()?;
        let mut is_over = flags & NLM_F_DUMP != NLM_F_DUMP;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let len = (answer.header.length as usize).next_multiple_of(4).clamp(1, rest.len());
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(found) => answers.push(found),
                NetlinkPayload::Done(_) => is_over = true,
                _ => {}
            }
            rest = &rest[len..];
        }
        if is_over {
            return Ok(answers);
        }
    }
}
