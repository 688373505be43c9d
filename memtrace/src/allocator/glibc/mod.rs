//! The GNU C library: how it is recognised, and its heap from outside.

mod arena;
mod book;
mod chain;
mod drawing;
mod header;
mod heaps;
pub mod inquiry;
pub mod layout;
mod links;
mod lost;
pub mod mallinfo;
mod mapped;
mod moment;
mod movement;
mod noncontiguous;
mod part;
mod recording;
pub mod scan;
mod segment;
pub mod shape;
mod tally;
pub mod target;
mod tcache;
mod visit;
pub mod walk;
mod walker;
mod window;

pub use visit::visit_chunks_in_use;

use super::{Allocator, AllocatorId, version_after};

// Banner: csu/version.c.
pub(super) const GLIBC: Allocator = Allocator {
    id: AllocatorId::Glibc,
    // The second is in static programs, which seldom ask for the version.
    markers: &["gnu_get_libc_version", "_dl_relocate_static_pie"],
    version: |rodata| version_after(rodata, b" release version "),
};

#[cfg(test)]
mod tests;
