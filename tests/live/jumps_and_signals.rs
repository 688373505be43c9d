//! Control flow that return probes do not see coming.

use memtrace_tests::truth::assert_complete;

use crate::trace;

#[test]
fn signals_in_the_middle_of_allocator_calls_do_not_disturb_the_counts() {
    let (truth, report) = trace("signal_storm", &["5000"], &[]);
    assert_complete(&report);
    truth.assert_same_sites(&report);
    truth.assert_same_calls(&report, &["malloc", "realloc"]);
    truth.assert_same_peaks(&report);
}
