//! Small hand-made unwind information.

use gimli::{
    Encoding, Format, LittleEndian, Register, X86_64,
    constants::{
        DW_OP_and, DW_OP_ge, DW_OP_lit3, DW_OP_lit10, DW_OP_lit11, DW_OP_lit15, DW_OP_plus,
        DW_OP_shl,
    },
    write::{
        Address, CallFrameInstruction as Cfi, CommonInformationEntry, DebugFrame, EhFrame,
        EndianVec, Expression, FrameDescriptionEntry, FrameTable,
    },
};

use super::*;
use crate::{
    elf::{
        CodeSegment,
        tests::{CODE_ADDRESS, CODE_OFFSET, TestElf},
    },
    unwind::compile::CompileError,
};

/// `call rel32`
const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
const NOP: u8 = 0x90;

const RSP_8: Rule = Rule { cfa: CfaRule::Sp as u8, fp: 0, fp_offset: 0, cfa_offset: 8 };

/// What a function's entry says: length and instructions by offset.
type Function<'a> = (u64, u32, &'a [(u32, Cfi)]);

fn encoding(version: u16) -> Encoding {
    Encoding { address_size: 8, format: Format::Dwarf32, version }
}

/// The CIE that compilers write.
pub(super) fn cie(version: u16) -> CommonInformationEntry {
    let mut cie = CommonInformationEntry::new(encoding(version), 1, -8, X86_64::RA);
    cie.add_instruction(Cfi::Cfa(X86_64::RSP, 8));
    cie.add_instruction(Cfi::Offset(X86_64::RA, -8));
    cie
}

fn table(cie: CommonInformationEntry, functions: &[Function<'_>]) -> FrameTable {
    let mut table = FrameTable::default();
    let cie = table.add_cie(cie);
    for (at, length, instructions) in functions {
        let start = Address::Constant(CODE_ADDRESS + at);
        let mut function = FrameDescriptionEntry::new(start, *length);
        for (offset, instruction) in *instructions {
            function.add_instruction(*offset, instruction.clone());
        }
        table.add_fde(cie, function);
    }
    table
}

/// A file with this code and `.eh_frame`.
pub(super) fn file(
    code: &[u8],
    cie: CommonInformationEntry,
    functions: &[Function<'_>],
) -> Vec<u8> {
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    table(cie, functions).write_eh_frame(&mut section).unwrap();
    let extra_section = Some((".eh_frame", section.0.into_vec()));
    TestElf { code: code.to_vec(), extra_section, ..TestElf::default() }.build()
}

fn compile_functions(code: &[u8], functions: &[Function<'_>]) -> ObjectRows {
    compile(&file(code, cie(1), functions)).unwrap()
}

/// Rows as (offset in the code, rule).
fn rows(object: &ObjectRows) -> Vec<(u64, Rule)> {
    let row =
        |row: &ObjectRow| (object.address(row) - CODE_ADDRESS, object.rules[row.rule as usize]);
    object.rows.iter().map(row).collect()
}

/// The rule for a function that is one call, with these instructions at its start.
fn only_rule(instructions: &[Cfi]) -> (Rule, Vec<&'static str>) {
    let instructions: Vec<_> = instructions.iter().map(|cfi| (0, cfi.clone())).collect();
    let object = compile_functions(&CALL, &[(0, 5, &instructions)]);
    let (tables, added) = tables_of(&object);
    let reasons = object.stats.unsupported.keys().copied().collect();
    (tables.lookup(&added, CODE_ADDRESS + 4), reasons)
}

/// A supported one.
fn supported(instructions: &[Cfi]) -> Rule {
    let (rule, reasons) = only_rule(instructions);
    assert!(reasons.is_empty(), "{reasons:?}");
    rule
}

fn refused(instructions: &[Cfi]) -> Vec<&'static str> {
    let (rule, reasons) = only_rule(instructions);
    assert_eq!(rule, Rule::default());
    reasons
}

fn at(register: Register, offset: i64) -> Expression {
    let mut expression = Expression::new();
    expression.op_breg(register, offset);
    expression
}

fn deref(register: Register, offset: i64) -> Expression {
    let mut expression = at(register, offset);
    expression.op_deref();
    expression
}

/// What GNU ld writes for a PLT.
fn plt(literal: u8) -> Vec<u8> {
    let (breg7_8, breg16_0) = ([0x77, 8], [0x80, 0]);
    let mut bytes = [breg7_8, breg16_0].concat();
    bytes.extend([DW_OP_lit15, DW_OP_and].map(|operation| operation.0));
    bytes.push(literal);
    bytes.extend([DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus].map(|operation| operation.0));
    bytes
}

#[test]
fn only_rows_with_calls_are_kept() {
    // push rbp; call; pop rbp; ret; call
    let code = [&[0x55][..], &CALL, &[0x5d, 0xc3], &CALL].concat();
    let object =
        compile_functions(&code, &[(0, 13, &[(1, Cfi::CfaOffset(16)), (7, Cfi::CfaOffset(8))])]);
    let end = (13, Rule::GUESS);
    assert_eq!(rows(&object), [(1, rule(CfaRule::Sp, 16)), (7, RSP_8), end]);
    assert_eq!((object.stats.rows_before, object.stats.rows, object.stats.rules), (4, 3, 4));
    assert_eq!((object.stats.fdes, object.stats.text_bytes), (1, 13));
}

#[test]
fn rows_that_only_pruned_ones_part_are_one() {
    let code = [&CALL[..], &[NOP; 3], &CALL].concat();
    let instructions = [(5, Cfi::CfaOffset(16)), (8, Cfi::CfaOffset(8))];
    let object = compile_functions(&code, &[(0, 13, &instructions)]);
    assert_eq!(rows(&object), [(0, RSP_8), (13, Rule::GUESS)]);
}

#[test]
fn code_between_functions_is_guessed_unless_it_is_padding() {
    let code = [&CALL[..], &[NOP; 5], &CALL, &CALL, &CALL].concat();
    let object = compile_functions(&code, &[(0, 5, &[]), (10, 5, &[]), (20, 5, &[])]);
    let guess = Rule::GUESS;
    assert_eq!(rows(&object), [(0, RSP_8), (15, guess), (20, RSP_8), (25, guess)]);
}

#[test]
fn the_order_of_entries_does_not_matter_and_the_first_of_overlapping_functions_wins() {
    let code = CALL.repeat(4);
    let wide = [(0, Cfi::CfaOffset(16))];
    let object = compile_functions(&code, &[(5, 15, &wide), (0, 10, &[])]);
    let expected = [(0, RSP_8), (10, rule(CfaRule::Sp, 16)), (20, Rule::GUESS)];
    assert_eq!(rows(&object), expected);
    let inside = compile_functions(&code, &[(5, 5, &wide), (0, 20, &[])]);
    assert_eq!(rows(&inside), [(0, RSP_8), (20, Rule::GUESS)]);
}

#[test]
fn the_frame_pointer_rules_are_told_apart() {
    let bp = Cfi::CfaRegister(X86_64::RBP);
    let saved = Cfi::Offset(X86_64::RBP, -16);
    let standard = supported(&[Cfi::CfaOffset(16), saved.clone(), bp]);
    assert_eq!(standard, with_fp(rule(CfaRule::Bp, 16), FpRule::Cfa, -16));
    assert_eq!(supported(&[saved]), with_fp(RSP_8, FpRule::Cfa, -16));
    assert_eq!(supported(&[Cfi::SameValue(X86_64::RBP)]), RSP_8);
    assert_eq!(supported(&[Cfi::Undefined(X86_64::RBP)]), RSP_8);
    assert_eq!(supported(&[Cfi::Offset(X86_64::RBX, -24)]), RSP_8);
}

#[test]
fn realigned_frames_are_supported() {
    let bp = [
        Cfi::CfaExpression(deref(X86_64::RBP, -8)),
        Cfi::Expression(X86_64::RBP, at(X86_64::RBP, 0)),
    ];
    assert_eq!(supported(&bp), with_fp(rule(CfaRule::DerefBp, -8), FpRule::DerefBp, 0));
    let sp = [Cfi::CfaExpression(deref(X86_64::RSP, 120))];
    assert_eq!(supported(&sp), rule(CfaRule::DerefSp, 120));
}

#[test]
fn the_root_is_where_the_return_address_is_undefined() {
    assert_eq!(supported(&[Cfi::Undefined(X86_64::RA)]), rule(CfaRule::Root, 0));
}

#[test]
fn plt_entries_are_kept_without_calls_with_the_offset_of_their_push() {
    for (literal, pushed_from) in [(DW_OP_lit11, 11), (DW_OP_lit10, 10)] {
        let expression = Expression::raw(plt(literal.0));
        let object =
            compile_functions(&[NOP; 32], &[(0, 32, &[(16, Cfi::CfaExpression(expression))])]);
        let entries = (16, rule(CfaRule::Plt, pushed_from));
        assert_eq!(rows(&object), [entries, (32, Rule::GUESS)]);
    }
}

#[test]
fn signal_trampolines_are_kept_without_calls() {
    let mut trampoline = cie(1);
    trampoline.signal_trampoline = true;
    let object = compile(&file(&[NOP; 16], trampoline, &[(4, 8, &[])])).unwrap();
    assert_eq!(rows(&object), [(4, rule(CfaRule::Signal, 0)), (12, Rule::GUESS)]);
}

#[test]
fn unsupported_rows_are_unknown_and_counted_by_reason() {
    let mut plus = deref(X86_64::RSP, 8);
    plus.op_plus_uconst(8);
    let mut not_plt = plt(DW_OP_lit11.0);
    not_plt[8] = DW_OP_lit15.0;
    let cases = [
        (Cfi::CfaRegister(X86_64::R10), "frame address in another register"),
        (Cfi::CfaExpression(plus), "frame address by an expression"),
        (Cfi::CfaExpression(deref(X86_64::R10, 0)), "frame address by an expression"),
        (Cfi::CfaExpression(Expression::raw(not_plt)), "frame address by an expression"),
        (Cfi::CfaExpression(Expression::raw(vec![0x77])), "frame address by an expression"),
        (Cfi::Register(X86_64::RBP, X86_64::RAX), "frame pointer by an unusual rule"),
        (Cfi::Expression(X86_64::RBP, at(X86_64::RBP, 8)), "frame pointer by an unusual rule"),
        (Cfi::Offset(X86_64::RBP, -40_000), "frame offset out of range"),
        (Cfi::Offset(X86_64::RA, -16), "return address is not below the frame address"),
        (Cfi::Register(X86_64::RA, X86_64::RAX), "return address is not below the frame address"),
        (Cfi::RestoreState, "damaged instructions"),
    ];
    for (instruction, reason) in cases {
        assert_eq!(refused(std::slice::from_ref(&instruction)), [reason], "{instruction:?}");
    }
}

#[test]
fn unsupported_rows_that_no_call_needs_are_not_counted() {
    let code = [&[NOP; 3][..], &CALL].concat();
    let instructions = [(0, Cfi::CfaRegister(X86_64::R10)), (3, Cfi::Cfa(X86_64::RSP, 8))];
    let object = compile_functions(&code, &[(0, 8, &instructions)]);
    assert!(object.stats.unsupported.is_empty());
    assert_eq!(rows(&object), [(3, RSP_8), (8, Rule::GUESS)]);
}

#[test]
fn another_return_address_register_is_not_supported() {
    let cie = CommonInformationEntry::new(encoding(1), 1, -8, X86_64::RAX);
    let object = compile(&file(&CALL, cie, &[(0, 5, &[])])).unwrap();
    assert_eq!(rows(&object), [(5, Rule::GUESS)]);
    assert_eq!(object.stats.unsupported["return address in another register"], 1);
}

#[test]
fn entries_of_functions_without_code_are_passed_over() {
    let dropped = 0u64.wrapping_sub(CODE_ADDRESS);
    let functions: [Function<'_>; 3] = [(dropped, 5, &[]), (0, 5, &[]), (0, 0, &[])];
    let mut table = FrameTable::default();
    let id = table.add_cie(cie(1));
    for (at, length, _) in functions {
        let start = Address::Constant(CODE_ADDRESS.wrapping_add(at));
        table.add_fde(id, FrameDescriptionEntry::new(start, length));
    }
    let mut section = EhFrame(EndianVec::new(LittleEndian));
    table.write_eh_frame(&mut section).unwrap();
    let extra_section = Some((".eh_frame", section.0.into_vec()));
    let file = TestElf { code: CALL.to_vec(), extra_section, ..TestElf::default() }.build();
    let object = compile(&file).unwrap();
    assert_eq!((object.stats.fdes, rows(&object).len()), (1, 2));
}

#[test]
fn debug_frame_serves_where_there_is_no_eh_frame() {
    let mut section = DebugFrame(EndianVec::new(LittleEndian));
    table(cie(4), &[(0, 5, &[])]).write_debug_frame(&mut section).unwrap();
    let extra_section = Some((".debug_frame", section.0.into_vec()));
    let file = TestElf { code: CALL.to_vec(), extra_section, ..TestElf::default() }.build();
    assert_eq!(rows(&compile(&file).unwrap()), [(0, RSP_8), (5, Rule::GUESS)]);
}

#[test]
fn segments_are_listed_for_the_mappings() {
    let object = compile_functions(&CALL, &[(0, 5, &[])]);
    let code = CodeSegment { address: CODE_ADDRESS, file_offset: CODE_OFFSET, size_bytes: 5 };
    assert_eq!(object.segments, [code]);
}

#[test]
fn files_without_unwind_information_are_refused() {
    assert_eq!(compile(&TestElf::default().build()), Err(CompileError::NoFrames));
    let no_code = TestElf { code: Vec::new(), ..TestElf::default() }.build();
    assert_eq!(compile(&no_code), Err(CompileError::NoCode));
    assert!(matches!(compile(b"#!/bin/sh"), Err(CompileError::Elf(_))));
    let arm = TestElf { machine: object::elf::EM_AARCH64, ..TestElf::default() }.build();
    assert!(matches!(compile(&arm), Err(CompileError::UnsupportedMachine(_))));
}
