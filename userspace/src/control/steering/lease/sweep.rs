//! What the next start does about the rules of the dead.

use std::fs::{self, File, OpenOptions};
use std::io::Read as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::super::rule::{self, DriverRules, RuleStore, Withdrawn};
use super::written::{Written, rules_of};
use super::{ENDING, FOLDER, Site, locked, own_netns, trust};
use crate::control::{Error, link};

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

/// When a process began, in ticks since the machine started; `None` where there is none such (`man 5 proc`).
pub(super) fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}
