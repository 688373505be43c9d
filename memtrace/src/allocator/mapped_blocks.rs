//! Blocks that glibc maps one by one, because they are large: when the mapping goes, so does the block,
//! also where nobody sees the call of `free`.

use super::glibc::shape::CHUNK_HEADER_BYTES;
use crate::model::event::{Action, Event};

/// Bytes of a page on x86-64 and, mostly, aarch64.
const PAGE_BYTES: u64 = 4096;

/// Where the block was that goes with a mapping that the allocator gives back or moves; `None` where
/// it does no such thing. Not every mapping of an allocator is one of a block.
pub fn released_with(event: &Event) -> Option<u64> {
    let (Action::UnmapBegin { address, .. } | Action::RemapBegin { old_address: address, .. }) =
        event.action
    else {
        return None;
    };
    event.internal.then(|| address.saturating_add(CHUNK_HEADER_BYTES))
}

/// Whether a block of this size at this address may be a mapping of its own, as only one in 256 others seems to
/// be: what becomes of such a one is seen wherever mappings are.
pub fn may_be_mapped(address: u64, size_bytes: u64) -> bool {
    size_bytes >= PAGE_BYTES && address % PAGE_BYTES == CHUNK_HEADER_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AllocFn;

    #[test]
    fn a_large_block_behind_the_header_at_the_start_of_a_page_may_be_a_mapping() {
        assert!(may_be_mapped(0x7f00_0000_0010, 20 << 20));
        assert!(!may_be_mapped(0x7f00_0000_0010, 100), "it is too small");
        assert!(!may_be_mapped(0x7f00_0000_0020, 20 << 20), "it is in a heap");
    }

    fn released(internal: bool, action: Action) -> Option<u64> {
        released_with(&Event { internal, ..Event::of(AllocFn::Munmap, 1, 1, action) })
    }

    #[test]
    fn a_block_goes_with_the_mapping_that_the_allocator_made_for_it() {
        let unmap = Action::UnmapBegin { address: 0x7000, length_bytes: 0x4000 };
        let remap = Action::RemapBegin { old_address: 0x7000, old_length_bytes: 0x4000 };
        assert_eq!(released(true, unmap.clone()), Some(0x7010));
        assert_eq!(released(true, remap), Some(0x7010));
        assert_eq!(released(false, unmap), None, "the program's own");
        assert_eq!(released(true, Action::Free { address: 0x7010 }), None);
    }
}
