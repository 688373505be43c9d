//! How much a heap moved while it was walked. Every stretch is read at another moment, so that a
//! block that goes from one to another can be seen twice, or never. Some stretches are walked again
//! at the end: by what changed in them follows how much changed in all.

use super::{
    chain::{Chain, Stretch},
    inquiry::{Chunk, Observer},
    part::Part,
    segment::{Segment, Surveyor},
    tcache::Candidates,
};

/// Of so many stretches, one is walked again.
const SAMPLED_OF: usize = 32;
/// But at least so many of a heap: a small one is walked again as a whole.
const SAMPLED_AT_LEAST: usize = 64;
/// And of each of its arenas.
const SAMPLED_OF_ARENA: usize = 8;
/// Standard errors that the bound is away from the estimate: less than 1 in 100,000 are beyond,
/// if changes were as regular as that.
const STANDARD_ERRORS: f64 = 5.0;
/// What is live may have moved before the end of the walk as it did until then.
const SAFETY: f64 = 3.0;

/// How the bytes in use changed since they were found, as far as it can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Movement {
    /// Bytes that came or went, with their sign: an estimate.
    pub changed: f64,
    /// Of the estimate.
    pub variance: f64,
    /// Bytes that may be in use or not.
    pub lost: f64,
}

impl Movement {
    /// What the bytes in use that were found can be off by, at most.
    pub fn bound_bytes(&self) -> u64 {
        let certain = SAFETY * (self.changed.abs() + self.lost);
        (certain + STANDARD_ERRORS * self.variance.sqrt()).ceil() as u64
    }
}

impl std::ops::AddAssign for Movement {
    fn add_assign(&mut self, other: Self) {
        self.changed += other.changed;
        self.variance += other.variance;
        self.lost += other.lost;
    }
}

/// What walking some stretches again tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    stretches: usize,
    /// Bytes in use that came or went, with their sign.
    changed: f64,
    /// Sum of the squares.
    squares: f64,
    /// Bytes that could not be walked again.
    lost: f64,
}

/// Looks at a part of an arena again. `caches` are the chunks in tcaches, ascending, with their
/// sizes: what was freed last. `all` is the number of stretches of the whole heap.
pub fn measure<'s>(
    surveyor: &'s Surveyor<'s>,
    part: &Part,
    caches: &[(u64, u64)],
    all: usize,
) -> Movement {
    let is_restless = |it: &Stretch| it.retried || has_cached(it, caches) || has_top(it, part);
    let most = most_of(part.stretches.len(), all);
    let mut nobody = Nobody;
    let mut chain = Chain::new(surveyor, &mut nobody, Candidates::default());
    let mut movement = Movement::default();
    for (count, chosen) in choose(&part.stretches, is_restless, most, part.after.address) {
        let mut sample = Sample::default();
        chosen.iter().for_each(|stretch| sample.add(&mut chain, part, *stretch));
        movement += sample.movement(count);
    }
    movement
}

/// How many of an arena's stretches are walked again.
fn most_of(stretches: usize, all: usize) -> usize {
    let share = SAMPLED_AT_LEAST * stretches / all.max(1);
    share.max(SAMPLED_OF_ARENA).max(stretches / SAMPLED_OF)
}

fn has_cached(stretch: &Stretch, caches: &[(u64, u64)]) -> bool {
    let next = caches.partition_point(|(chunk, _)| *chunk < stretch.start);
    caches.get(next).is_some_and(|(chunk, _)| *chunk < stretch.end)
}

/// Whether it is at the end of a heap.
fn has_top(stretch: &Stretch, part: &Part) -> bool {
    part.after.top.is_some_and(|top| (stretch.start..=stretch.end).contains(&top))
}

/// Of restless and of calm ones, how many there are, and those that are walked again: at most
/// `most`, half of them for restless ones.
fn choose(
    stretches: &[Stretch],
    is_restless: impl Fn(&Stretch) -> bool,
    most: usize,
    seed: u64,
) -> [(usize, Vec<Stretch>); 2] {
    let (restless, calm): (Vec<_>, Vec<_>) = stretches.iter().copied().partition(is_restless);
    let of_restless =
        spread(&restless, most.div_ceil(2).max(most.saturating_sub(calm.len())), seed);
    let of_calm = spread(&calm, most - of_restless.len().min(most - most / 2), seed);
    [(restless.len(), of_restless), (calm.len(), of_calm)]
}

/// One at random of each of `most` parts, so that all parts of the heap are represented.
fn spread(stretches: &[Stretch], most: usize, seed: u64) -> Vec<Stretch> {
    if stretches.len() <= most {
        return stretches.to_vec();
    }
    let border = |part: usize| part * stretches.len() / most;
    let pick = |part: usize| {
        let (start, end) = (border(part), border(part + 1));
        start + scatter(seed ^ part as u64) as usize % (end - start)
    };
    (0..most).map(|part| stretches[pick(part)]).collect()
}

/// A number that looks random (the finalizer of `SplitMix64`).
fn scatter(seed: u64) -> u64 {
    let mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

impl Sample {
    fn add(&mut self, chain: &mut Chain<'_, '_>, part: &Part, stretch: Stretch) {
        self.stretches += 1;
        let holds = |it: &&Segment| (it.start..it.end).contains(&stretch.start);
        let bytes = stretch.end - stretch.start;
        let Some(segment) = part.segments.iter().find(holds) else {
            self.lost += bytes as f64;
            return;
        };
        let (in_use, lost) = chain.walk_again(part.after.address, *segment, stretch);
        let lost = lost.min(bytes) as f64;
        let changed = in_use as f64 - stretch.in_use_bytes as f64;
        // What is lost is unknown, not free.
        let changed = changed.signum() * (changed.abs() - lost).max(0.0);
        self.changed += changed;
        self.squares += changed * changed;
        self.lost += lost;
    }

    /// What all stretches of a kind did, of which this is a sample.
    fn movement(&self, all: usize) -> Movement {
        if self.stretches == 0 {
            return Movement::default();
        }
        let (sampled, all) = (self.stretches as f64, all as f64);
        let mean = self.changed / sampled;
        let deviations = (self.squares - self.changed * mean).max(0.0);
        let variance = deviations / (sampled - 1.0).max(1.0);
        let unseen = (1.0 - sampled / all).max(0.0);
        Movement {
            changed: all * mean,
            variance: all * all * variance / sampled * unseen,
            lost: all * self.lost / sampled,
        }
    }
}

/// Sees nothing.
struct Nobody;

impl Observer for Nobody {
    fn is_interested(&self) -> bool {
        false
    }

    fn chunk(&mut self, _chunk: Chunk) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(count: u64) -> Vec<Stretch> {
        let stretch = |number| Stretch {
            start: number * 100,
            end: (number + 1) * 100,
            in_use_bytes: 50,
            retried: number % 10 == 0,
            anchors: Default::default(),
        };
        (0..count).map(stretch).collect()
    }

    #[test]
    fn a_small_heap_is_walked_again_as_a_whole() {
        assert_eq!((most_of(60, 60), most_of(3, 60), most_of(3200, 3200)), (64, 8, 100));
        let all = stretches(60);
        let [(restless, one), (calm, other)] = choose(&all, |it| it.retried, 64, 1);
        assert_eq!((restless, one.len(), calm, other.len()), (6, 6, 54, 54));
    }

    #[test]
    fn of_a_large_heap_a_part_is_walked_again_from_its_beginning_to_its_end() {
        let all = stretches(3200);
        let [(restless, one), (calm, other)] = choose(&all, |it| it.retried, 100, 1);
        assert_eq!((restless, one.len(), calm, other.len()), (320, 50, 2880, 50));
        assert!(other.windows(2).all(|pair| pair[0].start < pair[1].start));
        assert!(other.last().unwrap().start > 300_000, "{:?}", other.last());
    }

    #[test]
    fn what_is_seen_as_a_whole_is_as_far_off_as_it_changed() {
        let sample = Sample { stretches: 4, changed: -100.0, squares: 10_000.0, lost: 7.0 };
        let movement = sample.movement(4);
        assert_eq!(movement, Movement { changed: -100.0, variance: 0.0, lost: 7.0 });
        assert_eq!(movement.bound_bytes(), 321);
        assert_eq!(Sample::default().movement(0).bound_bytes(), 0);
    }

    #[test]
    fn what_was_not_seen_may_have_changed_more() {
        // 10 and -10: nothing in the mean.
        let sample = Sample { stretches: 2, changed: 0.0, squares: 200.0, lost: 0.0 };
        let movement = sample.movement(100);
        assert_eq!((movement.changed, movement.lost), (0.0, 0.0));
        assert!((movement.variance - 100.0 * 100.0 * 200.0 / 2.0 * 0.98).abs() < 1e-6);
    }

    #[test]
    fn what_goes_in_one_place_may_come_in_another() {
        let mut sum = Movement { changed: 50.0, variance: 9.0, lost: 1.0 };
        sum += Movement { changed: -50.0, variance: 16.0, lost: 0.0 };
        assert_eq!(sum.bound_bytes(), 28);
    }
}
