//! Where a build of glibc keeps its heap's state, found in its file without symbols.
//!
//! `static struct malloc_state main_arena = {.next = &main_arena, .attached_threads = 1}`
//! (malloc/malloc.c) makes the linker write a relocation that points into its own structure: its
//! distance from the structure is the offset of `next`, from which all other offsets follow.
//! `mp_` is initialised with known values. Both survive stripping.

use std::ops::RangeInclusive;

use object::ReadRef;

use super::shape::{ArenaShape, BINS_TO_NEXT_BYTES};
use crate::elf::{DataSegment, Elf};

/// Addresses as the file states them; the same for every process that maps this build, so that
/// it can be kept by build ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Of `main_arena`.
    pub main_arena: u64,
    /// What a `malloc_state` looks like.
    pub shape: ArenaShape,
    /// `mp_`, where its initial values were found.
    pub parameters: Option<ParameterLayout>,
}

/// `struct malloc_par mp_`: addresses of the members that moved between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterLayout {
    /// The structure; `trim_threshold`, `top_pad`, `mmap_threshold`, `arena_test` and `arena_max`
    /// are its first five words in every version.
    pub address: u64,
    /// `n_mmaps` (32 bits).
    pub map_count: u64,
    /// `mmapped_mem`.
    pub mapped_bytes: u64,
    /// `sbrk_base`, the likelier one first: before tcaches (2.26) the file does not tell whether
    /// `max_total_mem` (until 2.23) comes before it.
    pub program_break: [u64; 2],
    /// `tcache_count`, since 2.26.
    pub tcache_count: Option<u64>,
    /// `thp_pagesize` and `hp_pagesize`, since 2.35.
    pub huge_page: Option<[u64; 2]>,
}

impl Layout {
    /// The layout of an object, or `None` when it has no glibc malloc (of a known form).
    pub fn find<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Option<Self> {
        let data = elf.data_segments();
        let (main_arena, shape) = relocated_arena(elf, &data).or_else(|| linked_arena(&data))?;
        Some(Self { main_arena, shape, parameters: ParameterLayout::find(elf) })
    }

    /// The layout as it is in a process that added `bias` to the file's addresses.
    pub fn at(self, bias: u64) -> Self {
        Self {
            main_arena: self.main_arena.wrapping_add(bias),
            parameters: self.parameters.map(|parameters| parameters.at(bias)),
            ..self
        }
    }
}

fn relocated_arena<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    data: &[DataSegment<'_>],
) -> Option<(u64, ArenaShape)> {
    let relocations = elf.relative_relocations();
    relocations.iter().find_map(|relative| arena(data, relative.place, relative.value))
}

/// A program that is linked to a fixed address has the pointer itself in its data.
fn linked_arena(data: &[DataSegment<'_>]) -> Option<(u64, ArenaShape)> {
    data.iter().find_map(|segment| {
        let words = segment.bytes.chunks_exact(8).zip((segment.address..).step_by(8));
        words
            .filter_map(|(word, place)| Some((u64_at(word, 0)?, place)))
            .find_map(|(value, place)| if value == 0 { None } else { arena(data, place, value) })
    })
}

/// Offsets that `next` can have in a `malloc_state` with 254 words of bins before it: 0x868,
/// 0x870 and 0x818 up to 2.43, and some room.
const NEXT: RangeInclusive<u64> = 0x810..=0x890;

/// The arena at `address` whose `next` is at `place`: all zeros before it, and then no free
/// arena, one thread or no count of threads, and no memory.
fn arena(data: &[DataSegment<'_>], place: u64, address: u64) -> Option<(u64, ArenaShape)> {
    let next = place.checked_sub(address).filter(|next| NEXT.contains(next) && next % 8 == 0)?;
    let segment = data.iter().find(|segment| segment.word(place).is_some())?;
    let at = usize::try_from(address.checked_sub(segment.address)?).ok()?;
    let before = segment.bytes.get(at..at + next as usize)?;
    let after = [8, 16, 24, 32].map(|offset| segment.word(place + offset).unwrap_or(0));
    let is_arena = before.iter().all(|byte| *byte == 0) && matches!(after, [0, 0 | 1, 0, _]);
    let counts_threads = after[1] == 1;
    is_arena.then_some((address, ArenaShape { next, counts_threads }))
}

const _: () = assert!(BINS_TO_NEXT_BYTES < *NEXT.start());

/// `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD` as they are at first.
const DEFAULT_THRESHOLD_BYTES: u64 = 128 << 10;
/// `NARENAS_FROM_NCORES(1)` of 64-bit programs.
const DEFAULT_ARENA_TEST: u64 = 8;
/// `DEFAULT_MMAP_MAX`.
const DEFAULT_MAP_MAX: u32 = 65536;
/// `TCACHE_MAX_BINS`; `TCACHE_SMALL_BINS` since 2.42.
const TCACHE_BINS: u64 = 64;

impl ParameterLayout {
    /// `mp_` in an object, by its initial values.
    pub fn find<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Option<Self> {
        elf.data_segments().iter().find_map(|segment| {
            let starts = (0..segment.bytes.len().saturating_sub(0x80)).step_by(8);
            starts.into_iter().find_map(|at| Self::read(segment, at))
        })
    }

    /// `trim_threshold, top_pad, mmap_threshold, arena_test, arena_max`, and then `n_mmaps_max`.
    fn read(segment: &DataSegment<'_>, at: usize) -> Option<Self> {
        let word = |offset| u64_at(segment.bytes, at + offset);
        let is_first = word(0) == Some(DEFAULT_THRESHOLD_BYTES)
            && matches!(word(8), Some(0 | DEFAULT_THRESHOLD_BYTES))
            && word(16) == Some(DEFAULT_THRESHOLD_BYTES)
            && word(24) == Some(DEFAULT_ARENA_TEST)
            && word(32) == Some(0);
        if !is_first {
            return None;
        }
        let map_max = (40..96).step_by(4).find(|offset| {
            let bytes = segment.bytes.get(at + offset..at + offset + 4);
            bytes == Some(&DEFAULT_MAP_MAX.to_le_bytes()[..])
        })?;
        let mapped = (map_max + 12).next_multiple_of(8);
        let tcache = (16..40).step_by(8).find(|past| word(mapped + past) == Some(TCACHE_BINS));
        let address = segment.address + at as u64;
        let place = |offset: usize| address + offset as u64;
        Some(Self {
            address,
            map_count: place(map_max - 4),
            mapped_bytes: place(mapped),
            program_break: match tcache {
                Some(past) => [place(mapped + past - 8); 2],
                None => [place(mapped + 16), place(mapped + 24)],
            },
            tcache_count: tcache.map(|past| place(mapped + past + 16)),
            // After `arena_max` come thp_pagesize and hp_pagesize, since 2.43 behind thp_mode.
            huge_page: (map_max >= 0x40).then(|| [place(map_max - 24), place(map_max - 16)]),
        })
    }

    /// The layout as it is in a process that added `bias` to the file's addresses.
    pub fn at(self, bias: u64) -> Self {
        let moved = |address: u64| address.wrapping_add(bias);
        Self {
            address: moved(self.address),
            map_count: moved(self.map_count),
            mapped_bytes: moved(self.mapped_bytes),
            program_break: self.program_break.map(moved),
            tcache_count: self.tcache_count.map(moved),
            huge_page: self.huge_page.map(|both| both.map(moved)),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}
