//! What must hold for any input.

use proptest::prelude::*;

use super::*;

const KINDS: [RssKind; 19] = [
    RssKind::InUse,
    RssKind::MappedBlocks,
    RssKind::FreeReturnable,
    RssKind::FreeTrapped,
    RssKind::AllocatorCache,
    RssKind::Top,
    RssKind::AllocatorMetadata,
    RssKind::HeapUnknown,
    RssKind::PymallocInUse,
    RssKind::PymallocFreeInPools,
    RssKind::PymallocFreePools,
    RssKind::ThreadStacks,
    RssKind::CachedStacks,
    RssKind::OpaqueAllocator,
    RssKind::OtherAnonymous,
    RssKind::PrivateFile,
    RssKind::File,
    RssKind::Shmem,
    RssKind::Remainder,
];

fn any_census() -> impl Strategy<Value = Census> {
    let rows = prop::collection::vec((0..KINDS.len(), any::<i64>()), 0..8);
    (rows, prop::array::uniform6(0_u64..1 << 50), any::<[u64; 3]>(), any::<u64>()).prop_map(
        |(rows, heap, [mmap_threshold_bytes, trim_threshold_bytes, arena_max], error)| {
            let mut census = walk([0; 4], &[]);
            let rows = rows.into_iter();
            census.rss.rows = rows
                .map(|(kind, resident_bytes)| RssRow { kind: KINDS[kind], resident_bytes })
                .collect();
            census.rss.rss_bytes = heap.iter().sum();
            census.error_bound_bytes = error;
            let glibc = &mut census.glibc[0];
            glibc.parameters.mmap_threshold_bytes = mmap_threshold_bytes;
            glibc.parameters.trim_threshold_bytes = trim_threshold_bytes;
            glibc.parameters.arena_max = arena_max;
            glibc.trim_bytes = error;
            glibc.arenas[0].resident = HeapResidency {
                in_use_bytes: heap[0],
                returnable_bytes: heap[1],
                trapped_bytes: heap[2],
                cached_bytes: heap[3],
                top_bytes: heap[4],
                metadata_bytes: heap[5],
                unknown_bytes: 0,
            };
            census
        },
    )
}

fn any_amount() -> impl Strategy<Value = Amount> {
    (any::<u64>(), any::<u64>()).prop_map(|(bytes, count)| Amount::new(bytes, count))
}

fn any_traced() -> impl Strategy<Value = Traced> {
    let site = (any_amount(), any_amount(), any_amount(), any::<bool>()).prop_map(
        |(survivors, allocated, freed, maps)| TracedSite {
            name: "site".to_owned(),
            survivors,
            allocated,
            freed,
            maps,
            pattern: SitePattern::Unknown,
        },
    );
    let amounts = [any_amount(), any_amount(), any_amount(), any_amount()];
    (amounts, any::<(u64, bool, bool)>(), prop::collection::vec(site, 0..5)).prop_map(
        |([allocated, freed, heap_live, mapped_live], (number, complete, lost), sites)| Traced {
            unwatched_percent: (number % 101) as u8,
            allocated,
            freed,
            heap_live,
            mapped_live,
            allocator_mapped_bytes: number,
            frees_of_older: number,
            sites,
            complete,
            frees_may_be_lost: lost,
        },
    )
}

fn any_parts() -> impl Strategy<Value = Option<RssParts>> {
    prop::option::of(any::<[u64; 3]>().prop_map(|[anonymous_bytes, file_bytes, shmem_bytes]| {
        RssParts { anonymous_bytes, file_bytes, shmem_bytes }
    }))
}

prop_compose! {
    fn any_input()(
        (window_ns, start_bytes, end_bytes) in any::<(u64, u64, u64)>(),
        (start_parts, end_parts) in (any_parts(), any_parts()),
        before in prop::option::of(any_census()),
        after in prop::option::of(any_census()),
        traced in prop::option::of(any_traced()),
        limit_bytes in any::<Option<u64>>(),
        mut line in prop::collection::vec(any::<(u64, u64, Option<u64>)>(), 0..20),
    ) -> VerdictInput {
        line.sort_unstable();
        let sample = |(at_ns, rss_bytes, live_bytes)| TimelineSample {
            at_ns, rss_bytes, live_bytes, ..TimelineSample::default()
        };
        let timeline = Timeline {
            samples: line.into_iter().map(sample).collect(),
            rss_peak_bytes: start_bytes,
            rss_peak_source: Some(PeakSource::HighWaterMark),
            cgroup_peak_bytes: None,
        };
        let rss = RssChange { start_bytes, end_bytes, start_parts, end_parts };
        VerdictInput { window_ns, rss, timeline, before, after, traced, limit_bytes, pins: None }
    }
}

/// A window of a minute with so much growth, by cause, in MiB.
fn grown(live: u64, trapped: u64, error: u64) -> VerdictInput {
    let before = walk([300, 100, 0, 0], &[]);
    let mut after = walk([300 + live, 100 + trapped, 0, 0], &[]);
    after.error_bound_bytes = error * MIB;
    window(60, 400, 400 + live + trapped)
        .with_line(move |tick| 400 + (live + trapped) * tick / 100, |_| None)
        .with_walks(before, after)
        .with_traced(kept("load", live, 10))
}

proptest! {
    #[test]
    fn no_input_is_too_odd(input in any_input()) {
        let verdict = verdict(&input);
        prop_assert!(!verdict.headline.is_empty());
        prop_assert!(verdict.confidence.score <= 100);
        prop_assert_eq!(verdict.growth_known, input.window_ns > 0);
        for evidence in &verdict.evidence {
            prop_assert!(evidence.text.ends_with('.'), "{}", evidence.text);
        }
        serde_json::to_string(&verdict).unwrap();
    }

    #[test]
    fn more_of_a_cause_never_makes_it_less_sure(live in 60_u64..900, more in 0_u64..900) {
        let one = verdict(&grown(live, 50, 0));
        let other = verdict(&grown(live + more, 50, 0));
        prop_assert_eq!((one.kind, other.kind), (VerdictKind::Leak, VerdictKind::Leak));
        prop_assert!(other.confidence.score >= one.confidence.score);
    }

    #[test]
    fn a_larger_error_never_makes_it_surer(live in 10_u64..900, error in 0_u64..900, more in 0_u64..900) {
        let one = verdict(&grown(live, 0, error));
        let other = verdict(&grown(live, 0, error + more));
        prop_assert!(other.confidence.score <= one.confidence.score);
    }

    #[test]
    fn what_contradicts_or_is_lost_makes_it_less_sure(live in 20_u64..900) {
        let input = grown(live, 0, 0);
        let sure = verdict(&input);
        let mut lossy = input.clone();
        lossy.traced.as_mut().unwrap().complete = false;
        let mut false_survivors = lossy.clone();
        false_survivors.traced.as_mut().unwrap().frees_may_be_lost = true;
        let conflicting = input.with_traced(kept("load", live / 2, 10));
        let mut last = sure.confidence.score;
        for doubtful in [&lossy, &false_survivors, &conflicting] {
            let doubtful = verdict(doubtful).confidence;
            prop_assert!(doubtful.score < last, "{doubtful:?}");
            prop_assert!(!doubtful.doubts.is_empty());
            last = doubtful.score;
        }
    }
}
