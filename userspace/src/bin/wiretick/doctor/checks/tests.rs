//! Every check on machines that are not there: as it should be, and with one thing wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use wiretick::control::link::Link;
use wiretick::control::nic::host::{HugePages, Steal};
use wiretick::control::nic::receiver::{Above, Bond};
use wiretick::control::nic::{
    Channels, Coalescing, Cpus, Feature, Host, Irq, Nic, Queue, Receiver, Rss, Timestamps, XdpFeatures, feature,
};
use wiretick::control::offloads::Driver;
use wiretick::control::route::Route;

use super::super::facts::{Facts, Peer, Site};
use super::super::finding::{Finding, Verdict};
use super::all;

fn link() -> Link {
    Link {
        index: 2,
        name: "eth0".to_owned(),
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

fn cpus(list: &str) -> Cpus {
    Cpus::parse(list).unwrap()
}

fn nic() -> Nic {
    Nic {
        name: "eth0".to_owned(),
        index: 2,
        mtu: 1500,
        driver: Driver { name: "ice".to_owned(), version: "6.12.1".to_owned(), ..Driver::default() },
        xdp: Some(XdpFeatures {
            native: true,
            redirect: true,
            zero_copy: true,
            frags: true,
            zero_copy_segments: 8,
            rx_timestamp: true,
            ..XdpFeatures::default()
        }),
        channels: Some(Channels { combined: (1, 8), ..Channels::default() }),
        coalescing: Some(Coalescing { rx_usecs: Some(0), rx_frames: None, adaptive_rx: Some(false) }),
        features: [feature::LRO, feature::GRO_HW, feature::GRO, feature::RX_VLAN, feature::NTUPLE]
            .map(|name| (name.to_owned(), Feature { on: false, changeable: true }))
            .into(),
        timestamps: Some(Timestamps { rx_filters: vec!["all".to_owned()], clock: Some(0) }),
        queues: vec![Queue { number: 0, napi: Some(8193), has_xsk: false }],
        numa_node: Some(0),
        irqs: vec![Irq {
            number: 51,
            name: "ice-eth0-TxRx-0".to_owned(),
            allowed: cpus("0-1"),
            effective: cpus("1"),
            counts: vec![0, 9],
        }],
        ..Nic::default()
    }
}

/// A machine on which everything is as it should be.
pub(crate) fn healthy() -> Facts {
    let config = "CONFIG_XDP_SOCKETS=y\nCONFIG_BPF_SYSCALL=y\nCONFIG_BPF_JIT=y\nCONFIG_NET_RX_BUSY_POLL=y\nCONFIG_HIGH_RES_TIMERS=y\n";
    Facts {
        host: Host {
            release: "6.12.1".to_owned(),
            config: Some(wiretick::control::nic::kernel::KernelConfig::parse("/boot/config-6.12.1", config)),
            af_xdp: Some(true),
            bpf_jit: Some(true),
            online: cpus("0-3"),
            isolated: cpus("2-3"),
            nohz_full: cpus("2-3"),
            allowed: cpus("0-3"),
            governor: Some("performance".to_owned()),
            clocksource: "tsc".to_owned(),
            huge_pages: HugePages { free: 9, total: 9, bytes: 2 << 20 },
            nodes: vec![cpus("0,2"), cpus("1,3")],
            ..Host::default()
        },
        site: Ok(Site {
            leaves: link(),
            receiver: Receiver { link: link(), above: Vec::new() },
            nic: nic(),
            program: None,
            is_a_feed: false,
        }),
        peer: Some(Peer {
            name: "feed.example".to_owned(),
            addresses: Ok(vec!["192.0.2.7:443".parse().unwrap()]),
            route: Some(Ok(Route {
                interface: 2,
                source: "192.0.2.1".parse().unwrap(),
                next_hop: "192.0.2.254".parse().unwrap(),
            })),
            connected: Some(Ok(("192.0.2.7:443".parse().unwrap(), Duration::from_millis(1)))),
            next_hop_mac: Some([2, 0, 0, 0, 0, 254]),
        }),
        queue: 0,
        core: Some(2),
    }
}

/// The finding of one check, on a healthy machine with something changed.
fn with(check: &str, change: impl FnOnce(&mut Facts)) -> Finding {
    let mut facts = healthy();
    change(&mut facts);
    let found = all(&facts);
    found.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no check {check}: {found:?}")).clone()
}

fn of_nic(check: &str, change: impl FnOnce(&mut Nic)) -> Finding {
    with(check, |facts| change(&mut facts.site.as_mut().unwrap().nic))
}

fn of_host(check: &str, change: impl FnOnce(&mut Host)) -> Finding {
    with(check, |facts| change(&mut facts.host))
}

fn of_site(check: &str, change: impl FnOnce(&mut Site)) -> Finding {
    with(check, |facts| change(facts.site.as_mut().unwrap()))
}

fn of_peer(check: &str, change: impl FnOnce(&mut Peer)) -> Finding {
    with(check, |facts| change(facts.peer.as_mut().unwrap()))
}

#[track_caller]
fn is(finding: &Finding, verdict: Verdict, words: &[&str]) {
    let line = finding.to_string();
    assert_eq!(finding.verdict, verdict, "{line}");
    for word in words {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert!(!line.contains('\n'), "one line: {line}");
}

use Verdict::{Fail, Ok as Fine, Warn};

#[test]
fn on_a_healthy_machine_everything_is_ok() {
    for finding in all(&healthy()) {
        is(&finding, Fine, &[]);
    }
}

#[test]
fn the_names_of_the_checks_are_those_that_are_promised() {
    let names: Vec<_> = all(&healthy()).iter().map(|finding| finding.check).collect();
    let promised = [
        "kernel",
        "kernel_config",
        "bpf_jit",
        "privileges",
        "locked_memory",
        "huge_pages",
        "virtual_machine",
        "clocksource",
        "isolated_cores",
        "c_states",
        "governor",
        "irqbalance",
        "interface",
        "driver",
        "mtu",
        "xdp_owner",
        "xdp_native",
        "zero_copy",
        "queues",
        "rss",
        "ntuple",
        "lro",
        "gro_hw",
        "gro",
        "vlan_strip",
        "coalescing",
        "busy_poll",
        "irq_affinity",
        "numa",
        "hardware_timestamps",
        "name",
        "route",
        "connection",
        "neighbour",
    ];
    assert_eq!(names, promised);
}

#[test]
fn whatever_is_warn_or_fail_says_what_it_means_or_what_to_do() {
    let mut facts = healthy();
    facts.host = Host { release: "5.10.0".to_owned(), af_xdp: Some(false), ..Host::default() };
    facts.site.as_mut().unwrap().nic = Nic { mtu: 9_001, ..Nic::default() };
    for finding in all(&facts) {
        assert!(finding.verdict == Fine || !finding.means.is_empty() || finding.command.is_some(), "{finding:?}");
    }
}

#[test]
fn kernel() {
    let of = |release: &str| of_host("kernel", |host| host.release = release.to_owned());
    is(&of("5.10.0-28-amd64"), Fail, &["5.10", "5.15", "--mode kernel"]);
    is(&of("5.15.0"), Warn, &["sent again"]);
    is(&of("6.1.0-18-amd64"), Fine, &["only a proof"]);
    is(&of("7.3.4"), Fine, &["7.3.4"]);
    is(&of("strange"), Warn, &["no version"]);
}

#[test]
fn kernel_config() {
    use wiretick::control::nic::kernel::KernelConfig;
    is(&of_host("kernel_config", |host| host.af_xdp = Some(false)), Fail, &["CONFIG_XDP_SOCKETS"]);
    is(&of_host("kernel_config", |host| host.config = None), Fine, &["cannot be read"]);
    let unknown = |host: &mut Host| (host.config, host.af_xdp) = (None, None);
    is(&of_host("kernel_config", unknown), Warn, &["not known"]);
    let without = |text: &'static str| move |host: &mut Host| host.config = Some(KernelConfig::parse("x", text));
    is(&of_host("kernel_config", without("CONFIG_XDP_SOCKETS=y\nCONFIG_BPF_SYSCALL=y\n")), Fail, &["CONFIG_BPF_JIT"]);
    let no_polling = "CONFIG_XDP_SOCKETS=y\nCONFIG_BPF_SYSCALL=y\nCONFIG_BPF_JIT=y\nCONFIG_HIGH_RES_TIMERS=y\n";
    is(&of_host("kernel_config", without(no_polling)), Warn, &["NET_RX_BUSY_POLL", "--busy-poll"]);
}

#[test]
fn bpf_jit() {
    is(&of_host("bpf_jit", |host| host.bpf_jit = Some(false)), Warn, &["sysctl -w net.core.bpf_jit_enable=1"]);
    is(&of_host("bpf_jit", |host| host.bpf_jit = None), Fine, &[]);
}

#[test]
fn privileges() {
    let missing = |host: &mut Host| host.missing_capabilities = Some("CAP_BPF".to_owned());
    is(&of_host("privileges", missing), Fail, &["CAP_BPF", "root", "setcap"]);
    let repair = |host: &mut Host| host.repair = Some("Operation not permitted".to_owned());
    is(&of_host("privileges", repair), Fail, &["TCP_REPAIR", "--setup ring"]);
}

#[test]
fn locked_memory() {
    let limit =
        |bytes, may_lock| move |host: &mut Host| (host.locked_memory_bytes, host.may_lock) = (Some(bytes), may_lock);
    is(&of_host("locked_memory", limit(65_536, false)), Fail, &["65536", "ulimit -l unlimited", "LimitMEMLOCK"]);
    is(&of_host("locked_memory", limit(65_536, true)), Fine, &["CAP_IPC_LOCK"]);
    is(&of_host("locked_memory", limit(18_874_367, false)), Fail, &["18874368"]);
    is(&of_host("locked_memory", limit(18_874_368, false)), Fine, &["--rt"]);
}

#[test]
fn huge_pages() {
    let pages = |free, total, bytes| move |host: &mut Host| host.huge_pages = HugePages { free, total, bytes };
    is(&of_host("huge_pages", pages(0, 0, 2 << 20)), Warn, &["sysctl -w vm.nr_hugepages=9"]);
    is(&of_host("huge_pages", pages(2, 10, 2 << 20)), Warn, &["sysctl -w vm.nr_hugepages=17"]);
    is(&of_host("huge_pages", pages(0, 0, 1 << 30)), Fine, &["does not fill"]);
}

#[test]
fn virtual_machine() {
    let machine = |now, ever| move |host: &mut Host| (host.is_virtual, host.steal) = (true, Steal { now, ever });
    is(&of_host("virtual_machine", machine(0.0, 0.0)), Fine, &["hypervisor"]);
    is(&of_host("virtual_machine", machine(0.25, 0.0)), Warn, &["25.0 %"]);
    is(&of_host("virtual_machine", machine(0.0, 0.03)), Warn, &["3.0 %"]);
}

#[test]
fn clocksource() {
    is(&of_host("clocksource", |host| host.clocksource = "hpet".to_owned()), Warn, &["hpet", "system call", "tsc"]);
    is(&of_host("clocksource", |host| host.clocksource = "kvm-clock".to_owned()), Fine, &[]);
}

#[test]
fn isolated_cores() {
    let check = |core, isolated: &'static str, nohz: &'static str| {
        with("isolated_cores", |facts| {
            facts.core = core;
            (facts.host.isolated, facts.host.nohz_full) = (cpus(isolated), cpus(nohz));
        })
    };
    is(&check(Some(2), "2-3", ""), Warn, &["clock tick", "nohz_full=2"]);
    is(&check(Some(1), "2-3", "2-3"), Warn, &["shared", "isolcpus=managed_irq,domain,1"]);
    is(&check(Some(9), "", ""), Fail, &["no core 9"]);
    is(&check(None, "2-3", ""), Fine, &["--core"]);
    is(&check(None, "", ""), Warn, &["isolcpus=managed_irq,domain,3"]);
    let single = with("isolated_cores", |facts| {
        facts.core = None;
        (facts.host.online, facts.host.isolated) = (cpus("0"), Cpus::default());
    });
    is(&single, Warn, &["single core"]);
}

#[test]
fn c_states() {
    let states = |deep: u64, off: bool| {
        move |host: &mut Host| {
            host.idle_driver = Some("intel_idle".to_owned());
            host.idle_states =
                vec![("POLL".to_owned(), 0, false), ("C1".to_owned(), 2, false), ("C6".to_owned(), deep, off)];
        }
    };
    is(&of_host("c_states", states(133, false)), Warn, &["C6", "133 us", "cpupower idle-set -D 10"]);
    is(&of_host("c_states", states(133, true)), Fine, &["C1"]);
    is(&of_host("c_states", states(10, false)), Fine, &[]);
}

#[test]
fn governor_and_irqbalance() {
    let powersave = |host: &mut Host| host.governor = Some("powersave".to_owned());
    is(&of_host("governor", powersave), Warn, &["cpupower frequency-set -g performance"]);
    is(&of_host("governor", |host| host.governor = None), Fine, &[]);
    is(&of_host("irqbalance", |host| host.irqbalance = Some(612)), Warn, &["612", "systemctl stop irqbalance"]);
}

#[test]
fn interface() {
    let broken = |change: fn(&mut Link)| of_site("interface", move |site| change(&mut site.receiver.link));
    is(&broken(|link| link.mac = None), Fail, &["not an Ethernet"]);
    is(&broken(|link| link.up = false), Fail, &["ip link set eth0 up"]);
    is(&broken(|link| link.carrier = false), Fail, &["cable"]);
    is(&with("interface", |facts| facts.site = Err("eth9: no such interface".to_owned())), Fail, &["eth9"]);
    let vlan = of_site("interface", |site| {
        site.leaves = Link { index: 7, name: "eth0.5".to_owned(), ..link() };
        site.receiver.above = vec![Above::Vlan { name: "eth0.5".to_owned(), id: 5 }];
    });
    is(&vlan, Fine, &["eth0.5: eth0 receives for it", "VLAN 5"]);
}

#[test]
fn a_bond_is_a_place_for_the_bypass_only_where_one_member_receives() {
    let bond = |mode: &'static str, active: Option<&'static str>| {
        of_site("interface", move |site| {
            site.receiver.above = vec![Above::Bond(Bond {
                name: "bond0".to_owned(),
                mode: mode.to_owned(),
                members: vec!["eth0".to_owned(), "eth1".to_owned()],
                active: active.map(str::to_owned),
            })];
        })
    };
    is(&bond("active-backup", Some("eth0")), Fine, &["bond0", "goes home"]);
    is(&bond("802.3ad", None), Warn, &["eth0, eth1", "active-backup"]);
}

#[test]
fn driver() {
    is(&of_nic("driver", |nic| nic.driver.name = "unheard_of".to_owned()), Warn, &["unheard_of", "not in the table"]);
    is(&of_nic("driver", |nic| nic.driver = Driver::default()), Warn, &["none that tells"]);
    is(&of_nic("driver", |nic| nic.driver.name = "igb".to_owned()), Fine, &["link down for seconds"]);
    let striding = of_nic("driver", |nic| {
        nic.driver.name = "mlx5_core".to_owned();
        nic.mtu = 9_000;
        nic.private_flags = BTreeMap::from([("rx_striding_rq".to_owned(), true)]);
    });
    is(&striding, Fail, &["ethtool --set-priv-flags eth0 rx_striding_rq off"]);
}

#[test]
fn mtu() {
    let ena = |mtu| {
        move |nic: &mut Nic| {
            nic.mtu = mtu;
            nic.driver.name = "ena".to_owned();
        }
    };
    is(&of_nic("mtu", ena(9_001)), Fail, &["3498", "ip link set eth0 mtu 3498"]);
    is(&of_nic("mtu", ena(3_498)), Fine, &[]);
    let unknown = |mtu: u32, xdp: Option<bool>| {
        move |nic: &mut Nic| {
            (nic.mtu, nic.driver.name) = (mtu, "unheard_of".to_owned());
            nic.xdp = xdp.map(|frags| XdpFeatures { native: true, redirect: true, frags, ..XdpFeatures::default() });
        }
    };
    is(&of_nic("mtu", unknown(9_000, Some(true))), Fine, &["several buffers", "copied once"]);
    is(&of_nic("mtu", unknown(9_000, Some(false))), Fail, &["one buffer", "ip link set eth0 mtu 3"]);
    is(&of_nic("mtu", unknown(9_000, None)), Warn, &["only a proof"]);
    is(&of_nic("mtu", unknown(20_000, Some(true))), Fail, &["ip link set eth0 mtu 16000"]);
    let with_frags = |nic: &mut Nic| {
        (nic.mtu, nic.driver.name) = (9_000, "ice".to_owned());
        nic.xdp = Some(XdpFeatures { native: true, redirect: true, frags: true, ..XdpFeatures::default() });
    };
    is(&of_nic("mtu", with_frags), Fine, &["several buffers"]);
}

#[test]
fn xdp_owner() {
    let owned = |site: &mut Site| site.program = Some("program 7 \"filter\", held by katran (pid 9)".to_owned());
    is(&of_site("xdp_owner", owned), Fail, &["katran (pid 9)", "ip link set dev eth0 xdp off"]);
    let a_feeds = |site: &mut Site| {
        (site.program, site.is_a_feed) = (Some("program 7 \"wiretick\", held by wiretick (pid 9)".to_owned()), true);
    };
    is(&of_site("xdp_owner", a_feeds), Fine, &["wiretick (pid 9)", "--queue"]);
}

#[test]
fn xdp_native_and_zero_copy() {
    let features = |xdp: Option<XdpFeatures>| move |nic: &mut Nic| nic.xdp = xdp;
    let native = XdpFeatures { native: true, redirect: true, ..XdpFeatures::default() };
    is(&of_nic("xdp_native", features(None)), Warn, &["only a proof"]);
    is(&of_nic("xdp_native", features(Some(XdpFeatures::default()))), Warn, &["skb mode is left"]);
    is(
        &of_nic("xdp_native", features(Some(XdpFeatures { redirect: false, ..native }))),
        Warn,
        &["without redirection"],
    );
    is(&of_nic("xdp_native", features(Some(native))), Fine, &[]);
    is(&of_nic("zero_copy", features(Some(native))), Warn, &["copies each frame once"]);
    is(&of_nic("zero_copy", features(None)), Warn, &["only a proof"]);
    is(&of_nic("zero_copy", features(Some(XdpFeatures::default()))), Warn, &["none"]);
}

#[test]
fn queues() {
    is(&with("queues", |facts| facts.queue = 1), Fail, &["no queue 1", "ethtool -l eth0"]);
    let all_in_use = |nic: &mut Nic| {
        nic.driver.name = "ena".to_owned();
        nic.channels = Some(Channels { combined: (8, 8), ..Channels::default() });
    };
    is(&of_nic("queues", all_in_use), Fail, &["half", "ethtool -L eth0 combined 4"]);
    let single = |nic: &mut Nic| {
        nic.driver.name = "ena".to_owned();
        nic.channels = Some(Channels { combined: (1, 1), ..Channels::default() });
    };
    is(&of_nic("queues", single), Fail, &["1 of 1"]);
    is(&of_nic("driver", single), Fine, &["Amazon"]);
    let virtio = |nic: &mut Nic| {
        nic.driver.name = "virtio_net".to_owned();
        nic.channels = Some(Channels { combined: (8, 8), ..Channels::default() });
    };
    is(&of_nic("queues", virtio), Warn, &["ethtool -L eth0 combined 4"]);
    is(&of_nic("queues", |nic| nic.queues[0].has_xsk = true), Fail, &["AF_XDP socket already"]);
}

fn two_queues(nic: &mut Nic) {
    nic.channels = Some(Channels { combined: (2, 8), ..Channels::default() });
}

#[test]
fn rss_and_ntuple() {
    let spread = |weights: &'static [(u32, u32)]| {
        move |nic: &mut Nic| {
            two_queues(nic);
            nic.rss = Some(Rss { weights: weights.iter().copied().collect() });
        }
    };
    is(&of_nic("rss", spread(&[(0, 64), (1, 64)])), Fine, &["2 queues", "hash"]);
    is(&of_nic("rss", spread(&[(0, 128)])), Fine, &["every flow goes to queue 0"]);
    is(&of_nic("rss", spread(&[(1, 128)])), Fail, &["ethtool -X eth0 equal 1"]);
    is(&of_nic("rss", two_queues), Warn, &["ethtool -x eth0"]);
    is(&of_nic("ntuple", two_queues), Fine, &["ethtool -K eth0 ntuple on"]);
    let none = |nic: &mut Nic| {
        two_queues(nic);
        nic.features.remove(feature::NTUPLE);
    };
    is(&of_nic("ntuple", none), Warn, &["no rules"]);
}

#[test]
fn merging_of_segments() {
    let on = |driver: &'static str, name: &'static str| {
        move |nic: &mut Nic| {
            nic.driver.name = driver.to_owned();
            nic.features.insert(name.to_owned(), Feature { on: true, changeable: true });
        }
    };
    is(&of_nic("lro", on("mlx5_core", feature::LRO)), Fail, &["ethtool -K eth0 lro off"]);
    is(&of_nic("lro", on("unheard_of", feature::LRO)), Warn, &["ethtool -K eth0 lro off"]);
    is(&of_nic("gro_hw", on("mlx5_core", feature::GRO_HW)), Fail, &["rx-gro-hw off"]);
    is(&of_nic("gro_hw", on("virtio_net", feature::GRO_HW)), Fine, &["off while"]);
    is(&of_nic("gro", on("ice", feature::GRO)), Fine, &["skb mode is refused"]);
    let without_native = |nic: &mut Nic| {
        on("e1000e", feature::GRO)(nic);
        nic.xdp = Some(XdpFeatures::default());
    };
    is(&of_nic("gro", without_native), Fail, &["ethtool -K eth0 gro off"]);
}

#[test]
fn vlan_strip() {
    let strip = |tag: Option<u16>| {
        of_site("vlan_strip", move |site| {
            site.nic.features.insert(feature::RX_VLAN.to_owned(), Feature { on: true, changeable: true });
            site.receiver.above = tag.map(|id| Above::Vlan { name: "eth0.5".to_owned(), id }).into_iter().collect();
        })
    };
    is(&strip(None), Fine, &[]);
    is(&strip(Some(5)), Fail, &["tag 5", "ethtool -K eth0 rxvlan off"]);
}

#[test]
fn coalescing() {
    let wait = |usecs, adaptive| {
        move |nic: &mut Nic| {
            nic.coalescing = Some(Coalescing { rx_usecs: Some(usecs), rx_frames: None, adaptive_rx: Some(adaptive) });
        }
    };
    is(&of_nic("coalescing", wait(20, true)), Warn, &["ethtool -C eth0 adaptive-rx off rx-usecs 0"]);
    is(&of_nic("coalescing", wait(20, false)), Warn, &["20 us", "ethtool -C eth0 rx-usecs 0"]);
    is(&of_nic("coalescing", |nic| nic.coalescing = None), Fine, &[]);
}

#[test]
fn busy_poll_and_interrupts() {
    is(&of_nic("busy_poll", |nic| nic.queues[0].napi = None), Fine, &["no effect"]);
    is(&of_nic("busy_poll", |nic| nic.queues.clear()), Fine, &["does not tell"]);
    let ours = with("irq_affinity", |facts| facts.core = Some(1));
    is(&ours, Warn, &["core 1", "echo 0 > /proc/irq/51/smp_affinity_list"]);
    is(&with("irq_affinity", |facts| facts.core = None), Fine, &["interrupt 51"]);
    is(&of_nic("irq_affinity", |nic| nic.irqs.clear()), Fine, &["no interrupts"]);
}

#[test]
fn numa() {
    is(&with("numa", |facts| facts.core = Some(3)), Warn, &["core 3 is on node 1", "node 0", "0,2"]);
    is(&with("numa", |facts| facts.core = None), Fine, &["choose a core of 0,2"]);
    is(&of_nic("numa", |nic| nic.numa_node = None), Fine, &[]);
}

#[test]
fn hardware_timestamps() {
    is(&of_nic("hardware_timestamps", |nic| nic.timestamps = None), Fine, &["stamped by the program"]);
    let not_told = |nic: &mut Nic| nic.xdp.as_mut().unwrap().rx_timestamp = false;
    is(&of_nic("hardware_timestamps", not_told), Fine, &["/dev/ptp0", "does not hand"]);
}

#[test]
fn the_way_to_the_peer() {
    let unresolved = |peer: &mut Peer| {
        peer.addresses = Err("feed.example: cannot be resolved".to_owned());
        (peer.route, peer.connected, peer.next_hop_mac) = (None, None, None);
    };
    for check in ["name", "route", "connection", "neighbour"] {
        is(&of_peer(check, unresolved), Fail, &[]);
    }
    let elsewhere =
        |peer: &mut Peer| peer.route = Some(Ok(Route { interface: 9, ..peer.route.clone().unwrap().unwrap() }));
    is(&of_peer("route", elsewhere), Fail, &["interface 9", "ip route get"]);
    is(&of_peer("connection", |peer| peer.connected = Some(Err("refused".to_owned()))), Fail, &["refused"]);
    is(&of_peer("neighbour", |peer| peer.next_hop_mac = None), Fail, &["ip neigh show 192.0.2.254"]);
    let alone = {
        let mut facts = healthy();
        facts.peer = None;
        all(&facts)
    };
    assert!(alone.iter().all(|finding| finding.check != "name"), "without a peer there is nothing to say of it");
}
