//! Patterns of hand-made births, and what holds for any.

use proptest::prelude::*;

use super::*;
use crate::model::{coverage::Phase, site::Amount};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;
const MIB: u64 = 1 << 20;
const WINDOW: u64 = 60 * SECOND;

/// Blocks of equal size, each a burst of its own.
fn births(bytes: u64, times: impl IntoIterator<Item = u64>) -> Vec<Burst> {
    let burst = |time| Burst { first_ns: time, last_ns: time, amount: Amount::one(bytes) };
    let mut bursts: Vec<Burst> = times.into_iter().map(burst).collect();
    bursts.sort_by_key(|burst| burst.first_ns);
    bursts
}

fn pattern_of(bursts: &[Burst]) -> GrowthPattern {
    pattern(bursts, 0, WINDOW)
}

fn steps_of(count: u64, step_bytes: u64, interval_ns: u64) -> GrowthPattern {
    GrowthPattern::Steps { count, step_bytes, interval_ns }
}

/// Times without a pattern but always the same.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % WINDOW)
}

/// One second of each ten is watched.
fn now_and_then() -> Watched {
    let phase = |n: u64| Phase { since_ns: n * 10 * SECOND, until_ns: (n * 10 + 1) * SECOND };
    Watched::at((0..6).map(phase).collect())
}

#[test]
fn what_is_watched_at_times_does_not_come_in_steps() {
    let steady = births(
        MIB,
        (0..6_u64).flat_map(|n| (0..100).map(move |at| n * 10 * SECOND + at * 10 * MS)),
    );
    assert_eq!(pattern_of(&steady), steps_of(6, 100 * MIB, 10 * SECOND));
    let GrowthPattern::Steady { bytes_per_s } =
        pattern_as_watched(&steady, 0, WINDOW, &now_and_then(), 6000 * MIB)
    else {
        panic!("it is steady while it is watched");
    };
    assert!(bytes_per_s.abs_diff(100 * MIB) < MIB, "that is its rate: {bytes_per_s}");
}

#[test]
fn who_looked_once_or_twice_does_not_know_how_it_goes_on() {
    let steady = births(MIB, (0..100).map(|at| at * 10 * MS));
    let once = Watched::at(vec![Phase { since_ns: 0, until_ns: SECOND }]);
    let seen = pattern_as_watched(&steady, 0, WINDOW, &once, 6000 * MIB);
    assert_eq!(seen, GrowthPattern::Few);
}

#[test]
fn steps_that_are_steps_while_they_are_watched_are_believed() {
    let moments =
        (0..6_u64).flat_map(|n| (0..20).map(move |block| n * 10 * SECOND + 400 * MS + block * MS));
    let steps = births(MIB, moments);
    let seen = pattern_as_watched(&steps, 0, WINDOW, &now_and_then(), 6000 * MIB);
    assert_eq!(seen, steps_of(6, 20 * MIB, 10 * SECOND));
    assert_eq!(pattern_as_watched(&steps, 0, WINDOW, &Watched::default(), 0), seen);
}

#[test]
fn one_block_a_deployment_is_a_step_each() {
    let times = (0..5).map(|n| SECOND + n * 6 * SECOND + n % 3 * 100 * MS);
    let GrowthPattern::Steps { count, step_bytes, interval_ns } =
        pattern_of(&births(20 * MIB, times))
    else {
        panic!("no steps");
    };
    assert_eq!((count, step_bytes), (5, 20 * MIB));
    assert!(interval_ns.abs_diff(6 * SECOND) <= 200 * MS, "{interval_ns}");
}

#[test]
fn many_blocks_a_deployment_are_one_step() {
    let times = (0..4_u64).flat_map(|n| (0..100).map(move |block| n * 10 * SECOND + block * MS));
    assert_eq!(pattern_of(&births(MIB, times)), steps_of(4, 100 * MIB, 10 * SECOND));
}

#[test]
fn the_parts_of_a_step_may_take_their_time() {
    let times = (0..5_u64).flat_map(|n| (0..4).map(move |part| n * 6 * SECOND + part * 200 * MS));
    assert_eq!(pattern_of(&births(5 * MIB, times)), steps_of(5, 20 * MIB, 6 * SECOND));
}

#[test]
fn steps_need_not_be_regular_where_they_are_of_many_blocks() {
    let starts = [1, 4, 15, 17, 40].map(|second| second * SECOND);
    let times = starts.into_iter().flat_map(|start| (0..50).map(move |n| start + n * MS / 2));
    assert_eq!(pattern_of(&births(100, times)), steps_of(5, 5000, 3 * SECOND));
}

#[test]
fn a_step_that_was_freed_leaves_a_longer_gap_among_the_others() {
    let times = [0, 6, 12, 24, 30, 36].map(|second| second * SECOND);
    assert_eq!(pattern_of(&births(MIB, times)), steps_of(6, MIB, 6 * SECOND));
}

#[test]
fn small_change_does_not_hide_steps() {
    let mut bursts = births(20 * MIB, (0..7).map(|n| n * 8 * SECOND));
    bursts.extend(births(100, (0..500).map(|n| n * 110 * MS + 7 * MS)));
    bursts.sort_by_key(|burst| burst.first_ns);
    assert_eq!(pattern_of(&bursts), steps_of(7, 20 * MIB, 8 * SECOND));
}

#[test]
fn two_steps_are_told_by_many_blocks_only() {
    let times = |blocks: u64| {
        [5, 35].into_iter().flat_map(move |start| (0..blocks).map(move |n| start * SECOND + n * MS))
    };
    assert_eq!(pattern_of(&births(10, times(20))), steps_of(2, 200, 30 * SECOND));
    assert_eq!(pattern_of(&births(10, times(1))), GrowthPattern::Few);
}

#[test]
fn what_comes_within_a_moment_came_once() {
    assert_eq!(pattern_of(&births(10, [9 * SECOND])), GrowthPattern::Once);
    let times = (0..1000).map(|n| 9 * SECOND + n * MS);
    assert_eq!(pattern_of(&births(10, times)), GrowthPattern::Once);
}

#[test]
fn births_all_the_time_are_steady() {
    let GrowthPattern::Steady { bytes_per_s } = pattern_of(&births(6000, scattered(1000))) else {
        panic!("not steady");
    };
    assert!((98_000..=104_000).contains(&bytes_per_s), "{bytes_per_s}");
}

#[test]
fn a_busy_loop_is_a_slope_and_not_a_step_for_each_turn() {
    let times = (0..600_u64).flat_map(|n| (0..10).map(move |block| n * 100 * MS + block * 1000));
    let GrowthPattern::Steady { bytes_per_s } = pattern_of(&births(100, times)) else {
        panic!("not steady");
    };
    assert_eq!(bytes_per_s, 10_000);
}

#[test]
fn a_leak_that_begins_in_the_window_is_steady_from_then_on() {
    let times = (0..300).map(|n| 30 * SECOND + n * 100 * MS);
    assert_eq!(pattern_of(&births(100, times)), GrowthPattern::Steady { bytes_per_s: 1000 });
}

#[test]
fn the_newest_contents_of_a_cache_that_replaces_them_are_no_slope() {
    let times = (0..64).map(|n| 56 * SECOND + n * 60 * MS);
    assert_eq!(pattern_of(&births(16_000, times)), GrowthPattern::Lately);
}

#[test]
fn a_cache_that_has_filled_up_is_not_steady() {
    let times = (0..1000_u64).map(|n| n * n * 10_000).chain([50 * SECOND]);
    assert_eq!(pattern_of(&births(100, times)), GrowthPattern::Uneven);
}

#[test]
fn a_few_in_no_order_tell_nothing() {
    let times = [1, 2, 11, 12, 50].map(|second| second * SECOND);
    assert_eq!(pattern_of(&births(100, times)), GrowthPattern::Few);
    assert_eq!(pattern_of(&[]), GrowthPattern::Few);
}

fn any_bursts() -> impl Strategy<Value = Vec<Burst>> {
    let parts = (0_u64..1 << 40, 0_u64..1 << 30, 1_u64..1 << 20, any::<u64>());
    prop::collection::vec(parts, 0..200).prop_map(|parts| {
        let mut now = 0;
        let burst = |(gap, length, count, bytes)| {
            let first_ns: u64 = now + gap;
            now = first_ns + length + 1;
            Burst { first_ns, last_ns: first_ns + length, amount: Amount::new(bytes, count) }
        };
        parts.into_iter().map(burst).collect()
    })
}

proptest! {
    #[test]
    fn what_is_said_of_steps_lies_within_what_was_seen(bursts in any_bursts(), end in any::<u64>()) {
        if let GrowthPattern::Steps { count, step_bytes, interval_ns } = pattern(&bursts, 0, end) {
            let (first, last) = (bursts[0].first_ns, bursts[bursts.len() - 1].last_ns);
            prop_assert!(count >= 2 && count <= bursts.len() as u64);
            prop_assert!(interval_ns <= last - first);
            let total = bursts.iter().map(|burst| u128::from(burst.amount.bytes)).sum::<u128>();
            prop_assert!(u128::from(step_bytes) <= total);
        }
    }

    #[test]
    fn regular_steps_are_found_whatever_their_size_and_pace(
        count in 3_u64..40,
        interval_ms in 240_u64..100_000,
        bytes in 1_u64..1 << 40,
        blocks in 1_u64..50,
        jitter in prop::collection::vec(0_u64..100, 40),
    ) {
        let interval = interval_ms * MS;
        // Within an eighth of the interval, so that even the shortest are not too short for steps;
        // blocks in the first hundredth.
        let start = |n: u64| n * interval + interval / 800 * jitter[n as usize];
        let block_gap = interval / 100 / blocks;
        let times = (0..count).flat_map(|n| (0..blocks).map(move |b| start(n) + b * block_gap));
        let window = count * interval;
        let GrowthPattern::Steps { count: found, step_bytes, interval_ns } =
            pattern(&births(bytes, times), 0, window)
        else {
            return Err(TestCaseError::fail("no steps"));
        };
        prop_assert_eq!((found, step_bytes), (count, bytes * blocks));
        prop_assert!(interval_ns.abs_diff(interval) <= interval / 4);
    }

    #[test]
    fn the_pattern_does_not_depend_on_when_the_window_was(
        bursts in any_bursts(),
        shift in 0_u64..1 << 50,
    ) {
        let moved: Vec<Burst> = bursts
            .iter()
            .map(|burst| Burst {
                first_ns: burst.first_ns + shift,
                last_ns: burst.last_ns + shift,
                ..*burst
            })
            .collect();
        let end = bursts.last().map_or(1, |burst| burst.last_ns);
        prop_assert_eq!(pattern(&bursts, 0, end), pattern(&moved, shift, end + shift));
    }
}
