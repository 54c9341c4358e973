//! A connected kernel socket, prepared so that the connection can be promoted later.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::Error;

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

/// Connects to the first of `peers` that accepts, in their order. The stream that comes back is non-blocking and sends
/// without delay.
///
/// # Errors
///
/// [`Error::Connect`] with the last address tried.
pub fn connect(peers: &[SocketAddr], options: &DialOptions) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + options.timeout;
    let mut last = None;
    for (i, &peer) in peers.iter().enumerate() {
        // The remaining time is divided among the addresses that remain, so that a dead one does not use it all up.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(peers.len() - i).unwrap_or(1);
        match connect_one(peer, share.max(Duration::from_millis(1)), options) {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                log::info!("{peer}: {source}");
                last = Some(Error::Connect { peer, source });
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::Connect {
        peer: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: io::Error::new(io::ErrorKind::NotFound, "no address to connect to"),
    }))
}

fn connect_one(peer: SocketAddr, timeout: Duration, options: &DialOptions) -> io::Result<TcpStream> {
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
    if let Some(source) = options.source {
        socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    }
    socket.connect_timeout(&peer.into(), timeout)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
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
