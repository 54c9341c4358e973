//! The interrupts of an interface's device, and the CPUs that they go to.
//!
//! Which ones there are is told by `msi_irqs` of the device (of the PCI device below, where it is a virtio one), their names by
//! /proc/interrupts, and their CPUs by /proc/irq.

use std::fs;
use std::path::{Path, PathBuf};

use super::Cpus;

/// An interrupt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Irq {
    /// Its number.
    pub number: u32,
    /// What the driver calls it, such as `ena-Tx-Rx-0`.
    pub name: String,
    /// The CPUs it may go to.
    pub allowed: Cpus,
    /// The CPU it does go to, where the kernel tells it.
    pub effective: Cpus,
    /// How often it has come, on each CPU.
    pub counts: Vec<u64>,
}

impl Irq {
    /// Where it is served.
    #[must_use]
    pub fn cpus(&self) -> &Cpus {
        if self.effective.is_empty() { &self.allowed } else { &self.effective }
    }
}

/// The interrupts of `interface`, by number. Empty where its device has none of its own: a veth, a tap.
pub(super) fn of(sys: &Path, proc: &Path, interface: &str) -> Vec<Irq> {
    let Some(device) = device(sys, interface) else { return Vec::new() };
    // A virtio device has none; the PCI device below it has them.
    let folders = [device.join("msi_irqs"), device.join("../msi_irqs")];
    let mut numbers: Vec<u32> = folders.iter().find_map(|folder| numbers_in(folder)).unwrap_or_default();
    numbers.sort_unstable();
    let table = fs::read_to_string(proc.join("interrupts")).unwrap_or_default();
    let cpus = |number: u32, file: &str| {
        let text = fs::read_to_string(proc.join(format!("irq/{number}/{file}"))).unwrap_or_default();
        Cpus::parse(&text).unwrap_or_default()
    };
    let irq = |number: u32| {
        let (name, counts) = in_table(&table, number).unwrap_or_default();
        let (allowed, effective) = (cpus(number, "smp_affinity_list"), cpus(number, "effective_affinity_list"));
        Irq { number, name, allowed, effective, counts }
    };
    // One without a line in the table has no handler: it is reserved, and not in use.
    numbers.into_iter().map(irq).filter(|irq| !irq.name.is_empty()).collect()
}

/// The folder of the device below an interface.
pub(super) fn device(sys: &Path, interface: &str) -> Option<PathBuf> {
    // Resolved, or `..` would lead out of the link and not out of the folder.
    fs::canonicalize(sys.join("class/net").join(interface).join("device")).ok()
}

fn numbers_in(folder: &Path) -> Option<Vec<u32>> {
    let entries = fs::read_dir(folder).ok()?;
    Some(entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect())
}

/// The name and the counts of one interrupt in /proc/interrupts: counts by CPU, the controller, the kind, and the names of its handlers.
fn in_table(table: &str, number: u32) -> Option<(String, Vec<u64>)> {
    let cpus = table.lines().next()?.split_whitespace().count();
    let line = table.lines().skip(1).find_map(|line| {
        let (head, rest) = line.split_once(':')?;
        (head.trim().parse() == Ok(number)).then_some(rest)
    })?;
    let mut fields = line.split_whitespace();
    let counts: Vec<u64> = fields.by_ref().take(cpus).map_while(|count| count.parse().ok()).collect();
    // `PCI-MSIX-0000:00:04.0 1-edge virtio3-rx`: some controllers add words of their own before the name.
    let name = fields.last()?.to_owned();
    Some((name, counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
           CPU0       CPU1       
  24:          1          0  IO-APIC   5-edge      ACPI:Ged
  40:          0          0 PCI-MSIX-0000:00:04.0   0-edge      virtio3-config
  41:       1722          0 PCI-MSIX-0000:00:04.0   1-edge      virtio3-input.0
NMI:          0          0   Non-maskable interrupts
";

    /// A virtio interface: its interrupts are those of the PCI device one level up.
    fn machine() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let pci = root.path().join("sys/devices/pci0000:00/0000:00:04.0");
        let device = pci.join("virtio3");
        fs::create_dir_all(pci.join("msi_irqs")).unwrap();
        fs::create_dir_all(device.join("net/eth0")).unwrap();
        for number in ["41", "40", "43"] {
            fs::write(pci.join("msi_irqs").join(number), "msix\n").unwrap();
        }
        let class = root.path().join("sys/class/net/eth0");
        fs::create_dir_all(&class).unwrap();
        std::os::unix::fs::symlink(&device, class.join("device")).unwrap();
        for (number, allowed, effective) in [(40, "0-1", "1"), (41, "0-1", "0")] {
            let folder = root.path().join(format!("proc/irq/{number}"));
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("smp_affinity_list"), format!("{allowed}\n")).unwrap();
            fs::write(folder.join("effective_affinity_list"), format!("{effective}\n")).unwrap();
        }
        fs::write(root.path().join("proc/interrupts"), TABLE).unwrap();
        root
    }

    #[test]
    fn a_virtio_interface_has_the_interrupts_of_its_pci_device() {
        let root = machine();
        let irqs = of(&root.path().join("sys"), &root.path().join("proc"), "eth0");
        let names: Vec<_> = irqs.iter().map(|irq| (irq.number, irq.name.as_str())).collect();
        assert_eq!(names, [(40, "virtio3-config"), (41, "virtio3-input.0")], "43 has no handler");
        assert_eq!(irqs[1].counts, [1722, 0]);
        assert_eq!((irqs[1].allowed.to_string(), irqs[1].cpus().to_string()), ("0-1".to_owned(), "0".to_owned()));
    }

    #[test]
    fn an_interface_without_a_device_has_none() {
        let root = machine();
        assert!(of(&root.path().join("sys"), &root.path().join("proc"), "veth0").is_empty());
    }
}
