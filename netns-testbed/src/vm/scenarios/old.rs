//! A kernel that is older than those that are supported. Nothing is promised there but that messages come and that what is
//! not to be had is said.

use super::{Failed, Lab, Scenario};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "old::the_bypass_is_refused_with_the_reason_and_the_feed_comes_all_the_same",
    column: ("auto", ""),
    cells: |series, _| !series.supported,
    show: auto,
}];

fn auto(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let stream = lab.stream(&Ask::default())?;
    stream.came_whole()?;
    stream.was_in("kernel")?;
    for mode in ["zerocopy", "driver", "skb"] {
        let reason = stream.figures.refused_modes.get(mode).map(String::as_str).unwrap_or_default();
        claim(reason.contains("older than 5.15"), || {
            format!("no reason why not {mode}: {:?}", stream.figures.refused_modes)
        })?;
    }
    let stream = lab.stream(&Ask { mode: "driver", ..Ask::default() })?;
    stream.was_refused(&["older than 5.15", "--mode kernel"])?;
    Ok("kernel, and why".to_owned())
}
