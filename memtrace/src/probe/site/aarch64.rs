//! AArch64: the entry only. Sources: arch/arm64/kernel/probes/decode-insn.c; encodings: Arm ARM,
//! C4.1. Untested on hardware.
//!
//! Crossing buys nothing here: functions start with `paciasp`, `bti c`, `stp` or `sub sp`, the
//! kernel single-steps all of them, and what it simulates is seldom before the first store.

use super::{FunctionCode, Site, SiteCost, SiteError, Verdict};
use crate::{model::ArgumentPlaces, sys::kernel::KernelVersion};

/// Since when the kernel simulates `nop`.
const SIMULATES_NOP: KernelVersion = KernelVersion::new(6, 13);
const NOP: u32 = 0xd503_201f;

pub(super) fn entry(code: FunctionCode<'_>, kernel: KernelVersion) -> Result<Site, SiteError> {
    let not_code = || SiteError::NotCode { bytes: code.body.iter().copied().take(4).collect() };
    let bytes = instruction_at(code, 0).ok_or_else(not_code)?;
    let word = word(bytes).ok_or_else(not_code)?;
    match verdict(word, kernel) {
        Verdict::Emulates => Ok(site(bytes, SiteCost::Emulated)),
        Verdict::Steps => Ok(site(bytes, SiteCost::Stepped)),
        Verdict::Refuses => Err(SiteError::Refused { code: bytes.to_vec() }),
    }
}

pub(super) fn instruction_at(code: FunctionCode<'_>, offset: usize) -> Option<&[u8]> {
    let aligned = offset.is_multiple_of(4) && code.address.is_multiple_of(4);
    aligned.then(|| code.body.get(offset..offset.checked_add(4)?)).flatten()
}

fn site(bytes: &[u8], cost: SiteCost) -> Site {
    Site { offset: 0, cost, code: bytes.to_vec(), arguments: ArgumentPlaces::USUAL }
}

fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn verdict(word: u32, kernel: KernelVersion) -> Verdict {
    match word {
        NOP if kernel >= SIMULATES_NOP => Verdict::Emulates,
        _ if is_simulated(word) => Verdict::Emulates,
        _ if is_refused(word) => Verdict::Refuses,
        _ => Verdict::Steps,
    }
}

/// Whether the bits under a mask have a value: an instruction class of the Arm ARM.
fn is(word: u32, mask: u32, value: u32) -> bool {
    word & mask == value
}

fn is_simulated(word: u32) -> bool {
    is(word, 0x7c00_0000, 0x1400_0000)      // b, bl
        || is(word, 0xff00_0010, 0x5400_0000) // b.cond
        || is(word, 0x7e00_0000, 0x3400_0000) // cbz, cbnz
        || is(word, 0x7e00_0000, 0x3600_0000) // tbz, tbnz
        || is(word, 0x1f00_0000, 0x1000_0000) // adr, adrp
        || is(word, 0xff9f_fc1f, 0xd61f_0000) // br, blr, ret
}

fn is_refused(word: u32) -> bool {
    is(word, 0x3f00_0000, 0x0800_0000)        // load/store exclusive
        || is(word, 0x3b00_0000, 0x1800_0000) // load literal
        || is(word, 0xff00_0000, 0xd400_0000) // svc, hvc, smc, brk, hlt
        || is(word, 0xfff8_f01f, 0xd500_401f) // msr (immediate)
        || is(word, 0xffd0_0000, 0xd510_0000) // msr and mrs (register)
        || is(word, 0xfe00_0000, 0xd600_0000) // other branches to registers, eret
}
