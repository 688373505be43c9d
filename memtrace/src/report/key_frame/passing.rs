//! Functions that only pass an allocation on, by project: wrappers of `malloc`, containers, and the
//! allocators of language runtimes. What they were called by says more.
//!
//! A function belongs here if every allocation of the project goes through it; one that says what the
//! memory is for (`pcache1AllocPage`, `Unsafe_AllocateMemory0`) does not.

/// What begins with one of these; the names of C++ and Rust with everything behind them.
const PREFIXES: [&[&str]; 18] = [
    // C++ and its standard libraries
    &["operator new", "std::", "__gnu_cxx::", "void std::", "void* std::"],
    // Rust's standard library, and what most programs build theirs upon
    &["alloc::", "<alloc::", "core::", "<core::", "<std::", "hashbrown::", "<hashbrown::"],
    &["bytes::", "<bytes::", "__rust_", "__rustc", "__rdl_", "__rg_"],
    // CPython, Objects/obmalloc.c
    &["_PyMem_", "PyMem_", "_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc"],
    &["PyObject_Malloc", "PyObject_Calloc", "PyObject_Realloc"],
    // Perl, util.c; Ruby, gc.c; Lua, lmem.c; Tcl, tclAlloc.c and tclCkalloc.c
    &["Perl_safesys", "ruby_xmalloc", "ruby_xcalloc", "ruby_xrealloc", "objspace_x", "luaM_"],
    &["TclpAlloc", "TclpRealloc", "Tcl_Alloc", "Tcl_Realloc", "Tcl_Attempt", "TclAllocateFree"],
    // PHP, Zend/zend_alloc.c
    &["_emalloc", "_ecalloc", "_erealloc", "_safe_emalloc", "__zend_", "zend_mm_"],
    // HotSpot, os.cpp and allocation.cpp
    &["os::malloc", "os::realloc", "os::strdup", "os::reserve_memory", "os::commit_memory"],
    &["os::pd_commit_memory", "AllocateHeap", "ReallocateHeap", "CHeapObj", "AnyObj::operator new"],
    // V8 and Node
    &["node::NodeArrayBufferAllocator", "v8::internal::AllocWithRetry", "v8::internal::Malloced"],
    &["v8::internal::BackingStore::", "v8::internal::Heap::AllocateExternalBackingStore"],
    &["v8::base::OS::", "v8::internal::VirtualMemory::", "v8::internal::MemoryAllocator::"],
    &["v8::ArrayBuffer::New"],
    // OpenSSL, libuv, FFmpeg, nginx, GLib where it is linked in
    &["CRYPTO_malloc", "CRYPTO_zalloc", "CRYPTO_realloc", "uv__malloc", "uv__calloc"],
    &[
        "uv__realloc",
        "av_malloc",
        "av_calloc",
        "av_realloc",
        "ngx_palloc",
        "ngx_pnalloc",
        "g_malloc",
    ],
    // GNU and BSD programs; redis
    &[
        "xmalloc",
        "xcalloc",
        "xrealloc",
        "do_xmalloc",
        "zmalloc",
        "zcalloc",
        "zrealloc",
        "ztrymalloc",
    ],
    // SQLite, malloc.c; PostgreSQL, mcxt.c; LLVM, MemAlloc.h
    &["sqlite3Db", "AllocSet", "MemoryContext", "GenerationAlloc", "llvm::allocate_buffer"],
];

/// Whole names, where what begins alike may be anything.
const NAMES: [&str; 26] = [
    "l_alloc",
    "lalloc",
    "mallocWithAlarm",
    "my_malloc",
    "my_realloc",
    "ngx_alloc",
    "ngx_calloc",
    "ngx_memalign",
    "ngx_pcalloc",
    "palloc",
    "palloc0",
    "palloc_extended",
    "pnstrdup",
    "pstrdup",
    "repalloc",
    "dbMallocRawFinish",
    "dbReallocFinish",
    "sqlite3Malloc",
    "sqlite3MallocZero",
    "sqlite3MemMalloc",
    "sqlite3MemRealloc",
    "sqlite3Realloc",
    "sqlite3_malloc",
    "sqlite3_malloc64",
    "sqlite3_realloc",
    "sqlite3_realloc64",
];

/// Whether a function of this name is one.
pub(super) fn is_passing_function(name: &str) -> bool {
    PREFIXES.iter().copied().flatten().any(|prefix| name.starts_with(prefix))
        || NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::is_passing_function;

    #[test]
    fn wrappers_of_well_known_programs_are_known() {
        for name in
            ["os::malloc(unsigned long, MEMFLAGS)", "ngx_palloc", "palloc", "sqlite3DbMallocRaw"]
        {
            assert!(is_passing_function(name), "{name}");
        }
    }

    #[test]
    fn what_says_what_the_memory_is_for_is_not_passed_over() {
        for name in ["pcache1AllocPage", "Unsafe_AllocateMemory0", "palloc_cache", "main"] {
            assert!(!is_passing_function(name), "{name}");
        }
    }
}
