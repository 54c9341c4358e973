//! A network namespace without a name.
//!
//! It lives as long as something holds it: the descriptor in [`Namespace`], a socket, a process. There is no file in
//! `/run/netns` and no entry anywhere else, so nothing is left behind, whether the holder drops it, panics or is killed.
//!
//! What comes in is a closure, a program or an address; it runs, starts or is reached inside. Threads of the caller
//! stay where they are.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::panic;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::thread::CpuSet;

use super::Error;
use crate::sys;

/// A network namespace. Clones hold the same one.
#[derive(Clone, Debug)]
pub struct Namespace {
    /// `/proc/.../ns/net`: the hold on the namespace, and the way in.
    door: Arc<File>,
    inode: u64,
}

impl Namespace {
    /// A new, empty namespace: a loopback interface that is down, and nothing else.
    ///
    /// # Errors
    ///
    /// Without `CAP_SYS_ADMIN`, or on a kernel without `CONFIG_NET_NS`.
    pub fn new() -> Result<Self, Error> {
        // A thread of its own: namespaces belong to threads, and this one ends with the thread.
        let door = thread::scope(|scope| {
            scope
                .spawn(|| {
                    sys::unshare_network()?;
                    File::open(OWN)
                })
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
        .map_err(|source| Error::from_kernel("creating a network namespace", "CONFIG_NET_NS", source))?;
        let inode = inode_of(&door)?;
        Ok(Self { door: Arc::new(door), inode })
    }

    /// The number that `/proc/PID/ns/net` shows for this namespace.
    #[must_use]
    pub const fn inode(&self) -> u64 {
        self.inode
    }

    /// Runs `work` on a thread inside the namespace and hands its result back. The thread has a mount namespace of its
    /// own, in which `/sys` shows this namespace's devices. Threads that `work` starts are inside as well.
    ///
    /// # Errors
    ///
    /// Without `CAP_SYS_ADMIN`.
    ///
    /// # Panics
    ///
    /// With the panic of `work`, where it panics.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        thread::scope(|scope| {
            scope
                .spawn(|| {
                    sys::move_in(self.door.as_fd()).map_err(|source| {
                        Error::from_kernel("entering a network namespace", "CONFIG_NET_NS", source)
                    })?;
                    Ok(work())
                })
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// A command whose child starts inside the namespace, with a private `/sys` that shows the namespace's devices.
    ///
    /// The child is killed when its parent dies. The kernel takes "parent" to be the *thread* that spawned it: spawn
    /// from a thread that lives as long as the child shall, not from within [`enter`](Self::enter).
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command_on(program, None)
    }

    /// As [`command`](Self::command), with the child pinned to one core.
    ///
    /// # Errors
    ///
    /// Where no machine has a core of that number. Where only this one lacks it, `spawn` fails.
    pub fn command_on_core(&self, program: impl AsRef<std::ffi::OsStr>, core: usize) -> io::Result<Command> {
        Ok(self.command_on(program, Some(only(core)?)))
    }

    fn command_on(&self, program: impl AsRef<std::ffi::OsStr>, cores: Option<CpuSet>) -> Command {
        let mut command = Command::new(program);
        sys::start_inside(&mut command, Arc::clone(&self.door), cores);
        command
    }

    /// A TCP connection from inside the namespace. The socket stays inside; the caller's thread does not move.
    ///
    /// # Errors
    ///
    /// Those of [`TcpStream::connect_timeout`], with 5 s, and those of [`enter`](Self::enter).
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(5)))?
    }

    /// A TCP listener inside the namespace. Connections it accepts are inside, whichever thread accepts them.
    ///
    /// # Errors
    ///
    /// Those of [`TcpListener::bind`] and those of [`enter`](Self::enter).
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.enter(|| TcpListener::bind(address))?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.door.as_fd()
    }
}

/// Fails unless the calling thread stands in a namespace other than the machine's: neither that of process 1 nor the
/// one in which this process began. Every change to links, addresses or queues comes after this question.
pub(super) fn assert_not_the_machines() -> Result<(), Error> {
    let inode = |path: &str| fs::metadata(path).map(|it| it.ino());
    let own = inode(OWN).map_err(|source| Error::from_kernel("reading /proc", "CONFIG_NET_NS", source))?;
    // Process 1 cannot be looked at without privilege, and without privilege no change succeeds either.
    let machines = inode("/proc/1/ns/net").ok();
    let processes = inode("/proc/self/ns/net").ok();
    if machines == Some(own) || processes == Some(own) { Err(Error::Machine) } else { Ok(()) }
}

/// Pins the calling thread to one core.
///
/// # Errors
///
/// Where the machine, or the group of cores this process is confined to, has no such core.
pub fn pin(core: usize) -> io::Result<()> {
    Ok(rustix::thread::sched_setaffinity(None, &only(core)?)?)
}

fn only(core: usize) -> io::Result<CpuSet> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("no machine has a core number {core}")));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(cores)
}

/// The link to the namespace the calling thread is in.
const OWN: &str = "/proc/thread-self/ns/net";

fn inode_of(door: &File) -> Result<u64, Error> {
    let found = door.metadata().map_err(|source| Error::from_kernel("reading /proc", "CONFIG_NET_NS", source))?;
    Ok(found.ino())
}

/// Writes a setting under `/proc/sys/net`, which always shows the namespace of the thread that opens it.
pub(super) fn set_sysctl(path: &str, value: &str) -> Result<(), Error> {
    assert_not_the_machines()?;
    let path = Path::new("/proc/sys/net").join(path);
    fs::write(&path, value)
        .map_err(|source| Error::from_kernel(format!("writing {}", path.display()), "CONFIG_SYSCTL", source))
}

/// The same for a setting that not every kernel has; answers whether this one has it.
pub(super) fn set_sysctl_if_there(path: &str, value: &str) -> Result<bool, Error> {
    let is_there = Path::new("/proc/sys/net").join(path).exists();
    if is_there {
        set_sysctl(path, value)?;
    }
    Ok(is_there)
}

#[cfg(test)]
mod tests {
    use super::super::netlink::Netlink;
    use super::super::offload;
    use super::*;

    #[test]
    fn the_machines_own_namespace_is_refused_before_any_change() {
        assert!(matches!(assert_not_the_machines(), Err(Error::Machine)));
        assert!(matches!(Netlink::open().map(|_| ()), Err(Error::Machine)));
        assert!(matches!(offload::switch_off("lo"), Err(Error::Machine)));
        assert!(matches!(set_sysctl("ipv4/ip_forward", "0"), Err(Error::Machine)));
    }

    #[test]
    fn a_core_that_no_machine_has_is_refused() {
        assert!(pin(usize::MAX).is_err());
        assert!(pin(CpuSet::MAX_CPU).is_err());
    }
}
