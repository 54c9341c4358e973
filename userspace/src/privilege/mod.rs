//! Privileges: taken at the start, and given up for good as soon as nothing needs them any more.
//!
//! A process that parses what strangers send should be able to do little else. It gives up what it can in two steps:
//!
//! 1. [`Privileges::confine`], once there is a connection, before the peer has said anything on it, and while the process has
//!    one thread: every capability goes but those of [`Capabilities::BYPASS`] (and those of `--rt`), nothing that is executed
//!    can bring one back, no core dump is written, and the process changes to another user where one was named.
//! 2. [`Confined::seal`], once the feed needs nothing more from the kernel
//!    ([`Feed::needs_privilege`](crate::feed::Feed::needs_privilege)): all capabilities go but those that [`Keep`] names, in
//!    every thread, and from then on each system call that is not in [`calls::ALLOWED`] ends the process.
//!
//! ```no_run
//! use wiretick::privilege::{Keep, Privileges};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut feed = wiretick::feed::Feed::builder("wss://stream.binance.com:9443/ws/btcusdt@trade").connect()?;
//! let confined = Privileges::new(Keep::Demote).user("nobody")?.confine()?;
//! // ... turns, until !feed.needs_privilege() ...
//! confined.seal()?;
//! # Ok(())
//! # }
//! ```
//!
//! Nothing here is done unasked: who embeds the library in a process that does other things too calls none of it, or the first
//! step alone. In the kernel, capabilities are a thread's, and a thread begins with those of the one that made it. Threads of
//! this library [`renounce`] theirs at birth; [`Confined::seal`] looks at every thread there is, and refuses to say that
//! something is gone which is not.
//!
//! Why there is no helper process that keeps the capability for demotion, see docs/SECURITY.md.

pub mod calls;
mod capabilities;
mod user;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub use capabilities::Capabilities;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use rustix::thread::set_no_new_privs;

use self::calls::{Filters, Needs};
use self::user::User;

/// How long a thread that was just made may take to give up what it was born with, and one that has been joined to be gone.
const PATIENCE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(1);

/// Whether [`Confined::seal`] has been done.
static SEALED: AtomicBool = AtomicBool::new(false);

/// What a process keeps for the rest of its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What it takes to bring a connection home to the kernel when its ring fails, and back: [`Capabilities::BYPASS`].
    Demote,
    /// Nothing at all. A connection cannot leave its ring any more: where the ring fails, the feed ends with an error.
    Nothing,
}

/// What is to be given up.
#[derive(Debug)]
pub struct Privileges {
    keep: Keep,
    user: Option<User>,
    real_time: bool,
    needs_bypass: bool,
    needs: Needs,
}

/// A process that holds no more than it takes to bring a connection to its ring.
#[derive(Debug)]
#[must_use = "what is held until now is kept until it is sealed"]
pub struct Confined {
    keep: Keep,
    filters: Filters,
    rest: Capabilities,
}

/// What could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such user, or it cannot be had.
    #[error("user {name}: {reason}")]
    User {
        /// As it was given.
        name: String,
        /// Why not.
        reason: String,
    },
    /// Threads have capabilities of their own.
    #[error("there are {threads} threads already: privileges are to be given up before there is a second one")]
    Threads {
        /// How many.
        threads: usize,
    },
    /// A thread still has what all others have given up.
    #[error("thread {name} still holds {held}: each thread has to give up its own (wiretick::privilege::renounce)")]
    Thread {
        /// The thread's name.
        name: String,
        /// What it holds.
        held: Capabilities,
    },
    /// Memory that is locked later would be refused.
    #[error(
        "locked memory is limited (ulimit -l), and all later memory is to be locked (--rt): set LimitMEMLOCK=infinity, or \
         keep CAP_IPC_LOCK with --privileges demote"
    )]
    LockedMemory,
    /// The filter of system calls.
    #[error("the filter of system calls: {0}; the kernel needs CONFIG_SECCOMP_FILTER")]
    Filter(#[from] seccompiler::Error),
    /// A step that does not fail on a healthy machine.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl Privileges {
    /// To be given up: everything but `keep`.
    #[must_use]
    pub const fn new(keep: Keep) -> Self {
        Self { keep, user: None, real_time: false, needs_bypass: true, needs: Needs::NONE }
    }

    /// Changes to this user, its group and its supplementary groups as well. By name, or by number.
    ///
    /// # Errors
    ///
    /// [`Error::User`] where there is none such.
    pub fn user(mut self, name: &str) -> Result<Self, Error> {
        self.user = Some(User::find(name)?);
        Ok(self)
    }

    /// Whether threads will ask for a real-time priority, and all memory is locked. Default: no.
    #[must_use]
    pub const fn real_time(mut self, real_time: bool) -> Self {
        self.real_time = real_time;
        self
    }

    /// Whether a ring is to be opened at all. Default: yes. Without one, no capability outlives the first step.
    #[must_use]
    pub const fn bypass(mut self, needs_bypass: bool) -> Self {
        self.needs_bypass = needs_bypass;
        self
    }

    /// Whether connections will be made anew: names are asked for, and sockets made. Default: no. With [`Keep::Nothing`], such a
    /// connection then stays in the kernel, because nothing is left that could bring it to a ring.
    #[must_use]
    pub const fn reconnect(mut self, reconnects: bool) -> Self {
        self.needs.dials = reconnects;
        self
    }

    /// Whether the connection is offered to a successor. Default: no.
    #[must_use]
    pub const fn succession(mut self, offered: bool) -> Self {
        self.needs.succession = offered;
        self
    }

    /// The first step: everything goes but what bringing a connection to its ring needs. What the process does not have it does not miss.
    ///
    /// # Errors
    ///
    /// [`Error::Threads`] where the calling thread is not the only one; [`Error::User`] where the user cannot be changed to
    /// (`CAP_SETUID`, `CAP_SETGID`); and what the kernel refused.
    pub fn confine(self) -> Result<Confined, Error> {
        // One that has been joined can still be among the threads: the kernel wakes whoever waits for it (`mm_release` in
        // kernel/fork.c) before it takes it off the list (`release_task` in kernel/exit.c).
        let beside_us = || Ok(Some(capabilities::threads()?.len()).filter(|threads| *threads != 1));
        if let Some(threads) = in_the_way(beside_us)? {
            return Err(Error::Threads { threads });
        }
        let filters = Filters::compile(self.keep, self.needs)?;
        set_no_new_privs(true).map_err(failed("forbidding new privileges"))?;

        // Memory is accounted to the user. Whoever may lift the limit has no need of the capability that ignores it.
        let free = lift_memory_limit();
        if self.real_time && !free && self.keep == Keep::Nothing {
            return Err(Error::LockedMemory);
        }
        let mut rest = Capabilities::NONE;
        if self.needs_bypass {
            rest = rest | Capabilities::BYPASS;
        }
        if !free && (self.needs_bypass || self.real_time) {
            rest = rest | Capabilities::IPC_LOCK;
        }
        let mut start = rest;
        if self.real_time {
            start = start | Capabilities::SYS_NICE;
        }
        capabilities::empty_bounding_and_ambient()?;
        if let Some(user) = &self.user {
            user.change_to()?;
        }
        capabilities::reduce_to(start)?;
        // Changing the user sets it anew. Memory holds keys, and what others may read (ptrace, /proc) goes with it.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(failed("forbidding core dumps"))?;
        let rest = if self.keep == Keep::Demote { rest } else { Capabilities::NONE };
        Ok(Confined { keep: self.keep, filters, rest })
    }
}

impl Confined {
    /// What the process will keep.
    #[must_use]
    pub const fn keep(&self) -> Keep {
        self.keep
    }

    /// The second step: the last capabilities go, in every thread, and system calls that are not needed end the process.
    /// There is no way back.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] where another thread does not give up what it holds; [`Error::Filter`].
    pub fn seal(self) -> Result<(), Error> {
        capabilities::reduce_to(self.rest)?;
        let holding = || Ok(capabilities::threads()?.into_iter().find(|(_, held)| !held.is_within(self.rest)));
        if let Some((name, held)) = in_the_way(holding)? {
            return Err(Error::Thread { name, held });
        }
        // First said, then done: nobody may begin something in between that is forbidden a moment later.
        SEALED.store(true, Ordering::SeqCst);
        if let Err(error) = self.filters.apply() {
            SEALED.store(false, Ordering::SeqCst);
            return Err(error.into());
        }
        Ok(())
    }
}

/// Waits until `look` finds nothing any more; what it still finds when patience has an end.
fn in_the_way<T>(look: impl Fn() -> Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    let began = Instant::now();
    loop {
        match look()? {
            Some(_) if began.elapsed() <= PATIENCE => thread::sleep(POLL),
            found => return Ok(found),
        }
    }
}

/// Whether system calls are restricted in this process: then files can be neither made nor deleted, and the attempt is the end.
#[must_use]
pub fn is_sealed() -> bool {
    SEALED.load(Ordering::SeqCst)
}

/// The calling thread gives up all of its own capabilities, for good. It need not have any.
///
/// # Errors
///
/// What the kernel answered.
pub fn renounce() -> Result<(), Error> {
    capabilities::reduce_to(Capabilities::NONE)
}

/// Those of `wanted` that the calling thread does not have. A kernel that cannot be asked misses none.
#[must_use]
pub fn missing(wanted: Capabilities) -> Capabilities {
    capabilities::effective().map_or(Capabilities::NONE, |held| wanted.without(held))
}

/// Whether memory may be locked without end from now on.
fn lift_memory_limit() -> bool {
    let endless = Rlimit { current: None, maximum: None };
    getrlimit(Resource::Memlock).current.is_none() || setrlimit(Resource::Memlock, endless).is_ok()
}

fn failed(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
    move |errno| Error::System { what, source: errno.into() }
}
