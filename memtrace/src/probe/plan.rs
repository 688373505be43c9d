//! The plan for one object: which functions it defines, and where their probes go. Pure.

mod candidates;
mod exits;
pub mod interpreter;

use std::collections::BTreeMap;

use memtrace_common::{
    call::ArgumentPlaces,
    config::CodeRange,
    function::{AllocFn, CallShape},
};
use object::ReadRef;
use thiserror::Error;

use self::candidates::{Candidate, Candidates};
pub use super::site::SiteCost;
use super::site::{self, FunctionCode};
use crate::{
    allocator::{AllocatorId, GivenNames},
    elf::{Elf, SymbolKind},
    model::mapping::Mapping,
    sys::kernel::KernelVersion,
};

/// How far around a function jumps into it are looked for. Compilers put the cold part of a
/// function into the same section, and the code of C libraries and allocators is 1 to 2 MiB.
pub(super) const JUMP_SEARCH_BYTES: u64 = 16 << 20;

/// Where one probe goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedProbe {
    /// The function.
    pub function: AllocFn,
    /// The shape of the arguments at the site.
    pub shape: CallShape,
    /// The registers that they are in.
    pub arguments: ArgumentPlaces,
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
    /// What its functions' names begin with; empty where they are the C library's.
    pub prefix: String,
    /// The object's build ID.
    pub build_id: Option<Vec<u8>>,
    /// In the order of their names.
    pub probes: Vec<PlannedProbe>,
    /// Functions that are not probed because all they do is to call one that is: where in the file,
    /// and how long, in order.
    pub callers: Vec<(u64, u64)>,
    /// Functions that the object defines and that are not probed, and why.
    pub skipped: Vec<(AllocFn, String)>,
    /// What a reader of the result must know, as sentences.
    pub notes: Vec<String>,
}

impl PlannedProbe {
    /// What is probed, for people.
    pub fn name(&self) -> &'static str {
        match (self.shape, self.function) {
            (CallShape::Exit, AllocFn::OperatorNewArray) => "operator new[] (return)",
            (CallShape::Exit, _) => "operator new (return)",
            (_, function) => function.name(),
        }
    }
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

/// A C library's private functions lie this near to its public ones: all of glibc's `malloc.o` has
/// less code.
const C_LIBRARY_SPREAD_BYTES: u64 = 32 << 10;

/// Other allocators have more: jemalloc 5.3 about 700 KiB, all in one piece.
const ALLOCATOR_SPREAD_BYTES: u64 = 1 << 20;

/// The functions of an allocator that lie together have less code; else they are anywhere.
const ALLOCATOR_BYTES: u64 = 512 << 10;

impl ObjectPlan {
    /// Whether another plan, of the same file, is of the same allocator.
    pub fn is_of_same(&self, other: &Self) -> bool {
        (self.allocator, &self.prefix) == (other.allocator, &other.prefix)
    }

    /// The addresses in the target that the allocator's own calls come from. In the program itself,
    /// and in a library that brings its allocator along, that is not all of its code, but only what is near to the functions that are probed. (An
    /// interpreter's hooks are anywhere in it.)
    pub fn allocator_code(&self, is_program: bool) -> Vec<CodeRange> {
        let has_own_object = !is_program && self.prefix.is_empty();
        if has_own_object || self.allocator == AllocatorId::Pymalloc {
            return vec![self.all_code()];
        }
        let mapping = self.probes.iter().filter(|probe| probe.function.shape().is_mapping());
        let spread = self.heap_span().map(|span| self.with_private_functions(span));
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
        let pieces = span.into_iter().flat_map(|span| self.without_callers(span));
        pieces.chain(apart).collect()
    }

    /// The code that maps memory for the allocator: all of a library that is nothing else.
    pub fn mapping_code(&self, is_program: bool) -> Vec<CodeRange> {
        let is_library_of_its_own = !is_program
            && self.prefix.is_empty()
            && !matches!(
                self.allocator,
                AllocatorId::Glibc | AllocatorId::Musl | AllocatorId::Pymalloc
            );
        if is_library_of_its_own {
            return vec![self.all_code()];
        }
        let first = self.heap_code().first().copied();
        first.map(|code| self.with_private_functions(code)).into_iter().collect()
    }

    /// Whether a function calls no other traced one of its family. What is known of allocators
    /// holds for theirs; one that is not known may be put before another and hand on calls.
    pub fn is_leaf(&self, function: AllocFn) -> bool {
        function == AllocFn::Malloc
            && !matches!(self.allocator, AllocatorId::Unknown | AllocatorId::Pymalloc)
    }

    /// A range of addresses without the functions that are not probed because they call one that is:
    /// their calls are the program's.
    fn without_callers(&self, range: CodeRange) -> Vec<CodeRange> {
        let Mapping { start, file_offset, .. } = self.mapping;
        let mut pieces = Vec::new();
        let mut rest = range;
        for (offset, size_bytes) in &self.callers {
            let at = offset.wrapping_sub(file_offset).wrapping_add(start);
            if (rest.start..rest.end).contains(&at) {
                pieces.push(CodeRange { end: at, ..rest });
                rest.start = at.saturating_add(*size_bytes).min(rest.end);
            }
        }
        pieces.push(rest);
        pieces
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
            !probe.function.shape().is_mapping()
                && probe.function != AllocFn::Reallocarray
                && probe.shape != CallShape::Exit
        };
        self.probes.iter().filter(is_near).map(|probe| self.code_of(probe)).reduce(|sum, range| {
            CodeRange { start: sum.start.min(range.start), end: sum.end.max(range.end) }
        })
    }

    fn with_private_functions(&self, range: CodeRange) -> CodeRange {
        let spread_bytes = match self.allocator {
            AllocatorId::Glibc | AllocatorId::Musl => C_LIBRARY_SPREAD_BYTES,
            _ => ALLOCATOR_SPREAD_BYTES,
        };
        CodeRange {
            start: range.start.saturating_sub(spread_bytes),
            end: range.end.saturating_add(spread_bytes),
        }
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

/// Plans an object: one plan for each allocator in it.
///
/// - Where it defines `malloc` and `free`, all functions of [`crate::allocator::family::standard`]
///   that it defines, those that map memory included. The dynamic linker of the GNU C library is
///   left out (up to 2.30 it exports an allocator that serves itself only). A call that passes
///   through several objects is one call, the inner are nested.
/// - Allocators under names of their own, as `_rjem_malloc`; and those that `given` names, which
///   must be for this object.
///
/// `mappings` are the executable mappings of the object.
///
/// Errors: [`UnprobeableObject`].
pub fn plan_object<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    mappings: &[Mapping],
    kernel: KernelVersion,
    given: &[GivenNames],
) -> Result<Vec<ObjectPlan>, UnprobeableObject> {
    let mut plans: Vec<ObjectPlan> = Vec::new();
    if is_dynamic_linker(elf) {
        return Ok(plans);
    }
    for candidates in candidates::of(elf, given) {
        let mut planner = Planner::new(elf, mappings, kernel);
        planner.plan(&candidates, |address| {
            plans.iter().flat_map(|plan| &plan.probes).any(|it| it.symbol_address == address)
        });
        planner.leave_entered_sites();
        planner.check_complete(&candidates)?;
        plans.extend(planner.into_plan(candidates));
    }
    Ok(plans)
}

/// `ld-linux-x86-64.so.2` and kin. musl's is its C library and is called otherwise.
fn is_dynamic_linker<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> bool {
    elf.soname().is_some_and(|name| name.starts_with(b"ld-linux"))
}

struct Planner<'a, 'd, R: ReadRef<'d>> {
    elf: &'a Elf<'d, R>,
    mappings: &'a [Mapping],
    kernel: KernelVersion,
    probes: Vec<PlannedProbe>,
    callers: Vec<(u64, u64)>,
    skipped: Vec<(AllocFn, String)>,
}

impl<'a, 'd, R: ReadRef<'d>> Planner<'a, 'd, R> {
    fn new(elf: &'a Elf<'d, R>, mappings: &'a [Mapping], kernel: KernelVersion) -> Self {
        Self { elf, mappings, kernel, probes: Vec::new(), callers: Vec::new(), skipped: Vec::new() }
    }

    /// Plans what is not planned elsewhere, each address once.
    fn plan(&mut self, candidates: &Candidates, is_planned: impl Fn(u64) -> bool) {
        let mut at_address: BTreeMap<u64, usize> = BTreeMap::new();
        for candidate in &candidates.functions {
            if let Some(&known) = at_address.get(&candidate.address) {
                self.add_alias(known, candidate);
                continue;
            }
            if is_planned(candidate.address) {
                continue;
            }
            if candidates.hands_on(self.elf, candidate) {
                self.add_caller(candidate);
                continue;
            }
            match self.plan_function(candidate, candidates) {
                Ok(probes) => {
                    at_address.insert(candidate.address, self.probes.len());
                    self.add(probes);
                }
                Err(reason) => self.skipped.push((candidate.function, reason)),
            }
        }
    }

    fn add_caller(&mut self, candidate: &Candidate) {
        let caller =
            self.elf.file_offset(candidate.address).map(|offset| (offset, candidate.size_bytes));
        self.callers.extend(caller.filter(|caller| !self.callers.contains(caller)));
    }

    /// Several functions may return by the same instructions.
    fn add(&mut self, probes: Vec<PlannedProbe>) {
        for probe in probes {
            if !self.probes.iter().any(|known| known.file_offset == probe.file_offset) {
                self.probes.push(probe);
            }
        }
    }

    fn add_alias(&mut self, known: usize, candidate: &Candidate) {
        let Candidate { function, shape, .. } = *candidate;
        let probe = &mut self.probes[known];
        if probe.function == function || probe.aliases.contains(&function) {
            return;
        }
        if probe.shape == shape {
            probe.aliases.push(function);
            return;
        }
        let reason =
            format!("it has the address of {}, which has other arguments", probe.function.name());
        self.skipped.push((function, reason));
    }

    /// The probe of a function, and those of its returns where it cannot have a return probe.
    fn plan_function(
        &self,
        candidate: &Candidate,
        candidates: &Candidates,
    ) -> Result<Vec<PlannedProbe>, String> {
        if candidate.kind == SymbolKind::Indirect {
            return Err("its symbol leads to a resolver (IFUNC), which chooses the code that is \
                        called when the program starts"
                .to_owned());
        }
        let Candidate { function, shape, address, size_bytes, .. } = *candidate;
        let mut probes = vec![self.plan_code(function, shape, address, size_bytes)?];
        if shape == CallShape::Throwing {
            probes.extend(self.plan_exits(candidate, candidates)?);
        }
        Ok(probes)
    }

    fn plan_exits(
        &self,
        candidate: &Candidate,
        candidates: &Candidates,
    ) -> Result<Vec<PlannedProbe>, String> {
        let returns = exits::of(self.elf, candidate.address, candidates).ok_or(
            "it may throw, so that its return address must be left alone, and where its code \
             returns could not be told",
        )?;
        let plan = |at: &u64| self.plan_code(candidate.function, CallShape::Exit, *at, 0);
        returns.iter().map(plan).collect()
    }

    fn into_plan(mut self, candidates: Candidates) -> Option<ObjectPlan> {
        let obtains = |probe: &&PlannedProbe| {
            !matches!(probe.shape, CallShape::Block | CallShape::Exit) && !probe.shape.is_mapping()
        };
        let first = self.probes.iter().find(obtains)?;
        let mapping = covering(self.mappings, first.file_offset)?.clone();
        self.callers.sort_unstable();
        Some(ObjectPlan {
            mapping,
            allocator: candidates.allocator,
            version: candidates.version,
            prefix: candidates.prefix,
            build_id: self.elf.build_id().map(|build_id| build_id.id),
            probes: self.probes,
            callers: self.callers,
            notes: notes(&self.skipped),
            skipped: self.skipped,
        })
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
            arguments: site.arguments,
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
        probe.arguments = entry.arguments;
        Ok(())
    }

    /// Without what obtains blocks, or what releases them, every block would look leaked, or none
    /// allocated.
    fn check_complete(&self, candidates: &Candidates) -> Result<(), UnprobeableObject> {
        let unprobed = self.skipped.iter().find(|(function, _)| candidates.is_needed(*function));
        let Some((function, reason)) = unprobed else { return Ok(()) };
        let path = self.mappings.first().map(|mapping| mapping.name.clone()).unwrap_or_default();
        Err(UnprobeableObject { path, function: *function, reason: reason.clone() })
    }
}

/// What a reader must know of what is not probed.
fn notes(skipped: &[(AllocFn, String)]) -> Vec<String> {
    let is_new =
        |function: AllocFn| matches!(function, AllocFn::OperatorNew | AllocFn::OperatorNewArray);
    let operator_new = "operator new of this allocator is not traced: blocks of C++ programs are \
                        missing";
    let is_missing = skipped.iter().any(|(function, _)| is_new(*function));
    is_missing.then(|| operator_new.to_owned()).into_iter().collect()
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
