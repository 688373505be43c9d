//! Where a function returns that may throw.
//!
//! A return probe replaces the return address, and the unwinder of C++ knows nothing of the kernel's
//! trampoline: an exception that passes it ends the program (`std::terminate`). So the instructions
//! that return are probed instead.

use std::collections::{BTreeMap, BTreeSet};

use object::ReadRef;

use super::candidates::Candidates;
use crate::{elf::Elf, probe::site::flow};

/// What is called for its exception, or to end the program. Sources: the Itanium C++ ABI
/// (exception handling, 2.4 and 2.5), libstdc++'s `functexcept.h`, abort(3).
const NEVER_RETURN: [&str; 12] = [
    "__cxa_throw",
    "__cxa_rethrow",
    "__cxa_throw_bad_array_new_length",
    "_Unwind_Resume",
    "_ZSt17__throw_bad_allocv",
    "_ZSt20__throw_length_errorPKc",
    "_ZSt9terminatev",
    "__clang_call_terminate",
    "__stack_chk_fail",
    "__assert_fail",
    "abort",
    "exit",
];

/// The most instructions; each is a probe.
const MOST: usize = 64;

/// The addresses of all instructions by which a call of a function may return; `None` when they
/// cannot be told.
pub(super) fn of<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    address: u64,
    candidates: &Candidates,
) -> Option<BTreeSet<u64>> {
    let names: BTreeSet<&[u8]> = candidates.imports.values().map(String::as_bytes).collect();
    let own = elf.functions_where(|name| names.contains(name));
    let own = own.into_iter().map(|function| (function.name, function.address)).collect();
    let returns = flow::returns(address, &Object { elf, candidates, own })?;
    let is_few = !returns.is_empty() && returns.len() <= MOST;
    is_few.then(|| returns.into_iter().map(|it| it.address).collect())
}

/// The object around the function.
struct Object<'a, 'd, R: ReadRef<'d>> {
    elf: &'a Elf<'d, R>,
    candidates: &'a Candidates,
    /// Its own functions that it calls by way of the dynamic linker.
    own: BTreeMap<String, u64>,
}

impl<'d, R: ReadRef<'d>> flow::Surroundings for Object<'_, 'd, R> {
    fn code(&self, address: u64, size_bytes: u64) -> &[u8] {
        self.elf.code(address, size_bytes).unwrap_or_default()
    }

    fn landing(&self, address: u64) -> Option<u64> {
        match self.candidates.stub(self.elf, address) {
            Some(name) => self.own.get(name).copied(),
            None => Some(address),
        }
    }

    fn never_returns(&self, address: u64) -> bool {
        self.candidates.stub(self.elf, address).is_some_and(|name| NEVER_RETURN.contains(&name))
    }
}
