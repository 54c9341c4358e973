//! Cards with several queues: the flow arrives where RSS sends it, and `--queue` must name that queue.

use std::net::Ipv4Addr;

use super::modes::nothing_left;
use super::{Failed, Lab, Nic, Scenario, best};
use crate::vm::lab::{Ask, claim};
use crate::vm::toeplitz;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "queues::the_table_decides_and_the_other_queue_is_refused_with_the_right_one",
        column: ("queues", "works"),
        cells: |series, nic| series.supported && nic == Nic::Igb,
        show: by_table,
    },
    Scenario {
        name: "queues::the_hash_of_the_flow_decides",
        column: ("queues", "works"),
        cells: |series, nic| series.supported && nic == Nic::Igb,
        show: by_hash,
    },
    Scenario {
        name: "queues::where_attaching_loses_the_table_nothing_else_is_lost",
        column: ("queues", "table lost"),
        cells: |series, nic| series.supported && nic == Nic::VirtioRss,
        show: table_lost,
    },
];

/// All flows to one queue, by the indirection table.
fn by_table(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let mode = best(lab.series(), lab.nic);
    let mut seen = Vec::new();
    for (weights, right, wrong) in [("1 0", "0", "1"), ("0 1", "1", "0")] {
        lab.script(&format!("ethtool -X $nic weight {weights}"))?;
        let stream = lab.stream(&Ask { mode, options: &["--queue", wrong, "--steer", "none"], ..Ask::default() })?;
        stream.was_refused(&[&format!("use --queue {right}")])?;
        let stream = lab.stream(&Ask { mode, options: &["--queue", right, "--steer", "none"], ..Ask::default() })?;
        stream.came_whole()?;
        stream.was_in(mode)?;
        claim(stream.figures.queue.to_string() == right, || format!("on queue {}", stream.figures.queue))?;
        seen.push(format!("queue {right}: {stream}"));
    }
    nothing_left(lab)?;
    lab.script("ethtool -X $nic equal 1")?;
    Ok(format!("{mode}; {}", seen.join("; ")))
}

/// Flows that our own calculation sends to either queue.
fn by_hash(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let mode = best(lab.series(), lab.nic);
    lab.script("ethtool -X $nic equal 2")?;
    // igb tells its key to nobody; it has the kernel's own (netdev_rss_key_fill in igb_setup_mrqc).
    let key = lab.script("cat /proc/sys/net/core/netdev_rss_key")?;
    let key: Vec<u8> = key.trim().split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let table = indirection(&lab.script("ethtool -x $nic")?);
    claim(table.len() == 128, || format!("an indirection table of {} entries", table.len()))?;
    let addresses = lab.nic.addresses(false);
    let mut seen = Vec::new();
    for wanted in [0, 1] {
        // The exchange's port is fixed for the run, and the local one is what the kernel may choose from.
        let queue_of =
            |outside: u16, port: u16| queue(&key, &table, (addresses.outside, outside), (addresses.guest, port));
        let listener = lab.guest.outside().listen(lab.nic, false)?;
        let outside = listener.local_addr().map_or(0, |address| address.port());
        let port = (50_000..50_200).find(|&port| queue_of(outside, port) == Some(wanted));
        let port = port.ok_or_else(|| Failed::Claim(format!("of 200 ports none leads to queue {wanted}")))?;
        // The kernel would rather have a range from an even to an odd number, and takes one port all the same.
        lab.script(&format!("echo {port} {port} > /proc/sys/net/ipv4/ip_local_port_range"))?;
        let queue = wanted.to_string();
        let stream = lab
            .stream_from(listener, &Ask { mode, options: &["--queue", &queue, "--steer", "none"], ..Ask::default() })?;
        stream.came_whole()?;
        stream.was_in(mode)?;
        seen.push(format!("port {port} on queue {queue}: {stream}"));
    }
    nothing_left(lab)?;
    lab.script("echo 32768 60999 > /proc/sys/net/ipv4/ip_local_port_range; ethtool -X $nic equal 1")?;
    Ok(format!("{mode}; {}", seen.join("; ")))
}

/// For XDP the driver asks the device for more pairs of queues, and with that request the device gives up RSS (virtio 1.2,
/// 5.1.6.5.5: automatic receive steering). From then on a flow arrives on the queue on which it was last sent, until somebody
/// writes the table again. Whatever mode that leaves the connection in, its messages come.
fn table_lost(lab: &mut Lab<'_>) -> Result<String, Failed> {
    lab.script("ethtool -K $nic gro off; ethtool -X $nic equal 1")?;
    let stream = lab.stream(&Ask::default())?;
    stream.came_whole()?;
    nothing_left(lab)?;
    let figures = &stream.figures;
    let said: Vec<_> = figures.moves.iter().map(|it| format!("; {} to {}: {}", it.from, it.to, it.reason)).collect();
    Ok(format!("{stream}; at last in {} mode; refused: {:?}{}", figures.mode, figures.refused_modes, said.concat()))
}

/// The queue that a flow is led to by a table of the hash's lowest bits.
fn queue(key: &[u8], table: &[u32], source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Option<u32> {
    let hash = toeplitz::hash(key, source, destination)?;
    table.get(hash as usize % table.len()).copied()
}

/// The table in what `ethtool -x` says: lines of `start: queue queue ...`.
fn indirection(told: &str) -> Vec<u32> {
    let entries = |line: &str| {
        let (start, queues) = line.split_once(':')?;
        start.trim().parse::<usize>().ok()?;
        Some(queues.split_whitespace().filter_map(|queue| queue.parse().ok()).collect::<Vec<u32>>())
    };
    told.lines().filter_map(entries).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_from_what_ethtool_says() {
        let told = "\
            RX flow hash indirection table for igb0 with 2 RX ring(s):\n    0:      0     1\n    2:      1     1\n\
            RSS hash key:\nOperation not supported\nRSS hash function:\n    toeplitz: on\n    xor: off\n";
        assert_eq!(indirection(told), [0, 1, 1, 1]);
    }
}
