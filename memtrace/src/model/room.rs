//! How many blocks there is room for in glibc's heap, where it bounds what a seen block stands for.

use serde::{Deserialize, Serialize};

use super::chunk_sizes::ChunkSizes;

/// How many live blocks one that was seen stands for at most, by its size: the heap has no more chunks in
/// use. What a target does while probes are armed can be rarer or more frequent than at other times, so that
/// the part of its work that was seen need not be the part of its live blocks that was.
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

impl Room {
    /// Where blocks of a class of sizes seem to be `seeming` and there are no more than `chunks`. All of
    /// the classes in which one stands for less than `factor` then.
    pub fn new(seeming: &[f64; ChunkSizes::CLASSES], chunks: &ChunkSizes, factor: f64) -> Self {
        let room = |(class, seeming): (usize, &f64)| {
            let most = chunks.of_class(class) as f64 / seeming;
            (*seeming > 0.0 && most < factor)
                .then_some(ClassRoom { class: class as u8, factor: most.max(1.0) })
        };
        Self { classes: seeming.iter().enumerate().filter_map(room).collect() }
    }

    /// Nothing is bounded.
    pub fn is_unknown(&self) -> bool {
        self.classes.is_empty()
    }

    /// How many live blocks one of this size stands for, if it were `factor`: no more, and at least itself.
    pub fn bound(&self, requested_bytes: u64, factor: f64) -> f64 {
        let class = ChunkSizes::class_of_request(requested_bytes);
        let known = self.classes.iter().find(|known| usize::from(known.class) == class);
        let most = known.map(|known| known.factor).filter(|most| *most >= 1.0);
        most.map_or(factor, |most| most.min(factor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_stands_for_no_more_than_there_is_room_for() {
        let mut chunks = ChunkSizes::default();
        (0..30).for_each(|_| chunks.add(1008));
        (0..100).for_each(|_| chunks.add(10_016));
        let mut seeming = [0.0; ChunkSizes::CLASSES];
        for (size, count) in [(1000, 10.0), (10_000, 10.0), (100_000, 10.0)] {
            seeming[ChunkSizes::class_of_request(size)] = count;
        }
        let room = Room::new(&seeming, &chunks, 5.0);
        let found = [100, 1000, 10_000, 100_000].map(|size| room.bound(size, 5.0));
        assert_eq!(found, [5.0, 3.0, 5.0, 1.0]);
        assert_eq!(room.bound(1000, 2.0), 2.0);
        assert!(!room.is_unknown() && Room::default().is_unknown());
    }

    #[test]
    fn what_a_file_says_that_cannot_be_bounds_nothing() {
        for factor in [f64::NAN, f64::NEG_INFINITY, 0.5] {
            let class = ChunkSizes::class_of_request(1000) as u8;
            let room = Room { classes: vec![ClassRoom { class, factor }] };
            assert_eq!(room.bound(1000, 7.0), 7.0);
        }
    }
}
