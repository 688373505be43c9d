//! jemalloc. Version string: `JEMALLOC_VERSION`, `5.3.0-0-g<commit>`.

use super::{Allocator, AllocatorId, version_at};

pub(super) const JEMALLOC: Allocator = Allocator {
    id: AllocatorId::Jemalloc,
    markers: &["mallctl", "mallocx"],
    version: |rodata| rodata.split(|byte| *byte == 0).find_map(version_string),
};

fn version_string(text: &[u8]) -> Option<String> {
    let version = version_at(text)?;
    let rest = text.get(version.len()..)?.strip_prefix(b"-")?;
    rest.windows(2).any(|pair| pair == b"-g").then_some(version)
}
