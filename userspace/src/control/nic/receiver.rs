//! Which interface really receives: a VLAN device only takes the tag off, and a bond has others that receive for it.

use crate::control::Error;
use crate::control::link::{self, Bonding, Link};

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

/// A bond.
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

    /// Why a ring on this interface does not see all of a flow: a bond whose other members receive as well.
    #[must_use]
    pub fn spread(&self) -> Option<String> {
        let Bond { name, mode, members, .. } = self.bond()?;
        // In these two, what arrives at another member than the active one is dropped (`bond_should_deliver_exact_match`).
        let one_receives = matches!(mode.as_str(), "active-backup" | "balance-tlb");
        (!one_receives && members.len() > 1).then(|| {
            format!(
                "{name}: a bond of mode {mode} receives over {}, and a ring sees only its own interface: \
                 ip link set {name} type bond mode active-backup",
                members.join(", ")
            )
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
    below(link.clone(), link::by_index, link::members)
}

fn below(
    link: Link,
    by_index: impl Fn(u32) -> Result<Link, Error>,
    members: impl Fn(u32) -> Result<Vec<Link>, Error>,
) -> Result<Receiver, Error> {
    let mut found = Receiver { link, above: Vec::new() };
    for _ in 0..DEPTH_MAX {
        let Receiver { link, above } = &mut found;
        if let Some((parent, id)) = link.vlan {
            above.push(Above::Vlan { name: link.name.clone(), id });
            *link = by_index(parent)?;
        } else if let Some(Bonding { mode, active }) = &link.bond {
            let members = members(link.index)?;
            let in_use = members.iter().find(|member| Some(member.index) == *active);
            let Some(member) = in_use.or_else(|| members.first()) else {
                return Err(Error::Interface {
                    interface: link.name.clone(),
                    reason: format!("the bond has no members: ip link set IF master {}", link.name),
                });
            };
            above.push(Above::Bond(Bond {
                name: link.name.clone(),
                mode: mode.clone(),
                members: members.iter().map(|member| member.name.clone()).collect(),
                active: in_use.map(|member| member.name.clone()),
            }));
            *link = member.clone();
        } else {
            return Ok(found);
        }
    }
    Err(Error::Interface {
        interface: found.link.name,
        reason: format!("more than {DEPTH_MAX} devices stand on each other"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            up: true,
            carrier: true,
            vlan: None,
            bond: None,
            controller: None,
            xdp_program: None,
            xdp_is_generic: false,
            receive_queues: 1,
        }
    }

    fn bond(mode: &str, active: Option<u32>) -> Link {
        Link { bond: Some(Bonding { mode: mode.to_owned(), active }), ..interface(3, "bond0") }
    }

    fn pair(_: u32) -> Result<Vec<Link>, Error> {
        Ok(vec![interface(1, "eth0"), interface(2, "eth1")])
    }

    fn nobody(_: u32) -> Result<Vec<Link>, Error> {
        Ok(Vec::new())
    }

    fn not_asked(_: u32) -> Result<Link, Error> {
        panic!("there is nothing below")
    }

    #[test]
    fn an_ordinary_interface_receives_for_itself() {
        let found = below(interface(1, "eth0"), not_asked, nobody).unwrap();
        assert_eq!((found.link.name.as_str(), found.above.len(), found.vlan()), ("eth0", 0, None));
        assert_eq!(found.spread(), None);
    }

    #[test]
    fn a_vlan_on_a_bond_leads_to_the_active_member() {
        let vlan = Link { vlan: Some((3, 7)), ..interface(9, "bond0.7") };
        let found = below(vlan, |_| Ok(bond("active-backup", Some(2))), pair).unwrap();
        assert_eq!((found.link.name.as_str(), found.vlan()), ("eth1", Some(7)));
        let bond = found.bond().unwrap();
        assert_eq!((bond.mode.as_str(), bond.members.len()), ("active-backup", 2));
        assert_eq!(bond.active.as_deref(), Some("eth1"));
        assert_eq!(found.above[0], Above::Vlan { name: "bond0.7".to_owned(), id: 7 });
        assert_eq!(found.spread(), None);
    }

    #[test]
    fn a_bond_without_an_active_member_leads_to_the_first() {
        let found = below(bond("active-backup", None), not_asked, pair).unwrap();
        assert_eq!((found.link.name.as_str(), found.bond().unwrap().active.clone()), ("eth0", None));
        assert_eq!(found.spread(), None);
        let error = below(bond("active-backup", None), not_asked, nobody).unwrap_err();
        assert!(error.to_string().contains("no members"), "{error}");
    }

    #[test]
    fn a_bond_that_receives_over_several_members_is_no_place_for_a_ring() {
        let found = below(bond("802.3ad", None), not_asked, pair).unwrap();
        let reason = found.spread().unwrap();
        assert!(below(bond("balance-alb", Some(1)), not_asked, pair).unwrap().spread().is_some());
        assert!(
            reason.contains("bond0") && reason.contains("eth0, eth1") && reason.contains("active-backup"),
            "{reason}"
        );
        let alone = |_| Ok(vec![interface(1, "eth0")]);
        assert_eq!(below(bond("802.3ad", None), not_asked, alone).unwrap().spread(), None);
    }

    #[test]
    fn a_circle_is_an_error() {
        let vlan = || Link { vlan: Some((1, 2)), ..interface(1, "vlan") };
        assert!(below(vlan(), |_| Ok(vlan()), nobody).is_err());
    }
}
