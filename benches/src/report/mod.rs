//! The results for people: Markdown with tables, and drawings beside it.

mod floor;
mod full;
mod modes;
mod plots;
mod stages;
mod svg;
mod table;

use std::fs;
use std::io;
use std::path::Path;

use crate::floor::Floor;
use crate::results::Results;

/// The file with the tables, the one with all runs, and the folder of drawings.
const REPORT: &str = "REPORT.md";
const RUNS: &str = "runs.json";

/// Prints the table of modes; where a file is named, writes it there and the runs beside it.
pub(crate) fn modes(results: &Results, out: Option<&Path>) -> io::Result<()> {
    let text = modes::markdown(results);
    print!("{text}");
    if let Some(file) = out {
        write(file, &text)?;
        write_runs(&file.with_extension("json"), results)?;
    }
    Ok(())
}

/// Prints the table of the floor.
pub(crate) fn floor(results: &Floor) {
    print!("{}", floor::markdown(results));
}

/// Prints the main table and the goals that can be judged by it.
pub(crate) fn quick(results: &Results) {
    print!("{}", full::summary(results));
}

/// Writes the report, the drawings and all runs to a folder.
pub(crate) fn full(results: &Results, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder).map_err(named(folder))?;
    // First: whatever is wrong with the rest, the runs are kept.
    write_runs(&folder.join(RUNS), results)?;
    let plots = plots::all(results);
    for plot in &plots {
        write(&folder.join(&plot.file), &plot.svg)?;
    }
    write(&folder.join(REPORT), &full::markdown(results, &plots))
}

/// Reads what [`full()`] has written.
pub(crate) fn read_runs(folder: &Path) -> io::Result<Results> {
    let file = folder.join(RUNS);
    let text = fs::read(&file).map_err(named(&file))?;
    serde_json::from_slice(&text).map_err(|error| named(&file)(error.into()))
}

fn write_runs(file: &Path, results: &Results) -> io::Result<()> {
    write(file, &format!("{:#}\n", serde_json::to_value(results)?))
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    fs::write(file, text).map_err(named(file))
}

fn named(file: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Family;
    use crate::load::Kind;
    use crate::results::canned::{at, contender, run};

    #[test]
    fn a_report_can_be_made_again_from_its_runs() {
        let load = at(Kind::Paced(10_000), vec![contender("wiretick driver", Family::Bypass, vec![run(3.0)])]);
        let results = crate::results::canned::results(vec![load]);
        let folder = tempfile::tempdir().unwrap();
        full(&results, folder.path()).unwrap();
        let report = || fs::read_to_string(folder.path().join(REPORT)).unwrap();
        let first = report();
        assert!(first.contains("(latency-paced-10000.svg)") && folder.path().join("latency-paced-10000.svg").exists());
        full(&read_runs(folder.path()).unwrap(), folder.path()).unwrap();
        assert_eq!(report(), first);
    }
}
