//! Every page of a process, counted after the heaps were walked.

use std::collections::HashMap;

use super::{InspectError, layout::add_pages};
use crate::{
    analysis::residency::{Claim, Claims, MappingRuns, Owner, PageCount},
    model::{
        census::{Extent, RssKind},
        layout::HeapLayout,
        mapping::Mapping,
        memory::Residency as _,
    },
    sys::{
        pagemap::Pagemap,
        procfs::{MappingPages, ProcError, ProcFs},
    },
};

/// The kernel's own page at an address beyond user space, which counts for nobody.
const BEYOND: &str = "[vsyscall]";

/// The pages, and what only the kernel's sums tell.
pub(super) struct Pages {
    pub(super) count: PageCount,
    pub(super) huge_bytes: u64,
    pub(super) lazy_free_bytes: u64,
}

/// A range that is of one kind as a whole.
pub(super) fn claim(start: u64, end: u64, kind: RssKind) -> Claim {
    Claim { extent: Extent { start, end }, owner: Owner::Kind(kind) }
}

/// Counts, and tells `layout` which pages there are.
pub(super) fn count(
    proc: &ProcFs,
    pid: u32,
    pagemap: &Pagemap,
    claims: &Claims,
    mut layout: Option<&mut HeapLayout>,
) -> Result<Pages, InspectError> {
    let sums = proc.mapping_pages(pid)?;
    let uncounted: HashMap<u64, &MappingPages> =
        sums.iter().filter(|it| it.is_uncounted).map(|it| (it.start, it)).collect();
    let in_memory = proc.devices_in_memory(pid).unwrap_or_default();
    let mut count = PageCount::default();
    for mapping in &proc.maps(pid)? {
        if mapping.name == BEYOND || uncounted.contains_key(&mapping.start) {
            continue;
        }
        let runs = pagemap.runs(mapping.start, mapping.end).ok_or(ProcError::Ended { pid })?;
        let in_memory = mapping.file.is_some_and(|file| in_memory.contains(&file.device));
        layout.iter_mut().for_each(|layout| add_pages(layout, &runs));
        count.add(&MappingRuns { mapping, runs, in_memory }, claims);
    }
    if !pagemap.tells_zero_pages() {
        // Counted as resident above; the kernel's sums tell them, but not where they are.
        let resident = sums.iter().map(|it| it.rss_bytes).sum();
        count.zero_bytes = count.resident_bytes.saturating_sub(resident);
        count.resident_bytes = resident;
    }
    Ok(Pages {
        count,
        huge_bytes: sums.iter().map(|it| it.huge_bytes).sum(),
        lazy_free_bytes: sums.iter().map(|it| it.lazy_free_bytes).sum(),
    })
}

/// The program break's memory, which belongs to a heap that could not be walked.
pub(super) fn unwalked_break(maps: &[Mapping]) -> impl Iterator<Item = Claim> {
    let heap = maps.iter().filter(|mapping| mapping.name == "[heap]");
    heap.map(|mapping| claim(mapping.start, mapping.end, RssKind::HeapUnknown))
}
