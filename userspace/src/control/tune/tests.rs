//! What each driver's presets make of interfaces that break them, and of interfaces that do not.

use std::collections::BTreeMap;

use super::presets::{Disturbance, TABLE, conflicts, disturbance};
use super::*;
use crate::control::nic::{Channels, Coalescing, Feature, Rings};
use crate::control::offloads::Driver;

const CPUS: u32 = 4;

/// An interface that nothing is wrong with.
fn healthy(driver: &str) -> Nic {
    Nic {
        name: "eth0".to_owned(),
        mtu: 1500,
        driver: Driver { name: driver.to_owned(), ..Driver::default() },
        channels: Some(match driver {
            "gve" => Channels { rx: (2, 16), tx: (2, 16), combined: (0, 0) },
            _ => Channels { combined: (2, 16), ..Channels::default() },
        }),
        rings: Some(Rings::default()),
        features: [feature::LRO, feature::GRO_HW, feature::GRO, feature::RX_VLAN]
            .map(|name| (name.to_owned(), Feature { on: false, changeable: true }))
            .into(),
        private_flags: BTreeMap::from([("rx_striding_rq".to_owned(), true)]),
        ..Nic::default()
    }
}

fn on(mut nic: Nic, name: &str) -> Nic {
    nic.features.insert(name.to_owned(), Feature { on: true, changeable: true });
    nic
}

/// The commands for an interface, with nothing wished for.
fn commands(nic: &Nic) -> Vec<String> {
    Plan::new(nic, &Wishes::default(), CPUS).commands("eth0")
}

#[test]
fn a_healthy_interface_wants_nothing() {
    for preset in TABLE {
        let plan = Plan::new(&healthy(preset.driver), &Wishes::default(), CPUS);
        assert_eq!(plan, Plan::default(), "{}", preset.driver);
    }
}

#[test]
fn every_preset_names_its_source_and_stands_once() {
    for preset in TABLE {
        assert!(preset.source.starts_with("drivers/net/"), "{}", preset.driver);
        assert_eq!(TABLE.iter().filter(|other| other.driver == preset.driver).count(), 1, "{}", preset.driver);
    }
}

#[test]
fn a_driver_that_nobody_has_looked_at_is_expected_to_do_the_worst() {
    assert_eq!(disturbance("veth"), Disturbance::None);
    assert_eq!(disturbance("igb"), Disturbance::Link);
    assert_eq!(disturbance("unheard_of"), Disturbance::Link);
    assert!(conflicts(&Nic { mtu: 9000, ..healthy("unheard_of") }, CPUS).is_empty());
}

#[test]
fn an_mtu_that_the_driver_refuses_is_lowered_to_the_largest_it_takes() {
    let largest = [
        ("ena", 3498),
        ("virtio_net", 3506),
        ("ice", 3046),
        ("i40e", 3046),
        ("ixgbe", 3050),
        ("igb", 3046),
        ("igc", 1500),
        ("gve", 2032),
        ("hv_netvsc", 3506),
        ("mana", 3506),
        ("vmxnet3", 3494),
    ];
    for (driver, most) in largest {
        assert_eq!(commands(&Nic { mtu: most, ..healthy(driver) }), [""; 0], "{driver}");
        let plan = Plan::new(&Nic { mtu: most + 1, ..healthy(driver) }, &Wishes::default(), CPUS);
        assert_eq!(plan.commands("eth0"), [format!("ip link set eth0 mtu {most}")], "{driver}");
        assert!(plan.steps[0].needed && plan.steps[0].reason.contains(&most.to_string()), "{plan:?}");
    }
}

#[test]
fn the_mtu_of_a_veths_other_end_cannot_be_changed_here() {
    let plan = Plan::new(&Nic { mtu: 3507, ..healthy("veth") }, &Wishes::default(), CPUS);
    assert!(plan.steps.is_empty() && plan.obstacles[0].what.contains("ip link set PEER mtu 3506"), "{plan:?}");
}

#[test]
fn an_mlx5_with_jumbo_frames_also_gives_up_its_striding_queue() {
    let jumbo = Nic { mtu: 9000, ..healthy("mlx5_core") };
    assert_eq!(commands(&jumbo), ["ethtool --set-priv-flags eth0 rx_striding_rq off", "ip link set eth0 mtu 3498"]);
    assert_eq!(
        commands(&on(on(healthy("mlx5_core"), feature::LRO), feature::GRO_HW)),
        ["ethtool -K eth0 lro off", "ethtool -K eth0 rx-gro-hw off"]
    );
}

#[test]
fn half_of_the_queues_are_left_to_the_program() {
    let with = |driver, channels| Nic { channels: Some(channels), ..healthy(driver) };
    let combined = |now, most| Channels { combined: (now, most), ..Channels::default() };
    assert_eq!(commands(&with("ena", combined(8, 8))), ["ethtool -L eth0 combined 4"]);
    assert_eq!(commands(&with("ena", combined(4, 8))), [""; 0]);
    assert_eq!(commands(&with("ena", combined(3, 5))), ["ethtool -L eth0 combined 2"]);
    // A small instance with a single queue: nothing helps.
    let plan = Plan::new(&with("ena", combined(1, 1)), &Wishes::default(), CPUS);
    assert!(plan.steps.is_empty() && plan.obstacles[0].severity == Severity::Refused, "{plan:?}");
    // gve has its queues one by one.
    let each = |rx, tx| Channels { rx: (rx, 16), tx: (tx, 16), combined: (0, 0) };
    assert_eq!(commands(&with("gve", each(8, 8))), [""; 0]);
    assert_eq!(commands(&with("gve", each(9, 9))), ["ethtool -L eth0 tx 8"]);
    assert_eq!(commands(&with("gve", each(8, 4))), ["ethtool -L eth0 rx 4"]);
}

#[test]
fn a_virtio_card_wants_room_for_a_queue_on_each_cpu_and_works_without() {
    let with = |now, most| Nic {
        channels: Some(Channels { combined: (now, most), ..Channels::default() }),
        ..healthy("virtio_net")
    };
    assert!(conflicts(&with(4, 8), CPUS).is_empty());
    let found = conflicts(&with(8, 8), CPUS);
    assert_eq!((found.len(), found[0].severity), (1, Severity::Slower));
    assert_eq!(commands(&with(8, 8)), ["ethtool -L eth0 combined 4"]);
    let none = conflicts(&with(1, 1), CPUS);
    assert_eq!(none[0].change, None, "no number of queues leaves room");
}

#[test]
fn queues_that_are_not_pairs_and_split_headers_are_told_with_the_command() {
    let apart = Channels { rx: (4, 8), tx: (4, 8), combined: (0, 8) };
    let plan = Plan::new(&Nic { channels: Some(apart), ..healthy("bnxt_en") }, &Wishes::default(), CPUS);
    assert!(plan.obstacles[0].what.contains("ethtool -L eth0 combined N rx 0 tx 0"), "{plan:?}");
    let split = Some(Rings { tcp_data_split: true, ..Rings::default() });
    let plan = Plan::new(&Nic { rings: split, ..healthy("gve") }, &Wishes::default(), CPUS);
    assert!(plan.obstacles[0].what.contains("tcp-data-split off"), "{plan:?}");
}

#[test]
fn an_offload_that_cannot_be_switched_is_an_obstacle() {
    let mut nic = healthy("ixgbe");
    nic.features.insert(feature::LRO.to_owned(), Feature { on: true, changeable: false });
    let plan = Plan::new(&nic, &Wishes::default(), CPUS);
    assert!(plan.steps.is_empty() && plan.obstacles[0].what.contains("cannot be switched"), "{plan:?}");
}

#[test]
fn interrupts_are_made_to_come_at_once() {
    let coalescing = Some(Coalescing { rx_usecs: Some(20), rx_frames: Some(0), adaptive_rx: Some(true) });
    let plan = Plan::new(&Nic { coalescing, ..healthy("ena") }, &Wishes::default(), CPUS);
    assert_eq!(plan.commands("eth0"), ["ethtool -C eth0 adaptive-rx off", "ethtool -C eth0 rx-usecs 0"]);
    assert!(plan.steps.iter().all(|step| !step.needed), "slower is not refused");
}

#[test]
fn wishes_add_what_they_need() {
    let mut nic = on(on(healthy("igb"), feature::GRO), feature::RX_VLAN);
    (nic.defer_hard_irqs, nic.gro_flush_timeout_ns) = (Some(0), Some(0));
    let with = |wishes: Wishes| Plan::new(&nic, &wishes, CPUS).commands("eth0");
    assert_eq!(with(Wishes::default()), [""; 0], "GRO and the VLAN offload harm nobody who does not wish for more");
    assert_eq!(with(Wishes { skb: true, ..Wishes::default() }), ["ethtool -K eth0 gro off"]);
    assert_eq!(with(Wishes { vlan: true, ..Wishes::default() }), ["ethtool -K eth0 rxvlan off"]);
    assert_eq!(
        with(Wishes { busy_poll: true, ..Wishes::default() }),
        ["echo 2 > /sys/class/net/eth0/napi_defer_hard_irqs", "echo 200000 > /sys/class/net/eth0/gro_flush_timeout"]
    );
}

#[test]
fn a_change_backwards_is_the_command_that_undoes_it() {
    let change = Change::new(Setting::CombinedChannels, 8, 4);
    assert_eq!(change.reversed().command("eth0"), "ethtool -L eth0 combined 8");
    assert_eq!(Change::switch(feature::LRO, false).reversed().command("eth0"), "ethtool -K eth0 lro on");
}
