//! Times for people.

use jiff::Timestamp;

/// RFC 3339 in UTC, now.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
