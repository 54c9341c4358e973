//! A kernel that is older than those that are supported. Nothing is promised there but that messages come and that what is
//! not to be had is said.

use super::{Failed, Lab, Scenario};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "old::auto_takes_what_there_is_and_says_why_not_better",
    column: ("auto", ""),
    cells: |series, _| !series.supported,
    show: auto,
}];

fn auto(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script("ethtool -K $nic gro off")?;
    let stream = lab.stream(&Ask::default())?;
    stream.came_whole()?;
    let reason = stream.figures.refused_modes.get("zerocopy").map(String::as_str).unwrap_or_default();
    claim(reason.contains(lab.nic.interface()), || {
        format!("no reason why not zerocopy: {:?}", stream.figures.refused_modes)
    })?;
    Ok(format!("{}, {stream}; {:?}", stream.figures.mode, stream.figures.refused_modes))
}
