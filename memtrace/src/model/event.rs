//! What the target did, decoded from the ring buffer.

use memtrace_common::sample::Interval;

use super::{
    AllocFn, ObjectNumber,
    stack::{RawStack, StackId},
};

/// One decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The called function; meaningless for [`Action::Stack`] and process events.
    pub function: AllocFn,
    /// The calling thread, as a kernel thread id of the initial pid namespace.
    pub tid: u32,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Made by the allocator itself while serving a call (an arena that grows).
    pub internal: bool,
    /// How densely allocations were looked at when this one was: it stands for
    /// [`Interval::weight`] of its size. Meaningful for [`Action::Alloc`] and
    /// [`Action::ReallocEnd`]; exact for all others.
    pub interval: Interval,
    /// Which of the probed objects was called: its position in the target's allocators.
    pub object: ObjectNumber,
    /// What happened.
    pub action: Action,
}

impl Event {
    /// Made by the program itself, looked at for certain, in the first of the objects.
    pub fn of(function: AllocFn, tid: u32, time_ns: u64, action: Action) -> Self {
        let (internal, interval, object) = (false, Interval::EXACT, ObjectNumber::FIRST);
        Self { function, tid, time_ns, internal, interval, object, action }
    }
}

/// What happened. `*Begin` is reported before memory can be released and `*End` when the outcome
/// is known; between the two the memory is in neither state (see `memtrace_common::wire`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A block was obtained.
    Alloc {
        /// Never 0.
        address: u64,
        /// Requested, not usable, bytes.
        size_bytes: u64,
        /// The caller.
        stack: StackId,
    },
    /// A block is being freed.
    Free {
        /// Never 0.
        address: u64,
    },
    /// `realloc` was entered with a block.
    ReallocBegin {
        /// Never 0.
        old_address: u64,
    },
    /// `realloc` returned.
    ReallocEnd {
        /// 0 when the call was an allocation.
        old_address: u64,
        /// 0 on failure, or when `size_bytes` is 0 and the old block was freed.
        new_address: u64,
        /// Requested bytes.
        size_bytes: u64,
        /// The caller.
        stack: StackId,
    },
    /// `mmap` returned a range.
    Map {
        /// Page-aligned start.
        address: u64,
        /// As passed, not rounded to pages.
        length_bytes: u64,
        /// `PROT_*` bits.
        prot: u32,
        /// `MAP_*` bits.
        map_flags: u32,
        /// The caller.
        stack: StackId,
    },
    /// `munmap` was entered.
    UnmapBegin {
        /// Start.
        address: u64,
        /// As passed, not rounded to pages.
        length_bytes: u64,
    },
    /// `munmap` returned.
    UnmapEnd {
        /// Start.
        address: u64,
        /// As passed, not rounded to pages.
        length_bytes: u64,
        /// The range is still mapped.
        failed: bool,
    },
    /// `mremap` was entered.
    RemapBegin {
        /// Start of the old range.
        old_address: u64,
        /// As passed.
        old_length_bytes: u64,
    },
    /// `mremap` returned.
    RemapEnd {
        /// Start of the old range.
        old_address: u64,
        /// As passed.
        old_length_bytes: u64,
        /// 0 on failure: the old range lives on.
        new_address: u64,
        /// As passed.
        new_length_bytes: u64,
        /// The caller.
        stack: StackId,
    },
    /// The program break moved.
    Break {
        /// 0 when the call did not tell (`brk`).
        old_break: u64,
        /// The break from now on.
        new_break: u64,
        /// The caller.
        stack: StackId,
    },
    /// `mprotect` changed what may be done with a range.
    Protect {
        /// Start.
        address: u64,
        /// As passed, not rounded to pages.
        length_bytes: u64,
        /// `PROT_*` bits.
        prot: u32,
        /// The caller.
        stack: StackId,
    },
    /// `madvise` was entered, and will give back the pages of a range.
    Discard {
        /// Start.
        address: u64,
        /// As passed, not rounded to pages.
        length_bytes: u64,
    },
    /// A stack was seen for the first time; events refer to it by id from here on.
    Stack {
        /// Its id.
        id: StackId,
        /// Its frames.
        stack: RawStack,
    },
    /// The target forked a child process.
    Fork,
    /// Who that was; reported where children are followed. It changes no memory and is not kept.
    Child {
        /// Its process id, in the initial pid namespace.
        pid: u32,
        /// It runs in the target's own memory until it executes a program (vfork, posix_spawn).
        shares_memory: bool,
    },
    /// The target executed a new program: its old memory is gone.
    Exec,
    /// A thread of the target ended.
    ThreadExit,
    /// The target loads or unloads libraries.
    CodeChange,
}

impl Action {
    /// The stack that it refers to, or brings.
    pub fn stack_mut(&mut self) -> Option<&mut StackId> {
        match self {
            Self::Alloc { stack, .. }
            | Self::ReallocEnd { stack, .. }
            | Self::Map { stack, .. }
            | Self::RemapEnd { stack, .. }
            | Self::Break { stack, .. }
            | Self::Stack { id: stack, .. } => Some(stack),
            _ => None,
        }
    }
}
