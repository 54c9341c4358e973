//! Debian's kernels: found on the mirror, fetched once, and cut down to what a guest needs.
//!
//! What comes in is a [`Series`]; what goes out is a [`Kernel`]: its image, and the modules of `MODULES` with all that they
//! depend on, unpacked and in the order in which they are loaded. They stay in the cache, with digests that are checked each
//! time they are used.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Error;
use super::apt::Release;
use super::error::system;
use super::tools;

/// What a guest needs beyond what Debian builds in: drivers of the network cards, VLANs, and bonds (one of which is there from the
/// start, `bond0`).
const MODULES: [&str; 6] = ["virtio_pci", "virtio_net", "igb", "e1000e", "8021q", "bonding"];

/// How long a kernel is used before the mirror is asked for a newer one.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Names the cache's folder.
pub const CACHE_VARIABLE: &str = "WIRETICK_VM_CACHE";

/// A line of kernels in a release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// How it is called here.
    pub name: &'static str,
    /// The release that has it.
    pub release: &'static str,
    /// How its version begins. Empty: the newest there is.
    beginning: &'static str,
    /// Whether wiretick shall work on it.
    pub supported: bool,
}

impl Series {
    const fn new(name: &'static str, release: &'static str, beginning: &'static str, supported: bool) -> Self {
        Self { name, release, beginning, supported }
    }

    /// The one with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        SERIES.into_iter().find(|series| series.name == name)
    }

    /// Whether this series is `other` or comes later.
    #[must_use]
    pub fn is_at_least(&self, other: &str) -> bool {
        let place = |name: &str| SERIES.iter().position(|series| series.name == name);
        place(self.name) >= place(other)
    }
}

/// The newest kernel there is.
pub const NEWEST: Series = Series::new("newest", "trixie-backports", "", true);

/// All kernels that are tried, oldest first.
pub const SERIES: [Series; 5] = [
    Series::new("5.10", "bullseye", "5.10.", false),
    Series::new("6.1", "bookworm", "6.1.", true),
    Series::new("6.12", "trixie", "6.12.", true),
    Series::new("6.18", "trixie-backports", "6.18.", true),
    NEWEST,
];

/// A kernel that can be booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The series it is of.
    pub series: Series,
    /// What `uname -r` says in it.
    pub release: String,
    /// The version of Debian's package.
    pub package: String,
    /// The image.
    pub image: PathBuf,
    /// Modules, each behind those that it needs.
    pub modules: Vec<PathBuf>,
}

/// The folder for kernels and for apt: what the variable names, else `vm` in the folder `target` that this program lies in,
/// else in the user's cache.
#[must_use]
pub fn cache() -> PathBuf {
    if let Some(folder) = std::env::var_os(CACHE_VARIABLE) {
        return PathBuf::from(folder);
    }
    let own = std::env::current_exe().unwrap_or_default();
    if let Some(target) = own.ancestors().find(|folder| folder.ends_with("target")) {
        return target.join("vm");
    }
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    caches.unwrap_or_else(std::env::temp_dir).join("wiretick/vm")
}

impl Kernel {
    /// The newest kernel of a series: from the cache where that has been asked for in the last seven days, or where the
    /// mirror cannot be reached; otherwise from the mirror.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] where apt, Debian's keys or the series are not to be had; those of the programs that unpack it.
    pub fn fetch(series: Series) -> Result<Self, Error> {
        let cache = cache();
        fs::create_dir_all(&cache).map_err(system(format!("making {}", cache.display())))?;
        let lock = File::create(cache.join("lock")).map_err(system("making a lock file"))?;
        lock.lock().map_err(system("waiting for another process that fetches kernels"))?;
        let folder = cache.join("kernels").join(series.name);
        let cached = Self::cached(series, &folder);
        if let Some((kernel, age)) = &cached
            && *age < KEPT
        {
            return Ok(kernel.clone());
        }
        match Self::renew(series, &cache, &folder) {
            Ok(kernel) => Ok(kernel),
            Err(error) => match cached {
                Some((kernel, _)) => {
                    log::warn!("no newer kernel {}: {error}; using {}", series.name, kernel.package);
                    Ok(kernel)
                }
                None => Err(error),
            },
        }
    }

    /// What the cache has, whole and unchanged, and its age.
    fn cached(series: Series, folder: &Path) -> Option<(Self, Duration)> {
        let about = fs::read_to_string(folder.join("about")).ok()?;
        let mut lines = about.lines();
        let (release, package, modules) = (lines.next()?, lines.next()?, lines.next()?);
        if modules != MODULES.join(" ") {
            return None;
        }
        tools::output("sha256sum", &["--check", "--quiet", "--strict", "digests"], Some(folder)).ok()?;
        let at = fs::metadata(folder.join("about")).and_then(|it| it.modified()).ok()?;
        let kernel = Self {
            series,
            release: release.to_owned(),
            package: package.to_owned(),
            image: folder.join("vmlinuz"),
            modules: lines.map(|name| folder.join(name)).collect(),
        };
        Some((kernel, SystemTime::now().duration_since(at).unwrap_or_default()))
    }

    fn renew(series: Series, cache: &Path, folder: &Path) -> Result<Self, Error> {
        let source = Release::open(series.release, &cache.join("apt"))?;
        source.refresh()?;
        let release = newest(series, &source.names("linux-image-")?).ok_or_else(|| {
            let what = format!("Debian {} has no kernel {}", series.release, series.name);
            Error::missing(what, "it has moved on: change the table in netns-testbed/src/vm/kernel.rs")
        })?;
        // One package up to some version; later image and modules are apart, and the list of what is built in as well.
        let mut packages = Vec::new();
        let mut version = String::new();
        for part in ["image", "binary", "modules", "base"] {
            let package = format!("linux-{part}-{release}");
            if let Some(found) = source.version(&package)? {
                version = found;
                packages.push(package);
            }
        }
        log::info!("fetching kernel {release}");
        let work = tempfile::tempdir_in(cache).map_err(system("a temporary folder"))?;
        source.download(&packages, work.path())?;
        let tree = work.path().join("tree");
        unpack(work.path(), &tree)?;
        let kept = work.path().join("kept");
        fs::create_dir(&kept).map_err(system("a folder for the kernel"))?;
        let modules = keep(&tree, &release, &kept)?;
        let about = format!("{release}\n{version}\n{}\n{}\n", MODULES.join(" "), modules.join("\n"));
        let files: Vec<&str> = ["vmlinuz"].into_iter().chain(modules.iter().map(String::as_str)).collect();
        let digests = tools::output("sha256sum", &files, Some(&kept))?;
        let write =
            |name: &str, bytes: &[u8]| fs::write(kept.join(name), bytes).map_err(system("writing to the cache"));
        write("digests", &digests)?;
        write("about", about.as_bytes())?;
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.parent().unwrap_or(cache)).map_err(system("making a folder"))?;
        fs::rename(&kept, folder).map_err(system("moving a kernel to the cache"))?;
        let problem = "it is not what was just written".to_owned();
        Self::cached(series, folder)
            .map(|(kernel, _)| kernel)
            .ok_or_else(|| Error::Package { path: folder.to_owned(), problem })
    }
}

/// Of these packages, the release of the newest kernel of a series.
fn newest(series: Series, packages: &[String]) -> Option<String> {
    let releases = packages.iter().filter_map(|name| name.strip_prefix("linux-image-"));
    releases
        .filter(|release| release.starts_with(series.beginning))
        .filter_map(|release| Some((numbers(release.strip_suffix("-amd64")?)?, release)))
        .max()
        .map(|(_, release)| release.to_owned())
}

/// `6.12.117+deb13` and `6.1.0-50` as numbers. `None` for other flavours, such as `6.1.0-50-cloud`, and what is no kernel.
fn numbers(release: &str) -> Option<Vec<u32>> {
    let (version, debian) = release.split_once("+deb").unwrap_or((release, "0"));
    version.split(['.', '-']).chain(debian.split('.')).map(|part| part.parse().ok()).collect()
}

fn unpack(packages: &Path, tree: &Path) -> Result<(), Error> {
    fs::create_dir(tree).map_err(system("a folder to unpack in"))?;
    for entry in fs::read_dir(packages).map_err(system("listing packages"))? {
        let path = entry.map_err(system("listing packages"))?.path();
        if path.extension().is_some_and(|it| it == "deb") {
            tools::output("dpkg-deb", &[Path::new("--extract"), &path, tree], None)?;
            // 170 MB that are not needed any more.
            fs::remove_file(&path).map_err(system("removing a package"))?;
        }
    }
    Ok(())
}

/// Copies the image and the modules that are needed. Answers the modules' names in the order in which they are loaded.
fn keep(tree: &Path, release: &str, kept: &Path) -> Result<Vec<String>, Error> {
    let modules = ["lib/modules", "usr/lib/modules"].map(|part| tree.join(part).join(release));
    let [old, new] = &modules;
    // Later releases have no /lib beside /usr/lib, but depmod looks there.
    if !old.exists() {
        fs::create_dir_all(tree.join("lib/modules")).map_err(system("a folder for modules"))?;
        fs::rename(new, old).map_err(system("moving modules"))?;
    }
    let folder = old;
    let images = [tree.join(format!("boot/vmlinuz-{release}")), folder.join("vmlinuz")];
    let lacks = |problem: &str| Error::Package { path: tree.to_owned(), problem: problem.to_owned() };
    let image = images.iter().find(|path| path.exists()).ok_or_else(|| lacks("there is no kernel image in it"))?;
    fs::copy(image, kept.join("vmlinuz")).map_err(system("copying a kernel"))?;

    tools::output("depmod", &[Path::new("-b"), tree, Path::new(release)], None)?;
    let read = |name: &str| fs::read_to_string(folder.join(name)).map_err(system(format!("reading {name}")));
    let order = load_order(&read("modules.dep")?, &read("modules.builtin")?, &MODULES)
        .map_err(|module| lacks(&format!("there is no module {module} in it")))?;
    let mut names = Vec::new();
    for module in order {
        let path = folder.join(&module);
        let file = Path::new(&module).file_name().unwrap_or_default().to_string_lossy();
        let name = file.strip_suffix(".xz").unwrap_or(&file).to_owned();
        let bytes = if *file == *name {
            fs::read(&path).map_err(system("reading a module"))?
        } else {
            tools::output("xz", &[Path::new("--decompress"), Path::new("--stdout"), &path], None)?
        };
        fs::write(kept.join(&name), bytes).map_err(system("writing a module"))?;
        names.push(name);
    }
    Ok(names)
}

/// The modules to load for `wanted`, as paths, each behind those it needs: from `modules.dep` and `modules.builtin`
/// (depmod(8)).
///
/// # Errors
///
/// The module that is in neither.
fn load_order<'a>(dependencies: &str, built_in: &str, wanted: &[&'a str]) -> Result<Vec<String>, &'a str> {
    let name_of = |path: &str| {
        let file = path.rsplit('/').next().unwrap_or_default();
        // Names have `-` in files and `_` elsewhere, or the other way round.
        file.split(".ko").next().unwrap_or_default().replace('-', "_")
    };
    // A line is `path: dependency dependency ...`, the dependencies complete, the first one needed last.
    let lines: HashMap<String, (&str, Vec<&str>)> = dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(path, needs)| (name_of(path), (path, needs.split_whitespace().collect())))
        .collect();
    let mut order: Vec<String> = Vec::new();
    for &module in wanted {
        let Some((path, needs)) = lines.get(&name_of(module)) else {
            if built_in.lines().any(|path| name_of(path) == name_of(module)) {
                continue;
            }
            return Err(module);
        };
        for path in needs.iter().rev().chain([path]) {
            if !order.iter().any(|it| it == path) {
                order.push((*path).to_owned());
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_by_number_and_only_of_the_common_flavour() {
        let names = [
            "linux-image-amd64",
            "linux-image-6.18.9+deb13-amd64",
            "linux-image-6.18.15+deb13-amd64",
            "linux-image-6.18.15+deb13-rt-amd64",
            "linux-image-6.18.20+deb13-cloud-amd64",
            "linux-image-6.18.20+deb13-amd64-unsigned",
            "linux-image-7.2.12+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64",
            "linux-image-7.3.4+deb13-amd64-dbg",
        ]
        .map(str::to_owned);
        let of = |name: &str| newest(Series::named(name).unwrap(), &names);
        assert_eq!(of("6.18").as_deref(), Some("6.18.15+deb13-amd64"));
        assert_eq!(of("newest").as_deref(), Some("7.3.4+deb13-amd64"));
        assert_eq!(of("6.1"), None, "6.18 is not 6.1");
        let old = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-47-amd64"].map(str::to_owned);
        assert_eq!(newest(Series::named("6.1").unwrap(), &old).as_deref(), Some("6.1.0-47-amd64"));
    }

    #[test]
    fn modules_come_behind_what_they_need_and_once() {
        let dependencies = "\
            kernel/a/igb.ko.xz: kernel/b/i2c-algo-bit.ko.xz kernel/c/dca.ko.xz\n\
            kernel/b/i2c-algo-bit.ko.xz:\n\
            kernel/c/dca.ko.xz:\n\
            kernel/d/virtio_net.ko: kernel/d/net_failover.ko kernel/d/failover.ko\n\
            kernel/d/net_failover.ko: kernel/d/failover.ko\n\
            kernel/d/failover.ko:\n";
        let order = load_order(dependencies, "kernel/e/virtio_pci.ko\n", &["virtio-pci", "virtio_net", "igb"]).unwrap();
        let names: Vec<_> = order.iter().map(|path| path.rsplit('/').next().unwrap()).collect();
        assert_eq!(
            names,
            ["failover.ko", "net_failover.ko", "virtio_net.ko", "dca.ko.xz", "i2c-algo-bit.ko.xz", "igb.ko.xz"]
        );
        assert_eq!(load_order(dependencies, "", &["e1000e"]), Err("e1000e"));
    }

    #[test]
    fn series_are_in_order() {
        let series = |name| Series::named(name).unwrap();
        assert!(series("6.18").is_at_least("6.12") && series("newest").is_at_least("newest"));
        assert!(!series("6.1").is_at_least("6.12"));
    }
}
