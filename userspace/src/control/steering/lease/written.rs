//! The lines of a file of rules, written and read.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::super::rule::FlowRule;
use super::Site;
use crate::floor::FourTuple;

/// The first line.
pub(super) const HEADER: &str = "wiretick leases 1";

pub(super) fn rule_line(id: u64, site: &Site, rule: &FlowRule) -> String {
    let Site { netns, index, name } = site;
    let FlowRule { tuple: FourTuple { local, remote }, vlan, queue } = rule;
    let mut line = format!("rule {id} netns {netns} index {index} name {name} queue {queue} vlan ");
    let _ = match vlan {
        Some(vlan) => write!(line, "{vlan}"),
        None => write!(line, "-"),
    };
    line + &format!(" local {local} remote {remote}")
}

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) pid: u32,
    pub(super) began: u64,
    /// Rules that have not been withdrawn; the place is not known where the owner died while it inserted.
    pub(super) rules: Vec<(u64, Site, FlowRule, Option<u32>)>,
}

/// Reads a file; `None` where it is none of this version.
pub(super) fn rules_of(text: &str) -> Option<Written> {
    // What has no end was not written whole.
    let whole = &text[..text.rfind('\n')?];
    let mut lines = whole.lines();
    if lines.next()? != HEADER {
        return None;
    }
    let mut owner = lines.next()?.strip_prefix("owner ")?.split(' ');
    let (pid, began) = (owner.next()?.parse().ok()?, owner.next()?.parse().ok()?);
    let mut written = Written { pid, began, rules: Vec::new() };
    for line in lines {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["at", id, location] => {
                let (id, location): (u64, u32) = (id.parse().ok()?, location.parse().ok()?);
                let rule = written.rules.iter_mut().find(|(other, ..)| *other == id)?;
                rule.3 = Some(location);
            }
            ["gone", id] => {
                let id: u64 = id.parse().ok()?;
                written.rules.retain(|(other, ..)| *other != id);
            }
            ["rule", ..] => written.rules.push(rule_of(&words)?),
            _ => return None,
        }
    }
    Some(written)
}

pub(super) fn rule_of(words: &[&str]) -> Option<(u64, Site, FlowRule, Option<u32>)> {
    let &[
        "rule",
        id,
        "netns",
        netns,
        "index",
        index,
        "name",
        name,
        "queue",
        queue,
        "vlan",
        vlan,
        "local",
        local,
        "remote",
        remote,
    ] = words
    else {
        return None;
    };
    let (local, remote): (SocketAddr, SocketAddr) = (local.parse().ok()?, remote.parse().ok()?);
    let vlan = if vlan == "-" { None } else { Some(vlan.parse().ok()?) };
    let site = Site { netns: netns.parse().ok()?, index: index.parse().ok()?, name: name.to_owned() };
    let rule = FlowRule { tuple: FourTuple { local, remote }, vlan, queue: queue.parse().ok()? };
    Some((id.parse().ok()?, site, rule, None))
}
