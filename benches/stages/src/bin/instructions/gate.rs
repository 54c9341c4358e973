//! The gate: counted instructions against the committed ones.
//!
//! What comes in are two maps from a work's name to its instructions per message; what goes out is what changed by more
//! than [`TOLERANCE`], and in words. It counts nothing and reads no file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// How much worse is worse, as a share.
///
/// 5 %. Lower, and a change elsewhere that moves what is inlined fails the gate; higher, and a stage gets slower in steps
/// that nobody sees.
pub(crate) const TOLERANCE: f64 = 0.05;

/// Instructions per message, by name.
pub(crate) type Figures = BTreeMap<String, f64>;

/// What is committed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Counted {
    /// What the figures depend on beside the code: compilers, libraries, and the processor that valgrind plays.
    pub(crate) made_with: BTreeMap<String, String>,
    /// Instructions per message.
    pub(crate) figures: Figures,
}

/// A figure that changed by more than [`TOLERANCE`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// The work's name.
    pub(crate) name: String,
    /// As committed.
    pub(crate) before: f64,
    /// As counted.
    pub(crate) after: f64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, before, after } = self;
        write!(f, "{name}: {before} -> {after}")?;
        if *before > 0.0 {
            write!(f, " ({:+.1} %)", (after / before - 1.0) * 100.0)?;
        }
        Ok(())
    }
}

/// What became of the figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    /// More instructions than before.
    pub(crate) worse: Vec<Change>,
    /// Fewer.
    pub(crate) better: Vec<Change>,
    /// Committed, and no longer counted.
    pub(crate) missing: Vec<String>,
    /// Counted, and not committed.
    pub(crate) extra: Vec<String>,
}

/// Compares what is committed with what was counted.
pub(crate) fn compare(committed: &Figures, counted: &Figures) -> Comparison {
    let mut comparison = Comparison::default();
    let names: BTreeSet<_> = committed.keys().chain(counted.keys()).collect();
    for name in names {
        let (before, after) = match (committed.get(name), counted.get(name)) {
            (Some(before), Some(after)) => (*before, *after),
            (Some(_), None) => {
                comparison.missing.push(name.clone());
                continue;
            }
            _ => {
                comparison.extra.push(name.clone());
                continue;
            }
        };
        // Figures have one decimal: what is exactly 5 % more must not fail for the sake of a binary fraction.
        let slack = before * TOLERANCE + 1e-6;
        let change = Change { name: name.clone(), before, after };
        if after > before + slack {
            comparison.worse.push(change);
        } else if after < before - slack {
            comparison.better.push(change);
        }
    }
    comparison
}

impl Comparison {
    /// Whether the check fails. What got better does not fail it.
    pub(crate) fn fails(&self) -> bool {
        !(self.worse.is_empty() && self.missing.is_empty() && self.extra.is_empty())
    }

    /// What to tell, if anything. `accept` is the command that makes the counted figures the committed ones.
    pub(crate) fn report(&self, accept: &str) -> String {
        let mut text = String::new();
        let mut list = |title: &str, lines: &mut dyn Iterator<Item = String>| {
            let lines: Vec<_> = lines.collect();
            if !lines.is_empty() {
                let _ = writeln!(text, "{title}:\n    {}", lines.join("\n    "));
            }
        };
        let percent = TOLERANCE * 100.0;
        list(&format!("more than {percent} % worse"), &mut self.worse.iter().map(Change::to_string));
        list("committed, and no longer counted", &mut self.missing.iter().cloned());
        list("counted, and not committed", &mut self.extra.iter().cloned());
        list(&format!("more than {percent} % better"), &mut self.better.iter().map(Change::to_string));
        if !text.is_empty() {
            let verb = if self.fails() { "If this is meant, accept" } else { "Accept" };
            let _ = writeln!(text, "{verb} the new figures with\n    {accept}");
        }
        text
    }
}

/// What differs between the two ways the figures were made, in words; empty where nothing does.
pub(crate) fn differences(committed: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<_> = committed.keys().chain(here.keys()).collect();
    let said = |map: &BTreeMap<String, String>, name: &str| map.get(name).map_or("unknown", String::as_str).to_owned();
    names
        .into_iter()
        .filter(|name| committed.get(*name) != here.get(*name))
        .map(|name| format!("{name}: {} when committed, {} here", said(committed, name), said(here, name)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(figures: &[(&str, f64)]) -> Figures {
        figures.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn one(before: f64, after: f64) -> Comparison {
        compare(&figures(&[("record / opened", before)]), &figures(&[("record / opened", after)]))
    }

    #[test]
    fn five_percent_more_passes_and_a_tenth_of_a_percent_above_fails() {
        for before in [20.0, 100.0, 1000.0, 27_006.0] {
            assert!(!one(before, before).fails());
            assert!(!one(before, before * 1.05).fails(), "{before}");
            assert!(one(before, before * 1.051).fails(), "{before}");
        }
        // As the figures are kept: with one decimal.
        assert!(!one(33.4, 35.0).fails());
        assert!(one(33.4, 35.1).fails());
        assert!(one(0.0, 0.1).fails());
    }

    #[test]
    fn what_got_better_is_told_and_does_not_fail() {
        let comparison = one(1000.0, 900.0);
        assert!(!comparison.fails());
        assert_eq!(comparison.better, [Change { name: "record / opened".to_owned(), before: 1000.0, after: 900.0 }]);
        assert_eq!(
            comparison.report("make accept"),
            "more than 5 % better:\n    record / opened: 1000 -> 900 (-10.0 %)\nAccept the new figures with\n    make accept\n"
        );
        assert!(one(1000.0, 950.0).better.is_empty());
        assert_eq!(one(1000.0, 1000.0).report("make accept"), "");
    }

    #[test]
    fn what_got_worse_is_named_with_both_figures_and_the_way_to_accept_it() {
        let comparison = one(1000.0, 1100.0);
        assert!(comparison.fails());
        assert_eq!(
            comparison.report("make accept"),
            "more than 5 % worse:\n    record / opened: 1000 -> 1100 (+10.0 %)\nIf this is meant, accept the new figures with\n    make accept\n"
        );
    }

    #[test]
    fn a_figure_that_is_missing_and_one_that_is_new_fail() {
        let comparison = compare(&figures(&[("a", 1.0), ("b", 2.0)]), &figures(&[("b", 2.0), ("c", 3.0)]));
        assert!(comparison.fails());
        assert_eq!((&comparison.missing[..], &comparison.extra[..]), (&["a".to_owned()][..], &["c".to_owned()][..]));
        let report = comparison.report("make accept");
        assert!(report.contains("committed, and no longer counted:\n    a\n"), "{report}");
        assert!(report.contains("counted, and not committed:\n    c\n"), "{report}");
        assert!(compare(&figures(&[("a", 1.0)]), &Figures::new()).fails());
        assert!(compare(&Figures::new(), &figures(&[("a", 1.0)])).fails());
    }

    #[test]
    fn another_toolchain_is_told() {
        let made = |rustc: &str| BTreeMap::from([("rustc".to_owned(), rustc.to_owned())]);
        assert_eq!(differences(&made("1.95.0"), &made("1.95.0")), [""; 0]);
        assert_eq!(differences(&made("1.95.0"), &made("1.96.0")), ["rustc: 1.95.0 when committed, 1.96.0 here"]);
        assert_eq!(differences(&made("1.95.0"), &BTreeMap::new()), ["rustc: 1.95.0 when committed, unknown here"]);
    }

    #[test]
    fn the_committed_figures_can_be_read() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bench/INSTRUCTIONS.json");
        let committed: Counted = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert!(!committed.figures.is_empty() && committed.made_with.contains_key("rustc"));
        let whole = compare(&committed.figures, &committed.figures);
        assert_eq!(whole, Comparison::default());
    }
}
