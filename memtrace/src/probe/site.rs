//! The instruction of a function at which its probe is placed.
//!
//! A uprobe replaces an instruction's first byte by a trap. If the kernel can emulate that
//! instruction a hit costs one trap; else it is copied aside and single-stepped, which is a second
//! one. So the probe goes to the first instruction from the function's symbol that the running
//! kernel emulates, under one rule: **it is reached exactly once by every call, with the arguments in
//! known registers, and the stack pointer and thereby `[rsp]` = return address as at entry**.
//!
//! - Only instructions that leave the stack pointer and the control flow alone are crossed, and that
//!   leave each argument in a register, its own or one that it was copied to (mimalloc puts its heap
//!   into the first one, and what was there into the second).
//!   A conditional jump is never crossed: it is emulated, so it is the site
//!   (at `free`'s null check the arguments are intact on both ways out).
//! - Nothing may jump between the entry and the site, or onto it, from elsewhere: such a jump
//!   would be a hit without a call. When that cannot be shown, the entry is taken.
//! - An instruction that the kernel refuses to probe is never chosen.

mod aarch64;
mod arguments;
pub mod flow;
mod system_calls;
mod x86_64;

use thiserror::Error;

pub use self::system_calls::{SystemCall, function_of};
use crate::{
    elf::Machine,
    model::{ArgumentPlaces, CallShape},
    sys::kernel::KernelVersion,
};

/// How far from its symbol a site is looked for. Known allocators have theirs within 50 bytes
/// (the farthest: `free` of jemalloc 5.3, at 48).
pub const REACH_BYTES: usize = 64;

/// What a hit costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SiteCost {
    /// One trap: the kernel emulates the instruction.
    Emulated,
    /// Two traps: the kernel single-steps a copy of the instruction.
    Stepped,
}

/// A place for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes from the function's symbol.
    pub offset: u64,
    /// What a hit costs.
    pub cost: SiteCost,
    /// The instruction there.
    pub code: Vec<u8>,
    /// Where the arguments are there.
    pub arguments: ArgumentPlaces,
}

/// A function as bytes.
#[derive(Clone, Copy, Debug)]
pub struct FunctionCode<'a> {
    /// Address of the symbol.
    pub address: u64,
    /// The code from there on.
    pub body: &'a [u8],
    /// `body` is the whole function; else only its entry can be used, because a loop back into
    /// its first instructions could not be seen.
    pub is_whole: bool,
}

/// Why a function has no site.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SiteError {
    /// The bytes at the symbol are not an instruction.
    #[error("its first bytes ({}) are not an instruction", hex(.bytes))]
    NotCode {
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The kernel does not accept a probe on the entry, and there is no better place.
    #[error("the kernel refuses a probe on its first instruction ({})", hex(.code))]
    Refused {
        /// The instruction.
        code: Vec<u8>,
    },
}

/// What the kernel does with a probe on an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Emulates,
    Steps,
    Refuses,
}

/// Chooses the site of a function.
///
/// Errors: [`SiteError`] when not even the entry can be probed.
pub fn choose(
    machine: Machine,
    code: FunctionCode<'_>,
    shape: CallShape,
    kernel: KernelVersion,
) -> Result<Site, SiteError> {
    match machine {
        Machine::X86_64 => match x86_64::emulated_site(code, shape, kernel) {
            Some(site) => Ok(site),
            None => x86_64::entry(code, kernel),
        },
        Machine::Aarch64 => aarch64::entry(code, kernel),
    }
}

/// The site at the first instruction, whatever it costs.
///
/// Errors: [`SiteError`] when it cannot be probed.
pub fn at_entry(
    machine: Machine,
    code: FunctionCode<'_>,
    kernel: KernelVersion,
) -> Result<Site, SiteError> {
    match machine {
        Machine::X86_64 => x86_64::entry(code, kernel),
        Machine::Aarch64 => aarch64::entry(code, kernel),
    }
}

/// The system calls that a function makes by itself and that change the address space. x86-64 only;
/// empty elsewhere.
pub fn system_calls(
    machine: Machine,
    code: FunctionCode<'_>,
    kernel: KernelVersion,
) -> Vec<SystemCall> {
    match machine {
        Machine::X86_64 => system_calls::of(code, kernel),
        Machine::Aarch64 => Vec::new(),
    }
}

/// The instruction at an offset of a function, if decoding from the function's start arrives
/// there.
pub fn instruction_at(machine: Machine, code: FunctionCode<'_>, offset: u64) -> Option<&[u8]> {
    let offset = usize::try_from(offset).ok()?;
    match machine {
        Machine::X86_64 => x86_64::instruction_at(code, offset),
        Machine::Aarch64 => aarch64::instruction_at(code, offset),
    }
}

/// Which of `windows` (ranges of addresses) a direct jump or call with a 32-bit displacement
/// anywhere in `code` may lead into.
///
/// For jumps from outside of a function's symbol, as compilers make between the hot and the cold
/// part of one function. Every byte is taken for a possible opcode, so that no decoding can go
/// astray: too many are found rather than too few. x86-64 only; empty elsewhere.
pub fn entered_windows(
    machine: Machine,
    start: u64,
    code: &[u8],
    windows: &[std::ops::RangeInclusive<u64>],
) -> Vec<bool> {
    match machine {
        Machine::X86_64 => x86_64::entered_windows(start, code, windows),
        Machine::Aarch64 => vec![false; windows.len()],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
