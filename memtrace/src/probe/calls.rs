//! Where a process makes the system calls that its memory grows by: the instructions around `syscall`
//! in its C library, its dynamic linker and whatever else serves memory. Pure but for what reads the
//! files.

use std::fs::File;

use memchr::memmem;
use object::ReadRef;

use super::{
    plan::{JUMP_SEARCH_BYTES, ObjectPlan, PlannedProbe, covering, function_code},
    site::{self, SystemCall},
    target::{PlannedObject, executable_files},
};
use crate::{
    allocator::AllocatorId,
    elf::{Elf, Extent},
    model::{
        AllocFn, CallShape,
        mapping::{FileId, Mapping},
    },
    sys::{kernel::KernelVersion, mapped::MappedFile, procfs::ProcFs},
};

/// The `syscall` instruction.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// What defines one of these serves memory.
const SERVING: [&str; 2] = ["mmap", "malloc"];

/// What a process has of such places.
#[derive(Debug, Default)]
pub struct CallPlan {
    /// The objects that have some.
    pub objects: Vec<PlannedObject>,
    /// All files that were looked at.
    pub files: Vec<FileId>,
}

impl CallPlan {
    /// How many probes it has; 0 when it is of no use.
    pub fn probe_count(&self) -> u64 {
        let probes = self.objects.iter().map(|object| object.plan.probes.len() as u64).sum();
        if self.is_complete() { probes } else { 0 }
    }

    /// Whether it makes calls that obtain address space, and such that give it back. If not, they are
    /// made where nobody knows.
    pub fn is_complete(&self) -> bool {
        [AllocFn::Mmap, AllocFn::Munmap].iter().all(|function| {
            let mut probes = self.objects.iter().flat_map(|object| &object.plan.probes);
            probes.any(|probe| probe.function == *function)
        })
    }
}

/// Plans the probes of a process that has these mappings, in the files that are not known. What
/// cannot be read has none.
pub fn plan_calls(
    proc: &ProcFs,
    pid: u32,
    maps: &[Mapping],
    kernel: KernelVersion,
    known: &[FileId],
) -> CallPlan {
    let files: Vec<FileId> =
        executable_files(maps).into_iter().filter(|file| !known.contains(file)).collect();
    let objects = files.iter().filter_map(|file| plan_file(proc, pid, *file, maps, kernel));
    CallPlan { objects: objects.collect(), files }
}

fn plan_file(
    proc: &ProcFs,
    pid: u32,
    file: FileId,
    maps: &[Mapping],
    kernel: KernelVersion,
) -> Option<PlannedObject> {
    let of_file = |map: &&Mapping| map.file == Some(file) && map.permissions.execute;
    let mappings: Vec<Mapping> = maps.iter().filter(of_file).cloned().collect();
    let file: File = proc.open_mapped_file(pid, mappings.first()?).ok()?;
    let image = MappedFile::new(&file).ok()?;
    let plan = image.read(|image| plan_object(&Elf::parse(image).ok()?, &mappings, kernel))?;
    Some(PlannedObject { plan, file, armed_after_ns: None })
}

/// Plans an object: every system call in it that changes the address space and can be seen without a
/// doubt. `None` where there is none, or where none is looked for.
pub fn plan_object<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    mappings: &[Mapping],
    kernel: KernelVersion,
) -> Option<ObjectPlan> {
    if !serves_memory(elf) {
        return None;
    }
    let functions = elf.extents(&candidates(elf));
    let mut calls: Vec<(Extent, SystemCall)> = Vec::new();
    for function in functions {
        if let Ok(code) = function_code(elf, function.address, function.size_bytes) {
            let found = site::system_calls(elf.machine(), code, kernel);
            calls.extend(found.into_iter().map(|call| (function, call)));
        }
    }
    leave_entered(elf, &mut calls);
    let probes: Vec<PlannedProbe> = calls
        .iter()
        .filter_map(|(function, call)| planned(elf, mappings, *function, call))
        .flatten()
        .collect();
    Some(ObjectPlan {
        mapping: covering(mappings, probes.first()?.file_offset)?.clone(),
        allocator: AllocatorId::Unknown,
        version: None,
        prefix: String::new(),
        build_id: elf.build_id().map(|build_id| build_id.id),
        probes,
        callers: Vec::new(),
        skipped: Vec::new(),
        notes: Vec::new(),
    })
}

/// A C library, a dynamic linker, an allocator, or a program that needs none of them. All others call
/// these.
fn serves_memory<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> bool {
    elf.is_static_program()
        || elf.soname().is_some_and(|name| name.starts_with(b"ld-linux"))
        || !elf.functions(&SERVING).is_empty()
}

/// Addresses of what looks like a `syscall` instruction shortly behind the number of such a system
/// call.
fn candidates<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Vec<u64> {
    let mut found = Vec::new();
    for segment in elf.code_segments() {
        let code = elf.code(segment.address, segment.size_bytes).unwrap_or_default();
        let calls = memmem::find_iter(code, &SYSCALL).filter(|at| has_number(&code[..*at]));
        found.extend(calls.map(|at| segment.address + at as u64));
    }
    found
}

/// Whether the last bytes of some code may hold the number.
fn has_number(code: &[u8]) -> bool {
    /// Between the constant and the call there are no more.
    const REACH: usize = 64;
    let near = &code[code.len().saturating_sub(REACH)..];
    near.windows(4).any(|bytes| {
        let number = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        site::function_of(number.into()).is_some()
    })
}

/// Leaves out what something outside of its function seems to jump into.
fn leave_entered<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, calls: &mut Vec<(Extent, SystemCall)>) {
    let Some((first, _)) = calls.first() else { return };
    let windows: Vec<_> = calls.iter().map(|(_, call)| call.window.clone()).collect();
    let (start, code) = elf.code_around(first.address, JUMP_SEARCH_BYTES);
    let mut entered = site::entered_windows(elf.machine(), start, code, &windows).into_iter();
    calls.retain(|_| !entered.next().unwrap_or(true));
}

/// All probes of a call, or none.
fn planned<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    mappings: &[Mapping],
    function: Extent,
    call: &SystemCall,
) -> Option<Vec<PlannedProbe>> {
    let start = elf.file_offset(function.address)?;
    let probe = |(shape, site): &(CallShape, site::Site)| {
        let file_offset = start.checked_add(site.offset)?;
        covering(mappings, file_offset)?;
        Some(PlannedProbe {
            function: call.function,
            shape: *shape,
            arguments: site.arguments,
            aliases: Vec::new(),
            symbol_address: function.address,
            symbol_size_bytes: function.size_bytes,
            file_offset,
            site_offset: site.offset,
            cost: site.cost,
            code: site.code.clone(),
        })
    };
    call.sites.iter().map(probe).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn own() -> (ProcFs, u32, Vec<Mapping>, KernelVersion) {
        let (proc, pid) = (ProcFs::new("/proc"), std::process::id());
        let (maps, version) = (proc.maps(pid).unwrap(), proc.kernel_version().unwrap());
        (proc, pid, maps, version)
    }

    #[test]
    fn the_c_library_makes_all_of_these_calls_and_the_dynamic_linker_has_its_own() {
        let (proc, pid, maps, version) = own();
        let plan = plan_calls(&proc, pid, &maps, version, &[]);
        assert!(plan.is_complete() && plan.probe_count() > 0);
        let of_library = |name: &str| -> BTreeSet<AllocFn> {
            let mut objects = plan.objects.iter();
            let object = objects.find(|it| it.plan.mapping.name.contains(name)).unwrap();
            object.plan.probes.iter().map(|probe| probe.function).collect()
        };
        use AllocFn::{Brk, Madvise, Mmap, Mprotect, Mremap, Munmap};
        let all = BTreeSet::from([Brk, Madvise, Mmap, Mprotect, Mremap, Munmap]);
        assert_eq!(of_library("/libc.so"), all);
        assert!(of_library("/ld-linux").is_superset(&BTreeSet::from([Mmap, Mprotect, Munmap])));
    }

    /// Where it begins is seen wherever its end is.
    #[test]
    fn each_call_that_releases_is_seen_twice_and_the_files_are_not_looked_at_again() {
        let (proc, pid, maps, version) = own();
        let plan = plan_calls(&proc, pid, &maps, version, &[]);
        for object in &plan.objects {
            let count = |shape: CallShape| {
                let is_of = |probe: &&PlannedProbe| {
                    probe.shape == shape && probe.function == AllocFn::Munmap
                };
                object.plan.probes.iter().filter(is_of).count()
            };
            assert_eq!(count(CallShape::CallBegin), count(CallShape::CallEnd));
        }
        let again = plan_calls(&proc, pid, &maps, version, &plan.files);
        assert!(again.objects.is_empty() && again.files.is_empty() && again.probe_count() == 0);
    }
}
