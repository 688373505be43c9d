//! What a replay of a capture makes of the heap is what the target had, and what it would have had.

use std::path::Path;

use memtrace::whatif::result::{Outcome, Row, WhatIf};
use memtrace_tests::{
    attach::Attach,
    binary::{run, stderr},
    python_target::PythonTarget,
    pythons::system,
};
use serde::Deserialize;
use tempfile::TempDir;

/// The same work in the same order each time, as long as a burst of eight threads takes.
const WORK: &str = "turns 1";

/// glibc's own sums, and what is resident.
#[derive(Debug, Deserialize)]
struct Mallinfo {
    uordblks: u64,
    hblkhd: u64,
    rss_bytes: u64,
}

/// A pusher that is traced from its first burst to its last.
fn pusher(directory: &Path) -> (String, Mallinfo) {
    let mut target = PythonTarget::start(system(), "pusher.py", &[]);
    let prefix = directory.join("pusher");
    let tracing = Attach::to(target.pid())
        .args(&["--exact", "--ring-size", "256MiB"])
        .output(&prefix)
        .armed();
    let truth = target.ask(WORK);
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    (prefix.with_extension("memtrace").display().to_string(), truth)
}

/// RSS after the same work with what memtrace says is to be set.
fn really(row: &Row) -> u64 {
    let (name, value) = row.how.as_deref().and_then(|how| how.split_once('=')).unwrap();
    let mut command = system().command();
    command.env(name, value);
    PythonTarget::start_with(command, "pusher.py", &[]).ask::<Mallinfo>(WORK).rss_bytes
}

fn whatif(capture: &str, with: &str) -> WhatIf {
    let output = run(&["whatif", capture, "--with", with, "--format", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_replay_of_a_pusher_takes_what_the_pusher_took_and_would_have_taken() {
    let directory = TempDir::new().unwrap();
    let (capture, truth) = pusher(directory.path());
    let result = whatif(&capture, "glibc,glibc:arena_max=1,jemalloc,glibc:trim=1s");
    let error = result.error.expect("its heap was walked");
    // Not on average: a walk of a heap that grows takes its time on a busy machine.
    assert!(error.at_end.abs() < 0.1, "{error:?} {:?}", result.target);
    for row in &result.variants {
        assert_eq!((&row.outcome, row.refused), (&Outcome::Done, 0), "{row:?}");
        assert!(row.calls >= result.program.calls && row.end_bytes <= row.peak_bytes, "{row:?}");
        assert!(row.end_bytes >= result.program.live_bytes * 9 / 10, "{row:?}");
    }
    for row in &result.variants[1..3] {
        let (replayed, real) = (row.rss_bytes.unwrap(), really(row));
        assert!(replayed.abs_diff(real) < real / 10, "{}: {replayed} and really {real}", row.name);
    }
    let in_use = truth.uordblks + truth.hblkhd;
    assert!(result.program.live_bytes <= in_use, "{:?} {truth:?}", result.program);
    let again = whatif(&capture, "glibc");
    let (one, other) = (result.variants[0].end_bytes, again.variants[0].end_bytes);
    assert!(one.abs_diff(other) <= one / 200, "{one} and then {other}");
}
