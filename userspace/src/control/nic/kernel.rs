//! Which kernel this is, and how it was built.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The oldest kernel on which the bypass is supported.
///
/// 5.15, a kernel with long-term support. Everything the bypass cannot do without is older: `bpf_link` for XDP is of 5.9, `CAP_BPF` of 5.8,
/// memory of BPF maps that counts for the cgroup and not for `RLIMIT_MEMLOCK` of 5.11. Older kernels may work, and nobody has tried.
pub const OLDEST: Version = Version { major: 5, minor: 15 };

/// Runs an XDP program over a frame as if it had arrived (`BPF_F_TEST_XDP_LIVE_FRAMES`). Before, frames that wait in the ring when a connection goes
/// home are sent again by the peer.
pub const LIVE_FRAMES: Version = Version { major: 5, minor: 18 };

/// Tells the XDP features of a driver. Before, all that can be done is to try.
pub const XDP_FEATURES: Version = Version { major: 6, minor: 3 };

/// A kernel's version, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second one.
    pub minor: u32,
}

impl Version {
    /// Reads the beginning of a release, such as `6.1.0-18-amd64`.
    #[must_use]
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Some(Self { major, minor }),
            _ => None,
        }
    }
}

/// The release of the running kernel, as `uname -r` prints it; empty where /proc does not tell.
#[must_use]
pub fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Why the bypass is not to be had on a kernel of this release; `None` where it is. A release that is no version is given the
/// benefit of the doubt.
#[must_use]
pub fn too_old(release: &str) -> Option<String> {
    let version = Version::parse(release)?;
    (version < OLDEST).then(|| {
        format!("Linux {version} is older than {OLDEST}, the oldest kernel the bypass supports: use --mode kernel, or a newer kernel")
    })
}

/// What the kernel was built with: the values of its options, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelConfig {
    /// Where it was read.
    pub source: PathBuf,
    options: BTreeMap<String, String>,
}

impl KernelConfig {
    /// Reads it from `/proc/config.gz`, or from `/boot/config-RELEASE`; `None` where neither can be read.
    #[must_use]
    pub fn read(release: &str) -> Option<Self> {
        Self::read_from(&[Path::new("/proc/config.gz"), &Path::new("/boot").join(format!("config-{release}"))])
    }

    fn read_from(places: &[&Path]) -> Option<Self> {
        places.iter().find_map(|place| {
            let text = contents(place).ok()?;
            Some(Self::parse(*place, &text))
        })
    }

    /// Reads the text of one, which is said to come from `source`.
    #[must_use]
    pub fn parse(source: impl Into<PathBuf>, text: &str) -> Self {
        Self { source: source.into(), options: options(text) }
    }

    /// Whether an option, without `CONFIG_`, is built in or a module.
    #[must_use]
    pub fn has(&self, option: &str) -> bool {
        matches!(self.value(option), Some("y" | "m"))
    }

    /// The value of an option, without `CONFIG_`.
    #[must_use]
    pub fn value(&self, option: &str) -> Option<&str> {
        self.options.get(option).map(String::as_str)
    }
}

fn contents(place: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = File::open(place)?;
    if place.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        io::BufReader::new(file).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn options(text: &str) -> BTreeMap<String, String> {
    let option = |line: &str| {
        let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    text.lines().filter_map(option).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn releases_are_read_and_compared() {
        for (release, expected) in [
            ("6.18.44-fc-v782", Some((6, 18))),
            ("6.1.0-18-amd64", Some((6, 1))),
            ("5.15.0-1051-aws", Some((5, 15))),
            ("5.10", Some((5, 10))),
            ("6.12+deb", Some((6, 12))),
            ("", None),
            ("next", None),
        ] {
            assert_eq!(Version::parse(release).map(|v| (v.major, v.minor)), expected, "{release}");
        }
        assert!(Version::parse("6.1").unwrap() > OLDEST && Version::parse("6.2").unwrap() < XDP_FEATURES);
        assert!(Version::parse(&release()).is_some());
    }

    #[test]
    fn an_old_kernel_is_refused_with_its_name_and_the_way_out() {
        let reason = too_old("5.10.0-28-amd64").unwrap();
        assert!(
            reason.contains("Linux 5.10") && reason.contains("5.15") && reason.contains("--mode kernel"),
            "{reason}"
        );
        assert_eq!(too_old("5.15.0"), None);
        assert_eq!(too_old("7.3.4"), None);
        assert_eq!(too_old("unknown"), None);
    }

    #[test]
    fn a_configuration_is_read_plain_and_compressed() {
        let text = "# CONFIG_VLAN_8021Q is not set\nCONFIG_XDP_SOCKETS=y\nCONFIG_VETH=m\nCONFIG_LSM=\"yama,bpf\"\n";
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("config-6.1"), folder.path().join("config.gz"));
        std::fs::write(&plain, text).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        std::fs::write(&packed, encoder.finish().unwrap()).unwrap();
        for place in [&plain, &packed] {
            let config = KernelConfig::read_from(&[Path::new("/nonexistent"), place]).unwrap();
            assert_eq!(&config.source, place);
            assert!(config.has("XDP_SOCKETS") && config.has("VETH") && !config.has("VLAN_8021Q"));
            assert_eq!(config.value("LSM"), Some("yama,bpf"));
        }
        assert_eq!(KernelConfig::read_from(&[Path::new("/nonexistent")]), None);
    }
}
