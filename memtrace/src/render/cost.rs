//! What a trace is likely to cost, in words.

use crate::model::{
    cost::{Cost, Expected},
    size,
};

/// What was counted, what recording every call would cost, and what is done instead.
pub fn sentence(cost: &Cost) -> Option<String> {
    let expected = cost.expected?;
    let setting = cost.setting.as_deref().unwrap_or_default();
    let counted = format!(
        "about {} calls a second; recording every allocation would take {} of a CPU and make it {}",
        size::count(expected.calls_per_second as u64),
        percent(expected.exact_cpus),
        slower(expected.exact_overhead),
    );
    Some(format!("{counted}; looking at {setting}, {}", outcome(cost, &expected)))
}

fn outcome(cost: &Cost, expected: &Expected) -> String {
    let limit = cost.max_overhead.map(percent).unwrap_or_default();
    match expected.overhead {
        // Where something is chosen, something is likely to be spent.
        overhead if overhead > 0.0 || expected.exact_overhead == 0.0 => {
            format!("about {} (limit {limit})", slower(overhead))
        }
        _ => format!("because of the limit of {limit}"),
    }
}

/// A share of what it had: `4 % slower`, `2.3 times as slow`.
fn slower(overhead: f64) -> String {
    match overhead {
        overhead if overhead < 1.0 => format!("{} slower", percent(overhead)),
        overhead => format!("{:.1} times as slow", 1.0 + overhead),
    }
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent > 0.0 && percent < 0.1 => format!("{percent:.2} %"),
        percent if percent < 10.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(exact_overhead: f64, overhead: f64) -> Cost {
        let expected = Expected {
            calls_per_second: 310_000.0,
            exact_cpus: 0.45,
            exact_overhead,
            overhead,
            ..Expected::default()
        };
        Cost {
            max_overhead: Some(0.1),
            expected: Some(expected),
            setting: Some("every allocation, in short bursts".to_owned()),
            ..Cost::default()
        }
    }

    #[test]
    fn what_every_call_would_cost_is_said_and_what_is_done_instead() {
        let text = "about 310,000 calls a second; recording every allocation would take 45 % of a \
                    CPU and make it 80 % slower; looking at every allocation, in short bursts, \
                    about 10 % slower (limit 10 %)";
        assert_eq!(sentence(&cost(0.8, 0.1)).as_deref(), Some(text));
        assert!(sentence(&cost(162.0, 0.1)).is_some_and(|it| it.contains("163.0 times as slow")));
    }

    #[test]
    fn a_small_limit_and_a_target_that_rests_are_said_as_they_are() {
        let said = sentence(&Cost { max_overhead: Some(0.0001), ..cost(162.0, 0.0) });
        assert!(said.is_some_and(|it| it.ends_with("because of the limit of 0.01 %")));
        let said = sentence(&cost(0.0, 0.0));
        assert!(said.is_some_and(|it| it.ends_with("about 0.0 % slower (limit 10 %)")));
    }

    #[test]
    fn without_a_count_there_is_nothing_to_say() {
        assert_eq!(sentence(&Cost::default()), None);
    }
}
