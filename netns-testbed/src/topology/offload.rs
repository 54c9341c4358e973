//! What a network card would do for the kernel, and a veth pretends to: switched off, so that the frames on the wire
//! are those a real wire carries.
//!
//! What comes in is an interface of the namespace the thread stands in. Four facts, of which the tests of this crate
//! show the first three on the wire:
//!
//! * **Transmit checksums.** A veth claims it computes them and then does not: with the offload on, the far end gets TCP
//!   segments whose checksum field holds the pseudo-header's sum only. The kernel's own receiver knows, because a flag
//!   travels with the packet; an AF_XDP reader sees bytes and must call every segment corrupt.
//! * **TCP segmentation (TSO).** A veth claims it cuts segments, and hands over frames of up to 64 KiB instead. Switching
//!   checksums off switches this off as well, because the kernel refuses one without the other; it is asked for by name
//!   all the same.
//! * **Generic segmentation (GSO)** may stay. It is the kernel's own and cuts before the device sees the packet.
//! * **Generic receive (GRO)** joins segments again on the receiving side, before a generic-mode XDP program runs. A veth
//!   has it off to begin with; some kernels (5.13 and later, not 6.18) turn it on together with a native XDP program,
//!   which harms nobody, because that program runs first.

use std::net::UdpSocket;
use std::os::fd::AsFd as _;

use super::Error;
use super::namespace::assert_not_the_machines;
use crate::sys;

/// `linux/ethtool.h`: set and get, by what they switch.
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;

/// The switches, in the order in which they are turned: TSO first, or the kernel turns it off by itself.
const SWITCHES: [(&str, u32, u32); 3] = [
    ("TCP segmentation", ETHTOOL_STSO, ETHTOOL_GTSO),
    ("transmit checksums", ETHTOOL_STXCSUM, ETHTOOL_GTXCSUM),
    ("generic receive", ETHTOOL_SGRO, ETHTOOL_GGRO),
];

/// Turns off what would make frames on this wire differ from frames on a real one, and reads back that it is off.
pub(super) fn switch_off(interface: &str) -> Result<(), Error> {
    assert_not_the_machines()?;
    // Any socket will do: it only tells the kernel which namespace is meant.
    let socket = UdpSocket::bind("127.0.0.1:0")
        .map_err(|source| Error::from_kernel("opening a socket", "CONFIG_INET", source))?;
    for (what, set, get) in SWITCHES {
        let refused = |source| {
            Error::from_kernel(format!("switching {what} off on {interface}"), "CONFIG_ETHTOOL_NETLINK", source)
        };
        sys::ethtool_value(socket.as_fd(), interface, set, 0).map_err(refused)?;
        if sys::ethtool_value(socket.as_fd(), interface, get, 0).map_err(refused)? != 0 {
            return Err(refused(std::io::Error::other("it is still on")));
        }
    }
    Ok(())
}
