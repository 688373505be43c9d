//! What is proposed, and what is not.

use super::*;
use crate::model::census::{MallocParameters, PymallocHeap};

/// One look at a fragmented heap, changed a little.
fn actions(change: impl Fn(&mut Census)) -> Vec<String> {
    let mut census = walk([270, 305, 6, 0], &[]);
    change(&mut census);
    let input = VerdictInput { after: Some(census), ..VerdictInput::default() };
    let remedies = verdict(&input).remedies;
    remedies.into_iter().map(|it| format!("{}: {}", it.action, it.why)).collect()
}

fn has(actions: &[String], words: &str) -> bool {
    actions.iter().any(|it| it.contains(words))
}

#[test]
fn a_trim_is_proposed_when_it_gives_something_back() {
    assert!(!has(&actions(|_| ()), "malloc_trim"));
    assert!(has(&actions(|census| census.glibc[0].trim_bytes = 100 * MIB), "malloc_trim"));
}

#[test]
fn fewer_arenas_are_proposed_when_there_are_many_and_nobody_limits_them() {
    let many = |census: &mut Census| {
        let spare = Arena { index: 1, attached_threads: Some(0), ..Arena::default() };
        census.glibc[0].arenas.extend(std::iter::repeat_n(spare, 11));
    };
    let proposed = actions(many);
    assert!(has(&proposed, "MALLOC_ARENA_MAX=2"), "{proposed:?}");
    assert!(has(&proposed, "12 arenas, 11 of them"), "{proposed:?}");
    let limited = actions(|census| {
        many(census);
        census.glibc[0].parameters.arena_max = 12;
    });
    assert!(!has(&limited, "ARENA_MAX"), "{limited:?}");
    assert!(!has(&actions(|_| ()), "ARENA_MAX"));
}

#[test]
fn the_mmap_threshold_is_named_with_its_value_when_it_has_moved() {
    let threshold = |mmap_threshold_bytes, trim_threshold_bytes| {
        actions(|census| {
            census.glibc[0].parameters = MallocParameters {
                mmap_threshold_bytes,
                trim_threshold_bytes,
                ..MallocParameters::default()
            }
        })
    };
    let moved = threshold(32 * MIB, 64 * MIB);
    assert!(
        has(&moved, "MALLOC_MMAP_THRESHOLD_=131072: it has raised itself to 32.0 MiB"),
        "{moved:?}"
    );
    assert!(has(&threshold(32 * MIB, MIB), "it was set to 32.0 MiB"));
    assert!(!has(&threshold(128 << 10, 128 << 10), "MMAP_THRESHOLD"));
}

#[test]
fn python_without_its_own_allocator_is_proposed_when_that_holds_the_free_memory() {
    let python = actions(|census| {
        let resident = HeapResidency {
            in_use_bytes: 100 * MIB,
            trapped_bytes: 400 * MIB,
            ..HeapResidency::default()
        };
        census.pymalloc = vec![PymallocHeap { resident, ..PymallocHeap::default() }];
    });
    assert!(has(&python, "PYTHONMALLOC=malloc"), "{python:?}");
    assert!(!has(&actions(|_| ()), "PYTHONMALLOC"));
}

#[test]
fn what_a_trim_or_a_threshold_gives_back_is_computed() {
    let mut census = walk([100, 5, 90, 20], &[]);
    census.glibc[0].arenas[0].resident.top_bytes = 50 * MIB;
    let input = VerdictInput { after: Some(census), ..VerdictInput::default() };
    let verdict = assert_kind("cache", &input, VerdictKind::AllocatorCache, Level::High);
    let expected: Vec<_> = verdict.remedies.iter().map(|it| it.expected_bytes).collect();
    assert_eq!(expected, [Some(90 * MIB), Some(50 * MIB), Some(20 * MIB)], "{verdict:#?}");
}

#[test]
fn only_the_sites_that_matter_are_to_be_fixed() {
    let mut traced = kept("big", 90, 10);
    traced.sites.push(TracedSite {
        name: "bounded".to_owned(),
        survivors: mib(80, 1),
        pattern: SitePattern::Bounded,
        ..TracedSite::default()
    });
    traced.sites.push(TracedSite {
        name: "small".to_owned(),
        survivors: mib(2, 1),
        ..TracedSite::default()
    });
    traced.sites[0].pattern = SitePattern::Growing;
    let input = window(60, 300, 400).with_line(|tick| 300 + tick, Some).with_traced(traced);
    let verdict = assert_kind("sites", &input, VerdictKind::Leak, Level::High);
    let [fix] = &verdict.remedies[..] else { panic!("{:#?}", verdict.remedies) };
    assert!(fix.action.contains("what big allocates"), "{fix:?}");
}

#[test]
fn who_pins_the_trapped_memory_is_named_with_what_rss_would_drop_by() {
    let pin = |name: &str, trapped_mib| Pin {
        name: name.to_owned(),
        trapped_bytes: trapped_mib * MIB,
        drop_bytes: 2 * trapped_mib * MIB,
        chunk_bytes: MIB,
        chunks: 1000,
    };
    let pins = Pins {
        trapped_bytes: 305 * MIB,
        unknown_bytes: 95 * MIB,
        sites: vec![pin("session_new (server.c:42)", 200), pin("log (log.c:7)", 10)],
    };
    let after = Some(walk([270, 305, 6, 0], &[]));
    let found = verdict(&VerdictInput { after, pins: Some(pins), ..VerdictInput::default() });
    assert!(found.headline.contains("session_new (server.c:42) pins 66 %"), "{}", found.headline);
    let first = &found.remedies[0];
    assert!(first.action.contains("session_new"), "{first:?}");
    assert_eq!(first.expected_bytes, Some(400 * MIB));
    assert!(!found.remedies.iter().any(|it| it.action.contains("log.c")), "it pins too little");
    let said = |words: &str| found.evidence.iter().any(|it| it.text.contains(words));
    assert!(said("pin 200.0 MiB of the 305.0 MiB") && said("95.0 MiB of it are pinned by"));
}
