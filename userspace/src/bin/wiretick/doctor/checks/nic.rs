//! The interface: what its driver can do, how it is set up, and who is on it.

use wiretick::control::nic::{Nic, feature};
use wiretick::control::tune::presets::{self, Conflict, Disturbance, Severity};
use wiretick::control::tune::{Change, Setting};
use wiretick::ring::{JOINED_BYTES_MAX, PACKET_BYTES_MAX};

use crate::doctor::facts::{Facts, Site};
use crate::doctor::finding::Finding;

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let site = match &facts.site {
        Ok(site) => site,
        Err(error) => {
            return vec![Finding::fail("interface", error).means("there is nothing to bypass").command("ip -br link")];
        }
    };
    let Site { nic, .. } = site;
    let cpus = u32::try_from(facts.host.online.len()).unwrap_or(u32::MAX);
    let conflicts = presets::conflicts(nic, cpus);
    vec![
        interface(site),
        driver(nic, &conflicts),
        mtu(nic, &conflicts),
        xdp_owner(site),
        xdp_native(nic),
        zero_copy(nic),
        queues(nic, facts.queue, &conflicts),
        rss(nic, facts.queue),
        ntuple(nic),
        merging("lro", feature::LRO, nic, &conflicts),
        merging("gro_hw", feature::GRO_HW, nic, &conflicts),
        gro(nic),
        vlan_strip(site),
        coalescing(nic),
        busy_poll(nic, facts.queue),
        irq_affinity(facts, nic),
        numa(facts, nic),
        hardware_timestamps(nic),
    ]
}

fn interface(site: &Site) -> Finding {
    const CHECK: &str = "interface";
    let Site { leaves, receiver, nic, .. } = site;
    let name = &nic.name;
    let mut found = name.clone();
    if receiver.link.index != leaves.index {
        found = format!("{}: {name} receives for it", leaves.name);
    }
    if let Some(id) = receiver.vlan() {
        found.push_str(&format!(", VLAN {id}"));
    }
    if let Some(speed) = nic.speed_mbit {
        found.push_str(&format!(", {speed} Mbit/s"));
    }
    let link = &receiver.link;
    if link.mac.is_none() {
        return Finding::fail(CHECK, found)
            .means("not an Ethernet interface: there is nothing to bypass, only mode kernel");
    }
    if !link.up {
        return Finding::fail(CHECK, format!("{found}: down")).command(format!("ip link set {name} up"));
    }
    if !link.carrier {
        return Finding::fail(CHECK, format!("{found}: no carrier"))
            .means("is the cable in?")
            .command(format!("ethtool {name}"));
    }
    if let Some(bond) = receiver.bond() {
        let found = format!("{found}, of bond {} ({})", bond.name, bond.mode);
        if receiver.spread().is_some() {
            return Finding::warn(CHECK, found)
                .means(format!(
                    "the other end chooses over which of {} the flow arrives, and a ring sees only its own: mode kernel",
                    bond.members.join(", ")
                ))
                .command(format!("ip link set {} type bond mode active-backup", bond.name));
        }
        return Finding::ok(CHECK, found)
            .means("when the bond changes its member, the connection goes home and comes back there");
    }
    Finding::ok(CHECK, found)
}

fn driver(nic: &Nic, conflicts: &[Conflict]) -> Finding {
    const CHECK: &str = "driver";
    let driver = &nic.driver;
    let mut found = format!("{} {}", driver.name, driver.version).trim().to_owned();
    if !driver.firmware.is_empty() && driver.firmware != "N/A" {
        found.push_str(&format!(", firmware {}", driver.firmware));
    }
    if !driver.bus.is_empty() && driver.bus != "N/A" {
        found.push_str(&format!(", {}", driver.bus));
    }
    // What no other check is about.
    let other = conflicts.iter().find(|conflict| {
        matches!(conflict.change, None | Some(Change { setting: Setting::PrivateFlag(_), .. }))
            && !is_about_queues(conflict)
    });
    if let Some(conflict) = other {
        return told(CHECK, nic, conflict);
    }
    let Some(preset) = presets::of(&driver.name) else {
        let found = if found.is_empty() { "none that tells its name".to_owned() } else { found };
        return Finding::warn(CHECK, found)
            .means("not in the table of known drivers: what it needs is not known, only what the kernel tells");
    };
    let finding = Finding::ok(CHECK, format!("{found} ({})", preset.nic));
    let attaching = match preset.attach {
        Disturbance::None => "",
        Disturbance::Traffic => "attaching and detaching stop all traffic of the interface for some milliseconds",
        Disturbance::Link => "attaching and detaching take the link down for seconds",
    };
    let means: Vec<_> = [attaching, preset.note].into_iter().filter(|text| !text.is_empty()).collect();
    finding.means(means.join("; "))
}

/// A rule of the driver that does not hold, as a finding.
fn told(check: &'static str, nic: &Nic, conflict: &Conflict) -> Finding {
    let finding = match conflict.severity {
        Severity::Refused => Finding::fail(check, &conflict.what),
        Severity::Slower => Finding::warn(check, &conflict.what),
    };
    let finding = finding.means(match conflict.severity {
        Severity::Refused => "no driver mode and no zero-copy as long as that is so",
        Severity::Slower => "it works, a little slower",
    });
    match &conflict.change {
        Some(change) => finding.command(change.command(&nic.name)),
        None => finding,
    }
}

fn is_about(conflict: &Conflict, setting: impl Fn(&Setting) -> bool) -> bool {
    conflict.change.as_ref().is_some_and(|change| setting(&change.setting))
}

/// A change that no number of queues makes is about queues, too.
fn is_about_queues(conflict: &Conflict) -> bool {
    is_about(conflict, |setting| {
        matches!(setting, Setting::CombinedChannels | Setting::RxChannels | Setting::TxChannels)
    }) || (conflict.change.is_none() && conflict.what.contains("queue"))
}

fn mtu(nic: &Nic, conflicts: &[Conflict]) -> Finding {
    const CHECK: &str = "mtu";
    if let Some(conflict) = conflicts.iter().find(|conflict| is_about(conflict, |setting| *setting == Setting::Mtu)) {
        return told(CHECK, nic, conflict);
    }
    let mtu = nic.mtu as usize;
    let shorter = |most: usize| Change::new(Setting::Mtu, mtu as u64, most as u64).command(&nic.name);
    match nic.xdp {
        _ if mtu <= PACKET_BYTES_MAX => Finding::ok(CHECK, format!("{mtu}: a packet fits one buffer")),
        _ if mtu > JOINED_BYTES_MAX => {
            Finding::fail(CHECK, format!("{mtu}: larger packets than {JOINED_BYTES_MAX} are not put together"))
                .means("no mode but kernel")
                .command(shorter(JOINED_BYTES_MAX))
        }
        Some(xdp) if xdp.frags => {
            Finding::ok(CHECK, format!("{mtu}: the driver hands large packets over in several buffers")).means(format!(
                "packets of more than {PACKET_BYTES_MAX} bytes are copied once, and come when their last byte does"
            ))
        }
        Some(_) => Finding::fail(
            CHECK,
            format!("{mtu}: the driver hands packets over in one buffer of {PACKET_BYTES_MAX} at most"),
        )
        .means("no driver mode and no zero-copy")
        .command(shorter(PACKET_BYTES_MAX)),
        None => Finding::warn(CHECK, format!("{mtu}: more than one buffer of {PACKET_BYTES_MAX}"))
            .means("whether the driver hands packets over in several, this kernel does not tell: only a proof shows")
            .command(shorter(PACKET_BYTES_MAX)),
    }
}

fn xdp_owner(site: &Site) -> Finding {
    const CHECK: &str = "xdp_owner";
    match &site.program {
        None => Finding::ok(CHECK, "no program is attached"),
        Some(owner) if site.is_a_feed => {
            Finding::ok(CHECK, owner).means("a feed's: another one shares it, over a queue of its own (--queue)")
        }
        Some(owner) => Finding::fail(CHECK, owner)
            .means("it is not displaced: no mode but kernel until it is gone")
            .command(format!("ip link set dev {} xdp off   # or stop its owner", site.nic.name)),
    }
}

fn xdp_native(nic: &Nic) -> Finding {
    const CHECK: &str = "xdp_native";
    match nic.xdp {
        None => Finding::warn(CHECK, "not told by this kernel").means("whether driver mode works, only a proof shows"),
        Some(xdp) if xdp.native && xdp.redirect => Finding::ok(CHECK, "yes, with redirection"),
        Some(xdp) if xdp.native => {
            Finding::warn(CHECK, "yes, but without redirection").means("frames do not reach a ring in driver mode: skb mode is left")
        }
        Some(_) => Finding::warn(CHECK, "no")
            .means("skb mode is left: behind the kernel's own handling of each packet, so little is gained over a kernel socket"),
    }
}

fn zero_copy(nic: &Nic) -> Finding {
    const CHECK: &str = "zero_copy";
    match nic.xdp {
        None => Finding::warn(CHECK, "not told by this kernel")
            .means("whether the NIC writes into the ring itself, only a proof shows"),
        Some(xdp) if xdp.zero_copy => {
            Finding::ok(CHECK, "the driver offers it").means("the kernel has the last word when the socket is bound")
        }
        Some(xdp) if xdp.native => {
            Finding::warn(CHECK, "the driver has none").means("in driver mode, the kernel copies each frame once")
        }
        Some(_) => Finding::warn(CHECK, "the driver has none"),
    }
}

fn queues(nic: &Nic, queue: u32, conflicts: &[Conflict]) -> Finding {
    const CHECK: &str = "queues";
    let count = nic.receive_queues();
    if queue >= count {
        return Finding::fail(CHECK, format!("there is no queue {queue}: {count} receive, numbered from 0"))
            .means("a ring on it is refused")
            .command(format!("ethtool -l {}", nic.name));
    }
    if let Some(conflict) = conflicts.iter().find(|conflict| is_about_queues(conflict)) {
        return told(CHECK, nic, conflict);
    }
    if nic.queues.iter().any(|found| found.number == queue && found.has_xsk) {
        return Finding::fail(CHECK, format!("queue {queue} has an AF_XDP socket already"))
            .means("a queue takes one: stop its owner, or choose another --queue")
            .command("ss --xdp -p");
    }
    let most = nic.channels.map_or(count, |channels| channels.rx.1 + channels.combined.1);
    Finding::ok(CHECK, format!("{count} receive, of {most}; the ring would be on {queue}"))
}

fn rss(nic: &Nic, queue: u32) -> Finding {
    const CHECK: &str = "rss";
    let count = nic.receive_queues();
    if count == 1 {
        return Finding::ok(CHECK, "one queue: every flow arrives there");
    }
    let Some(rss) = &nic.rss else {
        return Finding::warn(CHECK, format!("{count} queues, and the kernel does not tell which flow goes where"))
            .means("only a proof shows on which queue a flow arrives")
            .command(format!("ethtool -x {}", nic.name));
    };
    let with_weight = rss.weights.len();
    if !rss.weights.contains_key(&queue) {
        return Finding::fail(CHECK, format!("no flow is spread to queue {queue}"))
            .means("only a rule (ntuple) brings one there")
            .command(format!("ethtool -X {} equal {}", nic.name, queue + 1));
    }
    if with_weight == 1 {
        return Finding::ok(CHECK, format!("every flow goes to queue {queue}"));
    }
    Finding::ok(CHECK, format!("flows are spread over {with_weight} queues"))
        .means("the hash of addresses and ports decides; a ring sees the flows of its own queue only")
}

fn ntuple(nic: &Nic) -> Finding {
    const CHECK: &str = "ntuple";
    if nic.receive_queues() == 1 {
        return Finding::ok(CHECK, "not needed: one queue");
    }
    if nic.is_on(feature::NTUPLE) {
        return Finding::ok(CHECK, "on: a rule can bring a flow to its queue");
    }
    if nic.can_switch(feature::NTUPLE) {
        return Finding::ok(CHECK, "off").command(format!("ethtool -K {} ntuple on", nic.name));
    }
    Finding::warn(CHECK, "the driver has no rules for flows").means("which queue a flow arrives on is left to the hash")
}

/// Merging by the NIC: LRO, or GRO_HW.
fn merging(check: &'static str, name: &str, nic: &Nic, conflicts: &[Conflict]) -> Finding {
    let about = |setting: &Setting| matches!(setting, Setting::Feature(other) if other == name);
    if let Some(conflict) = conflicts.iter().find(|conflict| is_about(conflict, about)) {
        return told(check, nic, conflict);
    }
    if !nic.is_on(name) {
        return Finding::ok(check, "off");
    }
    // virtio_net switches it off by itself while a program is attached, and on again (virtnet_clear_guest_offloads).
    if nic.driver.name == "virtio_net" && name == feature::GRO_HW {
        return Finding::ok(check, "on, and off while a program is attached in driver mode");
    }
    let finding = Finding::warn(check, "on")
        .means("segments wait to be merged, and what does not fit a frame of the ring is dropped");
    if nic.can_switch(name) { finding.command(Change::switch(name, false).command(&nic.name)) } else { finding }
}

fn gro(nic: &Nic) -> Finding {
    const CHECK: &str = "gro";
    if !nic.is_on(feature::GRO) {
        return Finding::ok(CHECK, "off");
    }
    if nic.xdp.is_some_and(|xdp| xdp.native) {
        return Finding::ok(CHECK, "on: it comes after a program in the driver").means("skb mode is refused with it");
    }
    Finding::fail(CHECK, "on")
        .means("the kernel merges segments before generic XDP sees them: skb mode, the only one there is, is refused with it")
        .command(Change::switch(feature::GRO, false).command(&nic.name))
}

fn vlan_strip(site: &Site) -> Finding {
    const CHECK: &str = "vlan_strip";
    let nic = &site.nic;
    match (nic.is_on(feature::RX_VLAN), site.receiver.vlan()) {
        (false, _) => Finding::ok(CHECK, "off: tags reach the program"),
        (true, None) => Finding::ok(CHECK, "on; the connection has no tag"),
        (true, Some(id)) => Finding::fail(CHECK, format!("on, and the connection has tag {id}"))
            .means("the NIC takes the tag off before the program sees it, and the flow is not recognised")
            .command(Change::switch(feature::RX_VLAN, false).command(&nic.name)),
    }
}

fn coalescing(nic: &Nic) -> Finding {
    const CHECK: &str = "coalescing";
    let Some(coalescing) = nic.coalescing else { return Finding::ok(CHECK, "none that the driver tells") };
    let usecs = coalescing.rx_usecs.unwrap_or(0);
    let name = &nic.name;
    if coalescing.adaptive_rx == Some(true) {
        return Finding::warn(CHECK, format!("adaptive, {usecs} us at the moment"))
            .means("the NIC waits before it interrupts, longer the more there is to do; a copy mode waits with it")
            .command(format!("ethtool -C {name} adaptive-rx off rx-usecs 0"));
    }
    if usecs > 0 {
        return Finding::warn(CHECK, format!("{usecs} us"))
            .means(format!("a message waits up to {usecs} us for its interrupt"))
            .command(format!("ethtool -C {name} rx-usecs 0"));
    }
    Finding::ok(CHECK, "the NIC interrupts at once")
}

fn busy_poll(nic: &Nic, queue: u32) -> Finding {
    const CHECK: &str = "busy_poll";
    let napi = nic.queues.iter().find(|found| found.number == queue).and_then(|found| found.napi);
    match (napi, nic.queues.is_empty()) {
        (Some(napi), _) => Finding::ok(CHECK, format!("NAPI {napi} serves queue {queue}: --busy-poll can poll it")),
        (None, true) => {
            Finding::ok(CHECK, "the kernel does not tell whether the driver links its NAPI (Linux 6.8 does)")
        }
        (None, false) => Finding::ok(CHECK, format!("no NAPI is linked to queue {queue}: --busy-poll has no effect")),
    }
}

fn irq_affinity(facts: &Facts, nic: &Nic) -> Finding {
    const CHECK: &str = "irq_affinity";
    let Some(irq) = nic.irq_of(facts.queue) else {
        return Finding::ok(
            CHECK,
            if nic.irqs.is_empty() {
                "the device has no interrupts of its own"
            } else {
                "which interrupt serves the queue is not told"
            },
        );
    };
    let cpus = irq.cpus();
    let found = format!("interrupt {} ({}) of queue {} goes to core {cpus}", irq.number, irq.name, facts.queue);
    let Some(core) = facts.core else { return Finding::ok(CHECK, found) };
    if !cpus.contains(core) {
        return Finding::ok(CHECK, found);
    }
    let elsewhere = facts.host.online.iter().find(|cpu| *cpu != core && !facts.host.isolated.contains(*cpu));
    let finding = Finding::warn(CHECK, found).means(format!(
        "the lane spins on core {core}: the driver's work interrupts it there, and waits for it in turn"
    ));
    match elsewhere {
        Some(cpu) => finding.command(format!("echo {cpu} > /proc/irq/{}/smp_affinity_list", irq.number)),
        None => finding,
    }
}

fn numa(facts: &Facts, nic: &Nic) -> Finding {
    const CHECK: &str = "numa";
    let nodes = &facts.host.nodes;
    let (Some(node), true) = (nic.numa_node, nodes.len() > 1) else {
        return Finding::ok(CHECK, "one node, or a device without");
    };
    let near = nodes.get(node).map(ToString::to_string).unwrap_or_default();
    let Some(core) = facts.core else {
        return Finding::ok(CHECK, format!("the NIC is on node {node}: choose a core of {near}"));
    };
    match facts.host.node_of(core) {
        Some(of_core) if of_core != node => {
            Finding::warn(CHECK, format!("core {core} is on node {of_core}, the NIC on node {node}"))
                .means("every frame crosses from one node's memory to the other's: 100 ns and more each time")
                .command(format!("wiretick stream --core N ...   # N of {near}"))
        }
        _ => Finding::ok(CHECK, format!("core {core} and the NIC are on node {node}")),
    }
}

fn hardware_timestamps(nic: &Nic) -> Finding {
    const CHECK: &str = "hardware_timestamps";
    let clock = nic.timestamps.as_ref().and_then(|told| told.clock);
    let all = nic.timestamps.as_ref().is_some_and(|told| told.rx_filters.iter().any(|filter| filter == "all"));
    let to_program = nic.xdp.is_some_and(|xdp| xdp.rx_timestamp);
    match (clock, to_program) {
        (Some(clock), true) => {
            let kinds = if all { "every frame" } else { "some kinds of frames" };
            Finding::ok(CHECK, format!("the NIC stamps {kinds} with clock /dev/ptp{clock}, and the program gets it"))
        }
        (Some(clock), false) => Finding::ok(
            CHECK,
            format!("the NIC has a clock (/dev/ptp{clock}), but the driver does not hand its stamps to a program"),
        )
        .means("arrivals are stamped by the program, when the driver gets to the frame"),
        (None, _) => {
            Finding::ok(CHECK, "none").means("arrivals are stamped by the program, when the driver gets to the frame")
        }
    }
}
