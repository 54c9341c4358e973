//! Why there is no virtual machine, or none that answers.

use std::io;
use std::path::PathBuf;

use super::QEMU;

/// What went wrong around a virtual machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is not on this machine. Nothing is wrong with wiretick or the testbed.
    #[error("{what}: {remedy}")]
    Missing {
        /// What is not there.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// A program of this machine failed.
    #[error("{command} ended with {status}: {said}")]
    Program {
        /// With its arguments.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it wrote on standard error.
        said: String,
    },
    /// A file or a process of this machine.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A package holds something else than expected.
    #[error("{}: {problem}", .path.display())]
    Package {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The network outside the virtual machine.
    #[error(transparent)]
    Topology(#[from] crate::topology::Error),
    /// The certificate of the exchange.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A captured feed is there, but is not whole.
    #[error(transparent)]
    Feed(#[from] crate::feeds::Error),
    /// The exchange.
    #[error("starting the exchange: {0}")]
    Exchange(#[from] crate::exchange::ConfigError),
    /// The virtual machine is gone, or silent. What its console and QEMU said last is attached.
    #[error("{kernel}: {problem}; the console's last words:\n{console}")]
    Guest {
        /// The kernel in it.
        kernel: String,
        /// What was expected of it.
        problem: String,
        /// The end of its console.
        console: String,
    },
    /// We were told to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Whether QEMU has failed an assertion of its own: glibc's words for it, after QEMU's name.
    pub(super) fn is_qemus_own(&self) -> bool {
        let failed = |line: &str| line.starts_with(QEMU) && line.contains("Assertion `") && line.ends_with("failed.");
        matches!(self, Self::Guest { console, .. } if console.lines().any(|line| failed(line.trim_end())))
    }

    pub(super) fn missing(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Missing { what: what.into(), remedy: remedy.into() }
    }
}

/// Names what was attempted.
pub(super) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let what = what.into();
    |source| Error::System { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assertion_of_qemu_is_told_from_a_panic_in_the_guest() {
        let with = |console: &str| {
            let (kernel, problem) = ("6.18".to_owned(), "was to boot, and is gone".to_owned());
            Error::Guest { kernel, problem, console: console.to_owned() }.is_qemus_own()
        };
        assert!(with(
            "Probing EDD... ok\nqemu-system-x86_64: system/physmem.c:2678: iotlb_to_section: Assertion `section_index < \
             d->map.sections_nb' failed.\n"
        ));
        assert!(!with("Kernel panic - not syncing: Assertion `qemu-system-x86_64' failed.\n"));
        assert!(!with("qemu-system-x86_64: -netdev tap,id=n0,fd=7: invalid\n"));
        assert!(!with(""));
        assert!(!Error::Interrupted.is_qemus_own());
    }
}
