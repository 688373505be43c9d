//! The allocators that memtrace knows.
//!
//! Adding one is a file with an [`Allocator`] and a line in [`KNOWN`], and its functions' names in
//! [`names`] and [`family`]. Anything else that defines both `malloc` and `free` is traced all the
//! same, as [`AllocatorId::Unknown`].

pub mod family;
pub mod glibc;
#[cfg(test)]
mod image;
mod jemalloc;
mod late_heaps;
mod mapped_blocks;
mod mimalloc;
pub mod musl;
pub mod names;
pub mod opaque;
mod present;
pub mod pymalloc;
mod ranges;
mod tcmalloc;

pub use family::GivenNames;
pub use late_heaps::LateHeaps;
pub use mapped_blocks::released_with;
pub use present::NoResidency;

/// An allocator's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AllocatorId {
    /// The GNU C library's (ptmalloc).
    Glibc,
    /// musl's (oldmalloc or mallocng).
    Musl,
    /// jemalloc.
    Jemalloc,
    /// gperftools' or Google's tcmalloc.
    Tcmalloc,
    /// mimalloc.
    Mimalloc,
    /// CPython's own.
    Pymalloc,
    /// Another one; its functions are known by their names only.
    Unknown,
}

impl AllocatorId {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
            Self::Pymalloc => "pymalloc",
            Self::Unknown => "unknown",
        }
    }
}

/// How to recognise one allocator.
struct Allocator {
    id: AllocatorId,
    /// Functions that this allocator alone defines; one is enough.
    markers: &'static [&'static str],
    /// Its version by the strings in `.rodata`.
    version: fn(&[u8]) -> Option<String>,
}

/// Allocators before C libraries: a static program contains both, and the allocator serves.
const KNOWN: [&Allocator; 5] =
    [&jemalloc::JEMALLOC, &tcmalloc::TCMALLOC, &mimalloc::MIMALLOC, &glibc::GLIBC, &musl::MUSL];

/// Every symbol that recognising an allocator asks for.
pub fn wanted_symbols() -> Vec<&'static str> {
    let markers = KNOWN.iter().flat_map(|allocator| allocator.markers);
    markers.copied().chain(["malloc", "free"]).collect()
}

/// The version of an allocator that is known by other names than its markers.
pub fn version(id: AllocatorId, rodata: &[u8]) -> Option<String> {
    let known = KNOWN.iter().find(|allocator| allocator.id == id)?;
    (known.version)(rodata)
}

/// Which allocator an object is, and which version where it says so.
///
/// `defines` tells whether the object defines a function; `rodata` is its `.rodata`.
pub fn identify(defines: impl Fn(&str) -> bool, rodata: &[u8]) -> (AllocatorId, Option<String>) {
    let known =
        KNOWN.iter().find(|allocator| allocator.markers.iter().any(|marker| defines(marker)));
    match known {
        Some(allocator) => (allocator.id, (allocator.version)(rodata)),
        None => (AllocatorId::Unknown, None),
    }
}

/// The text between `before` and the first byte that is not in a version.
fn version_after(rodata: &[u8], before: &[u8]) -> Option<String> {
    let at = find(rodata, before)?;
    version_at(&rodata[at + before.len()..])
}

/// A version number `1.2` or `1.2.3` at the start.
fn version_at(text: &[u8]) -> Option<String> {
    let length = text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let version = std::str::from_utf8(&text[..length.min(32)]).ok()?.trim_end_matches('.');
    let is_version = version.contains('.') && version.starts_with(|c: char| c.is_ascii_digit());
    is_version.then(|| version.to_owned())
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identified(functions: &[&str], rodata: &[u8]) -> (AllocatorId, Option<String>) {
        identify(|name| functions.contains(&name), rodata)
    }

    #[test]
    fn glibc_says_its_version_in_its_banner() {
        let banner =
            b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36.\n";
        let expected = (AllocatorId::Glibc, Some("2.36".to_owned()));
        assert_eq!(identified(&["malloc", "gnu_get_libc_version"], banner), expected);
    }

    #[test]
    fn musl_says_its_version_as_a_string_of_its_own() {
        let rodata = b"%s\0musl libc (x86_64)\nVersion %s\n\x001.2.3\0/dev/null\x001.9.9x\0";
        let expected = (AllocatorId::Musl, Some("1.2.3".to_owned()));
        assert_eq!(identified(&["malloc", "__dls3"], rodata), expected);
    }

    #[test]
    fn jemalloc_says_its_version_with_a_commit() {
        let rodata = b"<jemalloc>\x005.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c\0";
        let expected = (AllocatorId::Jemalloc, Some("5.3.0".to_owned()));
        assert_eq!(identified(&["malloc", "mallctl"], rodata), expected);
    }

    #[test]
    fn tcmalloc_says_its_version_with_its_package() {
        let expected = (AllocatorId::Tcmalloc, Some("2.10".to_owned()));
        assert_eq!(identified(&["tc_malloc"], b"x\0gperftools 2.10\0"), expected);
    }

    #[test]
    fn mimalloc_keeps_its_version_to_itself() {
        assert_eq!(identified(&["mi_malloc"], b"2.0.9\0"), (AllocatorId::Mimalloc, None));
    }

    #[test]
    fn an_allocator_inside_a_static_program_comes_before_its_c_library() {
        let functions = ["gnu_get_libc_version", "mallctl"];
        assert_eq!(identified(&functions, b"").0, AllocatorId::Jemalloc);
    }

    #[test]
    fn an_object_without_markers_is_unknown() {
        assert_eq!(identified(&["malloc", "free"], b""), (AllocatorId::Unknown, None));
    }

    #[test]
    fn broken_banners_give_no_version() {
        for rodata in [&b""[..], b"release version ", b"release version .", b"release version 2"] {
            assert_eq!(identified(&["gnu_get_libc_version"], rodata).1, None);
        }
    }
}
