//! Programs of this machine that are run to their end: apt, dpkg, depmod, ldd. Each has a time limit.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Error;
use super::error::system;

/// How long any one of them may take, in seconds: a kernel's package has 170 MB, and a mirror may be slow.
const LIMIT_S: &str = "900";

/// Runs a program and hands back what it wrote on standard output. `in_folder` is where it stands.
pub(super) fn output<A: AsRef<OsStr>>(
    program: &str,
    arguments: &[A],
    in_folder: Option<&Path>,
) -> Result<Vec<u8>, Error> {
    let path = find(program)?;
    // coreutils' timeout takes everything the program has started with it.
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT_S]).arg(path).args(arguments).env("LC_ALL", "C").stdin(Stdio::null());
    if let Some(folder) = in_folder {
        command.current_dir(folder);
    }
    let done = command.output().map_err(system(format!("running {program}")))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    Err(Error::Program {
        command: format!("{program} {}", words.join(" ")),
        status: done.status,
        said: String::from_utf8_lossy(&done.stderr).trim().to_owned(),
    })
}

/// As [`output`], as text.
pub(super) fn text<A: AsRef<OsStr>>(program: &str, arguments: &[A]) -> Result<String, Error> {
    output(program, arguments, None).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Where a program lies: in `PATH`, or where only root's has it.
pub(super) fn find(program: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::missing(format!("{program} is not there"), "scripts/setup-vm installs it"))
}
