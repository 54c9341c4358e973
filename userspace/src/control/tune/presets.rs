//! What is known of the drivers: what makes them refuse XDP or do it slowly, and what attaching a program does to the link.
//!
//! Each line names the place in the kernel's source where it is written. The figures are for pages of 4 KiB and were read in Linux 6.1, 6.12 and
//! 7.3; docs/SUPPORT.md has the whole table. What the kernel can be asked is not in here: whether a driver has native XDP, zero-copy
//! or frags is told by the kernel itself ([`XdpFeatures`](crate::control::nic::XdpFeatures)).

use super::{Change, Setting};
use crate::control::nic::{Nic, feature};

/// What attaching a program does to the traffic of an interface that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// Nothing.
    None,
    /// The queues are stopped and made anew: what arrives meanwhile is lost, some milliseconds long.
    Traffic,
    /// The link goes down, and up again after a negotiation: seconds.
    Link,
}

/// What is known of a driver.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name, as `ethtool -i` tells it.
    pub driver: &'static str,
    /// The hardware.
    pub nic: &'static str,
    /// What attaching a program does.
    pub attach: Disturbance,
    /// What makes it refuse XDP, or do it slowly.
    rules: &'static [Rule],
    /// What else its user should know; empty where there is nothing.
    pub note: &'static str,
    /// Where that is written, below the kernel's source.
    pub source: &'static str,
}

/// Something that must hold.
#[derive(Clone, Copy, Debug)]
enum Rule {
    /// An IP packet of the MTU fits one buffer; with a program that takes frags it need not.
    OneBuffer(u32),
    /// The MTU is no larger, whatever the program can.
    MtuMax(u32),
    /// An IP packet of the other end's MTU fits one buffer. It cannot be seen from here, and is normally the same.
    OtherEndsMtu(u32),
    /// This offload is off.
    Off(&'static str),
    /// No more than half of the queues there could be: the other half is for the program to send from.
    HalfOfTheQueues,
    /// As many queues for receiving as for sending.
    AsManyEachWay,
    /// Queues come in pairs.
    Pairs,
    /// Beside the queues there is room for one more on each CPU. Where there is not, XDP sends under a lock.
    RoomForEachCpu,
    /// With a larger MTU than this, the private flag is off.
    FlagOffAbove(&'static str, u32),
    /// Headers and payload arrive in one buffer.
    NoDataSplit,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The driver refuses the program.
    Refused,
    /// It works, but slower.
    Slower,
}

/// A rule that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub what: String,
    /// What mends it, where something does.
    pub change: Option<Change>,
    /// Where it is written.
    pub source: &'static str,
}

/// The table, by driver.
pub const TABLE: &[Preset] = &[
    Preset {
        driver: "ena",
        nic: "Amazon Elastic Network Adapter",
        attach: Disturbance::Traffic,
        // ENA_XDP_MAX_MTU: a page less Ethernet header, FCS, tag, 256 bytes of headroom and 320 of skb_shared_info.
        rules: &[Rule::MtuMax(3498), Rule::HalfOfTheQueues],
        note: "the driver of the kernel has no zero-copy: driver mode copies each frame once; Amazon's own (amzn-drivers) calls its zero-copy experimental",
        source: "drivers/net/ethernet/amazon/ena/ena_xdp.h (ENA_XDP_MAX_MTU, ena_xdp_legal_queue_count), ena_xdp.c (ena_xdp_set)",
    },
    Preset {
        driver: "virtio_net",
        nic: "virtio network card of a virtual machine",
        attach: Disturbance::Traffic,
        rules: &[Rule::OneBuffer(3506), Rule::RoomForEachCpu],
        note: "zero-copy needs a device behind an IOMMU (iommu_platform=on); attaching can lose the RSS table; where the \
               hypervisor offers guest offloads that cannot be switched (no VIRTIO_NET_F_CTRL_GUEST_OFFLOADS), native XDP is refused until \
               it no longer does (QEMU: guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,guest_csum=off)",
        source: "drivers/net/virtio_net.c (virtnet_xdp_set, virtnet_xsk_pool_enable)",
    },
    Preset {
        driver: "ice",
        nic: "Intel E810",
        attach: Disturbance::Traffic,
        rules: &[Rule::OneBuffer(3046)],
        note: "AF_XDP wants a queue number that both directions have (combined)",
        source: "drivers/net/ethernet/intel/ice/ice_main.c (ice_xdp_setup_prog, ice_max_xdp_frame_size), ice_xsk.c (ice_xsk_pool_setup)",
    },
    Preset {
        driver: "i40e",
        nic: "Intel X710, XL710",
        attach: Disturbance::Link,
        rules: &[Rule::OneBuffer(3046)],
        note: "the private flag legacy-rx takes the headroom away that XDP wants",
        source: "drivers/net/ethernet/intel/i40e/i40e_main.c (i40e_xdp_setup, i40e_max_vsi_frame_size)",
    },
    Preset {
        driver: "ixgbe",
        nic: "Intel 82599, X520, X540, X550",
        attach: Disturbance::Link,
        rules: &[Rule::OneBuffer(3050), Rule::Off(feature::LRO)],
        note: "native XDP is refused while SR-IOV or DCB is in use, and with more than 128 CPUs",
        source: "drivers/net/ethernet/intel/ixgbe/ixgbe_main.c (ixgbe_xdp_setup)",
    },
    Preset {
        driver: "igb",
        nic: "Intel I210, I350, 82576",
        attach: Disturbance::Link,
        rules: &[Rule::OneBuffer(3046)],
        note: "the link is down for about 2 s when a program is attached, and again when it is detached; the fill ring must not be empty then",
        source: "drivers/net/ethernet/intel/igb/igb_main.c (igb_xdp_setup), igb_xsk.c",
    },
    Preset {
        driver: "igc",
        nic: "Intel I225, I226",
        attach: Disturbance::Traffic,
        rules: &[Rule::MtuMax(1500)],
        note: "",
        source: "drivers/net/ethernet/intel/igc/igc_xdp.c (igc_xdp_set_prog)",
    },
    Preset {
        driver: "mlx5_core",
        nic: "NVIDIA ConnectX-4 and later",
        attach: Disturbance::Traffic,
        rules: &[
            Rule::Off(feature::LRO),
            Rule::Off(feature::GRO_HW),
            Rule::OneBuffer(3498),
            Rule::FlagOffAbove("rx_striding_rq", 3498),
        ],
        note: "a chunk of UMEM is at most a page",
        source: "drivers/net/ethernet/mellanox/mlx5/core/en_main.c (mlx5e_xdp_allowed, mlx5e_params_validate_xdp), en/xdp.c (mlx5e_xdp_max_mtu), \
                 en/xsk/setup.c (mlx5e_validate_xsk_param)",
    },
    Preset {
        driver: "gve",
        nic: "Google Virtual Ethernet",
        attach: Disturbance::Traffic,
        rules: &[
            // The first up to Linux 6.12, the second later.
            Rule::Off(feature::LRO),
            Rule::Off(feature::GRO_HW),
            Rule::NoDataSplit,
            // 2048 bytes less an Ethernet header, and 2 more of padding with the older queue format.
            Rule::MtuMax(2032),
            Rule::AsManyEachWay,
            Rule::HalfOfTheQueues,
        ],
        note: "zero-copy is refused where the largest MTU that the device could have does not fit a chunk of UMEM",
        source: "drivers/net/ethernet/google/gve/gve_main.c (gve_verify_xdp_configuration, gve_xsk_pool_enable)",
    },
    Preset {
        driver: "bnxt_en",
        nic: "Broadcom NetXtreme-C and -E",
        attach: Disturbance::Traffic,
        rules: &[Rule::Pairs, Rule::NoDataSplit, Rule::OneBuffer(3502)],
        note: "the driver of the kernel has no zero-copy",
        source: "drivers/net/ethernet/broadcom/bnxt/bnxt_xdp.c (bnxt_xdp_set), bnxt.h (BNXT_MAX_PAGE_MODE_MTU)",
    },
    Preset {
        driver: "hv_netvsc",
        nic: "Hyper-V, Azure",
        attach: Disturbance::Traffic,
        rules: &[Rule::Off(feature::LRO), Rule::MtuMax(3506)],
        note: "with accelerated networking, frames arrive on the virtual function below (mlx5_core, mana): AF_XDP sockets belong there",
        source: "drivers/net/hyperv/netvsc_bpf.c (netvsc_xdp_set)",
    },
    Preset {
        driver: "mana",
        nic: "Azure Network Adapter",
        attach: Disturbance::Traffic,
        rules: &[Rule::MtuMax(3506)],
        note: "the driver has no zero-copy",
        source: "drivers/net/ethernet/microsoft/mana/mana_bpf.c (mana_xdp_set)",
    },
    Preset {
        driver: "vmxnet3",
        nic: "VMware",
        attach: Disturbance::Traffic,
        // VMXNET3_XDP_MAX_MTU: a page less headroom, skb_shared_info, Ethernet header, two tags and FCS.
        rules: &[Rule::MtuMax(3494), Rule::Off(feature::LRO)],
        note: "attaching switches LRO off, and it stays off; the driver has no zero-copy",
        source: "drivers/net/vmxnet3/vmxnet3_xdp.c (vmxnet3_xdp_set), vmxnet3_xdp.h",
    },
    Preset {
        driver: "veth",
        nic: "a pair of virtual interfaces, for tests",
        attach: Disturbance::None,
        // It also wants as many receive queues as the other end has transmit queues, which cannot be seen from here.
        rules: &[Rule::OtherEndsMtu(3506)],
        note: "its latencies are not those of a NIC; the other end leaves TCP checksums blank unless told not to (ethtool -K PEER tx off); \
               no zero-copy, and busy polling has no effect",
        source: "drivers/net/veth.c (veth_xdp_set)",
    },
];

/// What is known of a driver.
#[must_use]
pub fn of(driver: &str) -> Option<&'static Preset> {
    TABLE.iter().find(|preset| preset.driver == driver)
}

/// What attaching a program does. A driver that nobody has looked at is expected to do the worst.
#[must_use]
pub fn disturbance(driver: &str) -> Disturbance {
    of(driver).map_or(Disturbance::Link, |preset| preset.attach)
}

/// The rules of its driver that an interface breaks, on a machine with so many CPUs.
#[must_use]
pub fn conflicts(nic: &Nic, cpus: u32) -> Vec<Conflict> {
    let Some(preset) = of(&nic.driver.name) else { return Vec::new() };
    preset.rules.iter().filter_map(|rule| broken(*rule, preset, nic, cpus)).collect()
}

fn broken(rule: Rule, preset: &Preset, nic: &Nic, cpus: u32) -> Option<Conflict> {
    let driver = preset.driver;
    let refused = |what: String, change: Option<Change>| {
        Some(Conflict { severity: Severity::Refused, what, change, source: preset.source })
    };
    match rule {
        // The program takes what lies in several.
        Rule::OneBuffer(_) if nic.xdp.is_some_and(|xdp| xdp.frags) => None,
        Rule::OneBuffer(most) | Rule::MtuMax(most) => {
            if nic.mtu <= most {
                return None;
            }
            let change = Change::new(Setting::Mtu, nic.mtu.into(), most.into());
            refused(format!("{driver} refuses native XDP at MTU {}; it accepts up to {most}", nic.mtu), Some(change))
        }
        Rule::OtherEndsMtu(most) => {
            if nic.mtu <= most || nic.xdp.is_some_and(|xdp| xdp.frags) {
                return None;
            }
            let what = format!(
                "{driver} refuses native XDP while the other end's MTU is above {most}, and ours is {}: ip link set PEER mtu {most}",
                nic.mtu
            );
            refused(what, None)
        }
        Rule::Off(name) => {
            if !nic.is_on(name) {
                return None;
            }
            refused(format!("{driver} does not do native XDP while {name} is on"), Some(Change::switch(name, false)))
        }
        Rule::HalfOfTheQueues => {
            let channels = nic.channels?;
            let ((now, most), setting) = match channels.combined {
                (_, 0) => (channels.tx, Setting::TxChannels),
                combined => (combined, Setting::CombinedChannels),
            };
            if 2 * u64::from(now) <= u64::from(most) {
                return None;
            }
            let what =
                format!("{driver} accepts a program with at most half of its queues in use, and has {now} of {most}");
            // With a single one there is no half.
            refused(what, (most >= 2).then(|| Change::new(setting, now.into(), (most / 2).into())))
        }
        Rule::AsManyEachWay => {
            let channels = nic.channels?;
            if channels.rx.0 == channels.tx.0 {
                return None;
            }
            let (more, fewer, setting) = if channels.rx.0 > channels.tx.0 {
                (channels.rx.0, channels.tx.0, Setting::RxChannels)
            } else {
                (channels.tx.0, channels.rx.0, Setting::TxChannels)
            };
            let what = format!(
                "{driver} accepts a program with as many receive as transmit queues, and has {} and {}",
                channels.rx.0, channels.tx.0
            );
            refused(what, Some(Change::new(setting, more.into(), fewer.into())))
        }
        Rule::Pairs => {
            let channels = nic.channels?;
            if channels.combined.0 != 0 {
                return None;
            }
            // One command has to change three figures: `ethtool -L IF combined N rx 0 tx 0`.
            refused(
                format!(
                    "{driver} accepts a program with combined queues only: ethtool -L {} combined N rx 0 tx 0",
                    nic.name
                ),
                None,
            )
        }
        Rule::RoomForEachCpu => {
            let (now, most) = nic.channels?.combined;
            if most == 0 || u64::from(now) + u64::from(cpus) <= most.into() {
                return None;
            }
            let room = most.saturating_sub(cpus);
            let what = format!(
                "{driver} wants a queue for each of {cpus} CPUs beside the {now} in use, and has {most} in all: what is sent by XDP programs takes a lock"
            );
            let change = (room > 0).then(|| Change::new(Setting::CombinedChannels, now.into(), room.into()));
            Some(Conflict { severity: Severity::Slower, what, change, source: preset.source })
        }
        Rule::FlagOffAbove(flag, most) => {
            if nic.mtu <= most || nic.private_flags.get(flag) != Some(&true) {
                return None;
            }
            let what = format!("{driver} does not do native XDP above MTU {most} while {flag} is on");
            refused(what, Some(Change::new(Setting::PrivateFlag(flag.to_owned()), 1, 0)))
        }
        Rule::NoDataSplit => {
            if !nic.rings.is_some_and(|rings| rings.tcp_data_split) {
                return None;
            }
            refused(
                format!(
                    "{driver} does not do native XDP while headers and payload are split: ethtool -G {} tcp-data-split off",
                    nic.name
                ),
                None,
            )
        }
    }
}
