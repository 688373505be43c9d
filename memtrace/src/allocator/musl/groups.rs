//! What groups hold. A group can lie in a slot of a larger one, to any depth.
//!
//! Residency is exact to the byte: every slot's own part of its pages.

use super::layout::Group;
use crate::{
    allocator::{
        present::{NoResidency, Present, resident_bytes},
        ranges::Ranges,
    },
    model::{
        census::{Extent, MuslHeap},
        memory::{PageRun, Residency, TargetMemory},
        site::Amount,
    },
};

/// Groups that are looked at in one go.
const BATCH: usize = 1024;

/// Keeps the groups whose own header leads back to their meta, by address. The others are being
/// made or released, or in swap.
pub(super) fn confirmed<M: TargetMemory, R: Residency>(
    present: &mut Present<'_, M, R>,
    groups: &[Group],
    writable: &Ranges,
) -> Vec<Group> {
    let mut confirmed = Vec::with_capacity(groups.len());
    for batch in groups.chunks(BATCH) {
        let addresses: Vec<u64> = batch.iter().map(|group| group.memory).collect();
        let headers = present.read_each::<8>(&addresses);
        let pairs = batch.iter().zip(headers);
        let agrees = |(group, header): (&Group, Option<[u8; 8]>)| {
            let is_own = header.map(u64::from_le_bytes) == Some(group.meta);
            (is_own && writable.hold(group.extent())).then_some(*group)
        };
        confirmed.extend(pairs.filter_map(agrees));
    }
    confirmed.sort_unstable_by_key(|group| group.memory);
    confirmed.dedup_by_key(|group| group.memory);
    confirmed
}

/// Adds up groups, in the order of addresses.
pub(super) struct Sum<'a> {
    pub(super) heap: &'a mut MuslHeap,
    /// Memory of groups that are in no other group.
    pub(super) extents: Vec<Extent>,
    /// Pages of the last one of them.
    runs: Vec<PageRun>,
    /// The group before and those around it, the largest first, with the slots that hold groups.
    open: Vec<(Group, u32)>,
}

impl<'a> Sum<'a> {
    pub(super) fn new(heap: &'a mut MuslHeap) -> Self {
        Self { heap, extents: Vec::new(), runs: Vec::new(), open: Vec::new() }
    }

    /// Adds the next group.
    pub(super) fn add<M: TargetMemory, R: Residency>(
        &mut self,
        group: Group,
        present: &Present<'_, M, R>,
    ) -> Result<(), NoResidency> {
        self.close(group.memory);
        if self.open.is_empty() {
            let extent = group.extent();
            self.runs = present.runs(extent)?;
            self.extents.push(extent);
        } else if !self.nest(&group) {
            return Ok(());
        }
        self.open.push((group, 0));
        Ok(())
    }

    /// Takes a group out of the slot that it lies in. `false` when it is in no used slot as a whole:
    /// one of the two changed meanwhile.
    fn nest(&mut self, group: &Group) -> bool {
        let Some((parent, held)) = self.open.last_mut() else { return false };
        let slot = parent.slot_of(group.memory).filter(|slot| {
            group.mapped_bytes == 0
                && !parent.is_free(*slot)
                && group.extent().end <= parent.slot(*slot).end
                && *held >> slot & 1 == 0
        });
        let Some(slot) = slot else { return false };
        *held |= 1 << slot;
        let around = resident_bytes(&self.runs, parent.slot(slot));
        let inside = resident_bytes(&self.runs, group.extent());
        self.heap.resident.metadata_bytes += around - inside;
        true
    }

    /// Counts the groups that end before an address; with the last possible one, all.
    pub(super) fn close(&mut self, address: u64) {
        while let Some((group, held)) = self.open.pop_if(|(it, _)| it.extent().end <= address) {
            self.count(&group, held);
        }
    }

    fn count(&mut self, group: &Group, held: u32) {
        let margins: u64 =
            group.margins().iter().map(|margin| resident_bytes(&self.runs, *margin)).sum();
        self.heap.resident.metadata_bytes += margins;
        let is_kept = group.is_empty() && self.open.is_empty();
        for slot in (0..group.slots).filter(|slot| held >> slot & 1 == 0) {
            self.count_slot(group, slot, is_kept);
        }
    }

    fn count_slot(&mut self, group: &Group, slot: u32, is_kept: bool) {
        let resident = resident_bytes(&self.runs, group.slot(slot));
        let amount = Amount::new(group.stride, 1);
        let kinds = &mut self.heap.resident;
        match group.is_free(slot) {
            false => {
                self.heap.in_use += amount;
                kinds.in_use_bytes += resident;
            }
            true => {
                self.heap.free += amount;
                let kind = if is_kept { &mut kinds.cached_bytes } else { &mut kinds.trapped_bytes };
                *kind += resident;
            }
        }
    }
}
