//! Where CPython keeps the functions that serve its allocations.
//!
//! `PyObject_Malloc` and kin call by way of a `PyMemAllocatorEx` (Include/cpython/pymem.h):
//! a context, malloc, calloc, realloc, free. It is a static without a symbol up to 3.11 and a part
//! of `_PyRuntime` later, at an offset that differs between builds; hooks (`tracemalloc`,
//! `PYTHONMALLOC=debug`) exchange its contents. So the code of the four functions tells where it
//! is: they all load from it, each from its own slot.

use iced_x86::{
    Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register,
};

use crate::model::{AllocFn, memory::TargetMemory};

/// The functions of a domain, in the order of a table's slots.
pub type Four<T> = [T; 4];

/// A set of functions with a table of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain {
    /// The names of its functions, which every CPython exports.
    pub names: Four<&'static str>,
    /// The same as they are traced; `None` for those that do nothing but call malloc and kin.
    pub functions: Option<Four<AllocFn>>,
}

/// `PyMem_RawMalloc` and kin: the C library's.
pub const RAW: Domain = Domain {
    names: ["PyMem_RawMalloc", "PyMem_RawCalloc", "PyMem_RawRealloc", "PyMem_RawFree"],
    functions: None,
};

/// Those that are traced. Both are served by pymalloc unless somebody wanted it otherwise.
pub const TRACED: [Domain; 2] = [
    Domain {
        names: ["PyObject_Malloc", "PyObject_Calloc", "PyObject_Realloc", "PyObject_Free"],
        functions: Some([
            AllocFn::PyObjectMalloc,
            AllocFn::PyObjectCalloc,
            AllocFn::PyObjectRealloc,
            AllocFn::PyObjectFree,
        ]),
    },
    Domain {
        names: ["PyMem_Malloc", "PyMem_Calloc", "PyMem_Realloc", "PyMem_Free"],
        functions: Some([
            AllocFn::PyMemMalloc,
            AllocFn::PyMemCalloc,
            AllocFn::PyMemRealloc,
            AllocFn::PyMemFree,
        ]),
    },
];

/// A table in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Address of the first slot: malloc's. The context is before it.
    pub slots: u64,
    /// What the slots hold: addresses of code.
    pub targets: Four<u64>,
}

/// A function as it is in a process.
#[derive(Clone, Copy, Debug)]
pub struct MappedCode<'a> {
    /// Its address there.
    pub address: u64,
    /// All of its code.
    pub body: &'a [u8],
}

/// Finds the table that four functions call by (x86-64). `is_code` tells whether an address is
/// executable. `None` when there is no such table, or the functions do not agree.
pub fn find(
    functions: &Four<MappedCode<'_>>,
    memory: &impl TargetMemory,
    is_code: impl Fn(u64) -> bool,
) -> Option<Table> {
    let mut starts = [const { Vec::new() }; 4];
    for ((start, function), slot) in starts.iter_mut().zip(functions).zip(0_u64..) {
        *start = loads(function, memory);
        start.iter_mut().for_each(|at| *at = at.wrapping_sub(8 * slot));
    }
    let is_table = |slots: &u64| {
        let targets = || read(*slots, memory).map(|table| table.targets);
        starts.iter().all(|of_one| of_one.contains(slots))
            && targets().is_some_and(|targets| targets.iter().all(|target| is_code(*target)))
    };
    // A copy of pymalloc inside loads from the table of `PyMem_RawMalloc`, too, but after its own.
    let mut firsts = starts.iter().map(|of_one| of_one.iter().copied().find(is_table));
    let slots = firsts.next()??;
    firsts.all(|first| first == Some(slots)).then(|| read(slots, memory))?
}

/// What the slots of a table hold now.
pub fn read(slots: u64, memory: &impl TargetMemory) -> Option<Table> {
    let mut targets = [0; 4];
    for (target, slot) in targets.iter_mut().zip(0_u64..) {
        *target = memory.read_u64(slots.checked_add(8 * slot)?)?;
    }
    Some(Table { slots, targets })
}

/// The addresses that a function loads from, in its order, as far as its code and the memory tell.
/// Branches are not followed; a wrong address is no harm, because four functions must agree.
fn loads(function: &MappedCode<'_>, memory: &impl TargetMemory) -> Vec<u64> {
    let mut decoder = Decoder::with_ip(64, function.body, function.address, DecoderOptions::NONE);
    let mut known = Known { registers: [None; 16], info: InstructionInfoFactory::new() };
    let mut found = Vec::new();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            break;
        }
        found.extend(known.step(&instruction, memory));
    }
    found
}

/// Registers whose values are known.
struct Known {
    registers: [Option<u64>; 16],
    info: InstructionInfoFactory,
}

impl Known {
    /// Runs an instruction; returns the address that it reads a word from.
    fn step(&mut self, instruction: &Instruction, memory: &impl TargetMemory) -> Option<u64> {
        let address = self.address(instruction);
        let value = match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Lea, _) => address,
            (Mnemonic::Mov, OpKind::Memory) => address.and_then(|at| memory.read_u64(at)),
            (Mnemonic::Mov, OpKind::Register) => self.get(instruction.op1_register()),
            (Mnemonic::Mov, OpKind::Immediate32to64 | OpKind::Immediate64) => {
                Some(instruction.immediate(1))
            }
            (Mnemonic::Mov, OpKind::Immediate32) => Some(instruction.immediate(1)),
            _ => None,
        };
        self.forget_written(instruction);
        if instruction.op0_kind() == OpKind::Register {
            self.set(instruction.op0_register(), value);
        }
        address.filter(|_| instruction.mnemonic() != Mnemonic::Lea)
    }

    /// The address of the memory operand.
    fn address(&self, instruction: &Instruction) -> Option<u64> {
        let has_memory = (0..instruction.op_count())
            .any(|operand| instruction.op_kind(operand) == OpKind::Memory);
        if !has_memory
            || instruction.memory_index() != Register::None
            || matches!(instruction.segment_prefix(), Register::FS | Register::GS)
        {
            return None;
        }
        let displacement = instruction.memory_displacement64();
        match instruction.memory_base() {
            Register::RIP | Register::None => Some(displacement),
            base => Some(self.get(base)?.wrapping_add(displacement)),
        }
    }

    fn forget_written(&mut self, instruction: &Instruction) {
        for used in self.info.info(instruction).used_registers() {
            let is_read = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
            if !is_read && let Some(place) = place(used.register()) {
                self.registers[place] = None;
            }
        }
    }

    fn get(&self, register: Register) -> Option<u64> {
        self.registers[place(register)?]
    }

    /// Writes to the low half of a register clear the other.
    fn set(&mut self, register: Register, value: Option<u64>) {
        if (register.is_gpr64() || register.is_gpr32())
            && let (Some(place), Some(value)) = (place(register), value)
        {
            self.registers[place] = Some(value);
        }
    }
}

/// The number of a general register.
fn place(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    struct Words(HashMap<u64, u64>);

    impl TargetMemory for Words {
        fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
            let word = self.0.get(&address).map(|word| word.to_le_bytes());
            if let Some(word) = word.filter(|word| word.len() == buffer.len()) {
                buffer.copy_from_slice(&word);
                return true;
            }
            false
        }
    }

    /// A table at 0x9000 + `offset`, whose functions are at 0x1100 and on.
    fn memory(offset: u64) -> Words {
        let slots = 0x9000 + offset;
        let mut words = HashMap::from([(0x5000, 0x9000), (slots - 8, 0)]);
        words.extend((0..4).map(|slot| (slots + 8 * slot, 0x1100 + 0x10 * slot)));
        Words(words)
    }

    fn is_code(address: u64) -> bool {
        (0x1000..0x2000).contains(&address)
    }

    /// `mov 0x5000(%rip), %rax; mov ctx(%rax), %rdi; jmp *slot(%rax)`, as 3.12 has it.
    fn by_pointer(address: u64, slot: u32) -> Vec<u8> {
        let mut code = vec![0x48, 0x8b, 0x05];
        code.extend((0x5000 - (address as u32 + 7)).to_le_bytes());
        code.extend([0x48, 0x8b, 0xb8]);
        code.extend(0x80_u32.to_le_bytes());
        code.extend([0xff, 0xa0]);
        code.extend((0x88 + 8 * slot).to_le_bytes());
        code
    }

    /// `mov slot(%rip), %rax; cmp $imm, %rax; jmp *%rax`, as profile-guided builds have it.
    fn by_address(address: u64, slot: u32) -> Vec<u8> {
        let mut code = vec![0x48, 0x8b, 0x05];
        code.extend((0x9008 + 8 * slot - (address as u32 + 7)).to_le_bytes());
        code.extend([0x48, 0x3d, 0, 0x11, 0, 0, 0xff, 0xe0]);
        code
    }

    fn found(code: impl Fn(u64, u32) -> Vec<u8>, memory: &Words) -> Option<Table> {
        let places = [0x1000_u64, 0x1020, 0x1040, 0x1060];
        let bodies: Vec<_> = places.iter().zip(0..).map(|(at, slot)| code(*at, slot)).collect();
        let functions =
            [0, 1, 2, 3].map(|index| MappedCode { address: places[index], body: &bodies[index] });
        find(&functions, memory, is_code)
    }

    #[test]
    fn a_table_in_a_struct_that_is_known_by_address_is_found() {
        let targets = [0x1100, 0x1110, 0x1120, 0x1130];
        assert_eq!(found(by_pointer, &memory(0x88)), Some(Table { slots: 0x9088, targets }));
    }

    #[test]
    fn a_table_of_its_own_is_found() {
        let targets = [0x1100, 0x1110, 0x1120, 0x1130];
        assert_eq!(found(by_address, &memory(8)), Some(Table { slots: 0x9008, targets }));
    }

    #[test]
    fn a_table_that_holds_no_code_is_none() {
        let mut words = memory(8);
        words.0.insert(0x9018, 0x7777_0000);
        assert_eq!(found(by_address, &words), None);
    }

    #[test]
    fn functions_that_load_from_different_tables_have_none() {
        let other = |address, slot: u32| by_address(address, if slot == 3 { 2 } else { slot });
        assert_eq!(found(other, &memory(8)), None);
    }

    proptest! {
        #[test]
        fn arbitrary_code_never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let functions = [MappedCode { address: 0x1000, body: &body }; 4];
            let _ = find(&functions, &memory(8), is_code);
        }
    }
}
