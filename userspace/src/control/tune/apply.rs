//! Settings, set: over the generic netlink family `ethtool`, and in /sys where it has no word for them.
//!
//! What a driver says yes to it has not always done (a feature that depends on another one, a figure that is rounded): whoever sets something
//! reads it back.

use std::fs;
use std::io;
use std::path::Path;

use netlink_packet_core::DefaultNla;

use super::Setting;
use crate::control::genetlink::{Family, nest, number, text};
use crate::control::nic::ethtool::{
    ETHTOOL_A_BITSET_BIT_NAME, ETHTOOL_A_BITSET_BIT_VALUE, ETHTOOL_A_BITSET_BITS, ETHTOOL_A_BITSET_BITS_BIT,
    ETHTOOL_A_CHANNELS_COMBINED_COUNT, ETHTOOL_A_CHANNELS_RX_COUNT, ETHTOOL_A_CHANNELS_TX_COUNT,
    ETHTOOL_A_COALESCE_RX_USECS, ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, FAMILY, header,
};

// include/uapi/linux/ethtool_netlink_generated.h
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_MSG_PRIVFLAGS_SET: u8 = 14;
const ETHTOOL_MSG_CHANNELS_SET: u8 = 18;
const ETHTOOL_MSG_COALESCE_SET: u8 = 20;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_PRIVFLAGS_FLAGS: u16 = 2;

/// Where a setting is set.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A command of the family `ethtool`, with the attribute that carries the figure.
    Ethtool(u8, DefaultNla),
    /// A file of the interface in /sys.
    File(&'static str),
}

fn place(setting: &Setting, value: u64) -> io::Result<Place> {
    let figure = || u32::try_from(value).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput));
    Ok(match setting {
        Setting::Mtu => Place::File("mtu"),
        Setting::DeferHardIrqs => Place::File("napi_defer_hard_irqs"),
        Setting::GroFlushTimeoutNs => Place::File("gro_flush_timeout"),
        Setting::CombinedChannels => {
            Place::Ethtool(ETHTOOL_MSG_CHANNELS_SET, number(ETHTOOL_A_CHANNELS_COMBINED_COUNT, figure()?))
        }
        Setting::RxChannels => Place::Ethtool(ETHTOOL_MSG_CHANNELS_SET, number(ETHTOOL_A_CHANNELS_RX_COUNT, figure()?)),
        Setting::TxChannels => Place::Ethtool(ETHTOOL_MSG_CHANNELS_SET, number(ETHTOOL_A_CHANNELS_TX_COUNT, figure()?)),
        Setting::Feature(name) => {
            Place::Ethtool(ETHTOOL_MSG_FEATURES_SET, bit(ETHTOOL_A_FEATURES_WANTED, name, value != 0))
        }
        Setting::PrivateFlag(name) => {
            Place::Ethtool(ETHTOOL_MSG_PRIVFLAGS_SET, bit(ETHTOOL_A_PRIVFLAGS_FLAGS, name, value != 0))
        }
        Setting::AdaptiveRx => {
            let on = DefaultNla::new(ETHTOOL_A_COALESCE_USE_ADAPTIVE_RX, vec![u8::from(value != 0)]);
            Place::Ethtool(ETHTOOL_MSG_COALESCE_SET, on)
        }
        Setting::RxUsecs => Place::Ethtool(ETHTOOL_MSG_COALESCE_SET, number(ETHTOOL_A_COALESCE_RX_USECS, figure()?)),
    })
}

/// A set of one bit, by name; it says nothing of the others.
fn bit(kind: u16, name: &str, on: bool) -> DefaultNla {
    let mut attributes = vec![text(ETHTOOL_A_BITSET_BIT_NAME, name)];
    if on {
        attributes.push(DefaultNla::new(ETHTOOL_A_BITSET_BIT_VALUE, Vec::new()));
    }
    nest(kind, &[nest(ETHTOOL_A_BITSET_BITS, &[nest(ETHTOOL_A_BITSET_BITS_BIT, &attributes)])])
}

/// Sets a setting of an interface. Needs `CAP_NET_ADMIN`.
///
/// # Errors
///
/// What the kernel or the driver answered, in its own words where it has any.
pub(super) fn set(name: &str, index: u32, setting: &Setting, value: u64) -> io::Result<()> {
    match place(setting, value)? {
        Place::File(file) => fs::write(Path::new("/sys/class/net").join(name).join(file), value.to_string()),
        Place::Ethtool(command, figure) => {
            let mut family = Family::find(FAMILY)?.ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::Unsupported,
                    "this kernel has no ethtool netlink (CONFIG_ETHTOOL_NETLINK)",
                )
            })?;
            family.set(command, &[header(index), figure])
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{Emitable as _, Nla as _};

    use super::*;

    /// As `ethtool -K IF rx-lro off` writes it (strace of ethtool 6.1).
    #[test]
    fn one_feature_is_switched_by_its_name_and_no_other() {
        let Place::Ethtool(command, wanted) = place(&Setting::Feature("rx-lro".to_owned()), 0).unwrap() else {
            panic!("features are ethtool's")
        };
        assert_eq!(command, 12);
        let mut bytes = vec![0; wanted.buffer_len()];
        wanted.emit(&mut bytes);
        let expected = [
            [0x18, 0, 0x03, 0x80].as_slice(),
            &[0x14, 0, 0x03, 0x80],
            &[0x10, 0, 0x01, 0x80],
            &[0x0b, 0, 0x02, 0],
            b"rx-lro\0\0",
        ]
        .concat();
        assert_eq!(bytes, expected);
        let Place::Ethtool(_, on) = place(&Setting::Feature("rx-lro".to_owned()), 1).unwrap() else { panic!() };
        assert_eq!(on.value_len(), wanted.value_len() + 4, "switched on: with the empty attribute VALUE");
    }

    #[test]
    fn figures_that_no_driver_takes_are_refused_here() {
        let error = place(&Setting::RxUsecs, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(place(&Setting::Mtu, 1500).unwrap(), Place::File("mtu"));
    }
}
