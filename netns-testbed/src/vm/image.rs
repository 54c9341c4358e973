//! What is in a guest: busybox and a shell, the programs under test with the shared libraries they are linked to here, a few
//! of this machine's tools, and the kernel's modules.
//!
//! What comes in are a [`Kernel`] and a [`Payload`]; what goes out is an initramfs in memory, which has no name in any file
//! system and is gone with whoever holds it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, memfd_create};

use super::Error;
use super::cpio::Archive;
use super::error::system;
use super::kernel::Kernel;
use super::tools;

/// The guest's first process.
const INIT: &str = include_str!("init.sh");

/// Tools of this machine, and where each lies in the guest. busybox has a poorer `ip`, which stays in the shadow of ours.
const TOOLS: [(&str, &str); 4] =
    [("busybox", "bin/busybox"), ("dash", "bin/sh"), ("ip", "usr/sbin/ip"), ("ethtool", "usr/sbin/ethtool")];

/// What a guest has beside its kernel, ready to be copied into any number of them.
#[derive(Clone, Debug)]
pub struct Payload {
    archive: Vec<u8>,
}

impl Payload {
    /// Collects the tools, `programs` (in `/usr/bin`, under their own names) and `files` (path and content).
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] where a tool is not there.
    pub fn new(programs: &[PathBuf], files: &[(&str, &[u8])]) -> Result<Self, Error> {
        let mut archive = Archive::default();
        for folder in ["proc", "sys", "dev", "run", "tmp", "etc", "modules"] {
            archive.folder(folder);
        }
        // The kernel opens it for the first process before that can mount anything.
        archive.device("dev/console", 5, 1);
        archive.file("init", true, INIT.as_bytes());
        let mut libraries = BTreeSet::new();
        let mut add = |archive: &mut Archive, path: &Path, place: &str| {
            libraries.extend(libraries_of(path)?);
            archive.file(place, true, &stripped(path)?);
            Ok::<_, Error>(())
        };
        for (tool, place) in TOOLS {
            add(&mut archive, &tools::find(tool)?, place)?;
        }
        for program in programs {
            let name = program.file_name().unwrap_or_default().to_string_lossy();
            add(&mut archive, program, &format!("usr/bin/{name}"))?;
        }
        for library in libraries {
            let content = fs::read(&library).map_err(system(format!("reading {library}")))?;
            archive.file(&library, true, &content);
        }
        for (path, content) in files {
            archive.file(path, false, content);
        }
        Ok(Self { archive: archive.finish() })
    }

    /// The file system of a guest with this kernel.
    pub(super) fn initramfs(&self, kernel: &Kernel) -> Result<OwnedFd, Error> {
        let mut modules = Archive::default();
        let mut order = String::new();
        for path in &kernel.modules {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let content = fs::read(path).map_err(system(format!("reading {}", path.display())))?;
            modules.file(&format!("modules/{name}"), false, &content);
            order.push_str(&name);
            order.push('\n');
        }
        modules.file("modules/order", false, order.as_bytes());
        let write = || {
            let memory = memfd_create("initramfs", MemfdFlags::CLOEXEC)?;
            for part in [&self.archive, &modules.finish()] {
                let mut rest = &part[..];
                while !rest.is_empty() {
                    let written = rustix::io::write(&memory, rest)?;
                    rest = &rest[written..];
                }
            }
            Ok::<_, io::Error>(memory)
        };
        write().map_err(system("writing the initramfs to memory"))
    }
}

/// The shared libraries that a program is linked to on this machine, the loader among them.
fn libraries_of(program: &Path) -> Result<Vec<String>, Error> {
    match tools::text("ldd", &[program]) {
        Ok(told) => Ok(libraries_in(&told)),
        // A static program: ldd says so and fails.
        Err(Error::Program { said, .. }) if said.contains("not a dynamic executable") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn libraries_in(told: &str) -> Vec<String> {
    told.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// A program without its debugging information, which would be most of it.
fn stripped(program: &Path) -> Result<Vec<u8>, Error> {
    let copy = tempfile::NamedTempFile::new().map_err(system("a temporary file"))?;
    tools::output("strip", &[Path::new("-o"), copy.path(), program], None)?;
    fs::read(copy.path()).map_err(system("reading a program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let told = "\
            \tlinux-vdso.so.1 (0x00007ffd)\n\
            \tlibelf.so.1 => /lib/x86_64-linux-gnu/libelf.so.1 (0x00007f01)\n\
            \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f02)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f03)\n";
        let wanted =
            ["/lib/x86_64-linux-gnu/libelf.so.1", "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries_in(told), wanted);
    }
}
