//! What the figures depend on beside the code.
//!
//! AWS-LC, simd-json, simdutf8 and glibc's memcpy choose their code by the processor's features when they run. Under
//! valgrind that is the processor valgrind plays: the host's, less what valgrind does not know (no AVX-512 as of 3.19), so
//! two x86-64 machines with AVX2 mostly take the same code.

use std::collections::BTreeMap;
use std::process::Command;

use super::callgrind;

/// Names and versions, as they are kept beside the figures.
pub(crate) fn made_with() -> Result<BTreeMap<String, String>, String> {
    let asked: [(&str, &[&str]); 4] = [
        ("rustc", &["rustc", "--version"]),
        ("C compiler", &["cc", "--version"]),
        ("libc", &["getconf", "GNU_LIBC_VERSION"]),
        ("valgrind", &["valgrind", "--version"]),
    ];
    let mut made_with: BTreeMap<String, String> =
        asked.iter().map(|(name, command)| ((*name).to_owned(), first_line(command))).collect();
    made_with.insert("processor under valgrind".to_owned(), callgrind::answer(&["features"])?.trim().to_owned());
    Ok(made_with)
}

fn first_line(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or("unknown").to_owned()
}

/// The architecture, and those of its features that somebody below chooses code by, as they are seen where this runs.
pub(crate) fn features() -> String {
    let mut features = vec![std::env::consts::ARCH];
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! look {
            ($($feature:tt)*) => {
                $(if std::arch::is_x86_feature_detected!($feature) {
                    features.push($feature);
                })*
            };
        }
        look!("sse4.2" "ssse3" "popcnt" "pclmulqdq" "aes" "avx" "avx2" "bmi1" "bmi2" "adx" "movbe" "fma" "sha" "vaes" "vpclmulqdq" "avx512f" "avx512bw" "avx512vl");
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! look {
            ($($feature:tt)*) => {
                $(if std::arch::is_aarch64_feature_detected!($feature) {
                    features.push($feature);
                })*
            };
        }
        look!("neon" "aes" "pmull" "sha2" "sha3" "sve");
    }
    features.join(" ")
}
