//! Names of generated code: just-in-time compilers write them to `/tmp/perf-PID.map`, one line
//! `START SIZE NAME` per function, in hex, the newest last (Linux,
//! tools/perf/Documentation/jit-interface.txt).

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::directory::Directory;

/// The most that is read of a map; a large Java server writes some 10 MB.
const MAX_BYTES: u64 = 32 << 20;
/// The most functions that are kept.
const MAX_FUNCTIONS: usize = 1 << 19;
/// The longest name that is kept; the rest is cut.
const MAX_NAME_BYTES: usize = 1024;

/// Where a target's map is, and what was read of it.
#[derive(Debug, Default)]
pub struct PerfMap {
    place: Option<Place>,
    functions: Functions,
    was_read: bool,
}

#[derive(Debug)]
struct Place {
    root: Directory,
    path: PathBuf,
    /// Who may have written it; others could write anything into `/tmp`.
    owner: u32,
    /// The file that was read last: it can be read again when its name is gone.
    file: Option<File>,
}

impl PerfMap {
    /// The map of a process: `root` is `/proc/PID/root`, `pid` what the process knows itself by,
    /// `owner` its user.
    pub fn of(root: &Path, pid: u32, owner: u32) -> Self {
        let path = PathBuf::from(format!("tmp/perf-{pid}.map"));
        let place = Directory::open_root(root).ok();
        let place = place.map(|root| Place { root, path, owner, file: None });
        Self { place, ..Self::default() }
    }

    /// Reads it unless that was done.
    pub fn read_once(&mut self) {
        if !self.was_read {
            self.read();
        }
    }

    /// Reads it anew if it was needed at all.
    pub fn read_again(&mut self) {
        if self.was_read {
            self.read();
        }
    }

    /// Reads it anew; what was known stays when it cannot be read any more.
    pub fn read(&mut self) {
        self.was_read = true;
        if let Some(text) = self.place.as_mut().and_then(|place| place.read().ok()) {
            self.functions = Functions::parse(&text);
        }
    }

    /// The function that an address is in.
    pub fn name(&self, address: u64) -> Option<&str> {
        self.functions.name(address)
    }

    /// Its path in the target's mount namespace, when it names anything.
    pub fn path(&self) -> Option<PathBuf> {
        let place = self.place.as_ref().filter(|_| !self.functions.by_start.is_empty())?;
        Some(Path::new("/").join(&place.path))
    }
}

impl Place {
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let opened = self.root.open_file(&self.path).and_then(|file| {
            let owner = file.metadata()?.uid();
            let is_trusted = owner == self.owner || owner == 0;
            if is_trusted { Ok(file) } else { Err(io::ErrorKind::PermissionDenied.into()) }
        });
        match opened {
            Ok(file) => self.file = Some(file),
            Err(error) if self.file.is_none() => return Err(error),
            Err(_) => {}
        }
        let Some(file) = &mut self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let mut text = Vec::new();
        file.rewind()?;
        file.take(MAX_BYTES).read_to_end(&mut text)?;
        Ok(text)
    }
}

/// Functions that do not overlap.
#[derive(Debug, Default, PartialEq, Eq)]
struct Functions {
    /// First address to end and name.
    by_start: BTreeMap<u64, (u64, Box<str>)>,
}

impl Functions {
    /// Lines that are not understood are left out; so is a last line that is being written.
    fn parse(text: &[u8]) -> Self {
        let mut functions = Self::default();
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some((start, end, name)) = line.strip_suffix(b"\n").and_then(parse_line) else {
                continue;
            };
            functions.cut(start, end);
            if functions.by_start.len() < MAX_FUNCTIONS {
                functions.by_start.insert(start, (end, name));
            }
        }
        functions
    }

    fn name(&self, address: u64) -> Option<&str> {
        let (_, (end, name)) = self.by_start.range(..=address).next_back()?;
        (address < *end).then_some(name)
    }

    /// Takes `start..end` away from the functions that were there before.
    fn cut(&mut self, start: u64, end: u64) {
        while let Some((&old_start, _)) = self.by_start.range(..end).next_back() {
            let Some((old_end, name)) = self.by_start.remove(&old_start) else { return };
            if old_end > end {
                self.by_start.insert(end, (old_end, name.clone()));
            }
            if old_start < start {
                // Nothing before it reaches as far.
                self.by_start.insert(old_start, (old_end.min(start), name));
                return;
            }
        }
    }
}

/// `START SIZE NAME` as start, end and name.
fn parse_line(line: &[u8]) -> Option<(u64, u64, Box<str>)> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let (start, size) = (hex(fields.next()?)?, hex(fields.next()?)?);
    let name = fields.next()?.trim_ascii();
    let end = start.checked_add(size).filter(|end| *end > start)?;
    let name = String::from_utf8_lossy(&name[..name.len().min(MAX_NAME_BYTES)]);
    (!name.is_empty()).then(|| (start, end, name.into()))
}

/// With or without `0x`.
fn hex(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn own_user() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn root_with(content: &[u8]) -> TempDir {
        let root = TempDir::new().unwrap();
        fs::create_dir(root.path().join("tmp")).unwrap();
        fs::write(root.path().join("tmp/perf-7.map"), content).unwrap();
        root
    }

    #[test]
    fn functions_are_found_by_any_address_inside() {
        let functions = Functions::parse(b"1000 10 main loop\n0x2000 0x8 other\n");
        assert_eq!(functions.name(0xfff), None);
        assert_eq!(functions.name(0x1000), Some("main loop"));
        assert_eq!(functions.name(0x100f), Some("main loop"));
        assert_eq!(functions.name(0x1010), None);
        assert_eq!(functions.name(0x2007), Some("other"));
    }

    #[test]
    fn lines_that_are_no_entries_are_left_out() {
        let text =
            b"\nx 1 a\n10 x b\n+10 1 c\n30 0 d\nffffffffffffffff 2 e\n40 1 \n50 1 \xff\n60 1 f";
        let functions = Functions::parse(text);
        assert_eq!(functions.by_start.len(), 1);
        assert_eq!(functions.name(0x50), Some("\u{fffd}"));
    }

    #[test]
    fn long_names_are_cut() {
        let functions = Functions::parse(format!("10 1 {}\n", "x".repeat(5000)).as_bytes());
        assert_eq!(functions.name(0x10).map(str::len), Some(MAX_NAME_BYTES));
    }

    #[test]
    fn it_is_read_when_asked_and_kept_when_it_is_gone() {
        let root = root_with(b"10 8 first\n");
        let file = root.path().join("tmp/perf-7.map");
        let mut map = PerfMap::of(root.path(), 7, own_user());
        map.read_again();
        assert_eq!((map.name(0x10), map.path()), (None, None));
        map.read_once();
        assert_eq!(map.name(0x10), Some("first"));
        assert_eq!(map.path(), Some(PathBuf::from("/tmp/perf-7.map")));
        fs::write(&file, "10 8 second\n").unwrap();
        map.read_once();
        assert_eq!(map.name(0x10), Some("first"));
        map.read_again();
        assert_eq!(map.name(0x10), Some("second"));
        fs::remove_file(&file).unwrap();
        map.read();
        assert_eq!(map.name(0x10), Some("second"));
    }

    #[test]
    fn a_map_that_another_user_has_written_is_not_believed() {
        let root = root_with(b"10 8 false\n");
        if own_user() == 0 {
            let path = root.path().join("tmp/perf-7.map");
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
        }
        let mut map = PerfMap::of(root.path(), 7, own_user() + 1);
        map.read();
        assert_eq!(map.name(0x10), None);
    }

    #[test]
    fn what_is_no_file_or_leads_out_of_the_root_is_not_read() {
        let outside = root_with(b"10 8 outside\n");
        let root = root_with(b"");
        let file = root.path().join("tmp/perf-7.map");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink(outside.path().join("tmp/perf-7.map"), &file).unwrap();
        let mut map = PerfMap::of(root.path(), 7, own_user());
        map.read();
        assert_eq!(map.name(0x10), None);
        fs::remove_file(&file).unwrap();
        let fifo = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &file, fifo.0, fifo.1, 0).unwrap();
        map.read();
        assert_eq!(map.name(0x10), None);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<Vec<u8>>()) {
            let _ = Functions::parse(&text);
        }

        #[test]
        fn the_last_entry_of_an_address_wins(
            entries in prop::collection::vec((0u64..64, 1u64..32), 0..24),
        ) {
            let mut text = String::new();
            let mut expected = [None; 100];
            for (index, (start, size)) in entries.into_iter().enumerate() {
                text += &format!("{start:x} {size:x} {index}\n");
                expected[start as usize..(start + size) as usize].fill(Some(index));
            }
            let functions = Functions::parse(text.as_bytes());
            for (address, expected) in expected.into_iter().enumerate() {
                let name = functions.name(address as u64).map(|name| name.parse().unwrap());
                prop_assert_eq!(name, expected);
            }
        }
    }
}
