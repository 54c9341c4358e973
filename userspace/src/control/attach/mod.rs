//! The XDP program on an interface: loaded, given the sockets of its queues, and attached by a link that dies with us.
//!
//! The order is fixed by what drivers do: the socket is bound and its fill ring filled before this begins
//! ([`crate::ring::XskRing::open`]), then the socket goes into the map, then the program is attached, then the first
//! flow is entered. The link is a `bpf_link`: the kernel detaches the program when the last descriptor is closed,
//! whatever way the process ends. Where another feed's program is on the interface already, that one is shared (`shared`), and
//! stays until the last feed has let go.
//!
//! There are two programs that decide the same: the plain one, which aya loads, and one that is bound to the interface and may
//! ask the NIC what it knows of a frame, which libbpf loads (`bound`). Where the second is wanted and cannot be had, it is the
//! first, and the reason is kept.

mod bound;
mod reason;
mod shared;

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use aya::maps::{Map, MapData, MapError, XskMap};
use aya::programs::links::FdLink;
use aya::programs::xdp::XdpMode;
use aya::programs::{ProgramError, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use wiretick_xdp::{
    FLOWS, FlowQueues, FlowSeen, OBJECT, PROGRAM, PROGRAM_BOUND, PROGRAM_BOUND_FRAGS, PROGRAM_FRAGS, STAMP_ARRIVALS,
    Tally, XSKS,
};

use self::reason::{load_reason, os_code, program_reason};
use super::flows::{Flows, Sightings};
use super::link::{self, Link};
use super::verdicts::Verdicts;
use super::{Error, owner};
use crate::floor::FourTuple;
use crate::handover::FlowMap;

/// How long the link may be down after the program was attached. Some drivers reset the port for it: igb takes 2 s.
const CARRIER: Duration = Duration::from_secs(10);
const CARRIER_POLL: Duration = Duration::from_millis(20);
/// How often to begin anew where other feeds come and go on the interface at the same time.
const ATTEMPTS: usize = 5;

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver, before the kernel has made a packet of it.
    Native,
    /// In the kernel's generic receive path, on any interface.
    Generic,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// In how many pieces a driver hands frames to the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// In one, unless the driver wants a program that could take several on this MTU. That one decides the same; it is not
    /// taken at once because there are drivers that change how they receive for it, and kernels that do not know it.
    One,
    /// In as many as they take: frames may be larger than any driver's buffer.
    Several,
}

/// What is to be attached, and for whom.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// Where the program is to run.
    pub mode: AttachMode,
    /// The AF_XDP sockets, each under the queue it is bound to; not none. Frames that are passed back to the kernel come
    /// from the first one's queue.
    pub sockets: Vec<(u32, BorrowedFd<'a>)>,
    /// In how many pieces frames come.
    pub pieces: Pieces,
    /// Whether the program puts the time of arrival in front of each frame it redirects.
    pub stamped: bool,
    /// Whether the program is to ask the NIC: for what else to put there, where frames are stamped, and for VLAN tags that it
    /// has taken off. Where it cannot, it does without ([`Attachment::asks_nic`]).
    pub asks_nic: bool,
}

/// Whether the program asks the NIC what it knows of frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AsksNic {
    /// That was not wanted.
    NotWanted,
    /// It does.
    Yes,
    /// It cannot, for this reason.
    No(String),
}

impl<'a> Request<'a> {
    /// The program for frames in one piece, which stamps nothing.
    #[must_use]
    pub fn new(mode: AttachMode, sockets: impl Iterator<Item = (u32, BorrowedFd<'a>)>) -> Self {
        Self { mode, sockets: sockets.collect(), pieces: Pieces::One, stamped: false, asks_nic: false }
    }

    fn queues(&self) -> FlowQueues {
        FlowQueues::new(self.sockets.iter().map(|(queue, _)| *queue))
    }
}

/// The attached program. Dropping it detaches.
pub struct Attachment {
    interface: String,
    index: u32,
    queue: u32,
    mode: AttachMode,
    pieces: Pieces,
    asks_nic: AsksNic,
    flows: Flows,
    verdicts: Verdicts,
    /// The id of the program, as the interface shows it.
    id: u32,
    /// The VLAN of the flow that was entered last.
    vlan: Option<u16>,
    /// Kept for its descriptor: the program looks sockets up in it.
    _sockets: XskMap<MapData>,
    /// Closing it detaches the program, unless another feed holds it too.
    _held: Held,
    /// It was another feed's first.
    is_shared: bool,
    /// The plain program: the one that is attached, which must not be unloaded while the link is being closed; or, where that
    /// is bound to the interface, another one, with maps of its own, that no frame meets but those that are passed back.
    program: Ebpf,
    /// Its name in the object.
    name: &'static str,
}

/// What keeps the program attached.
enum Held {
    ByAya { _link: FdLink },
    ByDescriptor { _link: OwnedFd },
}

/// A program that is attached, and that this process's aya has not loaded; and its maps.
struct Parts {
    flows: Flows,
    sockets: XskMap<MapData>,
    verdicts: Verdicts,
    /// Keeps the program attached.
    link: OwnedFd,
    id: u32,
    pieces: Pieces,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment")
            .field("interface", &self.interface)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

impl Attachment {
    /// Loads the program, enters the sockets, attaches to `link`, and waits until the interface has its carrier back.
    ///
    /// # Errors
    ///
    /// [`Error::Occupied`] where somebody else's program is attached, which is left alone; [`Error::Unfit`] where it is another
    /// feed's, and does not do what is asked for; [`Error::Attach`] where the driver or the kernel refuses, with the reason and a
    /// remedy.
    ///
    /// # Panics
    ///
    /// Where there is no socket.
    pub fn attach(link: &Link, request: &Request<'_>) -> Result<Self, Error> {
        assert!(!request.sockets.is_empty(), "a program without a socket redirects nothing");
        for _ in 0..ATTEMPTS {
            let link = link::by_index(link.index)?;
            let attached = match link.xdp_program {
                Some(program) => Self::share(&link, program, request)?,
                None => match Self::first(&link, request) {
                    // Somebody was faster than we are.
                    Err(Error::Occupied { .. }) => None,
                    result => Some(result?),
                },
            };
            if let Some(attachment) = attached {
                return Ok(attachment);
            }
        }
        let reason = "other feeds come and go on the interface all the time".to_owned();
        Err(Error::Interface { interface: link.name.clone(), reason })
    }

    /// The program of another feed is shared; `None` where that is gone by now.
    fn share(link: &Link, program: u32, request: &Request<'_>) -> Result<Option<Self>, Error> {
        let (interface, owner) = (|| link.name.clone(), || owner::of(program));
        let (parts, asks_nic) = match shared::share(link, program, request) {
            Ok(shared) => shared,
            Err(shared::Refusal::Gone) => return Ok(None),
            Err(shared::Refusal::Foreign) => return Err(Error::Occupied { interface: interface(), owner: owner() }),
            Err(shared::Refusal::Unfit(reason)) => {
                return Err(Error::Unfit { interface: interface(), owner: owner(), reason });
            }
        };
        // Between the question and the descriptor of its link, another may have taken its place.
        if link::by_index(link.index)?.xdp_program != Some(program) {
            return Ok(None);
        }
        log::info!("{}: the XDP program of another feed is shared: {}", link.name, owner());
        let asks_nic = match (request.asks_nic, asks_nic) {
            (_, true) => AsksNic::Yes,
            (false, false) => AsksNic::NotWanted,
            (true, false) => AsksNic::No("the program that is shared does not".to_owned()),
        };
        Ok(Some(Self { asks_nic, is_shared: true, ..Self::beside(link, request, parts)? }))
    }

    /// The first feed on the interface.
    fn first(link: &Link, request: &Request<'_>) -> Result<Self, Error> {
        let bound = request.asks_nic.then(|| bound::attach(link, request));
        let attachment = match bound {
            Some(Ok(parts)) => Self { asks_nic: AsksNic::Yes, ..Self::beside(link, request, parts)? },
            Some(Err(reason)) => Self { asks_nic: AsksNic::No(reason), ..Self::plain(link, request)? },
            None => Self::plain(link, request)?,
        };
        await_carrier(link)?;
        Ok(attachment)
    }

    /// The plain program is loaded and attached.
    fn plain(link: &Link, request: &Request<'_>) -> Result<Self, Error> {
        let Request { mode, ref sockets, pieces, stamped, .. } = *request;
        let refused = |reason: String| Error::Attach { interface: link.name.clone(), mode, reason };
        let mut program = load(link, mode, stamped)?;
        let mut entered: XskMap<_> = take_map(&mut program, XSKS)?;
        enter(&mut entered, request)?;
        let flows = match program.take_map(FLOWS) {
            Some(Map::HashMap(map)) => Flows::new(map, request.queues())?,
            _ => return Err(Error::Map { what: FLOWS, reason: "the object holds no such map".to_owned() }),
        };
        let verdicts = Verdicts::of(&mut program)?;

        let (pieces, held) = match hook(&mut program, pieces, link, mode) {
            // It may be the MTU, whatever the driver calls it.
            Err(Error::Attach { reason, .. }) if pieces == Pieces::One && mode == AttachMode::Native => {
                let frags = hook(&mut program, Pieces::Several, link, mode);
                (Pieces::Several, frags.map_err(|_| refused(reason))?)
            }
            result => (pieces, result?),
        };
        let name = pieces.program();
        let id = xdp(&mut program, name)?.info().map_err(|error| refused(error.to_string()))?.id();
        Ok(Self {
            interface: link.name.clone(),
            index: link.index,
            queue: sockets[0].0,
            mode,
            pieces,
            asks_nic: AsksNic::NotWanted,
            flows,
            verdicts,
            id,
            vlan: None,
            _sockets: entered,
            _held: Held::ByAya { _link: held },
            is_shared: false,
            program,
            name,
        })
    }

    /// A program that aya has not loaded is attached. The kernel runs one that is bound to a device over no frame of ours
    /// (`bpf_prog_test_run_xdp` in `net/bpf/test_run.c`), so a plain one is loaded beside it for those.
    fn beside(link: &Link, request: &Request<'_>, parts: Parts) -> Result<Self, Error> {
        let refused = |error: ProgramError| {
            let reason = program_reason(&error, link, request.mode, Pieces::One);
            Error::Attach { interface: link.name.clone(), mode: request.mode, reason }
        };
        let mut program = load(link, request.mode, false)?;
        xdp(&mut program, PROGRAM)?.load().map_err(refused)?;
        let Parts { flows, sockets, verdicts, link: held, id, pieces } = parts;
        Ok(Self {
            interface: link.name.clone(),
            index: link.index,
            queue: request.sockets[0].0,
            mode: request.mode,
            pieces,
            asks_nic: AsksNic::NotWanted,
            flows,
            verdicts,
            id,
            vlan: None,
            _sockets: sockets,
            _held: Held::ByDescriptor { _link: held },
            is_shared: false,
            program,
            name: PROGRAM,
        })
    }

    /// The interface's name.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// Where the program runs.
    #[must_use]
    pub fn mode(&self) -> AttachMode {
        self.mode
    }

    /// In how many pieces the driver may hand frames to it.
    #[must_use]
    pub fn pieces(&self) -> Pieces {
        self.pieces
    }

    /// Whether the program asks the NIC what it knows of frames; if so and if frames are stamped, that stands in front of each.
    #[must_use]
    pub fn asks_nic(&self) -> &AsksNic {
        &self.asks_nic
    }

    /// What the program has decided about the frames of each queue that has seen any, by queue: those of all feeds that share it. The
    /// last row holds all queues from its own number on.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn tallies(&self) -> Result<Vec<(u32, Tally)>, Error> {
        self.verdicts.tallies()
    }

    /// The id of the program that is attached.
    #[must_use]
    pub fn program(&self) -> u32 {
        self.id
    }

    /// Whether it was another feed's first.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// What the program has seen of a flow since it was entered, also if it has been taken out not long ago.
    #[must_use]
    pub fn seen(&self, tuple: &FourTuple) -> Option<FlowSeen> {
        self.flows.seen(tuple)
    }

    /// A look, for another thread, at the flows that are entered now.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sightings(&self) -> Result<Sightings, Error> {
        self.flows.sightings()
    }
}

impl FlowMap for Attachment {
    fn insert(&mut self, tuple: &FourTuple, vlan: Option<u16>) -> io::Result<()> {
        self.vlan = vlan;
        self.flows.insert(tuple, vlan)
    }

    fn remove(&mut self, tuple: &FourTuple) -> io::Result<()> {
        self.flows.remove(tuple)
    }

    /// Runs the program over the frame "live" (`BPF_F_TEST_XDP_LIVE_FRAMES`, since Linux 5.18): what it passes goes the way
    /// of a frame that has just been received.
    fn pass(&mut self, frame: &[u8]) -> io::Result<()> {
        // The kernel knows a VLAN by its tag. Where the NIC has taken it off, it is put back.
        let tagged = self.vlan.filter(|_| !is_tagged(frame)).map(|vlan| tag(frame, vlan));
        let frame = tagged.as_deref().unwrap_or(frame);
        let context = live_context(frame.len(), self.index, self.queue);
        let program: &Xdp = self
            .program
            .program(self.name)
            .and_then(|program| program.try_into().ok())
            .ok_or(io::ErrorKind::NotFound)?;
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            attrs: TestRunAttrs::new().xdp_live_frames(1),
            ..TestRunOptions::new()
        };
        program.test_run(options).map(drop).map_err(|error| match os_code(&error) {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::other(error),
        })
    }
}

impl Pieces {
    /// The name of the program in the object.
    const fn program(self) -> &'static str {
        match self {
            Self::One => PROGRAM,
            Self::Several => PROGRAM_FRAGS,
        }
    }
}

/// What a feed's program does, by its name: in how many pieces it takes frames, and whether it asks the NIC. `None` where the name is
/// none of ours.
pub(super) fn variant(program: &str) -> Option<(Pieces, bool)> {
    match program {
        PROGRAM => Some((Pieces::One, false)),
        PROGRAM_FRAGS => Some((Pieces::Several, false)),
        PROGRAM_BOUND => Some((Pieces::One, true)),
        PROGRAM_BOUND_FRAGS => Some((Pieces::Several, true)),
        _ => None,
    }
}

/// Loads the variant for so many pieces into the kernel, and attaches it.
fn hook(program: &mut Ebpf, pieces: Pieces, link: &Link, mode: AttachMode) -> Result<FdLink, Error> {
    let refused = |reason: String| Error::Attach { interface: link.name.clone(), mode, reason };
    let xdp = xdp(program, pieces.program())?;
    xdp.load().map_err(|error| refused(program_reason(&error, link, mode, pieces)))?;
    let flags = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let id = match xdp.attach_to_if_index(link.index, flags) {
        Ok(id) => id,
        Err(error) => {
            // Somebody may have been faster than we were.
            return Err(match link::by_index(link.index)?.xdp_program {
                Some(program) => Error::Occupied { interface: link.name.clone(), owner: owner::of(program) },
                None => refused(program_reason(&error, link, mode, pieces)),
            });
        }
    };
    let held = xdp.take_link(id).map_err(|error| refused(error.to_string()))?;
    // aya falls back to attaching over netlink, which outlives the process: that is not what we promise.
    FdLink::try_from(held)
        .map_err(|_| refused("the kernel offers no bpf_link for XDP (Linux 5.9 or newer is needed)".to_owned()))
}

fn xdp<'a>(program: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, Error> {
    program
        .program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| Error::Map { what: name, reason: "the object holds no such program".to_owned() })
}

fn load(link: &Link, mode: AttachMode, stamped: bool) -> Result<Ebpf, Error> {
    EbpfLoader::new()
        .override_global(STAMP_ARRIVALS, &u32::from(stamped), true)
        .load(OBJECT)
        .map_err(|error| Error::Attach { interface: link.name.clone(), mode, reason: load_reason(&error) })
}

/// Enters the sockets, each under its queue.
fn enter(map: &mut XskMap<MapData>, request: &Request<'_>) -> Result<(), Error> {
    request.sockets.iter().try_for_each(|(queue, socket)| {
        map.set(*queue, socket.as_raw_fd(), 0).map_err(map_error("entering the AF_XDP socket"))
    })
}

/// Destination and source address: what stands in front of a tag.
const ADDRESSES: usize = 12;
const TYPE_VLAN: [u8; 2] = 0x8100_u16.to_be_bytes();

fn is_tagged(frame: &[u8]) -> bool {
    frame.get(ADDRESSES..ADDRESSES + 2).is_some_and(|ethertype| ethertype == TYPE_VLAN)
}

/// The frame with a tag for the VLAN.
fn tag(frame: &[u8], vlan: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(ADDRESSES));
    [addresses, &TYPE_VLAN, &vlan.to_be_bytes(), rest].concat()
}

/// A `struct xdp_md` (linux/bpf.h) for a frame of `len` bytes that arrives on the interface and queue.
fn live_context(len: usize, interface: u32, queue: u32) -> [u8; 24] {
    let mut context = [0; 24];
    // data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    let fields = [0, u32::try_from(len).unwrap_or(u32::MAX), 0, interface, queue, 0];
    for (place, field) in context.chunks_exact_mut(4).zip(fields) {
        place.copy_from_slice(&field.to_ne_bytes());
    }
    context
}

fn take_map<M>(program: &mut Ebpf, name: &'static str) -> Result<M, Error>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = program
        .take_map(name)
        .ok_or_else(|| Error::Map { what: name, reason: "the object holds no such map".to_owned() })?;
    M::try_from(map).map_err(map_error(name))
}

fn map_error(what: &'static str) -> impl FnOnce(MapError) -> Error {
    move |error| Error::Map { what, reason: error.to_string() }
}

/// Waits until the interface can receive again.
fn await_carrier(link: &Link) -> Result<(), Error> {
    let began = Instant::now();
    while !link::by_index(link.index)?.carrier {
        if began.elapsed() > CARRIER {
            return Err(Error::Interface {
                interface: link.name.clone(),
                reason: format!(
                    "no carrier {} s after the XDP program was attached: is the cable in?",
                    CARRIER.as_secs()
                ),
            });
        }
        std::thread::sleep(CARRIER_POLL);
    }
    if began.elapsed() > CARRIER_POLL {
        log::info!("{}: attaching took the link down for {:?}", link.name, began.elapsed());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_put_between_the_addresses_and_the_type() {
        let frame: Vec<u8> = (0..20).collect();
        assert!(!is_tagged(&frame));
        let tagged = tag(&frame, 0x123);
        assert_eq!(
            (&tagged[..12], &tagged[12..16], &tagged[16..]),
            (&frame[..12], &[0x81, 0, 1, 0x23][..], &frame[12..])
        );
        assert!(is_tagged(&tagged));
        assert!(!is_tagged(&frame[..13]));
    }
}
