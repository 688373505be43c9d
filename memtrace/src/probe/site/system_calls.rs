//! Where code makes a system call that changes the address space (x86-64).
//!
//! A call is seen at the instruction before `syscall`, where the arguments are in their registers or
//! in those that they are about to come from, and at the one behind it, where they still are and the
//! result is there; or at one that follows on that, if it costs less and they are still there. Nobody's
//! return address is touched, so that it does not matter what kind of code it is. (The kernel refuses
//! probes on `syscall` itself.)

use std::{collections::BTreeSet, ops::RangeInclusive};

use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, Register};

use super::{
    FunctionCode, Site, SiteCost,
    arguments::{places_before, written},
    x86_64::{branch_target, cost, instructions},
};
use crate::{
    model::{AllocFn, ArgumentPlaces, CallShape},
    sys::kernel::KernelVersion,
};

/// A system call in the code of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// What it does, by the function that usually makes it.
    pub function: AllocFn,
    /// Where it is seen, and as what.
    pub sites: Vec<(CallShape, Site)>,
    /// The addresses that nothing may jump to.
    pub window: RangeInclusive<u64>,
}

/// So many instructions behind a call are looked at for one that costs less.
const FARTHEST_END: usize = 6;

/// What must still be there: the stack, the result, and the arguments that are told.
const KNOWN_AT_END: [Register; 6] =
    [Register::RSP, Register::RAX, Register::RDI, Register::RSI, Register::RDX, Register::R10];

/// An instruction, and where in the function it is.
type Decoded = (Instruction, RangeInclusive<usize>);

/// By the number of a system call (arch/x86/entry/syscalls/syscall_64.tbl): the function, and the
/// shapes of its sites.
pub fn function_of(number: u64) -> Option<(AllocFn, &'static [CallShape])> {
    use CallShape::{CallBegin, CallEnd};
    match number {
        9 => Some((AllocFn::Mmap, &[CallEnd])),
        10 => Some((AllocFn::Mprotect, &[CallEnd])),
        11 => Some((AllocFn::Munmap, &[CallBegin, CallEnd])),
        12 => Some((AllocFn::Brk, &[CallEnd])),
        25 => Some((AllocFn::Mremap, &[CallBegin, CallEnd])),
        28 => Some((AllocFn::Madvise, &[CallBegin])),
        _ => None,
    }
}

/// Those whose number is constant, and that can be seen without a doubt. Empty where some of the
/// function does not decode: something there may jump anywhere.
pub(super) fn of(code: FunctionCode<'_>, kernel: KernelVersion) -> Vec<SystemCall> {
    let decoded: Vec<Decoded> = instructions(code).collect();
    let decoded_bytes = decoded.last().map_or(0, |(_, range)| range.end() + 1);
    if decoded_bytes != code.body.len() {
        return Vec::new();
    }
    let targets =
        decoded.iter().filter_map(|(instruction, _)| branch_target(instruction)).collect();
    let function = Function { code, kernel, decoded, targets };
    (0..function.decoded.len()).filter_map(|at| function.system_call(at)).collect()
}

struct Function<'a> {
    code: FunctionCode<'a>,
    kernel: KernelVersion,
    decoded: Vec<Decoded>,
    /// Where its jumps and calls lead.
    targets: BTreeSet<u64>,
}

impl Function<'_> {
    /// That of the instruction at this place of the list.
    fn system_call(&self, at: usize) -> Option<SystemCall> {
        let (before, rest) = self.decoded.split_at(at);
        let [syscall, behind, ..] = rest else { return None };
        if syscall.0.code() != Code::Syscall {
            return None;
        }
        let (load, number) = constant_rax(straight(before))?;
        let (function, shapes) = function_of(number)?;
        let window_to = |last: &Decoded| load.next_ip()..=last.0.ip();
        let is_clear = |last: &&Decoded| self.targets.range(window_to(last)).next().is_none();
        let end = self.cheap_end(&rest[1..], function).filter(is_clear).unwrap_or(behind);
        if !is_clear(&end) {
            return None;
        }
        let sites = shapes.iter().map(|shape| match shape {
            CallShape::CallBegin => {
                let last = before.last()?;
                let arguments = if function == AllocFn::Madvise { 3 } else { 2 };
                let places = places_before(&last.0, arguments)?;
                Some((*shape, self.site(last, places)?))
            }
            _ => Some((*shape, self.site(end, ArgumentPlaces::USUAL)?)),
        });
        let sites = sites.collect::<Option<_>>()?;
        Some(SystemCall { function, sites, window: window_to(end) })
    }

    /// The first instruction that the kernel emulates, if all before it leave alone what must be known.
    fn cheap_end<'d>(&self, behind: &'d [Decoded], function: AllocFn) -> Option<&'d Decoded> {
        let mut info = InstructionInfoFactory::new();
        for decoded in behind.iter().take(FARTHEST_END) {
            let (instruction, range) = decoded;
            if cost(self.code.body.get(range.clone())?, self.kernel)? == SiteCost::Emulated {
                return Some(decoded);
            }
            let written = written(&mut info, instruction);
            let is_lost = |register: &Register| {
                KNOWN_AT_END.contains(register)
                    // Its only argument is the first.
                    && !(function == AllocFn::Brk && *register == Register::RDX)
            };
            if instruction.flow_control() != FlowControl::Next || written.iter().any(is_lost) {
                return None;
            }
        }
        None
    }

    fn site(&self, (_, range): &Decoded, arguments: ArgumentPlaces) -> Option<Site> {
        let code = self.code.body.get(range.clone())?.to_vec();
        let cost = cost(&code, self.kernel)?;
        Some(Site { offset: *range.start() as u64, cost, code, arguments })
    }
}

/// What is executed one after the other up to the end.
fn straight(before: &[Decoded]) -> &[Decoded] {
    let leaves = |(instruction, _): &Decoded| instruction.flow_control() != FlowControl::Next;
    let start = before.iter().rposition(leaves).map_or(0, |last| last + 1);
    &before[start..]
}

/// What is in `rax` at the end, if the last instruction to change it puts a constant there; and that
/// instruction.
fn constant_rax(straight: &[Decoded]) -> Option<(&Instruction, u64)> {
    let mut info = InstructionInfoFactory::new();
    let mut changes = |it: &Instruction| written(&mut info, it).contains(&Register::RAX);
    let (load, _) = straight.iter().rev().find(|(instruction, _)| changes(instruction))?;
    let is_constant = matches!(load.code(), Code::Mov_r32_imm32 | Code::Mov_rm64_imm32)
        && load.op0_register().full_register() == Register::RAX;
    is_constant.then(|| (load, load.immediate(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion::new(6, 1);

    fn calls(body: &[u8]) -> Vec<SystemCall> {
        of(FunctionCode { address: 0x1000, body, is_whole: true }, KERNEL)
    }

    fn sites(body: &[u8]) -> Vec<(AllocFn, Vec<(CallShape, u64)>)> {
        let places = |call: SystemCall| {
            let sites = call.sites.iter().map(|(shape, site)| (*shape, site.offset)).collect();
            (call.function, sites)
        };
        calls(body).into_iter().map(places).collect()
    }

    #[test]
    fn a_call_is_seen_before_and_behind() {
        // mov $11, %eax; syscall; cmp $-4095, %rax; ret
        let munmap = [0xb8, 11, 0, 0, 0, 0x0f, 0x05, 0x48, 0x3d, 1, 0xf0, 0xff, 0xff, 0xc3];
        let both = vec![(CallShape::CallBegin, 0), (CallShape::CallEnd, 7)];
        assert_eq!(sites(&munmap), [(AllocFn::Munmap, both)]);
        let [call] = &calls(&munmap)[..] else { panic!("one") };
        assert_eq!(call.window, 0x1005..=0x1007);
        assert!(call.sites.iter().all(|(_, site)| site.cost == SiteCost::Stepped));
        // The same, and jae before the ret: it is emulated.
        let mut cheap = munmap.to_vec();
        cheap.splice(13.., [0x73, 1, 0xc3, 0xc3]);
        let [call] = &calls(&cheap)[..] else { panic!("one") };
        let (_, end) = &call.sites[1];
        assert_eq!(
            (end.offset, end.cost, call.window.clone()),
            (13, SiteCost::Emulated, 0x1005..=0x100d)
        );
        // mov %rax, %rdi in the place of cmp: the argument is lost there.
        let lost = [0xb8, 11, 0, 0, 0, 0x0f, 0x05, 0x48, 0x89, 0xc7, 0x73, 0, 0xc3];
        assert_eq!(calls(&lost)[0].sites[1].1.offset, 7);
        // mov $9, %eax; syscall; ret
        let mmap = [0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0xc3];
        assert_eq!(sites(&mmap), [(AllocFn::Mmap, vec![(CallShape::CallEnd, 7)])]);
        // getpid
        assert_eq!(sites(&[0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xc3]), []);
    }

    #[test]
    fn arguments_that_are_moved_at_the_last_moment_are_where_they_come_from() {
        // mov $11, %eax; mov %rbx, %rdi; mov %rbp, %rsi; syscall; ret (musl's munmap)
        let moved = [0xb8, 11, 0, 0, 0, 0x48, 0x89, 0xdf, 0x48, 0x89, 0xee, 0x0f, 0x05, 0xc3];
        let [call] = &calls(&moved)[..] else { panic!("one") };
        let [(CallShape::CallBegin, site), _] = &call.sites[..] else { panic!("{call:?}") };
        assert_eq!((site.offset, site.arguments.place(0), site.arguments.place(1)), (8, 0, 6));
        // mov $11, %eax; lea 8(%rbp), %rsi; syscall; ret: it is nowhere yet.
        assert_eq!(sites(&[0xb8, 11, 0, 0, 0, 0x48, 0x8d, 0x75, 8, 0x0f, 0x05, 0xc3]), []);
    }

    #[test]
    fn what_may_be_another_call_is_none() {
        // mov %rdi, %rax; syscall; ret: the number is the caller's.
        assert_eq!(sites(&[0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3]), []);
        // je +5; mov $9, %eax; syscall; ret: the jump leads to the syscall.
        assert_eq!(sites(&[0x74, 5, 0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0xc3]), []);
        // The same to the mov, which is as good as none.
        assert_eq!(sites(&[0x74, 0, 0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0xc3]).len(), 1);
        // The rest is no code.
        assert_eq!(sites(&[0xb8, 9, 0, 0, 0, 0x0f, 0x05, 0xc3, 0x06]), []);
        // call +0 between the number and the call: who knows what is in the register.
        assert_eq!(sites(&[0xb8, 9, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x0f, 0x05, 0xc3]), []);
    }
}
