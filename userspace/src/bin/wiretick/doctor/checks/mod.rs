//! From facts to findings: pure functions, one for each check.
//!
//! *fail* is what does not work, or keeps the bypass from a mode that this machine could have; *warn* is what works and costs time or
//! certainty; *ok* is the rest, and what is a matter of choice.

mod host;
mod nic;
mod peer;

use super::facts::Facts;
use super::finding::Finding;

/// Bytes of a ring's memory: 4,096 chunks to receive into and 512 to send from, of 4 KiB ([`XskConfig::new`](wiretick::ring::XskConfig::new)).
pub(super) const RING_BYTES: u64 = (4_096 + 512) * 4_096;

/// All findings that need no proof, in the order in which they are shown: machine, interface, peer.
pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    let mut findings = host::findings(facts);
    findings.extend(nic::findings(facts));
    findings.extend(peer::findings(facts));
    findings
}

#[cfg(test)]
pub(super) mod tests;
