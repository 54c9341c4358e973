//! The verdicts: one for each way a frame can leave the program, and where each is counted.
//!
//! The C twin is `enum verdict` in `src/bpf/layout.h`. The counters are a per-CPU array, a row of slots for each
//! receive queue and a column for each verdict; [`slot`] is the only place that knows how the two become one index, and
//! [`Tally`] the shape in which a row is read.

use std::fmt;
use std::ops::{AddAssign, Index};

/// Receive queues that are counted apart. Queue 63 shares its row with every queue above it.
///
/// Lower, and ordinary servers lose count of single queues. Higher costs 128 bytes of kernel memory on every CPU for
/// each queue: 64 rows are 8 KiB a CPU.
pub const QUEUE_ROWS: u32 = 64;

/// Slots in a row: the verdicts, and room for more. A power of two, so the program multiplies by shifting.
pub const VERDICT_COLUMNS: u32 = 16;

/// Entries of the counter map, on each CPU.
pub const VERDICT_SLOTS: u32 = QUEUE_ROWS * VERDICT_COLUMNS;

const _: () = assert!(Verdict::COUNT <= VERDICT_COLUMNS as usize, "a verdict without a column counts in the next row");

/// Why a frame went where it went. Every frame is counted under exactly one.
///
/// They are in the order of their numbers. The program checks in the order VLAN, ethertype, IP protocol, fragment,
/// version and lengths, tuple, socket (and before each, whether the frame goes on that far), and the first check that
/// decides is the one that counts: a UDP fragment is [`Verdict::NotTcp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// The flow is ours and its queue has a socket: the frame went there. The only verdict that keeps a frame from the
    /// kernel's stack. Whether the socket took it is not known here: see the crate's documentation.
    Redirected = 0,
    /// The flow is ours, but its queue has no socket: the kernel got the frame. Unless a lane is just starting or
    /// ending, it means that the flow is steered to another queue than the one its socket is bound to.
    NoSocket = 1,
    /// TCP, but no flow of ours: the ordinary traffic of the machine, and ours before it is entered in the map.
    OtherFlow = 2,
    /// IP, but another protocol than TCP: UDP, ICMP, tunnels.
    NotTcp = 3,
    /// A fragment of an IPv4 datagram (the first one too) with TCP in it, or an IPv6 packet with a fragment header:
    /// the kernel reassembles. Some device on the path has cut what TCP would have sized to fit.
    Fragment = 4,
    /// IPv6 with a hop-by-hop, routing, authentication or destination options header before whatever it carries: the
    /// kernel got it, TCP or not.
    Ipv6Extension = 5,
    /// Neither IPv4 nor IPv6: ARP, LLDP, 802.3 with a length.
    OtherEthertype = 6,
    /// More than one VLAN tag, or a service tag (802.1ad).
    StackedVlan = 7,
    /// Headers that contradict themselves: the version is not the ethertype's, an IPv4 header shorter than five words,
    /// or a length too small to hold a TCP header.
    Malformed = 8,
    /// The frame ends inside the headers it announces, up to and including the 20 bytes of the TCP header.
    Truncated = 9,
}

impl Verdict {
    /// How many there are.
    pub const COUNT: usize = 10;

    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Redirected,
        Self::NoSocket,
        Self::OtherFlow,
        Self::NotTcp,
        Self::Fragment,
        Self::Ipv6Extension,
        Self::OtherEthertype,
        Self::StackedVlan,
        Self::Malformed,
        Self::Truncated,
    ];

    /// The name in reports: `redirected`, `no_socket`, and so on, the names of the C program in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Redirected => "redirected",
            Self::NoSocket => "no_socket",
            Self::OtherFlow => "other_flow",
            Self::NotTcp => "not_tcp",
            Self::Fragment => "fragment",
            Self::Ipv6Extension => "ipv6_extension",
            Self::OtherEthertype => "other_ethertype",
            Self::StackedVlan => "stacked_vlan",
            Self::Malformed => "malformed",
            Self::Truncated => "truncated",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The row in which a receive queue is counted: its own below [`QUEUE_ROWS`], the last one from there on.
#[must_use]
pub const fn row(queue: u32) -> u32 {
    if queue < QUEUE_ROWS { queue } else { QUEUE_ROWS - 1 }
}

/// The index in the counter map of what `queue` counts under `verdict`: below [`VERDICT_SLOTS`] for every queue.
#[must_use]
pub const fn slot(queue: u32, verdict: Verdict) -> u32 {
    row(queue) * VERDICT_COLUMNS + verdict as u32
}

/// Frames by verdict: what one queue has counted, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally([u64; Verdict::COUNT]);

impl Tally {
    /// Reads the counters of one queue. `read` is called with the index of each slot and answers with its value
    /// **summed over all CPUs**: the map keeps a copy on every CPU, and a queue's interrupt may have moved between
    /// them.
    ///
    /// The slots are read one after another while the program runs on: each is exact, but they are not of one instant.
    ///
    /// # Errors
    ///
    /// The first that `read` returns.
    ///
    /// # Examples
    ///
    /// With aya, where a slot is read as the values of all CPUs:
    ///
    /// ```no_run
    /// # fn read(counters: &aya::maps::PerCpuArray<&aya::maps::MapData, u64>) -> Result<(), aya::maps::MapError> {
    /// use wiretick_xdp::{Tally, Verdict};
    ///
    /// let tally = Tally::read(3, |slot| counters.get(&slot, 0).map(|cpus| cpus.iter().sum()))?;
    /// println!("{} frames went to the ring", tally[Verdict::Redirected]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn read<E>(queue: u32, mut read: impl FnMut(u32) -> Result<u64, E>) -> Result<Self, E> {
        let mut tally = Self::default();
        for verdict in Verdict::ALL {
            tally.0[verdict as usize] = read(slot(queue, verdict))?;
        }
        Ok(tally)
    }

    /// Every verdict with its count, in the order of [`Verdict::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL.into_iter().zip(self.0)
    }

    /// All frames, whatever became of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What was counted after `earlier` was read. Zero where a count is not above the earlier one, as after the program
    /// was loaded anew.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut difference = *self;
        for (count, earlier) in difference.0.iter_mut().zip(earlier.0) {
            *count = count.saturating_sub(earlier);
        }
        difference
    }
}

impl Index<Verdict> for Tally {
    type Output = u64;

    fn index(&self, verdict: Verdict) -> &u64 {
        &self.0[verdict as usize]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        for (count, other) in self.0.iter_mut().zip(other.0) {
            *count += other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_verdict_is_listed_under_its_own_number_and_name() {
        for (number, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, number);
        }
        let names: HashSet<_> = Verdict::ALL.map(Verdict::name).into();
        assert_eq!(names.len(), Verdict::COUNT);
        assert_eq!(format!("{:>12}", Verdict::NoSocket), "   no_socket");
    }

    #[test]
    fn no_two_counters_share_a_slot_below_the_last_row() {
        let mut taken = HashSet::new();
        for queue in 0..QUEUE_ROWS {
            for verdict in Verdict::ALL {
                let slot = slot(queue, verdict);
                assert!(slot < VERDICT_SLOTS);
                assert!(taken.insert(slot), "{verdict} of queue {queue}");
            }
        }
    }

    #[test]
    fn queues_beyond_the_rows_share_the_last_one() {
        for queue in [QUEUE_ROWS - 1, QUEUE_ROWS, 1000, u32::MAX] {
            assert_eq!(slot(queue, Verdict::Truncated), (QUEUE_ROWS - 1) * VERDICT_COLUMNS + 9);
        }
        assert_eq!(slot(QUEUE_ROWS - 2, Verdict::Redirected), (QUEUE_ROWS - 2) * VERDICT_COLUMNS);
    }

    #[test]
    fn a_tally_reads_its_queues_row_and_no_other() {
        let tally = Tally::read(5, |slot| Ok::<_, ()>(u64::from(slot))).unwrap();
        assert_eq!(tally[Verdict::Redirected], 80);
        assert_eq!(tally[Verdict::Truncated], 89);
        assert_eq!(tally.iter().map(|(_, count)| count).sum::<u64>(), tally.total());
        assert_eq!(Tally::read(5, |slot| if slot == 83 { Err("gone") } else { Ok(0) }), Err("gone"));
    }

    #[test]
    fn tallies_add_up_and_tell_what_is_new() {
        let first = Tally::read(0, |slot| Ok::<_, ()>(u64::from(slot))).unwrap();
        let mut second = first;
        second += first;
        assert_eq!(second[Verdict::Truncated], 18);
        assert_eq!(second.since(&first), first);
        assert_eq!(first.since(&second).total(), 0, "a counter that was reset is not a huge number");
    }
}
