//! The traced functions, and the shape of their arguments.
//!
//! The attach cookie carries the [`AllocFn`] and the [`CallShape`], so that one BPF program serves all
//! that is entered, and a new allocator with the same shapes needs no new BPF code.

/// A traced function. The discriminant is the attach cookie and travels in every record.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AllocFn {
    /// `void *malloc(size_t size)`
    Malloc = 0,
    /// `void *calloc(size_t nmemb, size_t size)`
    Calloc = 1,
    /// `void *realloc(void *old, size_t size)`
    Realloc = 2,
    /// `void *reallocarray(void *old, size_t nmemb, size_t size)`
    Reallocarray = 3,
    /// `void free(void *block)`
    Free = 4,
    /// `void *memalign(size_t alignment, size_t size)`
    Memalign = 5,
    /// `void *aligned_alloc(size_t alignment, size_t size)`
    AlignedAlloc = 6,
    /// `int posix_memalign(void **out, size_t alignment, size_t size)`
    PosixMemalign = 7,
    /// `void *valloc(size_t size)`
    Valloc = 8,
    /// `void *pvalloc(size_t size)`
    Pvalloc = 9,
    /// `void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)`
    Mmap = 10,
    /// `int munmap(void *address, size_t length)`
    Munmap = 11,
    /// `void *mremap(void *old, size_t old_length, size_t new_length, int flags, ...)`
    Mremap = 12,
    /// `int brk(void *address)`
    Brk = 13,
    /// `void *sbrk(intptr_t increment)`
    Sbrk = 14,
    /// `void _dl_debug_state(void)`: allocates nothing; the dynamic linker calls it for debuggers
    /// before and after it has changed what is loaded (glibc elf/dl-debug.c, musl ldso/dynlink.c).
    DlDebugState = 15,
    /// `void *PyMem_Malloc(size_t size)`; this and the following: CPython's Objects/obmalloc.c.
    PyMemMalloc = 16,
    /// `void *PyMem_Calloc(size_t nelem, size_t elsize)`
    PyMemCalloc = 17,
    /// `void *PyMem_Realloc(void *old, size_t size)`
    PyMemRealloc = 18,
    /// `void PyMem_Free(void *block)`
    PyMemFree = 19,
    /// `void *PyObject_Malloc(size_t size)`
    PyObjectMalloc = 20,
    /// `void *PyObject_Calloc(size_t nelem, size_t elsize)`
    PyObjectCalloc = 21,
    /// `void *PyObject_Realloc(void *old, size_t size)`
    PyObjectRealloc = 22,
    /// `void PyObject_Free(void *block)`
    PyObjectFree = 23,
    /// `void *mallocx(size_t size, int flags)`; this and the following: jemalloc's own (jemalloc(3)).
    Mallocx = 24,
    /// `void *rallocx(void *old, size_t size, int flags)`
    Rallocx = 25,
    /// `size_t xallocx(void *block, size_t size, size_t extra, int flags)`: resizes in place, and
    /// returns the usable bytes.
    Xallocx = 26,
    /// `void dallocx(void *block, int flags)`
    Dallocx = 27,
    /// `void sdallocx(void *block, size_t size, int flags)`
    Sdallocx = 28,
    /// `void *operator new(size_t size, ...)`; this and the following: C++ (\[new.delete\]), with an
    /// alignment, `nothrow` or neither.
    OperatorNew = 29,
    /// `void *operator new[](size_t size, ...)`
    OperatorNewArray = 30,
    /// `void operator delete(void *block, ...)`, with size, alignment, both or neither
    OperatorDelete = 31,
    /// `void operator delete[](void *block, ...)`
    OperatorDeleteArray = 32,
    /// `void *mi_zalloc(size_t size)`; this and the following: mimalloc's own (mimalloc.h).
    Zalloc = 33,
    /// `void *mi_malloc_aligned(size_t size, size_t alignment)`
    MallocAligned = 34,
    /// `void *mi_zalloc_aligned(size_t size, size_t alignment)`
    ZallocAligned = 35,
    /// `void *mi_realloc_aligned(void *old, size_t size, size_t alignment)`
    ReallocAligned = 36,
    /// `int mprotect(void *address, size_t length, int prot)`
    Mprotect = 37,
    /// `int madvise(void *address, size_t length, int advice)`
    Madvise = 38,
    /// No function: the first use of a page, which is when it takes memory.
    PageFault = 39,
}

/// The order and meaning of a function's arguments. The discriminant is in the attach cookie.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallShape {
    /// (size) → block
    Size,
    /// (count, size) → block
    CountSize,
    /// (old, size) → block
    OldSize,
    /// (old, count, size) → block
    OldCountSize,
    /// (block)
    Block,
    /// (block), which is handed on to `free` if it is one of `malloc`
    PythonBlock,
    /// (alignment, size) → block
    AlignSize,
    /// (out, alignment, size) → error number, block in `*out`
    OutAlignSize,
    /// (address, length, prot, flags, ...) → address
    Mmap,
    /// (address, length) → 0 or -1
    Munmap,
    /// (old, old length, new length, ...) → address
    Mremap,
    /// (new break) → 0 or -1
    Brk,
    /// (increment) → old break
    Sbrk,
    /// ()
    Nothing,
    /// (context, size) → block: this and the following are the functions of a `PyMemAllocatorEx`
    /// (CPython's Include/cpython/pymem.h), which serve the functions of the same name.
    ContextSize,
    /// (context, count, size) → block
    ContextCountSize,
    /// (context, old, size) → block
    ContextOldSize,
    /// (context, block): as [`CallShape::PythonBlock`]
    ContextBlock,
    /// (block, size, ...) → usable bytes, of the same block: fewer than the size when it could not
    /// be resized
    InPlace,
    /// (size, ...) → block, or an exception. Its return address must be left alone: the unwinder of
    /// C++ does not know the kernel's trampoline, and would end the program. Its end is seen at
    /// [`CallShape::Exit`] sites.
    Throwing,
    /// An instruction that returns from a [`CallShape::Throwing`] function, with the result in its
    /// register and the return address on top of the stack
    Exit,
    /// The instruction before the one by which a function makes its system call, with the arguments
    /// of that
    CallBegin,
    /// The instruction behind that one, or one that is executed soon after it: the arguments are where
    /// they were, and the result in its register
    CallEnd,
}

impl AllocFn {
    /// How many functions there are; discriminants are below it.
    pub const COUNT: usize = 40;

    /// Every function, in discriminant order.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Malloc,
        Self::Calloc,
        Self::Realloc,
        Self::Reallocarray,
        Self::Free,
        Self::Memalign,
        Self::AlignedAlloc,
        Self::PosixMemalign,
        Self::Valloc,
        Self::Pvalloc,
        Self::Mmap,
        Self::Munmap,
        Self::Mremap,
        Self::Brk,
        Self::Sbrk,
        Self::DlDebugState,
        Self::PyMemMalloc,
        Self::PyMemCalloc,
        Self::PyMemRealloc,
        Self::PyMemFree,
        Self::PyObjectMalloc,
        Self::PyObjectCalloc,
        Self::PyObjectRealloc,
        Self::PyObjectFree,
        Self::Mallocx,
        Self::Rallocx,
        Self::Xallocx,
        Self::Dallocx,
        Self::Sdallocx,
        Self::OperatorNew,
        Self::OperatorNewArray,
        Self::OperatorDelete,
        Self::OperatorDeleteArray,
        Self::Zalloc,
        Self::MallocAligned,
        Self::ZallocAligned,
        Self::ReallocAligned,
        Self::Mprotect,
        Self::Madvise,
        Self::PageFault,
    ];

    /// The function with this discriminant.
    pub fn from_u8(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// The name of the C function.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::Reallocarray => "reallocarray",
            Self::Free => "free",
            Self::Memalign => "memalign",
            Self::AlignedAlloc => "aligned_alloc",
            Self::PosixMemalign => "posix_memalign",
            Self::Valloc => "valloc",
            Self::Pvalloc => "pvalloc",
            Self::Mmap => "mmap",
            Self::Munmap => "munmap",
            Self::Mremap => "mremap",
            Self::Brk => "brk",
            Self::Sbrk => "sbrk",
            Self::DlDebugState => "_dl_debug_state",
            Self::PyMemMalloc => "PyMem_Malloc",
            Self::PyMemCalloc => "PyMem_Calloc",
            Self::PyMemRealloc => "PyMem_Realloc",
            Self::PyMemFree => "PyMem_Free",
            Self::PyObjectMalloc => "PyObject_Malloc",
            Self::PyObjectCalloc => "PyObject_Calloc",
            Self::PyObjectRealloc => "PyObject_Realloc",
            Self::PyObjectFree => "PyObject_Free",
            Self::Mallocx => "mallocx",
            Self::Rallocx => "rallocx",
            Self::Xallocx => "xallocx",
            Self::Dallocx => "dallocx",
            Self::Sdallocx => "sdallocx",
            Self::OperatorNew => "operator new",
            Self::OperatorNewArray => "operator new[]",
            Self::OperatorDelete => "operator delete",
            Self::OperatorDeleteArray => "operator delete[]",
            Self::Zalloc => "zalloc",
            Self::MallocAligned => "malloc_aligned",
            Self::ZallocAligned => "zalloc_aligned",
            Self::ReallocAligned => "realloc_aligned",
            Self::Mprotect => "mprotect",
            Self::Madvise => "madvise",
            Self::PageFault => "page fault",
        }
    }

    /// Whether it is CPython's own, which calls those of the C library for what it has no room for.
    #[inline(always)]
    pub fn is_python(self) -> bool {
        self as u8 >= Self::PyMemMalloc as u8 && self as u8 <= Self::PyObjectFree as u8
    }

    /// The shape of its arguments.
    pub const fn shape(self) -> CallShape {
        match self {
            Self::Malloc
            | Self::Valloc
            | Self::Pvalloc
            | Self::PyMemMalloc
            | Self::PyObjectMalloc
            | Self::Mallocx
            | Self::OperatorNew
            | Self::OperatorNewArray
            | Self::Zalloc
            | Self::MallocAligned
            | Self::ZallocAligned => CallShape::Size,
            Self::Calloc | Self::PyMemCalloc | Self::PyObjectCalloc => CallShape::CountSize,
            Self::Realloc
            | Self::PyMemRealloc
            | Self::PyObjectRealloc
            | Self::Rallocx
            | Self::ReallocAligned => CallShape::OldSize,
            Self::Xallocx => CallShape::InPlace,
            Self::Reallocarray => CallShape::OldCountSize,
            Self::Free
            | Self::Dallocx
            | Self::Sdallocx
            | Self::OperatorDelete
            | Self::OperatorDeleteArray => CallShape::Block,
            Self::PyMemFree | Self::PyObjectFree => CallShape::PythonBlock,
            Self::Memalign | Self::AlignedAlloc => CallShape::AlignSize,
            Self::PosixMemalign => CallShape::OutAlignSize,
            Self::Mmap => CallShape::Mmap,
            Self::Munmap | Self::Mprotect | Self::Madvise => CallShape::Munmap,
            Self::Mremap => CallShape::Mremap,
            Self::Brk => CallShape::Brk,
            Self::Sbrk => CallShape::Sbrk,
            Self::DlDebugState | Self::PageFault => CallShape::Nothing,
        }
    }
}

impl CallShape {
    /// Which argument registers (0 = first) must be intact at the probe.
    pub fn argument_count(self) -> usize {
        match self {
            Self::Nothing | Self::Exit | Self::CallEnd => 0,
            Self::Throwing
            | Self::Size
            | Self::Block
            | Self::PythonBlock
            | Self::Brk
            | Self::Sbrk => 1,
            Self::CountSize
            | Self::OldSize
            | Self::AlignSize
            | Self::Munmap
            | Self::ContextSize
            | Self::InPlace
            | Self::ContextBlock => 2,
            Self::OldCountSize
            | Self::OutAlignSize
            | Self::Mremap
            | Self::ContextCountSize
            | Self::ContextOldSize
            | Self::CallBegin => 3,
            Self::Mmap => 5,
        }
    }

    /// Whether the result matters, so that a return probe is needed. A probe with a return half
    /// must sit where `[rsp]` is still the return address.
    pub fn needs_return(self) -> bool {
        !matches!(
            self,
            Self::Block
                | Self::PythonBlock
                | Self::ContextBlock
                | Self::Nothing
                | Self::Throwing
                | Self::Exit
                | Self::CallBegin
                | Self::CallEnd
        )
    }

    /// The shape of the function that serves a function of this shape by way of a table of
    /// functions that take a context first; `None` when there are no such tables.
    pub fn with_context(self) -> Option<Self> {
        match self {
            Self::Size => Some(Self::ContextSize),
            Self::CountSize => Some(Self::ContextCountSize),
            Self::OldSize => Some(Self::ContextOldSize),
            Self::PythonBlock => Some(Self::ContextBlock),
            _ => None,
        }
    }

    /// Whether the function manages address ranges and not heap blocks.
    pub fn is_mapping(self) -> bool {
        matches!(self, Self::Mmap | Self::Munmap | Self::Mremap | Self::Brk | Self::Sbrk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discriminants_index_the_list_of_all_functions() {
        for (index, function) in AllocFn::ALL.into_iter().enumerate() {
            assert_eq!(function as usize, index);
            assert_eq!(AllocFn::from_u8(index as u8), Some(function));
        }
        assert_eq!(AllocFn::from_u8(AllocFn::COUNT as u8), None);
    }

    #[test]
    fn a_context_is_one_argument_more_and_changes_nothing_else() {
        for function in AllocFn::ALL.into_iter().filter(|function| function.is_python()) {
            let (plain, shifted) = (function.shape(), function.shape().with_context().unwrap());
            assert_eq!(shifted.argument_count(), plain.argument_count() + 1, "{function:?}");
            assert_eq!(shifted.needs_return(), plain.needs_return(), "{function:?}");
        }
        assert!(!AllocFn::DlDebugState.is_python());
    }
}
