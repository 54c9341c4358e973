//! What the XDP program decides, over frames as they come off the wire.
//!
//! The kernel runs the very object that is shipped (`BPF_PROG_TEST_RUN`); no interface of the machine is touched. It
//! takes root, or the capabilities in `enter_namespace`; without them every test here shows as ignored.
//! `cargo test -p wiretick-xdp --test verdicts -- --bench --test-threads=1` measures what a frame costs.

// One system call, in `enter_namespace`.
#![allow(unsafe_code)]

mod addresses;
mod cost;
mod frags;
mod ipv4;
mod ipv6;
mod link;
mod loading;
mod queues;
mod stamps;
mod subject;
mod wire;

use libtest_mimic::{Arguments, Conclusion, Trial};
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe};
use subject::Variant;

/// The tests of a module: functions whose names are sentences, once for each variant of the program.
macro_rules! sentences {
    ($($test:ident),* $(,)?) => {
        crate::subject::Variant::ALL
            .into_iter()
            .flat_map(|variant| [$( crate::sentence(variant, stringify!($test), $test) ),*])
            .collect::<Vec<libtest_mimic::Trial>>()
    };
}
pub(crate) use sentences;

fn sentence(variant: Variant, name: &str, test: fn()) -> Trial {
    Trial::test(format!("{}{name}", variant.prefix()), move || {
        variant.choose();
        test();
        Ok(())
    })
}

fn main() {
    let arguments = Arguments::from_args();
    let privilege = enter_namespace();
    if let Err(reason) = &privilege
        && !arguments.list
    {
        eprintln!("\nevery verdict test is ignored: {reason}");
    }
    let trials = [
        addresses::trials(),
        cost::trials(),
        frags::trials(),
        ipv4::trials(),
        ipv6::trials(),
        link::trials(),
        loading::trials(),
        queues::trials(),
        stamps::trials(),
    ];
    let trials: Vec<Trial> =
        trials.into_iter().flatten().map(|trial| trial.with_ignored_flag(privilege.is_err())).collect();
    let conclusion: Conclusion = libtest_mimic::run(&arguments, trials);
    conclusion.exit();
}

/// Leaves the machine's network namespace for an empty one: what the tests set up ends with this process, and nothing
/// of the machine's own network can be reached from here. Must be called before there is a second thread.
///
/// # Errors
///
/// What is missing, in words, where this process has not the privilege.
fn enter_namespace() -> Result<(), String> {
    let required = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::SYS_ADMIN;
    let held = capabilities(None).map_err(|error| format!("capget: {error}"))?.effective;
    if !held.contains(required) {
        return Err("run as root (it takes CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN)".to_owned());
    }
    // SAFETY: the one hazard of unshare(2) is UnshareFlags::FILES, which takes a thread's descriptors from the others.
    // It is not asked for.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(|error| format!("unshare(CLONE_NEWNET): {error}"))
}
