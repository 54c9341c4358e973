//! Packets that lie in several of the driver's buffers.

use super::modes::nothing_left;
use super::{Failed, Lab, Nic, Scenario};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "jumbo::packets_of_9000_bytes_come_in_several_buffers",
        column: ("jumbo", "works"),
        // Of these drivers the only one that hands them over; AF_XDP takes them since Linux 6.6.
        cells: |series, nic| series.supported && series.is_at_least("6.12") && nic == Nic::Virtio,
        show: several,
    },
    Scenario {
        name: "jumbo::where_the_driver_wants_one_buffer_the_remedy_is_told",
        column: ("jumbo", "refused"),
        cells: |series, nic| series.supported && nic == Nic::Igb,
        show: refused,
    },
];

fn several(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script("ip link set $nic mtu 9000")?;
    let stream = lab.stream(&Ask { mode: "driver", ..Ask::default() });
    lab.script("ip link set $nic mtu 1500")?;
    let stream = stream?;
    stream.came_whole()?;
    stream.was_in("driver")?;
    let joined = stream.figures.counter("ring", "frames_joined");
    claim(joined > 10, || format!("only {joined} packets came in several buffers"))?;
    nothing_left(lab)?;
    Ok(format!("{stream}, {joined} packets in several buffers"))
}

fn refused(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script("ip link set $nic mtu 9000")?;
    let stream = lab.stream(&Ask { mode: "driver", ..Ask::default() });
    lab.script("ip link set $nic mtu 1500")?;
    let stream = stream?;
    // Before Linux 6.6 it does not come as far as the driver.
    let told = if lab.series().is_at_least("6.12") {
        ["driver igb refused at MTU 9000", "ip link set igb0 mtu 1500"]
    } else {
        ["a kernel before 6.6 takes no packets of several chunks", "an MTU of 3758 or less"]
    };
    stream.was_refused(&told)?;
    nothing_left(lab)?;
    Ok(stream.words().to_owned())
}
