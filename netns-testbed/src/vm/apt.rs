//! Packages of other Debian releases than this machine's, from the mirror that this machine uses.
//!
//! What comes in is the name of a release; what goes out are names of packages that it has, and their files. Everything apt
//! needs for that lies in a folder of its own: the machine's lists, settings and installed packages are left alone, and only
//! its proxies and passwords are used. apt verifies the release's signature with Debian's keys, and each file by the
//! release's digests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::Error;
use super::error::system;
use super::tools;

/// Debian's keys, from the package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Names a mirror of Debian where the machine's own settings have none (on Ubuntu).
pub const MIRROR_VARIABLE: &str = "WIRETICK_DEBIAN_MIRROR";
/// How old a list of packages may be. Debian's mirrors are written four times a day; kernels come less often.
const LIST_AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// One release on the mirror.
#[derive(Debug)]
pub(super) struct Release {
    name: &'static str,
    folder: PathBuf,
}

impl Release {
    /// Sets up the folder for it below `folder`.
    pub(super) fn open(name: &'static str, folder: &Path) -> Result<Self, Error> {
        if !Path::new(KEYRING).exists() {
            return Err(Error::missing(
                format!("Debian's keys ({KEYRING}) are not there"),
                "apt-get install debian-archive-keyring",
            ));
        }
        let release = Self { name, folder: folder.join(name) };
        for part in ["parts", "lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(release.folder.join(part)).map_err(system("making a folder for apt"))?;
        }
        let source = format!("deb [signed-by={KEYRING} arch=amd64] {} {name} main\n", mirror()?);
        release.write("status", "")?;
        release.write("sources.list", &source)?;
        Ok(release)
    }

    fn write(&self, file: &str, text: &str) -> Result<(), Error> {
        fs::write(self.folder.join(file), text).map_err(system("writing apt's settings"))
    }

    /// Fetches the list of packages, unless there is one that is new enough.
    pub(super) fn refresh(&self) -> Result<(), Error> {
        let stamp = self.folder.join("refreshed");
        let age = fs::metadata(&stamp)
            .and_then(|it| it.modified())
            .ok()
            .and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age < LIST_AGE_MAX) {
            return Ok(());
        }
        self.apt("apt-get", &["update", "-q"], None)?;
        self.write("refreshed", "")
    }

    /// The names of all packages that begin so.
    pub(super) fn names(&self, beginning: &str) -> Result<Vec<String>, Error> {
        let names = self.apt("apt-cache", &["pkgnames", beginning], None)?;
        Ok(String::from_utf8_lossy(&names).lines().map(str::to_owned).collect())
    }

    /// The version of a package. `None` where it is known by name only.
    pub(super) fn version(&self, package: &str) -> Result<Option<String>, Error> {
        let told = self.apt("apt-cache", &["madison", package], None)?;
        // package | version | source
        Ok(String::from_utf8_lossy(&told)
            .lines()
            .next()
            .and_then(|line| Some(line.split('|').nth(1)?.trim().to_owned())))
    }

    /// Fetches the files of packages into a folder, checked against the release.
    pub(super) fn download(&self, packages: &[String], into: &Path) -> Result<(), Error> {
        let words: Vec<&str> = ["download", "-q"].into_iter().chain(packages.iter().map(String::as_str)).collect();
        self.apt("apt-get", &words, Some(into)).map(drop)
    }

    fn apt(&self, program: &str, words: &[&str], in_folder: Option<&Path>) -> Result<Vec<u8>, Error> {
        let at = |part: &str| self.folder.join(part).display().to_string();
        let settings = [
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", at("parts")),
            ("Dir::Etc::preferences", at("none")),
            ("Dir::Etc::preferencesparts", at("parts")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("cache")),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
            ("Acquire::http::Timeout", "30".to_owned()),
            ("Acquire::https::Timeout", "30".to_owned()),
            ("Acquire::Retries", "2".to_owned()),
            // The folder is the caller's: apt's own user could not write there, and apt would warn of it.
            ("APT::Sandbox::User", String::new()),
        ];
        let mut arguments: Vec<String> = Vec::new();
        for (name, value) in settings {
            arguments.extend(["-o".to_owned(), format!("{name}={value}")]);
        }
        arguments.extend(words.iter().map(|&word| word.to_owned()));
        log::debug!("{program} {} ({})", words.join(" "), self.name);
        tools::output(program, &arguments, in_folder)
    }
}

/// The mirror of Debian that this machine's apt is set up with.
fn mirror() -> Result<String, Error> {
    if let Some(mirror) = std::env::var_os(MIRROR_VARIABLE) {
        return Ok(mirror.to_string_lossy().into_owned());
    }
    let format = "$(SITE)|$(ORIGIN)|$(LABEL)";
    let told = tools::text("apt-get", &["indextargets", "--format", format, "Created-By: Packages"])?;
    mirror_in(&told).ok_or_else(|| {
        Error::missing(
            "this machine's apt knows no mirror of Debian (or has never fetched a list)",
            format!("apt-get update, or name a mirror in {MIRROR_VARIABLE}"),
        )
    })
}

fn mirror_in(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let (site, rest) = line.split_once('|')?;
        // Security updates are another archive.
        (rest == "Debian|Debian").then(|| site.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_the_one_that_has_debian_itself() {
        let targets = "\
            http://security.test/debian-security|Debian|Debian-Security\n\
            http://other.test/tools|Somebody|Tools\n\
            http://mirror.test/debian|Debian|Debian\n";
        assert_eq!(mirror_in(targets).as_deref(), Some("http://mirror.test/debian"));
        assert_eq!(mirror_in("http://mirror.test/ubuntu|Ubuntu|Ubuntu\n"), None);
        assert_eq!(mirror_in(""), None);
    }
}
