//! What really stood on the wire: Ethernet frames as one interface saw them.
//!
//! What comes in is a [`Host`]; what goes out is every frame its interface received or sent, with the length it had on
//! the wire. The capture is an `AF_PACKET` socket read by a thread, so it sees what the kernel sees: frames that an XDP
//! program redirected are not among them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::RecvFlags;
use socket2::{Domain, Protocol, Socket, Type};

pub use wiretick_impair::frame::{EthernetFrame, TcpSegment};

use crate::sys;
use crate::topology::Host;

/// The largest frame an interface can show: a packet that was never cut, and its Ethernet header.
const FRAME_BYTES_MAX: usize = 65_535 + 14;

/// How long the reader waits before it looks whether it shall stop.
const TICK: Duration = Duration::from_millis(20);

/// What the socket holds while the reader is busy. 64 MiB: a bulk transfer in a debug build comes in bursts of some
/// thousand frames; with the default of 208 KiB the kernel drops most of them.
const SOCKET_BYTES: usize = 64 << 20;

/// A running capture.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<io::Result<Vec<EthernetFrame>>>,
}

impl Capture {
    /// Starts to capture on the interface of `host`, in both directions.
    ///
    /// # Errors
    ///
    /// Without `CAP_NET_RAW` in the host's namespace.
    pub fn start(host: &Host) -> io::Result<Self> {
        let index = host.interface.index;
        let socket = host.ns.enter(|| {
            // Protocol 0: nothing is received before the socket is bound to the interface.
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
            // Best effort: the forced size needs privilege and the ordinary one has a ceiling.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES);
            socket.set_read_timeout(Some(TICK))?;
            sys::bind_packet(socket.as_fd(), index)?;
            io::Result::Ok(OwnedFd::from(socket))
        })??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let reader = std::thread::Builder::new().name("capture".into()).spawn(move || read(&socket, &stopped))?;
        Ok(Self { stop, reader })
    }

    /// Ends the capture and answers the frames in the order in which they were seen. Frames that were on their way when
    /// this is called are waited for until the wire has been quiet for 20 ms.
    ///
    /// # Errors
    ///
    /// Where reading failed.
    ///
    /// # Panics
    ///
    /// Where the reading thread did.
    pub fn finish(self) -> io::Result<Vec<EthernetFrame>> {
        self.stop.store(true, Ordering::Relaxed);
        self.reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn read(socket: &OwnedFd, stop: &AtomicBool) -> io::Result<Vec<EthernetFrame>> {
    let mut frames = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); FRAME_BYTES_MAX];
    loop {
        match rustix::net::recv(socket, &mut buffer[..], RecvFlags::TRUNC) {
            Ok(((bytes, _), wire_bytes)) => frames.push(EthernetFrame { bytes: bytes.to_vec(), wire_bytes }),
            // The wire was quiet for a tick.
            Err(rustix::io::Errno::AGAIN) if stop.load(Ordering::Relaxed) => return Ok(frames),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
