//! The harness of virtual machines itself: a guest answers, is watched, and is gone with whoever held it.
//!
//! Run by `make test-vm`, which has installed QEMU and fetched a kernel; otherwise, and without root, every test is shown as
//! ignored, with the reason. What wiretick does in guests is not here: those are the scenarios of `testbed vm test`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use wiretick_testbed::vm::{Error, Guest, Kernel, NEWEST, Nic, Payload, QEMU, qemu_version};

/// Set by `make test-vm`.
const VARIABLE: &str = "WIRETICK_VM";
/// Makes this program boot a guest, say so, and wait to be killed.
const HOLDER: &str = "--boot-a-guest-and-wait";
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == HOLDER) {
        return match boot() {
            Ok(guest) => {
                println!("{}", guest.pid());
                thread::sleep(Duration::from_secs(600));
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut arguments = Arguments::from_args();
    // Each guest has two processors, as many as this machine may have.
    arguments.test_threads = Some(1);
    let tests = vec![
        test("a_guest_answers_and_is_gone_when_it_is_dropped", answers),
        test("a_script_that_takes_too_long_is_ended_and_the_guest_goes_on", too_long),
        test("a_guest_that_crashes_is_noticed_with_its_last_words", crashes),
        test("an_assertion_that_qemu_fails_while_it_boots_is_survived", qemu_fails_once),
        test("a_qemu_that_always_fails_is_given_up", qemu_fails_always),
        test("nothing_is_left_when_the_holder_is_killed", killed),
        test("what_is_interrupted_ends_at_once", interrupted),
    ];
    libtest_mimic::run(&arguments, tests).exit_code()
}

fn test(name: &str, run: fn() -> Result<(), Failed>) -> Trial {
    Trial::ignorable_test(name, move || {
        if !rustix::process::geteuid().is_root() {
            return Ok(Completion::ignored_with("namespaces and taps need root"));
        }
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(Completion::ignored_with("virtual machines: make test-vm"));
        }
        match qemu_version() {
            Err(missing @ Error::Missing { .. }) => Ok(Completion::ignored_with(missing)),
            _ => run().map(|()| Completion::Completed),
        }
    })
}

fn boot() -> Result<Guest, Error> {
    Guest::boot(
        &Kernel::fetch(NEWEST)?,
        &Payload::new(&[], &[("/etc/word", b"hello")])?,
        &Arc::new(AtomicBool::new(false)),
    )
}

/// Has this program boot a guest in a process of its own; that process, and the first line it says.
fn hold(set_up: impl FnOnce(&mut Command) -> &mut Command) -> Result<(Child, String), Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut holder = set_up(command.arg(HOLDER).stdout(Stdio::piped())).spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
    Ok((holder, line))
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn answers() -> Result<(), Failed> {
    let mut guest = boot()?;
    let said = guest.run("cat /etc/word; uname -r; echo to stderr >&2; exit 7", PATIENCE)?;
    assert_eq!(said.code, 7);
    assert_eq!(said.stdout, format!("hello{}\n", guest.kernel().release));
    assert_eq!(said.stderr, "to stderr\n");
    // Every cable leads somewhere, tagged and untagged.
    for nic in Nic::ALL {
        for tagged in [false, true] {
            let address = nic.addresses(tagged).outside;
            let said = guest.run(&format!("ping -c 1 -W 5 {address}"), PATIENCE)?;
            assert_eq!(said.code, 0, "{} {address}: {said:?}", nic.name());
        }
        let (tagged, untagged) = guest.outside().vlan(nic).frames();
        assert!(tagged > 0 && untagged > 0, "{}: {tagged} out, {untagged} in", nic.name());
    }
    // More than any buffer on the way holds.
    let said = guest.run("seq 1 30000", PATIENCE)?;
    assert!(said.stdout.lines().eq((1..=30_000).map(|number: u32| number.to_string())));
    let pid = guest.pid();
    assert!(is_there(pid));
    drop(guest);
    assert!(!is_there(pid));
    Ok(())
}

fn too_long() -> Result<(), Failed> {
    let mut guest = boot()?;
    let began = Instant::now();
    assert_eq!(guest.run("sleep 600", Duration::from_secs(1))?.code, 137);
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(guest.run("echo still here", PATIENCE)?.stdout, "still here\n");
    Ok(())
}

fn crashes() -> Result<(), Failed> {
    let mut guest = boot()?;
    let began = Instant::now();
    let error = guest.run("echo c > /proc/sysrq-trigger", PATIENCE).map(|said| format!("{said:?}")).unwrap_err();
    assert!(began.elapsed() < PATIENCE, "noticed after {:?}", began.elapsed());
    let said = error.to_string();
    assert!(said.contains("is gone") && said.contains("Kernel panic"), "{said}");
    Ok(())
}

/// Boots with a QEMU that fails an assertion, the first time or always; what the holder said on standard output and error.
fn with_failing_qemu(always: bool) -> Result<(String, String), Failed> {
    let folder = tempfile::tempdir()?;
    let (program, failed) = (folder.path().join(QEMU), folder.path().join("failed"));
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ] || [ -e {failed} -a {always} = false ]; then exec /usr/bin/{QEMU} \"$@\"; fi\n\
         : > {failed}\necho once >> {folder}/boots\n\
         echo \"{QEMU}: system/physmem.c:1: f: Assertion \\`index < count' failed.\" >&2\nkill -ABRT $$\n",
        failed = failed.display(),
        folder = folder.path().display(),
    );
    std::fs::write(&program, script)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH")?);
    let (mut holder, said) = hold(|command| command.env("PATH", path).stderr(Stdio::piped()))?;
    holder.kill()?;
    let stderr = String::from_utf8(holder.wait_with_output()?.stderr)?;
    let boots = std::fs::read_to_string(folder.path().join("boots"))?.lines().count();
    Ok((said, format!("{boots} failed\n{stderr}")))
}

fn qemu_fails_once() -> Result<(), Failed> {
    let (stdout, stderr) = with_failing_qemu(false)?;
    assert!(stdout.trim().parse::<u32>().is_ok(), "{stdout:?} {stderr}");
    assert!(stderr.starts_with("1 failed\n"), "{stderr}");
    Ok(())
}

fn qemu_fails_always() -> Result<(), Failed> {
    let (stdout, stderr) = with_failing_qemu(true)?;
    assert_eq!(stdout, "", "{stderr}");
    assert!(stderr.starts_with("3 failed\n") && stderr.contains("index < count' failed."), "{stderr}");
    Ok(())
}

fn killed() -> Result<(), Failed> {
    let (mut holder, line) = hold(|command| command)?;
    let qemu: u32 = line.trim().parse().map_err(|_| format!("the holder said {line:?}"))?;
    assert!(is_there(qemu));
    // SIGKILL: nobody in there has a chance to clean up.
    holder.kill()?;
    holder.wait()?;
    let began = Instant::now();
    while is_there(qemu) {
        assert!(began.elapsed() < PATIENCE, "QEMU {qemu} outlives its holder");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn interrupted() -> Result<(), Failed> {
    let stop = Arc::new(AtomicBool::new(true));
    let began = Instant::now();
    let result = Guest::boot(&Kernel::fetch(NEWEST)?, &Payload::new(&[], &[])?, &stop);
    assert!(matches!(result, Err(Error::Interrupted)));
    assert!(began.elapsed() < PATIENCE);
    Ok(())
}
