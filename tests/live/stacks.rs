//! Whose allocation it was: names, lines, and what is missing.

use std::process::Command;

use memtrace_tests::{
    attach::Attach,
    programs,
    report::SiteReport,
    target::{Background, Target},
};

use crate::trace;

fn names(site: &SiteReport) -> Vec<&str> {
    site.stack.frames.iter().map(|frame| frame.function.as_str()).collect()
}

#[test]
fn a_stack_is_named_from_the_caller_to_main_with_files_and_lines() {
    let (_, report) = trace("ground_truth", &["heap", "1"], &[]);
    let site = report.sites_of("site_calloc_kept").next().unwrap();
    let names = names(site);
    assert_eq!(names[..4], ["site_calloc_kept", "zeroed", "heap", "main"]);
    let frame = &site.stack.frames[1];
    assert!(frame.file.as_ref().unwrap().ends_with("ground_truth.c"), "{frame:?}");
    assert!(frame.line.unwrap() > 0);
}

#[test]
fn a_stack_that_is_too_deep_says_that_its_root_is_missing() {
    let (truth, report) = trace("deep", &["300"], &[]);
    truth.assert_same_heap(&report);
    let site = report.sites_of("site_at_the_bottom").next().unwrap();
    assert!(site.stack.frames.len() >= 100, "{}", site.stack.frames.len());
    assert!(site.stack.frames[1..].iter().all(|frame| frame.function == "descend"));
    assert_eq!(site.stack.missing_root.as_deref(), Some("[truncated]"));
}

#[test]
fn names_of_cxx_are_demangled() {
    let mut target = Target::start("cxx_leak", &[]);
    let tracing = Attach::to(target.pid()).armed();
    target.go();
    target.line();
    let report = tracing.interrupt().report();
    let of = |name: &str| {
        let found = report.sites.iter().find(|site| site.caller().contains(name));
        found.unwrap_or_else(|| panic!("no {name} in {:?}", report.sites)).stats.live
    };
    assert_eq!((of("shop::Cache<int>::remember").bytes, of("hidden_leak").bytes), (3000, 77));
}

#[test]
fn a_python_process_is_traced() {
    let mut command = Command::new("python3");
    command.arg("-u").arg(programs::python("leaker.py")).arg("60");
    let mut process = Background::start(&mut command, "leaks");
    let report = Attach::to(process.pid()).args(&["-d", "3s"]).run().report();
    assert!(process.is_running());
    // Four deployments of 256 KiB a second.
    assert!(report.totals.survivors.bytes > 4 * 256 * 1024, "{:?}", report.totals);
    memtrace_tests::truth::assert_complete(&report);
}
