//! What `wiretick doctor` says of a card is what the scenarios of the modes see there.

use std::time::Duration;

use serde::Deserialize;

use super::modes::nothing_left;
use super::peer::Peer;
use super::{Failed, Lab, Scenario, best, is_steady};
use crate::vm::lab::claim;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "doctor::what_it_proves_is_what_each_mode_then_does",
    column: ("doctor", "right"),
    cells: is_steady,
    show: right,
}];

/// igb takes its link down for seconds, twice in each mode.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Debug, Deserialize)]
struct Report {
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    check: String,
    verdict: String,
    found: String,
}

impl Report {
    fn check(&self, name: &str) -> Result<&Check, Failed> {
        let found = self.checks.iter().find(|check| check.check == name);
        found.ok_or_else(|| Failed::Claim(format!("doctor has no check {name}")))
    }
}

impl Check {
    /// Whether the mode was proven; if not, it must have been tried.
    fn is_proven(&self) -> Result<bool, Failed> {
        let is_proven = self.found.starts_with("proven on");
        claim(is_proven || !self.found.starts_with("not proven:"), || {
            format!("{} was not tried: {}", self.check, self.found)
        })?;
        Ok(is_proven)
    }
}

fn right(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let peer = Peer::new(lab)?;
    // Or skb mode would be refused for that.
    lab.script("ethtool -K $nic gro off")?;
    let script = format!("wiretick doctor --interface $nic --host {} --prove --json", peer.address);
    let output = lab.try_script(&script, PATIENCE)?;
    lab.script("ethtool -K $nic gro on")?;
    let report: Report = serde_json::from_str(&output.stdout)
        .map_err(|error| Failed::Claim(format!("{error}: {} {}", output.stdout, output.stderr)))?;
    let best = best(lab.series(), lab.nic);
    let mut proven = Vec::new();
    for (mode, works) in [("zerocopy", best == "zerocopy"), ("driver", best != "skb"), ("skb", true)] {
        let check = report.check(&format!("proof_{mode}"))?;
        claim(check.is_proven()? == works, || {
            format!("{mode} works: {works}; doctor says {}: {}", check.verdict, check.found)
        })?;
        if works {
            proven.push(mode);
        }
    }
    let native = report.check("xdp_native")?;
    // Kernels before 6.3 do not tell.
    if lab.series().is_at_least("6.12") {
        claim((native.verdict == "ok") == (best != "skb"), || format!("{}: {}", native.verdict, native.found))?;
    }
    let unchanged = report.check("unchanged")?;
    claim(unchanged.verdict == "ok", || format!("doctor has left something: {}", unchanged.found))?;
    nothing_left(lab)?;
    Ok(format!("proven: {}", proven.join(", ")))
}
