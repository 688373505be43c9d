//! The archive format of an initramfs: "newc" cpio, as the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst lays it out.

/// An archive that grows entry by entry. Directories must precede what they hold.
#[derive(Default)]
pub struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

impl Cpio {
    /// Adds a directory; `path` has no leading slash.
    pub fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY, (0, 0), &[]);
    }

    /// Adds a file that everyone may execute.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, FILE, (0, 0), content);
    }

    /// Adds a character device by its major and minor number.
    pub fn device(&mut self, path: &str, number: (u32, u32)) {
        self.entry(path, CHARACTER_DEVICE, number, &[]);
    }

    /// The finished archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let name_bytes = path.len() as u32 + 1;
        // ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize check
        let (major, minor) = device;
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            major,
            minor,
            name_bytes,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    /// Names and contents end on a multiple of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Documentation` gives the header as the magic and 13 fields of 8 hex digits.
    const HEADER_BYTES: usize = 6 + 13 * 8;

    #[test]
    fn an_entry_has_the_documented_layout() {
        let mut cpio = Cpio::default();
        cpio.file("init", b"hello");
        let bytes = cpio.finish();
        let header = std::str::from_utf8(&bytes[..HEADER_BYTES]).unwrap();
        assert_eq!(&header[..22], "07070100000001000081ED");
        assert_eq!(&header[54..62], "00000005", "content bytes");
        assert_eq!(&header[94..102], "00000005", "name bytes with the final zero");
        assert_eq!(&bytes[HEADER_BYTES..][..5], b"init\0");
        let content = (HEADER_BYTES + 5).next_multiple_of(4);
        assert_eq!(&bytes[content..][..5], b"hello");
        assert_eq!(&bytes[(content + 5).next_multiple_of(4)..][..6], b"070701", "the next entry");
    }

    #[test]
    fn an_archive_ends_with_the_trailer_on_a_boundary() {
        let bytes = Cpio::default().finish();
        assert!(bytes.len().is_multiple_of(4));
        assert!(bytes.windows(11).any(|it| it == b"TRAILER!!!\0"));
    }
}
