//! The archive that the kernel unpacks as its first file system: cpio in the form "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! What comes in are folders, files and devices; what goes out are bytes. Several archives, one behind the other, are one for
//! the kernel.

use std::collections::BTreeSet;
use std::path::Path;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// An archive that is being written.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// A folder, and those above it. A second time it is not written again.
    pub(super) fn folder(&mut self, path: &str) {
        let path = path.trim_matches('/');
        if path.is_empty() || self.folders.contains(path) {
            return;
        }
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.folders.insert(path.to_owned());
        self.entry(path, FOLDER | 0o755, (0, 0), &[]);
    }

    /// A file, with the folders above it.
    pub(super) fn file(&mut self, path: &str, executable: bool, content: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some(above) = Path::new(path).parent().and_then(Path::to_str) {
            self.folder(above);
        }
        self.entry(path, FILE | if executable { 0o755 } else { 0o644 }, (0, 0), content);
    }

    /// A character device.
    pub(super) fn device(&mut self, path: &str, major: u32, minor: u32) {
        let path = path.trim_start_matches('/');
        if let Some((above, _)) = path.rsplit_once('/') {
            self.folder(above);
        }
        self.entry(path, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// The archive, whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.inode += 1;
        let (content_bytes, name_bytes) = (content.len() as u32, name.len() as u32 + 1);
        self.bytes.extend_from_slice(b"070701");
        // Inode, mode, owner, group, links, time, size, device of the file, device that it is, name, checksum.
        for field in [self.inode, mode, 0, 0, 1, 0, content_bytes, 0, 0, major, minor, name_bytes, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents begin at multiples of 4.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_the_form_of_the_kernels_documentation() {
        let mut archive = Archive::default();
        archive.file("a/b", true, b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        // The folder first: 110 bytes of header, name and its end, padding to 4.
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
        assert_eq!(&bytes[110..112], b"a\0");
        let file = &bytes[112..];
        assert_eq!(&file[..22], b"07070100000002000081ed");
        assert_eq!(&file[54..62], b"00000005", "the size");
        assert_eq!(&file[94..102], b"00000004", "the length of the name, its end included");
        assert_eq!(&file[110..116], b"a/b\0\0\0");
        assert_eq!(&file[116..124], b"hello\0\0\0");
        assert_eq!(bytes.len() % 4, 0);
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }

    #[test]
    fn folders_are_written_once() {
        let mut archive = Archive::default();
        archive.file("/usr/bin/x", true, b"");
        archive.file("/usr/bin/y", true, b"");
        let text = String::from_utf8(archive.finish()).unwrap();
        assert_eq!(text.matches("usr/bin\0").count(), 1);
    }
}
