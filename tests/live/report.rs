//! `memtrace report` on captures of real processes: it says what attach said, and of parts what the
//! target itself says.

use std::path::Path;

use memtrace_tests::{
    attach::Attach,
    binary::{run, stderr},
    report::{Amount, Report},
    target::Target,
    truth::Truth,
};
use serde_json::Value;
use tempfile::TempDir;

/// A traced run of a program and its capture.
struct Captured {
    directory: TempDir,
    truth: Truth,
    /// What attach printed.
    printed: String,
}

impl Captured {
    fn of(program: &str, arguments: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let prefix = directory.path().join("out");
        let mut target = Target::start(program, arguments);
        let tracing = Attach::to(target.pid()).output(&prefix).armed();
        let truth = target.run();
        let finished = tracing.interrupt();
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        Self { directory, truth, printed: finished.stdout }
    }

    fn path(&self) -> std::path::PathBuf {
        Path::new(self.directory.path()).join("out.memtrace")
    }

    fn json(&self, options: &[&str]) -> Value {
        let path = self.path();
        let command = ["report", path.to_str().unwrap(), "--format", "json"];
        let output = run(&[&command, options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn report(&self, options: &[&str]) -> Report {
        serde_json::from_value(self.json(options)).unwrap()
    }
}

fn allocated(report: &Report, site: &str) -> Amount {
    let mut sum = Amount::default();
    report.sites_of(site).for_each(|it| sum += it.stats.allocated);
    sum
}

#[test]
fn a_report_of_the_file_is_the_one_that_attach_gave() {
    let captured = Captured::of("ground_truth", &["heap", "4"]);
    let mut printed: Value = serde_json::from_str(&captured.printed).unwrap();
    let mut reported = captured.json(&[]);
    for report in [&mut printed, &mut reported] {
        report.as_object_mut().unwrap().remove("files").unwrap();
        // They take a replay of all events, which attach does not wait for.
        let culprits = report["blame"]["culprits"].as_array_mut().unwrap();
        culprits.iter_mut().for_each(|it| drop(it.as_object_mut().unwrap().remove("neighbours")));
    }
    assert_eq!(reported, printed);
}

#[test]
fn parts_of_the_window_hold_what_the_program_did_in_them() {
    let captured = Captured::of("ground_truth", &["ages", "1"]);
    let whole = captured.report(&[]);
    let young = whole.sites_of("site_malloc_young").next().unwrap();
    // Between the old ones and the young one lie almost three seconds.
    let middle_ns = whole.window.duration_ns - young.survivors.oldest_age_ns - 1_000_000_000;
    let middle = format!("{middle_ns}ns");
    let (early, late) =
        (captured.report(&["--until", &middle]), captured.report(&["--since", &middle]));
    let [old, young] = ["site_malloc_old", "site_malloc_young"];
    assert_eq!(allocated(&early, old), allocated(&whole, old));
    assert_eq!(allocated(&late, young), allocated(&whole, young));
    assert_eq!((early.sites_of(young).count(), late.sites_of(old).count()), (0, 0));
    assert_eq!(late.totals.unmatched_frees, 0);
}

#[test]
fn each_thread_has_its_share() {
    const THREADS: u64 = 4;
    let captured = Captured::of("ground_truth", &["heap", "4"]);
    let all = captured.json(&["--by-thread"]);
    // The first thread has another stack.
    let is_handed =
        |site: &&Value| site["stack"]["frames"][0]["function"] == "site_malloc_handed_over";
    let sites = all["sites"].as_array().unwrap().iter().filter(is_handed);
    let shares: Vec<&Value> = sites.flat_map(|site| site["threads"].as_array().unwrap()).collect();
    assert_eq!(shares.len() as u64, THREADS);
    let truth =
        captured.truth.sites.iter().find(|it| it.name == "site_malloc_handed_over").unwrap();
    for share in shares {
        let tid = share["tid"].to_string();
        let own = captured.report(&["--thread", &tid]);
        let seen = allocated(&own, "site_malloc_handed_over");
        assert_eq!(seen.bytes * THREADS, truth.stats.allocated.bytes, "thread {tid}");
        assert_eq!(share["allocated"]["bytes"], seen.bytes);
        let freed: Amount = own.sites_of("site_malloc_handed_over").next().unwrap().stats.freed;
        assert_eq!(freed.count * THREADS, truth.stats.freed.count, "whoever freed it");
        assert_eq!(own.totals.unmatched_frees, captured.truth.unmatched_frees);
    }
}
