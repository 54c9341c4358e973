//! What makes an interface fit for the bypass, and quicker: as commands to be typed, or done here and undone again.
//!
//! What comes in is what the kernel says of the interface ([`Nic`]) and what is wished for ([`Wishes`]); a [`Plan`] comes out: the
//! changes, each with its reason and as the command that makes it. Nothing is changed by planning. [`Tuning`] makes the changes, writes
//! down what it has found before, and puts it back: when it is dropped, or, where its process was killed, at the next start
//! ([`undo_abandoned`]). What somebody else has changed meanwhile is left alone.
//!
//! What is known of the drivers, and where it is written, is the table in [`presets`].
//!
//! ```no_run
//! use wiretick::control::tune::{Plan, Wishes};
//! use wiretick::control::{link, nic::Nic};
//!
//! # fn main() -> Result<(), wiretick::control::Error> {
//! let nic = Nic::read(&link::by_name("eth0")?)?;
//! for step in Plan::new(&nic, &Wishes::default(), 8).steps {
//!     println!("{}   # {}", step.change.command("eth0"), step.reason);
//! }
//! # Ok(())
//! # }
//! ```

mod apply;
mod ledger;
pub mod presets;
mod restore;
mod setting;

pub use ledger::{Outcome, Tuning, undo_abandoned};
pub use restore::{Restored, restore};
pub use setting::{Change, Setting};

use self::presets::{Conflict, Preset, Severity};
use super::nic::{Nic, feature};

/// Empty polls after which interrupts are let in again, and nanoseconds after which the kernel polls by itself: what the AF_XDP busy-polling
/// patches were measured with (`tools/testing/selftests/bpf/xsk_xdp_*`, and the README of xdpsock in xdp-project/bpf-examples).
///
/// With less time, the kernel polls in between although the lane does; with more, frames wait that long when the lane does not poll, because its
/// handler takes long.
const DEFER_HARD_IRQS: u64 = 2;
const GRO_FLUSH_TIMEOUT_NS: u64 = 200_000;

/// What an interface is wanted for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The lane polls the NIC itself (`stream --busy-poll`): interrupts are to stay away meanwhile.
    pub busy_poll: bool,
    /// Generic XDP (`--mode skb`), which sees what the kernel's GRO has merged.
    pub skb: bool,
    /// The connection has a VLAN tag, which must reach the program.
    pub vlan: bool,
}

/// One change, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The change.
    pub change: Change,
    /// What is wrong without it, or slower.
    pub reason: String,
    /// Without it, the driver refuses the bypass.
    pub needed: bool,
}

/// The changes that an interface wants, in the order in which they can be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<Step>,
    /// What stands in the way and cannot be changed here.
    pub obstacles: Vec<Conflict>,
}

impl Plan {
    /// What `nic`, on a machine with so many CPUs, wants for what is wished for.
    #[must_use]
    pub fn new(nic: &Nic, wishes: &Wishes, cpus: u32) -> Self {
        let mut plan = Self::default();
        for conflict in presets::conflicts(nic, cpus) {
            match &conflict.change {
                Some(change) => plan.step(nic, change.clone(), &conflict.what, conflict.severity == Severity::Refused),
                None => plan.obstacles.push(conflict),
            }
        }
        if wishes.skb && nic.is_on(feature::GRO) {
            let why = "GRO merges segments before generic XDP sees them, and what does not fit a frame is dropped";
            plan.step(nic, Change::switch(feature::GRO, false), why, true);
        }
        if wishes.vlan && nic.is_on(feature::RX_VLAN) {
            let why = "the NIC takes the tag off before the program sees it, so that the flow is not recognised";
            plan.step(nic, Change::switch(feature::RX_VLAN, false), why, true);
        }
        if let Some(coalescing) = nic.coalescing {
            if coalescing.adaptive_rx == Some(true) {
                let why = "the NIC waits before it interrupts, longer the more there is to do";
                plan.step(nic, Change::new(Setting::AdaptiveRx, 1, 0), why, false);
            }
            if let Some(usecs @ 1..) = coalescing.rx_usecs {
                let why = format!("the NIC waits up to {usecs} us after a frame before it interrupts");
                plan.step(nic, Change::new(Setting::RxUsecs, usecs.into(), 0), &why, false);
            }
        }
        if wishes.busy_poll {
            let why = "interrupts are to stay away while the lane polls the NIC itself";
            let wanted =
                [(Setting::DeferHardIrqs, DEFER_HARD_IRQS), (Setting::GroFlushTimeoutNs, GRO_FLUSH_TIMEOUT_NS)];
            for (setting, to) in wanted {
                if let Some(from) = setting.of(nic) {
                    plan.step(nic, Change::new(setting, from, to), why, false);
                }
            }
        }
        plan.steps.sort_by_key(|step| step.change.setting.order());
        plan
    }

    /// Adds a change, unless it changes nothing or its setting has been dealt with: what a driver needs is planned first. A switch
    /// that is fixed is an obstacle where it is needed, and nothing otherwise.
    fn step(&mut self, nic: &Nic, change: Change, reason: &str, needed: bool) {
        if change.from == change.to || self.steps.iter().any(|step| step.change.setting == change.setting) {
            return;
        }
        if let Setting::Feature(name) = &change.setting
            && !nic.can_switch(name)
        {
            if needed {
                self.obstacles.push(Conflict {
                    severity: Severity::Refused,
                    what: format!("{reason}, and it cannot be switched off"),
                    change: None,
                    source: "ethtool -k: [fixed]",
                });
            }
            return;
        }
        self.steps.push(Step { change, reason: reason.to_owned(), needed });
    }

    /// The commands that do it, in order.
    #[must_use]
    pub fn commands(&self, interface: &str) -> Vec<String> {
        self.steps.iter().map(|step| step.change.command(interface)).collect()
    }
}

/// What is known of the driver of `nic`, where anything is.
#[must_use]
pub fn preset(nic: &Nic) -> Option<&'static Preset> {
    presets::of(&nic.driver.name)
}

#[cfg(test)]
mod tests;
