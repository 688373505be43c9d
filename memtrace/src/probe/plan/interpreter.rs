//! The plan for CPython's own allocator: probes on the functions that its tables lead to, and on
//! `PyMem_Malloc` and kin themselves where they contain a copy of those.
//!
//! It is all or nothing. A free that is not seen makes a leak of what is none, so whatever leaves
//! a doubt whether every call passes a probe is a refusal.

use std::ops::Range;

use object::ReadRef;
use thiserror::Error;

use super::{ObjectPlan, PlannedProbe, Planner, covering};
use crate::{
    allocator::{
        AllocatorId,
        pymalloc::{
            copies,
            table::{self, Domain, Four, MappedCode, RAW, TRACED, Table},
        },
    },
    elf::{CodeSegment, Elf, Machine, Symbol, SymbolTable},
    model::{AllocFn, CallShape, mapping::Mapping, memory::TargetMemory},
    sys::kernel::KernelVersion,
};

/// What makes all objects visible without this.
const REMEDY: &str = "start the program with PYTHONMALLOC=malloc, then every object is a block of \
                      malloc, and is seen without --pymalloc";

/// Why the calls of an interpreter's allocator cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PymallocRefusal {
    /// Not x86-64.
    #[error("only the code of x86-64 is understood")]
    Machine,
    /// The tables were not found.
    #[error("where {0} leads to was not found in its code; {REMEDY}")]
    NoTable(&'static str),
    /// A hook of somebody else.
    #[error(
        "{0} is served by code outside of the interpreter (PyMem_SetAllocator), which is not known"
    )]
    Foreign(&'static str),
    /// Optimised across functions.
    #[error(
        "this build of Python contains {copies} copies of its allocator inside other functions \
         (link-time optimisation), where no probe sees them; {REMEDY}"
    )]
    Copies {
        /// How many were found.
        copies: usize,
    },
    /// A site cannot be armed.
    #[error("{function} cannot be probed: {reason}")]
    Unprobeable {
        /// Which function.
        function: &'static str,
        /// Why.
        reason: String,
    },
}

/// An interpreter's allocator, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpreterPlan {
    /// The probes; none where malloc serves everything.
    pub object: Option<ObjectPlan>,
    /// The tables that this rests on: when they change, calls may take another way.
    pub tables: Vec<Table>,
}

/// Plans an interpreter; `None` when the object is none: it does not define all of `PyMem_Malloc`
/// and kin. `mappings` are its executable ones, `maps` all of the process, `memory` is its memory.
///
/// # Errors
/// [`PymallocRefusal`].
pub fn plan_interpreter<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    mappings: &[Mapping],
    maps: &[Mapping],
    kernel: KernelVersion,
    memory: &impl TargetMemory,
) -> Result<Option<InterpreterPlan>, PymallocRefusal> {
    let Some(wrappers) = Wrappers::of(elf) else { return Ok(None) };
    if elf.machine() != Machine::X86_64 {
        return Err(PymallocRefusal::Machine);
    }
    let Some(bias) = bias(elf, mappings, wrappers.raw[0].address) else { return Ok(None) };
    let interpreter = Interpreter { elf, mappings, maps, bias, memory };
    let raw = interpreter.table(&RAW, &wrappers.raw)?;
    let mut tables = Vec::new();
    for (domain, functions) in TRACED.iter().zip(&wrappers.traced) {
        tables.push(interpreter.table(domain, functions)?);
    }
    let mut calls = Calls::default();
    for ((domain, functions), table) in TRACED.iter().zip(&wrappers.traced).zip(&tables) {
        if table.targets != raw.targets {
            interpreter.add(&mut calls, domain, functions, table)?;
        }
    }
    let object = calls.plan(elf, mappings, kernel)?;
    Ok(Some(InterpreterPlan { object, tables }))
}

/// The exported functions.
struct Wrappers {
    raw: Four<Symbol>,
    traced: [Four<Symbol>; 2],
}

impl Wrappers {
    fn of<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Option<Self> {
        let names: Vec<_> = [RAW, TRACED[0], TRACED[1]].iter().flat_map(|it| it.names).collect();
        let symbols = elf.functions(&names);
        let of = |domain: &Domain| -> Option<Four<Symbol>> {
            let find =
                |name: &&str| symbols.iter().find(|it| it.name == *name && it.size_bytes > 0);
            let found: Vec<Symbol> = domain.names.iter().filter_map(find).cloned().collect();
            found.try_into().ok()
        };
        Some(Self { raw: of(&RAW)?, traced: [of(&TRACED[0])?, of(&TRACED[1])?] })
    }
}

/// What a process adds to the addresses of a file.
fn bias<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, mappings: &[Mapping], symbol: u64) -> Option<u64> {
    let offset = elf.file_offset(symbol)?;
    let mapping = covering(mappings, offset)?;
    Some((mapping.start + (offset - mapping.file_offset)).wrapping_sub(symbol))
}

/// An interpreter in a process.
struct Interpreter<'a, 'd, R: ReadRef<'d>, M> {
    elf: &'a Elf<'d, R>,
    mappings: &'a [Mapping],
    maps: &'a [Mapping],
    bias: u64,
    memory: &'a M,
}

impl<'d, R: ReadRef<'d>, M: TargetMemory> Interpreter<'_, 'd, R, M> {
    fn table(&self, domain: &Domain, functions: &Four<Symbol>) -> Result<Table, PymallocRefusal> {
        let name = domain.names[0];
        let code = functions.each_ref().map(|symbol| MappedCode {
            address: symbol.address.wrapping_add(self.bias),
            body: self.elf.code(symbol.address, symbol.size_bytes).unwrap_or_default(),
        });
        let is_code = |target| holds(self.maps, target);
        let table = table::find(&code, self.memory, is_code);
        let table = table.ok_or(PymallocRefusal::NoTable(name))?;
        let is_own = table.targets.iter().all(|target| holds(self.mappings, *target));
        is_own.then_some(table).ok_or(PymallocRefusal::Foreign(name))
    }

    /// Adds what has to be probed of a domain.
    fn add(
        &self,
        calls: &mut Calls,
        domain: &Domain,
        functions: &Four<Symbol>,
        table: &Table,
    ) -> Result<(), PymallocRefusal> {
        let Some(traced) = domain.functions else { return Ok(()) };
        let targets = table.targets.map(|target| target.wrapping_sub(self.bias));
        let copies = self.copies(&targets);
        self.check_copies(&copies)?;
        for (index, function) in traced.into_iter().enumerate() {
            let shape = function.shape().with_context().unwrap_or(function.shape());
            calls.add(function, shape, targets[index], self.size_of(targets[index]));
            let own = &functions[index];
            if copies::any_in(&copies, &range(own)) {
                calls.add(function, function.shape(), own.address, own.size_bytes);
            }
        }
        Ok(())
    }

    /// A copy is seen where the function around it is probed.
    fn check_copies(&self, copies: &[u64]) -> Result<(), PymallocRefusal> {
        let names: Vec<_> = TRACED.iter().flat_map(|domain| domain.names).collect();
        let probed: Vec<_> = self.elf.functions(&names).iter().map(range).collect();
        let is_hidden = |copy: &&u64| !probed.iter().any(|it| it.contains(copy));
        match copies.iter().filter(is_hidden).count() {
            0 => Ok(()),
            copies => Err(PymallocRefusal::Copies { copies }),
        }
    }

    fn copies(&self, targets: &Four<u64>) -> Vec<u64> {
        let code = |it: CodeSegment| (it.address, self.elf.code(it.address, it.size_bytes));
        let segments = self.elf.code_segments().map(code);
        segments
            .flat_map(|(start, code)| copies::find(start, code.unwrap_or_default(), targets))
            .collect()
    }

    /// The length of a function, where the file has a symbol for it.
    fn size_of(&self, address: u64) -> u64 {
        let symbols = self.elf.definitions(SymbolTable::Full, |_| true).unwrap_or_default();
        let found = symbols.iter().find(|it| it.address == address && it.size_bytes > 0);
        found.map_or(0, |symbol| symbol.size_bytes)
    }
}

fn range(symbol: &Symbol) -> Range<u64> {
    symbol.address..symbol.address.saturating_add(symbol.size_bytes)
}

fn holds(mappings: &[Mapping], address: u64) -> bool {
    mappings.iter().any(|mapping| mapping.permissions.execute && mapping.contains(address))
}

/// A function to probe.
struct Wanted {
    function: AllocFn,
    aliases: Vec<AllocFn>,
    shape: CallShape,
    address: u64,
    size_bytes: u64,
}

/// What has to be probed, each address once: as a rule one function serves both domains.
#[derive(Default)]
struct Calls(Vec<Wanted>);

impl Calls {
    fn add(&mut self, function: AllocFn, shape: CallShape, address: u64, size_bytes: u64) {
        match self.0.iter_mut().find(|it| it.address == address) {
            Some(known) if known.function == function => {}
            Some(known) => known.aliases.push(function),
            None => {
                self.0.push(Wanted { function, aliases: Vec::new(), shape, address, size_bytes })
            }
        }
    }

    fn plan<'d, R: ReadRef<'d>>(
        self,
        elf: &Elf<'d, R>,
        mappings: &[Mapping],
        kernel: KernelVersion,
    ) -> Result<Option<ObjectPlan>, PymallocRefusal> {
        let mut planner = Planner::new(elf, mappings, kernel);
        for wanted in self.0 {
            let probe = plan_one(&planner, wanted)?;
            planner.probes.push(probe);
        }
        planner.leave_entered_sites();
        if let Some((function, reason)) = planner.skipped.pop() {
            return Err(PymallocRefusal::Unprobeable { function: function.name(), reason });
        }
        let first = planner.probes.first().map(|probe| probe.file_offset);
        let mapping = first.and_then(|offset| covering(mappings, offset)).cloned();
        Ok(mapping.map(|mapping| ObjectPlan {
            mapping,
            allocator: AllocatorId::Pymalloc,
            version: None,
            prefix: String::new(),
            build_id: elf.build_id().map(|build_id| build_id.id),
            probes: planner.probes,
            callers: Vec::new(),
            skipped: Vec::new(),
            notes: Vec::new(),
        }))
    }
}

fn plan_one<'d, R: ReadRef<'d>>(
    planner: &Planner<'_, 'd, R>,
    wanted: Wanted,
) -> Result<PlannedProbe, PymallocRefusal> {
    let Wanted { function, aliases, shape, address, size_bytes } = wanted;
    let planned = planner.plan_code(function, shape, address, size_bytes);
    planned
        .map(|probe| PlannedProbe { aliases, ..probe })
        .map_err(|reason| PymallocRefusal::Unprobeable { function: function.name(), reason })
}
