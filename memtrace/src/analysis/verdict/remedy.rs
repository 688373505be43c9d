//! What is worth trying, the most promising first.

use crate::model::{
    census::MallocParameters,
    size::{bytes, count},
    verdict::{Remedy, VerdictKind},
};

use super::{
    attribution::Part,
    decide::{Finding, share_of},
    facts::{Facts, HeapState},
    input::{SitePattern, TracedSite},
    pins,
};

/// Sites that are named.
const SITES: usize = 3;

/// A site is worth a fix when it holds this share of what is held.
const WORTH_A_FIX: f64 = 0.1;

/// A trim is worth a try when it gives back this share of RSS.
const WORTH_A_TRIM: f64 = 0.05;

/// More arenas than this are many; glibc allows eight for each CPU.
const MANY_ARENAS: usize = 4;

/// `DEFAULT_MMAP_THRESHOLD_MIN` of glibc's malloc.c: where the dynamic threshold begins.
const DEFAULT_MMAP_THRESHOLD: u64 = 128 << 10;

/// Python's own arenas matter from this share of the free memory on.
const PYMALLOC: f64 = 0.3;

pub(super) fn remedies(finding: &Finding, facts: &Facts) -> Vec<Remedy> {
    match finding.kind {
        VerdictKind::Leak => fixes(facts, false),
        VerdictKind::LiveGrowth => bound(finding, facts),
        VerdictKind::Fragmentation => fragmentation(facts),
        VerdictKind::AllocatorCache => cache(facts),
        VerdictKind::NotTheHeap => outside(finding, facts),
        VerdictKind::NotGrowing | VerdictKind::CannotTell => Vec::new(),
    }
}

fn remedy(action: impl Into<String>, why: impl Into<String>, expected: Option<u64>) -> Remedy {
    Remedy { action: action.into(), why: why.into(), expected_bytes: expected }
}

/// The sites that hold most, and are not known to be bounded.
fn fixes(facts: &Facts, maps: bool) -> Vec<Remedy> {
    let Some(traced) = facts.traced() else { return Vec::new() };
    let sites =
        || traced.sites.iter().filter(|it| it.maps == maps && it.pattern != SitePattern::Bounded);
    let total: u64 = sites().fold(0, |sum, it| sum.saturating_add(it.survivors.bytes));
    let worth = |it: &&TracedSite| share_of(it.survivors.bytes, total.max(1)) >= WORTH_A_FIX;
    sites().filter(worth).take(SITES).map(fix).collect()
}

fn fix(site: &TracedSite) -> Remedy {
    let held = site.survivors;
    let freed = match site.freed.count {
        0 => "none of what it allocated was freed".to_owned(),
        freed => format!("{} of {} blocks were freed", count(freed), count(site.allocated.count)),
    };
    remedy(
        format!("find out who still holds what {} allocates", site.name),
        format!("{freed}; {} is held in {}", bytes(held.bytes), count(held.count)),
        Some(held.bytes),
    )
}

fn bound(finding: &Finding, facts: &Facts) -> Vec<Remedy> {
    if finding.part.is_none() {
        return Vec::new();
    }
    let site = facts.traced().and_then(|traced| traced.sites.iter().find(|it| !it.maps));
    let Some(site) = site else { return Vec::new() };
    vec![remedy(
        format!("bound what {} keeps, if that is more than there is room for", site.name),
        "a cache or a queue may hold as much as it is allowed to",
        None,
    )]
}

fn fragmentation(facts: &Facts) -> Vec<Remedy> {
    let Some(heap) = facts.heap else { return vec![other_allocator(None)] };
    let pinning = pins::remedies(facts);
    let settings = [trim(&heap), arena_max(facts), mmap_threshold(facts)];
    let mut remedies: Vec<Remedy> =
        pinning.into_iter().chain(settings.into_iter().flatten()).collect();
    remedies.push(other_allocator(Some(&heap)));
    remedies.extend(without_pymalloc(&heap));
    remedies
}

fn trim(heap: &HeapState) -> Option<Remedy> {
    let worth = share_of(heap.trim_bytes, heap.rss_bytes) >= WORTH_A_TRIM;
    worth.then(|| {
        remedy(
            "call malloc_trim(0) from time to time",
            "it gives back free pages of all arenas, which free() does only at their ends",
            Some(heap.trim_bytes),
        )
    })
}

/// Each thread may get an arena of its own, and what one frees the others cannot use.
fn arena_max(facts: &Facts) -> Option<Remedy> {
    let heaps = facts.input.after.iter().flat_map(|census| &census.glibc);
    let is_set = heaps.into_iter().any(|heap| heap.parameters.arena_max > 0);
    let arenas = facts.glibc_arenas().count();
    if is_set || arenas < MANY_ARENAS {
        return None;
    }
    let stranded = match facts.stranded_arenas() {
        (0, _) => String::new(),
        (number, resident) => {
            format!(", {number} of them ({}) of threads that are gone", bytes(resident))
        }
    };
    Some(remedy(
        "restart with MALLOC_ARENA_MAX=2",
        format!(
            "free memory is spread over {arenas} arenas{stranded}; with fewer, threads share it, \
             and wait for each other more often"
        ),
        None,
    ))
}

/// The threshold moves up by itself when a mapped block is freed: then blocks that were mapped one
/// by one, and given back whole, come to lie in arenas.
fn mmap_threshold(facts: &Facts) -> Option<Remedy> {
    let heaps = facts.input.after.iter().flat_map(|census| &census.glibc);
    let highest = heaps.map(|heap| heap.parameters).max_by_key(|it| it.mmap_threshold_bytes)?;
    if highest.mmap_threshold_bytes <= DEFAULT_MMAP_THRESHOLD {
        return None;
    }
    let how = if is_dynamic(&highest) { "has raised itself" } else { "was set" };
    Some(remedy(
        format!("restart with MALLOC_MMAP_THRESHOLD_={DEFAULT_MMAP_THRESHOLD}"),
        format!(
            "it {how} to {}: smaller blocks lie in arenas; fixed, large blocks are mapped and \
             given back one by one, at the price of a system call and page faults each",
            bytes(highest.mmap_threshold_bytes)
        ),
        None,
    ))
}

/// glibc's free() moves both thresholds together, the second to twice the first.
fn is_dynamic(parameters: &MallocParameters) -> bool {
    parameters.trim_threshold_bytes == parameters.mmap_threshold_bytes.saturating_mul(2)
}

fn other_allocator(heap: Option<&HeapState>) -> Remedy {
    let at_most = heap.map_or(String::new(), |heap| {
        format!("; at most the {} that is trapped can be won", bytes(heap.arenas.trapped_bytes))
    });
    remedy(
        "restart with another allocator (LD_PRELOAD of libjemalloc.so.2 or libmimalloc.so)",
        format!(
            "they keep blocks of one size together and give pages back after a while, so that RSS \
             should settle nearer to what is in use{at_most}"
        ),
        None,
    )
}

fn without_pymalloc(heap: &HeapState) -> Option<Remedy> {
    let free = heap.pymalloc.trapped_bytes + heap.pymalloc.returnable_bytes;
    let share = share_of(free, free.saturating_add(heap.arenas.trapped_bytes));
    (share >= PYMALLOC).then(|| {
        remedy(
            "restart with PYTHONMALLOC=malloc, together with another allocator",
            format!(
                "{} is free in Python's own arenas, each of which is only given back when it is \
                 empty; small objects get slower with glibc's malloc",
                bytes(free)
            ),
            None,
        )
    })
}

fn cache(facts: &Facts) -> Vec<Remedy> {
    let Some(heap) = facts.heap else { return Vec::new() };
    [trim(&heap), trim_threshold(facts, &heap), tcache(&heap), without_pymalloc(&heap)]
        .into_iter()
        .flatten()
        .collect()
}

fn trim_threshold(facts: &Facts, heap: &HeapState) -> Option<Remedy> {
    let heaps = facts.input.after.iter().flat_map(|census| &census.glibc);
    let threshold = heaps.map(|heap| heap.parameters.trim_threshold_bytes).max()?;
    let worth = share_of(heap.arenas.top_bytes, heap.rss_bytes) >= WORTH_A_TRIM;
    worth.then(|| {
        remedy(
            format!("restart with MALLOC_TRIM_THRESHOLD_={DEFAULT_MMAP_THRESHOLD}"),
            format!(
                "the unused end of an arena is only given back above the threshold, which is {} \
                 now",
                bytes(threshold)
            ),
            Some(heap.arenas.top_bytes),
        )
    })
}

fn tcache(heap: &HeapState) -> Option<Remedy> {
    let worth = share_of(heap.arenas.cached_bytes, heap.rss_bytes) >= WORTH_A_TRIM;
    worth.then(|| {
        remedy(
            "restart with GLIBC_TUNABLES=glibc.malloc.tcache_count=0",
            "each thread keeps freed blocks for itself; without that, malloc takes a lock more often",
            Some(heap.arenas.cached_bytes),
        )
    })
}

fn outside(finding: &Finding, facts: &Facts) -> Vec<Remedy> {
    match finding.part {
        Some(Part::Mappings) => fixes(facts, true),
        Some(Part::Shmem) => vec![remedy(
            "look for files in /dev/shm and other tmpfs, memfd and System V segments (`ipcs -m`)",
            "they stay until they are removed, and count for whoever has them mapped",
            None,
        )],
        Some(Part::Stacks) => vec![remedy(
            "run fewer threads, or give them smaller stacks",
            "each thread keeps the deepest part of its stack that it ever used",
            None,
        )],
        Some(Part::Files) => vec![remedy(
            "nothing, unless the machine is short of memory; then map less of the files at once",
            "the kernel takes clean pages of files back when it needs memory",
            None,
        )],
        _ => Vec::new(),
    }
}
