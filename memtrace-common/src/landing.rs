//! Where copies of the target's memory land, because one place in 128 is slow.
//!
//! A kernel that takes `rep movsb` for copies (every recent x86 with "fast short repeat moves") is
//! slow by a factor of 20 on AMD's Zen 3 to 5 where the destination lies 1 to 31 bytes behind the
//! source, modulo 4096: the processor takes its stores for what it is about to load
//! (<https://sourceware.org/bugzilla/show_bug.cgi?id=30994>). Which of a target's copies are hit
//! depends on where its stack happens to be, so that one process in ten costs twice as much as
//! the others. Such copies land [`SHIFT`] words further.

/// How many words further; a power of two.
pub const SHIFT: usize = 16;
/// Differences of the addresses from 1 to below this many bytes are avoided: some more than are slow.
const NEAR_BYTES: u64 = 64;
/// Of the addresses that are compared.
const PAGE_BYTES: u64 = 4096;

/// How many words further a copy of what is at `source` lands that would land at `destination`.
#[inline(always)]
pub fn shift(source: u64, destination: u64) -> usize {
    let behind = destination.wrapping_sub(source) & (PAGE_BYTES - 1);
    // Not a branch, which the verifier would follow both sides of.
    usize::from(behind.wrapping_sub(1) < NEAR_BYTES - 1) * SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_copy_lands_close_behind_its_source() {
        for destination in (0x7000_0000..0x7000_0000 + PAGE_BYTES).step_by(8) {
            let source = 0x1238;
            let landed = destination + 8 * shift(source, destination) as u64;
            let behind = (landed - source) % PAGE_BYTES;
            assert!(behind == 0 || behind >= NEAR_BYTES, "{behind}");
        }
    }

    #[test]
    fn copies_that_are_fast_are_left_where_they_are() {
        for behind in [0, NEAR_BYTES, 2048, PAGE_BYTES - 8] {
            assert_eq!(shift(0x1238, 0x1238 + behind), 0);
        }
    }
}
