//! Finds the `arenas` array without symbols: it is a static of the interpreter up to 3.11, and in
//! the main interpreter's state later. Either way a word of the interpreter's writable data leads
//! to it, and hardly anything else looks like it.

use super::layout::{ARENA_OBJECT_BYTES, ArenaObject, Geometry, Pool, Slot};
use crate::{
    allocator::{
        present::{NoResidency, Present},
        ranges::Ranges,
    },
    model::{
        census::Extent,
        memory::{Residency, TargetMemory},
    },
};

/// `INITIAL_ARENA_OBJECTS`; the array's length doubles from there.
const INITIAL_SLOTS: usize = 16;

const INITIAL_BYTES: usize = INITIAL_SLOTS * ARENA_OBJECT_BYTES;

/// 256 GiB of arenas (64 GiB up to 3.9), and 12 MiB of slots.
const MAX_SLOTS: usize = 1 << 18;

/// Candidates that are looked at in one go.
const BATCH: usize = 512;

/// More interpreters than that are not in one object's data.
const MAX_ARRAYS: usize = 8;

/// Arenas whose pools are looked at to learn the sizes.
const SAMPLE: usize = 16;

/// An array, with the sizes that its pools prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArenaArray {
    pub(super) geometry: Geometry,
    /// By address.
    pub(super) arenas: Vec<ArenaObject>,
}

/// The arrays that writable data leads to. `anonymous` is where arrays and arenas can be.
pub(super) fn find<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    data: &[Extent],
    anonymous: &Ranges,
) -> Result<Vec<ArenaArray>, NoResidency> {
    let mut arrays = Vec::new();
    for addresses in candidates(present, data, anonymous)?.chunks(BATCH) {
        let starts = present.read_each::<INITIAL_BYTES>(addresses);
        for (address, start) in addresses.iter().zip(starts) {
            let looks_right = start.is_some_and(|start| {
                slots(*address, 0, &start, anonymous).is_some_and(|it| !it.is_empty())
            });
            if looks_right && arrays.len() < MAX_ARRAYS {
                arrays.extend(complete(present, *address, anonymous));
            }
        }
    }
    Ok(arrays)
}

/// Words that can be the address of an array: `malloc` aligns to 16.
fn candidates<M: TargetMemory, R: Residency>(
    present: &Present<'_, M, R>,
    data: &[Extent],
    anonymous: &Ranges,
) -> Result<Vec<u64>, NoResidency> {
    let mut found = Vec::new();
    for range in data {
        present.words(*range, |_, word| {
            let start = Extent { start: word, end: word.saturating_add(INITIAL_BYTES as u64) };
            if word % 16 == 0 && anonymous.hold(start) {
                found.push(word);
            }
        })?;
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The whole array. Its length need not be known: behind its end nothing looks like slots of it
/// with arenas whose pools know their number.
fn complete<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    address: u64,
    anonymous: &Ranges,
) -> Option<ArenaArray> {
    let (mut arenas, mut length) = (Vec::new(), 0);
    while length < MAX_SLOTS {
        let more = length.max(INITIAL_SLOTS);
        let mut bytes = vec![0; more * ARENA_OBJECT_BYTES];
        let start = address.saturating_add((length * ARENA_OBJECT_BYTES) as u64);
        let is_read = present.read(start, &mut bytes);
        let Some(found) = is_read.then(|| slots(address, length, &bytes, anonymous)).flatten()
        else {
            break;
        };
        arenas.extend(found);
        length += more;
    }
    arenas.sort_unstable_by_key(|arena| arena.address);
    proven(present, arenas, anonymous)
}

/// The arenas in slots from a number on; `None` when one of them cannot be a slot.
fn slots(array: u64, first: usize, bytes: &[u8], anonymous: &Ranges) -> Option<Vec<ArenaObject>> {
    let mut arenas = Vec::new();
    for (slot, index) in bytes.as_chunks::<ARENA_OBJECT_BYTES>().0.iter().zip(first..) {
        match Slot::decode(u32::try_from(index).ok()?, slot)? {
            Slot::Free { next } if next == 0 || is_slot(array, next) => {}
            Slot::Arena(arena) if anonymous.hold(arena.extent(Geometry::ALL[0])) => {
                arenas.push(arena)
            }
            _ => return None,
        }
    }
    Some(arenas)
}

fn is_slot(array: u64, address: u64) -> bool {
    let offset = address.checked_sub(array);
    let slot_bytes = ARENA_OBJECT_BYTES as u64;
    offset.is_some_and(|it| it % slot_bytes == 0 && it / slot_bytes < MAX_SLOTS as u64)
}

/// Keeps the arenas only if their pools say that they are such.
fn proven<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    arenas: Vec<ArenaObject>,
    anonymous: &Ranges,
) -> Option<ArenaArray> {
    let mut best: Option<(usize, Geometry)> = None;
    for geometry in Geometry::ALL {
        let votes = votes(present, &arenas, geometry);
        if votes > best.map_or(0, |(most, _)| most) {
            best = Some((votes, geometry));
        }
    }
    let (_, geometry) = best?;
    let fits = arenas.iter().all(|it| {
        let extent = it.extent(geometry);
        it.pool_address <= extent.end && anonymous.hold(extent)
    });
    let apart = arenas
        .windows(2)
        .all(|pair| pair[0].extent(geometry).end <= pair[1].extent(geometry).start);
    (fits && apart).then_some(ArenaArray { geometry, arenas })
}

/// How many pools of some arenas are in use by headers that fit these sizes; 0 when more do not fit.
/// Every arena has a pool in use: without one it is released.
fn votes<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    arenas: &[ArenaObject],
    geometry: Geometry,
) -> usize {
    let sample = arenas.iter().step_by(arenas.len().div_ceil(SAMPLE).max(1));
    let pools: Vec<(u32, u64)> = sample
        .flat_map(|arena| {
            let carved = arena.pools(geometry).take_while(|pool| pool.start < arena.pool_address);
            carved.map(|pool| (arena.index, pool.start))
        })
        .collect();
    let addresses: Vec<u64> = pools.iter().map(|(_, address)| *address).collect();
    let headers = present.read_each(&addresses);
    let read =
        pools.iter().zip(&headers).filter_map(|(pool, header)| Some((pool, header.as_ref()?)));
    let (mut used, mut wrong) = (0, 0);
    for ((index, _), header) in read {
        match Pool::decode(header, *index, geometry) {
            Some(Pool::Used { .. }) => used += 1,
            Some(Pool::Free) => {}
            None => wrong += 1,
        }
    }
    if used > wrong { used } else { 0 }
}
