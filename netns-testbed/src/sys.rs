//! The shelf of the testbed on which everything `unsafe` lies: the few system calls that have no safe wrapper, and the
//! code that runs between fork and exec.
//!
//! What comes in are descriptors and plain values; what goes out is an `io::Result`. Nothing else in this crate may use
//! `unsafe`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::Signal;
use rustix::thread::{CpuSet, LinkNameSpaceType, UnshareFlags};

/// Moves the calling thread, and no other, into a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: `unshare` is unsafe because CLONE_FILES would split the descriptor table; CLONE_NEWNET does not touch it.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}

/// Moves the calling thread, and no other, into a copy of its mount namespace.
fn unshare_mounts() -> io::Result<()> {
    // SAFETY: as above. CLONE_NEWNS also gives the thread a working directory and a root of its own (CLONE_FS), which
    // no other thread relies on sharing: they keep theirs.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(io::Error::from)
}

/// Moves the calling thread into the network namespace behind `door` and covers `/sys` with one that shows the devices
/// of that namespace. System calls only, no allocation: it also runs between fork and exec.
pub(crate) fn move_in(door: BorrowedFd<'_>) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(door, Some(LinkNameSpaceType::Network))?;
    unshare_mounts()?;
    // Without this the mount below would spread to the machine's own /sys where / is a shared mount, as systemd has it.
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // A sysfs shows the devices of the namespace in which it was mounted: the machine's shows the machine's. What was
    // mounted below /sys (bpf, cgroup, debug) is covered.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount(c"sysfs", c"/sys", c"sysfs", flags, None)?;
    Ok(())
}

/// Has the child of `command` start inside the namespace behind `door`, on the given cores, and die with its parent.
pub(crate) fn start_inside(command: &mut Command, door: Arc<File>, cores: Option<CpuSet>) {
    let parent = rustix::process::getpid();
    let hook = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the signal was asked for: then there is nobody left to send it.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        if let Some(cores) = &cores {
            rustix::thread::sched_setaffinity(None, cores)?;
        }
        move_in(door.as_fd())
    };
    // SAFETY: between fork and exec the child is a copy of a process whose other threads are gone, so the hook may
    // neither allocate nor take a lock. It makes raw system calls (rustix) on plain values, a descriptor it keeps open
    // and C string literals; its errors carry a number and no text.
    unsafe { command.pre_exec(hook) };
}

/// The head of `struct ifreq` as `SIOCETHTOOL` reads it: a name, and a pointer to the command. The kernel copies
/// `sizeof(struct ifreq)` = 40 bytes, hence the tail.
#[repr(C)]
struct EthtoolRequest {
    name: [u8; libc::IFNAMSIZ],
    value: *mut EthtoolValue,
    tail: [u8; 16],
}

const _: () = assert!(size_of::<EthtoolRequest>() == size_of::<libc::ifreq>());

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// One of ethtool's get or set commands whose argument is a single number. Answers the number the kernel left there.
pub(crate) fn ethtool_value(socket: BorrowedFd<'_>, interface: &str, command: u32, data: u32) -> io::Result<u32> {
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface name has at most 15 bytes"));
    }
    let mut value = EthtoolValue { command, data };
    let mut request = EthtoolRequest { name: [0; libc::IFNAMSIZ], value: &raw mut value, tail: [0; 16] };
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    // SAFETY: the request has the size and the layout of `struct ifreq` (asserted above), its name is terminated (at
    // most 15 of 16 bytes are used) and its pointer leads to an `ethtool_value` that outlives the call; the commands
    // this crate passes read or write that structure only.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as libc::Ioctl, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(value.data) }
}

/// Binds an `AF_PACKET` socket to one interface and to every protocol.
pub(crate) fn bind_packet(socket: BorrowedFd<'_>, interface_index: u32) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: i32::try_from(interface_index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: pointer and length describe `address`, which lives until the call is over and is only read.
    let answer = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast::<libc::sockaddr>(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a packet socket has counted since it was last asked: frames it got, and frames for which its buffer had no room.
/// The kernel counts the latter among the former (packet(7), `PACKET_STATISTICS`).
pub(crate) fn packet_statistics(socket: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut len = size_of::<libc::tpacket_stats>() as libc::socklen_t;
    // SAFETY: pointer and length describe `statistics`, which the kernel fills in before the call is over.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast::<libc::c_void>(),
            &raw mut len,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok((statistics.tp_packets, statistics.tp_drops)) }
}

/// Makes a packet socket one end of a cable: it gets every frame that arrives at the interface, whoever it is for, and none
/// that leaves there (packet(7), `PACKET_ADD_MEMBERSHIP`; `PACKET_IGNORE_OUTGOING`, Linux 4.20).
pub(crate) fn become_cable(socket: BorrowedFd<'_>, interface_index: u32) -> io::Result<()> {
    let promiscuous = libc::packet_mreq {
        mr_ifindex: i32::try_from(interface_index).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_packet_option(socket, libc::PACKET_ADD_MEMBERSHIP, &promiscuous)?;
    // linux/if_packet.h; the C library does not have it yet.
    const PACKET_IGNORE_OUTGOING: i32 = 23;
    set_packet_option(socket, PACKET_IGNORE_OUTGOING, &1_i32)
}

/// `value` must be of the type that the kernel reads for this option.
fn set_packet_option<T>(socket: BorrowedFd<'_>, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast::<libc::c_void>(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
