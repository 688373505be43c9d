//! Every chunk in use, one by one.

use super::{
    inquiry::{Chunk, Observer},
    layout::Layout,
    target::{PresentMemory, Target},
    walk::{WalkError, survey},
    walker::Walker,
};

/// Calls `visit` with every chunk in use that is in no cache, each segment's in ascending order,
/// and the number of its arena. `tcache_chunks` is what a walk right before found.
///
/// Errors: see [`WalkError`].
pub fn visit_chunks_in_use(
    target: &Target<'_>,
    layout: &Layout,
    tcache_chunks: &[u64],
    visit: &mut dyn FnMut(u32, Chunk),
) -> Result<(), WalkError> {
    let memory = PresentMemory::new(target);
    let (states, surveyor) = survey(target, &memory, layout)?;
    let mut visitor = Visitor { arena: 0, tcache_chunks, visit };
    Walker::new(&surveyor).arenas(&states, &mut visitor);
    Ok(())
}

struct Visitor<'v> {
    arena: u32,
    tcache_chunks: &'v [u64],
    visit: &'v mut dyn FnMut(u32, Chunk),
}

impl Observer for Visitor<'_> {
    fn is_interested(&self) -> bool {
        true
    }

    fn chunk(&mut self, chunk: Chunk) {
        if chunk.in_use && self.tcache_chunks.binary_search(&chunk.start).is_err() {
            (self.visit)(self.arena, chunk);
        }
    }

    fn arena(&mut self, index: u32) {
        self.arena = index;
    }
}
