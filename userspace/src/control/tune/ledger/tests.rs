//! Changes to an interface that exists, made, shared, abandoned and put back. Needs root: each test makes a network namespace of its own.
//! Without, each says so and is skipped.

use std::thread;

use super::*;
use crate::control::tune::Setting;

/// Runs a test on a thread in a network namespace of its own, beside a folder of its own. `napi_defer_hard_irqs` of loopback is what is changed: every
/// interface has it, and no other namespace's.
fn alone(test: impl FnOnce(&Path, &Link) + Send) {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            if let Err(error) = enter_new_namespace() {
                // Past the harness, which keeps what a test that passes has printed to itself.
                let _ = writeln!(io::stderr(), "skipped: a network namespace of its own needs root: {error}");
                return;
            }
            test(folder.path(), &link::by_name("lo").unwrap());
        });
        run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// A network and a /sys that shows it, for the calling thread alone.
fn enter_new_namespace() -> io::Result<()> {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    use rustix::thread::UnshareFlags;
    // SAFETY: the thread gets a network and a mount namespace of its own, which no other thread relies on sharing; its
    // descriptors stay shared (no CLONE_FILES).
    #[allow(unsafe_code)]
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount(c"sysfs", c"/sys", c"sysfs", MountFlags::NOSUID, None)?;
    Ok(())
}

fn step(from: u64, to: u64) -> Step {
    Step { change: Change::new(Setting::DeferHardIrqs, from, to), reason: String::new(), needed: false }
}

fn hold(at: &Path, link: &Link, steps: &[Step]) -> Tuning {
    Tuning::hold_in(at, link, |_| steps.to_vec()).unwrap()
}

fn now(link: &Link) -> u64 {
    current(link, &step(0, 0).change).unwrap()
}

/// As if the process had been killed: locks go, the rest stays.
fn kill(mut tuning: Tuning) {
    tuning.done = true;
}

#[test]
fn what_was_changed_is_put_back() {
    alone(|at, link| {
        let before = now(link);
        let tuning = hold(at, link, &[step(before, 7)]);
        assert_eq!(now(link), 7);
        assert_eq!(tuning.outcomes, [Outcome::Made(step(before, 7))]);
        assert_eq!(tuning.undo().unwrap(), [Outcome::Undone(step(before, 7).change)]);
        assert_eq!(now(link), before);
        drop(hold(at, link, &[step(before, 8)]));
        assert_eq!(now(link), before, "dropping undoes, too");
        assert_eq!(fs::read_dir(at).unwrap().count(), 0, "nothing is noted any more");
    });
}

#[test]
fn what_a_killed_process_has_left_is_undone_by_the_next() {
    alone(|at, link| {
        let before = now(link);
        kill(hold(at, link, &[step(before, 7)]));
        assert_eq!(now(link), 7);
        let next = hold(at, link, &[]);
        assert_eq!(next.outcomes, [Outcome::Undone(step(before, 7).change)]);
        assert_eq!(now(link), before);
        drop(next);
        kill(hold(at, link, &[step(before, 9)]));
        let found = undo_abandoned_in(at).unwrap();
        assert_eq!(found, [(link.name.clone(), vec![Outcome::Undone(step(before, 9).change)])]);
        assert_eq!(now(link), before);
        assert_eq!(undo_abandoned_in(at).unwrap(), [], "once is enough");
    });
}

#[test]
fn what_somebody_else_has_set_meanwhile_is_left_alone() {
    alone(|at, link| {
        let before = now(link);
        let tuning = hold(at, link, &[step(before, 7)]);
        apply::set(&link.name, link.index, &Setting::DeferHardIrqs, 33).unwrap();
        assert_eq!(tuning.undo().unwrap(), [Outcome::LeftAlone(step(before, 7).change, 33)]);
        assert_eq!(now(link), 33);
    });
}

#[test]
fn the_last_one_puts_back_what_the_first_one_found() {
    alone(|at, link| {
        let before = now(link);
        let first = hold(at, link, &[step(before, 7)]);
        // It finds nothing to change.
        let second = hold(at, link, &[]);
        assert!(matches!(second.outcomes[..], [Outcome::Shared(_)]), "{:?}", second.outcomes);
        assert!(undo_abandoned_in(at).unwrap().is_empty(), "it is in use");
        assert_eq!(first.undo().unwrap(), [], "the second one still uses it");
        assert_eq!(now(link), 7);
        // A third one wants another figure; what is put back stays what was there first.
        let third = hold(at, link, &[step(7, 8)]);
        drop(second);
        assert_eq!(now(link), 8);
        drop(third);
        assert_eq!(now(link), before);
    });
}

#[test]
fn a_change_that_is_refused_leaves_nothing_behind() {
    alone(|at, link| {
        // Loopback has no queues to set.
        let refused =
            Step { change: Change::new(Setting::CombinedChannels, 1, 2), reason: String::new(), needed: true };
        let tuning = hold(at, link, std::slice::from_ref(&refused));
        assert!(
            matches!(&tuning.outcomes[..], [Outcome::Refused(step, _)] if *step == refused),
            "{:?}",
            tuning.outcomes
        );
        assert_eq!(tuning.files.read().unwrap().changes, []);
        assert_eq!(tuning.undo().unwrap(), []);
    });
}

#[test]
fn notes_about_another_interface_are_forgotten() {
    alone(|at, link| {
        let before = now(link);
        kill(hold(at, link, &[step(before, 7)]));
        let files = Files::of(at, link.index).unwrap();
        files.write(&Entry { mac: Some([2, 0, 0, 0, 0, 9]), changes: vec![step(before, 7).change] }).unwrap();
        assert_eq!(undo_abandoned_in(at).unwrap(), [(link.name.clone(), vec![])]);
        assert_eq!(now(link), 7, "it is not the interface that was changed");
        assert_eq!(fs::read_dir(at).unwrap().count(), 0);
    });
}

#[test]
fn nothing_is_changed_where_it_cannot_be_written_down() {
    alone(|at, link| {
        use std::os::unix::fs::PermissionsExt as _;
        let before = now(link);
        fs::set_permissions(at, fs::Permissions::from_mode(0o777)).unwrap();
        let error = Tuning::hold_in(at, link, |_| vec![step(before, 7)]).unwrap_err();
        assert!(error.to_string().contains("only we can write"), "{error}");
        assert_eq!(now(link), before);
        fs::set_permissions(at, fs::Permissions::from_mode(0o700)).unwrap();
        let error = Tuning::hold_in(&at.join("none/there"), link, |_| vec![step(before, 7)]).unwrap_err();
        assert!(error.to_string().contains("install -d"), "{error}");
    });
}

#[test]
fn notes_that_cannot_be_read_are_an_error_and_not_a_guess() {
    alone(|at, link| {
        fs::write(&Files::of(at, link.index).unwrap().entry, "{").unwrap();
        let error = Tuning::hold_in(at, link, |_| Vec::new()).unwrap_err();
        assert!(error.to_string().contains(".json"), "{error}");
        assert!(undo_abandoned_in(at).is_err());
    });
}

#[test]
fn an_offload_is_switched_and_switched_back() {
    use crate::control::nic::feature;
    alone(|at, link| {
        let gro = || Nic::read(link).unwrap().is_on(feature::GRO);
        assert!(gro(), "loopback has it on to begin with");
        let off = Step { change: Change::switch(feature::GRO, false), reason: String::new(), needed: true };
        let tuning = hold(at, link, &[off]);
        assert!(!gro(), "{:?}", tuning.outcomes);
        drop(tuning);
        assert!(gro());
    });
}

#[test]
fn queues_are_fewer_and_then_as_many_as_before() {
    alone(|at, _| {
        let pair = "link add v0 numrxqueues 2 numtxqueues 2 type veth peer name v1 numrxqueues 2 numtxqueues 2";
        let made = std::process::Command::new("ip").args(pair.split(' ')).status().expect("iproute2");
        assert!(made.success());
        let link = link::by_name("v0").unwrap();
        let queues = || Nic::read(&link).unwrap().channels.unwrap().rx.0;
        let fewer = Step { change: Change::new(Setting::RxChannels, 2, 1), reason: String::new(), needed: true };
        let tuning = hold(at, &link, &[fewer]);
        assert_eq!(queues(), 1, "{:?}", tuning.outcomes);
        drop(tuning);
        assert_eq!(queues(), 2);
        // More than there are: the kernel's own words come through.
        let more = Step { change: Change::new(Setting::RxChannels, 2, 9), reason: String::new(), needed: true };
        let tuning = hold(at, &link, &[more]);
        assert!(
            matches!(&tuning.outcomes[..], [Outcome::Refused(_, why)] if why.contains("exceeds maximum")),
            "{:?}",
            tuning.outcomes
        );
    });
}

#[test]
fn an_interface_that_something_has_changed_is_brought_back() {
    use crate::control::nic::feature;
    use crate::control::tune::restore;
    alone(|_, link| {
        let before = Nic::read(link).unwrap();
        assert_eq!(restore(link, &before).unwrap(), crate::control::tune::Restored::default());
        apply::set(&link.name, link.index, &Setting::Feature(feature::GRO.to_owned()), 0).unwrap();
        apply::set(&link.name, link.index, &Setting::DeferHardIrqs, 5).unwrap();
        let restored = restore(link, &before).unwrap();
        assert_eq!(restored.changed.len(), 2, "{restored:?}");
        assert_eq!(restored.stuck, []);
        assert_eq!(Nic::read(link).unwrap(), before);
    });
}
