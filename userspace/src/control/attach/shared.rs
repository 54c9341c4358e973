//! The program of another feed on the same interface, shared: that of another process, or of another thread of this one.
//!
//! An interface has one XDP program. Its maps have room for the queues and flows of many feeds, each of which holds the link: the program
//! stays until the last of them has let go, whatever way they end. What one of them leaves behind when it is killed, an entry
//! without a socket, sends frames to the kernel, as if there were none.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd as _, OwnedFd};

use aya::maps::{Array, Map, MapData, MapInfo, XskMap};
use aya::programs::{ProgramInfo, loaded_links};
use libbpf_rs::libbpf_sys;
use wiretick_xdp::{FLOWS, VERDICTS, XSKS};

use super::{AttachMode, Parts, Request, map_error, variant};
use crate::control::flows::Flows;
use crate::control::link::Link;
use crate::control::owner;
use crate::control::verdicts::Verdicts;

/// Why a program is not shared.
pub(super) enum Refusal {
    /// It is none of ours.
    Foreign,
    /// It is gone by now.
    Gone,
    /// It does not do what is asked for, or may not be looked at.
    Unfit(String),
}

impl<E: std::fmt::Display> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Unfit(error.to_string())
    }
}

/// Shares the program with this id, which is attached to `link`, and enters the sockets there. Answers also whether it asks the
/// NIC.
pub(super) fn share(link: &Link, program: u32, request: &Request<'_>) -> Result<(Parts, bool), Refusal> {
    // CAP_SYS_ADMIN: whoever has it may take hold of any program, map and link of the machine by its id.
    let info = owner::info(program)
        .ok_or_else(|| Refusal::Unfit("nobody without CAP_SYS_ADMIN can look at it, or it is gone".to_owned()))?;
    let (pieces, asks_nic) = info.name_as_str().and_then(variant).ok_or(Refusal::Foreign)?;
    let is_generic = link.xdp_is_generic;
    if is_generic != (request.mode == AttachMode::Generic) {
        return Err(Refusal::Unfit(match is_generic {
            true => "it runs in generic mode: use --mode skb here too".to_owned(),
            false => "it runs in the driver: use --mode driver here too".to_owned(),
        }));
    }
    let held = held(program)?;
    let maps = Maps::of(&info)?;
    if request.stamped && !maps.stamps()? {
        return Err(Refusal::Unfit(
            "it puts no time of arrival in front of frames: that is for the first feed of an interface to ask for \
             (--stages or --slow-log)"
                .to_owned(),
        ));
    }
    let mut sockets = XskMap::try_from(Map::XskMap(maps.named(XSKS)?)).map_err(map_error(XSKS))?;
    let flows = Flows::new(maps.named(FLOWS)?, request.queues())?;
    let verdicts = Verdicts::new(maps.named(VERDICTS)?)?;
    super::enter(&mut sockets, request)?;
    Ok((Parts { flows, sockets, verdicts, link: held, id: program, pieces }, asks_nic))
}

/// A descriptor of the link that keeps the program attached.
fn held(program: u32) -> Result<OwnedFd, Refusal> {
    let link = loaded_links().filter_map(Result::ok).find(|link| link.program_id() == program).ok_or(Refusal::Gone)?;
    // SAFETY: it takes a number and gives a number; aya has the same function for itself only.
    let descriptor = unsafe { libbpf_sys::bpf_link_get_fd_by_id(link.id()) };
    if descriptor < 0 {
        return Err(Refusal::Gone);
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The maps of a program, by name.
struct Maps(Vec<(String, u32)>);

impl Maps {
    fn of(program: &ProgramInfo) -> Result<Self, Refusal> {
        let ids = program.map_ids()?.unwrap_or_default();
        let name = |id: u32| Ok((MapInfo::from_id(id)?.name_as_str().unwrap_or_default().to_owned(), id));
        ids.into_iter().map(name).collect::<Result<_, aya::maps::MapError>>().map(Self).map_err(Refusal::from)
    }

    fn named(&self, name: &str) -> Result<MapData, Refusal> {
        self.open(name, |other| other == name)
    }

    fn open(&self, name: &str, is: impl Fn(&str) -> bool) -> Result<MapData, Refusal> {
        let (_, id) = self
            .0
            .iter()
            .find(|(other, _)| is(other))
            .ok_or_else(|| Refusal::Unfit(format!("it has no map {name}: it is another version's")))?;
        Ok(MapData::from_id(*id)?)
    }

    /// Whether the program puts the time of arrival in front of frames: the one global it has (`STAMP_ARRIVALS`).
    fn stamps(&self) -> Result<bool, Refusal> {
        // libbpf puts the object's name in front.
        let globals = self.open(".rodata", |name| name.ends_with(".rodata"))?;
        let globals: Array<_, u32> = Array::try_from(Map::Array(globals))?;
        Ok(globals.get(&0, 0)? != 0)
    }
}
