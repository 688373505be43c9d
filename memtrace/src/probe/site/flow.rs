//! Where the control goes from a function's instructions (x86-64): which functions it hands a call on
//! to, and where it returns.

use std::collections::BTreeSet;

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Register};

use super::{
    FunctionCode,
    x86_64::{branch_target, instructions},
};

/// The most instructions that are followed from a function's entry.
const MOST_INSTRUCTIONS: usize = 4096;

/// The most bytes of an instruction.
const INSTRUCTION_BYTES: u64 = 15;

/// The slot of the global offset table that a stub of the procedure linkage table jumps through:
/// `[endbr64;] [bnd] jmp *slot(%rip)`. `code` is what is at the address.
pub fn stub_slot(address: u64, code: &[u8]) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut instruction = decoder.decode();
    if instruction.code() == Code::Endbr64 {
        instruction = decoder.decode();
    }
    slot_jumped_through(&instruction)
}

fn slot_jumped_through(instruction: &Instruction) -> Option<u64> {
    let is_jump = instruction.code() == Code::Jmp_rm64;
    (is_jump && instruction.memory_base() == Register::RIP)
        .then(|| instruction.memory_displacement64())
}

/// The addresses outside of a function that it jumps to or calls, directly or by a slot of the
/// global offset table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Direct targets.
    pub targets: BTreeSet<u64>,
    /// Slots whose contents are jumped to or called.
    pub slots: BTreeSet<u64>,
}

/// Where a function goes on to.
pub fn transfers(code: FunctionCode<'_>) -> Transfers {
    let own = code.address..code.address.saturating_add(code.body.len() as u64);
    let mut transfers = Transfers::default();
    for (instruction, _) in instructions(code) {
        match branch_target(&instruction) {
            Some(target) if !own.contains(&target) => {
                transfers.targets.insert(target);
            }
            _ => {}
        }
        let is_indirect = matches!(
            instruction.flow_control(),
            FlowControl::IndirectBranch | FlowControl::IndirectCall
        );
        if is_indirect && instruction.memory_base() == Register::RIP {
            transfers.slots.insert(instruction.memory_displacement64());
        }
    }
    transfers
}

/// Whether a function is nothing but a jump.
pub fn is_jump(code: FunctionCode<'_>) -> bool {
    let first = instructions(code).find(|(instruction, _)| instruction.code() != Code::Endbr64);
    first.is_some_and(|(instruction, _)| {
        instruction.flow_control() == FlowControl::UnconditionalBranch
            || slot_jumped_through(&instruction).is_some()
    })
}

/// An instruction by which a function, or one that it goes on to, returns to its caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Return {
    /// Its address.
    pub address: u64,
    /// The instruction.
    pub code: Vec<u8>,
}

/// What is known of the code around a function.
pub trait Surroundings {
    /// Some code at an address, as much as there is up to so many bytes.
    fn code(&self, address: u64, size_bytes: u64) -> &[u8];
    /// Where a jump to an address leads in the end, by way of the procedure linkage table; `None`
    /// when that is not known.
    fn landing(&self, address: u64) -> Option<u64>;
    /// Whether a call of an address does not return.
    fn never_returns(&self, address: u64) -> bool;
}

/// Every instruction that a call of a function can return by: all ways are followed, also into the
/// functions that it jumps to in its place. `None` when a way cannot be followed (a jump by a table),
/// or there are too many.
pub fn returns(entry: u64, around: &impl Surroundings) -> Option<BTreeSet<Return>> {
    let mut returns = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut ahead = vec![entry];
    while let Some(address) = ahead.pop() {
        if !seen.insert(address) {
            continue;
        }
        if seen.len() > MOST_INSTRUCTIONS {
            return None;
        }
        let bytes = around.code(address, INSTRUCTION_BYTES);
        let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
        let instruction = decoder.decode();
        match instruction.flow_control() {
            _ if instruction.is_invalid() => return None,
            FlowControl::Return => {
                let code = bytes.get(..instruction.len())?.to_vec();
                returns.insert(Return { address, code });
            }
            FlowControl::UnconditionalBranch
                if branch_target(&instruction).is_some_and(|it| around.never_returns(it)) => {}
            FlowControl::UnconditionalBranch => {
                ahead.push(around.landing(branch_target(&instruction)?)?);
            }
            FlowControl::ConditionalBranch => {
                ahead.extend([around.landing(branch_target(&instruction)?)?, instruction.next_ip()])
            }
            FlowControl::Call => {
                let is_last =
                    branch_target(&instruction).is_some_and(|it| around.never_returns(it));
                ahead.extend((!is_last).then_some(instruction.next_ip()));
            }
            FlowControl::Next | FlowControl::IndirectCall => ahead.push(instruction.next_ip()),
            // `ud2` and `int3`, behind what does not return.
            FlowControl::Exception | FlowControl::Interrupt => {}
            FlowControl::IndirectBranch | FlowControl::XbeginXabortXend => {
                return None;
            }
        }
    }
    Some(returns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code at 0x1000; a jump to 0x2000 leads to 0x1010, a call of 0x3000 never returns.
    struct Around(Vec<u8>);

    impl Surroundings for Around {
        fn code(&self, address: u64, size_bytes: u64) -> &[u8] {
            let start = address.saturating_sub(0x1000) as usize;
            let rest = self.0.get(start..).unwrap_or_default();
            &rest[..rest.len().min(size_bytes as usize)]
        }

        fn landing(&self, address: u64) -> Option<u64> {
            Some(if address == 0x2000 { 0x1010 } else { address })
        }

        fn never_returns(&self, address: u64) -> bool {
            address == 0x3000
        }
    }

    fn addresses(code: &[u8]) -> Option<Vec<u64>> {
        let returns = returns(0x1000, &Around(code.to_vec()))?;
        Some(returns.into_iter().map(|it| it.address).collect())
    }

    #[test]
    fn both_ways_of_a_jump_are_followed_also_into_other_functions() {
        // je +1; ret; jmp 0x2000; at 0x1010: ret
        let mut code = vec![0x74, 0x01, 0xc3, 0xe9, 0xf8, 0x0f, 0, 0];
        code.resize(16, 0xcc);
        code.push(0xc3);
        assert_eq!(addresses(&code), Some(vec![0x1002, 0x1010]));
    }

    #[test]
    fn nothing_is_behind_a_call_that_never_returns() {
        // je +5; call 0x3000; ret
        let code = [0x74, 0x05, 0xe8, 0xf9, 0x1f, 0, 0, 0xc3];
        assert_eq!(addresses(&code), Some(vec![0x1007]));
        // call 0x3000; hlt is not decoded.
        assert_eq!(addresses(&[0xe8, 0xfb, 0x1f, 0, 0, 0xf4]), Some(vec![]));
    }

    #[test]
    fn a_loop_ends_and_a_jump_by_a_table_is_not_followed() {
        assert_eq!(addresses(&[0x75, 0xfe, 0xc3]), Some(vec![0x1002]));
        assert_eq!(addresses(&[0xff, 0xe0]), None, "jmp *%rax");
        assert_eq!(addresses(&[0x06]), None, "no instruction");
    }

    #[test]
    fn a_stub_says_which_slot_it_jumps_through() {
        // endbr64; bnd jmp *0x2f75(%rip), as GNU ld writes with IBT.
        let stub = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x75, 0x2f, 0, 0];
        assert_eq!(stub_slot(0x1000, &stub), Some(0x1000 + 11 + 0x2f75));
        assert_eq!(stub_slot(0x1000, &stub[4..]), Some(0x1000 + 7 + 0x2f75));
        assert_eq!(stub_slot(0x1000, &[0xe9, 0, 0, 0, 0]), None);
        assert_eq!(stub_slot(0x1000, &[]), None);
    }

    #[test]
    fn transfers_are_what_leads_out_of_the_function() {
        // call 0x3000; call *0x10(%rip); jmp to itself
        let code = [0xe8, 0xfb, 0x1f, 0, 0, 0xff, 0x15, 0x10, 0, 0, 0, 0xeb, 0xfe];
        let code = FunctionCode { address: 0x1000, body: &code, is_whole: true };
        let found = transfers(code);
        assert_eq!(found.targets.into_iter().collect::<Vec<_>>(), [0x3000]);
        assert_eq!(found.slots.into_iter().collect::<Vec<_>>(), [0x101b]);
    }
}
