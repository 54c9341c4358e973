//! wiretick's XDP program and what userspace must know to use it.
//!
//! The program is C (`src/bpf/program.h`), compiled by clang when this crate is built, and embedded here as
//! [`OBJECT`], an ELF file that aya and libbpf both load. Around it stand the names and sizes of its maps, the key
//! under which a flow is entered ([`FlowKey`]), and the verdicts by which it counts every frame ([`Verdict`]). This
//! crate loads nothing and calls no kernel: it is layout, and it depends on neither loader. ([`FLOOR_OBJECT`] is a program
//! for a measurement.)
//!
//! | map | kind | key | value |
//! |---|---|---|---|
//! | [`FLOWS`] | hash, [`FLOWS_MAX`] entries | `[u8; 40]`, from [`FlowKey::to_bytes`] | `[u8; 144]`, from [`FlowQueues::to_bytes`] and for [`FlowSeen::from_bytes`] |
//! | [`XSKS`] | XSKMAP, [`QUEUES_MAX`] entries | `u32`, the receive queue | the AF_XDP socket |
//! | [`VERDICTS`] | per-CPU array, [`VERDICT_SLOTS`] entries | `u32`, from [`slot`] | `u64`, frames |
//!
//! # What the program does
//!
//! A frame that is TCP over IPv4 (any options, no fragment) or over IPv6 (no extension header), with at most one 802.1Q
//! tag, and whose addresses, ports and VLAN are an entry of [`FLOWS`], is redirected to the socket that [`XSKS`] holds
//! for the queue it came in on, if that is one of the flow's. Every other frame, and one whose queue has no socket of its feed, goes up the kernel's stack
//! unchanged (`XDP_PASS`). The program itself drops nothing. [`Verdict`] lists every way out.
//!
//! # What its user must know
//!
//! * Taking a flow out of [`FLOWS`] holds for every frame whose run begins afterwards. A run that had already found the
//!   entry may still redirect its frame: drain the ring once more after the removal.
//! * The program sees the frame as the driver hands it over. Where the NIC strips VLAN tags (`rxvlan` in `ethtool -k`),
//!   a tagged frame arrives without its tag: it matches a key without a VLAN, and a key with one never matches. The
//!   kernel then keeps the flow, counted as [`Verdict::OtherFlow`]. Switch the offload off before entering such a key, or take
//!   the device-bound program ([`BOUND_OBJECT`]), which asks the NIC for the tag (Linux 6.8, and a driver that tells).
//! * A redirected frame is out of the program's hands. The kernel drops it where the socket is not bound to this very
//!   interface and queue (bind a socket before you put it in [`XSKS`], under the queue it is bound to), and where its
//!   receive ring is full or its fill ring empty (counted in the socket's `XDP_STATISTICS`).
//! * [`PROGRAM`] runs on frames that lie in one piece, and drivers refuse it on an MTU that takes more. [`PROGRAM_FRAGS`] also
//!   runs on frames in several; the socket must have been bound with `XDP_USE_SG` (Linux 6.6), or the kernel drops what
//!   does not fit a chunk. Both stand in [`OBJECT`]; load one.
//! * Kernels: 5.15 and newer are meant; the fallback of a redirect is of 5.3, the instructions used are of 5.1. The
//!   verdict tests were run on 6.1 and 6.18, and on 5.10 without those of the queues, which that kernel cannot run.
//!
//! # Example
//!
//! Enter a flow with aya, whose maps take byte arrays as they are:
//!
//! ```no_run
//! use wiretick_xdp::{FLOWS, FlowKey, FlowQueues, FlowSeen, OBJECT};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut bpf = aya::Ebpf::load(OBJECT)?;
//! let mut flows: aya::maps::HashMap<_, [u8; FlowKey::LEN], [u8; FlowSeen::LEN]> = bpf.map_mut(FLOWS).unwrap().try_into()?;
//! let key = FlowKey::new("192.0.2.1:40000".parse()?, "198.51.100.7:443".parse()?, None)?;
//! flows.insert(key.to_bytes(), FlowQueues::new([0]).to_bytes(), 0)?;
//! # Ok(())
//! # }
//! ```

mod flow;
mod hints;
mod verdict;

pub use flow::{FlowKey, FlowKeyError, FlowQueues, FlowSeen};
pub use hints::{Answer, HINTS_BYTES, HINTS_VERSION, Hints, NicTime, RssHash, VlanTag};
pub use verdict::{QUEUE_ROWS, Tally, VERDICT_COLUMNS, VERDICT_SLOTS, Verdict, row, slot};

/// The compiled program with its maps: an ELF file, to be handed to a loader as it is.
pub static OBJECT: &[u8] = &ALIGNED.0;

/// The same for one interface, as an ELF file: it decides as [`OBJECT`]'s programs do, with the same maps, and also knows what
/// the NIC knows ([`Hints`]). Its programs are to be bound to a device when they are loaded (`BPF_F_XDP_DEV_BOUND_ONLY`,
/// Linux 6.3), and attached in the driver. aya 0.14 can load neither a program that is bound nor one that calls functions of
/// the kernel's; libbpf can.
pub static BOUND_OBJECT: &[u8] = &BOUND_ALIGNED.0;

/// Another program, for a measurement of AF_XDP by itself, as an ELF file: UDP to one port goes to the socket that its
/// map [`XSKS`] holds for the queue, everything else to the kernel. Nobody who does not load it pays for it.
pub static FLOOR_OBJECT: &[u8] = &FLOOR_ALIGNED.0;

/// Name of the program in [`FLOOR_OBJECT`].
pub const FLOOR_PROGRAM: &str = "wiretick_floor";

/// Name of the global variable in [`FLOOR_OBJECT`] that holds the port: a `u32` to be written before loading.
pub const FLOOR_PORT: &str = "floor_port";

/// ELF's headers are read in place by loaders that insist on their alignment, and [`include_bytes!`] promises none.
static ALIGNED: Aligned<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/wiretick.bpf.o")).len()]> =
    Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/wiretick.bpf.o")));
static BOUND_ALIGNED: Aligned<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/bound.bpf.o")).len()]> =
    Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/bound.bpf.o")));
static FLOOR_ALIGNED: Aligned<[u8; include_bytes!(concat!(env!("OUT_DIR"), "/floor.bpf.o")).len()]> =
    Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/floor.bpf.o")));

#[repr(C, align(8))]
struct Aligned<T>(T);

/// Name of the program in [`OBJECT`] for frames that lie in one piece: section `xdp`.
pub const PROGRAM: &str = "wiretick";

/// Name of the program in [`OBJECT`] for frames that may lie in several pieces: section `xdp.frags` (Linux 5.18).
pub const PROGRAM_FRAGS: &str = "wiretick_frags";

/// Name of the program in [`BOUND_OBJECT`] for frames that lie in one piece.
pub const PROGRAM_BOUND: &str = "wiretick_bound";

/// Name of the program in [`BOUND_OBJECT`] for frames that may lie in several pieces.
pub const PROGRAM_BOUND_FRAGS: &str = "wiretick_bfrags";

/// Name of the map that holds the flows to be redirected.
pub const FLOWS: &str = "flows";

/// Name of the map that holds each receive queue's AF_XDP socket.
pub const XSKS: &str = "xsks";

/// Name of the map that counts frames by queue and [`Verdict`].
pub const VERDICTS: &str = "verdicts";

/// Name of the global variable, a `u32` to be written before loading, that makes the program put the time of arrival in
/// front of each frame it redirects: [`ARRIVAL_BYTES`] of `CLOCK_MONOTONIC` nanoseconds, in the machine's byte order.
///
/// It costs about 25 ns a frame, most of it the clock. A frame whose driver has no room for metadata comes without, so
/// whoever reads the bytes must know what stood there before.
pub const STAMP_ARRIVALS: &str = "stamp_arrivals";

/// Bytes in front of a stamped frame.
pub const ARRIVAL_BYTES: usize = 8;

/// Most flows at a time. One more is refused with `E2BIG`.
///
/// Lower, and a lane of hundreds of connections no longer fits. Higher costs about 100 bytes of kernel memory for each
/// entry, taken when the map is made, and nothing per frame.
pub const FLOWS_MAX: u32 = 1024;

/// Receive queues that can have a socket: 0 to 1023.
///
/// Lower, and flows on the high queues of a large NIC (mlx5 once numbered its AF_XDP queues from the middle up) could
/// never be redirected: they would count as [`Verdict::NoSocket`]. Higher costs 8 bytes of kernel memory for each
/// queue.
pub const QUEUES_MAX: u32 = 1024;
