//! Preferred busy polling of an AF_XDP socket: the lane's own thread runs the driver's NAPI, and interrupts stay away meanwhile
//! (`Documentation/networking/napi.rst`, "IRQ mitigation"; Linux 5.11).
//!
//! It works where the driver has linked its NAPI to the queue. That shows in `SO_INCOMING_NAPI_ID`: on Linux 6.18 and later from the moment the
//! socket is bound (`netif_queue_set_napi`, `xsk_bind` in net/xdp/xsk.c), up to 6.12 from the first frame on (`sk_mark_napi_id_once_xdp`). A veth of
//! 6.18 links none. Interrupts stay away only with
//! `napi_defer_hard_irqs` and `gro_flush_timeout` of the interface, which are [`control::tune`](crate::control::tune)'s.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Microseconds for `SO_BUSY_POLL`. Any figure but 0 will do: an AF_XDP socket polls once for each call (`sk_busy_loop(sk, 1)`).
const BUSY_POLL_USECS: libc::c_int = 20;

/// Packets in one poll: a NAPI's own budget. The default is 8, and a burst would take a system call for every eighth packet; more than 64 is more than
/// drivers expect.
const BUDGET: libc::c_int = 64;

/// Asks the kernel to leave the polling to us. Needs `CAP_NET_ADMIN`.
///
/// # Errors
///
/// What the kernel answered; `ENOPROTOOPT` before Linux 5.11, and without `CONFIG_NET_RX_BUSY_POLL`.
pub(super) fn prefer(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SO_PREFER_BUSY_POLL, 1)?;
    set(socket, libc::SO_BUSY_POLL, BUSY_POLL_USECS)?;
    set(socket, libc::SO_BUSY_POLL_BUDGET, BUDGET)
}

/// The NAPI that a call on this socket polls; `None` while the kernel knows none.
pub(super) fn napi(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut id: libc::c_uint = 0;
    let mut len = size_of::<libc::c_uint>() as libc::socklen_t;
    // SAFETY: the pointers are to locals, `len` is the size of the first, and the kernel writes no more than that.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_INCOMING_NAPI_ID,
            (&raw mut id).cast(),
            &raw mut len,
        )
    };
    (result == 0 && id != 0).then_some(id)
}

fn set(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a local and the length is its size; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const value).cast(), len) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no UDP")]
    fn a_socket_that_has_received_nothing_has_no_napi() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(napi(socket.as_fd()), None);
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no UDP")]
    fn options_the_kernel_does_not_have_are_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(set(socket.as_fd(), 9_999, 1).unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
