//! The table of `bench floor`.

use super::table::{Table, figure, range};
use crate::field::{CLIENT_CORE, EXCHANGE_CORE};
use crate::floor::{FRAME_BYTES, Floor, FloorRun};
use crate::results::Spread;

pub(super) fn markdown(floor: &Floor) -> String {
    let columns = ["mode", "p50", "p50, all rounds", "p99", "p99.9", "lost", "sent late"];
    let mut table = Table::new(1, &columns);
    for (mode, runs) in &floor.modes {
        let spread = |of: fn(&FloorRun) -> f64| Spread::of(runs.iter().map(of).collect());
        let median = |of| figure(spread(of).map(|it| it.median));
        table.row(vec![
            (*mode).to_owned(),
            median(|run| run.p50_us),
            range(spread(|run| run.p50_us)),
            median(|run| run.p99_us),
            median(|run| run.p999_us),
            runs.iter().map(|run| run.lost).sum::<u64>().to_string(),
            runs.iter().map(|run| run.late).sum::<u64>().to_string(),
        ]);
    }
    format!(
        "Machine: {}. veth (copy mode: zero-copy does not exist there),\n\
         sender on core {EXCHANGE_CORE}, receiver on core {CLIENT_CORE}. {} frames a second of {FRAME_BYTES} bytes, UDP. Medians of the\n\
         rounds, in microseconds from before the sender's system call to the frame taken from the ring.\n\n\
         ```\n{}\n```\n\n{}",
        floor.machine,
        floor.rate,
        floor.command,
        table.markdown()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_the_medians_of_its_rounds_and_the_sums_of_what_went_wrong() {
        let run = |p50_us, lost| FloorRun { p50_us, p99_us: 9.0, p999_us: 20.0, lost, late: 1 };
        let floor = Floor {
            machine: "a machine".to_owned(),
            command: "bench floor".to_owned(),
            rate: 10_000,
            modes: vec![("driver", vec![run(3.0, 0), run(2.0, 5), run(4.0, 0)])],
        };
        let text = markdown(&floor);
        assert!(text.contains("| driver | 3.00 | 2.00 to 4.00 | 9.00 | 20.0 | 5 | 3 |"), "{text}");
        assert!(text.contains("Machine: a machine.") && text.contains("bench floor"), "{text}");
    }
}
