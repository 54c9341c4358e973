//! Counting under valgrind: this program runs itself there, once for each figure.
//!
//! callgrind counts from [`counted`]'s first instruction to its last and nothing else, so what prepares the input is not
//! in any figure. The other count is between two moments, [`from_here`] and [`to_here`], each time they come by.

use std::hint::black_box;
use std::process::{Command, Stdio};

/// Runs `work`, and is what callgrind counts. Neither inlined nor merged with anything: callgrind knows it by its name.
#[inline(never)]
pub(crate) fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

/// Counting begins.
#[inline(never)]
pub(crate) fn from_here() {
    // Two functions of the same code would become one.
    black_box(1);
}

/// Counting ends.
#[inline(never)]
pub(crate) fn to_here() {
    black_box(2);
}

/// Instructions inside of [`counted`] when this program is called with `arguments`.
pub(crate) fn inside(arguments: &[&str]) -> Result<u64, String> {
    let said =
        run(&["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=*::counted*"], arguments)?.1;
    said.lines()
        .find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
        .filter(|count| *count > 0)
        .ok_or_else(|| format!("callgrind has counted nothing: {said}"))
}

/// Instructions from each [`from_here`] to the next [`to_here`] when this program is called with `arguments`.
pub(crate) fn between(arguments: &[&str]) -> Result<Vec<u64>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("a folder for callgrind: {error}"))?;
    let file = folder.path().join("out");
    let out = format!("--callgrind-out-file={}", file.display());
    run(&["--tool=callgrind", &out, "--zero-before=*::from_here*", "--dump-before=*::to_here*"], arguments)?;
    // One dump for each time `to_here` was entered, numbered from 1; what came after the last is in the file itself.
    let mut counts = Vec::new();
    while let Ok(dump) = std::fs::read_to_string(file.with_extension((counts.len() + 1).to_string())) {
        if dump.lines().any(|line| line == "desc: Trigger: Program termination") {
            break;
        }
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        counts.push(total.ok_or("a dump of callgrind's has no total")?);
    }
    if counts.is_empty() { Err("callgrind has dumped nothing".to_owned()) } else { Ok(counts) }
}

/// What this program says on the processor that valgrind plays.
pub(crate) fn answer(arguments: &[&str]) -> Result<String, String> {
    Ok(run(&["--tool=none"], arguments)?.0)
}

/// Standard output and error of valgrind, called so, with this program below it.
fn run(options: &[&str], arguments: &[&str]) -> Result<(String, String), String> {
    let this = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let output = Command::new("valgrind")
        .args(options)
        .arg(this)
        .args(arguments)
        // The environment lies above the stack: with less of it, less can differ.
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("valgrind, which counts the instructions: {error} (apt install valgrind)"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, said) = (text(&output.stdout), text(&output.stderr));
    if output.status.success() { Ok((out, said)) } else { Err(format!("{arguments:?} under valgrind: {said}")) }
}
