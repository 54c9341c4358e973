//! Captured exchange traffic: finding the files and reading them.
//!
//! The captures are not part of the project (an exchange's terms may forbid handing its data on), so they can be absent.
//! [`Feeds::find`] then answers [`Error::Missing`], whose text a test shows as the reason why it was skipped.
//!
//! What comes in is a file of lines, gzipped or plain: one message per line, or one arrival time per line. What goes out
//! are the same bytes, line by line; nothing is parsed, trimmed or repaired.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

/// The variable that names the folder of captures.
pub const FOLDER_VARIABLE: &str = "WIRETICK_FEEDS";

/// Why a capture could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no folder of captures on this machine. Not a failure: tests that need one are skipped.
    #[error("captured feeds are missing: no folder {folder} (set {FOLDER_VARIABLE})")]
    Missing {
        /// Where it was looked for.
        folder: String,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel or the decompressor said.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{path}, line {line}: {problem}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Messages and arrival times do not belong together.
    #[error("{messages} messages, but {arrivals} arrival times")]
    Mismatch {
        /// Lines of the one file.
        messages: usize,
        /// Lines of the other.
        arrivals: usize,
    },
}

/// The folder of captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feeds {
    folder: PathBuf,
}

impl Feeds {
    /// Looks for the folder: where `WIRETICK_FEEDS` says, else `../shared/feeds` beside the workspace.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] where there is no such folder.
    pub fn find() -> Result<Self, Error> {
        let folder = std::env::var_os(FOLDER_VARIABLE)
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/feeds"), PathBuf::from);
        if folder.is_dir() { Ok(Self { folder }) } else { Err(Error::Missing { folder: folder.display().to_string() }) }
    }

    /// The path of a file in the folder.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The capture `name`: messages from `name.jsonl.gz` or `name.jsonl`, arrival times from `name.ts.gz` or `name.ts`
    /// where there are any.
    ///
    /// # Errors
    ///
    /// Where a file is absent, unreadable or malformed.
    pub fn recording(&self, name: &str) -> Result<Recording, Error> {
        let (plain, packed) = (self.path(&format!("{name}.jsonl")), self.path(&format!("{name}.jsonl.gz")));
        let messages = if packed.exists() { packed } else { plain };
        Recording::read(&messages, arrivals_beside(&messages).as_deref())
    }

    /// The names of all captures that have messages, in alphabetical order.
    ///
    /// # Errors
    ///
    /// Where the folder cannot be listed.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let list = || {
            let mut names = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let file = entry?.file_name();
                let Some(file) = file.to_str() else { continue };
                if let Some(name) = file.strip_suffix(".jsonl.gz").or_else(|| file.strip_suffix(".jsonl")) {
                    names.push(name.to_owned());
                }
            }
            names.sort_unstable();
            Ok(names)
        };
        list().map_err(|source| Error::Read { path: self.folder.clone(), source })
    }
}

/// The file of arrival times that belongs to a file of messages: `x.ts` or `x.ts.gz` beside `x.jsonl` or `x.jsonl.gz`.
#[must_use]
pub fn arrivals_beside(messages: &Path) -> Option<PathBuf> {
    let file = messages.file_name()?.to_str()?;
    let name = file.strip_suffix(".gz").unwrap_or(file).strip_suffix(".jsonl")?;
    ["ts", "ts.gz"].map(|ending| messages.with_file_name(format!("{name}.{ending}"))).into_iter().find(|it| it.exists())
}

/// Messages in the order in which they arrived, perhaps with the times at which they did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// One message per line.
    pub messages: Lines,
    /// Arrival times in nanoseconds, as many as messages. They are the collector's: where its clock was set back, a
    /// message has an earlier time than the one before it.
    pub arrivals: Option<Vec<u64>>,
}

impl Recording {
    /// Reads messages, and arrival times if their file is given.
    ///
    /// # Errors
    ///
    /// Where a file is unreadable, or the two do not belong together.
    pub fn read(messages: &Path, arrivals: Option<&Path>) -> Result<Self, Error> {
        let messages = Lines::read(messages)?;
        let arrivals = arrivals.map(read_arrivals).transpose()?;
        if let Some(arrivals) = &arrivals
            && arrivals.len() != messages.len()
        {
            return Err(Error::Mismatch { messages: messages.len(), arrivals: arrivals.len() });
        }
        Ok(Self { messages, arrivals })
    }
}

/// The lines of a file, without their ends, in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    bytes: Vec<u8>,
    /// Where each line ends, its newline not included.
    ends: Vec<usize>,
}

impl Lines {
    /// Reads a file, gzipped or plain: its first two bytes say which, not its name.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let read = || {
            let mut file = BufReader::new(File::open(path)?);
            let mut bytes = Vec::new();
            if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
                MultiGzDecoder::new(file).read_to_end(&mut bytes)?;
            } else {
                file.read_to_end(&mut bytes)?;
            }
            Ok(bytes)
        };
        read().map(Self::new).map_err(|source| Error::Read { path: path.to_owned(), source })
    }

    /// Splits bytes at newlines. A newline at the very end closes the last line and begins no other.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        let mut ends: Vec<usize> =
            bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        if bytes.last().is_some_and(|byte| *byte != b'\n') {
            ends.push(bytes.len());
        }
        Self { bytes, ends }
    }

    /// How many lines there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of one line. `None` past the last.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] + 1 };
        Some(&self.bytes[start..end])
    }

    /// All lines in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

/// Reads a file of arrival times: one decimal number of nanoseconds per line.
///
/// # Errors
///
/// Where it cannot be read, or a line is not such a number.
pub fn read_arrivals(path: &Path) -> Result<Vec<u64>, Error> {
    let lines = Lines::read(path)?;
    let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse().ok();
    let arrivals = lines.iter().enumerate().map(|(index, line)| {
        let problem = "not a number of nanoseconds";
        number(line).ok_or_else(|| Error::Format { path: path.to_owned(), line: index + 1, problem })
    });
    arrivals.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_come_back_byte_for_byte() {
        let lines = Lines::new(b"{\"a\":1}\n\n  x\r\nlast".to_vec());
        let all: Vec<&[u8]> = lines.iter().collect();
        assert_eq!(all, [&b"{\"a\":1}"[..], b"", b"  x\r", b"last"]);
        assert_eq!(lines.get(4), None);
        assert_eq!(Lines::new(b"a\n".to_vec()).len(), 1);
        assert!(Lines::new(Vec::new()).is_empty());
    }

    #[test]
    fn gzip_is_known_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("plain.gz"), folder.path().join("packed"));
        fs::write(&plain, "1\n2\n").unwrap();
        let mut gzip = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
        gzip.write_all(b"1\n2\n").unwrap();
        gzip.finish().unwrap();
        assert_eq!(Lines::read(&plain).unwrap(), Lines::read(&packed).unwrap());
        assert_eq!(read_arrivals(&packed).unwrap(), [1, 2]);
    }

    #[test]
    fn arrival_times_that_make_no_sense_are_refused_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.ts");
        for (content, problem) in [
            ("1\nx\n", "line 2: not a number of nanoseconds"),
            ("1\n-3\n", "line 2: not a number of nanoseconds"),
            ("1\n\n", "line 2: not a number"),
        ] {
            fs::write(&file, content).unwrap();
            let told = read_arrivals(&file).unwrap_err().to_string();
            assert!(told.contains(problem), "{told}");
        }
        fs::write(folder.path().join("x.jsonl"), "{}\n").unwrap();
        fs::write(&file, "1\n2\n").unwrap();
        let told = Recording::read(&folder.path().join("x.jsonl"), Some(&file)).unwrap_err().to_string();
        assert_eq!(told, "1 messages, but 2 arrival times");
    }
}
