//! The program that is bound to its interface: loaded and attached by libbpf.
//!
//! aya can neither bind a program to a device nor link the kernel's functions that such a program calls. What libbpf has made
//! (maps, program, link) is taken out of it as descriptors at once, so that everything behind this file is the same for both
//! loaders.

use std::os::fd::AsFd;

use aya::maps::{Map, MapData, XskMap};
use libbpf_rs::{MapCore as _, Object, ObjectBuilder, OpenObject, PrintLevel, Program, set_print};
use wiretick_xdp::{BOUND_OBJECT, FLOWS, PROGRAM_BOUND, PROGRAM_BOUND_FRAGS, VERDICTS, XSKS};

use super::{AttachMode, Parts, Pieces, Request, map_error};
use crate::control::flows::Flows;
use crate::control::link::Link;
use crate::control::verdicts::Verdicts;
use crate::control::{Error, offloads};

/// `BPF_F_XDP_DEV_BOUND_ONLY` (linux/bpf.h, since Linux 6.3): for this device, and run by the kernel.
const DEV_BOUND_ONLY: u32 = 1 << 6;

/// Loads the program for the interface, enters the sockets, and attaches it.
///
/// # Errors
///
/// Why not, in words: the plain program is to do then.
pub(super) fn attach(link: &Link, request: &Request<'_>) -> Result<Parts, String> {
    if request.mode == AttachMode::Generic {
        return Err("generic XDP comes behind the driver, which is whom a program can ask".to_owned());
    }
    let before = set_print(Some((PrintLevel::Debug, |_, line| log::debug!("libbpf: {}", line.trim_end()))));
    let result = match attempt(link, request, request.pieces) {
        // It may be the MTU, whatever the driver calls it.
        Err(_) if request.pieces == Pieces::One => attempt(link, request, Pieces::Several),
        result => result,
    };
    set_print(before);
    result
}

fn attempt(link: &Link, request: &Request<'_>, pieces: Pieces) -> Result<Parts, String> {
    let driver = offloads::driver(&link.name);
    let object = load(link, request, pieces).map_err(|error| {
        format!(
            "the kernel takes no program that is bound to {} (driver {driver}; Linux 6.3 or newer, built with BTF): {error:#}",
            link.name
        )
    })?;
    let taken = |error: Error| error.to_string();
    let flows = Flows::new(map(&object, FLOWS)?, request.queues()).map_err(taken)?;
    let verdicts = Verdicts::new(map(&object, VERDICTS)?).map_err(taken)?;
    let mut sockets = XskMap::try_from(Map::XskMap(map(&object, XSKS)?)).map_err(map_error(XSKS)).map_err(taken)?;
    super::enter(&mut sockets, request).map_err(taken)?;

    let program =
        object.progs_mut().find(|program| program.name() == name(pieces)).ok_or("the object holds no such program")?;
    let id = Program::id_from_fd(program.as_fd()).map_err(|error| format!("{error:#}"))?;
    let index = i32::try_from(link.index).map_err(|error| error.to_string())?;
    let attached = program
        .attach_xdp(index)
        .map_err(|error| format!("driver {driver} refused the program that is bound to it: {error:#}"))?;
    // libbpf closes its own descriptor when the object goes; this one keeps the program attached.
    let held = attached.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    Ok(Parts { flows, sockets, verdicts, link: held, id, pieces })
}

const fn name(pieces: Pieces) -> &'static str {
    match pieces {
        Pieces::One => PROGRAM_BOUND,
        Pieces::Several => PROGRAM_BOUND_FRAGS,
    }
}

fn load(link: &Link, request: &Request<'_>, pieces: Pieces) -> libbpf_rs::Result<Object> {
    let mut open = ObjectBuilder::default().open_memory(BOUND_OBJECT)?;
    stamp(&mut open, request.stamped);
    for mut program in open.progs_mut() {
        let wanted = program.name() == name(pieces);
        program.set_autoload(wanted);
        if wanted {
            program.set_ifindex(link.index);
            program.set_flags(DEV_BOUND_ONLY);
        }
    }
    open.load()
}

/// Writes the one global there is, [`STAMP_ARRIVALS`](wiretick_xdp::STAMP_ARRIVALS).
fn stamp(open: &mut OpenObject, stamped: bool) {
    let mut maps = open.maps_mut().filter(|map| map.name().to_string_lossy().ends_with(".rodata"));
    if let Some(place) = maps.next().as_mut().and_then(|map| map.initial_value_mut()) {
        place.copy_from_slice(&u32::from(stamped).to_ne_bytes());
    }
}

/// A map of the object, in a descriptor of its own.
fn map(object: &Object, name: &'static str) -> Result<MapData, String> {
    let found =
        object.maps().find(|map| map.name() == name).ok_or_else(|| format!("the object holds no map {name}"))?;
    let descriptor = found.as_fd().try_clone_to_owned().map_err(|error| format!("{name}: {error}"))?;
    MapData::from_fd(descriptor).map_err(|error| format!("{name}: {error}"))
}
