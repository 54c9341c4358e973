//! A guest: a virtual machine that runs scripts and says what came of them.
//!
//! What comes in are a [`Kernel`], a [`Payload`] and scripts; what goes out is an [`Output`] for each. The guest has every
//! [`Nic`] once, each with its cable in the same [`Outside`]. Everything that is waited for has a bound.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::error::system;
use super::image::Payload;
use super::kernel::Kernel;
use super::nic::{Nic, VLAN, colons};
use super::outside::Outside;
use super::process::{Process, Silence};
use super::{Error, tools};
use crate::sys;

/// The program.
pub const QEMU: &str = "qemu-system-x86_64";
/// The oldest that has the card igb.
const QEMU_MIN: u32 = 8;
/// How long a guest may take until its first process runs and its modules are loaded: 4 s on an idle machine without KVM.
const BOOT: Duration = Duration::from_secs(180);
/// How often it is booted before QEMU is given up. With two processors and no KVM, QEMU now and then (once in some hundred boots)
/// uses a page of a processor's TLB that another one has just replaced, which happens while the firmware maps its memory:
/// <https://gitlab.com/qemu-project/qemu/-/issues/1921>.
const BOOTS: u32 = 3;
/// How long an answer may take beyond the script's own time: the serial port carries some 100 KB a second.
const ANSWER: Duration = Duration::from_secs(30);
/// After this long a guest switches itself off, whoever may still want it: all scenarios of a kernel take a fraction of it.
const LIFE: Duration = Duration::from_secs(3600);
/// How often we look whether we are told to stop.
const TICK: Duration = Duration::from_millis(100);
/// The largest IP packet on the cables: what a jumbo frame has. The cards begin with 1500.
const MTU: u32 = 9000;

/// A running virtual machine. Dropping it ends it.
#[derive(Debug)]
pub struct Guest {
    kernel: Kernel,
    process: Process,
    outside: Outside,
    scripts: u64,
    stop: Arc<AtomicBool>,
}

/// What came of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; 137 where it took too long.
    pub code: i32,
    /// What it wrote on standard output.
    pub stdout: String,
    /// What it wrote on standard error.
    pub stderr: String,
}

/// Whether there is a QEMU that is new enough; its version.
///
/// # Errors
///
/// [`Error::Missing`].
pub fn qemu_version() -> Result<String, Error> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::missing("the guests are x86-64, and so must be the programs in them", "run it on x86-64"));
    }
    let told = tools::text(QEMU, &["--version"])?;
    let version = told.split("version ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(QEMU_MIN..) => Ok(version.to_owned()),
        _ => Err(Error::missing(
            format!("QEMU {version} is too old: the card igb came with {QEMU_MIN}.0"),
            "scripts/setup-vm takes it from the release's backports",
        )),
    }
}

impl Guest {
    /// Boots one, and gives its cards their names and addresses. It ends early when `stop` is raised. Where QEMU fails an assertion
    /// of its own meanwhile, it is started again, with a warning: that says nothing about what is to be tried in the guest.
    ///
    /// # Errors
    ///
    /// All of [`Error`].
    pub fn boot(kernel: &Kernel, payload: &Payload, stop: &Arc<AtomicBool>) -> Result<Self, Error> {
        qemu_version()?;
        for boot in 1..BOOTS {
            match Self::boot_once(kernel, payload, stop) {
                Err(error) if error.is_qemus_own() => log::warn!("boot {boot} of at most {BOOTS}: {error}"),
                result => return result,
            }
        }
        Self::boot_once(kernel, payload, stop)
    }

    fn boot_once(kernel: &Kernel, payload: &Payload, stop: &Arc<AtomicBool>) -> Result<Self, Error> {
        let outside = Outside::new(MTU)?;
        let initramfs = Arc::new(payload.initramfs(kernel)?);
        // Inside the namespace, where there is nothing but the cables: a guest that broke out would find no other network.
        let mut command = outside.ns().command(tools::find(QEMU)?);
        command.args(arguments(kernel, &initramfs, &outside));
        let taps = Nic::ALL.into_iter().flat_map(|nic| outside.tap(nic).queues().iter().cloned());
        sys::hand_down(&mut command, taps.chain([initramfs]).collect());
        log::info!("booting {}", kernel.release);
        let process = Process::start(command).map_err(system(format!("starting {QEMU}")))?;
        let mut guest = Self { kernel: kernel.clone(), process, outside, scripts: 0, stop: Arc::clone(stop) };
        let ready = guest.line(Instant::now() + BOOT, "was to boot")?;
        if ready != format!("ready {}", kernel.release) {
            return Err(guest.broken(&format!("said {ready:?} instead of being ready")));
        }
        let done = guest.run(&set_up(), Duration::from_secs(60))?;
        if done.code != 0 {
            return Err(guest.broken(&format!("could not set up its cards: {done:?}")));
        }
        Ok(guest)
    }

    /// Its kernel.
    #[must_use]
    pub const fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// What its cables lead to.
    #[must_use]
    pub const fn outside(&self) -> &Outside {
        &self.outside
    }

    /// QEMU's process number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of its console.
    #[must_use]
    pub fn console(&self) -> String {
        self.process.console()
    }

    /// Runs a shell script in it to its end, or for so long.
    ///
    /// # Errors
    ///
    /// [`Error::Guest`] where the guest is gone, or does not answer; not where the script fails.
    pub fn run(&mut self, script: &str, limit: Duration) -> Result<Output, Error> {
        self.scripts += 1;
        let id = self.scripts;
        let seconds = limit.as_secs().max(1);
        log::debug!("{}, script {id}:\n{script}", self.kernel.release);
        if self.process.write(&format!("{id} {seconds} {}", BASE64.encode(script))).is_err() {
            return Err(self.broken("is gone"));
        }
        let until = Instant::now() + Duration::from_secs(seconds) + ANSWER;
        let begin = self.line(until, "was to run a script")?;
        let code = begin.strip_prefix(&format!("begin {id} ")).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| self.broken(&format!("said {begin:?} about script {id}")))?;
        let stdout = self.text(until, "-")?;
        let stderr = self.text(until, &format!("end {id}"))?;
        let output = Output { code, stdout, stderr };
        log::debug!("{}, script {id}: {output:#?}", self.kernel.release);
        Ok(output)
    }

    /// Lines of base64 up to a certain one.
    fn text(&self, until: Instant, end: &str) -> Result<String, Error> {
        let mut bytes = Vec::new();
        loop {
            let line = self.line(until, "was to hand over what a script wrote")?;
            if line == end {
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            let decoded = BASE64.decode(&line).map_err(|error| self.broken(&format!("said {line:?}: {error}")))?;
            bytes.extend(decoded);
        }
    }

    fn line(&self, until: Instant, expected: &str) -> Result<String, Error> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            match self.process.line(TICK) {
                Ok(line) => return Ok(line),
                Err(Silence::Forever) => {
                    self.process.await_last_words();
                    return Err(self.broken(&format!("{expected}, and is gone")));
                }
                Err(Silence::Yet) if Instant::now() > until => {
                    return Err(self.broken(&format!("{expected}, and is silent")));
                }
                Err(Silence::Yet) => {}
            }
        }
    }

    fn broken(&self, problem: &str) -> Error {
        let Kernel { release, .. } = &self.kernel;
        Error::Guest { kernel: release.clone(), problem: problem.to_owned(), console: self.console() }
    }
}

fn arguments(kernel: &Kernel, initramfs: &OwnedFd, outside: &Outside) -> Vec<String> {
    // A crash ends the guest, and with it QEMU: nobody waits for it.
    let line = format!("console=ttyS0 quiet panic=-1 oops=panic wiretick.seconds={}", LIFE.as_secs());
    let (image, memory) = (kernel.image.display().to_string(), format!("/proc/self/fd/{}", initramfs.as_raw_fd()));
    let fixed = [
        // Without KVM everywhere: what is shown on one machine is shown on all.
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max",
        "-machine",
        "q35",
        "-smp",
        "2",
        "-m",
        "512",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "file:/dev/stderr",
        "-serial",
        "stdio",
        "-kernel",
        &image,
        "-initrd",
        &memory,
        "-append",
        &line,
    ];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
    for nic in Nic::ALL {
        let netdev = format!("n{}", nic.number());
        let ends: Vec<_> = outside.tap(nic).queues().iter().map(|end| end.as_raw_fd().to_string()).collect();
        let ends = if ends.len() == 1 { format!("fd={}", ends[0]) } else { format!("fds={}", ends.join(":")) };
        arguments.extend(["-netdev".to_owned(), format!("tap,id={netdev},{ends}")]);
        arguments.extend(["-device".to_owned(), nic.device(&netdev)]);
    }
    arguments
}

/// Finds each card by its address, names it, and brings it up with its VLAN.
fn set_up() -> String {
    let mut script = String::from("set -e\n");
    for nic in Nic::ALL {
        let (interface, mac) = (nic.interface(), colons(nic.mac()));
        // All flows on queue 0, except where a scenario is about queues. Once the card is up: at its first time, igb writes a
        // table of its own (igb_setup_mrqc). virtio-net has one since Linux 5.18.
        let queues = if nic.has_table() {
            format!("ethtool -X {interface} equal 1 || [ {interface} != igb0 ]\n")
        } else {
            String::new()
        };
        script.push_str(&format!(
            "found=\nfor card in /sys/class/net/*; do\n  \
               if [ \"$(cat $card/address)\" = {mac} ]; then found=${{card##*/}}; fi\ndone\n\
             [ -n \"$found\" ] || {{ echo {interface}: no card with the address {mac} >&2; exit 1; }}\n\
             ip link set $found name {interface}\n\
             ip link set {interface} up\n\
             {queues}"
        ));
        script.push_str(&addressed(nic));
    }
    script
}

/// Makes the VLAN on a card, and gives both their addresses.
pub(super) fn addressed(nic: Nic) -> String {
    let card = nic.interface();
    let mut script =
        format!("ip link add link {card} name {card}.{VLAN} type vlan id {VLAN}\nip link set {card}.{VLAN} up\n");
    for (tagged, interface) in [(false, card.to_owned()), (true, format!("{card}.{VLAN}"))] {
        let addresses = nic.addresses(tagged);
        script.push_str(&format!(
            "ip address add {}/24 dev {interface}\nip address add {}/64 dev {interface} nodad\n",
            addresses.guest, addresses.guest_v6
        ));
    }
    script
}
