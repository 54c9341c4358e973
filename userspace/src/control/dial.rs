//! A connected kernel socket, prepared so that the connection can be promoted later.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::steering::{Steered, Steering, port};
use super::{Error, link, route};
use crate::floor::FourTuple;

/// How a kernel socket is dialled.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// How long all addresses together may take.
    pub timeout: Duration,
    /// The kernel's receive buffer, in bytes: it bounds the window the kernel promises, and with it what a later
    /// promotion has to hold. `None` leaves it to the kernel's autotuning (up to 6 MiB and more).
    pub receive_buffer: Option<usize>,
    /// The address to come from, where the route alone is not enough.
    pub source: Option<IpAddr>,
    /// The interface to leave by.
    pub interface: Option<String>,
}

/// A connected socket.
#[derive(Debug)]
pub struct Dialled {
    /// The socket: non-blocking, and it sends without delay.
    pub stream: TcpStream,
    /// What was done to bring what arrives to the wanted queue.
    pub steered: Steered,
}

impl Dialled {
    /// Both ends.
    ///
    /// # Errors
    ///
    /// Where the connection is over already.
    pub fn tuple(&self) -> io::Result<FourTuple> {
        Ok(FourTuple { local: self.stream.local_addr()?, remote: self.stream.peer_addr()? })
    }
}

/// Connects to the first of `peers` that accepts, in their order. The stream that comes back is non-blocking and sends
/// without delay.
///
/// # Errors
///
/// [`Error::Connect`] with the last address tried.
pub fn connect(peers: &[SocketAddr], options: &DialOptions) -> Result<TcpStream, Error> {
    connect_steered(peers, options, None).map(|dialled| dialled.stream)
}

/// The same, and what arrives is steered to a queue.
///
/// # Errors
///
/// As [`connect`]; [`Error::Steering`] where it was asked for by a means that cannot be had.
pub fn connect_steered(
    peers: &[SocketAddr],
    options: &DialOptions,
    steering: Option<&Steering>,
) -> Result<Dialled, Error> {
    let deadline = Instant::now() + options.timeout;
    let mut last = None;
    for (i, &peer) in peers.iter().enumerate() {
        // The remaining time is divided among the addresses that remain, so that a dead one does not use it all up.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(peers.len() - i).unwrap_or(1);
        match connect_one(peer, share.max(Duration::from_millis(1)), options, steering) {
            Ok(dialled) => return Ok(dialled),
            Err(error @ Error::Steering { .. }) => return Err(error),
            Err(error) => {
                log::info!("{error}");
                last = Some(error);
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::Connect {
        peer: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: io::Error::new(io::ErrorKind::NotFound, "no address to connect to"),
    }))
}

fn connect_one(
    peer: SocketAddr,
    timeout: Duration,
    options: &DialOptions,
    steering: Option<&Steering>,
) -> Result<Dialled, Error> {
    let fail = |source| Error::Connect { peer, source };
    let connect = |socket: &Socket, steered: &Steered| {
        if let (Some(source), false) = (options.source, steered.is_bound()) {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0))).map_err(fail)?;
        }
        socket.connect_timeout(&peer.into(), timeout).map_err(fail)?;
        tuple_of(socket, peer).map_err(fail)
    };
    let make = || new_socket(peer, options).map_err(fail);
    let (socket, _, steered) = match steering {
        Some(steering) => steering.steer_socket(peer, options.source, options.interface.as_deref(), make, connect)?,
        None => {
            let (socket, steered) = (make()?, Steered::default());
            let tuple = connect(&socket, &steered)?;
            (socket, tuple, steered)
        }
    };
    socket.set_nonblocking(true).map_err(fail)?;
    Ok(Dialled { stream: socket.into(), steered })
}

fn new_socket(peer: SocketAddr, options: &DialOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = options.receive_buffer {
        // Before the connection is made: the window scale is chosen from it. The kernel doubles the figure for its own
        // bookkeeping and offers about half of that as the window (tcp_adv_win_scale), so it means the same here.
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(interface) = &options.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    Ok(socket)
}

/// A bound socket that keeps a local port, and the 4-tuple that a connection from there to `peer` has; steered like one.
///
/// # Errors
///
/// That there is no route, or no port; [`Error::Steering`].
pub fn reserve(
    peer: SocketAddr,
    interface: Option<&str>,
    steering: Option<&Steering>,
) -> Result<(Socket, FourTuple, Steered), Error> {
    let fail = |source| Error::Connect { peer, source };
    let index = interface.map(link::by_name).transpose()?.map(|link| link.index);
    let route = route::to(peer.ip(), None, index)?;
    let make = || Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP)).map_err(fail);
    let bind = |socket: &Socket, steered: &Steered| {
        if !steered.is_bound() {
            socket.bind(&port::local(route.source, 0, route.interface).into()).map_err(fail)?;
        }
        tuple_of(socket, peer).map_err(fail)
    };
    match steering {
        Some(steering) => steering.steer_socket(peer, None, interface, make, bind),
        None => {
            let (socket, steered) = (make()?, Steered::default());
            let tuple = bind(&socket, &steered)?;
            Ok((socket, tuple, steered))
        }
    }
}

fn tuple_of(socket: &Socket, peer: SocketAddr) -> io::Result<FourTuple> {
    let local = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    Ok(FourTuple { local, remote: peer })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn options() -> DialOptions {
        DialOptions { timeout: Duration::from_secs(2), receive_buffer: Some(1 << 18), source: None, interface: None }
    }

    #[test]
    fn the_second_address_is_tried_when_the_first_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let open = listener.local_addr().unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stream = connect(&[closed, open], &options()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(stream.nodelay().unwrap());
    }

    #[test]
    fn when_nobody_accepts_the_last_address_is_named() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = connect(&[closed], &options()).unwrap_err().to_string();
        assert!(error.contains(&closed.to_string()) && error.contains("refused"), "{error}");
    }
}
