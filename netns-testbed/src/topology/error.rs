//! Why a topology could not be built, and what to do about it.

use std::io;

/// What went wrong while namespaces and links were made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused for want of privilege.
    #[error("{action} needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root")]
    Privilege {
        /// What was attempted.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not know what was asked of it.
    #[error("{action}: {source}; is this kernel built without {config}?")]
    Kernel {
        /// What was attempted.
        action: String,
        /// The build option that provides it.
        config: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Any other refusal of the kernel.
    #[error("{action}: {source}")]
    System {
        /// What was attempted.
        action: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A change was about to be made in the namespace the machine itself lives in.
    #[error("refusing to change the network namespace of the machine itself")]
    Machine,
    /// The plan contradicts itself.
    #[error("this plan cannot be built: {0}")]
    Plan(&'static str),
}

impl Error {
    /// Sorts the kernel's answer to `action` by what the caller can do about it. `config` is the build option that an
    /// unknown device, namespace or queueing discipline points at.
    pub(super) fn from_kernel(action: impl Into<String>, config: &'static str, source: io::Error) -> Self {
        let action = action.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { action, source },
            Some(libc::EOPNOTSUPP | libc::ENOENT | libc::ENOSYS) => Self::Kernel { action, config, source },
            // unshare answers a namespace it does not know with EINVAL.
            Some(libc::EINVAL) if config == "CONFIG_NET_NS" => Self::Kernel { action, config, source },
            _ => Self::System { action, source },
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Privilege { .. } => io::ErrorKind::PermissionDenied,
            Error::Kernel { .. } => io::ErrorKind::Unsupported,
            Error::System { source, .. } => source.kind(),
            Error::Machine | Error::Plan(_) => io::ErrorKind::InvalidInput,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_the_reader_can_do() {
        let told = |number| {
            Error::from_kernel("creating a veth pair", "CONFIG_VETH", io::Error::from_raw_os_error(number)).to_string()
        };
        assert_eq!(told(libc::EPERM), "creating a veth pair needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run as root");
        assert!(told(libc::EOPNOTSUPP).ends_with("is this kernel built without CONFIG_VETH?"));
        assert!(told(libc::EEXIST).contains("File exists"));
    }
}
