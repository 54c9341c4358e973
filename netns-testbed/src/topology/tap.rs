//! A tap: an Ethernet interface of the kernel whose other end is a program, such as a virtual machine's network card.
//!
//! What comes in are a namespace and a [`TapPlan`]; what goes out is a [`Tap`], which holds the other end. The interface goes
//! with the last holder of that end: nobody has to take it away, also not after SIGKILL.
//!
//! Frames on it are those of a real wire, as with all links of the testbed: checksums are whole and segments are cut.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use super::netlink::Netlink;
use super::{Error, Namespace, offload};
use crate::sys;

/// Where taps come from.
const DEVICE: &str = "/dev/net/tun";

/// What a tap shall look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapPlan {
    /// The interface's name: 15 bytes at most.
    pub name: String,
    /// The largest IP packet, in bytes. Default 1500.
    pub mtu: u32,
    /// Ends that the program gets: one for each queue. Default 1.
    pub queues: u32,
    /// Frames that wait for the program, for each queue. Default 10,000: a virtual machine that is busy reads late, and what
    /// finds no room is lost.
    pub queue_frames: u32,
    /// The addresses of the interface, each with the bits of its network.
    pub addresses: Vec<(IpAddr, u8)>,
}

impl TapPlan {
    /// One queue, 1500 bytes, no address.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), mtu: 1500, queues: 1, queue_frames: 10_000, addresses: Vec::new() }
    }
}

/// The program's end of a tap interface.
#[derive(Clone, Debug)]
pub struct Tap {
    name: String,
    index: u32,
    queues: Vec<Arc<OwnedFd>>,
}

impl Tap {
    /// Makes a tap interface in `ns`, and sets it up.
    ///
    /// # Errors
    ///
    /// Without `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`, on a kernel without `CONFIG_TUN`, or where the plan's numbers are out of
    /// range.
    pub fn new(ns: &Namespace, plan: &TapPlan) -> Result<Self, Error> {
        if !(1..=256).contains(&plan.queues) {
            // MAX_TAP_QUEUES in drivers/net/tun.c.
            return Err(Error::Plan("a tap has from 1 to 256 queues"));
        }
        ns.enter(|| {
            // Before anything else: the interface is made in the namespace of the thread that opens the device.
            let mut netlink = Netlink::open()?;
            let open = || {
                let device = File::options().read(true).write(true).open(DEVICE)?;
                sys::become_tap(device.as_fd(), &plan.name, plan.queues > 1)?;
                Ok(Arc::new(OwnedFd::from(device)))
            };
            let refused = |source| Error::from_kernel(format!("making the tap {}", plan.name), "CONFIG_TUN", source);
            let queues = (0..plan.queues).map(|_| open()).collect::<Result<_, _>>().map_err(refused)?;
            let loopback = netlink.index_of("lo")?;
            netlink.set_up(loopback)?;
            let index = netlink.index_of(&plan.name)?;
            offload::switch_off(&plan.name)?;
            netlink.set_size(index, plan.mtu, plan.queue_frames)?;
            for &(address, prefix) in &plan.addresses {
                netlink.add_address(index, address, prefix)?;
            }
            netlink.set_up(index)?;
            Ok(Self { name: plan.name.clone(), index, queues })
        })?
    }

    /// The interface's name inside its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The interface's index inside its namespace.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The program's ends, one for each queue: a frame that is written arrives at the interface, and a frame that leaves the
    /// interface is read.
    #[must_use]
    pub fn queues(&self) -> &[Arc<OwnedFd>] {
        &self.queues
    }
}
