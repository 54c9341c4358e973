//! Which modes a card has on a kernel, what is said where it has not, and that the feed comes through each byte for byte.

use super::{Failed, Lab, Scenario, best, is_steady};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "modes::zerocopy_is_confirmed_by_the_kernel",
        column: ("zerocopy", "works"),
        cells: |series, nic| is_steady(series, nic) && best(series, nic) == "zerocopy",
        show: |lab| had(lab, "zerocopy"),
    },
    Scenario {
        name: "modes::zerocopy_is_refused_with_the_reason",
        column: ("zerocopy", "refused"),
        cells: |series, nic| is_steady(series, nic) && best(series, nic) != "zerocopy",
        show: zerocopy_refused,
    },
    Scenario {
        name: "modes::driver_carries_the_feed_byte_for_byte",
        column: ("driver", "works"),
        cells: |series, nic| is_steady(series, nic) && best(series, nic) != "skb",
        show: |lab| had(lab, "driver"),
    },
    Scenario {
        name: "modes::driver_is_refused_where_there_is_no_native_xdp",
        column: ("driver", "refused"),
        cells: |series, nic| is_steady(series, nic) && best(series, nic) == "skb",
        show: driver_refused,
    },
    Scenario {
        name: "modes::skb_wants_gro_off_and_carries_the_feed_byte_for_byte",
        column: ("skb", "works"),
        cells: is_steady,
        show: skb,
    },
    Scenario {
        name: "modes::auto_takes_the_best_and_says_why_not_better",
        column: ("auto", ""),
        cells: is_steady,
        show: auto,
    },
];

/// The mode is in effect, and everything comes through it.
fn had(lab: &mut Lab<'_>, mode: &str) -> Result<String, Failed> {
    let stream = lab.stream(&Ask { mode, ..Ask::default() })?;
    stream.came_whole()?;
    stream.was_in(mode)?;
    nothing_left(lab)?;
    Ok(stream.to_string())
}

fn zerocopy_refused(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let stream = lab.stream(&Ask { mode: "zerocopy", ..Ask::default() })?;
    stream.was_refused(&["mode zerocopy cannot be had", lab.nic.interface()])?;
    nothing_left(lab)?;
    Ok(stream.words().to_owned())
}

fn driver_refused(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let stream = lab.stream(&Ask { mode: "driver", ..Ask::default() })?;
    let driver = format!("driver {} has no native XDP", lab.nic.driver());
    stream.was_refused(&["mode driver cannot be had", &driver, "--mode skb"])?;
    nothing_left(lab)?;
    Ok(stream.words().to_owned())
}

/// First as Linux sets the card up: generic XDP sees what GRO has merged. Then as the refusal says.
fn skb(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let ask = Ask { mode: "skb", ..Ask::default() };
    let stream = lab.stream(&ask)?;
    let remedy = format!("ethtool -K {} gro off", lab.nic.interface());
    stream.was_refused(&["mode skb cannot be had", &remedy])?;
    lab.script(&remedy)?;
    let seen = had(lab, "skb")?;
    lab.script("ethtool -K $nic gro on")?;
    Ok(seen)
}

fn auto(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let wanted = best(lab.series(), lab.nic);
    // Or skb mode would be refused for that.
    lab.script("ethtool -K $nic gro off")?;
    let stream = lab.stream(&Ask::default())?;
    lab.script("ethtool -K $nic gro on")?;
    stream.came_whole()?;
    stream.was_in(wanted)?;
    let refused = &stream.figures.refused_modes;
    for better in ["zerocopy", "driver", "skb"].into_iter().take_while(|mode| *mode != wanted) {
        let reason = refused.get(better).map(String::as_str).unwrap_or_default();
        claim(reason.contains(lab.nic.interface()), || {
            format!("no reason, with the interface, why not {better}: {refused:?}")
        })?;
    }
    nothing_left(lab)?;
    let reasons: Vec<_> = refused.iter().map(|(mode, reason)| format!("; not {mode}: {reason}")).collect();
    Ok(format!("{wanted}, {stream}{}", reasons.concat()))
}

/// No program is on the card any more.
pub(super) fn nothing_left(lab: &mut Lab<'_>) -> Result<(), Failed> {
    // The kernel takes it off a moment after its last owner is gone.
    let told = lab.script(
        "for i in 1 2 3 4 5 6 7 8 9; do ip link show $nic | grep -q xdp || exit 0; sleep 0.2; done; ip link show $nic",
    )?;
    claim(told.is_empty(), || format!("a program is left: {told}"))
}
