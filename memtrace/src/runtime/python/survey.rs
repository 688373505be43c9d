//! What a mapped file says: whether it is a CPython, and how its C library keeps thread data.

use std::ops::Range;

use memtrace_common::config::CodeRange;
use object::ReadRef;

use super::version::Version;
use crate::{
    elf::{CodeSegment, DataSegment, Definition, Elf, Machine, SymbolTable},
    model::mapping::Mapping,
};

/// Symbols by name, at their addresses in the process.
const WANTED: [&str; 17] = [
    "_PyRuntime",
    "Py_Version",
    "PyCode_Type",
    "PyUnicode_Type",
    "PyBytes_Type",
    "_Py_NoneStruct",
    "PyEval_EvalFrameEx",
    EVAL,
    "PyPy_Initialize",
    "PyPyUnicode_AsUTF8",
    "PyCode_NewWithPosOnlyArgs",
    "PyThreadState_GetFrame",
    "PyModule_AddObjectRef",
    "_thread_db_pthread_specific",
    "_thread_db_pthread_key_data_level2_data",
    "_thread_db_pthread_key_data_data",
    "_thread_db_sizeof_pthread",
];

/// The interpreter loop.
const EVAL: &str = "_PyEval_EvalFrameDefault";

/// What GCC appends to the name of a function's rarely executed part; LTO adds a number.
const COLD: &str = ".cold";

/// A mapped object that is of interest.
#[derive(Clone, Debug, Default)]
pub(super) struct Surveyed {
    /// Path in the target's mount namespace.
    pub(super) path: String,
    /// For a machine that is not supported.
    pub(super) is_foreign: bool,
    /// A program that a dynamic linker completes.
    pub(super) is_dynamic_program: bool,
    symbols: Vec<(&'static str, u64)>,
    /// The interpreter loop's code in the process.
    pub(super) eval: EvalCode,
    /// Its zeroed data in the process, which the file does not hold.
    pub(super) zeroed: Range<u64>,
}

/// The code of `_PyEval_EvalFrameDefault`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EvalCode {
    /// Its parts.
    pub(super) ranges: [CodeRange; 2],
    /// These are all of its parts: the file names its local functions.
    pub(super) is_complete: bool,
}

impl Surveyed {
    /// Looks into a file; `None` when there is nothing of interest in it.
    pub(super) fn of<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, mapping: &Mapping) -> Option<Self> {
        let found = wanted_symbols(elf);
        (!found.is_empty()).then_some(())?;
        let bias = load_bias(elf, mapping)?;
        let symbols = found.iter().map(|(name, it)| (*name, it.address.wrapping_add(bias)));
        Some(Self {
            path: mapping.name.clone(),
            is_foreign: elf.machine() != Machine::X86_64,
            is_dynamic_program: elf.has_interpreter(),
            symbols: symbols.collect(),
            eval: eval_code(elf, bias),
            zeroed: zeroed(elf, bias),
        })
    }

    /// The address of a symbol of [`WANTED`].
    pub(super) fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|(it, _)| *it == name).map(|(_, address)| *address)
    }

    fn has(&self, name: &str) -> bool {
        self.symbol(name).is_some()
    }

    /// Whether it is an interpreter: it defines what extension modules only use.
    pub(super) fn is_python(&self) -> bool {
        let of_python = ["_PyRuntime", "Py_Version", "PyEval_EvalFrameEx", EVAL];
        of_python.into_iter().any(|name| self.has(name)) || self.is_pypy()
    }

    /// Whether it is PyPy.
    pub(super) fn is_pypy(&self) -> bool {
        self.has("PyPy_Initialize") || self.has("PyPyUnicode_AsUTF8")
    }

    /// The version by the functions that each series added to its API (up to 3.10; later ones
    /// state theirs in `Py_Version`), or before 3.8, which have no name for it, by the file name.
    pub(super) fn version_by_api(&self) -> Option<Version> {
        let by_name = Version::from_name(file_name(&self.path));
        match () {
            () if !self.has("_PyRuntime") => by_name,
            () if !self.has("PyCode_NewWithPosOnlyArgs") => by_name.or(Some(Version::v3(7))),
            () if !self.has("PyThreadState_GetFrame") => Some(Version::v3(8)),
            () if !self.has("PyModule_AddObjectRef") => Some(Version::v3(9)),
            () => Some(Version::v3(10)),
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// What the file defines of [`WANTED`]. A program may hold an interpreter that it does not export;
/// before glibc 2.34 the constants are local symbols of `libpthread`.
fn wanted_symbols<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Vec<(&'static str, Definition<'d>)> {
    let is_wanted = |name: &[u8]| WANTED.iter().any(|wanted| wanted.as_bytes() == name);
    let is_program = elf.has_interpreter() || elf.is_static_program();
    let mut found = elf.definitions(SymbolTable::Dynamic, is_wanted).unwrap_or_default();
    let may_hide = match elf.soname() {
        None => is_program,
        Some(name) => name == b"libpthread.so.0",
    };
    if may_hide && found.is_empty() {
        found = elf.definitions(SymbolTable::Full, is_wanted).unwrap_or_default();
    }
    let named = |it: Definition<'d>| {
        let name = WANTED.into_iter().find(|wanted| wanted.as_bytes() == it.name)?;
        Some((name, it))
    };
    found.into_iter().filter_map(named).collect()
}

fn eval_code<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, bias: u64) -> EvalCode {
    let is_part = |name: &[u8]| {
        let rest = name.strip_prefix(EVAL.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(COLD.as_bytes()))
    };
    let all = elf.definitions(SymbolTable::Full, is_part).filter(|parts| !parts.is_empty());
    let has_all = all.is_some();
    let parts = all.or_else(|| elf.definitions(SymbolTable::Dynamic, is_part)).unwrap_or_default();
    let mut sized: Vec<_> = parts.iter().filter(|part| part.size_bytes > 0).collect();
    sized.sort_by_key(|part| part.name.len());
    let mut ranges = [CodeRange::default(); 2];
    for (range, part) in ranges.iter_mut().zip(&sized) {
        range.start = part.address.wrapping_add(bias);
        range.end = range.start.saturating_add(part.size_bytes);
    }
    let is_complete =
        has_all && !sized.is_empty() && sized.len() == parts.len() && sized.len() <= 2;
    EvalCode { ranges, is_complete }
}

/// The larger part of its data that the file does not hold.
fn zeroed<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, bias: u64) -> Range<u64> {
    let rest = |segment: &DataSegment<'_>| {
        let start = segment.address.wrapping_add(segment.bytes.len() as u64);
        let end = segment.address.wrapping_add(segment.memory_bytes);
        start.wrapping_add(bias)..end.wrapping_add(bias)
    };
    let all = elf.data_segments().iter().map(rest).collect::<Vec<_>>();
    all.into_iter().max_by_key(|it| it.end.saturating_sub(it.start)).unwrap_or_default()
}

/// What the loader added to the addresses that the file states. `mapping` is an executable one.
fn load_bias<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, mapping: &Mapping) -> Option<u64> {
    let shown_end = mapping.file_offset.checked_add(mapping.end.checked_sub(mapping.start)?)?;
    let shown = |segment: &CodeSegment| {
        let start = segment.file_offset.max(mapping.file_offset);
        let end = shown_end.min(segment.file_offset + segment.size_bytes);
        end.saturating_sub(start)
    };
    let segment = elf.code_segments().filter(|it| shown(it) > 0).max_by_key(shown)?;
    let file_start = mapping.start.wrapping_sub(mapping.file_offset);
    Some(file_start.wrapping_add(segment.file_offset).wrapping_sub(segment.address))
}
