//! What the kernel says of an interface.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
    XdpAttached,
};

use super::{Error, netlink};

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in this network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its MAC address, where it is an Ethernet interface.
    pub mac: Option<[u8; 6]>,
    /// The largest IP packet it takes, in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether its lower layer is up.
    pub carrier: bool,
    /// The interface it is a VLAN of, and the id of the tag.
    pub vlan: Option<(u32, u16)>,
    /// What it does with its members, where it is a bond.
    pub bond: Option<Bonding>,
    /// The index of the bond or bridge that it is a member of.
    pub controller: Option<u32>,
    /// The id of the XDP program that is attached.
    pub xdp_program: Option<u32>,
    /// Whether that program runs in the kernel's generic receive path, and not in the driver.
    pub xdp_is_generic: bool,
    /// Receive queues that it was made with; those in use may be fewer. No frame arrives on a queue with a higher number.
    pub receive_queues: u32,
}

/// A bond, as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bonding {
    /// `active-backup`, `802.3ad`, ... (Documentation/networking/bonding.rst).
    pub mode: String,
    /// The index of the member in use, where the mode has only one in use and there is one.
    pub active: Option<u32>,
}

/// The interface with this index.
///
/// # Errors
///
/// [`Error::NoInterface`], or that the kernel could not be asked.
pub fn by_index(index: u32) -> Result<Link, Error> {
    let mut question = LinkMessage::default();
    question.header.index = index;
    find(question, &format!("interface {index}"))
}

/// The interface with this name.
///
/// # Errors
///
/// [`Error::NoInterface`], or that the kernel could not be asked.
pub fn by_name(name: &str) -> Result<Link, Error> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_owned()));
    find(question, name)
}

/// The members of the bond or bridge with this index, in the order of their own.
///
/// # Errors
///
/// That the kernel could not be asked.
pub fn members(controller: u32) -> Result<Vec<Link>, Error> {
    let answers = netlink::dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))
        .map_err(|source| Error::Netlink { what: "the interfaces", source })?;
    let links = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(read(message)),
        _ => None,
    });
    let mut members: Vec<_> = links.filter(|link| link.controller == Some(controller)).collect();
    members.sort_by_key(|link| link.index);
    Ok(members)
}

fn find(question: LinkMessage, name: &str) -> Result<Link, Error> {
    let answers = netlink::get(RouteNetlinkMessage::GetLink(question)).map_err(|source| {
        if source.raw_os_error() == Some(libc::ENODEV) || source.raw_os_error() == Some(libc::ERANGE) {
            Error::NoInterface { name: name.to_owned() }
        } else {
            Error::Netlink { what: "an interface", source }
        }
    })?;
    answers
        .into_iter()
        .find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(read(message)),
            _ => None,
        })
        .ok_or_else(|| Error::NoInterface { name: name.to_owned() })
}

fn read(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        carrier: false,
        vlan: None,
        bond: None,
        controller: None,
        xdp_program: None,
        xdp_is_generic: false,
        receive_queues: 1,
    };
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let (mut parent, mut vlan_id) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Carrier(carrier) => link.carrier = carrier != 0,
            LinkAttribute::Address(address) if ethernet => link.mac = address.try_into().ok(),
            LinkAttribute::Link(index) => parent = Some(index),
            LinkAttribute::NumRxQueues(queues) => link.receive_queues = queues,
            LinkAttribute::Controller(index) if index != 0 => link.controller = Some(index),
            LinkAttribute::LinkInfo(info) => {
                vlan_id = vlan_id_of(&info);
                link.bond = bond_of(&info);
            }
            LinkAttribute::Xdp(xdp) => {
                link.xdp_is_generic = xdp.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
                link.xdp_program = xdp.iter().find_map(|attribute| match *attribute {
                    LinkXdp::ProgId(id) | LinkXdp::DrvProgId(id) | LinkXdp::SkbProgId(id) | LinkXdp::HwProgId(id) => {
                        Some(id)
                    }
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link.vlan = parent.zip(vlan_id);
    link
}

fn vlan_id_of(info: &[LinkInfo]) -> Option<u16> {
    if !info.iter().any(|part| matches!(part, LinkInfo::Kind(InfoKind::Vlan))) {
        return None;
    }
    info.iter().find_map(|part| match part {
        LinkInfo::Data(InfoData::Vlan(data)) => data.iter().find_map(|attribute| match attribute {
            InfoVlan::Id(id) => Some(*id),
            _ => None,
        }),
        _ => None,
    })
}

fn bond_of(info: &[LinkInfo]) -> Option<Bonding> {
    info.iter().find_map(|part| match part {
        LinkInfo::Data(InfoData::Bond(data)) => {
            let mut bond = Bonding { mode: String::new(), active: None };
            for attribute in data {
                match attribute {
                    InfoBond::Mode(mode) => bond.mode = mode.to_string(),
                    InfoBond::ActivePort(index) => bond.active = Some(*index).filter(|index| *index != 0),
                    _ => {}
                }
            }
            Some(bond)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::BondMode;

    use super::*;

    #[test]
    fn loopback_is_found_and_is_no_place_for_the_bypass() {
        let by_name = by_name("lo").unwrap();
        assert_eq!(by_name.name, "lo");
        assert_eq!(by_name.mac, None, "loopback is not Ethernet");
        assert_eq!((by_name.vlan, by_name.bond.clone(), by_name.controller), (None, None, None));
        assert_eq!(members(by_name.index).unwrap(), []);
        assert_eq!(by_index(by_name.index).unwrap(), by_name);
    }

    #[test]
    fn a_bond_tells_its_mode_and_the_member_in_use() {
        let told =
            |data: Vec<InfoBond>| bond_of(&[LinkInfo::Kind(InfoKind::Bond), LinkInfo::Data(InfoData::Bond(data))]);
        let bond = told(vec![InfoBond::Mode(BondMode::ActiveBackup), InfoBond::ActivePort(3)]).unwrap();
        assert_eq!((bond.mode.as_str(), bond.active), ("active-backup", Some(3)));
        let bond = told(vec![InfoBond::Mode(BondMode::Ieee8023Ad), InfoBond::ActivePort(0)]).unwrap();
        assert_eq!((bond.mode.as_str(), bond.active), ("802.3ad", None));
        assert_eq!(bond_of(&[LinkInfo::Kind(InfoKind::Veth)]), None);
    }

    #[test]
    fn an_interface_that_does_not_exist_is_named() {
        let error = by_name("wt-none0").unwrap_err();
        assert!(error.to_string().contains("wt-none0: no such interface"), "{error}");
        assert!(matches!(by_index(1_000_000), Err(Error::NoInterface { .. })));
    }
}
