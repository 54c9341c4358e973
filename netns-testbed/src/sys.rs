//! The shelf of the testbed on which everything `unsafe` lies: the few system calls that have no safe wrapper, and the
//! code that runs between fork and exec.
//!
//! What comes in are descriptors and plain values; what goes out is an `io::Result`. Nothing else in this crate may use
//! `unsafe`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;

use rustix::io::FdFlags;
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

/// Has the child of `command` inherit these descriptors, under the numbers they have here. No other child does.
pub(crate) fn hand_down(command: &mut Command, descriptors: Vec<Arc<OwnedFd>>) {
    let hook = move || {
        for descriptor in &descriptors {
            rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: as in `start_inside`: raw system calls on descriptors that the hook itself keeps open. They change flags of
    // the child's own descriptor table.
    unsafe { command.pre_exec(hook) };
}

/// The head of `struct ifreq` as `TUNSETIFF` reads it: a name and flags. The kernel copies 40 bytes, hence the tail.
#[repr(C)]
struct TapRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    tail: [u8; 22],
}

const _: () = assert!(size_of::<TapRequest>() == size_of::<libc::ifreq>());

/// Makes an opened `/dev/net/tun` the far end of a tap interface, which comes into being with its first queue and goes with
/// its last (`linux/if_tun.h`). Frames are bare: no header before them.
pub(crate) fn become_tap(device: BorrowedFd<'_>, name: &str, several_queues: bool) -> io::Result<()> {
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an interface name has at most 15 bytes"));
    }
    let several_queues = if several_queues { libc::IFF_MULTI_QUEUE } else { 0 };
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI | several_queues) as i16;
    let mut request = TapRequest { name: [0; libc::IFNAMSIZ], flags, tail: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: the request has the size and the layout of `struct ifreq` (asserted above), its name is terminated, and it
    // lives until the call is over; the kernel reads it and writes the name it has given back into it.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

/// Asks a packet socket for what it knows of each frame beside its bytes: [`receive_tagged`] reads it.
pub(crate) fn ask_for_tags(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_packet_option(socket, libc::PACKET_AUXDATA, &1_i32)
}

/// Takes one frame from a packet socket that has been [asked for tags](ask_for_tags), without waiting: its length, and the
/// 802.1Q tag that the kernel has taken out of it, if it had one (packet(7), `PACKET_AUXDATA`).
pub(crate) fn receive_tagged(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<u16>)> {
    /// Room for the one control message that is asked for, aligned as `struct cmsghdr` is.
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros is a valid `msghdr`: null pointers with lengths of 0.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>();
    // SAFETY: the header leads to `vector`, which describes `buffer`, and to `control`; all of them live until the call is
    // over, and the lengths are theirs.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: `header` is as the kernel has left it: its control part has `msg_controllen` valid bytes, and CMSG_FIRSTHDR
    // answers null unless a whole header fits in them.
    let message = unsafe { libc::CMSG_FIRSTHDR(&raw const header).as_ref() };
    let Some(message) = message else { return Ok((length, None)) };
    // CMSG_LEN: the header and what follows it.
    let whole = size_of::<libc::cmsghdr>() + size_of::<libc::tpacket_auxdata>();
    if (message.cmsg_level, message.cmsg_type) != (libc::SOL_PACKET, libc::PACKET_AUXDATA) || message.cmsg_len < whole {
        return Ok((length, None));
    }
    // SAFETY: the kernel says that a whole `tpacket_auxdata` follows the header, within `control`; it may be unaligned.
    let auxiliary: libc::tpacket_auxdata =
        unsafe { libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned() };
    let tagged = auxiliary.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
    Ok((length, tagged.then_some(auxiliary.tp_vlan_tci)))
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
