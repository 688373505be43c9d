//! `.eh_frame` (or `.debug_frame`) of one object to rows.
//!
//! Two passes: first the functions that the section describes are listed and sorted, then each is
//! run through in the order of addresses, so that every byte of code is looked at once, whatever
//! the file says. Everything in the file is taken for hostile.

use std::collections::{BTreeMap, HashMap};

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, FrameDescriptionEntry,
    LittleEndian, PartialFrameDescriptionEntry, UnwindContext, UnwindOffset, UnwindSection, X86_64,
};
use memtrace_common::unwind::table::{CfaRule, Rule};
use thiserror::Error;

use super::{
    call_sites::Code,
    rows::RowBuilder,
    rule::{self, Bytes, FewRegisters, SIGNAL, UNKNOWN},
};
use crate::elf::{CodeSegment, Elf, ElfError, FrameSection, Machine};

/// The largest section that is read; 100 MB of C++ have 5 MB.
const MAX_SECTION_BYTES: usize = 128 << 20;
/// The most code from the first to the last byte: as far as a call reaches (`rel32`).
const MAX_SPAN_BYTES: u64 = 1 << 31;
/// The most CIEs; each compiler has few, and linkers join equal ones.
const MAX_CIES: usize = 1 << 16;
/// The most bytes of CIEs that are run through for each byte of the section (each FDE runs
/// through its CIE's); as a rule it is about one.
const MAX_WORK_PER_BYTE: usize = 16;

/// The rows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRows {
    /// Ascending by address; unknown before the first.
    pub rows: Vec<ObjectRow>,
    /// What the rows refer to; the first is [`CfaRule::Unknown`].
    pub rules: Vec<Rule>,
    /// The executable segments, in the file's order.
    pub segments: Vec<CodeSegment>,
    /// How it went.
    pub stats: CompileStats,
}

/// From an address on a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// Address as the file states it.
    pub address: u64,
    /// Index of the rule in the object's rules.
    pub rule: u32,
}

/// What became of an object's unwind information.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CompileStats {
    /// Functions (FDEs) with code.
    pub fdes: u64,
    /// Those of them with rows that a return address may need but that are not supported.
    pub unsupported_fdes: u64,
    /// Rows in the file, equal neighbours counted once.
    pub rows_before: u64,
    /// Rows that were kept.
    pub rows: u64,
    /// Distinct rules.
    pub rules: u64,
    /// Rows a return address may need but that are not supported, and entries that are damaged,
    /// by reason.
    pub unsupported: BTreeMap<&'static str, u64>,
    /// Length of the executable segments.
    pub text_bytes: u64,
}

/// Why an object has no rows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The file is not what it should be.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// Another machine's unwind information.
    #[error("unwind information of {0:?} is not supported")]
    UnsupportedMachine(Machine),
    /// Neither `.eh_frame` nor `.debug_frame`.
    #[error("it has no unwind information")]
    NoFrames,
    /// No executable segment.
    #[error("it has no code")]
    NoCode,
    /// Longer than any real one.
    #[error("its {section} of {size_bytes} bytes is too long")]
    TooLong {
        /// Which section.
        section: &'static str,
        /// Its length.
        size_bytes: usize,
    },
    /// The executable segments are further apart than a call can reach.
    #[error("its code spreads over {span_bytes:#x} bytes")]
    TooWide {
        /// From the first to the last byte.
        span_bytes: u64,
    },
    /// More CIEs than any real object has.
    #[error("its unwind information has too many CIEs")]
    TooManyCies,
    /// CIEs so long and so often used that running through them would take too long.
    #[error("its unwind information is too expensive to evaluate")]
    TooMuchWork,
    /// More rows than any real object has.
    #[error("its unwind information has too many rows")]
    TooManyRows,
    /// More rules than fit into the tables.
    #[error("its unwind information has too many different rules")]
    TooManyRules,
}

/// Compiles an ELF file (or the image of the vDSO).
///
/// # Errors
/// When nothing at all can be used, or when the file is built to exhaust the reader. Single
/// functions that are damaged or not supported are counted in [`CompileStats::unsupported`], and
/// their code is [`CfaRule::Unknown`].
pub fn compile(file: &[u8]) -> Result<ObjectRows, CompileError> {
    let elf = Elf::parse(file)?;
    if elf.machine() != Machine::X86_64 {
        return Err(CompileError::UnsupportedMachine(elf.machine()));
    }
    let code = Code::new(&elf);
    check_span(&code)?;
    let section = elf.frame_section()?.ok_or(CompileError::NoFrames)?;
    if section.data.len() > MAX_SECTION_BYTES {
        let size_bytes = section.data.len();
        return Err(CompileError::TooLong { section: section.name, size_bytes });
    }
    let (rows, rules, stats) = compile_section(&section, code)?;
    Ok(ObjectRows { rows, rules, segments: elf.code_segments().collect(), stats })
}

fn check_span(code: &Code<'_>) -> Result<(), CompileError> {
    let (start, end) = code.bounds().ok_or(CompileError::NoCode)?;
    match end - start {
        0 => Err(CompileError::NoCode),
        span_bytes if span_bytes > MAX_SPAN_BYTES => Err(CompileError::TooWide { span_bytes }),
        _ => Ok(()),
    }
}

type Compiled = (Vec<ObjectRow>, Vec<Rule>, CompileStats);

fn compile_section(section: &FrameSection<'_>, code: Code<'_>) -> Result<Compiled, CompileError> {
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let length = section.data.len();
    match section.name {
        ".eh_frame" => {
            let section = EhFrame::new(section.data, LittleEndian);
            Compiler::new(section, &bases, length, code).run()
        }
        _ => {
            let section = DebugFrame::new(section.data, LittleEndian);
            Compiler::new(section, &bases, length, code).run()
        }
    }
}

struct Compiler<'d, S> {
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
    /// Of its FDE in the section, which [`MAX_SECTION_BYTES`] keeps small.
    entry: u32,
}

impl<'d, S: UnwindSection<Bytes<'d>>> Compiler<'d, S> {
    fn new(section: S, bases: &'d BaseAddresses, length: usize, code: Code<'d>) -> Self {
        let work_left = length.saturating_mul(MAX_WORK_PER_BYTE);
        Self { section, bases, cies: HashMap::new(), work_left, output: Output::new(code) }
    }

    fn run(mut self) -> Result<Compiled, CompileError> {
        let mut functions = self.list_functions()?;
        functions.sort_by_key(|function| function.start);
        let mut context = UnwindContext::new_in();
        for function in functions {
            let before = self.output.unsupported_rows;
            self.compile_function(&function, &mut context)?;
            let is_unsupported = self.output.unsupported_rows > before;
            self.output.stats.unsupported_fdes += u64::from(is_unsupported);
        }
        self.output.finish()
    }

    /// All functions with code. A damaged entry ends the list: where the next one begins is not
    /// known.
    fn list_functions(&mut self) -> Result<Vec<Function>, CompileError> {
        let mut functions = Vec::new();
        let mut entries = self.section.entries(self.bases);
        loop {
            match entries.next() {
                Ok(None) => return Ok(functions),
                Ok(Some(CieOrFde::Cie(cie))) => self.add_cie(cie)?,
                Ok(Some(CieOrFde::Fde(entry))) => functions.extend(self.function(&entry)?),
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

    /// Adds the rows of a function, clipped to what is not taken by others.
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
                    let first = row.start_address().max(start);
                    self.output.add(first, row_end, rule::translate(row, &self.section))?;
                    start = row_end.max(start);
                }
                Ok(None) => break,
                Err(_) => return self.output.add(start, end, DAMAGED),
            }
        }
        Ok(())
    }
}

fn find_cie<'d>(
    cies: &HashMap<usize, CommonInformationEntry<Bytes<'d>>>,
    offset: impl UnwindOffset,
) -> gimli::Result<CommonInformationEntry<Bytes<'d>>> {
    let offset = UnwindOffset::into(offset);
    cies.get(&offset).cloned().ok_or(gimli::Error::NotCieId(offset as u64))
}

/// Takes functions and their rows in ascending order.
struct Output<'d> {
    code: Code<'d>,
    rows: RowBuilder,
    stats: CompileStats,
    /// Where the functions so far end.
    covered: Option<u64>,
    /// Of the last row, kept or not.
    last_rule: Rule,
    /// Rows that may be needed and are not supported.
    unsupported_rows: u64,
}

impl<'d> Output<'d> {
    fn new(code: Code<'d>) -> Self {
        let stats = CompileStats { text_bytes: code.size_bytes(), ..CompileStats::default() };
        Self {
            code,
            rows: RowBuilder::new(),
            stats,
            covered: None,
            last_rule: UNKNOWN,
            unsupported_rows: 0,
        }
    }

    /// Begins a function: what of its code is not another's already (start, end).
    fn begin(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'d>>,
    ) -> Result<Option<(u64, u64)>, CompileError> {
        let start = fde.initial_address().max(self.covered.unwrap_or_default());
        let end = fde.initial_address().saturating_add(fde.len());
        let end = self.code.segment_end(fde.initial_address()).map_or(0, |limit| end.min(limit));
        if start >= end {
            return Ok(None);
        }
        self.stats.fdes += 1;
        if let Some(covered) = self.covered.replace(end)
            && covered < start
            && self.code.may_run(covered, start)
        {
            self.count_row(UNKNOWN);
            self.rows.push(covered, UNKNOWN)?;
        }
        Ok(Some((start, end)))
    }

    /// Adds a row of the function, unless no return address can fall into it.
    fn add(
        &mut self,
        start: u64,
        end: u64,
        rule: Result<Rule, &'static str>,
    ) -> Result<(), CompileError> {
        if start >= end {
            return Ok(());
        }
        self.count_row(rule.unwrap_or(UNKNOWN));
        if !rule.is_ok_and(is_always_kept) && !self.code.may_call(start, end) {
            return Ok(());
        }
        let rule = rule.unwrap_or_else(|reason| {
            self.unsupported_rows += 1;
            self.count_unsupported(reason);
            UNKNOWN
        });
        self.rows.push(start, rule)
    }

    fn count_row(&mut self, rule: Rule) {
        self.stats.rows_before += u64::from(self.last_rule != rule);
        self.last_rule = rule;
    }

    fn count_unsupported(&mut self, reason: &'static str) {
        *self.stats.unsupported.entry(reason).or_default() += 1;
    }

    fn finish(mut self) -> Result<Compiled, CompileError> {
        if let Some(covered) = self.covered {
            self.count_row(UNKNOWN);
            self.rows.push(covered, UNKNOWN)?;
        }
        let (rows, rules) = self.rows.finish();
        self.stats.rows = rows.len() as u64;
        self.stats.rules = rules.len() as u64;
        Ok((rows, rules, self.stats))
    }
}

/// Signal handlers return to code that has not called them, and the dynamic linker's resolver is
/// jumped to from a PLT.
fn is_always_kept(rule: Rule) -> bool {
    rule.cfa == CfaRule::Signal as u8 || rule.cfa == CfaRule::Plt as u8
}
