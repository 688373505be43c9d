//! Allocators by the names that their functions have in an object: the C library's names, or the same
//! with a prefix, as programs have them that bring an allocator along (`_rjem_malloc` in Rust's).
//! An object may hold several.

use memtrace_common::function::CallShape;
use object::ReadRef;

use super::{
    AllocatorId,
    names::{C, MAPPINGS, MIMALLOC, Name, OPERATORS, TCMALLOC},
};
use crate::elf::Elf;

/// The end of the name by which jemalloc is known whatever its prefix.
const JEMALLOC: &str = "mallctl";
/// A function by which mimalloc is known.
const MI_MALLOC: &str = "mi_malloc";
/// A function by which tcmalloc is known.
const TC_MALLOC: &str = "tc_malloc";

/// What tells an interpreter of Python, whose copy of mimalloc is not called by its names.
const PYTHON: &str = "PyObject_Malloc";

/// Names that a user gave: all usual functions with a prefix, in some objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenNames {
    /// What the names begin with.
    pub prefix: String,
    /// What the base names of the objects begin with; `None` for all objects.
    pub library: Option<String>,
}

impl GivenNames {
    /// Whether they are meant for an object of this base name.
    pub fn are_for(&self, base_name: &str) -> bool {
        self.library.as_ref().is_none_or(|library| base_name.starts_with(library.as_str()))
    }
}

/// An allocator under names of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Which, where the names tell.
    pub allocator: AllocatorId,
    /// What all its names begin with, never empty.
    pub prefix: String,
    /// Its functions.
    pub names: &'static [Name],
}

/// The names that lead to the functions of an object that serves `malloc`. The first are the most
/// usual: one address is called by the first of its names.
pub fn standard() -> impl Iterator<Item = (String, Name)> {
    let with = |prefix: &'static str, names: &'static [Name]| {
        names.iter().map(move |name| (format!("{prefix}{}", name.symbol), *name))
    };
    with("", &C)
        .chain(with("", &MAPPINGS))
        .chain(with("", &OPERATORS))
        .chain(with("tc_", &TCMALLOC))
        .chain(with("mi_", &MIMALLOC))
}

/// Whether a name says that an allocator is in the object, by a prefix or a name of its own.
pub fn is_sign(name: &[u8]) -> bool {
    name.ends_with(JEMALLOC.as_bytes())
        || [MI_MALLOC, TC_MALLOC].iter().any(|sign| name == sign.as_bytes())
}

/// The allocators under names of their own in an object, but for the mimalloc that every CPython since
/// 3.13 contains and hardly one uses.
pub fn in_object<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>) -> Vec<Family> {
    let signs = elf.functions_where(|name| is_sign(name) || name == PYTHON.as_bytes());
    let is_python = signs.iter().any(|sign| sign.name == PYTHON);
    let mut families = families(signs.iter().map(|sign| sign.name.as_str()));
    families.retain(|family| !(family.allocator == AllocatorId::Mimalloc && is_python));
    families
}

/// The families that the signs among an object's names tell of.
pub fn families<'a>(signs: impl Iterator<Item = &'a str>) -> Vec<Family> {
    let mut families: Vec<Family> = signs.filter_map(family).collect();
    families.sort_by(|a, b| a.prefix.cmp(&b.prefix));
    families.dedup();
    families
}

fn family(sign: &str) -> Option<Family> {
    let of = |allocator, prefix: &str, names| Family { allocator, prefix: prefix.into(), names };
    match sign {
        MI_MALLOC => Some(of(AllocatorId::Mimalloc, "mi_", &MIMALLOC)),
        TC_MALLOC => Some(of(AllocatorId::Tcmalloc, "tc_", &TCMALLOC)),
        _ => {
            let prefix = sign.strip_suffix(JEMALLOC).filter(|prefix| !prefix.is_empty())?;
            Some(of(AllocatorId::Jemalloc, prefix, &C))
        }
    }
}

/// The family that a user named.
pub fn given(names: &GivenNames) -> Family {
    let known = match names.prefix.as_str() {
        "mi_" => (AllocatorId::Mimalloc, &MIMALLOC[..]),
        "tc_" => (AllocatorId::Tcmalloc, &TCMALLOC[..]),
        prefix if prefix.contains("jem") => (AllocatorId::Jemalloc, &C[..]),
        _ => (AllocatorId::Unknown, &C[..]),
    };
    Family { allocator: known.0, prefix: names.prefix.clone(), names: known.1 }
}

/// Whether a function gives memory back, and nothing else.
pub fn releases(shape: CallShape) -> bool {
    shape == CallShape::Block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jemalloc_is_known_by_any_prefix_and_without_one_it_is_no_family() {
        let found = families(["_rjem_mallctl", "je_mallctl", "mallctl"].into_iter());
        let prefixes: Vec<_> = found.iter().map(|it| (it.allocator, it.prefix.as_str())).collect();
        let jemalloc = AllocatorId::Jemalloc;
        assert_eq!(prefixes, [(jemalloc, "_rjem_"), (jemalloc, "je_")]);
    }

    #[test]
    fn mimalloc_and_tcmalloc_have_names_of_their_own() {
        let found = families(["mi_malloc", "tc_malloc", "mi_malloc"].into_iter());
        let prefixes: Vec<_> = found.iter().map(|it| it.prefix.as_str()).collect();
        assert_eq!(prefixes, ["mi_", "tc_"]);
        assert!(is_sign(b"mi_malloc") && is_sign(b"_rjem_mallctl") && !is_sign(b"mi_malloc_small"));
    }

    #[test]
    fn given_names_are_for_the_objects_that_were_named() {
        let given = GivenNames { prefix: "x_".into(), library: Some("libpolars".into()) };
        assert!(given.are_for("libpolars.abi3.so") && !given.are_for("libc.so.6"));
        assert!(GivenNames { library: None, ..given }.are_for("libc.so.6"));
    }

    #[test]
    fn the_names_of_an_object_that_serves_malloc_have_the_usual_ones_first() {
        let names: Vec<_> = standard().map(|(symbol, _)| symbol).collect();
        assert_eq!(names[0], "malloc");
        assert!(names.contains(&"mi_heap_malloc".to_owned()));
        assert!(names.contains(&"tc_deletearray_sized".to_owned()));
    }
}
