//! x86-64. Sources: arch/x86/kernel/uprobes.c (`is_prefix_bad`, the `good_insns_64` and
//! `good_2byte_insns` tables, `branch_setup_xol_ops`, `push_setup_xol_ops`) of Linux 4.16 to 6.19.

use std::ops::RangeInclusive;

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind};

use super::{
    FunctionCode, REACH_BYTES, Site, SiteCost, SiteError, Verdict, arguments::Whereabouts,
};
use crate::{
    model::{ArgumentPlaces, CallShape},
    sys::kernel::KernelVersion,
};

const OPERAND_SIZE: u8 = 0x66;
const REX_B: u8 = 0x41;

/// Since when the kernel emulates `push`.
const EMULATES_PUSH: KernelVersion = KernelVersion::new(4, 16);
/// Since when it emulates the no-operations that assemblers emit.
const EMULATES_ASSEMBLER_NOPS: KernelVersion = KernelVersion::new(6, 18);
/// Since when it emulates every no-operation.
const EMULATES_ALL_NOPS: KernelVersion = KernelVersion::new(6, 19);

/// `x86_nops` of arch/x86/include/asm/nops.h, by length from 2 to 8. (Longer ones differ between
/// versions.)
const ASSEMBLER_NOPS: [&[u8]; 7] = [
    &[0x66, 0x90],
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// The first emulated instruction, if the rule of the module above holds for it.
pub(super) fn emulated_site(
    code: FunctionCode<'_>,
    shape: CallShape,
    kernel: KernelVersion,
) -> Option<Site> {
    let (offset, arguments) = first_emulated(code, shape, kernel)?;
    let proven = offset == 0 || (code.is_whole && !is_jumped_into(code, offset));
    let site = proven.then(|| site(code, offset, SiteCost::Emulated)).flatten()?;
    Some(Site { arguments, ..site })
}

/// The entry, whatever it costs.
pub(super) fn entry(code: FunctionCode<'_>, kernel: KernelVersion) -> Result<Site, SiteError> {
    let not_code = || SiteError::NotCode { bytes: code.body.iter().copied().take(15).collect() };
    let instruction = instruction_at(code, 0).ok_or_else(not_code)?;
    let refused = || SiteError::Refused { code: instruction.to_vec() };
    let cost = cost(instruction, kernel).ok_or_else(refused)?;
    site(code, 0, cost).ok_or_else(not_code)
}

/// What a hit of a probe on this instruction costs; `None` when the kernel refuses it.
pub(super) fn cost(instruction: &[u8], kernel: KernelVersion) -> Option<SiteCost> {
    match verdict(instruction, kernel) {
        Verdict::Emulates => Some(SiteCost::Emulated),
        Verdict::Steps => Some(SiteCost::Stepped),
        Verdict::Refuses => None,
    }
}

/// The instruction at an offset that decoding from the start arrives at.
pub(super) fn instruction_at(code: FunctionCode<'_>, offset: usize) -> Option<&[u8]> {
    let (_, range) = instructions(code).find(|(_, range)| *range.start() >= offset)?;
    (*range.start() == offset).then(|| code.body.get(range)).flatten()
}

/// See [`super::entered_windows`].
pub(super) fn entered_windows(
    start: u64,
    code: &[u8],
    windows: &[RangeInclusive<u64>],
) -> Vec<bool> {
    let mut entered = vec![false; windows.len()];
    for (index, bytes) in code.windows(5).enumerate() {
        let before = index.checked_sub(1).map(|before| code[before]);
        match (before, bytes[0]) {
            (_, 0xe8 | 0xe9) | (Some(0x0f), 0x80..=0x8f) => {}
            _ => continue,
        }
        let displacement = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        let next = start.wrapping_add(index as u64 + 5);
        let target = next.wrapping_add_signed(i64::from(displacement));
        for (window, entered) in windows.iter().zip(&mut entered) {
            *entered |= window.contains(&target);
        }
    }
    entered
}

fn site(code: FunctionCode<'_>, offset: usize, cost: SiteCost) -> Option<Site> {
    let instruction = instruction_at(code, offset)?;
    Some(Site {
        offset: offset as u64,
        cost,
        code: instruction.to_vec(),
        arguments: ArgumentPlaces::USUAL,
    })
}

fn first_emulated(
    code: FunctionCode<'_>,
    shape: CallShape,
    kernel: KernelVersion,
) -> Option<(usize, ArgumentPlaces)> {
    let mut arguments = Whereabouts::at_entry(shape);
    for (instruction, range) in instructions(code) {
        let offset = *range.start();
        if offset > REACH_BYTES {
            return None;
        }
        if verdict(code.body.get(range)?, kernel) == Verdict::Emulates {
            return Some((offset, arguments.places()?));
        }
        if !arguments.cross(&instruction) {
            return None;
        }
    }
    None
}

/// Whether a jump of the function leads to `1..=offset`, or that cannot be told because some of
/// it does not decode.
fn is_jumped_into(code: FunctionCode<'_>, offset: usize) -> bool {
    let last = code.address.wrapping_add(offset as u64);
    let window = code.address.wrapping_add(1)..=last;
    let mut decoded = 0;
    for (instruction, range) in instructions(code) {
        if branch_target(&instruction).is_some_and(|target| window.contains(&target)) {
            return true;
        }
        decoded = range.end() + 1;
    }
    decoded != code.body.len()
}

pub(super) fn branch_target(instruction: &Instruction) -> Option<u64> {
    let near = [OpKind::NearBranch16, OpKind::NearBranch32, OpKind::NearBranch64];
    let is_near = instruction.op_count() > 0 && near.contains(&instruction.op0_kind());
    is_near.then(|| instruction.near_branch_target())
}

/// The instructions of a linear decode with their offsets, up to the first that is none.
pub(super) fn instructions(
    code: FunctionCode<'_>,
) -> impl Iterator<Item = (Instruction, RangeInclusive<usize>)> {
    let mut decoder = Decoder::with_ip(64, code.body, code.address, DecoderOptions::NONE);
    std::iter::from_fn(move || {
        if !decoder.can_decode() {
            return None;
        }
        let start = decoder.position();
        let instruction = decoder.decode();
        (!instruction.is_invalid()).then(|| (instruction, start..=decoder.position() - 1))
    })
}

/// What the kernel does with a probe on this instruction.
fn verdict(code: &[u8], kernel: KernelVersion) -> Verdict {
    let parts = Parts::of(code);
    if parts.prefixes.iter().any(|prefix| matches!(prefix, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0)) {
        return Verdict::Refuses;
    }
    match *parts.opcode {
        [0x70..=0x7f | 0xe8 | 0xe9 | 0xeb, ..] | [0x0f, 0x80..=0x8f, ..] => parts.of_branch(),
        [0x90] if parts.rex.is_none() && parts.only_operand_size() => Verdict::Emulates,
        [0x50..=0x57] if parts.is_plain_push() && kernel >= EMULATES_PUSH => Verdict::Emulates,
        [0x0f, 0x1f, modrm, ..] if is_emulated_nop(code, modrm, kernel) => Verdict::Emulates,
        [opcode, ..] if is_refused(opcode) => Verdict::Refuses,
        [0x0f, opcode, ..] if is_refused_after_0f(opcode) => Verdict::Refuses,
        _ => Verdict::Steps,
    }
}

fn is_emulated_nop(code: &[u8], modrm: u8, kernel: KernelVersion) -> bool {
    let is_nop = modrm & 0b0011_1000 == 0;
    let is_assembler_nop = ASSEMBLER_NOPS.contains(&code);
    is_nop && kernel >= EMULATES_ALL_NOPS || is_assembler_nop && kernel >= EMULATES_ASSEMBLER_NOPS
}

/// Zeros of `good_insns_64`: invalid in 64-bit mode, in/out, int, iret, icebp, hlt, cli/sti.
fn is_refused(opcode: u8) -> bool {
    matches!(
        opcode,
        0x06 | 0x07
            | 0x0e
            | 0x16
            | 0x17
            | 0x1e
            | 0x1f
            | 0x27
            | 0x2f
            | 0x37
            | 0x3f
            | 0x60..=0x62
            | 0x6c..=0x6f
            | 0x82
            | 0xcc..=0xcf
            | 0xd4..=0xd6
            | 0xe4..=0xe7
            | 0xec..=0xef
            | 0xf1
            | 0xf4
            | 0xfa
            | 0xfb
    )
}

/// Zeros of `good_2byte_insns` that all versions share (system calls, privileged instructions,
/// ud2), and three-byte opcodes, for which there is no table.
fn is_refused_after_0f(opcode: u8) -> bool {
    matches!(opcode, 0x05..=0x09 | 0x0b | 0x30 | 0x34 | 0x35 | 0x38 | 0x3a)
}

/// An instruction's bytes by their part.
struct Parts<'a> {
    prefixes: &'a [u8],
    rex: Option<u8>,
    /// From the opcode to the end.
    opcode: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(code: &'a [u8]) -> Self {
        let is_prefix = |byte: &u8| {
            matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
        };
        let count = code.iter().take_while(|byte| is_prefix(byte)).count();
        let (prefixes, rest) = code.split_at(count);
        match rest {
            [rex @ 0x40..=0x4f, opcode @ ..] => Self { prefixes, rex: Some(*rex), opcode },
            _ => Self { prefixes, rex: None, opcode: rest },
        }
    }

    /// Branches are emulated; with an operand-size prefix the kernel refuses them.
    fn of_branch(&self) -> Verdict {
        match self.prefixes.contains(&OPERAND_SIZE) {
            true => Verdict::Refuses,
            false => Verdict::Emulates,
        }
    }

    fn only_operand_size(&self) -> bool {
        self.prefixes.iter().all(|prefix| *prefix == OPERAND_SIZE)
    }

    /// `50+r` or `41 50+r`, the two forms that the kernel knows.
    fn is_plain_push(&self) -> bool {
        self.prefixes.is_empty() && matches!(self.rex, None | Some(REX_B))
    }
}
