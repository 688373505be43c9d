//! Whose allocation it was: names, lines, and what is missing.

use std::{
    ffi::{OsStr, OsString},
    process::Command,
};

use memtrace_tests::{
    attach::Attach,
    binary::run,
    programs,
    report::{Report, SiteReport},
    target::{Background, Target},
    truth::assert_complete,
};

use tempfile::TempDir;

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

/// A frame as the target sees it by `backtrace(3)`.
#[derive(Debug, serde::Deserialize)]
struct Walked {
    module: String,
    offset: u64,
}

#[test]
fn stacks_are_those_of_backtrace_address_by_address() {
    let mut target = Target::start("walked", &[]);
    let tracing = Attach::to(target.pid()).armed();
    target.go();
    let stacks: Vec<Vec<Walked>> = serde_json::from_str(&target.line()).unwrap();
    let report = tracing.interrupt().report();
    assert_complete(&report);
    for (number, walked) in stacks.iter().enumerate() {
        assert!(walked.len() > 15, "{walked:?}");
        let size = 1000 + number as u64;
        let site = report.sites.iter().find(|site| site.stats.live.bytes == size).unwrap();
        assert_eq!(site.stack.missing_root, None);
        // One for each address: what is inlined shares that of the frame behind it.
        let frames: Vec<_> = site.stack.frames[1..].iter().filter(|f| !f.inlined).collect();
        assert_eq!(frames.len(), walked.len(), "{frames:?}\n{walked:?}");
        for (frame, walked) in frames.iter().zip(walked) {
            assert_eq!(frame.module, walked.module);
            if walked.module == "walked" {
                assert_eq!(frame.function, format!("walked+{:#x}", walked.offset));
            }
        }
    }
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
    assert_complete(&report);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn stacks_say_what_they_could_not_pass() {
    let (truth, report) = trace("odd_stacks", &[], &[]);
    truth.assert_same_heap_total(&report);
    let endings = |caller: &str| {
        let of = |site: &&SiteReport| names(site).contains(&caller);
        let mut endings: Vec<_> =
            report.sites.iter().filter(of).map(|site| site.stack.missing_root.clone()).collect();
        endings.sort();
        endings.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    assert_eq!(endings("site_in_signal"), ["[signal handler]"]);
    assert_eq!(endings("site_in_jit"), ["[guessed by frame pointer]"]);
    assert_eq!(endings("site_in_jit_without_frame_pointer"), ["[no frame pointer]"]);
    assert_eq!(endings("site_in_assembly"), ["[guessed by frame pointer]"]);
    assert_eq!(endings("site_in_framed_assembly"), ["[guessed by frame pointer]"]);
    // Code that was mapped a moment ago is not known yet; the second call finds it known.
    let new = endings("site_in_new_jit");
    assert_eq!(new, ["[guessed by frame pointer]", "[unknown mapping]"]);
    for caller in ["site_in_jit", "site_in_framed_assembly"] {
        let guessed = report.sites.iter().find(|site| names(site).contains(&caller)).unwrap();
        let is_whole = names(guessed).windows(2).any(|frames| frames == ["run", "main"]);
        assert!(is_whole, "{guessed:?}");
    }
}

/// The sites whose stacks do not reach the root, with their labels.
fn incomplete(report: &Report) -> Vec<(&SiteReport, &str)> {
    let sites = report.sites.iter();
    sites.filter_map(|site| Some((site, site.stack.missing_root.as_deref()?))).collect()
}

#[test]
fn cxx_exceptions_pass_through_traced_frames_and_all_stacks_are_complete() {
    let mut target = Target::start("cxx_throw", &["500"]);
    let tracing = Attach::to(target.pid()).armed();
    target.go();
    assert_eq!(target.line(), "{\"caught\": 1000}");
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    assert_complete(&report);
    assert_eq!(incomplete(&report), []);
    let kept: u64 =
        report.sites_of("shop::keep(unsigned long)").map(|site| site.stats.live.bytes).sum();
    assert_eq!(kept, 50 * 1000);
    let thrown = |site: &&SiteReport| names(site).contains(&"__cxa_allocate_exception");
    let thrown: u64 =
        report.sites.iter().filter(thrown).map(|site| site.stats.allocated.count).sum();
    assert_eq!(thrown, 1000);
}

#[test]
fn all_stacks_of_a_released_rust_program_are_complete() {
    let mut target = Target::start("rust_release", &[]);
    let tracing = Attach::to(target.pid()).armed();
    target.go();
    assert_eq!(target.line(), "{\"kept\": 2000}");
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    assert_complete(&report);
    assert_eq!(incomplete(&report), []);
    for function in ["rust_release::keep_words", "rust_release::keep_index"] {
        let within = |site: &&SiteReport| names(site).iter().any(|name| name.contains(function));
        let kept: u64 = report.sites.iter().filter(within).map(|site| site.stats.live.count).sum();
        assert!(kept >= 2000, "{kept} of {function}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn generated_code_has_the_names_of_its_perf_map() {
    let mut target = Target::start("jit_named", &[]);
    let tracing = Attach::to(target.pid()).armed();
    let truth = target.run();
    let doctor = run(&["doctor", "--json", "-p", &target.pid().to_string()]);
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    truth.assert_same_heap(&report);
    let named = |name: &str, ending: &str| {
        let matches = |site: &&SiteReport| {
            names(site)[..2] == ["site_in_jit", name]
                && site.stack.missing_root.as_deref() == Some(ending)
        };
        report.sites.iter().filter(matches).count()
    };
    assert_eq!(named("jit::early(int)", "[guessed by frame pointer]"), 1);
    assert_eq!(named("jit::late", "[unknown mapping]"), 1);
    assert_eq!(named("jit::late", "[guessed by frame pointer]"), 1);
    let diagnosis: serde_json::Value = serde_json::from_slice(&doctor.stdout).unwrap();
    let generated = diagnosis["objects"].as_array().unwrap().iter();
    let generated = { generated }.find(|object| object["path"] == "[anon]").unwrap();
    assert_eq!(generated["symbols"]["kind"], "perf_map");
}

/// The target is gone when its names are looked up.
#[test]
fn a_stripped_target_that_has_ended_is_named_by_debug_files_in_a_given_directory() {
    let directory = TempDir::new().unwrap();
    let whole = programs::path("ground_truth");
    let [stripped, debug] = ["ground_truth", "truth.debug"].map(|name| directory.path().join(name));
    let objcopy = |arguments: &[&OsStr]| {
        assert!(Command::new("objcopy").args(arguments).status().unwrap().success());
    };
    objcopy(&["--only-keep-debug".as_ref(), whole.as_ref(), debug.as_ref()]);
    let mut link = OsString::from("--add-gnu-debuglink=");
    link.push(&debug);
    objcopy(&["--strip-all".as_ref(), &link, whole.as_ref(), stripped.as_ref()]);
    let elsewhere = TempDir::new().unwrap();
    std::fs::rename(&debug, elsewhere.path().join("truth.debug")).unwrap();
    let mut target = Target::start_command(Command::new(&stripped).args(["heap", "1"]));
    let directory = elsewhere.path().to_str().unwrap();
    let tracing = Attach::to(target.pid()).args(&["--debug-dir", directory]).armed();
    let truth = target.run();
    target.quit();
    let report = tracing.wait().report();
    truth.assert_same_heap(&report);
    let frame = &report.sites_of("site_calloc_kept").next().unwrap().stack.frames[0];
    assert!(frame.file.as_ref().unwrap().ends_with("ground_truth.c"), "{frame:?}");
}

/// The map is named by the pid that the process knows, in a `/tmp` that only it sees.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_perf_map_is_found_in_the_targets_namespaces() {
    let script = "exec 3<\"$0\"; mount -t tmpfs none /tmp && exec /proc/self/fd/3";
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--mount",
        "--fork",
        "--mount-proc",
        "--kill-child",
        "sh",
        "-c",
        script,
    ]);
    let mut target = Target::start_command(command.arg(programs::path("jit_named")));
    let unshare = target.pid();
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
    let pid: u32 = children.unwrap().trim().parse().unwrap();
    let tracing = Attach::to(pid).armed();
    let truth = target.run();
    let report = tracing.interrupt().report();
    truth.assert_same_heap(&report);
    let named = report.sites.iter().filter(|site| names(site).contains(&"jit::late")).count();
    assert_eq!(named, 2);
    assert!(!std::path::Path::new("/tmp/perf-1.map").exists());
}
