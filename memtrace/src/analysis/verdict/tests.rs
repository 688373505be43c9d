//! Every kind of verdict, the four incidents, the boundaries, and what must hold for any input.

mod boundaries;
mod estimates;
mod incidents;
mod kinds;
mod laws;
mod remedies;

use super::*;
use crate::model::{
    census::{Arena, Census, GlibcHeap, HeapResidency, Refusal, RssKind, RssRow, RssTable},
    site::Amount,
    timeline::{PeakSource, RssParts, Timeline, TimelineSample},
    verdict::{Level, VerdictKind},
};

const MIB: u64 = 1 << 20;
const SECOND: u64 = 1_000_000_000;

fn mib(bytes: u64, count: u64) -> Amount {
    Amount::new(bytes * MIB, count)
}

/// RSS of so many MiB at both ends of a window of so many seconds.
fn window(seconds: u64, start_mib: u64, end_mib: u64) -> VerdictInput {
    let rss = RssChange {
        start_bytes: start_mib * MIB,
        end_bytes: end_mib * MIB,
        ..RssChange::default()
    };
    VerdictInput { window_ns: seconds * SECOND, rss, ..VerdictInput::default() }
}

impl VerdictInput {
    /// Samples of RSS and of live bytes, evenly over the window, in MiB.
    fn with_line(
        mut self,
        rss_mib: impl Fn(u64) -> u64,
        live_mib: impl Fn(u64) -> Option<u64>,
    ) -> Self {
        let sample = |tick: u64| TimelineSample {
            at_ns: self.window_ns * tick / 100,
            rss_bytes: rss_mib(tick) * MIB,
            live_bytes: live_mib(tick).map(|live| live * MIB),
            ..TimelineSample::default()
        };
        let samples: Vec<_> = (0..=100).map(sample).collect();
        let rss_peak_bytes = samples.iter().map(|it| it.rss_bytes).max().unwrap_or(0);
        let rss_peak_source = Some(PeakSource::Samples);
        self.timeline =
            Timeline { samples, rss_peak_bytes, rss_peak_source, cgroup_peak_bytes: None };
        self
    }

    fn with_walks(mut self, before: Census, after: Census) -> Self {
        (self.before, self.after) = (Some(before), Some(after));
        self
    }

    fn with_traced(mut self, traced: Traced) -> Self {
        self.traced = Some(traced);
        self
    }

    /// Anonymous, of files and shared, at both ends, in MiB.
    fn with_parts(mut self, start: [u64; 3], end: [u64; 3]) -> Self {
        let parts = |[anonymous, file, shmem]: [u64; 3]| RssParts {
            anonymous_bytes: anonymous * MIB,
            file_bytes: file * MIB,
            shmem_bytes: shmem * MIB,
        };
        (self.rss.start_parts, self.rss.end_parts) = (Some(parts(start)), Some(parts(end)));
        self
    }
}

/// Everything that was allocated is kept at one site.
fn kept(name: &str, bytes_mib: u64, count: u64) -> Traced {
    let live = mib(bytes_mib, count);
    let site = TracedSite {
        name: name.to_owned(),
        survivors: live,
        allocated: live,
        ..TracedSite::default()
    };
    Traced {
        allocated: live,
        heap_live: live,
        sites: vec![site],
        complete: true,
        ..Traced::default()
    }
}

/// Much is allocated and freed, little is kept.
fn churn(allocated_mib: u64, kept_mib: u64) -> Traced {
    let (allocated, live) = (mib(allocated_mib, 9_000_000), mib(kept_mib, 1_000));
    let mut freed = allocated;
    freed -= live;
    let site = TracedSite {
        name: "append_audio (pusher.py:31)".to_owned(),
        survivors: live,
        allocated,
        freed,
        ..TracedSite::default()
    };
    Traced {
        allocated,
        freed,
        heap_live: live,
        sites: vec![site],
        complete: true,
        ..Traced::default()
    }
}

/// A walk: what is in use, trapped, returnable and cached in glibc's arenas, and other rows, in
/// MiB.
fn walk([in_use, trapped, returnable, cached]: [u64; 4], others: &[(RssKind, u64)]) -> Census {
    let heap = [
        (RssKind::InUse, in_use),
        (RssKind::FreeTrapped, trapped),
        (RssKind::FreeReturnable, returnable),
        (RssKind::AllocatorCache, cached),
    ];
    let rows: Vec<_> = heap
        .iter()
        .chain(others)
        .map(|(kind, mib)| RssRow { kind: *kind, resident_bytes: (mib * MIB) as i64 })
        .collect();
    let resident = HeapResidency {
        in_use_bytes: in_use * MIB,
        trapped_bytes: trapped * MIB,
        returnable_bytes: returnable * MIB,
        cached_bytes: cached * MIB,
        ..HeapResidency::default()
    };
    let rss_bytes = rows.iter().map(|row| row.resident_bytes as u64).sum();
    let glibc = GlibcHeap {
        arenas: vec![Arena { resident, ..Arena::default() }],
        trim_bytes: returnable * MIB,
        ..GlibcHeap::default()
    };
    Census {
        rss: RssTable { rss_bytes, rows, ..RssTable::default() },
        glibc: vec![glibc],
        ..Census::default()
    }
}

fn assert_kind(name: &str, input: &VerdictInput, kind: VerdictKind, level: Level) -> Verdict {
    let verdict = verdict(input);
    assert_eq!((verdict.kind, verdict.confidence.level), (kind, level), "{name}: {verdict:#?}");
    verdict
}
