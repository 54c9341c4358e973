//! Leases: what is written down about flow rules, so that a crash leaves none behind for long.
//!
//! A rule in a NIC outlives the process that inserted it. So each is written into a file in [`FOLDER`] before it is inserted, with
//! the interface, the place and the owner, and struck out when it has been withdrawn. The next start reads the files
//! ([`sweep()`]): where the owner is dead, its rules are withdrawn, if they are still the very same. A rule that is not written there,
//! or that has changed, is somebody else's and is not touched.
//!
//! A file belongs to one [`Leases`] and is only ever appended to:
//!
//! ```text
//! wiretick leases 1
//! owner 4711 90210                     the process, and when it began (field 22 of /proc/PID/stat)
//! rule 0 netns 4026531840 index 2 name eth0 queue 3 vlan - local 192.0.2.1:40000 remote 198.51.100.7:443
//! at 0 5                               rule 0 was inserted, at place 5
//! gone 0                               it has been withdrawn
//! ```
//!
//! Its owner keeps a lock on it (`flock`), which the kernel lets go when the process ends, whatever way. An owner is dead where the
//! lock is free **and** there is no such process: the lock alone holds across containers, which see each other's files and not each
//! other's processes. Another lock, on the folder's file `lock`, is held by whoever sweeps or inserts: two processes must not choose
//! the same place in a NIC, because drivers overwrite what is there.
//!
//! Files are opened before privileges are given up, and are only written to afterwards (no other file can be, then).

mod sweep;
#[cfg(test)]
mod tests;
mod written;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

pub use self::sweep::sweep;

use self::sweep::began;
use self::written::{HEADER, rule_line, rules_of};
use super::rule::{self, FlowRule, RuleError, RuleStore, Withdrawn};
use crate::privilege::{self, Capabilities};

/// Where the files are. It is emptied when the machine starts, as the NIC is.
pub const FOLDER: &str = "/run/wiretick";
const ENDING: &str = "lease";
/// How long to wait for another process that sweeps or inserts: some drivers take 100 ms and more for a rule.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(5);

/// Where a rule is: an interface of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The inode of the namespace.
    pub netns: u64,
    /// The interface's index in it.
    pub index: u32,
    /// The interface's name. It can change; the index does not.
    pub name: String,
}

impl Site {
    /// This interface of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// Where /proc is not there.
    pub fn here(index: u32, name: &str) -> io::Result<Self> {
        Ok(Self { netns: own_netns()?, index, name: name.to_owned() })
    }
}

fn own_netns() -> io::Result<u64> {
    fs::metadata("/proc/thread-self/ns/net").map(|namespace| namespace.ino())
}

/// The rules of one feed, and the file they are written in.
#[derive(Clone, Debug)]
pub struct Leases {
    book: Arc<Mutex<Book>>,
}

#[derive(Debug)]
struct Book {
    folder: PathBuf,
    state: State,
    rules: u64,
}

#[derive(Debug)]
enum State {
    /// No rule has been inserted yet.
    Unopened,
    Open {
        file: File,
        path: PathBuf,
        lock: File,
    },
    /// There is no place to write; said once.
    Without,
}

impl Leases {
    /// Leases that are written into this folder. Nothing is opened before there is a rule.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        let book = Book { folder: folder.to_owned(), state: State::Unopened, rules: 0 };
        Self { book: Arc::new(Mutex::new(book)) }
    }

    /// Inserts a rule and writes it down. Where nothing can be written, that is said, and the rule inserted all the same.
    ///
    /// # Errors
    ///
    /// [`RuleError`]; nothing is left behind then.
    pub fn insert(&self, store: Box<dyn RuleStore>, site: Site, rule: &FlowRule) -> Result<Rule, RuleError> {
        let mut book = self.book();
        book.open();
        let _lock = book.lock();
        let id = book.rules;
        book.rules += 1;
        book.note(&rule_line(id, &site, rule));
        match rule::place(&*store, rule) {
            Ok((location, rule)) => {
                book.note(&format!("at {id} {location}"));
                drop(book);
                Ok(Rule { leases: self.clone(), store, site, rule, location, id })
            }
            Err(error) => {
                book.note(&format!("gone {id}"));
                Err(error)
            }
        }
    }

    fn withdrawn(&self, id: u64) {
        self.book().note(&format!("gone {id}"));
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Opens the file, once.
    fn open(&mut self) {
        if !matches!(self.state, State::Unopened) {
            return;
        }
        let opened = match privilege::is_sealed() {
            true => Err(io::Error::other("no file can be made any more")),
            false => open(&self.folder),
        };
        self.state = match opened {
            Ok((file, path, lock)) => State::Open { file, path, lock },
            Err(error) => {
                log::warn!(
                    "flow rules cannot be written down in {} ({error}): should this process be killed, its rules stay in the NIC \
                     until they are deleted (ethtool -n IF; ethtool -N IF delete N)",
                    self.folder.display()
                );
                State::Without
            }
        };
    }

    /// Keeps other processes from choosing places for rules. Threads of this one are kept by the book itself.
    fn lock(&self) -> Option<Locked> {
        let State::Open { lock, .. } = &self.state else { return None };
        let lock = lock.try_clone().ok()?;
        locked(lock, &self.folder)
    }

    /// One line, in one write: a line without an end is none.
    fn note(&mut self, line: &str) {
        if let State::Open { file, path, .. } = &mut self.state
            && let Err(error) = file.write_all(format!("{line}\n").as_bytes())
        {
            log::warn!("{}: {error}: \"{line}\" is not written down", path.display());
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        // A sealed process may not delete files: the next start does it.
        if let State::Open { path, .. } = &self.state
            && !privilege::is_sealed()
            && rules_of(&fs::read_to_string(path).unwrap_or_default()).is_some_and(|written| written.rules.is_empty())
            && let Err(error) = fs::remove_file(path)
        {
            log::debug!("{}: {error}", path.display());
        }
    }
}

/// A lock on the folder.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // The descriptor may be a copy: closing it would not do.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn locked(file: File, folder: &Path) -> Option<Locked> {
    let began = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(Locked(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if began.elapsed() < PATIENCE => thread::sleep(PAUSE),
            Err(error) => {
                log::warn!("{}/lock: {error}: not waited for any longer", folder.display());
                return None;
            }
        }
    }
}

/// The file for the rules of this process, its path, and the folder's lock.
fn open(folder: &Path) -> io::Result<(File, PathBuf, File)> {
    match DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => trust(folder)?,
    }
    let lock =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(folder.join("lock"))?;
    let _locked = locked(lock.try_clone()?, folder);
    let pid = process::id();
    for number in 0..1000 {
        let path = folder.join(format!("{pid}-{number}.{ENDING}"));
        let mut file = match OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error),
        };
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let began = began(pid).ok_or(io::ErrorKind::NotFound)?;
        file.write_all(format!("{HEADER}\nowner {pid} {began}\n").as_bytes())?;
        return Ok((file, path, lock));
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What stands in the files is acted upon, so that only root and this user may write there.
fn trust(folder: &Path) -> io::Result<()> {
    let metadata = fs::metadata(folder)?;
    let owner = metadata.uid();
    if !metadata.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if owner != 0 && owner != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write there: it must belong to root, or to this user, with mode 755"));
    }
    Ok(())
}

/// A rule in the NIC. Dropping it withdraws it; where that is not possible any more (privileges have been given up), it says so and
/// leaves it to the next start.
#[derive(Debug)]
pub struct Rule {
    leases: Leases,
    store: Box<dyn RuleStore>,
    site: Site,
    rule: FlowRule,
    location: u32,
    id: u64,
}

impl Rule {
    /// Its place in the NIC.
    #[must_use]
    pub fn location(&self) -> u32 {
        self.location
    }

    /// The interface it is on.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.site.name
    }

    /// Whether it is still there: resetting a device can lose its rules.
    #[must_use]
    pub fn is_there(&self) -> bool {
        rule::is_at(&*self.store, &self.rule, self.location)
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        let Self { leases, store, site, rule, location, id } = self;
        let name = &site.name;
        // Asked first: where privileges are given up, an attempt can end the process.
        let missing = privilege::missing(Capabilities::NET_ADMIN);
        if !missing.is_empty() {
            log::warn!(
                "{name}: flow rule {location} stays until the next start, or ethtool -N {name} delete {location}: withdrawing it \
                 needs {missing}"
            );
            return;
        }
        match rule::withdraw(&**store, rule, *location) {
            Ok(Withdrawn::Deleted) => log::debug!("{name}: flow rule {location} withdrawn"),
            Ok(Withdrawn::Gone) => log::debug!("{name}: flow rule {location} was gone already"),
            Err(error) => {
                log::warn!(
                    "{name}: flow rule {location} cannot be withdrawn: {error}: ethtool -N {name} delete {location}"
                );
                return;
            }
        }
        leases.withdrawn(*id);
    }
}
