//! The functions of allocators by their symbols: what each is, and where its arguments are.
//!
//! Sources: malloc(3), ISO C23 7.24.4, the Itanium C++ ABI (5.1, mangled operators), jemalloc(3),
//! `gperftools/tcmalloc.h`, `mimalloc.h`.

use AllocFn::*;
use memtrace_common::function::{AllocFn, CallShape};

/// A symbol and the function that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name {
    /// The symbol, without the prefix of a family.
    pub symbol: &'static str,
    /// What it is counted as.
    pub function: AllocFn,
    /// Where its arguments are.
    pub shape: CallShape,
}

const fn usual(symbol: &'static str, function: AllocFn) -> Name {
    Name { symbol, function, shape: function.shape() }
}

const fn shaped(symbol: &'static str, function: AllocFn, shape: CallShape) -> Name {
    Name { symbol, function, shape }
}

/// The C library's, which every allocator that takes its place has.
pub const C: [Name; 20] = [
    usual("malloc", Malloc),
    usual("calloc", Calloc),
    usual("realloc", Realloc),
    usual("reallocarray", Reallocarray),
    usual("free", Free),
    usual("memalign", Memalign),
    usual("aligned_alloc", AlignedAlloc),
    usual("posix_memalign", PosixMemalign),
    usual("valloc", Valloc),
    usual("pvalloc", Pvalloc),
    usual("cfree", Free),
    usual("free_sized", Free),
    usual("free_aligned_sized", Free),
    // jemalloc(3)
    usual("mallocx", Mallocx),
    usual("rallocx", Rallocx),
    usual("xallocx", Xallocx),
    usual("dallocx", Dallocx),
    usual("sdallocx", Sdallocx),
    // What Rust's binding of snmalloc and others call these.
    usual("zalloc", Zalloc),
    usual("aligned_malloc", MallocAligned),
];

/// What manages address ranges.
pub const MAPPINGS: [Name; 6] = [
    usual("mmap", Mmap),
    // The same address in C libraries; gperftools defines it a second time.
    usual("mmap64", Mmap),
    usual("munmap", Munmap),
    usual("mremap", Mremap),
    usual("brk", Brk),
    usual("sbrk", Sbrk),
];

/// C++'s operators. Those that take no `nothrow` throw when there is no memory.
pub const OPERATORS: [Name; 20] = [
    shaped("_Znwm", OperatorNew, CallShape::Throwing),
    shaped("_Znam", OperatorNewArray, CallShape::Throwing),
    shaped("_ZnwmSt11align_val_t", OperatorNew, CallShape::Throwing),
    shaped("_ZnamSt11align_val_t", OperatorNewArray, CallShape::Throwing),
    usual("_ZnwmRKSt9nothrow_t", OperatorNew),
    usual("_ZnamRKSt9nothrow_t", OperatorNewArray),
    usual("_ZnwmSt11align_val_tRKSt9nothrow_t", OperatorNew),
    usual("_ZnamSt11align_val_tRKSt9nothrow_t", OperatorNewArray),
    usual("_ZdlPv", OperatorDelete),
    usual("_ZdaPv", OperatorDeleteArray),
    usual("_ZdlPvm", OperatorDelete),
    usual("_ZdaPvm", OperatorDeleteArray),
    usual("_ZdlPvSt11align_val_t", OperatorDelete),
    usual("_ZdaPvSt11align_val_t", OperatorDeleteArray),
    usual("_ZdlPvmSt11align_val_t", OperatorDelete),
    usual("_ZdaPvmSt11align_val_t", OperatorDeleteArray),
    usual("_ZdlPvRKSt9nothrow_t", OperatorDelete),
    usual("_ZdaPvRKSt9nothrow_t", OperatorDeleteArray),
    usual("_ZdlPvSt11align_val_tRKSt9nothrow_t", OperatorDelete),
    usual("_ZdaPvSt11align_val_tRKSt9nothrow_t", OperatorDeleteArray),
];

/// tcmalloc's own names, which begin with `tc_`.
pub const TCMALLOC: [Name; 30] = [
    usual("malloc", Malloc),
    usual("malloc_skip_new_handler", Malloc),
    usual("calloc", Calloc),
    usual("realloc", Realloc),
    usual("free", Free),
    usual("free_sized", Free),
    usual("cfree", Free),
    usual("memalign", Memalign),
    usual("posix_memalign", PosixMemalign),
    usual("valloc", Valloc),
    usual("pvalloc", Pvalloc),
    shaped("new", OperatorNew, CallShape::Throwing),
    shaped("newarray", OperatorNewArray, CallShape::Throwing),
    shaped("new_aligned", OperatorNew, CallShape::Throwing),
    shaped("newarray_aligned", OperatorNewArray, CallShape::Throwing),
    usual("new_nothrow", OperatorNew),
    usual("newarray_nothrow", OperatorNewArray),
    usual("new_aligned_nothrow", OperatorNew),
    usual("newarray_aligned_nothrow", OperatorNewArray),
    usual("delete", OperatorDelete),
    usual("deletearray", OperatorDeleteArray),
    usual("delete_sized", OperatorDelete),
    usual("deletearray_sized", OperatorDeleteArray),
    usual("delete_nothrow", OperatorDelete),
    usual("deletearray_nothrow", OperatorDeleteArray),
    usual("delete_aligned", OperatorDelete),
    usual("deletearray_aligned", OperatorDeleteArray),
    usual("delete_sized_aligned", OperatorDelete),
    usual("deletearray_sized_aligned", OperatorDeleteArray),
    usual("delete_aligned_nothrow", OperatorDelete),
];

/// mimalloc's own names, which begin with `mi_`. Those that it builds from these (`mi_strdup`,
/// `mi_reallocf`) are not listed: they call them, or copy them and are seen when they are freed.
pub const MIMALLOC: [Name; 54] = [
    usual("malloc", Malloc),
    usual("malloc_small", Malloc),
    shaped("mallocn", Calloc, CallShape::CountSize),
    usual("calloc", Calloc),
    usual("zalloc", Zalloc),
    usual("zalloc_small", Zalloc),
    usual("realloc", Realloc),
    usual("reallocn", Reallocarray),
    usual("reallocarray", Reallocarray),
    usual("rezalloc", Realloc),
    usual("recalloc", Reallocarray),
    usual("expand", Realloc),
    usual("free", Free),
    usual("cfree", Free),
    usual("free_size", Free),
    usual("free_aligned", Free),
    usual("free_size_aligned", Free),
    usual("memalign", Memalign),
    usual("aligned_alloc", AlignedAlloc),
    usual("posix_memalign", PosixMemalign),
    usual("valloc", Valloc),
    usual("pvalloc", Pvalloc),
    usual("malloc_aligned", MallocAligned),
    usual("malloc_aligned_at", MallocAligned),
    usual("zalloc_aligned", ZallocAligned),
    usual("zalloc_aligned_at", ZallocAligned),
    shaped("calloc_aligned", Calloc, CallShape::CountSize),
    shaped("calloc_aligned_at", Calloc, CallShape::CountSize),
    usual("realloc_aligned", ReallocAligned),
    usual("realloc_aligned_at", ReallocAligned),
    usual("rezalloc_aligned", ReallocAligned),
    usual("rezalloc_aligned_at", ReallocAligned),
    shaped("recalloc_aligned", Reallocarray, CallShape::OldCountSize),
    shaped("new", OperatorNew, CallShape::Throwing),
    shaped("new_aligned", OperatorNew, CallShape::Throwing),
    usual("new_nothrow", OperatorNew),
    usual("new_aligned_nothrow", OperatorNew),
    shaped("heap_malloc", Malloc, CallShape::ContextSize),
    shaped("heap_malloc_small", Malloc, CallShape::ContextSize),
    shaped("heap_mallocn", Calloc, CallShape::ContextCountSize),
    shaped("heap_calloc", Calloc, CallShape::ContextCountSize),
    shaped("heap_zalloc", Zalloc, CallShape::ContextSize),
    shaped("heap_realloc", Realloc, CallShape::ContextOldSize),
    shaped("heap_rezalloc", Realloc, CallShape::ContextOldSize),
    shaped("heap_malloc_aligned", MallocAligned, CallShape::ContextSize),
    shaped("heap_malloc_aligned_at", MallocAligned, CallShape::ContextSize),
    shaped("heap_zalloc_aligned", ZallocAligned, CallShape::ContextSize),
    shaped("heap_zalloc_aligned_at", ZallocAligned, CallShape::ContextSize),
    shaped("heap_calloc_aligned", Calloc, CallShape::ContextCountSize),
    shaped("heap_calloc_aligned_at", Calloc, CallShape::ContextCountSize),
    shaped("heap_realloc_aligned", ReallocAligned, CallShape::ContextOldSize),
    shaped("heap_realloc_aligned_at", ReallocAligned, CallShape::ContextOldSize),
    shaped("heap_rezalloc_aligned", ReallocAligned, CallShape::ContextOldSize),
    shaped("heap_rezalloc_aligned_at", ReallocAligned, CallShape::ContextOldSize),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_function_of_an_allocator_has_a_symbol() {
        let all = [&C[..], &MAPPINGS, &OPERATORS, &MIMALLOC].concat();
        // The linker's, and what growth is followed by.
        let no_allocators = [DlDebugState, Mprotect, Madvise, PageFault];
        for function in AllocFn::ALL.into_iter().filter(|it| !no_allocators.contains(it)) {
            let is_named = all.iter().any(|name| name.function == function);
            assert_eq!(is_named, !function.is_python(), "{function:?}");
        }
    }

    #[test]
    fn no_symbol_is_listed_twice() {
        for list in [&C[..], &MAPPINGS, &OPERATORS, &TCMALLOC, &MIMALLOC] {
            let symbols: HashSet<_> = list.iter().map(|name| name.symbol).collect();
            assert_eq!(symbols.len(), list.len());
        }
    }

    #[test]
    fn only_operators_that_may_throw_keep_their_return_address() {
        for name in OPERATORS {
            let is_new = name.symbol.starts_with("_Zn");
            let throws = is_new && !name.symbol.contains("nothrow");
            assert_eq!(name.shape == CallShape::Throwing, throws, "{}", name.symbol);
        }
    }
}
