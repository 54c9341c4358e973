//! A kernel below the oldest that is supported: the feed comes over the kernel, and it is said why.

use super::{Failed, Lab, Scenario};
use crate::vm::lab::Ask;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "old::auto_on_an_old_kernel",
    cells: |series, _| !series.supported,
    show: auto,
}];

fn auto(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script("ethtool -K $nic gro off")?;
    let stream = lab.stream(&Ask::default())?;
    stream.came_whole()?;
    Ok(format!("{}, {stream}; {:?}", stream.figures.mode, stream.figures.refused_modes))
}
