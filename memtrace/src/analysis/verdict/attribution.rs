//! What the growth of RSS consists of.

use crate::model::census::{Census, RssKind};

use super::input::{VerdictInput, difference};

/// A part of RSS, as far as verdicts tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Blocks in use.
    Live,
    /// Free, but on pages with blocks in use.
    Trapped,
    /// Free, and the allocator could give it back.
    Cached,
    /// Pages of files.
    Files,
    /// Shared memory.
    Shmem,
    /// Thread stacks.
    Stacks,
    /// What the program mapped itself.
    Mappings,
    /// Allocators that cannot be walked: in use or free.
    Opaque,
    /// The rest.
    Unknown,
}

impl Part {
    pub(super) const ALL: [Self; 9] = [
        Self::Live,
        Self::Trapped,
        Self::Cached,
        Self::Files,
        Self::Shmem,
        Self::Stacks,
        Self::Mappings,
        Self::Opaque,
        Self::Unknown,
    ];

    /// Those that no heap holds.
    pub(super) const OUTSIDE: [Self; 4] = [Self::Files, Self::Shmem, Self::Stacks, Self::Mappings];

    fn of(kind: RssKind) -> Self {
        match kind {
            RssKind::InUse | RssKind::MappedBlocks | RssKind::PymallocInUse => Self::Live,
            RssKind::FreeTrapped | RssKind::PymallocFreeInPools => Self::Trapped,
            RssKind::FreeReturnable
            | RssKind::AllocatorCache
            | RssKind::Top
            | RssKind::AllocatorMetadata
            | RssKind::PymallocFreePools => Self::Cached,
            RssKind::ThreadStacks | RssKind::CachedStacks => Self::Stacks,
            RssKind::OpaqueAllocator => Self::Opaque,
            RssKind::OtherAnonymous => Self::Mappings,
            RssKind::PrivateFile | RssKind::File => Self::Files,
            RssKind::Shmem => Self::Shmem,
            RssKind::HeapUnknown | RssKind::Remainder => Self::Unknown,
        }
    }

    /// As part of a sentence.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Live => "memory in use",
            Self::Trapped => "free memory that is trapped between blocks in use",
            Self::Cached => "free memory that the allocator keeps",
            Self::Files => "pages of files",
            Self::Shmem => "shared memory",
            Self::Stacks => "thread stacks",
            Self::Mappings => "memory mapped outside of the heap",
            Self::Opaque => "memory of an allocator that cannot be walked",
            Self::Unknown => "memory of unknown use",
        }
    }

    /// Name of its number.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Live => "in_use_bytes",
            Self::Trapped => "trapped_bytes",
            Self::Cached => "allocator_cache_bytes",
            Self::Files => "file_bytes",
            Self::Shmem => "shmem_bytes",
            Self::Stacks => "stack_bytes",
            Self::Mappings => "mapped_bytes",
            Self::Opaque => "opaque_bytes",
            Self::Unknown => "unknown_bytes",
        }
    }
}

/// Bytes by part; they add up to what is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attribution {
    bytes: [i64; Part::ALL.len()],
}

impl Attribution {
    /// The growth of RSS by the difference of two walks, or else by what was traced.
    pub(super) fn of_growth(input: &VerdictInput) -> Self {
        let mut parts = match (&input.before, &input.after) {
            (Some(before), Some(after)) => Self::between(before, after, input),
            _ => Self::traced(input),
        };
        parts.complete(input.rss.grown_bytes());
        parts
    }

    /// What a process's memory consists of at one moment.
    pub(super) fn of_state(census: &Census) -> Self {
        let mut parts = Self::default();
        for row in &census.rss.rows {
            parts.add(Part::of(row.kind), row.resident_bytes);
        }
        parts
    }

    pub(super) fn get(&self, part: Part) -> i64 {
        self.bytes[part as usize]
    }

    fn add(&mut self, part: Part, bytes: i64) {
        self.bytes[part as usize] = self.get(part).saturating_add(bytes);
    }

    fn between(before: &Census, after: &Census, input: &VerdictInput) -> Self {
        let (old, mut parts) = (Self::of_state(before), Self::of_state(after));
        for part in Part::ALL {
            parts.add(part, old.get(part).saturating_neg());
        }
        parts.split_opaque(input);
        parts
    }

    /// The probes know what is in use in an allocator that cannot be walked.
    fn split_opaque(&mut self, input: &VerdictInput) {
        let Some(traced) = &input.traced else { return };
        let in_use = signed(traced.heap_live.bytes).min(self.get(Part::Opaque)).max(0);
        self.add(Part::Opaque, -in_use);
        self.add(Part::Live, in_use);
    }

    /// Without walks: the kernel tells files and shared memory, the probes what is in use of the
    /// rest. What was mapped but not touched is not in RSS.
    fn traced(input: &VerdictInput) -> Self {
        let mut parts = Self::default();
        let [mut anonymous, file, shmem] =
            input.rss.grown_parts().unwrap_or([input.rss.grown_bytes(), 0, 0]);
        parts.add(Part::Files, file);
        parts.add(Part::Shmem, shmem);
        if let Some(traced) = &input.traced {
            for (part, live) in
                [(Part::Live, traced.heap_live), (Part::Mappings, traced.mapped_live)]
            {
                let bytes = signed(live.bytes).min(anonymous).max(0);
                parts.add(part, bytes);
                anonymous = anonymous.saturating_sub(bytes);
            }
        }
        parts
    }

    /// Puts what is missing to the sum into [`Part::Unknown`].
    fn complete(&mut self, sum: i64) {
        let known = self.bytes.iter().fold(0_i64, |sum, bytes| sum.saturating_add(*bytes));
        self.add(Part::Unknown, sum.saturating_sub(known));
    }
}

/// The largest signed number stands for larger ones.
pub(super) fn signed(bytes: u64) -> i64 {
    difference(bytes, 0)
}
