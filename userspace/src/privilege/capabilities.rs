//! Capability sets (`man 7 capabilities`): what may be kept, and giving up the rest.

use std::fmt;
use std::fs;
use std::io;
use std::ops::BitOr;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities,
};

use super::{Error, failed};

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(CapabilitySet);

/// Those that this program has a use for, by name.
const NAMES: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::NET_RAW, "CAP_NET_RAW"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::IPC_LOCK, "CAP_IPC_LOCK"),
    (CapabilitySet::SYS_NICE, "CAP_SYS_NICE"),
];

impl Capabilities {
    /// None.
    pub const NONE: Self = Self(CapabilitySet::empty());
    /// `TCP_REPAIR`, `SO_RCVBUFFORCE`, and XDP programs: for loading them, attaching them, and running them over a frame.
    pub const NET_ADMIN: Self = Self(CapabilitySet::NET_ADMIN);
    /// Ignores the limit on locked memory: the shared memory of a ring counts as locked.
    pub const IPC_LOCK: Self = Self(CapabilitySet::IPC_LOCK);
    /// Real-time priorities.
    pub(super) const SYS_NICE: Self = Self(CapabilitySet::SYS_NICE);
    /// What it takes to open a ring, to bring a connection there, home, and back: `CAP_NET_ADMIN`, `CAP_NET_RAW` (`AF_XDP`
    /// sockets), `CAP_BPF` (maps and programs) and `CAP_PERFMON`: only whoever has it may add a number that is read from a
    /// packet, the length of its IPv4 header, to a pointer into it (`sanitize_ptr_alu`, kernel/bpf/verifier.c); programs of
    /// others are also slowed down with barriers against speculation.
    pub const BYPASS: Self = Self(
        CapabilitySet::NET_ADMIN.union(CapabilitySet::NET_RAW).union(CapabilitySet::BPF).union(CapabilitySet::PERFMON),
    );

    /// Whether it holds none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Whether `others` holds all of it.
    #[must_use]
    pub const fn is_within(self, others: Self) -> bool {
        others.0.contains(self.0)
    }

    /// Those that `others` does not hold.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0.difference(others.0))
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0.union(others.0))
    }
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<_> =
            NAMES.iter().filter(|(one, _)| self.0.contains(*one)).map(|(_, name)| (*name).to_owned()).collect();
        let others = NAMES.iter().fold(self.0, |rest, (one, _)| rest.difference(*one));
        if !others.is_empty() {
            names.push(format!("capabilities {:#x}", others.bits()));
        }
        f.write_str(&if names.is_empty() { "no capability".to_owned() } else { names.join(", ") })
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What the calling thread can use now.
pub(super) fn effective() -> io::Result<Capabilities> {
    Ok(Capabilities(capabilities(None)?.effective))
}

/// The calling thread keeps those of `rest` that it has, and nothing else.
pub(super) fn reduce_to(rest: Capabilities) -> Result<(), Error> {
    let failed = || failed("giving up capabilities");
    let permitted = capabilities(None).map_err(failed())?.permitted.intersection(rest.0);
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).map_err(failed())
}

/// Nothing that is executed from now on brings a capability back. Emptying the bounding set takes `CAP_SETPCAP`; where that is
/// not there, `no_new_privs` alone sees to it.
pub(super) fn empty_bounding_and_ambient() -> Result<(), Error> {
    clear_ambient_capability_set().map_err(failed("clearing the ambient capabilities"))?;
    for bit in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // Beyond the last one the kernel knows; or without the capability to do it.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(errno) => return Err(failed("emptying the bounding set")(errno)),
        }
    }
    Ok(())
}

/// All threads of this process: their names, and what each could use.
pub(super) fn threads() -> Result<Vec<(String, Capabilities)>, Error> {
    let unreadable = |source| Error::System { what: "reading /proc/self/task", source };
    let mut found = Vec::new();
    for thread in fs::read_dir("/proc/self/task").map_err(unreadable)? {
        let status = match fs::read_to_string(thread.map_err(unreadable)?.path().join("status")) {
            Ok(status) => status,
            // It has ended meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
                continue;
            }
            Err(error) => return Err(unreadable(error)),
        };
        found.push(read(&status).ok_or_else(|| unreadable(io::ErrorKind::InvalidData.into()))?);
    }
    Ok(found)
}

/// A thread's name and permitted set, from its `status` (`man 5 proc`).
fn read(status: &str) -> Option<(String, Capabilities)> {
    let field = |name| status.lines().find_map(|line| Some(line.strip_prefix(name)?.trim()));
    let permitted = u64::from_str_radix(field("CapPrm:")?, 16).ok()?;
    Some((field("Name:")?.to_owned(), Capabilities(CapabilitySet::from_bits_retain(permitted))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_name_and_what_is_permitted() {
        let status = "Name:\twatchdog\nUmask:\t0022\nCapInh:\t0000000000000000\nCapPrm:\t000000c000003000\n";
        let (name, held) = read(status).unwrap();
        assert_eq!(name, "watchdog");
        assert_eq!(held, Capabilities::BYPASS);
        assert_eq!(held.to_string(), "CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON");
        assert_eq!(read("Name:\tx\n"), None);
    }

    #[test]
    fn what_has_no_name_here_is_told_by_its_bits() {
        let held = Capabilities(CapabilitySet::SYS_ADMIN) | Capabilities::NET_ADMIN;
        assert_eq!(held.to_string(), "CAP_NET_ADMIN, capabilities 0x200000");
        assert_eq!(Capabilities::NONE.to_string(), "no capability");
    }

    #[test]
    fn this_thread_is_among_the_threads() {
        let held = Capabilities(capabilities(None).unwrap().permitted);
        assert!(threads().unwrap().iter().any(|(_, permitted)| *permitted == held));
    }
}
