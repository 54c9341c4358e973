//! The gate that compares counted instructions with the committed ones (`benches/instructions`), tried on figures made up.

#[path = "../benches/instructions/gate.rs"]
#[allow(unreachable_pub, reason = "a module of a benchmark")]
mod gate;

use std::collections::BTreeMap;

use gate::{Change, Counted, Figures, compare, differences};

fn figures(figures: &[(&str, f64)]) -> Figures {
    figures.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

fn one(before: f64, after: f64) -> gate::Comparison {
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
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/bench/INSTRUCTIONS.json");
    let committed: Counted = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(!committed.figures.is_empty() && committed.made_with.contains_key("rustc"));
    let whole = compare(&committed.figures, &committed.figures);
    assert_eq!(whole, gate::Comparison::default());
}
