//! A setting of an interface, and a change of one: what it is now, what it is to be, and the command that does it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::control::nic::{Nic, feature};

/// Something about an interface that can be set to a number; a switch is 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// The largest IP packet, in bytes.
    Mtu,
    /// Pairs of queues.
    CombinedChannels,
    /// Queues for receiving only.
    RxChannels,
    /// Queues for sending only.
    TxChannels,
    /// An offload, by the name that the kernel gives it.
    Feature(String),
    /// A switch that only this driver has.
    PrivateFlag(String),
    /// The driver changes the time before an interrupt with the load.
    AdaptiveRx,
    /// Microseconds between a frame and its interrupt.
    RxUsecs,
    /// Empty polls before interrupts are let in again.
    DeferHardIrqs,
    /// Nanoseconds without a poll after which the kernel polls by itself.
    GroFlushTimeoutNs,
}

impl Setting {
    /// What it is now; `None` where the interface has no such setting.
    #[must_use]
    pub fn of(&self, nic: &Nic) -> Option<u64> {
        let number = |value: Option<u32>| value.map(u64::from);
        match self {
            Self::Mtu => Some(nic.mtu.into()),
            Self::CombinedChannels => number(nic.channels.map(|channels| channels.combined.0)),
            Self::RxChannels => number(nic.channels.map(|channels| channels.rx.0)),
            Self::TxChannels => number(nic.channels.map(|channels| channels.tx.0)),
            Self::Feature(name) => nic.features.get(name).map(|feature| feature.on.into()),
            Self::PrivateFlag(name) => nic.private_flags.get(name).map(|on| u64::from(*on)),
            Self::AdaptiveRx => nic.coalescing?.adaptive_rx.map(u64::from),
            Self::RxUsecs => number(nic.coalescing?.rx_usecs),
            Self::DeferHardIrqs => nic.defer_hard_irqs,
            Self::GroFlushTimeoutNs => nic.gro_flush_timeout_ns,
        }
    }

    /// Its place among changes that are made together. What excludes XDP goes first; the number of queues comes after the MTU and before what
    /// is set on each queue; what belongs to polling is last.
    pub(super) fn order(&self) -> u8 {
        match self {
            Self::Feature(_) => 0,
            Self::PrivateFlag(_) => 1,
            Self::Mtu => 2,
            Self::CombinedChannels | Self::RxChannels | Self::TxChannels => 3,
            // Adaptive first: with it on, some drivers ignore the time.
            Self::AdaptiveRx => 4,
            Self::RxUsecs => 5,
            Self::DeferHardIrqs | Self::GroFlushTimeoutNs => 6,
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mtu => f.write_str("MTU"),
            Self::CombinedChannels => f.write_str("combined queues"),
            Self::RxChannels => f.write_str("receive queues"),
            Self::TxChannels => f.write_str("transmit queues"),
            Self::Feature(name) | Self::PrivateFlag(name) => f.write_str(name),
            Self::AdaptiveRx => f.write_str("adaptive-rx"),
            Self::RxUsecs => f.write_str("rx-usecs"),
            Self::DeferHardIrqs => f.write_str("napi_defer_hard_irqs"),
            Self::GroFlushTimeoutNs => f.write_str("gro_flush_timeout"),
        }
    }
}

/// A setting, and how it is to be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What is changed.
    pub setting: Setting,
    /// What it was.
    pub from: u64,
    /// What it is to be.
    pub to: u64,
}

impl Change {
    /// A change of a setting.
    #[must_use]
    pub const fn new(setting: Setting, from: u64, to: u64) -> Self {
        Self { setting, from, to }
    }

    /// An offload that is to be switched, from what it is not to be.
    #[must_use]
    pub fn switch(feature: &str, on: bool) -> Self {
        Self::new(Setting::Feature(feature.to_owned()), (!on).into(), on.into())
    }

    /// The same change backwards.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self { setting: self.setting.clone(), from: self.to, to: self.from }
    }

    /// The command that makes it.
    #[must_use]
    pub fn command(&self, interface: &str) -> String {
        let to = self.to;
        let state = if to == 0 { "off" } else { "on" };
        match &self.setting {
            Setting::Mtu => format!("ip link set {interface} mtu {to}"),
            Setting::CombinedChannels => format!("ethtool -L {interface} combined {to}"),
            Setting::RxChannels => format!("ethtool -L {interface} rx {to}"),
            Setting::TxChannels => format!("ethtool -L {interface} tx {to}"),
            Setting::Feature(name) => format!("ethtool -K {interface} {} {state}", short(name)),
            Setting::PrivateFlag(name) => format!("ethtool --set-priv-flags {interface} {name} {state}"),
            Setting::AdaptiveRx => format!("ethtool -C {interface} adaptive-rx {state}"),
            Setting::RxUsecs => format!("ethtool -C {interface} rx-usecs {to}"),
            Setting::DeferHardIrqs => format!("echo {to} > /sys/class/net/{interface}/napi_defer_hard_irqs"),
            Setting::GroFlushTimeoutNs => format!("echo {to} > /sys/class/net/{interface}/gro_flush_timeout"),
        }
    }
}

/// What people call an offload. ethtool takes the kernel's names, too.
fn short(name: &str) -> &str {
    match name {
        feature::LRO => "lro",
        feature::GRO => "gro",
        feature::RX_VLAN => "rxvlan",
        feature::NTUPLE => "ntuple",
        other => other,
    }
}
