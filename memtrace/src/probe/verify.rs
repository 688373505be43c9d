//! The last check before arming. A breakpoint that lands inside an instruction corrupts the
//! target, so everything that the plan rests on is read again: that the file is the one that is
//! mapped, that it is the same build, and that every site still is that instruction, in the file
//! and in the process.

use std::{fs::File, io, os::unix::fs::FileExt};

use memtrace_common::function::AllocFn;
use object::ReadCache;
use thiserror::Error;

use super::{
    plan::{ObjectPlan, PlannedProbe, covering, function_code},
    site,
};
use crate::{
    elf::{BuildId, Elf, ElfError},
    model::mapping::Mapping,
    sys::procfs::{ProcError, ProcFs},
};

/// What a uprobe writes over the first byte of an instruction (x86-64 `int3`).
const INT3: u8 = 0xcc;
/// What the kernel makes of a 5-byte nop that is probed, since 6.18: a call of its trampoline.
const CALL: u8 = 0xe8;
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// Why a plan must not be armed. In each case nothing was armed; planning again gives sites for
/// what is there now.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The open file is not the mapped one.
    #[error("{path} is not the file that process {pid} has mapped; run memtrace again")]
    OtherFile {
        /// Path of the object.
        path: String,
        /// The target.
        pid: u32,
    },
    /// The mapping has gone or moved since.
    #[error("process {pid} has unmapped or remapped {path} in the meantime; run memtrace again")]
    MappingChanged {
        /// Path of the object.
        path: String,
        /// The target.
        pid: u32,
    },
    /// The file has another build ID, or the process's copy of it differs.
    #[error(
        "{path} is another build than the probes were planned for (it was changed in place); \
         restart the target, then run memtrace again"
    )]
    OtherBuild {
        /// Path of the object.
        path: String,
    },
    /// The file's bytes at a site are not the planned instruction.
    #[error(
        "{} in {path} is not the code that its probe was planned for (the file was changed in \
         place); restart the target, then run memtrace again",
        function.name()
    )]
    OtherCode {
        /// Path of the object.
        path: String,
        /// Whose site.
        function: AllocFn,
    },
    /// The process's bytes at a site are not the file's.
    #[error(
        "the code of {} in the memory of process {pid} differs from {path}: something has patched \
         it; memtrace will not put a probe there",
        function.name()
    )]
    OtherMemory {
        /// Path of the object.
        path: String,
        /// The target.
        pid: u32,
        /// Whose site.
        function: AllocFn,
    },
    /// The file is not the ELF file that it was.
    #[error("{path} cannot be read as an ELF file any more: {source}; run memtrace again")]
    Elf {
        /// Path of the object.
        path: String,
        /// Why.
        source: ElfError,
    },
    /// The file cannot be read.
    #[error("{path} cannot be read any more: {source}; run memtrace again")]
    Read {
        /// Path of the object.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be looked at.
    #[error(transparent)]
    Process(#[from] ProcError),
}

/// Checks a plan against the file, the process's mappings and the process's memory as they are
/// now. `file` is what the probes will be attached to.
///
/// Errors: [`VerifyError`]; then nothing of the plan may be armed.
pub fn verify(plan: &ObjectPlan, file: &File, pid: u32, proc: &ProcFs) -> Result<(), VerifyError> {
    let check = Check { plan, pid, path: &plan.mapping.name };
    let maps = check.same_mappings(proc)?;
    check.same_file(file, proc)?;
    let cache = ReadCache::new(file);
    let elf = Elf::parse(&cache).map_err(|source| check.elf(source))?;
    let build_id = check.same_build(&elf)?;
    for probe in &plan.probes {
        check.same_code(&elf, probe)?;
    }
    check.same_memory(proc, &maps, build_id)
}

struct Check<'a> {
    plan: &'a ObjectPlan,
    pid: u32,
    path: &'a str,
}

impl Check<'_> {
    /// The mappings of the object, once the planned one is still among them.
    fn same_mappings(&self, proc: &ProcFs) -> Result<Vec<Mapping>, VerifyError> {
        let planned = &self.plan.mapping;
        let mut maps = proc.maps(self.pid)?;
        maps.retain(|mapping| mapping.file == planned.file);
        let is_there = maps.iter().any(|mapping| {
            (mapping.start, mapping.end, mapping.file_offset, mapping.permissions)
                == (planned.start, planned.end, planned.file_offset, planned.permissions)
        });
        match is_there {
            true => Ok(maps),
            false => Err(VerifyError::MappingChanged { path: self.path(), pid: self.pid }),
        }
    }

    fn same_file(&self, file: &File, proc: &ProcFs) -> Result<(), VerifyError> {
        match proc.is_mapped_file(self.pid, &self.plan.mapping, file) {
            Ok(true) => Ok(()),
            Ok(false) => Err(VerifyError::OtherFile { path: self.path(), pid: self.pid }),
            Err(source) => Err(VerifyError::Read { path: self.path(), source }),
        }
    }

    fn same_build<'d, R: object::ReadRef<'d>>(
        &self,
        elf: &Elf<'d, R>,
    ) -> Result<Option<BuildId>, VerifyError> {
        let build_id = elf.build_id();
        match build_id.as_ref().map(|build_id| &build_id.id) == self.plan.build_id.as_ref() {
            true => Ok(build_id),
            false => Err(VerifyError::OtherBuild { path: self.path() }),
        }
    }

    /// The site is still where decoding from the function's symbol arrives, and still is that
    /// instruction.
    fn same_code<'d, R: object::ReadRef<'d>>(
        &self,
        elf: &Elf<'d, R>,
        probe: &PlannedProbe,
    ) -> Result<(), VerifyError> {
        let code = function_code(elf, probe.symbol_address, probe.symbol_size_bytes)
            .map_err(|source| self.elf(source))?;
        let found = site::instruction_at(elf.machine(), code, probe.site_offset);
        let offset = elf.file_offset(probe.symbol_address).map(|start| start + probe.site_offset);
        match found == Some(&probe.code) && offset == Some(probe.file_offset) {
            true => Ok(()),
            false => Err(VerifyError::OtherCode { path: self.path(), function: probe.function }),
        }
    }

    /// The process sees what the file holds: its build ID, where that is mapped read-only, and
    /// every site.
    fn same_memory(
        &self,
        proc: &ProcFs,
        maps: &[Mapping],
        build_id: Option<BuildId>,
    ) -> Result<(), VerifyError> {
        let memory = proc.open_memory(self.pid)?;
        if let Some(build_id) = build_id {
            self.same_notes(&memory, maps, &build_id)?;
        }
        for probe in &self.plan.probes {
            let found = covering(maps, probe.file_offset)
                .and_then(|mapping| read(&memory, mapping, probe.file_offset, probe.code.len()));
            if !found.is_some_and(|found| is_site(&found, &probe.code)) {
                let (path, pid, function) = (self.path(), self.pid, probe.function);
                return Err(VerifyError::OtherMemory { path, pid, function });
            }
        }
        Ok(())
    }

    fn same_notes(
        &self,
        memory: &File,
        maps: &[Mapping],
        build_id: &BuildId,
    ) -> Result<(), VerifyError> {
        let start = build_id.notes_offset;
        let mapping = maps.iter().find(|mapping| {
            let offset = start.checked_sub(mapping.file_offset);
            let fits = |at: u64| at + build_id.notes.len() as u64 <= mapping.end - mapping.start;
            !mapping.permissions.write && mapping.permissions.read && offset.is_some_and(fits)
        });
        let Some(mapping) = mapping else { return Ok(()) };
        match read(memory, mapping, start, build_id.notes.len()) {
            Some(notes) if notes == build_id.notes => Ok(()),
            _ => Err(VerifyError::OtherBuild { path: self.path() }),
        }
    }

    fn elf(&self, source: ElfError) -> VerifyError {
        VerifyError::Elf { path: self.path(), source }
    }

    fn path(&self) -> String {
        self.path.to_owned()
    }
}

/// Reads the process's memory where it maps a file offset.
fn read(memory: &File, mapping: &Mapping, file_offset: u64, length: usize) -> Option<Vec<u8>> {
    let address = file_offset.checked_sub(mapping.file_offset)?.checked_add(mapping.start)?;
    let mut bytes = vec![0; length];
    memory.read_exact_at(&mut bytes, address).ok()?;
    Some(bytes)
}

/// Whether memory holds an instruction, or that instruction under another tracer's uprobe.
fn is_site(memory: &[u8], code: &[u8]) -> bool {
    let is_probed = memory.first() == Some(&INT3) && memory.get(1..) == code.get(1..);
    let is_optimised = code == NOP5 && memory.first() == Some(&CALL);
    memory == code || is_probed || is_optimised
}

#[cfg(test)]
mod tests;
