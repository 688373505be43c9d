//! Who keeps free memory from being given back: by whom the pages are held that free chunks lie on.
//! docs/blame.md says how it is computed, and why so.

use serde::Serialize;

/// Somebody who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "site")]
pub enum Culprit {
    /// An allocation site, or sites that were taken together; by a number that the caller has given.
    Site(u32),
    /// Chunks in the tcaches of threads: free for the program, in use for the heap.
    AllocatorCache,
    /// Blocks that were there before the trace.
    BeforeAttach,
    /// Blocks that were not looked at, or whose allocation was not seen.
    NotSampled,
    /// The allocator's own, somebody else's memory in the heap, or what was not understood.
    Allocator,
}

/// What one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// Who.
    #[serde(flatten)]
    pub culprit: Culprit,
    /// Its part of the trapped bytes: those of each page are split evenly between all who hold the
    /// page. The parts add up to all trapped bytes.
    pub trapped_bytes: u64,
    /// Trapped on pages that nobody else holds.
    pub exclusive_bytes: u64,
    /// What RSS would drop by if its blocks were freed, and `malloc_trim(0)` called; without what
    /// `malloc_trim(0)` gives back anyway.
    pub drop_bytes: u64,
    /// Its chunks in use, headers included.
    pub chunk_bytes: u64,
    /// How many those are.
    pub chunks: u64,
    /// The part of its chunks that is in memory.
    pub resident_bytes: u64,
    /// How many of its chunks are on pages with trapped bytes.
    pub pins: u64,
    /// The median age of those at the end; `None` where it is not known.
    pub median_age_ns: Option<u64>,
    /// The age of the oldest.
    pub oldest_age_ns: Option<u64>,
}

impl Share {
    /// Trapped bytes for each byte in use; `None` where nothing is in use.
    pub fn pin_ratio(&self) -> Option<f64> {
        (self.chunk_bytes > 0).then(|| self.trapped_bytes as f64 / self.chunk_bytes as f64)
    }
}

/// Who holds the end of an arena: what is behind goes back by itself when these are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TopPin {
    /// Which of the glibc heaps it is of.
    pub heap: u32,
    /// The arena's number in it.
    pub arena: u32,
    /// Whose the highest chunks are.
    #[serde(flatten)]
    pub culprit: Culprit,
    /// How many of them follow each other without anybody else's in between.
    pub chunks: u64,
    /// Resident bytes from the highest chunk of anybody else up to `top`.
    pub behind_bytes: u64,
}

/// An arena that no thread uses any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StrandedArena {
    /// Which of the glibc heaps it is of.
    pub heap: u32,
    /// The arena's number in it.
    pub arena: u32,
    /// What of it is in memory.
    pub resident_bytes: u64,
    /// Whose chunks are in it, by their bytes, largest first.
    pub holders: Vec<Holder>,
}

/// Whose chunks are somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Who.
    #[serde(flatten)]
    pub culprit: Culprit,
    /// Bytes of its chunks there.
    pub chunk_bytes: u64,
}

/// The same with units of another size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HugeBlame {
    /// Bytes of a huge page.
    pub page_bytes: u64,
    /// Free bytes in memory on huge pages that somebody holds.
    pub trapped_bytes: u64,
    /// By trapped bytes, the largest first: who, and its part.
    pub shares: Vec<Holder>,
}

/// Who holds what in glibc's heaps at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Blame {
    /// When, since the window's start.
    pub at_ns: i64,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Free bytes in memory, on pages that cannot be given back.
    pub trapped_bytes: u64,
    /// Free bytes in memory that `malloc_trim(0)` gives back; without `top`.
    pub returnable_bytes: u64,
    /// Chunks in use, those that were mapped one by one included.
    pub live_bytes: u64,
    /// Those of them whose site is known.
    pub traced_bytes: u64,
    /// Bytes of heap and of pages that found no room in the layout: not looked at.
    pub left_out_bytes: u64,
    /// By trapped bytes, the largest first; only those that hold anything.
    pub shares: Vec<Share>,
    /// Of each arena with anything in use.
    pub tops: Vec<TopPin>,
    /// Arenas that no thread uses any more.
    pub stranded: Vec<StrandedArena>,
    /// By huge pages, where the kernel gives them to the heap.
    pub huge: Option<HugeBlame>,
}

impl Blame {
    /// The part of the bytes in use whose site is known, from 0 to 1.
    pub fn coverage(&self) -> f64 {
        if self.live_bytes == 0 { 1.0 } else { self.traced_bytes as f64 / self.live_bytes as f64 }
    }
}
