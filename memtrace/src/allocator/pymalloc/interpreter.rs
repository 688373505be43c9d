//! Which objects of a process are interpreters, by their names.

use super::{MINORS, PymallocError};
use crate::model::mapping::{FileId, Mapping};

/// The object that holds a CPython: `python3.11`, `libpython3.8.so.1.0`, or a program that contains
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The object.
    pub file: FileId,
    /// 3 of 3.11.
    pub major: u8,
    /// 11 of 3.11.
    pub minor: u8,
    /// Built without the GIL (`python3.13t`).
    pub is_free_threaded: bool,
}

impl Interpreter {
    /// The interpreters that the names of mapped files tell, each once.
    pub fn all_of(mappings: &[Mapping]) -> Vec<Self> {
        let mut found: Vec<Self> = Vec::new();
        for interpreter in mappings.iter().filter_map(Self::of) {
            if !found.iter().any(|known| known.file == interpreter.file) {
                found.push(interpreter);
            }
        }
        found
    }

    /// By the name of a mapping's file; `None` when that is not an interpreter's.
    pub fn of(mapping: &Mapping) -> Option<Self> {
        let name = mapping.base_name();
        let numbers = name.strip_prefix("lib").unwrap_or(name).strip_prefix("python")?;
        let (major, rest) = numbers.split_once('.')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        Some(Self {
            file: mapping.file?,
            major: major.parse().ok()?,
            minor: rest[..digits].parse().ok()?,
            is_free_threaded: rest[digits..].starts_with('t'),
        })
    }

    /// e.g. `3.11`.
    pub fn version(&self) -> String {
        format!("{}.{}", self.major, self.minor)
    }

    /// Whether the walk knows it.
    pub(super) fn check(&self) -> Result<(), PymallocError> {
        if self.major != 3 || !MINORS.contains(&self.minor) {
            return Err(PymallocError::UnknownVersion(self.version()));
        }
        if self.is_free_threaded {
            return Err(PymallocError::FreeThreaded(self.version()));
        }
        Ok(())
    }
}
