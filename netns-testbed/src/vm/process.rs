//! QEMU as a process: started, listened to, and ended whatever happens.
//!
//! What comes in are its arguments and descriptors; what goes out are lines of its serial port, and the end of its console.
//!
//! It never outlives the testbed. Dropping a [`Process`] kills it. Where there is nobody to drop it, because the testbed was
//! killed with SIGKILL, the kernel kills it: it has asked for that (`PR_SET_PDEATHSIG`) with the thread that started it as its
//! parent, and that thread does nothing but wait for it. And the guest has a time after which it switches itself off.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::process::{ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How much of the console is kept: its end.
const TAIL_BYTES: usize = 16 << 10;
/// How long it may take to read what a QEMU that is gone has left in the pipes.
const LAST_WORDS: Duration = Duration::from_secs(20);

/// A running QEMU.
#[derive(Debug)]
pub(super) struct Process {
    /// Of QEMU itself: a number could be somebody else's by the time it is used.
    pidfd: OwnedFd,
    pid: u32,
    stdin: ChildStdin,
    lines: Receiver<String>,
    console: Arc<Mutex<VecDeque<u8>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What the thread that starts it hands over.
struct Started {
    pidfd: OwnedFd,
    pid: u32,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
}

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// None has come in this time.
    Yet,
    /// QEMU is gone.
    Forever,
}

impl Process {
    /// Starts `command`. Its standard input and output are the serial port, its standard error is the console.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (tell, told) = mpsc::sync_channel(1);
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| thread::Builder::new().name(name.into()).spawn(work);
        let keeper = spawn("qemu", Box::new(move || keep(command, &tell)))?;
        let Started { pidfd, pid, stdin, stdout, stderr } =
            told.recv().map_err(|_| io::Error::other("the thread that starts QEMU panicked"))??;
        let (tell, lines) = mpsc::channel();
        let serial = spawn("serial", Box::new(move || read_lines(stdout, &tell)))?;
        let console = Arc::<Mutex<VecDeque<u8>>>::default();
        let tail = Arc::clone(&console);
        let listener = spawn("console", Box::new(move || keep_tail(stderr, &tail)))?;
        Ok(Self { pidfd, pid, stdin, lines, console, threads: vec![keeper, serial, listener] })
    }

    /// QEMU's process number.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Writes a line to the serial port.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        self.stdin.write_all(line.as_bytes())?;
        self.stdin.write_all(b"\n")?;
        self.stdin.flush()
    }

    /// The next line from the serial port.
    pub(super) fn line(&self, patience: Duration) -> Result<String, Silence> {
        self.lines.recv_timeout(patience).map_err(|error| match error {
            RecvTimeoutError::Timeout => Silence::Yet,
            RecvTimeoutError::Disconnected => Silence::Forever,
        })
    }

    /// Once QEMU is gone: waits until all that it has said has been read.
    pub(super) fn await_last_words(&self) {
        let until = Instant::now() + LAST_WORDS;
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// The end of what was written on the console, and by QEMU itself.
    pub(super) fn console(&self) -> String {
        let mut tail = self.console.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(tail.make_contiguous()).replace('\r', "")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails where it is gone already, and that is what is wanted.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        for thread in self.threads.drain(..) {
            // Their panics have been printed; a panic in a drop would hide what is going on.
            let _ = thread.join();
        }
    }
}

/// Starts the child and waits for its end: it is this thread with which the child shall die.
fn keep(mut command: Command, started: &SyncSender<io::Result<Started>>) {
    let mut start = || {
        let mut child = command.spawn()?;
        let opened = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Ok(pidfd), Some(stdin), Some(stdout), Some(stderr)) = (opened, stdin, stdout, stderr) else {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other("no descriptor for a child of our own (pidfd_open, Linux 5.3)"));
        };
        let pid = child.id();
        Ok((child, Started { pidfd, pid, stdin, stdout, stderr }))
    };
    match start() {
        Ok((mut child, parts)) => {
            // Where nobody takes them, they are closed here, and the child is killed with this thread.
            if started.send(Ok(parts)).is_ok() {
                let _ = child.wait();
            }
        }
        Err(error) => drop(started.send(Err(error))),
    }
}

fn read_lines(stdout: ChildStdout, tell: &Sender<String>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if tell.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
            return;
        }
    }
}

fn keep_tail(mut stderr: ChildStderr, tail: &Mutex<VecDeque<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(taken @ 1..) = stderr.read(&mut buffer) {
        log::trace!("console: {}", String::from_utf8_lossy(&buffer[..taken]));
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend(&buffer[..taken]);
        let beyond = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..beyond);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn lines_go_in_and_come_out() {
        let mut process = start("read line; echo \"got $line\"; echo to the console >&2; read line");
        process.write("something").unwrap();
        assert_eq!(process.line(PATIENCE), Ok("got something".into()));
        process.write("end").unwrap();
        assert_eq!(process.line(PATIENCE), Err(Silence::Forever));
        process.await_last_words();
        assert_eq!(process.console(), "to the console\n");
    }

    #[test]
    fn a_silent_one_is_told_from_one_that_is_gone() {
        assert_eq!(start("exec sleep 60").line(Duration::from_millis(20)), Err(Silence::Yet));
        assert_eq!(start("exit 3").line(PATIENCE), Err(Silence::Forever));
    }

    #[test]
    fn only_the_end_of_the_console_is_kept() {
        let process = start("yes 0123456789 | head -c 100000 >&2; echo end >&2");
        assert_eq!(process.line(PATIENCE), Err(Silence::Forever));
        process.await_last_words();
        assert!(process.console().ends_with("end\n"), "{:?}", process.console());
        assert_eq!(process.console().len(), TAIL_BYTES);
    }

    #[test]
    fn it_is_killed_when_it_is_dropped() {
        let process = start("exec sleep 60");
        let pid = process.pid();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "reaped, too");
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        assert!(Process::start(Command::new("/no/such/program")).is_err());
    }
}
