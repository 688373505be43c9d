//! Just below and just above what decides.

use super::*;

/// RSS grew by 100 MiB, of which so much was kept.
fn explained(live: u64) -> VerdictInput {
    window(60, 300, 400)
        .with_line(|tick| 300 + tick, move |tick| Some(tick * live / 100))
        .with_traced(kept("load", live, 10))
}

#[test]
fn half_of_the_growth_makes_a_cause() {
    assert_eq!(verdict(&explained(50)).kind, VerdictKind::Leak);
    assert_eq!(verdict(&explained(49)).kind, VerdictKind::CannotTell);
}

#[test]
fn confidence_follows_what_is_explained() {
    let level = |live| verdict(&explained(live)).confidence.level;
    assert_eq!((level(50), level(67), level(68)), (Level::Medium, Level::Medium, Level::High));
}

#[test]
fn growth_up_to_the_noise_is_none() {
    let kind = |start: u64, grown: u64| {
        let mut input = window(60, start, start);
        input.rss.end_bytes += grown;
        verdict(&input).kind
    };
    assert_eq!(kind(300, MIB), VerdictKind::NotGrowing);
    assert_eq!(kind(300, MIB + 1), VerdictKind::CannotTell);
    assert_eq!(kind(20_000, 19 * MIB), VerdictKind::NotGrowing);
    assert_eq!(kind(20_000, 21 * MIB), VerdictKind::CannotTell);
}

#[test]
fn a_third_of_the_heap_trapped_is_fragmentation_if_rss_is_about_the_heap() {
    let kind = |in_use, trapped, other| {
        let after = walk([in_use, trapped, 0, 0], &[(RssKind::OtherAnonymous, other)]);
        verdict(&VerdictInput { after: Some(after), ..VerdictInput::default() }).kind
    };
    assert_eq!(kind(70, 30, 0), VerdictKind::Fragmentation);
    assert_eq!(kind(71, 29, 0), VerdictKind::CannotTell);
    assert_eq!(kind(70, 30, 900), VerdictKind::NotTheHeap);
}

#[test]
fn growth_that_is_free_is_fragmentation_when_a_third_of_it_is_trapped() {
    let kind = |in_use: u64, trapped, returnable| {
        let before = walk([100, 0, 0, 0], &[]);
        let after = walk([100 + in_use, trapped, returnable, 0], &[]);
        verdict(&window(60, 100, 200).with_walks(before, after)).kind
    };
    assert_eq!(kind(0, 30, 70), VerdictKind::Fragmentation);
    assert_eq!(kind(0, 29, 71), VerdictKind::AllocatorCache);
    assert_eq!(kind(20, 40, 40), VerdictKind::Fragmentation);
    assert_eq!(kind(52, 30, 18), VerdictKind::Leak);
}

#[test]
fn many_small_causes_make_none() {
    let before = walk([100, 100, 100, 0], &[(RssKind::File, 100)]);
    let after = walk([125, 125, 125, 0], &[(RssKind::File, 125)]);
    let input = window(60, 400, 500).with_walks(before, after);
    let verdict = assert_kind("quarters", &input, VerdictKind::CannotTell, Level::Low);
    assert!(verdict.headline.contains("25 %"), "{}", verdict.headline);
}

#[test]
fn mapped_but_untouched_memory_explains_no_more_than_rss_grew_by() {
    let mut traced = kept("reserve", 64 << 10, 1);
    (traced.mapped_live, traced.heap_live) = (traced.heap_live, Amount::default());
    let input = window(60, 300, 400).with_parts([250, 50, 0], [260, 140, 0]).with_traced(traced);
    let verdict = assert_kind("reservation", &input, VerdictKind::NotTheHeap, Level::High);
    assert!(verdict.headline.contains("pages of files"), "{}", verdict.headline);
}
