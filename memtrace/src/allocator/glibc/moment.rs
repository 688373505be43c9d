//! An arena and its memory at one moment. Its state is read word by word while the program goes
//! on: `top` may have moved before its size is read, and its heap may be gone. But what an arena
//! has from the system is known, and its segments must add up to that.

use super::{
    arena::ArenaState,
    heaps,
    segment::{Segment, Surveyor},
};

/// How often it is read, at most, until it fits: a busy arena's `top` moves all the time.
const MOST_READS: u32 = 16;
/// The same for an arena whose segments are found by their chunks.
const MOST_SEARCHES: u32 = 2;

/// An arena's state and its segments, as they fit each other best.
pub struct Moment {
    /// The state.
    pub state: ArenaState,
    /// The segments.
    pub segments: Vec<Segment>,
}

impl Moment {
    /// Reads an arena, of which `known` is known.
    pub fn of(surveyor: &Surveyor<'_>, known: &ArenaState) -> Self {
        let is_main = known.address == surveyor.main_arena;
        let most = if is_main && known.noncontiguous { MOST_SEARCHES } else { MOST_READS };
        let mut best = Self::read(surveyor, known);
        for _ in 1..most {
            if best.missing_bytes() == 0 {
                return best;
            }
            let again = Self::read(surveyor, known);
            best = if again.missing_bytes() < best.missing_bytes() { again } else { best };
        }
        if !is_main && best.missing_bytes() > 0 {
            best.segments.extend(heaps::others(surveyor, &best.state, &best.segments));
        }
        best
    }

    fn read(surveyor: &Surveyor<'_>, known: &ArenaState) -> Self {
        surveyor.memory.forget();
        let state = surveyor.state(known);
        Self { state, segments: surveyor.segments(&state) }
    }

    /// What the arena has from the system, and the segments have not, or the other way round.
    fn missing_bytes(&self) -> u64 {
        let found: u64 = self.segments.iter().map(|it| it.end - it.start).sum();
        self.state.system_bytes.abs_diff(found)
    }
}

/// Heaps that an arena has now, and did not have when `segments` were read.
pub fn new_heaps(
    surveyor: &Surveyor<'_>,
    known: &ArenaState,
    segments: &[Segment],
) -> Vec<Segment> {
    if known.address == surveyor.main_arena {
        return Vec::new();
    }
    let mut now = Moment::of(surveyor, known).segments;
    now.retain(|heap| segments.iter().all(|segment| segment.start != heap.start));
    now
}
