//! Sampled traces: what is drawn is followed to its end, and stands for what is not.

use memtrace_common::sample::Interval;
use memtrace_tests::{
    attach::Attach,
    python_target::PythonTarget,
    pythons::system,
    report::{FunctionReport, Report, SiteReport},
    target::Target,
    truth::{HEAP_FUNCTIONS, SiteTruth, Truth, assert_complete},
};

use crate::trace;

/// An estimate is taken to be wrong when it is off by more standard deviations. Some hundred are made.
const DEVIATIONS: f64 = 4.5;

/// Samples of a site of the program, wherever in the C library they were made for it.
fn samples_of<'r>(report: &'r Report, name: &'r str) -> impl Iterator<Item = &'r SiteReport> {
    let is_on_stack =
        move |site: &&SiteReport| site.stack.frames.iter().any(|frame| frame.function == name);
    report.sites.iter().filter(is_on_stack)
}

/// Of a site whose blocks are all of one size: how many samples would be expected, and are there. The
/// report says what they stand for, each for as many blocks.
fn assert_estimates(site: &SiteTruth, report: &Report, interval: Interval) {
    let (mut drawn, mut live) = (0, 0);
    for seen in samples_of(report, &site.name) {
        drawn += seen.stats.allocated.count;
        live += seen.stats.live.count;
    }
    let count = site.stats.allocated.count;
    let probability = interval.probability(site.stats.allocated.bytes / count);
    assert_likely(drawn, count, probability, &site.name);
    assert_likely(live, site.stats.live.count, probability, &site.name);
}

fn assert_likely(estimate: u64, of: u64, probability: f64, what: &str) {
    let expected = of as f64 * probability;
    let drawn = (estimate as f64 * probability).round();
    // Half a sample, because they are whole ones.
    let allowed = DEVIATIONS * (expected * (1.0 - probability)).sqrt() + 0.5;
    let off = (drawn - expected).abs();
    assert!(off <= allowed, "{what}: {drawn} samples of {of}, {expected} expected");
}

fn assert_sampled(truth: &Truth, report: &Report, interval: Interval) {
    assert_complete(report);
    assert_eq!(report.window.sample_bytes, Some(interval.mean_bytes()));
    assert_eq!(report.totals.unmatched_frees, 0, "releases of what was not drawn are not told");
    for site in &truth.sites {
        assert_estimates(site, report, interval);
    }
    let known = truth.sites.iter().flat_map(|site| samples_of(report, &site.name));
    let live: u64 = known.map(|site| site.stats.live.count).sum();
    // Each estimate is rounded by itself.
    let rounded = truth.sites.len() as u64;
    let total = report.totals.heap.live.count;
    assert!(total.abs_diff(live) <= rounded, "{total} and {live}: only the program's are live");
}

fn sampled(threads: &str, rounds: &str, exponent: u8) -> (Truth, Report, Interval) {
    let interval = Interval::from_exponent(exponent);
    let size = interval.mean_bytes().to_string();
    let options = ["--sample-bytes", &size];
    let (truth, report) = trace("sampled", &[threads, rounds], &options);
    (truth, report, interval)
}

#[test]
fn every_sample_is_followed_to_its_end_and_estimates_are_unbiased() {
    for exponent in [6, 10, 12, 14] {
        let (truth, report, interval) = sampled("1", "3000", exponent);
        assert_sampled(&truth, &report, interval);
    }
}

#[test]
fn threads_that_free_each_others_samples_are_followed() {
    for exponent in [8, 13] {
        let (truth, report, interval) = sampled("4", "1000", exponent);
        for site in &truth.sites {
            assert_estimates(site, &report, interval);
        }
        assert_eq!(report.totals.unmatched_frees, 0);
        let losses = ["implied_free", "unpaired", "sampled_full"].map(|name| report.loss(name));
        assert_eq!(losses, [0; 3], "{:?}", report.completeness);
    }
}

#[test]
fn calls_are_counted_exactly_whether_they_are_drawn_or_not() {
    for exponent in [8, 20] {
        let (truth, report, _) = sampled("1", "1000", exponent);
        for function in HEAP_FUNCTIONS {
            let (calls, _) = truth.calls(function);
            // One function under two names.
            if function != "aligned_alloc" {
                assert_eq!(report.function(function).calls, calls, "{function}, 2^{exponent}");
            }
        }
        let requested: u64 = report.functions.iter().map(|it| it.requested_bytes).sum();
        let allocated: u64 = truth.sites.iter().map(|it| it.stats.allocated.bytes).sum();
        assert_eq!(requested, allocated);
    }
}

#[test]
fn few_samples_leave_the_rest_to_the_counters() {
    let (_, report, _) = sampled("1", "1000", 24);
    let of_heap = || HEAP_FUNCTIONS.iter().map(|name| report.function(name));
    let passed_over: u64 = of_heap().map(|it| it.passed_over).sum();
    let calls: u64 = of_heap().map(|it| it.calls).sum();
    assert!(passed_over > calls * 9 / 10, "{passed_over} of {calls}");
    let recorded: u64 = of_heap().map(|it| it.calls - it.passed_over - it.void).sum();
    assert!(recorded < calls / 50, "{recorded} of {calls}");
    assert_eq!(report.completeness.cut_calls, 0);
}

#[test]
fn a_leak_is_the_largest_site_of_what_was_never_freed() {
    let (_, report, _) = sampled("1", "3000", 12);
    let largest = report.groups.first().expect("the leak was drawn");
    assert_eq!(largest.function.as_deref(), Some("site_malloc_leaked"));
}

#[test]
fn what_the_allocator_maps_is_told_apart_when_no_call_is_in_flight() {
    let (_, report) = trace("ground_truth", &["heap", "1"], &["--sample-bytes", "1TiB"]);
    let own = report.totals.allocator_mappings;
    assert!(own.allocated.bytes >= 300_001 + 5_000_000 + 4_000_000, "{own:?}");
    assert_eq!(report.totals.mappings.allocated.count, 0, "{:?}", report.totals);
}

/// What CPython counts as calls of its own and of the C library's functions, with all else as it is.
fn calls_of_python(options: &[&str]) -> Vec<(String, u64)> {
    let mut command = system().command();
    // The hooks are called by way of the tables, in any build of Python.
    command.env("PYTHONHASHSEED", "0").env("PYTHONMALLOC", "debug");
    let mut target = PythonTarget::start_with(command, "known_objects.py", &[]);
    let tracing = Attach::to(target.pid()).args(&["--pymalloc"]).args(options).armed();
    let _: serde_json::Value = target.ask("run");
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "the interpreter was harmed");
    assert_eq!(report.completeness.losses, [], "{options:?}");
    let heap = |it: &&FunctionReport| {
        it.function.starts_with("Py") || HEAP_FUNCTIONS.contains(&it.function.as_str())
    };
    report.functions.iter().filter(heap).map(|it| (it.function.clone(), it.calls)).collect()
}

#[test]
fn calls_inside_of_pythons_are_no_calls_of_their_own_when_they_are_not_drawn() {
    let exact = calls_of_python(&[]);
    let of_python = exact.iter().filter(|(function, _)| function.starts_with("Py"));
    assert!(of_python.map(|(_, calls)| calls).sum::<u64>() > 1000, "{exact:?}");
    for size in ["256", "16MiB"] {
        let sampled = calls_of_python(&["--sample-bytes", size]);
        for ((function, expected), (same, calls)) in exact.iter().zip(&sampled) {
            assert_eq!(function, same);
            // An interpreter does not do the same to the last call each time it is started.
            let allowed = expected / 20 + 10;
            assert!(
                calls.abs_diff(*expected) <= allowed,
                "{size}: {function}: {exact:?} {sampled:?}"
            );
        }
    }
}

#[test]
fn mappings_are_never_drawn() {
    let options = ["--sample-bytes", "1GiB"];
    let (truth, report) = trace("ground_truth", &["mappings", "1"], &options);
    truth.assert_same_sites(&report);
    truth.assert_same_mapping_total(&report);
}

#[test]
fn an_exec_makes_all_samples_forgotten() {
    let mut target = Target::start("execer", &[]);
    let tracing = Attach::to(target.pid()).args(&["--sample-bytes", "2"]).armed();
    target.run();
    let second = target.run();
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    assert_eq!((report.completeness.execs, report.totals.unmatched_frees), (1, 0));
    let kept = report.sites_of("site_second_kept").next().expect("the new program is traced");
    assert_eq!(kept.stats.live, second.sites[0].stats.live, "2 bytes: nearly all are drawn");
}

#[test]
fn a_forked_child_does_not_touch_the_samples() {
    let (truth, report) = trace("forker", &["5"], &["--sample-bytes", "2"]);
    assert_eq!((report.completeness.forks, report.totals.unmatched_frees), (5, 0));
    let live: u64 = truth.sites.iter().map(|site| site.stats.live.count).sum();
    assert_eq!(report.totals.heap.live.count, live);
}

#[test]
fn without_sessions_samples_are_the_same() {
    let options = ["--sample-bytes", "4KiB", "--perf-event-links"];
    let (truth, report) = trace("sampled", &["1", "1000"], &options);
    let interval = Interval::nearest(4096);
    truth.sites.iter().for_each(|site| assert_estimates(site, &report, interval));
    assert_eq!(report.totals.unmatched_frees, 0);
}

#[test]
fn the_interval_is_said_and_does_not_go_with_exactness() {
    let mut target = Target::start("sampled", &["1", "10"]);
    let options = ["--sample-bytes", "500KB", "-d", "0s"];
    let finished = Attach::to(target.pid()).args(&options).run();
    assert!(finished.stderr.contains("512.0 KiB"), "{}", finished.stderr);
    let refused = Attach::to(target.pid()).args(&["--sample-bytes", "500KB", "--exact"]).run();
    assert_eq!(refused.status.code(), Some(2), "{}", refused.stderr);
    assert!(target.quit().success());
}
