//! An interface brought back to what it was: for what attaching a program has changed by itself.
//!
//! Generic XDP switches LRO and `GRO_HW` off and leaves them off (`generic_xdp_install`, net/core/dev.c), vmxnet3 does the same natively, and a
//! driver that makes its queues anew can forget how they were set up.

use super::{Change, Setting, apply};
use crate::control::Error;
use crate::control::link::{self, Link};
use crate::control::nic::Nic;

/// Everything about an interface that is set to a number.
fn settings(nic: &Nic) -> Vec<Setting> {
    let mut all: Vec<_> = nic
        .features
        .iter()
        .filter(|(_, feature)| feature.changeable)
        .map(|(name, _)| Setting::Feature(name.clone()))
        .chain(nic.private_flags.keys().map(|name| Setting::PrivateFlag(name.clone())))
        .collect();
    all.extend([
        Setting::Mtu,
        Setting::CombinedChannels,
        Setting::RxChannels,
        Setting::TxChannels,
        Setting::AdaptiveRx,
        Setting::RxUsecs,
        Setting::DeferHardIrqs,
        Setting::GroFlushTimeoutNs,
    ]);
    all
}

/// What differs between two looks at an interface: the changes that lead back to the first.
fn differences(before: &Nic, after: &Nic) -> Vec<Change> {
    let changed = |setting: Setting| {
        let (was, is) = (setting.of(before)?, setting.of(after)?);
        (was != is).then(|| Change::new(setting, is, was))
    };
    let mut changes: Vec<_> = settings(before).into_iter().filter_map(changed).collect();
    changes.sort_by_key(|change| change.setting.order());
    changes
}

/// What an interface took to be brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// What had changed, as the changes that lead back.
    pub changed: Vec<Change>,
    /// What of it could not be changed back, and why.
    pub stuck: Vec<(Change, String)>,
}

/// Brings an interface back to what it was.
///
/// # Errors
///
/// That the kernel could not be asked.
pub fn restore(link: &Link, before: &Nic) -> Result<Restored, Error> {
    let look = || Nic::read(&link::by_index(link.index)?);
    let changed = differences(before, &look()?);
    let mut reasons = Vec::new();
    for change in &changed {
        if let Err(error) = apply::set(&link.name, link.index, &change.setting, change.to) {
            reasons.push((change.setting.clone(), error.to_string()));
        }
    }
    // What counts is what is there afterwards.
    let left = if changed.is_empty() { Vec::new() } else { differences(before, &look()?) };
    let reason = |change: Change| {
        let said = reasons.iter().find(|(setting, _)| *setting == change.setting);
        let said = said.map_or_else(|| "the driver does not take it back".to_owned(), |(_, reason)| reason.clone());
        (change, said)
    };
    Ok(Restored { changed, stuck: left.into_iter().map(reason).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::nic::{Channels, Feature, feature};

    fn nic(lro: bool, queues: u32) -> Nic {
        Nic {
            mtu: 1500,
            channels: Some(Channels { combined: (queues, 8), ..Channels::default() }),
            features: [(feature::LRO.to_owned(), Feature { on: lro, changeable: true })].into(),
            ..Nic::default()
        }
    }

    #[test]
    fn two_looks_at_the_same_do_not_differ() {
        assert_eq!(differences(&nic(true, 4), &nic(true, 4)), []);
    }

    #[test]
    fn what_differs_leads_back_in_the_order_in_which_it_can_be_set() {
        let back = differences(&nic(true, 4), &nic(false, 2));
        assert_eq!(back, [Change::switch(feature::LRO, true), Change::new(Setting::CombinedChannels, 2, 4)]);
        // What is not told any more cannot be compared.
        let silent = Nic { channels: None, ..nic(true, 4) };
        assert_eq!(differences(&nic(true, 4), &silent), []);
    }
}
