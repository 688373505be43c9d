//! One table for the kinds that the incidents do not show, or show otherwise.

use super::*;

#[test]
fn causes_of_growth_are_told_apart_by_two_walks() {
    let base = || walk([200, 20, 5, 5], &[(RssKind::File, 70)]);
    let cases = [
        ("in use", walk([300, 20, 5, 5], &[(RssKind::File, 70)]), VerdictKind::Leak),
        ("trapped", walk([200, 120, 5, 5], &[(RssKind::File, 70)]), VerdictKind::Fragmentation),
        (
            "returnable",
            walk([200, 20, 105, 5], &[(RssKind::File, 70)]),
            VerdictKind::AllocatorCache,
        ),
        ("tcache", walk([200, 20, 5, 105], &[(RssKind::File, 70)]), VerdictKind::AllocatorCache),
        ("files", walk([200, 20, 5, 5], &[(RssKind::File, 170)]), VerdictKind::NotTheHeap),
        (
            "shared memory",
            walk([200, 20, 5, 5], &[(RssKind::File, 70), (RssKind::Shmem, 100)]),
            VerdictKind::NotTheHeap,
        ),
        (
            "stacks",
            walk([200, 20, 5, 5], &[(RssKind::File, 70), (RssKind::ThreadStacks, 100)]),
            VerdictKind::NotTheHeap,
        ),
        (
            "pymalloc's free pools",
            walk([200, 20, 5, 5], &[(RssKind::File, 70), (RssKind::PymallocFreePools, 100)]),
            VerdictKind::AllocatorCache,
        ),
        (
            "nobody knows",
            walk([200, 20, 5, 5], &[(RssKind::File, 70), (RssKind::HeapUnknown, 100)]),
            VerdictKind::CannotTell,
        ),
    ];
    for (name, after, kind) in cases {
        let input =
            window(120, 300, 400).with_line(|tick| 300 + tick, |_| None).with_walks(base(), after);
        let level = if kind == VerdictKind::CannotTell { Level::Low } else { Level::High };
        let verdict = assert_kind(name, &input, kind, level);
        assert!(verdict.growth_known && !verdict.headline.is_empty());
    }
}

#[test]
fn files_and_shared_memory_are_seen_without_a_walk() {
    for (end, words) in [([200, 600, 0], "pages of files"), ([200, 100, 500], "shared memory")] {
        let input = window(30, 300, 800)
            .with_line(|tick| 300 + tick * 5, |_| Some(0))
            .with_parts([200, 100, 0], end)
            .with_traced(Traced { complete: true, ..Traced::default() });
        let verdict = assert_kind(words, &input, VerdictKind::NotTheHeap, Level::High);
        assert!(verdict.headline.contains(words), "{}", verdict.headline);
    }
}

#[test]
fn a_cache_that_grows_and_shrinks_is_no_leak() {
    let up_and_down = |tick: u64| if tick < 60 { tick * 5 } else { 300 - (tick - 60) * 5 };
    let input = window(60, 300, 400)
        .with_line(|tick| 300 + up_and_down(tick), |tick| Some(up_and_down(tick)))
        .with_traced(kept("Cache::put", 100, 10));
    assert_kind("half way back", &input, VerdictKind::LiveGrowth, Level::High);
    let back = window(60, 300, 300)
        .with_line(|tick| 300 + (50 - tick.abs_diff(50)) * 6, |_| None)
        .with_traced(churn(300, 0));
    let verdict = assert_kind("all the way back", &back, VerdictKind::LiveGrowth, Level::High);
    assert!(verdict.headline.contains("600.0 MiB and came back"), "{}", verdict.headline);
}

#[test]
fn a_cache_that_filled_up_is_no_leak() {
    let filled = |tick: u64| tick.min(40) * 5;
    let input = window(60, 300, 500)
        .with_line(|tick| 300 + filled(tick), |tick| Some(filled(tick)))
        .with_traced(kept("Cache::put", 200, 10));
    let verdict = assert_kind("full", &input, VerdictKind::LiveGrowth, Level::High);
    assert!(verdict.headline.contains("levelled off"), "{}", verdict.headline);
    let goes_on = verdict.evidence.iter().any(|it| it.text.contains("If that goes on"));
    assert!(!goes_on, "it does not go on: {:#?}", verdict.evidence);
}

#[test]
fn sites_that_are_known_to_be_bounded_are_no_leak() {
    let mut traced = kept("Cache::put", 100, 10);
    traced.sites[0].pattern = SitePattern::Bounded;
    let input = window(60, 300, 400).with_line(|tick| 300 + tick, Some).with_traced(traced);
    assert_kind("bounded", &input, VerdictKind::LiveGrowth, Level::High);
}

#[test]
fn rss_that_stays_is_not_growing() {
    let input = window(60, 300, 300).with_line(|_| 300, |_| Some(0)).with_traced(churn(900, 0));
    let verdict = assert_kind("flat", &input, VerdictKind::NotGrowing, Level::High);
    assert!(verdict.headline.contains("stayed at 300.0 MiB"), "{}", verdict.headline);
    let falls = window(60, 300, 200).with_line(|tick| 300 - tick, |_| Some(0));
    let verdict = assert_kind("falls", &falls, VerdictKind::NotGrowing, Level::High);
    assert!(verdict.headline.contains("fell by 100.0 MiB"), "{}", verdict.headline);
}

#[test]
fn live_memory_that_fills_free_memory_is_a_warning() {
    let input = window(60, 300, 300)
        .with_line(|_| 300, |tick| Some(tick / 2))
        .with_traced(kept("load", 50, 10));
    let verdict = assert_kind("hidden", &input, VerdictKind::NotGrowing, Level::Medium);
    let warned = verdict.evidence.iter().any(|it| it.text.contains("RSS will grow"));
    assert!(warned, "{:#?}", verdict.evidence);
}

#[test]
fn rss_that_stays_over_a_trapped_heap_is_fragmentation_as_a_state() {
    let fragmented = || walk([270, 305, 6, 0], &[]);
    let input =
        window(60, 581, 581).with_line(|_| 581, |_| Some(0)).with_walks(fragmented(), fragmented());
    let verdict = assert_kind("state", &input, VerdictKind::Fragmentation, Level::High);
    assert!(verdict.headline.contains("RSS did not grow now"), "{}", verdict.headline);
}

#[test]
fn one_look_tells_what_memory_is_and_not_whether_it_grows() {
    let cases = [
        ("kept", walk([100, 5, 90, 20], &[]), VerdictKind::AllocatorCache, Level::High),
        (
            "outside",
            walk([100, 5, 5, 5], &[(RssKind::Shmem, 900)]),
            VerdictKind::NotTheHeap,
            Level::High,
        ),
        ("in use", walk([500, 5, 5, 5], &[]), VerdictKind::CannotTell, Level::Low),
    ];
    for (name, census, kind, level) in cases {
        let input = VerdictInput { after: Some(census), ..VerdictInput::default() };
        let verdict = assert_kind(name, &input, kind, level);
        assert!(!verdict.growth_known);
        assert!(verdict.would_help_to_know[0].contains("Whether it grows"), "{verdict:#?}");
    }
}

/// Whose memory it is that nobody claims is not known then.
#[test]
fn memory_outside_of_a_heap_that_was_not_walked_may_be_the_heap() {
    let refusal = Refusal { part: "glibc".to_owned(), reason: "it is in swap".to_owned() };
    let mapped = walk([0, 0, 0, 0], &[(RssKind::OtherAnonymous, 900)]);
    let files = walk([0, 0, 0, 0], &[(RssKind::File, 900)]);
    for (census, seen, hidden) in [
        (mapped, VerdictKind::NotTheHeap, (VerdictKind::CannotTell, Level::Low)),
        (files, VerdictKind::NotTheHeap, (VerdictKind::NotTheHeap, Level::Medium)),
    ] {
        let refused = Census { refusals: vec![refusal.clone()], ..census.clone() };
        let input = |census| VerdictInput { after: Some(census), ..VerdictInput::default() };
        assert_kind("walked", &input(census), seen, Level::High);
        assert_kind("refused", &input(refused), hidden.0, hidden.1);
    }
}

#[test]
fn rss_alone_tells_that_it_grows_and_what_to_do_next() {
    let input = window(60, 300, 400).with_line(|tick| 300 + tick, |_| None);
    let verdict = assert_kind("rss", &input, VerdictKind::CannotTell, Level::Low);
    let help = verdict.would_help_to_know.join(" ");
    assert!(help.contains("memtrace inspect") && help.contains("memtrace attach"), "{help}");
}

#[test]
fn what_the_probes_cannot_explain_is_said() {
    let said = |traced: Traced, words: &str| {
        let input = window(60, 300, 400).with_line(|tick| 300 + tick, |_| None).with_traced(traced);
        let evidence = verdict(&input).evidence;
        assert!(evidence.iter().any(|it| it.text.contains(words)), "{words}: {evidence:#?}");
    };
    said(Traced { complete: true, ..Traced::default() }, "No allocation was seen");
    said(kept("load", 160, 10), "160.0 MiB was allocated and kept, more than RSS grew by");
}
