//! The addresses of the blocks that are followed; see [`memtrace_common::remembered`].

use aya_ebpf::{macros::map, maps::Array};
use memtrace_common::{
    config::Config,
    loss::KernelLoss,
    remembered::{self, Bucket, PLACES, Places, bucket_of, word},
};

use crate::{
    atomic,
    maps::{count_loss, image},
};

/// The number of buckets is chosen at load, and in [`Config::remembered_buckets`].
#[map]
static REMEMBERED: Array<Bucket> = Array::with_max_entries(1, 0);

/// A bucket in the map.
struct Shared(*mut Bucket);

impl Shared {
    #[inline(always)]
    fn place(&self, place: usize) -> *mut u64 {
        // SAFETY: the mask keeps inside of the bucket, which is an element of an array map.
        unsafe { self.0.cast::<u64>().add(place & (PLACES - 1)) }
    }
}

impl Places for Shared {
    #[inline(always)]
    fn load(&self, place: usize) -> u64 {
        // SAFETY: as above. Other CPUs change words as a whole.
        unsafe { self.place(place).read_volatile() }
    }

    #[inline(always)]
    fn replace(&self, place: usize, old: u64, new: u64) -> bool {
        atomic::replace(self.place(place), old, new)
    }
}

#[inline(always)]
fn bucket(config: &Config, address: u64) -> Option<Shared> {
    REMEMBERED.get_ptr_mut(bucket_of(address, config.remembered_buckets)).map(Shared)
}

/// Follows a block; `false`, and counted, where there is no place. Always `true` when all blocks are
/// followed.
#[inline(always)]
pub fn insert(config: &Config, address: u64) -> bool {
    if !config.remembers() {
        return true;
    }
    insert_word(bucket_of(address, config.remembered_buckets), word(address, image())) != 0
}

/// [`insert`]; 0 where there is no place. Exported for the verifier's sake, see [`crate::stack`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn insert_word(bucket: u32, word: u64) -> u32 {
    let bucket = REMEMBERED.get_ptr_mut(bucket).map(Shared);
    let fits = bucket.is_some_and(|bucket| remembered::insert(&bucket, word));
    if !fits {
        count_loss(KernelLoss::SampledFull);
    }
    fits.into()
}

/// Follows a block no longer; whether it was followed. Always `true` when all blocks are.
#[inline(always)]
pub fn remove(config: &Config, address: u64) -> bool {
    if !config.remembers() {
        return true;
    }
    bucket(config, address)
        .is_some_and(|bucket| remembered::remove(&bucket, word(address, image())))
}
