//! Allocators that cannot be walked: their structures differ by version and by build, and nothing
//! in memory says how. They are recognised, and no more.
//!
//! Beside the allocators that serve `malloc` there are those that a library brings along under
//! names of its own (Polars and other Rust programs: jemalloc).

use memchr::memmem;

use super::{AllocatorId, family::Family};

/// Functions by whose names further allocators are known: no more is known of them than that.
const FURTHER: [(&str, &str); 3] = [
    ("sn_malloc", "snmalloc"),
    ("scalable_malloc", "TBB scalable allocator"),
    ("rpmalloc", "rpmalloc"),
];

/// What each allocator prints, and is in no other program: for those whose names were stripped.
/// mimalloc has no such mark, because every CPython since 3.13 contains it and hardly one uses it.
const MESSAGES: [(&[u8], &str); 2] =
    [(b"<jemalloc>: ", "jemalloc"), (b"tcmalloc: large alloc", "tcmalloc")];

/// What mimalloc prints before an error (`_mi_error_message` of its src/options.c).
const MIMALLOC_MESSAGE: &[u8] = b"mimalloc: error: ";

/// How the kernel shows memory that an allocator has named (prctl(2), `PR_SET_VMA_ANON_NAME`).
const MEMORY: [(&str, &str); 3] = [
    ("[anon:jemalloc", "jemalloc"),
    ("[anon:tcmalloc", "tcmalloc"),
    ("[anon:mimalloc", "mimalloc"),
];

/// The names that [`recognise`] asks for.
pub fn wanted_symbols() -> impl Iterator<Item = &'static str> {
    FURTHER.iter().map(|(function, _)| *function)
}

/// The allocator that an object is or contains. `serves` is whose its `malloc` is, where it has one;
/// `families` are those under names of their own; `defines` tells whether the object defines a
/// function; `rodata` is its `.rodata`.
pub fn recognise(
    serves: Option<AllocatorId>,
    families: &[Family],
    defines: impl Fn(&str) -> bool,
    rodata: &[u8],
) -> Option<&'static str> {
    let known = serves.into_iter().chain(families.iter().map(|family| family.allocator));
    let further = || FURTHER.iter().find(|(function, _)| defines(function)).map(|(_, name)| *name);
    known.filter_map(name).next().or_else(further).or_else(|| by_message(rodata))
}

/// Of an allocator that cannot be walked.
fn name(allocator: AllocatorId) -> Option<&'static str> {
    let cannot_be_walked =
        matches!(allocator, AllocatorId::Jemalloc | AllocatorId::Tcmalloc | AllocatorId::Mimalloc);
    cannot_be_walked.then(|| allocator.name())
}

fn by_message(rodata: &[u8]) -> Option<&'static str> {
    let said = |(message, _): &&(&[u8], &str)| memmem::find(rodata, message).is_some();
    MESSAGES.iter().find(said).map(|(_, name)| *name)
}

/// The allocator in an object without names. Every CPython since 3.13 contains mimalloc, and hardly
/// one uses it.
pub fn recognise_nameless(rodata: &[u8], is_python: bool) -> Option<&'static str> {
    let mimalloc = || memmem::find(rodata, MIMALLOC_MESSAGE).map(|_| "mimalloc");
    by_message(rodata).or_else(|| if is_python { None } else { mimalloc() })
}

/// The allocator that has named its memory so.
pub fn owner_of_memory(mapping: &str) -> Option<&'static str> {
    MEMORY.iter().find(|(start, _)| mapping.starts_with(start)).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocator::{self, family};

    fn of_names(names: &[&str]) -> Option<&'static str> {
        let defines = |name: &str| names.contains(&name);
        let serves = defines("malloc").then(|| allocator::identify(defines, b"").0);
        recognise(serves, &family::families(names.iter().copied()), defines, b"")
    }

    #[test]
    fn an_allocator_is_known_by_its_functions() {
        for (function, name) in FURTHER {
            assert_eq!(of_names(&[function]), Some(name));
        }
        assert_eq!(of_names(&["_rjem_mallctl"]), Some("jemalloc"));
        assert_eq!(of_names(&["my_prefix_mallctl"]), Some("jemalloc"));
        assert_eq!(of_names(&["malloc", "mallctl"]), Some("jemalloc"));
        assert_eq!(of_names(&["mi_malloc"]), Some("mimalloc"));
        assert_eq!(of_names(&["tc_malloc"]), Some("tcmalloc"));
        let googles = ["malloc", "MallocExtension_Internal_GetNumericProperty"];
        assert_eq!(of_names(&googles), Some("tcmalloc"));
        assert_eq!(of_names(&["malloc", "gnu_get_libc_version"]), None);
        assert_eq!(of_names(&["malloc"]), None);
    }

    #[test]
    fn a_stripped_allocator_is_known_by_what_it_prints() {
        let rodata = b"abc\0<jemalloc>: Error in dlsym(RTLD_NEXT)\0";
        assert_eq!(recognise(None, &[], |_| false, rodata), Some("jemalloc"));
        assert_eq!(recognise(None, &[], |_| false, b"<jemalloc>"), None);
    }

    #[test]
    fn mimalloc_without_names_is_known_except_inside_of_python() {
        let rodata = b"abc\0mimalloc: error: \0";
        assert_eq!(recognise_nameless(rodata, false), Some("mimalloc"));
        assert_eq!(recognise_nameless(rodata, true), None);
        assert_eq!(recognise_nameless(b"<jemalloc>: x", true), Some("jemalloc"));
    }

    #[test]
    fn named_memory_has_an_owner() {
        assert_eq!(owner_of_memory("[anon:tcmalloc_region_NORMAL]"), Some("tcmalloc"));
        assert_eq!(owner_of_memory("[anon:v8]"), None);
    }
}
