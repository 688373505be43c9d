//! One row of call frame information to the rule that the walker knows.
//!
//! What compilers and linkers write for x86-64 falls into few shapes; the rest (frame addresses
//! in `r10` during the prologue of a realigned frame, hand-written assembly) is refused by name.

use std::mem;

use gimli::{
    CfaRule as DwarfCfa, EndianSlice, Expression, LittleEndian, Operation, Register, RegisterRule,
    UnwindContextStorage, UnwindExpression, UnwindSection, UnwindTableRow, X86_64,
    constants::{
        DW_OP_and, DW_OP_breg7, DW_OP_breg16, DW_OP_ge, DW_OP_lit0, DW_OP_lit3, DW_OP_lit15,
        DW_OP_lit31, DW_OP_plus, DW_OP_shl,
    },
};
use memtrace_common::unwind::table::{CfaRule, FpRule, Rule};

/// The bytes of a section.
pub(super) type Bytes<'d> = EndianSlice<'d, LittleEndian>;

/// Where call frame instructions are run: as gimli's own, but with room for fewer registers, so
/// that saving the state, which costs a hostile file one byte, stays cheap.
pub(super) struct FewRegisters;

/// The 17 that x86-64 code saves, and some more.
const MAX_REGISTERS: usize = 32;
/// Compilers nest `DW_CFA_remember_state` once.
const MAX_STATES: usize = 8;

impl<T: gimli::ReaderOffset> UnwindContextStorage<T> for FewRegisters {
    type Rules = [(Register, RegisterRule<T>); MAX_REGISTERS];
    type Stack = Box<[UnwindTableRow<T, Self>; MAX_STATES]>;
}

/// A row of call frame information.
pub(super) type Row = UnwindTableRow<usize, FewRegisters>;

/// The walk cannot go on from here.
pub(super) const UNKNOWN: Rule = rule(CfaRule::Unknown, 0);
/// See [`CfaRule::Signal`].
pub(super) const SIGNAL: Rule = rule(CfaRule::Signal, 0);
const ROOT: Rule = rule(CfaRule::Root, 0);

/// Where x86-64 keeps the return address, from the canonical frame address.
const RETURN_ADDRESS_OFFSET: i64 = -8;

const fn rule(cfa: CfaRule, cfa_offset: i32) -> Rule {
    Rule { cfa: cfa as u8, fp: FpRule::Same as u8, fp_offset: 0, cfa_offset }
}

/// The rule of a row, or why there is none.
pub(super) fn translate<'d, S>(row: &Row, section: &S) -> Result<Rule, &'static str>
where
    S: UnwindSection<Bytes<'d>>,
{
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Ok(ROOT),
        Some(RegisterRule::Offset(RETURN_ADDRESS_OFFSET)) => {}
        _ => return Err("return address is not below the frame address"),
    }
    let cfa = match row.cfa() {
        DwarfCfa::RegisterAndOffset { register, offset } => register_cfa(*register, *offset),
        DwarfCfa::Expression(expression) => expression_cfa(get(expression, section)?),
    };
    let (fp, fp_offset) = frame_pointer(row, section)?;
    Ok(Rule { fp: fp as u8, fp_offset, ..cfa? })
}

fn register_cfa(register: Register, offset: i64) -> Result<Rule, &'static str> {
    let kind = match register {
        X86_64::RSP => CfaRule::Sp,
        X86_64::RBP => CfaRule::Bp,
        _ => return Err("frame address in another register"),
    };
    Ok(rule(kind, cfa_offset(offset)?))
}

fn expression_cfa(expression: Expression<Bytes<'_>>) -> Result<Rule, &'static str> {
    if let Some(pushed_from) = plt(expression.0.slice()) {
        return Ok(rule(CfaRule::Plt, pushed_from));
    }
    let (register, offset) = dereferenced(expression).ok_or("frame address by an expression")?;
    let kind = match register {
        X86_64::RBP => CfaRule::DerefBp,
        X86_64::RSP => CfaRule::DerefSp,
        _ => return Err("frame address by an expression"),
    };
    Ok(rule(kind, cfa_offset(offset)?))
}

fn cfa_offset(offset: i64) -> Result<i32, &'static str> {
    offset.try_into().map_err(|_| "frame offset out of range")
}

fn frame_pointer<'d, S>(row: &Row, section: &S) -> Result<(FpRule, i16), &'static str>
where
    S: UnwindSection<Bytes<'d>>,
{
    const REFUSED: &str = "frame pointer by an unusual rule";
    match row.register(X86_64::RBP) {
        // An undefined one is of no use to the caller, whatever it is taken for.
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Ok((FpRule::Same, 0)),
        Some(RegisterRule::Offset(offset)) => {
            let offset = offset.try_into().map_err(|_| "frame offset out of range")?;
            Ok((FpRule::Cfa, offset))
        }
        Some(RegisterRule::Expression(expression)) => {
            let saved = address(get(&expression, section)?).ok_or(REFUSED)?;
            if saved == (X86_64::RBP, 0) { Ok((FpRule::DerefBp, 0)) } else { Err(REFUSED) }
        }
        Some(_) => Err(REFUSED),
    }
}

fn get<'d, S>(
    expression: &UnwindExpression<usize>,
    section: &S,
) -> Result<Expression<Bytes<'d>>, &'static str>
where
    S: UnwindSection<Bytes<'d>>,
{
    expression.get(section).map_err(|_| "damaged expression")
}

/// `register + offset` and nothing else.
fn address(expression: Expression<Bytes<'_>>) -> Option<(Register, i64)> {
    match operations(expression)? {
        [Some(Operation::RegisterOffset { register, offset, .. }), None, _] => {
            Some((register, offset))
        }
        _ => None,
    }
}

/// `*(register + offset)` and nothing else.
fn dereferenced(expression: Expression<Bytes<'_>>) -> Option<(Register, i64)> {
    match operations(expression)? {
        [
            Some(Operation::RegisterOffset { register, offset, .. }),
            Some(Operation::Deref { size: 8, space: false, .. }),
            None,
        ] => Some((register, offset)),
        _ => None,
    }
}

/// The first three operations.
fn operations(expression: Expression<Bytes<'_>>) -> Option<[Option<Operation<Bytes<'_>>>; 3]> {
    // Only the address size matters; expressions in frame sections have no unit of their own.
    const ENCODING: gimli::Encoding =
        gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 4 };
    let mut operations = expression.operations(ENCODING);
    let mut next = || operations.next().ok();
    Some([next()?, next()?, next()?])
}

/// From which offset within a 16-byte PLT entry on its relocation index has been pushed: the N of
/// `rsp + 8 + ((rip & 15) >= N) << 3`. 11 in the classic PLT, 10 with IBT and in x32's.
/// Source: GNU ld, bfd/elfxx-x86.c (`elf_x86_64_eh_frame_lazy_plt` and kin).
fn plt(expression: &[u8]) -> Option<i32> {
    let mut bytes: [u8; PLT.len()] = expression.try_into().ok()?;
    let literal = mem::take(&mut bytes[PLT_LITERAL]);
    let is_literal = (DW_OP_lit0.0..=DW_OP_lit31.0).contains(&literal);
    (bytes == PLT && is_literal).then(|| i32::from(literal - DW_OP_lit0.0))
}

/// The expression, with 0 for the operation that pushes N.
const PLT: [u8; 11] = [
    DW_OP_breg7.0,
    8,
    DW_OP_breg16.0,
    0,
    DW_OP_lit15.0,
    DW_OP_and.0,
    0,
    DW_OP_ge.0,
    DW_OP_lit3.0,
    DW_OP_shl.0,
    DW_OP_plus.0,
];
/// Where that operation is.
const PLT_LITERAL: usize = 6;
