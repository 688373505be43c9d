//! gperftools' tcmalloc (`tc_malloc`, says `gperftools 2.10`) and Google's (says nothing).

use super::{Allocator, AllocatorId, version_after};

pub(super) const TCMALLOC: Allocator = Allocator {
    id: AllocatorId::Tcmalloc,
    markers: &["tc_malloc", "MallocExtension_Internal_GetNumericProperty"],
    version: |rodata| version_after(rodata, b"gperftools "),
};
