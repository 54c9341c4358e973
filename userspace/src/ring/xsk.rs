//! An AF_XDP socket on one queue of one interface, through xsk-rs.
//!
//! What comes in is the name of an interface and a queue; what goes out is a [`Ring`]. Loading and attaching the XDP
//! program that redirects packets here is somebody else's job (`control::attach`): the socket is created with
//! libxdp's own program inhibited.
#![allow(unsafe_code)]

use std::io;
use std::num::NonZeroU32;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr::NonNull;
use std::time::{Duration, Instant};

use wiretick_xdp::ARRIVAL_BYTES;
use xsk_rs::config::{BindFlags, FrameSize, Interface, LibxdpFlags, QueueSize, SocketConfig, UmemConfig};
use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, Socket, TxQueue, Umem};

use super::busy_poll;
use super::token::{Chunk, RxFrame, TxFrame, next_ring_number};
use super::{Pulse, Ring, RingCounters};
use crate::floor::{Span, Time};

/// Bytes in a chunk of UMEM.
///
/// 4096, a page: zero-copy drivers want it (igb, for one, splits packets in chunks of 2048), and it holds packets up to
/// [`PACKET_BYTES_MAX`]. Smaller would save TLB entries and
/// refuse MTUs over 1,700; larger does not exist in aligned mode without huge pages.
const CHUNK: usize = 4096;

/// Descriptors moved between the rings and us in one go.
///
/// 64 is a NAPI poll's budget: the kernel does not deliver more at once. Higher only costs stack; lower splits a
/// burst's bookkeeping.
const BATCH: usize = 64;

/// Packets that the kernel sends in one wake-up in copy mode (`TX_BATCH_SIZE` in net/xdp/xsk.c). What is beyond stays on the
/// ring until the next one, and the call says so with an error that means nothing else (`EAGAIN`).
const TRANSMIT_BUDGET: usize = 32;

/// Flushes after which a packet that is still out is taken for stuck: the driver was busy when it was told. Some 100 us
/// for a lane that spins. Lower, and a NIC that reports late what it has sent is told in vain; higher, and an order waits.
const TRANSMIT_AGAIN: u32 = 512;

/// The largest IP packet a frame takes, in bytes: what is left of a chunk behind the headroom for XDP programs, an
/// Ethernet header with a tag, and the padding of a span.
pub const PACKET_BYTES_MAX: usize = CHUNK - XDP_HEADROOM - 18 - Span::PAD;

/// `XDP_PACKET_HEADROOM` (linux/bpf.h): the kernel keeps it free in front of every packet.
const XDP_HEADROOM: usize = 256;

/// How long a queue may still be taken after its last owner has closed its socket.
///
/// The kernel lets go of it in deferred work, after an RCU grace period (`xp_put_pool`, `net/xdp/xsk_buff_pool.c`): tens
/// of milliseconds. Less, and a restarted program is told that its own past owns the queue; more, and the true reason is
/// told late.
const RELEASE: Duration = Duration::from_millis(500);
const RELEASE_POLL: Duration = Duration::from_millis(5);

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
    /// The queue of the interface.
    pub queue: u32,
    /// Copy or zero-copy.
    pub bind: BindMode,
    /// Chunks for received packets; a power of two.
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
    /// Whether the lane polls the driver itself (`SO_PREFER_BUSY_POLL`): each [`Ring::flush`] is a system call then.
    pub busy_poll: bool,
}

impl XskConfig {
    /// A socket for one feed on `queue` of `interface`: 4096 chunks to receive into (16 MiB), 512 to transmit from.
    #[must_use]
    pub fn new(interface: &str, queue: u32, bind: BindMode) -> Self {
        Self {
            interface: interface.to_owned(),
            queue,
            bind,
            receive_chunks: 4096,
            transmit_chunks: 512,
            stamped: false,
            busy_poll: false,
        }
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
    #[error("{interface}: queue {queue} refused an AF_XDP socket ({mode:?} mode): {source}{}", bind_remedy(*mode, source))]
    Bind {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Copy or zero-copy.
        mode: BindMode,
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

fn bind_remedy(mode: BindMode, error: &io::Error) -> &'static str {
    match (error.raw_os_error(), mode) {
        (Some(libc::EBUSY), _) => ": another AF_XDP socket owns this queue; stop it or choose another --queue",
        (Some(libc::EOPNOTSUPP | libc::EINVAL), BindMode::ZeroCopy) => {
            ": the driver offers no zero-copy here; use --mode driver"
        }
        (Some(libc::EINVAL), BindMode::Copy) => ": no such queue? see ethtool -l, and choose another --queue",
        (Some(libc::EPERM), _) => ": needs CAP_NET_RAW (run as root)",
        (Some(libc::ENODEV), _) => ": no such interface in this network namespace",
        (Some(libc::ENETDOWN), _) => ": the interface is down; ip link set it up",
        (Some(libc::ENOBUFS | libc::ENOMEM), _) => ": raise the limit on locked memory (ulimit -l unlimited)",
        _ => "",
    }
}

/// A [`Ring`] over an AF_XDP socket. Dropping it closes the socket and releases the queue.
#[derive(Debug)]
pub struct XskRing {
    // Field order is drop order. The queues hold the socket; all four must go before the UMEM.
    receive: RxQueue,
    transmit: TxQueue,
    fill: FillQueue,
    completion: CompQueue,
    umem: Umem,
    /// The descriptor xsk-rs made for each chunk, by chunk number.
    chunks: Vec<FrameDesc>,
    scratch: [FrameDesc; BATCH],
    /// Received chunks that were given back and not yet put on the fill ring.
    recycled: Vec<FrameDesc>,
    /// Chunks free to transmit from.
    free: Vec<FrameDesc>,
    /// Chunks on the transmit ring or in the driver's hands.
    in_flight: usize,
    /// Descriptors put on the transmit ring that no wake-up has paid for yet.
    unsent: usize,
    /// Flushes since the last wake-up to transmit during which frames were out.
    flushes_in_flight: u32,
    /// Tokens that are out.
    outstanding: usize,
    number: u32,
    region: Range<usize>,
    zero_copy: bool,
    huge_pages: bool,
    stamped: bool,
    /// The lane polls the driver; and whether it has been told if that works.
    busy_poll: bool,
    busy_poll_told: bool,
    interface: String,
    counters: RingCounters,
}

impl XskRing {
    /// Registers the memory, binds the socket and fills the fill ring.
    ///
    /// The order matters: a driver that finds an empty fill ring when its XDP program is attached may never start to
    /// receive (seen on igb), so the ring is filled here, before anybody can attach.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; its text says what to do.
    pub fn open(config: &XskConfig) -> Result<Self, OpenError> {
        let wrong = |what: &dyn std::fmt::Display| OpenError::Config(what.to_string());
        let queue_size = |n: u32| QueueSize::new(n).map_err(|e| wrong(&e));
        let count = config.receive_chunks + config.transmit_chunks;

        let umem_config = UmemConfig::builder()
            .frame_size(FrameSize::new(CHUNK as u32).map_err(|e| wrong(&e))?)
            .fill_queue_size(queue_size(config.receive_chunks)?)
            .comp_queue_size(queue_size(config.transmit_chunks)?)
            .build()
            .map_err(|e| wrong(&e))?;
        let bytes = count as usize * CHUNK;
        let count = NonZeroU32::new(count).ok_or_else(|| wrong(&"no chunks"))?;
        // All of it is mapped and present from the start either way (xsk-rs: MAP_POPULATE). With huge pages 16 MiB take 8
        // entries of the TLB, without them 4,096; whoever wants them sets some aside (vm.nr_hugepages).
        let huge = fits_huge_pages(bytes).then(|| Umem::new(umem_config, count, true).ok()).flatten();
        let huge_pages = huge.is_some();
        let (umem, mut chunks) = match huge {
            Some(umem) => umem,
            None => {
                Umem::new(umem_config, count, false).map_err(|e| OpenError::Umem { bytes, source: os_error(&e) })?
            }
        };

        let interface: Interface = config.interface.parse().map_err(|e| wrong(&e))?;
        let mode = match config.bind {
            BindMode::Copy => BindFlags::XDP_COPY,
            BindMode::ZeroCopy => BindFlags::XDP_ZEROCOPY,
        };
        let socket_config = SocketConfig::builder()
            .rx_queue_size(queue_size(config.receive_chunks)?)
            .tx_queue_size(queue_size(config.transmit_chunks)?)
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(mode | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        let began = Instant::now();
        let (transmit, receive, rings) = loop {
            // SAFETY: libxdp's program load is inhibited, which is what the contract asks for.
            match unsafe { Socket::new(socket_config, &umem, &interface, config.queue) } {
                Ok(bound) => break bound,
                Err(e) => {
                    let source = os_error(&e);
                    if source.raw_os_error() == Some(libc::EBUSY) && began.elapsed() < RELEASE {
                        std::thread::sleep(RELEASE_POLL);
                        continue;
                    }
                    let (interface, queue, mode) = (config.interface.clone(), config.queue, config.bind);
                    return Err(OpenError::Bind { interface, queue, mode, source });
                }
            }
        };
        let (fill, completion) = rings.ok_or_else(|| wrong(&"the UMEM is already shared"))?;

        let zero_copy = is_zero_copy(receive.fd().as_raw_fd());
        if config.bind == BindMode::ZeroCopy && !zero_copy {
            return Err(OpenError::NotZeroCopy { interface: config.interface.clone(), queue: config.queue });
        }

        if config.busy_poll {
            // SAFETY: the receive queue keeps the socket open for as long as it lives, which is longer than this block.
            let socket = unsafe { BorrowedFd::borrow_raw(receive.fd().as_raw_fd()) };
            busy_poll::prefer(socket)
                .map_err(|source| OpenError::BusyPoll { interface: config.interface.clone(), source })?;
        }

        // SAFETY: no frame has been handed out yet, so nothing else looks at the first chunk. Only its address is used.
        let first = unsafe { umem.data_mut(&mut chunks[0]) }.contents_mut().as_ptr() as usize;
        let start = first - chunks[0].addr();
        let (for_receive, for_transmit) = chunks.split_at(config.receive_chunks as usize);
        let mut ring = Self {
            recycled: for_receive.to_vec(),
            free: for_transmit.to_vec(),
            region: start..start + bytes,
            chunks,
            receive,
            transmit,
            fill,
            completion,
            umem,
            scratch: [FrameDesc::default(); BATCH],
            in_flight: 0,
            unsent: 0,
            flushes_in_flight: 0,
            outstanding: 0,
            number: next_ring_number(),
            zero_copy,
            huge_pages,
            stamped: config.stamped,
            busy_poll: config.busy_poll,
            busy_poll_told: false,
            interface: config.interface.clone(),
            counters: RingCounters::default(),
        };
        ring.refill();
        Ok(ring)
    }

    /// Whether the kernel says that packets are not copied (`XDP_OPTIONS_ZEROCOPY`).
    #[must_use]
    pub fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether the memory is made of huge pages.
    #[must_use]
    pub fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The NAPI that busy polling polls; `None` where the driver has linked none to the queue, or has not yet received a frame (Linux 6.12 and
    /// before).
    #[must_use]
    pub fn napi(&self) -> Option<u32> {
        busy_poll::napi(self.as_fd())
    }

    /// Says once, as soon as it can be known, whether busy polling polls anything.
    #[cold]
    fn tell_busy_poll(&mut self) {
        self.busy_poll_told = true;
        match self.napi() {
            Some(napi) => log::info!("{}: busy polling NAPI {napi}", self.interface),
            None => log::warn!(
                "{}: busy polling has no effect here: the driver has not linked its NAPI to the queue (a veth never does)",
                self.interface
            ),
        }
    }

    /// What shows that frames move, without asking the kernel.
    #[must_use]
    #[inline]
    pub fn pulse(&self) -> Pulse {
        Pulse {
            received: self.counters.frames_received,
            completed: self.counters.frames_completed,
            in_flight: self.in_flight as u64,
        }
    }

    /// Puts recycled chunks on the fill ring: all, or none while the ring has no room for all of them.
    fn refill(&mut self) {
        if self.recycled.is_empty() {
            return;
        }
        // SAFETY: each descriptor in `recycled` is a chunk of this UMEM that left its token in `recycle` (or has never
        // been in one), so nobody else holds it (invariant 1).
        let put = unsafe { self.fill.produce(&self.recycled) };
        if put != 0 {
            self.recycled.clear();
        }
    }

    /// Takes transmitted chunks back from the completion ring.
    fn reap(&mut self) {
        while self.in_flight != 0 {
            // SAFETY: the descriptors are overwritten by the call; the chunks they then name come from this UMEM.
            let done = unsafe { self.completion.consume(&mut self.scratch) };
            if done == 0 {
                break;
            }
            for desc in &self.scratch[..done] {
                match self.chunks.get(desc.addr() / CHUNK) {
                    Some(chunk) => self.free.push(*chunk),
                    None => self.counters.descriptors_refused += 1,
                }
            }
            self.in_flight = self.in_flight.saturating_sub(done);
            self.counters.frames_completed += done as u64;
        }
    }

    /// The token for the chunk `desc` names, which has just come off a ring or off the free list.
    fn token(&mut self, mut desc: FrameDesc) -> Chunk {
        let address = desc.addr();
        // SAFETY: the descriptor names a chunk of this UMEM (checked by the callers) that nobody else holds
        // (invariant 1). The exclusive borrow ends here; the pointer keeps its right to the chunk's bytes.
        let (start, room) = unsafe {
            let mut data = self.umem.data_mut(&mut desc);
            let room = data.cursor().buf_len();
            data.cursor().set_pos(room);
            (NonNull::from(data.contents_mut()).cast::<u8>(), room)
        };
        self.outstanding += 1;
        // SAFETY: as above; `drop` leaks the UMEM while tokens are out (invariant 2).
        unsafe { Chunk::new(start, room, address, self.number) }
    }

    /// Wakes the driver up, if it asks for it, as often as it takes to send what is queued.
    fn wake_transmit(&mut self) -> io::Result<()> {
        loop {
            if self.transmit.needs_wakeup() {
                self.counters.wakeups_transmit += 1;
                self.transmit.wakeup()?;
            }
            self.unsent = self.unsent.saturating_sub(TRANSMIT_BUDGET);
            if self.unsent == 0 {
                return Ok(());
            }
        }
    }

    /// The chunk number behind a token that comes back.
    fn take_back(&mut self, chunk: &Chunk) -> usize {
        assert_eq!(chunk.ring(), self.number, "a frame must return to the ring it came from");
        self.outstanding -= 1;
        chunk.address() / CHUNK
    }
}

impl Ring for XskRing {
    fn receive(&mut self, into: &mut Vec<RxFrame>, max: usize) -> usize {
        let max = max.min(BATCH);
        // SAFETY: the descriptors are overwritten by the call; the packets they then name lie in this UMEM, and the
        // kernel does not touch their chunks until they are back on the fill ring.
        let taken = unsafe { self.receive.consume(&mut self.scratch[..max]) };
        for i in 0..taken {
            let desc = self.scratch[i];
            let (address, len) = (desc.addr(), desc.lengths().data());
            // Invariant 4. The second condition also holds back a packet that a driver spread over several chunks.
            if address / CHUNK >= self.chunks.len() || address % CHUNK + len > CHUNK || desc.has_more_frames() {
                self.counters.descriptors_refused += 1;
                if let Some(chunk) = self.chunks.get(address / CHUNK) {
                    self.recycled.push(*chunk);
                }
                continue;
            }
            let mut chunk = self.token(desc);
            let arrived = if self.stamped && address % CHUNK >= ARRIVAL_BYTES {
                // SAFETY: the packet begins that far inside its chunk.
                Time::from_nanos(unsafe { chunk.take_u64_in_front() })
            } else {
                Time::ZERO
            };
            into.push(RxFrame::new(chunk, len).arrived_at(arrived));
        }
        self.counters.frames_received += taken as u64;
        taken
    }

    fn recycle(&mut self, frame: RxFrame) {
        let number = self.take_back(&frame.chunk);
        self.recycled.push(self.chunks[number]);
    }

    fn lend(&mut self) -> Option<TxFrame> {
        if self.free.is_empty() {
            self.reap();
        }
        let Some(desc) = self.free.pop() else {
            self.counters.transmit_exhausted += 1;
            return None;
        };
        Some(TxFrame::new(self.token(desc)))
    }

    fn transmit(&mut self, frame: TxFrame, len: usize) {
        let number = self.take_back(&frame.chunk);
        let mut desc = self.chunks[number];
        // SAFETY: the token has just been consumed, so nobody else holds the chunk (invariant 1).
        let room = unsafe {
            let mut data = self.umem.data_mut(&mut desc);
            let mut cursor = data.cursor();
            cursor.set_pos(len);
            cursor.buf_len()
        };
        assert!(len <= room, "a packet of {len} bytes does not fit a frame of {room}");
        // SAFETY: as above; from here on the chunk is the kernel's until it comes back over the completion ring.
        let put = unsafe { self.transmit.produce_one(&desc) };
        // The transmit ring has as many slots as there are chunks to transmit from.
        debug_assert_eq!(put, 1);
        self.in_flight += 1;
        self.unsent += 1;
        self.counters.frames_transmitted += 1;
    }

    fn cancel(&mut self, frame: TxFrame) {
        let number = self.take_back(&frame.chunk);
        self.free.push(self.chunks[number]);
    }

    fn kick(&mut self) {
        if self.unsent > 0
            && let Err(error) = self.wake_transmit()
        {
            // If that means more than that the driver is busy, the next flush is told the same: `unsent` has not become 0.
            log::debug!("waking the driver up to transmit: {error}");
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.refill();
        if self.busy_poll || self.fill.needs_wakeup() {
            self.counters.wakeups_fill += 1;
            uninterrupted(self.fill.wakeup(self.receive.fd_mut(), 0))?;
            if self.busy_poll && !self.busy_poll_told && self.counters.frames_received != 0 {
                self.tell_busy_poll();
            }
        }
        if self.in_flight == 0 {
            return Ok(());
        }
        if self.unsent == 0 {
            self.flushes_in_flight += 1;
            if self.flushes_in_flight < TRANSMIT_AGAIN {
                return Ok(());
            }
            self.reap();
        }
        self.flushes_in_flight = 0;
        if self.in_flight == 0 {
            return Ok(());
        }
        self.wake_transmit()?;
        self.reap();
        Ok(())
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }

    fn region(&self) -> Range<usize> {
        self.region.clone()
    }

    fn counters(&self) -> RingCounters {
        let mut counters = self.counters;
        if let Ok(kernel) = self.receive.fd().xdp_statistics() {
            counters.receive_ring_full = kernel.rx_ring_full();
            counters.fill_ring_empty = kernel.rx_fill_ring_empty_descs();
            counters.receive_dropped = kernel.rx_dropped();
            counters.transmit_refused = kernel.tx_invalid_descs();
        }
        counters
    }
}

impl AsRawFd for XskRing {
    fn as_raw_fd(&self) -> RawFd {
        self.receive.fd().as_raw_fd()
    }
}

impl AsFd for XskRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the receive queue keeps the socket open for as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}

impl Drop for XskRing {
    fn drop(&mut self) {
        if self.outstanding != 0 {
            log::warn!("{} frames outlive their AF_XDP socket: its memory is leaked", self.outstanding);
            std::mem::forget(self.umem.clone());
        }
    }
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

/// A signal that interrupts a wake-up has done no harm: the next turn wakes the driver again.
fn uninterrupted(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
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
