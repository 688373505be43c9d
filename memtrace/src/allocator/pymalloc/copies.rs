//! Copies of an allocator inside other functions, where no probe sees them.
//!
//! With a profile or link-time optimisation compilers turn `table.free(ctx, p)` into
//! `if (table.free == _PyObject_Free) { its body } else table.free(ctx, p)`, in every caller. The
//! comparison gives such a copy away: no source of CPython compares with the address of a free, and
//! only a question whether pymalloc is in use with that of a malloc.

use std::ops::Range;

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::table::Four;

/// How far from a comparison with malloc's address the copy shows by its limit of 512 bytes.
const LIMIT_WITHIN_BYTES: usize = 64;

/// `nbytes - 1 > 511`, or `nbytes > 512` (`SMALL_REQUEST_THRESHOLD`), as immediate operands.
const LIMITS: [u64; 2] = [511, 512];

/// Instructions between the load of an address and its comparison.
const COMPARED_WITHIN: usize = 12;

/// The longest instruction in bytes.
const LONGEST: usize = 15;

/// The places in code that compare with one of the functions of a table (malloc, calloc, realloc,
/// free), and what is there is a copy of it. `start` is the address of the code.
pub fn find(start: u64, code: &[u8], targets: &Four<u64>) -> Vec<u64> {
    let mut found = Vec::new();
    for at in 0..code.len().saturating_sub(6) {
        let Some((end, target)) = comparison(start, code, at, targets) else { continue };
        let is_copy = target != targets[0] || has_limit(&code[end..]);
        if is_copy {
            found.push(start + at as u64);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether one of these places is in a range.
pub fn any_in(copies: &[u64], range: &Range<u64>) -> bool {
    let first = copies.partition_point(|copy| *copy < range.start);
    copies.get(first).is_some_and(|copy| range.contains(copy))
}

/// The comparison with one of the targets that begins with the instruction at an offset: where it
/// ends, and with which.
fn comparison(start: u64, code: &[u8], at: usize, targets: &Four<u64>) -> Option<(usize, u64)> {
    match code.get(at..at + 3)? {
        [0x48 | 0x49, 0x81, _] | [0x48, 0x3d, _] => by_immediate(code, at, targets),
        [0x48 | 0x4c, 0x8d, modrm] if modrm & 0xc7 == 0x05 => by_load(start, code, at, targets),
        _ => None,
    }
}

/// `cmp $target, ...`, in programs at fixed addresses.
fn by_immediate(code: &[u8], at: usize, targets: &Four<u64>) -> Option<(usize, u64)> {
    let instruction = decode(code, at, 0)?;
    let is_compare = instruction.mnemonic() == Mnemonic::Cmp
        && instruction.op1_kind() == OpKind::Immediate32to64;
    let target = is_compare.then(|| instruction.immediate(1))?;
    targets.contains(&target).then_some((at + instruction.len(), target))
}

/// `lea target(%rip), %reg` and soon `cmp` with that register.
fn by_load(start: u64, code: &[u8], at: usize, targets: &Four<u64>) -> Option<(usize, u64)> {
    let displacement = i32::from_le_bytes(code.get(at + 3..at + 7)?.try_into().ok()?);
    let next = start.wrapping_add(at as u64 + 7);
    let target = next.wrapping_add_signed(i64::from(displacement));
    if !targets.contains(&target) {
        return None;
    }
    let load = decode(code, at, start)?;
    compared(code, at + load.len(), load.op0_register()).map(|end| (end, target))
}

/// Where a comparison with a register ends that is made before the register gets another value.
fn compared(code: &[u8], from: usize, register: Register) -> Option<usize> {
    let mut decoder = Decoder::new(64, code.get(from..)?, DecoderOptions::NONE);
    for _ in 0..COMPARED_WITHIN {
        if !decoder.can_decode() {
            return None;
        }
        let instruction = decoder.decode();
        let is_operand = |index| {
            instruction.op_kind(index) == OpKind::Register
                && instruction.op_register(index).full_register() == register
        };
        if instruction.mnemonic() == Mnemonic::Cmp && (is_operand(0) || is_operand(1)) {
            return Some(from + decoder.position());
        }
        let is_overwritten = instruction.op_count() > 0 && is_operand(0);
        if is_overwritten || instruction.code() == Code::INVALID {
            return None;
        }
    }
    None
}

fn decode(code: &[u8], at: usize, start: u64) -> Option<Instruction> {
    let bytes = code.get(at..)?;
    let bytes = &bytes[..bytes.len().min(LONGEST)];
    let ip = start.wrapping_add(at as u64);
    let instruction = Decoder::with_ip(64, bytes, ip, DecoderOptions::NONE).decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Whether the code, as far as it runs on, compares with the limit.
fn has_limit(code: &[u8]) -> bool {
    let near = &code[..code.len().min(LIMIT_WITHIN_BYTES)];
    let mut decoder = Decoder::new(64, near, DecoderOptions::NONE);
    while decoder.can_decode() {
        let instruction = decoder.decode();
        let is_immediate = instruction.op_count() == 2
            && matches!(instruction.op1_kind(), OpKind::Immediate32to64 | OpKind::Immediate32);
        if instruction.mnemonic() == Mnemonic::Cmp
            && is_immediate
            && LIMITS.contains(&instruction.immediate(1))
        {
            return true;
        }
        let runs_on = [FlowControl::Next, FlowControl::ConditionalBranch, FlowControl::Call];
        if !runs_on.contains(&instruction.flow_control()) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGETS: Four<u64> = [0x50_1000, 0x50_2000, 0x50_3000, 0x50_4000];
    const START: u64 = 0x40_0000;

    fn immediate(target: u64) -> Vec<u8> {
        let mut code = vec![0x90, 0x48, 0x3d];
        code.extend((target as u32).to_le_bytes());
        code.extend([0x75, 0x10]);
        code.extend([0x90; 80]);
        code
    }

    /// `lea target(%rip), %rcx`, then what follows.
    fn load(target: u64, then: &[u8]) -> Vec<u8> {
        let mut code = vec![0x48, 0x8d, 0x0d];
        code.extend(((target - START) as u32 - 7).to_le_bytes());
        code.extend(then);
        code.extend([0x90; 80]);
        code
    }

    #[test]
    fn a_comparison_with_the_address_of_a_free_is_a_copy() {
        assert_eq!(find(START, &immediate(TARGETS[3]), &TARGETS), [START + 1]);
        let compared = load(TARGETS[3], &[0x48, 0x39, 0xc8]);
        assert_eq!(find(START, &compared, &TARGETS), [START]);
    }

    #[test]
    fn storing_an_address_is_no_copy() {
        // mov %rcx, (%rdi); then rcx is something else and is compared.
        let stored = load(TARGETS[3], &[0x48, 0x89, 0x0f, 0x31, 0xc9, 0x48, 0x39, 0xc8]);
        assert_eq!(find(START, &stored, &TARGETS), [0; 0]);
        assert_eq!(find(START, &immediate(0x50_4010), &TARGETS), [0; 0]);
    }

    #[test]
    fn asking_whether_pymalloc_is_in_use_is_no_copy_of_its_malloc() {
        let mut code = immediate(TARGETS[0]);
        assert_eq!(find(START, &code, &TARGETS), [0; 0]);
        // cmp $511, %rax
        code[20..26].copy_from_slice(&[0x48, 0x3d, 0xff, 0x01, 0, 0]);
        assert_eq!(find(START, &code, &TARGETS), [START + 1]);
        // jmp elsewhere: what follows is another function's.
        code[18..20].copy_from_slice(&[0xeb, 0x20]);
        assert_eq!(find(START, &code, &TARGETS), [0; 0]);
    }

    #[test]
    fn copies_are_told_by_where_they_are() {
        let copies = [0x10, 0x20];
        assert!(any_in(&copies, &(0x20..0x30)) && any_in(&copies, &(0..0x11)));
        assert!(!any_in(&copies, &(0x11..0x20)) && !any_in(&copies, &(0x21..0x30)));
    }

    proptest! {
        #[test]
        fn arbitrary_code_never_panics(code in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = find(START, &code, &TARGETS);
        }
    }
}
