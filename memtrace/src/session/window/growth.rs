//! Where growth is followed: what of it is booked, and what the kernel counted.

use super::{super::growth, Window};
use crate::{
    capture::KeptEvent,
    model::{
        event::{Action, Event},
        footprint::RssChanges,
    },
};

impl Window {
    pub(super) fn book_growth(&mut self, event: Event) {
        let Some(growth) = &mut self.growth else { return };
        // Nothing in the target tells of libraries that are loaded.
        self.code_changed |= maps_code(&event);
        let mut grown = std::mem::take(&mut self.grown);
        growth.book(event, &mut grown);
        self.keep_grown(&mut grown);
        self.grown = grown;
    }

    pub(super) fn keep_grown(&mut self, grown: &mut Vec<Event>) {
        for event in grown.drain(..) {
            self.keep(KeptEvent {
                event,
                is_arena: false,
                is_unseen: false,
                process: self.number(),
            });
        }
    }

    pub(super) fn rss_changes(&self) -> Option<RssChanges> {
        self.growth.as_ref()?;
        let counts = self.kernel.rss_counts().ok()?;
        Some(growth::changes(&counts, self.opened_ns))
    }
}

/// Whether a file's code is mapped: a library is loaded.
fn maps_code(event: &Event) -> bool {
    /// `PROT_EXEC` and `MAP_ANONYMOUS` of asm-generic/mman-common.h.
    const EXEC: u32 = 4;
    const ANONYMOUS: u32 = 0x20;
    matches!(event.action, Action::Map { prot, map_flags, .. }
        if prot & EXEC != 0 && map_flags & ANONYMOUS == 0)
}
