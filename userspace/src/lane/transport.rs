//! What carries a connection's bytes: a kernel socket, the ring, or, for a moment, both.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::floor::Time;
use crate::handover::{Promotion, Seam};
use crate::path::{Lost, Outlet, Slot};
use crate::ring::Ring;
use crate::segment::Tcp;

/// Where a connection lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In the kernel.
    Kernel,
    /// On its way from the kernel to the ring: both deliver, nothing is sent.
    Leaving,
    /// On the ring.
    Bypass,
    /// Nowhere: it is over.
    Gone,
}

pub(super) enum Transport {
    Kernel(TcpStream),
    Leaving { stream: Option<TcpStream>, promotion: Box<Promotion> },
    Bypass(Box<Bypassed>),
    Gone,
}

/// A connection on the ring.
pub(super) struct Bypassed {
    pub(super) tcp: Tcp,
    /// What the connection left behind in the kernel, where it came from there.
    pub(super) seam: Option<Seam>,
    /// A socket that keeps the local port from being given to somebody else, where the connection began on the ring.
    pub(super) _port: Option<socket2::Socket>,
    /// The id of the VLAN in the flow map's key.
    pub(super) vlan: Option<u16>,
}

impl Transport {
    pub(super) fn way(&self) -> Way {
        match self {
            Self::Kernel(_) => Way::Kernel,
            Self::Leaving { .. } => Way::Leaving,
            Self::Bypass(_) => Way::Bypass,
            Self::Gone => Way::Gone,
        }
    }
}

/// A kernel socket as an outlet. What the socket does not take now is offered again; its errors show when it is read.
pub(super) struct KernelOutlet<'a> {
    pub(super) stream: &'a TcpStream,
    /// Takes nothing: while a connection is being promoted, nothing of ours may be under way.
    pub(super) held: bool,
}

impl Outlet for KernelOutlet<'_> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut put = 0;
        while put < bytes.len() && !self.held {
            match self.stream.write(&bytes[put..]) {
                Ok(n) if n > 0 => put += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        put
    }
}

/// TCP over the ring as an outlet.
pub(super) struct BypassOutlet<'a, R> {
    pub(super) tcp: &'a mut Tcp,
    pub(super) ring: &'a mut R,
    pub(super) now: Time,
}

impl<R: Ring> Outlet for BypassOutlet<'_, R> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        self.tcp.send(self.now, bytes, self.ring)
    }

    #[inline]
    fn slot(&mut self) -> Option<Slot> {
        let (start, payload_max) = self.tcp.payload_place()?;
        Some(Slot::new(self.ring.lend()?, start, payload_max))
    }

    #[inline]
    fn send(&mut self, slot: Slot) -> Result<(), Slot> {
        if !self.tcp.may_send_direct(slot.len()) {
            return Err(slot);
        }
        let (frame, len) = slot.into_frame();
        self.tcp.send_direct(self.now, frame, len, self.ring);
        Ok(())
    }

    fn kick(&mut self) {
        self.ring.kick();
    }
}

/// What a read from a kernel socket has brought.
pub(super) enum KernelRead {
    Bytes(usize),
    Nothing,
    End,
}

pub(super) fn read_kernel(mut stream: &TcpStream, into: &mut [u8]) -> Result<KernelRead, Lost> {
    loop {
        return match stream.read(into) {
            Ok(0) => Ok(KernelRead::End),
            Ok(n) => Ok(KernelRead::Bytes(n)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(KernelRead::Nothing),
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::ConnectionReset => Err(Lost::Reset),
                _ => Err(Lost::Socket(error)),
            },
        };
    }
}
