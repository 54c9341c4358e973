//! Leases: what is written down about flow rules, so that a crash leaves none behind for long.
//!
//! A rule in a NIC outlives the process that inserted it. So each is written into a file in [`FOLDER`] before it is inserted, with
//! the interface, the place and the owner, and struck out when it has been withdrawn. The next start reads the files
//! ([`sweep`]): where the owner is dead, its rules are withdrawn, if they are still the very same. A rule that is not written there,
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

use std::fmt::Write as _;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::rule::{self, DriverRules, FlowRule, RuleError, RuleStore, Withdrawn};
use crate::control::{Error, link};
use crate::floor::FourTuple;
use crate::privilege::{self, Capabilities};

/// Where the files are. It is emptied when the machine starts, as the NIC is.
pub const FOLDER: &str = "/run/wiretick";
const HEADER: &str = "wiretick leases 1";
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

/// When a process began, in ticks since the machine started; `None` where there is none such (`man 5 proc`).
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn rule_line(id: u64, site: &Site, rule: &FlowRule) -> String {
    let Site { netns, index, name } = site;
    let FlowRule { tuple: FourTuple { local, remote }, vlan, queue } = rule;
    let mut line = format!("rule {id} netns {netns} index {index} name {name} queue {queue} vlan ");
    let _ = match vlan {
        Some(vlan) => write!(line, "{vlan}"),
        None => write!(line, "-"),
    };
    line + &format!(" local {local} remote {remote}")
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

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
struct Written {
    pid: u32,
    began: u64,
    /// Rules that have not been withdrawn; the place is not known where the owner died while it inserted.
    rules: Vec<(u64, Site, FlowRule, Option<u32>)>,
}

/// Reads a file; `None` where it is none of this version.
fn rules_of(text: &str) -> Option<Written> {
    // What has no end was not written whole.
    let whole = &text[..text.rfind('\n')?];
    let mut lines = whole.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let mut owner = lines.next()?.strip_prefix("owner ")?.split(' ');
    let (pid, began) = (owner.next()?.parse().ok()?, owner.next()?.parse().ok()?);
    let mut written = Written { pid, began, rules: Vec::new() };
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["at", id, location] => {
                let (id, location): (u64, u32) = (id.parse().ok()?, location.parse().ok()?);
                let rule = written.rules.iter_mut().find(|(other, ..)| *other == id)?;
                rule.3 = Some(location);
            }
            ["gone", id] => {
                let id: u64 = id.parse().ok()?;
                written.rules.retain(|(other, ..)| *other != id);
            }
            ["rule", ..] => written.rules.push(rule_of(&words)?),
            _ => return None,
        }
    }
    Some(written)
}

fn rule_of(words: &[&str]) -> Option<(u64, Site, FlowRule, Option<u32>)> {
    let &[
        "rule",
        id,
        "netns",
        netns,
        "index",
        index,
        "name",
        name,
        "queue",
        queue,
        "vlan",
        vlan,
        "local",
        local,
        "remote",
        remote,
    ] = words
    else {
        return None;
    };
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse().ok()?, remote.parse().ok()?);
    let vlan = if vlan == "-" { None } else { Some(vlan.parse().ok()?) };
    let site = Site { netns: netns.parse().ok()?, index: index.parse().ok()?, name: name.to_owned() };
    let rule = FlowRule { tuple: FourTuple { local, remote }, vlan, queue: queue.parse().ok()? };
    Some((id.parse().ok()?, site, rule, None))
}

/// Withdraws what dead processes have left in the NICs of this network namespace, and says what it did. Never fails: what cannot be
/// withdrawn stays written down for the next start.
pub fn sweep() {
    // Interfaces can be renamed, and can be gone.
    let stores = |site: &Site| match link::by_index(site.index) {
        Ok(link) => Some(Box::new(DriverRules::of(&link.name)) as Box<dyn RuleStore>),
        Err(Error::NoInterface { .. }) => None,
        Err(_) => Some(Box::new(DriverRules::of(&site.name)) as Box<dyn RuleStore>),
    };
    sweep_folder(Path::new(FOLDER), &stores);
}

/// The same, in a folder. `stores` knows the rules of an interface; `None` where there is none such any more. Answers how many rules
/// it has deleted.
pub(super) fn sweep_folder(folder: &Path, stores: &dyn Fn(&Site) -> Option<Box<dyn RuleStore>>) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    if let Err(error) = trust(folder) {
        log::warn!("{}: {error}: not looked at for flow rules that were left behind", folder.display());
        return 0;
    }
    let files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == ENDING))
        .collect();
    if files.is_empty() {
        return 0;
    }
    let lock = OpenOptions::new().read(true).open(folder.join("lock")).ok();
    let _locked = lock.and_then(|lock| locked(lock, folder));
    files.iter().map(|path| sweep_file(path, stores)).sum()
}

fn sweep_file(path: &Path, stores: &dyn Fn(&Site) -> Option<Box<dyn RuleStore>>) -> usize {
    let shown = path.display();
    let Ok(mut file) = File::open(path) else { return 0 };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        // Its owner lives.
        return 0;
    }
    let mut text = String::new();
    if let Err(error) = file.read_to_string(&mut text) {
        log::warn!("{shown}: {error}");
        return 0;
    }
    let Some(Written { pid, began: then, rules }) = rules_of(&text) else {
        log::warn!("{shown}: not understood, and left as it is");
        return 0;
    };
    if began(pid) == Some(then) {
        return 0;
    }
    let (mut deleted, mut left) = (0, 0);
    let netns = own_netns().ok();
    for (_, site, rule, location) in rules {
        if Some(site.netns) != netns {
            left += 1;
            continue;
        }
        let Some(store) = stores(&site) else { continue };
        let withdrawn = match location {
            Some(location) => rule::withdraw(&*store, &rule, location),
            None => match rule::find(&*store, &rule) {
                Ok(Some(location)) => rule::withdraw(&*store, &rule, location),
                Ok(None) => Ok(Withdrawn::Gone),
                Err(error) => Err(error),
            },
        };
        match withdrawn {
            Ok(Withdrawn::Deleted) => {
                log::info!("{}: a flow rule of process {pid}, which is gone, was withdrawn: {rule}", site.name);
                deleted += 1;
            }
            Ok(Withdrawn::Gone) => {}
            // No rules at all any more: another driver, or another device under the same number.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => {
                log::warn!(
                    "{}: a flow rule of process {pid}, which is gone, cannot be withdrawn ({error}): {rule}",
                    site.name
                );
                left += 1;
            }
        }
    }
    if left == 0
        && let Err(error) = fs::remove_file(path)
    {
        log::debug!("{shown}: {error}");
    }
    deleted
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::super::rule::tests::example;
    use super::*;

    /// A NIC whose rules are lines of a file: several processes can see it, and it outlives them.
    #[derive(Clone, Debug)]
    struct OnDisk(PathBuf);

    impl OnDisk {
        fn rules(&self) -> Vec<(u32, FlowRule)> {
            let text = fs::read_to_string(&self.0).unwrap_or_default();
            let rules = text.lines().map(|line| rule_of(&line.split(' ').collect::<Vec<_>>()).unwrap());
            rules.map(|(location, _, rule, _)| (location as u32, rule)).collect()
        }

        fn write(&self, rules: &[(u32, FlowRule)]) {
            let site = Site { netns: 0, index: 0, name: "disk".to_owned() };
            let lines = rules.iter().map(|(location, rule)| rule_line((*location).into(), &site, rule) + "\n");
            fs::write(&self.0, lines.collect::<String>()).unwrap();
        }
    }

    impl RuleStore for OnDisk {
        fn chooses_locations(&self) -> io::Result<bool> {
            Ok(false)
        }

        fn locations(&self) -> io::Result<(Vec<u32>, u32)> {
            // Slow enough that two processes which do not wait for each other see the same places free.
            let rules = self.rules();
            thread::sleep(Duration::from_millis(20));
            Ok((rules.iter().map(|(location, _)| *location).collect(), 64))
        }

        fn rule(&self, location: u32) -> io::Result<Option<FlowRule>> {
            let found = self.rules().into_iter().find(|(other, _)| *other == location);
            found.map(|(_, rule)| Some(rule)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
        }

        /// Overwrites what is there, as drivers do.
        fn insert(&self, rule: &FlowRule, location: Option<u32>) -> io::Result<u32> {
            let location = location.unwrap();
            let mut rules = self.rules();
            rules.retain(|(other, _)| *other != location);
            rules.push((location, *rule));
            self.write(&rules);
            Ok(location)
        }

        fn delete(&self, location: u32) -> io::Result<()> {
            let mut rules = self.rules();
            rules.retain(|(other, _)| *other != location);
            self.write(&rules);
            Ok(())
        }
    }

    struct Scene {
        _folder: tempfile::TempDir,
        leases: PathBuf,
        nic: OnDisk,
    }

    impl Scene {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            Self { leases: folder.path().join("leases"), nic: OnDisk(folder.path().join("nic")), _folder: folder }
        }

        fn insert(&self, leases: &Leases, port: u16) -> Rule {
            leases.insert(Box::new(self.nic.clone()), site(), &example(port)).unwrap()
        }

        fn sweep(&self) -> usize {
            sweep_folder(&self.leases, &|_| Some(Box::new(self.nic.clone())))
        }

        fn files(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.leases).into_iter().flatten();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(ENDING)).collect()
        }

        /// Another process that inserts rules and waits; see [`the_other_process`].
        fn process(&self, ports: &[u16], how: &str) -> process::Child {
            let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
            let name = format!("{}::the_other_process", module_path!().split_once("::").unwrap().1);
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", &name, "--ignored", "--nocapture", "--test-threads=1"])
                .env("WIRETICK_TEST_LEASES", &self.leases)
                .env("WIRETICK_TEST_NIC", &self.nic.0)
                .env("WIRETICK_TEST_PORTS", ports.join(" "))
                .env("WIRETICK_TEST_HOW", how)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // It says when it is ready.
            let mut said = String::new();
            let mut byte = [0];
            while !said.contains("ready\n") {
                assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "it said: {said}");
                said.push(byte[0].into());
            }
            child
        }
    }

    fn site() -> Site {
        Site::here(1, "disk").unwrap()
    }

    /// Not a test: what [`Scene::process`] runs.
    #[test]
    #[ignore = "run by other tests, in a process of its own"]
    fn the_other_process() {
        let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name}: run by other tests"));
        let leases = Leases::new(Path::new(&variable("WIRETICK_TEST_LEASES")));
        let nic = OnDisk(variable("WIRETICK_TEST_NIC").into());
        let how = variable("WIRETICK_TEST_HOW");
        let mut rules = Vec::new();
        for port in variable("WIRETICK_TEST_PORTS").split(' ') {
            let rule = example(port.parse().unwrap());
            if how == "half" {
                // As if killed between the insertion and the note of its place.
                let mut book = leases.book();
                book.open();
                book.note(&rule_line(0, &site(), &rule));
                nic.insert(&rule, Some(9)).unwrap();
            } else {
                rules.push(leases.insert(Box::new(nic.clone()), site(), &rule).unwrap());
            }
        }
        println!("ready");
        // Until the test closes its end, or kills us.
        let _ = io::stdin().read(&mut [0]);
    }

    #[test]
    fn a_rule_ends_with_its_owner_and_so_does_the_file() {
        let scene = Scene::new();
        let leases = Leases::new(&scene.leases);
        let (first, second) = (scene.insert(&leases, 1), scene.insert(&leases, 2));
        assert_eq!((first.location(), second.location()), (0, 1));
        assert!(first.is_there() && second.is_there());
        assert_eq!(scene.files().len(), 1);
        drop(first);
        assert_eq!(scene.nic.rules(), [(1, example(2))]);
        assert_eq!(scene.sweep(), 0, "the owner lives");
        assert!(second.is_there());
        drop((second, leases));
        assert_eq!(scene.nic.rules(), []);
        assert_eq!(scene.files(), [""; 0]);
    }

    #[test]
    fn after_kill_9_the_next_start_withdraws_the_rules_and_nobody_elses() {
        let scene = Scene::new();
        scene.nic.write(&[(0, example(60_000))]);
        let mut child = scene.process(&[1, 2], "whole");
        let ours = [(0, example(60_000)), (1, example(1)), (2, example(2))];
        assert_eq!(scene.nic.rules(), ours);
        assert_eq!(scene.sweep(), 0, "the owner lives");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(scene.nic.rules(), ours, "a rule outlives its process");
        // Somebody has put a rule of their own where one of these was.
        scene.nic.insert(&example(50_000), Some(2)).unwrap();
        assert_eq!(scene.sweep(), 1);
        assert_eq!(scene.nic.rules(), [(0, example(60_000)), (2, example(50_000))]);
        assert_eq!(scene.files(), [""; 0]);
        assert_eq!(scene.sweep(), 0);
    }

    #[test]
    fn a_rule_whose_place_was_not_written_down_any_more_is_found() {
        let scene = Scene::new();
        scene.nic.write(&[(0, example(60_000))]);
        let mut child = scene.process(&[1], "half");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(scene.nic.rules().len(), 2);
        assert_eq!(scene.sweep(), 1);
        assert_eq!(scene.nic.rules(), [(0, example(60_000))]);
    }

    #[test]
    fn two_processes_at_once_take_different_places() {
        let scene = Scene::new();
        let ports: Vec<u16> = (1..=20).collect();
        let (ours, theirs) = ports.split_at(10);
        let mut child = scene.process(&theirs[..1], "whole");
        // Both insert at the same time; the store takes 20 ms to tell which places are free.
        let other = thread::scope(|scope| {
            let other = scope.spawn(|| scene.process(&theirs[1..], "whole"));
            let leases = Leases::new(&scene.leases);
            let rules: Vec<_> = ours.iter().map(|port| scene.insert(&leases, *port)).collect();
            let other = other.join().unwrap();
            let mut found: Vec<_> = scene.nic.rules().iter().map(|(_, rule)| rule.tuple.local.port()).collect();
            found.sort_unstable();
            assert_eq!(found, ports, "nobody's was overwritten");
            drop(rules);
            other
        });
        {
            let mut process = other;
            process.kill().unwrap();
            process.wait().unwrap();
        }
        // The other dead process' are withdrawn, the living one's are not.
        assert_eq!(scene.sweep(), 9);
        assert_eq!(scene.nic.rules().len(), 1);
        // In good order.
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(scene.nic.rules(), []);
        assert_eq!(scene.files(), [""; 0]);
    }

    /// The number of a process that has ended, in a file that nobody holds.
    fn leave_behind(scene: &Scene, change: impl Fn(String) -> String) {
        let mut child = scene.process(&[1], "whole");
        child.kill().unwrap();
        child.wait().unwrap();
        let path = scene.leases.join(&scene.files()[0]);
        let text = change(fs::read_to_string(&path).unwrap());
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_lies_in_another_namespace_waits_for_a_start_there() {
        let scene = Scene::new();
        let netns = own_netns().unwrap().to_string();
        leave_behind(&scene, |text| text.replace(&netns, "12345"));
        assert_eq!(scene.sweep(), 0);
        assert_eq!((scene.nic.rules().len(), scene.files().len()), (1, 1));
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_alone() {
        for change in [
            |text: String| text.replace("wiretick leases 1", "wiretick leases 2"),
            |text: String| text.replace("queue 3", "queue three"),
            |text: String| text + "something else\n",
            |_| String::new(),
        ] {
            let scene = Scene::new();
            leave_behind(&scene, change);
            assert_eq!(scene.sweep(), 0);
            assert_eq!((scene.nic.rules().len(), scene.files().len()), (1, 1));
        }
    }

    #[test]
    fn a_line_that_was_not_written_whole_counts_for_nothing() {
        let scene = Scene::new();
        leave_behind(&scene, |text| text + "gone 0");
        assert_eq!(scene.sweep(), 1);
    }

    #[test]
    fn an_interface_that_is_gone_takes_its_rules_along() {
        let scene = Scene::new();
        leave_behind(&scene, |text| text);
        assert_eq!(sweep_folder(&scene.leases, &|_| None), 0);
        assert_eq!(scene.files(), [""; 0]);
    }

    #[test]
    fn a_living_process_is_recognised_without_its_lock_too() {
        let scene = Scene::new();
        let mut child = scene.process(&[1], "whole");
        // A copy, on which there is no lock.
        let path = scene.leases.join(&scene.files()[0]);
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, text).unwrap();
        assert_eq!(scene.sweep(), 0);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(scene.sweep(), 1);
    }

    #[test]
    fn without_a_place_to_write_rules_are_inserted_and_withdrawn_all_the_same() {
        let scene = Scene::new();
        // A file where the folder should be; a folder that everybody may write to.
        fs::write(&scene.leases, "").unwrap();
        let leases = Leases::new(&scene.leases);
        let rule = scene.insert(&leases, 1);
        assert!(rule.is_there());
        drop(rule);
        assert_eq!(scene.nic.rules(), []);
        fs::remove_file(&scene.leases).unwrap();
        fs::create_dir(&scene.leases).unwrap();
        fs::set_permissions(&scene.leases, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let leases = Leases::new(&scene.leases);
        drop(scene.insert(&leases, 1));
        assert_eq!(scene.files(), [""; 0]);
    }

    #[test]
    fn every_line_is_read_as_it_was_written() {
        let site = Site { netns: 7, index: 2, name: "enp1s0f0".to_owned() };
        for (local, remote, vlan) in
            [("192.0.2.1:40000", "198.51.100.7:443", None), ("[2001:db8::1]:40000", "[fe80::2%3]:443", Some(4094))]
        {
            let tuple = FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
            let rule = FlowRule { tuple, vlan, queue: 63 };
            let line = rule_line(5, &site, &rule);
            let text = format!("{HEADER}\nowner 1 2\n{line}\nat 5 17\n");
            assert_eq!(rules_of(&text).unwrap().rules, [(5, site.clone(), rule, Some(17))]);
        }
    }

    #[test]
    fn a_refusal_leaves_nothing_written_down() {
        let scene = Scene::new();
        let store = rule::tests::Memory { error: Some(libc::EPERM), ..rule::tests::Memory::with(4) };
        let leases = Leases::new(&scene.leases);
        assert!(matches!(leases.insert(Box::new(store), site(), &example(1)), Err(RuleError::NotPermitted)));
        let text = fs::read_to_string(scene.leases.join(&scene.files()[0])).unwrap();
        assert_eq!(rules_of(&text).unwrap().rules, []);
    }

    #[test]
    fn this_process_has_begun() {
        assert!(began(process::id()).is_some());
        assert_eq!(began(u32::MAX), None);
    }
}
