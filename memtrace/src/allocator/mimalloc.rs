//! mimalloc. Its version is only in the code of `mi_version`.

use super::{Allocator, AllocatorId};

pub(super) const MIMALLOC: Allocator =
    Allocator { id: AllocatorId::Mimalloc, markers: &["mi_malloc"], version: |_| None };
