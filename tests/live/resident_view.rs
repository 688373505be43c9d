//! What of never-freed blocks is in memory, against what the kernel counts.

use memtrace_tests::{
    attach::Attach,
    binary::{run, stderr},
    report::Report,
    target::Target,
};
use serde::Deserialize;
use tempfile::TempDir;

/// What `half_touched` says of itself.
#[derive(Debug, Deserialize)]
struct Grown {
    before_bytes: u64,
    after_bytes: u64,
    requested_bytes: u64,
}

#[test]
fn blocks_weigh_what_was_written_to_in_the_resident_view() {
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("out");
    let mut target = Target::start("half_touched", &[]);
    let tracing = Attach::to(target.pid()).output(&prefix).armed();
    target.go();
    let grown: Grown = serde_json::from_str(&target.line()).unwrap();
    let report = tracing.interrupt().report();
    assert_eq!(report.totals.survivors.bytes, grown.requested_bytes);

    let capture = directory.path().join("out.memtrace");
    let show = |format: &str| {
        let arguments = ["report", capture.to_str().unwrap(), "--view", "resident", "--format"];
        let output = run(&[&arguments, &[format][..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Report = serde_json::from_str(&show("json")).unwrap();
    let resident: u64 = report.sites.iter().filter_map(|it| it.resident).map(|it| it.bytes).sum();
    let truth = grown.after_bytes - grown.before_bytes;
    let error = resident.abs_diff(truth) as f64 / truth as f64;
    assert!(error < 0.01, "{resident} resident, RSS grew by {truth}: {grown:?}");
    assert!(truth < grown.requested_bytes / 10 * 6, "half of each block: {grown:?}");
    let folded = show("folded");
    let bytes = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(folded.lines().map(bytes).sum::<u64>(), resident);
    assert!(show("text").contains("Never freed in this window and in memory"));
}

#[test]
fn a_capture_that_does_not_tell_where_blocks_lay_is_refused() {
    let directory = TempDir::new().unwrap();
    let prefix = directory.path().join("out");
    let target = Target::start("half_touched", &[]);
    let grown = Attach::to(target.pid()).args(&["--growth", "-d", "300ms"]).output(&prefix).run();
    assert_eq!(grown.status.code(), Some(0), "{}", grown.stderr);
    let capture = directory.path().join("out.memtrace");
    for view in ["resident", "trapped"] {
        let output = run(&["report", capture.to_str().unwrap(), "--view", view]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("attach --growth"), "{}", stderr(&output));
    }
}
