//! Why a program was refused, in words: what loaders and kernels say, and what to do about it.

use std::io;

use aya::EbpfError;
use aya::programs::ProgramError;
use aya::sys::SyscallError;

use super::{AttachMode, Pieces};
use crate::control::link::Link;
use crate::control::offloads;

pub(super) fn load_reason(error: &EbpfError) -> String {
    match os_code(error) {
        Some(libc::EPERM) => "loading BPF maps needs CAP_BPF and CAP_NET_ADMIN (run as root)".to_owned(),
        _ => error.to_string(),
    }
}

pub(super) fn program_reason(error: &ProgramError, link: &Link, mode: AttachMode, pieces: Pieces) -> String {
    let driver = offloads::driver(&link.name);
    let driver = if driver.is_empty() { "the driver".to_owned() } else { format!("driver {driver}") };
    let said = innermost(error);
    match (os_code(error), mode) {
        (Some(libc::EPERM), _) => "needs CAP_BPF and CAP_NET_ADMIN (run as root)".to_owned(),
        (Some(libc::EOPNOTSUPP), AttachMode::Native) => format!("{driver} has no native XDP: use --mode skb"),
        (Some(libc::EINVAL | libc::ERANGE | libc::E2BIG), AttachMode::Native) => {
            let several = match pieces {
                Pieces::One => "",
                Pieces::Several => ", nor does it, or this kernel, take them in several pieces (xdp.frags, Linux 5.18)",
            };
            format!(
                "{driver} refused at MTU {} ({said}): it wants a frame in one buffer{several}; \
                 try ip link set {} mtu 1500, or use --mode skb",
                link.mtu, link.name
            )
        }
        (Some(libc::EINVAL), AttachMode::Generic) if pieces == Pieces::Several => format!(
            "this kernel knows no programs for frames in several pieces (xdp.frags, Linux 5.18): \
             ip link set {} mtu 1500",
            link.name
        ),
        (Some(libc::ENOMEM), AttachMode::Native) => {
            format!("{driver} found no memory or no free transmit queue ({said}): try fewer queues (ethtool -L)")
        }
        _ => said,
    }
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}

/// The operating system's error number, wherever in the chain it stands.
pub(super) fn os_code(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.raw_os_error();
        }
        if let Some(error) = error.downcast_ref::<SyscallError>() {
            return error.io_error.raw_os_error();
        }
        if let Some(ProgramError::SyscallError(error)) = error.downcast_ref::<ProgramError>() {
            return error.io_error.raw_os_error();
        }
        next = error.source();
    }
    None
}
