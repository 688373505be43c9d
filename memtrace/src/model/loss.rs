//! Everything that a capture may lack, in one place: each kind has a name for machines, a sentence
//! for people, and a count.

use memtrace_common::loss::KernelLoss;

/// A way to lose data, in the kernel or on the user side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Records that did not fit into the ring buffer.
    RingFull,
    /// One of the kernel side's own.
    Kernel(KernelLoss),
    /// A record that could not be decoded.
    Undecodable,
    /// The table of live blocks was full: a block is not followed.
    LiveBlocksFull,
    /// The table of mapped ranges was full: a range is not followed.
    LiveRangesFull,
    /// The table of sites was full: the block is counted under "other sites".
    SitesFull,
    /// The table of stacks was full: the frames of a stack were not kept.
    StacksFull,
    /// A `*Begin` record without its `*End`, or the reverse.
    Unpaired,
    /// Memory that was still live was handed out again: its release was not seen, but is certain.
    ImpliedFree,
    /// A block that was live by all that was seen, and whose memory the heap says is free.
    FreedUnseen,
}

impl Loss {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        [
            Self::RingFull,
            Self::Undecodable,
            Self::LiveBlocksFull,
            Self::LiveRangesFull,
            Self::SitesFull,
            Self::StacksFull,
            Self::Unpaired,
            Self::ImpliedFree,
            Self::FreedUnseen,
        ]
        .into_iter()
        .chain(KernelLoss::ALL.into_iter().map(Self::Kernel))
    }

    /// The one with this [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|loss| loss.name() == name)
    }

    /// A stable name, as in the JSON report.
    pub fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::Undecodable => "undecodable",
            Self::LiveBlocksFull => "live_blocks_full",
            Self::LiveRangesFull => "live_ranges_full",
            Self::SitesFull => "sites_full",
            Self::StacksFull => "stacks_full",
            Self::Unpaired => "unpaired",
            Self::ImpliedFree => "implied_free",
            Self::FreedUnseen => "freed_unseen",
            Self::Kernel(KernelLoss::InFlightFull) => "in_flight_full",
            Self::Kernel(KernelLoss::AbandonedCall) => "abandoned_call",
            Self::Kernel(KernelLoss::ReturnWithoutEntry) => "return_without_entry",
            Self::Kernel(KernelLoss::UnreadableResult) => "unreadable_result",
            Self::Kernel(KernelLoss::StackBufferBusy) => "stack_buffer_busy",
            Self::Kernel(KernelLoss::StackTableFull) => "stack_table_full",
            Self::Kernel(KernelLoss::StackCollision) => "stack_collision",
            Self::Kernel(KernelLoss::SampledFull) => "sampled_full",
        }
    }

    /// What happened and what to do, for people; follows "N ".
    pub fn sentence(self) -> &'static str {
        match self {
            Self::RingFull => {
                "events lost because the ring buffer was full: use a larger --ring-size"
            }
            Self::Undecodable => "records that could not be decoded: please report this as a bug",
            Self::LiveBlocksFull => {
                "blocks not followed because the table of live blocks was full: raise --max-live"
            }
            Self::LiveRangesFull => {
                "mapped ranges not followed because their table was full: raise --max-live"
            }
            Self::SitesFull => "allocations counted under [other sites]: too many different stacks",
            Self::StacksFull => "stacks without frames: too many different stacks",
            Self::Unpaired => "realloc, munmap or mremap calls of which one half is missing",
            Self::ImpliedFree => {
                "releases that were not seen: the memory was handed out again (counted as freed)"
            }
            Self::FreedUnseen => {
                "blocks that were freed unseen: their memory is free in the heap (counted as freed)"
            }
            Self::Kernel(KernelLoss::InFlightFull) => {
                "calls not followed because too many threads were inside the allocator at once"
            }
            Self::Kernel(KernelLoss::AbandonedCall) => {
                "calls that never returned (longjmp, thread killed, lost return probe)"
            }
            Self::Kernel(KernelLoss::ReturnWithoutEntry) => {
                "calls of which only the return was seen"
            }
            Self::Kernel(KernelLoss::UnreadableResult) => {
                "results of posix_memalign that could not be read"
            }
            Self::Kernel(KernelLoss::StackBufferBusy) => {
                "calls without a stack because all stack buffers of a CPU were in use"
            }
            Self::Kernel(KernelLoss::StackTableFull) => {
                "calls without a stack because the table of stacks was full"
            }
            Self::Kernel(KernelLoss::StackCollision) => {
                "calls counted under another stack because two stacks had one hash"
            }
            Self::Kernel(KernelLoss::SampledFull) => {
                "samples not followed because the places for their addresses were taken: raise \
                 --sample-bytes"
            }
        }
    }

    /// Whether a lost event of this kind can make freed memory look never freed.
    pub fn can_fake_a_survivor(self) -> bool {
        matches!(
            self,
            Self::RingFull
                | Self::Undecodable
                | Self::Unpaired
                | Self::ImpliedFree
                | Self::FreedUnseen
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Loss::all().map(Loss::name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Loss::all().count());
    }
}
