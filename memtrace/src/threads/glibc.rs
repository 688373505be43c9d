//! glibc's lists of stacks. Since 2.34 `libc.so.6` exports where they are and how a thread's
//! descriptor is laid out, for libthread_db (nptl_db/structs.def); the lists themselves are in the
//! dynamic linker's `_rtld_global`.

use std::collections::HashSet;

use object::ReadRef;

use super::ThreadStack;
use crate::{
    elf::{Elf, ExportedData},
    model::{
        census::Extent,
        mapping::Mapping,
        memory::{PageState, Residency, TargetMemory},
    },
};

/// The dynamic linker's exported variable that holds the lists.
pub const LINKER_DATA: &str = "_rtld_global";

const USED: &str = "_thread_db_rtld_global__dl_stack_used";
const USER: &str = "_thread_db_rtld_global__dl_stack_user";
const LIST: &str = "_thread_db_pthread_list";
const TID: &str = "_thread_db_pthread_tid";
const SIZE: &str = "_thread_db_sizeof_pthread";

/// `list_t`: next and previous.
const LIST_BYTES: u64 = 16;
/// More threads than this are not followed; the kernel allows 4 million, nobody has them.
const MAX_THREADS: usize = 1 << 17;
/// A descriptor is about 2.3 KiB.
const MAX_DESCRIPTOR_BYTES: u32 = 64 << 10;
/// Between a descriptor and the end of its stack: static TLS alignment.
const MAX_GAP_BYTES: u64 = 64 << 10;

/// The lists, by their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackLists {
    /// `_dl_stack_used`, `_dl_stack_user` and `_dl_stack_cache` in [`LINKER_DATA`].
    heads: [u32; 3],
    /// A descriptor's link in its list.
    link: u32,
    /// A descriptor's thread id.
    tid: u32,
    /// A descriptor's size.
    descriptor_bytes: u32,
}

impl StackLists {
    /// What a `libc.so.6` says; `None` when it says nothing (before 2.34, or another library).
    pub fn of<'d, R: ReadRef<'d>>(libc: &Elf<'d, R>) -> Option<Self> {
        let exported = libc.exported_data(&[USED, USER, LIST, TID, SIZE]);
        let words = |name| words(libc, exported.iter().find(|data| data.name == name)?);
        // A field is described by its bits, its elements and its offset.
        let offset = |name| words(name)?.get(2).copied();
        let (used, user) = (offset(USED)?, offset(USER)?);
        let descriptor_bytes = *words(SIZE)?.first()?;
        let is_sane = (1..=MAX_DESCRIPTOR_BYTES).contains(&descriptor_bytes);
        is_sane.then_some(Self {
            // The cache follows the list that is exported last (sysdeps/generic/ldsodefs.h).
            heads: [used, user, used.max(user).checked_add(LIST_BYTES as u32)?],
            link: offset(LIST)?,
            tid: offset(TID)?,
            descriptor_bytes,
        })
    }

    /// The stacks of a process whose [`LINKER_DATA`] is at `linker_data`, except for its main
    /// thread's, whose id is `main_thread` to itself.
    pub fn stacks(
        &self,
        target: &Target<'_>,
        linker_data: u64,
        main_thread: u32,
    ) -> Vec<ThreadStack> {
        let mut stacks = Vec::new();
        for (head, is_cached) in self.heads.into_iter().zip([false, false, true]) {
            for descriptor in self.descriptors(target, linker_data.wrapping_add(head.into())) {
                let extent = self.extent(target, descriptor, main_thread);
                stacks.extend(extent.map(|extent| ThreadStack { extent, is_cached }));
            }
        }
        stacks
    }

    fn descriptors(&self, target: &Target<'_>, head: u64) -> Vec<u64> {
        let mut links = HashSet::new();
        let mut node = target.word(head);
        while let Some(link) = node.filter(|link| *link != head && *link != 0) {
            if links.len() == MAX_THREADS || !links.insert(link) {
                break;
            }
            node = target.word(link);
        }
        links.into_iter().map(|link| link.wrapping_sub(self.link.into())).collect()
    }

    fn extent(&self, target: &Target<'_>, descriptor: u64, main_thread: u32) -> Option<Extent> {
        let bytes = target.bytes(descriptor, self.descriptor_bytes as usize)?;
        let tid = bytes.get(self.tid as usize..)?.first_chunk().map(|it| u32::from_le_bytes(*it));
        // The main thread's descriptor is not on its stack.
        if tid? == main_thread {
            return None;
        }
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let end_of_descriptor = descriptor.checked_add(self.descriptor_bytes.into())?;
        let pairs = words.windows(2).map(|pair| (pair[0], pair[1]));
        let (start, end) = pairs
            .filter_map(|(start, size)| Some((start, start.checked_add(size)?)))
            .find(|(start, end)| {
                // `stackblock` and `stackblock_size`: the only whole pages around the descriptor.
                let whole_pages = start & 0xfff == 0 && end & 0xfff == 0 && *start != 0;
                let gap = end.checked_sub(end_of_descriptor);
                whole_pages && *start < descriptor && gap.is_some_and(|gap| gap <= MAX_GAP_BYTES)
            })?;
        target.without_guard(Extent { start, end })
    }
}

fn words<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, data: &ExportedData) -> Option<Vec<u32>> {
    let bytes = elf.bytes_at(data.address, data.size_bytes.min(12))?;
    Some(bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

/// A process as these lists are read from it.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its memory.
    pub memory: &'a dyn TargetMemory,
    /// Which of it is there.
    pub residency: &'a dyn Residency,
    /// Its mappings, by address.
    pub maps: &'a [Mapping],
}

impl Target<'_> {
    /// Reads what is present, and only that.
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let end = address.checked_add(length as u64)?;
        let page_end = end.checked_add(0xfff)? & !0xfff;
        let runs = self.residency.runs(address & !0xfff, page_end)?;
        let there = runs.iter().filter(|run| run.state != PageState::Swapped);
        let there: u64 = there.map(|run| run.end - run.start).sum();
        if there < page_end - (address & !0xfff) {
            return None;
        }
        let mut bytes = vec![0; length];
        self.memory.read(address, &mut bytes).then_some(bytes)
    }

    fn word(&self, address: u64) -> Option<u64> {
        self.bytes(address, 8)?.first_chunk().map(|word| u64::from_le_bytes(*word))
    }

    /// The part of a stack's memory above its guard: where it can be written to.
    fn without_guard(&self, block: Extent) -> Option<Extent> {
        let first = self.maps.partition_point(|mapping| mapping.end <= block.start);
        let writable = self.maps[first..].iter().find(|mapping| mapping.permissions.write)?;
        let start = writable.start.max(block.start);
        (start < block.end).then_some(Extent { start, end: block.end })
    }
}

#[cfg(test)]
mod tests;
