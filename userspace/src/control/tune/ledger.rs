//! What was changed, written down: so that it is put back whatever becomes of the process that changed it.
//!
//! For each interface of each network namespace there are three files in [`FOLDER`]: the changes that are in force, a lock that every process
//! holds (shared) for as long as it uses them, and a lock that is held (exclusively) for the moments in which anything is read or written.
//! The kernel releases a lock when its process dies, however it dies. So whoever finds changes that nobody uses knows that they were
//! abandoned, and puts back what was there; and of several processes that tune one interface, the last one does.
//!
//! A change is written down before it is made. What is put back is looked at first: only a setting that still is what it was made
//! is changed back. The folder is on a file system that is empty after a start of the machine, as the settings are.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Change, Plan, Step, Wishes, apply};
use crate::control::Error;
use crate::control::link::{self, Link};
use crate::control::nic::Nic;

/// Where it is written down.
const FOLDER: &str = "/run/wiretick";

/// How long another process may take for what it does under the lock: changing queues and waiting for the link.
const LOCK: Duration = Duration::from_secs(30);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// How long to try to put something back. The program may be on the interface for a moment longer, and as long as it is, drivers refuse
/// what excludes XDP. The kernel takes it off in deferred work: tens of milliseconds.
const UNDO: Duration = Duration::from_secs(5);
const UNDO_POLL: Duration = Duration::from_millis(50);

/// How long the link may be down after something was changed: some drivers negotiate anew.
const CARRIER: Duration = Duration::from_secs(10);

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is made.
    Made(Step),
    /// It could not be made, which the text explains.
    Refused(Step, String),
    /// It was there: another process that is alive has made it.
    Shared(Step),
    /// It is undone.
    Undone(Change),
    /// It is left as it is: somebody else has set it to this figure meanwhile.
    LeftAlone(Change, u64),
    /// It could not be undone.
    Stuck(Change, String),
}

/// An interface with changed settings. Dropping it puts them back, unless others still use them.
#[derive(Debug)]
pub struct Tuning {
    link: Link,
    files: Files,
    /// Held, shared, for as long as this lives.
    user: File,
    /// What became of each change.
    pub outcomes: Vec<Outcome>,
    done: bool,
}

/// What is written down.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The interface's address: another interface can get its number.
    mac: Option<[u8; 6]>,
    /// The changes, in the order in which they were made.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Files {
    /// The changes.
    entry: PathBuf,
    /// Locked by each user.
    users: PathBuf,
    /// Locked while anything is read or written.
    mutex: PathBuf,
}

impl Files {
    fn of(folder: &Path, index: u32) -> io::Result<Self> {
        let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
        let file = |kind: &str| folder.join(format!("tune-{namespace}-{index}.{kind}"));
        Ok(Self { entry: file("json"), users: file("users"), mutex: file("lock") })
    }

    /// What is written down; nothing where there is none.
    fn read(&self) -> io::Result<Entry> {
        match fs::read(&self.entry) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", self.entry.display()))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Entry::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces what is written down, all of it or nothing.
    fn write(&self, entry: &Entry) -> io::Result<()> {
        let new = self.entry.with_extension("new");
        let mut file = open(&new, true)?;
        file.write_all(&serde_json::to_vec_pretty(entry)?)?;
        file.sync_all()?;
        fs::rename(new, &self.entry)
    }

    fn forget(&self) -> io::Result<()> {
        match fs::remove_file(&self.entry) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the files away, once there is nothing to remember. The mutex must be held, and nobody may use the interface.
    fn clean(&self) -> io::Result<()> {
        self.forget()?;
        fs::remove_file(&self.users)?;
        fs::remove_file(&self.mutex)
    }

    /// Waits for the others to be done.
    fn lock(&self) -> io::Result<File> {
        let began = Instant::now();
        loop {
            let file = open(&self.mutex, false)?;
            match file.try_lock() {
                // One that was taken away meanwhile keeps nobody out.
                Ok(()) if fs::metadata(&self.mutex).is_ok_and(|now| Some(now.ino()) == inode(&file)) => {
                    return Ok(file);
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if began.elapsed() < LOCK => thread::sleep(LOCK_POLL),
                Err(TryLockError::WouldBlock) => {
                    let text = format!("{} is locked by another process", self.mutex.display());
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

fn inode(file: &File) -> Option<u64> {
    file.metadata().ok().map(|metadata| metadata.ino())
}

fn open(path: &Path, truncate: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(truncate).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// The folder, made where it is not there. Whoever may write in it decides what is put back, so it must be our own.
fn folder(path: &Path) -> io::Result<&Path> {
    match DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let own = found.uid() == rustix::process::geteuid().as_raw() || found.uid() == 0;
    if !found.is_dir() || !own || found.mode() & 0o022 != 0 {
        let text = format!("{} is not a folder that only we can write in", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(path)
}

impl Tuning {
    /// Undoes what was abandoned on the interface, then makes the changes that it wants for what is wished for, on a machine with so many CPUs.
    /// [`Tuning::outcomes`] tells what became of each; a change that is refused is no error.
    ///
    /// # Errors
    ///
    /// [`Error::Interface`] where nothing can be written down (then nothing is changed), or where the link does not come back; and that the kernel could not be
    /// asked.
    pub fn hold(link: &Link, wishes: &Wishes, cpus: u32) -> Result<Self, Error> {
        Self::hold_in(Path::new(FOLDER), link, |nic| Plan::new(nic, wishes, cpus).steps)
    }

    fn hold_in(at: &Path, link: &Link, plan: impl FnOnce(&Nic) -> Vec<Step>) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Interface {
            interface: link.name.clone(),
            reason: format!(
                "what is changed has to be written down in {} first, and that failed: {source}; run as root, or: install -d -m 755 -o USER {}",
                at.display(),
                at.display()
            ),
        };
        let files = folder(at).and_then(|at| Files::of(at, link.index)).map_err(failed)?;
        let _mutex = files.lock().map_err(failed)?;
        let user = open(&files.users, false).map_err(failed)?;
        let mut entry = files.read().map_err(failed)?;
        let mut outcomes = Vec::new();
        // Alone: whatever is written down has been abandoned.
        if user.try_lock().is_ok() {
            outcomes.extend(undo(link, &entry));
            entry = Entry { mac: link.mac, changes: Vec::new() };
            files.write(&entry).map_err(failed)?;
        }
        // Nobody can come in between: that would take the mutex.
        user.unlock().and_then(|()| user.lock_shared()).map_err(failed)?;
        let nic = Nic::read(link)?;
        let mut tuning = Self { link: link.clone(), files: files.clone(), user, outcomes, done: false };
        for step in plan(&nic) {
            let outcome = tuning.make(step, &mut entry).map_err(failed)?;
            tuning.outcomes.push(outcome);
        }
        await_carrier(link)?;
        // What was planned in ignorance of the others: theirs is in force already, so it was no change.
        for change in entry.changes {
            let told =
                |outcome: &Outcome| matches!(outcome, Outcome::Made(step) if step.change.setting == change.setting);
            if !tuning.outcomes.iter().any(told) {
                let step = Step { change, reason: "made by another process".to_owned(), needed: false };
                tuning.outcomes.push(Outcome::Shared(step));
            }
        }
        Ok(tuning)
    }

    /// Writes a change down, makes it, and reads it back.
    fn make(&self, step: Step, entry: &mut Entry) -> io::Result<Outcome> {
        let Self { link, files, .. } = self;
        let change = &step.change;
        let before = entry.changes.clone();
        match entry.changes.iter_mut().find(|made| made.setting == change.setting) {
            // What was there before the others remains what is put back.
            Some(made) => made.to = change.to,
            None => entry.changes.push(change.clone()),
        }
        files.write(entry)?;
        let made =
            apply::set(&link.name, link.index, &change.setting, change.to).and_then(|()| match current(link, change) {
                Some(now) if now == change.to => Ok(()),
                Some(now) => Err(io::Error::other(format!("the driver took it and made {now} of it"))),
                None => Err(io::Error::other("it cannot be read back")),
            });
        let Err(error) = made else { return Ok(Outcome::Made(step)) };
        // A figure that the driver has rounded is put back by its own value.
        match current(link, change) {
            Some(now) if now != change.from => {
                if let Some(made) = entry.changes.iter_mut().find(|made| made.setting == change.setting) {
                    made.to = now;
                }
            }
            _ => entry.changes = before,
        }
        files.write(entry)?;
        Ok(Outcome::Refused(step, error.to_string()))
    }

    /// Puts everything back, unless others still use it, and tells what became of it.
    ///
    /// # Errors
    ///
    /// As [`Tuning::hold`].
    pub fn undo(mut self) -> Result<Vec<Outcome>, Error> {
        self.put_back()
    }

    fn put_back(&mut self) -> Result<Vec<Outcome>, Error> {
        self.done = true;
        let Self { link, files, user, .. } = self;
        let failed = |source: io::Error| Error::Interface {
            interface: link.name.clone(),
            reason: format!("undoing changes: {source}"),
        };
        let _mutex = files.lock().map_err(failed)?;
        user.unlock().map_err(failed)?;
        match user.try_lock() {
            Ok(()) => undo_files(link, files).map_err(failed),
            Err(TryLockError::WouldBlock) => Ok(Vec::new()),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = self.put_back()
        {
            log::error!("{error}");
        }
    }
}

/// Undoes what killed processes have left on interfaces of this network namespace. Nothing is done about what is in use.
///
/// # Errors
///
/// Where the folder can be read and something in it cannot be dealt with: who has nothing to undo gets no error.
pub fn undo_abandoned() -> Result<Vec<(String, Vec<Outcome>)>, Error> {
    undo_abandoned_in(Path::new(FOLDER))
}

fn undo_abandoned_in(at: &Path) -> Result<Vec<(String, Vec<Outcome>)>, Error> {
    let failed = |source: io::Error| Error::Interface {
        interface: at.display().to_string(),
        reason: format!("what was left there cannot be undone: {source}; run as root: wiretick tune --undo"),
    };
    let mut found = Vec::new();
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_err(failed)?.ino();
    for entry in fs::read_dir(at).into_iter().flatten().filter_map(Result::ok) {
        let index = entry.file_name().to_str().and_then(|name| {
            let (of, index) = name.strip_prefix("tune-")?.strip_suffix(".json")?.split_once('-')?;
            (of.parse() == Ok(namespace)).then(|| index.parse().ok())?
        });
        let Some(index) = index else { continue };
        folder(at).map_err(failed)?;
        let files = Files::of(at, index).map_err(failed)?;
        let _mutex = files.lock().map_err(failed)?;
        let users = open(&files.users, false).map_err(failed)?;
        if users.try_lock().is_err() {
            continue;
        }
        match link::by_index(index) {
            Ok(link) => found.push((link.name.clone(), undo_files(&link, &files).map_err(failed)?)),
            // Its settings went with it.
            Err(Error::NoInterface { .. }) => files.clean().map_err(failed)?,
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Undoes what is written down, and forgets it; what could not be undone stays written down.
fn undo_files(link: &Link, files: &Files) -> io::Result<Vec<Outcome>> {
    let entry = files.read()?;
    let outcomes = undo(link, &entry);
    let stuck = |outcome: &Outcome| match outcome {
        Outcome::Stuck(change, _) => Some(change.clone()),
        _ => None,
    };
    let changes: Vec<_> = outcomes.iter().rev().filter_map(stuck).collect();
    if changes.is_empty() {
        files.clean()?;
    } else {
        files.write(&Entry { changes, ..entry })?;
    }
    Ok(outcomes)
}

/// Puts settings back, last first.
fn undo(link: &Link, entry: &Entry) -> Vec<Outcome> {
    if entry.mac != link.mac && !entry.changes.is_empty() {
        log::warn!("{}: changes that were noted for another interface of that number are forgotten", link.name);
        return Vec::new();
    }
    entry.changes.iter().rev().map(|change| undo_one(link, change)).collect()
}

fn undo_one(link: &Link, change: &Change) -> Outcome {
    let began = Instant::now();
    loop {
        match current(link, change) {
            None => return Outcome::Stuck(change.clone(), "it cannot be read".to_owned()),
            // It was written down and never made, or is back already.
            Some(now) if now == change.from => return Outcome::Undone(change.clone()),
            Some(now) if now != change.to => return Outcome::LeftAlone(change.clone(), now),
            Some(_) => {}
        }
        let refused = match apply::set(&link.name, link.index, &change.setting, change.from) {
            Ok(()) if current(link, change) == Some(change.from) => return Outcome::Undone(change.clone()),
            Ok(()) => "the driver does not take it back".to_owned(),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > UNDO {
            return Outcome::Stuck(change.clone(), refused);
        }
        thread::sleep(UNDO_POLL);
    }
}

/// Waits until the link is up again, where it was up before.
fn await_carrier(link: &Link) -> Result<(), Error> {
    let began = Instant::now();
    while link.carrier && !link::by_index(link.index)?.carrier {
        if began.elapsed() > CARRIER {
            return Err(Error::Interface {
                interface: link.name.clone(),
                reason: format!("no carrier {} s after its settings were changed; see: ip link", CARRIER.as_secs()),
            });
        }
        thread::sleep(LOCK_POLL);
    }
    Ok(())
}

/// What a setting is now.
fn current(link: &Link, change: &Change) -> Option<u64> {
    // Its name and MTU may have changed since.
    let link = link::by_index(link.index).ok()?;
    change.setting.of(&Nic::read(&link).ok()?)
}

#[cfg(test)]
mod tests;
