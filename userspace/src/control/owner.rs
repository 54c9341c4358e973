//! Whose is the XDP program that is in our way?

use std::fs;
use std::io;
use std::path::Path;

use aya::programs::{ProgramInfo, loaded_programs};

use super::attach;

/// What the kernel tells of the program with this id; `None` where it is gone, or may not be looked at.
pub(super) fn info(program: u32) -> Option<ProgramInfo> {
    loaded_programs().filter_map(Result::ok).find(|info| info.id() == program)
}

/// Whether the program with this id is a feed's, as its name says.
#[must_use]
pub fn is_a_feed(program: u32) -> bool {
    info(program).is_some_and(|info| info.name_as_str().and_then(attach::variant).is_some())
}

/// A description of the program with this id: its name, and the processes that hold it or its link.
#[must_use]
pub fn of(program: u32) -> String {
    let name = info(program)
        .and_then(|info| info.name_as_str().map(str::to_owned))
        .filter(|name| !name.is_empty())
        .map_or_else(String::new, |name| format!(" \"{name}\""));
    let (holders, hidden) = holders(program);
    let held = if holders.is_empty() && hidden {
        // Where privileges have been given up.
        "held by no process that can be seen from here".to_owned()
    } else if holders.is_empty() {
        // A program attached over netlink (ip link set ... xdp) stays without any process.
        "held by no process".to_owned()
    } else {
        format!("held by {}", holders.join(", "))
    };
    format!("program {program}{name}, {held}")
}

/// The processes with a descriptor whose fdinfo names the program: of the program itself, or of a link to it. And whether
/// there are others that this process may not look at.
fn holders(program: u32) -> (Vec<String>, bool) {
    let wanted = format!("prog_id:\t{program}");
    let (mut found, mut hidden) = (Vec::new(), false);
    for process in entries(Path::new("/proc")) {
        let Ok(pid) = process.parse::<u32>() else { continue };
        let fdinfo = Path::new("/proc").join(&process).join("fdinfo");
        hidden |= fs::read_dir(&fdinfo).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let holds = entries(&fdinfo)
            .iter()
            .any(|fd| fs::read_to_string(fdinfo.join(fd)).is_ok_and(|text| text.lines().any(|line| line == wanted)));
        if holds {
            let name = fs::read_to_string(Path::new("/proc").join(&process).join("comm")).unwrap_or_default();
            found.push(format!("{} (pid {pid})", name.trim()));
        }
    }
    (found, hidden)
}

fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
