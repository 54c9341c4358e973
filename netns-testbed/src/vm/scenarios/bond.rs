//! A bond of two cards, and a VLAN on it: the program goes to the member that receives, and comes along when that changes.

use std::time::Duration;

use super::modes::nothing_left;
use super::{Failed, Lab, Nic, Scenario, best, is_steady};
use crate::vm::guest::addressed;
use crate::vm::lab::{Ask, claim};
use crate::vm::nic::VLAN;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "bond::the_member_that_receives_takes_the_program_and_nothing_is_lost_when_it_changes",
    column: ("bond", "works"),
    cells: |series, nic| is_steady(series, nic) && matches!(nic, Nic::Igb | Nic::Virtio),
    show: bond,
}];

/// The other member. Its cable leads elsewhere: while it is in use, nothing arrives.
const OTHER: Nic = Nic::E1000e;

fn bond(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script(&tied(lab.nic))?;
    let seen = shown(lab);
    // Other scenarios need the cards for themselves, whatever was seen.
    let untied = lab.script(&untied(lab.nic));
    let seen = seen?;
    untied?;
    Ok(seen)
}

fn shown(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let (mode, member) = (best(lab.series(), lab.nic), lab.nic.interface());
    let told = lab.script("wiretick doctor --interface bond0 --json || true")?;
    claim(
        told.contains(&format!("{member} receives for it")) && told.contains("of bond bond0 (active-backup)"),
        || format!("doctor does not say who receives: {told}"),
    )?;

    let tagged = lab.stream(&Ask { mode, tagged: true, ..Ask::default() })?;
    tagged.came_whole()?;
    tagged.was_in(mode)?;
    claim(tagged.log.contains(&format!("on bond0.{VLAN} (received by {member})")), || tagged.log.clone())?;

    // A bond takes nobody whose link is down, as igb's is for a moment when the program has left it.
    let beside = format!(
        "use() {{ until echo $1 >/sys/class/net/bond0/bonding/active_slave; do kill -0 $pid || exit 1; sleep 0.1; done; }}\n\
         seen promoted: 1; sleep 0.5\n\
         use {}; seen 'went home' 1; sleep 0.3\n\
         use {member}; seen promoted: 2",
        OTHER.interface()
    );
    let stream = lab.stream(&Ask { mode, lead: Duration::from_secs(30), beside: &beside, ..Ask::default() })?;
    stream.came_whole()?;
    stream.was_in(mode)?;
    let moves = &stream.figures.moves;
    let changed = format!("the bond has changed its member: {}", OTHER.interface());
    claim(moves.iter().any(|it| it.to == "kernel" && it.reason == changed), || format!("it moved for {moves:?}"))?;
    nothing_left(lab)?;
    Ok(format!("{mode} on {member}, tagged too; home and back when the member changed; {stream}"))
}

/// Makes a bond of the card and another one, with the card's addresses.
fn tied(nic: Nic) -> String {
    let (plain, tagged, other) = (nic.addresses(false).guest, nic.addresses(true).guest, OTHER.interface());
    // `downdelay`: igb takes its link down for a moment when a program comes or goes, and the bond must not change its member
    // for that. Tags that the card takes off are nothing for a program to see; and a member's own VLAN would have them before the bond.
    let rxvlan = if nic == Nic::Igb { "ethtool -K $nic rxvlan off\n" } else { "" };
    format!(
        "set -e\n{rxvlan}\
         cd /sys/class/net/bond0/bonding\n\
         ip link set bond0 down\n\
         echo active-backup >mode; echo 100 >miimon; echo 10000 >downdelay\n\
         for member in $nic {other}; do\n  \
           ip link delete $member.{VLAN}; ip address flush dev $member\n  \
           ip link set $member down; echo +$member >slaves\ndone\n\
         ip address add {plain}/24 dev bond0; ip link set bond0 up\n\
         ip link add link bond0 name bond0.{VLAN} type vlan id {VLAN}\n\
         ip address add {tagged}/24 dev bond0.{VLAN}; ip link set bond0.{VLAN} up\n\
         for try in $(seq 100); do\n  \
           echo $nic >active_slave 2>/dev/null || true\n  \
           [ \"$(cat active_slave)\" = $nic ] && [ \"$(cat ../operstate)\" = up ] && exit 0\n  \
           sleep 0.1\ndone\n\
         echo \"$(cat /proc/net/bonding/bond0)\" >&2; exit 1\n"
    )
}

fn untied(nic: Nic) -> String {
    let mut script = format!("ip link delete bond0.{VLAN}; ip link set bond0 down; ip address flush dev bond0\n");
    for member in [nic, OTHER] {
        let name = member.interface();
        script.push_str(&format!("echo -{name} >/sys/class/net/bond0/bonding/slaves; ip link set {name} up\n"));
        script.push_str(&addressed(member));
    }
    if nic == Nic::Igb {
        script.push_str("ethtool -K $nic rxvlan on\n");
    }
    script
}
