//! What follows from samples.

use memtrace_common::sample::Interval;

use super::*;

/// A leak of 1 MiB a tick, of which so much was estimated.
fn leaks(live: Amount, unwatched_percent: u8) -> VerdictInput {
    let mut traced = Traced { unwatched_percent, ..kept("load (server.py:88)", 100, 100) };
    (traced.heap_live, traced.sites[0].survivors) = (live, live);
    window(60, 100, 200).with_line(|tick| 100 + tick, Some).with_traced(traced)
}

/// 100 MiB as of so many samples.
fn estimate(samples: u64) -> Amount {
    let each = Interval::nearest(100 * MIB / samples);
    (0..samples).fold(Amount::default(), |mut sum, _| {
        sum += Amount::sampled(64, each);
        sum
    })
}

#[test]
fn few_samples_make_a_verdict_doubtful_and_many_do_not() {
    let of = |live| verdict(&leaks(live, 0)).confidence;
    let [exact, many, few] = [mib(100, 100), estimate(1600), estimate(4)].map(of);
    assert_eq!(exact, many);
    assert!(few.score < many.score, "{few:?}");
    assert!(few.doubts.iter().any(|it| it.contains("from 4 samples")), "{few:?}");
}

#[test]
fn what_nobody_watched_most_of_the_time_is_doubtful() {
    let of = |unwatched| verdict(&leaks(estimate(1600), unwatched)).confidence;
    let [watched, unwatched] = [0, 90].map(of);
    assert!(unwatched.score < watched.score);
    assert!(unwatched.doubts.iter().any(|it| it.contains("not watched 90 %")), "{unwatched:?}");
}

#[test]
fn nobody_holds_more_of_the_growth_than_there_is() {
    let headline = |kept| verdict(&leaks(mib(kept, 100), 0)).headline;
    assert!(headline(100).contains("holds 100.0 MiB of it"), "{}", headline(100));
    assert!(headline(160).contains("holds 100 % of what was kept"), "{}", headline(160));
}

#[test]
fn estimates_are_marked_in_the_headline() {
    let headline = |live| verdict(&leaks(live, 0)).headline;
    assert!(headline(estimate(1600)).contains("holds ~ "), "{}", headline(estimate(1600)));
    assert!(!headline(mib(100, 100)).contains('~'));
}

#[test]
fn what_was_watched_at_times_has_no_steps() {
    let steps = |unwatched| {
        let line = |tick| Some(tick / 10 * 10);
        let input = leaks(estimate(1600), unwatched).with_line(|tick| 100 + tick, line);
        let verdict = verdict(&input);
        verdict.evidence.iter().any(|it| it.text.contains("steps"))
    };
    assert!(steps(0) && !steps(90));
}
