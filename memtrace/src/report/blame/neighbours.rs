//! Whose blocks lay where there are holes now: what only the events of a capture tell.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
};

use super::{BlameReport, GroupBy, Names, NeighbourReport, blame_with_holes};
use crate::{
    analysis::blame::{Freed, Hole},
    capture::{Capture, CapturedSite, Events},
    model::{
        AllocFn, ObjectNumber,
        blame::Culprit,
        census::Extent,
        event::{Action, Event},
        stack::StackId,
    },
};

/// Most holes that are followed.
const MOST_HOLES: usize = 1 << 20;

/// Most live blocks that are followed while events go by.
const MOST_LIVE: usize = 1 << 22;

/// Neighbours of one who pins memory that are named.
const MOST_NEIGHBOURS: usize = 3;

impl BlameReport {
    /// Adds whose blocks lay where each culprit has holes, as far as these events of the capture
    /// tell; `by` is what the report was made with.
    ///
    /// # Errors
    /// When the events cannot be read.
    pub fn add_neighbours<E: Events + ?Sized>(
        &mut self,
        capture: &Capture,
        events: &E,
        by: GroupBy,
    ) -> Result<(), E::Error> {
        let names = Names::of(capture, by);
        let Some((blame, holes)) = blame_with_holes(capture, &names.culprits(), MOST_HOLES) else {
            return Ok(());
        };
        let mut replay = Replay::new(capture, holes);
        events.replay(&mut |kept| replay.visit(&kept.event))?;
        let mut neighbours = replay.neighbours(&names);
        for (share, culprit) in blame.shares.iter().zip(&mut self.culprits) {
            if let Culprit::Site(number) = share.culprit {
                culprit.neighbours = neighbours.remove(&number).unwrap_or_default();
            }
        }
        Ok(())
    }
}

/// Blocks as the events have them, and what becomes of those that lay in holes.
struct Replay {
    sites: HashMap<(StackId, AllocFn, ObjectNumber), u32>,
    /// By address: bytes and site.
    live: HashMap<u64, (u64, u32)>,
    /// Blocks in realloc, by thread: address, bytes and site.
    moving: HashMap<u32, (u64, u64, u32)>,
    freed: Freed,
}

impl Replay {
    fn new(capture: &Capture, holes: Vec<Hole>) -> Self {
        let site = |(number, site): (u32, &CapturedSite)| {
            Some(((site.stack?, site.function?, site.object), number))
        };
        let sites = (0..).zip(&capture.sites).filter_map(site).collect();
        let (live, moving, freed) = (HashMap::new(), HashMap::new(), Freed::new(holes));
        Self { sites, live, moving, freed }
    }

    fn visit(&mut self, event: &Event) {
        match event.action {
            Action::Alloc { address, size_bytes, stack } => {
                self.obtain(event, stack, address, size_bytes);
            }
            Action::Free { address } => {
                if let Some((bytes, site)) = self.live.remove(&address) {
                    self.release(address, bytes, site);
                }
            }
            Action::ReallocBegin { old_address } => {
                if let Some((bytes, site)) = self.live.remove(&old_address) {
                    self.moving.insert(event.tid, (old_address, bytes, site));
                }
            }
            Action::ReallocEnd { new_address, size_bytes, stack, .. } => {
                let moved = self.moving.remove(&event.tid);
                let is_failed = new_address == 0 && size_bytes > 0;
                match moved {
                    Some((address, bytes, site)) if is_failed => {
                        self.live.insert(address, (bytes, site));
                    }
                    Some((address, bytes, site)) => self.release(address, bytes, site),
                    None => {}
                }
                if new_address != 0 {
                    self.obtain(event, stack, new_address, size_bytes);
                }
            }
            Action::Exec => self.live.clear(),
            _ => {}
        }
    }

    fn obtain(&mut self, event: &Event, stack: StackId, address: u64, bytes: u64) {
        let site = self.sites.get(&(stack, event.function, event.object));
        if let Some(site) = site.filter(|_| self.live.len() < MOST_LIVE) {
            self.live.insert(address, (bytes, *site));
        }
    }

    fn release(&mut self, address: u64, bytes: u64, site: u32) {
        self.freed.free(Extent { start: address, end: address.saturating_add(bytes) }, site);
    }

    /// By the number of the one who pins them, the largest first.
    fn neighbours(&self, names: &Names<'_>) -> HashMap<u32, Vec<NeighbourReport>> {
        let mut bytes: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (hole, site) in self.freed.seen() {
            *bytes.entry((hole.holder, names.slot(site))).or_default() += hole.extent.bytes();
        }
        let mut neighbours: HashMap<u32, Vec<NeighbourReport>> = HashMap::new();
        for ((holder, slot), bytes) in bytes {
            let name = names.called(Culprit::Site(slot));
            neighbours.entry(holder).or_default().push(NeighbourReport { name, bytes });
        }
        for of_one in neighbours.values_mut() {
            of_one.sort_by_key(|neighbour| Reverse(neighbour.bytes));
            of_one.truncate(MOST_NEIGHBOURS);
        }
        neighbours
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        capture::{KeptEvent, Layouts},
        model::{
            layout::{ArenaLayout, HeapLayout, PieceKind, SegmentLayout},
            site::LiveItem,
            stack::{Frame, NamedStack},
        },
        report::{Report, ReportOptions},
    };

    const HEAP: u64 = 0x10_0000;
    const SESSION: StackId = StackId(1);
    const BUFFER: StackId = StackId(2);

    /// Two pages: a session at the start of each, and what a buffer left.
    fn capture() -> Capture {
        let mut segment = SegmentLayout::at(HEAP);
        for page in [HEAP, HEAP + 0x1000] {
            segment.push(PieceKind::InUse, page + 0x40);
            segment.push(PieceKind::Free, page + 0x1000);
        }
        let layout = HeapLayout {
            page_bytes: 4096,
            arenas: vec![ArenaLayout { segments: vec![segment], ..ArenaLayout::default() }],
            resident: vec![Extent { start: HEAP, end: HEAP + 0x2000 }],
            ..HeapLayout::default()
        };
        let site = |stack| CapturedSite {
            stack: Some(stack),
            function: Some(AllocFn::Malloc),
            ..CapturedSite::default()
        };
        let named = |name: &str| NamedStack {
            frames: vec![Arc::new(Frame { function: name.to_owned(), ..Frame::default() })],
            missing_root: None,
        };
        let live = [HEAP, HEAP + 0x1000].map(|chunk| LiveItem {
            address: chunk + 16,
            bytes: 48,
            ..LiveItem::default()
        });
        Capture {
            stacks: vec![(SESSION, named("session_new")), (BUFFER, named("buffer_new"))],
            sites: vec![site(SESSION), site(BUFFER)],
            live: live.to_vec(),
            layouts: Layouts { before: None, after: Some(Arc::new(layout)) },
            ..Capture::default()
        }
    }

    fn event(action: Action) -> KeptEvent {
        let event = Event::of(AllocFn::Malloc, 1, 0, action);
        KeptEvent { event, is_arena: false, is_unseen: false, process: 0 }
    }

    fn neighbours(events: &[KeptEvent]) -> Vec<(String, u64)> {
        let capture = capture();
        let mut blame = Report::of(&capture, ReportOptions::default()).blame.unwrap();
        blame.add_neighbours(&capture, events, GroupBy::Line).unwrap();
        let [session] = &blame.culprits[..] else { panic!("{blame:?}") };
        assert_eq!((session.name.name.as_str(), session.trapped_bytes), ("session_new", 2 * 0xfc0));
        session.neighbours.iter().map(|it| (it.name.name.clone(), it.bytes)).collect()
    }

    #[test]
    fn who_left_a_hole_beside_a_block_is_named() {
        let address = HEAP + 0x100;
        let obtained = event(Action::Alloc { address, size_bytes: 500, stack: BUFFER });
        let freed = event(Action::Free { address });
        assert_eq!(neighbours(&[obtained.clone(), freed]), [("buffer_new".to_owned(), 0xfc0)]);
        assert_eq!(neighbours(&[obtained]), []);
    }

    #[test]
    fn a_block_that_realloc_moves_leaves_a_hole_and_one_that_it_cannot_does_not() {
        let (old_address, size_bytes, stack) = (HEAP + 0x1100, 64, BUFFER);
        let moved = |new_address| {
            let events = [
                Action::Alloc { address: old_address, size_bytes, stack },
                Action::ReallocBegin { old_address },
                Action::ReallocEnd { old_address, new_address, size_bytes: 5000, stack },
            ];
            neighbours(&events.map(event))
        };
        assert_eq!(moved(0x9000_0000), [("buffer_new".to_owned(), 0xfc0)]);
        assert_eq!(moved(0), []);
    }
}
