//! The closing figures of a comparison, for people and for programs.

use comfy_table::Table;
use serde::Serialize;
use wiretick::timing::Quantiles;

use super::figures::TIE_BELOW_NS;
use super::pairing::Alone;
use crate::table::us;

/// What `--summary` writes under `compare`. Field names are part of the interface.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    /// Both connections were on the kernel path: the figures are the error of the measurement.
    pub(crate) null_comparison: bool,
    /// `latency`: of each copy, from its own stamp to its event. `arrival`: the moments of the events themselves.
    pub(crate) basis: &'static str,
    /// Events that both connections had.
    pub(crate) pairs: u64,
    /// Pairs that the figures below are of.
    pub(crate) measured: u64,
    /// Pairs that are left out: before the bypass was in effect, or during the warm-up.
    pub(crate) left_out_early: u64,
    /// Pairs that are left out: no stamp to compare by.
    pub(crate) left_out_without_stamp: u64,
    /// Messages that came again on the same connection while their first copy waited: their pairs may be of different times.
    pub(crate) repeats: u64,
    pub(crate) bypassed_wins: u64,
    pub(crate) ties: u64,
    pub(crate) kernel_wins: u64,
    /// Of the pairs measured.
    pub(crate) bypassed_wins_share: Option<f64>,
    pub(crate) ties_share: Option<f64>,
    /// Differences below this many nanoseconds are ties.
    pub(crate) tie_below_ns: u64,
    pub(crate) difference_ns: Option<Difference>,
    pub(crate) bypassed: Connection,
    pub(crate) kernel: Connection,
    /// Which connection ended before the other one, and how.
    pub(crate) ended_early: Option<String>,
    /// What the two connections share, and what else stands between them and a fair comparison.
    pub(crate) notes: Vec<String>,
}

/// Kernel minus bypassed, in nanoseconds: positive where the bypassed connection was first.
#[derive(Debug, Serialize)]
pub(crate) struct Difference {
    pub(crate) min: i64,
    pub(crate) p1: i64,
    pub(crate) p50: i64,
    pub(crate) p99: i64,
    pub(crate) max: i64,
}

/// One of the two connections.
#[derive(Debug, Serialize)]
pub(crate) struct Connection {
    /// The mode in effect.
    pub(crate) mode: String,
    /// The core its thread was pinned to.
    pub(crate) core: Option<usize>,
    pub(crate) messages: u64,
    /// Messages that the other connection does not have.
    pub(crate) alone: Alone,
    /// Messages that could not be noted, because the thread that pairs was too slow: their twins are alone.
    pub(crate) not_noted: u64,
    /// Send to event, of the pairs measured.
    pub(crate) latency_ns: Option<Quantiles>,
    pub(crate) end: String,
}

impl Comparison {
    /// Adds the comparison to the closing table.
    pub(crate) fn add_to(&self, table: &mut Table) {
        let mut row = |name: &str, value: String| {
            table.add_row(vec![name.to_owned(), value]);
        };
        let title = if self.null_comparison { "null comparison" } else { "comparison" };
        row(
            title,
            format!("{} messages on both connections, {} measured by {}", self.pairs, self.measured, self.basis),
        );
        if self.left_out_early + self.left_out_without_stamp != 0 {
            row(
                "  left out",
                format!(
                    "{} before the mode was in effect or warm, {} without a stamp",
                    self.left_out_early, self.left_out_without_stamp
                ),
            );
        }
        if let Some(difference) = &self.difference_ns {
            let share = |n: u64| format!("{:.1} %", 100.0 * n as f64 / self.measured as f64);
            row(
                "  kernel - bypassed, us",
                format!(
                    "p1 {}  p50 {}  p99 {}  (min {}  max {})",
                    us(difference.p1 as f64),
                    us(difference.p50 as f64),
                    us(difference.p99 as f64),
                    us(difference.min as f64),
                    us(difference.max as f64)
                ),
            );
            row(
                "  who was first",
                format!(
                    "bypassed {}, kernel {}, tie (below {TIE_BELOW_NS} ns) {}",
                    share(self.bypassed_wins),
                    share(self.kernel_wins),
                    share(self.ties)
                ),
            );
        }
        for (name, connection) in [("bypassed", &self.bypassed), ("kernel", &self.kernel)] {
            let Connection { mode, core, messages, alone, not_noted, latency_ns, end } = connection;
            let core = core.map_or_else(|| "not pinned".to_owned(), |core| format!("core {core}"));
            row(&format!("  {name}"), format!("mode {mode}, {core}, {messages} messages; {end}"));
            if let Some(latency) = latency_ns {
                row(
                    "    send to event, us",
                    format!(
                        "p50 {}  p99 {}  p99.9 {}",
                        us(latency.p50 as f64),
                        us(latency.p99 as f64),
                        us(latency.p999 as f64)
                    ),
                );
            }
            let Alone { at_start, between, at_end } = alone;
            row(
                "    here only",
                format!(
                    "{}: {at_start} at the start, {at_end} at the end, where one stream began or ended at another message; \
                     {between} between",
                    at_start + between + at_end
                ),
            );
            if *not_noted != 0 {
                row("    not noted", format!("{not_noted}: the thread that pairs was too slow"));
            }
        }
        if self.repeats != 0 {
            row("  repeats", format!("{}: pairs of these may be of different times", self.repeats));
        }
        if let Some(early) = &self.ended_early {
            row("  ended early", early.clone());
        }
        for note in &self.notes {
            row("  note", note.clone());
        }
    }
}
