//! The GNU C library. Banner: csu/version.c.

use super::{Allocator, AllocatorId, version_after};

pub(super) const GLIBC: Allocator = Allocator {
    id: AllocatorId::Glibc,
    // The second is in static programs, which seldom ask for the version.
    markers: &["gnu_get_libc_version", "_dl_relocate_static_pie"],
    version: |rodata| version_after(rodata, b" release version "),
};
