//! What to open, and why it could not be opened.

use std::io;

use super::PACKET_BYTES_MAX;

/// How a socket is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindMode {
    /// The kernel copies each packet into UMEM (`XDP_COPY`). Works with every driver and with generic XDP.
    Copy,
    /// The NIC writes into UMEM itself (`XDP_ZEROCOPY`). The driver has to support it.
    ZeroCopy,
}

/// What to open.
#[derive(Clone, Debug)]
pub struct XskConfig {
    /// The interface's name, in the network namespace of the calling thread.
    pub interface: String,
    /// The queues of the interface that the ring receives from, each once. It sends over the first one.
    pub queues: Vec<u32>,
    /// Copy or zero-copy.
    pub bind: BindMode,
    /// The largest IP packet that arrives, in bytes, as far as it must not be lost: the MTU, for one.
    ///
    /// Above [`PACKET_BYTES_MAX`], packets may come in several chunks (`XDP_USE_SG`, Linux 6.6), and are put together. The
    /// XDP program must be one for frames in several pieces. Not more than
    /// [`JOINED_BYTES_MAX`](crate::ring::JOINED_BYTES_MAX).
    pub packet_bytes_max: usize,
    /// Chunks for the packets received from each queue; a power of two.
    ///
    /// Fewer than a burst holds, and the kernel drops packets that TCP then has to send again: the captured feeds burst
    /// to 612 messages in 10 ms, and a peer may send a whole receive window of small segments at once. More only
    /// spreads the packets over more cache lines.
    pub receive_chunks: u32,
    /// Chunks for packets to transmit; a power of two. A feed sends acknowledgements, pongs and orders: 256 in flight
    /// is far more than a link holds.
    pub transmit_chunks: u32,
    /// Whether the XDP program puts the time of arrival in front of each packet
    /// ([`STAMP_ARRIVALS`](wiretick_xdp::STAMP_ARRIVALS)). Must be what the program was told: the bytes are the driver's
    /// otherwise.
    pub stamped: bool,
    /// Whether the lane polls the driver itself (`SO_PREFER_BUSY_POLL`): each [`Ring::flush`](crate::ring::Ring::flush) is a
    /// system call for each queue then.
    pub busy_poll: bool,
}

impl XskConfig {
    /// A socket for one feed on `queue` of `interface`: 4096 chunks to receive into (16 MiB), 512 to transmit from.
    #[must_use]
    pub fn new(interface: &str, queue: u32, bind: BindMode) -> Self {
        Self {
            interface: interface.to_owned(),
            queues: vec![queue],
            bind,
            packet_bytes_max: 1500,
            receive_chunks: 4096,
            transmit_chunks: 512,
            stamped: false,
            busy_poll: false,
        }
    }

    /// The same over these queues, of which the first one is sent over.
    ///
    /// Each has as many chunks as one alone would have (any of them may get the whole flow at once), as long as all together
    /// have no more than 32,768, 128 MiB: from 9 queues on, each has fewer, 512 at least.
    #[must_use]
    pub fn over(self, queues: Vec<u32>) -> Self {
        const TOGETHER: usize = 32_768;
        let each = (TOGETHER / queues.len().next_power_of_two()).clamp(512, 4096);
        Self { receive_chunks: u32::try_from(each).unwrap_or(4096), queues, ..self }
    }
}

/// Why a socket could not be opened. The text names the interface, the queue and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The shared memory could not be registered.
    #[error("UMEM of {bytes} bytes was refused: {source}{}", umem_remedy(source))]
    Umem {
        /// Its size.
        bytes: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The socket could not be bound to the queue.
    #[error("{interface}: queue {queue} refused an AF_XDP socket ({mode:?} mode): {source}{}", bind_remedy(*mode, *several, source))]
    Bind {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Copy or zero-copy.
        mode: BindMode,
        /// For packets in several chunks, too.
        several: bool,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel bound the socket but does not say that it is zero-copy.
    #[error("{interface}: queue {queue} was bound, but XDP_OPTIONS does not confirm zero-copy: use driver mode")]
    NotZeroCopy {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The kernel does not let this socket poll the driver.
    #[error(
        "{interface}: busy polling was refused: {source}: it needs Linux 5.11, CONFIG_NET_RX_BUSY_POLL and CAP_NET_ADMIN"
    )]
    BusyPoll {
        /// The interface.
        interface: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The configuration itself is wrong: the caller's mistake.
    #[error("AF_XDP configuration: {0}")]
    Config(String),
}

fn umem_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => ": needs CAP_NET_RAW (run as root)",
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            ": raise the limit on locked memory (ulimit -l unlimited) or grant CAP_IPC_LOCK"
        }
        Some(libc::EAFNOSUPPORT) => ": this kernel is built without CONFIG_XDP_SOCKETS",
        _ => "",
    }
}

fn bind_remedy(mode: BindMode, several: bool, error: &io::Error) -> String {
    let small = format!("an MTU of {PACKET_BYTES_MAX} or less");
    match (error.raw_os_error(), mode) {
        (Some(libc::EBUSY), _) => {
            ": another AF_XDP socket owns this queue; stop it or choose another --queue".to_owned()
        }
        (Some(libc::EOPNOTSUPP | libc::EINVAL), BindMode::ZeroCopy) if several => {
            format!(": the driver offers no zero-copy for packets of several chunks; use --mode driver, or {small}")
        }
        (Some(libc::EOPNOTSUPP | libc::EINVAL), BindMode::ZeroCopy) => {
            ": the driver offers no zero-copy here; use --mode driver".to_owned()
        }
        (Some(libc::EINVAL), BindMode::Copy) if several => format!(
            ": a kernel before 6.6 takes no packets of several chunks, and needs {small}; or is there no such queue \
             (ethtool -l)?"
        ),
        (Some(libc::EINVAL), BindMode::Copy) => {
            ": no such queue? see ethtool -l, and choose another --queue".to_owned()
        }
        (Some(libc::EPERM), _) => ": needs CAP_NET_RAW (run as root)".to_owned(),
        (Some(libc::ENODEV), _) => ": no such interface in this network namespace".to_owned(),
        (Some(libc::ENETDOWN), _) => ": the interface is down; ip link set it up".to_owned(),
        (Some(libc::ENOBUFS | libc::ENOMEM), _) => {
            ": raise the limit on locked memory (ulimit -l unlimited)".to_owned()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_queues_share_what_one_would_not_need() {
        let each = |count: u32| XskConfig::new("eth0", 0, BindMode::Copy).over((0..count).collect()).receive_chunks;
        assert_eq!([1, 2, 8, 9, 16, 17, 64, 200].map(each), [4096, 4096, 4096, 2048, 2048, 1024, 512, 512]);
        assert!((1..=1024).all(|count| each(count).is_power_of_two()));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let error = |mode, several, errno| {
            let source = io::Error::from_raw_os_error(errno);
            OpenError::Bind { interface: "eth0".to_owned(), queue: 3, mode, several, source }.to_string()
        };
        for (mode, several, errno, remedy) in [
            (BindMode::Copy, false, libc::EINVAL, "no such queue?"),
            (BindMode::Copy, true, libc::EINVAL, "an MTU of 3758 or less; or is there no such queue (ethtool -l)?"),
            (BindMode::ZeroCopy, false, libc::EOPNOTSUPP, "the driver offers no zero-copy here"),
            (BindMode::ZeroCopy, true, libc::EOPNOTSUPP, "no zero-copy for packets of several chunks"),
            (BindMode::ZeroCopy, true, libc::EBUSY, "another AF_XDP socket owns this queue"),
        ] {
            let text = error(mode, several, errno);
            assert!(text.contains("eth0: queue 3") && text.contains(remedy), "{text}");
        }
    }
}
