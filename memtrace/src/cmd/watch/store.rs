//! The directory of captures: where the next one goes, and which ones have to go for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::SystemTime,
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::{
    model::size::bytes,
    watch::keep::{Allowance, Kept, surplus},
};

/// What every file of a watch begins with; others are left alone.
const PREFIX: &str = "memtrace-watch-";

/// With less room than this nothing is begun.
const LEAST_FREE_BYTES: u64 = 16 << 20;

/// Names of one second that are tried.
const ATTEMPTS: u32 = 100;

/// See the module.
pub struct Store {
    directory: PathBuf,
    allowance: Allowance,
    /// One at a time names files and removes them.
    lock: Mutex<()>,
}

impl Store {
    /// Checks that captures can be written.
    ///
    /// # Errors
    /// When there is no such directory, it cannot be written, or there is hardly any room.
    pub fn open(directory: &Path, allowance: Allowance) -> Result<Self> {
        let shown = directory.display();
        fs::create_dir_all(directory)
            .with_context(|| format!("captures cannot go to {shown}: choose another --output"))?;
        let probe = directory.join(format!("{PREFIX}{}.try", std::process::id()));
        fs::write(&probe, b"room for a capture?")
            .and_then(|()| fs::remove_file(&probe))
            .with_context(|| format!("captures cannot go to {shown}: choose another --output"))?;
        let store = Self { directory: directory.to_owned(), allowance, lock: Mutex::default() };
        let free_bytes = store.free_bytes();
        if free_bytes < LEAST_FREE_BYTES {
            bail!("{shown} has only {} free: choose another --output", bytes(free_bytes));
        }
        Ok(store)
    }

    /// Where captures go.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What captures may take.
    pub fn allowance(&self) -> Allowance {
        self.allowance
    }

    /// What the disk has left for whoever is not root.
    pub fn free_bytes(&self) -> u64 {
        let free = rustix::fs::statvfs(&self.directory);
        free.map_or(u64::MAX, |it| it.f_bavail.saturating_mul(it.f_frsize))
    }

    /// A new prefix for the files of a capture, which nobody has yet; also when the clock was set back.
    ///
    /// # Errors
    /// When all names of this second are taken.
    pub fn prefix(&self, command: &str, pid: u32) -> Result<PathBuf> {
        let command: String = command
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '_' })
            .collect();
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        let name = format!("{PREFIX}{command}-{pid}-{time}");
        let _held = self.lock.lock();
        for attempt in 0..ATTEMPTS {
            let suffix = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let prefix = self.directory.join(format!("{name}{suffix}"));
            let mut capture = prefix.clone().into_os_string();
            capture.push(".memtrace");
            if !Path::new(&capture).exists() {
                return Ok(prefix);
            }
        }
        bail!("there are {ATTEMPTS} captures of this second in {}", self.directory.display())
    }

    /// Removes what is too much; returns how many captures that were.
    pub fn tidy(&self) -> u64 {
        let _held = self.lock.lock();
        let kept = self.kept();
        let surplus = surplus(&kept, self.allowance);
        for file in kept.iter().take(surplus).flat_map(|it| &it.files) {
            if let Err(error) = fs::remove_file(file) {
                log::warn!("cannot remove {}: {error}", file.display());
            }
        }
        surplus as u64
    }

    /// All captures of watches, the oldest first.
    fn kept(&self) -> Vec<Kept> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut captures: BTreeMap<String, (Option<SystemTime>, Kept)> = BTreeMap::new();
        for entry in entries.flatten() {
            let Some(name) = entry.file_name().to_str().and_then(capture_name) else { continue };
            let Ok(metadata) = entry.metadata() else { continue };
            let (time, kept) = captures.entry(name).or_default();
            *time = (*time).max(metadata.modified().ok());
            kept.bytes = kept.bytes.saturating_add(metadata.len());
            kept.files.push(entry.path());
        }
        let mut captures: Vec<_> = captures.into_values().collect();
        captures.sort_by_key(|(time, _)| *time);
        captures.into_iter().map(|(_, kept)| kept).collect()
    }
}

/// What the files of a capture have in common; `None` of a file that is none of a watch.
fn capture_name(file: &str) -> Option<String> {
    let known = [".memtrace", ".svg", ".inspect.json"];
    let name = known.iter().find_map(|suffix| file.strip_suffix(suffix))?;
    name.starts_with(PREFIX).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(captures: usize, bytes: u64) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), Allowance { captures, bytes }).unwrap();
        (directory, store)
    }

    #[test]
    fn the_oldest_captures_go_with_all_of_their_files_and_nothing_else_does() {
        let (directory, store) = store(2, 1000);
        fs::write(directory.path().join("memtrace-watch-notes.txt"), "mine").unwrap();
        fs::write(directory.path().join("app.memtrace"), "mine, too").unwrap();
        for number in 0..4 {
            let prefix = store.prefix("a b", number).unwrap();
            for suffix in ["memtrace", "svg"] {
                fs::write(prefix.with_extension(suffix), [0; 10]).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(store.tidy(), 2);
        assert_eq!(store.tidy(), 0);
        let mut left: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left.len(), 6, "{left:?}");
        assert!(left[1].contains("memtrace-watch-a_b-2-"), "{left:?}");
    }

    #[test]
    fn two_captures_of_one_second_have_two_names() {
        let (_directory, store) = store(10, 1000);
        let names: Vec<PathBuf> = (0..3)
            .map(|_| {
                let prefix = store.prefix("x", 1).unwrap();
                let mut file = prefix.clone().into_os_string();
                file.push(".memtrace");
                fs::write(file, "").unwrap();
                prefix
            })
            .collect();
        assert!(names[0] != names[1] && names[1] != names[2], "{names:?}");
    }

    #[test]
    fn a_place_that_takes_no_files_is_refused_at_the_start() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let allowance = Allowance { captures: 1, bytes: 1 };
        let error = Store::open(&file.path().join("x"), allowance).err().unwrap();
        assert!(error.to_string().contains("--output"), "{error:#}");
    }
}
