//! One step of a walk, once by a rule of the tables and once by call frame information as DWARF
//! defines it, with registers and memory that tell any two ways of computing something apart.

use gimli::{
    CfaRule as DwarfCfa, EhFrame, EndianSlice, EvaluationResult, Expression, LittleEndian,
    Location, Register, RegisterRule, UnwindTableRow, Value, X86_64,
};
use memtrace_common::unwind::table::{
    CfaRule, CodeMapping, CodeMappings, FpRule, PAGE_BITS, Row, Rule,
};

use super::super::table::Tables;

pub(super) type Section<'d> = EhFrame<EndianSlice<'d, LittleEndian>>;
type DwarfRow = UnwindTableRow<usize>;

/// What a step leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Stack pointer and frame pointer of the caller.
    Caller(u64, u64),
    Root,
    Signal,
    Unknown,
}

fn register(register: Register, pc: u64) -> u64 {
    match register {
        X86_64::RSP => 0x7ffc_1234_5670,
        X86_64::RBP => 0x7ffc_1235_1110,
        X86_64::RA => pc,
        Register(other) => 0x5500_0000_0000 + u64::from(other) * 0x10_0000,
    }
}

/// Every word of memory is another one.
fn memory(address: u64) -> u64 {
    address.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

/// As the walker does it.
pub(super) fn by_rule(rule: Rule, pc: u64) -> Step {
    let (sp, bp) = (register(X86_64::RSP, pc), register(X86_64::RBP, pc));
    let offset = i64::from(rule.cfa_offset);
    let kind = |kind: CfaRule| rule.cfa == kind as u8;
    let cfa = match rule.cfa {
        _ if kind(CfaRule::Sp) => sp.wrapping_add_signed(offset),
        _ if kind(CfaRule::Bp) => bp.wrapping_add_signed(offset),
        _ if kind(CfaRule::Plt) => sp + 8 + if (pc & 15) as i64 >= offset { 8 } else { 0 },
        _ if kind(CfaRule::DerefBp) => memory(bp.wrapping_add_signed(offset)),
        _ if kind(CfaRule::DerefSp) => memory(sp.wrapping_add_signed(offset)),
        _ if kind(CfaRule::Signal) => return Step::Signal,
        _ if kind(CfaRule::Root) => return Step::Root,
        _ => return Step::Unknown,
    };
    let caller_bp = match rule.fp {
        fp if fp == FpRule::Same as u8 => bp,
        fp if fp == FpRule::Cfa as u8 => memory(cfa.wrapping_add_signed(rule.fp_offset.into())),
        _ => memory(bp),
    };
    Step::Caller(cfa, caller_bp)
}

/// As the DWARF standard says (section 6.4), for a row of a function that is no signal trampoline.
pub(super) fn by_dwarf(row: &DwarfRow, section: &Section<'_>, pc: u64) -> Step {
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Step::Root,
        Some(RegisterRule::Offset(-8)) => {}
        _ => return Step::Unknown,
    }
    let cfa = match row.cfa() {
        DwarfCfa::RegisterAndOffset { register: base, offset } => {
            register(*base, pc).wrapping_add_signed(*offset)
        }
        DwarfCfa::Expression(expression) => evaluate(expression.get(section).unwrap(), None, pc),
    };
    let bp = match row.register(X86_64::RBP) {
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => register(X86_64::RBP, pc),
        Some(RegisterRule::Offset(offset)) => memory(cfa.wrapping_add_signed(offset)),
        Some(RegisterRule::ValOffset(offset)) => cfa.wrapping_add_signed(offset),
        Some(RegisterRule::Register(other)) => register(other, pc),
        Some(RegisterRule::Expression(expression)) => {
            memory(evaluate(expression.get(section).unwrap(), Some(cfa), pc))
        }
        Some(RegisterRule::ValExpression(expression)) => {
            evaluate(expression.get(section).unwrap(), Some(cfa), pc)
        }
        Some(other) => panic!("{other:?}"),
    };
    Step::Caller(cfa, bp)
}

/// Whether a row is of the kind that any unwinder must know.
pub(super) fn is_plain(row: &DwarfRow) -> bool {
    let cfa = matches!(
        row.cfa(),
        DwarfCfa::RegisterAndOffset { register: X86_64::RSP | X86_64::RBP, .. }
    );
    let bp = row.register(X86_64::RBP);
    cfa && matches!(bp, None | Some(RegisterRule::SameValue | RegisterRule::Offset(_)))
}

fn evaluate(
    expression: Expression<EndianSlice<'_, LittleEndian>>,
    initial: Option<u64>,
    pc: u64,
) -> u64 {
    let encoding = gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut evaluation = expression.evaluation(encoding);
    if let Some(initial) = initial {
        evaluation.set_initial_value(initial);
    }
    let mut state = evaluation.evaluate().unwrap();
    loop {
        let value = match state {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresRegister { register: wanted, .. } => {
                let value = Value::Generic(register(wanted, pc));
                state = evaluation.resume_with_register(value).unwrap();
                continue;
            }
            EvaluationResult::RequiresMemory { address, size: 8, .. } => memory(address),
            other => panic!("{other:?}"),
        };
        state = evaluation.resume_with_memory(Value::Generic(value)).unwrap();
    }
    match evaluation.result()[0].location {
        Location::Address { address } => address,
        other => panic!("{other:?}"),
    }
}

/// The rule for an address of a process, found as the walker finds it: in the maps' words alone.
pub(super) fn find_rule(tables: &Tables, code: &CodeMappings, pc: u64) -> Rule {
    let mappings = &code.mappings[..code.count as usize];
    let after = mappings.partition_point(|mapping| mapping.start <= pc);
    let Some(mapping) = mappings[..after].last().filter(|mapping| pc < mapping.end) else {
        return Rule::default();
    };
    let number = row_at(tables, mapping, pc.wrapping_sub(mapping.bias)).rule();
    tables.rules()[number as usize]
}

fn row_at(tables: &Tables, mapping: &CodeMapping, at: u64) -> Row {
    let page = at >> PAGE_BITS;
    if page >= u64::from(mapping.pages) {
        return Row(0);
    }
    let entry = (mapping.first_page + page as u32) as usize;
    let (first, end) = (tables.index()[entry] as usize, tables.index()[entry + 1] as usize);
    let offset = (at & ((1 << PAGE_BITS) - 1)) as u32;
    let behind = tables.rows()[first..end].partition_point(|row| Row(*row).page_offset() <= offset);
    Row(tables.rows()[first + behind - 1])
}
