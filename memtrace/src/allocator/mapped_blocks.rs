//! Blocks that glibc maps one by one, because they are large: when the mapping goes, so does the block,
//! also where nobody sees the call of `free`.

use super::glibc::shape::CHUNK_HEADER_BYTES;
use crate::model::event::{Action, Event};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AllocFn;

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
