//! Where the time of a message goes: the stages of each mode as a table, and their medians as a stack.

use wiretick::timing::Stage;

use super::plots::{FIELD, HEAD, NAMES, Plot, ROW, Scale, blank, plot};
use super::svg::Anchor;
use super::table::{Table, figure};
use crate::results::{ContenderResults, LoadResults};

/// The stages that follow each other, with their colours, and what each begins and ends with.
const STACK: [(Stage, &str, &str); 7] = [
    (Stage::Before, "#c4cbcf", "sender, wire"),
    (Stage::Ring, "#8d99a6", "XDP to ring"),
    (Stage::Order, "#1f6fb4", "TCP, in order"),
    (Stage::Open, "#2a9d8f", "TLS opened"),
    (Stage::Find, "#e9b44c", "found"),
    (Stage::Decode, "#c0392b", "decoded"),
    (Stage::Handle, "#6c3483", "handler"),
];

/// What stands beside the stack: the whole, from the sender's stamp to the event. The handler comes after that.
const WHOLE: Stage = Stage::SentToEvent;

/// Every stage that anybody has, sums last, with p50 and p99 of each client. Nothing is answered in these runs, so the way of
/// an answer (which would be that of the goodbye alone) is left out.
pub(super) fn table(at: &LoadResults) -> String {
    let clients: Vec<_> = at.contenders.iter().filter(|it| !it.runs.is_empty()).collect();
    let columns = clients.iter().flat_map(|it| ["p50", "p99"].map(|which| format!("{}, {which}", it.name)));
    let mut table = Table::new(1, &std::iter::once("stage, ns".to_owned()).chain(columns).collect::<Vec<_>>());
    for stage in Stage::ALL.into_iter().filter(|stage| *stage != Stage::ArrivedToSent) {
        let figures: Vec<_> = clients
            .iter()
            .flat_map(|it| {
                [it.median(|run| run.stage_ns(stage, |ns| ns.p50)), it.median(|run| run.stage_ns(stage, |ns| ns.p99))]
            })
            .collect();
        if figures.iter().any(Option::is_some) {
            let cells = figures.into_iter().map(super::full::whole);
            table.row(std::iter::once(stage.name().replace('_', " ")).chain(cells).collect());
        }
    }
    table.markdown()
}

/// A bar for each client, made of the medians of its stages, and a mark at the median of the whole.
pub(super) fn stack(at: &LoadResults) -> Option<Plot> {
    let us = |it: &ContenderResults, stage| it.median(|run| run.stage_ns(stage, |ns| ns.p50)).map(|ns| ns / 1e3);
    let mut rows: Vec<_> = at.contenders.iter().filter_map(|it| Some((it, us(it, WHOLE)?))).collect();
    rows.sort_by(|one, other| one.1.total_cmp(&other.1));
    let sum = |it: &ContenderResults| STACK.iter().filter_map(|(stage, ..)| us(it, *stage)).sum::<f64>();
    let scale = Scale::up_to(rows.iter().map(|(it, whole)| whole.max(sum(it))).reduce(f64::max)?)?;

    let title = format!("{}: p50 of each in microseconds; line and figure: p50 of the whole", at.load.name());
    let mut svg = blank(&title, rows.len());
    for (at, (_, colour, words)) in STACK.iter().enumerate() {
        let x = NAMES - 130.0 + (FIELD + 160.0) / STACK.len() as f64 * at as f64;
        svg.bar((x, 35.0), 10.0, 10.0, colour);
        svg.text((x + 14.0, 44.0), Anchor::Left, 12, words);
    }
    scale.draw(&mut svg, HEAD + ROW * rows.len() as f64);
    for (row, (contender, whole)) in rows.iter().enumerate() {
        let y = HEAD + ROW * row as f64;
        svg.text((NAMES - 12.0, y + ROW / 2.0 + 4.0), Anchor::Right, 12, &contender.name);
        let mut begin = 0.0;
        for (stage, colour, _) in STACK {
            if let Some(us) = us(contender, stage) {
                svg.bar((scale.x(begin), y + 4.0), scale.x(us) - NAMES, ROW - 8.0, colour);
                begin += us;
            }
        }
        svg.line((scale.x(*whole), y + 1.0), (scale.x(*whole), y + ROW - 1.0), "#222", 2.0);
        svg.text((NAMES + FIELD + 10.0, y + ROW / 2.0 + 4.0), Anchor::Left, 11, &figure(Some(*whole)));
    }
    Some(plot(at, "stack", title, svg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Family;
    use crate::load::Kind;
    use crate::results::canned::{at, contender, staged};

    fn canned() -> LoadResults {
        let driver = |ring| {
            staged(&[
                (Stage::Before, 2000),
                (Stage::Ring, ring),
                (Stage::Decode, 500),
                (WHOLE, 3300 + ring),
                (Stage::ArrivedToSent, 9),
            ])
        };
        at(
            Kind::Stages(10_000),
            vec![
                contender("wiretick kernel", Family::Kernel, vec![staged(&[(Stage::Before, 6000), (WHOLE, 7100)])]),
                contender("wiretick driver", Family::Bypass, vec![driver(900), driver(1000), driver(1100)]),
                contender("wiretick skb", Family::Bypass, Vec::new()),
            ],
        )
    }

    #[test]
    fn each_stage_has_the_medians_of_the_rounds_and_what_a_mode_lacks_is_no_zero() {
        let text = table(&canned());
        assert!(
            text.contains("| stage, ns | wiretick kernel, p50 | wiretick kernel, p99 | wiretick driver, p50 |"),
            "{text}"
        );
        assert!(text.contains("| ring | - | - | 1000 | 3000 |"), "{text}");
        assert!(text.contains("| sent to event | 7100 | 21300 | 4300 | 12900 |"), "{text}");
        assert!(!["skb", "| open |", "to sent"].iter().any(|it| text.contains(it)), "{text}");
    }

    #[test]
    fn stages_stand_end_to_end_and_the_whole_beside_them() {
        let plot = stack(&canned()).unwrap();
        assert_eq!(plot.file, "stack-stages-10000.svg");
        let bars: Vec<(f64, f64)> = plot
            .svg
            .lines()
            .filter(|line| line.starts_with("<rect x=") && line.contains("height=\"14.0\""))
            .map(|line| {
                let value = |name| {
                    line.split_once(&format!(" {name}=\"")).unwrap().1.split('"').next().unwrap().parse().unwrap()
                };
                (value("x"), value("width"))
            })
            .collect();
        // Three of the faster mode, one of the other.
        assert_eq!(bars.len(), 4, "{}", plot.svg);
        assert!(bars.windows(2).take(2).all(|two| (two[0].0 + two[0].1 - two[1].0).abs() < 0.2), "{bars:?}");
        assert!((bars[0].1 / bars[1].1 - 2.0).abs() < 0.01 && (bars[3].1 / bars[0].1 - 3.0).abs() < 0.01, "{bars:?}");
        assert!(plot.svg.contains(">4.30<") && plot.svg.contains(">7.10<"), "{}", plot.svg);
    }

    #[test]
    fn without_stages_nothing_is_drawn() {
        assert!(stack(&at(Kind::Stages(1), vec![contender("x", Family::Bypass, Vec::new())])).is_none());
    }
}
