//! Where a return address can point: only behind a call instruction.
//!
//! All addresses that are looked up are return addresses less one, the last byte of a call. A row
//! whose code holds no call is never found, and most rows (prologues, epilogues) are like that.
//! The search errs on the side of finding calls that are none.

use super::compile::Wanted;
use crate::elf::Elf;

/// The near direct call, `E8 rel32` (Intel SDM volume 2, CALL).
const DIRECT: u8 = 0xe8;
const DIRECT_BYTES: usize = 5;
/// The near indirect call, `FF /2`, of at least 2 bytes.
const INDIRECT: u8 = 0xff;
const INDIRECT_BYTES: usize = 2;
/// `syscall`
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Code between functions that is no longer than this, and holds neither a call nor a system
/// call, is padding: linkers align functions to 64 bytes at most.
const LONGEST_PADDING_BYTES: u64 = 64;

/// The code of an object, by address.
pub(super) struct Code<'d> {
    /// Ascending.
    segments: Vec<Segment<'d>>,
    /// All of it is looked up, not calls alone.
    everywhere: bool,
}

struct Segment<'d> {
    address: u64,
    bytes: &'d [u8],
}

impl<'d> Code<'d> {
    /// The executable segments that the file holds.
    pub(super) fn new(elf: &Elf<'d, &'d [u8]>, wanted: Wanted) -> Self {
        let segment = |address, size_bytes| {
            Some(Segment { address, bytes: elf.code(address, size_bytes).ok()? })
        };
        let mut segments: Vec<_> =
            elf.code_segments().filter_map(|code| segment(code.address, code.size_bytes)).collect();
        segments.sort_by_key(|segment| segment.address);
        Self { segments, everywhere: wanted == Wanted::Everywhere }
    }

    /// Length of all segments.
    pub(super) fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes.len() as u64).sum()
    }

    /// How much of a section of unwind information makes a row, of those that are kept: less than large
    /// libraries have, so that what is expected suffices.
    pub(super) fn section_bytes_of_row(&self) -> usize {
        if self.everywhere { 4 } else { 32 }
    }

    /// First address and one past the last one.
    pub(super) fn bounds(&self) -> Option<(u64, u64)> {
        let first = self.segments.first()?.address;
        Some((first, self.segments.iter().map(Segment::end).max()?))
    }

    /// Where the segment around an address ends.
    pub(super) fn segment_end(&self, address: u64) -> Option<u64> {
        self.segment(address).map(Segment::end)
    }

    /// Whether a call instruction may lie within this code.
    pub(super) fn may_call(&self, start: u64, end: u64) -> bool {
        self.everywhere || self.bytes(start, end).is_none_or(may_call)
    }

    /// Whether this code between two functions can be on a stack. Unlike functions' code, it may
    /// do without a call: the return address of a signal handler is a system call that libc may
    /// not have described.
    pub(super) fn may_run(&self, start: u64, end: u64) -> bool {
        self.everywhere
            || end - start > LONGEST_PADDING_BYTES
            || self.bytes(start, end).is_none_or(|bytes| {
                may_call(bytes) || bytes.windows(SYSCALL.len()).any(|two| two == SYSCALL)
            })
    }

    fn bytes(&self, start: u64, end: u64) -> Option<&'d [u8]> {
        let segment = self.segment(start)?;
        let range = (start - segment.address) as usize..(end - segment.address) as usize;
        segment.bytes.get(range)
    }

    fn segment(&self, address: u64) -> Option<&Segment<'d>> {
        let after = self.segments.partition_point(|segment| segment.address <= address);
        self.segments[..after].last().filter(|segment| address < segment.end())
    }
}

impl Segment<'_> {
    fn end(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }
}

fn may_call(code: &[u8]) -> bool {
    (0..code.len()).any(|at| match code[at] {
        DIRECT => code.len() - at >= DIRECT_BYTES,
        INDIRECT => code.len() - at >= INDIRECT_BYTES && opcode_extension(code[at + 1]) == 2,
        _ => false,
    })
}

/// The bits of a ModRM byte that belong to the opcode.
fn opcode_extension(modrm: u8) -> u8 {
    (modrm >> 3) & 7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(bytes: &[u8]) -> Code<'_> {
        Code { segments: vec![Segment { address: 0x1000, bytes }], everywhere: false }
    }

    #[test]
    fn calls_are_seen_when_they_lie_within_the_range() {
        let code = code(&[0x90, 0xe8, 1, 2, 3, 4, 0xc3, 0x41, 0xff, 0xd4, 0xff, 0xe0]);
        assert!(code.may_call(0x1000, 0x1006));
        assert!(code.may_call(0x1007, 0x100a));
        assert!(!code.may_call(0x1000, 0x1005), "the call's last byte is outside");
        assert!(!code.may_call(0x1002, 0x1008), "the call's first byte is outside");
        assert!(!code.may_call(0x100a, 0x100c), "jmp rax");
        assert!(!code.may_call(0x1006, 0x1007), "ret");
    }

    #[test]
    fn code_that_the_file_does_not_hold_may_call() {
        assert!(code(&[0x90]).may_call(0x1000, 0x1002));
        assert!(code(&[0x90]).may_call(0x2000, 0x2001));
    }

    #[test]
    fn where_all_code_is_looked_up_all_of_it_may_run() {
        let everywhere = Code { everywhere: true, ..code(&[0x90; 8]) };
        assert!(everywhere.may_call(0x1000, 0x1002) && everywhere.may_run(0x1000, 0x1002));
    }

    #[test]
    fn only_short_harmless_gaps_are_padding() {
        let gap = [0x90; 65];
        assert!(!code(&gap).may_run(0x1000, 0x1040));
        assert!(code(&gap).may_run(0x1000, 0x1041));
        assert!(code(&[0xb8, 15, 0, 0, 0, 0x0f, 0x05]).may_run(0x1000, 0x1007));
        assert!(code(&[0xff, 0xd0]).may_run(0x1000, 0x1002));
    }
}
