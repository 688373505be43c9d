//! Whether and when to try again.

use std::time::Duration;

/// The first pause; each following one is twice as long.
const FIRST: Duration = Duration::from_millis(500);

/// The longest, whatever the server asks for: whoever pushes waits for it.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before the next attempt, after so many that failed. A server's `Retry-After` counts.
pub(super) fn pause(failed: u32, retry_after: Option<Duration>) -> Duration {
    let doubled =
        FIRST.saturating_mul(1_u32.checked_shl(failed.saturating_sub(1)).unwrap_or(u32::MAX));
    retry_after.unwrap_or(doubled).min(LONGEST)
}

/// Whether another attempt can help, by the answer: OTLP's specification (OTLP/HTTP Response) names
/// these; others would refuse the same again.
pub(super) fn is_worth_it(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// `Retry-After` in seconds (RFC 9110, 10.2.3); a date is not looked at.
pub(super) fn retry_after(header: Option<&str>) -> Option<Duration> {
    Some(Duration::from_secs(header?.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let pauses: Vec<_> = (1..=8).map(|failed| pause(failed, None).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(pause(u32::MAX, None), LONGEST);
        assert_eq!(pause(0, None), FIRST);
    }

    #[test]
    fn a_server_says_when_it_wants_to_be_asked_again() {
        assert_eq!(pause(1, retry_after(Some("3"))), Duration::from_secs(3));
        assert_eq!(pause(1, retry_after(Some("86400"))), LONGEST);
        assert_eq!(retry_after(Some("Wed, 21 Oct 2015 07:28:00 GMT")), None);
    }

    #[test]
    fn what_would_be_refused_again_is_not_tried_again() {
        let worth: Vec<u16> = (100..600).filter(|status| is_worth_it(*status)).collect();
        assert_eq!(worth, [429, 502, 503, 504]);
    }
}
