//! The functions that a section of unwind information describes, one after another.
//!
//! Two passes: first they are listed and sorted, then each is run through in the order of
//! addresses, so that every byte of code is looked at once, whatever the file says.

use std::collections::HashMap;

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, FrameDescriptionEntry,
    PartialFrameDescriptionEntry, UnwindContext, UnwindOffset, UnwindSection, X86_64,
};
use memtrace_common::unwind::table::Rule;

use super::{
    call_sites::Code,
    compile::CompileError,
    output::{Compiled, Output},
    rule::{self, Bytes, FewRegisters, SIGNAL},
};

/// The most CIEs; each compiler has few, and linkers join equal ones.
const MAX_CIES: usize = 1 << 16;
/// The most bytes of CIEs that are run through for each byte of the section (each FDE runs
/// through its CIE's); as a rule it is about one.
const MAX_WORK_PER_BYTE: usize = 16;
/// So many are compiled before it is asked again whether to go on: less than a millisecond.
const FUNCTIONS_AT_ONCE: usize = 512;

/// Compiles one section.
pub(super) struct Compiler<'d, S> {
    section: S,
    bases: &'d BaseAddresses,
    cies: HashMap<usize, CommonInformationEntry<Bytes<'d>>>,
    /// Bytes of CIEs that may still be run through.
    work_left: usize,
    output: Output<'d>,
}

/// A function that the section describes.
struct Function {
    start: u64,
    /// Of its FDE in the section, whose length is limited.
    entry: u32,
}

impl<'d, S: UnwindSection<Bytes<'d>>> Compiler<'d, S> {
    /// `length` is the section's; at most 4 GiB.
    pub(super) fn new(section: S, bases: &'d BaseAddresses, length: usize, code: Code<'d>) -> Self {
        let work_left = length.saturating_mul(MAX_WORK_PER_BYTE);
        let output = Output::new(code, length);
        Self { section, bases, cies: HashMap::new(), work_left, output }
    }

    /// Compiles all functions, for as long as it may go on.
    pub(super) fn run(mut self, may_go_on: &dyn Fn() -> bool) -> Result<Compiled, CompileError> {
        let mut functions = self.list_functions(may_go_on)?;
        // In place: there may be a quarter of a million.
        functions.sort_unstable_by_key(|function| (function.start, function.entry));
        let mut context = UnwindContext::new_in();
        for functions in functions.chunks(FUNCTIONS_AT_ONCE) {
            check(may_go_on)?;
            functions.iter().try_for_each(|it| self.compile_function(it, &mut context))?;
        }
        self.output.finish()
    }

    /// All functions with code. A damaged entry ends the list: where the next one begins is not
    /// known.
    fn list_functions(
        &mut self,
        may_go_on: &dyn Fn() -> bool,
    ) -> Result<Vec<Function>, CompileError> {
        let mut functions = Vec::new();
        let mut entries = self.section.entries(self.bases);
        loop {
            match entries.next() {
                Ok(None) => return Ok(functions),
                Ok(Some(CieOrFde::Cie(cie))) => self.add_cie(cie)?,
                Ok(Some(CieOrFde::Fde(entry))) => {
                    functions.extend(self.function(&entry)?);
                    if functions.len().is_multiple_of(FUNCTIONS_AT_ONCE) {
                        check(may_go_on)?;
                    }
                }
                Err(_) => {
                    self.output.count_unsupported("damaged entry, and all behind it");
                    return Ok(functions);
                }
            }
        }
    }

    fn add_cie(&mut self, cie: CommonInformationEntry<Bytes<'d>>) -> Result<(), CompileError> {
        if self.cies.len() == MAX_CIES {
            return Err(CompileError::TooManyCies);
        }
        self.cies.insert(cie.offset(), cie);
        Ok(())
    }

    fn function(
        &mut self,
        entry: &PartialFrameDescriptionEntry<'d, S, Bytes<'d>>,
    ) -> Result<Option<Function>, CompileError> {
        let Ok(fde) = entry.parse(|_, _, offset| find_cie(&self.cies, offset)) else {
            self.output.count_unsupported("damaged function entry");
            return Ok(None);
        };
        let cost = fde.cie().entry_len();
        self.work_left = self.work_left.checked_sub(cost).ok_or(CompileError::TooMuchWork)?;
        let start = fde.initial_address();
        // Linkers that drop a function leave its entry behind, with a start of zero.
        let has_code = fde.len() > 0 && self.output.code.segment_end(start).is_some();
        Ok(has_code.then_some(Function { start, entry: fde.offset() as u32 }))
    }

    fn compile_function(
        &mut self,
        function: &Function,
        context: &mut UnwindContext<usize, FewRegisters>,
    ) -> Result<(), CompileError> {
        let offset = S::Offset::from(function.entry as usize);
        let cies = &self.cies;
        let find = |_: &S, _: &BaseAddresses, at: S::Offset| find_cie(cies, at);
        let Ok(fde) = self.section.fde_from_offset(self.bases, offset, find) else {
            // It was readable when the functions were listed.
            return Ok(());
        };
        let Some((start, end)) = self.output.begin(&fde)? else { return Ok(()) };
        if fde.is_signal_trampoline() {
            return self.output.add(start, end, Ok(SIGNAL));
        }
        if fde.cie().return_address_register() != X86_64::RA {
            return self.output.add(start, end, Err("return address in another register"));
        }
        self.run_instructions(&fde, (start, end), context)
    }

    /// Adds the rows of a function, clipped to what is not taken by others. Each row begins where
    /// the one before it ends.
    fn run_instructions(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'d>>,
        (mut start, end): (u64, u64),
        context: &mut UnwindContext<usize, FewRegisters>,
    ) -> Result<(), CompileError> {
        const DAMAGED: Result<Rule, &str> = Err("damaged instructions");
        let Ok(mut table) = fde.rows(&self.section, self.bases, context) else {
            return self.output.add(start, end, DAMAGED);
        };
        while start < end {
            match table.next_row() {
                Ok(Some(row)) => {
                    let row_end = row.end_address().min(end);
                    self.output.add(start, row_end, rule::translate(row, &self.section))?;
                    start = row_end.max(start);
                }
                Ok(None) => break,
                Err(_) => return self.output.add(start, end, DAMAGED),
            }
        }
        Ok(())
    }
}

fn check(may_go_on: &dyn Fn() -> bool) -> Result<(), CompileError> {
    if may_go_on() { Ok(()) } else { Err(CompileError::Stopped) }
}

fn find_cie<'d>(
    cies: &HashMap<usize, CommonInformationEntry<Bytes<'d>>>,
    offset: impl UnwindOffset,
) -> gimli::Result<CommonInformationEntry<Bytes<'d>>> {
    let offset = UnwindOffset::into(offset);
    cies.get(&offset).cloned().ok_or(gimli::Error::NotCieId(offset as u64))
}
