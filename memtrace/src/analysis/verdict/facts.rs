//! The numbers that decisions are made by.

use crate::model::{
    census::{Arena, Census, HeapResidency},
    timeline::TimelineSample,
};

use super::{
    attribution::{Attribution, Part},
    input::{Traced, VerdictInput},
    shape::{Shape, shape},
};

/// RSS changes by that much without a reason.
const NOISE_BYTES: u64 = 1 << 20;

/// Large processes have more of it: one part in this many.
const NOISE_PARTS: u64 = 1000;

/// Fewer samples of one source are not its line.
const LINE_SAMPLES: usize = 8;

/// Everything that the parts of a verdict look at.
pub(super) struct Facts<'a> {
    pub(super) input: &'a VerdictInput,
    /// Growth of RSS.
    pub(super) grown: i64,
    /// Growth up to that means nothing.
    pub(super) noise: u64,
    /// What the growth consists of.
    pub(super) growth: Attribution,
    /// How memory in use went; RSS where that is not known.
    pub(super) shape: Shape,
    /// How RSS went.
    pub(super) rss_shape: Shape,
    /// The heap at the end.
    pub(super) heap: Option<HeapState>,
}

/// The walked heaps at one moment. Resident bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeapState {
    /// Of glibc's and musl's heaps, without blocks that are mapped one by one.
    pub(super) arenas: HeapResidency,
    /// Of pymalloc's.
    pub(super) pymalloc: HeapResidency,
    /// What `malloc_trim(0)` would return.
    pub(super) trim_bytes: u64,
    /// RSS at that time.
    pub(super) rss_bytes: u64,
}

/// Parts that are refused as a whole when a heap cannot be walked.
const HEAPS: [&str; 4] = ["glibc", "musl", "heap", "pymalloc"];

/// Whether a heap is there that could not be walked, so that its memory is in other rows.
pub(super) fn hides_heap(census: &Census) -> bool {
    census.refusals.iter().any(|refusal| HEAPS.contains(&refusal.part.as_str()))
}

impl HeapState {
    fn of(census: &Census) -> Option<Self> {
        let mut state = Self { rss_bytes: census.rss.rss_bytes, ..Self::default() };
        for heap in &census.glibc {
            state.arenas += heap.resident();
            state.trim_bytes = state.trim_bytes.saturating_add(heap.trim_bytes);
        }
        census.musl.iter().for_each(|heap| state.arenas += heap.resident);
        census.pymalloc.iter().for_each(|heap| state.pymalloc += heap.resident);
        (state.walked_bytes() > 0).then_some(state)
    }

    pub(super) fn walked_bytes(&self) -> u64 {
        self.arenas.total_bytes().saturating_add(self.pymalloc.total_bytes())
    }

    pub(super) fn trapped_bytes(&self) -> u64 {
        self.arenas.trapped_bytes.saturating_add(self.pymalloc.trapped_bytes)
    }

    /// Free, and could be given back.
    pub(super) fn kept_bytes(&self) -> u64 {
        let kept =
            |heap: &HeapResidency| heap.returnable_bytes + heap.cached_bytes + heap.top_bytes;
        kept(&self.arenas).saturating_add(kept(&self.pymalloc))
    }
}

impl<'a> Facts<'a> {
    pub(super) fn of(input: &'a VerdictInput) -> Self {
        let noise = NOISE_BYTES.max(input.rss.start_bytes / NOISE_PARTS);
        let is_watched = input.traced.as_ref().is_none_or(|it| it.unwatched_percent == 0);
        // What was watched at times stands still whenever it was not.
        let live = line(input, |it| it.live_bytes.filter(|_| is_watched));
        let lines = [live, line(input, |it| it.in_use_bytes)];
        let rss_shape = shape(&line(input, |it| Some(it.rss_bytes)), noise);
        let known = lines.iter().find(|line| line.len() >= LINE_SAMPLES);
        Self {
            input,
            grown: input.rss.grown_bytes(),
            noise,
            growth: Attribution::of_growth(input),
            shape: known.map_or(rss_shape, |line| shape(line, noise)),
            rss_shape,
            heap: input.after.as_ref().and_then(HeapState::of),
        }
    }

    pub(super) fn growth_known(&self) -> bool {
        self.input.window_ns > 0
    }

    pub(super) fn grew(&self) -> bool {
        self.growth_known() && self.grown > 0 && self.grown.unsigned_abs() > self.noise
    }

    /// Two walks, which tell growth apart by themselves.
    pub(super) fn walked_twice(&self) -> bool {
        self.input.before.is_some() && self.input.after.is_some()
    }

    pub(super) fn traced(&self) -> Option<&'a Traced> {
        self.input.traced.as_ref()
    }

    /// A part's share of the growth: not below 0, and at most 1.
    pub(super) fn share(&self, part: Part) -> f64 {
        share(self.growth.get(part), self.grown)
    }

    /// How far the walks can be off together.
    pub(super) fn error_bytes(&self) -> u64 {
        let bound = |census: &Option<Census>| census.as_ref().map_or(0, |it| it.error_bound_bytes);
        bound(&self.input.before).saturating_add(bound(&self.input.after))
    }

    /// Blocks were allocated and freed far beyond what RSS grew by.
    pub(super) fn turns_over(&self) -> bool {
        let grown = self.grown.unsigned_abs() as f64;
        self.traced().is_some_and(|traced| {
            let allocated = traced.allocated.bytes as f64;
            allocated >= (2.0 * grown).max(self.noise as f64)
                && traced.freed.bytes as f64 >= 0.8 * allocated
        })
    }

    /// The walked glibc arenas at the end.
    pub(super) fn glibc_arenas(&self) -> impl Iterator<Item = &'a Arena> {
        let heaps = self.input.after.iter().flat_map(|census| &census.glibc);
        heaps.flat_map(|heap| &heap.arenas)
    }

    /// Arenas that no thread uses any more, and what is resident of them.
    pub(super) fn stranded_arenas(&self) -> (u64, u64) {
        let stranded = self.glibc_arenas().filter(|it| it.attached_threads == Some(0));
        let sizes = stranded.filter(|it| it.index > 0).map(|it| it.resident.total_bytes());
        sizes.fold((0, 0), |(count, sum), bytes| (count + 1, bytes.saturating_add(sum)))
    }
}

/// A share of a whole that is positive, within 0 and 1.
pub(super) fn share(part: i64, whole: i64) -> f64 {
    if whole <= 0 { 0.0 } else { (part as f64 / whole as f64).clamp(0.0, 1.0) }
}

fn line(input: &VerdictInput, value: impl Fn(&TimelineSample) -> Option<u64>) -> Vec<(u64, u64)> {
    input.timeline.samples.iter().filter_map(|it| Some((it.at_ns, value(it)?))).collect()
}
