//! `.eh_frame` (or `.debug_frame`) of one object to rows.
//!
//! Everything in the file is taken for hostile.

use std::collections::BTreeMap;

use gimli::{BaseAddresses, DebugFrame, EhFrame, LittleEndian};
use memtrace_common::unwind::table::Rule;
use thiserror::Error;

use super::{call_sites::Code, functions::Compiler, output::Compiled};
use crate::elf::{CodeSegment, Elf, ElfError, FrameSection, Machine};

/// The largest section that is read; 100 MB of C++ have 5 MB.
const MAX_SECTION_BYTES: usize = 128 << 20;
/// The most code from the first to the last byte: as far as a call reaches (`rel32`). The offset of a row
/// has room for it.
const MAX_SPAN_BYTES: u64 = 1 << 31;

/// The rows of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRows {
    /// Where its code begins, as the file states addresses.
    pub base: u64,
    /// Ascending by address; unknown before the first.
    pub rows: Vec<ObjectRow>,
    /// What the rows refer to; the first is [`CfaRule::Unknown`](memtrace_common::unwind::table::CfaRule::Unknown).
    pub rules: Vec<Rule>,
    /// The executable segments, in the file's order.
    pub segments: Vec<CodeSegment>,
    /// How it went.
    pub stats: CompileStats,
}

impl ObjectRows {
    /// Where a row begins, as the file states addresses.
    pub fn address(&self, row: &ObjectRow) -> u64 {
        self.base + u64::from(row.offset)
    }
}

/// From an address on a rule holds. There are up to millions: 8 bytes each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectRow {
    /// How far the address is from the object's base, in bytes.
    pub offset: u32,
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
    /// Whoever wanted the rows does not want to wait any longer.
    #[error("there was no time to compile its unwind information")]
    Stopped,
}

/// What rows are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Return addresses: an eighth of all rows.
    #[default]
    Calls,
    /// Any instruction, as stacks from page faults start with one.
    Everywhere,
}

/// Compiles an ELF file (or the image of the vDSO).
///
/// # Errors
/// When nothing at all can be used, or when the file is built to exhaust the reader. Single
/// functions that are damaged or not supported are counted in [`CompileStats::unsupported`], and
/// their code is [`CfaRule::Unknown`](memtrace_common::unwind::table::CfaRule::Unknown).
pub fn compile(file: &[u8]) -> Result<ObjectRows, CompileError> {
    compile_for(file, Wanted::Calls, &|| true)
}

/// As [`compile`], with the rows that are wanted, and for as long as it may go on: that is asked every
/// some hundred functions.
///
/// # Errors
/// Likewise; [`CompileError::Stopped`] when it may not.
pub fn compile_for(
    file: &[u8],
    wanted: Wanted,
    may_go_on: &dyn Fn() -> bool,
) -> Result<ObjectRows, CompileError> {
    let elf = Elf::parse(file)?;
    if elf.machine() != Machine::X86_64 {
        return Err(CompileError::UnsupportedMachine(elf.machine()));
    }
    let code = Code::new(&elf, wanted);
    let base = base(&code)?;
    let section = elf.frame_section()?.ok_or(CompileError::NoFrames)?;
    if section.data.len() > MAX_SECTION_BYTES {
        let size_bytes = section.data.len();
        return Err(CompileError::TooLong { section: section.name, size_bytes });
    }
    let (rows, rules, stats) = compile_section(&section, code, may_go_on)?;
    Ok(ObjectRows { base, rows, rules, segments: elf.code_segments().collect(), stats })
}

/// Where the code begins, if it does not spread too far.
fn base(code: &Code<'_>) -> Result<u64, CompileError> {
    let (start, end) = code.bounds().ok_or(CompileError::NoCode)?;
    match end - start {
        0 => Err(CompileError::NoCode),
        span_bytes if span_bytes > MAX_SPAN_BYTES => Err(CompileError::TooWide { span_bytes }),
        _ => Ok(start),
    }
}

fn compile_section(
    section: &FrameSection<'_>,
    code: Code<'_>,
    may_go_on: &dyn Fn() -> bool,
) -> Result<Compiled, CompileError> {
    let bases = BaseAddresses::default().set_eh_frame(section.address);
    let length = section.data.len();
    match section.name {
        ".eh_frame" => {
            let section = EhFrame::new(section.data, LittleEndian);
            Compiler::new(section, &bases, length, code).run(may_go_on)
        }
        _ => {
            let section = DebugFrame::new(section.data, LittleEndian);
            Compiler::new(section, &bases, length, code).run(may_go_on)
        }
    }
}
