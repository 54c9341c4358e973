//! The line between a process that leaves a connection and the one that takes it over: notes over a Unix socket, and with one of
//! them the connection's descriptor.
//!
//! A note is its length in four bytes, little-endian, and JSON. Nothing here waits longer than it is told to.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::floor::Time;
use crate::path;

/// The number of this form of notes. To be raised when an older process could misunderstand a newer one.
pub(super) const FORM: u32 = 1;

/// The longest note: 4,096 chains of numbers take some 400 KiB.
const NOTE_MAX: usize = 4 << 20;

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Note {
    /// The successor's first words.
    Hello {
        /// Its [`FORM`].
        form: u32,
        /// The version of its program.
        version: String,
        /// What it wants to take over: the URL's authority, path and query.
        feed: String,
    },
    /// The connection, with its descriptor.
    Estate(Box<Estate>),
    /// The successor has understood all of it, and has not touched the connection.
    Ready,
    /// It is the successor's from now on.
    Yours,
    /// It stays where it is.
    Refused(String),
}

/// A connection, as it is left.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Estate {
    pub(super) path: path::Estate,
    /// When it was made, in nanoseconds of this machine's `CLOCK_MONOTONIC`.
    born_ns: u64,
}

impl Estate {
    pub(super) fn new(path: path::Estate, born: Time) -> Self {
        Self { path, born_ns: born.as_nanos() }
    }

    pub(super) fn born(&self) -> Time {
        Time::from_nanos(self.born_ns)
    }
}

/// One end of the line.
#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    /// The process at the other end, as the kernel knows it.
    pub(super) peer: i32,
}

impl Line {
    /// # Errors
    ///
    /// Where the process at the other end is neither root's nor of our own user.
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            let text = format!("process {} of user {} is not trusted with keys", peer.pid, peer.uid.as_raw());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Self { stream, peer: peer.pid.as_raw_pid() })
    }

    /// Says something.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or that the other end does not listen.
    pub(super) fn say(&self, note: &Note, descriptor: Option<BorrowedFd<'_>>, within: Duration) -> io::Result<()> {
        // Room from the start: what a vector leaves behind when it grows is not wiped.
        let mut bytes = Zeroizing::new(Vec::with_capacity(NOTE_MAX));
        bytes.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *bytes, note)?;
        let len = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&len.to_le_bytes());

        let deadline = Instant::now() + within;
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        let (mut rest, mut first) = (&bytes[..], true);
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if first && !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&descriptors));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.stream, &[IoSlice::new(rest)], &mut control, flags) {
                Ok(n) => {
                    rest = &rest[n..];
                    first = false;
                }
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::OUT, deadline)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Hears something.
    ///
    /// # Errors
    ///
    /// What the kernel answered, that nothing came in time, or that it makes no sense.
    pub(super) fn hear(&self, within: Duration) -> io::Result<(Note, Option<OwnedFd>)> {
        let deadline = Instant::now() + within;
        let mut descriptor = None;
        let mut head = [0; 4];
        self.fill(&mut head, &mut descriptor, deadline)?;
        let len = u32::from_le_bytes(head) as usize;
        if len > NOTE_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a note of {len} bytes")));
        }
        let mut bytes = Zeroizing::new(vec![0; len]);
        self.fill(&mut bytes, &mut descriptor, deadline)?;
        let note = serde_json::from_slice(&bytes).map_err(|error| {
            // What it quotes of the text must not get into a log.
            io::Error::new(io::ErrorKind::InvalidData, format!("a note that makes no sense ({:?})", error.classify()))
        })?;
        bytes.zeroize();
        Ok((note, descriptor))
    }

    fn fill(&self, mut into: &mut [u8], descriptor: &mut Option<OwnedFd>, deadline: Instant) -> io::Result<()> {
        while !into.is_empty() {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            match recvmsg(&self.stream, &mut [IoSliceMut::new(into)], &mut control, flags) {
                Ok(message) => {
                    for received in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(mut descriptors) = received {
                            *descriptor = descriptors.next();
                        }
                    }
                    if message.bytes == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other process has hung up"));
                    }
                    into = &mut into[message.bytes..];
                }
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::IN, deadline)?,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, interest: PollFlags, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the other process does not answer"));
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&self.stream, interest)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    fn pair() -> (Line, Line) {
        let (a, b) = UnixStream::pair().unwrap();
        (Line::new(a).unwrap(), Line::new(b).unwrap())
    }

    #[test]
    fn a_note_arrives_with_its_descriptor() {
        let (a, b) = pair();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        a.say(&Note::Refused("no".to_owned()), Some(theirs.as_fd()), SOON).unwrap();
        drop(theirs);
        let (note, descriptor) = b.hear(SOON).unwrap();
        assert!(matches!(note, Note::Refused(reason) if reason == "no"));
        UnixStream::from(descriptor.unwrap()).write_all(b"x").unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        assert_eq!((a.peer, byte), (i32::try_from(std::process::id()).unwrap(), *b"x"));
    }

    #[test]
    fn a_note_longer_than_a_socket_holds_arrives_whole() {
        let (a, b) = pair();
        let text = "x".repeat(3 << 20);
        let long = Note::Refused(text.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| a.say(&long, None, Duration::from_secs(5)).unwrap());
            let (note, _) = b.hear(Duration::from_secs(5)).unwrap();
            assert!(matches!(note, Note::Refused(heard) if heard == text));
        });
    }

    #[test]
    fn silence_nonsense_and_the_end_are_errors() {
        let (a, b) = pair();
        assert_eq!(b.hear(SOON).unwrap_err().kind(), io::ErrorKind::TimedOut);
        (&a.stream).write_all(&[3, 0, 0, 0, b'{', b'}', b'}']).unwrap();
        assert_eq!(b.hear(SOON).unwrap_err().kind(), io::ErrorKind::InvalidData);
        (&a.stream).write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(b.hear(SOON).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop(a);
        assert_eq!(b.hear(SOON).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
