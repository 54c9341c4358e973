//! The same over a VLAN: tagged frames on the wire, and the program on the card below the VLAN's interface.

use super::modes::nothing_left;
use super::{Failed, Lab, Nic, Scenario, best, is_steady};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "vlan::a_tagged_connection_takes_the_best_mode",
    column: ("VLAN", "works"),
    cells: |series, nic| is_steady(series, nic) && best(series, nic) != "skb",
    show: tagged,
}];

fn tagged(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let mode = best(lab.series(), lab.nic);
    if lab.nic == Nic::Igb {
        // Linux has the card take tags off and hand them over beside the frame, where a program cannot see them.
        let stream = lab.stream(&Ask { mode, tagged: true, ..Ask::default() })?;
        stream.was_refused(&["no frame of the flow reached the ring"])?;
        lab.script("ethtool -K $nic rxvlan off")?;
    }
    let before = lab.guest.outside().vlan(lab.nic).frames();
    let stream = lab.stream(&Ask { mode, tagged: true, ..Ask::default() })?;
    let after = lab.guest.outside().vlan(lab.nic).frames();
    let (to_guest, from_guest) = (after.0 - before.0, after.1 - before.1);
    stream.came_whole()?;
    stream.was_in(mode)?;
    // With its tag on the wire, both ways.
    let received = stream.figures.counter("ring", "frames_received");
    claim(to_guest >= received && from_guest > 100, || {
        format!("{to_guest} tagged frames went to the guest, {from_guest} came from it, {received} took the ring")
    })?;
    nothing_left(lab)?;
    if lab.nic == Nic::Igb {
        lab.script("ethtool -K $nic rxvlan on")?;
    }
    Ok(format!("{mode}, {stream}, {from_guest} tagged frames from the guest"))
}
