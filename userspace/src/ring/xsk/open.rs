//! Opening: memory, sockets, fill rings.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Instant;

use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::super::join::{JOINED_BYTES_MAX, Joiner};
use super::super::token::next_ring_number;
use super::super::{RingCounters, busy_poll};
use super::config::{BindMode, OpenError, XskConfig};
use super::queue::{QueueSocket, Store};
use super::{BATCH, CHUNK, PACKET_BYTES_MAX, RELEASE, RELEASE_POLL, XskRing};

/// Slots of the transmit ring of a socket that nothing is sent over: it cannot be without.
const TRANSMIT_UNUSED: u32 = 64;

/// A socket that is bound, with its rings.
type Bound = ((TxQueue, RxQueue), (FillQueue, CompQueue));

impl XskRing {
    /// Registers the memory, binds the sockets and fills their fill rings.
    ///
    /// The order matters: a driver that finds an empty fill ring when its XDP program is attached may never start to
    /// receive (seen on igb), so the rings are filled here, before anybody can attach.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; its text says what to do.
    pub fn open(config: &XskConfig) -> Result<Self, OpenError> {
        let wrong = |what: &dyn std::fmt::Display| OpenError::Config(what.to_string());
        let Some((&first, others)) = config.queues.split_first() else { return Err(wrong(&"no queue")) };
        if (1..config.queues.len()).any(|at| config.queues[..at].contains(&config.queues[at])) {
            return Err(wrong(&format!("a queue is named twice among {:?}", config.queues)));
        }
        if config.packet_bytes_max > JOINED_BYTES_MAX {
            let bytes = config.packet_bytes_max;
            return Err(wrong(&format!("packets of {bytes} bytes are too large: at most {JOINED_BYTES_MAX}")));
        }
        let bytes_of = |count: u32| count as usize * CHUNK;
        let each = config.receive_chunks;
        let count = u32::try_from(config.queues.len())
            .ok()
            .and_then(|queues| each.checked_mul(queues)?.checked_add(config.transmit_chunks))
            .and_then(NonZeroU32::new)
            .ok_or_else(|| wrong(&"no chunks, or more than there can be"))?;

        let (umem, mut chunks, huge_pages) = memory(config, count, bytes_of(count.get()))?;
        let mut bound = vec![config.bind_to(&umem, first, config.transmit_chunks)?];
        for &queue in others {
            bound.push(config.bind_to(&umem, queue, TRANSMIT_UNUSED)?);
        }
        for (&queue, ((_, receive), _)) in config.queues.iter().zip(&bound) {
            if config.bind == BindMode::ZeroCopy && !is_zero_copy(receive.fd().as_raw_fd()) {
                return Err(OpenError::NotZeroCopy { interface: config.interface.clone(), queue });
            }
        }

        // SAFETY: no frame has been handed out yet, so nothing else looks at the first chunk. Only its address is used.
        let first_chunk = unsafe { umem.data_mut(&mut chunks[0]) }.contents_mut().as_ptr() as usize;
        let start = first_chunk - chunks[0].addr();
        let receive_chunks = each as usize;
        let mut sockets = config
            .queues
            .iter()
            .zip(bound)
            .zip(chunks.chunks(receive_chunks))
            .map(|((&queue, (ways, rings)), chunks)| QueueSocket::new(queue, ways, rings, chunks));
        let first = sockets.next().ok_or_else(|| wrong(&"no queue"))?;
        let others: Vec<_> = sockets.collect();
        let free = chunks[receive_chunks * config.queues.len()..].to_vec();
        let number = next_ring_number();
        let bytes = bytes_of(count.get());
        let joiner = if config.several() { Joiner::new(config.packet_bytes_max, number) } else { Joiner::none(number) };
        let ring = Self {
            first,
            others,
            receive_chunks,
            next: 0,
            free,
            store: Store {
                umem,
                chunks,
                scratch: [FrameDesc::default(); BATCH],
                outstanding: 0,
                number,
                region: start..start + bytes,
                stamped: config.stamped,
                hinted: false,
                joiner,
                counters: RingCounters::default(),
            },
            in_flight: 0,
            unsent: 0,
            flushes_in_flight: 0,
            zero_copy: config.bind == BindMode::ZeroCopy,
            huge_pages,
            busy_poll: config.busy_poll,
            busy_poll_told: false,
            interface: config.interface.clone(),
        };
        if config.busy_poll {
            for (_, socket) in ring.sockets() {
                busy_poll::prefer(socket)
                    .map_err(|source| OpenError::BusyPoll { interface: config.interface.clone(), source })?;
            }
        }
        Ok(ring)
    }
}

impl XskConfig {
    /// Whether packets may come in several chunks.
    fn several(&self) -> bool {
        self.packet_bytes_max > PACKET_BYTES_MAX
    }

    /// Binds a socket to `queue`, with the four rings it needs.
    fn bind_to(&self, umem: &Umem, queue: u32, transmit: u32) -> Result<Bound, OpenError> {
        let interface: Interface = self.interface.parse().map_err(|e| OpenError::Config(format!("{e}")))?;
        let mode = match self.bind {
            BindMode::Copy => BindFlags::XDP_COPY,
            BindMode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        };
        // Not always: a driver in zero-copy mode has to support it, and then takes room from every chunk for it
        // (`xsk_pool_get_tailroom` in include/net/xdp_sock_drv.h).
        let several = if self.several() { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
        // What shares the UMEM of another socket is bound as that one was, whatever stands here (`xp_assign_dev_shared`).
        let config = SocketConfig::builder()
            .rx_queue_size(queue_size(self.receive_chunks)?)
            .tx_queue_size(queue_size(transmit)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | several | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let began = Instant::now();
        loop {
            // SAFETY: libxdp's program load is inhibited, which is what the contract asks for.
            match unsafe { Socket::new(config, umem, &interface, queue) } {
                Ok((transmit, receive, Some(rings))) => return Ok(((transmit, receive), rings)),
                Ok((_, _, None)) => return Err(OpenError::Config(format!("queue {queue} has a socket already"))),
                Err(error) => {
                    let source = os_error(&error);
                    if source.raw_os_error() == Some(libc::EBUSY) && began.elapsed() < RELEASE {
                        std::thread::sleep(RELEASE_POLL);
                        continue;
                    }
                    let interface = self.interface.clone();
                    return Err(OpenError::Bind { interface, queue, mode: self.bind, several: self.several(), source });
                }
            }
        }
    }
}

/// The shared memory, the descriptor of each of its chunks, and whether it is made of huge pages.
fn memory(config: &XskConfig, count: NonZeroU32, bytes: usize) -> Result<(Umem, Vec<FrameDesc>, bool), OpenError> {
    let wrong = |what: &dyn std::fmt::Display| OpenError::Config(what.to_string());
    let umem_config = UmemConfig::builder()
        .frame_size(FrameSize::new(CHUNK as u32).map_err(|e| wrong(&e))?)
        .fill_queue_size(queue_size(config.receive_chunks)?)
        .comp_queue_size(queue_size(config.transmit_chunks)?)
        .build()
        .map_err(|e| wrong(&e))?;
    // All of it is mapped and present from the start either way (xsk-rs: MAP_POPULATE). With huge pages 16 MiB take 8
    // entries of the TLB, without them 4,096; whoever wants them sets some aside (vm.nr_hugepages).
    if fits_huge_pages(bytes)
        && let Ok((umem, chunks)) = Umem::new(umem_config, count, true)
    {
        return Ok((umem, chunks, true));
    }
    match Umem::new(umem_config, count, false) {
        Ok((umem, chunks)) => Ok((umem, chunks, false)),
        Err(error) => Err(OpenError::Umem { bytes, source: os_error(&error) }),
    }
}

fn queue_size(slots: u32) -> Result<QueueSize, OpenError> {
    QueueSize::new(slots).map_err(|error| OpenError::Config(error.to_string()))
}

/// Whether `bytes` fill the machine's huge pages, and enough of them are free. Others would be mapped in part only, and could
/// not be given back.
fn fits_huge_pages(bytes: usize) -> bool {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let number = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    match (number("HugePages_Free"), number("Hugepagesize")) {
        (Some(free), Some(kib)) if kib > 0 => bytes.is_multiple_of(kib << 10) && free >= bytes / (kib << 10),
        _ => false,
    }
}

/// The operating system's error below one of xsk-rs'.
fn os_error(error: &(dyn std::error::Error + 'static)) -> io::Error {
    let below = error.source().and_then(|e| e.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error);
    match below {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(error.to_string()),
    }
}

/// Asks the kernel (`getsockopt(SOL_XDP, XDP_OPTIONS)`, net/xdp/xsk.c) whether the bound socket is zero-copy.
fn is_zero_copy(fd: RawFd) -> bool {
    let mut options = libc::xdp_options { flags: 0 };
    let mut len = size_of::<libc::xdp_options>() as libc::socklen_t;
    // SAFETY: the pointers are to a local of the size that `len` says, and the kernel writes no more than that.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_OPTIONS, (&raw mut options).cast(), &raw mut len) };
    result == 0 && options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0
}
