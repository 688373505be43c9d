//! musl. `ldd`'s output has the banner, and the version is a string of its own
//! (ldso/dynlink.c, src/internal/version.c).

mod context;
mod groups;
mod layout;
mod walk;

pub use walk::{MuslError, MuslWalk, walk};

use super::{Allocator, AllocatorId, version_at};

pub(super) const MUSL: Allocator = Allocator {
    id: AllocatorId::Musl,
    markers: &["__dls3"],
    version: |rodata| rodata.split(|byte| *byte == 0).find_map(version_string),
};

/// `1.2.3` and nothing else.
fn version_string(text: &[u8]) -> Option<String> {
    let version = version_at(text)?;
    let parts = version.split('.').count();
    (version.len() == text.len() && parts == 3).then_some(version)
}
