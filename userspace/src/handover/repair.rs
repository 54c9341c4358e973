//! `TCP_REPAIR`: freezing a socket, reading the state of its connection, and giving that state to a new one.
//!
//! The options are those of checkpoint/restore (net/ipv4/tcp.c: `tcp_repair_set_window`, `do_tcp_setsockopt`,
//! `do_tcp_getsockopt`). They need `CAP_NET_ADMIN` in the user namespace that owns the network namespace.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::floor::lease::{RoundTrip, WindowScales};
use crate::floor::{FourTuple, Lease, Seq, TcpTimestamps, Time};

// linux/tcp.h
const TCP_REPAIR: libc::c_int = 19;
const TCP_REPAIR_QUEUE: libc::c_int = 20;
const TCP_QUEUE_SEQ: libc::c_int = 21;
const TCP_REPAIR_OPTIONS: libc::c_int = 22;
const TCP_TIMESTAMP: libc::c_int = 24;
const TCP_REPAIR_WINDOW: libc::c_int = 29;
const TCP_RECV_QUEUE: libc::c_int = 1;
const TCP_SEND_QUEUE: libc::c_int = 2;
const REPAIR_ON: libc::c_int = 1;
/// Ends repair mode with a window probe, which the peer has to answer.
const REPAIR_OFF: libc::c_int = 0;
/// Ends repair mode without the window probe that a plain 0 sends.
const REPAIR_OFF_NO_PROBE: libc::c_int = -1;
const TCPI_OPT_TIMESTAMPS: u8 = 1;
const TCPI_OPT_SACK: u8 = 2;
const TCPI_OPT_WSCALE: u8 = 4;
// Kinds of TCP options (RFC 9293 section 3.1, RFC 2018, RFC 7323), as `TCP_REPAIR_OPTIONS` wants them.
const OPTION_MSS: u32 = 2;
const OPTION_WINDOW_SCALE: u32 = 3;
const OPTION_SACK_PERMITTED: u32 = 4;
const OPTION_TIMESTAMPS: u32 = 8;
/// Bytes the timestamp option takes in every segment, padding included (RFC 7323 appendix A).
const TIMESTAMP_OPTION_BYTES: u32 = 12;
const MICROSECOND_NS: u32 = 1_000;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RepairWindow {
    snd_wl1: u32,
    snd_wnd: u32,
    max_window: u32,
    rcv_wnd: u32,
    rcv_wup: u32,
}

/// A TCP socket in repair mode. It sends nothing on its own account, and closing it is silent: no FIN, no RST.
///
/// What arrives for it is still received and acknowledged.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    stream: &'a TcpStream,
}

/// A socket made to take a connection in: bound to its local end, in repair mode, and connected to nothing yet.
#[derive(Debug)]
pub(super) struct Blank {
    socket: Socket,
}

impl Blank {
    /// A socket for the connection of `lease`, beside the one that holds the port until now: in repair mode the kernel
    /// lets several bind to it (`SK_FORCE_REUSE`). `device` is the interface that the socket is to be tied to.
    pub(super) fn new(lease: &Lease, receive_buffer: usize, device: Option<&[u8]>) -> io::Result<Self> {
        let local = lease.tuple.local;
        let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        // What is promised to the peer has to fit, whatever `net.core.rmem_max` says.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, receive_buffer)?;
        if device.is_some() {
            socket.bind_device(device)?;
        }
        let fd = socket.as_raw_fd();
        set(fd, TCP_REPAIR, REPAIR_ON)?;
        socket.bind(&local.into())?;
        for (queue, seq) in [(TCP_SEND_QUEUE, lease.snd_nxt), (TCP_RECV_QUEUE, lease.rcv_nxt)] {
            set(fd, TCP_REPAIR_QUEUE, queue)?;
            set(fd, TCP_QUEUE_SEQ, seq.0)?;
        }
        Ok(Self { socket })
    }

    /// Makes it the socket of the connection; no packet leaves. No other socket may be connected as it will be.
    /// `unacknowledged` has been sent from [`Lease::snd_nxt`] on. The socket is still frozen.
    pub(super) fn restore(&self, lease: &Lease, unacknowledged: &[u8], now: Time) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        self.socket.connect(&lease.tuple.remote.into())?;
        // The kernel reads pairs of a kind and a value (`struct tcp_repair_opt`).
        set(fd, TCP_REPAIR_OPTIONS, [OPTION_MSS, u32::from(lease.mss)])?;
        if let Some(WindowScales { send, receive }) = lease.scales {
            set(fd, TCP_REPAIR_OPTIONS, [OPTION_WINDOW_SCALE, u32::from(receive) << 16 | u32::from(send)])?;
        }
        if lease.sack {
            set(fd, TCP_REPAIR_OPTIONS, [OPTION_SACK_PERMITTED, 0])?;
        }
        if let Some(clock) = lease.timestamps {
            set(fd, TCP_REPAIR_OPTIONS, [OPTION_TIMESTAMPS, 0])?;
            set(fd, TCP_TIMESTAMP, clock.at(now) & !1 | u32::from(clock.tick_ns == MICROSECOND_NS))?;
        }
        let window = RepairWindow {
            snd_wl1: lease.rcv_nxt.0,
            snd_wnd: lease.snd_wnd,
            max_window: lease.snd_wnd,
            rcv_wnd: u32::try_from(lease.rcv_edge.distance(lease.rcv_nxt)).unwrap_or(0),
            rcv_wup: lease.rcv_nxt.0,
        };
        set(fd, TCP_REPAIR_WINDOW, window)?;
        set(fd, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)?;
        let mut rest = unacknowledged;
        while !rest.is_empty() {
            // In repair mode that is taken for sent.
            let n = self.socket.send(rest)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// Lets the socket go on by itself. It asks the peer for a sign of life, which tells the peer where we stand.
    ///
    /// # Errors
    ///
    /// What the kernel answered, and the socket as it was.
    pub(super) fn wake(self) -> Result<TcpStream, (io::Error, Socket)> {
        let wake = || {
            self.socket.set_nonblocking(true)?;
            set(self.socket.as_raw_fd(), TCP_REPAIR, REPAIR_OFF)
        };
        match wake() {
            Ok(()) => Ok(self.socket.into()),
            Err(error) => Err((error, self.socket)),
        }
    }

    /// The socket, which holds the port and does nothing else.
    pub(super) fn into_port(self) -> Socket {
        self.socket
    }
}

/// Whether this process may freeze sockets: whether promotion can work at all.
///
/// # Errors
///
/// What the kernel answers to the attempt on a socket made for it: `EPERM` without `CAP_NET_ADMIN`.
pub fn supported() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    set(socket.as_raw_fd(), TCP_REPAIR, REPAIR_ON)
}

/// Makes the peer send something: a bare acknowledgement. The socket's kernel asks it with a probe that carries no data
/// (`tcp_send_window_probe`, `net/ipv4/tcp_output.c`). Linux answers such probes twice a second at most
/// (`tcp_oow_rate_limited`, `net/ipv4/tcp_input.c`).
pub(crate) fn provoke(stream: &TcpStream) -> io::Result<()> {
    set(stream.as_raw_fd(), TCP_REPAIR, REPAIR_ON)?;
    set(stream.as_raw_fd(), TCP_REPAIR, REPAIR_OFF)
}

impl<'a> Frozen<'a> {
    /// Freezes a socket.
    pub(super) fn freeze(stream: &'a TcpStream) -> io::Result<Self> {
        set(stream.as_raw_fd(), TCP_REPAIR, REPAIR_ON)?;
        Ok(Self { stream })
    }

    /// Lets the socket go on as before.
    pub(super) fn thaw(self) -> io::Result<()> {
        set(self.stream.as_raw_fd(), TCP_REPAIR, REPAIR_OFF_NO_PROBE)
    }

    /// The next byte the kernel expects from the peer: everything before it is in the receive queue or has been read.
    pub(super) fn rcv_nxt(&self) -> io::Result<Seq> {
        self.queue_seq(TCP_RECV_QUEUE)
    }

    /// The state of the connection, but for what only a segment can tell: the peer's last timestamp is left at 0.
    pub(super) fn lift(&self, tuple: FourTuple, now: Time) -> io::Result<Lease> {
        let fd = self.stream.as_raw_fd();
        let snd_nxt = self.queue_seq(TCP_SEND_QUEUE)?;
        let rcv_nxt = self.queue_seq(TCP_RECV_QUEUE)?;
        let window: RepairWindow = get(fd, TCP_REPAIR_WINDOW)?;
        let info: libc::tcp_info = tcp_info(fd)?;
        let has = |option| info.tcpi_options & option != 0;
        let timestamps = if has(TCPI_OPT_TIMESTAMPS) {
            let tsval: u32 = get(fd, TCP_TIMESTAMP)?;
            // The lowest bit says whether the clock ticks in microseconds (tcp_usec_ts); it belongs to the value only
            // then.
            let tick_ns = if tsval & 1 == 1 { MICROSECOND_NS } else { 1_000_000 };
            Some(TcpTimestamps { tsval, read_at: now, tick_ns, recent: 0 })
        } else {
            None
        };
        let options = if timestamps.is_some() { TIMESTAMP_OPTION_BYTES } else { 0 };
        Ok(Lease {
            tuple,
            snd_nxt,
            rcv_nxt,
            snd_wnd: window.snd_wnd,
            rcv_edge: (Seq(window.rcv_wup) + window.rcv_wnd as usize).max(rcv_nxt),
            mss: u16::try_from(info.tcpi_snd_mss + options).unwrap_or(u16::MAX),
            scales: has(TCPI_OPT_WSCALE).then_some(WindowScales {
                send: info.tcpi_snd_rcv_wscale & 0xf,
                receive: info.tcpi_snd_rcv_wscale >> 4,
            }),
            sack: has(TCPI_OPT_SACK),
            timestamps,
            round_trip: (info.tcpi_rtt > 0).then(|| RoundTrip {
                smoothed: Duration::from_micros(info.tcpi_rtt.into()),
                variation: Duration::from_micros(info.tcpi_rttvar.into()),
            }),
        })
    }

    /// The first bytes of the receive queue, as many as fit `into`, without taking them out.
    fn peek(&self, into: &mut [u8]) -> io::Result<usize> {
        let fd = self.stream.as_raw_fd();
        set(fd, TCP_REPAIR_QUEUE, TCP_RECV_QUEUE)?;
        // SAFETY: the pointer and the length are those of a buffer we hold exclusively.
        let n = unsafe { libc::recv(fd, into.as_mut_ptr().cast(), into.len(), libc::MSG_PEEK | libc::MSG_DONTWAIT) };
        match usize::try_from(n) {
            Ok(n) => Ok(n),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
                error => Err(error),
            },
        }
    }

    /// Everything in the receive queue, and the sequence number of its first byte.
    pub(super) fn queue(&self) -> io::Result<(Seq, Vec<u8>)> {
        let mut bytes = vec![0; 64 << 10];
        loop {
            let before = self.rcv_nxt()?;
            let n = self.peek(&mut bytes)?;
            if n == bytes.len() {
                bytes.resize(bytes.len() * 2, 0);
                continue;
            }
            // Something may have arrived between the two calls: only a queue that stood still is understood.
            if self.rcv_nxt()? == before {
                bytes.truncate(n);
                // A FIN takes a sequence number and no byte.
                let fin = usize::from(self.ended()?);
                return Ok((before - n - fin, bytes));
            }
        }
    }

    /// Whether the peer's FIN has arrived.
    pub(super) fn ended(&self) -> io::Result<bool> {
        const TCP_ESTABLISHED: u8 = 1;
        Ok(tcp_info(self.stream.as_raw_fd())?.tcpi_state != TCP_ESTABLISHED)
    }

    fn queue_seq(&self, queue: libc::c_int) -> io::Result<Seq> {
        let fd = self.stream.as_raw_fd();
        set(fd, TCP_REPAIR_QUEUE, queue)?;
        get(fd, TCP_QUEUE_SEQ).map(Seq)
    }
}

/// Bytes we sent that the peer has not acknowledged (`SIOCOUTQ`).
pub(super) fn unacknowledged(stream: &TcpStream) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ writes one int to the pointer.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// The kernel's own measure of the round trip.
pub(crate) fn round_trip_us(stream: &TcpStream) -> io::Result<u32> {
    Ok(tcp_info(stream.as_raw_fd())?.tcpi_rtt)
}

/// Sets an option to an integer, or to a structure of them.
fn set<T: Copy>(fd: RawFd, option: libc::c_int, value: T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the pointer is to a local and the length is its size; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, option, (&raw const value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads an option that fills a `T` whole.
fn get<T: Copy + Default>(fd: RawFd, option: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to a local of that size, and `T` is one of the plain integer
    // structures above, for which every bit pattern is a value.
    let result = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, option, (&raw mut value).cast(), &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Older kernels know fewer fields than libc does; the rest stays zero.
fn tcp_info(fd: RawFd) -> io::Result<libc::tcp_info> {
    // SAFETY: `tcp_info` holds integers only, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to a local of that size.
    let result =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}
