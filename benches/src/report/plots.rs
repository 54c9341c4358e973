//! The drawings: for each paced load the percentiles of every client on one logarithmic scale, for each saturated one bars,
//! and where stages were timed ([`stages`]) a stack.

use wiretick_testbed::client::Latency;

use super::stages;
use super::svg::{Anchor, Svg};
use super::table::figure;
use crate::contender::Family;
use crate::load::Kind;
use crate::results::{ContenderResults, LoadResults, Results, Run};

/// A drawing and where it belongs.
pub(crate) struct Plot {
    /// The load's id.
    pub(crate) load: String,
    pub(crate) title: String,
    pub(crate) file: String,
    pub(crate) svg: String,
}

/// A percentile by its name.
type Percentile = (&'static str, fn(&Latency) -> u64);

/// The percentiles that are drawn, from the first circle, which is filled, to the last.
const PERCENTILES: [Percentile; 4] =
    [("p50", |it| it.p50), ("p90", |it| it.p90), ("p99", |it| it.p99), ("p99.9", |it| it.p999)];

/// Pixels: names at the left, the field, room for a figure at the right; a row each, a title above, a scale below.
pub(super) const NAMES: f64 = 210.0;
pub(super) const FIELD: f64 = 560.0;
const MARGIN: f64 = 70.0;
pub(super) const ROW: f64 = 22.0;
pub(super) const HEAD: f64 = 60.0;
const FOOT: f64 = 46.0;

const GRID: &str = "#ddd";

/// All drawings.
pub(crate) fn all(results: &Results) -> Vec<Plot> {
    let drawn = |at: &LoadResults| match at.load.kind {
        Kind::Paced(_) | Kind::TickToTrade(_) => latency(at),
        Kind::Saturated(_) => throughput(at),
        Kind::Stages(_) => stages::stack(at),
        Kind::Captured | Kind::LastOfBurst(_) | Kind::AtOnce(_) | Kind::Snapshot(_) => None,
    };
    results.loads.iter().filter_map(drawn).collect()
}

const fn colour(family: Family) -> &'static str {
    match family {
        Family::Bypass => "#c0392b",
        Family::Kernel => "#1f6fb4",
        Family::Peer => "#5f6b6d",
    }
}

fn latency(at: &LoadResults) -> Option<Plot> {
    let mut rows: Vec<(&ContenderResults, [f64; 4])> = at
        .contenders
        .iter()
        .filter_map(|it| {
            let mut figures = [0.0; 4];
            for (figure, (_, of)) in figures.iter_mut().zip(PERCENTILES) {
                *figure = it.median(at.latency_us(of))?.max(0.001);
            }
            Some((it, figures))
        })
        .collect();
    rows.sort_by(|one, other| one.1[0].total_cmp(&other.1[0]));
    let all = || rows.iter().flat_map(|(_, figures)| figures.iter().copied());
    let (least, greatest) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    // Whole decades, at least one.
    let (low, high) = (least.log10().floor(), greatest.log10().ceil().max(least.log10().floor() + 1.0));
    let x = |us: f64| NAMES + FIELD * (us.log10() - low) / (high - low);

    let names = PERCENTILES.map(|(name, _)| name).join(", ");
    let title = format!("{}: {names} in microseconds", at.load.name());
    let bottom = HEAD + ROW * rows.len() as f64;
    let mut svg = frame(&title, rows.len());
    for decade in low as i32..=high as i32 {
        let begin = 10_f64.powi(decade);
        for step in (1..10).map(f64::from).filter(|step| begin * step <= 10_f64.powf(high) * 1.0001) {
            let width = if step == 1.0 { 1.5 } else { 0.5 };
            svg.line((x(begin * step), HEAD - 6.0), (x(begin * step), bottom), GRID, width);
            // Words for the steps between only where there is room for them.
            if step == 1.0 || (high - low <= 3.0 && [2.0, 5.0].contains(&step)) {
                svg.text((x(begin * step), bottom + 16.0), Anchor::Middle, 11, &(begin * step).to_string());
            }
        }
    }
    for (row, (contender, figures)) in rows.iter().enumerate() {
        let y = HEAD + ROW * (row as f64 + 0.5);
        let colour = colour(contender.family);
        svg.text((NAMES - 12.0, y + 4.0), Anchor::Right, 12, &contender.name);
        svg.line((x(figures[0]), y), (x(figures[3]), y), colour, 1.5);
        for (at, ((percentile, _), us)) in PERCENTILES.iter().zip(figures).enumerate() {
            let hint = format!("{}: {percentile} {} us", contender.name, figure(Some(*us)));
            svg.circle((x(*us), y), 4.5 - at as f64 * 0.6, if at == 0 { colour } else { "#fff" }, colour, &hint);
        }
        svg.text((NAMES + FIELD + 10.0, y + 4.0), Anchor::Left, 11, &figure(Some(figures[0])));
    }
    Some(plot(at, "latency", title, svg))
}

fn throughput(at: &LoadResults) -> Option<Plot> {
    let millions = |run: &Run| run.throughput().map(|rate| rate / 1e6);
    let mut rows: Vec<_> = at.contenders.iter().filter_map(|it| Some((it, it.spread(millions)?))).collect();
    rows.sort_by(|one, other| other.1.median.total_cmp(&one.1.median));
    let greatest = rows.iter().map(|(_, spread)| spread.greatest).reduce(f64::max)?;
    let scale = Scale::up_to(greatest)?;
    let x = |rate| scale.x(rate);

    let title = format!("{}: million messages a second", at.load.name());
    let bottom = HEAD + ROW * rows.len() as f64;
    let mut svg = frame(&title, rows.len());
    scale.draw(&mut svg, bottom);
    for (row, (contender, spread)) in rows.iter().enumerate() {
        let y = HEAD + ROW * row as f64;
        svg.text((NAMES - 12.0, y + ROW / 2.0 + 4.0), Anchor::Right, 12, &contender.name);
        svg.bar((NAMES, y + 4.0), x(spread.median) - NAMES, ROW - 8.0, colour(contender.family));
        // From the worst round to the best.
        svg.line((x(spread.least), y + ROW / 2.0), (x(spread.greatest), y + ROW / 2.0), "#222", 1.5);
        svg.text((NAMES + FIELD + 10.0, y + ROW / 2.0 + 4.0), Anchor::Left, 11, &figure(Some(spread.median)));
    }
    Some(plot(at, "throughput", title, svg))
}

/// A scale from 0 with a line at each step.
pub(super) struct Scale {
    step: f64,
    steps: f64,
}

impl Scale {
    /// One that has room for this; `None` for what no drawing here is about.
    pub(super) fn up_to(greatest: f64) -> Option<Self> {
        let step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 1000.0, 10_000.0]
            .into_iter()
            .find(|step| greatest / step <= 8.0)?;
        Some(Self { step, steps: (greatest / step).ceil().max(1.0) })
    }

    pub(super) fn x(&self, value: f64) -> f64 {
        NAMES + FIELD * value / (self.steps * self.step)
    }

    pub(super) fn draw(&self, svg: &mut Svg, bottom: f64) {
        for tick in 0..=self.steps as u32 {
            let value = f64::from(tick) * self.step;
            svg.line((self.x(value), HEAD - 6.0), (self.x(value), bottom), GRID, 1.0);
            svg.text((self.x(value), bottom + 16.0), Anchor::Middle, 11, &figure(Some(value)));
        }
    }
}

/// An empty drawing with a title.
pub(super) fn blank(title: &str, rows: usize) -> Svg {
    let mut svg = Svg::new(NAMES + FIELD + MARGIN, HEAD + ROW * rows as f64 + FOOT);
    svg.text((12.0, 22.0), Anchor::Left, 15, title);
    svg
}

/// An empty drawing with a title and a key to the families.
fn frame(title: &str, rows: usize) -> Svg {
    let mut svg = blank(title, rows);
    let keys = [
        (Family::Bypass, "past the kernel"),
        (Family::Kernel, "the same stages, kernel socket"),
        (Family::Peer, "peers"),
    ];
    for ((family, words), at) in keys.into_iter().zip([0.0, 150.0, 390.0]) {
        let x = NAMES + at;
        svg.circle((x, 40.0), 4.5, colour(family), colour(family), words);
        svg.text((x + 10.0, 44.0), Anchor::Left, 12, words);
    }
    svg
}

pub(super) fn plot(at: &LoadResults, what: &str, title: String, svg: Svg) -> Plot {
    let load = at.load.id();
    Plot { file: format!("{what}-{load}.svg"), load, title, svg: svg.finish() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::canned::{at, contender, fast, results, run};

    fn positions(svg: &str, element: &str, attribute: &str) -> Vec<f64> {
        let elements = svg.lines().filter(|line| line.starts_with(element));
        let value =
            |line: &str| line.split_once(&format!(" {attribute}=\"")).unwrap().1.split('"').next().unwrap().parse();
        elements.map(|line| value(line).unwrap()).collect()
    }

    #[test]
    fn percentiles_stand_on_a_logarithmic_scale() {
        let contenders = vec![
            contender("slow", Family::Peer, vec![run(100.0)]),
            contender("fast", Family::Bypass, vec![run(1.0)]),
            contender("failed", Family::Kernel, Vec::new()),
        ];
        let plots = all(&results(vec![at(Kind::Paced(10_000), contenders)]));
        assert_eq!((plots.len(), plots[0].file.as_str()), (1, "latency-paced-10000.svg"));
        let svg = &plots[0].svg;
        assert!(svg.find(">fast<").unwrap() < svg.find(">slow<").unwrap() && !svg.contains(">failed<"));
        // Three in the key, then four for each client: p50, 1.5, 2 and 4 times as much; 1 to 400 us are three decades.
        let x = &positions(svg, "<circle", "cx")[3..];
        assert_eq!(x.len(), 8);
        assert!((x[0] - NAMES).abs() < 0.1 && (x[4] - (NAMES + FIELD * 2.0 / 3.0)).abs() < 0.1, "{x:?}");
        assert!((x[3] - (NAMES + FIELD * 4_f64.log10() / 3.0)).abs() < 0.1, "{x:?}");
    }

    #[test]
    fn bars_are_as_long_as_the_throughput() {
        let contenders = vec![
            contender("a", Family::Peer, vec![fast(1e6)]),
            contender("b", Family::Bypass, vec![fast(2e6), fast(3e6), fast(4e6)]),
        ];
        let plots = all(&results(vec![at(Kind::Saturated(16), contenders)]));
        let widths = &positions(&plots[0].svg, "<rect", "width")[1..];
        assert!((widths[0] / widths[1] - 3.0).abs() < 0.01, "{widths:?}");
    }

    #[test]
    fn where_nobody_has_a_figure_nothing_is_drawn() {
        assert!(all(&results(vec![at(Kind::Paced(1), Vec::new()), at(Kind::Saturated(1), Vec::new())])).is_empty());
    }
}
