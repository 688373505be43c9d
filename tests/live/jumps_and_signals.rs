//! Control flow that return probes do not see coming.

use memtrace_tests::truth::{HEAP_FUNCTIONS, assert_complete};

use crate::trace;

#[test]
fn signals_in_the_middle_of_allocator_calls_do_not_disturb_the_counts() {
    let (truth, report) = trace("signal_storm", &["5000"], &[]);
    assert_complete(&report);
    truth.assert_same_sites(&report);
    truth.assert_same_calls(&report, &["malloc", "realloc"]);
    truth.assert_same_peaks(&report);
}

#[test]
fn a_jump_out_of_the_allocator_is_counted_and_does_not_swallow_later_calls() {
    const TIMES: u64 = 50;
    let (truth, report) = trace("longjmp_out", &[&TIMES.to_string()], &[]);
    truth.assert_same_sites(&report);
    let functions: Vec<_> =
        HEAP_FUNCTIONS.into_iter().filter(|it| *it != "posix_memalign").collect();
    truth.assert_same_calls(&report, &functions);
    assert_eq!(report.function("posix_memalign").calls, TIMES);
    assert_eq!(report.loss("abandoned_call"), TIMES, "{:?}", report.completeness);
}
