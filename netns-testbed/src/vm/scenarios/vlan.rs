//! The same over a VLAN: tagged frames on the wire, and the program on the card below the VLAN's interface.

use super::modes::nothing_left;
use super::{Failed, Lab, Scenario, best};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "vlan::a_tagged_connection_takes_the_best_mode",
    cells: |series, nic| series.supported && best(series, nic) != "skb",
    show: tagged,
}];

fn tagged(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let mode = best(lab.series(), lab.nic);
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
    Ok(format!("{mode}, {stream}, {from_guest} tagged frames from the guest"))
}
