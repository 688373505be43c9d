//! The plan for one object: which functions it defines, and where their probes go. Pure.

pub mod interpreter;

use std::collections::BTreeMap;

use memtrace_common::{
    config::CodeRange,
    function::{AllocFn, CallShape},
};
use object::ReadRef;
use thiserror::Error;

pub use super::site::SiteCost;
use super::site::{self, FunctionCode};
use crate::{
    allocator::{self, AllocatorId},
    elf::{Elf, Symbol, SymbolKind},
    model::mapping::Mapping,
    sys::kernel::KernelVersion,
};

/// How far around a function jumps into it are looked for. Compilers put the cold part of a
/// function into the same section, and the code of C libraries and allocators is 1 to 2 MiB.
const JUMP_SEARCH_BYTES: u64 = 16 << 20;

/// Where one probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedProbe {
    /// The function.
    pub function: AllocFn,
    /// The shape of the arguments at the site.
    pub shape: CallShape,
    /// Other functions at the same address, of the same shape: one probe serves them all.
    pub aliases: Vec<AllocFn>,
    /// Address of the symbol, as the file states it.
    pub symbol_address: u64,
    /// Length of the function by its symbol; 0 when the file does not tell.
    pub symbol_size_bytes: u64,
    /// Where in the file the site is.
    pub file_offset: u64,
    /// Bytes from the symbol to the site.
    pub site_offset: u64,
    /// What a hit costs.
    pub cost: SiteCost,
    /// The instruction at the site.
    pub code: Vec<u8>,
}

/// The probes of one mapped object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlan {
    /// The executable mapping that holds `malloc`.
    pub mapping: Mapping,
    /// The allocator.
    pub allocator: AllocatorId,
    /// Its version, where the object says it.
    pub version: Option<String>,
    /// The object's build ID.
    pub build_id: Option<Vec<u8>>,
    /// In the order of [`AllocFn::ALL`].
    pub probes: Vec<PlannedProbe>,
    /// Functions that the object defines and that are not probed, and why.
    pub skipped: Vec<(AllocFn, String)>,
    /// What a reader of the result must know, as sentences.
    pub notes: Vec<String>,
}

/// Code of allocators in a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllocatorCode {
    /// From where calls of allocators inside allocators come; other calls do, too (all of a C
    /// library).
    pub callers: Vec<CodeRange>,
    /// malloc and kin, and what lies between them: nothing else calls the allocator from there.
    pub heap: Vec<CodeRange>,
    /// What maps memory for the allocator, and nothing that maps for others.
    pub mapping: Vec<CodeRange>,
}

/// An allocator's private functions lie this near to its public ones: all of glibc's `malloc.o` has
/// less code.
const ALLOCATOR_SPREAD_BYTES: u64 = 32 << 10;

/// The functions of an allocator that lie together have less code; else they are anywhere.
const ALLOCATOR_BYTES: u64 = 512 << 10;

impl ObjectPlan {
    /// The addresses in the target that the allocator's own calls come from. In the program itself
    /// that is not all of its code, but only what is near to the functions that are probed. (An
    /// interpreter's hooks are anywhere in it.)
    pub fn allocator_code(&self, is_program: bool) -> Vec<CodeRange> {
        if !is_program || self.allocator == AllocatorId::Pymalloc {
            return vec![self.all_code()];
        }
        let mapping = self.probes.iter().filter(|probe| probe.function.shape().is_mapping());
        let spread = self.heap_span().map(with_private_functions);
        spread.into_iter().chain(mapping.map(|probe| self.code_of(probe))).collect()
    }

    /// The code of malloc and kin. `reallocarray` is in another file of the C library, with others
    /// that allocate between (`obstack`); it only jumps to `realloc`.
    pub fn heap_code(&self) -> Vec<CodeRange> {
        if self.allocator == AllocatorId::Pymalloc {
            return Vec::new();
        }
        let apart = |probe: &&PlannedProbe| probe.function == AllocFn::Reallocarray;
        let apart = self.probes.iter().filter(apart).map(|probe| self.code_of(probe));
        let span = self.heap_span().filter(|span| span.end - span.start <= ALLOCATOR_BYTES);
        span.into_iter().chain(apart).collect()
    }

    /// The code that maps memory for the allocator: all of a library that is nothing else.
    pub fn mapping_code(&self, is_program: bool) -> Vec<CodeRange> {
        let is_library_of_its_own = !is_program
            && !matches!(
                self.allocator,
                AllocatorId::Glibc | AllocatorId::Musl | AllocatorId::Pymalloc
            );
        if is_library_of_its_own {
            return vec![self.all_code()];
        }
        self.heap_code().first().copied().map(with_private_functions).into_iter().collect()
    }

    /// Whether a function calls no other traced one of its family. What is known of allocators
    /// holds for theirs; one that is not known may be put before another and hand on calls.
    pub fn is_leaf(&self, function: AllocFn) -> bool {
        function == AllocFn::Malloc
            && !matches!(self.allocator, AllocatorId::Unknown | AllocatorId::Pymalloc)
    }

    fn all_code(&self) -> CodeRange {
        CodeRange { start: self.mapping.start, end: self.mapping.end }
    }

    fn code_of(&self, probe: &PlannedProbe) -> CodeRange {
        let Mapping { start, file_offset, .. } = self.mapping;
        let address =
            (probe.file_offset - probe.site_offset).wrapping_sub(file_offset).wrapping_add(start);
        CodeRange { start: address, end: address + probe.symbol_size_bytes }
    }

    /// From the first to the last of malloc and kin.
    fn heap_span(&self) -> Option<CodeRange> {
        let is_near = |probe: &&PlannedProbe| {
            !probe.function.shape().is_mapping() && probe.function != AllocFn::Reallocarray
        };
        self.probes.iter().filter(is_near).map(|probe| self.code_of(probe)).reduce(|sum, range| {
            CodeRange { start: sum.start.min(range.start), end: sum.end.max(range.end) }
        })
    }
}

fn with_private_functions(range: CodeRange) -> CodeRange {
    CodeRange {
        start: range.start.saturating_sub(ALLOCATOR_SPREAD_BYTES),
        end: range.end.saturating_add(ALLOCATOR_SPREAD_BYTES),
    }
}

/// Why an object that defines `malloc` and `free` cannot be traced. Both must be: without one of
/// them every block would look leaked, or none allocated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{} of {path} cannot be probed: {reason}", function.name())]
pub struct UnprobeableObject {
    /// Path of the object in the target's mount namespace.
    pub path: String,
    /// `malloc` or `free`.
    pub function: AllocFn,
    /// Why.
    pub reason: String,
}

/// Plans an object; `None` when it does not define both `malloc` and `free`, or is the dynamic
/// linker of the GNU C library (up to 2.30 it exports an allocator that serves itself only).
///
/// All functions of [`allocator::FUNCTIONS`] that the object defines are planned, those that map
/// memory included: a C library's, and those of an allocator that puts itself before them.
/// A call that passes through both is one call, the inner is nested.
///
/// `mappings` are the executable mappings of the object.
///
/// Errors: [`UnprobeableObject`].
pub fn plan_object<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    mappings: &[Mapping],
    kernel: KernelVersion,
) -> Result<Option<ObjectPlan>, UnprobeableObject> {
    let symbols = elf.functions(&allocator::wanted_symbols());
    let defines = |name: &str| symbols.iter().any(|symbol| symbol.name == name);
    if !defines("malloc") || !defines("free") || is_dynamic_linker(elf) {
        return Ok(None);
    }
    let mut planner = Planner::new(elf, mappings, kernel);
    planner.plan(&symbols);
    planner.leave_entered_sites();
    planner.check_complete()?;
    let (allocator, version) = allocator::identify(defines, elf.section(".rodata"));
    let mapping = planner.mapping_of_malloc();
    Ok(mapping.map(|mapping| ObjectPlan {
        mapping,
        allocator,
        version,
        build_id: elf.build_id().map(|build_id| build_id.id),
        probes: planner.probes,
        skipped: planner.skipped,
        notes: notes(defines(allocator::OPERATOR_NEW)),
    }))
}

/// `ld-linux-x86-64.so.2` and kin. musl's is its C library and is called otherwise.
fn is_dynamic_linker<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> bool {
    elf.soname().is_some_and(|name| name.starts_with(b"ld-linux"))
}

fn notes(defines_operator_new: bool) -> Vec<String> {
    // A return probe on a function that may throw would end the program: the C++ unwinder knows
    // nothing of the trampoline that the kernel puts in place of the return address.
    let operator_new = "operator new and delete are served by this allocator without malloc and \
                        free and are not traced; blocks of C++ programs are missing";
    defines_operator_new.then(|| operator_new.to_owned()).into_iter().collect()
}

struct Planner<'a, 'd, R: ReadRef<'d>> {
    elf: &'a Elf<'d, R>,
    mappings: &'a [Mapping],
    kernel: KernelVersion,
    probes: Vec<PlannedProbe>,
    skipped: Vec<(AllocFn, String)>,
}

impl<'a, 'd, R: ReadRef<'d>> Planner<'a, 'd, R> {
    fn new(elf: &'a Elf<'d, R>, mappings: &'a [Mapping], kernel: KernelVersion) -> Self {
        Self { elf, mappings, kernel, probes: Vec::new(), skipped: Vec::new() }
    }

    fn plan(&mut self, symbols: &[Symbol]) {
        let mut at_address: BTreeMap<u64, usize> = BTreeMap::new();
        for (name, function) in allocator::FUNCTIONS {
            let Some(symbol) = symbols.iter().find(|symbol| symbol.name == name) else { continue };
            if let Some(&known) = at_address.get(&symbol.address) {
                self.add_alias(known, function);
                continue;
            }
            match self.plan_function(function, symbol) {
                Ok(probe) => {
                    at_address.insert(symbol.address, self.probes.len());
                    self.probes.push(probe);
                }
                Err(reason) => self.skipped.push((function, reason)),
            }
        }
    }

    fn add_alias(&mut self, known: usize, function: AllocFn) {
        let probe = &mut self.probes[known];
        if probe.function == function || probe.aliases.contains(&function) {
            return;
        }
        if probe.function.shape() == function.shape() {
            probe.aliases.push(function);
            return;
        }
        let reason =
            format!("it has the address of {}, which has other arguments", probe.function.name());
        self.skipped.push((function, reason));
    }

    fn plan_function(&self, function: AllocFn, symbol: &Symbol) -> Result<PlannedProbe, String> {
        if symbol.kind == SymbolKind::Indirect {
            return Err("its symbol leads to a resolver (IFUNC), which chooses the code that is \
                        called when the program starts"
                .to_owned());
        }
        self.plan_code(function, function.shape(), symbol.address, symbol.size_bytes)
    }

    fn plan_code(
        &self,
        function: AllocFn,
        shape: CallShape,
        address: u64,
        size_bytes: u64,
    ) -> Result<PlannedProbe, String> {
        let code = self.code(address, size_bytes)?;
        let site = site::choose(self.elf.machine(), code, shape, self.kernel)
            .map_err(|error| error.to_string())?;
        let file_offset = self
            .elf
            .file_offset(address)
            .and_then(|start| start.checked_add(site.offset))
            .filter(|offset| covering(self.mappings, *offset).is_some())
            .ok_or("its code is not mapped into the process")?;
        Ok(PlannedProbe {
            function,
            shape,
            aliases: Vec::new(),
            symbol_address: address,
            symbol_size_bytes: size_bytes,
            file_offset,
            site_offset: site.offset,
            cost: site.cost,
            code: site.code,
        })
    }

    fn code(&self, address: u64, size_bytes: u64) -> Result<FunctionCode<'d>, String> {
        function_code(self.elf, address, size_bytes).map_err(|error| error.to_string())
    }

    /// Takes the entry of functions that something outside of them seems to jump into.
    fn leave_entered_sites(&mut self) {
        let windows: Vec<_> = self.probes.iter().map(window).collect();
        let moved = |probe: &PlannedProbe| probe.site_offset > 0;
        let Some(first) = self.probes.iter().find(|probe| moved(probe)) else { return };
        let (start, code) = self.elf.code_around(first.symbol_address, JUMP_SEARCH_BYTES);
        let entered = site::entered_windows(self.elf.machine(), start, code, &windows);
        let probes = std::mem::take(&mut self.probes);
        for (mut probe, is_entered) in probes.into_iter().zip(entered) {
            let moved = if is_entered { self.move_to_entry(&mut probe) } else { Ok(()) };
            match moved {
                Ok(()) => self.probes.push(probe),
                Err(reason) => self.skipped.push((probe.function, reason)),
            }
        }
    }

    fn move_to_entry(&self, probe: &mut PlannedProbe) -> Result<(), String> {
        let code = self.code(probe.symbol_address, probe.symbol_size_bytes)?;
        let entry = site::at_entry(self.elf.machine(), code, self.kernel)
            .map_err(|error| error.to_string())?;
        probe.file_offset = probe.file_offset - probe.site_offset + entry.offset;
        probe.site_offset = entry.offset;
        probe.cost = entry.cost;
        probe.code = entry.code;
        Ok(())
    }

    fn check_complete(&self) -> Result<(), UnprobeableObject> {
        for function in [AllocFn::Malloc, AllocFn::Free] {
            if let Some((_, reason)) = self.skipped.iter().find(|(skipped, _)| *skipped == function)
            {
                let path = self.mappings.first().map(|mapping| mapping.name.clone());
                let path = path.unwrap_or_default();
                return Err(UnprobeableObject { path, function, reason: reason.clone() });
            }
        }
        Ok(())
    }

    fn mapping_of_malloc(&self) -> Option<Mapping> {
        let malloc = self.probes.iter().find(|probe| probe.function == AllocFn::Malloc)?;
        covering(self.mappings, malloc.file_offset).cloned()
    }
}

/// The addresses that nothing but the function's own start may lead to; empty at the entry.
fn window(probe: &PlannedProbe) -> std::ops::RangeInclusive<u64> {
    probe.symbol_address.saturating_add(1)..=probe.symbol_address.saturating_add(probe.site_offset)
}

/// A function's code, whole where its symbol tells the length.
pub(super) fn function_code<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    address: u64,
    size_bytes: u64,
) -> Result<FunctionCode<'d>, crate::elf::ElfError> {
    /// Longer than any instruction.
    const ENTRY_BYTES: u64 = 16;
    let is_whole = size_bytes > 0;
    let body = elf.code(address, if is_whole { size_bytes } else { ENTRY_BYTES })?;
    Ok(FunctionCode { address, body, is_whole: is_whole && body.len() as u64 == size_bytes })
}

/// The executable mapping that holds a file offset.
pub(super) fn covering(mappings: &[Mapping], file_offset: u64) -> Option<&Mapping> {
    mappings.iter().find(|mapping| {
        mapping.permissions.execute
            && file_offset
                .checked_sub(mapping.file_offset)
                .is_some_and(|at| at < mapping.end - mapping.start)
    })
}

#[cfg(test)]
mod tests;
