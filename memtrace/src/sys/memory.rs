//! A live process's memory.

use std::{fs::File, os::unix::fs::FileExt as _};

use super::procfs::{ProcError, ProcFs};
use crate::model::memory::TargetMemory;

/// The memory of the program that a process runs now: after an exec nothing can be read any more.
#[derive(Debug)]
pub struct ProcessMemory {
    file: File,
}

impl ProcessMemory {
    /// Opens a process's memory.
    pub fn open(proc: &ProcFs, pid: u32) -> Result<Self, ProcError> {
        Ok(Self { file: proc.open_memory(pid)? })
    }
}

impl TargetMemory for ProcessMemory {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        self.file.read_exact_at(buffer, address).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_nothing_else() {
        let memory = ProcessMemory::open(&ProcFs::new("/proc"), std::process::id()).unwrap();
        let word = 0x1234_5678_9abc_def0_u64;
        assert_eq!(memory.read_u64(&raw const word as u64), Some(word));
        assert_eq!(memory.read_u64(8), None);
    }
}
