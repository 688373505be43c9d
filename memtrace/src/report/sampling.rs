//! What numbers are estimates of: which blocks were looked at, and when.

use memtrace_common::sample::Interval;
use serde::Serialize;

use crate::{
    capture::{Capture, Ending},
    model::{
        coverage::{Coverage, Family, FamilyCoverage, WorkBy},
        estimate::Scale,
        site::{Amount, SiteStats},
        trace::{Totals, Walks},
    },
};

use super::build::SiteInput;

/// How blocks were sampled.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sampling {
    /// The mean distance of samples in bytes allocated, where it was the largest; `None` where every
    /// block was looked at while probes were armed.
    pub interval_bytes: Option<u64>,
    /// Heap blocks that were looked at.
    pub samples: u64,
    /// Families whose probes were not armed all the time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub coverage: Vec<Covered>,
}

/// How long probes of a family were armed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Covered {
    /// Which.
    pub family: Family,
    /// The part of the window, from 0 to 1.
    pub share: f64,
    /// How long that was.
    pub covered_ns: u64,
    /// In how many pieces.
    pub phases: u64,
    /// The part of its work that the target did meanwhile, from 0 to 1: armed probes slow it down.
    pub work_share: f64,
    /// Where that part is, with 95 % confidence; `None` where that is not known.
    pub work_share_95: Option<[f64; 2]>,
    /// What its work is told by; `None` where it is taken to have got on as at other times.
    pub work_by: Option<WorkBy>,
}

impl Sampling {
    /// `None` where every block was looked at, all the time.
    pub(super) fn of(capture: &Capture) -> Option<Self> {
        let ending = &capture.ending;
        let allocated = ending.totals.heap.allocated;
        let met = (!allocated.is_exact()).then_some(allocated.spread.unit_bytes as u64);
        let interval_bytes = met.max(ending.sample_interval_bytes);
        let coverage = covered(&ending.coverage);
        let samples = allocated.samples();
        (interval_bytes.is_some() || !coverage.is_empty()).then_some(Self {
            interval_bytes,
            samples,
            coverage,
        })
    }

    /// The smallest part of the time that probes of a family were armed.
    pub fn share(&self) -> f64 {
        self.coverage.iter().map(|covered| covered.share).fold(1.0, f64::min)
    }
}

fn covered(coverage: &Coverage) -> Vec<Covered> {
    let families = coverage.families.iter().filter(|family| family.share() < 1.0);
    families
        .map(|family| Covered {
            family: family.family,
            share: family.share(),
            covered_ns: family.covered_ns,
            phases: family.phases.len() as u64,
            work_share: family.work_share(),
            work_share_95: work_share_95(family),
            work_by: family.work_by,
        })
        .collect()
}

fn work_share_95(family: &FamilyCoverage) -> Option<[f64; 2]> {
    let (share, margin) = (family.work_share(), family.margin());
    family.margin.map(|_| [share / margin, (share * margin).min(1.0)])
}

/// The site as if its probes had been armed all the time: it did `done` times as much as was seen, and has
/// `live` times as much; survivors and births are already.
pub(super) fn scaled(mut site: SiteInput, done: Scale, live: Scale) -> SiteInput {
    if done.factor <= 1.0 {
        return site;
    }
    let scale = |amount: &mut Amount| *amount = amount.scaled(done);
    let scale_live = |amount: &mut Amount| *amount = amount.scaled(live);
    let stats = &mut site.stats;
    let by_done = stats.live.scaled(done);
    scale_live(&mut stats.live);
    [&mut stats.allocated, &mut stats.freed, &mut stats.peak].into_iter().for_each(scale);
    if live.factor <= done.factor {
        // What is not live was freed.
        let mut ended = by_done;
        ended -= stats.live;
        stats.freed += ended;
    } else {
        let mut more = stats.live;
        more -= by_done;
        stats.allocated += more;
        stats.peak = at_least(stats.peak, stats.live);
    }
    let extras = &mut site.extras;
    extras.at_peak.iter_mut().chain(&mut extras.temporary).for_each(scale);
    for share in &mut extras.threads {
        scale(&mut share.allocated);
        scale_live(&mut share.live);
        scale_live(&mut share.survivors);
    }
    site
}

/// A peak, of which less was seen than is live at the end.
fn at_least(peak: Amount, live: Amount) -> Amount {
    if peak.bytes < live.bytes { live } else { peak }
}

/// The sums of such sites.
pub(super) fn totals(capture: &Capture, sites: &[SiteInput]) -> Totals {
    let (mut totals, endings) = (capture.ending.totals, capture.endings());
    if endings.iter().all(|ending| ending.coverage.is_full()) {
        totals.heap = among_samples(totals.heap, capture.ending.sample_interval_bytes);
        return totals;
    }
    let (mut heap, mut mappings) = (SiteStats::default(), SiteStats::default());
    for site in sites {
        let is_mapping = site.function.is_some_and(|it| it.shape().is_mapping());
        let sum = if is_mapping { &mut mappings } else { &mut heap };
        sum.live += site.stats.live;
        sum.allocated += site.stats.allocated;
        sum.freed += site.stats.freed;
    }
    for Ending { totals, coverage, .. } in endings {
        heap.peak += totals.heap.peak.scaled(coverage.scale_of(Family::Heap));
        mappings.peak += totals.mappings.peak.scaled(coverage.scale_of(Family::Mappings));
    }
    heap.peak = at_least(heap.peak, heap.live);
    totals.heap = among_samples(heap, capture.ending.sample_interval_bytes);
    totals.mappings = mappings;
    totals
}

/// Where no sample was seen there can be blocks nevertheless.
fn among_samples(heap: SiteStats, interval_bytes: Option<u64>) -> SiteStats {
    let interval = interval_bytes.map(Interval::nearest).unwrap_or_default();
    let [live, allocated, freed, peak] =
        [heap.live, heap.allocated, heap.freed, heap.peak].map(|it| it.among_samples(interval));
    SiteStats { live, allocated, freed, peak }
}

/// The walks, with what was traced of the heap estimated for all the time, as `totals` are.
pub(super) fn walks(capture: &Capture, totals: &Totals) -> Walks {
    let seen = capture.ending.totals.heap.live.bytes;
    let factor = match seen {
        0 => capture.ending.coverage.factor_of(Family::Heap),
        _ => (totals.heap.live.bytes as f64 / seen as f64).max(1.0),
    };
    let mut walks = capture.walks.clone();
    walks.traced_in_use = walks.traced_in_use.map(|traced| traced.scaled(factor));
    walks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::{CapturedSite, Ending},
        model::{
            AllocFn,
            chunk_sizes::ChunkSizes,
            coverage::{FamilyCoverage, Phase},
            room::{ChunksInUse, Room, Seen},
            site::LiveItem,
        },
        report::{Report, ReportOptions},
    };

    const SECOND: u64 = 1_000_000_000;

    /// A heap site that was watched in the first fifth of a window, and a mapping all the time.
    fn capture() -> Capture {
        let site = |function, bytes| CapturedSite {
            function: Some(function),
            stats: SiteStats {
                live: Amount::new(bytes, 1),
                allocated: Amount::new(bytes, 1),
                ..SiteStats::default()
            },
            ..CapturedSite::default()
        };
        let live = |site, bytes| LiveItem { site, bytes, ..LiveItem::default() };
        let phases = vec![Phase { since_ns: 0, until_ns: 2 * SECOND }];
        let families = vec![FamilyCoverage::new(Family::Heap, 10 * SECOND, phases)];
        Capture {
            sites: vec![site(AllocFn::Malloc, 1000), site(AllocFn::Mmap, 700)],
            live: vec![live(0, 1000), live(1, 700)],
            ending: Ending {
                coverage: Coverage { families },
                closed_ns: 10 * SECOND,
                ..Ending::default()
            },
            ..Capture::default()
        }
    }

    #[test]
    fn what_was_watched_a_fifth_of_the_time_is_taken_for_a_fifth() {
        let report = Report::of(&capture(), ReportOptions::default());
        let [heap, mapping] = &report.sites[..] else { panic!("{:?}", report.sites) };
        assert_eq!((heap.stats.live.bytes, heap.survivors.amount.bytes), (5000, 5000));
        assert_eq!((mapping.stats.live.bytes, mapping.survivors.amount.bytes), (700, 700));
        assert!(mapping.survivors.amount.is_exact() && !heap.survivors.amount.is_exact());
        assert_eq!(report.totals.heap.live.bytes, 5000);
        assert_eq!(report.totals.survivors.bytes, 5700);
        assert_eq!(report.groups[0].survivors.amount.bytes, 5000);
        let sampling = report.sampling.expect("it was not watched all the time");
        assert_eq!((sampling.share(), sampling.interval_bytes), (0.2, None));
    }

    #[test]
    fn how_well_the_work_is_known_is_in_the_interval_where_the_heap_does_not_know_better() {
        let doubted = |mut capture: Capture| {
            for family in &mut capture.ending.coverage.families {
                (family.margin, family.work_by) = (Some(2.0), Some(WorkBy::CpuTime));
            }
            Report::of(&capture, ReportOptions::default())
        };
        let [known, unknown] = [counted(0, 90).0, capture()].map(doubted);
        let doubt = |amount: Amount| amount.spread.doubted_bytes;
        let of = |report: &Report| report.sites[0].stats;
        assert_eq!((doubt(of(&known).live), doubt(of(&known).allocated) > 0.0), (0.0, true));
        let live = of(&unknown).live;
        assert!((doubt(live) / live.bytes as f64 - 2f64.ln()).abs() < 1e-9, "{live:?}");
        let covered = unknown.sampling.unwrap().coverage[0];
        assert_eq!(covered.work_by, Some(WorkBy::CpuTime));
        assert_eq!(covered.work_share_95, Some([0.1, 0.4]));
    }

    /// The same, of whose heap site 30 blocks were seen, and whose heap has so many chunks.
    fn counted(before: u64, after: u64) -> (Capture, Report) {
        let mut capture = capture();
        let mut seen = [Seen::default(); ChunkSizes::CLASSES];
        seen[ChunkSizes::class_of_request(1000)] = Seen { count: 30, seeming: 30.0 };
        let of = |count| {
            let mut chunks = ChunkSizes::default();
            (0..count).for_each(|_| chunks.add(1008));
            chunks
        };
        let chunks = ChunksInUse { before: Some(of(before)), after: of(after), in_window: 1.0 };
        capture.ending.room = Room::new(&seen, &chunks, 5.0);
        capture.ending.totals.heap.live = Amount::new(1000, 1);
        capture.walks.traced_in_use = Some(Amount::new(1000, 1));
        let report = Report::of(&capture, ReportOptions::default());
        (capture, report)
    }

    #[test]
    fn what_is_live_stands_for_no_more_than_the_heap_has_room_for() {
        let (capture, report) = counted(0, 90);
        let [heap, mapping] = &report.sites[..] else { panic!("{:?}", report.sites) };
        let SiteStats { live, allocated, freed, .. } = heap.stats;
        assert_eq!((live.bytes, freed.bytes, allocated.bytes), (3000, 2000, 5000));
        assert_eq!((live.count, heap.survivors.amount.bytes), (3, 3000));
        assert_eq!(mapping.stats.live.bytes, 700);
        assert_eq!(report.totals.heap.live.bytes, 3000);
        assert_eq!(report.groups[0].survivors.amount.bytes, 3000);
        assert_eq!(walks(&capture, &report.totals).traced_in_use.unwrap().bytes, 3000);
    }

    #[test]
    fn what_is_live_stands_for_what_the_heap_has_grown_by() {
        let (capture, report) = counted(10, 220);
        let [heap, _] = &report.sites[..] else { panic!("{:?}", report.sites) };
        let SiteStats { live, allocated, freed, peak } = heap.stats;
        assert_eq!((live.bytes, freed.bytes, allocated.bytes), (7000, 0, 7000));
        assert_eq!((peak.bytes, report.totals.heap.peak.bytes), (7000, 7000));
        assert_eq!((heap.survivors.amount.bytes, report.totals.heap.live.bytes), (7000, 7000));
        assert_eq!(walks(&capture, &report.totals).traced_in_use.unwrap().bytes, 7000);
    }

    #[test]
    fn a_heap_of_which_no_sample_was_seen_can_hold_some_intervals() {
        let mut capture = Capture::default();
        capture.ending.sample_interval_bytes = Some(512 << 10);
        let report = Report::of(&capture, ReportOptions::default());
        let live = report.totals.heap.live;
        assert_eq!((live.bytes, live.bytes_bounds().low), (0, 0));
        assert!(live.bytes_bounds().high > 3 * (512 << 10), "{live:?}");
        assert_eq!(report.sampling.unwrap().interval_bytes, Some(512 << 10));
    }

    #[test]
    fn what_was_watched_all_the_time_is_no_estimate() {
        let mut capture = capture();
        capture.ending.coverage = Coverage::default();
        let report = Report::of(&capture, ReportOptions::default());
        assert_eq!((report.sampling, report.sites[0].stats.live.bytes), (None, 1000));
    }
}
