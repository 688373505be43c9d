//! The incidents that memtrace is for, by their numbers.

use super::*;

/// Ten minutes, a deployment every 66 s: 480 MiB each, nothing freed.
#[test]
fn the_model_server_leaks_in_steps_at_the_line_that_loads() {
    let loaded = |tick: u64| tick / 11 * 480;
    let input = window(600, 5_000, 5_000 + 9 * 480)
        .with_line(|tick| 5_000 + loaded(tick), |tick| Some(loaded(tick)))
        .with_traced(kept("load_model (model_server.py:88)", 9 * 480, 9));
    let verdict = assert_kind("model server", &input, VerdictKind::Leak, Level::High);
    for words in ["9 steps of about 480.0 MiB", "load_model (model_server.py:88)", "100 %"] {
        assert!(verdict.headline.contains(words), "{}", verdict.headline);
    }
    assert_eq!(verdict.remedies[0].expected_bytes, Some(9 * 480 * MIB));
    let numbers: Vec<_> = verdict.evidence.iter().flat_map(|it| it.numbers.clone()).collect();
    assert!(numbers.contains(&("step_bytes", 480 << 20)), "{numbers:?}");
    assert!(numbers.contains(&("held_count", 9)), "{numbers:?}");
}

fn pusher_then() -> Census {
    walk([260, 255, 6, 0], &[(RssKind::File, 60)])
}

fn pusher_now() -> Census {
    walk([270, 305, 6, 0], &[(RssKind::File, 60)])
}

#[test]
fn the_pusher_is_fragmented_by_one_look() {
    let input = VerdictInput { after: Some(pusher_now()), ..VerdictInput::default() };
    let verdict = assert_kind("pusher", &input, VerdictKind::Fragmentation, Level::High);
    assert!(!verdict.growth_known);
    assert!(verdict.headline.contains("52 %"), "{}", verdict.headline);
    assert!(verdict.headline.contains("whether it grows is not known"), "{}", verdict.headline);
    let heap = "270.0 MiB is in use and 305.0 MiB (52 %) is free but trapped; malloc_trim(0) would \
                give back 6.0 MiB";
    assert!(verdict.evidence.iter().any(|it| it.text.contains(heap)), "{:#?}", verdict.evidence);
    let trims = verdict.remedies.iter().any(|it| it.action.contains("malloc_trim"));
    assert!(!trims, "6 MiB are not worth a trim: {:#?}", verdict.remedies);
    assert!(verdict.remedies.iter().any(|it| it.action.contains("jemalloc")));
}

#[test]
fn the_pusher_grows_by_fragmentation_over_ten_minutes() {
    let input = window(600, 581, 641)
        .with_line(|tick| 581 + tick * 60 / 100, |_| None)
        .with_walks(pusher_then(), pusher_now());
    let verdict = assert_kind("pusher", &input, VerdictKind::Fragmentation, Level::High);
    assert!(verdict.headline.contains("not a leak"), "{}", verdict.headline);
    assert!(verdict.headline.contains("83 % of the 60.0 MiB"), "{}", verdict.headline);
    let with_probes = input.with_traced(churn(90_000, 10));
    let both = assert_kind("with probes", &with_probes, VerdictKind::Fragmentation, Level::High);
    assert!(both.evidence.iter().any(|it| it.text.contains("100 % of that freed again")));
}

#[test]
fn the_pusher_without_walks_is_probably_fragmented_and_a_walk_would_tell() {
    let input = window(600, 581, 641)
        .with_line(|tick| 581 + tick * 60 / 100, |tick| Some(tick / 10))
        .with_parts([521, 60, 0], [581, 60, 0])
        .with_traced(churn(90_000, 10));
    let verdict = assert_kind("pusher", &input, VerdictKind::Fragmentation, Level::Low);
    assert!(verdict.would_help_to_know.iter().any(|it| it.contains("memtrace inspect")));
}

/// Polars brings its own allocator, which nobody can walk; 30 GB in three hours.
#[test]
fn the_polars_job_is_told_as_far_as_it_can_be() {
    let jemalloc = |mib| walk([50, 2, 1, 1], &[(RssKind::OpaqueAllocator, mib)]);
    let input = window(10_800, 2_054, 32_054)
        .with_line(|tick| 2_054 + tick * 300, |_| None)
        .with_walks(jemalloc(2_000), jemalloc(32_000));
    let blind = assert_kind("inspect", &input, VerdictKind::CannotTell, Level::Low);
    assert!(blind.headline.contains("memory of an allocator that cannot be walked"));
    let pace = "grows by 9.8 GiB an hour";
    assert!(blind.evidence.iter().any(|it| it.text.contains(pace)), "{:#?}", blind.evidence);
    assert!(blind.would_help_to_know.iter().any(|it| it.contains("memtrace attach")));
    let traced = input
        .with_line(|tick| 2_054 + tick * 300, |tick| Some(tick * 300))
        .with_traced(kept("polars::frame::join", 30_000, 4_000));
    let verdict = assert_kind("attach", &traced, VerdictKind::Leak, Level::High);
    assert!(verdict.headline.contains("polars::frame::join"), "{}", verdict.headline);
}

#[test]
fn a_job_that_maps_its_memory_is_not_the_heap_and_the_mapper_is_named() {
    let mut traced = kept("join (parallel_feature_testing.py:140)", 30_000, 400);
    traced.sites[0].maps = true;
    (traced.mapped_live, traced.heap_live) = (traced.heap_live, Amount::default());
    let input = window(10_800, 2_054, 32_054)
        .with_line(|tick| 2_054 + tick * 300, |_| Some(0))
        .with_parts([2_000, 54, 0], [32_000, 54, 0])
        .with_traced(traced);
    let verdict = assert_kind("polars", &input, VerdictKind::NotTheHeap, Level::High);
    assert!(verdict.headline.contains("mapped outside of the heap"), "{}", verdict.headline);
    assert!(verdict.remedies[0].action.contains("parallel_feature_testing.py:140"));
}

/// 512 MiB limit, killed every 30 minutes.
#[test]
fn the_stress_container_leaks_and_the_time_to_its_limit_is_said() {
    let mut input = window(60, 300, 317)
        .with_line(|tick| 300 + tick * 17 / 100, |tick| Some(tick * 17 / 100))
        .with_traced(kept("stress_leak (app.py:12)", 17, 170));
    input.limit_bytes = Some(512 * MIB);
    let verdict = assert_kind("stress", &input, VerdictKind::Leak, Level::High);
    let end = "the limit of 512.0 MiB is reached in 11m 28s";
    assert!(verdict.evidence.iter().any(|it| it.text.contains(end)), "{:#?}", verdict.evidence);
}
