//! The table of `bench modes`.

use super::table::{Table, figure, range};
use crate::field::{CLIENT_CORE, EXCHANGE_CORE};
use crate::results::{Results, Run};

pub(super) fn markdown(results: &Results) -> String {
    let mut table = Table::new(
        2,
        &[
            "load",
            "client",
            "p50",
            "p50, all rounds",
            "p99",
            "p99.9",
            "p50 / kernel",
            "in place",
            "handover",
            "sent late",
        ],
    );
    for at in &results.loads {
        let p50 = at.latency_us(|latency| latency.p50);
        let kernel = at.contenders.first().and_then(|first| first.median(&p50));
        for contender in &at.contenders {
            if let Some(failure) = contender.failures.first() {
                let mut row = vec![at.load.name(), format!("{}: failed: {}", contender.name, failure.why)];
                row.resize(10, "-".to_owned());
                table.row(row);
                continue;
            }
            let ratio = contender.median(&p50).zip(kernel).map(|(own, kernel)| own / kernel);
            let share = |run: &Run| {
                let records = run.client.records;
                Some(100.0 * records.in_place as f64 / (records.in_place + records.joined) as f64)
            };
            table.row(vec![
                at.load.name(),
                contender.name.clone(),
                figure(contender.median(&p50)),
                range(contender.spread(&p50)),
                figure(contender.median(at.latency_us(|latency| latency.p99))),
                figure(contender.median(at.latency_us(|latency| latency.p999))),
                figure(ratio),
                contender.median(share).map_or("-".to_owned(), |share| format!("{share:.1} %")),
                figure(contender.median(|run| run.client.handover_us.first().copied())),
                contender.median(|run| Some(run.sender.late as f64)).map_or("-".to_owned(), |late| late.to_string()),
            ]);
        }
    }
    format!(
        "Machine: {}. veth (copy mode: zero-copy does not exist there),\n\
         exchange on core {EXCHANGE_CORE}, client on core {CLIENT_CORE}, TLS 1.3. {} rounds, interleaved; medians of the rounds, in\n\
         microseconds from before the exchange's TLS write to the decoded event. Finished {}.\n\n\
         ```\n{}\n```\n\n{}",
        results.machine,
        results.rounds,
        results.finished,
        results.command,
        table.markdown()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Family;
    use crate::load::Kind;
    use crate::results::canned::{at, contender, run};

    #[test]
    fn each_mode_stands_beside_the_kernel() {
        let contenders = vec![
            contender("wiretick kernel", Family::Kernel, vec![run(6.0)]),
            contender("wiretick driver", Family::Bypass, vec![run(3.0), run(2.0), run(4.0)]),
        ];
        let text = markdown(&crate::results::canned::results(vec![at(Kind::Paced(1000), contenders)]));
        assert!(
            text.contains("| 1,000 a second | wiretick driver | 3.00 | 2.00 to 4.00 | 6.00 | 12.0 | 0.50 |"),
            "{text}"
        );
    }
}
