//! Allocators that are not the C library's: put before it, brought along under names of their own,
//! loaded later, and several at once.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use memtrace_tests::{
    attach::Attach,
    programs,
    report::Report,
    target::Target,
    truth::{Truth, assert_complete},
};
use tempfile::TempDir;
use xtask::test_program::compile_with;

const JEMALLOC: &str = "libjemalloc.so.2";
const TCMALLOC: &str = "libtcmalloc_minimal.so.4";
const MIMALLOC: &str = "libmimalloc.so.2";

/// How long a library that was loaded may take to be found.
const LONG_ENOUGH: Duration = Duration::from_secs(5);

fn library(name: &str) -> PathBuf {
    let directory = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let path = Path::new(&directory).join(name);
    assert!(path.exists(), "{} is missing: cargo xtask setup test", path.display());
    path
}

/// Compiles a program of `programs/allocators`.
fn compiled(source: &str, options: &[OsString]) -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let program = directory.path().join("program");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/allocators").join(source);
    compile_with(options, &source, &program).unwrap();
    (directory, program)
}

fn traced(command: &mut Command, options: &[&str]) -> (Truth, Report) {
    let mut target = Target::start_command(command);
    let tracing = Attach::to(target.pid()).args(options).armed();
    let truth = target.run();
    let report = tracing.interrupt().report();
    assert!(target.quit().success(), "{command:?} was harmed");
    (truth, report)
}

fn ground_truth(preloaded: &str) -> (Truth, Report) {
    let mut command = Command::new(programs::path("ground_truth"));
    traced(command.args(["heap", "4"]).env("LD_PRELOAD", library(preloaded)), &[])
}

fn assert_same_blocks(truth: &Truth, report: &Report) {
    assert_complete(report);
    truth.assert_same_sites(report);
    truth.assert_same_unmatched(report);
}

#[test]
fn a_preloaded_jemalloc_is_exact() {
    let (truth, report) = ground_truth(JEMALLOC);
    assert_same_blocks(&truth, &report);
    assert_eq!(report.target.allocators[0].name, "jemalloc");
}

/// It has one function for `memalign` and `aligned_alloc`.
#[test]
fn a_preloaded_tcmalloc_is_exact() {
    let (truth, report) = ground_truth(TCMALLOC);
    assert_complete(&report);
    assert_same_bytes(&truth, &report);
    truth.assert_same_unmatched(&report);
    assert_eq!(report.target.allocators[0].name, "tcmalloc");
}

#[test]
fn a_preloaded_mimalloc_is_exact() {
    let (truth, report) = ground_truth(MIMALLOC);
    assert_same_blocks(&truth, &report);
    assert_eq!(report.target.allocators[0].name, "mimalloc");
}

/// Sized, aligned, array and nothrow ones, and `bad_alloc` thrown through the probed function: a
/// return probe would end the program.
#[test]
fn operators_of_cxx_are_exact_and_may_throw() {
    let (_directory, program) = compiled("cxx_operators.cpp", &["-std=c++17".into()]);
    for preloaded in [JEMALLOC, TCMALLOC] {
        let command = &mut Command::new(&program);
        let (truth, report) = traced(command.env("LD_PRELOAD", library(preloaded)), &[]);
        assert_eq!(truth.unmatched_unmapped_bytes, 0, "not all exceptions were caught");
        assert_complete(&report);
        assert_same_bytes(&truth, &report);
        assert_eq!(report.totals.unmatched_frees, 0, "{preloaded}");
        assert!(report.target.allocators[0].path.contains(preloaded));
    }
}

/// By site alone: an operator may be left to the function that it calls (`aligned_alloc`).
fn assert_same_bytes(truth: &Truth, report: &Report) {
    for site in &truth.sites {
        let passes = |of: &&memtrace_tests::report::SiteReport| {
            of.stack.frames.iter().any(|frame| frame.function == site.name)
        };
        let found: Vec<_> = report.sites.iter().filter(passes).collect();
        let sum = |of: fn(&memtrace_tests::report::Stats) -> u64| -> u64 {
            found.iter().map(|site| of(&site.stats)).sum()
        };
        let expected = (site.stats.allocated.bytes, site.stats.live.bytes, site.stats.live.count);
        let actual = (
            sum(|stats| stats.allocated.bytes),
            sum(|stats| stats.live.bytes),
            sum(|stats| stats.live.count),
        );
        assert_eq!(actual, expected, "{}", site.name);
        assert_eq!(sum(|stats| stats.allocated.count), site.stats.allocated.count, "{}", site.name);
    }
}

/// jemalloc's archive with the names that Rust's binding gives it.
fn prefixed_archive(directory: &Path) -> PathBuf {
    const NAMES: [&str; 18] = [
        "malloc",
        "calloc",
        "realloc",
        "free",
        "memalign",
        "valloc",
        "aligned_alloc",
        "posix_memalign",
        "malloc_usable_size",
        "mallocx",
        "rallocx",
        "xallocx",
        "sallocx",
        "dallocx",
        "sdallocx",
        "nallocx",
        "mallctl",
        "malloc_message",
    ];
    let renamed: String = NAMES.iter().map(|name| format!("{name} _rjem_{name}\n")).collect();
    let list = directory.join("names");
    std::fs::write(&list, renamed).unwrap();
    let archive = directory.join("libown.a");
    let mut objcopy = Command::new("objcopy");
    let status = objcopy
        .arg(format!("--redefine-syms={}", list.display()))
        .args([&library("libjemalloc_pic.a"), &archive])
        .status()
        .unwrap();
    assert!(status.success());
    archive
}

#[test]
fn a_jemalloc_under_its_own_names_is_exact_beside_the_c_librarys() {
    let directory = TempDir::new().unwrap();
    let archive = prefixed_archive(directory.path());
    let link = [OsString::from("-Wl,--start-group"), archive.into(), "-lm".into(), "-ldl".into()];
    let link = [&link[..], &["-Wl,--end-group".into()]].concat();
    // The archive comes after the source.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/allocators/own.c");
    let object = directory.path().join("own.o");
    compile_with(&["-c".into()], &source, &object).unwrap();
    let program = directory.path().join("own");
    let mut linker = Command::new("cc");
    linker.arg("-pthread").arg("-o").arg(&program).arg(&object).args(&link);
    assert!(linker.status().unwrap().success());
    let (truth, report) = traced(&mut Command::new(&program), &[]);
    assert_complete(&report);
    assert_same_bytes(&truth, &report);
    assert_eq!(report.totals.unmatched_frees, 0);
    let own: Vec<_> = report.sites_of("site_own_malloc").collect();
    assert!(own.iter().all(|site| site.allocator.as_deref() == Some("jemalloc (_rjem_)")));
    let libc: Vec<_> = report.sites_of("site_libc_malloc").collect();
    assert!(libc.iter().all(|site| site.allocator.as_deref() == Some("glibc")));
    let names: Vec<_> = report.allocators.iter().map(|totals| totals.name.as_str()).collect();
    assert_eq!(names, ["jemalloc (_rjem_)", "glibc"]);
    assert_said_when_stripped(&program);
}

/// What it does cannot be seen then, and nobody is to believe that it does nothing.
fn assert_said_when_stripped(program: &Path) {
    assert!(Command::new("strip").arg(program).status().unwrap().success());
    let (_, report) = traced(&mut Command::new(program), &[]);
    assert_eq!(report.sites_of("site_own_malloc").count(), 0);
    let notes = &report.completeness.notes;
    let says = |note: &String| note.contains("jemalloc") && note.contains("--growth");
    assert!(notes.iter().any(says), "{notes:?}");
}

#[test]
fn names_that_are_given_say_what_is_known_anyway() {
    let mut command = Command::new(programs::path("ground_truth"));
    command.args(["heap", "4"]).env("LD_PRELOAD", library(MIMALLOC));
    let given = ["--allocator-symbols", "prefix=mi_,lib=libmimalloc"];
    let (truth, report) = traced(&mut command, &given);
    assert_same_blocks(&truth, &report);
    assert_eq!(report.target.allocators[0].name, "mimalloc");
}

#[test]
fn an_allocator_that_is_loaded_later_is_traced_from_then_on_and_that_is_said() {
    let (_directory, program) = compiled("loads.c", &[]);
    let mut command = Command::new(&program);
    command.arg(library(MIMALLOC)).args(["mi_malloc", "mi_free"]);
    let mut target = Target::start_command(&mut command);
    let tracing = Attach::to(target.pid()).armed();
    target.go();
    assert_eq!(target.line(), "loaded");
    thread::sleep(LONG_ENOUGH);
    target.go();
    assert_eq!(target.line(), "done");
    let report = tracing.interrupt().report();
    assert!(target.quit().success());
    let (mut allocated, mut live) = (0, 0);
    for site in report.sites_of("site_loaded") {
        assert_eq!(site.allocator.as_deref(), Some("mimalloc"));
        allocated += site.stats.allocated.count;
        live += site.stats.live.bytes;
    }
    assert_eq!((allocated, live), (57, 7000));
    let said = report.completeness.notes.iter().any(|note| note.contains("loaded in the window"));
    assert!(said, "{:?}", report.completeness.notes);
    let loaded = report.target.allocators.iter().find(|it| it.name == "mimalloc").unwrap();
    assert!(loaded.armed_after_ns.is_some());
}
