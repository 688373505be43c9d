//! The files that the target maps, kept open so that they can be read after it has ended.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    path::PathBuf,
};

use crate::model::mapping::{FileId, KERNEL_CODE, Mapping};

use super::call_site::{LONGEST_CALL_BYTES, ends_with_call};

/// The most files kept open, well below the usual soft limit of 1,024 descriptors (a file that is
/// read for names needs a second one). Code in files beyond it stays nameless.
const MAX_OPEN_FILES: usize = 512;

/// Opens the file behind a mapping, e.g. through `/proc/PID/map_files`, which also reaches
/// deleted files and those of other mount namespaces.
pub trait OpenObject {
    /// Opens it for reading.
    ///
    /// # Errors
    /// Whatever the operating system says; the mapping's code then stays nameless.
    fn open(&self, mapping: &Mapping) -> io::Result<File>;
}

impl<F: Fn(&Mapping) -> io::Result<File>> OpenObject for F {
    fn open(&self, mapping: &Mapping) -> io::Result<File> {
        self(mapping)
    }
}

/// Index of an object in its [`ObjectTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ObjectId(u32);

/// A mapped file, or a kind of anonymous code.
#[derive(Debug)]
pub(super) struct Object {
    /// File name, or `[name]`.
    pub(super) name: String,
    /// Path in the target's mount namespace, or as in `maps`.
    pub(super) mapped_path: String,
    is_mapped_file: bool,
    pub(super) file: Option<File>,
}

/// All objects seen so far.
#[derive(Debug, Default)]
pub(super) struct ObjectTable {
    objects: Vec<Object>,
    by_file: HashMap<FileId, ObjectId>,
    by_name: HashMap<String, ObjectId>,
    open_files: usize,
}

impl ObjectTable {
    /// The object that a mapping shows, opened at first sight.
    pub(super) fn intern(&mut self, mapping: &Mapping, opener: &impl OpenObject) -> ObjectId {
        let known = match mapping.file {
            Some(file) => self.by_file.get(&file),
            None => self.by_name.get(&mapping.name),
        };
        known.copied().unwrap_or_else(|| self.add(mapping, opener))
    }

    /// The object with this id.
    pub(super) fn get(&self, id: ObjectId) -> &Object {
        &self.objects[id.0 as usize]
    }

    fn add(&mut self, mapping: &Mapping, opener: &impl OpenObject) -> ObjectId {
        let id = ObjectId(self.objects.len() as u32);
        let file = mapping.file.and_then(|_| self.open(mapping, opener));
        self.objects.push(Object {
            name: object_name(mapping),
            mapped_path: mapping.name.clone(),
            is_mapped_file: mapping.file.is_some(),
            file,
        });
        match mapping.file {
            Some(file) => self.by_file.insert(file, id),
            None => self.by_name.insert(mapping.name.clone(), id),
        };
        id
    }

    /// Only regular files: reading a device can have side effects.
    fn open(&mut self, mapping: &Mapping, opener: &impl OpenObject) -> Option<File> {
        if self.open_files == MAX_OPEN_FILES {
            return None;
        }
        let file = opener.open(mapping).ok()?;
        file.metadata().ok()?.is_file().then_some(())?;
        self.open_files += 1;
        Some(file)
    }
}

impl Object {
    /// Memory without a file that the target itself has written code into: its places are
    /// addresses.
    pub(super) fn is_generated(&self) -> bool {
        !self.is_mapped_file && !KERNEL_CODE.contains(&self.mapped_path.as_str())
    }

    /// A path that opens the same file again; `None` for code without a file.
    pub(super) fn path(&self) -> Option<PathBuf> {
        let descriptor = self.file.as_ref()?.as_raw_fd();
        Some(PathBuf::from(format!("/proc/self/fd/{descriptor}")))
    }

    /// Whether a call instruction ends at this file offset. Code that cannot be read (generated
    /// code, the vDSO) gets the benefit of the doubt.
    pub(super) fn may_return_to(&self, offset: u64) -> bool {
        let Some(file) = &self.file else { return true };
        let length = offset.min(LONGEST_CALL_BYTES as u64);
        let mut before = [0; LONGEST_CALL_BYTES];
        let before = &mut before[..length as usize];
        file.read_exact_at(before, offset - length).is_ok_and(|()| ends_with_call(before))
    }
}

/// The name that people see.
fn object_name(mapping: &Mapping) -> String {
    match mapping.base_name() {
        "" => "[anon]".to_owned(),
        // A return probe replaced the caller's address by its trampoline, which lives here.
        "[uprobes]" => "[return probe]".to_owned(),
        name => name.to_owned(),
    }
}
