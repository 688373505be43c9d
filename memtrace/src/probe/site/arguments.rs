//! Where a function's arguments are after some of its instructions (x86-64).

use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind, Register,
};

use crate::model::{ArgumentPlaces, CallShape};

/// Integer arguments in order (System V AMD64 ABI, 3.2.3).
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// Where the first arguments are before an instruction that is the last one before they are used;
/// `None` when it makes one of them out of something else.
pub(super) fn places_before(last: &Instruction, arguments: usize) -> Option<ArgumentPlaces> {
    let written = written(&mut InstructionInfoFactory::new(), last);
    let mut places = ArgumentPlaces::USUAL;
    for (index, own) in ARGUMENTS.iter().enumerate().take(arguments) {
        if written.contains(own) {
            let (from, _) = copied(last).filter(|(_, to)| to == own)?;
            places = places.with(index, from.number() as u8)?;
        }
    }
    Some(places)
}

/// The registers that an instruction changes, each as the whole that it is a part of.
pub(super) fn written(
    info: &mut InstructionInfoFactory,
    instruction: &Instruction,
) -> Vec<Register> {
    let used = info.info(instruction).used_registers();
    let written = used.iter().filter(|used| is_write(used.access()));
    written.map(|used| used.register().full_register()).collect()
}

/// The registers that hold each argument that matters.
pub(super) struct Whereabouts {
    holders: Vec<Vec<Register>>,
    info: InstructionInfoFactory,
}

impl Whereabouts {
    /// As the calling convention has them.
    pub(super) fn at_entry(shape: CallShape) -> Self {
        let own = ARGUMENTS.iter().take(shape.argument_count());
        Self { holders: own.map(|own| vec![*own]).collect(), info: InstructionInfoFactory::new() }
    }

    /// Takes account of an instruction; `false` when it must not be crossed: something else than the
    /// next one may follow, the stack pointer moves, or an argument is lost.
    pub(super) fn cross(&mut self, instruction: &Instruction) -> bool {
        if instruction.flow_control() != FlowControl::Next {
            return false;
        }
        let copy = copied(instruction);
        let written = written(&mut self.info, instruction);
        if written.contains(&Register::RSP) {
            return false;
        }
        for holders in &mut self.holders {
            let gains = copy.filter(|(from, _)| holders.contains(from)).map(|(_, to)| to);
            holders.retain(|holder| !written.contains(holder));
            holders.extend(gains);
        }
        self.holders.iter().all(|holders| !holders.is_empty())
    }

    /// Where a probe here finds the arguments; `None` when a cookie cannot say it.
    pub(super) fn places(&self) -> Option<ArgumentPlaces> {
        let mut places = ArgumentPlaces::USUAL;
        for (index, (holders, own)) in self.holders.iter().zip(ARGUMENTS).enumerate() {
            if !holders.contains(&own) {
                let numbers = holders.iter().map(|holder| holder.number() as u8);
                places = numbers.filter_map(|number| places.with(index, number)).next()?;
            }
        }
        Some(places)
    }
}

/// From where to where a whole register is copied.
fn copied(instruction: &Instruction) -> Option<(Register, Register)> {
    let is_copy = matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Mov_r64_rm64)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register;
    is_copy.then(|| (instruction.op1_register(), instruction.op0_register()))
}

fn is_write(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}
