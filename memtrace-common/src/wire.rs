//! The records that the BPF programs put into the ring buffer.
//!
//! Every record starts with a [`RecordHeader`]; `kind` says which struct it is. All are
//! little-endian, 8-byte aligned, without padding, and carry no `bool`. The ring reserves records
//! in one global order; a record that releases memory (`Free`, `*Begin`) is reserved *before* the
//! release happens and one that acquires memory *after* it, so no other thread's acquisition of
//! the same address can be ordered before the release.

/// Which struct a record is.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// [`AllocRecord`]: a block was obtained.
    Alloc = 0,
    /// [`FreeRecord`]: a block is about to be freed.
    Free = 1,
    /// [`FreeRecord`]: `realloc` was entered, the old block may be freed from here on.
    ReallocBegin = 2,
    /// [`ReallocRecord`]: `realloc` returned.
    ReallocEnd = 3,
    /// [`MapRecord`]: `mmap` returned a range.
    Map = 4,
    /// [`RangeRecord`]: `munmap` was entered.
    UnmapBegin = 5,
    /// [`UnmapRecord`]: `munmap` returned.
    UnmapEnd = 6,
    /// [`RangeRecord`]: `mremap` was entered.
    RemapBegin = 7,
    /// [`RemapRecord`]: `mremap` returned.
    RemapEnd = 8,
    /// [`BreakRecord`]: the program break was moved by `brk` or `sbrk`.
    Break = 9,
    /// [`StackHeader`] and its frames: a stack seen for the first time.
    Stack = 10,
    /// [`ProcessRecord`]: the target forked a child process.
    Fork = 11,
    /// [`ProcessRecord`]: the target executed a new program; its old memory is gone.
    Exec = 12,
    /// [`ProcessRecord`]: a thread of the target ended.
    ThreadExit = 13,
    /// [`ProcessRecord`]: the target is loading or has loaded or unloaded libraries.
    CodeChange = 14,
    /// [`MapRecord`], `map_flags` 0: `mprotect` changed what may be done with a range.
    Protect = 15,
    /// [`RangeRecord`]: `madvise` was entered, and will give the range's pages back.
    Discard = 16,
    /// [`ChildRecord`]: who was forked; follows its [`RecordKind::Fork`] where that is wanted.
    Child = 17,
}

impl RecordKind {
    /// How many kinds there are; discriminants are below it.
    pub const COUNT: usize = 18;

    /// Every kind, in discriminant order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Alloc,
        Self::Free,
        Self::ReallocBegin,
        Self::ReallocEnd,
        Self::Map,
        Self::UnmapBegin,
        Self::UnmapEnd,
        Self::RemapBegin,
        Self::RemapEnd,
        Self::Break,
        Self::Stack,
        Self::Fork,
        Self::Exec,
        Self::ThreadExit,
        Self::CodeChange,
        Self::Protect,
        Self::Discard,
        Self::Child,
    ];

    /// The kind with this discriminant.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

/// The call happened inside an allocator call of the same thread (an arena that grows), so it is
/// the allocator's footprint and not the program's own mapping.
pub const FLAG_INTERNAL: u16 = 1;

/// Where the number of the object stands in the flags of a record.
pub const OBJECT_FLAGS_SHIFT: u32 = 1;

/// How many objects are told apart.
pub const OBJECTS: u16 = 32;

/// Bits of the flags that hold the number of the object.
pub const OBJECT_FLAGS_MASK: u16 = (OBJECTS - 1) << OBJECT_FLAGS_SHIFT;

/// Which of the probed objects (allocators) was called, in the order in which they were armed.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectNumber(pub(crate) u8);

impl ObjectNumber {
    /// The first that was armed.
    pub const FIRST: Self = Self(0);

    /// The object at this position; all from the 32nd on are one.
    pub fn of(position: usize) -> Self {
        Self(position.min(usize::from(OBJECTS) - 1) as u8)
    }

    /// From a record's flags.
    pub fn from_flags(flags: u16) -> Self {
        Self(((flags & OBJECT_FLAGS_MASK) >> OBJECT_FLAGS_SHIFT) as u8)
    }

    /// As bits of a record's flags.
    pub fn to_flags(self) -> u16 {
        u16::from(self.0) << OBJECT_FLAGS_SHIFT
    }

    /// Its position.
    pub fn position(self) -> usize {
        self.0.into()
    }
}

/// The most frames a stack record holds; a deeper stack is marked [`StackEnd::Truncated`].
pub const MAX_FRAMES: usize = 128;

/// The head of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// A [`RecordKind`].
    pub kind: u8,
    /// A [`crate::function::AllocFn`]; 0 where no function is involved.
    pub function: u8,
    /// `FLAG_*` bits.
    pub flags: u16,
    /// Kernel thread id of the caller, in the initial pid namespace.
    pub tid: u32,
    /// `CLOCK_MONOTONIC` at the reservation of the record.
    pub time_ns: u64,
}

/// A block was obtained.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocRecord {
    /// Head, kind [`RecordKind::Alloc`].
    pub header: RecordHeader,
    /// Address of the block, never 0 (failed calls are only counted).
    pub address: u64,
    /// Requested bytes.
    pub size_bytes: u64,
    /// Hash of the caller's stack, 0 when there is none.
    pub stack: u64,
}

/// A block is about to be freed, or `realloc` was entered with it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreeRecord {
    /// Head, kind [`RecordKind::Free`] or [`RecordKind::ReallocBegin`].
    pub header: RecordHeader,
    /// Address of the block, never 0.
    pub address: u64,
}

/// `realloc` returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReallocRecord {
    /// Head, kind [`RecordKind::ReallocEnd`].
    pub header: RecordHeader,
    /// The old block; 0 makes the call an allocation.
    pub old_address: u64,
    /// The new block; 0 means failure (the old block lives on), or, with `size_bytes` 0, a free.
    pub new_address: u64,
    /// Requested bytes.
    pub size_bytes: u64,
    /// Hash of the caller's stack, 0 when there is none.
    pub stack: u64,
}

/// `mmap` returned a range.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapRecord {
    /// Head, kind [`RecordKind::Map`].
    pub header: RecordHeader,
    /// Start of the range.
    pub address: u64,
    /// Requested bytes, as passed (not rounded to pages).
    pub length_bytes: u64,
    /// `PROT_*` bits.
    pub prot: u32,
    /// `MAP_*` bits.
    pub map_flags: u32,
    /// Hash of the caller's stack, 0 when there is none.
    pub stack: u64,
}

/// `munmap` or `mremap` was entered with this range.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeRecord {
    /// Head, kind [`RecordKind::UnmapBegin`] or [`RecordKind::RemapBegin`].
    pub header: RecordHeader,
    /// Start of the range.
    pub address: u64,
    /// Bytes, as passed.
    pub length_bytes: u64,
}

/// `munmap` returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnmapRecord {
    /// Head, kind [`RecordKind::UnmapEnd`].
    pub header: RecordHeader,
    /// Start of the range.
    pub address: u64,
    /// Bytes, as passed.
    pub length_bytes: u64,
    /// 1 when the call failed and the range is still mapped, else 0.
    pub failed: u64,
}

/// `mremap` returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemapRecord {
    /// Head, kind [`RecordKind::RemapEnd`].
    pub header: RecordHeader,
    /// Start of the old range.
    pub old_address: u64,
    /// Bytes of the old range, as passed; 0 duplicates a shared mapping.
    pub old_length_bytes: u64,
    /// Start of the new range; 0 means failure (the old range lives on).
    pub new_address: u64,
    /// Bytes of the new range, as passed.
    pub new_length_bytes: u64,
    /// Hash of the caller's stack, 0 when there is none.
    pub stack: u64,
}

/// The program break was moved.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BreakRecord {
    /// Head, kind [`RecordKind::Break`].
    pub header: RecordHeader,
    /// The break before; 0 when the call does not tell (`brk`).
    pub old_break: u64,
    /// The break after.
    pub new_break: u64,
    /// Hash of the caller's stack, 0 when there is none.
    pub stack: u64,
}

/// A stack seen for the first time. `python_frames` [`PythonFrame`](crate::python::PythonFrame)s
/// follow, innermost first; then `frames` words: return addresses, leaf first, the direct caller of
/// the traced function at index 0, with [`ENTRY_MARK`](crate::python::ENTRY_MARK) where the frame
/// is a run of Python's interpreter loop.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackHeader {
    /// Head, kind [`RecordKind::Stack`].
    pub header: RecordHeader,
    /// Hash of the frames, never 0.
    pub stack: u64,
    /// Number of native frames, at most [`MAX_FRAMES`].
    pub frames: u32,
    /// A [`StackEnd`], with [`STACK_GUESSED`].
    pub end: u32,
    /// Number of Python frames, at most [`MAX_PYTHON_FRAMES`](crate::python::MAX_PYTHON_FRAMES).
    pub python_frames: u32,
    /// A [`PythonEnd`](crate::python::PythonEnd).
    pub python_end: u32,
}

/// Set in [`StackHeader::end`] when a frame was guessed by its frame pointer, in code without unwind
/// rows.
pub const STACK_GUESSED: u32 = 1 << 31;

/// Why a stack walk ended.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackEnd {
    /// The frame-pointer chain ended with a zero frame pointer, which may or may not be the root.
    Root = 0,
    /// The frame pointer pointed out of the stack: code without frame pointers was reached.
    NoFramePointer = 1,
    /// A stack word could not be read.
    Unreadable = 2,
    /// The buffer was full: the root side is missing.
    Truncated = 3,
    /// The root was reached: unwind information says that there is no caller.
    Complete = 4,
    /// An address was in no executable mapping that is known.
    UnknownMapping = 5,
    /// There is no unwind rule for an address, or none that is supported.
    NoRule = 6,
    /// The frame of a signal handler: what was interrupted is not walked.
    Signal = 7,
    /// The rules led to no older frame.
    Stuck = 8,
}

impl StackEnd {
    /// Every end.
    pub const ALL: [Self; 9] = [
        Self::Root,
        Self::NoFramePointer,
        Self::Unreadable,
        Self::Truncated,
        Self::Complete,
        Self::UnknownMapping,
        Self::NoRule,
        Self::Signal,
        Self::Stuck,
    ];

    /// The end with this discriminant.
    pub fn from_u32(value: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|end| *end as u32 == value)
    }
}

/// A fork, exec, thread end or change of the loaded libraries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessRecord {
    /// Head, kind [`RecordKind::Fork`], [`RecordKind::Exec`], [`RecordKind::ThreadExit`] or
    /// [`RecordKind::CodeChange`].
    pub header: RecordHeader,
}

/// A child that the target forked.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildRecord {
    /// Head, kind [`RecordKind::Child`].
    pub header: RecordHeader,
    /// Its process id, in the initial pid namespace.
    pub pid: u32,
    /// 1 when it runs in its parent's memory (`CLONE_VM`: vfork, posix_spawn), else 0: it has a copy
    /// then, made on write.
    pub shares_memory: u32,
}

// The kernel and the user side are compiled apart: a size that drifts must not compile.
const _: () = {
    assert!(size_of::<RecordHeader>() == 16);
    assert!(size_of::<AllocRecord>() == 40);
    assert!(size_of::<FreeRecord>() == 24);
    assert!(size_of::<ReallocRecord>() == 48);
    assert!(size_of::<MapRecord>() == 48);
    assert!(size_of::<RangeRecord>() == 32);
    assert!(size_of::<UnmapRecord>() == 40);
    assert!(size_of::<RemapRecord>() == 56);
    assert!(size_of::<BreakRecord>() == 40);
    assert!(size_of::<StackHeader>() == 40);
    assert!(size_of::<ProcessRecord>() == 16);
    assert!(size_of::<ChildRecord>() == 24);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_the_list_of_all_kinds() {
        for (index, kind) in RecordKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            assert_eq!(RecordKind::from_u8(index as u8), Some(kind));
        }
        assert_eq!(RecordKind::from_u8(RecordKind::COUNT as u8), None);
    }

    #[test]
    fn stack_ends_round_trip() {
        for end in StackEnd::ALL {
            assert_eq!(StackEnd::from_u32(end as u32), Some(end));
        }
        assert_eq!(StackEnd::from_u32(9), None);
    }
}
