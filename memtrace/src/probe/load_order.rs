//! The order in which the dynamic linker looks through a process's objects for a symbol.
//!
//! The first object that defines `malloc` serves it. The order of `/proc/PID/maps` says nothing
//! about it (libraries are mapped downwards, late `dlopen`s anywhere), so the linker's own list is
//! read from the process: auxiliary vector → program headers → `DT_DEBUG` → `r_debug` →
//! `link_map`s, which starts with the program, then preloads, then needed libraries breadth-first,
//! then what was opened later. Layouts: <link.h> of glibc and musl, 64-bit.

use std::{fs::File, os::unix::fs::FileExt};

use object::elf::{DT_DEBUG, PT_DYNAMIC, PT_PHDR};

use crate::{
    model::mapping::{FileId, Mapping},
    sys::procfs::ProcFs,
};

/// Keys of the auxiliary vector (<elf.h>).
const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;

const PROGRAM_HEADER_BYTES: usize = 56;
const DYNAMIC_ENTRY_BYTES: usize = 16;
const R_DEBUG_MAP: u64 = 8;
const LINK_MAP_LD: u64 = 16;
const LINK_MAP_NEXT: u64 = 24;

/// Bounds against damaged memory; far above what programs have.
const MAX_PROGRAM_HEADERS: u64 = 64;
const MAX_DYNAMIC_ENTRIES: u64 = 512;
const MAX_OBJECTS: usize = 65_536;

/// The files of a process's objects in lookup order; `None` when they cannot be read (a static
/// program, a linker that has not started yet).
pub(super) fn load_order(proc: &ProcFs, pid: u32, maps: &[Mapping]) -> Option<Vec<FileId>> {
    let memory = Memory(proc.open_memory(pid).ok()?);
    let auxv = proc.auxiliary_vector(pid).ok()?;
    let dynamic = memory.dynamic_section(&auxv)?;
    let debug = memory.dynamic_value(dynamic, DT_DEBUG as u64)?;
    let first = memory.word(debug.checked_add(R_DEBUG_MAP)?)?;
    let file_at = |address| maps.iter().find(|mapping| mapping.contains(address))?.file;
    Some(memory.link_maps(first).into_iter().filter_map(file_at).collect())
}

struct Memory(File);

impl Memory {
    fn word(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, address).ok()?;
        Some(u64::from_le_bytes(bytes))
    }

    /// Run-time address of the program's `.dynamic`.
    fn dynamic_section(&self, auxv: &[(u64, u64)]) -> Option<u64> {
        let value = |key| auxv.iter().find(|entry| entry.0 == key).map(|entry| entry.1);
        let (headers, count) = (value(AT_PHDR)?, value(AT_PHNUM)?.min(MAX_PROGRAM_HEADERS));
        let segments: Vec<(u32, u64)> =
            (0..count).filter_map(|index| self.segment(headers, index)).collect();
        let stated = |kind| segments.iter().find(|segment| segment.0 == kind).map(|found| found.1);
        // Without PT_PHDR the program is where it was linked to.
        let bias = stated(PT_PHDR).map_or(0, |stated| headers.wrapping_sub(stated));
        Some(stated(PT_DYNAMIC)?.wrapping_add(bias))
    }

    /// (p_type, p_vaddr) of a program header.
    fn segment(&self, headers: u64, index: u64) -> Option<(u32, u64)> {
        let header = headers.checked_add(index * PROGRAM_HEADER_BYTES as u64)?;
        Some((self.word(header)? as u32, self.word(header.checked_add(16)?)?))
    }

    fn dynamic_value(&self, dynamic: u64, tag: u64) -> Option<u64> {
        let at = |index| dynamic.checked_add(index * DYNAMIC_ENTRY_BYTES as u64);
        let entry = (0..MAX_DYNAMIC_ENTRIES)
            .map_while(at)
            .map_while(|entry| Some((entry, self.word(entry).filter(|tag| *tag != 0)?)))
            .find(|(_, found)| *found == tag)?
            .0;
        self.word(entry.checked_add(8)?).filter(|value| *value != 0)
    }

    /// `l_ld` of each link map: an address inside of its object.
    fn link_maps(&self, first: u64) -> Vec<u64> {
        let next = |link_map: &u64| {
            self.word(link_map.checked_add(LINK_MAP_NEXT)?).filter(|next| *next != 0)
        };
        std::iter::successors(Some(first), next)
            .take(MAX_OBJECTS)
            .filter_map(|link_map| self.word(link_map.checked_add(LINK_MAP_LD)?))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn this_process_starts_with_its_executable_and_has_its_c_library() {
        let proc = ProcFs::new("/proc");
        let maps = proc.maps(process::id()).unwrap();
        let order = load_order(&proc, process::id(), &maps).unwrap();
        let file_of = |address: u64| maps.iter().find(|map| map.contains(address)).unwrap().file;
        let own_code = file_of(load_order as *const () as u64).unwrap();
        assert_eq!(order.first(), Some(&own_code));
        let named = |name: &str| {
            maps.iter().find(|map| map.base_name().starts_with(name)).unwrap().file.unwrap()
        };
        assert!(order.contains(&named("libc.so")));
    }

    #[test]
    fn memory_that_is_a_loop_or_unmapped_ends_the_walk() {
        // A link map that is its own successor.
        let looped: [u64; 4] = [0, 0, 7, 0];
        let mut looped = Box::new(looped);
        looped[3] = looped.as_ptr() as u64;
        let memory = Memory(ProcFs::new("/proc").open_memory(process::id()).unwrap());
        let found = memory.link_maps(looped.as_ptr() as u64);
        assert_eq!(found, vec![7; MAX_OBJECTS]);
        assert!(memory.link_maps(8).is_empty());
        assert_eq!(memory.dynamic_section(&[(AT_PHDR, 8), (AT_PHNUM, u64::MAX)]), None);
        assert_eq!(memory.dynamic_value(u64::MAX - 4, 1), None);
    }
}
