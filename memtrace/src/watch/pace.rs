//! How often to look: seldom when nothing is near, often when a limit is.

/// When nothing happens.
const CALM_NS: u64 = 1_000_000_000;
/// When a limit comes near.
const ALERT_NS: u64 = 100_000_000;
/// So many looks are to fit into the time that is left.
const LOOKS_LEFT: u64 = 50;

/// The time to the next look: a fiftieth of the time until the first limit is reached at the present
/// growth, within a tenth of a second and a second.
pub fn next_look_ns(time_to_limit_ns: Option<u64>) -> u64 {
    time_to_limit_ns.map_or(CALM_NS, |left_ns| (left_ns / LOOKS_LEFT).clamp(ALERT_NS, CALM_NS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_more_often_the_nearer_the_limit_is() {
        assert_eq!(next_look_ns(None), CALM_NS);
        assert_eq!(next_look_ns(Some(3600 * CALM_NS)), CALM_NS);
        assert_eq!(next_look_ns(Some(20 * CALM_NS)), 400_000_000);
        assert_eq!(next_look_ns(Some(0)), ALERT_NS);
    }
}
