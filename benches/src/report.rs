//! The results as a table in Markdown, and as JSON with every run in it.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::field::{CLIENT_CORE, EXCHANGE_CORE};
use crate::rounds::{Results, latency_us};

/// Prints the table; where a file is named, writes it there and the runs beside it.
pub(crate) fn show(results: &Results, out: Option<&Path>) -> io::Result<()> {
    let text = markdown(results);
    print!("{text}");
    if let Some(file) = out {
        let named = |file: &Path| {
            let name = file.display().to_string();
            move |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"))
        };
        fs::write(file, &text).map_err(named(file))?;
        let raw = file.with_extension("json");
        fs::write(&raw, format!("{:#}\n", serde_json::to_value(results)?)).map_err(named(&raw))?;
    }
    Ok(())
}

fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        text.write_fmt(words).expect("a string takes everything");
        text.push('\n');
    };
    let machine = results.machine.to_string();
    line(format_args!(
        "Machine: {}. veth (copy mode: zero-copy does not exist there),",
        machine.trim_start_matches("machine").trim()
    ));
    line(format_args!(
        "exchange on core {EXCHANGE_CORE}, client on core {CLIENT_CORE}, TLS 1.3. {} rounds, interleaved; medians of the rounds, in",
        results.rounds
    ));
    line(format_args!(
        "microseconds from before the exchange's TLS write to the decoded event. Finished {}.\n",
        results.finished
    ));
    line(format_args!("```\n{}\n```\n", results.command));
    line(format_args!(
        "| load | client | p50 | p50, all rounds | p99 | p99.9 | p50 / kernel | in place | handover | sent late |"
    ));
    line(format_args!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"));
    for at_load in &results.loads {
        let p50 = latency_us(|latency| latency.p50);
        let reference = at_load.contenders.first().map_or(f64::NAN, |first| first.median(&p50));
        for contender in &at_load.contenders {
            let (least, greatest) = contender.range(&p50);
            let share = contender.median(|run| {
                let records = run.client.records;
                100.0 * records.in_place as f64 / (records.in_place + records.joined) as f64
            });
            let handover = contender.median(|run| run.client.handover_us.first().copied().unwrap_or(f64::NAN));
            line(format_args!(
                "| {} | {} | {:.2} | {least:.2} to {greatest:.2} | {:.2} | {:.1} | {:.2} | {share:.1} % | {} | {} |",
                at_load.load.name,
                contender.name,
                contender.median(&p50),
                contender.median(latency_us(|latency| latency.p99)),
                contender.median(latency_us(|latency| latency.p999)),
                contender.median(&p50) / reference,
                if handover.is_nan() { "-".to_owned() } else { format!("{handover:.0}") },
                contender.median(|run| run.sent_late as f64),
            ));
        }
    }
    text
}
