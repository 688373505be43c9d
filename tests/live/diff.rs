//! `memtrace diff` of two runs of one program: it grew by what the program itself says.

use std::path::Path;

use memtrace_tests::{
    attach::Attach,
    binary::{run, stderr},
    target::Target,
    truth::Truth,
};
use serde_json::Value;
use tempfile::TempDir;

/// Traces a run into `NAME.memtrace`.
fn captured(directory: &Path, name: &str, arguments: &[&str]) -> Truth {
    let mut target = Target::start("ground_truth", arguments);
    let tracing = Attach::to(target.pid()).output(&directory.join(name)).armed();
    let truth = target.run();
    let finished = tracing.interrupt();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(target.quit().success());
    truth
}

fn diff(directory: &Path, options: &[&str]) -> Value {
    let [before, after] = ["before.memtrace", "after.memtrace"].map(|name| directory.join(name));
    let files = ["diff", before.to_str().unwrap(), after.to_str().unwrap()];
    let output = run(&[&files, &["--format", "json", "--quiet"], options].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Bytes and blocks that a function of the program kept.
fn kept(truth: &Truth, name: &str) -> (i64, i64) {
    let of_name = truth.sites.iter().filter(|site| site.name == name);
    of_name.fold((0, 0), |(bytes, count), site| {
        let live = site.stats.live;
        (bytes + live.bytes as i64, count + live.count as i64)
    })
}

/// The same by what is said of the stacks that it is the leaf of.
fn grown(diff: &Value, name: &str) -> (i64, i64) {
    let sites = diff["sites"].as_array().unwrap().iter();
    let of_name = sites.filter(|site| site["stack"]["frames"][0]["function"] == name);
    of_name.fold((0, 0), |(bytes, count), site| {
        let number = |field: &str| site[field].as_i64().unwrap();
        (bytes + number("growth_bytes"), count + number("growth_count"))
    })
}

#[test]
fn two_runs_differ_by_what_the_program_says_that_they_kept() {
    let directory = TempDir::new().unwrap();
    let before = captured(directory.path(), "before", &["heap", "1"]);
    let after = captured(directory.path(), "after", &["heap", "3"]);
    let diff = diff(directory.path(), &[]);
    let mut grew = 0;
    for site in &after.sites {
        let ((before, blocks_before), (after, blocks_after)) =
            (kept(&before, &site.name), kept(&after, &site.name));
        let expected = (after - before, blocks_after - blocks_before);
        assert_eq!(grown(&diff, &site.name), expected, "{}", site.name);
        grew += u64::from(expected.0 > 0);
    }
    assert!(grew > 0, "nothing grew: {after:?}");
    let sum: i64 = diff["sites"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["growth_bytes"].as_i64().unwrap())
        .sum();
    assert_eq!(diff["total"]["growth_bytes"], sum);
}
