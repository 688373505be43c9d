//! The walk of mallocng's heap.

use thiserror::Error;

use super::{context, groups};
use crate::{
    allocator::{
        present::{NoResidency, Present, resident_bytes},
        ranges::{Ranges, writable_data},
    },
    model::{
        census::{Extent, MuslHeap},
        mapping::Mapping,
        memory::{Residency, TargetMemory},
    },
};

/// The first version with mallocng (unless it was built `--with-malloc=oldmalloc`).
const FIRST_WITH_MALLOCNG: [u32; 3] = [1, 2, 1];

/// A heap, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MuslWalk {
    /// What it holds.
    pub heap: MuslHeap,
    /// Where it is, by address: groups, and the pages that describe them.
    pub extents: Vec<Extent>,
}

/// Why a heap cannot be walked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MuslError {
    /// Before 1.2.1.
    #[error("musl {0} has its old allocator, which is not walked; 1.2.1 and later are")]
    OldMalloc(String),
    /// There is no sign of mallocng.
    #[error(
        "no heap of musl's was found: it has allocated nothing yet, was built with its old \
         allocator, or another allocator serves this program"
    )]
    NoContext,
    /// More groups than are walked.
    #[error("the heap is too large to be walked: it has more than a million groups")]
    TooLarge,
    /// Nothing can be read.
    #[error(transparent)]
    NoResidency(#[from] NoResidency),
}

/// Walks musl's heap. `libc` is a mapping of the object that it is in: `ld-musl-x86_64.so.1`, or a
/// static program; `version` is its version, where it says it.
///
/// The target may run: each group is counted as its meta said at one moment.
///
/// # Errors
/// [`MuslError`].
pub fn walk(
    memory: &impl TargetMemory,
    residency: &impl Residency,
    mappings: &[Mapping],
    libc: &Mapping,
    version: Option<&str>,
) -> Result<MuslWalk, MuslError> {
    if let Some(version) = version.filter(|version| is_before_mallocng(version)) {
        return Err(MuslError::OldMalloc(version.to_owned()));
    }
    let mut present = Present::new(memory, residency);
    let data = libc.file.map(|file| writable_data(mappings, file)).unwrap_or_default();
    let metas = context::find(&mut present, &data)?.ok_or(MuslError::NoContext)?;
    let mut heap = MuslHeap { path: libc.name.clone(), ..MuslHeap::default() };
    let mut sum = groups::Sum::new(&mut heap);
    let writable = Ranges::writable(mappings);
    for group in groups::confirmed(&mut present, &metas.groups, &writable) {
        sum.add(group, &present)?;
    }
    sum.close(u64::MAX);
    let mut extents = sum.extents;
    for area in metas.areas {
        heap.resident.metadata_bytes += resident_bytes(&present.runs(area)?, area);
        extents.push(area);
    }
    extents.sort_unstable();
    Ok(MuslWalk { heap, extents })
}

fn is_before_mallocng(version: &str) -> bool {
    let numbers = version.split('.').map(|number| number.parse().ok());
    numbers.collect::<Option<Vec<u32>>>().is_some_and(|it| it[..] < FIRST_WITH_MALLOCNG[..])
}

#[cfg(test)]
mod tests;
