//! A process's memory at one moment, by what it is for: what the walkers of `allocator` find and
//! what `/proc` says, added up to the RSS that the kernel states.

use serde::{Deserialize, Serialize};

use super::{arena_map::ArenaMap, chunk_sizes::ChunkSizes, site::Amount};

/// A range of the target's addresses, as the walkers of allocators claim them for a heap.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(default)]
pub struct Extent {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
}

impl Extent {
    /// Its length.
    pub fn bytes(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// Resident bytes of an allocator's memory by what they are. The sum is the resident bytes of the
/// memory that was walked, to the page: on a page that several share, each has its own bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeapResidency {
    /// In use by the program: handed out and not freed.
    pub in_use_bytes: u64,
    /// Free, on pages that hold nothing else, and the allocator would give the pages back if it
    /// was asked to (glibc: what `malloc_trim(0)` returns, `top` apart).
    pub returnable_bytes: u64,
    /// Free, on pages that cannot be given back because something else is on them.
    pub trapped_bytes: u64,
    /// Free for the program, in use for the heap: tcache and fastbins, or the like.
    pub cached_bytes: u64,
    /// The unused end of a heap (glibc's `top`).
    pub top_bytes: u64,
    /// Chunk headers are the program's (`in_use_bytes`); this is what the allocator keeps besides:
    /// arena headers, tcache structs, fence posts, pool headers.
    pub metadata_bytes: u64,
    /// Not walked: the structure was not understood there, or changed while it was read.
    pub unknown_bytes: u64,
}

impl HeapResidency {
    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.in_use_bytes
            + self.returnable_bytes
            + self.trapped_bytes
            + self.cached_bytes
            + self.top_bytes
            + self.metadata_bytes
            + self.unknown_bytes
    }
}

impl std::ops::AddAssign for HeapResidency {
    fn add_assign(&mut self, other: Self) {
        self.in_use_bytes += other.in_use_bytes;
        self.returnable_bytes += other.returnable_bytes;
        self.trapped_bytes += other.trapped_bytes;
        self.cached_bytes += other.cached_bytes;
        self.top_bytes += other.top_bytes;
        self.metadata_bytes += other.metadata_bytes;
        self.unknown_bytes += other.unknown_bytes;
    }
}

/// How far a walk of memory that changes meanwhile can be trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WalkQuality {
    /// Bytes that could not be attributed and were skipped.
    pub skipped_bytes: u64,
    /// Windows that were read again because they had changed.
    pub retries: u64,
    /// Places where the walk lost the chain of chunks and found it again.
    pub resyncs: u64,
    /// Bytes in swap, which are not read.
    pub swapped_bytes: u64,
    /// How far sums can be off, at most: what was skipped, what the heap grew or shrank by during
    /// the walk, the difference between what was walked and what the allocator says it has, and how
    /// much was handed out and freed meanwhile, by a part that was walked again at the end.
    pub error_bound_bytes: u64,
}

/// One of glibc's arenas. Sizes are chunk sizes, headers included, as `malloc_info` counts them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arena {
    /// 0 is the main arena; the others follow in the order of glibc's ring.
    pub index: u32,
    /// Address of its `malloc_state`.
    pub address: u64,
    /// Threads attached to it; `None` where the version does not count them (before 2.23). Not 0
    /// for the main arena, which nobody leaves.
    pub attached_threads: Option<u64>,
    /// Memory obtained from the system: `system_mem`.
    pub system_bytes: u64,
    /// Its maximum: `max_system_mem`.
    pub max_system_bytes: u64,
    /// Contiguous stretches of memory that it consists of (heaps, or pieces of the main arena).
    pub segments: u32,
    /// Chunks handed out to the program and not freed.
    pub in_use: Amount,
    /// The same by size; of this walk only.
    #[serde(skip)]
    pub in_use_sizes: ChunkSizes,
    /// Free chunks in bins; without `top`, tcache and fastbins.
    pub free: Amount,
    /// The chunk at the end: `top`.
    pub top_bytes: u64,
    /// Chunks in fastbins.
    pub fastbins: Amount,
    /// Chunks of this arena in the tcaches of threads.
    pub tcache: Amount,
    /// Arena header, tcache structs, fence posts, gaps: `system_bytes` minus all others.
    pub overhead_bytes: u64,
    /// The part of it all that is resident.
    pub resident: HeapResidency,
    /// Where in its memory what is.
    pub map: ArenaMap,
    /// How far to trust this.
    pub quality: WalkQuality,
}

/// glibc's settings as they are now (`mp_`): some change by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MallocParameters {
    /// `M_TRIM_THRESHOLD`: `top` is given back when it is larger.
    pub trim_threshold_bytes: u64,
    /// `M_TOP_PAD`.
    pub top_pad_bytes: u64,
    /// `M_MMAP_THRESHOLD`: larger blocks are mapped one by one. Freeing such a block raises it,
    /// up to 32 MiB, unless it was set.
    pub mmap_threshold_bytes: u64,
    /// `M_ARENA_MAX`; 0 when not set.
    pub arena_max: u64,
    /// Most chunks of a size in a tcache; `None` before 2.26.
    pub tcache_count: Option<u64>,
}

/// A glibc (there can be several in a process) and its heap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GlibcHeap {
    /// Path of the object that it is in.
    pub path: String,
    /// e.g. `2.36`, where the object says it.
    pub version: Option<String>,
    /// Main arena first.
    pub arenas: Vec<Arena>,
    /// Blocks that were mapped one by one (`hblks`, `hblkhd`): whole mappings.
    pub mapped: Amount,
    /// The part of them that is resident, all of it in use.
    pub mapped_resident_bytes: u64,
    /// `mp_.mmapped_mem`, to compare `mapped` with.
    pub mapped_stated_bytes: u64,
    /// How far its sums can be off, at most. Less than that of all arenas together, because what
    /// one has lost, another has gained; and with the mapped blocks that came and went.
    pub error_bound_bytes: u64,
    /// Settings.
    pub parameters: MallocParameters,
    /// What `malloc_trim(0)` would return now: resident bytes, all arenas, `top` included.
    pub trim_bytes: u64,
}

impl GlibcHeap {
    /// Chunks in use in arenas, and mapped blocks.
    pub fn in_use(&self) -> Amount {
        let mut sum = self.mapped;
        for arena in &self.arenas {
            sum += arena.in_use;
        }
        sum
    }

    /// Resident bytes of all arenas.
    pub fn resident(&self) -> HeapResidency {
        let mut sum = HeapResidency::default();
        for arena in &self.arenas {
            sum += arena.resident;
        }
        sum
    }
}

/// CPython's own allocator for small objects, whose arenas lie in anonymous memory or in malloc.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PymallocHeap {
    /// e.g. `3.11`.
    pub version: String,
    /// Bytes of an arena.
    pub arena_bytes: u64,
    /// Bytes of a pool.
    pub pool_bytes: u64,
    /// Arenas that are there.
    pub arenas: u64,
    /// Pools in use, of all that were carved.
    pub used_pools: u64,
    /// Blocks in use.
    pub in_use: Amount,
    /// Free blocks in pools that are in use.
    pub free_blocks: Amount,
    /// Pools that are free, and what was never carved into pools.
    pub free_pools_bytes: u64,
    /// The part of them that is resident; in `resident` it is `returnable` or `trapped`.
    pub free_pools_resident_bytes: u64,
    /// Pool headers, and the rest of pools and arenas that no block fits in.
    pub overhead_bytes: u64,
    /// The resident part: `returnable` are wholly free arenas, `trapped` is what is free in others.
    pub resident: HeapResidency,
}

/// musl's allocator (mallocng).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MuslHeap {
    /// Path of the object that it is in.
    pub path: String,
    /// Slots handed out.
    pub in_use: Amount,
    /// Slots that are free in groups that are not.
    pub free: Amount,
    /// The resident part.
    pub resident: HeapResidency,
}

/// An allocator that was recognised and cannot be walked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OpaqueAllocator {
    /// `jemalloc`, `tcmalloc`, `mimalloc`.
    pub name: String,
    /// Path of the object that it is in.
    pub path: String,
}

/// What a part of RSS is. The order is the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RssKind {
    /// Blocks in use in glibc's or musl's heap.
    InUse,
    /// Blocks that were mapped one by one.
    MappedBlocks,
    /// Free, and given back when `malloc_trim(0)` is called.
    FreeReturnable,
    /// Free, but on pages with blocks in use.
    FreeTrapped,
    /// tcache and fastbins.
    AllocatorCache,
    /// The unused end of heaps.
    Top,
    /// The allocator's own.
    AllocatorMetadata,
    /// In arenas that could not be walked.
    HeapUnknown,
    /// pymalloc: blocks in use, and headers.
    PymallocInUse,
    /// pymalloc: free blocks in used pools.
    PymallocFreeInPools,
    /// pymalloc: free pools.
    PymallocFreePools,
    /// Stacks of threads that live.
    ThreadStacks,
    /// Stacks that libc keeps for the next threads.
    CachedStacks,
    /// Private memory of allocators that cannot be walked; which part of it is in use is not known.
    OpaqueAllocator,
    /// Other private anonymous memory: `mmap` by the program, or by an allocator that is not known.
    OtherAnonymous,
    /// Writable private copies of pages of files (data segments).
    PrivateFile,
    /// Pages of files: code, mapped files.
    File,
    /// Shared memory, tmpfs files, memfd.
    Shmem,
    /// Between the sum and VmRSS: what changed while this was read. And what a later version of
    /// memtrace tells apart, where this one reads its capture.
    #[serde(other)]
    Remainder,
}

/// A row of the table that adds up to VmRSS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RssRow {
    /// What it is.
    pub kind: RssKind,
    /// Resident bytes; negative only for [`RssKind::Remainder`].
    pub resident_bytes: i64,
}

/// The table, and what the kernel states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RssTable {
    /// VmRSS by page tables, at the time of the walk.
    pub rss_bytes: u64,
    /// Rows that are not 0, in the order of [`RssKind`].
    pub rows: Vec<RssRow>,
    /// Of it all: in huge pages. Not a row: the same bytes are in other rows.
    pub huge_bytes: u64,
    /// Swapped out; not part of RSS.
    pub swap_bytes: u64,
}

impl RssTable {
    /// A row's bytes, 0 when it is not there.
    pub fn bytes(&self, kind: RssKind) -> i64 {
        let of_kind = self.rows.iter().filter(|row| row.kind == kind);
        of_kind.fold(0, |sum, row| row.resident_bytes.saturating_add(sum))
    }
}

/// A part that could not be looked into, and why. The rest is still right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Refusal {
    /// What: `glibc`, `pymalloc`, `thread stacks`, ...
    pub part: String,
    /// Why, and what to do.
    pub reason: String,
}

/// All of it: one look at a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Census {
    /// `CLOCK_MONOTONIC` at its start.
    #[serde(skip)]
    pub time_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// The table.
    pub rss: RssTable,
    /// Every glibc that has a heap.
    pub glibc: Vec<GlibcHeap>,
    /// Every CPython with small objects.
    pub pymalloc: Vec<PymallocHeap>,
    /// Every musl with a heap.
    pub musl: Vec<MuslHeap>,
    /// Allocators that cannot be walked.
    pub opaque: Vec<OpaqueAllocator>,
    /// Parts that could not be looked into.
    pub refusals: Vec<Refusal>,
    /// How far any sum can be off, at most.
    pub error_bound_bytes: u64,
}

impl Census {
    /// Chunks in use in glibc's arenas, by size; `None` where there is no arena.
    pub fn chunks_in_use(&self) -> Option<ChunkSizes> {
        let arenas = self.glibc.iter().flat_map(|heap| &heap.arenas);
        arenas.map(|arena| arena.in_use_sizes).reduce(|mut sum, sizes| {
            sum += sizes;
            sum
        })
    }

    /// Bytes in use by the program in all heaps that were walked, as the allocators count them.
    /// Without pymalloc, whose arenas are mapped.
    pub fn in_use_bytes(&self) -> u64 {
        let glibc: u64 = self.glibc.iter().map(|heap| heap.in_use().bytes).sum();
        let musl: u64 = self.musl.iter().map(|heap| heap.in_use.bytes).sum();
        glibc + musl
    }

    /// Resident bytes of all heaps that were walked, mapped blocks included.
    pub fn heap_resident_bytes(&self) -> u64 {
        let glibc = self
            .glibc
            .iter()
            .map(|heap| heap.resident().total_bytes() + heap.mapped_resident_bytes);
        let musl = self.musl.iter().map(|heap| heap.resident.total_bytes());
        glibc.chain(musl).sum()
    }

    /// Resident bytes that are free but trapped, in all heaps that were walked.
    pub fn trapped_bytes(&self) -> u64 {
        let glibc = self.glibc.iter().map(|heap| heap.resident().trapped_bytes);
        let musl = self.musl.iter().map(|heap| heap.resident.trapped_bytes);
        glibc.chain(musl).sum()
    }
}
