//! The gate: counted instructions against the committed ones.
//!
//! What comes in are two maps from a work's name to its instructions per message; what goes out is what changed by more
//! than [`TOLERANCE`], and in words. It counts nothing and reads no file. (Its tests are in `tests/instruction_gate.rs`: a
//! benchmark has none of its own.)

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// How much worse is worse, as a share.
///
/// 5 %. Lower, and a change elsewhere that moves what is inlined fails the gate; higher, and a stage gets slower in steps
/// that nobody sees.
pub const TOLERANCE: f64 = 0.05;

/// Instructions per message, by name.
pub type Figures = BTreeMap<String, f64>;

/// What is committed.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Counted {
    /// What the figures depend on beside the code: compilers, libraries, and the processor that valgrind plays.
    pub made_with: BTreeMap<String, String>,
    /// Instructions per message.
    pub figures: Figures,
}

/// A figure that changed by more than [`TOLERANCE`].
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The work's name.
    pub name: String,
    /// As committed.
    pub before: f64,
    /// As counted.
    pub after: f64,
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
pub struct Comparison {
    /// More instructions than before.
    pub worse: Vec<Change>,
    /// Fewer.
    pub better: Vec<Change>,
    /// Committed, and no longer counted.
    pub missing: Vec<String>,
    /// Counted, and not committed.
    pub extra: Vec<String>,
}

/// Compares what is committed with what was counted.
pub fn compare(committed: &Figures, counted: &Figures) -> Comparison {
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
    pub fn fails(&self) -> bool {
        !(self.worse.is_empty() && self.missing.is_empty() && self.extra.is_empty())
    }

    /// What to tell, if anything. `accept` is the command that makes the counted figures the committed ones.
    pub fn report(&self, accept: &str) -> String {
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
pub fn differences(committed: &BTreeMap<String, String>, here: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<_> = committed.keys().chain(here.keys()).collect();
    let said = |map: &BTreeMap<String, String>, name: &str| map.get(name).map_or("unknown", String::as_str).to_owned();
    names
        .into_iter()
        .filter(|name| committed.get(*name) != here.get(*name))
        .map(|name| format!("{name}: {} when committed, {} here", said(committed, name), said(here, name)))
        .collect()
}
