//! The thread that waits for a successor, so that the lane does not have to: whoever calls has said what it wants, and is
//! trusted, before the lane hears of it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::{FORM, Line, Note};
use crate::floor::background;
use crate::privilege;

/// How long a caller may take to say what it wants.
const HELLO: Duration = Duration::from_secs(1);
/// How often to look whether there is still anything to offer.
const EVERY_MS: i64 = 100;

#[derive(Debug, Default)]
struct Shared {
    called: AtomicBool,
    caller: Mutex<Option<Line>>,
    over: AtomicBool,
}

/// A place where nobody listens yet: who calls waits. A process has to be of one thread where it gives up its privileges.
#[derive(Debug)]
pub(super) struct Place {
    listener: UnixListener,
    feed: String,
}

impl Place {
    /// Takes the place at `path`, for who wants to take `feed` over. A socket that a process has left there is replaced; so is
    /// that of the process we have just succeeded, where `succeeded` says so.
    ///
    /// # Errors
    ///
    /// What the kernel answered, or that somebody else listens there.
    pub(super) fn take(path: &Path, feed: String, succeeded: bool) -> io::Result<Self> {
        Ok(Self { listener: listen(path, succeeded)?, feed })
    }
}

/// Waits for a successor at a socket.
#[derive(Debug)]
pub(super) struct Herald {
    shared: Arc<Shared>,
}

impl Herald {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// Where there can be no thread.
    pub(super) fn post(place: Place) -> io::Result<Self> {
        let Place { listener, feed } = place;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        background("succession", move || {
            if let Err(error) = privilege::renounce() {
                log::warn!("the succession thread keeps capabilities that it has no use for: {error}");
            }
            while !seen.over.load(Ordering::Relaxed) {
                if let Some(stream) = accept(&listener) {
                    match admit(stream, &feed) {
                        Ok(line) => {
                            log::info!("process {} wants to take the connection over", line.peer);
                            *seen.caller.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
                            seen.called.store(true, Ordering::Release);
                        }
                        Err(error) => log::warn!("nobody takes the connection over: {error}"),
                    }
                }
            }
        })?;
        Ok(Self { shared })
    }

    /// Whether somebody has called.
    #[inline]
    pub(super) fn is_called(&self) -> bool {
        self.shared.called.load(Ordering::Relaxed)
    }

    /// Who has called last, once.
    pub(super) fn take_caller(&self) -> Option<Line> {
        self.shared.called.store(false, Ordering::Relaxed);
        self.shared.caller.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn listen(path: &Path, succeeded: bool) -> io::Result<UnixListener> {
    if succeeded {
        let _ = fs::remove_file(path);
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
            }
            // Its owner is gone, and was not allowed to take it away.
            fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        other => other?,
    };
    // Who calls is asked for by the kernel as well; this only keeps others from taking our time.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn accept(listener: &UnixListener) -> Option<UnixStream> {
    let timeout = Timespec { tv_sec: 0, tv_nsec: EVERY_MS * 1_000_000 };
    match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&timeout)) {
        Ok(n) if n > 0 => listener.accept().ok().map(|(stream, _)| stream),
        _ => None,
    }
}

/// Hears what a caller wants; tells it where that is not to be had.
fn admit(stream: UnixStream, feed: &str) -> io::Result<Line> {
    let line = Line::new(stream)?;
    let refused = match line.hear(HELLO)?.0 {
        Note::Hello { form, version, .. } if form != FORM => {
            format!("wiretick {version} hands connections over in form {form}, and this process in form {FORM}")
        }
        Note::Hello { feed: wanted, .. } if wanted != feed => {
            format!("this process serves {feed}, and not {wanted}")
        }
        Note::Hello { .. } => return Ok(line),
        _ => "that is no way to begin".to_owned(),
    };
    line.say(&Note::Refused(refused.clone()), None, HELLO)?;
    Err(io::Error::other(refused))
}
