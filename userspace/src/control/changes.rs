//! News from the kernel about the network: links, addresses, routes, rules and neighbours, as they change.
//!
//! What comes out is only *that* something has changed: who needs to know asks the kernel what is true now, which cannot be
//! older than the news. So news that the kernel had no room to queue are no loss.

use std::io;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The groups of `enum rtnetlink_groups` (linux/rtnetlink.h) whose news can concern a connection.
const GROUPS: [libc::c_uint; 8] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_RULE,
];

/// A subscription to the kernel's news about the network namespace of the thread that made it.
pub struct Changes {
    socket: Socket,
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").finish_non_exhaustive()
    }
}

impl Changes {
    /// Subscribes. Takes no privilege.
    ///
    /// # Errors
    ///
    /// What the kernel answered.
    pub fn subscribe() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Waits for news, `at_most` so long, and takes all there are; answers whether there were any.
    ///
    /// # Errors
    ///
    /// What `poll` answered.
    pub fn wait(&self, at_most: Duration) -> io::Result<bool> {
        let timeout = Timespec {
            tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => Ok(false),
            Ok(_) => Ok(self.drain()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes all news there are. An overrun (`ENOBUFS`) is news too: that some were dropped.
    fn drain(&self) -> bool {
        let mut any = false;
        let mut bytes = Vec::with_capacity(8192);
        loop {
            bytes.clear();
            match self.socket.recv(&mut bytes, 0) {
                Ok(_) => any = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return any,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_news_the_time_passes() {
        let changes = Changes::subscribe().unwrap();
        let began = std::time::Instant::now();
        // Somebody else on the machine may change something just now.
        while changes.wait(Duration::from_millis(20)).unwrap() && began.elapsed() < Duration::from_secs(5) {}
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
