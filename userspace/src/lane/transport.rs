//! What carries a connection's bytes: a kernel socket, the ring, or, for a moment, both.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::floor::Time;
use crate::handover::{Place, Promotion, Seam};
use crate::path::{Lost, Outlet, Slot};
use crate::ring::Ring;
use crate::segment::{Rehearsal, Tcp};

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
    /// What keeps its place in the kernel: without it, the port could be given to somebody else.
    pub(super) place: Option<Place>,
    /// The id of the VLAN in the flow map's key.
    pub(super) vlan: Option<u16>,
    /// Keeps it warm, where that is wanted, from the first time on.
    pub(super) rehearsal: Option<Box<Rehearsal>>,
}

impl Bypassed {
    pub(super) fn new(tcp: Tcp, place: Option<Place>, vlan: Option<u16>) -> Self {
        Self { tcp, place, vlan, rehearsal: None }
    }

    /// What may still come through the kernel.
    #[inline]
    pub(super) fn seam(&mut self) -> Option<&mut Seam> {
        match &mut self.place {
            Some(Place::Seam(seam)) => Some(seam),
            Some(Place::Port(_)) | None => None,
        }
    }

    /// Whether something may still come through the kernel.
    pub(super) fn has_open_seam(&self) -> bool {
        matches!(&self.place, Some(Place::Seam(seam)) if seam.is_open())
    }

    /// Takes in what came through the kernel, where it is time to look or `now_or_never`; answers whether the peer's stream
    /// ends with it.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub(super) fn look_at_seam<R: Ring>(&mut self, now: Time, now_or_never: bool, ring: &mut R) -> io::Result<bool> {
        let Some(seam) = self.seam().filter(|seam| seam.is_open()) else { return Ok(false) };
        let late = if now_or_never { seam.look_now(now) } else { seam.look(now) };
        let Some(late) = late? else { return Ok(false) };
        let bytes = late.bytes.len();
        log::debug!("{}: {bytes} bytes came through the kernel after the handover", self.tcp.tuple());
        self.tcp.inject(now, late.seq, &late.bytes, ring);
        Ok(late.fin)
    }
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
    /// Takes nothing: before a connection is demoted, the peer is to acknowledge all that is ours.
    pub(super) held: bool,
}

impl<R: Ring> Outlet for BypassOutlet<'_, R> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        if self.held { 0 } else { self.tcp.send(self.now, bytes, self.ring) }
    }

    #[inline]
    fn slot(&mut self) -> Option<Slot> {
        if self.held {
            return None;
        }
        let (start, payload_max) = self.tcp.payload_place()?;
        Some(Slot::new(self.ring.lend()?, start, payload_max))
    }

    #[inline]
    fn send(&mut self, slot: Slot) -> Result<(), Slot> {
        if self.held || !self.tcp.may_send_direct(slot.len()) {
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
