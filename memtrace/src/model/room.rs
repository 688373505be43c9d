//! How many live blocks there are by glibc's own count, where that says what a seen block stands for.

use serde::{Deserialize, Serialize};

use super::chunk_sizes::ChunkSizes;

/// Fewer blocks of a size that were seen say nothing of who else made more of them.
const ENOUGH: u64 = 10;
/// No more times more than was seen is taken for blocks of those who were seen.
const MOST_MORE: f64 = 4.0;

/// How many live blocks one that was seen stands for, by its size, where the heap's chunks say so: what a
/// target does while probes are armed can be rarer or more frequent than at other times, so that the part
/// of its work that was seen need not be the part of its live blocks that was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Room {
    /// Of sizes for which it is known, in any order.
    classes: Vec<ClassRoom>,
}

/// Of a class of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct ClassRoom {
    /// See [`ChunkSizes::class_of_request`].
    class: u8,
    /// How many blocks one stands for.
    factor: f64,
}

/// Live blocks of a class of sizes, as they were seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// How many.
    pub count: u64,
    /// How many they stand for, by how densely samples were taken.
    pub seeming: f64,
}

impl Seen {
    /// One more, which stands for so many.
    pub fn add(&mut self, weight: f64) {
        self.count += 1;
        self.seeming += weight;
    }
}

/// Chunks in use, by the heap itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunksInUse {
    /// About when the window was opened; `None` where nobody looked.
    pub before: Option<ChunkSizes>,
    /// When it was closed.
    pub after: ChunkSizes,
    /// The part of the time between both that was in the window.
    pub in_window: f64,
}

impl ChunksInUse {
    /// How many live blocks of a class there are at least and at most, of those that were obtained in the
    /// window: others may have been freed in it.
    fn bounds(&self, class: usize) -> (f64, f64) {
        let after = self.after.of_class(class);
        let grown = self.before.map_or(0, |before| after.saturating_sub(before.of_class(class)));
        (grown as f64 * self.in_window, after as f64)
    }
}

impl Room {
    /// Where live blocks of each class of sizes were `seen`, each of which would stand for `factor` by the
    /// part of the time that was watched. All of the classes in which it is another number.
    pub fn new(seen: &[Seen; ChunkSizes::CLASSES], chunks: &ChunksInUse, factor: f64) -> Self {
        let room = |(class, seen): (usize, &Seen)| {
            let Seen { count, seeming } = *seen;
            let (least, most) = chunks.bounds(class);
            let more = if count < ENOUGH { 1.0 } else { MOST_MORE };
            let least = (least / seeming).min(more * factor);
            let by_chunks = factor.max(least).min(most / seeming).max(1.0);
            (seeming > 0.0 && by_chunks != factor)
                .then_some(ClassRoom { class: class as u8, factor: by_chunks })
        };
        Self { classes: seen.iter().enumerate().filter_map(room).collect() }
    }

    /// Nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.classes.is_empty()
    }

    /// How many live blocks one of this size stands for: `factor`, where the heap does not know better.
    pub fn factor_of(&self, requested_bytes: u64, factor: f64) -> f64 {
        let class = ChunkSizes::class_of_request(requested_bytes);
        let known = self.classes.iter().find(|known| usize::from(known.class) == class);
        let known = known.map(|known| known.factor);
        known.filter(|known| known.is_finite() && *known >= 1.0).unwrap_or(factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u64; 4] = [100, 1000, 10_000, 100_000];

    fn chunks(counts: [u64; 4]) -> ChunkSizes {
        let mut chunks = ChunkSizes::default();
        for (size, count) in SIZES.into_iter().zip(counts) {
            (0..count).for_each(|_| chunks.add((size + 8 + 15) & !15));
        }
        chunks
    }

    /// What a block of each size stands for, of which so many were seen, instead of 5.
    fn factors(seen: [u64; 4], before: Option<[u64; 4]>, after: [u64; 4]) -> [f64; 4] {
        factors_of_samples(seen.map(|count| (count, count as f64)), before, after)
    }

    /// The same where those that were seen are samples of so many.
    fn factors_of_samples(
        seen: [(u64, f64); 4],
        before: Option<[u64; 4]>,
        after: [u64; 4],
    ) -> [f64; 4] {
        let mut by_class = [Seen::default(); ChunkSizes::CLASSES];
        for (size, (count, seeming)) in SIZES.into_iter().zip(seen) {
            by_class[ChunkSizes::class_of_request(size)] = Seen { count, seeming };
        }
        let before = before.map(chunks);
        let chunks = ChunksInUse { before, after: chunks(after), in_window: 1.0 };
        let room = Room::new(&by_class, &chunks, 5.0);
        SIZES.map(|size| room.factor_of(size, 5.0))
    }

    #[test]
    fn a_block_stands_for_no_more_than_there_is_room_for() {
        let found = factors([0, 10, 10, 10], None, [0, 30, 100, 0]);
        assert_eq!(found, [5.0, 3.0, 5.0, 1.0]);
    }

    #[test]
    fn blocks_stand_for_what_the_heap_has_grown_by() {
        let found = factors([20; 4], Some([10, 10, 10, 500]), [110, 150, 210, 500]);
        assert_eq!(found, [5.0, 7.0, 10.0, 5.0]);
        let found = factors([20; 4], None, [110, 150, 210, 500]);
        assert_eq!(found, [5.0; 4], "nobody looked before");
    }

    #[test]
    fn what_the_heap_grew_by_before_the_window_is_left_out() {
        let (before, after) = (Some(chunks([0; 4])), chunks([200; 4]));
        let bounds = ChunksInUse { before, after, in_window: 0.75 }
            .bounds(ChunkSizes::class_of_request(SIZES[0]));
        assert_eq!(bounds, (150.0, 200.0));
    }

    #[test]
    fn what_few_were_seen_of_may_be_anybodys() {
        let found = factors([3, 20, 20, 3], Some([0; 4]), [500, 500, 100_000, 9]);
        assert_eq!(found, [5.0, 20.0, 20.0, 3.0], "25 of the second, of which 20 are too few");
    }

    #[test]
    fn a_few_samples_are_few_whatever_they_stand_for() {
        let seen = [(9, 20.0), (10, 20.0), (0, 0.0), (0, 0.0)];
        let found = factors_of_samples(seen, Some([0; 4]), [200, 200, 0, 0]);
        assert_eq!(found, [5.0, 10.0, 5.0, 5.0]);
    }

    #[test]
    fn what_a_file_says_that_cannot_be_is_not_believed() {
        for factor in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.5] {
            let class = ChunkSizes::class_of_request(1000) as u8;
            let room = Room { classes: vec![ClassRoom { class, factor }] };
            assert_eq!(room.factor_of(1000, 7.0), 7.0);
        }
    }
}
