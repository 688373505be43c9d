//! What is said of processes that grow in different ways.

use memtrace_tests::{
    attach::Attach,
    report::{Report, RssTable, Verdict},
    target::Target,
};

const MIB: u64 = 1 << 20;

fn moved(how: &str, options: &[&str]) -> (Report, Verdict) {
    let mut target = Target::start("memory_moves", &[how]);
    let tracing = Attach::to(target.pid()).args(options).armed();
    target.go();
    assert_eq!(target.line(), "done");
    let finished = tracing.interrupt();
    let report = finished.report();
    assert!(target.quit().success());
    let verdict = report.verdict.clone().unwrap();
    (report, verdict)
}

#[test]
fn a_leak_is_called_one_with_its_steps_and_its_line() {
    let (report, verdict) = moved("leak", &[]);
    assert_eq!(verdict.kind, "leak", "{verdict:?}");
    assert!(verdict.headline.contains("10 steps of about 8.0 MiB"), "{verdict:?}");
    let line = "site_take (memory_moves.c:";
    assert!(verdict.headline.contains(line), "{verdict:?}");
    assert_eq!(verdict.remedies[0].expected_bytes, Some(80 * MIB));
    let live = report.timeline.samples.iter().filter_map(|it| it.live_bytes).max();
    assert_eq!(live, Some(80 * MIB));
    assert!(report.timeline.samples.len() > 40, "{}", report.timeline.samples.len());
}

#[test]
fn a_cache_that_grows_and_shrinks_is_no_leak() {
    let (report, verdict) = moved("cache", &[]);
    assert!(["live_growth", "not_growing"].contains(&&*verdict.kind), "{verdict:?}");
    let timeline = &report.timeline;
    assert!(timeline.rss_peak_bytes >= report.rss.start_bytes + 58 * MIB, "{timeline:?}");
    assert_eq!(timeline.rss_peak_source, "high_water_mark");
}

#[test]
fn shared_memory_is_not_the_heap() {
    let (report, verdict) = moved("shmem", &[]);
    assert_eq!(verdict.kind, "not_the_heap", "{verdict:?}");
    assert!(verdict.headline.contains("shared memory"), "{verdict:?}");
    let (before, after) = (report.rss_table_before.unwrap(), report.rss_table.unwrap());
    assert_eq!(after.bytes("shmem") - before.bytes("shmem"), 80 << 20, "{before:?} {after:?}");
}

#[test]
fn pages_of_files_are_not_the_heap() {
    let (report, verdict) = moved("files", &[]);
    assert_eq!(verdict.kind, "not_the_heap", "{verdict:?}");
    assert!(verdict.headline.contains("pages of files"), "{verdict:?}");
    let (before, after) = (report.rss_table_before.unwrap(), report.rss_table.unwrap());
    // A page of a file that a probe is put into becomes the process's own.
    let files = |table: &RssTable| table.bytes("file") + table.bytes("private_file");
    assert!(files(&after) - files(&before) >= 80 << 20, "{before:?} {after:?}");
    let private = after.bytes("private_file") - before.bytes("private_file");
    assert!(private < 1 << 20, "{before:?} {after:?}");
}

#[test]
fn traffic_is_no_growth_and_the_peak_can_be_reset() {
    let (report, verdict) = moved("nothing", &["--reset-peak"]);
    assert_eq!(verdict.kind, "not_growing", "{verdict:?}");
    assert_eq!(report.timeline.rss_peak_source, "reset_high_water_mark");
    assert!(report.timeline.rss_peak_bytes >= report.rss.end_bytes, "{:?}", report.timeline);
}
