//! Which blocks are followed: their addresses, in a table that the kernel side asks at each free.
//!
//! A free must cost next to nothing when its block is not followed, which most are not. So the table
//! is an array of buckets of one cache line each, and an address has one bucket: a look-up reads one
//! line, and takes no lock. What is obtained of it, is obtained by exchanging one word.
//!
//! A word is an address and, in the upper byte that user addresses leave free, the program image
//! that it is of: an exec makes what is from before it free places.

/// Addresses that have a place in common.
pub type Bucket = [u64; PLACES];

/// Places in a bucket, a cache line of words.
pub const PLACES: usize = 8;

/// Where the image is in a word. User addresses have at most 56 bits (five-level page tables).
const IMAGE_SHIFT: u32 = 56;

/// The words of a bucket, which several CPUs use at once.
pub trait Places {
    /// Reads a word.
    fn load(&self, place: usize) -> u64;

    /// Puts `new` where `old` is; `false` when something else is there by now.
    fn replace(&self, place: usize, old: u64, new: u64) -> bool;
}

/// The bucket of an address, of a number that is a power of two.
#[inline(always)]
pub fn bucket_of(address: u64, buckets: u32) -> u32 {
    /// 2^64 divided by the golden ratio.
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    ((address >> 3).wrapping_mul(SPREAD) >> 32) as u32 & buckets.wrapping_sub(1)
}

/// What stands for an address of a program image; never 0 for a block's.
#[inline(always)]
pub fn word(address: u64, image: u64) -> u64 {
    address ^ image << IMAGE_SHIFT
}

/// Remembers a word of [`word`]; `false` when all places are taken.
#[inline(always)]
pub fn insert(places: &impl Places, word: u64) -> bool {
    // When its release was not seen it is there already. The free places are looked for anew:
    // what the verifier has to remember of each place would double what it has to follow.
    contains(places, word) || insert_new(places, word)
}

#[inline(always)]
fn contains(places: &impl Places, word: u64) -> bool {
    for place in 0..PLACES {
        if places.load(place) == word {
            return true;
        }
    }
    false
}

#[inline(always)]
fn insert_new(places: &impl Places, word: u64) -> bool {
    for place in 0..PLACES {
        let there = places.load(place);
        let is_free = there == 0 || there >> IMAGE_SHIFT != word >> IMAGE_SHIFT;
        if is_free && places.replace(place, there, word) {
            return true;
        }
    }
    false
}

/// Forgets a word; whether it was there.
#[inline(always)]
pub fn remove(places: &impl Places, word: u64) -> bool {
    for place in 0..PLACES {
        if places.load(place) == word {
            return places.replace(place, word, 0);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::atomic::{AtomicU64, Ordering},
        thread,
    };

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Shared([AtomicU64; PLACES]);

    impl Places for Shared {
        fn load(&self, place: usize) -> u64 {
            self.0[place].load(Ordering::Relaxed)
        }

        fn replace(&self, place: usize, old: u64, new: u64) -> bool {
            self.0[place].compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        }
    }

    proptest! {
        #[test]
        fn a_bucket_is_a_set_of_at_most_so_many(
            steps in prop::collection::vec((any::<bool>(), 1_u64..20), 0..200),
        ) {
            let (places, mut set) = (Shared::default(), HashSet::new());
            for (is_insert, address) in steps {
                let word = word(address << 4, 3);
                if is_insert {
                    let fits = set.contains(&word) || set.len() < PLACES;
                    prop_assert_eq!(insert(&places, word), fits);
                    if fits {
                        set.insert(word);
                    }
                } else {
                    prop_assert_eq!(remove(&places, word), set.remove(&word));
                }
            }
        }

        #[test]
        fn every_address_has_a_bucket(address in any::<u64>(), bits in 0_u32..20) {
            prop_assert!(bucket_of(address, 1 << bits) < 1 << bits);
        }
    }

    #[test]
    fn what_is_from_before_an_exec_is_a_free_place_and_not_found() {
        let places = Shared::default();
        for address in 1..=PLACES as u64 {
            assert!(insert(&places, word(address << 4, 0)));
        }
        assert!(!insert(&places, word(0x1000, 0)), "full");
        assert!(!remove(&places, word(0x10, 1)), "the same address in the next image");
        assert!(insert(&places, word(0x1000, 1)));
        assert!(remove(&places, word(0x1000, 1)));
    }

    #[test]
    fn threads_that_meet_in_a_bucket_do_not_lose_each_others_words() {
        let places = Shared::default();
        thread::scope(|scope| {
            for thread in 1..=4_u64 {
                let places = &places;
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let word = word(thread << 20 | (round % 7) << 4, 0);
                        // Four words at most in eight places: there is always room.
                        assert!(insert(places, word));
                        assert!(remove(places, word));
                    }
                });
            }
        });
        assert!((0..PLACES).all(|place| places.load(place) == 0));
    }

    #[test]
    fn neighbouring_blocks_are_spread() {
        let buckets: HashSet<_> = (0..1000_u64).map(|it| bucket_of(it * 16, 1 << 18)).collect();
        assert!(buckets.len() > 950, "{}", buckets.len());
    }
}
