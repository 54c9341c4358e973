//! What the driver says of itself, over the ethtool ioctl (linux/ethtool.h).
#![allow(unsafe_code)]

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_GFLAGS: u32 = 0x25;
pub(super) const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_GET_TS_INFO: u32 = 0x41;

/// `ETH_FLAG_RXVLAN`.
const FLAG_RXVLAN: u32 = 1 << 8;

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rest: [u8; 32 + 12 + 5 * 4],
}

/// Who drives an interface. What is not told is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// Its name, such as `ena`.
    pub name: String,
    /// Its version; the kernel's where it has none of its own.
    pub version: String,
    /// The firmware of the NIC.
    pub firmware: String,
    /// Where the device is, such as `0000:00:05.0`.
    pub bus: String,
}

/// The name of the interface's driver, such as `ena`; empty where it does not say.
#[must_use]
pub fn driver(interface: &str) -> String {
    details(interface).name
}

/// All that the interface's driver says of itself.
#[must_use]
pub fn details(interface: &str) -> Driver {
    let mut info = DriverInfo {
        command: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        bus: [0; 32],
        rest: [0; 64],
    };
    if ethtool(interface, &mut info).is_err() {
        return Driver::default();
    }
    let text = |bytes: &[u8; 32]| {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    Driver {
        name: text(&info.driver),
        version: text(&info.version),
        firmware: text(&info.firmware),
        bus: text(&info.bus),
    }
}

/// Whether generic receive offload is on.
///
/// # Errors
///
/// What the kernel answered.
pub fn gro(interface: &str) -> io::Result<bool> {
    let mut value = Value { command: ETHTOOL_GGRO, data: 0 };
    ethtool(interface, &mut value)?;
    Ok(value.data != 0)
}

/// `struct ethtool_channels`: how many there can be, and how many there are.
#[repr(C)]
#[derive(Default)]
pub(super) struct Channels {
    command: u32,
    _max: [u32; 4],
    pub(super) receive: u32,
    _transmit: u32,
    _other: u32,
    pub(super) combined: u32,
}

/// Whether the NIC takes VLAN tags off the frames it receives (`rxvlan` in `ethtool -k`), or says so.
///
/// # Errors
///
/// What the kernel answered.
pub fn strips_vlan_tags(interface: &str) -> io::Result<bool> {
    let mut value = Value { command: ETHTOOL_GFLAGS, data: 0 };
    ethtool(interface, &mut value)?;
    Ok(value.data & FLAG_RXVLAN != 0)
}

/// `struct ethtool_ts_info`.
#[repr(C)]
#[derive(Default)]
struct TimestampInfo {
    command: u32,
    _so_timestamping: u32,
    phc: i32,
    _rest: [u32; 8],
}

/// The number of the NIC's own clock, N in `/dev/ptpN`; `None` where the driver names none.
///
/// # Errors
///
/// What the kernel answered.
pub fn ptp_clock(interface: &str) -> io::Result<Option<u32>> {
    let mut info = TimestampInfo { command: ETHTOOL_GET_TS_INFO, phc: -1, ..TimestampInfo::default() };
    ethtool(interface, &mut info)?;
    Ok(u32::try_from(info.phc).ok())
}

/// How many receive queues the interface has at the moment. They are numbered from 0.
///
/// # Errors
///
/// What the kernel answered; `EOPNOTSUPP` where the driver does not say.
pub fn receive_queues(interface: &str) -> io::Result<u32> {
    let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
    ethtool(interface, &mut channels)?;
    Ok(channels.receive + channels.combined)
}

/// Asks the driver. `T` must be the structure that belongs to the command at its front, whole: with what it says follows it.
pub(super) fn ethtool<T: ?Sized>(interface: &str, question: &mut T) -> io::Result<()> {
    if interface.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no interface has so long a name"));
    }
    // Any socket of the network namespace serves as a handle to its interfaces.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` holds integers, byte arrays and a pointer, for all of which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(question).cast();
    // SAFETY: the request names the interface and points to a structure of ours that lives through the call; the
    // kernel reads and writes as much of it as the command in front says, and that is `T` whole.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_does_not_exist_has_no_driver() {
        assert_eq!(driver("wt-none0"), "");
        assert!(gro("wt-none0").is_err());
        assert!(gro("a-name-that-is-longer-than-the-kernel-allows").is_err());
    }

    #[test]
    fn the_structure_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<DriverInfo>(), 196);
        assert_eq!(size_of::<Channels>(), 36);
        assert_eq!(size_of::<TimestampInfo>(), 44);
    }
}
