//! The shape of a line over time: steps, a slope, a plateau, up and down.

/// What a line does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Too few points to say.
    Unknown,
    /// It stays within the noise.
    Flat,
    /// It rises in steps and is level between them.
    Steps {
        /// How many.
        count: u64,
        /// The median of their heights.
        step_bytes: u64,
    },
    /// It rises all the time.
    Slope,
    /// It rose and does not rise any more.
    LevelledOff,
    /// It falls as much as it rises.
    UpAndDown,
}

/// Fewer points say nothing.
const MIN_POINTS: usize = 8;

/// A fall of this share of the line's whole range is no accident.
const FALL: f64 = 0.5;

/// A step is steeper than the line's mean by this factor.
const STEEP: f64 = 2.5;

/// Steps make up at least this share of the rise, ...
const STEPS_RISE: f64 = 0.8;

/// ... in at most this share of the time.
const STEPS_TIME: f64 = 0.35;

/// A step is at least this share of the rise.
const STEP: f64 = 0.03;

/// The line has levelled off when less than this share of its rise is in ...
const TAIL_RISE: f64 = 0.05;

/// ... the last part of the time, this share of it.
const TAIL_TIME: f64 = 0.4;

/// A pause after the last step says that there are no more, when it is longer than the longest
/// between steps by this factor.
const PAUSE: u64 = 2;

/// The shape of a line of (time in ns, bytes), ascending by time; changes up to `noise_bytes` mean
/// nothing.
pub fn shape(points: &[(u64, u64)], noise_bytes: u64) -> Shape {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Shape::Unknown };
    if points.len() < MIN_POINTS || last.0 <= first.0 {
        return Shape::Unknown;
    }
    let range = range(points);
    if range <= noise_bytes {
        return Shape::Flat;
    }
    let rise = last.1.saturating_sub(first.1);
    if fall(points) as f64 >= FALL * range as f64 && !floor_rises(points, noise_bytes)
        || rise <= noise_bytes
    {
        return Shape::UpAndDown;
    }
    rising(&lasting(points), noise_bytes)
}

/// At each point, the lowest value from there on: what came to stay.
fn lasting(points: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut lasting = points.to_vec();
    let mut lowest = u64::MAX;
    for point in lasting.iter_mut().rev() {
        lowest = lowest.min(point.1);
        point.1 = lowest;
    }
    lasting
}

/// The shape of a line that never falls.
fn rising(points: &[(u64, u64)], noise_bytes: u64) -> Shape {
    let rise = range(points);
    if rise <= noise_bytes {
        return Shape::UpAndDown;
    }
    let span_ns = points[points.len() - 1].0 - points[0].0;
    let jumps = jumps(points, rise as f64 / span_ns as f64, rise);
    let bytes: f64 = jumps.iter().map(|jump| jump.bytes as f64).sum();
    let time_ns: u64 = jumps.iter().map(|jump| jump.to_ns - jump.from_ns).sum();
    let stepped = bytes >= STEPS_RISE * rise as f64
        && time_ns as f64 <= STEPS_TIME * span_ns as f64
        && jumps.len() >= 2;
    match stepped {
        true if has_ended(&jumps, points[points.len() - 1].0) => Shape::LevelledOff,
        true => Shape::Steps { count: jumps.len() as u64, step_bytes: median(&jumps) },
        false if is_level_at_the_end(points, rise) => Shape::LevelledOff,
        false => Shape::Slope,
    }
}

fn range(points: &[(u64, u64)]) -> u64 {
    let values = || points.iter().map(|point| point.1);
    values().max().unwrap_or(0) - values().min().unwrap_or(0)
}

/// The deepest fall from a peak before.
fn fall(points: &[(u64, u64)]) -> u64 {
    let mut peak = 0;
    let mut deepest = 0;
    for (_, value) in points {
        peak = peak.max(*value);
        deepest = deepest.max(peak - value);
    }
    deepest
}

/// The lowest values of the four quarters of the time rise: what comes and goes is on top of
/// something that stays.
fn floor_rises(points: &[(u64, u64)], noise_bytes: u64) -> bool {
    let (start, end) = (points[0].0, points[points.len() - 1].0);
    let quarter = |at: u64| ((u128::from(at - start) * 4) / u128::from(end - start)).min(3);
    let floor = |which: u128| {
        points.iter().filter(|point| quarter(point.0) == which).map(|point| point.1).min()
    };
    let floors: Vec<u64> = (0..4).filter_map(floor).collect();
    let up = floors.windows(2).all(|pair| pair[0] <= pair[1]);
    up && floors.len() > 2 && floors[floors.len() - 1] - floors[0] > noise_bytes
}

/// A stretch of time in which the line rises steeply.
#[derive(Clone, Copy, Debug)]
struct Jump {
    from_ns: u64,
    to_ns: u64,
    bytes: u64,
}

fn jumps(points: &[(u64, u64)], mean_slope: f64, rise: u64) -> Vec<Jump> {
    let mut jumps: Vec<Jump> = Vec::new();
    for pair in points.windows(2) {
        let ((from_ns, low), (to_ns, high)) = (pair[0], pair[1]);
        let bytes = high.saturating_sub(low);
        if bytes == 0 || (bytes as f64) < STEEP * mean_slope * (to_ns - from_ns) as f64 {
            continue;
        }
        match jumps.last_mut() {
            Some(last) if last.to_ns == from_ns => {
                (last.to_ns, last.bytes) = (to_ns, last.bytes.saturating_add(bytes));
            }
            _ => jumps.push(Jump { from_ns, to_ns, bytes }),
        }
    }
    jumps.retain(|jump| jump.bytes as f64 >= STEP * rise as f64);
    jumps
}

fn has_ended(jumps: &[Jump], end_ns: u64) -> bool {
    let pauses = jumps.windows(2).map(|pair| pair[1].from_ns - pair[0].to_ns);
    let (Some(longest), Some(last)) = (pauses.max(), jumps.last()) else { return false };
    end_ns - last.to_ns > longest.saturating_mul(PAUSE)
}

fn median(jumps: &[Jump]) -> u64 {
    let mut heights: Vec<u64> = jumps.iter().map(|jump| jump.bytes).collect();
    heights.sort_unstable();
    heights.get(heights.len() / 2).copied().unwrap_or(0)
}

fn is_level_at_the_end(points: &[(u64, u64)], rise: u64) -> bool {
    let (start, end) = (points[0].0, points[points.len() - 1]);
    let tail_ns = end.0 - ((end.0 - start) as f64 * TAIL_TIME) as u64;
    let before = points.iter().rev().find(|point| point.0 <= tail_ns).unwrap_or(&points[0]);
    (end.1.saturating_sub(before.1) as f64) < TAIL_RISE * rise as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const SECOND: u64 = 1_000_000_000;

    /// One value a second.
    fn line(value: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
        (0..120).map(|second| (second * SECOND, value(second) * MIB)).collect()
    }

    #[test]
    fn lines_are_told_apart() {
        let cases = [
            ("idle", line(|_| 100), Shape::Flat),
            ("slope", line(|s| 100 + s * 3), Shape::Slope),
            (
                "slope with spikes",
                line(|s| 100 + s * 3 + 400 * u64::from(s % 20 == 7)),
                Shape::Slope,
            ),
            ("cache that filled up", line(|s| 100 + s.min(40) * 5), Shape::LevelledOff),
            ("allocated once", line(|s| if s < 5 { 0 } else { 500 }), Shape::LevelledOff),
            (
                "cache that shrank",
                line(|s| if s < 70 { s * 5 } else { 350 - (s - 70) * 6 }),
                Shape::UpAndDown,
            ),
            (
                "cache that shrank a little late",
                line(|s| if s < 110 { s * 5 } else { 90 }),
                Shape::UpAndDown,
            ),
            ("sawtooth", line(|s| 100 + s % 30 * 7), Shape::UpAndDown),
            ("shrinks", line(|s| 900 - s * 3), Shape::UpAndDown),
            ("three early steps", line(|s| s.min(30) / 10 * 50), Shape::LevelledOff),
        ];
        for (name, points, expected) in cases {
            assert_eq!(shape(&points, MIB), expected, "{name}");
        }
    }

    #[test]
    fn steps_are_counted_and_measured() {
        let points = line(|second| 100 + second / 15 * 480);
        assert_eq!(shape(&points, MIB), Shape::Steps { count: 7, step_bytes: 480 * MIB });
        let slow = line(|second| 100 + second / 20 * 500 + (second % 20).min(3) * 100);
        let Shape::Steps { count, .. } = shape(&slow, MIB) else {
            panic!("{:?}", shape(&slow, MIB))
        };
        assert!((5..=6).contains(&count), "{count}");
    }

    #[test]
    fn samples_at_two_speeds_do_not_make_steps_of_a_slope() {
        let fast = (0..200_u64).map(|tick| tick * SECOND / 20);
        let slow = (10..40_u64).map(|second| second * SECOND);
        let points: Vec<_> = fast.chain(slow).map(|at| (at, at / 100)).collect();
        assert_eq!(shape(&points, MIB), Shape::Slope);
    }

    #[test]
    fn few_points_say_nothing() {
        assert_eq!(shape(&[], 0), Shape::Unknown);
        assert_eq!(shape(&line(|s| s)[..7], 0), Shape::Unknown);
        assert_eq!(shape(&[(5, 1); 20], 0), Shape::Unknown);
    }

    proptest! {
        #[test]
        fn no_line_is_too_odd(
            mut points in prop::collection::vec((any::<u64>(), any::<u64>()), 0..60),
            noise in any::<u64>(),
        ) {
            points.sort_unstable();
            shape(&points, noise);
        }

        #[test]
        fn a_line_that_never_rises_is_no_growth(
            mut values in prop::collection::vec(0_u64..1 << 40, 8..60),
        ) {
            values.sort_unstable_by_key(|value| std::cmp::Reverse(*value));
            let points: Vec<_> = (0..).zip(values).collect();
            prop_assert!(matches!(shape(&points, MIB), Shape::Flat | Shape::UpAndDown));
        }
    }
}
