//! What a replay of a capture makes of the heap is what the target had.

use std::path::Path;

use memtrace::whatif::result::{Outcome, WhatIf};
use memtrace_tests::{
    attach::Attach,
    binary::{run, stderr},
    python_target::PythonTarget,
    pythons::system,
};
use serde::Deserialize;
use tempfile::TempDir;

/// glibc's own sums.
#[derive(Debug, Deserialize)]
struct Mallinfo {
    uordblks: u64,
    hblkhd: u64,
}

/// A pusher that is traced from its first burst to its last.
fn pusher(directory: &Path) -> (String, Mallinfo) {
    let mut target = PythonTarget::start(system(), "pusher.py", &[]);
    let prefix = directory.join("pusher");
    let tracing = Attach::to(target.pid())
        .args(&["--exact", "--ring-size", "256MiB"])
        .output(&prefix)
        .armed();
    let truth = target.ask("bursts 4");
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    (prefix.with_extension("memtrace").display().to_string(), truth)
}

fn whatif(capture: &str, with: &str) -> WhatIf {
    let output = run(&["whatif", capture, "--with", with, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The replay does not have what glibc cannot tell of before the attach unless the capture has the
/// heap's layout, hence the tolerance.
#[test]
fn a_replay_of_a_pusher_takes_what_the_pusher_took() {
    let directory = TempDir::new().unwrap();
    let (capture, truth) = pusher(directory.path());
    let result = whatif(&capture, "glibc,glibc:arena_max=1,glibc:trim=1s");
    let error = result.error.expect("its heap was walked");
    assert!(error.at_end.abs() < 0.2, "{error:?} {:?}", result.target);
    for row in &result.variants {
        assert_eq!((&row.outcome, row.refused), (&Outcome::Done, 0), "{row:?}");
        assert!(row.calls >= result.program.calls && row.end_bytes <= row.peak_bytes, "{row:?}");
        assert!(row.end_bytes >= result.program.live_bytes * 9 / 10, "{row:?}");
    }
    let in_use = truth.uordblks + truth.hblkhd;
    assert!(result.program.live_bytes <= in_use, "{:?} {truth:?}", result.program);
    let again = whatif(&capture, "glibc");
    let (one, other) = (result.variants[0].end_bytes, again.variants[0].end_bytes);
    assert!(one.abs_diff(other) <= one / 200, "{one} and then {other}");
}
