//! Compiles the XDP programs: the plain one, the one that is bound to a device, and the one that only a measurement uses: `src/bpf/NAME.bpf.c` goes in, `NAME.bpf.o` in
//! `OUT_DIR` comes out, which `src/lib.rs` embeds.
//!
//! It needs clang and the kernel's UAPI headers (`apt install clang linux-libc-dev`), nothing else. `CLANG` names
//! another compiler than the `clang` in the path. Tried with clang 14, 16 and 19.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE_DIR: &str = "src/bpf";
const PROGRAMS: [&str; 3] = ["wiretick", "bound", "floor"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A folder stands for every file in it.
    println!("cargo::rerun-if-changed={SOURCE_DIR}");
    println!("cargo::rerun-if-env-changed=CLANG");

    let clang = env::var_os("CLANG").unwrap_or_else(|| OsString::from("clang"));
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    for program in PROGRAMS {
        compile(&clang, &format!("{SOURCE_DIR}/{program}.bpf.c"), &out_dir.join(format!("{program}.bpf.o")));
    }
}

fn compile(clang: &OsStr, source: &str, object: &Path) {
    let mut command = Command::new(clang);
    command
        .args(["-target", bpf_target()])
        // ALU32 and JMP32, known to kernels since 5.1. Left to itself, an older clang aims at the first BPF there was.
        .arg("-mcpu=v3")
        .arg("-O2")
        // The map definitions are BTF, and BTF is only written along with debug information.
        .arg("-g")
        .args(["-std=gnu11", "-Wall", "-Wextra"])
        // Some distributions switch it on for every target; BPF has no place for the guard.
        .arg("-fno-stack-protector")
        // The object is embedded in binaries that travel: it must not say where it was built.
        .arg(format!("-ffile-prefix-map={}=.", env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR")))
        .args(arch_headers())
        .args(["-c", source, "-o"])
        .arg(object);

    let output = command.output().unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => panic!(
            "the XDP program is C and needs clang, but {clang:?} was not found: `apt install clang` \
             (or set CLANG to where it is)"
        ),
        _ => panic!("{clang:?} could not be started: {error}"),
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{clang:?} did not compile {source} ({}). If a header is missing: `apt install linux-libc-dev`. If it cannot \
         compile for BPF: clang 14 or newer can.\n{said}",
        output.status
    );
    for line in said.lines() {
        println!("cargo::warning={line}");
    }
}

/// clang's name for BPF in the byte order of the machine that will run the program.
fn bpf_target() -> &'static str {
    match env::var("CARGO_CFG_TARGET_ENDIAN").as_deref() {
        Ok("big") => "bpfeb",
        _ => "bpfel",
    }
}

/// Where Debian and its descendants keep `asm/types.h`: in a folder named after the architecture, which clang looks up
/// for its own target only, and BPF has none. Elsewhere the folder does not exist and clang finds `asm` by itself.
///
/// The target's headers are preferred; when cross-compiling without them, those of the building machine serve as well,
/// since all the program takes from them are the fixed-width integers.
fn arch_headers() -> Vec<OsString> {
    let target = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let host = env::var("HOST").unwrap_or_default();
    let host = host.split('-').next().unwrap_or_default();
    [target.as_str(), host]
        .into_iter()
        .map(|arch| Path::new("/usr/include").join(format!("{arch}-linux-gnu")))
        .find(|folder| folder.join("asm/types.h").exists())
        .map(|folder| vec![OsString::from("-idirafter"), folder.into_os_string()])
        .unwrap_or_default()
}
