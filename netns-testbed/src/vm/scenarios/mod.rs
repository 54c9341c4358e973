//! What is shown in guests. A scenario is a name that is a sentence, the cells (kernel and card) it is for, and a function that
//! is given a [`Lab`]; what the function answers is a few words on what was seen. To add one, add a line to one of the lists.
//!
//! What each cell is expected to do stands in [`best`], and nowhere else.

mod bond;
mod doctor;
mod hints;
mod jumbo;
mod modes;
mod moves;
mod old;
mod peer;
mod queues;
mod steering;
mod vlan;

use super::lab::{Failed, Lab};
use super::{Nic, Series};

/// One thing that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A sentence.
    pub name: &'static str,
    /// The column of the matrix that it belongs to, and the word that stands there where it has passed. Without a word, it is
    /// the first one of what was seen.
    pub column: (&'static str, &'static str),
    /// Where it is to be seen.
    pub cells: fn(Series, Nic) -> bool,
    /// Shows it. What it answers is for people.
    pub show: fn(&mut Lab<'_>) -> Result<String, Failed>,
}

/// All of them, in the order in which they are shown.
#[must_use]
pub fn all() -> Vec<Scenario> {
    [
        modes::SCENARIOS,
        moves::SCENARIOS,
        vlan::SCENARIOS,
        queues::SCENARIOS,
        steering::SCENARIOS,
        jumbo::SCENARIOS,
        hints::SCENARIOS,
        doctor::SCENARIOS,
        bond::SCENARIOS,
        old::SCENARIOS,
    ]
    .concat()
}

/// The best mode that a card has on a kernel: what `--mode auto` must end in.
///
/// igb: zero-copy came with Linux 6.14 (`drivers/net/ethernet/intel/igb/igb_xsk.c`); virtio-net: it asks for DMA that the kernel
/// maps (`iommu_platform=on`); e1000e has no native XDP.
#[must_use]
pub fn best(series: Series, nic: Nic) -> &'static str {
    match nic {
        Nic::Igb | Nic::Virtio | Nic::VirtioRss if series.is_at_least("6.18") => "zerocopy",
        Nic::Igb | Nic::Virtio | Nic::VirtioRss | Nic::VirtioPlain => "driver",
        Nic::E1000e => "skb",
    }
}

/// A kernel that is supported, and a card on which a flow stays on its queue.
fn is_steady(series: Series, nic: Nic) -> bool {
    series.supported && nic != Nic::VirtioRss
}
