//! Chosen local ports lead where they should: RSS as the driver tells it, against where the card really puts the frames.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::modes::nothing_left;
use super::peer::Peer;
use super::{Failed, Lab, Nic, Scenario};
use crate::vm::lab::claim;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "steering::each_of_a_thousand_chosen_ports_lands_on_the_queue_it_was_chosen_for",
    column: ("chosen ports", "1,000 of 1,000"),
    cells: |series, nic| series.supported && nic == Nic::Igb,
    show: chosen_ports,
}];

/// To either queue.
const FLOWS: u32 = 500;
const PATIENCE: Duration = Duration::from_secs(240);

/// What a scenario looks at of `wiretick steer --prove --json`.
#[derive(Debug, Deserialize)]
struct Proof {
    flows: u32,
    landed: u32,
    by_queue: BTreeMap<u32, u32>,
    by_means: BTreeMap<String, u32>,
}

fn chosen_ports(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script("ethtool -X $nic equal 2")?;
    let peer = Peer::new(lab)?;
    let mut seen = Vec::new();
    for queue in [0, 1] {
        let script = format!(
            "wiretick steer {} --queue {queue} --flows {FLOWS} --prove --steer port --mode driver --json",
            peer.address
        );
        let output = lab.try_script(&script, PATIENCE)?;
        claim(output.code == 0, || format!("{script:?} ended with {}: {}", output.code, output.stderr.trim()))?;
        let proof: Proof = serde_json::from_str(&output.stdout)
            .map_err(|error| Failed::Claim(format!("{error}: {}", output.stdout)))?;
        claim((proof.flows, proof.landed) == (FLOWS, FLOWS), || format!("{proof:?}"))?;
        claim(proof.by_queue == BTreeMap::from([(queue, FLOWS)]), || format!("{proof:?}"))?;
        claim(proof.by_means == BTreeMap::from([("port".to_owned(), FLOWS)]), || format!("{proof:?}"))?;
        seen.push(format!("{FLOWS} of {FLOWS} on queue {queue}"));
    }
    nothing_left(lab)?;
    lab.script("ethtool -X $nic equal 1")?;
    Ok(seen.join(", "))
}
