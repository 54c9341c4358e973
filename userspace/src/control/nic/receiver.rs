//! Which interface really receives: a VLAN device only takes the tag off, and a bond has others that receive for it.

use std::fs;
use std::path::Path;

use crate::control::Error;
use crate::control::link::{self, Link};

/// Devices that can stand on each other before it is taken for a circle: a VLAN on a bond is two.
const DEPTH_MAX: usize = 4;

/// What stands above the interface that receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Above {
    /// A VLAN device, with the id of its tag.
    Vlan {
        /// Its name.
        name: String,
        /// The tag.
        id: u16,
    },
    /// A bond.
    Bond(Bond),
}

/// A bond, as `/sys/class/net/BOND/bonding` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    /// Its name.
    pub name: String,
    /// `active-backup`, `802.3ad`, ...
    pub mode: String,
    /// The interfaces in it.
    pub members: Vec<String>,
    /// The one that is in use, where the mode has only one in use.
    pub active: Option<String>,
}

/// An interface that receives, and what stands above it, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The interface. Of a bond without an active member it is the first one.
    pub link: Link,
    /// What leads there.
    pub above: Vec<Above>,
}

impl Receiver {
    /// The tag with which its frames arrive.
    #[must_use]
    pub fn vlan(&self) -> Option<u16> {
        self.above.iter().find_map(|above| match above {
            Above::Vlan { id, .. } => Some(*id),
            Above::Bond(_) => None,
        })
    }

    /// The bond whose member it is.
    #[must_use]
    pub fn bond(&self) -> Option<&Bond> {
        self.above.iter().find_map(|above| match above {
            Above::Bond(bond) => Some(bond),
            Above::Vlan { .. } => None,
        })
    }
}

/// The interface that receives what arrives for `link`.
///
/// # Errors
///
/// [`Error::NoInterface`] where one below is not there (it can be in another network namespace), or that the kernel could not be asked.
pub fn of(link: &Link) -> Result<Receiver, Error> {
    below(Path::new("/sys"), link.clone(), link::by_index, link::by_name)
}

fn below(
    sys: &Path,
    link: Link,
    by_index: impl Fn(u32) -> Result<Link, Error>,
    by_name: impl Fn(&str) -> Result<Link, Error>,
) -> Result<Receiver, Error> {
    let mut found = Receiver { link, above: Vec::new() };
    for _ in 0..DEPTH_MAX {
        let Receiver { link, above } = &mut found;
        if let Some((parent, id)) = link.vlan {
            above.push(Above::Vlan { name: link.name.clone(), id });
            *link = by_index(parent)?;
        } else if let Some(bond) = bond(sys, &link.name) {
            let Some(member) = bond.active.as_ref().or_else(|| bond.members.first()) else {
                return Err(Error::Interface {
                    interface: link.name.clone(),
                    reason: format!("the bond has no members: ip link set IF master {}", link.name),
                });
            };
            *link = by_name(member)?;
            above.push(Above::Bond(bond));
        } else {
            return Ok(found);
        }
    }
    Err(Error::Interface {
        interface: found.link.name,
        reason: format!("more than {DEPTH_MAX} devices stand on each other"),
    })
}

/// The bond of that name, where it is one.
fn bond(sys: &Path, name: &str) -> Option<Bond> {
    let folder = sys.join("class/net").join(name).join("bonding");
    let read = |file: &str| fs::read_to_string(folder.join(file)).map(|text| text.trim().to_owned());
    // `active-backup 1`: the name, and its number.
    let mode = read("mode").ok()?.split_whitespace().next().unwrap_or_default().to_owned();
    let members = read("slaves").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let active = read("active_slave").ok().filter(|active| !active.is_empty());
    Some(Bond { name: name.to_owned(), mode, members, active })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, vlan: Option<(u32, u16)>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier: true,
            vlan,
            xdp_program: None,
            xdp_is_generic: false,
            receive_queues: 1,
        }
    }

    fn by_index(index: u32) -> Result<Link, Error> {
        let name = ["", "eth0", "eth1", "bond0"][index as usize];
        Ok(interface(index, name, None))
    }

    fn by_name(name: &str) -> Result<Link, Error> {
        match name {
            "eth0" => by_index(1),
            "eth1" => by_index(2),
            _ => Err(Error::NoInterface { name: name.to_owned() }),
        }
    }

    fn with_bond(active: &str, members: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("class/net/bond0/bonding");
        fs::create_dir_all(&folder).unwrap();
        for (file, text) in [("mode", "active-backup 1\n"), ("slaves", members), ("active_slave", active)] {
            fs::write(folder.join(file), text).unwrap();
        }
        root
    }

    #[test]
    fn an_ordinary_interface_receives_for_itself() {
        let root = tempfile::tempdir().unwrap();
        let found = below(root.path(), interface(1, "eth0", None), by_index, by_name).unwrap();
        assert_eq!((found.link.name.as_str(), found.above.len(), found.vlan()), ("eth0", 0, None));
    }

    #[test]
    fn a_vlan_on_a_bond_leads_to_the_active_member() {
        let root = with_bond("eth1\n", "eth0 eth1\n");
        let found = below(root.path(), interface(9, "bond0.7", Some((3, 7))), by_index, by_name).unwrap();
        assert_eq!((found.link.name.as_str(), found.vlan()), ("eth1", Some(7)));
        let bond = found.bond().unwrap();
        assert_eq!((bond.mode.as_str(), bond.members.len()), ("active-backup", 2));
        assert_eq!(found.above[0], Above::Vlan { name: "bond0.7".to_owned(), id: 7 });
    }

    #[test]
    fn a_bond_without_an_active_member_leads_to_the_first() {
        let root = with_bond("\n", "eth0 eth1\n");
        let found = below(root.path(), interface(3, "bond0", None), by_index, by_name).unwrap();
        assert_eq!((found.link.name.as_str(), found.bond().unwrap().active.clone()), ("eth0", None));
        let empty = with_bond("\n", "\n");
        let error = below(empty.path(), interface(3, "bond0", None), by_index, by_name).unwrap_err();
        assert!(error.to_string().contains("no members"), "{error}");
    }

    #[test]
    fn a_circle_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let circle = |index| Ok(interface(index, "vlan", Some((1, 2))));
        assert!(below(root.path(), interface(1, "vlan", Some((1, 2))), circle, by_name).is_err());
    }
}
