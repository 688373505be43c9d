//! The functions of the allocators in an object, by their symbols.

use std::collections::{BTreeMap, BTreeSet};

use memtrace_common::function::{AllocFn, CallShape};
use object::ReadRef;

use super::function_code;
use crate::{
    allocator::{
        self, AllocatorId, GivenNames,
        family::{self, Family, releases},
        names::{C, MAPPINGS, Name, OPERATORS},
    },
    elf::{Elf, NamedFunction, Symbol, SymbolKind},
    probe::site::flow,
};

/// A function that an object defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its symbol.
    pub(super) symbol: String,
    pub(super) function: AllocFn,
    pub(super) shape: CallShape,
    /// As the file states it.
    pub(super) address: u64,
    pub(super) size_bytes: u64,
    pub(super) kind: SymbolKind,
}

/// The functions of one allocator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    pub(super) allocator: AllocatorId,
    pub(super) version: Option<String>,
    /// What all their symbols begin with.
    pub(super) prefix: String,
    /// The most usual names first.
    pub(super) functions: Vec<Candidate>,
    /// The functions that the object calls by way of the dynamic linker, by slot.
    pub(super) imports: BTreeMap<u64, String>,
}

/// The allocators in an object.
pub(super) fn of<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, given: &[GivenNames]) -> Vec<Candidates> {
    let standard = standard(elf);
    let families = families(elf, given, standard.is_some());
    let mut all: Vec<Candidates> =
        standard.into_iter().chain(families.iter().filter_map(|it| of_family(elf, it))).collect();
    if !all.is_empty() {
        let imports: BTreeMap<u64, String> = elf
            .imports()
            .into_iter()
            .filter_map(|(slot, name)| Some((slot, std::str::from_utf8(name).ok()?.to_owned())))
            .collect();
        all.iter_mut().for_each(|candidates| candidates.imports.clone_from(&imports));
    }
    all
}

/// Those that serve `malloc`.
fn standard<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Option<Candidates> {
    let lists: Vec<&Name> = C.iter().chain(&MAPPINGS).chain(&OPERATORS).collect();
    let mut wanted: Vec<&'static str> = lists.iter().map(|name| name.symbol).collect();
    wanted.extend(allocator::wanted_symbols());
    let symbols = elf.functions(&wanted);
    let defines = |name: &str| symbols.iter().any(|symbol| symbol.name == name);
    if !defines("malloc") || !defines("free") {
        return None;
    }
    let mut functions: Vec<Candidate> =
        lists.into_iter().filter_map(|name| of_symbol(&symbols, name)).collect();
    for sign in ["tc_malloc", "mi_malloc"].into_iter().filter(|sign| defines(sign)) {
        let families = family::families([sign].into_iter());
        functions.extend(families.iter().flat_map(|family| functions_of(elf, family)));
    }
    let (allocator, version) = allocator::identify(defines, elf.section(".rodata"));
    let (prefix, imports) = Default::default();
    Some(Candidates { allocator, version, prefix, functions, imports })
}

fn of_symbol(symbols: &[Symbol], name: &Name) -> Option<Candidate> {
    let symbol = symbols.iter().find(|symbol| symbol.name == name.symbol)?;
    Some(Candidate {
        symbol: name.symbol.to_owned(),
        function: name.function,
        shape: name.shape,
        address: symbol.address,
        size_bytes: symbol.size_bytes,
        kind: symbol.kind,
    })
}

/// The families that an object's symbols tell of, and those that were given.
fn families<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    given: &[GivenNames],
    is_standard: bool,
) -> Vec<Family> {
    let mut families = family::in_object(elf);
    families.retain(|family| family.allocator == AllocatorId::Jemalloc || !is_standard);
    for names in given {
        let named = family::given(names);
        if !families.iter().any(|family| family.prefix == named.prefix) {
            families.push(named);
        }
    }
    families
}

/// A family's functions, if some obtain blocks and some release them.
fn of_family<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, family: &Family) -> Option<Candidates> {
    let functions = functions_of(elf, family);
    let is_release = |it: &Candidate| releases(it.shape);
    if functions.iter().all(is_release) || !functions.iter().any(is_release) {
        return None;
    }
    Some(Candidates {
        allocator: family.allocator,
        version: allocator::version(family.allocator, elf.section(".rodata")),
        prefix: family.prefix.clone(),
        functions,
        imports: BTreeMap::new(),
    })
}

fn functions_of<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, family: &Family) -> Vec<Candidate> {
    let prefix = family.prefix.as_bytes();
    let names: BTreeMap<&[u8], &Name> =
        family.names.iter().map(|name| (name.symbol.as_bytes(), name)).collect();
    let named = |symbol: &[u8]| {
        let rest = symbol.strip_prefix(prefix)?;
        names.get(rest).copied()
    };
    let found = elf.functions_where(|symbol| named(symbol).is_some());
    let candidate = |it: NamedFunction| {
        let name = named(it.name.as_bytes())?;
        let NamedFunction { name: symbol, address, size_bytes, kind } = it;
        let (function, shape) = (name.function, name.shape);
        Some(Candidate { symbol, function, shape, address, size_bytes, kind })
    };
    found.into_iter().filter_map(candidate).collect()
}

impl Candidates {
    /// Whether nothing can be told without a function: `malloc` and `free` where they are what
    /// callers in other objects get, and whatever releases blocks in a family.
    pub(super) fn is_needed(&self, function: AllocFn) -> bool {
        match self.prefix.is_empty() {
            true => matches!(function, AllocFn::Malloc | AllocFn::Free),
            false => releases(function.shape()),
        }
    }

    /// Whether a function leaves its call to another one of these, which is probed: two probes would
    /// see two frees where there is one, and one that throws would not be seen to end.
    ///
    /// Of functions that obtain a block this holds for those that are nothing but a jump: inside of
    /// others, the inner call is seen to be nested.
    pub(super) fn hands_on<'d, R: ReadRef<'d>>(
        &self,
        elf: &Elf<'d, R>,
        candidate: &Candidate,
    ) -> bool {
        let Ok(code) = function_code(elf, candidate.address, candidate.size_bytes) else {
            return false;
        };
        let must_not_nest = releases(candidate.shape) || candidate.shape == CallShape::Throwing;
        if !code.is_whole || !(must_not_nest || flow::is_jump(code)) {
            return false;
        }
        let flow::Transfers { targets, slots } = flow::transfers(code);
        let landings = targets.iter().filter_map(|target| self.stub(elf, *target));
        let names: BTreeSet<&str> =
            slots.iter().filter_map(|slot| self.import(*slot)).chain(landings).collect();
        self.functions.iter().any(|other| {
            other.address != candidate.address
                && releases(other.shape) == releases(candidate.shape)
                && !other.shape.is_mapping()
                && (targets.contains(&other.address) || names.contains(other.symbol.as_str()))
        })
    }

    /// The function that a stub of the procedure linkage table leads to.
    pub(super) fn stub<'d, R: ReadRef<'d>>(&self, elf: &Elf<'d, R>, address: u64) -> Option<&str> {
        const STUB_BYTES: u64 = 16;
        let slot = flow::stub_slot(address, elf.code(address, STUB_BYTES).ok()?)?;
        self.import(slot)
    }

    fn import(&self, slot: u64) -> Option<&str> {
        self.imports.get(&slot).map(String::as_str)
    }
}
