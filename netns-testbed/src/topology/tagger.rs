//! A VLAN over any interface, done by a thread: it puts an 802.1Q tag on what leaves, and takes it off what arrives.
//!
//! What comes in are an interface, the id of a VLAN and a [`TapPlan`]; what goes out is an interface of that plan, on the same
//! machine, over which the VLAN is spoken untagged. It is what `ip link add type vlan` makes on a kernel with
//! `CONFIG_VLAN_8021Q`, which a test cannot rely on; here the tags are real, and nothing of the kernel's VLAN code is in the
//! way. Frames without the tag, or with another, are not touched.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Error, Namespace, Tap, TapPlan};
use crate::sys;

/// The two addresses in front of a frame's type: the tag comes behind them.
const ADDRESSES: usize = 12;
/// 802.1Q's own type, and the length of the tag.
const TPID: [u8; 2] = [0x81, 0x00];
const TAG: usize = 4;
/// A tag's lowest 12 bits: the id. Above them are priority and drop eligibility, which nobody here uses.
const ID_MASK: u16 = 0x0fff;
const FRAME_BYTES_MAX: usize = 65_535 + 14;
/// What the socket on the interface holds: 16 MiB, some 7,000 full frames.
const SOCKET_BYTES: usize = 16 << 20;

/// A running VLAN. It ends when this is dropped.
#[derive(Debug)]
pub struct Tagger {
    tap: Tap,
    shared: Arc<Shared>,
    carrier: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    id: u16,
    stop: AtomicBool,
    bell: OwnedFd,
    /// On the interface that carries tagged frames.
    port: OwnedFd,
    /// The far end of the interface that carries untagged ones.
    tap: Arc<OwnedFd>,
    tagged: AtomicU64,
    untagged: AtomicU64,
}

impl Tagger {
    /// Speaks VLAN `id` over the interface with the index `carrier` in `ns`.
    ///
    /// # Errors
    ///
    /// As [`Tap::new`], and where the kernel has no packet sockets; also where `id` is not from 1 to 4094.
    pub fn new(ns: &Namespace, carrier: u32, id: u16, plan: &TapPlan) -> Result<Self, Error> {
        if !(1..=4094).contains(&id) {
            return Err(Error::Plan("a VLAN has an id from 1 to 4094"));
        }
        let tap = Tap::new(ns, &TapPlan { queues: 1, ..plan.clone() })?;
        let refused = |source| Error::from_kernel("opening a packet socket", "CONFIG_PACKET", source);
        let port = ns.enter(|| open(carrier))?.map_err(refused)?;
        let end = Arc::clone(&tap.queues()[0]);
        rustix::io::ioctl_fionbio(&end, true).map_err(|error| refused(error.into()))?;
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(|error| refused(error.into()))?;
        let shared = Arc::new(Shared {
            id,
            stop: AtomicBool::new(false),
            bell,
            port,
            tap: end,
            tagged: AtomicU64::new(0),
            untagged: AtomicU64::new(0),
        });
        let carrier = {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("tagger".into()).spawn(move || {
                if let Err(error) = carry(&shared) {
                    log::error!("VLAN {}: {error}", shared.id);
                }
            })
        };
        let carrier = carrier.map_err(|source| Error::System { action: "starting a thread".into(), source })?;
        Ok(Self { tap, shared, carrier: Some(carrier) })
    }

    /// The interface that speaks the VLAN untagged.
    #[must_use]
    pub const fn tap(&self) -> &Tap {
        &self.tap
    }

    /// Frames that have left with the tag, and frames that arrived with it.
    #[must_use]
    pub fn frames(&self) -> (u64, u64) {
        (self.shared.tagged.load(Ordering::Relaxed), self.shared.untagged.load(Ordering::Relaxed))
    }
}

impl Drop for Tagger {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Can only fail where the bell has been rung 2^64 times unheard.
        let _ = rustix::io::write(&self.shared.bell, &1_u64.to_ne_bytes());
        if let Some(carrier) = self.carrier.take() {
            // Its panic has been printed; a panic in a drop would hide what is going on.
            let _ = carrier.join();
        }
    }
}

fn open(index: u32) -> io::Result<OwnedFd> {
    // Protocol 0: nothing is received before the socket is bound to the interface.
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, SOCKET_BYTES)?;
    socket.set_nonblocking(true)?;
    sys::ask_for_tags(socket.as_fd())?;
    sys::become_cable(socket.as_fd(), index)?;
    sys::bind_packet(socket.as_fd(), index)?;
    Ok(OwnedFd::from(socket))
}

fn carry(shared: &Shared) -> io::Result<()> {
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    let mut tagged = Vec::with_capacity(FRAME_BYTES_MAX + TAG);
    while !shared.stop.load(Ordering::Relaxed) {
        wait(shared)?;
        // The bell may stay rung: the flag has been raised before it.
        while let Some((length, tag)) = next(sys::receive_tagged(shared.port.as_fd(), &mut buffer))? {
            if tag.is_some_and(|tag| tag & ID_MASK == shared.id) {
                shared.untagged.fetch_add(1, Ordering::Relaxed);
                // The interface takes any frame at once, or is gone together with its namespace.
                let _ = rustix::io::write(&shared.tap, &buffer[..length]);
            }
        }
        while let Some(length) = next(rustix::io::read(&shared.tap, &mut buffer[..]).map_err(io::Error::from))? {
            tagged.clear();
            with_tag(&buffer[..length], shared.id, &mut tagged);
            shared.tagged.fetch_add(1, Ordering::Relaxed);
            // What finds no room is lost, as on any wire; TCP sends it again.
            if let Err(error) = rustix::net::send(&shared.port, &tagged, SendFlags::DONTWAIT) {
                log::debug!("VLAN {}: a frame of {} bytes: {error}", shared.id, tagged.len());
            }
        }
    }
    Ok(())
}

/// `None`: there is nothing more for now.
fn next<T>(taken: io::Result<T>) -> io::Result<Option<T>> {
    match taken {
        Ok(taken) => Ok(Some(taken)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        // The link went down: it is being taken apart.
        Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
        Err(error) => Err(error),
    }
}

fn wait(shared: &Shared) -> io::Result<()> {
    let all = [shared.port.as_fd(), shared.tap.as_fd(), shared.bell.as_fd()];
    let mut all = all.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
    match poll(&mut all, None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes a frame with a tag behind its addresses. What is too short to be a frame is written as it is.
fn with_tag(frame: &[u8], id: u16, out: &mut Vec<u8>) {
    let Some((addresses, rest)) = frame.split_at_checked(ADDRESSES) else { return out.extend_from_slice(frame) };
    out.extend_from_slice(addresses);
    out.extend_from_slice(&TPID);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_stands_between_the_addresses_and_the_type() {
        let frame: Vec<u8> = (0..20).collect();
        let mut out = Vec::new();
        with_tag(&frame, 0x123, &mut out);
        assert_eq!(out[..12], frame[..12]);
        assert_eq!(out[12..16], [0x81, 0x00, 0x01, 0x23]);
        assert_eq!(out[16..], frame[12..]);
        out.clear();
        with_tag(&frame[..5], 1, &mut out);
        assert_eq!(out, frame[..5]);
    }
}
