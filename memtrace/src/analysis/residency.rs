//! What RSS consists of: every resident page belongs to one row of the table, and the rows add up
//! to what the kernel counts.
//!
//! The walkers of allocators say which addresses are theirs and what is on the resident pages
//! there; everything else is told by the mapping and the kind of the page.

mod claims;
mod table;

use std::collections::BTreeMap;

use crate::model::{
    census::RssKind,
    mapping::Mapping,
    memory::{PageRun, PageState},
};

pub use self::{
    claims::{Claim, Claims, Owner},
    table::{Heaps, table},
};

/// A mapping and the runs of pages in it.
#[derive(Clone, Debug)]
pub struct MappingRuns<'a> {
    /// The mapping.
    pub mapping: &'a Mapping,
    /// Its pages.
    pub runs: Vec<PageRun>,
    /// Its file lives in memory (tmpfs).
    pub in_memory: bool,
}

/// Resident bytes by what they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageCount {
    /// All of them: VmRSS by the page tables.
    pub resident_bytes: u64,
    /// Part of it in huge pages.
    pub huge_bytes: u64,
    /// Swapped out, not in `resident_bytes`.
    pub swapped_bytes: u64,
    /// Mapped to the page of zeros, not in `resident_bytes`.
    pub zero_bytes: u64,
    /// Part of `resident_bytes` at addresses that walkers account for.
    pub walked_bytes: u64,
    /// The rest of `resident_bytes`.
    pub kinds: BTreeMap<RssKind, u64>,
}

impl PageCount {
    /// Counts the pages of a mapping.
    pub fn add(&mut self, pages: &MappingRuns<'_>, claims: &Claims) {
        for run in &pages.runs {
            let bytes = run.end - run.start;
            match run.state {
                PageState::Resident => self.add_resident(run, default_kind(pages, run), claims),
                PageState::Swapped => self.swapped_bytes += bytes,
                PageState::Zero => self.zero_bytes += bytes,
            }
        }
    }

    fn add_resident(&mut self, run: &PageRun, kind: RssKind, claims: &Claims) {
        let bytes = run.end - run.start;
        self.resident_bytes += bytes;
        if run.huge {
            self.huge_bytes += bytes;
        }
        let mut unclaimed = bytes;
        // Allocators use anonymous memory; a claim on a file's pages would be a mistake.
        if !run.file_backed {
            for (owner, bytes) in claims.within(run.start, run.end) {
                unclaimed -= bytes;
                self.add_claimed(owner, bytes);
            }
        }
        *self.kinds.entry(kind).or_default() += unclaimed;
    }

    fn add_claimed(&mut self, owner: Owner, bytes: u64) {
        match owner {
            Owner::Walker => self.walked_bytes += bytes,
            Owner::Kind(kind) => *self.kinds.entry(kind).or_default() += bytes,
        }
    }
}

/// What a resident page is, if nobody claims it.
fn default_kind(pages: &MappingRuns<'_>, run: &PageRun) -> RssKind {
    let mapping = pages.mapping;
    match () {
        () if run.file_backed && (pages.in_memory || is_shared_memory(&mapping.name)) => {
            RssKind::Shmem
        }
        () if run.file_backed => RssKind::File,
        () if is_stack(&mapping.name) => RssKind::ThreadStacks,
        // A private mapping of /dev/zero is anonymous memory by another name.
        () if mapping.file.is_some() && mapping.name != "/dev/zero" => RssKind::PrivateFile,
        () => RssKind::OtherAnonymous,
    }
}

/// Shared memory without a mount that the process could see: memfd_create(2), shmget(2), and shared
/// anonymous mappings, by the names that mm/shmem.c and ipc/shm.c give them.
fn is_shared_memory(name: &str) -> bool {
    ["/memfd:", "/SYSV", "/dev/zero", "/dev/shm/"].iter().any(|start| name.starts_with(start))
}

/// The main thread's stack, and those that glibc names (`glibc.mem.decorate_maps`).
fn is_stack(name: &str) -> bool {
    name == "[stack]" || name.starts_with("[anon: glibc: pthread stack")
}

#[cfg(test)]
mod tests;
