//! The closing table.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};

use wiretick::timing::Stage;

use crate::summary::Summary;

pub(crate) fn render(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let mut row = |name: &str, value: String| {
        table.add_row(vec![name.to_owned(), value]);
    };
    let place = if summary.interface.is_empty() || summary.mode == "kernel" {
        String::new()
    } else {
        let several = match &summary.queues[..] {
            [] | [_] => String::new(),
            queues => format!(", received from {} queues", queues.len()),
        };
        format!(" on {} queue {}{several} (setup {})", summary.interface, summary.queue, summary.setup)
    };
    row("mode in effect", format!("{}{place}", summary.mode));
    for (mode, reason) in &summary.refused_modes {
        row(&format!("  not {mode}"), reason.clone());
    }
    if summary.mode != "kernel"
        && let Some(leg) = summary.connections.first()
        && !leg.steering.is_empty()
    {
        row("steering", leg.steering.clone());
        for (means, reason) in &summary.steering.refused {
            row(&format!("  not {means}"), reason.clone());
        }
    }
    if summary.reconnects != 0 {
        row(
            "  connections made anew",
            format!(
                "{}, {} of them to replace one; {} times none was left",
                summary.reconnects, summary.replaced, summary.interruptions
            ),
        );
    }
    if summary.connections.len() > 1 {
        for leg in &summary.connections {
            let (messages, first) = (leg.messages.unwrap_or_default(), leg.first.unwrap_or_default());
            row(
                &format!("  connection {} to {}", leg.connection, leg.remote),
                format!("{}: {messages} messages, {first} of them first", leg.mode),
            );
        }
    }
    let late: u64 = summary.connections.iter().filter_map(|leg| leg.late).sum();
    if late != 0 {
        row("  events later than --max-lag", late.to_string());
    }
    if summary.readdressed != 0 {
        row("  next hops with another MAC address", summary.readdressed.to_string());
    }
    // The first move, from the kernel to the ring, is the ordinary one.
    for change in summary.moves.iter().skip(1) {
        row(&format!("  {} to {}", change.from, change.to), format!("{} ({:.0} us)", change.reason, change.took_us));
    }
    row("TLS", summary.tls.clone().unwrap_or_else(|| "none".to_owned()));
    row("messages", format!("{} in {:.3} s, {} bytes", summary.messages, summary.duration_s, summary.payload_bytes));
    let events: Vec<_> = summary.events.iter().map(|(name, n)| format!("{name} {n}")).collect();
    row("events", if events.is_empty() { "none".to_owned() } else { events.join(", ") });
    row("gaps", summary.gaps.to_string());
    row("records", format!("{} opened in place, {} joined", summary.records.in_place, summary.records.joined));
    row("messages never copied", format!("{} of {}", summary.messages_in_place, summary.messages));
    if let Some(latency) = &summary.latency_ns {
        row(
            "send to event, us",
            format!(
                "p50 {}  p99 {}  p99.9 {}  max {}  ({} messages)",
                us(latency.p50 as f64),
                us(latency.p99 as f64),
                us(latency.p999 as f64),
                us(latency.max as f64),
                latency.count
            ),
        );
    }
    if let Some(stages) = &summary.stages_ns {
        for stage in Stage::ALL {
            if let Some(time) = stages.get(stage.name()) {
                row(
                    &format!("  {}, ns", stage.name().replace('_', " ")),
                    format!(
                        "p50 {}  p99 {}  p99.9 {}  max {}  ({})",
                        time.p50, time.p99, time.p999, time.max, time.count
                    ),
                );
            }
        }
    }
    if let Some(hardware) = &summary.hardware {
        row("hardware timestamps", hardware.in_words());
    }
    if let Some((stalls, seconds)) = summary.stalls {
        row("own stalls", format!("{stalls}, {:.1} ms all told", seconds * 1e3));
    }
    if summary.echoes != 0 {
        row("messages answered", summary.echoes.to_string());
    }
    if summary.stamps_ahead != 0 {
        row("stamps from the future", format!("{}: the sender's clock is not this machine's", summary.stamps_ahead));
    }
    if !summary.handover_us.is_empty() {
        let times: Vec<_> = summary.handover_us.iter().map(|us| format!("{us:.0}")).collect();
        row("handover, us", times.join(", "));
    }
    let drops: Vec<_> = summary.drops.iter().map(|(name, n)| format!("{name} {n}")).collect();
    row("drops by reason", if drops.is_empty() { "none".to_owned() } else { drops.join(", ") });
    row("CPU", format!("{:.3} s", summary.cpu_seconds));
    row("end", summary.end.clone());
    if let Some(comparison) = &summary.compare {
        comparison.add_to(&mut table);
    }
    table.to_string()
}

/// Nanoseconds as they stand in the table: in microseconds.
pub(crate) fn us(ns: f64) -> String {
    format!("{:.2}", ns / 1000.0)
}
