//! A client program under test: started, waited for, and its closing figures read.
//!
//! What comes in is a command that writes its figures to the file given with `--summary`, as `wiretick stream` and the
//! peers of the benchmarks do; what goes out is a [`Summary`]. The files that pass between the two lie in a [`Desk`],
//! which is gone when it is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::pki::Authority;

/// How often a child is asked whether it has ended.
const TICK: Duration = Duration::from_millis(5);
/// How long a client that was told to stop may take to close its connection.
const FAREWELL: Duration = Duration::from_secs(3);

/// The figures of a finished client. What a client does not know is left at nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Summary {
    /// The mode that was in effect; empty for clients that know only one.
    pub mode: String,
    /// Messages received.
    pub messages: u64,
    /// Events by type, in the client's own names.
    pub events: BTreeMap<String, u64>,
    /// Gaps in the venue's numbering.
    pub gaps: u64,
    /// TLS records.
    pub records: Records,
    /// How long each promotion took, in microseconds.
    pub handover_us: Vec<f64>,
    /// From the sender's stamp to the decoded event.
    pub latency_ns: Option<Latency>,
    /// What each stage of a message's way took, by the name of the stage, where that was asked for (`--stages`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stages_ns: Option<BTreeMap<String, Latency>>,
    /// From the connection to the end, in seconds.
    pub duration_s: f64,
    /// From the first message to the last, in seconds.
    pub first_to_last_s: Option<f64>,
    /// Messages that were answered.
    pub echoes: u64,
    /// Processor time of the whole process.
    pub cpu_seconds: f64,
    /// What was dropped, refused or had to be done again, by reason.
    pub drops: BTreeMap<String, u64>,
}

/// TLS records by how they were opened.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub struct Records {
    /// Where they lay.
    pub in_place: u64,
    /// After they had been put together from several segments.
    pub joined: u64,
}

/// Nanoseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[allow(missing_docs)]
pub struct Latency {
    pub count: u64,
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there.
    #[error("{}: not there: build it with cargo build --release --bins", .0.display())]
    NoProgram(PathBuf),
    /// It ended badly. What it wrote on standard error is attached.
    #[error("{program} ended with {status}:\n{stderr}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said about it.
        stderr: String,
    },
    /// It took too long and was killed.
    #[error("{program} did not end within {patience:?}:\n{stderr}")]
    TooLong {
        /// The program.
        program: String,
        /// The time it had.
        patience: Duration,
        /// What it said up to then.
        stderr: String,
    },
    /// Its figures cannot be read.
    #[error("{program}: its summary cannot be read: {source}")]
    Unreadable {
        /// The program.
        program: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// We were told to stop.
    #[error("interrupted")]
    Interrupted,
    /// A file or a process.
    #[error("{what}: {source}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// A program that was built together with the one that runs now.
///
/// # Errors
///
/// [`Error::NoProgram`] where it is not there.
pub fn beside_us(name: &str) -> Result<PathBuf, Error> {
    let mut path = std::env::current_exe().map_err(system("finding our own program"))?;
    path.set_file_name(name);
    if path.exists() { Ok(path) } else { Err(Error::NoProgram(path)) }
}

/// A folder for what clients read and write.
#[derive(Debug)]
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    /// Makes one, with the authority's certificate on it.
    ///
    /// # Errors
    ///
    /// Where the folder for temporary files cannot be written.
    pub fn new(authority: &Authority) -> Result<Self, Error> {
        let folder = tempfile::Builder::new().prefix("wiretick-").tempdir().map_err(system("a temporary folder"))?;
        let desk = Self { folder };
        authority.write_pem(&desk.ca_file()).map_err(system("writing a certificate"))?;
        Ok(desk)
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Runs a client to its end, and reads its figures.
    ///
    /// # Errors
    ///
    /// As [`Desk::watch`].
    pub fn run(&self, command: Command, stop: &AtomicBool, patience: Duration) -> Result<Summary, Error> {
        self.watch(command, stop, patience, |_| ())
    }

    /// Runs a client to its end, calls `look` every few milliseconds while it lives, and reads as much of its figures as `T` has.
    /// `--summary FILE` is added to its arguments, standard error is kept for the case that it fails, and standard output goes where
    /// the command says.
    ///
    /// When `stop` is raised, the client is asked to end (SIGINT), and killed if it does not.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub fn watch<T: DeserializeOwned>(
        &self,
        mut command: Command,
        stop: &AtomicBool,
        patience: Duration,
        look: impl FnMut(Pid),
    ) -> Result<T, Error> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (summary, stderr) = (self.folder.path().join("summary.json"), self.folder.path().join("stderr"));
        let errors = File::create(&stderr).map_err(system("a temporary file"))?;
        let child = command
            .arg("--summary")
            .arg(&summary)
            .stdin(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(system("starting a client"))?;
        let said = || fs::read_to_string(&stderr).unwrap_or_default();
        let status = match wait(child, stop, patience, look)? {
            End::Ended(status) => status,
            End::TooLong => return Err(Error::TooLong { program, patience, stderr: said() }),
            End::Interrupted => return Err(Error::Interrupted),
        };
        if !status.success() {
            return Err(Error::Failed { program, status, stderr: said() });
        }
        let text = fs::read(&summary).map_err(system("reading a summary"))?;
        serde_json::from_slice(&text).map_err(|source| Error::Unreadable { program, source })
    }
}

enum End {
    Ended(ExitStatus),
    TooLong,
    Interrupted,
}

/// Waits until the child is gone, whatever it takes: nobody may be left running.
fn wait(mut child: Child, stop: &AtomicBool, patience: Duration, mut look: impl FnMut(Pid)) -> Result<End, Error> {
    let pid = Pid::from_child(&child);
    let mut ended = |child: &mut Child, until: Instant, stop: Option<&AtomicBool>| loop {
        if let Some(status) = child.try_wait().map_err(system("waiting for a client"))? {
            return Ok(Some(status));
        }
        if Instant::now() >= until || stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Ok(None);
        }
        look(pid);
        thread::sleep(TICK);
    };
    match ended(&mut child, Instant::now() + patience, Some(stop))? {
        Some(status) if !stop.load(Ordering::Relaxed) => return Ok(End::Ended(status)),
        Some(_) => return Ok(End::Interrupted),
        None => {}
    }
    // From a terminal it has got the same signal already; to be told twice does no harm but to its goodbye.
    let interrupted = stop.load(Ordering::Relaxed);
    let _ = kill_process(pid, if interrupted { Signal::INT } else { Signal::TERM });
    if ended(&mut child, Instant::now() + FAREWELL, None)?.is_none() {
        child.kill().map_err(system("killing a client"))?;
        child.wait().map_err(system("waiting for a client"))?;
    }
    Ok(if interrupted { End::Interrupted } else { End::TooLong })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        // `--summary FILE` become $1 and $2.
        command.args(["-c", script, "sh"]);
        command
    }

    fn run(script: &str, stop: bool, patience: Duration) -> Result<Summary, Error> {
        let desk = Desk::new(&Authority::new("Testbed CA").unwrap()).unwrap();
        desk.run(shell(script), &AtomicBool::new(stop), patience)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn the_figures_of_a_client_are_read_and_unknown_ones_ignored() {
        let script = r#"echo '{"messages": 7, "first_to_last_s": 0.5, "latency_ns": null, "client": "x"}' > "$2""#;
        let summary = run(script, false, PATIENCE).unwrap();
        assert_eq!((summary.messages, summary.first_to_last_s, summary.latency_ns.is_none()), (7, Some(0.5), true));
    }

    #[test]
    fn a_client_that_fails_is_quoted() {
        let error = run("echo no such venue >&2; exit 4", false, PATIENCE).unwrap_err().to_string();
        assert!(error.contains("exit status: 4") && error.contains("no such venue"), "{error}");
    }

    #[test]
    fn a_client_that_does_not_end_is_ended() {
        let error = run("exec sleep 60", false, Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, Error::TooLong { .. }), "{error}");
    }

    #[test]
    fn an_interrupted_client_is_told_so() {
        assert!(matches!(run("exec sleep 60", true, PATIENCE), Err(Error::Interrupted)));
    }

    #[test]
    fn nothing_is_left_in_the_folder_for_temporary_files() {
        let desk = Desk::new(&Authority::new("Testbed CA").unwrap()).unwrap();
        let folder = desk.folder.path().to_owned();
        assert!(desk.ca_file().exists());
        drop(desk);
        assert!(!folder.exists());
    }
}
